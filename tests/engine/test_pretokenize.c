/* The splitters, compared with PCRE2 running the regular expressions they stand for. */
#include "engine/pretokenize.h"

#include "engine/utf8.h"
#include "tests/engine/vocabs.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* \s as White_Space: PCRE2's own adds U+180E. */
#define S                                                                                      \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{" \
	"202f}\\x{205f}\\x{3000}"
/* The models' own expressions; (*:x) names the branch that matched and changes nothing. */
#define LLAMA(digits)                                                                        \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)(*:c)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+(*:l)|" digits       \
	"(*:n)| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*(*:o)|[" S "]*[\\r\\n]+(*:r)|[" S "]+(?![^" S \
	"])(*:e)|[" S "]+(*:s)"

static const char *const patterns[BN_SPLITTER_COUNT] = {
	[BN_SPLIT_LLAMA3] = LLAMA("\\p{N}{1,3}"),
	[BN_SPLIT_QWEN2] = LLAMA("\\p{N}"),
	[BN_SPLIT_GPT2] = "(?:'s|'t|'re|'ve|'m|'ll|'d)(*:c)| ?\\p{L}+(*:l)| ?\\p{N}+(*:n)|"
			  " ?[^" S "\\p{L}\\p{N}]+(*:o)|[" S "]+(?![^" S "])(*:e)|[" S "]+(*:s)",
};

/* The branches of each, and how often a comparison ended in one. */
static const char *const branches[BN_SPLITTER_COUNT] = {
	[BN_SPLIT_LLAMA3] = "clnores",
	[BN_SPLIT_QWEN2] = "clnores",
	[BN_SPLIT_GPT2] = "clnoes",
};
static unsigned long taken[BN_SPLITTER_COUNT][128];

static pcre2_code *compiled[BN_SPLITTER_COUNT];
static pcre2_match_data *match_data;

