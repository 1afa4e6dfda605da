/*
 * The mirror of decode.c, walking the same rows. It asks the same questions of each value, so a
 * client hears "top_p: 1.7 is not in 0..1" before anything is sent, in the server's own words.
 */
#include "proto/encode.h"

#include "proto/assert.h"

#include <string.h>

static enum bn_status check_text(struct bn_text text, struct bn_error *err)
{
	size_t good = bn_utf8_prefix(text.at, text.n);

	if (good != text.n) {
		return bn_fail(err, BN_E_INVALID, "the text is not valid UTF-8 at byte %zu", good);
	}
	return BN_OK;
}

static enum bn_status encode_str(struct bn_pack *p, const struct bn_field *field,
				 const struct bn_text *text, struct bn_error *err)
{
	enum bn_status status = bn_field_check_size(field, text->n, "bytes", err);

	if (status == BN_OK) {
		status = check_text(*text, err);
	}
	bn_pack_text(p, field->name, *text);
	return status;
}

static enum bn_status encode_time(struct bn_pack *p, const struct bn_field *field, int64_t ms,
				  struct bn_error *err)
{
	enum bn_status status = BN_OK;
	char text[32];

	if (ms < 0) {
		bn_pack_int(p, field->name, -1);
	} else if (ms % 1000 == 0) {
		status = bn_field_check_int(field, ms / 1000, err);
		bn_pack_int(p, field->name, ms / 1000);
	} else {
		status = bn_field_check_int(field, ms / 1000, err);
		snprintf(text, sizeof(text), "%lldms", (long long)ms);
		bn_pack_str(p, field->name, text);
	}
	return status;
}

static enum bn_status encode_ids(struct bn_pack *p, const struct bn_field *field,
				 const struct bn_ids *ids, struct bn_error *err)
{
	if (ids->host != NULL || ids->n == 0) {
		bn_pack_u32s(p, field->name, ids->host, ids->n);
	} else {
		bn_pack_value(p, field->name, ids->wire);
	}
	return bn_field_check_size(field, ids->n, "tokens", err);
}

static enum bn_status encode_prompt(struct bn_pack *p, const struct bn_field *field,
				    const struct bn_prompt *prompt, struct bn_error *err)
{
	if (prompt->is_ids) {
		return encode_ids(p, field, &prompt->ids, err);
	}
	bn_pack_text(p, field->name, prompt->text);
	return check_text(prompt->text, err);
}

static enum bn_status encode_strings(struct bn_pack *p, const struct bn_field *field,
				     const struct bn_strings *strings, struct bn_error *err)
{
	enum bn_status status = bn_field_check_size(field, strings->n, "strings", err);

	if (status != BN_OK) {
		return status;
	}
	bn_pack_array(p, field->name);
	for (uint32_t i = 0; i < strings->n && status == BN_OK; i++) {
		if (strings->at[i].n < 1 || strings->at[i].n > BN_LIMIT_STOP_BYTES) {
			status = bn_fail(err, BN_E_INVALID,
					 "a string of %zu bytes; 1..%d are allowed",
					 strings->at[i].n, BN_LIMIT_STOP_BYTES);
		} else {
			status = check_text(strings->at[i], err);
		}
		bn_pack_text(p, NULL, strings->at[i]);
	}
	bn_pack_end(p);
	return status;
}

static enum bn_status encode_texts(struct bn_pack *p, const struct bn_field *field,
				   const struct bn_texts *texts, struct bn_error *err)
{
	enum bn_status status = bn_field_check_size(field, texts->n, "texts", err);

	if (texts->host == NULL) {
		bn_pack_value(p, field->name, texts->wire);
		return status;
	}
	bn_pack_array(p, field->name);
	for (uint32_t i = 0; i < texts->n && status == BN_OK; i++) {
		status = check_text(texts->host[i], err);
		bn_pack_text(p, NULL, texts->host[i]);
	}
	bn_pack_end(p);
	return status;
}

static enum bn_status encode_biases(struct bn_pack *p, const struct bn_field *field,
				    const struct bn_biases *biases, struct bn_error *err)
{
	if (biases->host == NULL && biases->n > 0) {
		bn_pack_value(p, field->name, biases->wire);
	} else {
		bn_pack_map(p, field->name);
		for (uint32_t i = 0; i < biases->n; i++) {
			bn_pack_entry(p, biases->host[i].token, (double)biases->host[i].bias);
		}
		bn_pack_end(p);
	}
	return bn_field_check_size(field, biases->n, "entries", err);
}

/* As in decode.c: turns hold no lists, so it comes back at most once. */
/* NOLINTBEGIN(misc-no-recursion) */
static enum bn_status encode_fields(struct bn_pack *p, const struct bn_field *fields,
				    const unsigned char *base, struct bn_error *err);

