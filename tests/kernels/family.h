/*
 * The comparisons every kernel of a layout must pass, whatever the layout: each runs all kernels of
 * it that this processor (as masked) has, the scalar one included, and fails the test with a
 * sentence.
 *
 * It knows nothing of how a layout lies in memory: that is the test of the layout's own file.
 */
#ifndef BN_TESTS_KERNELS_FAMILY_H
#define BN_TESTS_KERNELS_FAMILY_H

#include "kernels/kernel.h"

/* Random shapes and values against the definition. */
void family_check_random_shapes(enum bn_layout layout);

/* Each count of tokens from 1 to 33. */
void family_check_tokens(enum bn_layout layout);

/* Long rows, all activations -128 or 127, all weights of one sign. */
void family_check_extremes(enum bn_layout layout);

/* More tokens than one panel holds, and rows longer than any flush of narrow sums. */
void family_check_panels(enum bn_layout layout);

#endif
