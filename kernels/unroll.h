/*
 * BN_UNROLL before a loop with a small constant count: unroll it whole, so that an array of
 * accumulators indexed by it lives in registers. Nothing else belongs here.
 */
#ifndef BN_KERNELS_UNROLL_H
#define BN_KERNELS_UNROLL_H

#if defined(__clang__)
#define BN_UNROLL _Pragma("unroll")
#else
#define BN_UNROLL _Pragma("GCC unroll 64")
#endif

#define BN_INLINE static inline __attribute__((always_inline))

#endif
