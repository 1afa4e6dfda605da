/* SentencePiece BPE of stretches of text, cutting at words, byte fallback, scores. */
#include "engine/spm.h"

#include "tests/engine/vocabs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct built {
	struct bn_lexicon lex;
	struct bn_spm spm;
	struct bn_block block;
	struct bn_merger merger;
};

static void build(struct built *b, const struct vocabs *v)
{
	*b = (struct built){ 0 };
	assert_int_equal(bn_lexicon_build(&b->lex, &b->block, &v->vocab, NULL), BN_OK);
	bn_spm_build(&b->spm, &b->block, &v->vocab, &b->lex);
	b->block.base = calloc(1, b->block.used);
	assert_non_null(b->block.base);
	b->block.used = 0;
	assert_int_equal(bn_lexicon_build(&b->lex, &b->block, &v->vocab, NULL), BN_OK);
	bn_spm_build(&b->spm, &b->block, &v->vocab, &b->lex);
	assert_int_equal(bn_merge_reserve(&b->merger, 4096, NULL), BN_OK);
}

static void drop(struct built *b, struct vocabs *v)
{
	free(b->block.base);
	bn_merge_finish(&b->merger);
	vocabs_finish(v);
}

/* The texts the symbols cover, "|" between them, "?" before those without a token. */
static const char *pieces(struct built *b, const char *text, char *out, size_t size)
{
	size_t n = 0;

	assert_int_equal(bn_spm_encode(&b->spm, &b->merger, text, (uint32_t)strlen(text), NULL),
			 BN_OK);
	for (uint32_t i = 0; i != BN_MERGE_NONE; i = b->merger.symbols[i].next) {
		const struct bn_symbol *s = &b->merger.symbols[i];

		n += (size_t)snprintf(out + n, size - n, "%s%s%.*s", n > 0 ? "|" : "",
				      s->id == BN_MERGE_NONE ? "?" : "", (int)s->bytes,
				      text + s->start);
	}
	return out;
}

static void spm_merges_by_score(void **state)
{
	struct vocabs v;
	struct built b;
	char out[256];

	(void)state;
	vocabs_tiny_spm(&v);
	build(&b, &v);
	assert_string_equal(pieces(&b, " the", out, sizeof(out)), " the");
	assert_string_equal(pieces(&b, " there", out, sizeof(out)), " the|re");
	assert_string_equal(pieces(&b, "     a", out, sizeof(out)), "    | a");
	/* "once" is worth less than "on", which must come first to make it. */
	assert_string_equal(pieces(&b, " once", out, sizeof(out)), " once");
	assert_string_equal(pieces(&b, "onceX", out, sizeof(out)), "once|?X");
	drop(&b, &v);
}

static void spm_treats_the_space_mark_in_text_as_what_it_is(void **state)
{
	struct vocabs v;
	struct built b;
	char out[256];
	bn_token ids[4];

	(void)state;
	vocabs_tiny_spm(&v);
	build(&b, &v);
	assert_string_equal(pieces(&b, "\u2581the", out, sizeof(out)), "?\u2581|t|he");
	assert_int_equal(bn_spm_fallback(&b.spm, "\u2581", 3, ids), 3);
	assert_int_equal(ids[0], 3 + 0xE2);
	assert_int_equal(ids[1], 3 + 0x96);
	assert_int_equal(ids[2], 3 + 0x81);
	drop(&b, &v);
}

static void spm_falls_back_to_unk_or_nothing(void **state)
{
	struct vocabs v;
	struct built b;
	bn_token ids[4];

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "<0xC3>", BN_TOKEN_BYTE, 0);
	v.vocab.unk = vocabs_add(&v, "<unk>", BN_TOKEN_UNKNOWN, 0);
	build(&b, &v);
	assert_int_equal(bn_spm_fallback(&b.spm, "\u00E9", 2, ids), 1);
	assert_int_equal(ids[0], 1);
	drop(&b, &v);

	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "x", BN_TOKEN_NORMAL, 0);
	v.vocab.unk = 1; /* out of range */
	build(&b, &v);
	assert_int_equal(bn_spm_fallback(&b.spm, "\u00E9", 2, ids), 0);
	drop(&b, &v);
}

