/*
 * Tables of what this binary holds, best first, and the choice by processor, shape and wish.
 *
 * The tables are const and complete at compile time: a kernel that is not listed here does not
 * exist, and one the processor lacks is listed but not chosen.
 */
#include "kernels/cpu.h"
#include "kernels/tables.h"
#include "kernels/trits.h"

#include <string.h>

/* clang-format off */
static const struct bn_kernel *const kernels[] = {
#if defined(__x86_64__)
	&bn_kernel_i2s_vnni,
	&bn_kernel_i2s_avxvnni,
	&bn_kernel_i2s_avx2,
	&bn_kernel_tl2_avx512,
	&bn_kernel_tl2_avx2,
#elif defined(__aarch64__)
	&bn_kernel_i2s_dotprod,
	&bn_kernel_i2s_neon,
	&bn_kernel_tl1_neon,
#endif
	&bn_kernel_i2s_scalar,
	&bn_kernel_tl2_scalar,
	&bn_kernel_tl1_scalar,
};
/* clang-format on */

static const struct bn_vec *const vecs[] = {
#if defined(__x86_64__)
	&bn_vec_avx512,
	&bn_vec_avx2,
#elif defined(__aarch64__)
	&bn_vec_neon,
#endif
	&bn_vec_scalar,
};

#define DENSES(table) &(table)[0], &(table)[1], &(table)[2], &(table)[3], &(table)[4]

