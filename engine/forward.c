/*
 * The graph (BitNet b1.58 2B4T report, section 2; Llama with two more norms), for each layer:
 *
 *	h = quant(norm(x));         q, k, v = Wq h, Wk h, Wv h
 *	q, k turn by their position; k, v enter the cache
 *	x = x + Wo quant(subnorm(attention(q, K, V)))
 *	h = quant(norm(x))
 *	x = x + Wdown quant(subnorm(act(Wgate h) * Wup h))
 *
 * and at the end logits = Whead norm(x). Models without sub-norms quantize there without a norm.
 *
 * Every lane runs run_lane() from top to bottom. Matrices are dealt by rows of the matrix, norms by
 * rows of the batch, attention by (row, head) weighted with the positions it reads; a sync stands
 * wherever a lane reads what another wrote. There are eight in a layer, which is why a barrier must
 * cost a microsecond and not ten.
 */
#include "engine/forward.h"

#include "proto/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	LINE_FLOATS = 16, /* rows of floats start on a cache line */
	ACTS_STRIDE = 64, /* kernel.h: rows of activations        */
	HEAD_STEP = 16,   /* rows of the head dealt at a time: one line of logits */
	INPUTS_MAX = 3,   /* matrices that share an input: q, k, v */
};

struct bn_forward {
	const struct bn_model *model;
	struct bn_forward_config config;
	struct bn_arena arena;

	/* [max_rows, ...], floats, each row padded to a cache line */
	float *x; /* dim: the residual stream                           */
	float *q; /* heads * head_dim                                   */
	float *k; /* kv_heads * head_dim, before it enters the cache    */
	float *v;
	float *ctx;  /* heads * head_dim: what attention found             */
	float *gate; /* ffn                                                */
	float *up;
	float *cos; /* rot / 2: the angles of each row's position         */
	float *sin;
	int8_t *xq;                   /* the widest input, quantized                     */
	float *xscale;                /* [max_rows] */
	int32_t *xsum;                /* [max_rows] */
	uint8_t *prep[INPUTS_MAX];    /* what kernels make of it, if they do  */
	float *last;                  /* [max_outputs, dim]                              */
	float *logits;                /* [max_outputs, vocab]                            */
	struct bn_candidate *scratch; /* [lanes, vocab]                    */
	uint32_t *output_of;          /* [max_rows] which output a row is  */
	uint32_t *row_of;             /* [max_outputs] which row it is     */

	/* of the current step */
	struct bn_batch *batch;
	struct bn_team *team;
	uint32_t n; /* rows                                        */
	uint32_t n_outputs;
	uint64_t work; /* positions * heads that attention reads      */
	uint64_t start_ns;
};

/* ---- the workspace ------------------------------------------------------------------------- */

static size_t padded(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t widest(const struct bn_model_info *info)
{
	const size_t heads = (size_t)info->heads * info->head_dim;
	const size_t a = heads > info->dim ? heads : info->dim;

	return a > info->ffn ? a : info->ffn;
}

/* Bytes for the prepared input of one matrix: the most any kernel of this model asks for. */
static size_t prep_bytes(const struct bn_model_info *info, uint32_t n)
{
	size_t most = 0;

	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		const struct bn_kernel *k = info->kernels[p];

		if (k->prep_bytes != NULL) {
			const size_t bytes = k->prep_bytes((uint32_t)widest(info), n);

			most = bytes > most ? bytes : most;
		}
	}
	return most;
}

/*
 * Takes every buffer from the arena, or with fw NULL only adds up what they need: one list for
 * both, so that what is reserved is what is taken.
 */
