#include "daemon/request.h"

#include "tests/daemon/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ASKS_MAX = 64, TEXT_MAX = 16384 };

/* A request and what its sink heard. */
struct ask {
	struct bn_request *request;
	uint32_t done, events, deltas, queued, loading, progress;
	int64_t seq;
	bool failed;
	struct bn_error err;
	char text[TEXT_MAX];
	size_t n_text;
	uint32_t tokens;     /* of deltas */
	uint32_t completion; /* of the outcome */
	int64_t seed;
	const char *reason;
	uint64_t load_ns, queue_ns;
};

struct stage {
	struct rig rig;
	struct ask ask[ASKS_MAX];
	uint32_t n;
};

static void on_event(void *who, const struct bn_event *e)
{
	struct ask *a = who;

	assert_int_equal(a->done, 0);
	assert_int_equal(e->head.seq, a->seq++);
	a->events++;
	switch (e->kind) {
	case BN_EVENT_QUEUED:
		a->queued++;
		break;
	case BN_EVENT_STATUS:
		a->loading++;
		break;
	case BN_EVENT_PROGRESS:
		a->progress++;
		break;
	default:
		a->deltas++;
		a->tokens += (uint32_t)e->body.delta.n;
		assert_true(a->n_text + e->body.delta.text.n < TEXT_MAX);
		memcpy(a->text + a->n_text, e->body.delta.text.at, e->body.delta.text.n);
		a->n_text += e->body.delta.text.n;
		break;
	}
}

static void on_done(void *who, const struct bn_outcome *o, const struct bn_error *err)
{
	struct ask *a = who;

	assert_int_equal(a->done++, 0);
	a->request = NULL;
	if (err != NULL) {
		assert_null(o);
		a->failed = true;
		a->err = *err;
		return;
	}
	if (a->deltas == 0) {
		assert_true(o->text.n < TEXT_MAX);
		memcpy(a->text, o->text.at, o->text.n);
		a->n_text = o->text.n;
	}
	a->completion = o->completion_tokens;
	a->seed = o->seed;
	a->reason = o->finish_reason;
	a->load_ns = o->load_ns;
	a->queue_ns = o->queue_ns;
}

static struct stage *open_stage(uint32_t max_batch)
{
	struct stage *s = calloc(1, sizeof(*s));
	struct bn_requests_limits limits = {
		.queue = 40, .queue_per_model = 30, .queue_per_user = 20, .max_batch = max_batch
	};

	rig_up(&s->rig);
	rig_scheduler(&s->rig, 1, max_batch, 32, NULL, NULL);
	rig_model(&s->rig, "ann", 1, 8192);
	rig_model(&s->rig, "bob", 2, 8192);
	rig_registry(&s->rig, UINT64_C(256) << 20, 100, 100);
	rig_requests(&s->rig, &limits);
	return s;
}

static void close_stage(struct stage *s)
{
	rig_down(&s->rig);
	free(s);
}

/* Parameters with the least there must be. */
static union bn_params params_of(const char *model, const char *prompt, int64_t max_tokens)
{
	union bn_params p = { 0 };

	p.completions.group.has_model = true;
	p.completions.group.model = bn_text_of(model);
	p.completions.has_prompt = true;
	p.completions.prompt.text = bn_text_of(prompt);
	p.completions.group.has_max_tokens = max_tokens > 0;
	p.completions.group.max_tokens = max_tokens;
	p.completions.group.has_ignore_eos = true;
	p.completions.group.ignore_eos = true;
	p.completions.group.has_seed = true;
	p.completions.group.seed = 5;
	return p;
}

static enum bn_status start_as(struct stage *s, const union bn_params *p, uid_t uid,
			       struct ask **out, struct bn_error *err)
{
	struct ask *a = &s->ask[s->n++];
	struct bn_request_order o = { .method = BN_METHOD_COMPLETIONS,
				      .params = p,
				      .id = bn_text_of("x"),
				      .uid = uid,
				      .sink = { on_event, on_done, a } };
	enum bn_status status;

