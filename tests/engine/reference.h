/*
 * The forward pass once more, as one would write it on a blackboard: double precision, one token
 * after the other, weights straight from the GGUF file. What engine/forward.c is compared with.
 *
 * It shares no arithmetic with the product: no kernels/, only the file reader. It follows the same
 * definition of the model, int8 activations included, for they are part of it.
 */
#ifndef BN_TESTS_ENGINE_REFERENCE_H
#define BN_TESTS_ENGINE_REFERENCE_H

#include <stdint.h>

/* Logits [n, vocab] of tokens [n] for the model at `path`; the caller frees. Aborts on any fault.
 */
double *reference_logits(const char *path, const uint32_t *tokens, uint32_t n, uint32_t *vocab);

/* The vector [dim], of length 1, of the whole text, for a model that makes them. */
double *reference_vector(const char *path, const uint32_t *tokens, uint32_t n, uint32_t *dim);

#endif
