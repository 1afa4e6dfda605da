/*
 * Who owns what, by state. In MODEL and MEMORY the registry has the hold in its line. In PREPARE a
 * helper has the recipe. In RUN the lead has work and sequence. In DONE a helper frees the
 * sequence, if there was one; then the hold is released (free, then release) and the request with
 * it. The answer is apart from the states: it is given at the earliest moment, once.
 */
#include "daemon/request.h"

#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/recipe.h"
#include "proto/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum state { STATE_MODEL, STATE_PREPARE, STATE_MEMORY, STATE_RUN, STATE_DONE, STATES };

static const bool may_follow[STATES][STATES] = {
	[STATE_MODEL] = { [STATE_PREPARE] = true, [STATE_DONE] = true },
	[STATE_PREPARE] = { [STATE_MEMORY] = true, [STATE_DONE] = true },
	/* Back to the model: its file changed while we waited for memory. */
	[STATE_MEMORY] = { [STATE_RUN] = true, [STATE_MODEL] = true, [STATE_DONE] = true },
	[STATE_RUN] = { [STATE_DONE] = true },
};

struct bn_request {
	struct bn_request_context *context;
	struct bn_place place;
	struct bn_answer answer;
	enum state state;
	bool paused;
	bool begun; /* the first row is being computed */
	/* What was asked. */
	uint64_t number;
	bool want_progress;
	bool has_keep_alive;
	int64_t keep_alive_ms;
	struct bn_recipe *recipe;
	struct bn_deadline deadline, first_token;
	/* The end that was asked for; status BN_OK: none yet. */
	struct bn_error end;
	/* Model and memory. */
	struct bn_hold hold;
	char digest[BN_DIGEST_TEXT_BYTES]; /* of what the prompt was made for */
	/* Preparing and freeing. */
	struct bn_job job;
	const struct bn_model *model;
	struct bn_recipe_defaults defaults;
	atomic_bool stop;
	enum bn_status prepared;
	struct bn_error prepare_error;
	/* Running. */
	struct bn_work work;
	/* Times, CLOCK_MONOTONIC. */
	uint64_t start_ns, load_ns;
	bool was_ready;
	uint64_t last_token_ns;
	uint32_t n_completion;
};

#define REQUEST_OF(pointer, member) BN_JOB_OWNER(pointer, struct bn_request, member)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void enter(struct bn_request *r, enum state state) BN_ON_LOOP
{
	bn_assert(may_follow[r->state][state]);
	r->state = state;
}

/* --- the answer ----------------------------------------------------------------------------- */

/* Writes into the books that r is being answered, with a finish reason or an error's word. */
static void book(struct bn_request *r, const char *word) BN_ON_LOOP
{
	struct bn_request_context *c = r->context;
	double seconds = (double)(now_ns() - r->start_ns) / 1e9;

	bn_deadline_clear(&c->deadlines, &r->deadline);
	bn_deadline_clear(&c->deadlines, &r->first_token);
	bn_admission_answered(&c->admission, &r->place);
	bn_metrics_add(c->metrics, BN_METRIC_REQUESTS, word, 1);
	bn_metrics_observe(c->metrics, BN_METRIC_LATENCY, NULL, seconds);
	bn_log(BN_LOG_DEBUG, "request %" PRIu64 " of uid %u: %s, %" PRIu32 " tokens, %.1f ms",
	       r->number, (unsigned)r->place.uid, word, r->n_completion, seconds * 1e3);
}

static void answer_error(struct bn_request *r, const struct bn_error *err) BN_ON_LOOP
{
	struct bn_request_context *c = r->context;

	if (r->answer.is_over) {
		return; /* abandoned, and back after all */
	}
	book(r, bn_status_word(err->status));
	if (bn_status_code(err->status) == 499) {
		c->totals.cancelled++;
		bn_metrics_add(c->metrics, BN_METRIC_WASTED_TOKENS, "decode", r->n_completion);
	} else {
		c->totals.failed++;
	}
	bn_answer_fail(&r->answer, err);
}

static void answer_outcome(struct bn_request *r) BN_ON_LOOP
{
	const struct bn_sequence *seq = r->work.seq;
	uint64_t waited = seq->first_step_ns - r->start_ns;
	struct bn_outcome o = {
		.entry = r->hold.entry,
		.finish_reason = bn_finish_word(seq->finish),
		.seed = bn_recipe_seed(r->recipe),
		.prompt_tokens = seq->n_prompt,
		.completion_tokens = seq->n_generated,
		.queue_ns = waited > r->load_ns ? waited - r->load_ns : 0,
		.load_ns = r->load_ns,
		.prefill_ns = seq->prefill_ns,
		.decode_ns = seq->decode_ns,
		.vector = seq->vector,
		.dim = seq->model->hyper.dim,
		.was_cut = bn_recipe_was_cut(r->recipe),
	};

	if (r->answer.is_over) {
		return; /* abandoned, and back after all */
	}
	book(r, o.finish_reason);
	bn_answer_succeed(&r->answer, &o);
}

