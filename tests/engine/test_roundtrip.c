/*
 * decode(encode(text)) == text for every valid UTF-8 text, for each family of tokenizers; and what
 * exactly is lost where a vocabulary lacks the symbol of a byte.
 *
 * "Every" is every character of Unicode, next to others, and random texts of all planes. Broken
 * UTF-8 is no text: it is replaced before it is encoded (test_tokenizer.c).
 */
#include "engine/tokenizer.h"

#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHUNK = 4096, RANDOM_TEXTS = 3000 };

static uint64_t random_state = 20260101;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

/* Text [n] there and back, to out [3 n]; returns its bytes. */
static size_t there_and_back(const struct bn_tokenizer *tok, const char *text, size_t n, char *out)
{
	struct bn_tokens ids = { 0 };
	struct bn_error err;
	size_t needed = 0;

	if (bn_tokenizer_encode(tok, text, n, NULL, &ids, &err) != BN_OK ||
	    bn_tokenizer_decode(tok, ids.ids, ids.n, 0, out, 3 * n, &needed, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	bn_tokens_finish(&ids);
	return needed;
}

static void comes_back(const struct bn_tokenizer *tok, const char *text, size_t n)
{
	static char out[3 * CHUNK];
	const size_t got = there_and_back(tok, text, n, out);

	if (got != n || memcmp(out, text, n) != 0) {
		fail_msg("'%.*s' became '%.*s'", (int)n, text, (int)got, out);
	}
}

/* Every character, in order, with what often stands beside it; returns how many there were. */
static uint32_t every_character(const struct bn_tokenizer *tok)
{
	static const char *const between[] = { "", " ", "a", "1", "\n", ".", "\u0301" };
	static char text[CHUNK];
	uint32_t characters = 0;
	size_t n = 0;

	for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
		if (cp >= 0xD800 && cp <= 0xDFFF) {
			continue;
		}
		n += bn_utf8_encode(cp, text + n);
		for (const char *c = between[cp % 7]; *c != '\0'; c++) {
			text[n++] = *c;
		}
		characters++;
		if (n > CHUNK - 16 || cp == 0x10FFFF) {
			comes_back(tok, text, n);
			n = 0;
		}
	}
	return characters;
}

/* One, two, three and four bytes alike, and from all seventeen planes. */
static uint32_t random_character(void)
{
	static const uint32_t most[] = { 0x80, 0x800, 0x10000, 0x110000 };
	uint32_t cp;

	do {
		const uint32_t size = random_below(4);
		const uint32_t least = size == 0 ? 0 : most[size - 1];

		cp = least + random_below(most[size] - least);
	} while (cp >= 0xD800 && cp <= 0xDFFF);
	return cp;
}

static void random_texts(const struct bn_tokenizer *tok)
{
	unsigned planes = 0;

	for (unsigned i = 0; i < RANDOM_TEXTS; i++) {
		char text[4 * 48];
		size_t n = 0;

		for (unsigned k = 1 + random_below(47); k > 0; k--) {
			const uint32_t cp = random_character();

			planes |= 1u << (cp >> 16);
			n += bn_utf8_encode(cp, text + n);
		}
		comes_back(tok, text, n);
	}
	assert_int_equal(planes, 0x1FFFF);
}

static void gives_all_back(struct bn_tokenizer *tok, const char *name)
{
	const uint32_t characters = every_character(tok);

	random_texts(tok);
	comes_back(tok, "", 0);
	assert_int_equal(bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES, 0);
	assert_int_equal(characters, 0x110000 - 0x800);
	print_message("%s: %u characters, %d random texts\n", name, characters, RANDOM_TEXTS);
	bn_tokenizer_free(tok);
}

static void byte_level_vocabularies_give_all_text_back(void **state)
{
	(void)state;
	for (int s = 0; s < BN_SPLITTER_COUNT; s++) {
		struct vocabs v;
		char name[40];

		vocabs_tiny_bpe(&v);
		v.vocab.splitter = (enum bn_splitter)s;
		v.vocab.ignore_merges = s == BN_SPLIT_LLAMA3;
		snprintf(name, sizeof(name), "byte-level, splitter %d", s);
		gives_all_back(vocabs_make(&v), name);
		vocabs_finish(&v);
	}
}

static void sentencepiece_vocabularies_give_all_text_back(void **state)
{
	(void)state;
	for (int prefix = 0; prefix < 2; prefix++) {
		struct vocabs v;

		vocabs_tiny_spm(&v);
		v.vocab.add_space_prefix = prefix != 0;
		/* As 32000 and 32001 of the 1bitLLM models: behind all that was trained. */
		vocabs_add(&v, "<pad>", BN_TOKEN_CONTROL, -1000);
		vocabs_add(&v, "</line>", BN_TOKEN_USER_DEFINED, -1000);
		gives_all_back(vocabs_make(&v),
			       prefix ? "SentencePiece, dummy space" : "SentencePiece");
		vocabs_finish(&v);
	}
}

/* 243 symbols: bytes without one are in no UTF-8 text. */
static void falcon_e_gives_all_text_back(void **state)
{
	struct vocabs v;

	(void)state;
	vocabs_falcon_e(&v, 0);
	gives_all_back(vocabs_make(&v), "Falcon-E");
	vocabs_finish(&v);
}

static void real_vocabularies_give_all_text_back(void **state)
{
	const char *root = getenv("BN_TEST_DATA");
	char path[1024];
	struct vocabs v;

	(void)state;
	snprintf(path, sizeof(path), "%s/tokenizers/llama3", root != NULL ? root : "");
	if (access(path, R_OK) != 0) {
		print_message("skipped: no %s\n", path);
		skip();
	}
	vocabs_llama3(&v);
	gives_all_back(vocabs_make(&v), "Llama-3");
	vocabs_finish(&v);
	gives_all_back(vocabs_gguf("tokenizers/ggml-vocab-llama-spm.gguf"), "Llama-2");
	gives_all_back(vocabs_gguf("tokenizers/ggml-vocab-phi-3.gguf"), "Phi-3");
}

/*
 * A byte of UTF-8 without a symbol, as Falcon3 seems to have: the model cannot see it, whoever
 * tokenizes. It is dropped, there is a warning, and nothing else is lost: what comes back is the
 * text without that byte, made UTF-8 again. Where a longer token of the vocabulary holds the byte
 * and is the whole piece, it survives.
 */
static void a_missing_symbol_costs_its_byte_alone(void **state)
{
	static const unsigned missing[] = { '\n', 0xC4, 0x8A, 0xE2 };

	(void)state;
	for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
		struct bn_tokenizer *tok;
		struct vocabs v;

		vocabs_falcon_e(&v, missing[i]);
		tok = vocabs_make(&v);
		assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) != 0);
		for (uint32_t cp = 0; cp <= 0x10FFFF; cp += cp < 0x3000 ? 1 : 61) {
			char text[8] = "a", out[24], kept[8], want[24];
			size_t n = 1, n_kept = 0;

			if (cp >= 0xD800 && cp <= 0xDFFF) {
				continue;
			}
			n += bn_utf8_encode(cp, text + 1);
			text[n++] = 'b';
			for (size_t k = 0; k < n; k++) {
				if ((unsigned char)text[k] != missing[i]) {
					kept[n_kept++] = text[k];
				}
			}
			n_kept = bn_utf8_clean(kept, n_kept, want);
			assert_int_equal(there_and_back(tok, text, n, out), n_kept);
			assert_memory_equal(out, want, n_kept);
		}
		if (missing[i] == '\n') {
			comes_back(tok, "\n\n", 2); /* a token, and the whole piece */
		}
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(byte_level_vocabularies_give_all_text_back),
		cmocka_unit_test(sentencepiece_vocabularies_give_all_text_back),
		cmocka_unit_test(falcon_e_gives_all_text_back),
		cmocka_unit_test(a_missing_symbol_costs_its_byte_alone),
		cmocka_unit_test(real_vocabularies_give_all_text_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
