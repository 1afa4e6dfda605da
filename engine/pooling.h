/*
 * Pooling: how the final states of a text's tokens become one vector of length 1.
 *
 * It does not compute the states (engine/forward.h) and keeps nothing: the vector is the caller's.
 *
 * States come in the order of their positions, whatever steps they came in, and every sum has one
 * order; so the vector has the same bits for any chunk and any neighbours.
 */
#ifndef BN_ENGINE_POOLING_H
#define BN_ENGINE_POOLING_H

#include <stdbool.h>
#include <stdint.h>

enum bn_pooling {
	BN_POOL_NONE,  /* the model generates; nothing below may be called */
	BN_POOL_MEAN,  /* the mean of all tokens                           */
	BN_POOL_FIRST, /* the first token ("cls")                          */
	BN_POOL_LAST,  /* the last token                                   */
};

/* "mean", "first", "last"; NULL for NONE. Static. */
const char *bn_pooling_name(enum bn_pooling pooling);

/* Whether the state at `position` of n tokens takes part. */
bool bn_pooling_wants(enum bn_pooling pooling, uint32_t position, uint32_t n);

/* Takes a state [dim] that takes part into the sum [dim], which began as zeros. */
void bn_pooling_add(double *sum, const float *state, uint32_t dim);

/*
 * vector [dim] = sum / |sum|, the Euclidean norm; a mean and a sum have the same direction. False,
 * and the vector is not to be used, when the norm is not a finite number above zero.
 */
bool bn_pooling_finish(float *vector, const double *sum, uint32_t dim);

#endif
