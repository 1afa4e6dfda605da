/* What is read out of parameters, and in which words what is wrong with them is told. */
#include "proto/decode.h"

#include "tests/proto/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

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
	struct call m;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		call_begin(&m, BN_METHOD_COMPLETIONS, NULL, cases[i].given);
		msgpack_pack_int(&m.pk, 1);
		call_refused(&m, BN_METHOD_COMPLETIONS, cases[i].text);
		assert_string_equal(m.err.data[0].key, "param");
		if (cases[i].given[0] != '\0') {
			assert_string_equal(m.err.data[0].text, cases[i].given);
		}
	}
	/* Numbers are keys of logit_bias only. */
	call_start(&m);
	msgpack_pack_map(&m.pk, 1);
	msgpack_pack_int(&m.pk, 1);
	msgpack_pack_int(&m.pk, 1);
	assert_int_equal(call_decode(&m, BN_METHOD_SERVER_INFO), BN_E_INVALID);
	assert_string_equal(m.err.text, "field names must be strings, got an integer");
	/* The sentence is needed inside even when nobody wants it. */
	assert_int_equal(bn_params_decode(&m.params, BN_METHOD_SERVER_INFO,
					  bn_value_read(m.buffer.data, m.buffer.size), NULL),
			 BN_E_INVALID);
	call_end(&m);
}

static void decode_says_what_is_wrong_in_one_sentence(void **state)
{
	struct call m;

	(void)state;
	call_begin(&m, BN_METHOD_COMPLETIONS, NULL, "top_p");
	msgpack_pack_double(&m.pk, 1.7);
	call_refused(&m, BN_METHOD_COMPLETIONS, "top_p: 1.7 is not in 0..1");
	assert_string_equal(m.err.data[0].text, "top_p");
	call_begin(&m, BN_METHOD_COMPLETIONS, NULL, "queue");
	call_str(&m, "later");
	call_refused(&m, BN_METHOD_COMPLETIONS, "queue: 'later' is not one of: wait, fail");
	call_begin(&m, BN_METHOD_COMPLETIONS, "model", NULL);
	call_refused(&m, BN_METHOD_COMPLETIONS, "model: missing; expected str");
	call_begin(&m, BN_METHOD_COMPLETIONS, NULL, "top_k");
	msgpack_pack_double(&m.pk, 40.5);
	call_refused(&m, BN_METHOD_COMPLETIONS, "top_k: 40.5 is a float, an integer is needed");
}

static void decode_takes_peers_names_but_not_twice(void **state)
{
	struct call m;

	(void)state;
	call_begin(&m, BN_METHOD_COMPLETIONS, NULL, "n_predict");
	msgpack_pack_int(&m.pk, 17);
	assert_int_equal(call_decode(&m, BN_METHOD_COMPLETIONS), BN_OK);
	assert_true(m.params.completions.group.has_max_tokens);
	assert_int_equal(m.params.completions.group.max_tokens, 17);
	call_end(&m);

	call_start(&m);
	msgpack_pack_map(&m.pk, 2);
	call_str(&m, "max_completion_tokens");
	msgpack_pack_int(&m.pk, 17);
	call_str(&m, "max_tokens");
	msgpack_pack_int(&m.pk, 17);
	assert_int_equal(call_decode(&m, BN_METHOD_COMPLETIONS), BN_E_INVALID);
	assert_string_equal(m.err.text, "max_tokens: given twice, once under another name");
	/* No alias where there is no such field. */
	assert_int_equal(call_decode(&m, BN_METHOD_TOKENIZE), BN_E_INVALID);
	assert_non_null(strstr(m.err.text, "no such field"));
	call_end(&m);
}

static void decode_reads_prompts_in_three_forms(void **state)
{
	struct call m;
	uint32_t ids[2];

	(void)state;
	call_begin(&m, BN_METHOD_COMPLETIONS, "prompt", "prompt");
	call_str(&m, "Once");
	assert_int_equal(call_decode(&m, BN_METHOD_COMPLETIONS), BN_OK);
	assert_false(m.params.completions.prompt.is_ids);
	assert_true(bn_text_is(m.params.completions.prompt.text, "Once"));
	call_end(&m);
	for (int form = 0; form < 2; form++) {
		call_begin(&m, BN_METHOD_COMPLETIONS, "prompt", "prompt");
		if (form == 0) {
			msgpack_pack_array(&m.pk, 2);
			msgpack_pack_int(&m.pk, 1);
			msgpack_pack_int(&m.pk, 0x01020304);
		} else {
			msgpack_pack_bin_with_body(&m.pk, "\1\0\0\0\4\3\2\1", 8);
		}
		assert_int_equal(call_decode(&m, BN_METHOD_COMPLETIONS), BN_OK);
		assert_true(m.params.completions.prompt.is_ids);
		assert_int_equal(m.params.completions.prompt.ids.n, 2);
		bn_ids_copy(&m.params.completions.prompt.ids, ids);
		assert_int_equal(ids[0], 1);
		assert_int_equal(ids[1], 0x01020304);
		call_end(&m);
	}
}

