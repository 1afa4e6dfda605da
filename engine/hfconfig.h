/*
 * config.json and generation_config.json of a Hugging Face folder: the numbers of the graph, and
 * the features that make it another graph than ours refused.
 *
 * It does not look at tensors (engine/checkpoint.h compares) or tokenizers. Only bn-convert uses
 * it.
 */
#ifndef BN_ENGINE_HFCONFIG_H
#define BN_ENGINE_HFCONFIG_H

#include "engine/family.h"
#include "engine/lexicon.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { BN_HFCONFIG_EOS_MAX = 8, BN_HFCONFIG_TEXT_BYTES = 128 };

/* How the projections of a packed checkpoint are scaled. */
enum bn_linear_class {
	BN_LINEAR_NONE,     /* no quantization_config          */
	BN_BIT_LINEAR,      /* y = W x / weight_scale          */
	BN_AUTO_BIT_LINEAR, /* y = W x * weight_scale      */
};

enum bn_tied { BN_TIED_UNKNOWN, BN_TIED_NO, BN_TIED_YES };

/* Plain value. */
struct bn_hfconfig {
	bool bitnet_class; /* BitNetForCausalLM in any spelling, not LlamaForCausalLM */
	const struct bn_architecture *embeds; /* of a model of vectors, by model_type; else NULL */
	bool says_ternary; /* something in it says that the weights are ternary */
	uint32_t layers, dim, ffn, heads, kv_heads, head_dim, vocab, context;
	double eps, rope_base;
	/* As struct bn_hyper has them: windows of Gemma 3. */
	uint32_t window, window_period;
	double window_rope_base;
	enum bn_activation activation;
	enum bn_linear_class linear;
	enum bn_tied tied;
	bool rms_norm_inputs;              /* use_rms_norm: a norm in front of every projection */
	bn_token bos, pad;                 /* BN_TOKEN_NONE where not given */
	bn_token eos[BN_HFCONFIG_EOS_MAX]; /* config.json's first, then generation_config.json's */
	uint32_t n_eos;
	char source[BN_HFCONFIG_TEXT_BYTES]; /* _name_or_path when it looks like "who/what" */
};

/* Reads the files of an open folder. BN_E_FORMAT naming file, key, value and range;
 * BN_E_NOT_SUPPORTED for another kind of model. Tools. */
BN_MUST_USE enum bn_status bn_hfconfig_load(struct bn_hfconfig *out, int dirfd,
					    struct bn_error *err);

#endif
