/* Tokenizers of folders: what comes out, and thirty ways to spoil a tokenizer.json. */
#include "engine/hfvocab.h"

#include "engine/tokenizer.h"
#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum bn_status load(struct hf_folder *hf, uint32_t rows, struct bn_hfvocab *v,
			   struct bn_error *err)
{
	enum bn_status status;
	int fd;

	hf_write(hf);
	fd = open(hf->path, O_RDONLY | O_DIRECTORY);
	status = bn_hfvocab_load(v, fd, rows, err);
	close(fd);
	return status;
}

/* A folder, and what its vocabulary became. */
struct trial {
	struct hf_folder hf;
	struct bn_hfvocab v;
	struct bn_error err;
};

static void trial_open(struct trial *x)
{
	memset(x, 0, sizeof(*x));
	hf_init(&x->hf);
}

static void trial_loads(struct trial *x, uint32_t rows)
{
	hf_expect(load(&x->hf, rows, &x->v, &x->err), &x->err, BN_OK, "");
}

static void trial_refused(struct trial *x, uint32_t rows, enum bn_status status, const char *words)
{
	hf_expect(load(&x->hf, rows, &x->v, &x->err), &x->err, status, words);
}

static void trial_close(struct trial *x)
{
	bn_hfvocab_finish(&x->v);
	hf_finish(&x->hf);
}

static void expect_token(const struct bn_hfvocab *v, uint32_t id, const char *text, int type)
{
	assert_int_equal(v->tokens[id].n, strlen(text));
	assert_memory_equal(v->tokens[id].p, text, strlen(text));
	assert_int_equal(v->types[id], type);
}

static void hfvocab_reads_a_byte_level_tokenizer(void **state)
{
	struct trial x;

	(void)state;
	trial_open(&x);
	trial_loads(&x, HF_VOCAB);
	assert_int_equal(x.v.kind, BN_TOKENIZER_BPE);
	assert_int_equal(x.v.n, HF_VOCAB);
	assert_int_equal(x.v.n_named, HF_VOCAB);
	assert_string_equal(x.v.pre, "gpt-2");
	expect_token(&x.v, 33, "!", BN_TOKEN_NORMAL);
	expect_token(&x.v, 32, "\xC4\xA0", BN_TOKEN_NORMAL);
	expect_token(&x.v, 256, "aa", BN_TOKEN_NORMAL);
	expect_token(&x.v, 292, "<|eot_id|>", BN_TOKEN_CONTROL);
	assert_int_equal(x.v.n_merges, 34);
	assert_int_equal(x.v.bos, 290);
	assert_int_equal(x.v.eos, 292); /* tokenizer_config.json's word */
	assert_int_equal(x.v.pad, BN_TOKEN_NONE);
	assert_true(x.v.add_bos); /* spelled as Llama-3's */
	assert_false(x.v.add_eos);
	assert_null(x.v.scores);
	assert_string_equal(x.v.chat_template, "{{ x }}");
	assert_int_equal(x.v.n_notices, 0);
	assert_int_equal(bn_hfvocab_find(&x.v, "<|d|>"), 298);
	assert_int_equal(bn_hfvocab_find(&x.v, "<|d|"), BN_TOKEN_NONE);
	trial_close(&x);
}

static void hfvocab_pads_rows_without_a_token(void **state)
{
	struct trial x;

	(void)state;
	trial_open(&x);
	trial_loads(&x, HF_VOCAB + 4);
	assert_int_equal(x.v.n_named, HF_VOCAB);
	expect_token(&x.v, 303, "[PAD303]", BN_TOKEN_UNUSED);
	assert_int_equal(x.v.n_notices, 1);
	assert_non_null(strstr(x.v.notices[0], "padding"));
	trial_close(&x);
}

static void hfvocab_takes_bos_from_the_post_processor(void **state)
{
	struct trial x;

	(void)state;
	trial_open(&x);
	hf_replace(
		&x.hf.tokenizer, "\"post_processor\": null",
		"\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\":"
		" {\"id\": \"A\"}}]}");
	trial_loads(&x, HF_VOCAB);
	assert_false(x.v.add_bos);
	trial_close(&x);
}

