/*
 * Ternary types that carry a scale for each group of weights: TQ1_0 and TQ2_0 (llama.cpp, one f16
 * for each 256), IQ1_BN and IQ2_BN (ik_llama.cpp, one f16 or f32 for each row), to canonical trits
 * and one scale, and back.
 *
 * It does not read models whose groups differ: bnd's product has one scale for a matrix, as BitNet
 * was trained. Pure; any thread.
 */
#ifndef BN_ENGINE_GROUPS_H
#define BN_ENGINE_GROUPS_H

#include "kernels/trits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What decoding finds. */
enum bn_trits_verdict {
	BN_TRITS_GOOD,
	BN_TRITS_NOT,       /* a code or index that no trits have                    */
	BN_TRITS_NO_SCALE,  /* that of a group with weights is not finite or is below 0 */
	BN_TRITS_TWO_SCALES /* groups differ by more than rounding to f16 can        */
};

/* The scale of a matrix, found while its groups go by. Zero it before the first row. */
struct bn_scale {
	float value; /* of the first group that has a weight; 0 until then */
	float other; /* the one that differs, for the sentence             */
};

/* rows [n] of `cols` weights from data to codes [n, bn_trits_stride(cols)]; cols a multiple of 256
 * (TQ) or 64 (IQ). A group of zeros may carry any scale, and one of scale 0 is zeros whatever its
 * codes. On a bad verdict codes are unspecified. */
typedef enum bn_trits_verdict bn_groups_decode(struct bn_scale *scale, uint8_t *codes,
					       const uint8_t *data, uint32_t n, uint32_t cols);

bn_groups_decode bn_groups_decode_tq1_0;
bn_groups_decode bn_groups_decode_tq2_0;
bn_groups_decode bn_groups_decode_iq1_bn;
bn_groups_decode bn_groups_decode_iq2_bn;

/* All rows of src to data. The scale is rounded to f16 but for IQ2_BN; groups of zeros get 0, as
 * the first writers of these types do. */
typedef void bn_groups_encode(uint8_t *data, const struct bn_trits *src, float scale);

bn_groups_encode bn_groups_encode_tq1_0;
bn_groups_encode bn_groups_encode_tq2_0;
bn_groups_encode bn_groups_encode_iq1_bn;
bn_groups_encode bn_groups_encode_iq2_bn;

#endif
