#include "proto/frame.h"
#include "proto/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

/* Opens the one message in p, after a frame has agreed to it. */
static struct bn_message open_one(const struct bn_pack *p)
{
	struct bn_frame f;
	struct bn_frame_message whole = { 0 };
	struct bn_message m;
	struct bn_error err;
	size_t fed = 0;

	bn_frame_init(&f, BN_FRAME_CAPS);
	while (fed < p->used) {
		unsigned char *space;
		size_t n;

		assert_null(whole.bytes);
		assert_int_equal(bn_frame_space(&f, &space, &n, &err), BN_OK);
		n = n < p->used - fed ? n : p->used - fed;
		memcpy(space, p->data + fed, n);
		bn_frame_commit(&f, n);
		fed += n;
		assert_int_equal(bn_frame_next(&f, &whole, &err), BN_OK);
	}
	assert_int_equal(whole.n, p->used);
	bn_frame_finish(&f);
	assert_int_equal(bn_message_open(&m, p->data, p->used, &err), BN_OK);
	return m;
}

static void message_carries_calls_both_ways(void **state)
{
	struct bn_call call = { .method = BN_METHOD_MODELS_LOAD }, got;
	struct bn_message m;
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	call.params.models_load.has_model = true;
	call.params.models_load.model = bn_text_of("bitnet-2b");
	call.params.models_load.has_keep_alive = true;
	call.params.models_load.keep_alive = BN_TIME_FOREVER;
	bn_pack_init(&p);
	assert_int_equal(bn_message_call(&p, UINT32_MAX, &call, &err), BN_OK);
	m = open_one(&p);
	assert_int_equal(m.kind, BN_MESSAGE_CALL);
	assert_true(m.msgid == UINT32_MAX);
	assert_int_equal(bn_message_read_call(&m, &got, &err), BN_OK);
	assert_int_equal(got.method, BN_METHOD_MODELS_LOAD);
	assert_true(bn_text_is(got.params.models_load.model, "bitnet-2b"));
	assert_true(got.params.models_load.keep_alive == BN_TIME_FOREVER);
	assert_false(got.params.models_load.has_pin);

	bn_pack_reset(&p);
	call.method = BN_METHOD_CANCEL;
	memset(&call.params, 0, sizeof(call.params));
	call.params.cancel.has_all = true;
	call.params.cancel.all = true;
	assert_int_equal(bn_message_notify(&p, &call, &err), BN_OK);
	m = open_one(&p);
	assert_int_equal(m.kind, BN_MESSAGE_NOTIFICATION);
	assert_int_equal(bn_message_read_call(&m, &got, &err), BN_OK);
	assert_true(got.params.cancel.all);
	bn_pack_finish(&p);
}

static enum bn_status read_bytes(const char *bytes, size_t n, struct bn_call *call,
				 struct bn_error *err)
{
	struct bn_message m;

	assert_int_equal(bn_message_open(&m, bytes, n, err), BN_OK);
	return bn_message_read_call(&m, call, err);
}

#define READ(bytes) read_bytes(bytes, sizeof(bytes) - 1, &call, &err)

static void message_takes_params_as_nothing_or_one_map(void **state)
{
	struct bn_call call;
	struct bn_error err;

	(void)state;
	assert_int_equal(READ("\x94\0\1\xabserver.info\x90"), BN_OK);
	assert_int_equal(call.method, BN_METHOD_SERVER_INFO);
	assert_int_equal(READ("\x94\0\1\xabserver.info\x91\x80"), BN_OK);
	assert_int_equal(READ("\x94\0\1\xc4\x0bserver.info\x91\x80"), BN_OK);
	assert_int_equal(READ("\x94\0\1\xabserver.info\x80"), BN_E_PARAMS);
	assert_int_equal(call.method, BN_METHOD_SERVER_INFO);
	assert_int_equal(READ("\x94\0\1\xabserver.info\xc0"), BN_E_PARAMS);
	assert_int_equal(READ("\x94\0\1\xabserver.info\x91\xc0"), BN_E_PARAMS);
	assert_int_equal(READ("\x94\0\1\xabserver.info\x91\x05"), BN_E_PARAMS);
	assert_int_equal(READ("\x94\0\1\xabserver.info\x92\x80\x80"), BN_E_PARAMS);
	assert_string_equal(err.text,
			    "server.info: params must be [] or [{...}], one map of names");
	assert_int_equal(READ("\x94\0\1\xabserver.info\x91\x81\xa1x\1"), BN_E_INVALID);
	/* What pynvim says when it connects. */
	assert_int_equal(READ("\x93\2\xc4\x14nvim_set_client_info\x95\xa1p\x80\xa1r\x80\x80"),
			 BN_E_METHOD);
	assert_int_equal(call.method, BN_METHOD_COUNT);
}

