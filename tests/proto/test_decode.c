/*
 * Most of these tests are generated: for every field of every method they send values at, inside
 * and outside the range its row promises, and each wrong type there is.
 */
#include "proto/decode.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

struct message {
	msgpack_sbuffer buffer;
	msgpack_packer pk;
};

static void start(struct message *m)
{
	msgpack_sbuffer_init(&m->buffer);
	msgpack_packer_init(&m->pk, &m->buffer, msgpack_sbuffer_write);
}

static void key(struct message *m, const char *word)
{
	msgpack_pack_str_with_body(&m->pk, word, strlen(word));
}

static enum bn_status decode(struct message *m, enum bn_method method, union bn_params *params,
			     struct bn_error *err)
{
	struct bn_value map = bn_value_read(m->buffer.data, m->buffer.size);

	return bn_params_decode(params, method, map, err);
}

/* A value every row of that kind accepts. */
static void pack_good(struct message *m, const struct bn_field *f)
{
	switch (f->kind) {
	case BN_KIND_STR:
	case BN_KIND_PROMPT:
	case BN_KIND_STRS:
		key(m, "abc");
		break;
	case BN_KIND_INT:
		msgpack_pack_int64(&m->pk, f->int_min);
		break;
	case BN_KIND_NUM:
		msgpack_pack_double(&m->pk, f->num_min);
		break;
	case BN_KIND_BOOL:
		msgpack_pack_true(&m->pk);
		break;
	case BN_KIND_WORD:
		key(m, f->words[0]);
		break;
	case BN_KIND_TIME:
		msgpack_pack_int(&m->pk, 60);
		break;
	case BN_KIND_IDS:
		msgpack_pack_array(&m->pk, 1);
		msgpack_pack_int(&m->pk, 5);
		break;
	case BN_KIND_BIAS:
		msgpack_pack_map(&m->pk, 1);
		msgpack_pack_int(&m->pk, 5);
		msgpack_pack_int(&m->pk, -100);
		break;
	case BN_KIND_CHAT:
		msgpack_pack_array(&m->pk, 1);
		msgpack_pack_map(&m->pk, 2);
		key(m, "role");
		key(m, "user");
		key(m, "content");
		key(m, "hi");
		break;
	case BN_KIND_BIN:
		msgpack_pack_bin_with_body(&m->pk, "abc", 3);
		break;
	}
}

static const struct bn_field *field_list(const struct bn_method_info *info, int which)
{
	return which == 0 ? info->own : info->shared;
}

/* Everything required except `without`, then the key of `extra` if given: its value follows. */
static void start_call(struct message *m, enum bn_method method, const char *without,
		       const char *extra)
{
	const struct bn_method_info *info = bn_method_info(method);
	uint32_t n = extra != NULL;

	start(m);
	for (int pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			msgpack_pack_map(&m->pk, n);
		}
		for (int which = 0; which < 2; which++) {
			const struct bn_field *f = field_list(info, which);

			for (; f->name != NULL; f++) {
				if (!f->must ||
				    (without != NULL && strcmp(f->name, without) == 0)) {
					continue;
				}
				n += pass == 0;
				if (pass == 1) {
					key(m, f->name);
					pack_good(m, f);
				}
			}
		}
	}
	if (extra != NULL) {
		key(m, extra);
	}
}

/* Decodes, checks that a refusal names the field, and frees the message. */
static void expect(struct message *m, enum bn_method method, const struct bn_field *f, bool good)
{
	union bn_params params;
	struct bn_error err = { .text = "" };
	enum bn_status status = decode(m, method, &params, &err);

	if (status != (good ? BN_OK : BN_E_INVALID)) {
		fail_msg("%s.%s: %s: %s", bn_method_info(method)->name, f->name,
			 good ? "refused" : "accepted", err.text);
	}
	if (!good) {
		assert_memory_equal(err.text, f->name, strlen(f->name));
		assert_string_equal(err.data[0].key, "param");
		assert_memory_equal(err.data[0].text, f->name, strlen(f->name));
	} else {
		assert_true(((const bool *)&params)[f->has]);
	}
	msgpack_sbuffer_destroy(&m->buffer);
}