static const struct bn_dense *const denses[] = {
#if defined(__x86_64__)
	DENSES(bn_dense_avx512),
	DENSES(bn_dense_avx2),
#elif defined(__aarch64__)
	DENSES(bn_dense_neon),
#endif
	DENSES(bn_dense_scalar),
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool runs(uint64_t needs, uint64_t cpu)
{
	return (needs & cpu) == needs;
}

size_t bn_kernels(const struct bn_kernel *const **list)
{
	*list = kernels;
	return COUNT(kernels);
}

const struct bn_kernel *bn_kernel_find(const char *name)
{
	for (size_t i = 0; i < COUNT(kernels); i++) {
		if (strcmp(kernels[i]->name, name) == 0) {
			return kernels[i];
		}
	}
	return NULL;
}

bool bn_kernel_named(const struct bn_kernel *k, const char *name)
{
	const size_t n = strlen(name);

	return strncmp(k->name, name, n) == 0 && (k->name[n] == '\0' || k->name[n] == '.');
}

/* The best one of that name; NULL as the name: of all. */
static const struct bn_kernel *best(uint64_t cpu, uint32_t rows, uint32_t cols, const char *name)
{
	for (size_t i = 0; i < COUNT(kernels); i++) {
		if (runs(kernels[i]->needs, cpu) && kernels[i]->fits(rows, cols) &&
		    (name == NULL || bn_kernel_named(kernels[i], name))) {
			return kernels[i];
		}
	}
	return NULL;
}

const struct bn_kernel *bn_kernel_choose(uint64_t cpu, uint32_t rows, uint32_t cols,
					 const char *const *only)
{
	const struct bn_kernel *k = NULL;

	if (only == NULL) {
		k = best(cpu, rows, cols, NULL);
		return k != NULL ? k : &bn_kernel_i2s_scalar;
	}
	for (; k == NULL && *only != NULL; only++) {
		k = best(cpu, rows, cols, *only);
	}
	return k;
}

size_t bn_vecs(const struct bn_vec *const **list)
{
	*list = vecs;
	return COUNT(vecs);
}

const struct bn_vec *bn_vec_choose(uint64_t cpu)
{
	for (size_t i = 0; i < COUNT(vecs); i++) {
		if (runs(vecs[i]->needs, cpu)) {
			return vecs[i];
		}
	}
	return &bn_vec_scalar;
}

size_t bn_denses(const struct bn_dense *const **list)
{
	*list = denses;
	return COUNT(denses);
}

const struct bn_dense *bn_dense_choose(enum bn_dense_type type, uint64_t cpu)
{
	for (size_t i = 0; i < COUNT(denses); i++) {
		if (denses[i]->type == type && runs(denses[i]->needs, cpu)) {
			return denses[i];
		}
	}
	return &bn_dense_scalar[type];
}

/* ---- self test ---------------------------------------------------------------------------- */

enum {
	TEST_ROWS = 70,
	TEST_COLS = 290, /* past one flush of int16 sums on 256 columns */
	TEST_STRIDE = 320,
	TEST_TOKENS = 9,
	TEST_PACKED = 3 * 19 * 128,            /* of the largest layout, TL1 */
	TEST_PREP = TEST_TOKENS * 19 * 8 * 32, /* of TL1 again               */
};

/* Marsaglia's xorshift32: fixed, fast, and nobody's secret. */
static uint32_t next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* What one self test works on; about 75 KiB, on the stack. */
struct bench {
	_Alignas(64) uint8_t packed[TEST_PACKED];
	_Alignas(64) uint8_t oracle_packed[TEST_PACKED];
	_Alignas(64) uint8_t prep[TEST_PREP];
	_Alignas(64) int8_t q[TEST_TOKENS * TEST_STRIDE];
	uint8_t codes[TEST_ROWS * (TEST_COLS + 3) / 4 + TEST_ROWS];
	float out[TEST_TOKENS * TEST_ROWS];
	float expected[TEST_TOKENS * TEST_ROWS];
	float scale[TEST_TOKENS];
	int32_t sum[TEST_TOKENS];
};

static bool shape_agrees(struct bench *s, const struct bn_kernel *k, uint32_t rows, uint32_t cols,
			 uint32_t n, uint32_t *seed)
{
	const struct bn_kernel *oracle = &bn_kernel_i2s_scalar;
	const struct bn_trits trits = { s->codes, bn_trits_stride(cols), rows, cols };
	const struct bn_acts acts = { s->q, s->scale, s->sum, n, cols, (cols + 63) / 64 * 64 };

	for (size_t i = 0; i < rows * trits.stride; i++) {
		/* Three codes: the remainder by three of each pair of random bits will do. */
		const uint32_t x = next(seed);
		s->codes[i] = (uint8_t)(x % 3 | (x >> 8) % 3 << 2 | (x >> 16) % 3 << 4 |
					(x >> 24) % 3 << 6);
	}
	memset(s->q, 0, sizeof(s->q));
	for (uint32_t t = 0; t < n; t++) {
		s->sum[t] = 0;
		s->scale[t] = (float)(t + 1) * 0.01f;
		for (uint32_t c = 0; c < cols; c++) {
			/* The last token is the extreme that overflows sums kept too narrow. */
			const int8_t q = t + 1 == n ? INT8_MIN : (int8_t)(uint8_t)next(seed);
			s->q[t * acts.stride + c] = q;
			s->sum[t] += q;
		}
	}
	if (k->packed_bytes(rows, cols) > sizeof(s->packed) ||
	    (k->prep != NULL && k->prep_bytes(cols, n) > sizeof(s->prep))) {
		return false;
	}
	k->pack(s->packed, &trits, 0, rows);
	if (k->prep != NULL) {
		k->prep(s->prep, &acts, 0, n * bn_kernel_pieces(k, cols));
	}
	oracle->pack(s->oracle_packed, &trits, 0, rows);

	struct bn_mul m = {
		.packed = s->packed,
		.acts = &acts,
		.out = s->out,
		.out_stride = rows,
		.rows = rows,
		.cols = cols,
		.scale = 0.7f,
	};
	memset(s->out, 0, sizeof(s->out));
	memset(s->expected, 0, sizeof(s->expected));
	for (int round = 0; round < 2; round++) {
		m.packed = s->packed;
		m.prep = k->prep != NULL ? s->prep : NULL;
		m.out = s->out;
		k->mul(&m, 0, rows);
		m.packed = s->oracle_packed;
		m.out = s->expected;
		oracle->mul(&m, 0, rows);
		m.accumulate = true;
	}
	return memcmp(s->out, s->expected, sizeof(s->out)) == 0;
}

bool bn_kernel_self_test(const struct bn_kernel *k)
{
	static const uint16_t shapes[][2] = {
		{ 1, 1 }, { 16, 16 }, { 15, 17 }, { 33, 64 }, { 48, 100 }, { TEST_ROWS, TEST_COLS },
	};
	struct bench s;
	uint32_t seed = 20240227;

	for (size_t i = 0; i < COUNT(shapes); i++) {
		for (uint32_t n = 1; n <= TEST_TOKENS; n++) {
			if (!shape_agrees(&s, k, shapes[i][0], shapes[i][1], n, &seed)) {
				return false;
			}
		}
	}
	return true;
}
