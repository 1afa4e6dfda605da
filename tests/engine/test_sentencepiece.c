/* tokenizer.model: a hand-made one, every cut and flip of it, and Llama-2's when it is there. */
#include "engine/sentencepiece.h"

#include "tests/engine/hf_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bytes {
	unsigned char p[1024];
	size_t n;
};

static void put(struct bytes *b, const void *p, size_t n)
{
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void put_byte(struct bytes *b, unsigned byte)
{
	const unsigned char c = (unsigned char)byte;

	put(b, &c, 1);
}

static void put_field(struct bytes *b, unsigned number, const struct bytes *payload)
{
	put_byte(b, number << 3 | 2);
	put_byte(b, (unsigned)payload->n);
	put(b, payload->p, payload->n);
}

static void put_piece(struct bytes *b, const char *text, float score, unsigned type)
{
	struct bytes piece = { .n = 0 }, name = { .n = 0 };

	put(&name, text, strlen(text));
	put_field(&piece, 1, &name);
	put_byte(&piece, 2 << 3 | 5);
	put(&piece, &score, 4);
	if (type != 1) {
		put_byte(&piece, 3 << 3);
		put_byte(&piece, type);
	}
	put_field(b, 1, &piece);
}

static void put_specs(struct bytes *b, unsigned model, unsigned dummy)
{
	struct bytes trainer = { .n = 0 }, normalizer = { .n = 0 };

	put_byte(&trainer, 3 << 3);
	put_byte(&trainer, model);
	put_byte(&trainer, 0xC8); /* field 41, bos_id */
	put_byte(&trainer, 0x02);
	put_byte(&trainer, 1);
	put_field(b, 2, &trainer);
	put_byte(&normalizer, 3 << 3);
	put_byte(&normalizer, dummy);
	put_field(b, 3, &normalizer);
}

static void make(struct bytes *b, unsigned model)
{
	b->n = 0;
	put_piece(b, "<unk>", 0.0f, 2);
	put_piece(b, "<s>", 0.0f, 3);
	put_piece(b, "</s>", 0.0f, 3);
	put_piece(b,
		  "\xE2\x96\x81"
		  "a",
		  -1.5f, 1);
	put_specs(b, model, 0);
}

static enum bn_status parse(const struct bytes *b, struct bn_sentencepiece *sp,
			    struct bn_error *err)
{
	return bn_sentencepiece_parse(sp, b->p, b->n, err);
}

static void sentencepiece_reads_pieces_scores_and_types(void **state)
{
	struct bn_sentencepiece sp = { 0 };
	struct bn_error err = { 0 };
	struct bytes b;

	(void)state;
	make(&b, 2);
	hf_expect(parse(&b, &sp, &err), &err, BN_OK, "");
	assert_int_equal(sp.n, 4);
	assert_int_equal(sp.pieces[0].type, 2);
	assert_int_equal(sp.pieces[3].text.n, 4);
	assert_memory_equal(sp.pieces[3].text.p,
			    "\xE2\x96\x81"
			    "a",
			    4);
	assert_true(sp.pieces[3].score == -1.5f && sp.pieces[3].type == 1);
	assert_int_equal(sp.unk, 0);
	assert_int_equal(sp.bos, 1);
	assert_int_equal(sp.eos, 2);
	assert_int_equal(sp.pad, -1);
	assert_false(sp.add_dummy_prefix);
	assert_false(sp.normalizes);
	bn_sentencepiece_finish(&sp);
}

/* The format's default of eos is 2, whatever the number of pieces: found by fuzz_sentencepiece. */
static void sentencepiece_names_no_piece_that_is_not_there(void **state)
{
	struct bn_sentencepiece sp = { 0 };
	struct bn_error err = { 0 };
	struct bytes b = { .n = 0 };

	(void)state;
	put_piece(&b, "a", 0.0f, 1);
	put_specs(&b, 2, 0);
	hf_expect(parse(&b, &sp, &err), &err, BN_OK, "");
	assert_int_equal(sp.n, 1);
	assert_int_equal(sp.unk, 0);
	assert_int_equal(sp.bos, -1);
	assert_int_equal(sp.eos, -1);
	assert_int_equal(sp.pad, -1);
	bn_sentencepiece_finish(&sp);
}

static void sentencepiece_refuses_other_kinds_and_damage(void **state)
{
	static const unsigned models[] = { 1, 3, 4, 9 };
	struct bn_sentencepiece sp = { 0 };
	struct bn_error err = { 0 };
	struct bytes b;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		make(&b, models[i]);
		hf_expect(parse(&b, &sp, &err), &err, BN_E_NOT_SUPPORTED, "only BPE");
	}
	b.n = 0;
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "not a SentencePiece");
	/* Llama-3's file of that name: base64 lines. */
	put(&b, "IQ== 0\nIg== 1\n", 14);
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "not a SentencePiece");
	b.n = 0;
	put_specs(&b, 2, 1);
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "not a SentencePiece");
	b.n = 0;
	put_piece(&b, "a", NAN, 1);
	put_specs(&b, 2, 1);
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "piece 0");
	b.n = 0;
	put_piece(&b, "", 0.0f, 1);
	put_specs(&b, 2, 1);
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "piece 0");
	b.n = 0;
	put_piece(&b, "a", 0.0f, 7);
	put_specs(&b, 2, 1);
	hf_expect(parse(&b, &sp, &err), &err, BN_E_FORMAT, "piece 0");
}

