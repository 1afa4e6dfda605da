/*
 * Rows of floats to the dense formats of GGUF: f32, f16, q8_0 and q6_k. The inverse of what
 * kernels/dense.h decodes.
 *
 * It knows no ternary format (kernels/trits.h) and no file. Pure; any thread.
 */
#ifndef BN_ENGINE_QUANTIZE_H
#define BN_ENGINE_QUANTIZE_H

#include "engine/ggml.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a row [cols]; 0 when cols is no multiple of the format's block, or for another format.
 */
size_t bn_quantize_row_bytes(enum bn_ggml_type type, uint32_t cols);

/* The type rows of this width can have, at most as small as the one asked for: q6_k, q8_0, f16. */
enum bn_ggml_type bn_quantize_type(enum bn_ggml_type wanted, uint32_t cols);

/*
 * Writes row x [cols] to dst [bn_quantize_row_bytes]. False when a value is not finite or passes
 * what the format holds (65504 for f16 and the scales); dst is then unspecified.
 *
 * q8_0: scale = max |x| / 127 of each 32, nearest codes. q6_k: for each 16 the scale of nineteen
 * tried that leaves the smallest error, weighted by x^2, then scales as int8 of the 256's largest.
 */
bool bn_quantize_row(enum bn_ggml_type type, void *dst, const float *x, uint32_t cols);

#endif
