/*
 * The weights of a model in memory, packed for the kernels that multiply them, and how they get
 * there from a file.
 *
 * It does not know which tensors a model has (engine/binding.h), nor compute with them
 * (engine/forward.h).
 *
 * The file is read once, front to back, and hashed as it is read; tensor by tensor is packed, so
 * that the file is never in memory beside the packed weights.
 */
#ifndef BN_ENGINE_WEIGHTS_H
#define BN_ENGINE_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/arena.h"
#include "engine/binding.h"
#include "kernels/dense.h"
#include "kernels/kernel.h"
#include "proto/error.h"

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
	const float *attn_norm; /* [dim] */
	const float *ffn_norm;  /* [dim] */
	struct bn_matrix proj[BN_PROJ_COUNT];

	/* Norms that not every graph has: NULL where this one has none. */
	const float *in_norm[BN_PROJ_COUNT]; /* [cols] in front of the projection; BitNet's
					      * sub-norms are those of O and DOWN */
	const float *q_norm;                 /* [head_dim] of each query head            */
	const float *k_norm;                 /* [head_dim] of each key head              */
	const float *post_attn_norm;         /* [dim] of what attention adds to x        */
	const float *post_ffn_norm;          /* [dim] of what the feed-forward adds      */
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

/* What a part of the weights takes in their arena: whole cache lines. */
static inline uint64_t bn_weights_line(uint64_t bytes)
{
	return (bytes + BN_ARENA_ALIGN - 1) & ~(uint64_t)(BN_ARENA_ALIGN - 1);
}

/* What the loaded weights will hold, exactly: what must be reserved. */
uint64_t bn_weights_bytes(const struct bn_binding *b);

/* What loading takes for its buffers, given back at its end. */
uint64_t bn_weights_transient_bytes(const struct bn_binding *b);

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
