#include "tests/kernels/rig.h"

#include "kernels/cpu.h"
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/tables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAIL(rig, ...) (snprintf((rig)->why, RIG_WHY, __VA_ARGS__), false)

void rig_init(struct rig *rig, uint64_t seed)
{
	rig->seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	rig->why[0] = '\0';
}

uint64_t rig_cpu(void)
{
	char text[128];
	const char *names[16];
	size_t n = 0;
	const char *mask = getenv("BN_TEST_MASK");

	snprintf(text, sizeof(text), "%s", mask != NULL ? mask : "");
	for (char *save = NULL, *w = strtok_r(text, " ", &save); w != NULL && n < 16;
	     w = strtok_r(NULL, " ", &save)) {
		names[n++] = w;
	}
	return bn_cpu_mask(bn_cpu_features(), names, n);
}

uint32_t rig_random(struct rig *rig)
{
	rig->seed ^= rig->seed << 13;
	rig->seed ^= rig->seed >> 7;
	rig->seed ^= rig->seed << 17;
	return (uint32_t)(rig->seed >> 32);
}

uint32_t rig_between(struct rig *rig, uint32_t low, uint32_t high)
{
	return low + rig_random(rig) % (high - low + 1);
}

float rig_float(struct rig *rig, float range)
{
	return ((float)(rig_random(rig) >> 8) * 0x1p-23f - 1.0f) * range;
}

float rig_any_float(struct rig *rig)
{
	return bn_bits_float(rig_random(rig));
}

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t buffer_pages(size_t bytes)
{
	return (bytes + page_size() - 1) / page_size() * page_size();
}

void *rig_buffer(size_t bytes)
{
	const size_t page = page_size();
	const size_t inner = buffer_pages(bytes);
	uint8_t *p = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || (inner > 0 && mprotect(p + page, inner, PROT_READ | PROT_WRITE))) {
		perror("mmap");
		abort();
	}
	uint8_t *start = p + page + inner - bytes;
	memset(start, 0xa5, bytes);
	return start;
}

void rig_release(void *buffer, size_t bytes)
{
	const size_t inner = buffer_pages(bytes);

	if (buffer != NULL) {
		munmap((uint8_t *)buffer + bytes - inner - page_size(), inner + 2 * page_size());
	}
}

bool rig_same(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bn_float_bits(a[i]) != bn_float_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) {
			return false;
		}
	}
	return true;
}

/* ---- ternary products --------------------------------------------------------------------- */

struct product {
	uint32_t rows, cols, n, stride;
	size_t out_stride, codes_bytes, packed_bytes, q_bytes, out_bytes;
	uint8_t *codes;
	uint8_t *packed;
	int8_t *q;
	float *scale;
	int32_t *sum;
	float *out;
	float *expected;
	struct bn_trits trits;
	struct bn_acts acts;
	struct bn_mul mul;
};

static void product_init(struct product *p, struct rig *rig, const struct bn_kernel *k,
			 uint32_t rows, uint32_t cols, uint32_t n, bool extremes)
{
	*p = (struct product){ .rows = rows, .cols = cols, .n = n };
	p->stride = (cols + 63) / 64 * 64;
	p->out_stride = rows + rig_between(rig, 0, 5);
	const size_t code_stride = bn_trits_stride(cols) + rig_between(rig, 0, 3);
	p->codes_bytes = (rows - 1) * code_stride + bn_trits_stride(cols);
	p->packed_bytes = k->packed_bytes(rows, cols);
	p->q_bytes = (size_t)n * p->stride;
	p->out_bytes = ((n - 1) * p->out_stride + rows) * sizeof(float);
	p->codes = rig_buffer(p->codes_bytes);
	p->packed = rig_buffer(p->packed_bytes);
	p->q = rig_buffer(p->q_bytes);
	p->scale = rig_buffer(n * sizeof(float));
	p->sum = rig_buffer(n * sizeof(int32_t));
	p->out = rig_buffer(p->out_bytes);
	p->expected = rig_buffer(p->out_bytes);

	const uint32_t side = rig_between(rig, 0, 1) * 2;
	for (size_t i = 0; i < p->codes_bytes; i++) {
		p->codes[i] = 0;
		for (unsigned g = 0; g < 4; g++) {
			const uint32_t code = extremes ? side : rig_between(rig, 0, 2);
			p->codes[i] = (uint8_t)(p->codes[i] | code << (2 * g));
		}
	}
	memset(p->q, 0, p->q_bytes);
	for (uint32_t t = 0; t < n; t++) {
		p->scale[t] = rig_float(rig, 0.1f);
		p->sum[t] = 0;
		for (uint32_t c = 0; c < cols; c++) {
			const int8_t v = extremes ? (t % 2 == 0 ? INT8_MIN : INT8_MAX)
						  : (int8_t)(rig_between(rig, 0, 255) - 128);
			p->q[(size_t)t * p->stride + c] = v;
			p->sum[t] += v;
		}
	}
	p->trits = (struct bn_trits){ p->codes, code_stride, rows, cols };
	p->acts = (struct bn_acts){ p->q, p->scale, p->sum, n, cols, p->stride };
	p->mul = (struct bn_mul){
		.packed = p->packed,
		.acts = &p->acts,
		.out = p->out,
		.out_stride = p->out_stride,
		.rows = rows,
		.cols = cols,
		.scale = rig_float(rig, 2.0f),
	};
	k->pack(p->packed, &p->trits, 0, rows);

	/* The definition of the product, from the unpacked weights. */
	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t r = 0; r < rows; r++) {
			int32_t s = 0;
			for (uint32_t c = 0; c < cols; c++) {
				s += bn_trit(&p->trits, r, c) * p->q[(size_t)t * p->stride + c];
			}
			p->expected[t * p->out_stride + r] =
				bn_epilogue(s, p->mul.scale, p->scale[t]);
		}
	}
}

