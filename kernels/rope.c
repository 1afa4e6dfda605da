/*
 * Rotary positions (Su et al., arXiv 2104.09864): angles in double, because position * frequency
 * reaches thousands of turns and a float has only 24 bits for turn and fraction together.
 */
#include "kernels/vec.h"

#include <math.h>

void bn_rope_angles(float *cos_out, float *sin_out, uint32_t position, uint32_t rot, double base)
{
	for (uint32_t i = 0; i < rot / 2; i++) {
		const double frequency = pow(base, -2.0 * (double)i / (double)rot);
		const double angle = (double)position * frequency;
		cos_out[i] = (float)cos(angle);
		sin_out[i] = (float)sin(angle);
	}
}
