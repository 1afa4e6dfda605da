#include "engine/nfc.h"

#include "engine/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>

/* Ours, with the text itself where it says so. */
static char *nfc(const char *text, size_t n, size_t *out_n)
{
	char *out;

	assert_int_equal(bn_nfc(text, n, &out, out_n, NULL), BN_OK);
	if (out == NULL) {
		out = malloc(n + 1);
		memcpy(out, text, n);
		*out_n = n;
	}
	return out;
}

static void is(const char *text, const char *want)
{
	size_t n;
	char *got = nfc(text, strlen(text), &n);

	assert_int_equal(n, strlen(want));
	assert_memory_equal(got, want, n);
	free(got);
}

static void what_is_composed_stays_and_takes_no_memory(void **state)
{
	static const char *const same[] = { "", "plain text 123\n",
					    "Fran\xC3\xA7ois \xC3\xBC\xC5\x93" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *out;
		size_t n;

		assert_int_equal(bn_nfc(same[i], strlen(same[i]), &out, &n, NULL), BN_OK);
		assert_null(out);
	}
	is("\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80",
	   "\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80");
}

static void marks_join_their_letters(void **state)
{
	(void)state;
	is("e\xCC\x81", "\xC3\xA9");                                /* e, acute                  */
	is("\xE2\x84\xAB", "\xC3\x85");                             /* angstrom sign             */
	is("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"); /* Hangul jamo               */
	is("q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87");               /* dot below before dot above */
	is("d\xCC\x87\xCC\xA3", "\xE1\xB8\x8D\xCC\x87");            /* and then it joins          */
	is("\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC");             /* excluded from composition */
}

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Characters that meet: letters, marks of many classes, jamo, singletons, anything. */
static uint32_t character(uint64_t *random)
{
	const uint64_t r = draw(random);
	uint32_t cp = (uint32_t)(r >> 8);

	switch (r % 8) {
	case 0:
		return 'a' + cp % 26;
	case 1:
	case 2:
		return 0x300 + cp % 0x70;
	case 3:
		return 0x1100 + cp % 0x100;
	case 4:
		return 0xAC00 + cp % 11172;
	case 5:
		return 0x900 + cp % 0x500;
	case 6:
		return 0x1E00 + cp % 0x1200;
	default:
		cp %= 0x110000;
		return cp >= 0xD800 && cp < 0xE000 ? ' ' : cp;
	}
}

static void random_texts_equal_the_library_as_a_whole(void **state)
{
	uint64_t random = 88172645463325252u;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char text[4 * 40 + 1];
		size_t n = 0, got_n;
		const int most = 1 + (int)(draw(&random) % 40);
		char *got;
		utf8proc_uint8_t *want = NULL;
		utf8proc_ssize_t want_n;

		for (int i = 0; i < most; i++) {
			n += bn_utf8_encode(character(&random), text + n);
		}
		want_n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &want,
				      UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		got = nfc(text, n, &got_n);
		assert_int_equal(got_n, want_n);
		assert_memory_equal(got, want, got_n);
		free(want);
		free(got);
	}
}

/* A megabyte of marks whose classes alternate: the library would compare each with each. */
static void hostile_runs_of_marks_end(void **state)
{
	enum { MARKS = 500000 };
	char *text = malloc(1 + 2 * MARKS), *got;
	size_t n = 0, got_n;

	(void)state;
	text[n++] = 'a';
	for (int i = 0; i < MARKS; i++) {
		memcpy(text + n, i % 2 == 0 ? "\xCC\x95" : "\xCC\xA3", 2); /* classes 232, 220 */
		n += 2;
	}
	got = nfc(text, n, &got_n);
	/* a with dot below is one letter; then the other dots, then the commas. */
	assert_int_equal(got_n, 3 + 2 * (MARKS - 1));
	assert_memory_equal(got, "\xE1\xBA\xA1\xCC\xA3\xCC\xA3", 7);
	assert_memory_equal(got + got_n - 4, "\xCC\x95\xCC\x95", 4);
	free(got);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_composed_stays_and_takes_no_memory),
		cmocka_unit_test(marks_join_their_letters),
		cmocka_unit_test(random_texts_equal_the_library_as_a_whole),
		cmocka_unit_test(hostile_runs_of_marks_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
