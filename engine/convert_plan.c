#include "engine/convert_plan.h"

#include "engine/quantize.h"
#include "engine/tiles.h"
#include "proto/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const gguf_names[BN_PROJ_COUNT] = {
	[BN_PROJ_Q] = "attn_q",      [BN_PROJ_K] = "attn_k",      [BN_PROJ_V] = "attn_v",
	[BN_PROJ_O] = "attn_output", [BN_PROJ_GATE] = "ffn_gate", [BN_PROJ_UP] = "ffn_up",
	[BN_PROJ_DOWN] = "ffn_down",
};

struct planner {
	const struct bn_checkpoint *c;
	struct bn_convert_plan *plan;
	enum bn_ggml_type trits;
	struct bn_error *err;
	enum bn_status status; /* of the first matrix that does not fit */
};

static void add(struct planner *v, const char *source, const char *name, enum bn_ggml_type type,
		uint32_t rows, uint32_t cols)
{
	struct bn_verify_tensor *t = &v->plan->tensors[v->plan->n];
	struct bn_convert_job *job = &v->plan->jobs[v->plan->n++];
	const uint64_t dims[2] = { cols, rows };

	snprintf(job->source, sizeof(job->source), "%s", source);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->type = type;
	t->rows = rows;
	t->cols = cols;
	job->n_dims = rows == 1 ? 1 : 2;
	/* The checkpoint's dimensions are in range, and blocks were checked with them. */
	bn_assert(bn_ggml_nbytes(type, job->n_dims, dims, &job->nbytes) == BN_GGML_FITS);
	v->plan->total_bytes += job->nbytes;
}

static void add_norm(struct planner *v, uint32_t layer, const struct bn_checkpoint_norm *norm)
{
	char source[BN_CHECKPOINT_NAME_BYTES], target[BN_VERIFY_NAME_BYTES];

	snprintf(source, sizeof(source), "%slayers.%u.%s.weight", v->c->prefix, layer,
		 norm->source);
	snprintf(target, sizeof(target), "blk.%u.%s.weight", layer, norm->target);
	add(v, source, target, BN_GGML_F32, 1, norm->n);
	v->plan->jobs[v->plan->n - 1].less_one = norm->less_one;
}

static void add_projection(struct planner *v, uint32_t layer, enum bn_projection p)
{
	char source[BN_CHECKPOINT_NAME_BYTES], target[BN_VERIFY_NAME_BYTES];
	struct bn_tiles tiles;
	uint32_t rows, cols;

	bn_checkpoint_shape(v->c, p, &rows, &cols);
	bn_checkpoint_projection(v->c, source, layer, p, "weight");
	snprintf(target, sizeof(target), "blk.%u.%s.weight", layer, gguf_names[p]);
	if (v->status == BN_OK) {
		v->status = bn_tiles_choose(&tiles, v->trits, rows, cols, v->err);
	}
	if (v->status != BN_OK) {
		return;
	}
	add(v, source, target, v->trits, rows, cols);
	v->plan->tensors[v->plan->n - 1].tiles = tiles;
	v->plan->jobs[v->plan->n - 1].layer = layer;
	v->plan->jobs[v->plan->n - 1].projection = p;
}

/* Each projection behind the norms that a step meets before it. */
static void add_layer(struct planner *v, uint32_t l)
{
	struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX];
	const size_t n = bn_checkpoint_norms(v->c, norms);

	for (unsigned p = 0; p <= BN_PROJ_COUNT; p++) {
		for (size_t i = 0; i < n; i++) {
			if (norms[i].before == (enum bn_projection)p) {
				add_norm(v, l, &norms[i]);
			}
		}
		if (p < BN_PROJ_COUNT) {
			add_projection(v, l, (enum bn_projection)p);
		}
	}
}

void bn_convert_plan_finish(struct bn_convert_plan *plan)
{
	free(plan->jobs);
	free(plan->tensors);
	memset(plan, 0, sizeof(*plan));
}

enum bn_status bn_convert_plan(struct bn_convert_plan *out, const struct bn_checkpoint *c,
			       enum bn_ggml_type embedding, enum bn_ggml_type trits,
			       struct bn_error *err)
{
	const enum bn_ggml_type type = bn_quantize_type(embedding, c->dim);
	const size_t most = 3 + (size_t)c->layers * (BN_PROJ_COUNT + BN_CHECKPOINT_NORMS_MAX);
	struct bn_convert_plan plan = { 0 };
	struct planner v = { .c = c, .plan = &plan, .trits = trits, .err = err };
	char name[BN_CHECKPOINT_NAME_BYTES];

	plan.jobs = calloc(most, sizeof(*plan.jobs));
	plan.tensors = calloc(most, sizeof(*plan.tensors));
	if (plan.jobs == NULL || plan.tensors == NULL) {
		bn_convert_plan_finish(&plan);
		return bn_fail(err, BN_E_MEMORY, "no memory to plan %zu tensors", most);
	}
	add(&v, bn_checkpoint_name(c, name, "embed_tokens.weight"), "token_embd.weight", type,
	    c->n_vocab, c->dim);
	for (uint32_t l = 0; l < c->layers; l++) {
		add_layer(&v, l);
	}
	add(&v, bn_checkpoint_name(c, name, "norm.weight"), "output_norm.weight", BN_GGML_F32, 1,
	    c->dim);
	plan.jobs[plan.n - 1].less_one = c->arch->post_norms == BN_ALWAYS;
	if (!c->tied) {
		add(&v, "lm_head.weight", "output.weight", type, c->n_vocab, c->dim);
	}
	if (v.status != BN_OK) {
		bn_convert_plan_finish(&plan);
		return v.status;
	}
	*out = plan;
	return BN_OK;
}