static void message_suggests_the_method_that_was_meant(void **state)
{
	struct bn_call call;
	struct bn_error err;

	(void)state;
	assert_int_equal(READ("\x94\0\1\xaa"
			      "completion\x90"),
			 BN_E_METHOD);
	assert_string_equal(err.text, "no method 'completion'; did you mean 'completions'?");
	assert_string_equal(err.data[0].key, "suggestion");
	assert_int_equal(READ("\x94\0\1\xa8generate\x90"), BN_E_METHOD);
	assert_string_equal(err.text, "no method 'generate'; server.info lists those there are");
	assert_int_equal(READ("\x94\1\1\xc0\xc0"), BN_E_MESSAGE);
}

static void message_open_refuses_what_no_frame_lets_through(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} cases[] = {
		{ "", 0 },
		{ "\xc0", 1 },
		{ "\x94", 1 },
		{ "\x94\0\1", 3 },
		{ "\x94\0\1\xa1", 4 },
		{ "\x94\0\1\xa1x", 5 },
		{ "\x94\0\xff\xa1x\x90", 6 },
		{ "\x94\0\1\xc0\x90", 5 },
		{ "\x93\0\1\xa1x", 5 },
		{ "\x94\2\xa1x\x90\x90", 6 },
		{ "\x94\3\1\xa1x\x90", 6 },
	};
	struct bn_error err;
	struct bn_message m;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum bn_status status = bn_message_open(&m, cases[i].bytes, cases[i].n, &err);

		if (i == 5) {
			/* The params are cut: nothing to open them with, nothing to read. */
			struct bn_call call;

			assert_int_equal(status, BN_OK);
			assert_int_not_equal(bn_message_read_call(&m, &call, &err), BN_OK);
		} else {
			assert_int_equal(status, BN_E_MESSAGE);
		}
	}
}

static void message_carries_results(void **state)
{
	struct bn_remote_error remote;
	struct bn_message m;
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	bn_message_result_begin(&p, 7);
	bn_pack_map(&p, NULL);
	bn_pack_str(&p, "text", "Hello");
	bn_pack_end(&p);
	assert_int_equal(bn_message_result_end(&p, &err), BN_OK);
	m = open_one(&p);
	assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
	assert_int_equal(m.msgid, 7);
	assert_false(bn_message_read_error(&m, &remote));
	assert_true(bn_text_is(bn_value_text(bn_value_get(m.result, "text")), "Hello"));
	bn_pack_finish(&p);
}

static void message_cuts_off_results_no_peer_would_take(void **state)
{
	size_t n = BN_LIMIT_MESSAGE_BYTES;
	char *text = calloc(1, n);
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	bn_message_result_begin(&p, 1);
	bn_pack_bool(&p, NULL, true);
	assert_int_equal(bn_message_result_end(&p, &err), BN_OK);
	assert_int_equal(p.used, 5);
	for (int variant = 0; variant < 3; variant++) {
		bn_message_result_begin(&p, 2);
		bn_pack_map(&p, NULL);
		if (variant == 0) {
			bn_pack_bin(&p, "text", text, n);
		} else {
			/* 65,536 elements break the count of an array, 65,535 the budget of all. */
			bn_pack_array(&p, "pieces");
			for (int i = 0; i < (variant == 1 ? 65536 : 65535); i++) {
				bn_pack_int(&p, NULL, 1);
			}
			bn_pack_end(&p);
		}
		bn_pack_end(&p);
		assert_int_equal(bn_message_result_end(&p, &err), BN_E_TOO_LARGE);
		assert_int_equal(p.used, 5);
	}
	/* The pack is good for the error that takes its place. */
	assert_int_equal(bn_message_error(&p, 2, &err, &err), BN_OK);
	assert_true(p.used > 5);
	bn_pack_finish(&p);
	free(text);
}