/* Calls `visit` for each field of each method. */
static void each_field(void (*visit)(enum bn_method method, const struct bn_field *f))
{
	size_t visited = 0;

	for (enum bn_method method = 0; method < BN_METHOD_COUNT; method++) {
		for (int which = 0; which < 2; which++) {
			const struct bn_field *f = field_list(bn_method_info(method), which);

			for (; f->name != NULL; f++) {
				visit(method, f);
				visited++;
			}
		}
	}
	assert_true(visited > 60);
}

static void try_int(enum bn_method method, const struct bn_field *f, int64_t value, bool good)
{
	struct message m;

	/* Shortest, widest signed and, where it exists, widest unsigned form. */
	start_call(&m, method, f->name, f->name);
	msgpack_pack_int64(&m.pk, value);
	expect(&m, method, f, good);
	start_call(&m, method, f->name, f->name);
	msgpack_pack_fix_int64(&m.pk, value);
	expect(&m, method, f, good);
	if (value >= 0) {
		start_call(&m, method, f->name, f->name);
		msgpack_pack_fix_uint64(&m.pk, (uint64_t)value);
		expect(&m, method, f, good);
	}
}

static void try_float(enum bn_method method, const struct bn_field *f, double value, bool good)
{
	struct message m;

	start_call(&m, method, f->name, f->name);
	msgpack_pack_double(&m.pk, value);
	expect(&m, method, f, good);
	if (isnan(value) || (double)(float)value == value) {
		start_call(&m, method, f->name, f->name);
		msgpack_pack_float(&m.pk, (float)value);
		expect(&m, method, f, good);
	}
}

static void try_big(enum bn_method method, const struct bn_field *f)
{
	struct message m;

	start_call(&m, method, f->name, f->name);
	msgpack_pack_uint64(&m.pk, UINT64_MAX);
	expect(&m, method, f, false);
	start_call(&m, method, f->name, f->name);
	msgpack_pack_uint64(&m.pk, (uint64_t)INT64_MAX + 1);
	expect(&m, method, f, false);
}

static void check_numbers(enum bn_method method, const struct bn_field *f)
{
	if (f->kind == BN_KIND_INT) {
		try_int(method, f, f->int_min, true);
		try_int(method, f, f->int_max, true);
		if (f->int_max < INT64_MAX) {
			try_int(method, f, f->int_max + 1, false);
			try_int(method, f, INT64_MAX, false);
		}
		try_int(method, f, f->int_min - 1, false);
		try_int(method, f, INT64_MIN, false);
		try_big(method, f);
		try_float(method, f, (double)f->int_min, false);
		try_float(method, f, NAN, false);
		try_float(method, f, INFINITY, false);
		try_float(method, f, 0.5, false);
	} else if (f->kind == BN_KIND_NUM) {
		try_float(method, f, f->num_min, true);
		try_float(method, f, f->num_max, true);
		try_int(method, f, (int64_t)floor(f->num_max), true);
		try_float(method, f, nextafter(f->num_min, -INFINITY), false);
		try_float(method, f, nextafter(f->num_max, INFINITY), false);
		try_int(method, f, (int64_t)f->num_max + 1, false);
		try_int(method, f, (int64_t)f->num_min - 1, false);
		try_int(method, f, INT64_MIN, false);
		try_float(method, f, NAN, false);
		try_float(method, f, INFINITY, false);
		try_float(method, f, -INFINITY, false);
		try_float(method, f, 1e308, false);
		try_big(method, f);
	} else if (f->kind == BN_KIND_TIME) {
		try_int(method, f, f->int_min, true);
		try_int(method, f, f->int_max, true);
		try_int(method, f, f->int_max + 1, false);
		try_int(method, f, INT64_MAX, false);
		try_int(method, f, -1, true);
		try_int(method, f, INT64_MIN, true); /* any negative time is "for ever" */
		try_float(method, f, 1.0, false);
		try_float(method, f, NAN, false);
		try_big(method, f);
	}
}

static void decode_holds_every_number_to_its_range(void **state)
{
	(void)state;
	each_field(check_numbers);
}