static void hfvocab_reads_flags_templates_and_missing_specials(void **state)
{
	static const struct {
		const char *config, *template;
		int add_bos, notices;
	} cases[] = {
		{ "{}", NULL, 0, 0 },
		{ "{\"bos_token\": null, \"add_bos_token\": true}", NULL, 1, 0 },
		{ "{\"add_bos_token\": null}", NULL, 0, 0 },
		{ "{\"bos_token\": \"<|begin_of_text|>\", \"add_bos_token\": false}", NULL, 0, 0 },
		{ "{\"bos_token\": \"<nothing>\"}", NULL, 0, 1 },
		{ "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"T\"}, {\"name\": "
		  "\"default\", \"template\": \"D\"}]}",
		  "D", 0, 0 },
		{ "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"T\"}]}", "T", 0, 0 },
		{ "{\"chat_template\": 7}", NULL, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trial x;

		trial_open(&x);
		free(x.hf.tokenizer_config);
		x.hf.tokenizer_config = strdup(cases[i].config);
		trial_loads(&x, HF_VOCAB);
		assert_int_equal(x.v.add_bos, cases[i].add_bos);
		assert_int_equal(x.v.n_notices, cases[i].notices);
		if (cases[i].template == NULL) {
			assert_null(x.v.chat_template);
		} else {
			assert_string_equal(x.v.chat_template, cases[i].template);
		}
		trial_close(&x);
	}
}

static void hfvocab_prefers_the_template_of_its_own_file(void **state)
{
	struct trial x;

	(void)state;
	trial_open(&x);
	hf_write_file(&x.hf, "chat_template.jinja", "{{ own }}", 9);
	trial_loads(&x, HF_VOCAB);
	assert_string_equal(x.v.chat_template, "{{ own }}");
	trial_close(&x);
}

/* A SentencePiece tokenizer.json: letters, one byte token, merges. */
static void hfvocab_makes_sentencepiece_of_a_tokenizer_json(void **state)
{
	struct trial x;

	(void)state;
	trial_open(&x);
	free(x.hf.tokenizer);
	x.hf.tokenizer = strdup(
		"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true},"
		" {\"id\": 1, \"content\": \"<s>\", \"special\": true},"
		" {\"id\": 8, \"content\": \"<x>\", \"special\": false}],"
		" \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": "
		"\"Prepend\"}]},"
		" \"pre_tokenizer\": null, \"model\": {\"type\": \"BPE\", \"byte_fallback\": true,"
		" \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"<0x0A>\": 2, "
		"\"a\":"
		" 3, \"b\": 4, \"ab\": 5, \"\\u2581ab\": 6, \"\\u2581\": 7},"
		" \"merges\": [\"a b\", \"\\u2581 ab\"]}}");
	free(x.hf.tokenizer_config);
	x.hf.tokenizer_config = strdup("{\"bos_token\": \"<s>\"}");
	trial_loads(&x, 10);
	assert_int_equal(x.v.kind, BN_TOKENIZER_SPM);
	expect_token(&x.v, 0, "<unk>", BN_TOKEN_UNKNOWN);
	expect_token(&x.v, 1, "<s>", BN_TOKEN_CONTROL);
	expect_token(&x.v, 2, "<0x0A>", BN_TOKEN_BYTE);
	expect_token(&x.v, 8, "<x>", BN_TOKEN_USER_DEFINED);
	expect_token(&x.v, 9, "[PAD9]", BN_TOKEN_UNUSED);
	assert_true(x.v.scores[5] == 0.0f && x.v.scores[6] == -1.0f && x.v.scores[3] < -1.0f);
	assert_true(x.v.add_space_prefix && x.v.add_bos);
	assert_int_equal(x.v.unk, 0);
	assert_int_equal(x.v.bos, 1);
	assert_int_equal(x.v.n_merges, 0);
	trial_close(&x);
}

static void hfvocab_refuses_spoilt_tokenizers_with_a_sentence(void **state)
{
	static const struct {
		const char *from, *to;
		enum bn_status status;
		const char *words;
	} cases[] = {
		{ "{\"version\"", "[\"version\"", BN_E_FORMAT, "not valid JSON" },
		{ "\"type\": \"BPE\"", "\"type\": \"Unigram\"", BN_E_NOT_SUPPORTED, "'Unigram'" },
		{ "\"type\": \"BPE\",", "", BN_E_NOT_SUPPORTED, "'absent'" },
		{ "\"type\": \"BPE\"", "\"type\": 7", BN_E_NOT_SUPPORTED, "'absent'" },
		{ "\"model\"", "\"modal\"", BN_E_NOT_SUPPORTED, "'absent'" },
		{ "\"vocab\": {", "\"vocab\": 7, \"x\": {", BN_E_FORMAT, "'model.vocab'" },
		{ "\"vocab\": {", "\"x\": {", BN_E_FORMAT, "'model.vocab'" },
		{ "\"!\": 33", "\"!\": -1", BN_E_FORMAT, "'!' is no integer" },
		{ "\"!\": 33", "\"!\": 1.5", BN_E_FORMAT, "'!' is no integer" },
		{ "\"!\": 33", "\"!\": \"33\"", BN_E_FORMAT, "'!' is no integer" },
		{ "\"!\": 33", "\"!\": null", BN_E_FORMAT, "'!' is no integer" },
		{ "\"!\": 33", "\"!\": 300", BN_E_FORMAT, "'!' has the id 300" },
		{ "\"!\": 33", "\"!\": 9223372036854775807", BN_E_FORMAT, "9223372036854775807" },
		{ "\"!\": 33", "\"!\": 34", BN_E_FORMAT, "id 34 is both" },
		{ "\"!\": 33", "\"!\": 33, \"!\": 33", BN_E_FORMAT, "duplicate" },
		{ "\"merges\": [", "\"merges\": 7, \"x\": [", BN_E_FORMAT, "'model.merges'" },
		{ "\"merges\": [", "\"x\": [", BN_E_FORMAT, "'model.merges'" },
		{ "\"a b\"", "\"ab\"", BN_E_FORMAT, "merges[1]" },
		{ "\"a b\"", "[\"a\"]", BN_E_FORMAT, "merges[1]" },
		{ "\"a b\"", "7", BN_E_FORMAT, "merges[1]" },
		{ "\"added_tokens\": [", "\"added_tokens\": 7, \"x\": [", BN_E_FORMAT,
		  "added_tokens" },
		{ "\"id\": 291", "\"id\": 300", BN_E_FORMAT, "'<|end_of_text|>' has the id 300" },
		{ "\"id\": 291", "\"id\": -1", BN_E_FORMAT, "added_tokens[1]: 'id' is -1" },
		{ "\"id\": 291", "\"id\": \"291\"", BN_E_FORMAT, "added_tokens[1]" },
		{ "\"id\": 291", "\"ID\": 291", BN_E_FORMAT, "added_tokens[1]" },
		{ "\"id\": 291", "\"id\": 290", BN_E_FORMAT, "id 290 is both" },
		{ "\"id\": 291", "\"id\": 33", BN_E_FORMAT, "id 33 is both" },
		{ "\"content\": \"<|end_of_text|>\"", "\"content\": \"\"", BN_E_FORMAT,
		  "no content" },
		{ "\"content\": \"<|end_of_text|>\"", "\"content\": 7", BN_E_FORMAT, "no content" },
		{ "\"use_regex\": true", "\"use_regex\": false", BN_E_NOT_SUPPORTED,
		  "pre_tokenizer" },
		{ "\"normalizer\": null", "\"normalizer\": nul", BN_E_FORMAT, "not valid JSON" },
	};
	const size_t before = hf_peak_mib();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trial x;

		trial_open(&x);
		hf_replace(&x.hf.tokenizer, cases[i].from, cases[i].to);
		trial_refused(&x, HF_VOCAB, cases[i].status, cases[i].words);
		trial_close(&x);
	}
	assert_true(hf_peak_mib() - before < 64);
}