static void product_finish(struct product *p)
{
	rig_release(p->codes, p->codes_bytes);
	rig_release(p->packed, p->packed_bytes);
	rig_release(p->q, p->q_bytes);
	rig_release(p->scale, p->n * sizeof(float));
	rig_release(p->sum, p->n * sizeof(int32_t));
	rig_release(p->out, p->out_bytes);
	rig_release(p->expected, p->out_bytes);
}

/* The floats between two tokens belong to somebody else: expected holds 0xa5 there, as out does. */
static bool whole(struct product *p, const struct bn_kernel *k)
{
	memset(p->out, 0xa5, p->out_bytes);
	k->mul(&p->mul, 0, p->rows);
	return memcmp(p->out, p->expected, p->out_bytes) == 0;
}

static bool accumulating(struct product *p, const struct bn_kernel *k)
{
	bool same = true;

	for (uint32_t i = 0; i < p->out_bytes / sizeof(float); i++) {
		p->out[i] = (float)i * 0.37f;
	}
	p->mul.accumulate = true;
	k->mul(&p->mul, 0, p->rows);
	p->mul.accumulate = false;
	for (uint32_t t = 0; t < p->n; t++) {
		for (uint32_t r = 0; r < p->rows; r++) {
			const size_t i = t * p->out_stride + r;
			const float y = (float)i * 0.37f + p->expected[i];
			same &= memcmp(&p->out[i], &y, sizeof(y)) == 0;
		}
	}
	return same;
}

static bool singles(struct product *p, const struct bn_kernel *k)
{
	struct bn_acts one = p->acts;
	struct bn_mul m = p->mul;

	memset(p->out, 0xa5, p->out_bytes);
	one.n = 1;
	m.acts = &one;
	for (uint32_t t = 0; t < p->n; t++) {
		one.q = p->q + (size_t)t * p->stride;
		one.scale = p->scale + t;
		one.sum = p->sum + t;
		m.out = p->out + t * p->out_stride;
		k->mul(&m, 0, p->rows);
	}
	return memcmp(p->out, p->expected, p->out_bytes) == 0;
}

/* Packs and multiplies in random slices, in random order of two passes. */
static bool slices(struct product *p, struct rig *rig, const struct bn_kernel *k)
{
	uint8_t *packed = rig_buffer(p->packed_bytes);
	struct bn_mul m = p->mul;
	bool same;

	m.packed = packed;
	memset(p->out, 0xa5, p->out_bytes);
	for (uint32_t r = 0; r < p->rows;) {
		const uint32_t step = rig_between(rig, 1, 4) * k->row_step;
		const uint32_t end = p->rows - r < step ? p->rows : r + step;
		k->pack(packed, &p->trits, r, end);
		r = end;
	}
	same = memcmp(packed, p->packed, p->packed_bytes) == 0;
	for (uint32_t r = 0; r < p->rows;) {
		const uint32_t step = rig_between(rig, 1, 5) * k->row_step;
		const uint32_t end = p->rows - r < step ? p->rows : r + step;
		k->mul(&m, r, end);
		r = end;
	}
	same &= memcmp(p->out, p->expected, p->out_bytes) == 0;
	rig_release(packed, p->packed_bytes);
	return same;
}

bool rig_compare_kernel_shape(struct rig *rig, const struct bn_kernel *k, uint32_t rows,
			      uint32_t cols, uint32_t n, bool extremes)
{
	struct product p;
	const char *broken = NULL;

	product_init(&p, rig, k, rows, cols, n, extremes);
	if (!whole(&p, k)) {
		broken = "the product";
	} else if (!accumulating(&p, k)) {
		broken = "accumulate";
	} else if (!singles(&p, k)) {
		broken = "tokens one by one";
	} else if (!slices(&p, rig, k)) {
		broken = "slices of rows";
	}
	product_finish(&p);
	if (broken != NULL) {
		return FAIL(rig, "%s: %s of %ux%u with %u tokens%s", k->name, broken, rows, cols, n,
			    extremes ? ", extreme values" : "");
	}
	return true;
}

bool rig_compare_kernel(struct rig *rig, const struct bn_kernel *k, uint32_t rows_max,
			uint32_t cols_max, uint32_t tokens_max)
{
	const uint32_t rows = rig_between(rig, 1, rows_max);
	const uint32_t cols = rig_between(rig, 1, cols_max);
	const uint32_t n = rig_between(rig, 1, tokens_max);

	return rig_compare_kernel_shape(rig, k, rows, cols, n, rig_between(rig, 0, 9) == 0);
}

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

	for (int act = BN_ACT_SILU; act <= BN_ACT_RELU2; act++) {
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
	const uint32_t rot = rig_between(rig, 0, 3) ? head_dim : rig_between(rig, 1, head_dim / 2) * 2;
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
	return same ? true
		    : FAIL(rig, "%s: attend of %u heads of %u", v->name, group, head_dim);
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
			store_u16(row + (size_t)c * 2, type == BN_DENSE_F16
							       ? bn_float_to_half(x)
							       : bn_float_to_bf16(x));
		}
		return;
	default:
		for (size_t i = 0; i < bytes; i++) {
			row[i] = (uint8_t)rig_random(rig);
		}
		/* Scales are the last or first two bytes of a block: make them finite. */
		const size_t block = type == BN_DENSE_Q8_0 ? sizeof(struct bn_q8_0)
							   : sizeof(struct bn_q6_k);
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
			    !decodes	    ? "decode"
			    : !whole_same   ? "product"
			    : !slices_same  ? "slices of rows"
					    : "tokens one by one",
			    rows, cols, n);
	}
	return true;
}
