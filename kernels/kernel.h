/*
 * The kernel contract: what a ternary matrix product is, how its weights lie in memory, and the
 * two promises every product keeps.
 *
 * Nothing in kernels/ allocates, fails, logs, locks, spawns threads or holds mutable globals.
 *
 * Exactness. A ternary weight times an int8 activation is an integer, and so is the sum. A kernel
 * marked `exact` gives the same int32 sums as kernels/scalar.c for every input, and the same float
 * epilogue (bn_epilogue), hence the same bits. A tolerance in a test of one is a bug report.
 *
 * Memory. A kernel reads only the packed bytes, whole activation rows up to `stride`, and writes
 * only out[t, r] of its rows. It may prefetch past all of them. Padding rows and columns exist in
 * packed weights alone.
 *
 * Batch independence. Row t of a batch gets the same bits alone or among thirty neighbours, and
 * rows [r0, r1) of a matrix get the same bits whoever computes them.
 */
#ifndef BN_KERNELS_KERNEL_H
#define BN_KERNELS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_trits;

/*
 * How packed weights lie in memory. Numbers are ours and never leave the process.
 * kernels/README.md draws each of them bit by bit.
 */
enum bn_layout {
	/* 2 bits, sixteen rows side by side: a 64-byte line is 16 rows x 16 columns. */
	BN_LAYOUT_I2S16,
	/* 4 bits index one of nine sums of two activations; 32 rows side by side. */
	BN_LAYOUT_TL1,
	/* 4 bits index one of fourteen sums of three activations, one bit turns its sign. */
	BN_LAYOUT_TL2,
	BN_LAYOUT_COUNT,
};

/*
 * Activations of n tokens, quantized per token: real value = q * scale.
 * q is [n, stride] int8, row-major, 64-byte aligned, stride a multiple of 64 and >= cols; bytes
 * from cols to stride are zero. Values are in -127..127 (absmax quantization reaches no further),
 * but kernels must be exact for -128 too.
 */
struct bn_acts {
	const int8_t *q;
	const float *scale; /* [n] */
	const int32_t *sum; /* [n] sum of the row's q, what an offset of -1 in the codes costs */
	uint32_t n;
	uint32_t cols;
	uint32_t stride;
};

/* One product: out[t, r] = (sum over c of w[r, c] * q[t, c]) * (scale * acts->scale[t]). */
struct bn_mul {
	const void *packed; /* as bn_kernel.pack wrote it */
	const struct bn_acts *acts;
	const void *prep;  /* what bn_kernel.prep made of acts, NULL when prep is NULL */
	float *out;        /* [acts->n, out_stride] */
	size_t out_stride; /* floats between two tokens */
	uint32_t rows;
	uint32_t cols;
	float scale;     /* of the weights */
	bool accumulate; /* add to out instead of storing: the residual stream */
};

/* The float end of every product: two roundings, in this order, on every processor. */
static inline float bn_epilogue(int32_t sum, float weight_scale, float act_scale)
{
	return (float)sum * (weight_scale * act_scale);
}

/* Sums of longer rows would not fit int32 (2 * 128 * cols). */
#define BN_KERNEL_COLS_MAX ((UINT32_C(1) << 23) - 1)

/* Const, shared by everybody. One per (layout, instruction set). */
struct bn_kernel {
	const char *name; /* "i2s.vnni": what config, log, metrics and results say */
	enum bn_layout layout;
	uint64_t needs;    /* BN_CPU_* bits, all of them required */
	uint32_t row_step; /* slices handed to lanes begin and end on a multiple of this */
	bool exact;

	/* Can this kernel hold a [rows, cols] matrix? Beyond BN_KERNEL_COLS_MAX none can. */
	bool (*fits)(uint32_t rows, uint32_t cols);

	/* Bytes of a packed matrix, 64-byte alignment assumed. Offset of the slice that starts at
	 * row r (a multiple of row_step) is packed_bytes(r, cols): slices can be packed and
	 * multiplied by different lanes. */
	size_t (*packed_bytes)(uint32_t rows, uint32_t cols);

	/* Packs rows [row0, row1) of src into dst, the start of the whole packed matrix. row0 is a
	 * multiple of row_step, row1 too or src's row count. Any number of lanes at once. */
	void (*pack)(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1);

	/* Optional three: a rearranged form of the activations (look-up tables), made once per
	 * input and shared by all products with it. 0 and NULL when the kernel reads bn_acts as it
	 * is. The work falls into pieces of prep_cols columns, bn_kernel_pieces to a token,
	 * numbered token after token; prep makes pieces [from, to), any number of lanes at once.
	 * dst is 64-byte aligned and has prep_bytes(cols, n) bytes. */
	uint32_t prep_cols;
	size_t (*prep_bytes)(uint32_t cols, uint32_t n);
	void (*prep)(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to);

	/* Rows [row0, row1) of the product for all acts->n tokens (n >= 1, any n). */
	void (*mul)(const struct bn_mul *m, uint32_t row0, uint32_t row1);
};

/* Pieces of one token for a kernel that has prep. */
static inline uint32_t bn_kernel_pieces(const struct bn_kernel *k, uint32_t cols)
{
	return (cols + k->prep_cols - 1) / k->prep_cols;
}

/* Every kernel compiled into this binary, best first, the scalar ones last. Returns the count. */
size_t bn_kernels(const struct bn_kernel *const **list);

/* NULL when the name is unknown (a kernel this processor cannot run is still found). */
const struct bn_kernel *bn_kernel_find(const char *name);

/* Does `name`, as configurations write it, mean this kernel? It may be the whole name, "tl2.avx2",
 * or that of a family, "tl2": every kernel in front of whose dot it stands. */
bool bn_kernel_named(const struct bn_kernel *k, const char *name);

/* The best kernel for a matrix on a processor with features `cpu` (cpu.h). Never NULL without
 * `only`: the scalar ones fit everything with cols in 1..BN_KERNEL_COLS_MAX. `only` (may be NULL)
 * restricts to a NULL-terminated list of names as bn_kernel_named reads them, in order of
 * preference; NULL is returned when none of them runs here. */
const struct bn_kernel *bn_kernel_choose(uint64_t cpu, uint32_t rows, uint32_t cols,
					 const char *const *only);

/* Multiplies a small fixed random matrix with the kernel and with i2s.scalar, over ragged shapes
 * and 1..9 tokens; true when all bits agree. Takes about a millisecond, uses 96 KiB of stack at
 * most, no heap. Run before a kernel is trusted on a processor. */
bool bn_kernel_self_test(const struct bn_kernel *k);

#endif
