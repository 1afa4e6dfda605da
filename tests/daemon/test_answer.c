#include "daemon/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What the sink heard: events as words, the end as a struct. */
struct ear {
	char events[512];
	uint32_t done;
	struct bn_outcome outcome; /* borrowed arrays are gone afterwards */
	char text[4096];
	bool failed;
	float last_top;
	uint32_t last_token;
};

static void on_event(void *who, const struct bn_event *e)
{
	struct ear *ear = who;
	size_t n = strlen(ear->events);
	char *at = ear->events + n;
	size_t room = sizeof(ear->events) - n;

	assert_int_equal(ear->done, 0);
	switch (e->kind) {
	case BN_EVENT_QUEUED:
		snprintf(at, room, "queued %d, ", (int)e->body.queued.position);
		break;
	case BN_EVENT_STATUS:
		snprintf(at, room, "%.*s %d, ", (int)e->body.status.state.n,
			 e->body.status.state.at,
			 e->body.status.has_progress ? (int)(e->body.status.progress * 100) : -1);
		assert_true(bn_text_is(e->body.status.model, "ann"));
		break;
	case BN_EVENT_PROGRESS:
		snprintf(at, room, "read %d/%d, ", (int)e->body.progress.processed,
			 (int)e->body.progress.total);
		break;
	default:
		snprintf(at, room, "'%.*s' %d%s%s, ", (int)e->body.delta.text.n,
			 e->body.delta.text.at, (int)e->body.delta.n,
			 e->body.delta.has_tokens ? " t" : "",
			 e->body.delta.has_top_tokens ? " top" : "");
		break;
	}
}

static void on_done(void *who, const struct bn_outcome *o, const struct bn_error *err)
{
	struct ear *ear = who;

	ear->done++;
	ear->failed = err != NULL;
	assert_true((o == NULL) == (err != NULL));
	if (o != NULL) {
		ear->outcome = *o;
		memcpy(ear->text, o->text.at, o->text.n);
		ear->text[o->text.n] = '\0';
		if (o->n_tokens > 0) {
			ear->last_token = o->tokens[o->n_tokens - 1];
			ear->last_top =
				o->n_top > 0 ? o->top_logprobs[o->n_tokens * o->n_top - 1] : 0;
		}
	}
}

static struct bn_answer answer_of(struct ear *ear, bool stream, bool want_logprobs)
{
	memset(ear, 0, sizeof(*ear));
	return (struct bn_answer){ .sink = { on_event, on_done, ear },
				   .stream = stream,
				   .want_logprobs = want_logprobs };
}

/* A token of that number, with `n_top` others beside it. */
static void say(struct bn_answer *a, const char *text, uint32_t n_tokens, uint32_t token,
		uint32_t n_top)
{
	struct bn_step_event e = { .kind = BN_STEP_TOKEN,
				   .n_tokens = n_tokens,
				   .token = token,
				   .logprob = -0.5F,
				   .n_top = n_top,
				   .n_text = (uint32_t)strlen(text) };

	memcpy(e.text, text, e.n_text);
	for (uint32_t i = 0; i < n_top; i++) {
		e.top[i].token = token + i;
		e.top[i].logprob = -(float)(token + i);
	}
	assert_true(bn_answer_token(a, &e));
}

static void answer_gathers_text_when_nobody_asked_for_a_stream(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, false, false);
	struct bn_outcome o = { .finish_reason = "stop" };
	char whole[4096] = "";

	(void)state;
	bn_answer_queued(&a, 3);
	bn_answer_progress(&a, 1, 2);
	for (uint32_t i = 0; i < 300; i++) {
		char piece[16];

		snprintf(piece, sizeof(piece), "w%u ", i);
		strcat(whole, piece);
		say(&a, piece, 1, i, 0);
	}
	bn_answer_succeed(&a, &o);
	assert_int_equal(ear.done, 1);
	assert_string_equal(ear.events, "");
	assert_string_equal(ear.text, whole);
	assert_string_equal(ear.outcome.finish_reason, "stop");
	assert_false(ear.outcome.has_logprobs);
	bn_answer_finish(&a);
}

