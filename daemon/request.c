/*
 * Who owns what, by state. In MODEL and MEMORY the registry has the hold in its line. In PREPARE a
 * helper has the recipe. In RUN the lead has work and sequence. In DONE a helper frees the
 * sequence, if there was one; then the hold is released (free, then release) and the request with
 * it. `answered` is apart from the states: the sink is told at the earliest moment, once.
 */
#include "daemon/request.h"

#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/recipe.h"
#include "proto/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	QUEUE_BYTES_MAX = 64 << 20, /* prompts that wait, all together */
	STATUS_MS = 100,            /* between two `status` events     */
};

enum state { STATE_MODEL, STATE_PREPARE, STATE_MEMORY, STATE_RUN, STATE_DONE, STATES };

static const bool may_follow[STATES][STATES] = {
	[STATE_MODEL] = { [STATE_PREPARE] = true, [STATE_DONE] = true },
	[STATE_PREPARE] = { [STATE_MEMORY] = true, [STATE_DONE] = true },
	/* Back to the model: its file changed while we waited for memory. */
	[STATE_MEMORY] = { [STATE_RUN] = true, [STATE_MODEL] = true, [STATE_DONE] = true },
	[STATE_RUN] = { [STATE_DONE] = true },
};

struct bn_request {
	struct bn_requests *all;
	struct bn_request *before, *after;
	enum state state;
	struct bn_sink sink;
	bool answered;
	bool orphan;
	bool paused;
	bool begun; /* the first row is being computed */
	/* What was asked. */
	uint64_t number;
	char id[BN_LIMIT_ID_BYTES];
	uint32_t id_bytes;
	uid_t uid;
	enum bn_priority priority;
	bool stream, want_progress, want_logprobs;
	bool has_keep_alive;
	int64_t keep_alive_ms;
	struct bn_recipe *recipe;
	size_t prompt_bytes; /* counted in all->queue_bytes */
	/* Deadlines in loop ms; 0: none. */
	uint64_t deadline_ms, first_token_ms;
	uint32_t asked_deadline_ms, asked_first_ms;
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
	/* What was told. */
	int64_t seq;
	uint64_t status_ms;
	bool told_loading;
	uint32_t position;
	uint32_t untold; /* tokens since the last delta */
	/* What is kept for the result. */
	char *text;
	size_t n_text, text_room;
	uint32_t *tokens, *top_tokens;
	float *logprobs, *top_logprobs;
	uint32_t n_tokens, token_room, n_top;
	/* Times, CLOCK_MONOTONIC. */
	uint64_t start_ns, load_ns;
	bool was_ready;
	uint64_t last_token_ns;
	uint32_t n_completion;
};

struct bn_requests {
	struct bn_requests_config config;
	uv_timer_t deadlines;
	struct bn_request *first, *last;
	uint64_t number;
	size_t queue_bytes;
	struct bn_requests_totals totals;
	bool draining, closing;
	void (*closed)(void *who);
	void *closed_who;
};

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

/* --- counting ------------------------------------------------------------------------------- */

static void count_one(struct bn_requests_count *c, const struct bn_request *r)
{
	if (r->answered) {
		return;
	}
	if (r->state == STATE_RUN) {
		c->running++;
	} else {
		c->waiting++;
		c->waiting_by_priority[r->priority]++;
	}
}

struct bn_requests_count bn_requests_count(const struct bn_requests *q)
{
	struct bn_requests_count c = { 0 };

	for (const struct bn_request *r = q->first; r != NULL; r = r->after) {
		count_one(&c, r);
	}
	return c;
}

struct bn_requests_count bn_requests_count_uid(const struct bn_requests *q, uid_t uid)
{
	struct bn_requests_count c = { 0 };

	for (const struct bn_request *r = q->first; r != NULL; r = r->after) {
		if (r->uid == uid) {
			count_one(&c, r);
		}
	}
	return c;
}

struct bn_requests_count bn_requests_count_model(const struct bn_requests *q,
						 const struct bn_entry *e)
{
	struct bn_requests_count c = { 0 };

	for (const struct bn_request *r = q->first; r != NULL; r = r->after) {
		if (r->hold.entry == e) {
			count_one(&c, r);
		}
	}
	return c;
}

struct bn_requests_totals bn_requests_totals(const struct bn_requests *q)
{
	return q->totals;
}

