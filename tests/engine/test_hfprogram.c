/* The programs of tokenizer.json that are recognised, and those that are not. */
#include "engine/hfprogram.h"

#include "tests/engine/hf_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LLAMA3                                                                               \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}" \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2                                                                           \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex)                                                                    \
	"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, \"behavior\": " \
	"\"Isolated\"}"
#define BYTES(regex)    "{\"type\": \"ByteLevel\", \"use_regex\": " regex "}"
#define SEQUENCE(parts) "{\"type\": \"Sequence\", \"pretokenizers\": [" parts "]}"

static json_t *load(const char *text)
{
	json_t *root = json_loads(text, 0, NULL);

	assert_non_null(root);
	return root;
}

static void hfprogram_names_the_splitters_it_knows(void **state)
{
	static const struct {
		const char *pre, *name;
	} cases[] = {
		{ SEQUENCE(SPLIT(LLAMA3) ", " BYTES("false")), "llama-bpe" },
		{ SEQUENCE(SPLIT(QWEN2) ", " BYTES("false")), "qwen2" },
		{ SEQUENCE("{\"type\": \"Punctuation\"}, " BYTES(
			  "true") ", {\"type\": \"Digits\", \"individual_digits\": true}"),
		  "falcon3" },
		{ SEQUENCE(
			  SEQUENCE("{\"type\": \"Digits\"}, {\"type\": \"Punctuation\"}") ", " SPLIT(
				  LLAMA3) ", " BYTES("false")),
		  "falcon3" },
		{ BYTES("true"), "gpt-2" },
		{ "{\"type\": \"ByteLevel\"}", "gpt-2" },
		{ BYTES("false"), NULL },
		{ SEQUENCE(SPLIT("[a-z]+") ", " BYTES("true")), NULL },
		{ "{\"type\": \"Whitespace\"}", NULL },
		{ "null", NULL },
		{ "7", NULL },
		{ SEQUENCE("7, null, []"), NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[2048];
		json_t *root;
		const char *name;

		snprintf(text, sizeof(text), "{\"pre_tokenizer\": %s}", cases[i].pre);
		root = load(text);
		name = bn_hfprogram_splitter(root);
		if (cases[i].name == NULL) {
			assert_null(name);
		} else {
			assert_non_null(name);
			assert_string_equal(name, cases[i].name);
		}
		json_decref(root);
	}
	assert_null(bn_hfprogram_splitter(NULL));
}

static void hfprogram_tells_the_kinds_of_bpe_apart(void **state)
{
	static const struct {
		const char *text;
		enum bn_status status;
		enum bn_tokenizer_kind kind;
		const char *words;
	} cases[] = {
		{ "{\"model\": {\"type\": \"BPE\"}, \"decoder\": {\"type\": \"ByteLevel\"}}", BN_OK,
		  BN_TOKENIZER_BPE, "" },
		{ "{\"model\": {\"type\": \"BPE\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
		  BN_OK, BN_TOKENIZER_BPE, "" },
		{ "{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true}}", BN_OK,
		  BN_TOKENIZER_SPM, "" },
		{ "{\"model\": {\"type\": \"BPE\"}}", BN_E_NOT_SUPPORTED, 0, "neither byte-level" },
		{ "{\"model\": {\"type\": \"Unigram\"}}", BN_E_NOT_SUPPORTED, 0, "'Unigram'" },
		{ "{\"model\": {\"type\": \"WordPiece\"}}", BN_E_NOT_SUPPORTED, 0, "'WordPiece'" },
		{ "{\"model\": {}}", BN_E_NOT_SUPPORTED, 0, "'absent'" },
		{ "{}", BN_E_NOT_SUPPORTED, 0, "'absent'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *root = load(cases[i].text);
		enum bn_tokenizer_kind kind = BN_TOKENIZER_BPE;
		struct bn_error err = { 0 };

		hf_expect(bn_hfprogram_kind(root, &kind, &err), &err, cases[i].status,
			  cases[i].words);
		if (cases[i].status == BN_OK) {
			assert_int_equal(kind, cases[i].kind);
		}
		json_decref(root);
	}
}

static void hfprogram_finds_what_goes_around_a_text(void **state)
{
	const char *first = "x", *last = "x";
	json_t *root =
		load("{\"post_processor\": {\"type\": \"Sequence\", \"processors\": ["
		     "{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", \"single\": ["
		     "{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}]}]}}");

	(void)state;
	assert_true(bn_hfprogram_specials(root, &first, &last));
	assert_string_equal(first, "<s>");
	assert_null(last);
	json_decref(root);
	root = load("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
		    "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"</s>\"}}]}}");
	assert_true(bn_hfprogram_specials(root, &first, &last));
	assert_null(first);
	assert_string_equal(last, "</s>");
	json_decref(root);
	root = load("{\"post_processor\": {\"type\": \"ByteLevel\"}}");
	assert_false(bn_hfprogram_specials(root, &first, &last));
	json_decref(root);
	assert_false(bn_hfprogram_specials(NULL, &first, &last));
}

static void hfprogram_sees_spaces_and_normalizers(void **state)
{
	json_t *root = load("{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": "
			    "\"first\"}, \"normalizer\": {\"type\": \"NFC\"}}");

	(void)state;
	assert_true(bn_hfprogram_prepends_space(root));
	assert_string_equal(bn_hfprogram_normalizer(root), "NFC");
	json_decref(root);
	root = load(
		"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"never\"}}");
	assert_false(bn_hfprogram_prepends_space(root));
	assert_null(bn_hfprogram_normalizer(root));
	json_decref(root);
	root = load("{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": "
		    "\"Prepend\", \"prepend\": \"_\"}, {\"type\": \"Replace\"}]}}");
	assert_true(bn_hfprogram_prepends_space(root));
	json_decref(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hfprogram_names_the_splitters_it_knows),
		cmocka_unit_test(hfprogram_tells_the_kinds_of_bpe_apart),
		cmocka_unit_test(hfprogram_finds_what_goes_around_a_text),
		cmocka_unit_test(hfprogram_sees_spaces_and_normalizers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