static void answer_gathers_logprobs_row_by_row(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, false, true);
	struct bn_outcome o = { .finish_reason = "length" };

	(void)state;
	for (uint32_t i = 0; i < 200; i++) { /* past two growths */
		say(&a, "", 1, i, 3);
		say(&a, "x", 0, 0, 0); /* more text of the same token */
	}
	bn_answer_succeed(&a, &o);
	assert_true(ear.outcome.has_logprobs);
	assert_int_equal(ear.outcome.n_tokens, 200);
	assert_int_equal(ear.outcome.n_top, 3);
	assert_int_equal(ear.last_token, 199);
	assert_true(ear.last_top == -201.0F);
	assert_int_equal(ear.outcome.text.n, 200);
	bn_answer_finish(&a);
}

static void answer_streams_text_and_counts_silent_tokens(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, true, false);
	struct bn_outcome o = { .finish_reason = "length" };

	(void)state;
	bn_answer_progress(&a, 4, 9);
	say(&a, "one", 1, 1, 0);
	say(&a, "", 1, 2, 0); /* half a character */
	say(&a, "", 1, 3, 0);
	say(&a, "two", 1, 4, 0);
	say(&a, "more", 0, 0, 0);
	say(&a, "", 1, 5, 0);
	bn_answer_succeed(&a, &o);
	assert_string_equal(ear.events, "read 4/9, 'one' 1, 'two' 3, 'more' 0, '' 1, ");
	assert_string_equal(ear.text, "");
	bn_answer_finish(&a);
}

static void answer_streams_logprobs_with_each_token(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, true, true);
	struct bn_outcome o = { .finish_reason = "length" };

	(void)state;
	say(&a, "a", 1, 7, 2);
	say(&a, "", 1, 8, 0);
	say(&a, "b", 0, 0, 0);
	bn_answer_succeed(&a, &o);
	assert_string_equal(ear.events, "'a' 1 t top, '' 1 t, 'b' 0, ");
	assert_false(ear.outcome.has_logprobs); /* they were told */
	bn_answer_finish(&a);
}

static void answer_tells_of_waiting_when_it_changes(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, true, false);

	(void)state;
	bn_answer_queued(&a, 0);
	bn_answer_queued(&a, 0);
	bn_answer_queued(&a, 2);
	bn_answer_loaded(&a, "ann"); /* loading was not told */
	bn_answer_loading(&a, "ann", 0.25, 1000);
	bn_answer_loading(&a, "ann", 0.5, 1099);
	bn_answer_loading(&a, "ann", 0.75, 1100);
	bn_answer_loaded(&a, "ann");
	assert_string_equal(ear.events, "queued 0, queued 2, loading 25, loading 75, ready -1, ");
	bn_answer_finish(&a);
}

static void answer_is_silent_after_the_end_and_without_a_sink(void **state)
{
	struct ear ear;
	struct bn_answer a = answer_of(&ear, true, false);
	struct bn_error err;

	(void)state;
	bn_fail(&err, BN_E_CANCELLED, "no");
	bn_answer_fail(&a, &err);
	assert_true(ear.failed);
	assert_int_equal(ear.done, 1);
	say(&a, "late", 1, 1, 0); /* on_event asserts that nothing comes after the end */
	bn_answer_queued(&a, 4);
	assert_string_equal(ear.events, "");
	bn_answer_finish(&a);
	a = answer_of(&ear, true, false);
	bn_answer_silence(&a);
	say(&a, "nobody", 1, 1, 0);
	bn_answer_fail(&a, &err);
	assert_true(a.is_over);
	assert_int_equal(ear.done, 0);
	assert_string_equal(ear.events, "");
	bn_answer_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_gathers_text_when_nobody_asked_for_a_stream),
		cmocka_unit_test(answer_gathers_logprobs_row_by_row),
		cmocka_unit_test(answer_streams_text_and_counts_silent_tokens),
		cmocka_unit_test(answer_streams_logprobs_with_each_token),
		cmocka_unit_test(answer_tells_of_waiting_when_it_changes),
		cmocka_unit_test(answer_is_silent_after_the_end_and_without_a_sink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
