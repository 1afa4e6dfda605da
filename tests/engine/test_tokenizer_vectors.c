/* The real tokenizers, from the test data: public vectors, real texts, and what holds for any. */
#include "engine/tokenizer.h"

#include "engine/utf8.h"
#include "tests/engine/texts.h"
#include "tests/engine/vocabs.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* llama.cpp's files: texts separated by a line, and one line of ids for each. */
static void check_ggml_vectors(const struct bn_tokenizer *tok, const char *name)
{
	static const char separator[] = "\n__ggml_vocab_test__\n";
	char path[128];
	size_t n_texts;
	size_t n_lines;
	char *texts;
	char *lines;
	char *line;
	unsigned checked = 0;

	snprintf(path, sizeof(path), "tokenizer-vectors/%s.inp", name);
	texts = vocabs_read(path, &n_texts);
	snprintf(path, sizeof(path), "tokenizer-vectors/%s.out", name);
	lines = vocabs_read(path, &n_lines);
	line = lines;
	for (char *text = texts; text != NULL;) {
		char *end = strstr(text, separator);
		char *line_end = strchr(line, '\n');
		bn_token want[512];
		size_t n = 0;
		struct bn_tokens got;

		if (line_end == NULL) {
			break; /* the last separator is followed by nothing */
		}
		if (end != NULL) {
			*end = '\0';
		}
		*line_end = '\0';
		for (char *at = line; *at != '\0';) {
			char *after;
			unsigned long id = strtoul(at, &after, 10);

			if (after == at) {
				break;
			}
			assert_true(n < 512);
			want[n++] = (bn_token)id;
			at = after;
		}
		got = texts_encode(tok, text);
		texts_assert_ids(text, got, want, n);
		checked++;
		text = end == NULL ? NULL : end + strlen(separator);
		line = line_end + 1;
	}
	assert_int_equal(*line, '\0');
	print_message("%s: %u vectors\n", name, checked);
	assert_true(checked >= 46);
	free(texts);
	free(lines);
}

/* JSON collections of Llama-2 and Llama-3 vectors. */
static void check_json_vectors(const struct bn_tokenizer *tok, const char *name, size_t at_least)
{
	size_t n;
	char *text = vocabs_read(name, &n);
	json_t *root = json_loadb(text, n, 0, NULL);
	size_t i;
	json_t *vector;

	assert_non_null(root);
	assert_true(json_array_size(json_object_get(root, "vectors")) >= at_least);
	json_array_foreach(json_object_get(root, "vectors"), i, vector)
	{
		const json_t *string = json_object_get(vector, "text");
		const json_t *ids = json_object_get(vector, "ids");
		bn_token want[512];
		struct bn_encode_options options = {
			.add_special = json_is_true(json_object_get(vector, "bos")),
			.parse_special = json_is_true(json_object_get(vector, "parse_special")),
			/* The same tokenizer, asked not to put the dummy space in front. */
			.continues = json_is_false(json_object_get(vector, "add_space_prefix")),
		};
		struct bn_tokens got = texts_encode_with(tok, json_string_value(string),
							 json_string_length(string), options);

		assert_true(json_array_size(ids) < 512);
		for (size_t k = 0; k < json_array_size(ids); k++) {
			want[k] = (bn_token)json_integer_value(json_array_get(ids, k));
		}
		texts_assert_ids(json_string_value(string), got, want, json_array_size(ids));
	}
	print_message("%s: %zu vectors\n", name, i);
	json_decref(root);
	free(text);
}

static void tokenizer_gives_the_llama_bpe_vectors(void **state)
{
	const struct texts *x = *state;

	check_ggml_vectors(x->bpe, "ggml-vocab-llama-bpe.gguf");
}

static void tokenizer_gives_the_llama_spm_vectors(void **state)
{
	const struct texts *x = *state;

	check_ggml_vectors(x->spm, "ggml-vocab-llama-spm.gguf");
}

static void tokenizer_gives_the_phi3_vectors(void **state)
{
	const struct texts *x = *state;

	check_ggml_vectors(x->phi3, "ggml-vocab-phi-3.gguf");
}

static void tokenizer_gives_the_llama3_vectors(void **state)
{
	const struct texts *x = *state;

	check_json_vectors(x->bpe, "tokenizer-vectors/llama3-vectors.json", 39);
}

static void tokenizer_gives_the_llama2_vectors(void **state)
{
	const struct texts *x = *state;

	check_json_vectors(x->spm, "tokenizer-vectors/llama2-vectors.json", 21);
}

static void tokenizer_decodes_the_llama2_vectors(void **state)
{
	const struct texts *x = *state;
	size_t n;
	char *text = vocabs_read("tokenizer-vectors/llama2-vectors.json", &n);
	json_t *root = json_loadb(text, n, 0, NULL);
	size_t i;
	json_t *vector;

	assert_int_equal(json_array_size(json_object_get(root, "decode_vectors")), 2);
	json_array_foreach(json_object_get(root, "decode_vectors"), i, vector)
	{
		const char *want = json_string_value(json_object_get(vector, "text"));
		const json_t *list = json_object_get(vector, "ids");
		bn_token ids[16];
		char got[64];
		size_t needed;

		for (size_t k = 0; k < json_array_size(list); k++) {
			ids[k] = (bn_token)json_integer_value(json_array_get(list, k));
		}
		assert_int_equal(bn_tokenizer_decode(x->spm, ids, json_array_size(list), 0, got,
						     sizeof(got), &needed, NULL),
				 BN_OK);
		assert_int_equal(needed, strlen(want));
		assert_memory_equal(got, want, needed);
	}
	json_decref(root);
	free(text);
}

