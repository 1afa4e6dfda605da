/*
 * The graph (BitNet b1.58 2B4T report, section 2; Llama with two more norms), for each layer:
 *
 *	h = quant(norm(x));         q, k, v = Wq h, Wk h, Wv h
 *	q, k turn by their position; k, v enter the cache
 *	x = x + Wo quant(subnorm(attention(q, K, V)))
 *	h = quant(norm(x))
 *	x = x + Wdown quant(subnorm(act(Wgate h) * Wup h))
 *
 * and at the end logits = Whead norm(x), or norm(x) itself where it is to be pooled into the vector
 * of a text. Models without sub-norms quantize there without a norm.
 *
 * The norms that only some graphs have are pointers in struct bn_layer, NULL where there is none.
 * BitNet-embedding has one in front of every projection (BitLinear with a norm of its own), so that
 * Wq, Wk, Wv each see another h; Qwen3 and Gemma 3 norm each head of q and k before it turns
 * (arXiv 2302.05442, section 2.2), Gemma 3 also what is added to x (arXiv 2503.19786, section 2).
 *
 * Every lane runs run_lane() from top to bottom. Matrices are dealt by rows of the matrix, norms by
 * rows of the batch, attention by (row, head) weighted with the positions it reads; a sync stands
 * wherever a lane reads what another wrote. There are ten in a layer (twelve with post-norms), and
 * one more for each input that a kernel wants prepared: which is why a barrier must cost a
 * microsecond and not ten.
 */
#include "engine/forward.h"

#include "engine/workspace.h"
#include "proto/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEAD_STEP = 16 }; /* rows of the head dealt at a time: one cache line of logits */

struct bn_forward {
	const struct bn_model *model;
	struct bn_forward_config config;
	struct bn_workspace w;

	/* of the current step */
	struct bn_batch *batch;
	struct bn_team *team;
	uint32_t n; /* rows */
	uint32_t n_outputs;
	uint64_t work; /* positions * heads that attention reads */
	uint64_t start_ns;
};

/* ---- making one ---------------------------------------------------------------------------- */

static void check(const struct bn_forward_config *c)
{
	bn_assert(c->max_rows >= 1 && c->max_rows <= BN_FORWARD_MAX_ROWS);
	bn_assert(c->max_outputs >= 1 && c->max_outputs <= c->max_rows);
	bn_assert(c->lanes >= 1 && c->lanes <= BN_TEAM_MAX_LANES);
}

uint64_t bn_forward_bytes(const struct bn_model_info *info, const struct bn_forward_config *config)
{
	check(config);
	return sizeof(struct bn_forward) +
	       bn_workspace_bytes(info, config->max_rows, config->max_outputs, config->lanes);
}

enum bn_status bn_forward_new(struct bn_forward **out, const struct bn_model *model,
			      const struct bn_forward_config *config, struct bn_error *err)
{
	struct bn_forward *fw = calloc(1, sizeof(*fw));
	enum bn_status status;

	check(config);
	if (fw == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a workspace");
	}
	fw->model = model;
	fw->config = *config;
	status = bn_workspace_init(&fw->w, &model->info, config->max_rows, config->max_outputs,
				   config->lanes, err);
	if (status != BN_OK) {
		free(fw);
		return status;
	}
	*out = fw;
	return BN_OK;
}

void bn_forward_free(struct bn_forward *fw)
{
	if (fw != NULL) {
		bn_workspace_finish(&fw->w);
		free(fw);
	}
}

/* ---- pieces of a step: every one runs on every lane ----------------------------------------- */

static void sync(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	bn_team_sync(f->team, lane);
}

/* The rows of the batch that are this lane's where work is dealt by rows. */
static void my_rows(const struct bn_forward *f, uint32_t lane, uint32_t *from,
		    uint32_t *to) BN_ON_LANE
{
	bn_team_slice(f->team, lane, f->n, 1, from, to);
}

static uint32_t acts_stride(uint32_t cols)
{
	return (cols + BN_WORKSPACE_ACTS - 1) / BN_WORKSPACE_ACTS * BN_WORKSPACE_ACTS;
}

/* Rows [row0, row0 + n) of an input. */
static struct bn_acts acts_of(const struct bn_workspace_input *in, uint32_t cols, uint32_t row0,
			      uint32_t n)
{
	return (struct bn_acts){
		.q = in->q + (size_t)row0 * acts_stride(cols),
		.scale = in->scale + row0,
		.sum = in->sum + row0,
		.n = n,
		.cols = cols,
		.stride = acts_stride(cols),
	};
}

