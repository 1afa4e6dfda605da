/*
 * One function per kind. None knows the field's name; whoever walks the map puts it in front of
 * the complaint. Ranges of single values live in the rows, limits of list elements here.
 */
#include "proto/kind.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	TOKEN_MAX = INT32_MAX,
	BIAS_MAX = 100,
	WORDS_BYTES = 96, /* "interactive, normal, batch" and more */
};

enum bn_status bn_kind_mismatch(const char *expected, struct bn_value v, struct bn_error *err)
{
	return bn_fail(err, BN_E_INVALID, "expected %s, got %s", expected, bn_type_name(v.type));
}

/* --- one function per kind; `out` points to the BN_C_<KIND> ------------------------------- */

static enum bn_status decode_str(struct bn_text *out, const struct bn_field *field,
				 struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_STR) {
		return bn_kind_mismatch("a string", v, err);
	}
	*out = bn_value_text(v);
	return bn_field_check_size(field, v.n, "bytes", err);
}

static enum bn_status decode_bin(struct bn_bytes *out, const struct bn_field *field,
				 struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_BIN) {
		return bn_kind_mismatch("binary data", v, err);
	}
	*out = bn_value_bytes(v);
	return bn_field_check_size(field, v.n, "bytes", err);
}

static enum bn_status decode_int(int64_t *out, const struct bn_field *field, struct bn_value v,
				 struct bn_error *err)
{
	if (v.type == BN_TYPE_BIG) {
		return bn_fail(err, BN_E_INVALID, "%" PRIu64 " is not in %" PRId64 "..%" PRId64,
			       v.as.big, field->int_min, field->int_max);
	}
	if (v.type == BN_TYPE_FLOAT) {
		return bn_fail(err, BN_E_INVALID, "%g is a float, an integer is needed",
			       v.as.number);
	}
	if (v.type != BN_TYPE_INT) {
		return bn_kind_mismatch("an integer", v, err);
	}
	*out = v.as.integer;
	return bn_field_check_int(field, v.as.integer, err);
}

static bool is_number(struct bn_value v)
{
	return v.type == BN_TYPE_INT || v.type == BN_TYPE_BIG || v.type == BN_TYPE_FLOAT;
}

static enum bn_status decode_num(double *out, const struct bn_field *field, struct bn_value v,
				 struct bn_error *err)
{
	if (!is_number(v)) {
		return bn_kind_mismatch("a number", v, err);
	}
	*out = bn_value_num(v, 0);
	return bn_field_check_num(field, *out, err);
}

static enum bn_status decode_bool(bool *out, struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_BOOL) {
		return bn_kind_mismatch("true or false", v, err);
	}
	*out = v.as.boolean;
	return BN_OK;
}

/* "wait, fail" */
static void list_words(const char *const *words, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; words[i] != NULL && used < size; i++) {
		int n = snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "", words[i]);

		used += n > 0 ? (size_t)n : 0;
	}
}

static enum bn_status decode_word(uint32_t *out, const struct bn_field *field, struct bn_value v,
				  struct bn_error *err)
{
	struct bn_text text = bn_value_text(v);
	char words[WORDS_BYTES];

	if (v.type != BN_TYPE_STR) {
		return bn_kind_mismatch("a string", v, err);
	}
	for (uint32_t i = 0; field->words[i] != NULL; i++) {
		if (bn_text_is(text, field->words[i])) {
			*out = i;
			return BN_OK;
		}
	}
	list_words(field->words, words, sizeof(words));
	return bn_fail(err, BN_E_INVALID, "'%.*s' is not one of: %s",
		       (int)(text.n < 64 ? text.n : 64), text.at, words);
}

static enum bn_status decode_time(int64_t *out, const struct bn_field *field, struct bn_value v,
				  struct bn_error *err)
{
	if (v.type == BN_TYPE_STR) {
		struct bn_text text = bn_value_text(v);

		if (!bn_time_parse(text, out)) {
			return bn_fail(err, BN_E_INVALID,
				       "'%.*s' is no duration; write 300, \"10m\", \"1h30m\" "
				       "or -1",
				       (int)(text.n < 64 ? text.n : 64), text.at);
		}
	} else if (v.type == BN_TYPE_INT) {
		if (v.as.integer < 0) {
			*out = BN_TIME_FOREVER;
		} else if (__builtin_mul_overflow(v.as.integer, (int64_t)1000, out)) {
			*out = INT64_MAX;
		}
	} else {
		return v.type == BN_TYPE_BIG
			       ? bn_field_check_int(field, INT64_MAX, err)
			       : bn_kind_mismatch("seconds or a string like \"10m\"", v, err);
	}
	return *out == BN_TIME_FOREVER ? BN_OK : bn_field_check_int(field, *out / 1000, err);
}