static void sentencepiece_survives_every_cut_and_flip(void **state)
{
	struct bn_sentencepiece sp;
	struct bytes b;

	(void)state;
	make(&b, 2);
	for (size_t n = 0; n < b.n; n++) {
		unsigned char *cut = malloc(n + 1);

		memcpy(cut, b.p, n);
		memset(&sp, 0, sizeof(sp));
		if (bn_sentencepiece_parse(&sp, cut, n, NULL) == BN_OK) {
			bn_sentencepiece_finish(&sp);
		}
		free(cut);
	}
	for (size_t i = 0; i < b.n * 8; i++) {
		unsigned char *copy = malloc(b.n);

		memcpy(copy, b.p, b.n);
		copy[i / 8] ^= (unsigned char)(1 << i % 8);
		memset(&sp, 0, sizeof(sp));
		if (bn_sentencepiece_parse(&sp, copy, b.n, NULL) == BN_OK) {
			bn_sentencepiece_finish(&sp);
		}
		free(copy);
	}
}

static void sentencepiece_reads_the_model_of_llama_2(void **state)
{
	struct bn_sentencepiece sp = { 0 };
	struct bn_error err = { 0 };
	unsigned char *bytes;
	size_t n;

	(void)state;
	bytes = hf_data("tokenizers/llama2-spm/tokenizer.model", &n);
	if (bytes == NULL) {
		skip();
	}
	hf_expect(bn_sentencepiece_parse(&sp, bytes, n, &err), &err, BN_OK, "");
	assert_int_equal(sp.n, 32000);
	assert_memory_equal(sp.pieces[3].text.p, "<0x00>", 6);
	assert_int_equal(sp.pieces[3].type, 6);
	assert_memory_equal(sp.pieces[259].text.p, "\xE2\x96\x81\xE2\x96\x81", 6);
	assert_int_equal(sp.bos, 1);
	assert_int_equal(sp.eos, 2);
	assert_true(sp.add_dummy_prefix);
	bn_sentencepiece_finish(&sp);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sentencepiece_reads_pieces_scores_and_types),
		cmocka_unit_test(sentencepiece_names_no_piece_that_is_not_there),
		cmocka_unit_test(sentencepiece_refuses_other_kinds_and_damage),
		cmocka_unit_test(sentencepiece_survives_every_cut_and_flip),
		cmocka_unit_test(sentencepiece_reads_the_model_of_llama_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
