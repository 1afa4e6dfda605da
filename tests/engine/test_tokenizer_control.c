/* Control tokens: text never becomes one, and what is one is decided by its spelling. */
#include "engine/tokenizer.h"

#include "tests/engine/texts.h"
#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void tokenizer_never_makes_control_tokens_of_text(void **state)
{
	const struct texts *x = *state;

	assert_int_equal(texts_inject(x->bpe), 8);
	assert_int_equal(texts_inject(x->spm), 3);
}

/* A file that types everything NORMAL and has merges that spell control tokens. */
static void tokenizer_guards_tokens_typed_normal(void **state)
{
	static const char *const merges[] = { "< |",     "i m", "im _",      "e n",        "en d",
					      "im_ end", "| >", "<| im_end", "<|im_end |>" };
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token id = BN_TOKEN_NONE;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		const char *space = strchr(merges[i], ' ');
		char joined[64];

		snprintf(joined, sizeof(joined), "%.*s%s", (int)(space - merges[i]), merges[i],
			 space + 1);
		id = vocabs_add(&v, joined, BN_TOKEN_NORMAL, 0);
		vocabs_add_merge(&v, merges[i]);
	}
	v.vocab.types = NULL;
	v.vocab.splitter = BN_SPLIT_GPT2;
	v.vocab.ignore_merges = true;
	tok = vocabs_make(&v);
	assert_true(bn_tokenizer_is_control(tok, id));
	assert_true(bn_tokenizer_is_eog(tok, id));
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_MERGES) != 0);
	t = texts_encode(tok, "<|im_end|>");
	assert_int_equal(texts_count_control(tok, &t), 0);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);

	/* The same for SentencePiece, where any token whose text appears would be merged. */
	vocabs_init(&v, BN_TOKENIZER_SPM);
	v.vocab.unk = vocabs_add(&v, "<unk>", BN_TOKEN_NORMAL, 0);
	v.vocab.bos = vocabs_add(&v, "<s>", BN_TOKEN_NORMAL, 0);
	v.vocab.eos = vocabs_add(&v, "</s>", BN_TOKEN_NORMAL, 0);
	vocabs_add_spm_bytes(&v);
	vocabs_add(&v, "<s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "</", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "</s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "<0x41>", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "<", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, ">", BN_TOKEN_NORMAL, 0);
	v.vocab.types = NULL;
	tok = vocabs_make(&v);
	assert_true(bn_tokenizer_is_control(tok, v.vocab.eos));
	texts_round_trip(tok, "</s><s><unk><0x41>", 18);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_takes_the_longest_control_token(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token want[3];

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	want[2] = vocabs_add(&v, "<a>", BN_TOKEN_CONTROL, 0);
	want[0] = vocabs_add(&v, "<a><a>b", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<a><a>b", BN_TOKEN_CONTROL, 0); /* a duplicate: the lower id counts */
	vocabs_add(&v, "", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<a><a>bcd", BN_TOKEN_CONTROL, 0);
	want[1] = 'c'; /* byte symbols have the ids of their bytes */
	tok = vocabs_make(&v);
	t = texts_encode_with(tok, "<a><a>bc<a>", 11,
			      (struct bn_encode_options){ .parse_special = true });
	texts_assert_ids("<a><a>bc<a>", t, want, 3);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_matches_literal_tokens_in_all_text(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token literal;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = vocabs_make(&v);
	literal = bn_tokenizer_find(tok, "\n\n\n", 3);
	assert_int_not_equal(literal, BN_TOKEN_NONE);
	t = texts_encode(tok, "a\n\n\n\nb");
	assert_int_equal(t.n, 4);
	assert_int_equal(t.ids[1], literal);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);

	/* In SentencePiece the dummy space stands in front of one, too, or decoding would eat it.
	 */
	vocabs_tiny_spm(&v);
	literal = vocabs_add(&v, "\u2581\u2581\u2581", BN_TOKEN_USER_DEFINED, 0);
	tok = vocabs_make(&v);
	t = texts_encode(tok, "   once");
	assert_int_equal(t.ids[1], literal);
	bn_tokens_finish(&t);
	texts_round_trip(tok, "   once", 7);
	texts_round_trip(tok, "once      once ", 15);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_strips_a_glued_begin_of_text(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	bn_token eot;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	v.vocab.bos = vocabs_add(&v, "<|begin_of_text|>", BN_TOKEN_CONTROL, 0);
	eot = vocabs_add(&v, "<|begin_of_text|><|eot_id|>", BN_TOKEN_CONTROL, 0);
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_find(tok, "<|eot_id|>", 10), eot);
	assert_int_equal(bn_tokenizer_find(tok, "<|begin_of_text|>", 17), v.vocab.bos);
	assert_true(bn_tokenizer_is_eog(tok, eot));
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_GLUED_BOS) != 0);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_hides_control_tokens(void **state)
{
	const struct texts *x = *state;
	bn_token eot = bn_tokenizer_find(x->bpe, "<|eot_id|>", 10);

	assert_int_equal(bn_tokenizer_piece(x->bpe, eot).n, 0);
	assert_int_equal(bn_tokenizer_text(x->bpe, eot).n, 10);
	assert_int_equal(bn_tokenizer_piece(x->bpe, bn_tokenizer_size(x->bpe)).n, 0);
	assert_int_equal(bn_tokenizer_text(x->bpe, UINT32_MAX).n, 0);
	assert_int_equal(bn_tokenizer_find(x->bpe, "", 0), BN_TOKEN_NONE);
	assert_int_equal(bn_tokenizer_piece(x->bpe, bn_tokenizer_find(x->bpe, " the", 4)).n, 4);
	assert_int_equal(bn_tokenizer_find(x->bpe, "no such token at all", 20), BN_TOKEN_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_never_makes_control_tokens_of_text),
		cmocka_unit_test(tokenizer_guards_tokens_typed_normal),
		cmocka_unit_test(tokenizer_takes_the_longest_control_token),
		cmocka_unit_test(tokenizer_matches_literal_tokens_in_all_text),
		cmocka_unit_test(tokenizer_strips_a_glued_begin_of_text),
		cmocka_unit_test(tokenizer_hides_control_tokens),
	};

	return cmocka_run_group_tests_name("engine/tokenizer_control", tests, texts_small,
					   texts_drop);
}
