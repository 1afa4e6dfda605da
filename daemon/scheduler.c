#include "daemon/scheduler.h"

#include "daemon/lineup.h"
#include "daemon/mailbox.h"
#include "proto/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVENTS_MAX = 64 }; /* posted together */

enum order_kind { ORDER_SUBMIT, ORDER_CANCEL, ORDER_PAUSE, ORDER_RESUME, ORDER_STOP };

struct order {
	enum order_kind kind;
	enum bn_status status;
	struct bn_work *work; /* SUBMIT only */
	uint64_t id;
};

struct bn_scheduler {
	/* Const after start. */
	struct bn_scheduler_config config;
	struct bn_team *team;
	struct bn_mailbox *inbox;  /* of order, loop to lead         */
	struct bn_mailbox *outbox; /* of bn_step_event, lead to loop */
	/* The loop's. */
	uv_async_t wake;
	pthread_t lead;
	uint64_t n_out; /* works submitted and not yet back */
	uint64_t seen_progress;
	uint64_t seen_ns;
	/* The lead's. */
	struct bn_lineup lineup;
	struct bn_step_event *events; /* [EVENTS_MAX] */
	size_t n_events;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- events --------------------------------------------------------------------------------- */

static void flush(struct bn_scheduler *s) BN_ON_LEAD
{
	bn_mailbox_post(s->outbox, s->events, s->n_events);
	s->n_events = 0;
}

/* The caller fills in what its kind calls for. */
static struct bn_step_event *event(struct bn_scheduler *s, enum bn_step_kind kind,
				   struct bn_work *w) BN_ON_LEAD
{
	struct bn_step_event *e;