/* Which MessagePack types a kind takes. */
static bool takes(enum bn_kind kind, enum bn_type type)
{
	switch (type) {
	case BN_TYPE_BOOL:
		return kind == BN_KIND_BOOL;
	case BN_TYPE_INT:
		return kind == BN_KIND_INT || kind == BN_KIND_NUM || kind == BN_KIND_TIME;
	case BN_TYPE_FLOAT:
		return kind == BN_KIND_NUM;
	case BN_TYPE_STR:
		return kind == BN_KIND_STR || kind == BN_KIND_PROMPT || kind == BN_KIND_STRS;
	case BN_TYPE_BIN:
		return kind == BN_KIND_PROMPT || kind == BN_KIND_IDS || kind == BN_KIND_BIN;
	case BN_TYPE_ARRAY: /* an empty one */
		return kind == BN_KIND_PROMPT || kind == BN_KIND_IDS || kind == BN_KIND_STRS;
	case BN_TYPE_MAP: /* an empty one */
		return kind == BN_KIND_BIAS;
	default:
		return false;
	}
}

static void check_types(enum bn_method method, const struct bn_field *f)
{
	for (enum bn_type type = BN_TYPE_BOOL; type <= BN_TYPE_MAP; type++) {
		struct message m;

		if (type == BN_TYPE_BIG) {
			continue;
		}
		start_call(&m, method, f->name, f->name);
		switch (type) {
		case BN_TYPE_BOOL:
			msgpack_pack_true(&m.pk);
			break;
		case BN_TYPE_INT:
			msgpack_pack_int64(&m.pk, f->kind == BN_KIND_INT ? f->int_max : 1);
			break;
		case BN_TYPE_FLOAT:
			msgpack_pack_double(&m.pk, f->kind == BN_KIND_NUM ? f->num_max : 0.5);
			break;
		case BN_TYPE_STR:
			key(&m, "zzzz");
			break;
		case BN_TYPE_BIN:
			msgpack_pack_bin_with_body(&m.pk, "\1\0\0\0", 4);
			break;
		case BN_TYPE_ARRAY:
			msgpack_pack_array(&m.pk, 0);
			break;
		default:
			msgpack_pack_map(&m.pk, 0);
			break;
		}
		expect(&m, method, f, takes(f->kind, type));
	}
}

static void decode_refuses_every_wrong_type(void **state)
{
	(void)state;
	each_field(check_types);
}

static void check_presence(enum bn_method method, const struct bn_field *f)
{
	union bn_params params;
	struct bn_error err;
	struct message m;

	/* Given: set. (cancel has a rule of its own about its two fields.) */
	start_call(&m, method, f->name, f->name);
	pack_good(&m, f);
	expect(&m, method, f, true);
	if (method == BN_METHOD_CANCEL) {
		return;
	}
	/* Nil and absent: not set, and an error only if it must be there. */
	for (int nil = 0; nil < 2; nil++) {
		start_call(&m, method, f->name, nil ? f->name : NULL);
		if (nil) {
			msgpack_pack_nil(&m.pk);
		}
		if (f->must) {
			expect(&m, method, f, false);
		} else {
			assert_int_equal(decode(&m, method, &params, &err), BN_OK);
			assert_false(((const bool *)&params)[f->has]);
			msgpack_sbuffer_destroy(&m.buffer);
		}
	}
}

static void decode_knows_given_from_absent(void **state)
{
	(void)state;
	each_field(check_presence);
}