/* Packs MessagePack given as bytes for one field and expects a refusal with the sentence. */
static void refuse(enum bn_method method, const char *field, const char *bytes, size_t n,
		   const char *sentence)
{
	struct call m;

	call_begin(&m, method, field, field);
	msgpack_sbuffer_write(&m.buffer, bytes, n);
	call_refused(&m, method, sentence);
	assert_int_equal(m.err.n_data, 1);
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
	struct call m;

	(void)state;
	call_begin(&m, BN_METHOD_CHAT_COMPLETIONS, "messages", "messages");
	msgpack_pack_array(&m.pk, 1);
	msgpack_pack_map(&m.pk, 1);
	call_str(&m, "contents");
	call_str(&m, "hi");
	call_refused(&m, BN_METHOD_CHAT_COMPLETIONS,
		     "messages[0].contents: no such field; did you mean 'content'?");
}

static void decode_copies_lists(void **state)
{
	struct call m;
	struct bn_params_turn turns[2];
	struct bn_bias biases[2];

	(void)state;
	call_begin(&m, BN_METHOD_CHAT_COMPLETIONS, "messages", "messages");
	msgpack_pack_array(&m.pk, 2);
	for (int i = 0; i < 2; i++) {
		msgpack_pack_map(&m.pk, 2);
		call_str(&m, "content");
		call_str(&m, i == 0 ? "be brief" : "hi");
		call_str(&m, "role");
		call_str(&m, i == 0 ? "system" : "user");
	}
	assert_int_equal(call_decode(&m, BN_METHOD_CHAT_COMPLETIONS), BN_OK);
	assert_int_equal(m.params.chat_completions.messages.n, 2);
	bn_chat_copy(&m.params.chat_completions.messages, turns);
	assert_int_equal(turns[0].role, BN_ROLE_SYSTEM);
	assert_int_equal(turns[1].role, BN_ROLE_USER);
	assert_true(bn_text_is(turns[1].content, "hi"));
	call_end(&m);

	call_begin(&m, BN_METHOD_COMPLETIONS, NULL, "logit_bias");
	msgpack_pack_map(&m.pk, 2);
	msgpack_pack_int(&m.pk, 7);
	msgpack_pack_double(&m.pk, -1.5);
	msgpack_pack_int(&m.pk, 8);
	msgpack_pack_int(&m.pk, 100);
	assert_int_equal(call_decode(&m, BN_METHOD_COMPLETIONS), BN_OK);
	bn_biases_copy(&m.params.completions.group.logit_bias, biases);
	assert_int_equal(biases[0].token, 7);
	assert_true(biases[0].bias == -1.5f && biases[1].bias == 100.0f);
	call_end(&m);
}

static void decode_cancel_wants_an_id_or_all(void **state)
{
	(void)state;
	for (int given = 0; given < 4; given++) {
		struct call m;

		call_start(&m);
		msgpack_pack_map(&m.pk, (uint32_t)((given & 1) + (given >> 1)));
		if (given & 1) {
			call_str(&m, "id");
			call_str(&m, "a1");
		}
		if (given & 2) {
			call_str(&m, "all");
			msgpack_pack_true(&m.pk);
		}
		assert_int_equal(call_decode(&m, BN_METHOD_CANCEL),
				 given == 1 || given == 2 ? BN_OK : BN_E_INVALID);
		call_end(&m);
	}
}

static void decode_event_ignores_what_is_newer(void **state)
{
	struct bn_event_head head;
	union bn_event_body body;
	enum bn_event_kind kind;
	struct bn_error err;
	struct call m;

	(void)state;
	call_start(&m);
	msgpack_pack_map(&m.pk, 6);
	call_str(&m, "id");
	call_str(&m, "a1");
	call_str(&m, "seq");
	msgpack_pack_int(&m.pk, 3);
	call_str(&m, "event");
	call_str(&m, "delta");
	call_str(&m, "text");
	call_str(&m, "Hello");
	call_str(&m, "n");
	msgpack_pack_int(&m.pk, 2);
	call_str(&m, "mood");
	call_str(&m, "good");
	assert_int_equal(bn_event_decode(&head, &kind, &body,
					 bn_value_read(m.buffer.data, m.buffer.size), &err),
			 BN_OK);
	assert_int_equal(kind, BN_EVENT_DELTA);
	assert_int_equal(head.seq, 3);
	assert_true(bn_text_is(head.id, "a1") && bn_text_is(body.delta.text, "Hello"));
	assert_int_equal(body.delta.n, 2);
	assert_false(body.delta.has_tokens);
	call_end(&m);

	call_start(&m);
	msgpack_pack_map(&m.pk, 1);
	call_str(&m, "event");
	call_str(&m, "thought");
	assert_int_equal(bn_event_decode(&head, &kind, &body,
					 bn_value_read(m.buffer.data, m.buffer.size), &err),
			 BN_E_NOT_SUPPORTED);
	call_end(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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

	return cmocka_run_group_tests_name("proto/decode_words", tests, NULL, NULL);
}