	assert_true(s->n <= ASKS_MAX);
	bn_enter_loop();
	status = bn_request_start(s->rig.requests, &o, &a->request, err);
	assert_int_equal(a->done, 0); /* never from inside */
	*out = a;
	return status;
}

static struct ask *start(struct stage *s, const union bn_params *p)
{
	struct ask *a;
	struct bn_error err;

	if (start_as(s, p, 1, &a, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return a;
}

static bool is_done(void *who)
{
	return ((struct ask *)who)->done > 0;
}

static bool has_text(void *who)
{
	return ((struct ask *)who)->deltas > 1;
}

static void until_done(struct stage *s, struct ask *a)
{
	rig_until(&s->rig, is_done, a);
}

static struct ask *finish_one(struct stage *s, const union bn_params *p)
{
	struct ask *a = start(s, p);

	until_done(s, a);
	if (a->failed) {
		fail_msg("%s", a->err.text);
	}
	return a;
}

/* Everything of finished requests has come back: from helpers and the lead too, where a cancelled
 * one may still be for a moment after it was answered. */
static bool is_settled(void *who)
{
	struct stage *s = who;

	bn_enter_loop();
	return bn_budget_used_by_kind(s->rig.budget, BN_BUDGET_KV) == 0 &&
	       bn_registry_waiting(s->rig.registry) == 0 &&
	       bn_requests_count(s->rig.requests).running == 0 &&
	       bn_requests_count(s->rig.requests).waiting == 0;
}

/* Fails when that does not happen in time. */
static void settled(struct stage *s)
{
	rig_until(&s->rig, is_settled, s);
}

/* --- the good way --------------------------------------------------------------------------- */

static void request_answers_with_text_counts_and_seed(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 20);
	struct ask *first = finish_one(s, &p);
	struct ask *second = finish_one(s, &p);
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
	streamed = finish_one(s, &p);
	assert_string_equal(streamed->text, first->text);
	assert_int_equal(streamed->tokens, 20);
	assert_true(streamed->progress > 0);
	settled(s);
	close_stage(s);
}

static void request_draws_a_seed_when_none_is_given(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 20);
	struct ask *a, *b, *c;

	(void)state;
	p.completions.group.has_seed = false;
	a = finish_one(s, &p);
	p.completions.group.has_seed = true;
	p.completions.group.seed = -1;
	b = finish_one(s, &p);
	assert_true(a->seed >= 0 && b->seed >= 0 && a->seed != b->seed);
	p.completions.group.seed = a->seed;
	c = finish_one(s, &p);
	assert_string_equal(c->text, a->text);
	close_stage(s);
}

static void request_takes_defaults_from_the_configuration(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 0);
	struct ask *usual, *greedy, *asked;

	(void)state;
	usual = finish_one(s, &p);
	assert_int_equal(usual->completion, 16); /* max_tokens of the rig's models */
	s->rig.models[0].sampling.has_temperature = true;
	s->rig.models[0].sampling.temperature = 0;
	s->rig.models[0].max_tokens = 9;
	bn_enter_loop();
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, false, NULL), BN_OK);
	greedy = finish_one(s, &p);
	assert_int_equal(greedy->completion, 9);
	p.completions.group.has_temperature = true;
	p.completions.group.temperature = 0;
	p.completions.group.has_max_tokens = true;
	p.completions.group.max_tokens = 9;
	asked = finish_one(s, &p);
	assert_string_equal(asked->text, greedy->text);
	close_stage(s);
}

/* --- refusals ------------------------------------------------------------------------------- */

static void expect(struct stage *s, const union bn_params *p, enum bn_status status,
		   const char *words)
{
	struct ask *a;
	struct bn_error err;
	enum bn_status got = start_as(s, p, 1, &a, &err);

	if (got == BN_OK) {
		until_done(s, a);
		assert_true(a->failed);
		err = a->err;
		got = err.status;
	}
	assert_int_equal(got, status);
	if (strstr(err.text, words) == NULL) {
		fail_msg("'%s' is not in '%s'", words, err.text);
	}
}

