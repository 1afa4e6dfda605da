/*
 * Dense rows: the token embedding and the output head, which no ternary model quantizes to trits.
 * Stored as GGML block types, multiplied with float activations.
 *
 * Same bits on every processor: the order of sums is vec.h's sixteen-partials rule over columns,
 * on the decoded values (f16 and the block formats decode exactly or by one rounding, stated in
 * dense_scalar.c). A row's bits do not depend on how many rows or tokens are asked for.
 *
 * Rows lie one after the other without padding, on any byte; nothing past the rows, x or out is
 * touched (rows may be prefetched past their end). It re-encodes nothing.
 */
#ifndef BN_KERNELS_DENSE_H
#define BN_KERNELS_DENSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bn_dense_type {
	BN_DENSE_F32,
	BN_DENSE_F16,
	BN_DENSE_BF16,
	BN_DENSE_Q8_0, /* 32 weights: f16 scale, 32 int8              */
	BN_DENSE_Q6_K, /* 256 weights: 128 + 64 bytes, 16 int8, f16   */
	BN_DENSE_TYPE_COUNT,
};

struct bn_dense {
	const char *name; /* "f16.avx512" */
	enum bn_dense_type type;
	uint64_t needs;

	/* out[c] = row's weight c as float. */
	void (*decode)(float *out, const void *row, uint32_t cols);

	/* out[t * out_stride + r] = dot(row r, x[t]) for r in [row0, row1), t in [0, n).
	 * rows is the start of the matrix, x is [n, x_stride] floats. */
	void (*mul)(float *out, size_t out_stride, const void *rows, uint32_t cols, const float *x,
		    size_t x_stride, uint32_t n, uint32_t row0, uint32_t row1);
};

/* Bytes of one row; 0 when cols is no multiple of the type's block. */
size_t bn_dense_row_bytes(enum bn_dense_type type, uint32_t cols);

/* The best for these features; never NULL (scalar covers every type). */
const struct bn_dense *bn_dense_choose(enum bn_dense_type type, uint64_t cpu);

size_t bn_denses(const struct bn_dense *const **list);

#endif
