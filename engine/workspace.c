#include "engine/workspace.h"

#include <stdbool.h>
#include <string.h>

enum { PARTS_MAX = 32 };

/* A buffer: where its address goes, and its size. */
struct part {
	void *place;
	size_t bytes;
};

static size_t widest(const struct bn_model_info *info)
{
	const size_t heads = (size_t)info->heads * info->head_dim;
	const size_t a = heads > info->dim ? heads : info->dim;

	return a > info->ffn ? a : info->ffn;
}

/*
 * Bytes for the prepared inputs of a panel: bytes[i] is for the kernel of the i-th matrix of those
 * side by side, 0 if an earlier one shares input and kernel. Look-up tables are ten times as wide
 * as what they are made of, so they are made neither for each matrix nor for a whole prompt at
 * once.
 */
static void prep_bytes(const struct bn_model_info *info, uint32_t rows,
		       size_t bytes[BN_WORKSPACE_INPUTS])
{
	static const unsigned first[] = { BN_PROJ_Q, BN_PROJ_O, BN_PROJ_GATE, BN_PROJ_DOWN,
					  BN_PROJ_COUNT };
	const uint32_t cols[] = { info->dim, info->heads * info->head_dim, info->dim, info->ffn };
	const uint32_t panel = rows < BN_WORKSPACE_PREP ? rows : BN_WORKSPACE_PREP;

	memset(bytes, 0, BN_WORKSPACE_INPUTS * sizeof(bytes[0]));
	for (unsigned input = 0; input < 4; input++) {
		const struct bn_kernel *const *k = info->kernels + first[input];
		const unsigned n = first[input + 1] - first[input];

		for (unsigned i = 0; i < n; i++) {
			const size_t need =
				k[i]->prep == NULL ? 0 : k[i]->prep_bytes(cols[input], panel);
			unsigned same = info->input_norms ? i : 0; /* each has its own input */

			while (k[same] != k[i]) {
				same++;
			}
			bytes[same] = need > bytes[same] ? need : bytes[same];
		}
	}
}

/* All buffers: one list for counting and for taking, so that what is reserved is what is taken.
 * No product overflows: rows < 2^17, widths < 2^20 (hyper.h), vocabularies < 2^22. */
static size_t list_parts(struct part parts[PARTS_MAX], struct bn_workspace *w,
			 const struct bn_model_info *info, uint32_t rows, uint32_t outputs,
			 uint32_t lanes)
{
	const size_t f = sizeof(float);
	const size_t dim = bn_workspace_stride(info->dim) * f;
	const size_t ffn = bn_workspace_stride(info->ffn) * f;
	const size_t heads = bn_workspace_stride(info->heads * info->head_dim) * f;
	const size_t kv = bn_workspace_stride(info->kv_heads * info->head_dim) * f;
	const size_t angles = bn_workspace_stride(info->head_dim / 2) * f;
	const size_t acts =
		(widest(info) + BN_WORKSPACE_ACTS - 1) & ~(size_t)(BN_WORKSPACE_ACTS - 1);
	size_t prep[BN_WORKSPACE_INPUTS];
	/* What a graph does not need has no bytes. */
	const size_t windows = info->has_windows ? angles : 0;
	const size_t normed = info->input_norms || info->post_norms ? dim : 0;
	const size_t each = info->input_norms ? rows : 0;
	const bool pools = info->pooling != NULL;
	const size_t lasts = pools ? rows : outputs;
	const size_t vocab = pools ? 0 : info->vocab;

	prep_bytes(info, rows, prep);

	const struct part list[] = {
		{ &w->x, rows * dim },
		{ &w->q, rows * heads },
		{ &w->k, rows * kv },
		{ &w->v, rows * kv },
		{ &w->ctx, rows * heads },
		{ &w->gate, rows * ffn },
		{ &w->up, rows * ffn },
		{ &w->h, rows * normed },
		{ &w->angles[0].cos, rows * angles },
		{ &w->angles[0].sin, rows * angles },
		{ &w->angles[1].cos, rows * windows },
		{ &w->angles[1].sin, rows * windows },
		{ &w->in[0].q, rows * acts },
		{ &w->in[0].scale, rows * f },
		{ &w->in[0].sum, rows * sizeof(int32_t) },
		{ &w->in[0].prep, prep[0] },
		{ &w->in[1].q, each * acts },
		{ &w->in[1].scale, each * f },
		{ &w->in[1].sum, each * sizeof(int32_t) },
		{ &w->in[1].prep, prep[1] },
		{ &w->in[2].q, each * acts },
		{ &w->in[2].scale, each * f },
		{ &w->in[2].sum, each * sizeof(int32_t) },
		{ &w->in[2].prep, prep[2] },
		{ &w->last, lasts * dim },
		{ &w->logits, outputs * bn_workspace_stride((uint32_t)vocab) * f },
		{ &w->row_of, lasts * sizeof(uint32_t) },
		{ &w->output_of, rows * sizeof(uint32_t) },
		{ &w->scratch, lanes * vocab * sizeof(struct bn_candidate) },
	};

	_Static_assert(sizeof(list) <= PARTS_MAX * sizeof(struct part), "room for all parts");
	memcpy(parts, list, sizeof(list));
	return sizeof(list) / sizeof(list[0]);
}

uint64_t bn_workspace_bytes(const struct bn_model_info *info, uint32_t rows, uint32_t outputs,
			    uint32_t lanes)
{
	struct bn_workspace none;
	struct part parts[PARTS_MAX];
	const size_t n = list_parts(parts, &none, info, rows, outputs, lanes);
	size_t total = 0;

	for (size_t i = 0; i < n; i++) {
		total += (parts[i].bytes + BN_ARENA_ALIGN - 1) & ~(size_t)(BN_ARENA_ALIGN - 1);
	}
	return bn_arena_need(total, 0);
}

enum bn_status bn_workspace_init(struct bn_workspace *w, const struct bn_model_info *info,
				 uint32_t rows, uint32_t outputs, uint32_t lanes,
				 struct bn_error *err)
{
	const size_t limit = (size_t)bn_workspace_bytes(info, rows, outputs, lanes);
	struct part parts[PARTS_MAX];
	const size_t n = list_parts(parts, w, info, rows, outputs, lanes);

	bn_arena_init(&w->arena, limit, limit);
	for (size_t i = 0; i < n; i++) {
		void *p = bn_arena_alloc(&w->arena, 1, parts[i].bytes, err);

		if (p == NULL) {
			bn_workspace_finish(w);
			return BN_E_MEMORY;
		}
		memcpy(parts[i].place, &p, sizeof(p));
	}
	return BN_OK;
}

void bn_workspace_finish(struct bn_workspace *w)
{
	bn_arena_finish(&w->arena);
	memset(w, 0, sizeof(*w));
}
