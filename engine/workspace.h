/*
 * The buffers of a step: everything forward.c writes between the embedding and the logits, taken
 * once so that a step takes nothing.
 *
 * It does not compute, and holds nothing from one step to the next.
 */
#ifndef BN_ENGINE_WORKSPACE_H
#define BN_ENGINE_WORKSPACE_H

#include <stdint.h>

#include "engine/arena.h"
#include "engine/candidates.h"
#include "engine/model.h"
#include "proto/error.h"

enum {
	BN_WORKSPACE_LINE = 16,  /* floats to which rows of floats are padded: a cache line */
	BN_WORKSPACE_ACTS = 64,  /* bytes to which rows of activations are padded, kernel.h */
	BN_WORKSPACE_INPUTS = 3, /* matrices multiplied side by side: q, k, v                   */
	BN_WORKSPACE_PREP = 32,  /* tokens whose prepared input there is room for at a time */
};

/* Floats from one row of n to the next. */
static inline size_t bn_workspace_stride(uint32_t n)
{
	return ((size_t)n + BN_WORKSPACE_LINE - 1) / BN_WORKSPACE_LINE * BN_WORKSPACE_LINE;
}

/* cos and sin [rows, head_dim / 2] of each row's position. */
struct bn_workspace_angles {
	float *cos;
	float *sin;
};

/* The input of a product, quantized, of any width. */
struct bn_workspace_input {
	int8_t *q;
	float *scale;  /* [rows] */
	int32_t *sum;  /* [rows] */
	uint8_t *prep; /* what a kernel makes of it, if it does */
};

/* [rows, ...] arrays of the widths below, rows bn_workspace_stride apart; 64-byte aligned. */
struct bn_workspace {
	float *x;                             /* dim: the residual stream                        */
	float *q;                             /* heads * head_dim                                */
	float *k;                             /* kv_heads * head_dim, before it enters the cache */
	float *v;                             /* kv_heads * head_dim                             */
	float *ctx;                           /* heads * head_dim: what attention found          */
	float *gate;                          /* ffn                                             */
	float *up;                            /* ffn                                             */
	float *h;                             /* dim: a normed x, or what is yet to be normed and
					       * added to it; only for graphs that need it       */
	struct bn_workspace_angles angles[2]; /* of layers that see all; of those with a window */
	/* Quantized inputs of products. One serves all matrices that read the same; one each where
	 * they do not. */
	struct bn_workspace_input in[BN_WORKSPACE_INPUTS];

	float *last;         /* [outputs, dim]; [rows, dim] where rows are pooled  */
	float *logits;       /* [outputs, vocab]; none where rows are pooled       */
	uint32_t *row_of;    /* [outputs] which row an output is   */
	uint32_t *output_of; /* [rows] which output a row is       */

	struct bn_candidate *scratch; /* [lanes, vocab] */

	struct bn_arena arena;
};

/* Bytes bn_workspace_init will take, exactly. */
uint64_t bn_workspace_bytes(const struct bn_model_info *info, uint32_t rows, uint32_t outputs,
			    uint32_t lanes);

/* Takes them. BN_E_MEMORY leaves nothing held. Undo with bn_workspace_finish. Any thread. */
BN_MUST_USE enum bn_status bn_workspace_init(struct bn_workspace *w,
					     const struct bn_model_info *info, uint32_t rows,
					     uint32_t outputs, uint32_t lanes,
					     struct bn_error *err);

/* A zeroed or finished one is fine. */
void bn_workspace_finish(struct bn_workspace *w);

#endif
