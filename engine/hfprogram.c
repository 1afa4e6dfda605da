#include "engine/hfprogram.h"

#include "engine/json.h"

#include <string.h>

enum { PARTS_MAX = 16 };

/* The parts of a pre_tokenizer or the like, a Sequence and a Sequence in it laid flat. */
static size_t flatten(const json_t *node, const char *list, const json_t *parts[PARTS_MAX])
{
	size_t n = 0, i, k;
	const json_t *inner = json_object_get(node, list);
	json_t *part, *deep;

	if (!json_is_object(node)) {
		return 0;
	}
	if (!json_is_array(inner)) {
		parts[n++] = node;
		return n;
	}
	json_array_foreach(inner, i, part)
	{
		const json_t *nested = json_object_get(part, list);

		if (!json_is_array(nested)) {
			if (n < PARTS_MAX) {
				parts[n++] = part;
			}
			continue;
		}
		json_array_foreach(nested, k, deep)
		{
			if (n < PARTS_MAX) {
				parts[n++] = deep;
			}
		}
	}
	return n;
}

static bool is_type(const json_t *part, const char *type)
{
	const char *text = json_string_value(json_object_get(part, "type"));

	return text != NULL && strcmp(text, type) == 0;
}

static const json_t *part_of(const json_t *node, const char *list, const char *type)
{
	const json_t *parts[PARTS_MAX];
	const size_t n = flatten(node, list, parts);

	for (size_t i = 0; i < n; i++) {
		if (is_type(parts[i], type)) {
			return parts[i];
		}
	}
	return NULL;
}

static bool has_regex(const json_t *pre, const char *regex)
{
	const json_t *parts[PARTS_MAX];
	const size_t n = flatten(pre, "pretokenizers", parts);

	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(
			json_object_get(json_object_get(parts[i], "pattern"), "Regex"));

		if (is_type(parts[i], "Split") && text != NULL && strcmp(text, regex) == 0) {
			return true;
		}
	}
	return false;
}

bool bn_hfprogram_is_byte_level(const json_t *tokenizer)
{
	return part_of(bn_json_get(tokenizer, "pre_tokenizer"), "pretokenizers", "ByteLevel") !=
		       NULL ||
	       part_of(bn_json_get(tokenizer, "decoder"), "decoders", "ByteLevel") != NULL;
}

enum bn_status bn_hfprogram_kind(const json_t *tokenizer, enum bn_tokenizer_kind *out,
				 struct bn_error *err)
{
	const json_t *model = json_object_get(tokenizer, "model");
	const char *type = json_string_value(json_object_get(model, "type"));

	if (type == NULL || strcmp(type, "BPE") != 0) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "tokenizer.json: 'model.type' is '%.32s'; only BPE is supported",
			       type != NULL ? type : "absent");
	}
	if (bn_hfprogram_is_byte_level(tokenizer)) {
		*out = BN_TOKENIZER_BPE;
	} else if (json_is_true(json_object_get(model, "byte_fallback"))) {
		*out = BN_TOKENIZER_SPM;
	} else {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "tokenizer.json: a BPE that is neither byte-level nor SentencePiece "
			       "with byte fallback is not supported");
	}
	return BN_OK;
}

const char *bn_hfprogram_splitter(const json_t *tokenizer)
{
	static const char llama3[] =
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
		" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
	static const char qwen2[] =
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
		" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
	const json_t *pre = bn_json_get(tokenizer, "pre_tokenizer");
	const json_t *bytes = part_of(pre, "pretokenizers", "ByteLevel");

	if (part_of(pre, "pretokenizers", "Digits") != NULL &&
	    part_of(pre, "pretokenizers", "Punctuation") != NULL) {
		return "falcon3";
	}
	if (has_regex(pre, llama3)) {
		return "llama-bpe";
	}
	if (has_regex(pre, qwen2)) {
		return "qwen2";
	}
	if (bytes != NULL && part_of(pre, "pretokenizers", "Split") == NULL &&
	    !json_is_false(json_object_get(bytes, "use_regex"))) {
		return "gpt-2";
	}
	return NULL;
}

const char *bn_hfprogram_normalizer(const json_t *tokenizer)
{
	const json_t *node = bn_json_get(tokenizer, "normalizer");
	const char *type = json_string_value(json_object_get(node, "type"));

	if (node == NULL) {
		return NULL;
	}
	return type != NULL ? type : "";
}

bool bn_hfprogram_prepends_space(const json_t *tokenizer)
{
	const json_t *pre = bn_json_get(tokenizer, "pre_tokenizer");
	const json_t *meta = part_of(pre, "pretokenizers", "Metaspace");
	const char *scheme = json_string_value(json_object_get(meta, "prepend_scheme"));

	if (meta != NULL) {
		return scheme != NULL ? strcmp(scheme, "never") != 0
				      : !json_is_false(json_object_get(meta, "add_prefix_space"));
	}
	return part_of(bn_json_get(tokenizer, "normalizer"), "normalizers", "Prepend") != NULL;
}

bool bn_hfprogram_specials(const json_t *tokenizer, const char **first, const char **last)
{
	const json_t *post = bn_json_get(tokenizer, "post_processor");
	const json_t *single =
		json_object_get(part_of(post, "processors", "TemplateProcessing"), "single");
	const size_t n = json_array_size(single);

	if (n == 0) {
		return false;
	}
	*first = json_string_value(
		json_object_get(json_object_get(json_array_get(single, 0), "SpecialToken"), "id"));
	*last = n == 1 ? NULL
		       : json_string_value(json_object_get(
				 json_object_get(json_array_get(single, n - 1), "SpecialToken"),
				 "id"));
	return true;
}
