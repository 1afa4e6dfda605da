/*
 * The tensors of a model: which there must be and in what shape, the kernel that will multiply
 * each, and their packed form in memory.
 *
 * It does not compute with them (engine/forward.h does), and knows neither tokenizer nor template.
 *
 * Two phases. Binding checks everything a directory can tell and knows the exact bytes to reserve;
 * loading reads the file once, front to back, hashing what it reads, and packs tensor by tensor, so
 * that the file is never held in memory beside the packed weights.
 */
#ifndef BN_ENGINE_WEIGHTS_H
#define BN_ENGINE_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/arena.h"
#include "engine/gguf.h"
#include "engine/hyper.h"
#include "kernels/dense.h"
#include "kernels/kernel.h"
#include "proto/error.h"

/* The seven ternary matrices of a layer, in the order a step meets them. */
enum bn_projection {
	BN_PROJ_Q,
	BN_PROJ_K,
	BN_PROJ_V,
	BN_PROJ_O,
	BN_PROJ_GATE,
	BN_PROJ_UP,
	BN_PROJ_DOWN,
	BN_PROJ_COUNT,
};

/* A packed ternary matrix [rows, cols]: out = W x. */
struct bn_matrix {
	const void *packed;
	const struct bn_kernel *kernel;
	uint32_t rows;
	uint32_t cols;
	float scale;
};

/* Dense rows [n_rows, cols] as they lay in the file: embedding, output head. */
struct bn_table {
	const void *rows;
	const struct bn_dense *dense;
	size_t row_bytes;
	uint32_t n_rows;
	uint32_t cols;
};

struct bn_layer {
	const float *attn_norm;     /* [dim]                                       */
	const float *ffn_norm;      /* [dim]                                       */
	const float *attn_sub_norm; /* [heads * head_dim]; NULL: no norm before wo */
	const float *ffn_sub_norm;  /* [ffn]; NULL: no norm before down            */
	struct bn_matrix proj[BN_PROJ_COUNT];
};

/* Const after loading; everything points into `arena`. */
struct bn_weights {
	struct bn_layer *layers; /* [hyper.layers] */
	struct bn_table embed;
	struct bn_table head;  /* the same rows as embed when tied */
	const float *out_norm; /* [dim] */
	bool tied;
	struct bn_arena arena;
};

/* Where a loader reports and is stopped; shared with whoever watches it. Zero it to start. */
struct bn_load_watch {
	atomic_uint_least64_t done_bytes; /* of the file, up to its size; relaxed */
	atomic_bool cancel;               /* set by anybody: the load ends soon   */
};

enum { BN_DIGEST_TEXT_BYTES = 65 }; /* 64 hex digits and a NUL */

/* Opaque: the outcome of binding. */
struct bn_binding;

/*
 * Looks up every tensor that `hyper` calls for, checks shapes and types, reads and checks the
 * ternary scales, and chooses kernels: the first name of `only` (NULL-terminated, or NULL: all)
 * that runs on `cpu` and fits the shape, and passes its self-test. The directory and its file are
 * borrowed until bn_binding_free. BN_E_FORMAT for a missing or misshapen tensor, a scale that is
 * not a finite number greater than zero; BN_E_NOT_SUPPORTED for a tensor that makes it another
 * graph (biases, experts); BN_E_KERNEL for a ternary tensor of a type other than I2_S, or when no
 * allowed kernel runs here. Helper.
 */
BN_MUST_USE enum bn_status bn_binding_new(struct bn_binding **out, const struct bn_gguf *gguf,
					  const struct bn_file *file, const struct bn_hyper *hyper,
					  uint64_t cpu, const char *const *only,
					  struct bn_error *err);

/* NULL is fine. */
void bn_binding_free(struct bn_binding *b);

/* What the arena of the loaded weights will hold, exactly: what must be reserved. */
uint64_t bn_binding_bytes(const struct bn_binding *b);

/* What loading takes for its buffers, given back at its end. */
uint64_t bn_binding_transient_bytes(const struct bn_binding *b);

/* Facts for bn_model_info. The kernel of each projection; parameters in trits and in all; whether
 * the graph has sub-norms; the head is the embedding; GGML type names of embedding and head. */
const struct bn_kernel *bn_binding_kernel(const struct bn_binding *b, enum bn_projection p);
uint64_t bn_binding_parameters(const struct bn_binding *b, bool ternary_only);
bool bn_binding_has_sub_norms(const struct bn_binding *b);
bool bn_binding_is_tied(const struct bn_binding *b);
const char *bn_binding_embed_type(const struct bn_binding *b);
const char *bn_binding_head_type(const struct bn_binding *b);

/*
 * Reads and packs everything into *w and writes the SHA-256 of the file, as read, in hexadecimal.
 * `watch` may be NULL. BN_E_CANCELLED soon (some milliseconds) after watch->cancel; BN_E_FORMAT for
 * a code that is no trit, a norm that is not finite, a file that changed meanwhile; BN_E_IO,
 * BN_E_MEMORY. On failure nothing is held and *w is zero. Undo with bn_weights_finish. Helper.
 */
BN_MUST_USE enum bn_status bn_weights_load(struct bn_weights *w, const struct bn_binding *b,
					   struct bn_load_watch *watch,
					   char digest[BN_DIGEST_TEXT_BYTES], struct bn_error *err);

/* Unmaps; zeroed ones are fine. Tens of milliseconds for gigabytes. Helper. */
void bn_weights_finish(struct bn_weights *w);

#endif
