/*
 * Envelopes. Reading trusts that a frame has checked the bytes but never relies on it for memory
 * safety; writing either appends a whole message or cuts the pack back to where it was, so that
 * nothing half-written can reach a socket.
 */
#include "proto/message.h"

#include "proto/assert.h"
#include "proto/suggest.h"

#include <inttypes.h>

/* --- reading -------------------------------------------------------------------------------- */

static bool is_name(struct bn_value v)
{
	return (v.type == BN_TYPE_STR || v.type == BN_TYPE_BIN) && bn_value_text(v).n > 0;
}

static bool is_msgid(struct bn_value v)
{
	return v.type == BN_TYPE_INT && v.as.integer >= 0 && v.as.integer <= UINT32_MAX;
}

enum bn_status bn_message_open(struct bn_message *m, const void *bytes, size_t n,
			       struct bn_error *err)
{
	struct bn_value root = bn_value_read(bytes, n), part[4] = { { 0 } };
	struct bn_iter it = bn_iter_begin(root);
	struct bn_message r = { 0 };
	int64_t kind;
	bool good;

	if (root.type == BN_TYPE_ARRAY) {
		for (size_t i = 0; i < 4 && bn_iter_next(&it, NULL, &part[i]); i++) {
		}
	}
	kind = bn_value_int(part[0], -1);
	switch (kind) {
	case BN_MESSAGE_CALL:
		good = root.n == 4 && is_msgid(part[1]) && is_name(part[2]);
		r.method = bn_value_text(part[2]);
		r.params = part[3];
		break;
	case BN_MESSAGE_RESPONSE:
		good = root.n == 4 && is_msgid(part[1]);
		r.error = part[2];
		r.result = part[3];
		break;
	case BN_MESSAGE_NOTIFICATION:
		good = root.n == 3 && is_name(part[1]);
		r.method = bn_value_text(part[1]);
		r.params = part[2];
		break;
	default:
		good = false;
		break;
	}
	if (!good) {
		return bn_fail(err, BN_E_MESSAGE, "%s", bn_status_sentence(BN_E_MESSAGE));
	}
	r.kind = (enum bn_message_kind)kind;
	if (kind != BN_MESSAGE_NOTIFICATION) {
		r.msgid = (uint32_t)part[1].as.integer;
	}
	*m = r;
	return BN_OK;
}

/* The one map in params; NONE for [], false when params are of another shape. */
static bool only_map(struct bn_value params, struct bn_value *map)
{
	*map = bn_value_at(params, 0);
	return params.type == BN_TYPE_ARRAY &&
	       (params.n == 0 || (params.n == 1 && map->type == BN_TYPE_MAP));
}

static enum bn_status unknown_method(struct bn_text name, struct bn_error *err)
{
	struct bn_suggest s;

	bn_suggest_init(&s, name);
	for (enum bn_method method = 0; method < BN_METHOD_COUNT; method++) {
		bn_suggest_offer(&s, bn_method_info(method)->name);
	}
	if (bn_suggest_best(&s) == NULL) {
		return bn_fail(err, BN_E_METHOD,
			       "no method '%.*s'; server.info lists those there are", (int)name.n,
			       name.at);
	}
	bn_fail(err, BN_E_METHOD, "no method '%.*s'; did you mean '%s'?", (int)name.n, name.at,
		bn_suggest_best(&s));
	bn_error_string(err, "suggestion", bn_suggest_best(&s));
	return BN_E_METHOD;
}

enum bn_status bn_message_read_call(const struct bn_message *m, struct bn_call *call,
				    struct bn_error *err)
{
	struct bn_value map;

	call->method = BN_METHOD_COUNT;
	if (m->kind == BN_MESSAGE_RESPONSE) {
		return bn_fail(err, BN_E_MESSAGE, "a response where a call was expected");
	}
	call->method = bn_method_find(m->method);
	if (call->method == BN_METHOD_COUNT) {
		return unknown_method(m->method, err);
	}
	if (!only_map(m->params, &map)) {
		return bn_fail(err, BN_E_PARAMS,
			       "%s: params must be [] or [{...}], one map of names",
			       bn_method_info(call->method)->name);
	}
	return bn_params_decode(&call->params, call->method, map, err);
}

enum bn_status bn_message_read_event(const struct bn_message *m, struct bn_event *event,
				     struct bn_error *err)
{
	struct bn_value map;

	if (m->kind != BN_MESSAGE_NOTIFICATION || !bn_text_is(m->method, BN_STREAM_NAME)) {
		return bn_fail(err, BN_E_METHOD, "not a '%s' notification", BN_STREAM_NAME);
	}
	if (!only_map(m->params, &map)) {
		return bn_fail(err, BN_E_INVALID, "a '%s' notification without its map",
			       BN_STREAM_NAME);
	}
	return bn_event_decode(&event->head, &event->kind, &event->body, map, err);
}

/* The first status of that number, or the one that also has the word. */
static enum bn_status status_of(int64_t code, struct bn_text kind)
{
	enum bn_status first = BN_STATUS_COUNT;

	for (enum bn_status s = 0; s < BN_STATUS_COUNT; s++) {
		if (s != BN_OK && bn_status_code(s) == code) {
			if (bn_text_is(kind, bn_status_word(s))) {
				return s;
			}
			first = first == BN_STATUS_COUNT ? s : first;
		}
	}
	return first == BN_STATUS_COUNT ? BN_E_INTERNAL : first;
}