static void request_says_what_does_not_fit(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 9000);
	char *longer = calloc(1, 40001);
	uint32_t bad[] = { 1, 2, 400000 };

	(void)state;
	expect(s, &p, BN_E_CONTEXT, "max_tokens is 9000");
	p.completions.group.max_tokens = 10;
	p.completions.group.has_num_ctx = true;
	p.completions.group.num_ctx = 16;
	p.completions.prompt.text = bn_text_of("one two three four five six seven eight nine");
	expect(s, &p, BN_E_CONTEXT, "num_ctx of the request is 16");
	memset(longer, 'x', 40000);
	p = params_of("ann", longer, 10);
	expect(s, &p, BN_E_CONTEXT, "shorten");
	p = params_of("ann", "", 10);
	p.completions.prompt.is_ids = true;
	expect(s, &p, BN_E_INVALID, "no tokens");
	p.completions.prompt.ids = (struct bn_ids){ .n = 3, .host = bad };
	expect(s, &p, BN_E_INVALID, "400000");
	p = params_of("eve", "hello", 10);
	expect(s, &p, BN_E_NOT_FOUND, "eve");
	free(longer);
	settled(s);
	close_stage(s);
}

static void request_queues_are_bounded_by_user_and_model_and_in_all(void **state)
{
	struct stage *s = open_stage(1);
	union bn_params a = params_of("ann", "hello", 3);
	union bn_params b = params_of("bob", "hello", 3);
	struct ask *ask;
	struct bn_error err;

	(void)state;
	for (int i = 0; i < 20; i++) {
		start(s, &a);
	}
	assert_int_equal(start_as(s, &a, 1, &ask, &err), BN_E_QUEUE_FULL);
	assert_non_null(strstr(err.text, "20 of 20"));
	for (int i = 0; i < 10; i++) {
		assert_int_equal(start_as(s, &a, 2, &ask, &err), BN_OK);
	}
	assert_int_equal(start_as(s, &a, 3, &ask, &err), BN_E_OVERLOADED); /* 30 of the model */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(start_as(s, &b, 3, &ask, &err), BN_OK);
	}
	assert_int_equal(start_as(s, &b, 4, &ask, &err), BN_E_OVERLOADED); /* 40 in all */
	bn_enter_loop();
	assert_int_equal(bn_requests_count(s->rig.requests).waiting, 40);
	assert_int_equal(bn_requests_count_uid(s->rig.requests, 2).waiting, 10);
	for (uint32_t i = 0; i < s->n; i++) {
		if (i != 20 && i != 31 && i != 42) { /* the three that were refused */
			until_done(s, &s->ask[i]);
			assert_false(s->ask[i].failed);
		}
	}
	settled(s);
	close_stage(s);
}

static void request_does_not_wait_for_a_place_if_told_so(void **state)
{
	struct stage *s = open_stage(1);
	union bn_params p = params_of("ann", "hello", 4000);
	struct ask *runs;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	runs = start(s, &p);
	rig_until(&s->rig, has_text, runs);
	p = params_of("ann", "hello", 4);
	p.completions.group.has_queue = true;
	p.completions.group.queue = BN_QUEUE_FAIL;
	expect(s, &p, BN_E_OVERLOADED, "queue");
	bn_enter_loop();
	bn_request_cancel(runs->request, BN_E_CANCELLED);
	until_done(s, runs);
	settled(s);
	finish_one(s, &p);
	close_stage(s);
}

/* --- the end in every phase ----------------------------------------------------------------- */

/* Starts a request and lets the loop turn `turns` times before ending it. */
static void cancel_after(struct stage *s, int turns, bool orphan)
{
	union bn_params p = params_of("ann", "some words to read before the first token", 8000);
	struct ask *a = start(s, &p);

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
		settled(s);
		assert_int_equal(a->done, 0); /* nobody to tell */
		return;
	}
	bn_request_cancel(a->request, BN_E_CANCELLED);
	until_done(s, a);
	assert_true(a->failed);
	assert_int_equal(a->err.status, BN_E_CANCELLED);
	settled(s);
}

