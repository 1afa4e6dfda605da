/*
 * Tokenizing is linear: on texts that made other tokenizers quadratic, eight times the text costs
 * eight times the work, counted and not timed. What is counted is every step whose number could
 * grow faster than the text: characters decoded and classified, look-ups in the vocabulary, pairs
 * that merging asked about. (The heap adds the logarithm of a piece, which is at most 64 KiB.)
 *
 * The linker puts the counters of this file in front of those functions (--wrap, CMakeLists.txt).
 */
#include "engine/tokenizer.h"

#include "engine/merge.h"
#include "engine/unicode.h"
#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	SMALL = 32 * 1024,
	LARGE = 8 * SMALL,
	MOST_PER_BYTE = 20, /* steps; about 8 are seen */
};

/* --- counters --------------------------------------------------------------------------------- */

static uint64_t work;

size_t __real_bn_utf8_decode(const char *text, size_t n, uint32_t *cp);
size_t __wrap_bn_utf8_decode(const char *text, size_t n, uint32_t *cp);
enum bn_class __real_bn_unicode_class(uint32_t cp);
enum bn_class __wrap_bn_unicode_class(uint32_t cp);
bn_token __real_bn_lexicon_find(const struct bn_lexicon *lex, const char *text, size_t n);
bn_token __wrap_bn_lexicon_find(const struct bn_lexicon *lex, const char *text, size_t n);
bn_token __real_bn_lexicon_match(const struct bn_lexicon *lex, const struct bn_lexicon_list *list,
				 const char *text, size_t n, size_t *bytes);
bn_token __wrap_bn_lexicon_match(const struct bn_lexicon *lex, const struct bn_lexicon_list *list,
				 const char *text, size_t n, size_t *bytes);
enum bn_status __real_bn_merge_run(struct bn_merger *m, bn_merge_pair pair, const void *who,
				   struct bn_error *err);
enum bn_status __wrap_bn_merge_run(struct bn_merger *m, bn_merge_pair pair, const void *who,
				   struct bn_error *err);

size_t __wrap_bn_utf8_decode(const char *text, size_t n, uint32_t *cp)
{
	work++;
	return __real_bn_utf8_decode(text, n, cp);
}

enum bn_class __wrap_bn_unicode_class(uint32_t cp)
{
	work++;
	return __real_bn_unicode_class(cp);
}

bn_token __wrap_bn_lexicon_find(const struct bn_lexicon *lex, const char *text, size_t n)
{
	work++;
	return __real_bn_lexicon_find(lex, text, n);
}

bn_token __wrap_bn_lexicon_match(const struct bn_lexicon *lex, const struct bn_lexicon_list *list,
				 const char *text, size_t n, size_t *bytes)
{
	work++;
	return __real_bn_lexicon_match(lex, list, text, n, bytes);
}

enum bn_status __wrap_bn_merge_run(struct bn_merger *m, bn_merge_pair pair, const void *who,
				   struct bn_error *err)
{
	const uint64_t before = m->pairs;
	const enum bn_status status = __real_bn_merge_run(m, pair, who, err);

	work += m->n + (m->pairs - before);
	return status;
}

/* --- texts ------------------------------------------------------------------------------------ */

static const char *const hostile[] = {
	"A",
	" ",
	"\n",
	"us",
	"\u9547",
	"\U0001F469\u200D\U0001F4BB",       /* emoji with a joiner */
	"\U0001F468\u200D\U0001F469\u200D", /* a family without end */
	"e\u0301\u0300",
	"\u0300",
	"7",
	"1234567890",
	"'",
	" \n",
	"  \n\t",
	"\u2581",
	"\u3000",
	"<|eot_id",
	"a ",
	"\u00A3",
	"A \u9547\U0001F469\u200D\U0001F4BBe\u0301 12.\n\n  it's", /* all of it */
};

static char *repeat(const char *unit, size_t bytes, size_t *n)
{
	char *text = malloc(bytes);
	const size_t unit_bytes = strlen(unit);

	assert_non_null(text);
	for (*n = 0; *n + unit_bytes <= bytes; *n += unit_bytes) {
		memcpy(text + *n, unit, unit_bytes);
	}
	return text;
}

