#include "engine/pooling.h"

#include "proto/assert.h"

#include <math.h>
#include <stddef.h>

const char *bn_pooling_name(enum bn_pooling pooling)
{
	switch (pooling) {
	case BN_POOL_NONE:
		return NULL;
	case BN_POOL_MEAN:
		return "mean";
	case BN_POOL_FIRST:
		return "first";
	case BN_POOL_LAST:
		return "last";
	}
	return NULL;
}

bool bn_pooling_wants(enum bn_pooling pooling, uint32_t position, uint32_t n)
{
	bn_assert(pooling != BN_POOL_NONE && position < n);
	switch (pooling) {
	case BN_POOL_FIRST:
		return position == 0;
	case BN_POOL_LAST:
		return position == n - 1;
	default:
		return true;
	}
}

void bn_pooling_add(double *sum, const float *state, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++) {
		sum[i] += (double)state[i];
	}
}

bool bn_pooling_finish(float *vector, const double *sum, uint32_t dim)
{
	double squares = 0.0;

	for (uint32_t i = 0; i < dim; i++) {
		squares += sum[i] * sum[i];
	}
	if (!isfinite(squares) || squares <= 0.0) {
		return false;
	}

	const double norm = sqrt(squares);

	for (uint32_t i = 0; i < dim; i++) {
		vector[i] = (float)(sum[i] / norm);
	}
	return true;
}