static void check_sizes(enum bn_method method, const struct bn_field *f)
{
	struct message m;

	if (f->kind == BN_KIND_STR && f->int_max < 1000) {
		for (int64_t n = f->int_max; n <= f->int_max + 1; n++) {
			char text[1001];

			memset(text, 'x', sizeof(text));
			start_call(&m, method, f->name, f->name);
			msgpack_pack_str_with_body(&m.pk, text, (size_t)n);
			expect(&m, method, f, n == f->int_max);
		}
		start_call(&m, method, f->name, f->name);
		msgpack_pack_str_with_body(&m.pk, "", 0);
		expect(&m, method, f, f->int_min == 0);
	} else if (f->kind == BN_KIND_STRS || f->kind == BN_KIND_IDS) {
		for (int64_t n = f->int_max; n <= f->int_max + 1 && n < 1000; n++) {
			start_call(&m, method, f->name, f->name);
			msgpack_pack_array(&m.pk, (size_t)n);
			for (int64_t i = 0; i < n; i++) {
				if (f->kind == BN_KIND_STRS) {
					key(&m, "stop");
				} else {
					msgpack_pack_int64(&m.pk, i);
				}
			}
			expect(&m, method, f, n == f->int_max);
		}
	} else if (f->kind == BN_KIND_BIAS) {
		for (int64_t n = f->int_max; n <= f->int_max + 1; n++) {
			start_call(&m, method, f->name, f->name);
			msgpack_pack_map(&m.pk, (size_t)n);
			for (int64_t i = 0; i < n; i++) {
				msgpack_pack_int64(&m.pk, i);
				msgpack_pack_int(&m.pk, 1);
			}
			expect(&m, method, f, n == f->int_max);
		}
	}
}

static void decode_holds_texts_and_lists_to_their_sizes(void **state)
{
	(void)state;
	each_field(check_sizes);
}

static void decode_suggests_the_field_that_was_meant(void **state)
{
	static const struct {
		const char *given;
		const char *text;
	} cases[] = {
		{ "temprature", "temprature: no such field; did you mean 'temperature'?" },
		{ "top-p", "top-p: no such field; did you mean 'top_p'?" },
		{ "Prompt", "Prompt: no such field; did you mean 'prompt'?" },
		{ "json_schema", "json_schema: no such field; server.info lists those there are" },
		{ "", ": no such field; server.info lists those there are" },
	};
	union bn_params params;
	struct bn_error err;
	struct message m;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start_call(&m, BN_METHOD_COMPLETIONS, NULL, cases[i].given);
		msgpack_pack_int(&m.pk, 1);
		assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
		assert_string_equal(err.text, cases[i].text);
		assert_string_equal(err.data[0].key, "param");
		if (cases[i].given[0] != '\0') {
			assert_string_equal(err.data[0].text, cases[i].given);
		}
		msgpack_sbuffer_destroy(&m.buffer);
	}
	/* Numbers are keys of logit_bias only. */
	start(&m);
	msgpack_pack_map(&m.pk, 1);
	msgpack_pack_int(&m.pk, 1);
	msgpack_pack_int(&m.pk, 1);
	assert_int_equal(decode(&m, BN_METHOD_SERVER_INFO, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "field names must be strings, got an integer");
	/* The sentence is needed inside even when nobody wants it. */
	assert_int_equal(decode(&m, BN_METHOD_SERVER_INFO, &params, NULL), BN_E_INVALID);
	msgpack_sbuffer_destroy(&m.buffer);
}

static void decode_says_what_is_wrong_in_one_sentence(void **state)
{
	union bn_params params;
	struct bn_error err;
	struct message m;

	(void)state;
	start_call(&m, BN_METHOD_COMPLETIONS, NULL, "top_p");
	msgpack_pack_double(&m.pk, 1.7);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "top_p: 1.7 is not in 0..1");
	assert_string_equal(err.data[0].text, "top_p");
	msgpack_sbuffer_destroy(&m.buffer);
	start_call(&m, BN_METHOD_COMPLETIONS, NULL, "queue");
	key(&m, "later");
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "queue: 'later' is not one of: wait, fail");
	msgpack_sbuffer_destroy(&m.buffer);
	start_call(&m, BN_METHOD_COMPLETIONS, "model", NULL);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "model: missing; expected str");
	msgpack_sbuffer_destroy(&m.buffer);
	start_call(&m, BN_METHOD_COMPLETIONS, NULL, "top_k");
	msgpack_pack_double(&m.pk, 40.5);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "top_k: 40.5 is a float, an integer is needed");
	msgpack_sbuffer_destroy(&m.buffer);
}

