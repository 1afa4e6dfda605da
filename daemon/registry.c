/*
 * Everything that can change what is possible (a hold comes or goes, a model is loaded or gone)
 * only kicks the clock; the next turn of the loop then looks at all who wait, in order, once, with
 * the whole picture. Decisions are collected first and told afterwards, so that a hook may call
 * back into the registry without meeting a half-made decision.
 *
 * No deadlock. Take the first in order who wants memory and, alone, could have it (the others are
 * refused). Once his patience is over nobody takes memory past him. What runs ends; what is merely
 * loaded is idle then, and leaves for him, even if somebody behind him waits for it. So his bytes
 * come free, and then the next one is first.
 */
#include "daemon/registry.h"

#include "daemon/log.h"
#include "proto/assert.h"
#include "proto/suggest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What somebody holds and waits for; lives while he has a hold. */
struct bn_registry_user {
	struct bn_registry_user *next;
	uid_t uid;
	uint32_t holds;
	uint64_t served;  /* grants of memory, from the level of the others when he came */
	uint64_t counter; /* of one look */
};

/* What those behind may still have. */
enum gate {
	GATE_OPEN,
	GATE_MEMORY, /* no memory: it is being freed for, or owed to, somebody in front */
	GATE_MODELS, /* nor a way into a loaded model: they must run dry                */
};

struct bn_registry {
	struct bn_registry_config config;
	uv_timer_t clock;
	bool kicked;
	bool closing;
	void (*closed)(void *who);
	void *closed_who;
	struct bn_entry *entries; /* configured ones first, in order; then removed ones */
	struct bn_hold *first, *last;
	uint32_t n_waiting;
	struct bn_hold *told_first, *told_last; /* decided, to be told */
	struct bn_hold **line;                  /* [line_room] scratch of one look */
	size_t line_room;
	struct bn_registry_user *users;
	uint64_t order;
	uint64_t ready_at_ms; /* loop time of the last load; 0: never */
	struct bn_departure departures[BN_REGISTRY_DEPARTURES];
	uint64_t n_departures;
};

#define DEPARTURE_WORD(SYMBOL, word) word,
static const char *const departure_words[BN_DEPARTURES] = { BN_DEPARTURE_TABLE(DEPARTURE_WORD) };
#undef DEPARTURE_WORD

const char *bn_departure_word(enum bn_departure_reason reason)
{
	bn_assert((unsigned)reason < BN_DEPARTURES);
	return departure_words[reason];
}

static uint64_t unix_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t loop_ms(const struct bn_registry *r) BN_ON_LOOP
{
	return uv_now(r->config.loop);
}

static void on_clock(uv_timer_t *timer);

/* A look at everything in the next turn of the loop. */
static void kick(struct bn_registry *r) BN_ON_LOOP
{
	if (!r->kicked) {
		r->kicked = true;
		uv_timer_start(&r->clock, on_clock, 0, 0);
	}
}

/* --- users ---------------------------------------------------------------------------------- */

static struct bn_registry_user *join_user(struct bn_registry *r, uid_t uid) BN_ON_LOOP
{
	struct bn_registry_user *u = r->users;
	uint64_t least = r->users != NULL ? r->users->served : 0;

	while (u != NULL && u->uid != uid) {
		least = u->served < least ? u->served : least;
		u = u->next;
	}
	if (u == NULL) {
		u = calloc(1, sizeof(*u));
		bn_assert(u != NULL);
		u->uid = uid;
		u->served = least; /* having been away earns nothing */
		u->next = r->users;
		r->users = u;
	}
	u->holds++;
	return u;
}

static void leave_user(struct bn_registry *r, struct bn_registry_user *u) BN_ON_LOOP
{
	struct bn_registry_user **at = &r->users;

	if (--u->holds > 0) {
		return;
	}
	while (*at != u) {
		at = &(*at)->next;
	}
	*at = u->next;
	free(u);
}

/* --- waiting and being told ----------------------------------------------------------------- */

static void wait_in_line(struct bn_registry *r, struct bn_hold *h,
			 enum bn_hold_state state) BN_ON_LOOP
{
	struct bn_hold *before = r->last;

