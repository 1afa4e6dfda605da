/*
 * Block sizes are facts of the file format. Most types divide each row into blocks; I2_S and TL1
 * divide the flattened tensor and end in a 32-byte line with the scale; the IQ_BN types put a
 * scale in front of each row; TL2 has a formula of its own.
 */
#include "engine/ggml.h"

#include <stddef.h>

enum shape {
	ROWS, /* blocks along the innermost dimension */
	FLAT, /* blocks over the whole tensor, then BITNET_TAIL bytes */
	TL2,
};

/* A line of 32 bytes after the trits of the BitNet types: float scale, zeros. */
enum { BITNET_TAIL = 32 };

struct type_row {
	const char *name;
	uint16_t block; /* weights per block          */
	uint16_t block_bytes;
	uint16_t row_bytes; /* extra bytes before each row */
	enum shape shape;
};

#define T(symbol, name, block, bytes) [BN_GGML_##symbol] = { name, block, bytes, 0, ROWS }
static const struct type_row types[] = {
	T(F32, "f32", 1, 4),
	T(F16, "f16", 1, 2),
	T(BF16, "bf16", 1, 2),
	T(F64, "f64", 1, 8),
	T(I8, "i8", 1, 1),
	T(I16, "i16", 1, 2),
	T(I32, "i32", 1, 4),
	T(I64, "i64", 1, 8),
	T(Q4_0, "q4_0", 32, 18),
	T(Q4_1, "q4_1", 32, 20),
	T(Q5_0, "q5_0", 32, 22),
	T(Q5_1, "q5_1", 32, 24),
	T(Q8_0, "q8_0", 32, 34),
	T(Q8_1, "q8_1", 32, 36),
	T(Q2_K, "q2_k", 256, 84),
	T(Q3_K, "q3_k", 256, 110),
	T(Q4_K, "q4_k", 256, 144),
	T(Q5_K, "q5_k", 256, 176),
	T(Q6_K, "q6_k", 256, 210),
	T(Q8_K, "q8_k", 256, 292),
	T(IQ2_XXS, "iq2_xxs", 256, 66),
	T(IQ2_XS, "iq2_xs", 256, 74),
	T(IQ3_XXS, "iq3_xxs", 256, 98),
	T(IQ1_S, "iq1_s", 256, 50),
	T(IQ4_NL, "iq4_nl", 32, 18),
	T(IQ3_S, "iq3_s", 256, 110),
	T(IQ2_S, "iq2_s", 256, 82),
	T(IQ4_XS, "iq4_xs", 256, 136),
	T(IQ1_M, "iq1_m", 256, 56),
	T(TQ1_0, "tq1_0", 256, 54),
	T(TQ2_0, "tq2_0", 256, 66),
	T(MXFP4, "mxfp4", 32, 17),
	[BN_GGML_I2_S] = { "i2_s", 128, 32, 0, FLAT },
	[BN_GGML_TL1] = { "tl1", 4, 1, 0, FLAT },
	[BN_GGML_TL2] = { "tl2", 1, 0, 0, TL2 },
	[BN_GGML_IQ1_BN] = { "iq1_bn", 64, 13, 2, ROWS },
	[BN_GGML_IQ2_BN] = { "iq2_bn", 64, 16, 4, ROWS },
	[BN_GGML_IQ2_BN_R4] = { "iq2_bn_r4", 64, 16, 4, ROWS },
};
#undef T

static const struct type_row *row(uint32_t type)
{
	if (type >= sizeof(types) / sizeof(types[0]) || types[type].name == NULL) {
		return NULL;
	}
	return &types[type];
}

/*
 * M rows of K columns: three weights in 5 bits for all columns but 256, two in 4 bits for those,
 * whole lines of 32, and the tail. Integer divisions left to right, as the writer does them.
 */
static enum bn_ggml_verdict tl2_bytes(uint64_t cols, uint64_t rows, uint64_t *nbytes)
{
	uint64_t three, two, sum;

	if (cols < 256) {
		return BN_GGML_RAGGED;
	}
	if (__builtin_mul_overflow(cols - 256, rows, &three) ||
	    __builtin_mul_overflow(three / 3, 5u, &three) ||
	    __builtin_mul_overflow(rows, 128u * 4u, &two) ||
	    __builtin_add_overflow(three / 8, two / 8, &sum) ||
	    __builtin_add_overflow(sum, 31u + BITNET_TAIL, &sum)) {
		return BN_GGML_OVERFLOWS;
	}
	*nbytes = sum & ~UINT64_C(31);
	return BN_GGML_FITS;
}

const char *bn_ggml_name(uint32_t type)
{
	return row(type) == NULL ? NULL : row(type)->name;
}

uint32_t bn_ggml_block(uint32_t type)
{
	return row(type) == NULL ? 0 : row(type)->block;
}

enum bn_ggml_verdict bn_ggml_nbytes(uint32_t type, uint32_t n_dims, const uint64_t *dims,
				    uint64_t *nbytes)
{
	const struct type_row *t = row(type);
	uint64_t rows = 1, n, bytes, extra = 0;
	enum bn_ggml_verdict verdict;

	if (n_dims < 1 || n_dims > BN_GGML_MAX_DIMS) {
		return BN_GGML_EMPTY;
	}
	for (uint32_t i = 0; i < n_dims; i++) {
		if (dims[i] == 0) {
			return BN_GGML_EMPTY;
		}
	}
	for (uint32_t i = 1; i < n_dims; i++) {
		if (__builtin_mul_overflow(rows, dims[i], &rows)) {
			return BN_GGML_OVERFLOWS;
		}
	}
	if (__builtin_mul_overflow(rows, dims[0], &n) || n > INT64_MAX) {
		return BN_GGML_OVERFLOWS;
	}
	if (t == NULL) {
		return BN_GGML_UNKNOWN;
	}
	switch (t->shape) {
	case TL2:
		verdict = tl2_bytes(dims[0], rows, &bytes);
		if (verdict != BN_GGML_FITS) {
			return verdict;
		}
		break;
	case FLAT:
		if (n % t->block != 0) {
			return BN_GGML_RAGGED;
		}
		/* Cannot overflow: at most a quarter of n, which fits 63 bits. */
		bytes = n / t->block * t->block_bytes + BITNET_TAIL;
		break;
	default:
		if (dims[0] % t->block != 0) {
			return BN_GGML_RAGGED;
		}
		if (__builtin_mul_overflow(n / t->block, (uint64_t)t->block_bytes, &bytes) ||
		    __builtin_mul_overflow(rows, (uint64_t)t->row_bytes, &extra) ||
		    __builtin_add_overflow(bytes, extra, &bytes)) {
			return BN_GGML_OVERFLOWS;
		}
	}
	if (bytes > INT64_MAX) {
		return BN_GGML_OVERFLOWS;
	}
	*nbytes = bytes;
	return BN_GGML_FITS;
}
