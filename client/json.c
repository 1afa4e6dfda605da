/*
 * Depth is bounded by the guard walk (16 levels), so plain recursion over a received value is
 * bounded too.
 */
#include "client/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static uint32_t u32le(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static json_t *words_to_json(const unsigned char *at, size_t n, bool is_float)
{
	json_t *array = json_array();

	for (size_t i = 0; i + 4 <= n; i += 4) {
		uint32_t word = u32le(at + i);
		float number;

		memcpy(&number, &word, sizeof(number));
		json_array_append_new(array,
				      is_float ? json_real((double)number) : json_integer(word));
	}
	return array;
}

static json_t *base64_to_json(const unsigned char *at, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((n + 2) / 3 * 4 + 1);
	char *to = text;
	json_t *string;

	if (text == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < n; i += 3) {
		uint32_t b = (uint32_t)at[i] << 16;

		b |= i + 1 < n ? (uint32_t)at[i + 1] << 8 : 0;
		b |= i + 2 < n ? (uint32_t)at[i + 2] : 0;
		*to++ = digits[b >> 18];
		*to++ = digits[b >> 12 & 63];
		*to++ = i + 1 < n ? digits[b >> 6 & 63] : '=';
		*to++ = i + 2 < n ? digits[b & 63] : '=';
	}
	string = json_stringn(text, (size_t)(to - text));
	free(text);
	return string;
}

static json_t *bin_to_json(struct bn_client_text bytes, const char *key)
{
	const unsigned char *at = (const unsigned char *)bytes.at;

	if (strcmp(key, "tokens") == 0 || strcmp(key, "top_tokens") == 0) {
		return words_to_json(at, bytes.n, false);
	} else if (strcmp(key, "logprobs") == 0 || strcmp(key, "top_logprobs") == 0) {
		return words_to_json(at, bytes.n, true);
	}
	return base64_to_json(at, bytes.n);
}

/* A map key as text: integers (logit_bias) are spelled out. */
static void key_text(char *to, size_t size, struct bn_client_value key)
{
	if (bn_client_type(key) == BN_CLIENT_INT) {
		snprintf(to, size, "%lld", (long long)bn_client_get_int(key, 0));
	} else {
		struct bn_client_text t = bn_client_text(key);

		snprintf(to, size, "%.*s", (int)t.n, t.at);
	}
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded, see the top of the file */
static json_t *to_json(struct bn_client_value v, const char *name)
{
	struct bn_client_iter it = bn_client_iterate(v);
	struct bn_client_value key, value;
	struct bn_client_text t;
	json_t *out;
	char text[80];

	switch (bn_client_type(v)) {
	case BN_CLIENT_BOOL:
		return json_boolean(bn_client_get_bool(v, false));
	case BN_CLIENT_INT:
		return json_integer(bn_client_get_int(v, 0));
	case BN_CLIENT_NUM:
		return json_real(bn_client_get_num(v, 0));
	case BN_CLIENT_STR:
		t = bn_client_text(v);
		return json_stringn(t.at, t.n);
	case BN_CLIENT_BIN:
		return bin_to_json(bn_client_text(v), name);
	case BN_CLIENT_ARRAY:
		out = json_array();
		while (bn_client_next(&it, NULL, &value)) {
			json_array_append_new(out, to_json(value, name));
		}
		return out;
	case BN_CLIENT_MAP:
		out = json_object();
		while (bn_client_next(&it, &key, &value)) {
			key_text(text, sizeof(text), key);
			json_object_set_new(out, text, to_json(value, text));
		}
		return out;
	case BN_CLIENT_NONE:
	case BN_CLIENT_NIL:
		break;
	}
	return json_null();
}

bool bn_json_print(FILE *to, struct bn_client_value v, bool compact)
{
	json_t *json = to_json(v, "");
	size_t style = compact ? JSON_COMPACT : JSON_INDENT(2);
	bool ok = json != NULL && json_dumpf(json, to, style | JSON_ENCODE_ANY) == 0;

	json_decref(json);
	return fputc('\n', to) != EOF && ok;
}

bool bn_json_put(FILE *to, json_t *document)
{
	const bool ok = document != NULL && json_dumpf(document, to, JSON_INDENT(2)) == 0 &&
			fputc('\n', to) != EOF;

	json_decref(document);
	return ok;
}