static bool carve(struct bn_forward *fw, const struct bn_model_info *info,
		  const struct bn_forward_config *c, size_t *total, struct bn_error *err)
{
	const size_t rows = c->max_rows, outputs = c->max_outputs, line = LINE_FLOATS;
	const size_t f = sizeof(float);
	const size_t dim = padded(info->dim, line) * f, ffn = padded(info->ffn, line) * f;
	const size_t heads = padded((size_t)info->heads * info->head_dim, line) * f;
	const size_t kv = padded((size_t)info->kv_heads * info->head_dim, line) * f;
	const size_t angles = padded(info->head_dim / 2, line) * f;
	const size_t prep = prep_bytes(info, c->max_rows);
	struct bn_forward none;
	struct bn_forward *w = fw != NULL ? fw : &none;
	const struct {
		void *pointer;
		size_t bytes;
	} parts[] = {
		{ &w->x, rows * dim },
		{ &w->q, rows * heads },
		{ &w->k, rows * kv },
		{ &w->v, rows * kv },
		{ &w->ctx, rows * heads },
		{ &w->gate, rows * ffn },
		{ &w->up, rows * ffn },
		{ &w->cos, rows * angles },
		{ &w->sin, rows * angles },
		{ &w->xq, rows * padded(widest(info), ACTS_STRIDE) },
		{ &w->xscale, rows * f },
		{ &w->xsum, rows * sizeof(int32_t) },
		{ &w->prep[0], prep },
		{ &w->prep[1], prep },
		{ &w->prep[2], prep },
		{ &w->last, outputs * dim },
		{ &w->logits, outputs * padded(info->vocab, line) * f },
		{ &w->scratch, (size_t)c->lanes * info->vocab * sizeof(struct bn_candidate) },
		{ &w->output_of, rows * sizeof(uint32_t) },
		{ &w->row_of, outputs * sizeof(uint32_t) },
	};

	*total = 0;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		*total += padded(parts[i].bytes, BN_ARENA_ALIGN);
		if (fw != NULL) {
			void *p = bn_arena_alloc(&fw->arena, 1, parts[i].bytes, err);

			if (p == NULL) {
				return false;
			}
			memcpy(parts[i].pointer, &p, sizeof(p));
		}
	}
	return true;
}

uint64_t bn_forward_bytes(const struct bn_model_info *info, const struct bn_forward_config *config)
{
	size_t total;

	bn_assert(config->max_rows >= 1 && config->max_rows <= BN_FORWARD_MAX_ROWS);
	bn_assert(config->max_outputs >= 1 && config->max_outputs <= config->max_rows);
	bn_assert(config->lanes >= 1 && config->lanes <= BN_TEAM_MAX_LANES);
	(void)carve(NULL, info, config, &total, NULL);
	return bn_arena_need(total, 0) + sizeof(struct bn_forward);
}

enum bn_status bn_forward_new(struct bn_forward **out, const struct bn_model *model,
			      const struct bn_forward_config *config, struct bn_error *err)
{
	const size_t limit =
		(size_t)bn_forward_bytes(&model->info, config) - sizeof(struct bn_forward);
	struct bn_forward *fw = calloc(1, sizeof(*fw));
	size_t total;

	if (fw == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a workspace");
	}
	fw->model = model;
	fw->config = *config;
	bn_arena_init(&fw->arena, limit, limit);
	if (!carve(fw, &model->info, config, &total, err)) {
		bn_forward_free(fw);
		return BN_E_MEMORY;
	}
	*out = fw;
	return BN_OK;
}

void bn_forward_free(struct bn_forward *fw)
{
	if (fw != NULL) {
		bn_arena_finish(&fw->arena);
		free(fw);
	}
}

/* ---- pieces of a step: every one runs on every lane ----------------------------------------- */

static size_t line_stride(uint32_t n)
{
	return padded(n, LINE_FLOATS);
}

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

static struct bn_acts acts_of(const struct bn_forward *f, uint32_t cols)
{
	return (struct bn_acts){
		.q = f->xq,
		.scale = f->xscale,
		.sum = f->xsum,
		.n = f->n,
		.cols = cols,
		.stride = (uint32_t)padded(cols, ACTS_STRIDE),
	};
}

