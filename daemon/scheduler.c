/*
 * What a step holds, all of it:
 *
 *   1. The model with the least virtual time among those with work.
 *   2. One row for each of its sequences that decodes, up to max_batch.
 *   3. Prompt rows: first of prompts already begun, then of the waiting one whose client has been
 *      served least (prompt tokens count one, generated ones two), as many as the time target
 *      allows by the measured cost of a row, at least PROMPT_ROWS_MIN, at most prefill_chunk.
 *      While nobody decodes the target is ALONE_TARGETS times as long: larger pieces are cheaper,
 *      and the only one who could wait is whoever comes next.
 *   4. Logits only for rows that sample (engine/batch.h does that).
 *   5. No preemption: what has begun keeps its memory and its place until it ends.
 *
 * Why a time and not a number of rows: a prompt row of a 2 B model costs ten milliseconds on two
 * cores, so a "small" piece of 64 rows would freeze everybody who decodes for 0.6 s.
 *
 * Sequences held back by a slow reader take no place in max_batch; when they come back and there
 * are more than max_batch, those that were computed go to the end of the line.
 *
 * Memory: the lead allocates only when a client is seen for the first time, never in a step.
 */
#include "daemon/scheduler.h"

#include "daemon/mailbox.h"
#include "proto/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	ALONE_TARGETS = 4,
	PROMPT_ROWS_MIN = 4, /* progress even when decoding alone takes the whole target    */
	PROBE_ROWS = 16,     /* first piece of a prompt when nothing is known of its cost   */
	LEARN_ROWS = 8,      /* smaller pieces say little about the cost of a row           */
	COST_PROMPT = 1,     /* of a token, for shares between clients (VTC, OSDI'24)       */
	COST_TOKEN = 2,
	EVENTS_MAX = 64,    /* posted together                                             */
	CLIENTS_KEPT = 256, /* idle ones whose account is remembered                       */
};

enum order_kind { ORDER_SUBMIT, ORDER_CANCEL, ORDER_PAUSE, ORDER_RESUME, ORDER_STOP };

struct order {
	enum order_kind kind;
	enum bn_status status;
	struct bn_work *work; /* SUBMIT only */
	uint64_t id;
};