static void spm_orders_every_kind_of_score(void **state)
{
	static const float scores[] = { (float)INFINITY, 3.5f,  1e-40f, 0,
					-1e-40f,         -0.5f, -1e30f, (float)-INFINITY,
					(float)NAN };
	enum { N = sizeof(scores) / sizeof(scores[0]) };
	struct vocabs v;
	struct built b;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	for (size_t i = 0; i < N; i++) {
		char text[2] = { (char)('a' + i), 0 };

		vocabs_add(&v, text, BN_TOKEN_NORMAL, scores[i]);
	}
	vocabs_add(&v, "z", BN_TOKEN_NORMAL, -0.0f);
	build(&b, &v);
	for (size_t i = 1; i < N; i++) {
		assert_true(b.spm.rank[i - 1] < b.spm.rank[i]);
	}
	assert_true(b.spm.rank[N - 1] < BN_MERGE_NONE);
	assert_int_equal(b.spm.rank[N], b.spm.rank[3]);
	assert_false(b.spm.flat);
	drop(&b, &v);
}

static void spm_cuts_text_only_where_no_token_reaches_across(void **state)
{
	struct vocabs v;
	struct built b;

	(void)state;
	vocabs_tiny_spm(&v);
	build(&b, &v);
	assert_true(b.spm.words);
	assert_int_equal(bn_spm_next(&b.spm, "  two  words", 12, 100), 5);
	assert_int_equal(bn_spm_next(&b.spm, "word", 4, 100), 4);
	assert_int_equal(bn_spm_next(&b.spm, "\u4E2D\u4E2D\u4E2D", 9, 5), 3);
	drop(&b, &v);

	vocabs_tiny_spm(&v);
	vocabs_add(&v, "of\u2581the", BN_TOKEN_NORMAL, 0);
	build(&b, &v);
	assert_false(b.spm.words);
	assert_int_equal(bn_spm_next(&b.spm, "  two  words", 12, 100), 12);
	drop(&b, &v);
}

/* Cutting at words must not change a single token: a real vocabulary, with and without. */
static void spm_gives_the_same_with_and_without_cuts(void **state)
{
	struct vocabs v;
	struct built b;
	uint32_t seed = 9;

	(void)state;
	vocabs_tiny_spm(&v);
	build(&b, &v);
	for (unsigned round = 0; round < 5000; round++) {
		static const char letters[] = "    theonceran";
		char text[64];
		char whole[200];
		char cut[200] = "";
		size_t n = 0;

		while (n < 40) {
			seed = seed * 1664525 + 1013904223;
			text[n++] = letters[(seed >> 16) % (sizeof(letters) - 1)];
		}
		text[n] = '\0';
		pieces(&b, text, whole, sizeof(whole));
		for (size_t at = 0; at < n;) {
			size_t part = bn_spm_next(&b.spm, text + at, n - at, 4096);
			char word[64];
			size_t have = strlen(cut);

			memcpy(word, text + at, part);
			word[part] = '\0';
			if (have > 0) {
				cut[have++] = '|';
			}
			pieces(&b, word, cut + have, sizeof(cut) - have);
			at += part;
		}
		assert_string_equal(whole, cut);
	}
	drop(&b, &v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spm_merges_by_score),
		cmocka_unit_test(spm_treats_the_space_mark_in_text_as_what_it_is),
		cmocka_unit_test(spm_falls_back_to_unk_or_nothing),
		cmocka_unit_test(spm_orders_every_kind_of_score),
		cmocka_unit_test(spm_cuts_text_only_where_no_token_reaches_across),
		cmocka_unit_test(spm_gives_the_same_with_and_without_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
