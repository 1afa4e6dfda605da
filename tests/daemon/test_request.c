#include "daemon/request.h"

#include "tests/daemon/asks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- the good way --------------------------------------------------------------------------- */

static void request_answers_with_text_counts_and_seed(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 20);
	struct ask *first = asks_finish_one(s, &p);
	struct ask *second = asks_finish_one(s, &p);
	struct ask *streamed;

	(void)state;
	assert_string_equal(first->reason, "length");
	assert_int_equal(first->completion, 20);
	assert_int_equal(first->seed, 5);
	assert_int_equal(first->events, 0);
	assert_true(first->load_ns > 0);
	assert_int_equal(second->load_ns, 0);
	assert_string_equal(first->text, second->text);
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	p.completions.group.has_return_progress = true;
	p.completions.group.return_progress = true;
	streamed = asks_finish_one(s, &p);
	assert_string_equal(streamed->text, first->text);
	assert_int_equal(streamed->tokens, 20);
	assert_true(streamed->progress > 0);
	asks_settle(s);
	asks_close(s);
}

static void request_draws_a_seed_when_none_is_given(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 20);
	struct ask *a, *b, *c;

	(void)state;
	p.completions.group.has_seed = false;
	a = asks_finish_one(s, &p);
	p.completions.group.has_seed = true;
	p.completions.group.seed = -1;
	b = asks_finish_one(s, &p);
	assert_true(a->seed >= 0 && b->seed >= 0 && a->seed != b->seed);
	p.completions.group.seed = a->seed;
	c = asks_finish_one(s, &p);
	assert_string_equal(c->text, a->text);
	asks_close(s);
}

static void request_takes_defaults_from_the_configuration(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 0);
	struct ask *usual, *greedy, *asked;

	(void)state;
	usual = asks_finish_one(s, &p);
	assert_int_equal(usual->completion, 16); /* max_tokens of the rig's models */
	s->rig.models[0].sampling.has_temperature = true;
	s->rig.models[0].sampling.temperature = 0;
	s->rig.models[0].max_tokens = 9;
	bn_enter_loop();
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, false, NULL), BN_OK);
	greedy = asks_finish_one(s, &p);
	assert_int_equal(greedy->completion, 9);
	p.completions.group.has_temperature = true;
	p.completions.group.temperature = 0;
	p.completions.group.has_max_tokens = true;
	p.completions.group.max_tokens = 9;
	asked = asks_finish_one(s, &p);
	assert_string_equal(asked->text, greedy->text);
	asks_close(s);
}

/* --- refusals ------------------------------------------------------------------------------- */

static void request_says_what_does_not_fit(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 9000);
	char *longer = calloc(1, 40001);
	uint32_t bad[] = { 1, 2, 400000 };

	(void)state;
	asks_expect(s, &p, BN_E_CONTEXT, "max_tokens is 9000");
	p.completions.group.max_tokens = 10;
	p.completions.group.has_num_ctx = true;
	p.completions.group.num_ctx = 16;
	p.completions.prompt.text = bn_text_of("one two three four five six seven eight nine");
	asks_expect(s, &p, BN_E_CONTEXT, "num_ctx of the request is 16");
	memset(longer, 'x', 40000);
	p = asks_params("ann", longer, 10);
	asks_expect(s, &p, BN_E_CONTEXT, "shorten");
	p = asks_params("ann", "", 10);
	p.completions.prompt.is_ids = true;
	asks_expect(s, &p, BN_E_INVALID, "no tokens");
	p.completions.prompt.ids = (struct bn_ids){ .n = 3, .host = bad };
	asks_expect(s, &p, BN_E_INVALID, "400000");
	p = asks_params("eve", "hello", 10);
	asks_expect(s, &p, BN_E_NOT_FOUND, "eve");
	free(longer);
	asks_settle(s);
	asks_close(s);
}

static void request_does_not_wait_for_a_place_if_told_so(void **state)
{
	struct asks *s = asks_open(1);
	union bn_params p = asks_params("ann", "hello", 4000);
	struct ask *runs;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	runs = asks_start(s, &p);
	rig_until(&s->rig, ask_has_text, runs);
	p = asks_params("ann", "hello", 4);
	p.completions.group.has_queue = true;
	p.completions.group.queue = BN_QUEUE_FAIL;
	asks_expect(s, &p, BN_E_OVERLOADED, "queue");
	bn_enter_loop();
	bn_request_cancel(runs->request, BN_E_CANCELLED);
	asks_until_done(s, runs);
	asks_settle(s);
	asks_finish_one(s, &p);
	asks_close(s);
}

