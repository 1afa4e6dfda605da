/*
 * Victims are found one after the other by walking the list: there are a handful of models, and
 * their order changes with every use.
 */
#include "daemon/departure.h"

#include "daemon/log.h"
#include "proto/assert.h"

#include <string.h>
#include <time.h>

#define DEPARTURE_WORD(SYMBOL, word) word,
static const char *const departure_words[BN_DEPARTURES] = { BN_DEPARTURE_TABLE(DEPARTURE_WORD) };
#undef DEPARTURE_WORD

const char *bn_departure_word(enum bn_departure_reason reason)
{
	bn_assert((unsigned)reason < BN_DEPARTURES);
	return departure_words[reason];
}

bool bn_departure_is_idle(const struct bn_entry *e)
{
	return e->state == BN_ENTRY_READY && e->live == 0;
}

bool bn_departure_is_possible(const struct bn_departures *d, const struct bn_entry *e,
			      uint64_t bytes)
{
	uint64_t left = bn_budget_limit(d->budget);

	for (const struct bn_entry *p = d->catalog->first; p != NULL; p = p->next) {
		bool in = p->state == BN_ENTRY_READY ||
			  (p->state == BN_ENTRY_LOADING && p->phase == BN_ENTRY_READING);

		if (p != e && p->pinned && in) {
			uint64_t held = bn_entry_resident(p);

			left = held < left ? left - held : 0;
		}
	}
	return bytes <= left;
}

/* --- who ------------------------------------------------------------------------------------ */

/* Whether `a` leaves before `b`. */
static bool leaves_before(const struct bn_entry *a, const struct bn_entry *b)
{
	if ((a->waiting > 0) != (b->waiting > 0)) {
		return b->waiting > 0;
	}
	return a->used_order < b->used_order;
}

/* The victim after `last` (NULL: the first), NULL at the end. */
static struct bn_entry *next_victim(const struct bn_catalog *c, const struct bn_entry *e,
				    bool with_waiters, const struct bn_entry *last) BN_ON_LOOP
{
	struct bn_entry *best = NULL;

	for (struct bn_entry *v = c->first; v != NULL; v = v->next) {
		bool may = v != e && bn_departure_is_idle(v) && !v->pinned &&
			   (with_waiters || v->waiting == 0);

		if (may && (last == NULL || leaves_before(last, v)) &&
		    (best == NULL || leaves_before(v, best))) {
			best = v;
		}
	}
	return best;
}

/* How many must leave, in the order above, until `bytes` fit with what is free and what is on its
 * way out; false when all of them are too few. */
static bool count_victims(const struct bn_departures *d, const struct bn_entry *e, uint64_t bytes,
			  bool with_waiters, uint32_t *n) BN_ON_LOOP
{
	uint64_t have = bn_budget_limit(d->budget) - bn_budget_used(d->budget);

	for (const struct bn_entry *v = d->catalog->first; v != NULL; v = v->next) {
		have += v->state == BN_ENTRY_DRAINING ? bn_entry_resident(v) : 0;
	}
	*n = 0;
	for (struct bn_entry *v = NULL; have < bytes; ++*n) {
		v = next_victim(d->catalog, e, with_waiters, v);
		if (v == NULL) {
			return false;
		}
		have += bn_entry_resident(v);
	}
	return true;
}

uint32_t bn_departure_victims(const struct bn_departures *d, const struct bn_entry *e,
			      uint64_t bytes, struct bn_entry **out, uint32_t room, bool *fits)
{
	struct bn_entry *v = NULL;
	uint32_t n;

	*fits = count_victims(d, e, bytes, false, &n);
	for (uint32_t i = 0; i < n && i < room; i++) {
		v = next_victim(d->catalog, e, false, v);
		out[i] = v;
	}
	return n;
}

bool bn_departure_make_room(struct bn_departures *d, const struct bn_entry *e, uint64_t bytes,
			    bool with_waiters)
{
	uint32_t n;

	if (!count_victims(d, e, bytes, with_waiters, &n)) {
		return false;
	}
	while (n-- > 0) {
		bn_departure_send(d, next_victim(d->catalog, e, with_waiters, NULL),
				  BN_DEPARTURE_MEMORY, e);
	}
	return true;
}

/* --- off ------------------------------------------------------------------------------------ */

static uint64_t unix_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void bn_departure_send(struct bn_departures *d, struct bn_entry *e, enum bn_departure_reason reason,
		       const struct bn_entry *by)
{
	struct bn_departure *new = &d->kept[d->n++ % BN_DEPARTURE_KEPT];
	char bytes[32];

	*new = (struct bn_departure){ .reason = reason,
				      .bytes = bn_entry_resident(e),
				      .unix_ms = unix_ms() };
	strncpy(new->name, e->config.name, sizeof(new->name) - 1);
	if (by != NULL) {
		strncpy(new->by, by->config.name, sizeof(new->by) - 1);
	}
	bn_log(BN_LOG_INFO, "model %s leaves memory (%s%s%s), %s free",
	       BN_LOG_BYTES(e->config.name, strlen(e->config.name)), bn_departure_word(reason),
	       by != NULL ? " for " : "",
	       by != NULL ? BN_LOG_BYTES(by->config.name, strlen(by->config.name)) : "",
	       bn_budget_show(bytes, sizeof(bytes), new->bytes));
	bn_metrics_add(d->metrics, BN_METRIC_EVICTIONS, bn_departure_word(reason), 1);
	bn_entry_drop(e);
}

const struct bn_departure *bn_departure_at(const struct bn_departures *d, uint32_t i)
{
	if (i >= d->n || i >= BN_DEPARTURE_KEPT) {
		return NULL;
	}
	return &d->kept[(d->n - 1 - i) % BN_DEPARTURE_KEPT];
}