static void gauge(struct bn_requests *q) BN_ON_LOOP
{
	struct bn_requests_count c;

	if (q->config.metrics != NULL) {
		c = bn_requests_count(q);
		bn_metrics_set(q->config.metrics, BN_METRIC_REQUESTS_RUNNING, NULL, c.running);
		bn_metrics_set(q->config.metrics, BN_METRIC_REQUESTS_WAITING, NULL, c.waiting);
	}
}

/* --- telling -------------------------------------------------------------------------------- */

static void emit(struct bn_request *r, struct bn_event *event) BN_ON_LOOP
{
	if (r->stream && !r->answered && !r->orphan) {
		event->head.has_id = true;
		event->head.id = (struct bn_text){ r->id, r->id_bytes };
		event->head.has_seq = true;
		event->head.seq = r->seq++;
		r->sink.event(r->sink.who, event);
	}
}

static void send_queued(struct bn_request *r, uint32_t position) BN_ON_LOOP
{
	struct bn_event e = { .kind = BN_EVENT_QUEUED };

	e.body.queued.has_position = true;
	e.body.queued.position = position;
	emit(r, &e);
}

static void send_status(struct bn_request *r, const char *state, double progress) BN_ON_LOOP
{
	struct bn_event e = { .kind = BN_EVENT_STATUS };

	e.body.status.has_state = true;
	e.body.status.state = bn_text_of(state);
	e.body.status.has_model = true;
	e.body.status.model = bn_text_of(r->hold.entry->config.name);
	e.body.status.has_progress = progress >= 0.0;
	e.body.status.progress = progress;
	emit(r, &e);
}

