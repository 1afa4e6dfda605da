/* The float half of the rig: vec, attention, dense rows, and the digest over all of them. */
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/tables.h"
#include "tests/kernels/rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FAIL(rig, ...) (snprintf((rig)->why, RIG_WHY, __VA_ARGS__), false)

/* ---- float functions ---------------------------------------------------------------------- */

/* Floats of one temper: plain, tiny, huge, with zeros, now and then something not finite. */
static void fill(struct rig *rig, float *x, uint32_t n)
{
	static const float ranges[] = { 1.0f, 30.0f, 1e-6f, 1e-39f, 1e18f, 120.0f };
	const uint32_t temper = rig_between(rig, 0, 9);

	for (uint32_t i = 0; i < n; i++) {
		x[i] = rig_float(rig, ranges[temper % 6]);
		if (temper == 7 && rig_between(rig, 0, 3) != 0) {
			x[i] = rig_between(rig, 0, 1) ? 0.0f : -0.0f;
		}
		if (temper == 8) {
			/* Halves after scaling: ties of the rounding. */
			x[i] = (float)((int)rig_between(rig, 0, 508) - 254) * 0.5f;
		}
	}
	if (temper == 9 && n > 0) {
		static const uint32_t strange[] = { 0x7f800000u, 0xff800000u, 0x7fc00000u,
						    0x00000001u, 0x7f7fffffu, 0x80000000u };
		x[rig_between(rig, 0, n - 1)] = bn_bits_float(strange[rig_between(rig, 0, 5)]);
	}
}

struct floats {
	uint32_t n, stride;
	float *x, *y, *a, *b;
	int8_t *qa, *qb;
};

static void floats_init(struct floats *f, struct rig *rig, uint32_t n_max)
{
	f->n = rig_between(rig, 1, n_max);
	f->stride = (f->n + 63) / 64 * 64;
	f->x = rig_buffer(f->n * sizeof(float));
	f->y = rig_buffer(f->n * sizeof(float));
	f->a = rig_buffer(f->n * sizeof(float));
	f->b = rig_buffer(f->n * sizeof(float));
	f->qa = rig_buffer(f->stride);
	f->qb = rig_buffer(f->stride);
	fill(rig, f->x, f->n);
	fill(rig, f->y, f->n);
}

static void floats_finish(struct floats *f)
{
	rig_release(f->x, f->n * sizeof(float));
	rig_release(f->y, f->n * sizeof(float));
	rig_release(f->a, f->n * sizeof(float));
	rig_release(f->b, f->n * sizeof(float));
	rig_release(f->qa, f->stride);
	rig_release(f->qb, f->stride);
}

static bool same_norm(struct floats *f, const struct bn_vec *v, const struct bn_vec *o)
{
	const float eps = 1e-5f;
	bool same = true;

	for (int with_gain = 0; with_gain < 2; with_gain++) {
		const float *gain = with_gain ? f->y : NULL;
		v->rmsnorm(f->a, f->x, gain, f->n, eps);
		o->rmsnorm(f->b, f->x, gain, f->n, eps);
		same &= rig_same(f->a, f->b, f->n);
		/* In place. */
		memcpy(f->a, f->x, f->n * sizeof(float));
		v->rmsnorm(f->a, f->a, gain, f->n, eps);
		same &= rig_same(f->a, f->b, f->n);
	}
	return same;
}

static bool same_quantize(struct floats *f, const struct bn_vec *v, const struct bn_vec *o)
{
	float sa = 0.0f, sb = 0.0f, sn = 0.0f;
	bool same = true;

	int32_t a = v->quantize(f->qa, &sa, f->x, f->n, f->stride);
	int32_t b = o->quantize(f->qb, &sb, f->x, f->n, f->stride);
	same &= a == b && memcmp(f->qa, f->qb, f->stride) == 0;
	same &= memcmp(&sa, &sb, sizeof(sa)) == 0;

	for (int with_gain = 0; with_gain < 2; with_gain++) {
		const float *gain = with_gain ? f->y : NULL;
		o->rmsnorm(f->b, f->x, gain, f->n, 1e-6f);
		b = o->quantize(f->qb, &sb, f->b, f->n, f->stride);
		memset(f->qa, 0xa5, f->stride);
		a = v->norm_quantize(f->qa, &sa, f->x, gain, f->n, f->stride, 1e-6f);
		same &= a == b && memcmp(f->qa, f->qb, f->stride) == 0;
		same &= memcmp(&sa, &sb, sizeof(sa)) == 0;
		a = o->norm_quantize(f->qa, &sn, f->x, gain, f->n, f->stride, 1e-6f);
		same &= a == b && memcmp(f->qa, f->qb, f->stride) == 0;
		same &= memcmp(&sn, &sb, sizeof(sn)) == 0;
	}
	return same;
}

