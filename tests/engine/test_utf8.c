/* UTF-8: what is valid, what replaces what is not, and holding incomplete tails back. */
#include "engine/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void utf8_decodes_every_scalar_value_it_encodes(void **state)
{
	(void)state;
	for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
		char s[4];
		uint32_t back;
		size_t n;

		if (cp >= 0xD800 && cp <= 0xDFFF) {
			continue;
		}
		n = bn_utf8_encode(cp, s);
		assert_int_equal(n, 1 + (cp > 0x7F) + (cp > 0x7FF) + (cp > 0xFFFF));
		assert_true(bn_utf8_valid(s, n));
		assert_int_equal(bn_utf8_decode(s, n, &back), n);
		assert_int_equal(back, cp);
		for (size_t part = 1; part < n; part++) {
			assert_false(bn_utf8_valid(s, part));
			assert_int_equal(bn_utf8_decode(s, part, &back), part);
			assert_int_equal(back, UINT32_MAX);
		}
	}
}

/* Unicode 15, tables 3-8 to 3-11: one U+FFFD per maximal part. "R" stands for it. */
static const struct {
	const char *broken, *clean;
} cases[] = {
	{ "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "RRRRRRRRA" },
	{ "\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "RRRRRRRRA" },
	{ "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "RRRRRARRB" },
	{ "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "RRRRA" },
	{ "\x80", "R" },
	{ "\xF5\x80\x80\x80", "RRRR" },
	{ "a\xC3", "aR" },
	{ "\xF0\x9F\x92", "R" },
	{ "\xC3\xC3\xA9", "R\xC3\xA9" },
};

static size_t expand(const char *clean, char *out)
{
	size_t n = 0;

	for (; *clean != '\0'; clean++) {
		if (*clean == 'R') {
			n += bn_utf8_encode(BN_UTF8_REPLACEMENT, out + n);
		} else {
			out[n++] = *clean;
		}
	}
	return n;
}

static void utf8_replaces_maximal_parts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[64];
		char got[64];
		size_t n_want = expand(cases[i].clean, want);
		size_t n_got = bn_utf8_clean(cases[i].broken, strlen(cases[i].broken), got);

		assert_false(bn_utf8_valid(cases[i].broken, strlen(cases[i].broken)));
		assert_int_equal(n_got, n_want);
		assert_memory_equal(got, want, n_want);
	}
}

static size_t push_in_parts(const char *s, size_t n, size_t part, char *out)
{
	struct bn_utf8_hold hold = { 0 };
	size_t written = 0;

	for (size_t i = 0; i < n; i += part) {
		size_t bytes = n - i < part ? n - i : part;
		size_t got = bn_utf8_push(&hold, s + i, bytes, out + written);

		assert_true(bn_utf8_valid(out + written, got));
		assert_true(hold.n < 4);
		written += got;
	}
	return written + bn_utf8_flush(&hold, out + written);
}

static void utf8_streams_give_what_whole_texts_give(void **state)
{
	uint32_t random = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		char text[24];
		char want[3 * 24];
		char got[3 * 24 + 16];
		size_t n;

		for (size_t i = 0; i < sizeof(text); i++) {
			static const char bytes[] =
				"aZ\x80\xBF\x9F\x92\xC3\xA9\xE2\x82\xAC\xF0\xED\xA0"
				"\xF4\xFF";

			random = random * 1664525 + 1013904223;
			text[i] = bytes[(random >> 16) % (sizeof(bytes) - 1)];
		}
		n = bn_utf8_clean(text, sizeof(text), want);
		for (size_t part = 1; part < 7; part++) {
			assert_int_equal(push_in_parts(text, sizeof(text), part, got), n);
			assert_memory_equal(got, want, n);
		}
	}
}

static void utf8_holds_back_only_what_may_become_a_character(void **state)
{
	struct bn_utf8_hold hold = { 0 };
	char out[32];

	(void)state;
	assert_int_equal(bn_utf8_push(&hold, "\xC2", 1, out), 0);
	assert_int_equal(bn_utf8_push(&hold, NULL, 0, out), 0);
	assert_int_equal(bn_utf8_push(&hold, "\xA3", 1, out), 2);
	assert_memory_equal(out, "£", 2);
	assert_int_equal(bn_utf8_push(&hold, "\xED\xA0", 2, out), 6); /* a surrogate: hopeless */
	assert_int_equal(hold.n, 0);
	assert_int_equal(bn_utf8_push(&hold, "\xF0\x9F\x91", 3, out), 0);
	assert_int_equal(bn_utf8_flush(&hold, out), 3);
	assert_int_equal(bn_utf8_flush(&hold, out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8_decodes_every_scalar_value_it_encodes),
		cmocka_unit_test(utf8_replaces_maximal_parts),
		cmocka_unit_test(utf8_streams_give_what_whole_texts_give),
		cmocka_unit_test(utf8_holds_back_only_what_may_become_a_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
