/*
 * Moments by which something must have happened, on one timer of the loop, however many they are.
 *
 * It does not know what they are for: who sets a deadline embeds it and says what is to be called.
 */
#ifndef BN_DAEMON_DEADLINE_H
#define BN_DAEMON_DEADLINE_H

#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Embed one, zeroed; fill in `passed`. The loop's. */
struct bn_deadline {
	/* It is over; called from the loop, once for each bn_deadline_set. May set and clear any.
	 */
	void (*passed)(struct bn_deadline *d);
	uint32_t ms; /* as set last */
	/* The rest belongs to deadline.c. */
	bool is_set;
	uint64_t due_ms;
	struct bn_deadline *before, *after;
};

/* Embed one; do not move it. */
struct bn_deadlines {
	uv_timer_t clock;
	struct bn_deadline *first, *last; /* that are set, the earliest first */
	void (*closed)(void *who);
	void *who;
};

/* None yet. Undo with bn_deadlines_close. */
void bn_deadlines_init(struct bn_deadlines *all, uv_loop_t *loop) BN_ON_LOOP;

/* None may be set. Calls closed(who) from the loop; *all may be freed then. */
void bn_deadlines_close(struct bn_deadlines *all, void (*closed)(void *who), void *who) BN_ON_LOOP;

/* `ms` from now; it must not be set. */
void bn_deadline_set(struct bn_deadlines *all, struct bn_deadline *d, uint32_t ms) BN_ON_LOOP;

/* It will not be called any more. Need not be set. */
void bn_deadline_clear(struct bn_deadlines *all, struct bn_deadline *d) BN_ON_LOOP;

#endif
