/* client/meter: speed and time left from given moments, lines and silence. */
#include "client/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MIB = 1 << 20 };

/* One MiB each second, up to `seconds`; what was printed, owned by the caller. */
static char *run(struct bn_meter *m, uint64_t total, unsigned seconds)
{
	char *text = NULL;
	size_t n = 0;
	struct bn_term t = { .to = open_memstream(&text, &n), .width = 80 };

	assert_non_null(t.to);
	m->term = &t;
	bn_meter_start(m, total);
	for (unsigned i = 0; i <= seconds * 10; i++) {
		bn_meter_show(m, "fetching", (uint64_t)i * MIB / 10, 1000 + (uint64_t)i * 100);
	}
	fclose(t.to);
	m->term = NULL;
	return text;
}

static void lines_come_every_five_seconds(void **state)
{
	struct bn_meter m = { .quiet = false };
	char *text = run(&m, 100 * (uint64_t)MIB, 11);

	(void)state;
	assert_string_equal(text, "fetching: 5.0 MiB of 100 MiB  1.0 MiB/s  2 min left\n"
				  "fetching: 10.0 MiB of 100 MiB  1.0 MiB/s  2 min left\n");
	free(text);
}

static void quiet_prints_nothing(void **state)
{
	struct bn_meter m = { .quiet = true };
	char *text = run(&m, 100 * (uint64_t)MIB, 11);

	(void)state;
	assert_string_equal(text, "");
	free(text);
}

static void what_is_not_known_is_not_shown(void **state)
{
	struct bn_meter m = { .quiet = false };
	char text[160], *lines = run(&m, 0, 2);

	(void)state;
	assert_string_equal(bn_meter_text(&m, 2 * MIB, text, sizeof(text)), "2.0 MiB  1.0 MiB/s");
	free(lines);
	m = (struct bn_meter){ .total_bytes = MIB };
	assert_string_equal(bn_meter_text(&m, 0, text, sizeof(text)), "0 B of 1.0 MiB");
	assert_string_equal(bn_meter_text(&m, 2 * MIB, text, sizeof(text)), "2.0 MiB");
}

static void resuming_and_starting_over_are_no_speed(void **state)
{
	char *text = NULL;
	size_t n = 0;
	struct bn_term t = { .to = open_memstream(&text, &n), .width = 80 };
	struct bn_meter m = { .term = &t };

	(void)state;
	assert_non_null(t.to);
	bn_meter_show(&m, "x", 1, 0);
	assert_false(m.marked);
	bn_meter_start(&m, 1000 * (uint64_t)MIB);
	/* 500 MiB are here from before. */
	m.before_bytes = 500 * (uint64_t)MIB;
	bn_meter_show(&m, "x", 0, 0);
	assert_true(m.speed == 0);
	bn_meter_show(&m, "x", MIB, 1000);
	assert_int_equal(m.mark_bytes, 501 * (uint64_t)MIB);
	assert_true(m.speed == MIB);
	m.before_bytes = 0;
	bn_meter_show(&m, "x", 0, 2000);
	assert_true(m.speed == MIB);
	bn_meter_show(&m, "x", MIB, 3000);
	assert_true(m.speed == MIB);
	bn_meter_stop(&m);
	bn_meter_show(&m, "x", 9 * MIB, 4000);
	assert_int_equal(m.mark_bytes, MIB);
	fclose(t.to);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_every_five_seconds),
		cmocka_unit_test(quiet_prints_nothing),
		cmocka_unit_test(what_is_not_known_is_not_shown),
		cmocka_unit_test(resuming_and_starting_over_are_no_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
