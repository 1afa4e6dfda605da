/* The sixteen-row layout and every kernel that multiplies with it, the oracle included. */
#include "kernels/i2s.h"

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

static void fields_lie_where_the_readme_draws_them(void **state)
{
	uint8_t codes[17 * 5];
	uint8_t packed[4 * 64];
	const struct bn_trits trits = { codes, 5, 17, 17 };
	struct rig rig;

	(void)state;
	rig_init(&rig, 1);
	for (size_t i = 0; i < sizeof(codes); i++) {
		codes[i] = 0;
		for (unsigned g = 0; g < 4; g++) {
			codes[i] = (uint8_t)(codes[i] | rig_between(&rig, 0, 2) << (2 * g));
		}
	}
	assert_int_equal(bn_i2s_packed_bytes(17, 17), sizeof(packed));
	bn_i2s_pack(packed, &trits, 0, 17);
	for (uint32_t r = 0; r < 32; r++) {
		for (uint32_t c = 0; c < 32; c++) {
			const uint8_t *line = packed + (r / 16 * 2 + c / 16) * 64;
			const uint32_t g = c % 16 / 4, i = c % 4;
			const int code = (line[r % 16 * 4 + i] >> (2 * g)) & 3;
			const int wanted = r < 17 && c < 17 ? bn_trit(&trits, r, c) + 1 : 1;
			assert_int_equal(code, wanted);
		}
	}
}

static void sizes_add_up_and_absurd_ones_are_refused(void **state)
{
	(void)state;
	assert_int_equal(bn_i2s_packed_bytes(1, 1), 64);
	assert_int_equal(bn_i2s_packed_bytes(2560, 6912), 2560u * 6912 / 4);
	assert_int_equal(bn_i2s_packed_bytes(0, 100), 0);
	assert_true(bn_i2s_packed_bytes(UINT32_C(1) << 31, BN_I2S_COLS_MAX) > UINT64_C(1) << 47);
	assert_true(bn_i2s_fits(1, 1));
	assert_true(bn_i2s_fits(1, BN_I2S_COLS_MAX));
	assert_false(bn_i2s_fits(1, BN_I2S_COLS_MAX + 1));
	assert_false(bn_i2s_fits(0, 16));
	assert_false(bn_i2s_fits(16, 0));
	assert_false(bn_i2s_fits(UINT32_MAX, 16));
}

static void every_kernel_equals_the_definition_on_random_shapes(void **state)
{
	(void)state;
	family_check_random_shapes(BN_LAYOUT_I2S16);
}

static void every_count_of_tokens_from_1_to_33_is_exact(void **state)
{
	(void)state;
	family_check_tokens(BN_LAYOUT_I2S16);
}

static void long_rows_of_extreme_values_do_not_overflow(void **state)
{
	(void)state;
	family_check_extremes(BN_LAYOUT_I2S16);
}

static void panels_of_many_long_tokens_are_exact(void **state)
{
	(void)state;
	family_check_panels(BN_LAYOUT_I2S16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_lie_where_the_readme_draws_them),
		cmocka_unit_test(sizes_add_up_and_absurd_ones_are_refused),
		cmocka_unit_test(every_kernel_equals_the_definition_on_random_shapes),
		cmocka_unit_test(every_count_of_tokens_from_1_to_33_is_exact),
		cmocka_unit_test(long_rows_of_extreme_values_do_not_overflow),
		cmocka_unit_test(panels_of_many_long_tokens_are_exact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