static void request_can_be_cancelled_at_any_moment(void **state)
{
	(void)state;
	for (int turns = 0; turns < 12; turns++) {
		struct stage *s = open_stage(2); /* the model is cold each time */

		cancel_after(s, turns, turns % 2 == 1);
		cancel_after(s, turns, turns % 2 == 0);
		close_stage(s);
	}
}

static void request_is_cancelled_by_deadlines_and_says_where(void **state)
{
	struct stage *s = open_stage(1);
	union bn_params p = params_of("ann", "hello", 7000);
	union bn_params other = params_of("ann", "hello", 8000);
	struct ask *runs;

	(void)state;
	p.completions.group.has_deadline_ms = true;
	p.completions.group.deadline_ms = 30;
	expect(s, &p, BN_E_DEADLINE, "deadline_ms of 30 ms passed");
	other.completions.group.has_stream = true;
	other.completions.group.stream = true;
	runs = start(s, &other);
	rig_until(&s->rig, has_text, runs);
	p = params_of("ann", "hello", 4);
	p.completions.group.has_ttft_deadline_ms = true;
	p.completions.group.ttft_deadline_ms = 30;
	expect(s, &p, BN_E_DEADLINE, "while it waited for its turn");
	bn_enter_loop();
	bn_request_cancel(runs->request, BN_E_CANCELLED);
	until_done(s, runs);
	/* The first token came in time: this deadline is no longer of interest. */
	p.completions.group.ttft_deadline_ms = 3000;
	finish_one(s, &p);
	settled(s);
	close_stage(s);
}

static void request_keeps_still_while_paused(void **state)
{
	struct stage *s = open_stage(2);
	union bn_params p = params_of("ann", "hello", 500);
	struct ask *a;
	uint32_t tokens;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	a = start(s, &p);
	rig_until(&s->rig, has_text, a);
	bn_enter_loop();
	bn_request_pause(a->request, true);
	rig_for(&s->rig, 30);
	tokens = a->tokens;
	rig_for(&s->rig, 50);
	assert_int_equal(a->tokens, tokens);
	assert_true(tokens < 500);
	bn_request_pause(a->request, false);
	until_done(s, a);
	assert_int_equal(a->tokens, 500);
	close_stage(s);
}

static void request_pause_before_it_runs_holds_too(void **state)
{
	struct stage *s = open_stage(2);
	union bn_params p = params_of("ann", "hello", 50);
	struct ask *a = start(s, &p);

	(void)state;
	bn_enter_loop();
	bn_request_pause(a->request, true);
	rig_for(&s->rig, 200);
	assert_int_equal(a->done, 0);
	bn_request_pause(a->request, false);
	until_done(s, a);
	assert_false(a->failed);
	close_stage(s);
}

static void requests_refuse_newcomers_when_draining(void **state)
{
	struct stage *s = open_stage(2);
	union bn_params p = params_of("ann", "hello", 30);
	struct ask *a = start(s, &p);

	(void)state;
	bn_enter_loop();
	bn_requests_drain(s->rig.requests);
	expect(s, &p, BN_E_DRAINING, "");
	until_done(s, a);
	assert_false(a->failed);
	close_stage(s);
}

static void requests_of_one_model_can_be_cancelled(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 3000);
	union bn_params q = params_of("bob", "hello", 30);
	struct ask *a = start(s, &p);
	struct ask *b = start(s, &q);

	(void)state;
	rig_for(&s->rig, 30);
	bn_enter_loop();
	assert_int_equal(bn_requests_cancel_model(s->rig.requests, rig_entry(&s->rig, "ann"),
						  BN_E_CANCELLED),
			 1);
	until_done(s, a);
	until_done(s, b);
	assert_true(a->failed && !b->failed);
	close_stage(s);
}

