/* The tokens of a vocabulary: translation of spellings, who is guarded, finding and matching. */
#include "engine/lexicon.h"

#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A built lexicon and its memory. */
struct built {
	struct bn_lexicon lex;
	struct bn_block block;
};

static void build(struct built *b, const struct vocabs *v)
{
	struct bn_error err;

	b->block = (struct bn_block){ NULL, 0 };
	assert_int_equal(bn_lexicon_build(&b->lex, &b->block, &v->vocab, &err), BN_OK);
	b->block.base = calloc(1, b->block.used);
	assert_non_null(b->block.base);
	b->block.used = 0;
	if (bn_lexicon_build(&b->lex, &b->block, &v->vocab, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

static void drop(struct built *b, struct vocabs *v)
{
	free(b->block.base);
	vocabs_finish(v);
}

static unsigned flags_of(struct built *b, const char *spelling, enum bn_token_type type)
{
	struct vocabs v;
	unsigned flags;

	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add(&v, spelling, type, 0);
	build(b, &v);
	flags = bn_lexicon_flags(&b->lex, 0);
	drop(b, &v);
	return flags;
}

static void lexicon_guards_what_could_give_control(void **state)
{
	struct built b;
	const unsigned guarded = BN_LEXICON_GUARDED;

	(void)state;
	assert_int_equal(flags_of(&b, "word", BN_TOKEN_NORMAL), BN_LEXICON_MERGEABLE);
	assert_int_equal(flags_of(&b, "word", BN_TOKEN_UNUSED), 0);
	assert_int_equal(flags_of(&b, "word", 200), BN_LEXICON_MERGEABLE);
	assert_int_equal(flags_of(&b, "word", BN_TOKEN_CONTROL), guarded);
	assert_int_equal(flags_of(&b, "word", BN_TOKEN_UNKNOWN), guarded);
	assert_int_equal(flags_of(&b, "word", BN_TOKEN_USER_DEFINED), BN_LEXICON_LITERAL);
	assert_int_equal(flags_of(&b, "<tool>", BN_TOKEN_USER_DEFINED), guarded);
	assert_int_equal(flags_of(&b, "<div>", BN_TOKEN_NORMAL), BN_LEXICON_MERGEABLE);
	assert_int_equal(flags_of(&b, "<|any|>", BN_TOKEN_NORMAL), guarded);
	assert_int_equal(flags_of(&b, "<\uFF5Cany\uFF5C>", BN_TOKEN_NORMAL), guarded);
	assert_int_equal(flags_of(&b, "<|>", BN_TOKEN_NORMAL), BN_LEXICON_MERGEABLE);
	assert_int_equal(flags_of(&b, "<end_of_turn>", BN_TOKEN_NORMAL), guarded | BN_LEXICON_EOG);
	assert_int_equal(flags_of(&b, "<|eot_id|>", BN_TOKEN_UNUSED), guarded | BN_LEXICON_EOG);
}

static void lexicon_translates_the_gpt2_alphabet(void **state)
{
	struct vocabs v;
	struct built b;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	vocabs_add(&v, "Ġcaf\u00C3\u00A9", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "not \u4E2D", BN_TOKEN_NORMAL, 0); /* not of the alphabet: unreachable */
	build(&b, &v);
	for (unsigned byte = 0; byte < 256; byte++) {
		struct bn_str text = bn_lexicon_text(&b.lex, byte);

		assert_int_equal(text.n, 1);
		assert_int_equal((unsigned char)text.p[0], byte);
		assert_int_equal(b.lex.byte_id[byte], byte);
	}
	assert_int_equal(bn_lexicon_find(&b.lex, " caf\xC3\xA9", 6), 256);
	assert_int_equal(bn_lexicon_flags(&b.lex, 257), 0);
	assert_int_equal(bn_lexicon_text(&b.lex, 257).n, 7);
	assert_int_equal(bn_lexicon_text(&b.lex, 258).n, 0);
	assert_int_equal(bn_lexicon_flags(&b.lex, 258), 0);
	drop(&b, &v);
	assert_true(bn_lexicon_from_gpt2((struct bn_str){ " ", 1 }, NULL) == SIZE_MAX);
	assert_true(bn_lexicon_from_gpt2((struct bn_str){ "\xFF", 1 }, NULL) == SIZE_MAX);
	assert_int_equal(bn_lexicon_from_gpt2((struct bn_str){ "", 0 }, NULL), 0);
}

static void lexicon_translates_sentencepiece_spelling(void **state)
{
	struct vocabs v;
	struct built b;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "\u2581a\u2581", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "<0x0A>", BN_TOKEN_NORMAL, 0); /* a byte, whatever the type */
	vocabs_add(&v, "<0xZZ>", BN_TOKEN_BYTE, 0);   /* no byte, whatever the type */
	vocabs_add(&v, "<0x0a>", BN_TOKEN_BYTE, 0);
	build(&b, &v);
	assert_int_equal(bn_lexicon_find(&b.lex, " a ", 3), 0);
	assert_int_equal(b.lex.byte_id['\n'], 1);
	assert_int_equal(bn_lexicon_text(&b.lex, 1).n, 1);
	assert_int_equal(bn_lexicon_find(&b.lex, "\n", 1), BN_TOKEN_NONE);
	assert_int_equal(bn_lexicon_find(&b.lex, "<0xZZ>", 6), 2);
	drop(&b, &v);
}

static void lexicon_finds_the_lowest_of_duplicates_and_never_empty_ones(void **state)
{
	struct vocabs v;
	struct built b;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_bytes(&v, NULL, 0, BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "x", BN_TOKEN_USER_DEFINED, 0);
	vocabs_add(&v, "x", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "x", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "x", BN_TOKEN_NORMAL, 0);
	build(&b, &v);
	assert_int_equal(bn_lexicon_find(&b.lex, "x", 1), 3); /* mergeable before literal */
	assert_int_equal(bn_lexicon_find(&b.lex, "", 0), BN_TOKEN_NONE);
	assert_int_equal(bn_lexicon_find(&b.lex, NULL, 0), BN_TOKEN_NONE);
	assert_int_equal(b.lex.byte_id['x'], 3);
	drop(&b, &v);
}

/* Random lists against looking at every token. */
static void lexicon_matches_the_longest(void **state)
{
	uint32_t seed = 3;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct vocabs v;
		struct built b;
		size_t n_tokens = 1 + round % 50;

		vocabs_init(&v, BN_TOKENIZER_SPM);
		for (size_t i = 0; i < n_tokens; i++) {
			char text[8];
			size_t n;

			seed = seed * 1664525 + 1013904223;
			n = (seed >> 20) % 7;
			for (size_t k = 0; k < n; k++) {
				text[k] = (char)('a' + (seed >> (8 + k) & 1));
			}
			vocabs_add_bytes(&v, text, n, BN_TOKEN_CONTROL, 0);
		}
		build(&b, &v);
		for (unsigned bits = 0; bits < 256; bits++) {
			char text[8];
			size_t best_bytes = 0;
			bn_token best = BN_TOKEN_NONE;
			size_t bytes = 0;
			bn_token got;

			for (size_t k = 0; k < 8; k++) {
				text[k] = (char)('a' + (bits >> k & 1));
			}
			for (bn_token i = 0; i < n_tokens; i++) {
				struct bn_str s = bn_lexicon_text(&b.lex, i);

				if (s.n > best_bytes && memcmp(s.p, text, s.n) == 0) {
					best = i;
					best_bytes = s.n;
				}
			}
			got = bn_lexicon_match(&b.lex, &b.lex.guarded, text, 8, &bytes);
			assert_int_equal(got, best);
			assert_int_equal(bytes, best_bytes);
			/* A shorter text: nothing beyond it is read or matched. */
			got = bn_lexicon_match(&b.lex, &b.lex.guarded, text, 1, &bytes);
			assert_true(got == BN_TOKEN_NONE || bytes == 1);
		}
		drop(&b, &v);
	}
}

static void lexicon_does_not_match_broken_texts(void **state)
{
	struct vocabs v;
	struct built b;
	size_t bytes;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "\x95\x87", BN_TOKEN_CONTROL, 0); /* the end of a character */
	vocabs_add(&v, "", BN_TOKEN_CONTROL, 0);
	build(&b, &v);
	assert_int_equal(bn_lexicon_match(&b.lex, &b.lex.guarded, "\x95\x87", 2, &bytes),
			 BN_TOKEN_NONE);
	drop(&b, &v);
}

