/*
 * The only lock between threads: a queue of fixed-size messages from any thread to one consumer,
 * and a wake-up that cannot be lost.
 *
 * It does not know what it carries, keeps no order between two producers, and never blocks a
 * producer: the box grows. What is put in is copied; a pointer inside a message is the baton.
 *
 * Two ways to be woken. A consumer with an event loop gives a hook (uv_async_send) that is called
 * after the box has turned from empty to non-empty. A consumer without one gives no hook and
 * sleeps in bn_mailbox_wait().
 */
#ifndef BN_DAEMON_MAILBOX_H
#define BN_DAEMON_MAILBOX_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opaque. Made before its threads start, freed after they ended. */
struct bn_mailbox;

/* Called by a producer outside the lock; must be callable from any thread and must not block. */
typedef void (*bn_mailbox_wake_fn)(void *who);

/*
 * Makes a box for messages of item_bytes (> 0, copied by memcpy, alignment as malloc's) with room
 * for `room` of them before it must grow. `wake` may be NULL. BN_E_MEMORY. BN_ON_ANY.
 */
BN_MUST_USE enum bn_status bn_mailbox_new(struct bn_mailbox **out, size_t item_bytes, size_t room,
					  bn_mailbox_wake_fn wake, void *who, struct bn_error *err);

/* Nobody may use it any more. NULL is fine. */
void bn_mailbox_free(struct bn_mailbox *m);

/*
 * Puts n messages in, in order, under one lock and with at most one wake. n == 0 does nothing.
 * Cannot fail: when the box must grow and memory is out, the process ends, for a lost message
 * would be a lost baton. Growth stops at the largest backlog ever seen, so a steady state
 * allocates nothing. Any thread.
 */
void bn_mailbox_post(struct bn_mailbox *m, const void *items, size_t n) BN_ON_ANY;

/*
 * Takes everything out: returns how many and points *items at them, oldest first, valid until the
 * next take on this box. Never waits for more than the lock. The consumer's thread.
 */
size_t bn_mailbox_take(struct bn_mailbox *m, const void **items) BN_ON_ANY;

/*
 * Sleeps until the box is not empty (true) or timeout_ns have passed (false); UINT64_MAX waits for
 * ever. Monotonic clock. Only for a box without a hook; the consumer's thread.
 */
bool bn_mailbox_wait(struct bn_mailbox *m, uint64_t timeout_ns) BN_ON_ANY;

#endif
