/* Vocabularies with gaps, with too much, and with nonsense in them. */
#include "engine/tokenizer.h"

#include "tests/engine/texts.h"
#include "tests/engine/vocabs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum bn_status make_fails(const struct bn_vocab *vocab, struct bn_error *err)
{
	struct bn_tokenizer *tok = NULL;
	enum bn_status status = bn_tokenizer_new(&tok, vocab, err);

	assert_null(tok);
	assert_true(bn_tokenizer_need(vocab) == SIZE_MAX);
	return status;
}

static void tokenizer_refuses_impossible_vocabularies(void **state)
{
	struct vocabs v;
	struct bn_error err;
	char *token;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);

	token = calloc(1, BN_TOKENIZER_TOKEN_BYTES + 1);
	assert_non_null(token);
	memset(token, 'x', BN_TOKENIZER_TOKEN_BYTES + 1);
	vocabs_add(&v, "fine", BN_TOKEN_NORMAL, 0);
	vocabs_add_bytes(&v, token, BN_TOKENIZER_TOKEN_BYTES + 1, BN_TOKEN_NORMAL, 0);
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "token 1"));
	vocabs_finish(&v);

	vocabs_init(&v, BN_TOKENIZER_BPE);
	v.vocab.n_tokens = BN_TOKENIZER_MAX_TOKENS + 1;
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);
	free(token);
	vocabs_finish(&v);
}

static void tokenizer_takes_exactly_the_memory_it_announced(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_bytes(tok), bn_tokenizer_need(&v.vocab));
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_drops_bytes_without_a_token(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "b", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "ab", BN_TOKEN_NORMAL, 0);
	vocabs_add_merge(&v, "a b");
	tok = vocabs_make(&v);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) != 0);
	t = texts_encode(tok, "\n aXb \xC2\xA3");
	assert_int_equal(t.n, 1);
	assert_int_equal(t.ids[0], 2); /* the neighbours of a dropped byte meet */
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

/* Falcon-E: no symbols for bytes that valid UTF-8 cannot contain. Nothing is lost. */
static void tokenizer_needs_no_symbols_for_impossible_bytes(void **state)
{
	struct vocabs all;
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_init(&all, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&all);
	vocabs_init(&v, BN_TOKENIZER_BPE);
	for (unsigned b = 0; b < 256; b++) {
		if (b != 0xC0 && b != 0xC1 && b < 0xF5) {
			vocabs_add_bytes(&v, all.tokens[b].p, all.tokens[b].n, BN_TOKEN_NORMAL, 0);
		}
	}
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_size(tok), 243);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) == 0);
	texts_random_round_trips(tok);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	vocabs_finish(&all);
}

static void tokenizer_uses_unk_where_bytes_are_missing(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	static const bn_token want[] = { 1, 0, 1 };

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	v.vocab.unk = vocabs_add(&v, "<unk>", BN_TOKEN_UNKNOWN, 0);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, 0);
	v.vocab.add_space_prefix = false;
	tok = vocabs_make(&v);
	t = texts_encode(tok, "a镇a");
	texts_assert_ids("a镇a", t, want, 3);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_merges_leftmost_first_when_scores_are_flat(void **state)
{
	const struct texts *x = *state;
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	static const bn_token want[] = { 2, 2, 0 }; /* aa aa a, not a aa aa */

	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, -1000);
	vocabs_add(&v, "b", BN_TOKEN_NORMAL, -1000);
	vocabs_add(&v, "aa", BN_TOKEN_NORMAL, -1000);
	v.vocab.add_space_prefix = false;
	tok = vocabs_make(&v);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_FLAT_SCORES) != 0);
	t = texts_encode(tok, "aaaaa");
	texts_assert_ids("aaaaa", t, want, 3);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	assert_true((bn_tokenizer_warnings(x->spm) & BN_TOKENIZER_FLAT_SCORES) == 0);
}

/* Random bytes as tokens, types, scores, merges and ids: nothing may crash or leave its range. */
static void tokenizer_survives_hostile_vocabularies(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		struct vocabs v;
		struct bn_tokenizer *tok;
		unsigned n = 1 + texts_random_below(60);

		vocabs_init(&v, texts_random_below(2) ? BN_TOKENIZER_SPM : BN_TOKENIZER_BPE);
		if (texts_random_below(2)) {
			vocabs_add_gpt2_bytes(&v);
		}
		for (unsigned i = 0; i < n; i++) {
			char text[64];
			size_t bytes = texts_random_below(8);
			float scores[] = {
				0, -1, 1, (float)NAN, (float)INFINITY, (float)-INFINITY
			};

			if (texts_random_below(2)) {
				bytes = texts_random(text, (unsigned)bytes);
			} else {
				for (size_t k = 0; k < bytes; k++) {
					text[k] = (char)texts_random_below(256);
				}
			}
			vocabs_add_bytes(&v, text, bytes, texts_random_below(9),
					 scores[texts_random_below(6)]);
			if (texts_random_below(2)) {
				char merge[130];

				snprintf(merge, sizeof(merge), "%.*s %.*s", (int)bytes, text,
					 (int)bytes / 2, text);
				vocabs_add_merge(&v, merge);
			}
		}
		vocabs_add_merge(&v, "");
		vocabs_add_merge(&v, " ");
		vocabs_add_merge(&v, "nospace");
		v.vocab.bos = texts_random_below(100);
		v.vocab.eos = texts_random_below(100);
		v.vocab.unk = texts_random_below(100);
		v.vocab.eot = UINT32_MAX - 1;
		v.vocab.add_bos = v.vocab.add_eos = true;
		v.vocab.splitter = texts_random_below(BN_SPLITTER_COUNT);
		v.vocab.ignore_merges = texts_random_below(2);
		if (texts_random_below(4) == 0) {
			v.vocab.types = NULL;
		}
		tok = vocabs_make(&v);
		for (unsigned k = 0; k < 20; k++) {
			char text[4 * 32];
			char back[4096];
			size_t bytes = texts_random(text, texts_random_below(32));
			size_t needed;
			struct bn_tokens t =
				texts_encode_with(tok, text, bytes,
						  (struct bn_encode_options){
							  .add_special = texts_random_below(2),
							  .parse_special = texts_random_below(2) });

			assert_int_equal(bn_tokenizer_decode(tok, t.ids, t.n, 0, back, sizeof(back),
							     &needed, NULL),
					 BN_OK);
			bn_tokens_finish(&t);
		}
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_refuses_impossible_vocabularies),
		cmocka_unit_test(tokenizer_takes_exactly_the_memory_it_announced),
		cmocka_unit_test(tokenizer_drops_bytes_without_a_token),
		cmocka_unit_test(tokenizer_needs_no_symbols_for_impossible_bytes),
		cmocka_unit_test(tokenizer_uses_unk_where_bytes_are_missing),
		cmocka_unit_test(tokenizer_merges_leftmost_first_when_scores_are_flat),
		cmocka_unit_test(tokenizer_survives_hostile_vocabularies),
	};

	return cmocka_run_group_tests_name("engine/tokenizer_vocab", tests, texts_small,
					   texts_drop);
}
