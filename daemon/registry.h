/*
 * The judge over models and everybody who wants one: who may use which model now, who must wait
 * for it or for memory, which model is loaded next, and which one leaves for it.
 *
 * It does not load by itself (daemon/entry.h does), compute, or know requests: whoever wants a
 * model embeds a `struct bn_hold` (daemon/holds.h). Names and configuration are daemon/catalog.h,
 * turns are daemon/holds.h, victims are daemon/departure.h; here is what ties them: the rules.
 *
 * A hold's way: bn_registry_hold() -> granted: the model is in memory and stays; then, if it needs
 * context memory, bn_registry_reserve() -> granted again: the bytes are in the ledger; at the end
 * bn_registry_release(), from any state. Between hold and granted it may fail instead.
 *
 * The rules, all of them:
 *
 *   1. Reserve before memory is taken, release after it is free; nothing else touches the ledger.
 *   2. One load per model, however many wait for it. Whatever is wrong with the file is told to all
 *      of them; the next one who comes tries again. Nobody left waiting: the load is stopped.
 *   3. A model leaves only when nobody uses it and it is not pinned: when its keep_alive has
 *      passed, or for somebody who waits for memory, least recently used first, and only if that
 *      makes the room that is needed. A model somebody waits for leaves only for one who has
 *      waited longer than BN_REGISTRY_PATIENCE_MS. One that was unloaded, or has left the
 *      configuration, lets nobody new in and leaves with its last user, pinned or not.
 *   4. What can never fit, even if everything but pinned models left, is refused at once.
 *   5. Memory goes round the users: who was served least often is first, then who came first. While
 *      one who waits is patient, others may take what is too little for him; when his patience is
 *      over, nobody behind him takes memory.
 *   6. A model that waits for memory longer than the patience goes before everybody else, and
 *      nobody is let into other models until it has it: they run dry, and leave. But a model that
 *      was just loaded has BN_REGISTRY_RESIDENCY_MS before this can happen to it. So two busy
 *      models that do not fit together take turns, and none starves, and they do not thrash.
 */
#ifndef BN_DAEMON_REGISTRY_H
#define BN_DAEMON_REGISTRY_H

#include "daemon/budget.h"
#include "daemon/config.h"
#include "daemon/departure.h"
#include "daemon/entry.h"
#include "daemon/holds.h"
#include "daemon/metrics.h"
#include "proto/error.h"
#include "proto/role.h"
#include "proto/value.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

enum {
	BN_REGISTRY_PATIENCE_MS = 2000,
	BN_REGISTRY_RESIDENCY_MS = 2000,
	BN_REGISTRY_TICK_MS = 100, /* progress and positions are told this often */
};

/* Opaque; owned by main. */
struct bn_registry;

struct bn_registry_config {
	uv_loop_t *loop;
	struct bn_budget *budget;
	struct bn_metrics *metrics; /* NULL allowed */
	uint64_t cpu;
	struct bn_forward_config forward;
	uint32_t patience_ms;  /* BN_REGISTRY_PATIENCE_MS outside tests  */
	uint32_t residency_ms; /* BN_REGISTRY_RESIDENCY_MS outside tests */
};

/* An empty one. BN_E_MEMORY. Undo with bn_registry_close. */
BN_MUST_USE enum bn_status bn_registry_new(struct bn_registry **out,
					   const struct bn_registry_config *config,
					   struct bn_error *err) BN_ON_LOOP;

/*
 * Makes the models of `config` the configured ones; at start and on reload. New ones come in, cold;
 * settings that need no load change at once; a model that is gone, or is loaded differently now,
 * finishes what runs on it and leaves, while newcomers get the new one. Nothing that runs is
 * disturbed. With `preload` models so marked begin to load. BN_E_MEMORY: some changes were made.
 */
BN_MUST_USE enum bn_status bn_registry_apply(struct bn_registry *r, const struct bn_config *config,
					     bool preload, struct bn_error *err) BN_ON_LOOP;

/*
 * Waits for the last hold to be released (nobody is granted anything any more), unloads everything
 * and then calls closed(who) from the loop; the registry is freed then.
 */
void bn_registry_close(struct bn_registry *r, void (*closed)(void *who), void *who) BN_ON_LOOP;

/* The model of that name or alias. BN_E_NOT_FOUND, with fact "suggestions" for the nearest name. */
BN_MUST_USE enum bn_status bn_registry_find(struct bn_registry *r, struct bn_text name,
					    struct bn_entry **out, struct bn_error *err) BN_ON_LOOP;

/* The configured models in the order of the file, then removed ones that are still in memory. */
struct bn_entry *bn_registry_first(struct bn_registry *r) BN_ON_LOOP; /* follow ->next */

/* Wants the model. Exactly one of granted and failed follows, unless it is released before. */
void bn_registry_hold(struct bn_registry *r, struct bn_hold *h, struct bn_entry *e) BN_ON_LOOP;

/* A granted hold wants `bytes` > 0 of context memory too. While it waits its model may be unloaded
 * and loaded again: look at hold->entry->model anew when granted. */
void bn_registry_reserve(struct bn_registry *r, struct bn_hold *h, uint64_t bytes) BN_ON_LOOP;

/* The end, from any state: gives back bytes (whose memory is free by now) and model. */
void bn_registry_release(struct bn_registry *r, struct bn_hold *h) BN_ON_LOOP;

/* How long an idle model stays from now on; BN_CONFIG_KEEP_FOREVER. */
void bn_registry_keep_alive(struct bn_registry *r, struct bn_entry *e, int64_t ms) BN_ON_LOOP;

/* Pins or unpins. */
void bn_registry_pin(struct bn_registry *r, struct bn_entry *e, bool pin) BN_ON_LOOP;

/* Has the model loaded although nobody waits for it. */
void bn_registry_warm(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP;

/*
 * Has the model leave: at once when idle; else nobody new is let in and it leaves with its last
 * user (ask again with bn_entry.state, or end it with bn_registry_keep). A load is stopped, which
 * those who waited are told. Cold ones stay so.
 */
void bn_registry_unload(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP;

/* Takes bn_registry_unload back. */
void bn_registry_keep(struct bn_registry *r, struct bn_entry *e) BN_ON_LOOP;

/*
 * Who would have to leave for `bytes` more to fit now: idle models, in order. Writes at most `room`
 * entries and returns how many there are; *fits tells whether that is enough.
 */
uint32_t bn_registry_victims(struct bn_registry *r, const struct bn_entry *e, uint64_t bytes,
			     struct bn_entry **out, uint32_t room, bool *fits) BN_ON_LOOP;

/* The i-th departure, newest first; NULL past the last that is remembered. */
const struct bn_departure *bn_registry_departure(const struct bn_registry *r,
						 uint32_t i) BN_ON_LOOP;

/* Holds that wait; models in READY. */
uint32_t bn_registry_waiting(const struct bn_registry *r) BN_ON_LOOP;
uint32_t bn_registry_ready(const struct bn_registry *r) BN_ON_LOOP;

/* Unix time at which an idle model will leave by its keep_alive; 0 when it will not. */
uint64_t bn_registry_expires_ms(const struct bn_registry *r, const struct bn_entry *e) BN_ON_LOOP;

#endif
