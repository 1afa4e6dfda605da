#include "daemon/answer.h"

#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>

enum { LOADING_MS = 100 }; /* between two `status` events */

/* --- telling -------------------------------------------------------------------------------- */

static void emit(struct bn_answer *a, const struct bn_event *event) BN_ON_LOOP
{
	if (a->stream && !a->is_over && !a->is_silent) {
		a->sink.event(a->sink.who, event);
	}
}

static void send_status(struct bn_answer *a, const char *state, const char *model,
			double progress) BN_ON_LOOP
{
	struct bn_event e = { .kind = BN_EVENT_STATUS };

	e.body.status.has_state = true;
	e.body.status.state = bn_text_of(state);
	e.body.status.has_model = true;
	e.body.status.model = bn_text_of(model);
	e.body.status.has_progress = progress >= 0.0;
	e.body.status.progress = progress;
	emit(a, &e);
}

/* `step` is NULL for tokens that had no text of their own. */
static void send_delta(struct bn_answer *a, const struct bn_step_event *step) BN_ON_LOOP
{
	struct bn_event e = { .kind = BN_EVENT_DELTA };
	uint32_t tops[BN_SAMPLER_LOGPROBS_MAX];
	float top_logprobs[BN_SAMPLER_LOGPROBS_MAX];
	struct bn_event_delta *d = &e.body.delta;

	d->has_text = true;
	d->text = step != NULL ? (struct bn_text){ step->text, step->n_text } : bn_text_of("");
	d->has_n = true;
	d->n = a->untold;
	a->untold = 0;
	if (step != NULL && a->want_logprobs && step->n_tokens > 0) {
		for (uint32_t i = 0; i < step->n_top; i++) {
			tops[i] = step->top[i].token;
			top_logprobs[i] = step->top[i].logprob;
		}
		d->has_tokens = true;
		d->tokens = (struct bn_bytes){ (const unsigned char *)&step->token, 4 };
		d->has_logprobs = true;
		d->logprobs = (struct bn_bytes){ (const unsigned char *)&step->logprob, 4 };
		d->has_top_tokens = step->n_top > 0;
		d->top_tokens =
			(struct bn_bytes){ (const unsigned char *)tops, (size_t)step->n_top * 4 };
		d->has_top_logprobs = step->n_top > 0;
		d->top_logprobs = (struct bn_bytes){ (const unsigned char *)top_logprobs,
						     (size_t)step->n_top * 4 };
	}
	emit(a, &e);
}

void bn_answer_queued(struct bn_answer *a, uint32_t position)
{
	struct bn_event e = { .kind = BN_EVENT_QUEUED };

	if (a->told_position && a->position == position) {
		return;
	}
	a->told_position = true;
	a->position = position;
	e.body.queued.has_position = true;
	e.body.queued.position = position;
	emit(a, &e);
}

void bn_answer_loading(struct bn_answer *a, const char *model, double progress, uint64_t now_ms)
{
	if (a->told_loading && now_ms - a->loading_ms < LOADING_MS) {
		return;
	}
	a->told_loading = true;
	a->loading_ms = now_ms;
	send_status(a, "loading", model, progress);
}

void bn_answer_loaded(struct bn_answer *a, const char *model)
{
	if (a->told_loading) {
		send_status(a, "ready", model, -1.0);
	}
}

void bn_answer_progress(struct bn_answer *a, uint32_t n_past, uint32_t n_prompt)
{
	struct bn_event e = { .kind = BN_EVENT_PROGRESS };

	e.body.progress.has_processed = true;
	e.body.progress.processed = n_past;
	e.body.progress.has_total = true;
	e.body.progress.total = n_prompt;
	e.body.progress.has_cached = true;
	emit(a, &e);
}

/* --- gathering ------------------------------------------------------------------------------ */