static bool same_gate(struct floats *f, const struct bn_vec *v, const struct bn_vec *o)
{
	bool same = true;

	for (int act = BN_ACT_SILU; act <= BN_ACT_GELU; act++) {
		v->gate(f->a, f->x, f->y, f->n, (enum bn_activation)act);
		o->gate(f->b, f->x, f->y, f->n, (enum bn_activation)act);
		same &= rig_same(f->a, f->b, f->n);
		memcpy(f->a, f->x, f->n * sizeof(float));
		v->gate(f->a, f->a, f->y, f->n, (enum bn_activation)act);
		same &= rig_same(f->a, f->b, f->n);
		memcpy(f->a, f->y, f->n * sizeof(float));
		v->gate(f->a, f->x, f->a, f->n, (enum bn_activation)act);
		same &= rig_same(f->a, f->b, f->n);
	}
	return same;
}

static bool same_half(struct rig *rig, struct floats *f, const struct bn_vec *v,
		      const struct bn_vec *o)
{
	uint16_t *a = rig_buffer(f->n * sizeof(uint16_t));
	uint16_t *b = rig_buffer(f->n * sizeof(uint16_t));

	for (uint32_t i = 0; i < f->n; i++) {
		f->a[i] = rig_between(rig, 0, 1) ? rig_any_float(rig) : rig_float(rig, 2.0f);
	}
	v->to_half(a, f->a, f->n);
	o->to_half(b, f->a, f->n);
	const bool same = memcmp(a, b, f->n * sizeof(uint16_t)) == 0;
	rig_release(a, f->n * sizeof(uint16_t));
	rig_release(b, f->n * sizeof(uint16_t));
	return same;
}

static bool same_rope(struct rig *rig, const struct bn_vec *v, const struct bn_vec *o)
{
	const uint32_t heads = rig_between(rig, 1, 4);
	const uint32_t head_dim = rig_between(rig, 1, 128) * 2;
	const uint32_t rot =
		rig_between(rig, 0, 3) ? head_dim : rig_between(rig, 1, head_dim / 2) * 2;
	const size_t bytes = (size_t)heads * head_dim * sizeof(float);
	const size_t half_bytes = rot / 2 * sizeof(float);
	float *a = rig_buffer(bytes);
	float *b = rig_buffer(bytes);
	float *c = rig_buffer(half_bytes);
	float *s = rig_buffer(half_bytes);
	bool same = true;

	bn_rope_angles(c, s, rig_between(rig, 0, 5000), rot, 500000.0);
	for (int style = BN_ROPE_NEOX; style <= BN_ROPE_NORM; style++) {
		fill(rig, a, heads * head_dim);
		memcpy(b, a, bytes);
		v->rope(a, c, s, heads, head_dim, rot, (enum bn_rope_style)style);
		o->rope(b, c, s, heads, head_dim, rot, (enum bn_rope_style)style);
		same &= rig_same(a, b, (size_t)heads * head_dim);
	}
	rig_release(a, bytes);
	rig_release(b, bytes);
	rig_release(c, half_bytes);
	rig_release(s, half_bytes);
	return same;
}

bool rig_compare_vec(struct rig *rig, const struct bn_vec *v, uint32_t n_max)
{
	const struct bn_vec *o = &bn_vec_scalar;
	struct floats f;
	const char *broken = NULL;

	floats_init(&f, rig, n_max);
	if (!same_norm(&f, v, o)) {
		broken = "rmsnorm";
	} else if (!same_quantize(&f, v, o)) {
		broken = "quantize or norm_quantize";
	} else if (!same_gate(&f, v, o)) {
		broken = "gate";
	} else if (!same_half(rig, &f, v, o)) {
		broken = "to_half";
	} else if (!same_rope(rig, v, o)) {
		broken = "rope";
	}
	const uint32_t n = f.n;
	floats_finish(&f);
	return broken == NULL ? true : FAIL(rig, "%s: %s of %u", v->name, broken, n);
}