	if (s->n_events == EVENTS_MAX) {
		flush(s);
	}
	e = &s->events[s->n_events++];
	e->kind = kind;
	e->work = w;
	e->id = w != NULL ? w->id : 0;
	e->ns = 0;
	e->n_rows = 0;
	e->n_past = 0;
	e->n_prompt = 0;
	e->n_tokens = 0;
	e->token = 0;
	e->logprob = 0;
	e->n_top = 0;
	e->n_text = 0;
	return e;
}

/* Whatever text is certain, and, when it was computed just now, the token it came with. */
static void tell_text(struct bn_scheduler *s, struct bn_work *w, bool computed) BN_ON_LEAD
{
	struct bn_sequence *seq = w->seq;
	bool fresh = seq->has_new && computed;

	for (;;) {
		char text[BN_STEP_TEXT_BYTES];
		size_t n = bn_sequence_take(seq, text, sizeof(text));
		struct bn_step_event *e;

		if (n == 0 && !fresh) {
			return;
		}
		e = event(s, BN_STEP_TOKEN, w);
		memcpy(e->text, text, n);
		e->n_text = (uint32_t)n;
		if (fresh) {
			e->n_tokens = 1;
			e->token = seq->last.token;
			e->logprob = seq->last.logprob;
			e->n_top = seq->last.n_top;
			memcpy(e->top, seq->last.top, seq->last.n_top * sizeof(e->top[0]));
			fresh = false;
		}
	}
}

static void done(struct bn_scheduler *s, struct bn_work *w, bool computed) BN_ON_LEAD
{
	bn_lineup_leave(&s->lineup, w);
	tell_text(s, w, computed);
	event(s, BN_STEP_DONE, w);
}

/* --- the lead ------------------------------------------------------------------------------- */

/* Carries out what the loop wants; false when it wants the end. */
static bool drain_inbox(struct bn_scheduler *s) BN_ON_LEAD
{
	const void *items;
	size_t n = bn_mailbox_take(s->inbox, &items);
	const struct order *orders = items;
	bool go_on = true;

	for (size_t i = 0; i < n; i++) {
		const struct order *o = &orders[i];
		struct bn_work *w;

		switch (o->kind) {
		case ORDER_SUBMIT:
			bn_lineup_enter(&s->lineup, o->work);
			break;
		case ORDER_CANCEL:
			w = bn_lineup_find(&s->lineup, o->id);
			if (w != NULL) {
				bn_sequence_finish(w->seq, BN_FINISH_CANCELLED, o->status);
				done(s, w, false);
			}
			break;
		case ORDER_PAUSE:
		case ORDER_RESUME:
			w = bn_lineup_find(&s->lineup, o->id);
			if (w != NULL) {
				bn_lineup_pause(&s->lineup, w, o->kind == ORDER_PAUSE);
			}
			break;
		case ORDER_STOP:
			go_on = false;
			break;
		}
	}
	flush(s);
	return go_on;
}

/* Everything the step brought forth goes to the loop. */
static void harvest(struct bn_scheduler *s) BN_ON_LEAD
{
	for (uint32_t i = 0; i < s->lineup.n_step; i++) {
		struct bn_work *w = s->lineup.step[i];
		struct bn_sequence *seq = w->seq;

		if (w->want_progress && seq->n_past <= seq->n_prompt) {
			struct bn_step_event *e = event(s, BN_STEP_PROGRESS, w);

			e->n_past = seq->n_past;
			e->n_prompt = seq->n_prompt;
		}
		if (seq->finish != BN_FINISH_NONE) {
			done(s, w, true);
		} else {
			tell_text(s, w, true);
		}
	}
}

static void step(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	struct bn_lineup *l = &s->lineup;
	struct bn_step_event *e;
	uint64_t ns;

	bn_lineup_compose(l, t);
	for (uint32_t i = l->n_step - l->n_begun; i < l->n_step; i++) {
		event(s, BN_STEP_BEGUN, l->step[i]);
	}
	flush(s);
	ns = bn_forward_step(t->forward, &l->batch, s->team);
	bn_lineup_charge(l, t, ns);
	e = event(s, BN_STEP_STEP, NULL);
	e->ns = ns;
	e->n_rows = l->batch.n_rows;
	harvest(s);
	flush(s);
}

static void *lead_main(void *arg)
{
	struct bn_scheduler *s = arg;

	bn_enter_lead();
	bn_team_join(s->team);
	while (drain_inbox(s)) {
		struct bn_tenant *t = bn_lineup_next(&s->lineup);

		if (t == NULL) {
			bn_mailbox_wait(s->inbox, UINT64_MAX);
		} else {
			step(s, t);
		}
	}
	return NULL;
}

/* --- the loop's side ------------------------------------------------------------------------ */

static void on_wake(uv_async_t *handle)
{
	struct bn_scheduler *s = handle->data;
	const void *items;
	size_t n;

	bn_enter_loop();
	n = bn_mailbox_take(s->outbox, &items);
	for (size_t i = 0; i < n; i++) {
		const struct bn_step_event *e = (const struct bn_step_event *)items + i;

		if (e->kind == BN_STEP_DONE) {
			s->n_out--;
		}
		s->config.on_event(s->config.who, e);
	}
}

static void wake_loop(void *who)
{
	struct bn_scheduler *s = who;

	uv_async_send(&s->wake);
}

/* All of it but threads and the handle. */
static void free_parts(struct bn_scheduler *s)
{
	bn_lineup_finish(&s->lineup);
	bn_mailbox_free(s->inbox);
	bn_mailbox_free(s->outbox);
	free(s->events);
	free(s);
}

static void on_closed(uv_handle_t *handle)
{
	free_parts(handle->data);
}

/* The lead takes no signals: they are the loop's. */
static int start_lead(struct bn_scheduler *s)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&s->lead, NULL, lead_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0) {
		pthread_setname_np(s->lead, "bnd-lead");
	}
	return rc;
}