/* x = the embedding of each token; the angles of its position. */
static void embed(struct bn_forward *f, uint32_t lane) BN_ON_LANE
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_table *table = &f->model->weights.embed;
	const size_t angles = line_stride(h->head_dim / 2);
	uint32_t from, to;

	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		const struct bn_row *row = &f->batch->rows[r];

		table->dense->decode(f->x + r * line_stride(h->dim),
				     (const uint8_t *)table->rows + row->token * table->row_bytes,
				     h->dim);
		bn_rope_angles(f->cos + r * angles, f->sin + r * angles, row->position, h->rot,
			       h->rope_base);
	}
}

/* xq = quant(norm(in)) of in [n, cols]; gain NULL: no norm, only quant. */
static void norm_quant(struct bn_forward *f, uint32_t lane, const float *in, const float *gain,
		       uint32_t cols) BN_ON_LANE
{
	const struct bn_vec *vec = f->model->vec;
	const uint32_t stride = (uint32_t)padded(cols, ACTS_STRIDE);
	uint32_t from, to;

	my_rows(f, lane, &from, &to);
	for (uint32_t r = from; r < to; r++) {
		const float *x = in + r * line_stride(cols);
		int8_t *q = f->xq + (size_t)r * stride;

		f->xsum[r] = gain == NULL ? vec->quantize(q, &f->xscale[r], x, cols, stride)
					  : vec->norm_quantize(q, &f->xscale[r], x, gain, cols,
							       stride, f->model->hyper.eps);
	}
}

/*
 * The prepared inputs of matrices [n] that share xq, for kernels that want one: those of the same
 * kernel share it too. prepared[i] is NULL where the kernel reads xq itself.
 */
static void prepare(struct bn_forward *f, uint32_t lane, const struct bn_matrix *const *w,
		    uint32_t n, const void *prepared[INPUTS_MAX]) BN_ON_LANE
{
	const struct bn_acts acts = acts_of(f, w[0]->cols);
	bool any = false;
	uint32_t from, to;

	my_rows(f, lane, &from, &to);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t same = 0;

		prepared[i] = NULL;
		if (w[i]->kernel->prep == NULL) {
			continue;
		}
		while (w[same]->kernel != w[i]->kernel) {
			same++;
		}
		prepared[i] = f->prep[same];
		if (same == i) {
			w[i]->kernel->prep(f->prep[i], &acts, from, to);
			any = true;
		}
	}
	if (any) {
		sync(f, lane);
	}
}

/* out = W xq, or out += W xq; out [n, rows]. Returns this lane's rows of W. */
static void mul(struct bn_forward *f, uint32_t lane, const struct bn_matrix *w,
		const void *prepared, float *out, bool accumulate, uint32_t *from,
		uint32_t *to) BN_ON_LANE
{
	const struct bn_acts acts = acts_of(f, w->cols);
	const struct bn_mul m = {
		.packed = w->packed,
		.acts = &acts,
		.prep = prepared,
		.out = out,
		.out_stride = line_stride(w->rows),
		.rows = w->rows,
		.cols = w->cols,
		.scale = w->scale,
		.accumulate = accumulate,
	};

	bn_team_slice(f->team, lane, w->rows, w->kernel->row_step, from, to);
	if (*from < *to) {
		w->kernel->mul(&m, *from, *to);
	}
}

/* q, k, v = Wq xq, Wk xq, Wv xq */
static void mul_qkv(struct bn_forward *f, uint32_t lane, const struct bn_layer *w) BN_ON_LANE
{
	const struct bn_matrix *const in[] = { &w->proj[BN_PROJ_Q], &w->proj[BN_PROJ_K],
					       &w->proj[BN_PROJ_V] };
	float *const out[] = { f->q, f->k, f->v };
	const void *prepared[INPUTS_MAX];
	uint32_t from, to;

	prepare(f, lane, in, 3, prepared);
	for (uint32_t i = 0; i < 3; i++) {
		mul(f, lane, in[i], prepared[i], out[i], false, &from, &to);
	}
}