	/* By arrival: one who comes back for memory keeps his place. */
	while (before != NULL && before->order > h->order) {
		before = before->before;
	}
	h->before = before;
	h->after = before != NULL ? before->after : r->first;
	if (h->before != NULL) {
		h->before->after = h;
	} else {
		r->first = h;
	}
	if (h->after != NULL) {
		h->after->before = h;
	} else {
		r->last = h;
	}
	h->state = state;
	h->position = UINT32_MAX;
	h->told = -1.0;
	h->entry->waiting++;
	r->n_waiting++;
	kick(r);
}

static void leave_line(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	if (h->before != NULL) {
		h->before->after = h->after;
	} else {
		r->first = h->after;
	}
	if (h->after != NULL) {
		h->after->before = h->before;
	} else {
		r->last = h->before;
	}
	h->before = NULL;
	h->after = NULL;
	h->entry->waiting--;
	r->n_waiting--;
}

static void decide(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	leave_line(r, h);
	h->decided = true;
	h->next = NULL;
	if (r->told_last != NULL) {
		r->told_last->next = h;
	} else {
		r->told_first = h;
	}
	r->told_last = h;
}

static void use(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP
{
	e->used_order = ++r->order;
	e->used_ms = unix_ms();
	e->idle_since_ms = loop_ms(r);
}

static void grant(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	decide(r, h);
	h->state = BN_HOLD_GRANTED;
	h->refused = false;
	h->entry->live++;
	use(r, h->entry);
}

static void refuse(struct bn_registry *r, struct bn_hold *h, const struct bn_error *err) BN_ON_LOOP
{
	decide(r, h);
	h->state = BN_HOLD_NONE;
	h->refused = true;
	h->error = *err;
}

static void refuse_all(struct bn_registry *r, const struct bn_entry *e,
		       const struct bn_error *err) BN_ON_LOOP
{
	struct bn_hold *next;

	for (struct bn_hold *h = r->first; h != NULL; h = next) {
		next = h->after;
		if (h->entry == e) {
			refuse(r, h, err);
		}
	}
}

static void undecide(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	struct bn_hold *before = NULL;

	for (struct bn_hold *at = r->told_first; at != h; at = at->next) {
		before = at;
	}
	if (before != NULL) {
		before->next = h->next;
	} else {
		r->told_first = h->next;
	}
	if (r->told_last == h) {
		r->told_last = before;
	}
	h->decided = false;
}

static void tell(struct bn_registry *r) BN_ON_LOOP
{
	while (r->told_first != NULL) {
		struct bn_hold *h = r->told_first;

		undecide(r, h);
		if (h->refused) {
			struct bn_error err = h->error;

			leave_user(r, h->user);
			h->user = NULL;
			h->entry = NULL;
			h->hooks->failed(h, &err);
		} else {
			h->hooks->granted(h);
		}
	}
}

/* --- leaving memory ------------------------------------------------------------------------- */

static void depart(struct bn_registry *r, struct bn_entry *e, enum bn_departure_reason reason,
		   const struct bn_entry *by) BN_ON_LOOP
{
	struct bn_departure *d = &r->departures[r->n_departures++ % BN_REGISTRY_DEPARTURES];
	char bytes[32];

	*d = (struct bn_departure){ .reason = reason,
				    .bytes = bn_entry_resident(e),
				    .unix_ms = unix_ms() };
	strncpy(d->name, e->config.name, sizeof(d->name) - 1);
	if (by != NULL) {
		strncpy(d->by, by->config.name, sizeof(d->by) - 1);
	}
	bn_log(BN_LOG_INFO, "model %s leaves memory (%s%s%s), %s free",
	       BN_LOG_BYTES(e->config.name, strlen(e->config.name)), bn_departure_word(reason),
	       by != NULL ? " for " : "",
	       by != NULL ? BN_LOG_BYTES(by->config.name, strlen(by->config.name)) : "",
	       bn_budget_show(bytes, sizeof(bytes), d->bytes));
	bn_metrics_add(r->config.metrics, BN_METRIC_EVICTIONS, bn_departure_word(reason), 1);
	bn_entry_drop(e);
}

static bool is_idle(const struct bn_entry *e)
{
	return e->state == BN_ENTRY_READY && e->live == 0;
}

/* Idle and unpinned models but `e`, least recently used first; with_waiters: also those somebody
 * waits for, after the others. Returns the one after `last` (NULL: the first), NULL at the end. */
static struct bn_entry *next_victim(const struct bn_registry *r, const struct bn_entry *e,
				    bool with_waiters, const struct bn_entry *last) BN_ON_LOOP
{
	struct bn_entry *best = NULL;

	for (struct bn_entry *v = r->entries; v != NULL; v = v->next) {
		bool behind_last = last == NULL || (v->waiting > 0) > (last->waiting > 0) ||
				   ((v->waiting > 0) == (last->waiting > 0) &&
				    v->used_order > last->used_order);
		bool before_best = best == NULL || (v->waiting > 0) < (best->waiting > 0) ||
				   ((v->waiting > 0) == (best->waiting > 0) &&
				    v->used_order < best->used_order);

		if (v != e && v != last && is_idle(v) && !v->pinned &&
		    (with_waiters || v->waiting == 0) && behind_last && before_best) {
			best = v;
		}
	}
	return best;
}

static uint64_t free_bytes(const struct bn_registry *r) BN_ON_LOOP
{
	return bn_budget_limit(r->config.budget) - bn_budget_used(r->config.budget);
}

/*
 * Sends idle models away so that `bytes` will fit for `e`. True when that is enough (they are on
 * their way out, or were already); false, and nobody was sent, when it is not.
 */
static bool make_room(struct bn_registry *r, const struct bn_entry *e, uint64_t bytes,
		      bool with_waiters) BN_ON_LOOP
{
	uint64_t have = free_bytes(r);
	uint64_t would;

	for (const struct bn_entry *v = r->entries; v != NULL; v = v->next) {
		if (v->state == BN_ENTRY_DRAINING) {
			have += bn_entry_resident(v);
		}
	}
	would = have;
	for (struct bn_entry *v = NULL; would < bytes;) {
		v = next_victim(r, e, with_waiters, v);
		if (v == NULL) {
			return false;
		}
		would += bn_entry_resident(v);
	}
	while (have < bytes) {
		struct bn_entry *v = next_victim(r, e, with_waiters, NULL);

		have += bn_entry_resident(v);
		depart(r, v, BN_DEPARTURE_MEMORY, e);
	}
	return true;
}

/* Whether `bytes` for `e` fit once everything but it and pinned models has left. */
static bool is_possible(const struct bn_registry *r, const struct bn_entry *e,
			uint64_t bytes) BN_ON_LOOP
{
	uint64_t left = bn_budget_limit(r->config.budget);

	for (const struct bn_entry *p = r->entries; p != NULL; p = p->next) {
		bool in = p->state == BN_ENTRY_READY ||
			  (p->state == BN_ENTRY_LOADING && p->phase == BN_ENTRY_READING);

		if (p != e && p->pinned && in) {
			uint64_t held = bn_entry_resident(p);

			left = held < left ? left - held : 0;
		}
	}
	return bytes <= left;
}

/* --- one look at everybody who waits -------------------------------------------------------- */

static bool is_patient(const struct bn_registry *r, const struct bn_hold *h) BN_ON_LOOP
{
	return loop_ms(r) - h->since_ms < r->config.patience_ms;
}

/* Rule 6: a load that others must make way for. */
static bool is_promoted(const struct bn_registry *r, const struct bn_hold *h) BN_ON_LOOP
{
	const struct bn_entry *e = h->entry;

	return e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM && !is_patient(r, h) &&
	       (r->ready_at_ms == 0 || loop_ms(r) - r->ready_at_ms >= r->config.residency_ms);
}

static int compare(const void *a, const void *b)
{
	const struct bn_hold *x = *(struct bn_hold *const *)a;
	const struct bn_hold *y = *(struct bn_hold *const *)b;

	if (x->promoted != y->promoted) {
		return x->promoted ? -1 : 1;
	}
	if (!x->promoted && x->rank != y->rank) {
		return x->rank < y->rank ? -1 : 1;
	}
	return x->order < y->order ? -1 : 1;
}

/* Fills r->line with everybody who waits, in the order of rule 5 and 6. */
static size_t line_up(struct bn_registry *r) BN_ON_LOOP
{
	size_t n = 0;

	if (r->n_waiting > r->line_room) {
		size_t room = (size_t)r->n_waiting * 2;

		free(r->line);
		r->line = calloc(room, sizeof(struct bn_hold *));
		bn_assert(r->line != NULL);
		r->line_room = room;
	}
	for (struct bn_registry_user *u = r->users; u != NULL; u = u->next) {
		u->counter = u->served;
	}
	for (struct bn_hold *h = r->first; h != NULL; h = h->after) {
		h->rank = h->user->counter++;
		h->promoted = is_promoted(r, h);
		r->line[n++] = h;
	}
	if (n > 1) {
		qsort(r->line, n, sizeof(struct bn_hold *), compare);
	}
	return n;
}

static void refuse_size(struct bn_registry *r, struct bn_hold *h, uint64_t bytes) BN_ON_LOOP
{
	struct bn_error err;

	bn_budget_refuse(r->config.budget, h->entry->config.name, bytes, &err);
	bn_wrap(&err, "model '%s'", h->entry->config.name);
	refuse(r, h, &err);
}

static void refuse_wait(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	struct bn_error err;

	bn_fail(&err, BN_E_OVERLOADED,
		"model '%s': no memory is free now, and the request said queue: \"fail\"",
		h->entry->config.name);
	bn_error_number(&err, "retry_after_ms", 1000);
	refuse(r, h, &err);
}

static enum gate narrower(enum gate a, enum gate b)
{
	return a > b ? a : b;
}

/* A loading model that knows its size wants room; asked once per look, for its first hold. */
static enum gate want_room(struct bn_registry *r, struct bn_hold *h, enum gate gate) BN_ON_LOOP
{
	struct bn_entry *e = h->entry;
	uint64_t need = bn_entry_need(e);

	if (!is_possible(r, e, need)) {
		struct bn_error err;

		bn_budget_refuse(r->config.budget, e->config.name, need, &err);
		bn_wrap(&err, "model '%s'", e->config.name);
		bn_entry_give_up(e, &err);
		refuse_all(r, e, &err);
		return gate;
	}
	if (gate != GATE_OPEN) {
		return gate;
	}
	if (bn_budget_fits(r->config.budget, need)) {
		bn_assert(bn_entry_read(e, NULL) == BN_OK);
		return gate;
	}
	if (make_room(r, e, need, h->promoted)) {
		return GATE_MEMORY;
	}
	if (h->no_wait) {
		refuse_wait(r, h);
		return gate;
	}
	return h->promoted ? GATE_MODELS : gate;
}

static enum gate want_memory(struct bn_registry *r, struct bn_hold *h, enum gate gate) BN_ON_LOOP
{
	struct bn_entry *e = h->entry;
	uint64_t bytes = h->wanted_bytes;

	if (!is_possible(r, e, bn_entry_resident(e) + bytes)) {
		refuse_size(r, h, bytes);
		return gate;
	}
	if (gate != GATE_OPEN || e->closing) {
		return gate;
	}
	if (bn_budget_fits(r->config.budget, bytes)) {
		bn_assert(bn_budget_reserve(r->config.budget, BN_BUDGET_KV, e->config.name, bytes,
					    NULL) == BN_OK);
		h->bytes = bytes;
		e->kv_bytes += bytes;
		h->user->served++;
		grant(r, h);
		return gate;
	}
	if (make_room(r, e, bytes, !is_patient(r, h))) {
		return GATE_MEMORY;
	}
	if (h->no_wait) {
		refuse_wait(r, h);
		return gate;
	}
	return is_patient(r, h) ? gate : GATE_MEMORY;
}

/* What one who waits gets now; returns what is left for those behind. */
static enum gate consider(struct bn_registry *r, struct bn_hold *h, enum gate gate) BN_ON_LOOP
{
	struct bn_entry *e = h->entry;
	struct bn_error err;

	if (h->no_load && e->state != BN_ENTRY_READY) {
		bn_fail(&err, e->state == BN_ENTRY_LOADING ? BN_E_LOADING : BN_E_CONFLICT,
			"model '%s' is not in memory (it is %s), and the request said autoload: "
			"false",
			e->config.name, bn_entry_state_word(e->state));
		refuse(r, h, &err);
		return gate;
	}
	switch (e->state) {
	case BN_ENTRY_COLD:
	case BN_ENTRY_FAILED:
		bn_entry_plan(e);
		return gate;
	case BN_ENTRY_LOADING:
		return e->phase == BN_ENTRY_ROOM ? want_room(r, h, gate) : gate;
	case BN_ENTRY_READY:
		if (h->state == BN_HOLD_MEMORY) {
			return want_memory(r, h, gate);
		}
		if (!e->closing && gate != GATE_MODELS) {
			grant(r, h);
		}
		return gate;
	default:
		return gate;
	}
}

static void look(struct bn_registry *r) BN_ON_LOOP
{
	size_t n = line_up(r);
	enum gate gate = GATE_OPEN;
	uint32_t position = 0;

	for (size_t i = 0; i < n; i++) {
		struct bn_hold *h = r->line[i];

		if (!h->decided) {
			gate = narrower(gate, consider(r, h, gate));
		}
	}
	/* A load nobody waits for (preload, warm) comes after everybody who waits. */
	for (struct bn_entry *e = r->entries; e != NULL; e = e->next) {
		if (e->state != BN_ENTRY_LOADING || e->phase != BN_ENTRY_ROOM || e->waiting > 0) {
			continue;
		}
		if (!is_possible(r, e, bn_entry_need(e))) {
			struct bn_error err;

			bn_budget_refuse(r->config.budget, e->config.name, bn_entry_need(e), &err);
			bn_wrap(&err, "model '%s'", e->config.name);
			bn_log(BN_LOG_WARN, "%s", err.text);
			bn_entry_give_up(e, &err);
		} else if (gate == GATE_OPEN &&
			   bn_budget_fits(r->config.budget, bn_entry_need(e))) {
			bn_assert(bn_entry_read(e, NULL) == BN_OK);
		} else if (gate == GATE_OPEN && make_room(r, e, bn_entry_need(e), false)) {
			gate = GATE_MEMORY;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct bn_hold *h = r->line[i];
		const struct bn_entry *e = h->entry;
		double loaded = -1.0;

		if (h->decided) {
			continue;
		}
		if (e->state == BN_ENTRY_LOADING) {
			loaded = bn_entry_progress(e);
		}
		if ((h->position != position || h->told < loaded || h->told > loaded) &&
		    h->hooks->waiting != NULL) {
			h->hooks->waiting(h, position, loaded);
		}
		h->position = position++;
		h->told = loaded;
	}
}

/* --- the clock ------------------------------------------------------------------------------ */

static void unlink_entry(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP
{
	struct bn_entry **at = &r->entries;

	while (*at != e) {
		at = &(*at)->next;
	}
	*at = e->next;
}

/* Sends away what has been idle for too long, forgets what is gone. Returns when to look again. */
static uint64_t tidy(struct bn_registry *r) BN_ON_LOOP
{
	uint64_t now = loop_ms(r);
	uint64_t next = UINT64_MAX;
	struct bn_entry *after;

	for (struct bn_entry *e = r->entries; e != NULL; e = after) {
		after = e->next;
		if (is_idle(e) && e->closing) {
			depart(r, e, BN_DEPARTURE_UNLOAD, NULL);
			e->closing = false;
		} else if (is_idle(e) && e->removed && e->waiting == 0) {
			depart(r, e, BN_DEPARTURE_RELOAD, NULL);
		} else if (is_idle(e) && e->waiting == 0 && !e->pinned && e->keep_alive_ms >= 0) {
			uint64_t due = e->idle_since_ms + (uint64_t)e->keep_alive_ms;

			if (due <= now) {
				depart(r, e, BN_DEPARTURE_IDLE, NULL);
			} else if (due < next) {
				next = due;
			}
		} else if (e->removed && e->live == 0 && e->waiting == 0 &&
			   (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED)) {
			unlink_entry(r, e);
			bn_entry_free(e);
		}
	}
	return next;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct bn_registry *r = handle->data;

	free(r->line);
	r->closed(r->closed_who);
	free(r);
}

/* True when nothing is left in memory or on its way. */
static bool close_entries(struct bn_registry *r) BN_ON_LOOP
{
	bool gone = true;

	for (struct bn_entry *e = r->entries; e != NULL; e = e->next) {
		if (e->state == BN_ENTRY_LOADING && !e->cancelled) {
			bn_entry_cancel(e);
		} else if (is_idle(e)) {
			bn_entry_drop(e);
		}
		gone = gone && (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED);
	}
	return gone;
}

static void on_clock(uv_timer_t *timer)
{
	struct bn_registry *r = timer->data;
	uint64_t now, next;

	bn_enter_loop();
	r->kicked = false;
	if (r->closing) {
		if (r->users == NULL && close_entries(r)) {
			while (r->entries != NULL) {
				struct bn_entry *e = r->entries;

				r->entries = e->next;
				bn_entry_free(e);
			}
			uv_close((uv_handle_t *)&r->clock, on_timer_closed);
		}
		return;
	}
	look(r);
	tell(r);
	next = tidy(r);
	if (r->kicked) {
		return; /* somebody changed something meanwhile: the timer is set */
	}
	now = loop_ms(r);
	if (r->n_waiting > 0 && next > now + BN_REGISTRY_TICK_MS) {
		next = now + BN_REGISTRY_TICK_MS;
	}
	if (next != UINT64_MAX) {
		uv_timer_start(&r->clock, on_clock, next > now ? next - now : 0, 0);
	}
}

static void on_changed(void *who, struct bn_entry *e) BN_ON_LOOP
{
	struct bn_registry *r = who;
	const char *name = e->config.name;
	struct bn_log_field field;

	if (e->state == BN_ENTRY_READY) {
		char bytes[32];

		r->ready_at_ms = loop_ms(r);
		e->wanted = false;
		use(r, e);
		bn_log(BN_LOG_INFO, "model %s is loaded: %s, kernel %s, %.2f s",
		       bn_log_escape(&field, name, strlen(name)),
		       bn_budget_show(bytes, sizeof(bytes), bn_entry_resident(e)), e->info.kernel,
		       (double)e->load_ns / 1e9);
		for (uint32_t i = 0; i < e->info.n_warnings; i++) {
			struct bn_log_field text;

			bn_log(BN_LOG_WARN, "model %s: %s", field.text,
			       bn_log_escape(&text, e->info.warnings[i],
					     strlen(e->info.warnings[i])));
		}
		bn_metrics_add(r->config.metrics, BN_METRIC_LOADS,
			       e->waiting > 0 ? "request" : "ahead", 1);
		bn_metrics_observe(r->config.metrics, BN_METRIC_LOAD_SECONDS, NULL,
				   (double)e->load_ns / 1e9);
	} else if (e->state == BN_ENTRY_FAILED) {
		struct bn_log_field text;

		e->wanted = false;
		bn_log(BN_LOG_WARN, "%s",
		       bn_log_escape(&text, e->error.text, strlen(e->error.text)));
		bn_metrics_add(r->config.metrics, BN_METRIC_LOAD_FAILURES,
			       bn_status_word(e->error.status), 1);
		refuse_all(r, e, &e->error);
	}
	bn_metrics_set(r->config.metrics, BN_METRIC_MODELS_READY, NULL, bn_registry_ready(r));
	kick(r);
}

/* --- holds ---------------------------------------------------------------------------------- */

void bn_registry_hold(struct bn_registry *r, struct bn_hold *h, struct bn_entry *e)
{
	bn_assert(h->state == BN_HOLD_NONE && !h->decided && !r->closing);
	h->entry = e;
	h->user = join_user(r, h->uid);
	h->since_ms = loop_ms(r);
	h->order = ++r->order;
	h->wanted_bytes = 0;
	h->bytes = 0;
	wait_in_line(r, h, BN_HOLD_MODEL);
}

void bn_registry_reserve(struct bn_registry *r, struct bn_hold *h, uint64_t bytes)
{
	bn_assert(h->state == BN_HOLD_GRANTED && !h->decided && h->bytes == 0 && bytes > 0);
	h->entry->live--;
	h->wanted_bytes = bytes;
	wait_in_line(r, h, BN_HOLD_MEMORY);
}

/* A load without anybody who wants it ends. */
static void give_up_load(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP
{
	(void)r;
	if (e->state == BN_ENTRY_LOADING && e->waiting == 0 && !e->wanted && !e->cancelled) {
		bn_entry_cancel(e);
	}
}

void bn_registry_release(struct bn_registry *r, struct bn_hold *h)
{
	struct bn_entry *e = h->entry;

	if (h->decided) {
		undecide(r, h);
	} else if (h->state == BN_HOLD_MODEL || h->state == BN_HOLD_MEMORY) {
		leave_line(r, h);
	}
	if (h->user == NULL) {
		return; /* was told of its failure, or never held */
	}
	if (h->state == BN_HOLD_GRANTED) {
		e->live--;
		if (h->bytes > 0) {
			bn_budget_release(r->config.budget, BN_BUDGET_KV, e->config.name, h->bytes);
			e->kv_bytes -= h->bytes;
			h->bytes = 0;
		}
		use(r, e);
	}
	h->state = BN_HOLD_NONE;
	leave_user(r, h->user);
	h->user = NULL;
	h->entry = NULL;
	give_up_load(r, e);
	kick(r);
}

/* --- models --------------------------------------------------------------------------------- */

static bool has_name(const struct bn_entry *e, struct bn_text name)
{
	bool found = bn_text_is(name, e->config.name);

	for (uint32_t i = 0; i < e->config.aliases.n && !found; i++) {
		found = bn_text_is(name, e->config.aliases.at[i]);
	}
	return found;
}

enum bn_status bn_registry_find(struct bn_registry *r, struct bn_text name, struct bn_entry **out,
				struct bn_error *err)
{
	struct bn_suggest suggest;
	const char *best;
	int shown = name.n > 64 ? 64 : (int)name.n;
	uint32_t n = 0;

	bn_suggest_init(&suggest, name);
	for (struct bn_entry *e = r->entries; e != NULL; e = e->next) {
		if (e->removed) {
			continue;
		}
		if (has_name(e, name)) {
			*out = e;
			return BN_OK;
		}
		n++;
		bn_suggest_offer(&suggest, e->config.name);
		for (uint32_t i = 0; i < e->config.aliases.n; i++) {
			bn_suggest_offer(&suggest, e->config.aliases.at[i]);
		}
	}
	best = bn_suggest_best(&suggest);
	if (n == 0) {
		return bn_fail(err, BN_E_NOT_FOUND,
			       "no model '%.*s': the configuration has no models", shown, name.at);
	}
	if (best == NULL) {
		return bn_fail(err, BN_E_NOT_FOUND,
			       "no model '%.*s'; models.list tells which there are", shown,
			       name.at);
	}
	bn_fail(err, BN_E_NOT_FOUND, "no model '%.*s'; did you mean '%s'?", shown, name.at, best);
	bn_error_string(err, "suggestions", best);
	return BN_E_NOT_FOUND;
}

struct bn_entry *bn_registry_first(struct bn_registry *r)
{
	return r->entries;
}

void bn_registry_warm(struct bn_registry *r, struct bn_entry *e)
{
	if (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED) {
		bn_entry_plan(e);
	}
	e->wanted = true;
	kick(r);
}

void bn_registry_keep_alive(struct bn_registry *r, struct bn_entry *e, int64_t ms)
{
	e->keep_alive_ms = ms;
	kick(r);
}

void bn_registry_pin(struct bn_registry *r, struct bn_entry *e, bool pin)
{
	e->pinned = pin;
	kick(r);
}

void bn_registry_unload(struct bn_registry *r, struct bn_entry *e)
{
	struct bn_error err;

	e->wanted = false;
	if (e->state == BN_ENTRY_LOADING) {
		bn_fail(&err, BN_E_CONFLICT, "model '%s' was unloaded while it was being loaded",
			e->config.name);
		refuse_all(r, e, &err);
		if (!e->cancelled) {
			bn_entry_cancel(e);
		}
	} else if (e->state == BN_ENTRY_READY) {
		e->closing = true;
	}
	kick(r);
}

void bn_registry_keep(struct bn_registry *r, struct bn_entry *e)
{
	e->closing = false;
	kick(r);
}

uint32_t bn_registry_victims(struct bn_registry *r, const struct bn_entry *e, uint64_t bytes,
			     struct bn_entry **out, uint32_t room, bool *fits)
{
	uint64_t have = free_bytes(r);
	struct bn_entry *v = NULL;
	uint32_t n = 0;

	while (have < bytes) {
		v = next_victim(r, e, false, v);
		if (v == NULL) {
			*fits = false;
			return n;
		}
		have += bn_entry_resident(v);
		if (n < room) {
			out[n] = v;
		}
		n++;
	}
	*fits = true;
	return n;
}

const struct bn_departure *bn_registry_departure(const struct bn_registry *r, uint32_t i)
{
	if (i >= r->n_departures || i >= BN_REGISTRY_DEPARTURES) {
		return NULL;
	}
	return &r->departures[(r->n_departures - 1 - i) % BN_REGISTRY_DEPARTURES];
}

uint32_t bn_registry_waiting(const struct bn_registry *r)
{
	return r->n_waiting;
}

uint32_t bn_registry_ready(const struct bn_registry *r)
{
	uint32_t n = 0;

	for (const struct bn_entry *e = r->entries; e != NULL; e = e->next) {
		n += e->state == BN_ENTRY_READY;
	}
	return n;
}

uint64_t bn_registry_expires_ms(const struct bn_registry *r, const struct bn_entry *e)
{
	uint64_t idle;

	if (!is_idle(e) || e->waiting > 0 || e->pinned || e->keep_alive_ms < 0) {
		return 0;
	}
	idle = loop_ms(r) - e->idle_since_ms;
	return unix_ms() + (uint64_t)e->keep_alive_ms -
	       (idle < (uint64_t)e->keep_alive_ms ? idle : (uint64_t)e->keep_alive_ms);
}

/* --- life ----------------------------------------------------------------------------------- */

enum bn_status bn_registry_new(struct bn_registry **out, const struct bn_registry_config *config,
			       struct bn_error *err)
{
	struct bn_registry *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the registry");
	}
	r->config = *config;
	uv_timer_init(config->loop, &r->clock);
	r->clock.data = r;
	*out = r;
	return BN_OK;
}

/* The configured entry of that name that has not been seen to in this apply. */
static struct bn_entry *take_named(struct bn_registry *r, const char *name) BN_ON_LOOP
{
	for (struct bn_entry **at = &r->entries; *at != NULL; at = &(*at)->next) {
		struct bn_entry *e = *at;

		if (!e->removed && strcmp(e->config.name, name) == 0) {
			*at = e->next;
			e->next = NULL;
			return e;
		}
	}
	return NULL;
}

enum bn_status bn_registry_apply(struct bn_registry *r, const struct bn_config *config,
				 bool preload, struct bn_error *err)
{
	struct bn_entry_context context = { .loop = r->config.loop,
					    .budget = r->config.budget,
					    .cpu = r->config.cpu,
					    .forward = r->config.forward,
					    .changed = on_changed,
					    .who = r };
	struct bn_entry *kept = NULL;
	struct bn_entry **last = &kept;
	enum bn_status status = BN_OK;

	for (uint32_t i = 0; i < config->n_models && status == BN_OK; i++) {
		const struct bn_config_model *m = &config->models[i];
		struct bn_entry *e = take_named(r, m->name);

		if (e != NULL && !bn_entry_is_same(e, m)) {
			/* Back to the others, which all leave; the name goes to a new one. */
			e->removed = true;
			e->next = r->entries;
			r->entries = e;
			e = NULL;
		}
		if (e != NULL) {
			status = bn_entry_adjust(e, m, err);
		} else {
			status = bn_entry_new(&e, &context, m, err);
		}
		if (e != NULL) {
			*last = e;
			last = &e->next;
		}
	}
	if (status == BN_OK) {
		for (struct bn_entry *e = r->entries; e != NULL; e = e->next) {
			e->removed = true;
			e->wanted = false;
			e->pinned = false;
			give_up_load(r, e);
		}
	}
	*last = r->entries;
	r->entries = kept;
	for (struct bn_entry *e = kept; preload && e != NULL && status == BN_OK; e = e->next) {
		if (!e->removed && e->config.preload) {
			bn_registry_warm(r, e);
		}
	}
	kick(r);
	return status;
}

void bn_registry_close(struct bn_registry *r, void (*closed)(void *who), void *who)
{
	bn_assert(!r->closing);
	r->closing = true;
	r->closed = closed;
	r->closed_who = who;
	kick(r);
}