/* ---- attention ---------------------------------------------------------------------------- */

struct heads {
	struct bn_attend_state state[BN_GROUP_MAX];
	float *acc;
};

bool rig_compare_attend(struct rig *rig, const struct bn_vec *v)
{
	const struct bn_vec *o = &bn_vec_scalar;
	static const uint32_t dims[] = { 64, 128, 256, 80, 96, 100, 48, 32, 16, 8 };
	const uint32_t head_dim = rig_between(rig, 0, 2) ? dims[rig_between(rig, 0, 9)]
							 : rig_between(rig, 1, BN_HEAD_DIM_MAX);
	const uint32_t group = rig_between(rig, 1, BN_GROUP_MAX);
	const size_t bytes = (size_t)group * head_dim * sizeof(float);
	float *q = rig_buffer(bytes);
	float *out = rig_buffer(head_dim * sizeof(float));
	float *expected = rig_buffer(head_dim * sizeof(float));
	struct heads h[3]; /* the set under test, the oracle, the set under test head by head */
	bool same = true;

	for (unsigned i = 0; i < 3; i++) {
		h[i].acc = rig_buffer(bytes);
		memset(h[i].acc, 0, bytes);
		for (uint32_t g = 0; g < group; g++) {
			h[i].state[g] = (struct bn_attend_state){ -INFINITY, 0.0f };
		}
	}
	for (uint32_t i = 0; i < group * head_dim; i++) {
		q[i] = rig_float(rig, 0.3f);
	}
	for (unsigned block = 0; block < 3 && same; block++) {
		const uint32_t count = block < 2 && rig_between(rig, 0, 1)
					       ? BN_ATTEND_BLOCK
					       : rig_between(rig, 1, BN_ATTEND_BLOCK);
		const size_t kv_bytes = (size_t)count * head_dim * sizeof(uint16_t);
		uint16_t *k = rig_buffer(kv_bytes);
		uint16_t *val = rig_buffer(kv_bytes);
		const float range = rig_between(rig, 0, 3) ? 3.0f : 0.0f;
		for (size_t i = 0; i < (size_t)count * head_dim; i++) {
			k[i] = bn_float_to_half(rig_float(rig, range));
			val[i] = bn_float_to_half(rig_float(rig, 2.0f));
		}
		v->attend(h[0].state, h[0].acc, q, k, val, count, group, head_dim);
		o->attend(h[1].state, h[1].acc, q, k, val, count, group, head_dim);
		for (uint32_t g = 0; g < group; g++) {
			v->attend(&h[2].state[g], h[2].acc + g * head_dim, q + g * head_dim, k, val,
				  count, 1, head_dim);
		}
		rig_release(k, kv_bytes);
		rig_release(val, kv_bytes);
		for (unsigned i = 0; i < 3; i += 2) {
			same &= memcmp(h[i].state, h[1].state, group * sizeof(h[i].state[0])) == 0;
			same &= memcmp(h[i].acc, h[1].acc, bytes) == 0;
		}
	}
	for (uint32_t g = 0; g < group; g++) {
		v->attend_finish(out, h[0].acc + g * head_dim, &h[0].state[g], head_dim);
		o->attend_finish(expected, h[1].acc + g * head_dim, &h[1].state[g], head_dim);
		same &= memcmp(out, expected, head_dim * sizeof(float)) == 0;
	}
	for (unsigned i = 0; i < 3; i++) {
		rig_release(h[i].acc, bytes);
	}
	rig_release(q, bytes);
	rig_release(out, head_dim * sizeof(float));
	rig_release(expected, head_dim * sizeof(float));
	return same ? true : FAIL(rig, "%s: attend of %u heads of %u", v->name, group, head_dim);
}

/* ---- dense rows --------------------------------------------------------------------------- */