/* The account of a uid; the lead's. */
struct bn_client {
	struct bn_fair_party party;
	struct bn_client *next;
	uid_t uid;
	uint32_t works;
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
	struct bn_batch batch;
	struct bn_fair tenants;
	struct bn_fair clients;
	struct bn_work *all;
	struct bn_client *accounts;
	uint32_t n_accounts;
	struct bn_work **step; /* [max_batch + prefill_chunk] works of this step */
	uint32_t n_step;
	struct bn_step_event *events; /* [EVENTS_MAX] */
	size_t n_events;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- lists ---------------------------------------------------------------------------------- */

static void append(struct bn_work_list *l, struct bn_work *w)
{
	w->before = l->last;
	w->after = NULL;
	if (l->last != NULL) {
		l->last->after = w;
	} else {
		l->first = w;
	}
	l->last = w;
}

static void detach(struct bn_work_list *l, struct bn_work *w)
{
	if (w->before != NULL) {
		w->before->after = w->after;
	} else {
		l->first = w->after;
	}
	if (w->after != NULL) {
		w->after->before = w->before;
	} else {
		l->last = w->before;
	}
	w->before = NULL;
	w->after = NULL;
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

/* Whatever text is certain, and the token it came with if there is one. */
static void tell_text(struct bn_scheduler *s, struct bn_work *w) BN_ON_LEAD
{
	struct bn_sequence *seq = w->seq;
	bool fresh = seq->has_new && w->in_step;

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

/* --- clients -------------------------------------------------------------------------------- */

static struct bn_client *find_client(struct bn_scheduler *s, uid_t uid) BN_ON_LEAD
{
	struct bn_client **idle = NULL;
	struct bn_client *c;

	for (struct bn_client **at = &s->accounts; *at != NULL; at = &(*at)->next) {
		if ((*at)->uid == uid) {
			return *at;
		}
		if ((*at)->works == 0) {
			idle = at;
		}
	}
	if (s->n_accounts >= CLIENTS_KEPT && idle != NULL) {
		/* The one not seen for longest, for new ones go in front. */
		c = *idle;
		*idle = c->next;
		*c = (struct bn_client){ 0 };
	} else {
		c = calloc(1, sizeof(*c));
		bn_assert(c != NULL);
		s->n_accounts++;
	}
	c->uid = uid;
	c->next = s->accounts;
	s->accounts = c;
	return c;
}

/* --- orders --------------------------------------------------------------------------------- */

/* Whether a step of this model would hold a row. Keeps the tenant's place in the ring. */
static void settle(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	bool work = t->n_active > 0;

	for (struct bn_work *w = t->waiting.first; w != NULL && !work; w = w->after) {
		work = !w->paused;
	}
	if (work) {
		bn_fair_wake(&s->tenants, &t->party, t->weight);
	} else {
		bn_fair_sleep(&s->tenants, &t->party);
	}
}

static void submit(struct bn_scheduler *s, struct bn_work *w) BN_ON_LEAD
{
	w->below = s->all;
	if (s->all != NULL) {
		s->all->above = w;
	}
	s->all = w;
	w->client = find_client(s, w->uid);
	w->client->works++;
	bn_fair_wake(&s->clients, &w->client->party, 1);
	append(&w->tenant->waiting, w);
	w->tenant->weight = w->weight;
	settle(s, w->tenant);
}

/* Takes a finished work out of everything; its DONE is posted by the caller afterwards. */
static void retire(struct bn_scheduler *s, struct bn_work *w) BN_ON_LEAD
{
	struct bn_tenant *t = w->tenant;

	if (w->begun && !w->paused) {
		t->n_active--;
	}
	detach(w->begun ? &t->begun : &t->waiting, w);
	if (w->above != NULL) {
		w->above->below = w->below;
	} else {
		s->all = w->below;
	}
	if (w->below != NULL) {
		w->below->above = w->above;
	}
	if (--w->client->works == 0) {
		bn_fair_sleep(&s->clients, &w->client->party);
	}
	settle(s, t);
}

/* The work of an id, if it is still here: an order may cross the DONE on its way. */
static struct bn_work *find_work(struct bn_scheduler *s, uint64_t id) BN_ON_LEAD
{
	struct bn_work *w = s->all;

	while (w != NULL && w->id != id) {
		w = w->below;
	}
	return w;
}

static void done(struct bn_scheduler *s, struct bn_work *w) BN_ON_LEAD
{
	retire(s, w);
	tell_text(s, w);
	event(s, BN_STEP_DONE, w);
}

static void pause_work(struct bn_scheduler *s, struct bn_work *w, bool pause) BN_ON_LEAD
{
	if (w->paused == pause) {
		return;
	}
	w->paused = pause;
	if (w->begun && pause) {
		w->tenant->n_active--;
	} else if (w->begun) {
		w->tenant->n_active++;
	}
	settle(s, w->tenant);
}

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
			submit(s, o->work);
			break;
		case ORDER_CANCEL:
			w = find_work(s, o->id);
			if (w != NULL) {
				bn_sequence_finish(w->seq, BN_FINISH_CANCELLED, o->status);
				done(s, w);
			}
			break;
		case ORDER_PAUSE:
		case ORDER_RESUME:
			w = find_work(s, o->id);
			if (w != NULL) {
				pause_work(s, w, o->kind == ORDER_PAUSE);
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

/* --- a step --------------------------------------------------------------------------------- */

/* How many prompt rows the next step may hold beside `decoding` others. */
static uint32_t prompt_rows(const struct bn_scheduler *s, const struct bn_tenant *t,
			    uint32_t decoding) BN_ON_LEAD
{
	uint64_t target = s->config.step_target_ns;
	uint64_t rows = PROBE_ROWS;

	if (decoding == 0) {
		target *= ALONE_TARGETS;
	}
	if (t->row_ns != 0) {
		uint64_t taken = decoding > 0 ? t->decode_ns : 0;

		rows = taken < target ? (target - taken) / t->row_ns : 0;
		if (rows < PROMPT_ROWS_MIN) {
			rows = PROMPT_ROWS_MIN;
		}
	}
	return rows < s->config.prefill_chunk ? (uint32_t)rows : s->config.prefill_chunk;
}

/* Adds rows of a work to the step; how many. */
static uint32_t add(struct bn_scheduler *s, struct bn_work *w, uint32_t most) BN_ON_LEAD
{
	uint32_t n = bn_batch_add(&s->batch, w->seq, most);

	if (n > 0) {
		w->in_step = true;
		w->fed = n;
		s->step[s->n_step++] = w;
	}
	return n;
}

/* The first waiting work of the client who was served least. */
static struct bn_work *next_waiting(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	for (struct bn_fair_party *p = bn_fair_pick(&s->clients); p != NULL;
	     p = bn_fair_pick_after(&s->clients, p)) {
		struct bn_client *c = BN_FAIR_OWNER(p, struct bn_client, party);

		for (struct bn_work *w = t->waiting.first; w != NULL; w = w->after) {
			if (w->client == c && !w->paused) {
				return w;
			}
		}
	}
	return NULL;
}

static void begin(struct bn_scheduler *s, struct bn_work *w) BN_ON_LEAD
{
	struct bn_tenant *t = w->tenant;

	detach(&t->waiting, w);
	append(&t->begun, w);
	w->begun = true;
	t->n_active++;
	event(s, BN_STEP_BEGUN, w);
}

/* Rules 2 and 3. Returns how many of the rows decode. */
static uint32_t compose(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	uint32_t decoding = 0;
	uint32_t left;

	bn_batch_reset(&s->batch, t->model);
	s->n_step = 0;
	for (struct bn_work *w = t->begun.first; w != NULL; w = w->after) {
		if (!w->paused && !bn_sequence_is_prefill(w->seq) &&
		    decoding < s->config.max_batch) {
			decoding += add(s, w, 1);
		}
	}
	left = prompt_rows(s, t, decoding);
	for (struct bn_work *w = t->begun.first; w != NULL && left > 0; w = w->after) {
		if (!w->paused && bn_sequence_is_prefill(w->seq)) {
			left -= add(s, w, left);
		}
	}
	while (left > 0 && t->n_active < s->config.max_batch) {
		struct bn_work *w = next_waiting(s, t);

		if (w == NULL) {
			break;
		}
		begin(s, w);
		left -= add(s, w, left);
	}
	return decoding;
}

static uint64_t mix(uint64_t old, uint64_t fresh)
{
	return old == 0 ? fresh : old - old / 4 + fresh / 4;
}

/* What the step says about the cost of the next one. */
static void learn(struct bn_tenant *t, uint32_t rows, uint32_t decoding, uint64_t ns) BN_ON_LEAD
{
	uint32_t prompt = rows - decoding;

	if (prompt == 0) {
		t->decode_ns = mix(t->decode_ns, ns);
	} else if (prompt >= LEARN_ROWS || t->row_ns == 0) {
		uint64_t rest = decoding > 0 ? t->decode_ns : 0;
		uint64_t least = ns / rows; /* the decoding rows cost no less than prompt rows */
		uint64_t each = rest < ns ? (ns - rest) / prompt : 0;

		t->row_ns = mix(t->row_ns, each > least / 2 ? each : least / 2 + 1);
	}
}

/* Everything the step brought forth goes to the loop; the ended ones leave first. */
static void harvest(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	bool crowded = t->n_active > s->config.max_batch;

	for (uint32_t i = 0; i < s->n_step; i++) {
		struct bn_work *w = s->step[i];
		struct bn_sequence *seq = w->seq;
		uint64_t cost = (uint64_t)w->fed * COST_PROMPT;

		if (seq->n_past > seq->n_prompt) {
			cost = COST_TOKEN;
		}
		bn_fair_charge(&s->clients, &w->client->party, cost);
		if (w->want_progress && seq->n_past <= seq->n_prompt) {
			struct bn_step_event *e = event(s, BN_STEP_PROGRESS, w);

			e->n_past = seq->n_past;
			e->n_prompt = seq->n_prompt;
		}
		if (seq->finish != BN_FINISH_NONE) {
			done(s, w);
			continue;
		}
		tell_text(s, w);
		w->in_step = false;
		if (crowded) {
			detach(&t->begun, w);
			append(&t->begun, w);
		}
	}
}

static void step(struct bn_scheduler *s, struct bn_tenant *t) BN_ON_LEAD
{
	uint32_t decoding = compose(s, t);
	struct bn_step_event *e;
	uint32_t rows = s->batch.n_rows;
	uint64_t ns;

	bn_assert(rows > 0); /* settle() said there is work */
	flush(s);
	ns = bn_forward_step(t->forward, &s->batch, s->team);
	learn(t, rows, decoding, ns);
	bn_fair_charge(&s->tenants, &t->party, ns);
	e = event(s, BN_STEP_STEP, NULL);
	e->ns = ns;
	e->n_rows = rows;
	harvest(s, t);
	flush(s);
}

static void *lead_main(void *arg)
{
	struct bn_scheduler *s = arg;

	bn_enter_lead();
	bn_team_join(s->team);
	while (drain_inbox(s)) {
		struct bn_fair_party *p = bn_fair_pick(&s->tenants);

		if (p == NULL) {
			bn_mailbox_wait(s->inbox, UINT64_MAX);
			continue;
		}
		step(s, BN_FAIR_OWNER(p, struct bn_tenant, party));
	}
	bn_assert(s->all == NULL);
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
	while (s->accounts != NULL) {
		struct bn_client *next = s->accounts->next;

		free(s->accounts);
		s->accounts = next;
	}
	bn_mailbox_free(s->inbox);
	bn_mailbox_free(s->outbox);
	bn_batch_finish(&s->batch);
	free(s->step);
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
	struct bn_scheduler *s = calloc(1, sizeof(*s));
	size_t most = (size_t)config->max_batch + config->prefill_chunk;
	enum bn_status status;
	int rc;

	bn_assert(config->max_batch > 0 && config->prefill_chunk > 0);
	if (s == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the scheduler");
	}
	s->config = *config;
	s->config.cores = NULL;
	bn_fair_init(&s->tenants);
	bn_fair_init(&s->clients);
	s->step = calloc(most, sizeof(struct bn_work *));
	s->events = calloc(EVENTS_MAX, sizeof(*s->events));
	if (s->step == NULL || s->events == NULL || most > UINT32_MAX) {
		status = bn_fail(err, BN_E_MEMORY, "no memory for the scheduler");
		goto out;
	}
	status = bn_batch_init(&s->batch, (uint32_t)most, config->max_batch, err);
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
	work->before = NULL;
	work->after = NULL;
	work->above = NULL;
	work->below = NULL;
	work->client = NULL;
	work->begun = false;
	work->paused = work->start_paused;
	work->in_step = false;
	work->fed = 0;
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

bool bn_scheduler_is_pinned(const struct bn_scheduler *s)
{
	return bn_team_is_pinned(s->team);
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