/* x = the embedding of each token; the angles of its position. */
static void embed(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_table *table = &f->model->weights.embed;
	const size_t angles = bn_workspace_stride(h->head_dim / 2);
	uint32_t from, to;

	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		const struct bn_row *row = &f->batch->rows[r];
		float *x = f->w.x + r * bn_workspace_stride(h->dim);

		table->dense->decode(
			x, (const uint8_t *)table->rows + row->token * table->row_bytes, h->dim);
		for (uint32_t i = 0; i < h->dim && h->embed_scale != 1.0f; i++) {
			x[i] *= h->embed_scale;
		}
		bn_rope_angles(f->w.angles[0].cos + r * angles, f->w.angles[0].sin + r * angles,
			       row->position, h->rot, h->rope_base);
		if (h->window > 0) {
			bn_rope_angles(f->w.angles[1].cos + r * angles,
				       f->w.angles[1].sin + r * angles, row->position, h->rot,
				       h->window_rope_base);
		}
	}
}

/* Row r of in = quant(norm(x)) of x [cols]; gain NULL: no norm, only quant. */
static void norm_quant(const struct bn_forward *f, struct bn_workspace_input *in, uint32_t r,
		       const float *x, const float *gain, uint32_t cols)
{
	const struct bn_vec *vec = f->model->vec;
	const uint32_t stride = acts_stride(cols);
	int8_t *q = in->q + (size_t)r * stride;

	in->sum[r] = gain == NULL ? vec->quantize(q, &in->scale[r], x, cols, stride)
				  : vec->norm_quantize(q, &in->scale[r], x, gain, cols, stride,
						       f->model->hyper.eps);
}

/* in[0] = quant(norm(x)) of x [n, cols], the input of one projection. */
static void quant_one(struct bn_forward *f, uint32_t lane, const float *x, const float *gain,
		      uint32_t cols) BN_ON_LANE
{
	uint32_t from, to;

	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		norm_quant(f, &f->w.in[0], r, x + r * bn_workspace_stride(cols), gain, cols);
	}
}

/* h = norm(x), the input of `count` projections from `first` on, which they share, or of which each
 * has quant(norm(h)) with a norm of its own. */
static void quant_shared(struct bn_forward *f, uint32_t lane, const float *gain,
			 const struct bn_layer *w, enum bn_projection first,
			 uint32_t count) BN_ON_LANE
{
	const struct bn_hyper *hyper = &f->model->hyper;
	const size_t stride = bn_workspace_stride(hyper->dim);
	uint32_t from, to;

	if (w->in_norm[first] == NULL) {
		quant_one(f, lane, f->w.x, gain, hyper->dim);
		return;
	}
	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		float *h = f->w.h + r * stride;

		f->model->vec->rmsnorm(h, f->w.x + r * stride, gain, hyper->dim, hyper->eps);
		for (uint32_t i = 0; i < count; i++) {
			norm_quant(f, &f->w.in[i], r, h, w->in_norm[first + i], hyper->dim);
		}
	}
}

/* The matrices [n] of projections that are multiplied side by side, what each of them reads, and
 * where their products go, out[i] [rows of the batch, rows of w[i]]. */
struct side_by_side {
	uint32_t n;
	const struct bn_matrix *w[BN_WORKSPACE_INPUTS];
	const struct bn_workspace_input *in[BN_WORKSPACE_INPUTS];
	float *out[BN_WORKSPACE_INPUTS];
};

static void put(struct side_by_side *s, const struct bn_matrix *w,
		const struct bn_workspace_input *in, float *out)
{
	s->w[s->n] = w;
	s->in[s->n] = in;
	s->out[s->n++] = out;
}

/*
 * The prepared inputs of rows [row0, row0 + n), for kernels that want one: those of the same kernel
 * and the same input share it. prepared[i] is NULL where the kernel reads the input itself. All
 * lanes make parts of each, so a lonely row occupies them all.
 */