static void message_accepts_exactly_the_elements_a_frame_does(void **state)
{
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	bn_message_result_begin(&p, 2);
	bn_pack_array(&p, NULL);
	for (int i = 0; i < BN_LIMIT_ELEMENTS - 4; i++) {
		bn_pack_int(&p, NULL, 1);
	}
	bn_pack_end(&p);
	assert_int_equal(bn_message_result_end(&p, &err), BN_OK);
	open_one(&p);
	bn_pack_reset(&p);
	bn_message_result_begin(&p, 2);
	bn_pack_array(&p, NULL);
	for (int i = 0; i < BN_LIMIT_ELEMENTS - 3; i++) {
		bn_pack_int(&p, NULL, 1);
	}
	bn_pack_end(&p);
	assert_int_equal(bn_message_result_end(&p, &err), BN_E_TOO_LARGE);
	bn_pack_finish(&p);
}

static void message_carries_every_error_and_its_facts(void **state)
{
	(void)state;
	for (enum bn_status status = BN_OK + 1; status < BN_STATUS_COUNT; status++) {
		for (int facts = 0; facts < 2; facts++) {
			struct bn_remote_error remote;
			struct bn_error sent, err;
			struct bn_message m;
			struct bn_pack p;

			bn_fail(&sent, status, "about %s", bn_status_word(status));
			if (facts) {
				bn_error_number(&sent, "need_bytes", 1234567890123);
				bn_error_string(&sent, "held_by", "bitnet-2b");
			}
			bn_pack_init(&p);
			assert_int_equal(bn_message_error(&p, 9, &sent, &err), BN_OK);
			m = open_one(&p);
			assert_int_equal(m.result.type, BN_TYPE_NIL);
			assert_true(bn_message_read_error(&m, &remote));
			assert_int_equal(remote.status, status);
			assert_int_equal(remote.code, bn_status_code(status));
			assert_true(bn_text_is(remote.text, sent.text));
			if (facts) {
				assert_true(bn_value_int(bn_value_get(remote.data, "need_bytes"),
							 0) == 1234567890123);
				assert_true(bn_text_is(
					bn_value_text(bn_value_get(remote.data, "held_by")),
					"bitnet-2b"));
			}
			bn_pack_finish(&p);
		}
	}
}

static void message_keeps_plain_errors_to_two_elements(void **state)
{
	struct bn_error sent, err;
	struct bn_message m;
	struct bn_pack p;

	(void)state;
	/* Some clients turn anything but [code, text] into a debug string. */
	bn_pack_init(&p);
	bn_fail(&sent, BN_E_NOT_FOUND, "no model 'x'");
	assert_int_equal(bn_message_error(&p, 9, &sent, &err), BN_OK);
	m = open_one(&p);
	assert_int_equal(m.error.n, 2);
	bn_pack_finish(&p);
}

static void message_reads_errors_of_strangers(void **state)
{
	struct bn_remote_error remote;
	struct bn_message m;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_message_open(&m,
					 "\x94\1\5\xa3"
					 "bad\xc0",
					 8, &err),
			 BN_OK);
	assert_true(bn_message_read_error(&m, &remote));
	assert_int_equal(remote.status, BN_E_INTERNAL);
	assert_true(bn_text_is(remote.text, "bad"));
	assert_int_equal(bn_message_open(&m, "\x94\1\5\x92\xcd\x03\x09\xa1z\xc0", 10, &err), BN_OK);
	assert_true(bn_message_read_error(&m, &remote));
	assert_int_equal(remote.status, BN_E_INTERNAL);
	assert_int_equal(remote.code, 777);
	assert_int_equal(bn_message_open(&m, "\x94\1\5\xc3\xc0", 5, &err), BN_OK);
	assert_true(bn_message_read_error(&m, &remote));
	assert_true(remote.text.n > 0);
}

