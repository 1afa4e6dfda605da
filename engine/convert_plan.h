/*
 * The tensors of a converted file, in the order of the file (embedding, each layer's as a step
 * meets them, the last norm, the output matrix), and where in the checkpoint each comes from.
 *
 * It reads no weights. Only engine/convert.c uses it.
 */
#ifndef BN_ENGINE_CONVERT_PLAN_H
#define BN_ENGINE_CONVERT_PLAN_H

#include "engine/checkpoint.h"
#include "engine/convert_verify.h"

/* Where a tensor comes from. */
struct bn_convert_job {
	char source[BN_CHECKPOINT_NAME_BYTES];
	uint32_t layer;
	enum bn_projection projection; /* of ternary tensors */
	uint32_t n_dims;
	uint64_t nbytes;
	bool less_one; /* a norm whose gains are stored less one */
};

/* Plain value; undo with bn_convert_plan_finish. */
struct bn_convert_plan {
	size_t n;
	struct bn_convert_job *jobs;
	struct bn_verify_tensor *tensors; /* [n], as they are to be: digests and scales not yet */
	uint64_t total_bytes;             /* of data, without padding between tensors           */
};

/*
 * Lists them. Embedding and output matrix get the type asked for, or the next larger that rows of
 * this width can have: q6_k, q8_0, f16. Ternary matrices get the type `trits`. BN_E_MEMORY;
 * BN_E_KERNEL when that type cannot hold a matrix. Any thread.
 */
BN_MUST_USE enum bn_status bn_convert_plan(struct bn_convert_plan *out,
					   const struct bn_checkpoint *c,
					   enum bn_ggml_type embedding, enum bn_ggml_type trits,
					   struct bn_error *err);

/* A zeroed one is fine. */
void bn_convert_plan_finish(struct bn_convert_plan *plan);

#endif