static void store_u16(uint8_t *p, uint16_t x)
{
	p[0] = (uint8_t)x;
	p[1] = (uint8_t)(x >> 8);
}

void rig_dense_row(struct rig *rig, enum bn_dense_type type, uint8_t *row, uint32_t cols)
{
	const size_t bytes = bn_dense_row_bytes(type, cols);

	switch (type) {
	case BN_DENSE_F32:
		for (uint32_t c = 0; c < cols; c++) {
			const float x = rig_float(rig, 1.0f);
			memcpy(row + (size_t)c * 4, &x, sizeof(x));
		}
		return;
	case BN_DENSE_F16:
	case BN_DENSE_BF16:
		for (uint32_t c = 0; c < cols; c++) {
			const float x = rig_float(rig, 1.0f);
			store_u16(row + (size_t)c * 2,
				  type == BN_DENSE_F16 ? bn_float_to_half(x) : bn_float_to_bf16(x));
		}
		return;
	default:
		for (size_t i = 0; i < bytes; i++) {
			row[i] = (uint8_t)rig_random(rig);
		}
		/* Scales are the last or first two bytes of a block: make them finite. */
		const size_t block =
			type == BN_DENSE_Q8_0 ? sizeof(struct bn_q8_0) : sizeof(struct bn_q6_k);
		for (size_t at = 0; at < bytes; at += block) {
			store_u16(row + at + (type == BN_DENSE_Q8_0 ? 0 : block - 2),
				  bn_float_to_half(rig_float(rig, 0.02f)));
		}
		return;
	}
}

bool rig_compare_dense(struct rig *rig, const struct bn_dense *d, uint32_t rows_max,
		       uint32_t cols_max, uint32_t tokens_max)
{
	const struct bn_dense *o = &bn_dense_scalar[d->type];
	const uint32_t unit = d->type == BN_DENSE_Q6_K ? 256 : d->type == BN_DENSE_Q8_0 ? 32 : 1;
	const uint32_t cols = rig_between(rig, 1, (cols_max + unit - 1) / unit) * unit;
	const uint32_t rows = rig_between(rig, 1, rows_max);
	const uint32_t n = rig_between(rig, 1, tokens_max);
	const size_t x_stride = cols + rig_between(rig, 0, 3);
	const size_t out_stride = rows + rig_between(rig, 0, 3);
	const size_t row_bytes = bn_dense_row_bytes(d->type, cols);
	const size_t bytes = rows * row_bytes;
	const size_t x_bytes = ((n - 1) * x_stride + cols) * sizeof(float);
	const size_t out_bytes = ((n - 1) * out_stride + rows) * sizeof(float);
	const size_t decoded_bytes = cols * sizeof(float);
	uint8_t *w = rig_buffer(bytes);
	float *x = rig_buffer(x_bytes);
	float *a = rig_buffer(out_bytes);
	float *b = rig_buffer(out_bytes);
	float *da = rig_buffer(decoded_bytes);
	float *db = rig_buffer(decoded_bytes);
	bool decodes, whole_same, slices_same = true, singles_same;

	for (uint32_t r = 0; r < rows; r++) {
		rig_dense_row(rig, d->type, w + r * row_bytes, cols);
	}
	for (size_t i = 0; i < x_bytes / sizeof(float); i++) {
		x[i] = rig_float(rig, 1.0f);
	}
	d->decode(da, w + (rows - 1) * row_bytes, cols);
	o->decode(db, w + (rows - 1) * row_bytes, cols);
	decodes = memcmp(da, db, decoded_bytes) == 0;

	d->mul(a, out_stride, w, cols, x, x_stride, n, 0, rows);
	o->mul(b, out_stride, w, cols, x, x_stride, n, 0, rows);
	whole_same = memcmp(a, b, out_bytes) == 0;

	memset(a, 0xa5, out_bytes);
	for (uint32_t r = 0; r < rows;) {
		const uint32_t step = rig_between(rig, 1, 9);
		const uint32_t end = rows - r < step ? rows : r + step;
		d->mul(a, out_stride, w, cols, x, x_stride, n, r, end);
		r = end;
	}
	slices_same = memcmp(a, b, out_bytes) == 0;

	memset(a, 0xa5, out_bytes);
	for (uint32_t t = 0; t < n; t++) {
		d->mul(a + t * out_stride, out_stride, w, cols, x + t * x_stride, x_stride, 1, 0,
		       rows);
	}
	singles_same = memcmp(a, b, out_bytes) == 0;

	rig_release(w, bytes);
	rig_release(x, x_bytes);
	rig_release(a, out_bytes);
	rig_release(b, out_bytes);
	rig_release(da, decoded_bytes);
	rig_release(db, decoded_bytes);
	if (!decodes || !whole_same || !slices_same || !singles_same) {
		return FAIL(rig, "%s: %s of %ux%u with %u tokens", d->name,
			    !decodes       ? "decode"
			    : !whole_same  ? "product"
			    : !slices_same ? "slices of rows"
					   : "tokens one by one",
			    rows, cols, n);
	}
	return true;
}