static void prepare(struct bn_forward *f, uint32_t lane, const struct side_by_side *s,
		    uint32_t row0, uint32_t n, const void *prepared[BN_WORKSPACE_INPUTS]) BN_ON_LANE
{
	bool any = false;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct bn_kernel *k = s->w[i]->kernel;
		uint32_t same = 0, from, to;

		prepared[i] = NULL;
		if (k->prep == NULL) {
			continue;
		}
		while (s->w[same]->kernel != k || s->in[same] != s->in[i]) {
			same++;
		}
		prepared[i] = f->w.in[same].prep;
		if (same == i) {
			const uint32_t cols = s->w[i]->cols;
			const struct bn_acts acts = acts_of(s->in[i], cols, row0, n);

			bn_team_slice(f->team, lane, n * bn_kernel_pieces(k, cols), 1, &from, &to);
			if (from < to) {
				k->prep(f->w.in[i].prep, &acts, from, to);
			}
			any = true;
		}
	}
	if (any) {
		sync(f, lane);
	}
}

/* out = W acts, or out += W acts; out [acts->n, rows]. */
static void mul(struct bn_forward *f, uint32_t lane, const struct bn_acts *acts,
		const struct bn_matrix *w, const void *prepared, float *out,
		bool accumulate) BN_ON_LANE
{
	const struct bn_mul m = {
		.packed = w->packed,
		.acts = acts,
		.prep = prepared,
		.out = out,
		.out_stride = bn_workspace_stride(w->rows),
		.rows = w->rows,
		.cols = w->cols,
		.scale = w->scale,
		.accumulate = accumulate,
	};
	uint32_t from, to;

	bn_team_slice(f->team, lane, w->rows, w->kernel->row_step, &from, &to);
	if (from < to) {
		w->kernel->mul(&m, from, to);
	}
}

/* out[i] = W[i] in[i], or out[i] += W[i] in[i]. Kernels that want a prepared input get it for
 * BN_WORKSPACE_PREP rows at a time, others all at once. */
static void mul_all(struct bn_forward *f, uint32_t lane, const struct side_by_side *s,
		    bool accumulate) BN_ON_LANE
{
	uint32_t step = f->n;

	for (uint32_t i = 0; i < s->n; i++) {
		if (s->w[i]->kernel->prep != NULL && step > BN_WORKSPACE_PREP) {
			step = BN_WORKSPACE_PREP;
		}
	}
	for (uint32_t row = 0; row < f->n; row += step) {
		const uint32_t left = f->n - row, n = left < step ? left : step;
		const void *prepared[BN_WORKSPACE_INPUTS];

		if (row > 0) {
			sync(f, lane); /* nobody reads the last rows' inputs any more */
		}
		prepare(f, lane, s, row, n, prepared);
		for (uint32_t i = 0; i < s->n; i++) {
			const struct bn_matrix *w = s->w[i];
			const struct bn_acts acts = acts_of(s->in[i], w->cols, row, n);

			mul(f, lane, &acts, w, prepared[i],
			    s->out[i] + row * bn_workspace_stride(w->rows), accumulate);
		}
	}
}

/* The input of the i-th of several projections from `first` on, as quant_shared left them. */
static const struct bn_workspace_input *input_of(const struct bn_forward *f,
						 const struct bn_layer *w, enum bn_projection first,
						 uint32_t i)
{
	return &f->w.in[w->in_norm[first] != NULL ? i : 0];
}

/* q, k, v = Wq h, Wk h, Wv h */
static void mul_qkv(struct bn_forward *f, uint32_t lane, const struct bn_layer *w) BN_ON_LANE
{
	float *const out[] = { f->w.q, f->w.k, f->w.v };
	struct side_by_side s = { 0 };

	for (uint32_t i = 0; i < 3; i++) {
		put(&s, &w->proj[BN_PROJ_Q + i], input_of(f, w, BN_PROJ_Q, i), out[i]);
	}
	mul_all(f, lane, &s, false);
}

/* gate = act(Wgate h) * (Wup h). Both matrices are dealt alike, so a lane's columns of the result
 * need nobody else's and there is no sync between product and activation. */
static void mul_gate(struct bn_forward *f, uint32_t lane, const struct bn_layer *w) BN_ON_LANE
{
	const struct bn_matrix *gates = &w->proj[BN_PROJ_GATE], *ups = &w->proj[BN_PROJ_UP];
	const size_t stride = bn_workspace_stride(gates->rows);
	struct side_by_side s = { 0 };
	uint32_t from, to;

	bn_assert(gates->kernel->row_step == ups->kernel->row_step);
	put(&s, gates, input_of(f, w, BN_PROJ_GATE, 0), f->w.gate);
	put(&s, ups, input_of(f, w, BN_PROJ_GATE, 1), f->w.up);
	mul_all(f, lane, &s, false);
	bn_team_slice(f->team, lane, gates->rows, gates->kernel->row_step, &from, &to);
	for (uint32_t r = 0; r < f->n && from < to; r++) {
		float *gate = f->w.gate + r * stride + from;

		f->model->vec->gate(gate, gate, f->w.up + r * stride + from, to - from,
				    f->model->hyper.activation);
	}
}

