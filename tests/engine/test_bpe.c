/* Byte-level BPE of single pieces, against a loop that looks at all pairs each time. */
#include "engine/bpe.h"

#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct built {
	struct bn_lexicon lex;
	struct bn_bpe bpe;
	struct bn_block block;
	struct bn_merger merger;
};

static enum bn_status build(struct built *b, const struct vocabs *v, struct bn_error *err)
{
	enum bn_status status;

	*b = (struct built){ 0 };
	assert_int_equal(bn_lexicon_build(&b->lex, &b->block, &v->vocab, err), BN_OK);
	assert_int_equal(bn_bpe_build(&b->bpe, &b->block, &v->vocab, &b->lex, err), BN_OK);
	b->block.base = calloc(1, b->block.used);
	assert_non_null(b->block.base);
	b->block.used = 0;
	assert_int_equal(bn_lexicon_build(&b->lex, &b->block, &v->vocab, err), BN_OK);
	status = bn_bpe_build(&b->bpe, &b->block, &v->vocab, &b->lex, err);
	assert_int_equal(bn_merge_reserve(&b->merger, 4096, err), BN_OK);
	return status;
}

static void drop(struct built *b, struct vocabs *v)
{
	free(b->block.base);
	bn_merge_finish(&b->merger);
	vocabs_finish(v);
}

/* The texts of the tokens, "|" between them. */
static const char *pieces(struct built *b, const char *piece, char *out, size_t size)
{
	size_t n = 0;

	assert_int_equal(bn_bpe_encode(&b->bpe, &b->merger, piece, (uint32_t)strlen(piece), NULL),
			 BN_OK);
	out[0] = '\0';
	for (uint32_t i = b->merger.n == 0 ? BN_MERGE_NONE : 0; i != BN_MERGE_NONE;
	     i = b->merger.symbols[i].next) {
		struct bn_str text = bn_lexicon_text(&b->lex, b->merger.symbols[i].id);

		n += (size_t)snprintf(out + n, size - n, "%s%.*s", n > 0 ? "|" : "", (int)text.n,
				      text.p);
	}
	return out;
}

static void bpe_merges_by_rank(void **state)
{
	struct vocabs v;
	struct built b;
	char out[256];

	(void)state;
	vocabs_tiny_bpe(&v);
	assert_int_equal(build(&b, &v, NULL), BN_OK);
	assert_int_equal(b.bpe.lost, 0);
	assert_string_equal(pieces(&b, " the", out, sizeof(out)), " the");
	assert_string_equal(pieces(&b, "thhe", out, sizeof(out)), "th|he");
	assert_string_equal(pieces(&b, "AAAAAAAAAAA", out, sizeof(out)), "AAAAAAAA|AA|A");
	assert_string_equal(pieces(&b, "caf\xC3\xA9", out, sizeof(out)), "c|a|f|\xC3\xA9");
	assert_string_equal(pieces(&b, "z", out, sizeof(out)), "z");
	drop(&b, &v);
}

static void bpe_takes_whole_pieces_when_merges_are_ignored(void **state)
{
	struct vocabs v;
	struct built b;
	char out[256];

	(void)state;
	for (int ignore = 0; ignore < 2; ignore++) {
		vocabs_init(&v, BN_TOKENIZER_BPE);
		vocabs_add_gpt2_bytes(&v);
		vocabs_add(&v, "abc", BN_TOKEN_NORMAL, 0); /* no merge leads here */
		vocabs_add(&v, "word", BN_TOKEN_CONTROL, 0);
		v.vocab.ignore_merges = ignore;
		assert_int_equal(build(&b, &v, NULL), BN_OK);
		assert_string_equal(pieces(&b, "abc", out, sizeof(out)), ignore ? "abc" : "a|b|c");
		assert_string_equal(pieces(&b, "word", out, sizeof(out)), "w|o|r|d");
		drop(&b, &v);
	}
}

static void bpe_keeps_the_first_of_equal_merges_and_skips_broken_ones(void **state)
{
	static const char *const merges[] = { "",    " ",   "a",    "a ",    " a",     "a b",
					      "b c", "a b", "x yz", "a b c", "\xFF a", "中 a" };
	struct vocabs v;
	struct built b;
	char out[256];

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	vocabs_add(&v, "ab", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "bc", BN_TOKEN_NORMAL, 0);
	for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		vocabs_add_merge(&v, merges[i]);
	}
	assert_int_equal(build(&b, &v, NULL), BN_OK);
	assert_int_equal(b.bpe.lost, sizeof(merges) / sizeof(merges[0]) - 3);
	assert_string_equal(pieces(&b, "abc", out, sizeof(out)), "ab|c"); /* not a|bc */
	drop(&b, &v);
}

/*
 * tiktoken's rule, which Llama-3's merges were derived from: of all neighbours whose joined text is
 * a token, join those with the lowest id, leftmost. Returns the new length.
 */
static size_t slowly(const struct bn_lexicon *lex, bn_token *ids, size_t n)
{
	for (;;) {
		size_t best = n;
		bn_token best_id = BN_TOKEN_NONE;

		for (size_t i = 0; i + 1 < n; i++) {
			struct bn_str left = bn_lexicon_text(lex, ids[i]);
			struct bn_str right = bn_lexicon_text(lex, ids[i + 1]);
			char both[128];
			bn_token id;

			memcpy(both, left.p, left.n);
			memcpy(both + left.n, right.p, right.n);
			id = bn_lexicon_find(lex, both, left.n + right.n);
			if (id < best_id) {
				best_id = id;
				best = i;
			}
		}
		if (best == n) {
			return n;
		}
		ids[best] = best_id;
		memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof(*ids));
		n--;
	}
}

static void bpe_follows_tiktoken_on_llama3(void **state)
{
	struct vocabs v;
	struct built b;
	uint32_t seed = 5;

	(void)state;
	vocabs_llama3(&v);
	v.vocab.ignore_merges = false;
	assert_int_equal(build(&b, &v, NULL), BN_OK);
	assert_int_equal(b.bpe.lost, 0);
	for (unsigned round = 0; round < 3000; round++) {
		char text[64];
		bn_token ids[64];
		size_t n = 0;
		size_t k = 0;

		while (n < 24) {
			struct bn_str s;

			seed = seed * 1664525 + 1013904223;
			s = bn_lexicon_text(&b.lex, (seed >> 8) % 128000);
			if (s.n <= 20) {
				memcpy(text + n, s.p, s.n);
				n += s.n;
			}
		}
		for (size_t i = 0; i < n; i++) {
			ids[i] = b.lex.byte_id[(unsigned char)text[i]];
		}
		assert_int_equal(bn_bpe_encode(&b.bpe, &b.merger, text, (uint32_t)n, NULL), BN_OK);
		n = slowly(&b.lex, ids, n);
		for (uint32_t i = 0; i != BN_MERGE_NONE; i = b.merger.symbols[i].next) {
			assert_true(k < n);
			assert_int_equal(b.merger.symbols[i].id, ids[k++]);
		}
		assert_int_equal(k, n);
	}
	drop(&b, &v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bpe_merges_by_rank),
		cmocka_unit_test(bpe_takes_whole_pieces_when_merges_are_ignored),
		cmocka_unit_test(bpe_keeps_the_first_of_equal_merges_and_skips_broken_ones),
	};
	const struct CMUnitTest real[] = {
		cmocka_unit_test(bpe_follows_tiktoken_on_llama3),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	return failed != 0 ? failed : cmocka_run_group_tests(real, NULL, NULL);
}
