/* Vocabularies out of GGUF metadata: the rules of known models, and what is refused. */
#include "engine/tokenizer.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "engine/gguf_write.h"
#include "tests/engine/vocabs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What to write; zero fields are left out. */
struct file {
	const char *model, *pre;
	const struct vocabs *v;
	bool types, scores, merges, ids;
	int add_bos; /* 1 false, 2 true */
	size_t n_types;
	int32_t bos; /* with `ids` */
	uint32_t rows;
};

static enum bn_status load(const struct file *f, struct bn_tokenizer **tok, struct bn_error *err)
{
	char path[] = "/tmp/bn-test-tokenizer-XXXXXX";
	int fd = mkstemp(path);
	const struct bn_vocab *v = &f->v->vocab;
	struct bn_gguf_writer *w;
	struct bn_file file;
	struct bn_gguf *gguf;
	int32_t *types = calloc(v->n_tokens + 1, sizeof(*types));
	enum bn_status status;

	assert_true(fd >= 0);
	assert_non_null(types);
	close(fd);
	assert_int_equal(bn_gguf_writer_new(&w, path, 32, err), BN_OK);
	if (f->model != NULL) {
		bn_gguf_put_str(w, "tokenizer.ggml.model", f->model);
	}
	if (f->pre != NULL) {
		bn_gguf_put_str(w, "tokenizer.ggml.pre", f->pre);
	}
	bn_gguf_put_strs(w, "tokenizer.ggml.tokens", v->tokens, v->n_tokens);
	for (uint32_t i = 0; i < v->n_tokens; i++) {
		types[i] = v->types[i];
	}
	if (f->types) {
		bn_gguf_put_i32s(w, "tokenizer.ggml.token_type", types,
				 f->n_types > 0 ? f->n_types : v->n_tokens);
	}
	if (f->scores) {
		bn_gguf_put_f32s(w, "tokenizer.ggml.scores", v->scores, v->n_tokens);
	}
	if (f->merges) {
		bn_gguf_put_strs(w, "tokenizer.ggml.merges", v->merges, v->n_merges);
	}
	if (f->ids) {
		bn_gguf_put_i32(w, "tokenizer.ggml.bos_token_id", f->bos);
		bn_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", v->eos);
	}
	if (f->add_bos > 0) {
		bn_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", f->add_bos == 2);
	}
	assert_int_equal(bn_gguf_commit(w, err), BN_OK);
	bn_gguf_writer_free(w);
	free(types);

	assert_int_equal(bn_file_open(&file, AT_FDCWD, path, false, err), BN_OK);
	assert_int_equal(bn_gguf_open(&gguf, &file, err), BN_OK);
	status = bn_tokenizer_from_gguf(tok, gguf, f->rows > 0 ? f->rows : UINT32_MAX, err);
	bn_gguf_free(gguf);
	bn_file_close(&file);
	unlink(path);
	return status;
}

static struct bn_tokenizer *must_load(const struct file *f)
{
	struct bn_tokenizer *tok = NULL;
	struct bn_error err;