/* x = x + W in, or x = x + norm(W in) */
static void mul_add(struct bn_forward *f, uint32_t lane, const struct bn_matrix *w,
		    const float *post_norm) BN_ON_LANE
{
	const struct bn_hyper *hyper = &f->model->hyper;
	const size_t stride = bn_workspace_stride(hyper->dim);
	struct side_by_side s = { 0 };
	uint32_t from, to;

	put(&s, w, &f->w.in[0], post_norm == NULL ? f->w.x : f->w.h);
	mul_all(f, lane, &s, post_norm == NULL);
	sync(f, lane);
	if (post_norm == NULL) {
		return;
	}
	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		float *h = f->w.h + r * stride, *x = f->w.x + r * stride;

		f->model->vec->rmsnorm(h, h, post_norm, hyper->dim, hyper->eps);
		for (uint32_t i = 0; i < hyper->dim; i++) {
			x[i] += h[i];
		}
	}
	sync(f, lane);
}

/* The head [head_dim] of row r behind its norm, if it has one, and turned. */
static void turn(const struct bn_forward *f, uint32_t layer, uint32_t r, float *head,
		 const float *gain)
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_workspace_angles *a = &f->w.angles[bn_hyper_is_local(h, layer)];
	const size_t at = r * bn_workspace_stride(h->head_dim / 2);

	if (gain != NULL) {
		f->model->vec->rmsnorm(head, head, gain, h->head_dim, h->eps);
	}
	f->model->vec->rope(head, a->cos + at, a->sin + at, 1, h->head_dim, h->rot, h->rope);
}

/* Query heads [h0, h1) of row r turn and take the factor of the scores. */
static void turn_q(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0, uint32_t h1)
{
	const struct bn_hyper *h = &f->model->hyper;
	const float *gain = f->model->weights.layers[layer].q_norm;
	const float scale = 1.0f / sqrtf((float)h->head_dim);
	float *row = f->w.q + r * bn_workspace_stride(h->heads * h->head_dim);

	for (uint32_t i = h0; i < h1; i++) {
		float *q = row + (size_t)i * h->head_dim;

		turn(f, layer, r, q, gain);
		for (uint32_t d = 0; d < h->head_dim; d++) {
			q[d] *= scale;
		}
	}
}

/* KV heads [h0, h1) of row r turn (k) and enter the cache. */
static void store_kv(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0, uint32_t h1)
{
	const struct bn_hyper *h = &f->model->hyper;
	const float *gain = f->model->weights.layers[layer].k_norm;
	const struct bn_row *row = &f->batch->rows[r];
	const struct bn_kv *kv = &row->seq->kv;
	const size_t at = r * bn_workspace_stride(h->kv_heads * h->head_dim);

	for (uint32_t i = h0; i < h1; i++) {
		float *k = f->w.k + at + (size_t)i * h->head_dim;

		turn(f, layer, r, k, gain);
		f->model->vec->to_half(bn_kv_k(kv, layer, i, row->position), k, h->head_dim);
		f->model->vec->to_half(bn_kv_v(kv, layer, i, row->position),
				       f->w.v + at + (size_t)i * h->head_dim, h->head_dim);
	}
}

/* Positions turn q and k; k and v enter the cache. Dealt by (row, head), so that a lonely row
 * occupies all lanes. */
static void rope_store(struct bn_forward *f, uint32_t lane, uint32_t layer) BN_ON_LANE
{
	const struct bn_hyper *h = &f->model->hyper;
	const uint32_t per_row = h->heads + h->kv_heads;
	uint32_t at, to;

	bn_team_slice(f->team, lane, f->n * per_row, 1, &at, &to);
	while (at < to) {
		const uint32_t r = at / per_row, begin = at % per_row;
		const uint32_t left = to - at, rest = per_row - begin;
		const uint32_t end = begin + (left < rest ? left : rest);

		if (begin < h->heads) {
			turn_q(f, layer, r, begin, end < h->heads ? end : h->heads);
		}
		if (end > h->heads) {
			store_kv(f, layer, r, begin > h->heads ? begin - h->heads : 0,
				 end - h->heads);
		}
		at += end - begin;
	}
}

