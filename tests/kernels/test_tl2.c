/* Three weights in five bits, and every kernel that multiplies with them. */
#include "kernels/tl2.h"

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

static void indices_and_signs_lie_where_the_header_says(void **state)
{
	uint8_t codes[34 * 13];
	uint8_t packed[2 * 2 * 320];
	const struct bn_trits trits = { codes, 13, 34, 49 };

	(void)state;
	draw(codes, sizeof(codes));
	memset(packed, 0xff, sizeof(packed));
	assert_int_equal(bn_tl2_packed_bytes(34, 49), sizeof(packed));
	bn_tl2_pack(packed, &trits, 0, 34);
	for (uint32_t r = 0; r < 64; r++) {
		for (uint32_t k = 0; k < 32; k++) {
			const uint8_t *block = packed + (r / 32 * 2 + k / 16) * 320;
			const uint32_t c = k / 16 * 48 + k % 16, h = k % 16 / 8, j = k % 8 / 2;
			const int index = block[64 * j + 32 * h + r % 32] >> (k % 2 * 4) & 15;
			const int sign = block[256 + 32 * h + r % 32] >> (7 - k % 8) & 1;
			int v = 0;

			for (uint32_t i = 0; i < 3; i++) {
				const uint32_t at = c + 16 * i;

				v = 3 * v + (r < 34 && at < 49 ? bn_trit(&trits, r, at) : 0);
			}
			assert_int_equal(index, v < 0 ? -v : v);
			assert_int_equal(sign, v < 0);
		}
	}
}

static void sizes_add_up_and_absurd_ones_are_refused(void **state)
{
	(void)state;
	assert_int_equal(bn_tl2_packed_bytes(1, 1), 320);
	assert_int_equal(bn_tl2_packed_bytes(2560, 6912), 2560u * 6912 / 24 * 5);
	assert_int_equal(bn_tl2_packed_bytes(256, 2048), 256u / 32 * 43 * 320);
	assert_int_equal(bn_tl2_packed_bytes(0, 100), 0);
	assert_int_equal(bn_tl2_prep_bytes(49, 3), 3 * 2 * 512);
	assert_true(bn_tl2_packed_bytes(UINT32_C(1) << 31, BN_KERNEL_COLS_MAX) > UINT64_C(1) << 51);
	assert_true(bn_tl2_fits(1, 1));
	assert_true(bn_tl2_fits(1, BN_KERNEL_COLS_MAX));
	assert_false(bn_tl2_fits(1, BN_KERNEL_COLS_MAX + 1));
	assert_false(bn_tl2_fits(0, 16));
	assert_false(bn_tl2_fits(16, 0));
	assert_false(bn_tl2_fits(UINT32_MAX, 16));
}

static void every_kernel_equals_the_definition_on_random_shapes(void **state)
{
	(void)state;
	family_check_random_shapes(BN_LAYOUT_TL2);
}

static void every_count_of_tokens_from_1_to_33_is_exact(void **state)
{
	(void)state;
	family_check_tokens(BN_LAYOUT_TL2);
}

static void long_rows_of_extreme_values_do_not_overflow(void **state)
{
	(void)state;
	family_check_extremes(BN_LAYOUT_TL2);
}

static void panels_of_many_long_tokens_are_exact(void **state)
{
	(void)state;
	family_check_panels(BN_LAYOUT_TL2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(indices_and_signs_lie_where_the_header_says),
		cmocka_unit_test(sizes_add_up_and_absurd_ones_are_refused),
		cmocka_unit_test(every_kernel_equals_the_definition_on_random_shapes),
		cmocka_unit_test(every_count_of_tokens_from_1_to_33_is_exact),
		cmocka_unit_test(long_rows_of_extreme_values_do_not_overflow),
		cmocka_unit_test(panels_of_many_long_tokens_are_exact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
