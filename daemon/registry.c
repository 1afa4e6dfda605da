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

#include "daemon/catalog.h"
#include "daemon/log.h"
#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

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
	struct bn_catalog catalog;
	struct bn_holds holds;
	struct bn_departures departures;
	uint64_t uses;        /* of models, ever */
	uint64_t ready_at_ms; /* loop time of the last load; 0: never */
};

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

/* --- what entries need to be told ------------------------------------------------------------ */

static void use(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP
{
	e->used_order = ++r->uses;
	e->used_ms = unix_ms();
	e->idle_since_ms = loop_ms(r);
}

static void grant(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	bn_holds_grant(&r->holds, h);
	use(r, h->entry);
}

static void begin_load(struct bn_entry *e) BN_ON_LOOP
{
	if (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED) {
		bn_entry_plan(e);
	}
}

/* A load without anybody who wants it ends. */
static void give_up_load(struct bn_entry *e) BN_ON_LOOP
{
	if (e->state == BN_ENTRY_LOADING && e->waiting == 0 && !e->wanted && !e->cancelled) {
		bn_entry_cancel(e);
	}
}

/* --- one look at everybody who waits -------------------------------------------------------- */

static bool is_patient(const struct bn_registry *r, const struct bn_hold *h) BN_ON_LOOP
{
	return loop_ms(r) - h->since_ms < r->config.patience_ms;
}

/* Rule 6: a load that others must make way for. */
static bool is_promoted(const void *who, const struct bn_hold *h) BN_ON_LOOP
{
	const struct bn_registry *r = who;
	const struct bn_entry *e = h->entry;

	return e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM && !is_patient(r, h) &&
	       (r->ready_at_ms == 0 || loop_ms(r) - r->ready_at_ms >= r->config.residency_ms);
}

static void refuse_size(struct bn_registry *r, struct bn_hold *h, uint64_t bytes) BN_ON_LOOP
{
	struct bn_error err;

	bn_budget_refuse(r->config.budget, h->entry->config.name, bytes, &err);
	bn_wrap(&err, "model '%s'", h->entry->config.name);
	bn_holds_refuse(&r->holds, h, &err);
}

static void refuse_wait(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP
{
	struct bn_error err;

	bn_fail(&err, BN_E_OVERLOADED,
		"model '%s': no memory is free now, and the request said queue: \"fail\"",
		h->entry->config.name);
	bn_error_number(&err, "retry_after_ms", 1000);
	bn_holds_refuse(&r->holds, h, &err);
}

static enum gate narrower(enum gate a, enum gate b)
{
	return a > b ? a : b;
}

/*
 * A loading model that knows its size wants room. Asked for each of its holds, first to last, until
 * it has it or is on its way to it; h is NULL for a load nobody waits for (preload, warm).
 */
static enum gate want_room(struct bn_registry *r, struct bn_entry *e, struct bn_hold *h,
			   enum gate gate) BN_ON_LOOP
{
	uint64_t need = bn_entry_need(e);
	bool promoted = h != NULL && h->promoted;

	if (!bn_departure_is_possible(&r->departures, e, need)) {
		struct bn_error err;

		bn_budget_refuse(r->config.budget, e->config.name, need, &err);
		bn_wrap(&err, "model '%s'", e->config.name);
		if (h == NULL) {
			bn_log(BN_LOG_WARN, "%s", err.text); /* nobody else to tell */
		}
		e->wanted = false;
		bn_entry_give_up(e, &err);
		bn_holds_refuse_all(&r->holds, e, &err);
		return gate;
	}
	if (gate != GATE_OPEN) {
		return gate;
	}
	if (bn_budget_fits(r->config.budget, need)) {
		bn_assert(bn_entry_read(e, NULL) == BN_OK);
		return gate;
	}
	if (bn_departure_make_room(&r->departures, e, need, promoted)) {
		return GATE_MEMORY;
	}
	if (h != NULL && h->no_wait) {
		refuse_wait(r, h);
		return gate;
	}
	return promoted ? GATE_MODELS : gate;
}

static enum gate want_memory(struct bn_registry *r, struct bn_hold *h, enum gate gate) BN_ON_LOOP
{
	struct bn_entry *e = h->entry;
	uint64_t bytes = h->wanted_bytes;

	if (!bn_departure_is_possible(&r->departures, e, bn_entry_resident(e) + bytes)) {
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
		grant(r, h);
		return gate;
	}
	if (bn_departure_make_room(&r->departures, e, bytes, !is_patient(r, h))) {
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
		bn_holds_refuse(&r->holds, h, &err);
		return gate;
	}
	switch (e->state) {
	case BN_ENTRY_LOADING:
		return e->phase == BN_ENTRY_ROOM ? want_room(r, e, h, gate) : gate;
	case BN_ENTRY_READY:
		if (h->state == BN_HOLD_MEMORY) {
			return want_memory(r, h, gate);
		}
		if (!e->closing && gate != GATE_MODELS) {
			grant(r, h);
		}
		return gate;
	default:
		begin_load(e);
		return gate;
	}
}

static void look(struct bn_registry *r) BN_ON_LOOP
{
	enum gate gate = GATE_OPEN;

	bn_holds_sort(&r->holds, is_promoted, r);
	for (size_t i = 0; i < r->holds.n_sorted; i++) {
		struct bn_hold *h = r->holds.sorted[i];

		if (!h->decided) {
			gate = narrower(gate, consider(r, h, gate));
		}
	}
	/* A load nobody waits for comes after everybody who waits. */
	for (struct bn_entry *e = r->catalog.first; e != NULL; e = e->next) {
		if (e->wanted) {
			begin_load(e); /* it was on its way out when it was asked for */
		}
		if (e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM && e->waiting == 0) {
			gate = narrower(gate, want_room(r, e, NULL, gate));
		}
	}
	bn_holds_tell_places(&r->holds);
}

/* --- the clock ------------------------------------------------------------------------------ */

/* Sends away what has been idle for too long, forgets what is gone. Returns when to look again. */
static uint64_t tidy(struct bn_registry *r) BN_ON_LOOP
{
	uint64_t now = loop_ms(r);
	uint64_t next = UINT64_MAX;
	struct bn_entry *after;

	for (struct bn_entry *e = r->catalog.first; e != NULL; e = after) {
		after = e->next;
		if (bn_departure_is_idle(e) && e->closing) {
			bn_departure_send(&r->departures, e, BN_DEPARTURE_UNLOAD, NULL);
			e->closing = false;
		} else if (bn_departure_is_idle(e) && e->removed && e->waiting == 0) {
			bn_departure_send(&r->departures, e, BN_DEPARTURE_RELOAD, NULL);
		} else if (bn_departure_is_idle(e) && e->waiting == 0 && !e->pinned &&
			   e->keep_alive_ms >= 0) {
			uint64_t due = e->idle_since_ms + (uint64_t)e->keep_alive_ms;

			if (due <= now) {
				bn_departure_send(&r->departures, e, BN_DEPARTURE_IDLE, NULL);
			} else if (due < next) {
				next = due;
			}
		} else if (e->removed && e->live == 0 && e->waiting == 0 &&
			   (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED)) {
			bn_catalog_drop(&r->catalog, e);
		}
	}
	return next;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct bn_registry *r = handle->data;

	bn_enter_loop();
	bn_holds_finish(&r->holds);
	r->closed(r->closed_who);
	free(r);
}

/* True when nothing is left in memory or on its way. */
static bool close_entries(struct bn_registry *r) BN_ON_LOOP
{
	bool gone = true;

	for (struct bn_entry *e = r->catalog.first; e != NULL; e = e->next) {
		if (e->state == BN_ENTRY_LOADING && !e->cancelled) {
			bn_entry_cancel(e);
		} else if (bn_departure_is_idle(e)) {
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
		if (!bn_holds_has_holds(&r->holds) && close_entries(r)) {
			while (r->catalog.first != NULL) {
				bn_catalog_drop(&r->catalog, r->catalog.first);
			}
			uv_close((uv_handle_t *)&r->clock, on_timer_closed);
		}
		return;
	}
	look(r);
	bn_holds_tell(&r->holds);
	next = tidy(r);
	if (r->kicked) {
		return; /* somebody changed something meanwhile: the timer is set */
	}
	now = loop_ms(r);
	if (r->holds.n_waiting > 0 && next > now + BN_REGISTRY_TICK_MS) {
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

	e->closing = e->closing && e->state == BN_ENTRY_READY;
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
		bn_holds_refuse_all(&r->holds, e, &e->error);
	}
	bn_metrics_set(r->config.metrics, BN_METRIC_MODELS_READY, NULL, bn_registry_ready(r));
	kick(r);
}

/* --- holds ---------------------------------------------------------------------------------- */

void bn_registry_hold(struct bn_registry *r, struct bn_hold *h, struct bn_entry *e)
{
	bn_assert(!r->closing);
	bn_holds_join(&r->holds, h, e, loop_ms(r));
	kick(r);
}

void bn_registry_reserve(struct bn_registry *r, struct bn_hold *h, uint64_t bytes)
{
	bn_holds_wait_memory(&r->holds, h, bytes);
	kick(r);
}

void bn_registry_release(struct bn_registry *r, struct bn_hold *h)
{
	struct bn_entry *e = h->entry;

	if (e == NULL) {
		return; /* was told of its failure, or never held */
	}
	if (h->state == BN_HOLD_GRANTED) {
		if (h->bytes > 0) {
			bn_budget_release(r->config.budget, BN_BUDGET_KV, e->config.name, h->bytes);
			e->kv_bytes -= h->bytes;
			h->bytes = 0;
		}
		use(r, e);
	}
	bn_holds_leave(&r->holds, h);
	give_up_load(e);
	kick(r);
}

/* --- models --------------------------------------------------------------------------------- */

enum bn_status bn_registry_find(struct bn_registry *r, struct bn_text name, struct bn_entry **out,
				struct bn_error *err)
{
	return bn_catalog_find(&r->catalog, name, out, err);
}

struct bn_entry *bn_registry_first(struct bn_registry *r)
{
	return r->catalog.first;
}

void bn_registry_warm(struct bn_registry *r, struct bn_entry *e)
{
	begin_load(e);
	e->wanted = e->state != BN_ENTRY_READY;
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
		bn_holds_refuse_all(&r->holds, e, &err);
		if (!e->cancelled) {
			bn_entry_cancel(e);
		}
	}
	/* A load that is faster than its end is closed when it is there. */
	e->closing = e->state == BN_ENTRY_READY || e->state == BN_ENTRY_LOADING;
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
	return bn_departure_victims(&r->departures, e, bytes, out, room, fits);
}

const struct bn_departure *bn_registry_departure(const struct bn_registry *r, uint32_t i)
{
	return bn_departure_at(&r->departures, i);
}

uint32_t bn_registry_waiting(const struct bn_registry *r)
{
	return r->holds.n_waiting;
}

uint32_t bn_registry_ready(const struct bn_registry *r)
{
	uint32_t n = 0;

	for (const struct bn_entry *e = r->catalog.first; e != NULL; e = e->next) {
		n += e->state == BN_ENTRY_READY;
	}
	return n;
}

uint64_t bn_registry_expires_ms(const struct bn_registry *r, const struct bn_entry *e)
{
	uint64_t idle;

	if (!bn_departure_is_idle(e) || e->waiting > 0 || e->pinned || e->keep_alive_ms < 0) {
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
	r->departures.catalog = &r->catalog;
	r->departures.budget = config->budget;
	r->departures.metrics = config->metrics;
	uv_timer_init(config->loop, &r->clock);
	r->clock.data = r;
	*out = r;
	return BN_OK;
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
	enum bn_status status = bn_catalog_apply(&r->catalog, &context, config, err);

	for (struct bn_entry *e = r->catalog.first; e != NULL; e = e->next) {
		if (e->removed) {
			give_up_load(e);
		} else if (preload && status == BN_OK && e->config.preload) {
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