/* The prompt of transformers' own BitNet test, 128000 128000 1502 25 ... */
static void tokenizer_gives_the_bitnet_prompt_of_transformers(void **state)
{
	const struct texts *x = *state;
	static const bn_token want[] = { 128000, 128000, 1502,   25,    2650, 527,
					 499,    30,     128009, 72803, 25,   220 };
	static const char text[] = "<|begin_of_text|>User: How are you?<|eot_id|>Assistant: ";
	struct bn_tokens got = texts_encode_with(
		x->bpe, text, strlen(text),
		(struct bn_encode_options){ .add_special = true, .parse_special = true });

	texts_assert_ids(text, got, want, sizeof(want) / sizeof(want[0]));
}

static void real_tokenizers_give_random_text_back(void **state)
{
	const struct texts *x = *state;

	texts_random_round_trips(x->bpe);
	texts_random_round_trips(x->spm);
	texts_random_round_trips(x->phi3);
}

static void gives_file_back(const struct bn_tokenizer *tok, const char *name)
{
	size_t n;
	char *text = vocabs_read(name, &n);
	char *clean = malloc(3 * n);
	size_t n_clean;

	assert_non_null(clean);
	n_clean = bn_utf8_clean(text, n, clean);
	texts_round_trip(tok, clean, n_clean);
	for (char *line = clean; line < clean + n_clean;) {
		char *end = memchr(line, '\n', (size_t)(clean + n_clean - line));

		end = end == NULL ? clean + n_clean : end + 1;
		texts_round_trip(tok, line, (size_t)(end - line));
		line = end;
	}
	free(clean);
	free(text);
}

static void tokenizer_gives_stress_files_and_naughty_strings_back(void **state)
{
	const struct texts *x = *state;
	const struct bn_tokenizer *const toks[] = { x->bpe, x->spm, x->phi3 };
	size_t n;
	char *text = vocabs_read("tokenizer-vectors/utf8/blns.json", &n);
	json_t *strings = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
	size_t i;
	json_t *string;

	assert_true(json_array_size(strings) > 400);
	for (size_t t = 0; t < 3; t++) {
		json_array_foreach(strings, i, string)
		{
			texts_round_trip(toks[t], json_string_value(string),
					 json_string_length(string));
		}
		gives_file_back(toks[t], "tokenizer-vectors/utf8/UTF-8-demo.txt");
		gives_file_back(toks[t], "tokenizer-vectors/utf8/UTF-8-test.txt");
	}
	json_decref(strings);
	free(text);
}

static void real_tokenizers_never_make_control_tokens_of_text(void **state)
{
	const struct texts *x = *state;

	assert_int_equal(texts_inject(x->bpe), 256);
	assert_int_equal(texts_inject(x->spm), 3);
	assert_true(texts_inject(x->phi3) >= 14);
}

static void tokenizer_knows_what_ends_a_generation(void **state)
{
	const struct texts *x = *state;
	static const char *const yes[] = { "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>" };

	for (size_t i = 0; i < 3; i++) {
		bn_token id = bn_tokenizer_find(x->bpe, yes[i], strlen(yes[i]));

		assert_true(bn_tokenizer_is_eog(x->bpe, id));
	}
	assert_false(bn_tokenizer_is_eog(x->bpe, 128000));
	assert_false(bn_tokenizer_is_eog(x->bpe, 0));
	assert_false(bn_tokenizer_is_eog(x->bpe, UINT32_MAX));
	assert_true(bn_tokenizer_is_eog(x->spm, 2));
	assert_true(bn_tokenizer_is_eog(x->phi3, 32000));
	assert_true(bn_tokenizer_is_eog(x->phi3, 32007)); /* <|end|> */
}

static void real_tokenizers_take_hostile_text_in_reasonable_time(void **state)
{
	const struct texts *x = *state;

	texts_take_hostile(x->bpe);
	texts_take_hostile(x->spm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_gives_the_llama_bpe_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama_spm_vectors),
		cmocka_unit_test(tokenizer_gives_the_phi3_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama3_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama2_vectors),
		cmocka_unit_test(tokenizer_decodes_the_llama2_vectors),
		cmocka_unit_test(tokenizer_gives_the_bitnet_prompt_of_transformers),
		cmocka_unit_test(real_tokenizers_give_random_text_back),
		cmocka_unit_test(tokenizer_gives_stress_files_and_naughty_strings_back),
		cmocka_unit_test(real_tokenizers_never_make_control_tokens_of_text),
		cmocka_unit_test(tokenizer_knows_what_ends_a_generation),
		cmocka_unit_test(real_tokenizers_take_hostile_text_in_reasonable_time),
	};

	return cmocka_run_group_tests_name("engine/tokenizer_vectors", tests, texts_real,
					   texts_drop);
}