/* Steps per byte of `bytes` bytes of repeated units. */
static double steps(const struct bn_tokenizer *tok, const char *unit, size_t bytes)
{
	const struct bn_encode_options options = { .parse_special = true };
	struct bn_tokens out = { 0 };
	size_t n;
	char *text = repeat(unit, bytes, &n);

	work = 0;
	assert_int_equal(bn_tokenizer_encode(tok, text, n, &options, &out, NULL), BN_OK);
	bn_tokens_finish(&out);
	free(text);
	return (double)work / (double)n;
}

static void is_linear(const struct bn_tokenizer *tok, const char *name)
{
	double most = 0.0;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const double small = steps(tok, hostile[i], SMALL);
		const double large = steps(tok, hostile[i], LARGE);

		if (!(small > 0.0 && large <= 1.02 * small && large <= MOST_PER_BYTE)) {
			fail_msg("%s, text %zu: %.2f steps per byte of %d bytes, %.2f of %d", name,
				 i, small, SMALL, large, LARGE);
		}
		most = large > most ? large : most;
	}
	print_message("%s: at most %.2f steps per byte\n", name, most);
}

/* --- vocabularies ----------------------------------------------------------------------------- */

static void tiny_vocabularies_take_linear_work(void **state)
{
	static const char *const names[] = { "byte-level", "SentencePiece", "Falcon-E" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct vocabs v;
		struct bn_tokenizer *tok;

		if (i == 0) {
			vocabs_tiny_bpe(&v);
		} else if (i == 1) {
			vocabs_tiny_spm(&v);
		} else {
			vocabs_falcon_e(&v, 0);
		}
		tok = vocabs_make(&v);
		is_linear(tok, names[i]);
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

/* Each splitter, and merges that make ever longer tokens of one letter. */
static void every_splitter_takes_linear_work(void **state)
{
	(void)state;
	for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
		struct vocabs v;
		struct bn_tokenizer *tok;
		char token[257], merge[258], name[40];

		vocabs_init(&v, BN_TOKENIZER_BPE);
		vocabs_add_gpt2_bytes(&v);
		for (size_t n = 2; n <= 256; n *= 2) {
			memset(token, 'A', n);
			token[n] = '\0';
			vocabs_add(&v, token, BN_TOKEN_NORMAL, 0);
			memcpy(merge, token, n / 2);
			merge[n / 2] = ' ';
			strcpy(merge + n / 2 + 1, token + n / 2);
			vocabs_add_merge(&v, merge);
		}
		v.vocab.splitter = (enum bn_splitter)s;
		tok = vocabs_make(&v);
		snprintf(name, sizeof(name), "splitter %d", s);
		is_linear(tok, name);
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

static void real_vocabularies_take_linear_work(void **state)
{
	static const char *const files[] = { "tokenizers/ggml-vocab-llama-spm.gguf",
					     "tokenizers/ggml-vocab-phi-3.gguf" };
	const char *root = getenv("BN_TEST_DATA");
	char path[1024];
	struct bn_tokenizer *tok;
	struct vocabs v;

	(void)state;
	snprintf(path, sizeof(path), "%s/tokenizers/llama3", root != NULL ? root : "");
	if (access(path, R_OK) != 0) {
		print_message("skipped: no %s\n", path);
		skip();
	}
	vocabs_llama3(&v);
	tok = vocabs_make(&v);
	vocabs_finish(&v);
	is_linear(tok, "Llama-3");
	bn_tokenizer_free(tok);
	for (size_t i = 0; i < 2; i++) {
		tok = vocabs_gguf(files[i]);
		is_linear(tok, files[i]);
		bn_tokenizer_free(tok);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tiny_vocabularies_take_linear_work),
		cmocka_unit_test(every_splitter_takes_linear_work),
		cmocka_unit_test(real_vocabularies_take_linear_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