/* --- the end -------------------------------------------------------------------------------- */

static void dispose(struct bn_request *r) BN_ON_LOOP
{
	struct bn_request_context *c = r->context;

	bn_assert(r->state == STATE_DONE && r->work.seq == NULL);
	bn_registry_release(c->registry, &r->hold);
	bn_admission_leave(&c->admission, &r->place);
	bn_recipe_free(r->recipe);
	bn_answer_finish(&r->answer);
	free(r);
	c->gone(c->who);
}

static void run_free(struct bn_job *job) BN_ON_HELPER
{
	struct bn_request *r = REQUEST_OF(job, job);

	bn_sequence_free(r->work.seq);
	r->work.seq = NULL;
}

static void freed(struct bn_job *job) BN_ON_LOOP
{
	dispose(REQUEST_OF(job, job));
}

/* Nothing is out any more: the way every request goes. */
static void finish(struct bn_request *r) BN_ON_LOOP
{
	enter(r, STATE_DONE);
	if (r->work.seq != NULL) {
		bn_job_start(r->context->loop, &r->job, run_free, freed);
	} else {
		dispose(r);
	}
}

static void fail(struct bn_request *r, const struct bn_error *err) BN_ON_LOOP
{
	answer_error(r, err);
	finish(r);
}

/* Writes the reason down and ends it, or has it handed back. Called from anywhere on the loop but
 * bn_request_start; r may be gone afterwards. */
static void end(struct bn_request *r, const struct bn_error *reason) BN_ON_LOOP
{
	if (r->end.status != BN_OK || r->state == STATE_DONE) {
		return;
	}
	r->end = *reason;
	bn_deadline_clear(&r->context->deadlines, &r->deadline);
	bn_deadline_clear(&r->context->deadlines, &r->first_token);
	switch (r->state) {
	case STATE_PREPARE:
		atomic_store_explicit(&r->stop, true, memory_order_relaxed);
		break;
	case STATE_RUN:
		bn_scheduler_cancel(r->context->scheduler, r->number, reason->status);
		break;
	default:
		fail(r, &r->end);
		break;
	}
}

static void end_for(struct bn_request *r, enum bn_status reason) BN_ON_LOOP
{
	struct bn_error err;

	bn_fail(&err, reason, "%s", bn_status_sentence(reason));
	end(r, &err);
}

void bn_request_cancel(struct bn_request *r, enum bn_status reason)
{
	end_for(r, reason);
}

void bn_request_orphan(struct bn_request *r)
{
	bn_answer_silence(&r->answer);
	end_for(r, BN_E_CANCELLED);
}

void bn_request_pause(struct bn_request *r, bool pause)
{
	if (r->paused == pause) {
		return;
	}
	r->paused = pause;
	if (r->state == STATE_RUN) {
		bn_scheduler_pause(r->context->scheduler, r->number, pause);
	}
}

void bn_request_abandon(struct bn_request *r, const struct bn_error *err)
{
	if (r->state == STATE_RUN) {
		end(r, err);
		answer_error(r, err);
	}
}

/* --- deadlines ------------------------------------------------------------------------------ */

static const char *where(const struct bn_request *r)
{
	switch (r->state) {
	case STATE_MODEL:
		return "while it waited for its model";
	case STATE_PREPARE:
		return "while its prompt was prepared";
	case STATE_MEMORY:
		return "while it waited for memory";
	default:
		return r->begun ? "while it was computed" : "while it waited for its turn";
	}
}

static void pass(struct bn_request *r, const char *what, uint32_t ms) BN_ON_LOOP
{
	struct bn_error err;

	bn_fail(&err, BN_E_DEADLINE, "%s of %" PRIu32 " ms passed %s", what, ms, where(r));
	bn_error_number(&err, "deadline_ms", ms);
	end(r, &err);
}

static void on_deadline(struct bn_deadline *d)
{
	bn_enter_loop();
	pass(REQUEST_OF(d, deadline), "deadline_ms", d->ms);
}

static void on_first_token_due(struct bn_deadline *d)
{
	bn_enter_loop();
	pass(REQUEST_OF(d, first_token), "ttft_deadline_ms", d->ms);
}

/* --- running -------------------------------------------------------------------------------- */

