/* Sizes of the dense row types; the arithmetic is in dense_<isa>.c. */
#include "kernels/dense.h"

static const struct {
	uint32_t weights; /* in a block */
	uint32_t bytes;
} blocks[BN_DENSE_TYPE_COUNT] = {
	[BN_DENSE_F32] = { 1, 4 },    [BN_DENSE_F16] = { 1, 2 },      [BN_DENSE_BF16] = { 1, 2 },
	[BN_DENSE_Q8_0] = { 32, 34 }, [BN_DENSE_Q6_K] = { 256, 210 },
};

size_t bn_dense_row_bytes(enum bn_dense_type type, uint32_t cols)
{
	if ((unsigned)type >= BN_DENSE_TYPE_COUNT || cols % blocks[type].weights != 0) {
		return 0;
	}
	return (size_t)(cols / blocks[type].weights) * blocks[type].bytes;
}
