#include "proto/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void time_reads_durations_and_nothing_else(void **state)
{
	static const struct {
		const char *text;
		int64_t ms; /* -2: refused */
	} cases[] = {
		{ "0", 0 },
		{ "-1", BN_TIME_FOREVER },
		{ "10m", 600000 },
		{ "90s", 90000 },
		{ "1h30m", 5400000 },
		{ "500ms", 500 },
		{ "1m500ms", 60500 },
		{ "-5m", BN_TIME_FOREVER },
		{ "", -2 },
		{ "-", -2 },
		{ "10", -2 },
		{ "m", -2 },
		{ "10 m", -2 },
		{ "10m ", -2 },
		{ "1.5h", -2 },
		{ "10d", -2 },
		{ "99999999999999999999s", -2 },
		{ "9223372036854775807h", -2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ms = -3;
		bool good = bn_time_parse(bn_text_of(cases[i].text), &ms);

		assert_int_equal(good, cases[i].ms != -2);
		if (good) {
			assert_true(ms == cases[i].ms);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_reads_durations_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
