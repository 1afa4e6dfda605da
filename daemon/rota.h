/*
 * Who of many is to be looked after, and when: soon, just before the loop sleeps, or regularly,
 * while somebody's clock ticks.
 *
 * It does not know what its items are (daemon/connection.h has connections in one).
 *
 * Soon: whatever happens in one turn of the loop only notes that an item is due; all due ones are
 * served once, in the order they became so, in one pass at the end of the turn. Whoever becomes due
 * during a pass is served in the next one, and the loop does not sleep before that.
 *
 * Regularly: a timer that runs only while a sweep finds that somebody needs it, so that an idle
 * daemon does not wake up.
 */
#ifndef BN_DAEMON_ROTA_H
#define BN_DAEMON_ROTA_H

#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Embed one in whatever is to be looked after. Only rota.c touches members. */
struct bn_rota_item {
	struct bn_rota_item *before, *after; /* ring of all */
	struct bn_rota_item *next_due;
	bool is_due;
};

/* May not add, remove or free items other than its own; may make any of them due. */
typedef void (*bn_rota_serve)(struct bn_rota_item *item);

/* True while this item needs the next sweep too. May make items due, not remove any. */
typedef bool (*bn_rota_sweep)(struct bn_rota_item *item, uint64_t now_ms);

/* Embed it; do not move it. Only rota.c touches members. */
struct bn_rota {
	struct bn_rota_item ring; /* only its links are used */
	struct bn_rota_item *due; /* first of those to be served */
	struct bn_rota_item **due_end;
	bn_rota_serve serve;
	bn_rota_sweep sweep;
	uv_prepare_t flush;
	uv_idle_t again;
	uv_timer_t timer;
	uint32_t handles;
	bool is_sweeping;
	void (*closed)(void *who);
	void *who;
};

/* An empty one, on a loop. Undo with bn_rota_close. */
void bn_rota_init(struct bn_rota *r, uv_loop_t *loop, bn_rota_serve serve,
		  bn_rota_sweep sweep) BN_ON_LOOP;

/* Closes its handles; `closed` is called from the loop when r may be freed. It must be empty. */
void bn_rota_close(struct bn_rota *r, void (*closed)(void *who), void *who) BN_ON_LOOP;

void bn_rota_add(struct bn_rota *r, struct bn_rota_item *item) BN_ON_LOOP;

/* The item must not be due. */
void bn_rota_remove(struct bn_rota_item *item) BN_ON_LOOP;

/* The item is to be served soon; twice is once. */
void bn_rota_soon(struct bn_rota *r, struct bn_rota_item *item) BN_ON_LOOP;

/* Sweeps every period_ms from now on, as long as a sweep finds somebody who needs it; does nothing
 * while that goes on already. */
void bn_rota_need_sweep(struct bn_rota *r, uint64_t period_ms) BN_ON_LOOP;

/* The clock of the sweep: milliseconds, never 0, from the start of this turn of the loop. */
uint64_t bn_rota_now_ms(const struct bn_rota *r) BN_ON_LOOP;

/* All items: the first, the one after; NULL past the end. */
struct bn_rota_item *bn_rota_first(const struct bn_rota *r) BN_ON_LOOP;
struct bn_rota_item *bn_rota_after(const struct bn_rota *r,
				   const struct bn_rota_item *item) BN_ON_LOOP;

#endif