static enum bn_status encode_chat(struct bn_pack *p, const struct bn_field *field,
				  const struct bn_chat *chat, struct bn_error *err)
{
	enum bn_status status = bn_field_check_size(field, chat->n, "messages", err);

	if (chat->host == NULL) {
		bn_pack_value(p, field->name, chat->wire);
		return status;
	}
	bn_pack_array(p, field->name);
	for (uint32_t i = 0; i < chat->n && status == BN_OK; i++) {
		bn_pack_map(p, NULL);
		status = encode_fields(p, bn_turn_fields(), (const unsigned char *)&chat->host[i],
				       err);
		bn_pack_end(p);
	}
	bn_pack_end(p);
	return status;
}

static enum bn_status encode_field(struct bn_pack *p, const struct bn_field *field, const void *at,
				   struct bn_error *err)
{
	switch (field->kind) {
	case BN_KIND_STR:
		return encode_str(p, field, at, err);
	case BN_KIND_INT: {
		const int64_t *value = at;

		bn_pack_int(p, field->name, *value);
		return bn_field_check_int(field, *value, err);
	}
	case BN_KIND_NUM: {
		const double *value = at;

		bn_pack_num(p, field->name, *value);
		return bn_field_check_num(field, *value, err);
	}
	case BN_KIND_BOOL: {
		const bool *value = at;

		bn_pack_bool(p, field->name, *value);
		return BN_OK;
	}
	case BN_KIND_WORD: {
		const uint32_t *value = at;
		uint32_t n = 0;

		while (field->words[n] != NULL) {
			n++;
		}
		bn_assert(*value < n);
		bn_pack_str(p, field->name, field->words[*value]);
		return BN_OK;
	}
	case BN_KIND_TIME: {
		const int64_t *value = at;

		return encode_time(p, field, *value, err);
	}
	case BN_KIND_PROMPT:
		return encode_prompt(p, field, at, err);
	case BN_KIND_IDS:
		return encode_ids(p, field, at, err);
	case BN_KIND_STRS:
		return encode_strings(p, field, at, err);
	case BN_KIND_TEXTS:
		return encode_texts(p, field, at, err);
	case BN_KIND_BIAS:
		return encode_biases(p, field, at, err);
	case BN_KIND_CHAT:
		return encode_chat(p, field, at, err);
	case BN_KIND_BIN: {
		const struct bn_bytes *bytes = at;

		bn_pack_bin(p, field->name, bytes->at, bytes->n);
		return bn_field_check_size(field, bytes->n, "bytes", err);
	}
	}
	return bn_fail(err, BN_E_INTERNAL, "a field of unknown kind");
}

static enum bn_status encode_fields(struct bn_pack *p, const struct bn_field *fields,
				    const unsigned char *base, struct bn_error *err)
{
	for (; fields->name != NULL; fields++) {
		enum bn_status status = BN_OK;

		if (base[fields->has]) {
			status = encode_field(p, fields, base + fields->at, err);
		} else if (fields->must) {
			status = bn_fail(err, BN_E_INVALID, "missing; expected %s",
					 bn_kind_name(fields->kind));
		}
		if (status != BN_OK) {
			status = bn_wrap(err, "%s", fields->name);
			bn_error_string(err, "param", fields->name);
			return status;
		}
	}
	return BN_OK;
}

/* NOLINTEND(misc-no-recursion) */

enum bn_status bn_params_encode(struct bn_pack *p, enum bn_method method,
				const union bn_params *params, struct bn_error *err)
{
	const struct bn_method_info *info = bn_method_info(method);
	const unsigned char *base = (const unsigned char *)params;
	struct bn_error unwanted;
	enum bn_status status;

	err = err != NULL ? err : &unwanted;
	bn_pack_map(p, NULL);
	status = encode_fields(p, info->shared, base, err);
	if (status == BN_OK) {
		status = encode_fields(p, info->own, base, err);
	}
	if (status == BN_OK) {
		bn_pack_end(p);
	}
	return status;
}

enum bn_status bn_event_encode(struct bn_pack *p, const struct bn_event_head *head,
			       enum bn_event_kind kind, const union bn_event_body *body,
			       struct bn_error *err)
{
	const struct bn_event_info *info = bn_event_info(kind);
	struct bn_event_head given = *head;
	struct bn_error unwanted;
	enum bn_status status;

	err = err != NULL ? err : &unwanted;
	given.has_id = true;
	given.has_seq = true;
	bn_pack_map(p, NULL);
	status = encode_fields(p, bn_event_head_fields(), (const unsigned char *)&given, err);
	if (status == BN_OK) {
		bn_pack_str(p, "event", info->name);
		status = encode_fields(p, info->fields, (const unsigned char *)body, err);
	}
	if (status == BN_OK) {
		bn_pack_end(p);
	}
	return status;
}
