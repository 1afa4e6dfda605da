/* Two weights in four bits, and every kernel that multiplies with them. */
#include "kernels/tl1.h"

#include "kernels/trits.h"
#include "tests/kernels/family.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Rows of random codes, `stride` bytes apart; also where no column is. */
static void draw(uint8_t *codes, size_t bytes)
{
	struct rig rig;

	rig_init(&rig, 1);
	for (size_t i = 0; i < bytes; i++) {
		codes[i] = 0;
		for (unsigned g = 0; g < 4; g++) {
			codes[i] = (uint8_t)(codes[i] | rig_between(&rig, 0, 2) << (2 * g));
		}
	}
}

static void indices_lie_where_the_header_says(void **state)
{
	uint8_t codes[34 * 5];
	uint8_t packed[2 * 2 * 128];
	const struct bn_trits trits = { codes, 5, 34, 17 };

	(void)state;
	draw(codes, sizeof(codes));
	memset(packed, 0xff, sizeof(packed));
	assert_int_equal(bn_tl1_packed_bytes(34, 17), sizeof(packed));
	bn_tl1_pack(packed, &trits, 0, 34);
	for (uint32_t r = 0; r < 64; r++) {
		for (uint32_t k = 0; k < 16; k++) {
			const uint8_t *block = packed + (r / 32 * 2 + k / 8) * 128;
			const uint32_t c = k / 8 * 16 + k % 8;
			const int index = block[32 * (k % 8 / 2) + r % 32] >> (k % 2 * 4) & 15;
			const int w0 = r < 34 && c < 17 ? bn_trit(&trits, r, c) : 0;
			const int w1 = r < 34 && c + 8 < 17 ? bn_trit(&trits, r, c + 8) : 0;

			assert_int_equal(index, 3 * w0 + w1 + 4);
		}
	}
}

static void sizes_add_up_and_absurd_ones_are_refused(void **state)
{
	(void)state;
	assert_int_equal(bn_tl1_packed_bytes(1, 1), 128);
	assert_int_equal(bn_tl1_packed_bytes(2560, 6912), 2560u * 6912 / 4);
	assert_int_equal(bn_tl1_packed_bytes(0, 100), 0);
	assert_int_equal(bn_tl1_prep_bytes(17, 3), 3 * 2 * 256);
	assert_true(bn_tl1_packed_bytes(UINT32_C(1) << 31, BN_KERNEL_COLS_MAX) > UINT64_C(1) << 51);
	assert_true(bn_tl1_fits(1, 1));
	assert_true(bn_tl1_fits(1, BN_KERNEL_COLS_MAX));
	assert_false(bn_tl1_fits(1, BN_KERNEL_COLS_MAX + 1));
	assert_false(bn_tl1_fits(0, 16));
	assert_false(bn_tl1_fits(16, 0));
	assert_false(bn_tl1_fits(UINT32_MAX, 16));
}

static void every_kernel_equals_the_definition_on_random_shapes(void **state)
{
	(void)state;
	family_check_random_shapes(BN_LAYOUT_TL1);
}

static void every_count_of_tokens_from_1_to_33_is_exact(void **state)
{
	(void)state;
	family_check_tokens(BN_LAYOUT_TL1);
}

static void long_rows_of_extreme_values_do_not_overflow(void **state)
{
	(void)state;
	family_check_extremes(BN_LAYOUT_TL1);
}

static void panels_of_many_long_tokens_are_exact(void **state)
{
	(void)state;
	family_check_panels(BN_LAYOUT_TL1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(indices_lie_where_the_header_says),
		cmocka_unit_test(sizes_add_up_and_absurd_ones_are_refused),
		cmocka_unit_test(every_kernel_equals_the_definition_on_random_shapes),
		cmocka_unit_test(every_count_of_tokens_from_1_to_33_is_exact),
		cmocka_unit_test(long_rows_of_extreme_values_do_not_overflow),
		cmocka_unit_test(panels_of_many_long_tokens_are_exact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