static void send_delta(struct bn_request *r, const struct bn_step_event *step) BN_ON_LOOP
{
	struct bn_event e = { .kind = BN_EVENT_DELTA };
	uint32_t tops[BN_SAMPLER_LOGPROBS_MAX];
	float top_logprobs[BN_SAMPLER_LOGPROBS_MAX];
	struct bn_event_delta *d = &e.body.delta;

	d->has_text = true;
	d->text = step != NULL ? (struct bn_text){ step->text, step->n_text } : bn_text_of("");
	d->has_n = true;
	d->n = r->untold;
	r->untold = 0;
	if (step != NULL && r->want_logprobs && step->n_tokens > 0) {
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
	emit(r, &e);
}

/* The one place that calls sink.done. */
static void answer(struct bn_request *r, const struct bn_outcome *outcome,
		   const struct bn_error *error) BN_ON_LOOP
{
	struct bn_requests *q = r->all;
	const char *word = outcome != NULL ? outcome->finish_reason : bn_status_word(error->status);

	if (r->answered) {
		return;
	}
	r->answered = true;
	bn_metrics_add(q->config.metrics, BN_METRIC_REQUESTS, word, 1);
	bn_metrics_observe(q->config.metrics, BN_METRIC_LATENCY, NULL,
			   (double)(now_ns() - r->start_ns) / 1e9);
	if (error != NULL && bn_status_code(error->status) == 499) {
		q->totals.cancelled++;
		bn_metrics_add(q->config.metrics, BN_METRIC_WASTED_TOKENS, "decode",
			       r->n_completion);
	} else if (error != NULL) {
		q->totals.failed++;
	}
	gauge(q);
	bn_log(BN_LOG_DEBUG, "request %" PRIu64 " of uid %u: %s, %" PRIu32 " tokens, %.1f ms",
	       r->number, (unsigned)r->uid, word, r->n_completion,
	       (double)(now_ns() - r->start_ns) / 1e6);
	if (!r->orphan) {
		r->sink.done(r->sink.who, outcome, error);
	}
}

/* --- the end -------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
	struct bn_requests *q = handle->data;

	q->closed(q->closed_who);
	free(q);
}

static void dispose(struct bn_request *r) BN_ON_LOOP
{
	struct bn_requests *q = r->all;

	bn_assert(r->state == STATE_DONE && r->answered && r->work.seq == NULL);
	bn_registry_release(q->config.registry, &r->hold);
	*(r->before != NULL ? &r->before->after : &q->first) = r->after;
	*(r->after != NULL ? &r->after->before : &q->last) = r->before;
	q->queue_bytes -= r->prompt_bytes;
	bn_recipe_free(r->recipe);
	free(r->text);
	free(r->tokens);
	free(r->logprobs);
	free(r->top_tokens);
	free(r->top_logprobs);
	free(r);
	gauge(q);
	if (q->closing && q->first == NULL) {
		uv_close((uv_handle_t *)&q->deadlines, on_timer_closed);
	}
}

static void run_free(struct bn_job *job) BN_ON_HELPER
{
	struct bn_request *r = BN_JOB_OWNER(job, struct bn_request, job);

	bn_sequence_free(r->work.seq);
	r->work.seq = NULL;
}

static void freed(struct bn_job *job) BN_ON_LOOP
{
	dispose(BN_JOB_OWNER(job, struct bn_request, job));
}

/* Nothing is out any more: the way every request goes. */
static void finish(struct bn_request *r) BN_ON_LOOP
{
	enter(r, STATE_DONE);
	if (r->work.seq != NULL) {
		bn_job_start(r->all->config.loop, &r->job, run_free, freed);
	} else {
		dispose(r);
	}
}

static void fail(struct bn_request *r, const struct bn_error *err) BN_ON_LOOP
{
	answer(r, NULL, err);
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
	switch (r->state) {
	case STATE_PREPARE:
		atomic_store_explicit(&r->stop, true, memory_order_relaxed);
		break;
	case STATE_RUN:
		bn_scheduler_cancel(r->all->config.scheduler, r->number, reason->status);
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
	r->orphan = true;
	end_for(r, BN_E_CANCELLED);
}

void bn_request_pause(struct bn_request *r, bool pause)
{
	if (r->paused == pause) {
		return;
	}
	r->paused = pause;
	if (r->state == STATE_RUN) {
		bn_scheduler_pause(r->all->config.scheduler, r->number, pause);
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

static void on_deadline(uv_timer_t *timer);

/* The clock rings at the earliest deadline of all. */
static void set_clock(struct bn_requests *q) BN_ON_LOOP
{
	uint64_t now = uv_now(q->config.loop);
	uint64_t due = UINT64_MAX;

	for (const struct bn_request *r = q->first; r != NULL; r = r->after) {
		if (r->end.status != BN_OK || r->answered) {
			continue;
		}
		if (r->deadline_ms != 0 && r->deadline_ms < due) {
			due = r->deadline_ms;
		}
		if (r->first_token_ms != 0 && r->first_token_ms < due) {
			due = r->first_token_ms;
		}
	}
	if (due == UINT64_MAX) {
		uv_timer_stop(&q->deadlines);
	} else {
		uv_timer_start(&q->deadlines, on_deadline, due > now ? due - now : 0, 0);
	}
}

static void on_deadline(uv_timer_t *timer)
{
	struct bn_requests *q = timer->data;
	uint64_t now = uv_now(q->config.loop);
	struct bn_request *after;

	bn_enter_loop();
	for (struct bn_request *r = q->first; r != NULL; r = after) {
		bool total = r->deadline_ms != 0 && r->deadline_ms <= now;
		bool first = r->first_token_ms != 0 && r->first_token_ms <= now;
		struct bn_error err;

		after = r->after;
		if (!total && !first) {
			continue;
		}
		bn_fail(&err, BN_E_DEADLINE, "%s of %" PRIu32 " ms passed %s",
			total ? "deadline_ms" : "ttft_deadline_ms",
			total ? r->asked_deadline_ms : r->asked_first_ms, where(r));
		bn_error_number(&err, "deadline_ms",
				total ? r->asked_deadline_ms : r->asked_first_ms);
		r->deadline_ms = 0;
		r->first_token_ms = 0;
		end(r, &err);
	}
	set_clock(q);
}

/* --- running -------------------------------------------------------------------------------- */

/* Room for one more; what a result cannot hold ends the request. */
static bool keep_token(struct bn_request *r, const struct bn_step_event *e) BN_ON_LOOP
{
	uint32_t i = r->n_tokens;

	if (i == r->token_room) {
		uint32_t room = i == 0 ? 64 : i * 2;
		size_t tops = (size_t)room * (e->n_top > 0 ? e->n_top : 1);
		void *tokens = realloc(r->tokens, room * sizeof(uint32_t));
		void *logprobs, *top_tokens, *top_logprobs;

		r->tokens = tokens != NULL ? tokens : r->tokens;
		logprobs = realloc(r->logprobs, room * sizeof(float));
		r->logprobs = logprobs != NULL ? logprobs : r->logprobs;
		top_tokens = realloc(r->top_tokens, tops * sizeof(uint32_t));
		r->top_tokens = top_tokens != NULL ? top_tokens : r->top_tokens;
		top_logprobs = realloc(r->top_logprobs, tops * sizeof(float));
		r->top_logprobs = top_logprobs != NULL ? top_logprobs : r->top_logprobs;
		if (tokens == NULL || logprobs == NULL || top_tokens == NULL ||
		    top_logprobs == NULL) {
			return false;
		}
		r->token_room = room;
		r->n_top = e->n_top;
	}
	r->tokens[i] = e->token;
	r->logprobs[i] = e->logprob;
	for (uint32_t k = 0; k < e->n_top && k < r->n_top; k++) {
		r->top_tokens[(size_t)i * r->n_top + k] = e->top[k].token;
		r->top_logprobs[(size_t)i * r->n_top + k] = e->top[k].logprob;
	}
	r->n_tokens++;
	return true;
}

static bool keep_text(struct bn_request *r, const struct bn_step_event *e) BN_ON_LOOP
{
	if (r->n_text + e->n_text > r->text_room) {
		size_t room = (r->n_text + e->n_text) * 2;
		char *text = realloc(r->text, room);

		if (text == NULL) {
			return false;
		}
		r->text = text;
		r->text_room = room;
	}
	memcpy(r->text + r->n_text, e->text, e->n_text);
	r->n_text += e->n_text;
	return true;
}

static void on_token(struct bn_request *r, const struct bn_step_event *e) BN_ON_LOOP
{
	struct bn_requests *q = r->all;
	uint64_t now = now_ns();
	bool good = true;

	if (e->n_tokens > 0) {
		bool first = r->n_completion == 0;

		bn_metrics_observe(q->config.metrics, first ? BN_METRIC_TTFT : BN_METRIC_TPOT, NULL,
				   (double)(now - (first ? r->start_ns : r->last_token_ns)) / 1e9);
		r->last_token_ns = now;
		r->n_completion += e->n_tokens;
		r->untold += e->n_tokens;
		q->totals.completion_tokens += e->n_tokens;
		bn_metrics_add(q->config.metrics, BN_METRIC_GENERATION_TOKENS, NULL, e->n_tokens);
		if (r->first_token_ms != 0) {
			r->first_token_ms = 0;
			set_clock(q);
		}
	}
	if (r->stream) {
		if (e->n_text > 0 || (r->want_logprobs && e->n_tokens > 0)) {
			send_delta(r, e);
		}
		return;
	}
	if (e->n_text > 0) {
		good = keep_text(r, e);
	}
	if (good && r->want_logprobs && e->n_tokens > 0) {
		good = keep_token(r, e);
	}
	if (!good) {
		struct bn_error err;

		bn_fail(&err, BN_E_MEMORY, "no memory to collect the answer; ask for a stream");
		end(r, &err);
	}
}

static void succeed(struct bn_request *r) BN_ON_LOOP
{
	const struct bn_sequence *seq = r->work.seq;
	struct bn_outcome o = {
		.id = { r->id, r->id_bytes },
		.entry = r->hold.entry,
		.text = { r->text != NULL ? r->text : "", r->n_text },
		.finish_reason = bn_finish_word(seq->finish),
		.seed = bn_recipe_seed(r->recipe),
		.prompt_tokens = seq->n_prompt,
		.completion_tokens = seq->n_generated,
		.load_ns = r->load_ns,
		.prefill_ns = seq->prefill_ns,
		.decode_ns = seq->decode_ns,
		.has_logprobs = r->want_logprobs,
		.n_tokens = r->n_tokens,
		.n_top = r->n_top,
		.tokens = r->tokens,
		.logprobs = r->logprobs,
		.top_tokens = r->top_tokens,
		.top_logprobs = r->top_logprobs,
	};
	uint64_t waited = seq->first_step_ns - r->start_ns;

	o.queue_ns = waited > r->load_ns ? waited - r->load_ns : 0;
	if (r->untold > 0) {
		send_delta(r, NULL);
	}
	answer(r, &o, NULL);
}

static void on_done(struct bn_request *r) BN_ON_LOOP
{
	const struct bn_sequence *seq = r->work.seq;
	uint32_t read = seq->n_past < seq->n_prompt ? seq->n_past : seq->n_prompt;

	r->all->totals.prompt_tokens += read;
	bn_metrics_add(r->all->config.metrics, BN_METRIC_PROMPT_TOKENS, NULL, read);
	switch (seq->finish) {
	case BN_FINISH_STOP:
	case BN_FINISH_LENGTH:
		if (r->end.status != BN_OK && r->end.status != BN_E_CANCELLED) {
			answer(r, NULL, &r->end); /* too late, or not fit to be told */
		} else {
			succeed(r);
		}
		break;
	case BN_FINISH_CANCELLED:
		answer(r, NULL, &r->end);
		break;
	default:
		answer(r, NULL, &seq->error);
		break;
	}
	finish(r);
}

void bn_requests_on_step(struct bn_requests *q, const struct bn_step_event *event)
{
	struct bn_request *r;

	if (event->kind == BN_STEP_STEP) {
		bn_metrics_add(q->config.metrics, BN_METRIC_STEPS, NULL, 1);
		bn_metrics_observe(q->config.metrics, BN_METRIC_STEP_SECONDS, NULL,
				   (double)event->ns / 1e9);
		return;
	}
	r = (struct bn_request *)(void *)((char *)event->work - offsetof(struct bn_request, work));
	bn_assert(r->state == STATE_RUN && r->number == event->id);
	switch (event->kind) {
	case BN_STEP_BEGUN:
		r->begun = true;
		bn_metrics_observe(q->config.metrics, BN_METRIC_QUEUE_WAIT,
				   r->priority == BN_PRIORITY_INTERACTIVE ? "interactive"
				   : r->priority == BN_PRIORITY_BATCH     ? "batch"
									  : "normal",
				   (double)(now_ns() - r->start_ns) / 1e9);
		break;
	case BN_STEP_PROGRESS: {
		struct bn_event e = { .kind = BN_EVENT_PROGRESS };

		e.body.progress.has_processed = true;
		e.body.progress.processed = event->n_past;
		e.body.progress.has_total = true;
		e.body.progress.total = event->n_prompt;
		e.body.progress.has_cached = true;
		emit(r, &e);
		break;
	}
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
	r->all->queue_bytes -= r->prompt_bytes;
	r->prompt_bytes = 0;
	r->work.id = r->number;
	r->work.tenant = e->tenant;
	r->work.uid = r->uid;
	r->work.weight = (uint32_t)e->config.weight;
	r->work.want_progress = r->stream && r->want_progress;
	enter(r, STATE_RUN);
	r->work.start_paused = r->paused;
	bn_scheduler_submit(r->all->config.scheduler, &r->work);
	gauge(r->all);
}

/* --- preparing ------------------------------------------------------------------------------ */

static void run_prepare(struct bn_job *job) BN_ON_HELPER
{
	struct bn_request *r = BN_JOB_OWNER(job, struct bn_request, job);

	r->prepared =
		bn_recipe_prepare(r->recipe, r->model, &r->defaults, &r->stop, &r->prepare_error);
}

static void prepared(struct bn_job *job) BN_ON_LOOP
{
	struct bn_request *r = BN_JOB_OWNER(job, struct bn_request, job);

	if (r->end.status != BN_OK) {
		fail(r, &r->end);
	} else if (r->prepared != BN_OK) {
		fail(r, &r->prepare_error);
	} else {
		enter(r, STATE_MEMORY);
		bn_registry_reserve(r->all->config.registry, &r->hold, bn_recipe_need(r->recipe));
	}
}

static void prepare(struct bn_request *r) BN_ON_LOOP
{
	struct bn_entry *e = r->hold.entry;

	enter(r, STATE_PREPARE);
	if (!r->was_ready && r->load_ns == 0) {
		r->load_ns = now_ns() - r->start_ns;
	}
	if (r->told_loading) {
		send_status(r, "ready", -1.0);
	}
	if (r->has_keep_alive) {
		bn_registry_keep_alive(r->all->config.registry, e, r->keep_alive_ms);
	}
	memcpy(r->digest, e->info.digest, sizeof(r->digest));
	r->model = e->model;
	r->defaults.sampling = e->config.sampling;
	r->defaults.max_tokens = e->config.max_tokens;
	bn_job_start(r->all->config.loop, &r->job, run_prepare, prepared);
}

/* --- model and memory ----------------------------------------------------------------------- */

static struct bn_request *of_hold(struct bn_hold *h)
{
	return (struct bn_request *)(void *)((char *)h - offsetof(struct bn_request, hold));
}

static void on_granted(struct bn_hold *h)
{
	struct bn_request *r = of_hold(h);
	struct bn_requests *q = r->all;
	struct bn_entry *e = h->entry;

	bn_enter_loop();
	if (r->state == STATE_MODEL) {
		prepare(r);
	} else if (memcmp(r->digest, e->info.digest, sizeof(r->digest)) != 0) {
		/* It left and came back as another file: the tokens may mean something else. */
		bn_registry_release(q->config.registry, h);
		enter(r, STATE_MODEL);
		bn_registry_hold(q->config.registry, h, e);
	} else {
		run(r);
	}
}

static void on_failed(struct bn_hold *h, const struct bn_error *err)
{
	bn_enter_loop();
	fail(of_hold(h), err);
}

static void on_waiting(struct bn_hold *h, uint32_t position, double loaded)
{
	struct bn_request *r = of_hold(h);
	uint64_t now = uv_now(r->all->config.loop);

	bn_enter_loop();
	if (loaded >= 0.0) {
		if (!r->told_loading || now - r->status_ms >= STATUS_MS) {
			r->told_loading = true;
			r->status_ms = now;
			send_status(r, "loading", loaded);
		}
	} else if (position != r->position) {
		r->position = position;
		send_queued(r, position);
	}
}

static const struct bn_hold_hooks hold_hooks = {
	.granted = on_granted,
	.failed = on_failed,
	.waiting = on_waiting,
};

/* --- starting ------------------------------------------------------------------------------- */

static enum bn_status full(struct bn_error *err, enum bn_status status, const char *what,
			   uint32_t n, uint32_t limit)
{
	bn_fail(err, status, "%s: %" PRIu32 " of %" PRIu32 " waiting", what, n, limit);
	bn_error_number(err, "retry_after_ms", 1000);
	bn_error_number(err, "queue_depth", n);
	bn_error_number(err, "limit", limit);
	return status;
}

/* Whether there is room for one more who waits. */
static enum bn_status admit(struct bn_requests *q, const struct bn_request *r,
			    const struct bn_entry *e, bool no_wait, struct bn_error *err) BN_ON_LOOP
{
	const struct bn_requests_limits *l = &q->config.limits;
	uint32_t mine = bn_requests_count_uid(q, r->uid).waiting;
	uint32_t here = bn_requests_count_model(q, e).waiting;
	struct bn_requests_count all = bn_requests_count(q);

	if (mine >= l->queue_per_user) {
		return full(err, BN_E_QUEUE_FULL, "client queue full", mine, l->queue_per_user);
	}
	if (here >= l->queue_per_model) {
		return full(err, BN_E_OVERLOADED, "the queue of this model is full", here,
			    l->queue_per_model);
	}
	if (all.waiting >= l->queue) {
		return full(err, BN_E_OVERLOADED, "the queue is full", all.waiting, l->queue);
	}
	if (q->queue_bytes + r->prompt_bytes > QUEUE_BYTES_MAX) {
		bn_fail(err, BN_E_OVERLOADED,
			"the prompts that wait fill their %d MiB; try again later",
			QUEUE_BYTES_MAX >> 20);
		bn_error_number(err, "retry_after_ms", 1000);
		return BN_E_OVERLOADED;
	}
	if (no_wait && all.running >= l->max_batch) {
		bn_fail(err, BN_E_OVERLOADED,
			"all %" PRIu32 " places are taken, and the request said queue: \"fail\"",
			l->max_batch);
		bn_error_number(err, "retry_after_ms", 1000);
		return BN_E_OVERLOADED;
	}
	return BN_OK;
}

static const struct bn_params_generation *given_of(const struct bn_request_order *o)
{
	return o->method == BN_METHOD_COMPLETIONS ? &o->params->completions.group
						  : &o->params->chat_completions.group;
}

static void set_up(struct bn_request *r, const struct bn_request_order *o) BN_ON_LOOP
{
	const struct bn_params_generation *g = given_of(o);
	uint64_t now = uv_now(r->all->config.loop);

	bn_assert(o->id.n <= sizeof(r->id));
	memcpy(r->id, o->id.at, o->id.n);
	r->id_bytes = (uint32_t)o->id.n;
	r->uid = o->uid;
	r->sink = o->sink;
	r->paused = o->paused;
	r->priority = g->has_priority ? (enum bn_priority)g->priority : BN_PRIORITY_NORMAL;
	r->stream = g->has_stream && g->stream;
	r->want_progress = g->has_return_progress && g->return_progress;
	r->want_logprobs = g->has_logprobs;
	r->has_keep_alive = g->has_keep_alive;
	r->keep_alive_ms = g->keep_alive;
	r->position = UINT32_MAX;
	r->start_ns = now_ns();
	if (g->has_deadline_ms) {
		r->asked_deadline_ms = (uint32_t)g->deadline_ms;
		r->deadline_ms = now + (uint64_t)g->deadline_ms;
	}
	if (g->has_ttft_deadline_ms) {
		r->asked_first_ms = (uint32_t)g->ttft_deadline_ms;
		r->first_token_ms = now + (uint64_t)g->ttft_deadline_ms;
	}
	r->hold.hooks = &hold_hooks;
	r->hold.uid = o->uid;
	r->hold.no_load = g->has_autoload && !g->autoload;
	r->hold.no_wait = g->has_queue && g->queue == BN_QUEUE_FAIL;
}

enum bn_status bn_request_start(struct bn_requests *q, const struct bn_request_order *order,
				struct bn_request **out, struct bn_error *err)
{
	struct bn_request *r;
	struct bn_entry *e;
	enum bn_status status;

	if (q->draining) {
		return bn_fail(err, BN_E_DRAINING, "%s", bn_status_sentence(BN_E_DRAINING));
	}
	status = bn_registry_find(q->config.registry, given_of(order)->model, &e, err);
	if (status != BN_OK) {
		return status;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the request");
	}
	r->all = q;
	set_up(r, order);
	status = bn_recipe_new(&r->recipe, order->method, order->params, err);
	if (status == BN_OK) {
		r->prompt_bytes = bn_recipe_bytes(r->recipe);
		status = admit(q, r, e, r->hold.no_wait, err);
	}
	if (status != BN_OK) {
		bn_recipe_free(r->recipe);
		free(r);
		return status;
	}
	r->number = ++q->number;
	q->totals.requests++;
	q->queue_bytes += r->prompt_bytes;
	r->before = q->last;
	*(q->last != NULL ? &q->last->after : &q->first) = r;
	q->last = r;
	r->was_ready = e->state == BN_ENTRY_READY;
	bn_registry_hold(q->config.registry, &r->hold, e);
	if (r->deadline_ms != 0 || r->first_token_ms != 0) {
		set_clock(q);
	}
	gauge(q);
	*out = r;
	return BN_OK;
}

/* --- all of them ---------------------------------------------------------------------------- */

enum bn_status bn_requests_new(struct bn_requests **out, const struct bn_requests_config *config,
			       struct bn_error *err)
{
	struct bn_requests *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for requests");
	}
	q->config = *config;
	uv_timer_init(config->loop, &q->deadlines);
	q->deadlines.data = q;
	*out = q;
	return BN_OK;
}

void bn_requests_set_limits(struct bn_requests *q, const struct bn_requests_limits *limits)
{
	q->config.limits = *limits;
}

void bn_requests_drain(struct bn_requests *q)
{
	q->draining = true;
}

void bn_requests_cancel_all(struct bn_requests *q, enum bn_status reason)
{
	struct bn_request *after;

	for (struct bn_request *r = q->first; r != NULL; r = after) {
		after = r->after;
		end_for(r, reason);
	}
}

uint32_t bn_requests_cancel_model(struct bn_requests *q, const struct bn_entry *e,
				  enum bn_status reason)
{
	struct bn_request *after;
	uint32_t n = 0;

	for (struct bn_request *r = q->first; r != NULL; r = after) {
		after = r->after;
		if (r->hold.entry == e && r->end.status == BN_OK && r->state != STATE_DONE) {
			end_for(r, reason);
			n++;
		}
	}
	return n;
}

void bn_requests_abandon(struct bn_requests *q)
{
	struct bn_error err;

	bn_fail(&err, BN_E_INTERNAL, "the workers do not move; the request was given up");
	for (struct bn_request *r = q->first; r != NULL; r = r->after) {
		if (r->state == STATE_RUN && !r->answered) {
			end(r, &err);
			answer(r, NULL, &err);
		}
	}
}

void bn_requests_close(struct bn_requests *q, void (*closed)(void *who), void *who)
{
	bn_assert(!q->closing);
	q->draining = true;
	q->closing = true;
	q->closed = closed;
	q->closed_who = who;
	if (q->first == NULL) {
		uv_close((uv_handle_t *)&q->deadlines, on_timer_closed);
	}
}