/* Every token of an answer has as many beside it as the first. */
static bool keep_token(struct bn_answer *a, const struct bn_step_event *e) BN_ON_LOOP
{
	uint32_t i = a->n_tokens;

	if (i == a->token_room) {
		uint32_t room = i == 0 ? 64 : i * 2;
		size_t tops = (size_t)room * (e->n_top > 0 ? e->n_top : 1);
		void *tokens = realloc(a->tokens, room * sizeof(uint32_t));
		void *logprobs, *top_tokens, *top_logprobs;

		a->tokens = tokens != NULL ? tokens : a->tokens;
		logprobs = realloc(a->logprobs, room * sizeof(float));
		a->logprobs = logprobs != NULL ? logprobs : a->logprobs;
		top_tokens = realloc(a->top_tokens, tops * sizeof(uint32_t));
		a->top_tokens = top_tokens != NULL ? top_tokens : a->top_tokens;
		top_logprobs = realloc(a->top_logprobs, tops * sizeof(float));
		a->top_logprobs = top_logprobs != NULL ? top_logprobs : a->top_logprobs;
		if (tokens == NULL || logprobs == NULL || top_tokens == NULL ||
		    top_logprobs == NULL) {
			return false;
		}
		a->token_room = room;
	}
	bn_assert(i == 0 || e->n_top == a->n_top);
	a->n_top = e->n_top;
	a->tokens[i] = e->token;
	a->logprobs[i] = e->logprob;
	for (uint32_t k = 0; k < e->n_top; k++) {
		a->top_tokens[(size_t)i * e->n_top + k] = e->top[k].token;
		a->top_logprobs[(size_t)i * e->n_top + k] = e->top[k].logprob;
	}
	a->n_tokens++;
	return true;
}

static bool keep_text(struct bn_answer *a, const struct bn_step_event *e) BN_ON_LOOP
{
	if (a->n_text + e->n_text > a->text_room) {
		size_t room = (a->n_text + e->n_text) * 2;
		char *text = realloc(a->text, room);

		if (text == NULL) {
			return false;
		}
		a->text = text;
		a->text_room = room;
	}
	memcpy(a->text + a->n_text, e->text, e->n_text);
	a->n_text += e->n_text;
	return true;
}

bool bn_answer_token(struct bn_answer *a, const struct bn_step_event *step)
{
	bool with_logprobs = a->want_logprobs && step->n_tokens > 0;

	a->untold += step->n_tokens;
	if (a->stream) {
		if (step->n_text > 0 || with_logprobs) {
			send_delta(a, step);
		}
		return true;
	}
	return (step->n_text == 0 || keep_text(a, step)) && (!with_logprobs || keep_token(a, step));
}

/* --- the end -------------------------------------------------------------------------------- */

static void done(struct bn_answer *a, const struct bn_outcome *outcome,
		 const struct bn_error *err) BN_ON_LOOP
{
	bn_assert(!a->is_over);
	a->is_over = true;
	if (!a->is_silent) {
		a->sink.done(a->sink.who, outcome, err);
	}
}

void bn_answer_succeed(struct bn_answer *a, struct bn_outcome *o)
{
	if (a->untold > 0) {
		send_delta(a, NULL);
	}
	o->text = (struct bn_text){ a->text != NULL ? a->text : "", a->n_text };
	o->has_logprobs = a->want_logprobs && !a->stream;
	o->n_tokens = a->n_tokens;
	o->n_top = a->n_top;
	o->tokens = a->tokens;
	o->logprobs = a->logprobs;
	o->top_tokens = a->top_tokens;
	o->top_logprobs = a->top_logprobs;
	done(a, o, NULL);
}

void bn_answer_fail(struct bn_answer *a, const struct bn_error *err)
{
	done(a, NULL, err);
}

void bn_answer_silence(struct bn_answer *a)
{
	a->is_silent = true;
}

void bn_answer_finish(struct bn_answer *a)
{
	free(a->text);
	free(a->tokens);
	free(a->logprobs);
	free(a->top_tokens);
	free(a->top_logprobs);
}