static enum bn_status check_token(const char *what, struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_INT) {
		return bn_fail(err, BN_E_INVALID, "%s must be token ids, got %s", what,
			       bn_type_name(v.type));
	}
	if (v.as.integer < 0 || v.as.integer > TOKEN_MAX) {
		return bn_fail(err, BN_E_INVALID, "%" PRId64 " is no token id", v.as.integer);
	}
	return BN_OK;
}

static uint32_t u32le(const unsigned char *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

static enum bn_status decode_ids(struct bn_ids *out, const struct bn_field *field,
				 struct bn_value v, struct bn_error *err)
{
	enum bn_status status = BN_OK;

	out->wire = v;
	if (v.type == BN_TYPE_BIN) {
		if (v.n % 4 != 0) {
			return bn_fail(err, BN_E_INVALID,
				       "%" PRIu32 " bytes are not a whole number of 4-byte "
				       "token ids",
				       v.n);
		}
		out->n = v.n / 4;
		for (uint32_t i = 0; i < out->n; i++) {
			if (u32le(v.body + 4 * (size_t)i) > TOKEN_MAX) {
				return bn_fail(err, BN_E_INVALID, "%" PRIu32 " is no token id",
					       u32le(v.body + 4 * (size_t)i));
			}
		}
	} else if (v.type == BN_TYPE_ARRAY) {
		struct bn_iter it = bn_iter_begin(v);
		struct bn_value each;

		out->n = v.n;
		while (status == BN_OK && bn_iter_next(&it, NULL, &each)) {
			status = check_token("the elements", each, err);
		}
	} else {
		return bn_kind_mismatch("an array of token ids or binary data", v, err);
	}
	return status != BN_OK ? status : bn_field_check_size(field, out->n, "tokens", err);
}

static enum bn_status decode_prompt(struct bn_prompt *out, const struct bn_field *field,
				    struct bn_value v, struct bn_error *err)
{
	if (v.type == BN_TYPE_STR) {
		out->text = bn_value_text(v);
		return BN_OK;
	}
	if (v.type != BN_TYPE_ARRAY && v.type != BN_TYPE_BIN) {
		return bn_kind_mismatch("a string, an array of token ids or binary data", v, err);
	}
	out->is_ids = true;
	return decode_ids(&out->ids, field, v, err);
}

static enum bn_status decode_strings(struct bn_strings *out, const struct bn_field *field,
				     struct bn_value v, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(v);
	struct bn_value each = v;

	if (v.type != BN_TYPE_STR && v.type != BN_TYPE_ARRAY) {
		return bn_kind_mismatch("a string or an array of strings", v, err);
	}
	if (v.type == BN_TYPE_ARRAY) {
		enum bn_status status = bn_field_check_size(field, v.n, "strings", err);

		if (status != BN_OK || !bn_iter_next(&it, NULL, &each)) {
			return status;
		}
	}
	do {
		if (each.type != BN_TYPE_STR) {
			return bn_kind_mismatch("strings", each, err);
		}
		if (each.n < 1 || each.n > BN_LIMIT_STOP_BYTES) {
			return bn_fail(err, BN_E_INVALID,
				       "a string of %" PRIu32 " bytes; 1..%d are allowed", each.n,
				       BN_LIMIT_STOP_BYTES);
		}
		out->at[out->n++] = bn_value_text(each);
	} while (v.type == BN_TYPE_ARRAY && bn_iter_next(&it, NULL, &each));
	return BN_OK;
}

static enum bn_status decode_texts(struct bn_texts *out, const struct bn_field *field,
				   struct bn_value v, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(v);
	struct bn_value each;

	if (v.type != BN_TYPE_STR && v.type != BN_TYPE_ARRAY) {
		return bn_kind_mismatch("a string or an array of strings", v, err);
	}
	out->wire = v;
	out->n = v.type == BN_TYPE_STR ? 1 : v.n;
	while (v.type == BN_TYPE_ARRAY && bn_iter_next(&it, NULL, &each)) {
		if (each.type != BN_TYPE_STR) {
			return bn_kind_mismatch("strings", each, err);
		}
	}
	return bn_field_check_size(field, out->n, "texts", err);
}

static enum bn_status decode_biases(struct bn_biases *out, const struct bn_field *field,
				    struct bn_value v, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(v);
	struct bn_value key, bias;
	enum bn_status status;

	if (v.type != BN_TYPE_MAP) {
		return bn_kind_mismatch("a map of token id to number", v, err);
	}
	out->wire = v;
	out->n = v.n;
	status = bn_field_check_size(field, v.n, "entries", err);
	while (status == BN_OK && bn_iter_next(&it, &key, &bias)) {
		double number = bn_value_num(bias, 0);

		status = check_token("the keys", key, err);
		if (status == BN_OK && !is_number(bias)) {
			status = bn_kind_mismatch("numbers", bias, err);
		}
		if (status == BN_OK && !(fabs(number) <= BIAS_MAX)) {
			status = bn_fail(err, BN_E_INVALID,
					 "%g for token %" PRId64 " is not in -%d..%d", number,
					 key.as.integer, BIAS_MAX, BIAS_MAX);
		}
	}
	return status;
}

enum bn_status bn_kind_decode(void *out, const struct bn_field *field, struct bn_value v,
			      struct bn_error *err)
{
	switch (field->kind) {
	case BN_KIND_STR:
		return decode_str(out, field, v, err);
	case BN_KIND_INT:
		return decode_int(out, field, v, err);
	case BN_KIND_NUM:
		return decode_num(out, field, v, err);
	case BN_KIND_BOOL:
		return decode_bool(out, v, err);
	case BN_KIND_WORD:
		return decode_word(out, field, v, err);
	case BN_KIND_TIME:
		return decode_time(out, field, v, err);
	case BN_KIND_PROMPT:
		return decode_prompt(out, field, v, err);
	case BN_KIND_IDS:
		return decode_ids(out, field, v, err);
	case BN_KIND_STRS:
		return decode_strings(out, field, v, err);
	case BN_KIND_TEXTS:
		return decode_texts(out, field, v, err);
	case BN_KIND_BIAS:
		return decode_biases(out, field, v, err);
	case BN_KIND_CHAT:
		break;
	case BN_KIND_BIN:
		return decode_bin(out, field, v, err);
	}
	return bn_fail(err, BN_E_INTERNAL, "a field of a kind that is no single value");
}

void bn_ids_copy(const struct bn_ids *list, uint32_t *out)
{
	struct bn_iter it = bn_iter_begin(list->wire);
	struct bn_value each;

	if (list->host != NULL) {
		memcpy(out, list->host, list->n * sizeof(*out));
	} else if (list->wire.type == BN_TYPE_BIN) {
		for (uint32_t i = 0; i < list->n; i++) {
			out[i] = u32le(list->wire.body + 4 * (size_t)i);
		}
	} else {
		for (uint32_t i = 0; i < list->n && bn_iter_next(&it, NULL, &each); i++) {
			out[i] = (uint32_t)bn_value_int(each, 0);
		}
	}
}

void bn_texts_copy(const struct bn_texts *list, struct bn_text *out)
{
	struct bn_iter it = bn_iter_begin(list->wire);
	struct bn_value each;

	if (list->host != NULL) {
		memcpy(out, list->host, list->n * sizeof(*out));
	} else if (list->wire.type == BN_TYPE_STR) {
		out[0] = bn_value_text(list->wire);
	} else {
		for (uint32_t i = 0; i < list->n && bn_iter_next(&it, NULL, &each); i++) {
			out[i] = bn_value_text(each);
		}
	}
}

void bn_biases_copy(const struct bn_biases *list, struct bn_bias *out)
{
	struct bn_iter it = bn_iter_begin(list->wire);
	struct bn_value key, bias;

	if (list->host != NULL) {
		memcpy(out, list->host, list->n * sizeof(*out));
		return;
	}
	for (uint32_t i = 0; i < list->n && bn_iter_next(&it, &key, &bias); i++) {
		out[i].token = (uint32_t)bn_value_int(key, 0);
		out[i].bias = (float)bn_value_num(bias, 0);
	}
}