	if (load(f, &tok, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return tok;
}

/* A byte-level vocabulary with all that such files have; add_bos 0: the file does not say. */
static struct bn_tokenizer *must_load_bpe(struct vocabs *v, const char *pre, int32_t bos,
					  int add_bos)
{
	const struct file f = { .model = "gpt2",
				.pre = pre,
				.v = v,
				.types = true,
				.merges = true,
				.ids = true,
				.bos = bos,
				.add_bos = add_bos };

	return must_load(&f);
}

static size_t count(const struct bn_tokenizer *tok, const char *text)
{
	struct bn_tokens t = { 0 };
	size_t n;

	assert_int_equal(bn_tokenizer_encode(tok, text, strlen(text), NULL, &t, NULL), BN_OK);
	n = t.n;
	bn_tokens_finish(&t);
	return n;
}

static void tokenizer_reads_byte_level_vocabularies(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = must_load_bpe(&v, "llama-bpe", (int32_t)v.vocab.bos, 0);
	assert_int_equal(bn_tokenizer_kind(tok), BN_TOKENIZER_BPE);
	assert_int_equal(bn_tokenizer_warnings(tok), 0);
	assert_int_equal(bn_tokenizer_bos(tok), v.vocab.bos);
	assert_true(bn_tokenizer_adds_bos(tok)); /* <|begin_of_text|>: Llama-3's family */
	assert_int_equal(count(tok, "123"), 1);
	assert_int_equal(count(tok, "the the"), 2);
	bn_tokenizer_free(tok);

	/* The file's word counts more than the family's habit. */
	tok = must_load_bpe(&v, "llama-bpe", (int32_t)v.vocab.bos, 1);
	assert_false(bn_tokenizer_adds_bos(tok));
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_reads_sentencepiece_vocabularies(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_tiny_spm(&v);
	tok = must_load(&(struct file){ .model = "llama", .v = &v, .types = true, .scores = true });
	assert_int_equal(bn_tokenizer_kind(tok), BN_TOKENIZER_SPM);
	/* No ids in the file: where SentencePiece's trainer always has them. */
	assert_int_equal(bn_tokenizer_bos(tok), 1);
	assert_int_equal(bn_tokenizer_eos(tok), 2);
	assert_true(bn_tokenizer_adds_bos(tok));
	assert_true(bn_tokenizer_is_eog(tok, 2));
	assert_int_equal(count(tok, "once"), 1);
	bn_tokenizer_free(tok);

	/* Without scores and types it still works, with a warning. */
	tok = must_load(&(struct file){ .model = "llama", .v = &v });
	assert_int_equal(bn_tokenizer_warnings(tok), BN_TOKENIZER_FLAT_SCORES);
	assert_int_equal(count(tok, "the"), 1);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

/* Falcon3 and Falcon-E name <|endoftext|> as bos or none at all; nothing is put in front. */
static void tokenizer_adds_no_bos_for_falcon(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	bn_token end;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	end = vocabs_add(&v, "<|endoftext|>", BN_TOKEN_CONTROL, 0);
	v.vocab.eos = end;
	tok = must_load_bpe(&v, "falcon3", (int32_t)end, 0);
	assert_false(bn_tokenizer_adds_bos(tok));
	assert_true(bn_tokenizer_is_eog(tok, end));
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_uses_gpt2_splitting_and_warns_for_an_unknown_pre(void **state)
{
	static const char *const known[] = { "llama3", "llama-v3", "falcon_e", "falcon-h1",
					     "qwen2",  "gpt-2",    "default" };
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = must_load_bpe(&v, "martian", -1, 0);
	assert_int_equal(bn_tokenizer_warnings(tok), BN_TOKENIZER_UNKNOWN_PRE);
	assert_int_equal(bn_tokenizer_bos(tok), BN_TOKEN_NONE); /* -1 means none */
	bn_tokenizer_free(tok);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		tok = must_load_bpe(&v, known[i], 0, 0);
		assert_int_equal(bn_tokenizer_warnings(tok), 0);
		bn_tokenizer_free(tok);
	}
	vocabs_finish(&v);
}

/* GGUF has no key for it: the name of Qwen's splitter stands for NFC, and no other does. */
static void tokenizer_composes_texts_for_qwen2_alone(void **state)
{
	static const char *const pres[] = { "qwen2", "llama3" };
	static const char composed[] = "caf\xC3\xA9", apart[] = "cafe\xCC\x81";
	struct vocabs v;

	(void)state;
	vocabs_tiny_bpe(&v);
	for (size_t i = 0; i < 2; i++) {
		struct bn_tokens a = { 0 }, b = { 0 };
		struct bn_tokenizer *tok = must_load(&(struct file){ .model = "gpt2",
								     .pre = pres[i],
								     .v = &v,
								     .types = true,
								     .merges = true,
								     .ids = true });

		assert_int_equal(
			bn_tokenizer_encode(tok, composed, sizeof(composed) - 1, NULL, &a, NULL),
			BN_OK);
		assert_int_equal(bn_tokenizer_encode(tok, apart, sizeof(apart) - 1, NULL, &b, NULL),
				 BN_OK);
		assert_true((a.n == b.n && memcmp(a.ids, b.ids, a.n * sizeof(*a.ids)) == 0) ==
			    (i == 0));
		bn_tokens_finish(&a);
		bn_tokens_finish(&b);
		bn_tokenizer_free(tok);
	}
	vocabs_finish(&v);
}

/* The published BitNet-b1.58-2B-4T has no tokenizer.ggml.pre, and eos is only <|end_of_text|>. */
static void tokenizer_takes_128256_tokens_without_pre_for_llama3(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	char name[64];
	bn_token eot = 0;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	vocabs_add(&v, "12", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "123", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "1234", BN_TOKEN_NORMAL, 0);
	vocabs_add_merge(&v, "1 2");
	vocabs_add_merge(&v, "12 3");
	vocabs_add_merge(&v, "123 4");
	while (v.vocab.n_tokens < 128256) {
		snprintf(name, sizeof(name), "token%u", v.vocab.n_tokens);
		if (v.vocab.n_tokens == 128000) {
			v.vocab.bos = v.vocab.n_tokens;
			snprintf(name, sizeof(name), "<|begin_of_text|>");
		} else if (v.vocab.n_tokens == 128009) {
			snprintf(name, sizeof(name), "<|eot_id|>");
		}
		eot = vocabs_add(&v, name, BN_TOKEN_NORMAL, 0);
	}
	eot = 128009;
	v.vocab.eos = 128001;
	for (int pre = 0; pre < 2; pre++) {
		tok = must_load(&(struct file){ .model = "gpt2",
						.pre = pre == 0 ? NULL : "default",
						.v = &v,
						.merges = true,
						.ids = true,
						.bos = 128000,
						.rows = 128256 });
		assert_int_equal(bn_tokenizer_warnings(tok) & BN_TOKENIZER_UNKNOWN_PRE, 0);
		assert_int_equal(count(tok, "1234"), 2); /* digits in threes */
		assert_true(bn_tokenizer_is_eog(tok, eot));
		assert_true(bn_tokenizer_is_eog(tok, 128001));
		assert_true(bn_tokenizer_adds_bos(tok));
		bn_tokenizer_free(tok);
	}
	vocabs_finish(&v);
}

static void tokenizer_refuses_what_it_cannot_read(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok = NULL;
	struct bn_error err;
	struct file f;

	(void)state;
	vocabs_tiny_bpe(&v);

	f = (struct file){ .model = "bert", .v = &v, .merges = true };
	assert_int_equal(load(&f, &tok, &err), BN_E_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "bert"));

	f = (struct file){ .v = &v, .merges = true };
	assert_int_equal(load(&f, &tok, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "tokenizer.ggml.model"));

	f = (struct file){ .model = "gpt2", .v = &v };
	assert_int_equal(load(&f, &tok, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "tokenizer.ggml.merges"));

	f = (struct file){ .model = "gpt2", .v = &v, .merges = true, .types = true, .n_types = 3 };
	assert_int_equal(load(&f, &tok, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "token_type"));

	f = (struct file){ .model = "gpt2", .v = &v, .merges = true, .rows = v.vocab.n_tokens - 1 };
	assert_int_equal(load(&f, &tok, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "rows"));
	assert_null(tok);
	vocabs_finish(&v);

	vocabs_init(&v, BN_TOKENIZER_BPE);
	f = (struct file){ .model = "gpt2", .v = &v, .merges = true };
	assert_int_equal(load(&f, &tok, &err), BN_E_FORMAT);
	assert_null(tok);
	vocabs_finish(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_reads_byte_level_vocabularies),
		cmocka_unit_test(tokenizer_reads_sentencepiece_vocabularies),
		cmocka_unit_test(tokenizer_adds_no_bos_for_falcon),
		cmocka_unit_test(tokenizer_uses_gpt2_splitting_and_warns_for_an_unknown_pre),
		cmocka_unit_test(tokenizer_composes_texts_for_qwen2_alone),
		cmocka_unit_test(tokenizer_takes_128256_tokens_without_pre_for_llama3),
		cmocka_unit_test(tokenizer_refuses_what_it_cannot_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