/* Attention of `count` query heads from h0, which share a KV head, of row r over the positions up
 * to its own that the layer sees, in blocks of absolute positions. */
static void attend_heads(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0,
			 uint32_t count)
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_row *row = &f->batch->rows[r];
	const uint32_t kv_head = h0 / (h->heads / h->kv_heads);
	const size_t at =
		r * bn_workspace_stride(h->heads * h->head_dim) + (size_t)h0 * h->head_dim;
	const uint32_t positions = row->position + 1;
	const bool local = bn_hyper_is_local(h, layer) && positions > h->window;
	struct bn_attend_state state[BN_GROUP_MAX];
	float acc[BN_GROUP_MAX * BN_HEAD_DIM_MAX];

	for (uint32_t i = 0; i < count; i++) {
		state[i] = (struct bn_attend_state){ .max = -INFINITY, .sum = 0.0f };
	}
	memset(acc, 0, (size_t)count * h->head_dim * sizeof(float));
	for (uint32_t p = local ? positions - h->window : 0; p < positions;) {
		const uint32_t left = positions - p, block = BN_ATTEND_BLOCK - p % BN_ATTEND_BLOCK;
		const uint32_t n = left < block ? left : block;

		f->model->vec->attend(
			state, acc, f->w.q + at, bn_kv_k(&row->seq->kv, layer, kv_head, p),
			bn_kv_v(&row->seq->kv, layer, kv_head, p), n, count, h->head_dim);
		p += n;
	}
	for (uint32_t i = 0; i < count; i++) {
		f->model->vec->attend_finish(f->w.ctx + at + (size_t)i * h->head_dim,
					     acc + (size_t)i * h->head_dim, &state[i], h->head_dim);
	}
}