/* gate = act(Wgate xq) * (Wup xq). Both matrices are dealt alike, so a lane's columns of the result
 * need nobody else's and there is no sync between product and activation. */
static void mul_gate(struct bn_forward *f, uint32_t lane, const struct bn_layer *w) BN_ON_LANE
{
	const struct bn_matrix *const in[] = { &w->proj[BN_PROJ_GATE], &w->proj[BN_PROJ_UP] };
	const size_t stride = line_stride(in[0]->rows);
	const void *prepared[INPUTS_MAX];
	uint32_t from, to;

	bn_assert(in[0]->kernel->row_step == in[1]->kernel->row_step);
	prepare(f, lane, in, 2, prepared);
	mul(f, lane, in[0], prepared[0], f->gate, false, &from, &to);
	mul(f, lane, in[1], prepared[1], f->up, false, &from, &to);
	for (uint32_t r = 0; r < f->n && from < to; r++) {
		float *gate = f->gate + r * stride + from;

		f->model->vec->gate(gate, gate, f->up + r * stride + from, to - from,
				    f->model->hyper.activation);
	}
}

/* x = x + W xq */
static void mul_add(struct bn_forward *f, uint32_t lane, const struct bn_matrix *w) BN_ON_LANE
{
	const void *prepared[INPUTS_MAX];
	uint32_t from, to;

	prepare(f, lane, &w, 1, prepared);
	mul(f, lane, w, prepared[0], f->x, true, &from, &to);
}

/* Query heads [h0, h1) of row r turn and take the factor of the scores. */
static void turn_q(struct bn_forward *f, uint32_t r, uint32_t h0, uint32_t h1)
{
	const struct bn_hyper *h = &f->model->hyper;
	const size_t angles = r * line_stride(h->head_dim / 2);
	const float scale = 1.0f / sqrtf((float)h->head_dim);
	const size_t n = (size_t)(h1 - h0) * h->head_dim;
	float *q = f->q + r * line_stride(h->heads * h->head_dim) + (size_t)h0 * h->head_dim;

	f->model->vec->rope(q, f->cos + angles, f->sin + angles, h1 - h0, h->head_dim, h->rot,
			    h->rope);
	for (size_t i = 0; i < n; i++) {
		q[i] *= scale;
	}
}

/* KV heads [h0, h1) of row r turn (k) and enter the cache. */
static void store_kv(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0, uint32_t h1)
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_row *row = &f->batch->rows[r];
	const struct bn_kv *kv = &row->seq->kv;
	const size_t angles = r * line_stride(h->head_dim / 2);
	const size_t at = r * line_stride(h->kv_heads * h->head_dim);

	for (uint32_t i = h0; i < h1; i++) {
		float *k = f->k + at + (size_t)i * h->head_dim;

		f->model->vec->rope(k, f->cos + angles, f->sin + angles, 1, h->head_dim, h->rot,
				    h->rope);
		f->model->vec->to_half(bn_kv_k(kv, layer, i, row->position), k, h->head_dim);
		f->model->vec->to_half(bn_kv_v(kv, layer, i, row->position),
				       f->v + at + (size_t)i * h->head_dim, h->head_dim);
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
			turn_q(f, r, begin, end < h->heads ? end : h->heads);
		}
		if (end > h->heads) {
			store_kv(f, layer, r, begin > h->heads ? begin - h->heads : 0,
				 end - h->heads);
		}
		at += end - begin;
	}
}

/* Attention of `count` query heads from h0, which share a KV head, of row r over all positions up
 * to its own, in blocks of absolute positions. */