static void hfvocab_refuses_too_few_rows_long_tokens_and_no_files(void **state)
{
	struct trial x;
	char token[1200];

	(void)state;
	trial_open(&x);
	trial_refused(&x, HF_VOCAB - 1, BN_E_FORMAT, "has 299 rows");
	memset(token, 'x', sizeof(token));
	strcpy(token + 1100, "\": 33");
	token[0] = '"';
	hf_replace(&x.hf.tokenizer, "\"!\": 33", token);
	trial_refused(&x, HF_VOCAB, BN_E_FORMAT, "at most 1024");
	free(x.hf.tokenizer);
	x.hf.tokenizer = NULL;
	trial_refused(&x, HF_VOCAB, BN_E_IO, "neither tokenizer.json nor");
	hf_write_file(&x.hf, "tokenizer.model", "IQ== 0\n", 7);
	trial_refused(&x, HF_VOCAB, BN_E_FORMAT, "tokenizer.model: not a");
	trial_close(&x);
}

static void hfvocab_refuses_wrong_added_tokens_elsewhere(void **state)
{
	static const struct {
		const char *file, *text, *words;
	} cases[] = {
		{ "added_tokens.json", "{\"<z>\": 300}", "'<z>' has the id 300" },
		{ "added_tokens.json", "{\"<z>\": -2}", "'<z>' is no integer" },
		{ "added_tokens.json", "{\"<z>\": 290}", "id 290 is both" },
		{ "added_tokens.json", "[]", "not an object" },
		{ "tokenizer_config.json",
		  "{\"added_tokens_decoder\": {\"x\": {\"content\": \"q\"}}}",
		  "'x', which is no id" },
		{ "tokenizer_config.json",
		  "{\"added_tokens_decoder\": {\"300\": {\"content\": \"q\"}}}",
		  "'q' has the id 300" },
		{ "tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {}}}",
		  "no content" },
		{ "tokenizer_config.json", "{\"add_bos_token\": 1}", "'add_bos_token'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trial x;

		trial_open(&x);
		if (cases[i].file[0] == 'a') {
			hf_write_file(&x.hf, cases[i].file, cases[i].text, strlen(cases[i].text));
		} else {
			free(x.hf.tokenizer_config);
			x.hf.tokenizer_config = strdup(cases[i].text);
		}
		trial_refused(&x, HF_VOCAB, BN_E_FORMAT, cases[i].words);
		trial_close(&x);
	}
}

/* The whole way with a real vocabulary: Llama-2's, which the 1bitLLM models use with two tokens
 * more. */
static void hfvocab_of_llama_2_tokenizes_as_llama_2(void **state)
{
	static const bn_token wanted[] = { 15043, 3186, 29991 };
	struct trial x;
	struct bn_tokenizer *tok = NULL;
	struct bn_tokens got = { 0 };
	unsigned char *bytes;
	uint8_t *types;
	size_t n;

	(void)state;
	bytes = hf_data("tokenizers/llama2-spm/tokenizer.model", &n);
	if (bytes == NULL) {
		skip();
	}
	trial_open(&x);
	free(x.hf.tokenizer);
	x.hf.tokenizer = NULL;
	free(x.hf.tokenizer_config);
	x.hf.tokenizer_config =
		strdup("{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\"}");
	hf_write_file(&x.hf, "tokenizer.model", bytes, n);
	hf_write_file(&x.hf, "added_tokens.json", "{\"<pad>\": 32000}", 16);
	trial_loads(&x, 32002);
	assert_int_equal(x.v.n_named, 32001);
	expect_token(&x.v, 32000, "<pad>", BN_TOKEN_CONTROL);
	assert_true(x.v.add_bos && x.v.add_space_prefix);
	types = malloc(x.v.n);
	for (uint32_t i = 0; i < x.v.n; i++) {
		types[i] = (uint8_t)x.v.types[i];
	}

	const struct bn_vocab vocab = {
		.kind = x.v.kind,
		.n_tokens = x.v.n,
		.tokens = x.v.tokens,
		.scores = x.v.scores,
		.types = types,
		.add_space_prefix = x.v.add_space_prefix,
		.add_bos = x.v.add_bos,
		.bos = x.v.bos,
		.eos = x.v.eos,
		.unk = x.v.unk,
		.eot = BN_TOKEN_NONE,
		.eom = BN_TOKEN_NONE,
	};

	hf_expect(bn_tokenizer_new(&tok, &vocab, &x.err), &x.err, BN_OK, "");
	hf_expect(bn_tokenizer_encode(tok, "Hello world!", 12, NULL, &got, &x.err), &x.err, BN_OK,
		  "");
	assert_int_equal(got.n, 3);
	assert_memory_equal(got.ids, wanted, 3 * sizeof(wanted[0]));
	bn_tokens_finish(&got);
	bn_tokenizer_free(tok);
	free(types);
	free(bytes);
	trial_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hfvocab_reads_a_byte_level_tokenizer),
		cmocka_unit_test(hfvocab_pads_rows_without_a_token),
		cmocka_unit_test(hfvocab_takes_bos_from_the_post_processor),
		cmocka_unit_test(hfvocab_reads_flags_templates_and_missing_specials),
		cmocka_unit_test(hfvocab_prefers_the_template_of_its_own_file),
		cmocka_unit_test(hfvocab_makes_sentencepiece_of_a_tokenizer_json),
		cmocka_unit_test(hfvocab_refuses_spoilt_tokenizers_with_a_sentence),
		cmocka_unit_test(hfvocab_refuses_too_few_rows_long_tokens_and_no_files),
		cmocka_unit_test(hfvocab_refuses_wrong_added_tokens_elsewhere),
		cmocka_unit_test(hfvocab_of_llama_2_tokenizes_as_llama_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
