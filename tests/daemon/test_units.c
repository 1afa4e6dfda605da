#include "daemon/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t size_of(const char *text)
{
	uint64_t bytes = 0;

	if (!bn_units_parse_size(text, &bytes)) {
		fail_msg("'%s' should be a size", text);
	}
	return bytes;
}

static void size_is_read_with_its_unit(void **state)
{
	(void)state;
	assert_int_equal(size_of("0"), 0);
	assert_int_equal(size_of("4096"), 4096);
	assert_int_equal(size_of("17B"), 17);
	assert_int_equal(size_of("6GiB"), UINT64_C(6) << 30);
	assert_int_equal(size_of("6 gib"), UINT64_C(6) << 30);
	assert_int_equal(size_of("512MiB"), UINT64_C(512) << 20);
	assert_int_equal(size_of("1.5GiB"), UINT64_C(3) << 29);
	assert_int_equal(size_of("10GB"), UINT64_C(10000000000));
	assert_int_equal(size_of("0.000001TB"), 1000000);
	/* 999999 millionths of 2^40, rounded down. */
	assert_int_equal(size_of("8388607.999999TiB"),
			 (UINT64_C(8388607) << 40) + UINT64_C(1099510528264));
}

static void size_refuses_what_is_none(void **state)
{
	static const char *const bad[] = {
		"",
		"GiB",
		"-1",
		"+1",
		"1.5",
		"1.",
		".5GiB",
		"1.GiB",
		"1 2",
		"1GiBx",
		"1G",
		"1M",
		"0x10",
		"1e3",
		"1,5GiB",
		"1..5",
		" 1",
		"1GiB ",
		"inf",
		"18446744073709551616",
		"9223372036854775808",
		"8388608TiB",
		"99999999999999999999999999TiB",
	};
	uint64_t bytes = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (bn_units_parse_size(bad[i], &bytes)) {
			fail_msg("'%s' is no size", bad[i]);
		}
	}
	assert_int_equal(bytes, 7);
}

static void duration_needs_a_unit(void **state)
{
	int64_t ms = 7;

	(void)state;
	assert_true(bn_units_parse_duration("90s", &ms));
	assert_int_equal(ms, 90000);
	assert_true(bn_units_parse_duration("1h30m", &ms));
	assert_int_equal(ms, 5400000);
	assert_true(bn_units_parse_duration("250ms", &ms));
	assert_int_equal(ms, 250);
	assert_true(bn_units_parse_duration("0", &ms));
	assert_int_equal(ms, 0);
	assert_true(bn_units_parse_duration("-1", &ms));
	assert_int_equal(ms, BN_UNITS_FOREVER);
	assert_false(bn_units_parse_duration("10", &ms));
	assert_false(bn_units_parse_duration("-2", &ms));
	assert_false(bn_units_parse_duration("", &ms));
	assert_false(bn_units_parse_duration("ten minutes", &ms));
	assert_false(bn_units_parse_duration("10 m ", &ms));
	assert_false(bn_units_parse_duration("99999999999999999999h", &ms));
}

static void whole_number_is_all_of_the_text(void **state)
{
	int64_t value = 7;

	(void)state;
	assert_true(bn_units_parse_whole("-9223372036854775808", &value));
	assert_true(value == INT64_MIN);
	assert_true(bn_units_parse_whole("007", &value));
	assert_int_equal(value, 7);
	assert_false(bn_units_parse_whole("9223372036854775808", &value));
	assert_false(bn_units_parse_whole("", &value));
	assert_false(bn_units_parse_whole("-", &value));
	assert_false(bn_units_parse_whole("+1", &value));
	assert_false(bn_units_parse_whole(" 1", &value));
	assert_false(bn_units_parse_whole("1 ", &value));
	assert_false(bn_units_parse_whole("1.0", &value));
	assert_false(bn_units_parse_whole("0x1", &value));
}

static char *printed(void (*print)(FILE *, uint64_t), uint64_t value)
{
	static char text[64];
	FILE *out = fmemopen(text, sizeof(text), "w");

	print(out, value);
	fclose(out);
	return text;
}

static void printing_keeps_the_value(void **state)
{
	(void)state;
	assert_string_equal(printed(bn_units_print_size, 0), "0");
	assert_string_equal(printed(bn_units_print_size, UINT64_C(6) << 30), "6GiB");
	assert_string_equal(printed(bn_units_print_size, UINT64_C(3) << 29), "1536MiB");
	assert_string_equal(printed(bn_units_print_size, 1000), "1000");
	assert_string_equal(printed(bn_units_print_duration, 0), "0");
	assert_string_equal(printed(bn_units_print_duration, 250), "250ms");
	assert_string_equal(printed(bn_units_print_duration, 600000), "10m");
	assert_string_equal(printed(bn_units_print_duration, 5400000), "90m");
	assert_string_equal(printed(bn_units_print_duration, 7200000), "2h");
	srand(5);
	for (int i = 0; i < 10000; i++) {
		uint64_t value = (uint64_t)rand() << (rand() % 30);
		uint64_t back = 0;
		int64_t back_ms = 0;

		assert_true(bn_units_parse_size(printed(bn_units_print_size, value), &back));
		assert_int_equal(back, value);
		value = (uint64_t)rand() * 10;
		assert_true(
			bn_units_parse_duration(printed(bn_units_print_duration, value), &back_ms));
		assert_int_equal(back_ms, value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_is_read_with_its_unit),
		cmocka_unit_test(size_refuses_what_is_none),
		cmocka_unit_test(duration_needs_a_unit),
		cmocka_unit_test(whole_number_is_all_of_the_text),
		cmocka_unit_test(printing_keeps_the_value),
	};

	return cmocka_run_group_tests_name("daemon/units", tests, NULL, NULL);
}