static void decode_takes_peers_names_but_not_twice(void **state)
{
	union bn_params params;
	struct bn_error err;
	struct message m;

	(void)state;
	start_call(&m, BN_METHOD_COMPLETIONS, NULL, "n_predict");
	msgpack_pack_int(&m.pk, 17);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_OK);
	assert_true(params.completions.group.has_max_tokens);
	assert_int_equal(params.completions.group.max_tokens, 17);
	msgpack_sbuffer_destroy(&m.buffer);

	start(&m);
	msgpack_pack_map(&m.pk, 2);
	key(&m, "max_completion_tokens");
	msgpack_pack_int(&m.pk, 17);
	key(&m, "max_tokens");
	msgpack_pack_int(&m.pk, 17);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, "max_tokens: given twice, once under another name");
	/* No alias where there is no such field. */
	assert_int_equal(decode(&m, BN_METHOD_TOKENIZE, &params, &err), BN_E_INVALID);
	assert_non_null(strstr(err.text, "no such field"));
	msgpack_sbuffer_destroy(&m.buffer);
}

static void decode_reads_prompts_in_three_forms(void **state)
{
	union bn_params params;
	struct bn_error err;
	struct message m;
	uint32_t ids[2];

	(void)state;
	start_call(&m, BN_METHOD_COMPLETIONS, "prompt", "prompt");
	key(&m, "Once");
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_OK);
	assert_false(params.completions.prompt.is_ids);
	assert_true(bn_text_is(params.completions.prompt.text, "Once"));
	msgpack_sbuffer_destroy(&m.buffer);
	for (int form = 0; form < 2; form++) {
		start_call(&m, BN_METHOD_COMPLETIONS, "prompt", "prompt");
		if (form == 0) {
			msgpack_pack_array(&m.pk, 2);
			msgpack_pack_int(&m.pk, 1);
			msgpack_pack_int(&m.pk, 0x01020304);
		} else {
			msgpack_pack_bin_with_body(&m.pk, "\1\0\0\0\4\3\2\1", 8);
		}
		assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_OK);
		assert_true(params.completions.prompt.is_ids);
		assert_int_equal(params.completions.prompt.ids.n, 2);
		bn_ids_copy(&params.completions.prompt.ids, ids);
		assert_int_equal(ids[0], 1);
		assert_int_equal(ids[1], 0x01020304);
		msgpack_sbuffer_destroy(&m.buffer);
	}
}

