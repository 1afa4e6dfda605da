/* Character classes, compared with PCRE2's tables over all code points. */
#include "engine/unicode.h"

#include "engine/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static pcre2_code *compile(const char *pattern)
{
	int error;
	PCRE2_SIZE at;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
					 PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);

	assert_non_null(code);
	return code;
}

static bool matches(const pcre2_code *code, uint32_t cp)
{
	char s[4];
	size_t n = bn_utf8_encode(cp, s);
	pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
	int rc = pcre2_match(code, (PCRE2_SPTR)s, n, 0, 0, data, NULL);

	pcre2_match_data_free(data);
	return rc > 0;
}

static void unicode_classes_agree_with_pcre2(void **state)
{
	pcre2_code *letter = compile("\\A\\p{L}");
	pcre2_code *number = compile("\\A\\p{N}");
	pcre2_code *space = compile("\\A\\s");
	pcre2_code *unassigned = compile("\\A\\p{Cn}");
	unsigned differences = 0;

	(void)state;
	for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
		enum bn_class class = bn_unicode_class(cp);
		bool blank = class == BN_CLASS_SPACE || class == BN_CLASS_NEWLINE;

		if (cp >= 0xD800 && cp <= 0xDFFF) {
			assert_int_equal(class, BN_CLASS_OTHER);
			continue;
		}
		/* U+180E was a space until Unicode 6.3; PCRE2 keeps it in \s for Perl's sake. */
		if (cp == 0x180E) {
			assert_int_equal(class, BN_CLASS_OTHER);
			continue;
		}
		assert_int_equal(class == BN_CLASS_NEWLINE, cp == '\n' || cp == '\r');
		if ((class == BN_CLASS_LETTER) != matches(letter, cp) ||
		    (class == BN_CLASS_NUMBER) != matches(number, cp) ||
		    blank != matches(space, cp)) {
			/* Only characters that are newer than one library's tables may differ. */
			assert_true(matches(unassigned, cp) || class == BN_CLASS_OTHER);
			differences++;
		}
	}
	assert_true(differences < 10000);
	pcre2_code_free(letter);
	pcre2_code_free(number);
	pcre2_code_free(space);
	pcre2_code_free(unassigned);
}

static void unicode_classes_of_well_known_characters(void **state)
{
	(void)state;
	assert_int_equal(bn_unicode_class('a'), BN_CLASS_LETTER);
	assert_int_equal(bn_unicode_class('_'), BN_CLASS_OTHER);
	assert_int_equal(bn_unicode_class(0x4E2D), BN_CLASS_LETTER);
	assert_int_equal(bn_unicode_class(0x0301), BN_CLASS_OTHER); /* combining: \p{M} */
	assert_int_equal(bn_unicode_class(0x0663), BN_CLASS_NUMBER);
	assert_int_equal(bn_unicode_class(0x00BD), BN_CLASS_NUMBER);
	assert_int_equal(bn_unicode_class(0x2163), BN_CLASS_NUMBER);
	assert_int_equal(bn_unicode_class(0x85), BN_CLASS_SPACE);
	assert_int_equal(bn_unicode_class(0x200B), BN_CLASS_OTHER);
	assert_int_equal(bn_unicode_class(0x3000), BN_CLASS_SPACE);
	assert_int_equal(bn_unicode_class(UINT32_MAX), BN_CLASS_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unicode_classes_agree_with_pcre2),
		cmocka_unit_test(unicode_classes_of_well_known_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