static void on_token(struct bn_request *r, const struct bn_step_event *e) BN_ON_LOOP
{
	struct bn_request_context *c = r->context;
	uint64_t now = now_ns();

	if (e->n_tokens > 0) {
		bool first = r->n_completion == 0;

		bn_metrics_observe(c->metrics, first ? BN_METRIC_TTFT : BN_METRIC_TPOT, NULL,
				   (double)(now - (first ? r->start_ns : r->last_token_ns)) / 1e9);
		r->last_token_ns = now;
		r->n_completion += e->n_tokens;
		c->totals.completion_tokens += e->n_tokens;
		bn_metrics_add(c->metrics, BN_METRIC_GENERATION_TOKENS, NULL, e->n_tokens);
		bn_deadline_clear(&c->deadlines, &r->first_token);
	}
	if (!bn_answer_token(&r->answer, e)) {
		struct bn_error err;

		bn_fail(&err, BN_E_MEMORY, "no memory to collect the answer; ask for a stream");
		end(r, &err);
	}
}

static void on_done(struct bn_request *r) BN_ON_LOOP
{
	const struct bn_sequence *seq = r->work.seq;
	uint32_t read = seq->n_past < seq->n_prompt ? seq->n_past : seq->n_prompt;

	r->context->totals.prompt_tokens += read;
	bn_metrics_add(r->context->metrics, BN_METRIC_PROMPT_TOKENS, NULL, read);
	switch (seq->finish) {
	case BN_FINISH_STOP:
	case BN_FINISH_LENGTH:
	case BN_FINISH_VECTOR:
		if (r->end.status != BN_OK && r->end.status != BN_E_CANCELLED) {
			answer_error(r, &r->end); /* too late, or not fit to be told */
		} else {
			answer_outcome(r);
		}
		break;
	case BN_FINISH_CANCELLED:
		answer_error(r, &r->end);
		break;
	default:
		answer_error(r, &seq->error);
		break;
	}
	finish(r);
}

void bn_request_on_step(const struct bn_step_event *event)
{
	struct bn_request *r = REQUEST_OF(event->work, work);

	bn_assert(r->state == STATE_RUN && r->number == event->id);
	switch (event->kind) {
	case BN_STEP_BEGUN:
		r->begun = true;
		bn_metrics_observe(r->context->metrics, BN_METRIC_QUEUE_WAIT,
				   r->place.priority == BN_PRIORITY_INTERACTIVE ? "interactive"
				   : r->place.priority == BN_PRIORITY_BATCH     ? "batch"
										: "normal",
				   (double)(now_ns() - r->start_ns) / 1e9);
		break;
	case BN_STEP_PROGRESS:
		bn_answer_progress(&r->answer, event->n_past, event->n_prompt);
		break;
	case BN_STEP_TOKEN:
		on_token(r, event);
		break;
	default:
		on_done(r);
		break;
	}
}

/* The bytes are ours, the model is in memory: off it goes. */
static void run(struct bn_request *r) BN_ON_LOOP
{
	struct bn_entry *e = r->hold.entry;
	struct bn_sequence_config config = *bn_recipe_config(r->recipe);
	struct bn_error err;
	enum bn_status status;

	config.id = r->number;
	status = bn_sequence_new(&r->work.seq, e->model, &config, &err);
	if (status != BN_OK) {
		fail(r, &err);
		return;
	}
	bn_recipe_settle(r->recipe);
	r->work.id = r->number;
	r->work.tenant = e->tenant;
	r->work.uid = r->place.uid;
	r->work.weight = (uint32_t)e->config.weight;
	r->work.want_progress = r->answer.stream && r->want_progress;
	enter(r, STATE_RUN);
	r->work.start_paused = r->paused;
	bn_scheduler_submit(r->context->scheduler, &r->work);
	bn_admission_run(&r->context->admission, &r->place);
}

/* --- preparing ------------------------------------------------------------------------------ */

static void run_prepare(struct bn_job *job) BN_ON_HELPER
{
	struct bn_request *r = REQUEST_OF(job, job);

	r->prepared =
		bn_recipe_prepare(r->recipe, r->model, &r->defaults, &r->stop, &r->prepare_error);
}

static void prepared(struct bn_job *job) BN_ON_LOOP
{
	struct bn_request *r = REQUEST_OF(job, job);

	if (r->end.status != BN_OK) {
		fail(r, &r->end);
	} else if (r->prepared != BN_OK) {
		fail(r, &r->prepare_error);
	} else {
		enter(r, STATE_MEMORY);
		bn_registry_reserve(r->context->registry, &r->hold, bn_recipe_need(r->recipe));
	}
}