/* Packs MessagePack given as bytes for one field and expects a refusal with the sentence. */
static void refuse(enum bn_method method, const char *field, const char *bytes, size_t n,
		   const char *sentence)
{
	union bn_params params;
	struct bn_error err;
	struct message m;

	start_call(&m, method, field, field);
	msgpack_sbuffer_write(&m.buffer, bytes, n);
	assert_int_equal(decode(&m, method, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text, sentence);
	assert_int_equal(err.n_data, 1);
	msgpack_sbuffer_destroy(&m.buffer);
}

#define REFUSE(method, field, bytes, sentence) \
	refuse(BN_METHOD_##method, field, bytes, sizeof(bytes) - 1, sentence)

static void decode_checks_the_elements_of_lists(void **state)
{
	(void)state;
	REFUSE(COMPLETIONS, "prompt", "\x92\x01\xff", "prompt: -1 is no token id");
	REFUSE(COMPLETIONS, "prompt", "\x91\xce\x80\x00\x00\x00",
	       "prompt: 2147483648 is no token id");
	REFUSE(COMPLETIONS, "prompt", "\x91\xca\x3f\x80\x00\x00",
	       "prompt: the elements must be token ids, got a float");
	REFUSE(COMPLETIONS, "prompt", "\x91\x91\x01",
	       "prompt: the elements must be token ids, got an array");
	REFUSE(COMPLETIONS, "prompt", "\xc4\x05\0\0\0\0\0",
	       "prompt: 5 bytes are not a whole number of 4-byte token ids");
	REFUSE(DETOKENIZE, "tokens", "\xc4\x04\0\0\0\x80", "tokens: 2147483648 is no token id");
	REFUSE(COMPLETIONS, "stop", "\x91\xa0", "stop: a string of 0 bytes; 1..256 are allowed");
	REFUSE(COMPLETIONS, "stop", "\xa0", "stop: a string of 0 bytes; 1..256 are allowed");
	REFUSE(COMPLETIONS, "stop", "\x92\xa1x\x05", "stop: expected strings, got an integer");
	REFUSE(COMPLETIONS, "logit_bias", "\x81\xa1x\x05",
	       "logit_bias: the keys must be token ids, got a string");
	REFUSE(COMPLETIONS, "logit_bias", "\x81\x05\xa1x",
	       "logit_bias: expected numbers, got a string");
	REFUSE(COMPLETIONS, "logit_bias", "\x81\x05\x65",
	       "logit_bias: 101 for token 5 is not in -100..100");
	REFUSE(COMPLETIONS, "logit_bias", "\x81\x05\xca\x7f\xc0\x00\x00",
	       "logit_bias: nan for token 5 is not in -100..100");
	REFUSE(COMPLETIONS, "logit_bias", "\x81\x05\xca\xff\x80\x00\x00",
	       "logit_bias: -inf for token 5 is not in -100..100");
	REFUSE(COMPLETIONS, "keep_alive",
	       "\xa3"
	       "10x",
	       "keep_alive: '10x' is no duration; write 300, \"10m\", \"1h30m\" or -1");
	REFUSE(COMPLETIONS, "keep_alive",
	       "\xa5"
	       "9000h",
	       "keep_alive: 32400000 is not in 0..31536000");
}

static void decode_names_the_place_inside_a_chat(void **state)
{
	(void)state;
	REFUSE(CHAT_COMPLETIONS, "messages", "\x90",
	       "messages: 0 messages given, 1..4096 are allowed");
	REFUSE(CHAT_COMPLETIONS, "messages", "\x91\xa2hi",
	       "messages: expected an array of {role, content}, got a string");
	REFUSE(CHAT_COMPLETIONS, "messages", "\x91\x81\xa4role\xa4user",
	       "messages[0].content: missing; expected str");
	REFUSE(CHAT_COMPLETIONS, "messages",
	       "\x92\x82\xa4role\xa4user\xa7"
	       "content\xa0\x82\xa4role\xa3"
	       "bob\xa7"
	       "content\xa0",
	       "messages[1].role: 'bob' is not one of: system, user, assistant");
	REFUSE(CHAT_COMPLETIONS, "messages",
	       "\x91\x82\xa4role\xa4user\xa7"
	       "content\x05",
	       "messages[0].content: expected a string, got an integer");
}

static void decode_suggests_inside_a_chat(void **state)
{
	union bn_params params;
	struct bn_error err;
	struct message m;

	(void)state;
	start_call(&m, BN_METHOD_CHAT_COMPLETIONS, "messages", "messages");
	msgpack_pack_array(&m.pk, 1);
	msgpack_pack_map(&m.pk, 1);
	key(&m, "contents");
	key(&m, "hi");
	assert_int_equal(decode(&m, BN_METHOD_CHAT_COMPLETIONS, &params, &err), BN_E_INVALID);
	assert_string_equal(err.text,
			    "messages[0].contents: no such field; did you mean 'content'?");
	msgpack_sbuffer_destroy(&m.buffer);
}

static void decode_copies_lists(void **state)
{
	union bn_params params;
	struct bn_error err;
	struct message m;
	struct bn_params_turn turns[2];
	struct bn_bias biases[2];

	(void)state;
	start_call(&m, BN_METHOD_CHAT_COMPLETIONS, "messages", "messages");
	msgpack_pack_array(&m.pk, 2);
	for (int i = 0; i < 2; i++) {
		msgpack_pack_map(&m.pk, 2);
		key(&m, "content");
		key(&m, i == 0 ? "be brief" : "hi");
		key(&m, "role");
		key(&m, i == 0 ? "system" : "user");
	}
	assert_int_equal(decode(&m, BN_METHOD_CHAT_COMPLETIONS, &params, &err), BN_OK);
	assert_int_equal(params.chat_completions.messages.n, 2);
	bn_chat_copy(&params.chat_completions.messages, turns);
	assert_int_equal(turns[0].role, BN_ROLE_SYSTEM);
	assert_int_equal(turns[1].role, BN_ROLE_USER);
	assert_true(bn_text_is(turns[1].content, "hi"));
	msgpack_sbuffer_destroy(&m.buffer);

	start_call(&m, BN_METHOD_COMPLETIONS, NULL, "logit_bias");
	msgpack_pack_map(&m.pk, 2);
	msgpack_pack_int(&m.pk, 7);
	msgpack_pack_double(&m.pk, -1.5);
	msgpack_pack_int(&m.pk, 8);
	msgpack_pack_int(&m.pk, 100);
	assert_int_equal(decode(&m, BN_METHOD_COMPLETIONS, &params, &err), BN_OK);
	bn_biases_copy(&params.completions.group.logit_bias, biases);
	assert_int_equal(biases[0].token, 7);
	assert_true(biases[0].bias == -1.5f && biases[1].bias == 100.0f);
	msgpack_sbuffer_destroy(&m.buffer);
}

static void decode_cancel_wants_an_id_or_all(void **state)
{
	(void)state;
	for (int given = 0; given < 4; given++) {
		union bn_params params;
		struct bn_error err;
		struct message m;

		start(&m);
		msgpack_pack_map(&m.pk, (uint32_t)((given & 1) + (given >> 1)));
		if (given & 1) {
			key(&m, "id");
			key(&m, "a1");
		}
		if (given & 2) {
			key(&m, "all");
			msgpack_pack_true(&m.pk);
		}
		assert_int_equal(decode(&m, BN_METHOD_CANCEL, &params, &err),
				 given == 1 || given == 2 ? BN_OK : BN_E_INVALID);
		msgpack_sbuffer_destroy(&m.buffer);
	}
}

static void decode_event_ignores_what_is_newer(void **state)
{
	struct bn_event_head head;
	union bn_event_body body;
	enum bn_event_kind kind;
	struct bn_error err;
	struct message m;

	(void)state;
	start(&m);
	msgpack_pack_map(&m.pk, 6);
	key(&m, "id");
	key(&m, "a1");
	key(&m, "seq");
	msgpack_pack_int(&m.pk, 3);
	key(&m, "event");
	key(&m, "delta");
	key(&m, "text");
	key(&m, "Hello");
	key(&m, "n");
	msgpack_pack_int(&m.pk, 2);
	key(&m, "mood");
	key(&m, "good");
	assert_int_equal(bn_event_decode(&head, &kind, &body,
					 bn_value_read(m.buffer.data, m.buffer.size), &err),
			 BN_OK);
	assert_int_equal(kind, BN_EVENT_DELTA);
	assert_int_equal(head.seq, 3);
	assert_true(bn_text_is(head.id, "a1") && bn_text_is(body.delta.text, "Hello"));
	assert_int_equal(body.delta.n, 2);
	assert_false(body.delta.has_tokens);
	msgpack_sbuffer_destroy(&m.buffer);

	start(&m);
	msgpack_pack_map(&m.pk, 1);
	key(&m, "event");
	key(&m, "thought");
	assert_int_equal(bn_event_decode(&head, &kind, &body,
					 bn_value_read(m.buffer.data, m.buffer.size), &err),
			 BN_E_NOT_SUPPORTED);
	msgpack_sbuffer_destroy(&m.buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decode_holds_every_number_to_its_range),
		cmocka_unit_test(decode_refuses_every_wrong_type),
		cmocka_unit_test(decode_knows_given_from_absent),
		cmocka_unit_test(decode_holds_texts_and_lists_to_their_sizes),
		cmocka_unit_test(decode_suggests_the_field_that_was_meant),
		cmocka_unit_test(decode_says_what_is_wrong_in_one_sentence),
		cmocka_unit_test(decode_takes_peers_names_but_not_twice),
		cmocka_unit_test(decode_reads_prompts_in_three_forms),
		cmocka_unit_test(decode_checks_the_elements_of_lists),
		cmocka_unit_test(decode_names_the_place_inside_a_chat),
		cmocka_unit_test(decode_suggests_inside_a_chat),
		cmocka_unit_test(decode_copies_lists),
		cmocka_unit_test(decode_cancel_wants_an_id_or_all),
		cmocka_unit_test(decode_event_ignores_what_is_newer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