static void requests_that_hang_are_answered_without_the_lead(void **state)
{
	struct stage *s = open_stage(4);
	union bn_params p = params_of("ann", "hello", 3000);
	struct ask *a;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	a = start(s, &p);
	rig_until(&s->rig, has_text, a);
	bn_enter_loop();
	bn_requests_abandon(s->rig.requests);
	assert_int_equal(a->done, 1); /* at once */
	assert_int_equal(a->err.status, BN_E_INTERNAL);
	settled(s); /* and what it held comes back when the lead does */
	close_stage(s);
}

/* Random starts, cancels, orphans and pauses: every sink is told once, and nothing is left. */
static void requests_survive_a_random_walk(void **state)
{
	unsigned seed = 4242;

	(void)state;
	for (int round = 0; round < 4; round++) {
		struct stage *s = open_stage(3);
		bool orphan[ASKS_MAX] = { false };

		for (int step = 0; step < 300; step++) {
			uint32_t i = s->n > 0 ? (uint32_t)rand_r(&seed) % s->n : 0;
			struct ask *a = &s->ask[i];
			int what = rand_r(&seed) % 10;

			bn_enter_loop();
			if (what < 3 && s->n < ASKS_MAX) {
				union bn_params p =
					params_of(rand_r(&seed) % 2 ? "ann" : "bob",
						  "once upon a time", 1 + rand_r(&seed) % 400);
				struct bn_error err;

				p.completions.group.has_stream = true;
				p.completions.group.stream = rand_r(&seed) % 2 == 0;
				p.completions.group.has_deadline_ms = rand_r(&seed) % 4 == 0;
				p.completions.group.deadline_ms = 1 + rand_r(&seed) % 40;
				if (start_as(s, &p, (uid_t)(rand_r(&seed) % 3), &a, &err) !=
				    BN_OK) {
					s->n--;
					memset(&s->ask[s->n], 0, sizeof(s->ask[0]));
				}
			} else if (a->request != NULL && !orphan[i]) {
				if (what == 3) {
					bn_request_cancel(a->request, BN_E_CANCELLED);
				} else if (what == 4) {
					orphan[i] = true;
					bn_request_orphan(a->request);
				} else if (what < 8) {
					bn_request_pause(a->request, what == 5);
				}
			}
			rig_for(&s->rig, (uint32_t)rand_r(&seed) % 3);
		}
		for (uint32_t i = 0; i < s->n; i++) {
			if (s->ask[i].request != NULL && !orphan[i]) {
				bn_enter_loop();
				bn_request_pause(s->ask[i].request, false);
			}
		}
		rig_until(&s->rig, is_settled, s);
		for (uint32_t i = 0; i < s->n; i++) {
			if (!orphan[i]) {
				until_done(s, &s->ask[i]);
			}
			assert_int_equal(s->ask[i].done, orphan[i] ? 0 : 1);
		}
		settled(s);
		close_stage(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_answers_with_text_counts_and_seed),
		cmocka_unit_test(request_draws_a_seed_when_none_is_given),
		cmocka_unit_test(request_takes_defaults_from_the_configuration),
		cmocka_unit_test(request_says_what_does_not_fit),
		cmocka_unit_test(request_queues_are_bounded_by_user_and_model_and_in_all),
		cmocka_unit_test(request_does_not_wait_for_a_place_if_told_so),
		cmocka_unit_test(request_can_be_cancelled_at_any_moment),
		cmocka_unit_test(request_is_cancelled_by_deadlines_and_says_where),
		cmocka_unit_test(request_keeps_still_while_paused),
		cmocka_unit_test(request_pause_before_it_runs_holds_too),
		cmocka_unit_test(requests_refuse_newcomers_when_draining),
		cmocka_unit_test(requests_of_one_model_can_be_cancelled),
		cmocka_unit_test(requests_that_hang_are_answered_without_the_lead),
		cmocka_unit_test(requests_survive_a_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