static void attend_heads(struct bn_forward *f, uint32_t layer, uint32_t r, uint32_t h0,
			 uint32_t count)
{
	const struct bn_hyper *h = &f->model->hyper;
	const struct bn_row *row = &f->batch->rows[r];
	const uint32_t kv_head = h0 / (h->heads / h->kv_heads);
	const size_t at = r * line_stride(h->heads * h->head_dim) + (size_t)h0 * h->head_dim;
	const uint32_t positions = row->position + 1;
	struct bn_attend_state state[BN_GROUP_MAX];
	float acc[BN_GROUP_MAX * BN_HEAD_DIM_MAX];

	for (uint32_t i = 0; i < count; i++) {
		state[i] = (struct bn_attend_state){ .max = -INFINITY, .sum = 0.0f };
	}
	memset(acc, 0, (size_t)count * h->head_dim * sizeof(float));
	for (uint32_t p = 0; p < positions; p += BN_ATTEND_BLOCK) {
		const uint32_t left = positions - p;

		f->model->vec->attend(
			state, acc, f->q + at, bn_kv_k(&row->seq->kv, layer, kv_head, p),
			bn_kv_v(&row->seq->kv, layer, kv_head, p),
			left < BN_ATTEND_BLOCK ? left : BN_ATTEND_BLOCK, count, h->head_dim);
	}
	for (uint32_t i = 0; i < count; i++) {
		f->model->vec->attend_finish(f->ctx + at + (size_t)i * h->head_dim,
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
	const size_t stride = line_stride(h->dim);
	uint32_t from, to;

	bn_team_slice(f->team, lane, f->n_outputs, 1, &from, &to);
	for (uint32_t i = from; i < to; i++) {
		f->model->vec->rmsnorm(f->last + i * stride, f->x + f->row_of[i] * stride,
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
		head->dense->mul(f->logits, line_stride(f->model->vocab), head->rows, head->cols,
				 f->last, line_stride(f->model->hyper.dim), f->n_outputs, from, to);
	}
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
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
		if (f->batch->rows[r - 1].output == BN_ROW_SAMPLE) {
			bn_sequence_accept(seq, bn_forward_logits(f, r - 1),
					   f->scratch + (size_t)lane * f->model->vocab, now);
		}
	}
}

/* ---- the step ------------------------------------------------------------------------------ */

static void run_lane(void *arg, uint32_t lane) BN_ON_LANE
{
	struct bn_forward *f = arg;
	const struct bn_model *m = f->model;
	const struct bn_hyper *h = &m->hyper;

	embed(f, lane); /* and norm_quant below deal rows alike: no sync between them */
	for (uint32_t l = 0; l < h->layers; l++) {
		const struct bn_layer *w = &m->weights.layers[l];

		norm_quant(f, lane, f->x, w->attn_norm, h->dim);
		sync(f, lane);
		mul_qkv(f, lane, w);
		sync(f, lane);
		rope_store(f, lane, l);
		sync(f, lane);
		attend(f, lane, l);
		sync(f, lane);
		norm_quant(f, lane, f->ctx, w->attn_sub_norm, h->heads * h->head_dim);
		sync(f, lane);
		mul_add(f, lane, &w->proj[BN_PROJ_O]);
		sync(f, lane);
		norm_quant(f, lane, f->x, w->ffn_norm, h->dim);
		sync(f, lane);
		mul_gate(f, lane, w);
		sync(f, lane);
		norm_quant(f, lane, f->gate, w->ffn_sub_norm, h->ffn);
		sync(f, lane);
		mul_add(f, lane, &w->proj[BN_PROJ_DOWN]);
		sync(f, lane);
	}
	if (f->n_outputs > 0) {
		norm_outputs(f, lane);
		sync(f, lane);
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
			fw->output_of[r] = fw->n_outputs;
			fw->row_of[fw->n_outputs++] = r;
		}
	}
	bn_team_run(team, run_lane, fw);
	return now_ns() - fw->start_ns;
}

const float *bn_forward_logits(const struct bn_forward *fw, uint32_t row)
{
	bn_assert(row < fw->n && fw->batch->rows[row].output != BN_ROW_NONE);
	return fw->logits + fw->output_of[row] * line_stride(fw->model->vocab);
}
