/*
 * The holds on models: who waits for one or for context memory, in which order their turn comes,
 * who has been decided on but not told yet, and who has what. Keeps their two counts in each entry.
 *
 * It decides nothing and knows no free bytes: daemon/registry.h walks those who wait,
 * grants and refuses. Whoever wants a model embeds a `struct bn_hold` and goes to the registry with
 * it.
 *
 * Whose turn it is: those whom the registry puts first, by arrival; then everybody else round the
 * users: who was served memory least often is first, then who came first. A user who has been away
 * begins with what the others have had, so waiting outside earns nothing.
 */
#ifndef BN_DAEMON_HOLDS_H
#define BN_DAEMON_HOLDS_H

#include "daemon/entry.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bn_hold;

/* What a hold gets to hear, always from the loop and never from inside a call of the registry. */
struct bn_hold_hooks {
	/* It has what it asked for last. */
	void (*granted)(struct bn_hold *h);
	/* It will not; the hold is as if released. *err is borrowed. */
	void (*failed)(struct bn_hold *h, const struct bn_error *err);
	/* While it waits, when something changed: how many are in front of it, and how much of its
	 * model is loaded (0..1), negative when none is being loaded. May be NULL. Must not call
	 * the registry. */
	void (*waiting)(struct bn_hold *h, uint32_t position, double loaded);
};

enum bn_hold_state {
	BN_HOLD_NONE,    /* nowhere; or decided: refused   */
	BN_HOLD_MODEL,   /* waits for the model                */
	BN_HOLD_MEMORY,  /* waits for context memory           */
	BN_HOLD_GRANTED, /* decided, not yet told; or in use   */
};

/* Embed one, zeroed; fill in the first block. */
struct bn_hold {
	const struct bn_hold_hooks *hooks;
	uid_t uid;
	bool no_load; /* fail rather than load the model                                   */
	bool no_wait; /* fail rather than wait for others to free memory                   */
	/* Ours, for the registry to read. */
	enum bn_hold_state state;
	bool decided;           /* granted or refused, and not told yet       */
	bool promoted;          /* the last bn_holds_sort put it first         */
	struct bn_entry *entry; /* what it wants or has; NULL: nothing        */
	uint64_t since_ms;      /* loop time when it came                     */
	uint64_t wanted_bytes;  /* while in MEMORY                            */
	uint64_t bytes;         /* in the ledger: the registry's              */
	/* Ours alone. */
	struct bn_holder *user;
	struct bn_hold *before, *after; /* waiting holds, by arrival */
	struct bn_hold *next;           /* decided, not yet told     */
	uint64_t arrival, rank;
	uint32_t position;
	double loaded; /* told last, as position */
	struct bn_error error;
};

/* Embed one, zeroed; the loop's. */
struct bn_holds {
	struct bn_hold *first, *last; /* who wait, by arrival */
	uint32_t n_waiting;
	struct bn_hold *told_first, *told_last;
	struct bn_hold **sorted; /* [n_sorted] of the last sort */
	size_t n_sorted, sorted_room;
	struct bn_holder *users;
	uint64_t arrivals;
};

/* Every hold must have left. */
void bn_holds_finish(struct bn_holds *all) BN_ON_LOOP;

/* Whether anybody waits for, is to be told of, or has anything. */
bool bn_holds_has_holds(const struct bn_holds *all) BN_ON_LOOP;

/* A hold in NONE comes at `now_ms` of the loop and waits for `e`. */
void bn_holds_join(struct bn_holds *all, struct bn_hold *h, struct bn_entry *e,
		   uint64_t now_ms) BN_ON_LOOP;

/* A granted hold gives its grant back and waits for `bytes` of memory at its old place. */
void bn_holds_wait_memory(struct bn_holds *all, struct bn_hold *h, uint64_t bytes) BN_ON_LOOP;

/* It is in NONE afterwards, wherever it was, and hears nothing more. It must have an entry. */
void bn_holds_leave(struct bn_holds *all, struct bn_hold *h) BN_ON_LOOP;

/*
 * One look: everybody who waits, in the order of their turn, to be walked by sorted[0..n_sorted).
 * Those for whom puts_first(who, h) holds come before all others. Whoever is granted or refused
 * while that is walked is `decided`.
 */
void bn_holds_sort(struct bn_holds *all,
		   bool (*puts_first)(const void *who, const struct bn_hold *h),
		   const void *who) BN_ON_LOOP;

/* One who waits gets what he wants, or does not; all who wait for `e` do not. bn_holds_tell says
 * so; until then the hold is decided. *err is copied. */
void bn_holds_grant(struct bn_holds *all, struct bn_hold *h) BN_ON_LOOP;
void bn_holds_refuse(struct bn_holds *all, struct bn_hold *h,
		     const struct bn_error *err) BN_ON_LOOP;
void bn_holds_refuse_all(struct bn_holds *all, const struct bn_entry *e,
			 const struct bn_error *err) BN_ON_LOOP;

/* Calls `waiting` of those of the last sort who still wait, where something has changed. */
void bn_holds_tell_places(struct bn_holds *all) BN_ON_LOOP;

/* Calls `granted` or `failed` of everybody who is decided; hooks may join, leave and wait again. */
void bn_holds_tell(struct bn_holds *all) BN_ON_LOOP;

#endif