bool bn_message_read_error(const struct bn_message *m, struct bn_remote_error *error)
{
	struct bn_value code = bn_value_at(m->error, 0);
	struct bn_value text = bn_value_at(m->error, 1);
	struct bn_value data = bn_value_at(m->error, 2);

	if (m->kind != BN_MESSAGE_RESPONSE || m->error.type == BN_TYPE_NIL) {
		return false;
	}
	if (m->error.type == BN_TYPE_STR) {
		text = m->error;
	}
	error->code = bn_value_int(code, 0);
	error->text = bn_value_text(text);
	error->data = data;
	error->status = status_of(error->code, bn_value_text(bn_value_get(data, "kind")));
	if (error->text.n == 0) {
		error->text = bn_text_of(bn_status_sentence(error->status));
	}
	return true;
}

/* --- writing -------------------------------------------------------------------------------- */

static void begin(struct bn_pack *p, enum bn_message_kind kind, uint32_t msgid)
{
	p->mark = p->used;
	bn_pack_tuple(p, kind == BN_MESSAGE_NOTIFICATION ? 3 : 4);
	bn_pack_int(p, NULL, kind);
	if (kind != BN_MESSAGE_NOTIFICATION) {
		bn_pack_int(p, NULL, msgid);
	}
}

/* Keeps the message written since begin(), or cuts it off and says why. */
static enum bn_status end(struct bn_pack *p, enum bn_status status, struct bn_error *err)
{
	struct bn_value message;
	uint64_t elements = 0;
	size_t n = p->used - p->mark;

	if (status == BN_OK) {
		status = bn_pack_check(p, err);
	}
	if (status == BN_OK) {
		message = bn_value_read(p->data + p->mark, n);
		/* Whoever packs a result packs exactly one value and closes what it opened. */
		bn_assert(p->depth == 0 && bn_value_walk(&message, &elements) == p->data + p->used);
		/* The message itself is not charged to the budget of its elements. */
		if (n > BN_LIMIT_MESSAGE_BYTES || elements - 1 > BN_LIMIT_ELEMENTS) {
			status =
				bn_fail(err, BN_E_TOO_LARGE,
					"a message of %zu bytes and %" PRIu64
					" values; at most %d and %d are allowed",
					n, elements - 1, BN_LIMIT_MESSAGE_BYTES, BN_LIMIT_ELEMENTS);
		}
	}
	if (status != BN_OK) {
		bn_pack_cut(p, p->mark);
	}
	return status;
}

static enum bn_status write_call(struct bn_pack *p, const struct bn_call *call,
				 struct bn_error *err)
{
	bn_pack_str(p, NULL, bn_method_info(call->method)->name);
	bn_pack_tuple(p, 1);
	return bn_params_encode(p, call->method, &call->params, err);
}

enum bn_status bn_message_call(struct bn_pack *p, uint32_t msgid, const struct bn_call *call,
			       struct bn_error *err)
{
	begin(p, BN_MESSAGE_CALL, msgid);
	return end(p, write_call(p, call, err), err);
}

enum bn_status bn_message_notify(struct bn_pack *p, const struct bn_call *call,
				 struct bn_error *err)
{
	begin(p, BN_MESSAGE_NOTIFICATION, 0);
	return end(p, write_call(p, call, err), err);
}

void bn_message_result_begin(struct bn_pack *p, uint32_t msgid)
{
	begin(p, BN_MESSAGE_RESPONSE, msgid);
	bn_pack_nil(p, NULL);
}

enum bn_status bn_message_result_end(struct bn_pack *p, struct bn_error *err)
{
	return end(p, BN_OK, err);
}

/* Whether the number alone stands for another status. */
static bool needs_word(enum bn_status status)
{
	return status_of(bn_status_code(status), bn_text_of("")) != status;
}

static void write_facts(struct bn_pack *p, const struct bn_error *error)
{
	bn_pack_map(p, NULL);
	bn_pack_str(p, "kind", bn_status_word(error->status));
	for (uint32_t i = 0; i < error->n_data; i++) {
		const struct bn_error_data *d = &error->data[i];

		if (d->text[0] != '\0') {
			bn_pack_str(p, d->key, d->text);
		} else {
			bn_pack_int(p, d->key, d->number);
		}
	}
	bn_pack_end(p);
}

enum bn_status bn_message_error(struct bn_pack *p, uint32_t msgid, const struct bn_error *error,
				struct bn_error *err)
{
	bool facts = error->n_data > 0 || needs_word(error->status);

	begin(p, BN_MESSAGE_RESPONSE, msgid);
	bn_pack_tuple(p, facts ? 3 : 2);
	bn_pack_int(p, NULL, bn_status_code(error->status));
	bn_pack_str(p, NULL, error->text);
	if (facts) {
		write_facts(p, error);
	}
	bn_pack_nil(p, NULL);
	return end(p, BN_OK, err);
}

enum bn_status bn_message_event(struct bn_pack *p, const struct bn_event *event,
				struct bn_error *err)
{
	begin(p, BN_MESSAGE_NOTIFICATION, 0);
	bn_pack_str(p, NULL, BN_STREAM_NAME);
	bn_pack_tuple(p, 1);
	return end(p, bn_event_encode(p, &event->head, event->kind, &event->body, err), err);
}