static void message_carries_events(void **state)
{
	struct bn_event sent = {
		.head = { .id = { "a1", 2 }, .seq = 2 },
		.kind = BN_EVENT_DELTA,
		.body.delta = { .has_text = true, .text = { "Hello", 5 }, .has_n = true, .n = 1 }
	};
	struct bn_event got;
	struct bn_message m;
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	assert_int_equal(bn_message_event(&p, &sent, &err), BN_OK);
	m = open_one(&p);
	assert_int_equal(bn_message_read_event(&m, &got, &err), BN_OK);
	assert_int_equal(got.kind, BN_EVENT_DELTA);
	assert_int_equal(got.head.seq, 2);
	assert_true(bn_text_is(got.body.delta.text, "Hello"));
	/* An event that breaks the schema leaves nothing behind. */
	sent.body.delta.has_text = false;
	bn_pack_reset(&p);
	assert_int_equal(bn_message_event(&p, &sent, &err), BN_E_INVALID);
	assert_int_equal(p.used, 0);
	bn_pack_finish(&p);
	assert_int_equal(bn_message_open(&m, "\x93\2\xa1x\x90", 5, &err), BN_OK);
	assert_int_equal(bn_message_read_event(&m, &got, &err), BN_E_METHOD);
	assert_int_equal(bn_message_open(&m, "\x93\2\xa6stream\x90", 10, &err), BN_OK);
	assert_int_equal(bn_message_read_event(&m, &got, &err), BN_E_NOT_SUPPORTED);
	assert_int_equal(bn_message_open(&m, "\x93\2\xa6stream\x91\x05", 11, &err), BN_OK);
	assert_int_equal(bn_message_read_event(&m, &got, &err), BN_E_INVALID);
}

static void message_refuses_calls_larger_than_a_frame_takes(void **state)
{
	size_t n = BN_LIMIT_MESSAGE_BYTES;
	char *text = malloc(n);
	struct bn_call call = { .method = BN_METHOD_TOKENIZE };
	struct bn_error err;
	struct bn_pack p;

	(void)state;
	memset(text, 'x', n);
	call.params.tokenize.has_model = true;
	call.params.tokenize.model = bn_text_of("m");
	call.params.tokenize.has_content = true;
	call.params.tokenize.content = (struct bn_text){ text, n };
	bn_pack_init(&p);
	assert_int_equal(bn_message_call(&p, 1, &call, &err), BN_E_TOO_LARGE);
	assert_int_equal(p.used, 0);
	call.params.tokenize.content.n = n - 100;
	assert_int_equal(bn_message_call(&p, 1, &call, &err), BN_OK);
	open_one(&p);
	bn_pack_finish(&p);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_carries_calls_both_ways),
		cmocka_unit_test(message_takes_params_as_nothing_or_one_map),
		cmocka_unit_test(message_suggests_the_method_that_was_meant),
		cmocka_unit_test(message_open_refuses_what_no_frame_lets_through),
		cmocka_unit_test(message_carries_results),
		cmocka_unit_test(message_cuts_off_results_no_peer_would_take),
		cmocka_unit_test(message_accepts_exactly_the_elements_a_frame_does),
		cmocka_unit_test(message_carries_every_error_and_its_facts),
		cmocka_unit_test(message_keeps_plain_errors_to_two_elements),
		cmocka_unit_test(message_reads_errors_of_strangers),
		cmocka_unit_test(message_carries_events),
		cmocka_unit_test(message_refuses_calls_larger_than_a_frame_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
