/*
 * Rows of 4-bit formats that other tools give the embedding of ternary models (q4_0, q4_k, iq4_nl)
 * to floats, so that bn-convert can write them in a format bnd multiplies with.
 *
 * It does not read what kernels/dense.h does. Pure; any thread.
 */
#ifndef BN_ENGINE_DEQUANTIZE_H
#define BN_ENGINE_DEQUANTIZE_H

#include "engine/ggml.h"

#include <stdint.h>

/* out[c] = weight c of the row; cols is a multiple of the format's block (bn_ggml_block). */
typedef void bn_dequantize_row(float *out, const void *row, uint32_t cols);

/* NULL for other formats. */
bn_dequantize_row *bn_dequantize_find(enum bn_ggml_type type);

#endif
