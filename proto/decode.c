/*
 * One decoder for all methods: it walks the map, finds each key's row, has the value decoded as
 * the row's kind, and puts the field's name in front of any complaint ("top_p: 1.7 is not in
 * 0..1") and into data.param. What rows cannot say, rules between fields, is here, once.
 */
#include "proto/decode.h"

#include "proto/assert.h"
#include "proto/suggest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 96 }; /* "messages[4095].content" and more */

/* A map being decoded: its rows, its struct, and what stands in front of names in sentences. */
struct target {
	const struct bn_field *own;
	const struct bn_field *shared;
	const char *prefix;
	bool lenient;
	unsigned char *base;
};

/* Depth is the schema's, not the peer's: turns hold no lists, so this comes back at most once. */
static enum bn_status decode_map(const struct target *t, struct bn_value map, struct bn_error *err);

/* NOLINTBEGIN(misc-no-recursion) */

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
		return bn_kind_mismatch("an array of {role, content}", v, err);
	}
	out->wire = v;
	out->n = v.n;
	status = bn_field_check_size(field, v.n, "messages", err);
	for (uint32_t i = 0; status == BN_OK && bn_iter_next(&it, NULL, &each); i++) {
		struct bn_params_turn turn;

		if (each.type != BN_TYPE_MAP) {
			return bn_kind_mismatch("an array of {role, content}", each, err);
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
	enum bn_status status;

	if (field->kind == BN_KIND_CHAT) {
		status = decode_chat(at, field, v, &named, err);
	} else {
		status = bn_kind_decode(at, field, v, err);
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

/* NOLINTEND(misc-no-recursion) */

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
