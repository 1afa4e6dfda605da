/*
 * The rules of each GGUF architecture that files leave out, as rows of a const table.
 *
 * It does not read files (engine/hyper.h applies these rules to one) and knows no single model
 * (engine/guide.h).
 */
#ifndef BN_ENGINE_FAMILY_H
#define BN_ENGINE_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/vec.h"

/* Whether a tensor belongs to a graph. */
enum bn_presence {
	BN_NEVER,
	BN_MAYBE, /* used when the file has it */
	BN_ALWAYS,
};

/*
 * One general.architecture. The same word was written by converters that disagree about the
 * activation (issue microsoft/BitNet#602), hence the two columns: which one holds is decided by the
 * vocabulary that the two model lines do not share.
 */
struct bn_architecture {
	const char *name;
	enum bn_rope_style rope;    /* llama: rows permuted by the converter, so NORM            */
	enum bn_presence sub_norms; /* attn_sub_norm, ffn_sub_norm: RMS norms before wo and down */
	/* Where the file names no norm the graph has none; see struct bn_layer (engine/weights.h).
	 */
	enum bn_presence input_norms; /* attn_q_norm_in ...: one in front of each projection  */
	enum bn_presence head_norms;  /* attn_q_norm, attn_k_norm: of each head, before it turns */
	enum bn_presence post_norms; /* post_attention_norm, post_ffw_norm: of what is added to x */
	bool scales_embedding;       /* x = sqrt(dim) * the token's row                      */
	bool may_slide;              /* some layers may see a window of the past only        */
	bool embeds;                 /* it makes vectors of texts and no text                */
	enum bn_activation activation; /* of the gate, unless ... */
	uint32_t other_vocab; /* ... the vocabulary has this many tokens: then             */
	enum bn_activation other_activation;
	float default_eps; /* where the file does not say                               */
	float default_rope_base;
};

/* The row of an architecture name [n] (not terminated); NULL when we do not run it. */
const struct bn_architecture *bn_family_architecture(const char *name, size_t n);

/* The i-th architecture, NULL past the end: for error messages that list them. */
const struct bn_architecture *bn_family_architecture_at(size_t i);

/* The activation of a model of this architecture with this vocabulary, where its file has no
 * <arch>.hidden_activation key. */
enum bn_activation bn_family_activation(const struct bn_architecture *arch, uint32_t vocab);

/* Reads a hidden_activation value [n]: "silu", "swish", "relu2", "relu_squared",
 * "gelu_pytorch_tanh". */
bool bn_family_parse_activation(const char *text, size_t n, enum bn_activation *out);

const char *bn_family_activation_name(enum bn_activation activation);

#endif
