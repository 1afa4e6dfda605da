/*
 * Leaving memory: which idle models would go for how many bytes and in which order, sending one
 * off, and the record of who went, when and why.
 *
 * It does not decide when somebody has to go (daemon/registry.h does) and frees nothing itself
 * (daemon/entry.h does).
 */
#ifndef BN_DAEMON_DEPARTURE_H
#define BN_DAEMON_DEPARTURE_H

#include "daemon/budget.h"
#include "daemon/catalog.h"
#include "daemon/entry.h"
#include "daemon/metrics.h"
#include "daemon/setting.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>

/* X(SYMBOL, word): why a model left memory. */
#define BN_DEPARTURE_TABLE(X) \
	X(MEMORY, "memory")   \
	X(IDLE, "idle")       \
	X(UNLOAD, "unload")   \
	X(RELOAD, "reload")

#define BN_DEPARTURE_ENUM(SYMBOL, word) BN_DEPARTURE_##SYMBOL,
enum bn_departure_reason { BN_DEPARTURE_TABLE(BN_DEPARTURE_ENUM) BN_DEPARTURES };
#undef BN_DEPARTURE_ENUM

enum {
	BN_DEPARTURE_NAME_BYTES = BN_SETTING_NAME_MAX + 1,
	BN_DEPARTURE_KEPT = 32, /* remembered */
};

struct bn_departure {
	char name[BN_DEPARTURE_NAME_BYTES];
	char by[BN_DEPARTURE_NAME_BYTES]; /* MEMORY: the model it made room for; else empty */
	enum bn_departure_reason reason;
	uint64_t bytes;
	uint64_t unix_ms;
};

/* Embed one, zeroed; fill in the first block. The loop's. */
struct bn_departures {
	const struct bn_catalog *catalog; /* borrowed, as are the next two */
	struct bn_budget *budget;
	struct bn_metrics *metrics; /* NULL allowed */
	struct bn_departure kept[BN_DEPARTURE_KEPT];
	uint64_t n;
};

/* "memory", "idle" ...: static. */
const char *bn_departure_word(enum bn_departure_reason reason) BN_ON_ANY;

/* READY and nobody in it. */
bool bn_departure_is_idle(const struct bn_entry *e) BN_ON_LOOP;

/* Whether `bytes` for `e` fit the budget once everything but it and pinned models has left. */
bool bn_departure_is_possible(const struct bn_departures *d, const struct bn_entry *e,
			      uint64_t bytes) BN_ON_LOOP;

/*
 * Who would have to leave beside those on their way out for `bytes` more of `e` to fit: idle,
 * unpinned models nobody waits for, least recently used first. Writes at most `room` of them and
 * returns how many there are; *fits tells whether that is enough.
 */
uint32_t bn_departure_victims(const struct bn_departures *d, const struct bn_entry *e,
			      uint64_t bytes, struct bn_entry **out, uint32_t room,
			      bool *fits) BN_ON_LOOP;

/*
 * Sends them away. With `with_waiters` those somebody waits for may go too, after the others. True
 * when that will be enough: they are on their way out, or were already. False, and nobody was
 * sent, when it is not.
 */
bool bn_departure_make_room(struct bn_departures *d, const struct bn_entry *e, uint64_t bytes,
			    bool with_waiters) BN_ON_LOOP;

/* Sends an idle model off, and writes it down. `by` for MEMORY, else NULL. */
void bn_departure_send(struct bn_departures *d, struct bn_entry *e, enum bn_departure_reason reason,
		       const struct bn_entry *by) BN_ON_LOOP;

/* The i-th departure, newest first; NULL past the last that is remembered. */
const struct bn_departure *bn_departure_at(const struct bn_departures *d, uint32_t i) BN_ON_LOOP;

#endif
