/*
 * One decoder for all methods: it walks the map, finds each key's row, and hands value and row to
 * the function of the row's kind. Those functions do not know the field's name; decode_map() puts
 * it in front of whatever they complain about ("top_p: 1.7 is not in 0..1") and into data.param.
 *
 * Ranges of single values live in the tables. What a table cannot say (list elements, rules
 * between fields) is here, once.
 */
#include "proto/decode.h"

#include "proto/assert.h"
#include "proto/suggest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	TOKEN_MAX = INT32_MAX,
	BIAS_MAX = 100,
	NAME_BYTES = 96, /* "messages[4095].content" and more */
};

/* A map being decoded: its rows, its struct, and what stands in front of names in sentences. */
struct target {
	const struct bn_field *own;
	const struct bn_field *shared;
	const char *prefix;
	bool lenient;
	unsigned char *base;
};

static enum bn_status wrong_type(const char *expected, struct bn_value v, struct bn_error *err)
{
	return bn_fail(err, BN_E_INVALID, "expected %s, got %s", expected, bn_type_name(v.type));
}

/* --- one function per kind; `out` points to the BN_C_<KIND> ------------------------------- */

static enum bn_status decode_str(struct bn_text *out, const struct bn_field *field,
				 struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_STR) {
		return wrong_type("a string", v, err);
	}
	*out = bn_value_text(v);
	return bn_field_check_size(field, v.n, "bytes", err);
}

static enum bn_status decode_bin(struct bn_bytes *out, const struct bn_field *field,
				 struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_BIN) {
		return wrong_type("binary data", v, err);
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
		return wrong_type("an integer", v, err);
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
		return wrong_type("a number", v, err);
	}
	*out = bn_value_num(v, 0);
	return bn_field_check_num(field, *out, err);
}

