/*
 * A model: hyper-parameters, packed weights, tokenizer and chat template, loaded from a GGUF file
 * in two phases so that its memory can be reserved before it is taken.
 *
 * It does not compute (engine/forward.h), cache, evict or count users (daemon/registry.h).
 *
 *   bn_model_open    reads the directory, checks all it can tell, knows the exact bytes   (a plan)
 *   -- the caller reserves info.weights_bytes + info.load_bytes + bn_forward_bytes() --
 *   bn_model_load    reads the weights; from then on info.load_bytes are free again
 *   bn_model_free
 *
 * After loading a model is const: any number of threads may use it, and the file is not needed.
 */
#ifndef BN_ENGINE_MODEL_H
#define BN_ENGINE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/chat.h"
#include "engine/hyper.h"
#include "engine/kv.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"
#include "kernels/vec.h"
#include "proto/error.h"
#include "proto/role.h"

enum {
	BN_MODEL_WARNINGS_MAX = 8,
	BN_MODEL_TEXT_BYTES = 160,
};

/* How to open one. Zeroed: everything automatic, but `cpu` must be filled. Borrowed during open. */
struct bn_model_options {
	uint64_t cpu;               /* bn_cpu_features(), perhaps masked                        */
	const char *const *kernels; /* NULL-terminated, best first; NULL: every one we have     */
	const char *chat_template;  /* a name of chat.h; NULL or "auto": chosen                 */
	uint32_t max_context;       /* caps the context; 0: what the model was trained for      */
	bool nofollow;              /* refuse a symbolic link as the last part of the path      */
};

/*
 * All that may be said about a model. A plain value without pointers to anything that dies (the
 * const char * are static), so the loop may keep a copy. Texts are valid UTF-8.
 */
struct bn_model_info {
	char name[BN_MODEL_TEXT_BYTES];    /* general.name; empty when the file has none    */
	char licence[BN_MODEL_TEXT_BYTES]; /* general.license; empty when unknown */
	const char *known; /* published model of these dimensions, or NULL            */
	const char *architecture;
	const char *activation;    /* "silu", "relu2"                                         */
	const char *tokenizer;     /* "bpe", "spm"                                            */
	const char *chat_template; /* bn_chat_name                                            */
	const char *embed_type;    /* GGML type names                                         */
	const char *head_type;
	bool tied; /* the head is the embedding                               */
	bool sub_norms, input_norms, post_norms; /* of engine/family.h, as the file has them */
	const char *pooling; /* of a model that makes vectors: "mean", "first", "last"; else NULL */
	bool has_windows;    /* some layers see a window of the past                    */
	uint64_t parameters;
	uint64_t ternary_parameters;
	uint32_t layers, dim, ffn, heads, kv_heads, head_dim;
	uint32_t vocab;   /* tokens that can be fed and drawn                        */
	uint32_t context; /* positions a sequence may have: the cap applied          */
	uint32_t trained_context;
	const char *kernel; /* of the feed-forward, where most weights are             */
	const char *vec;    /* instruction set of the float side                       */
	char kernel_why[BN_MODEL_TEXT_BYTES];
	const struct bn_kernel *kernels[BN_PROJ_COUNT];
	uint64_t file_bytes;
	uint64_t weights_bytes;     /* packed weights, tokenizer: held until freed             */
	uint64_t load_bytes;        /* directory and buffers: held while loading only          */
	uint64_t kv_position_bytes; /* KV of one position                                      */
	char digest[BN_DIGEST_TEXT_BYTES]; /* SHA-256 of the file as loaded; empty before */
	uint32_t n_warnings;
	char warnings[BN_MODEL_WARNINGS_MAX]
		     [BN_MODEL_TEXT_BYTES]; /* for the log of whoever loads    */
};

/* Opaque: an open file whose directory is known to be good. One thread at a time. */
struct bn_model_plan;

/* Const after loading. The fields are for engine/; the daemon uses `info`, `tok` and `chat`. */
struct bn_model {
	struct bn_hyper hyper;
	struct bn_weights weights;
	const struct bn_vec *vec;
	struct bn_tokenizer *tok;
	const struct bn_chat_template *chat;
	struct bn_kv_shape kv;
	enum bn_pooling pooling; /* as hyper.pooling: what rows of sequences are for */
	uint32_t context;        /* as info.context */
	uint32_t vocab;          /* as info.vocab   */
	struct bn_model_info info;
};

/*
 * Opens `path`. Takes milliseconds and, besides the tokenizer counted in info.weights_bytes, memory
 * of a few times the file's header. Errors: those of bn_file_open, bn_gguf_open, bn_hyper_read,
 * bn_binding_new, bn_tokenizer_from_gguf and bn_chat_choose. *out is owned by the caller:
 * bn_model_plan_free. Helper.
 */
BN_MUST_USE enum bn_status bn_model_open(struct bn_model_plan **out, const char *path,
					 const struct bn_model_options *options,
					 struct bn_error *err) BN_ON_HELPER;

/* Everything but the digest. Lives as long as the plan. */
const struct bn_model_info *bn_model_plan_info(const struct bn_model_plan *plan) BN_ON_ANY;

/*
 * Loads what was planned; the plan may be loaded once and is to be freed afterwards in any case.
 * `watch` may be NULL; its done_bytes run to info.file_bytes. Errors: those of bn_weights_load;
 * nothing is held then. *out is owned by the caller: bn_model_free. Helper.
 */
BN_MUST_USE enum bn_status bn_model_load(struct bn_model **out, struct bn_model_plan *plan,
					 struct bn_load_watch *watch,
					 struct bn_error *err) BN_ON_HELPER;

/* Closes the file. NULL is fine; a loaded model does not need its plan. */
void bn_model_plan_free(struct bn_model_plan *plan) BN_ON_ANY;

/* NULL is fine. No sequence of the model may be left. Tens of milliseconds for gigabytes. */
void bn_model_free(struct bn_model *model) BN_ON_HELPER;

#endif
