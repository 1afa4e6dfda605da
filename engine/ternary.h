/*
 * Weights of checkpoints to canonical trits: packed bytes of Hugging Face, weights that are already
 * -s, 0 or s, and latent ones that are rounded as in training.
 *
 * It reads no file and packs for no kernel (kernels/trits.h and the kernels do). All functions are
 * pure and work on pieces of a matrix, so that no matrix need be in memory as floats.
 */
#ifndef BN_ENGINE_TERNARY_H
#define BN_ENGINE_TERNARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Packed bytes [out / 4, in] as transformers' integrations/bitnet.py writes them: bits 2i and 2i +
 * 1 of byte row r are output row i * (out / 4) + r, value + 1. Writes the codes of all `out` rows
 * to dst [out, bn_trits_stride(in)]. False when a code 3 is met, which no converter writes: *bad is
 * then the output row of the first one.
 */
bool bn_ternary_unpack(uint8_t *dst, const uint8_t *packed, uint32_t out, uint32_t in,
		       uint32_t *bad);

/* What one pass over a matrix of floats finds. Zero it to start. */
struct bn_ternary_survey {
	uint64_t n;
	uint64_t n_nonzero;
	uint64_t n_broken; /* NaN or infinite */
	double sum;        /* of |w|          */
	float max, min;    /* of |w| > 0      */
};

void bn_ternary_look(struct bn_ternary_survey *s, const float *w, size_t n);

/* True when every weight is -s, 0 or s for one s: dequantized already. Their scale is s itself, for
 * the mean of |w| would be smaller by the share of zeros. */
bool bn_ternary_is_exact(const struct bn_ternary_survey *s);

/*
 * The factor to round with, f, and the scale to store, so that W is about scale * round(W * f).
 * Exact weights: 1 / s and s. Latent ones: f = 1 / max(mean |W|, 1e-5) in float, and 1 / f (BitNet
 * b1.58, section 2; WeightQuant of the published models).
 */
void bn_ternary_scale(const struct bn_ternary_survey *s, float *factor, float *scale);

/* Codes of one row w [cols]: round half to even of w * factor, clamped to -1..1. dst has
 * bn_trits_stride(cols) bytes. */
void bn_ternary_round(uint8_t *dst, const float *w, uint32_t cols, float factor);

/*
 * The row of a checkpoint's q or k matrix that becomes row `row` of a GGUF of architecture llama,
 * whose rotation turns neighbours: within each head, halves are interleaved.
 */
uint32_t bn_ternary_permuted(uint32_t row, uint32_t head_dim);

#endif
