/*
 * Who is next: the least-virtual-time pick. The scheduler uses it between models (cost in ns) and,
 * within a model, between clients (cost in tokens).
 *
 * It does not queue work, measure or lock: a party is either active (has work) or not, and its
 * owner says so. One owner at a time, whatever the thread.
 *
 * Each party has a virtual time that grows by cost / weight; the active party with the least is
 * next. A party that wakes up starts at the least virtual time among the active ones (or at the
 * last one seen, when nobody is active), unless its own is greater: sleeping earns no credit and
 * forgives no debt. That is the lift of VTC (Sheng et al., OSDI'24), and bounds the difference
 * between two parties that both have work by one charge on each side.
 */
#ifndef BN_DAEMON_FAIR_H
#define BN_DAEMON_FAIR_H

#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_FAIR_WEIGHT_MAX = 1000 };

/* Embed one in whatever is to be picked; zeroed means never seen. Only fair.c touches members. */
struct bn_fair_party {
	struct bn_fair_party *before;
	struct bn_fair_party *after;
	uint64_t vtime;
	uint32_t weight;
	uint32_t rest; /* of the last division: no cost is ever rounded away */
	bool active;
};

struct bn_fair {
	struct bn_fair_party head; /* ring of the active ones; among equals the first is next */
	uint64_t clock;            /* where a party wakes up when nobody is active            */
};

/* An empty set. Do not move it afterwards: the ring points at it. */
void bn_fair_init(struct bn_fair *f);

/* The party has work: weight 1..BN_FAIR_WEIGHT_MAX. Already active: only the weight changes. */
void bn_fair_wake(struct bn_fair *f, struct bn_fair_party *p, uint32_t weight);

/* The party has no work, or is going away. Not active: nothing happens. */
void bn_fair_sleep(struct bn_fair *f, struct bn_fair_party *p);

/* The active party with the least virtual time, the longest uncharged among equals, or NULL. */
struct bn_fair_party *bn_fair_pick(const struct bn_fair *f);

/* The one to take after `p` when p may not be picked: the next greater, NULL past the last. */
struct bn_fair_party *bn_fair_pick_after(const struct bn_fair *f, const struct bn_fair_party *p);

/* The party used `cost` (< 2^63). Active or not: debts may arrive late. */
void bn_fair_charge(struct bn_fair *f, struct bn_fair_party *p, uint64_t cost);

/* The object a party is embedded in: BN_FAIR_OWNER(p, struct tenant, fair). */
#define BN_FAIR_OWNER(party, type, member) \
	((type *)(void *)((char *)(party)-offsetof(type, member)))

#endif
