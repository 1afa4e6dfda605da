/*
 * The tensor types a GGUF file may name, and how many bytes a tensor of such a type occupies.
 *
 * It does not decode any of them (kernels do) and does not say which of them bnd can run.
 */
#ifndef BN_ENGINE_GGML_H
#define BN_ENGINE_GGML_H

#include <stdbool.h>
#include <stdint.h>

enum { BN_GGML_MAX_DIMS = 4 };

/*
 * The numbers in the file. Forks gave 36 to 42 different meanings (upstream retired 36 to 38 before
 * anybody wrote a file with them). 39 is TL2 in BitNet files of 2024 and 2025 and MXFP4 upstream,
 * 42 is TL2 in BitNet files of 2026 and Q2_0 upstream: the GGUF reader settles which it is and
 * reports one of the two names below, so a BN_GGML_MXFP4 is never a TL2.
 */
enum bn_ggml_type {
	BN_GGML_F32 = 0,
	BN_GGML_F16 = 1,
	BN_GGML_Q4_0 = 2,
	BN_GGML_Q4_1 = 3,
	BN_GGML_Q5_0 = 6,
	BN_GGML_Q5_1 = 7,
	BN_GGML_Q8_0 = 8,
	BN_GGML_Q8_1 = 9,
	BN_GGML_Q2_K = 10,
	BN_GGML_Q3_K = 11,
	BN_GGML_Q4_K = 12,
	BN_GGML_Q5_K = 13,
	BN_GGML_Q6_K = 14,
	BN_GGML_Q8_K = 15,
	BN_GGML_IQ2_XXS = 16,
	BN_GGML_IQ2_XS = 17,
	BN_GGML_IQ3_XXS = 18,
	BN_GGML_IQ1_S = 19,
	BN_GGML_IQ4_NL = 20,
	BN_GGML_IQ3_S = 21,
	BN_GGML_IQ2_S = 22,
	BN_GGML_IQ4_XS = 23,
	BN_GGML_I8 = 24,
	BN_GGML_I16 = 25,
	BN_GGML_I32 = 26,
	BN_GGML_I64 = 27,
	BN_GGML_F64 = 28,
	BN_GGML_IQ1_M = 29,
	BN_GGML_BF16 = 30,
	BN_GGML_TQ1_0 = 34,
	BN_GGML_TQ2_0 = 35,
	BN_GGML_I2_S = 36,
	BN_GGML_TL1 = 38,
	BN_GGML_MXFP4 = 39,
	BN_GGML_TL2 = 42,
	BN_GGML_IQ1_BN = 134,
	BN_GGML_IQ2_BN = 135,
	BN_GGML_IQ2_BN_R4 =
		335, /* rows interleaved for a processor: known, so that we can say no */
};

/* "i2_s", lower case as in file names; NULL for a number we do not know. */
const char *bn_ggml_name(uint32_t type);

/* Why bn_ggml_nbytes said no. */
enum bn_ggml_verdict {
	BN_GGML_FITS,
	BN_GGML_UNKNOWN,   /* the type number                                             */
	BN_GGML_RAGGED,    /* elements do not divide into blocks                          */
	BN_GGML_OVERFLOWS, /* elements or bytes pass 2^63 - 1                              */
	BN_GGML_EMPTY,     /* n_dims outside 1..4 or a dimension is zero                  */
};

/*
 * *nbytes = what a tensor of `type` with dims [n_dims], innermost (row length) first, occupies in a
 * file, without padding between tensors. The only source of tensor sizes: files never say.
 * Untouched unless BN_GGML_FITS.
 */
enum bn_ggml_verdict bn_ggml_nbytes(uint32_t type, uint32_t n_dims, const uint64_t *dims,
				    uint64_t *nbytes);

/* Weights per block of the innermost dimension; for I2_S 128 of the flattened tensor; 0 unknown. */
uint32_t bn_ggml_block(uint32_t type);

#endif
