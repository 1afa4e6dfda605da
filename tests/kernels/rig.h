/*
 * What the kernel tests share: random numbers, buffers that end at a forbidden page, and the
 * comparisons of one table entry with the oracle. It needs no test library, so the same
 * comparisons run in the bare program for arm64 (arm64_main.c).
 *
 * A comparison returns true, or false with a sentence in `why`.
 */
#ifndef BN_TESTS_KERNELS_RIG_H
#define BN_TESTS_KERNELS_RIG_H

#include "kernels/dense.h"
#include "kernels/kernel.h"
#include "kernels/trits.h"
#include "kernels/vec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RIG_WHY = 256 };

struct rig {
	uint64_t seed;
	char why[RIG_WHY];
};

void rig_init(struct rig *rig, uint64_t seed);

/* Features of this processor less the words in $BN_TEST_MASK ("avx512 vnni"). */
uint64_t rig_cpu(void);

uint32_t rig_random(struct rig *rig);
/* In [low, high]. */
uint32_t rig_between(struct rig *rig, uint32_t low, uint32_t high);
/* Uniform in [-range, range]. */
float rig_float(struct rig *rig, float range);
/* Any bit pattern: NaN, infinities, denormals and all. */
float rig_any_float(struct rig *rig);

/* `bytes` bytes, filled with 0xa5; one step past their end is a fault, and so is one page before
 * their start. Aligned when bytes is a multiple of the alignment wanted. Never NULL. */
void *rig_buffer(size_t bytes);
void rig_release(void *buffer, size_t bytes);

/* memcmp of floats, any NaN equal to any NaN. */
bool rig_same(const float *a, const float *b, size_t n);

/* A product over a random shape of at most the given size: against trits times activations, with
 * and without accumulate, batch against singles, slices against the whole, slices packed apart. */
bool rig_compare_kernel(struct rig *rig, const struct bn_kernel *k, uint32_t rows_max,
			uint32_t cols_max, uint32_t tokens_max);

/* One exact shape; extremes: all activations -128 or 127, weights all one sign. */
bool rig_compare_kernel_shape(struct rig *rig, const struct bn_kernel *k, uint32_t rows,
			      uint32_t cols, uint32_t n, bool extremes);

/* Every function against the scalar set, lengths up to n_max. */
bool rig_compare_vec(struct rig *rig, const struct bn_vec *v, uint32_t n_max);
bool rig_compare_attend(struct rig *rig, const struct bn_vec *v);

/* decode and mul against the scalar entry of the type. */
bool rig_compare_dense(struct rig *rig, const struct bn_dense *d, uint32_t rows_max,
		       uint32_t cols_max, uint32_t tokens_max);

/* A hash over the outputs of the scalar sets on fixed inputs: must be RIG_DIGEST on every
 * architecture and compiler, or the promise of the same bits everywhere is broken. */
#define RIG_DIGEST UINT64_C(0xff663e3cc628fbc1)
uint64_t rig_digest(void);

/* A random row of a type: finite weights of about unit size. */
void rig_dense_row(struct rig *rig, enum bn_dense_type type, uint8_t *row, uint32_t cols);

#endif