/* Query heads [h0, h1) of row r, one KV head after the other. */
static void attend_row(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0, uint32_t h1)
{
	const uint32_t group = f->model->hyper.heads / f->model->hyper.kv_heads;

	while (h0 < h1) {
		const uint32_t end = (h0 / group + 1) * group;
		const uint32_t next = end < h1 ? end : h1;

		attend_heads(f, layer, r, h0, next - h0);
		h0 = next;
	}
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

/*
 * ctx = attention. A (row, head) reads position + 1 places, so the lanes share f->work, the sum of
 * all: those pairs are mine whose first place, when all are laid end to end, falls into my part.
 * Windows are left out of the reckoning: it only has to be the same on every lane.
 */
static void attend(struct bn_forward *f, uint32_t lane, uint32_t layer) BN_ON_LANE
{
	const uint32_t heads = f->model->hyper.heads, lanes = bn_team_lanes(f->team);
	const uint64_t from = f->work * lane / lanes, to = f->work * (lane + 1) / lanes;
	uint64_t base = 0;

	for (uint32_t r = 0; r < f->n && base < to; r++) {
		const uint64_t each = (uint64_t)f->batch->rows[r].position + 1;
		const uint64_t h0 = from > base ? ceil_div(from - base, each) : 0;
		const uint64_t h1 = ceil_div(to - base, each);

		if (h0 < heads) {
			attend_row(f, layer, r, (uint32_t)h0, h1 < heads ? (uint32_t)h1 : heads);
		}
		base += each * heads;
	}
}

/* last = norm(x) of the rows that have an output. */
static void norm_outputs(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	const struct bn_hyper *h = &f->model->hyper;
	const size_t stride = bn_workspace_stride(h->dim);
	uint32_t from, to;

	bn_team_slice(f->team, lane, f->n_outputs, 1, &from, &to);
	for (uint32_t i = from; i < to; i++) {
		f->model->vec->rmsnorm(f->w.last + i * stride, f->w.x + f->w.row_of[i] * stride,
				       f->model->weights.out_norm, h->dim, h->eps);
	}
}

/* logits = Whead last */
static void mul_head(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	const struct bn_table *head = &f->model->weights.head;
	uint32_t from, to;

	bn_team_slice(f->team, lane, f->model->vocab, HEAD_STEP, &from, &to);
	if (from < to) {
		head->dense->mul(f->w.logits, bn_workspace_stride(f->model->vocab), head->rows,
				 head->cols, f->w.last, bn_workspace_stride(f->model->hyper.dim),
				 f->n_outputs, from, to);
	}
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The final state of a row that has an output. */
static const float *last_of(const struct bn_forward *f, uint32_t row)
{
	return f->w.last + f->w.output_of[row] * bn_workspace_stride(f->model->hyper.dim);
}

/* Moves the sequences on; each belongs to one lane, so this is the one place where a sequence is
 * touched off the lead. */
static void harvest(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	const uint32_t lanes = bn_team_lanes(f->team);
	const uint64_t now = now_ns();
	uint32_t r = 0;

	for (uint32_t s = 0; r < f->n; s++) {
		const uint32_t first = r;
		struct bn_sequence *seq = f->batch->rows[first].seq;

		while (r < f->n && f->batch->rows[r].seq == seq) {
			r++;
		}
		if (s % lanes != lane) {
			continue;
		}
		bn_sequence_fed(seq, r - first, f->start_ns, now);
		for (uint32_t i = first; i < r; i++) {
			if (f->batch->rows[i].output == BN_ROW_POOL) {
				bn_sequence_pool(seq, last_of(f, i));
			}
		}
		if (f->model->pooling != BN_POOL_NONE && seq->n_past == seq->n_prompt) {
			bn_sequence_pooled(seq);
		}
		if (f->batch->rows[r - 1].output == BN_ROW_SAMPLE) {
			bn_sequence_accept(seq, bn_forward_logits(f, r - 1),
					   f->w.scratch + (size_t)lane * f->model->vocab, now);
		}
	}
}

/* ---- the step ------------------------------------------------------------------------------ */

static void run_lane(void *arg, uint32_t lane) BN_ON_LANE
{
	struct bn_forward *f = arg;
	const struct bn_model *m = f->model;
	const struct bn_hyper *h = &m->hyper;

	embed(f, lane); /* and quant_shared below deal rows alike: no sync between them */
	for (uint32_t l = 0; l < h->layers; l++) {
		const struct bn_layer *w = &m->weights.layers[l];

		quant_shared(f, lane, w->attn_norm, w, BN_PROJ_Q, 3);
		sync(f, lane);
		mul_qkv(f, lane, w);
		sync(f, lane);
		rope_store(f, lane, l);
		sync(f, lane);
		attend(f, lane, l);
		sync(f, lane);
		quant_one(f, lane, f->w.ctx, w->in_norm[BN_PROJ_O], h->heads * h->head_dim);
		sync(f, lane);
		mul_add(f, lane, &w->proj[BN_PROJ_O], w->post_attn_norm);
		quant_shared(f, lane, w->ffn_norm, w, BN_PROJ_GATE, 2);
		sync(f, lane);
		mul_gate(f, lane, w);
		sync(f, lane);
		quant_one(f, lane, f->w.gate, w->in_norm[BN_PROJ_DOWN], h->ffn);
		sync(f, lane);
		mul_add(f, lane, &w->proj[BN_PROJ_DOWN], w->post_ffn_norm);
	}
	if (f->n_outputs > 0) {
		norm_outputs(f, lane);
		sync(f, lane);
	}
	if (f->n_outputs > 0 && m->pooling == BN_POOL_NONE) {
		mul_head(f, lane);
		sync(f, lane);
	}
	harvest(f, lane);
}

uint64_t bn_forward_step(struct bn_forward *fw, struct bn_batch *batch, struct bn_team *team)
{
	const struct bn_model *m = fw->model;

	bn_assert(batch->model == m && batch->n_rows > 0);
	bn_assert(batch->n_rows <= fw->config.max_rows);
	bn_assert(batch->n_outputs <= fw->config.max_outputs);
	bn_assert(bn_team_lanes(team) <= fw->config.lanes);
	fw->start_ns = now_ns();
	fw->batch = batch;
	fw->team = team;
	fw->n = batch->n_rows;
	fw->n_outputs = 0;
	fw->work = 0;
	for (uint32_t r = 0; r < fw->n; r++) {
		const struct bn_row *row = &batch->rows[r];

		fw->work += ((uint64_t)row->position + 1) * m->hyper.heads;
		if (row->output != BN_ROW_NONE) {
			fw->w.output_of[r] = fw->n_outputs;
			fw->w.row_of[fw->n_outputs++] = r;
		}
	}
	bn_team_run(team, run_lane, fw);
	return now_ns() - fw->start_ns;
}

const float *bn_forward_logits(const struct bn_forward *fw, uint32_t row)
{
	bn_assert(row < fw->n && fw->model->pooling == BN_POOL_NONE);
	bn_assert(fw->batch->rows[row].output != BN_ROW_NONE);
	return fw->w.logits + fw->w.output_of[row] * bn_workspace_stride(fw->model->vocab);
}