static int compile(void **state)
{
	(void)state;
	for (int i = 0; i < BN_SPLITTER_COUNT; i++) {
		int error;
		PCRE2_SIZE at;

		compiled[i] = pcre2_compile((PCRE2_SPTR)patterns[i], PCRE2_ZERO_TERMINATED,
					    PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
		if (compiled[i] == NULL) {
			return -1;
		}
	}
	match_data = pcre2_match_data_create(4, NULL);
	return match_data == NULL ? -1 : 0;
}

static int release(void **state)
{
	(void)state;
	for (int i = 0; i < BN_SPLITTER_COUNT; i++) {
		pcre2_code_free(compiled[i]);
	}
	pcre2_match_data_free(match_data);
	return 0;
}

static void compare(enum bn_splitter splitter, const char *text, size_t n)
{
	for (size_t at = 0; at < n;) {
		size_t got = bn_pretokenize_next(splitter, text + at, n - at);
		int rc = pcre2_match(compiled[splitter], (PCRE2_SPTR)text, n, at,
				     PCRE2_NO_UTF_CHECK, match_data, NULL);
		PCRE2_SIZE *span = pcre2_get_ovector_pointer(match_data);

		/* The expressions match everywhere, so each match begins where the last ended. */
		if (rc < 1 || span[0] != at || span[1] != at + got) {
			fprintf(stderr, "splitter %d, text '%.*s', at %zu: %zu bytes, PCRE2 %zu\n",
				(int)splitter, (int)n, text, at, got, rc < 1 ? 0 : span[1] - at);
			fail();
		}
		taken[splitter][*pcre2_get_mark(match_data)]++;
		at += got;
	}
}

static uint64_t random_state = 42;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

/* PCRE2 10.42 knows Unicode 14, utf8proc may know more: newer characters are not compared. */
static bool same_in_both(uint32_t cp)
{
	static pcre2_code *unassigned;
	char s[4];
	size_t n = bn_utf8_encode(cp, s);
	int error;
	PCRE2_SIZE at;

	if (unassigned == NULL) {
		unassigned = pcre2_compile((PCRE2_SPTR) "\\p{Cn}", PCRE2_ZERO_TERMINATED,
					   PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
		assert_non_null(unassigned);
	}
	return pcre2_match(unassigned, (PCRE2_SPTR)s, n, 0, 0, match_data, NULL) < 0;
}

static uint32_t random_character(void)
{
	static const uint32_t pool[] = {
		'\'',  '\'',   's',     'S',     't',      'r',    'e',    'E',    'v',
		'l',   'L',    'm',     'd',     'D',      'x',    'A',    ' ',    ' ',
		' ',   '\n',   '\r',    '\t',    '\v',     '\f',   '.',    ',',    '!',
		'_',   '$',    '0',     '7',     '9',      0x17F,  0x85,   0xA0,   0xBD,
		0xC9,  0xE9,   0x300,   0x301,   0x200D,   0x2028, 0x3000, 0x4E2D, 0xB2,
		0x661, 0x2164, 0x1F600, 0x1F1E9, 0x10FFFF, 0xFEFF, 0x1680, 0x0,    0x7F,
	};
	uint32_t cp;

	if (random_below(8) != 0) {
		return pool[random_below(sizeof(pool) / sizeof(pool[0]))];
	}
	do {
		cp = random_below(random_below(2) ? 0x3000 : 0x110000);
	} while ((cp >= 0xD800 && cp <= 0xDFFF) || !same_in_both(cp));
	return cp;
}

/* Often enough "'s", "'RE" and the like, which letters at random would hardly ever spell. */
static size_t random_piece(char *out)
{
	static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d", "x", "r" };

	if (random_below(12) == 0) {
		const char *ending = endings[random_below(9)];
		size_t n = 0;

		out[n++] = '\'';
		for (; *ending != '\0'; ending++) {
			out[n++] = (char)(*ending - (random_below(3) == 0 ? 'a' - 'A' : 0));
		}
		return n;
	}
	return bn_utf8_encode(random_character(), out);
}

static void splitters_agree_with_pcre2_on_random_strings(void **state)
{
	enum { ROUNDS = 100000, OFTEN = 5000 };

	(void)state;
	memset(taken, 0, sizeof(taken));
	for (unsigned round = 0; round < ROUNDS; round++) {
		char text[4 * 24];
		size_t n = 0;
		unsigned pieces = 1 + random_below(24);

		for (unsigned i = 0; i < pieces; i++) {
			n += random_piece(text + n);
		}
		for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
			compare((enum bn_splitter)s, text, n);
		}
	}
	/* The strings are of use only if every branch of every expression was taken. */
	for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
		for (const char *b = branches[s]; *b != '\0'; b++) {
			print_message("splitter %d, branch %c: %lu\n", s, *b,
				      taken[s][(unsigned char)*b]);
			assert_true(taken[s][(unsigned char)*b] >= OFTEN);
		}
	}
}

static void splitters_agree_with_pcre2_on_every_character(void **state)
{
	static const char *const around[][2] = {
		{ "", "" }, { "a", "b" }, { " ", "1" }, { "'", "s" }, { " ", " x" }, { "\n", "." },
	};

	(void)state;
	for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
		if ((cp >= 0xD800 && cp <= 0xDFFF) || !same_in_both(cp)) {
			continue;
		}
		for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
			char text[32];
			size_t n = strlen(around[i][0]);

			memcpy(text, around[i][0], n);
			n += bn_utf8_encode(cp, text + n);
			memcpy(text + n, around[i][1], strlen(around[i][1]));
			n += strlen(around[i][1]);
			for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
				compare((enum bn_splitter)s, text, n);
			}
		}
	}
}

static void check_pieces(enum bn_splitter splitter, const char *text, const char *const *want)
{
	size_t n = strlen(text);

	while (n > 0) {
		size_t got = bn_pretokenize_next(splitter, text, n);

		assert_non_null(*want);
		assert_int_equal(got, strlen(*want));
		assert_memory_equal(text, *want, got);
		text += got;
		n -= got;
		want++;
	}
	assert_null(*want);
}

