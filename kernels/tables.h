/*
 * The const tables behind registry.c, one per instruction-set file: the only symbol such a file
 * exports.
 *
 * Nobody but registry.c and tests of one file includes this; everyone else asks the registry.
 */
#ifndef BN_KERNELS_TABLES_H
#define BN_KERNELS_TABLES_H

#include "kernels/dense.h"
#include "kernels/kernel.h"
#include "kernels/vec.h"

extern const struct bn_kernel bn_kernel_i2s_scalar;
extern const struct bn_kernel bn_kernel_tl1_scalar;
extern const struct bn_kernel bn_kernel_tl2_scalar;
extern const struct bn_vec bn_vec_scalar;
extern const struct bn_dense bn_dense_scalar[BN_DENSE_TYPE_COUNT];

#if defined(__x86_64__)
extern const struct bn_kernel bn_kernel_i2s_avx2;
extern const struct bn_kernel bn_kernel_i2s_avxvnni;
extern const struct bn_kernel bn_kernel_i2s_vnni;
extern const struct bn_kernel bn_kernel_tl2_avx2;
extern const struct bn_kernel bn_kernel_tl2_avx512;
extern const struct bn_vec bn_vec_avx2;
extern const struct bn_vec bn_vec_avx512;
extern const struct bn_dense bn_dense_avx2[BN_DENSE_TYPE_COUNT];
extern const struct bn_dense bn_dense_avx512[BN_DENSE_TYPE_COUNT];
#elif defined(__aarch64__)
extern const struct bn_kernel bn_kernel_i2s_neon;
extern const struct bn_kernel bn_kernel_i2s_dotprod;
extern const struct bn_kernel bn_kernel_tl1_neon;
extern const struct bn_vec bn_vec_neon;
extern const struct bn_dense bn_dense_neon[BN_DENSE_TYPE_COUNT];
#endif

#endif
