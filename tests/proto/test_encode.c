#include "proto/decode.h"
#include "proto/encode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint32_t some_ids[] = { 3, 70000, 5 };
static const struct bn_text some_texts[] = { { "one", 3 }, { "", 0 } };
static const struct bn_bias some_biases[] = { { 9, -100.0f }, { 70000, 1.5f } };
static const struct bn_params_turn some_turns[] = {
	{ .has_role = true, .role = BN_ROLE_SYSTEM, .has_content = true, .content = { "s", 1 } },
	{ .has_role = true, .role = BN_ROLE_USER, .has_content = true, .content = { "", 0 } },
};

/* Sets a field of a params struct to something its row accepts. */
static void set(unsigned char *base, const struct bn_field *f)
{
	void *at = base + f->at;

	base[f->has] = 1;
	switch (f->kind) {
	case BN_KIND_STR:
		*(struct bn_text *)at = bn_text_of("gr\xc3\xbc\xc3\x9f");
		break;
	case BN_KIND_INT:
		*(int64_t *)at = f->int_max;
		break;
	case BN_KIND_NUM:
		*(double *)at = (f->num_min + f->num_max) / 2;
		break;
	case BN_KIND_BOOL:
		*(bool *)at = true;
		break;
	case BN_KIND_WORD:
		*(uint32_t *)at = 1;
		break;
	case BN_KIND_TIME:
		*(int64_t *)at = 90500;
		break;
	case BN_KIND_PROMPT:
		*(struct bn_prompt *)at = (struct bn_prompt){ .text = bn_text_of("Once upon") };
		break;
	case BN_KIND_IDS:
		*(struct bn_ids *)at = (struct bn_ids){ .n = 3, .host = some_ids };
		break;
	case BN_KIND_STRS:
		((struct bn_strings *)at)->n = 2;
		((struct bn_strings *)at)->at[0] = bn_text_of("\n");
		((struct bn_strings *)at)->at[1] = bn_text_of("END");
		break;
	case BN_KIND_TEXTS:
		*(struct bn_texts *)at = (struct bn_texts){ .n = 2, .host = some_texts };
		break;
	case BN_KIND_BIAS:
		*(struct bn_biases *)at = (struct bn_biases){ .n = 2, .host = some_biases };
		break;
	case BN_KIND_CHAT:
		*(struct bn_chat *)at = (struct bn_chat){ .n = 2, .host = some_turns };
		break;
	case BN_KIND_BIN:
		*(struct bn_bytes *)at = (struct bn_bytes){ (const unsigned char *)"\1\2", 2 };
		break;
	}
}

/* Whether a decoded field holds what set() put in. */
static void compare(const unsigned char *sent, const unsigned char *got, const struct bn_field *f)
{
	const void *a = sent + f->at, *b = got + f->at;

	assert_int_equal(sent[f->has], got[f->has]);
	if (!sent[f->has]) {
		return;
	}
	switch (f->kind) {
	case BN_KIND_STR:
		assert_true(bn_text_is(*(const struct bn_text *)b, "gr\xc3\xbc\xc3\x9f"));
		break;
	case BN_KIND_INT:
	case BN_KIND_TIME:
		assert_true(*(const int64_t *)a == *(const int64_t *)b);
		break;
	case BN_KIND_NUM:
		assert_true(*(const double *)a == *(const double *)b);
		break;
	case BN_KIND_BOOL:
		assert_true(*(const bool *)b);
		break;
	case BN_KIND_WORD:
		assert_int_equal(*(const uint32_t *)b, 1);
		break;
	case BN_KIND_PROMPT:
		assert_true(bn_text_is(((const struct bn_prompt *)b)->text, "Once upon"));
		break;
	case BN_KIND_IDS: {
		uint32_t ids[3];

		assert_int_equal(((const struct bn_ids *)b)->n, 3);
		bn_ids_copy(b, ids);
		assert_memory_equal(ids, some_ids, sizeof(ids));
		break;
	}
	case BN_KIND_STRS: {
		const struct bn_strings *s = b;

		assert_int_equal(s->n, 2);
		assert_true(bn_text_is(s->at[0], "\n") && bn_text_is(s->at[1], "END"));
		break;
	}
	case BN_KIND_TEXTS: {
		struct bn_text texts[2];

		assert_int_equal(((const struct bn_texts *)b)->n, 2);
		bn_texts_copy(b, texts);
		assert_true(bn_text_is(texts[0], "one") && bn_text_is(texts[1], ""));
		break;
	}
	case BN_KIND_BIAS: {
		struct bn_bias biases[2];

		assert_int_equal(((const struct bn_biases *)b)->n, 2);
		bn_biases_copy(b, biases);
		assert_memory_equal(biases, some_biases, sizeof(biases));
		break;
	}
	case BN_KIND_CHAT: {
		struct bn_params_turn turns[2];

		assert_int_equal(((const struct bn_chat *)b)->n, 2);
		bn_chat_copy(b, turns);
		assert_int_equal(turns[0].role, BN_ROLE_SYSTEM);
		assert_true(bn_text_is(turns[0].content, "s"));
		assert_int_equal(turns[1].role, BN_ROLE_USER);
		assert_int_equal(turns[1].content.n, 0);
		break;
	}
	case BN_KIND_BIN:
		assert_int_equal(((const struct bn_bytes *)b)->n, 2);
		assert_memory_equal(((const struct bn_bytes *)b)->at, "\1\2", 2);
		break;
	}
}

