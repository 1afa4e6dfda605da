#include "kernels/trits.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The file layout, as published: byte p of a block holds elements p, 32 + p, 64 + p, 96 + p, the
 * first in the upper bits. */
static void put(uint8_t *blocks, uint64_t i, unsigned code)
{
	const unsigned shift = 6 - 2 * (unsigned)(i % 128 / 32);
	uint8_t *byte = blocks + i / 128 * 32 + i % 32;

	*byte = (uint8_t)((*byte & ~(3u << shift)) | code << shift);
}

static void round_trip(struct rig *rig, uint32_t rows, uint32_t cols)
{
	const uint64_t n = (uint64_t)rows * cols;
	const size_t bytes = (size_t)((n + 127) / 128 * 32);
	const size_t stride = bn_trits_stride(cols);
	uint8_t *blocks = rig_buffer(bytes);
	uint8_t *rewritten = rig_buffer(bytes);
	uint8_t *codes = rig_buffer(rows * stride);
	uint8_t *part = rig_buffer(rows * stride);
	uint8_t *wanted = rig_buffer((size_t)n);
	const struct bn_trits trits = { codes, stride, rows, cols };

	memset(blocks, 0, bytes);
	for (uint64_t i = 0; i < n; i++) {
		wanted[i] = (uint8_t)rig_between(rig, 0, 2);
		put(blocks, i, wanted[i]);
	}
	assert_true(bn_trits_from_i2s(codes, blocks, 0, rows, cols));
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t c = 0; c < cols; c++) {
			assert_int_equal(bn_trit(&trits, r, c), wanted[(uint64_t)r * cols + c] - 1);
		}
		for (uint32_t c = cols; c < stride * 4; c++) {
			assert_int_equal(bn_trit(&trits, r, c), 0);
		}
	}
	/* From any row on. */
	const uint32_t row0 = rig_between(rig, 0, rows - 1);
	assert_true(bn_trits_from_i2s(part, blocks, (uint64_t)row0 * cols, rows - row0, cols));
	assert_memory_equal(part, codes + row0 * stride, (rows - row0) * stride);

	if (n % 128 == 0) {
		bn_trits_to_i2s(rewritten, &trits);
		assert_memory_equal(rewritten, blocks, bytes);
	}
	/* One bad code anywhere in the rows asked for is seen, one before them is not. */
	const uint64_t bad = rig_between(rig, 0, (uint32_t)n - 1);
	put(blocks, bad, 3);
	assert_false(bn_trits_from_i2s(codes, blocks, 0, rows, cols));
	assert_int_equal(bn_trits_from_i2s(part, blocks, (uint64_t)row0 * cols, rows - row0, cols),
			 bad < (uint64_t)row0 * cols);
	rig_release(blocks, bytes);
	rig_release(rewritten, bytes);
	rig_release(codes, rows * stride);
	rig_release(part, rows * stride);
	rig_release(wanted, (size_t)n);
}

static void whole_blocks_round_trip(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 1);
	for (uint32_t i = 1; i < 12; i++) {
		round_trip(&rig, i, 128 * (1 + i % 3));
	}
}

static void rows_that_straddle_blocks_round_trip(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 2);
	round_trip(&rig, 4, 8640 % 256);
	for (int i = 0; i < 60; i++) {
		round_trip(&rig, rig_between(&rig, 1, 20), rig_between(&rig, 1, 70) * 4);
	}
}

static void odd_widths_round_trip(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 3);
	for (int i = 0; i < 60; i++) {
		round_trip(&rig, rig_between(&rig, 1, 20), rig_between(&rig, 1, 200));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_blocks_round_trip),
		cmocka_unit_test(rows_that_straddle_blocks_round_trip),
		cmocka_unit_test(odd_widths_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