static void splitters_cut_well_known_texts(void **state)
{
	static const char text[] = "I'LL pay  $1234,\n\n  ok'\u017F \n";
	static const char *const llama3[] = { "I",     "'LL", " pay", " ",       " $",  "123", "4",
					      ",\n\n", " ",   " ok",  "'\u017F", " \n", NULL };
	static const char *const qwen2[] = { "I", "'LL", " pay",    " ",   " $",
					     "1", "2",   "3",       "4",   ",\n\n",
					     " ", " ok", "'\u017F", " \n", NULL };
	static const char *const gpt2[] = { "I", "'",     "LL",  " pay", " ",      " $",  "1234",
					    ",", "\n\n ", " ok", "'",    "\u017F", " \n", NULL };

	(void)state;
	check_pieces(BN_SPLIT_LLAMA3, text, llama3);
	check_pieces(BN_SPLIT_QWEN2, text, qwen2);
	check_pieces(BN_SPLIT_GPT2, text, gpt2);
	assert_int_equal(bn_pretokenize_next(BN_SPLIT_LLAMA3, "", 0), 0);
}

static void splitters_consume_broken_utf8_too(void **state)
{
	static const char text[] = "a\xFF\xC3 \xE2\x82 1\x80";

	(void)state;
	for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
		size_t at = 0;

		while (at < sizeof(text) - 1) {
			size_t got = bn_pretokenize_next((enum bn_splitter)s, text + at,
							 sizeof(text) - 1 - at);

			assert_true(got > 0 && got <= sizeof(text) - 1 - at);
			at += got;
		}
	}
}

static void pretokenizers_are_found_by_their_gguf_names(void **state)
{
	static const char *const llama3[] = { "llama3",  "llama-bpe", "llama-v3",
					      "falcon3", "falcon_e",  "falcon-h1" };

	(void)state;
	for (size_t i = 0; i < sizeof(llama3) / sizeof(llama3[0]); i++) {
		const struct bn_pretokenizer *row =
			bn_pretokenizer_find(llama3[i], strlen(llama3[i]));

		assert_non_null(row);
		assert_int_equal(row->splitter, BN_SPLIT_LLAMA3);
		assert_true(row->ignore_merges);
	}
	assert_int_equal(bn_pretokenizer_find("qwen2", 5)->splitter, BN_SPLIT_QWEN2);
	assert_int_equal(bn_pretokenizer_find("gpt-2", 5)->splitter, BN_SPLIT_GPT2);
	assert_int_equal(bn_pretokenizer_find("default", 7)->splitter, BN_SPLIT_GPT2);
	assert_null(bn_pretokenizer_find("llama", 5));
	assert_null(bn_pretokenizer_find("", 0));
}

/* "pretokenizer_splits" of the Llama-3 vectors: [{text, pieces}]. */
static void splitter_gives_the_llama3_split_vectors(void **state)
{
	size_t n;
	char *text = vocabs_read("tokenizer-vectors/llama3-vectors.json", &n);
	json_t *root = json_loadb(text, n, 0, NULL);
	const json_t *list = json_object_get(root, "pretokenizer_splits");
	size_t i;
	json_t *row;

	(void)state;
	assert_true(json_array_size(list) > 0);
	json_array_foreach(list, i, row)
	{
		const json_t *pieces = json_object_get(row, "pieces");
		const char *at = json_string_value(json_object_get(row, "text"));
		size_t left = json_string_length(json_object_get(row, "text"));
		size_t k = 0;

		while (left > 0) {
			size_t got = bn_pretokenize_next(BN_SPLIT_LLAMA3, at, left);
			const json_t *want = json_array_get(pieces, k++);

			assert_int_equal(got, json_string_length(want));
			assert_memory_equal(at, json_string_value(want), got);
			at += got;
			left -= got;
		}
		assert_int_equal(k, json_array_size(pieces));
	}
	json_decref(root);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splitters_agree_with_pcre2_on_random_strings),
		cmocka_unit_test(splitters_agree_with_pcre2_on_every_character),
		cmocka_unit_test(splitters_cut_well_known_texts),
		cmocka_unit_test(splitters_consume_broken_utf8_too),
		cmocka_unit_test(pretokenizers_are_found_by_their_gguf_names),
	};
	const struct CMUnitTest real[] = {
		cmocka_unit_test(splitter_gives_the_llama3_split_vectors),
	};
	int failed = cmocka_run_group_tests(tests, compile, release);

	return failed != 0 ? failed : cmocka_run_group_tests(real, NULL, NULL);
}