static void round_trip(enum bn_method method, const union bn_params *sent)
{
	const struct bn_method_info *info = bn_method_info(method);
	const struct bn_field *lists[] = { info->own, info->shared };
	union bn_params got;
	struct bn_error err;
	struct bn_pack p;

	bn_pack_init(&p);
	assert_int_equal(bn_params_encode(&p, method, sent, &err), BN_OK);
	assert_int_equal(bn_pack_check(&p, &err), BN_OK);
	assert_int_equal(bn_params_decode(&got, method, bn_value_read(p.data, p.used), &err),
			 BN_OK);
	for (int i = 0; i < 2; i++) {
		for (const struct bn_field *f = lists[i]; f->name != NULL; f++) {
			compare((const unsigned char *)sent, (const unsigned char *)&got, f);
		}
	}
	/* What was decoded can be sent on as it is. */
	bn_pack_reset(&p);
	assert_int_equal(bn_params_encode(&p, method, &got, &err), BN_OK);
	bn_pack_finish(&p);
}

static void encode_and_decode_agree_on_every_method(void **state)
{
	(void)state;
	for (enum bn_method method = 0; method < BN_METHOD_COUNT; method++) {
		const struct bn_method_info *info = bn_method_info(method);
		const struct bn_field *lists[] = { info->own, info->shared };
		union bn_params least, most;

		memset(&least, 0, sizeof(least));
		memset(&most, 0, sizeof(most));
		for (int i = 0; i < 2; i++) {
			for (const struct bn_field *f = lists[i]; f->name != NULL; f++) {
				if (f->must) {
					set((unsigned char *)&least, f);
				}
				set((unsigned char *)&most, f);
			}
		}
		if (method == BN_METHOD_CANCEL) {
			most.cancel.has_all = false;
			most.cancel.all = false;
			least = most;
		}
		round_trip(method, &least);
		round_trip(method, &most);
	}
}

static void encode_sends_prompts_as_ids(void **state)
{
	union bn_params sent = { .completions = {
					 .group = { .has_model = true, .model = { "m", 1 } },
					 .has_prompt = true,
					 .prompt = { .is_ids = true,
						     .ids = { .n = 3, .host = some_ids } },
				 } };
	union bn_params got;
	uint32_t ids[3];
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	assert_int_equal(bn_params_encode(&p, BN_METHOD_COMPLETIONS, &sent, &err), BN_OK);
	assert_int_equal(
		bn_params_decode(&got, BN_METHOD_COMPLETIONS, bn_value_read(p.data, p.used), &err),
		BN_OK);
	assert_true(got.completions.prompt.is_ids);
	bn_ids_copy(&got.completions.prompt.ids, ids);
	assert_memory_equal(ids, some_ids, sizeof(ids));
	bn_pack_finish(&p);
}