/* --- the end in every phase ----------------------------------------------------------------- */

/* Starts a request and lets the loop turn `turns` times before ending it. */
static void cancel_after(struct asks *s, int turns, bool orphan)
{
	union bn_params p = asks_params("ann", "some words to read before the first token", 8000);
	struct ask *a = asks_start(s, &p);

	for (int i = 0; i < turns && a->done == 0; i++) {
		rig_for(&s->rig, 1);
	}
	if (a->done > 0) { /* a machine so busy that it ended before we came to it */
		assert_false(a->failed);
		return;
	}
	bn_enter_loop();
	if (orphan) {
		bn_request_orphan(a->request);
		asks_settle(s);
		assert_int_equal(a->done, 0); /* nobody to tell */
		return;
	}
	bn_request_cancel(a->request, BN_E_CANCELLED);
	asks_until_done(s, a);
	assert_true(a->failed);
	assert_int_equal(a->err.status, BN_E_CANCELLED);
	asks_settle(s);
}

static void request_can_be_cancelled_at_any_moment(void **state)
{
	(void)state;
	for (int turns = 0; turns < 12; turns++) {
		struct asks *s = asks_open(2); /* the model is cold each time */

		cancel_after(s, turns, turns % 2 == 1);
		cancel_after(s, turns, turns % 2 == 0);
		asks_close(s);
	}
}

static void request_is_cancelled_by_deadlines_and_says_where(void **state)
{
	struct asks *s = asks_open(1);
	union bn_params p = asks_params("ann", "hello", 7000);
	union bn_params other = asks_params("ann", "hello", 8000);
	struct ask *runs;

	(void)state;
	p.completions.group.has_deadline_ms = true;
	p.completions.group.deadline_ms = 30;
	asks_expect(s, &p, BN_E_DEADLINE, "deadline_ms of 30 ms passed");
	other.completions.group.has_stream = true;
	other.completions.group.stream = true;
	runs = asks_start(s, &other);
	rig_until(&s->rig, ask_has_text, runs);
	p = asks_params("ann", "hello", 4);
	p.completions.group.has_ttft_deadline_ms = true;
	p.completions.group.ttft_deadline_ms = 30;
	asks_expect(s, &p, BN_E_DEADLINE, "while it waited for its turn");
	bn_enter_loop();
	bn_request_cancel(runs->request, BN_E_CANCELLED);
	asks_until_done(s, runs);
	/* The first token came in time: this deadline is no longer of interest. */
	p.completions.group.ttft_deadline_ms = 3000;
	asks_finish_one(s, &p);
	asks_settle(s);
	asks_close(s);
}

static void request_keeps_still_while_paused(void **state)
{
	struct asks *s = asks_open(2);
	union bn_params p = asks_params("ann", "hello", 500);
	struct ask *a;
	uint32_t tokens;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	a = asks_start(s, &p);
	rig_until(&s->rig, ask_has_text, a);
	bn_enter_loop();
	bn_request_pause(a->request, true);
	rig_for(&s->rig, 30);
	tokens = a->tokens;
	rig_for(&s->rig, 50);
	assert_int_equal(a->tokens, tokens);
	assert_true(tokens < 500);
	bn_request_pause(a->request, false);
	asks_until_done(s, a);
	assert_int_equal(a->tokens, 500);
	asks_close(s);
}

static void request_pause_before_it_runs_holds_too(void **state)
{
	struct asks *s = asks_open(2);
	union bn_params p = asks_params("ann", "hello", 50);
	struct ask *a = asks_start(s, &p);

	(void)state;
	bn_enter_loop();
	bn_request_pause(a->request, true);
	rig_for(&s->rig, 200);
	assert_int_equal(a->done, 0);
	bn_request_pause(a->request, false);
	asks_until_done(s, a);
	assert_false(a->failed);
	asks_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_answers_with_text_counts_and_seed),
		cmocka_unit_test(request_draws_a_seed_when_none_is_given),
		cmocka_unit_test(request_takes_defaults_from_the_configuration),
		cmocka_unit_test(request_says_what_does_not_fit),
		cmocka_unit_test(request_does_not_wait_for_a_place_if_told_so),
		cmocka_unit_test(request_can_be_cancelled_at_any_moment),
		cmocka_unit_test(request_is_cancelled_by_deadlines_and_says_where),
		cmocka_unit_test(request_keeps_still_while_paused),
		cmocka_unit_test(request_pause_before_it_runs_holds_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
