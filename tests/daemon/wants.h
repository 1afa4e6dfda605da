/*
 * What tests of the registry stand on, beside rig.h: three models of one size, a budget that holds
 * so many of them, and holds that write down what they hear.
 *
 * It tests nothing.
 */
#ifndef BN_TESTS_DAEMON_WANTS_H
#define BN_TESTS_DAEMON_WANTS_H

#include "tests/daemon/rig.h"

enum { HOLDS_MAX = 64, PATIENCE_MS = 60, RESIDENCY_MS = 60, HOURS_MS = 7200000 };

/* A hold and what it heard. */
struct want {
	struct bn_hold hold; /* first, see of_hold */
	uint32_t granted, failed, waiting;
	struct bn_error err;
	uint32_t turn; /* when it was granted last, counted over all */
};

struct wants {
	struct rig rig;
	struct want want[HOLDS_MAX];
	uint32_t n;
	uint64_t resident, load_bytes; /* of each model */
};

/* Opens with "ann", "bob" and "cid" and a budget of `fit` of them and `kv` bytes more; with
 * PATIENCE_MS and RESIDENCY_MS, or as said. */
struct wants *wants_open(double fit, uint64_t kv);
struct wants *wants_open_with(double fit, uint64_t kv, uint32_t patience_ms, uint32_t residency_ms);

/* Releases all holds, and asserts that nothing is left. */
void wants_close(struct wants *s);

/* A hold more, which wants the model of that name; as uid 1, or as said. */
struct want *wants_hold(struct wants *s, const char *name);
struct want *wants_hold_as(struct wants *s, const char *name, uid_t uid, bool no_load,
			   bool no_wait);

void wants_release(struct wants *s, struct want *w);
void wants_reserve(struct wants *s, struct want *w, uint64_t bytes);

/* For rig_until: of a struct want; of a struct wants, that the ledger holds one model alone. */
bool want_is_granted(void *who);
bool want_has_failed(void *who);
bool wants_hold_one_model(void *who);

/* Turns the loop until it is granted, and has not failed; until the model is in that state. */
void wants_until_granted(struct wants *s, struct want *w);
void wants_until_state(struct wants *s, const char *name, enum bn_entry_state state);

enum bn_entry_state wants_state_of(struct wants *s, const char *name);
uint64_t wants_used(struct wants *s);

extern const struct bn_hold_hooks want_hooks;
extern uint32_t want_turns; /* grants so far, of everybody */

#endif
