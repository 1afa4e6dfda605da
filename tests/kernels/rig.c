#include "tests/kernels/rig.h"

#include "kernels/cpu.h"
#include "kernels/half.h"

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
	size_t out_stride, codes_bytes, packed_bytes, prep_bytes, q_bytes, out_bytes;
	uint8_t *codes;
	uint8_t *packed;
	uint8_t *prep; /* NULL for a kernel without */
	int8_t *q;
	float *scale;
	int32_t *sum;
	float *out;
	float *expected;
	struct bn_trits trits;
	struct bn_acts acts;
	struct bn_mul mul;
};

/* In random slices, backwards: what lanes do in any order. */
static void prepare(struct rig *rig, const struct bn_kernel *k, uint8_t *prep,
		    const struct bn_acts *acts)
{
	for (uint32_t to = acts->n * bn_kernel_pieces(k, acts->cols); to > 0;) {
		const uint32_t some = rig_between(rig, 1, 9);
		const uint32_t from = to > some ? to - some : 0;

		k->prep(prep, acts, from, to);
		to = from;
	}
}

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
	if (k->prep != NULL) {
		p->prep_bytes = k->prep_bytes(cols, n);
		p->prep = rig_buffer(p->prep_bytes);
		prepare(rig, k, p->prep, &p->acts);
		p->mul.prep = p->prep;
	}

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
	rig_release(p->prep, p->prep_bytes);
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
		if (k->prep != NULL) {
			k->prep(p->prep, &one, 0, bn_kernel_pieces(k, p->cols));
		}
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
	if (k->prep != NULL) {
		prepare(rig, k, p->prep, &p->acts);
	}
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