/* ---- the same bits on every architecture -------------------------------------------------- */

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < bytes; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	}
	return h;
}

static uint64_t hash_dense(struct rig *rig, uint64_t h)
{
	enum { COLS = 768, TOKENS = 3 };
	uint8_t rows[COLS * 4];
	float x[TOKENS * COLS], out[TOKENS];

	for (int i = 0; i < TOKENS * COLS; i++) {
		x[i] = rig_float(rig, 1.0f);
	}
	for (int type = 0; type < BN_DENSE_TYPE_COUNT; type++) {
		rig_dense_row(rig, (enum bn_dense_type)type, rows, COLS);
		bn_dense_scalar[type].mul(out, 1, rows, COLS, x, COLS, TOKENS, 0, 1);
		h = hash(h, out, sizeof(out));
	}
	return h;
}

static uint64_t hash_attend(struct rig *rig, uint64_t h)
{
	enum { DIM = 100, GROUP = 3, COUNT = 99 };
	struct bn_attend_state state[GROUP];
	uint16_t k[COUNT * DIM], v[COUNT * DIM];
	float q[GROUP * DIM], acc[GROUP * DIM] = { 0 }, out[DIM];

	for (int i = 0; i < GROUP; i++) {
		state[i] = (struct bn_attend_state){ -INFINITY, 0.0f };
	}
	for (int i = 0; i < GROUP * DIM; i++) {
		q[i] = rig_float(rig, 0.5f);
	}
	for (int i = 0; i < COUNT * DIM; i++) {
		k[i] = bn_float_to_half(rig_float(rig, 2.0f));
		v[i] = bn_float_to_half(rig_float(rig, 2.0f));
	}
	bn_vec_scalar.attend(state, acc, q, k, v, COUNT, GROUP, DIM);
	for (int i = 0; i < GROUP; i++) {
		bn_vec_scalar.attend_finish(out, acc + i * DIM, &state[i], DIM);
		h = hash(h, out, sizeof(out));
	}
	return hash(h, state, sizeof(state));
}

uint64_t rig_digest(void)
{
	enum { N = 999 };
	const struct bn_vec *v = &bn_vec_scalar;
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	struct rig rig;
	float x[N], y[N], out[N], scale;
	int8_t q[1024];

	rig_init(&rig, 2402);
	for (int i = 0; i < N; i++) {
		x[i] = rig_float(&rig, 20.0f);
		y[i] = rig_float(&rig, 2.0f);
	}
	v->rmsnorm(out, x, y, N, 1e-5f);
	h = hash(h, out, sizeof(out));
	v->norm_quantize(q, &scale, x, y, N, 1024, 1e-5f);
	h = hash(hash(h, q, sizeof(q)), &scale, sizeof(scale));
	v->gate(out, x, y, N, BN_ACT_SILU);
	h = hash(h, out, sizeof(out));
	v->gate(out, x, y, N, BN_ACT_RELU2);
	h = hash(h, out, sizeof(out));
	v->rope(x, y, y + 400, 9, 110, 100, BN_ROPE_NEOX);
	v->rope(x, y, y + 400, 9, 110, 100, BN_ROPE_NORM);
	h = hash(h, x, sizeof(x));
	return hash_dense(&rig, hash_attend(&rig, h));
}