static enum bn_status decode_bool(bool *out, struct bn_value v, struct bn_error *err)
{
	if (v.type != BN_TYPE_BOOL) {
		return wrong_type("true or false", v, err);
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
	char words[NAME_BYTES];

	if (v.type != BN_TYPE_STR) {
		return wrong_type("a string", v, err);
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
			       : wrong_type("seconds or a string like \"10m\"", v, err);
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
		return wrong_type("an array of token ids or binary data", v, err);
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
		return wrong_type("a string, an array of token ids or binary data", v, err);
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
		return wrong_type("a string or an array of strings", v, err);
	}
	if (v.type == BN_TYPE_ARRAY) {
		enum bn_status status = bn_field_check_size(field, v.n, "strings", err);

		if (status != BN_OK || !bn_iter_next(&it, NULL, &each)) {
			return status;
		}
	}
	do {
		if (each.type != BN_TYPE_STR) {
			return wrong_type("strings", each, err);
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

static enum bn_status decode_biases(struct bn_biases *out, const struct bn_field *field,
				    struct bn_value v, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(v);
	struct bn_value key, bias;
	enum bn_status status;

	if (v.type != BN_TYPE_MAP) {
		return wrong_type("a map of token id to number", v, err);
	}
	out->wire = v;
	out->n = v.n;
	status = bn_field_check_size(field, v.n, "entries", err);
	while (status == BN_OK && bn_iter_next(&it, &key, &bias)) {
		double number = bn_value_num(bias, 0);

		status = check_token("the keys", key, err);
		if (status == BN_OK && !is_number(bias)) {
			status = wrong_type("numbers", bias, err);
		}
		if (status == BN_OK && !(fabs(number) <= BIAS_MAX)) {
			status = bn_fail(err, BN_E_INVALID,
					 "%g for token %" PRId64 " is not in -%d..%d", number,
					 key.as.integer, BIAS_MAX, BIAS_MAX);
		}
	}
	return status;
}

/* Depth is the schema's, not the peer's: turns hold no lists, so this comes back at most once. */
static enum bn_status decode_map(const struct target *t, struct bn_value map, struct bn_error *err);

static enum bn_status decode_turn(struct bn_params_turn *turn, const char *list, uint32_t i,
				  struct bn_value v, struct bn_error *err)
{
	char prefix[NAME_BYTES];
	struct target t = {
		.own = bn_turn_fields(),
		.prefix = prefix,
		.base = (unsigned char *)turn,
	};

	*turn = (struct bn_params_turn){ 0 };
	snprintf(prefix, sizeof(prefix), "%s[%" PRIu32 "].", list, i);
	return decode_map(&t, v, err);
}

/* Errors inside already name their place; *named tells the caller not to name it again. */
static enum bn_status decode_chat(struct bn_chat *out, const struct bn_field *field,
				  struct bn_value v, bool *named, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(v);
	struct bn_value each;
	enum bn_status status;

	if (v.type != BN_TYPE_ARRAY) {
		return wrong_type("an array of {role, content}", v, err);
	}
	out->wire = v;
	out->n = v.n;
	status = bn_field_check_size(field, v.n, "messages", err);
	for (uint32_t i = 0; status == BN_OK && bn_iter_next(&it, NULL, &each); i++) {
		struct bn_params_turn turn;

		if (each.type != BN_TYPE_MAP) {
			return wrong_type("an array of {role, content}", each, err);
		}
		status = decode_turn(&turn, field->name, i, each, err);
		*named = status != BN_OK;
	}
	return status;
}

/* --- maps ----------------------------------------------------------------------------------- */

static enum bn_status decode_field(const struct target *t, const struct bn_field *field,
				   struct bn_value v, struct bn_error *err)
{
	void *at = t->base + field->at;
	bool named = false;
	enum bn_status status = BN_E_INTERNAL;

	switch (field->kind) {
	case BN_KIND_STR:
		status = decode_str(at, field, v, err);
		break;
	case BN_KIND_INT:
		status = decode_int(at, field, v, err);
		break;
	case BN_KIND_NUM:
		status = decode_num(at, field, v, err);
		break;
	case BN_KIND_BOOL:
		status = decode_bool(at, v, err);
		break;
	case BN_KIND_WORD:
		status = decode_word(at, field, v, err);
		break;
	case BN_KIND_TIME:
		status = decode_time(at, field, v, err);
		break;
	case BN_KIND_PROMPT:
		status = decode_prompt(at, field, v, err);
		break;
	case BN_KIND_IDS:
		status = decode_ids(at, field, v, err);
		break;
	case BN_KIND_STRS:
		status = decode_strings(at, field, v, err);
		break;
	case BN_KIND_BIAS:
		status = decode_biases(at, field, v, err);
		break;
	case BN_KIND_CHAT:
		status = decode_chat(at, field, v, &named, err);
		break;
	case BN_KIND_BIN:
		status = decode_bin(at, field, v, err);
		break;
	}
	if (status != BN_OK && !named) {
		char name[NAME_BYTES];

		snprintf(name, sizeof(name), "%s%s", t->prefix, field->name);
		status = bn_wrap(err, "%s", name);
		bn_error_string(err, "param", name);
	}
	return status;
}

static const struct bn_field *find_in(const struct bn_field *fields, struct bn_text name)
{
	for (; fields != NULL && fields->name != NULL; fields++) {
		if (bn_text_is(name, fields->name)) {
			return fields;
		}
	}
	return NULL;
}

static const struct bn_field *find_field(const struct target *t, struct bn_text name)
{
	const struct bn_field *field = find_in(t->own, name);

	if (field == NULL) {
		field = find_in(t->shared, name);
	}
	for (const struct bn_alias *a = bn_aliases(); field == NULL && a->known != NULL; a++) {
		if (bn_text_is(name, a->accepted)) {
			field = find_in(t->shared, bn_text_of(a->known));
		}
	}
	return field;
}

static enum bn_status unknown_field(const struct target *t, struct bn_text name,
				    struct bn_error *err)
{
	const struct bn_field *lists[] = { t->own, t->shared };
	struct bn_suggest s;
	char full[NAME_BYTES];

	bn_suggest_init(&s, name);
	for (size_t i = 0; i < 2; i++) {
		for (const struct bn_field *f = lists[i]; f != NULL && f->name != NULL; f++) {
			bn_suggest_offer(&s, f->name);
		}
	}
	snprintf(full, sizeof(full), "%s%.*s", t->prefix, (int)name.n, name.at);
	if (bn_suggest_best(&s) != NULL) {
		bn_fail(err, BN_E_INVALID, "%s: no such field; did you mean '%s'?", full,
			bn_suggest_best(&s));
		bn_error_string(err, "param", full);
		bn_error_string(err, "suggestion", bn_suggest_best(&s));
	} else {
		bn_fail(err, BN_E_INVALID, "%s: no such field; server.info lists those there are",
			full);
		bn_error_string(err, "param", full);
	}
	return BN_E_INVALID;
}

static enum bn_status require(const struct target *t, const struct bn_field *fields,
			      struct bn_error *err)
{
	for (; fields != NULL && fields->name != NULL; fields++) {
		if (fields->must && !t->base[fields->has]) {
			char name[NAME_BYTES];

			snprintf(name, sizeof(name), "%s%s", t->prefix, fields->name);
			bn_fail(err, BN_E_INVALID, "%s: missing; expected %s", name,
				bn_kind_name(fields->kind));
			bn_error_string(err, "param", name);
			return BN_E_INVALID;
		}
	}
	return BN_OK;
}

static enum bn_status decode_map(const struct target *t, struct bn_value map, struct bn_error *err)
{
	struct bn_iter it = bn_iter_begin(map);
	struct bn_value key, value;
	enum bn_status status;

	while (bn_iter_next(&it, &key, &value)) {
		struct bn_text name = bn_value_text(key);
		const struct bn_field *field = find_field(t, name);
		bool *has;

		if (field == NULL) {
			if (t->lenient) {
				continue;
			}
			if (key.type != BN_TYPE_STR) {
				return bn_fail(err, BN_E_INVALID,
					       "%sfield names must be strings, got %s", t->prefix,
					       bn_type_name(key.type));
			}
			return unknown_field(t, name, err);
		}
		if (value.type == BN_TYPE_NIL) {
			continue;
		}
		has = (bool *)(t->base + field->has);
		if (*has) {
			bn_fail(err, BN_E_INVALID, "%s%s: given twice, once under another name",
				t->prefix, field->name);
			bn_error_string(err, "param", field->name);
			return BN_E_INVALID;
		}
		status = decode_field(t, field, value, err);
		if (status != BN_OK) {
			return status;
		}
		*has = true;
	}
	status = require(t, t->own, err);
	return status != BN_OK ? status : require(t, t->shared, err);
}

/* Rules between fields, which rows cannot express. */
static enum bn_status check_together(enum bn_method method, const union bn_params *params,
				     struct bn_error *err)
{
	if (method == BN_METHOD_CANCEL && params->cancel.has_id == params->cancel.all) {
		bn_fail(err, BN_E_INVALID, "id: give either the id of a request or all: true");
		bn_error_string(err, "param", "id");
		return BN_E_INVALID;
	}
	return BN_OK;
}

enum bn_status bn_params_decode(union bn_params *out, enum bn_method method, struct bn_value map,
				struct bn_error *err)
{
	const struct bn_method_info *info = bn_method_info(method);
	/* The sentence is needed to name the field even if the caller does not want it. */
	struct bn_error unwanted;
	struct target t = {
		.own = info->own,
		.shared = info->shared,
		.prefix = "",
		.base = (unsigned char *)out,
	};
	enum bn_status status;

	bn_assert(map.type == BN_TYPE_NONE || map.type == BN_TYPE_MAP);
	err = err != NULL ? err : &unwanted;
	memset(out, 0, sizeof(*out));
	status = decode_map(&t, map, err);
	return status != BN_OK ? status : check_together(method, out, err);
}

enum bn_status bn_event_decode(struct bn_event_head *head, enum bn_event_kind *kind,
			       union bn_event_body *body, struct bn_value map, struct bn_error *err)
{
	struct bn_text word = bn_value_text(bn_value_get(map, "event"));
	struct bn_error unwanted;
	struct target t = { .prefix = "", .lenient = true };
	enum bn_event_kind found = 0;
	enum bn_status status;

	err = err != NULL ? err : &unwanted;
	while (found < BN_EVENT_COUNT && !bn_text_is(word, bn_event_info(found)->name)) {
		found++;
	}
	if (found == BN_EVENT_COUNT) {
		return bn_fail(err, BN_E_NOT_SUPPORTED, "unknown event '%.*s'",
			       (int)(word.n < 64 ? word.n : 64), word.at);
	}
	*head = (struct bn_event_head){ 0 };
	memset(body, 0, sizeof(*body));
	*kind = found;
	t.own = bn_event_head_fields();
	t.base = (unsigned char *)head;
	status = decode_map(&t, map, err);
	if (status != BN_OK) {
		return status;
	}
	t.own = bn_event_info(found)->fields;
	t.base = (unsigned char *)body;
	return decode_map(&t, map, err);
}

/* --- lists ---------------------------------------------------------------------------------- */

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

void bn_chat_copy(const struct bn_chat *list, struct bn_params_turn *out)
{
	struct bn_iter it = bn_iter_begin(list->wire);
	struct bn_value each;

	if (list->host != NULL) {
		memcpy(out, list->host, list->n * sizeof(*out));
		return;
	}
	for (uint32_t i = 0; i < list->n && bn_iter_next(&it, NULL, &each); i++) {
		struct bn_error unwanted;
		enum bn_status status = decode_turn(&out[i], "", i, each, &unwanted);

		/* The same bytes passed when the list was decoded. */
		bn_assert(status == BN_OK);
	}
}

/* --- durations ------------------------------------------------------------------------------ */

/* Milliseconds in the unit at *p, which is moved behind it; 0 when there is none. */
static int64_t take_unit(const char **p, const char *end)
{
	static const struct {
		const char *word;
		int64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].word);

		if ((size_t)(end - *p) >= n && memcmp(*p, units[i].word, n) == 0) {
			*p += n;
			return units[i].ms;
		}
	}
	return 0;
}

/* One "30m"; adds it to *ms. */
static bool take_part(const char **p, const char *end, int64_t *ms)
{
	const char *first = *p;
	int64_t number = 0, unit;

	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
		if (__builtin_mul_overflow(number, (int64_t)10, &number) ||
		    __builtin_add_overflow(number, (int64_t)(**p - '0'), &number)) {
			return false;
		}
	}
	if (*p == first) {
		return false;
	}
	unit = take_unit(p, end);
	return unit > 0 && !__builtin_mul_overflow(number, unit, &number) &&
	       !__builtin_add_overflow(*ms, number, ms);
}

bool bn_time_parse(struct bn_text text, int64_t *ms)
{
	const char *p = text.at, *end = text.at + text.n;
	bool negative = text.n > 0 && *p == '-';
	int64_t sum = 0;

	if (bn_text_is(text, "0")) {
		*ms = 0;
		return true;
	}
	if (bn_text_is(text, "-1")) {
		*ms = BN_TIME_FOREVER;
		return true;
	}
	p += negative;
	if (p == end) {
		return false;
	}
	while (p < end) {
		if (!take_part(&p, end, &sum)) {
			return false;
		}
	}
	*ms = negative ? BN_TIME_FOREVER : sum;
	return true;
}