enum bn_status bn_scheduler_start(struct bn_scheduler **out, uv_loop_t *loop,
				  const struct bn_scheduler_config *config, struct bn_error *err)
{
	struct bn_team_config team = { config->lanes, config->cores, BN_TEAM_SPIN_US };
	struct bn_lineup_config lineup = { config->step_target_ns, config->max_batch,
					   config->prefill_chunk };
	struct bn_scheduler *s = calloc(1, sizeof(*s));
	enum bn_status status;
	int rc;

	if (s == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the scheduler");
	}
	s->config = *config;
	s->config.cores = NULL;
	s->events = calloc(EVENTS_MAX, sizeof(*s->events));
	if (s->events == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory for the scheduler");
		goto out;
	}
	status = bn_lineup_init(&s->lineup, &lineup, err);
	if (status == BN_OK) {
		status = bn_mailbox_new(&s->inbox, sizeof(struct order), 64, NULL, NULL, err);
	}
	if (status == BN_OK) {
		status = bn_mailbox_new(&s->outbox, sizeof(struct bn_step_event), EVENTS_MAX,
					wake_loop, s, err);
	}
	if (status == BN_OK) {
		status = bn_team_start(&s->team, &team, err);
	}
	if (status != BN_OK) {
		goto out;
	}
	rc = uv_async_init(loop, &s->wake, on_wake);
	if (rc < 0) {
		status = bn_fail(err, BN_E_INTERNAL, "scheduler: %s", uv_strerror(rc));
		goto out;
	}
	s->wake.data = s;
	rc = start_lead(s);
	if (rc != 0) {
		status = bn_fail(err, BN_E_INTERNAL, "cannot start the lead thread: %s",
				 strerror(rc));
		bn_team_stop(s->team);
		uv_close((uv_handle_t *)&s->wake, on_closed);
		return status;
	}
	*out = s;
	return BN_OK;
out:
	bn_team_stop(s->team);
	free_parts(s);
	return status;
}

static void give(struct bn_scheduler *s, const struct order *order) BN_ON_LOOP
{
	bn_mailbox_post(s->inbox, order, 1);
}

void bn_scheduler_stop(struct bn_scheduler *s)
{
	if (s == NULL) {
		return;
	}
	bn_assert(s->n_out == 0);
	give(s, &(struct order){ .kind = ORDER_STOP });
	pthread_join(s->lead, NULL);
	bn_team_stop(s->team);
	uv_close((uv_handle_t *)&s->wake, on_closed);
}

struct bn_forward_config bn_scheduler_forward_config(const struct bn_scheduler *s)
{
	return (struct bn_forward_config){
		.max_rows = s->config.max_batch + s->config.prefill_chunk,
		.max_outputs = s->config.max_batch,
		.lanes = s->config.lanes,
	};
}

void bn_scheduler_submit(struct bn_scheduler *s, struct bn_work *work)
{
	bn_assert(work->seq != NULL && work->seq->finish == BN_FINISH_NONE);
	bn_assert(work->seq->model == work->tenant->model);
	s->n_out++;
	give(s, &(struct order){ .kind = ORDER_SUBMIT, .work = work, .id = work->id });
}

void bn_scheduler_cancel(struct bn_scheduler *s, uint64_t id, enum bn_status status)
{
	give(s, &(struct order){ .kind = ORDER_CANCEL, .id = id, .status = status });
}

void bn_scheduler_pause(struct bn_scheduler *s, uint64_t id, bool pause)
{
	give(s, &(struct order){ .kind = pause ? ORDER_PAUSE : ORDER_RESUME, .id = id });
}

uint32_t bn_scheduler_lanes(const struct bn_scheduler *s)
{
	return s->config.lanes;
}

uint64_t bn_scheduler_stuck_ns(struct bn_scheduler *s)
{
	uint64_t now = now_ns();
	uint64_t progress = 0;

	for (uint32_t lane = 0; lane < s->config.lanes; lane++) {
		progress += bn_team_progress(s->team, lane);
	}
	if (!bn_team_is_busy(s->team) || progress != s->seen_progress || s->seen_ns == 0) {
		s->seen_progress = progress;
		s->seen_ns = now;
		return 0;
	}
	return now - s->seen_ns;
}