/* Encodes completions with one thing wrong and expects the server's own sentence. */
static void refuse(union bn_params *params, const char *sentence)
{
	struct bn_error err;
	struct bn_pack p;

	bn_pack_init(&p);
	assert_int_equal(bn_params_encode(&p, BN_METHOD_COMPLETIONS, params, &err), BN_E_INVALID);
	assert_string_equal(err.text, sentence);
	assert_string_equal(err.data[0].key, "param");
	/* Half a map is left for the caller to cut off. */
	bn_pack_cut(&p, 0);
	assert_int_equal(bn_params_encode(&p, BN_METHOD_COMPLETIONS, params, NULL), BN_E_INVALID);
	bn_pack_finish(&p);
}

static void encode_refuses_what_the_server_would(void **state)
{
	union bn_params good = { .completions = {
					 .group = { .has_model = true, .model = { "m", 1 } },
					 .has_prompt = true,
					 .prompt = { .text = { "x", 1 } },
				 } };
	union bn_params bad;

	(void)state;
	bad = good;
	bad.completions.group.has_top_p = true;
	bad.completions.group.top_p = 1.7;
	refuse(&bad, "top_p: 1.7 is not in 0..1");
	bad.completions.group.top_p = NAN;
	refuse(&bad, "top_p: nan is not in 0..1");
	bad = good;
	bad.completions.group.has_max_tokens = true;
	refuse(&bad, "max_tokens: 0 is not in 1..1048576");
	bad = good;
	bad.completions.group.has_model = false;
	refuse(&bad, "model: missing; expected str");
	bad = good;
	bad.completions.prompt.text = (struct bn_text){ "abc\xff", 4 };
	refuse(&bad, "prompt: the text is not valid UTF-8 at byte 3");
	bad = good;
	bad.completions.group.has_stop = true;
	bad.completions.group.stop.n = 1;
	bad.completions.group.stop.at[0] = (struct bn_text){ "\xc3", 1 };
	refuse(&bad, "stop: the text is not valid UTF-8 at byte 0");
	bad.completions.group.stop.n = 17;
	refuse(&bad, "stop: 17 strings given, 0..16 are allowed");
	bad = good;
	bad.completions.group.has_keep_alive = true;
	bad.completions.group.keep_alive = INT64_C(31536001000);
	refuse(&bad, "keep_alive: 31536001 is not in 0..31536000");
}

static void encode_and_decode_agree_on_every_event(void **state)
{
	(void)state;
	for (enum bn_event_kind kind = 0; kind < BN_EVENT_COUNT; kind++) {
		const struct bn_field *f = bn_event_info(kind)->fields;
		struct bn_event_head head = { .id = { "a1", 2 }, .seq = 41 }, got_head;
		union bn_event_body body, got_body;
		enum bn_event_kind got_kind;
		struct bn_error err;
		struct bn_pack p;

		memset(&body, 0, sizeof(body));
		bn_pack_init(&p);
		assert_int_equal(bn_event_encode(&p, &head, kind, &body, &err), BN_E_INVALID);
		for (; f->name != NULL; f++) {
			set((unsigned char *)&body, f);
		}
		bn_pack_reset(&p);
		assert_int_equal(bn_event_encode(&p, &head, kind, &body, &err), BN_OK);
		assert_int_equal(bn_event_decode(&got_head, &got_kind, &got_body,
						 bn_value_read(p.data, p.used), &err),
				 BN_OK);
		assert_int_equal(got_kind, kind);
		assert_int_equal(got_head.seq, 41);
		assert_true(bn_text_is(got_head.id, "a1"));
		for (f = bn_event_info(kind)->fields; f->name != NULL; f++) {
			compare((const unsigned char *)&body, (const unsigned char *)&got_body, f);
		}
		bn_pack_finish(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encode_and_decode_agree_on_every_method),
		cmocka_unit_test(encode_sends_prompts_as_ids),
		cmocka_unit_test(encode_refuses_what_the_server_would),
		cmocka_unit_test(encode_and_decode_agree_on_every_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