static void prepare(struct bn_request *r) BN_ON_LOOP
{
	struct bn_entry *e = r->hold.entry;

	enter(r, STATE_PREPARE);
	if (!r->was_ready && r->load_ns == 0) {
		r->load_ns = now_ns() - r->start_ns;
	}
	bn_answer_loaded(&r->answer, e->config.name);
	if (r->has_keep_alive) {
		bn_registry_keep_alive(r->context->registry, e, r->keep_alive_ms);
	}
	memcpy(r->digest, e->info.digest, sizeof(r->digest));
	r->model = e->model;
	r->defaults.sampling = e->config.sampling;
	r->defaults.max_tokens = e->config.max_tokens;
	bn_job_start(r->context->loop, &r->job, run_prepare, prepared);
}

/* --- model and memory ----------------------------------------------------------------------- */

static void on_granted(struct bn_hold *h)
{
	struct bn_request *r = REQUEST_OF(h, hold);
	struct bn_entry *e = h->entry;

	bn_enter_loop();
	if (r->state == STATE_MODEL) {
		prepare(r);
	} else if (memcmp(r->digest, e->info.digest, sizeof(r->digest)) != 0) {
		/* It left and came back as another file: the tokens may mean something else. */
		bn_registry_release(r->context->registry, h);
		enter(r, STATE_MODEL);
		bn_registry_hold(r->context->registry, h, e);
	} else {
		run(r);
	}
}

static void on_failed(struct bn_hold *h, const struct bn_error *err)
{
	bn_enter_loop();
	fail(REQUEST_OF(h, hold), err);
}

static void on_waiting(struct bn_hold *h, uint32_t position, double loaded)
{
	struct bn_request *r = REQUEST_OF(h, hold);

	bn_enter_loop();
	if (loaded >= 0.0) {
		bn_answer_loading(&r->answer, h->entry->config.name, loaded,
				  uv_now(r->context->loop));
	} else {
		bn_answer_queued(&r->answer, position);
	}
}

static const struct bn_hold_hooks hold_hooks = {
	.granted = on_granted,
	.failed = on_failed,
	.waiting = on_waiting,
};

/* --- starting ------------------------------------------------------------------------------- */

static const struct bn_params_generation *given_of(const struct bn_request_order *o)
{
	return o->method == BN_METHOD_CHAT_COMPLETIONS ? &o->params->chat_completions.group
						       : &o->params->completions.group;
}

static void set_up(struct bn_request *r, const struct bn_request_order *o,
		   struct bn_entry *e) BN_ON_LOOP
{
	const struct bn_params_generation *g = given_of(o);

	r->place.uid = o->uid;
	r->place.entry = e;
	r->place.priority = g->has_priority ? (enum bn_priority)g->priority : BN_PRIORITY_NORMAL;
	r->answer.sink = o->sink;
	r->answer.stream = g->has_stream && g->stream;
	r->answer.want_logprobs = g->has_logprobs;
	r->paused = o->paused;
	r->want_progress = g->has_return_progress && g->return_progress;
	r->has_keep_alive = g->has_keep_alive;
	r->keep_alive_ms = g->keep_alive;
	r->was_ready = e->state == BN_ENTRY_READY;
	r->start_ns = now_ns();
	r->deadline.passed = on_deadline;
	r->first_token.passed = on_first_token_due;
	r->hold.hooks = &hold_hooks;
	r->hold.uid = o->uid;
	r->hold.no_load = g->has_autoload && !g->autoload;
	r->hold.no_wait = g->has_queue && g->queue == BN_QUEUE_FAIL;
}

enum bn_status bn_request_start(struct bn_request_context *context,
				const struct bn_request_order *order, struct bn_request **out,
				struct bn_error *err)
{
	const struct bn_params_generation *g = given_of(order);
	struct bn_request *r;
	struct bn_entry *e;
	enum bn_status status;

	status = bn_registry_find(context->registry, g->model, &e, err);
	if (status != BN_OK) {
		return status;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the request");
	}
	r->context = context;
	set_up(r, order, e);
	status = bn_recipe_new(&r->recipe, order->method, order->params, err);
	if (status == BN_OK && order->may_cut) {
		bn_recipe_allow_cut(r->recipe);
	}
	if (status == BN_OK) {
		r->place.prompt_bytes = bn_recipe_bytes(r->recipe);
		status = bn_admission_enter(&context->admission, &r->place, r->hold.no_wait, err);
	}
	if (status != BN_OK) {
		bn_recipe_free(r->recipe);
		free(r);
		return status;
	}
	r->number = ++context->totals.requests;
	bn_registry_hold(context->registry, &r->hold, e);
	if (g->has_deadline_ms) {
		bn_deadline_set(&context->deadlines, &r->deadline, (uint32_t)g->deadline_ms);
	}
	if (g->has_ttft_deadline_ms) {
		bn_deadline_set(&context->deadlines, &r->first_token,
				(uint32_t)g->ttft_deadline_ms);
	}
	*out = r;
	return BN_OK;
}

struct bn_request *bn_request_of(struct bn_place *p)
{
	return REQUEST_OF(p, place);
}
