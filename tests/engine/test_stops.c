#include "engine/stops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STR(text)                      \
	{                              \
		text, sizeof(text) - 1 \
	}

/* Feeds text in pieces as a sequence does; returns the stop and what came out. */
static int32_t feed(const struct bn_stops *s, const char *text, const size_t *cuts, size_t n_cuts,
		    char *out)
{
	char held[256];
	size_t used = 0, at = 0, written = 0, safe;
	int32_t stop = -1;

	for (size_t i = 0; i <= n_cuts && stop < 0; i++) {
		const size_t end = i < n_cuts ? cuts[i] : strlen(text);

		memcpy(held + used, text + at, end - at);
		used += end - at;
		at = end;
		stop = bn_stops_scan(s, held, used, &safe);
		memcpy(out + written, held, safe);
		written += safe;
		memmove(held, held + safe, used - safe);
		used -= safe;
	}
	if (stop < 0) {
		memcpy(out + written, held, used);
		written += used;
	}
	out[written] = '\0';
	return stop;
}

static void expect(const struct bn_str *stops, uint32_t n, const char *text, int32_t stop,
		   const char *out)
{
	struct bn_stops s;
	char got[256];
	size_t each[256];

	bn_stops_init(&s, stops, n);
	assert_int_equal(feed(&s, text, NULL, 0, got), stop);
	assert_string_equal(got, out);
	/* and byte by byte */
	for (size_t i = 0; i < strlen(text); i++) {
		each[i] = i;
	}
	assert_int_equal(feed(&s, text, each, strlen(text), got), stop);
	assert_string_equal(got, out);
}

static void a_stop_string_is_cut_off_wherever_it_is(void **state)
{
	const struct bn_str one[] = { STR("END") };

	(void)state;
	expect(one, 1, "abc END def", 0, "abc ");
	expect(one, 1, "END", 0, "");
	expect(one, 1, "abcEND", 0, "abc");
	expect(one, 1, "EEND", 0, "E");
	expect(one, 1, "ENEND", 0, "EN");
	expect(one, 1, "abc EN", -1, "abc EN");
	expect(one, 1, "", -1, "");
}

static void the_string_that_ends_first_wins_and_the_longest_of_those(void **state)
{
	const struct bn_str s[] = { STR("abcd"), STR("c"), STR("bc"), STR("\n\n"), STR("\n") };

	(void)state;
	expect(s, 2, "abcd", 1, "ab");
	expect(s, 3, "abcd", 2, "a");
	expect(s, 1, "abcd", 0, "");
	expect(s + 3, 2, "x\n\ny", 1, "x");
	expect(s + 3, 1, "x\ny\n\n", 0, "x\ny");
}

static void without_stops_everything_is_safe_at_once(void **state)
{
	struct bn_stops s;
	size_t safe = 0;

	(void)state;
	bn_stops_init(&s, NULL, 0);
	assert_int_equal(bn_stops_scan(&s, "hello", 5, &safe), -1);
	assert_int_equal(safe, 5);
}

static void only_a_possible_beginning_is_held_back(void **state)
{
	const struct bn_str s[] = { STR("User:"), STR("\n\n") };
	struct bn_stops stops;
	size_t safe;

	(void)state;
	bn_stops_init(&stops, s, 2);
	assert_int_equal(bn_stops_scan(&stops, "Hello Us", 8, &safe), -1);
	assert_int_equal(safe, 6);
	assert_int_equal(bn_stops_scan(&stops, "Hello Usa", 9, &safe), -1);
	assert_int_equal(safe, 9);
	assert_int_equal(bn_stops_scan(&stops, "a\n", 2, &safe), -1);
	assert_int_equal(safe, 1);
}

/* The definition, literally: the first end of any stop in the whole text. */
static int32_t naive(const struct bn_str *stops, uint32_t n, const char *text, size_t *cut)
{
	for (size_t end = 1; end <= strlen(text); end++) {
		int32_t found = -1;

		for (uint32_t i = 0; i < n; i++) {
			if (stops[i].n <= end &&
			    strncmp(text + end - stops[i].n, stops[i].p, stops[i].n) == 0 &&
			    (found < 0 || stops[i].n > stops[found].n)) {
				found = (int32_t)i;
			}
		}
		if (found >= 0) {
			*cut = end - stops[found].n;
			return found;
		}
	}
	*cut = strlen(text);
	return -1;
}

static void random_texts_in_random_pieces_give_what_the_whole_gives(void **state)
{
	(void)state;
	srand(1);
	for (int round = 0; round < 20000; round++) {
		char text[64], strings[4][8], out[256];
		struct bn_str stops[4];
		struct bn_stops s;
		size_t cuts[63], n_cuts = 0, cut;
		const uint32_t n = 1 + (uint32_t)rand() % 4;
		const int length = rand() % 40;

		for (int i = 0; i < length; i++) {
			text[i] = (char)('a' + rand() % 2);
		}
		text[length] = '\0';
		for (uint32_t i = 0; i < n; i++) {
			stops[i].n = 2 + (size_t)rand() % 6;
			stops[i].p = strings[i];
			for (size_t j = 0; j < stops[i].n; j++) {
				strings[i][j] = (char)('a' + rand() % 2);
			}
		}
		for (int i = 1; i < length; i++) {
			if (rand() % 3 == 0) {
				cuts[n_cuts++] = (size_t)i;
			}
		}
		bn_stops_init(&s, stops, n);

		const int32_t want = naive(stops, n, text, &cut);
		const int32_t got = feed(&s, text, cuts, n_cuts, out);

		assert_true(got == want || (stops[got].n == stops[want].n)); /* duplicates */
		assert_int_equal(strlen(out), cut);
		assert_memory_equal(out, text, cut);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stop_string_is_cut_off_wherever_it_is),
		cmocka_unit_test(the_string_that_ends_first_wins_and_the_longest_of_those),
		cmocka_unit_test(without_stops_everything_is_safe_at_once),
		cmocka_unit_test(only_a_possible_beginning_is_held_back),
		cmocka_unit_test(random_texts_in_random_pieces_give_what_the_whole_gives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