/* A copy of the table's hash, as an attacker would have one. */
static uint32_t hash_of(const char *s, size_t n)
{
	uint64_t h = n * 0x9E3779B97F4A7C15u;

	while (n > 0) {
		uint64_t word = 0;
		size_t part = n < 8 ? n : 8;

		memcpy(&word, s, part);
		h = (h ^ word) * 0xD6E8FEB86659FD93u;
		h ^= h >> 32;
		s += part;
		n -= part;
	}
	h *= 0xD6E8FEB86659FD93u;
	return (uint32_t)(h >> 32);
}

/* Whoever knows the hash can build such a vocabulary; loading it must not take for ever. */
static void lexicon_refuses_texts_chosen_to_collide(void **state)
{
	enum { TOKENS = 2100, SLOTS = 8192 };
	struct vocabs v;
	struct bn_lexicon lex;
	struct bn_block block = { NULL, 0 };
	struct bn_error err;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	for (uint32_t i = 0; v.vocab.n_tokens < TOKENS; i++) {
		char text[8] = { 0 };

		for (unsigned k = 0; k < 8; k++) { /* cheaper than printing millions of numbers */
			text[k] = (char)('a' + (i >> (4 * k) & 15));
		}
		if (hash_of(text, 8) % SLOTS == 0) {
			vocabs_add_bytes(&v, text, 8, BN_TOKEN_NORMAL, 0);
		}
	}
	assert_int_equal(bn_lexicon_build(&lex, &block, &v.vocab, &err), BN_OK);
	block.base = calloc(1, block.used);
	block.used = 0;
	assert_int_equal(bn_lexicon_build(&lex, &block, &v.vocab, &err), BN_E_FORMAT);
	assert_int_equal(lex.mask, SLOTS - 1);
	assert_non_null(strstr(err.text, "collide"));
	free(block.base);
	vocabs_finish(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lexicon_guards_what_could_give_control),
		cmocka_unit_test(lexicon_translates_the_gpt2_alphabet),
		cmocka_unit_test(lexicon_translates_sentencepiece_spelling),
		cmocka_unit_test(lexicon_finds_the_lowest_of_duplicates_and_never_empty_ones),
		cmocka_unit_test(lexicon_matches_the_longest),
		cmocka_unit_test(lexicon_does_not_match_broken_texts),
		cmocka_unit_test(lexicon_refuses_texts_chosen_to_collide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
