/*
 * What this processor can do, asked once and passed down as a value.
 *
 * It does not decide which kernel runs (registry.c does) and pins nothing (engine/team does).
 */
#ifndef BN_KERNELS_CPU_H
#define BN_KERNELS_CPU_H

#include <stddef.h>
#include <stdint.h>

/* One bit for each *level* a kernel file may be compiled for, operating-system support included
 * (XCR0 state for ymm/zmm). */
#define BN_CPU_SSSE3   (UINT64_C(1) << 0)
#define BN_CPU_AVX2    (UINT64_C(1) << 1) /* AVX2, FMA, F16C, BMI2                          */
#define BN_CPU_AVX512  (UINT64_C(1) << 2) /* F, BW, DQ, VL, CD                              */
#define BN_CPU_VNNI    (UINT64_C(1) << 3) /* AVX-512 VNNI (with AVX512)                     */
#define BN_CPU_VBMI    (UINT64_C(1) << 4) /* AVX-512 VBMI (with AVX512)                     */
#define BN_CPU_AVXVNNI (UINT64_C(1) << 5) /* VEX-encoded VNNI (with AVX2)                   */
#define BN_CPU_NEON    (UINT64_C(1) << 16)
#define BN_CPU_DOTPROD (UINT64_C(1) << 17)
#define BN_CPU_I8MM    (UINT64_C(1) << 18)

/* The features of the processor this runs on. Cheap enough to call, meant to be called once. */
uint64_t bn_cpu_features(void);

/* Removes what a name list forbids: "ssse3", "avx2", "avxvnni", "avx512", "vnni", "vbmi", "neon",
 * "dotprod", "i8mm"; removing a level removes what stands on it. Unknown names are ignored. For
 * tests and for the configuration key workers.mask_features. */
uint64_t bn_cpu_mask(uint64_t features, const char *const *names, size_t n);

/* Writes "avx2 avx512 vnni" and the like into text, NUL-terminated, cut between words
 * to size. Returns text. */
char *bn_cpu_describe(uint64_t features, char *text, size_t size);

/* The features such a text names: the other way round. Unknown words are ignored. */
uint64_t bn_cpu_parse(const char *text);

#endif
