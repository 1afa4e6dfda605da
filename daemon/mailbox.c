/*
 * Why a mutex and two arrays: at a few thousand messages a second a lock-free ring would buy
 * nothing and cost a proof. The lock is held for a memcpy or a pointer swap, never for a wait, a
 * call or (in a steady state) an allocation.
 *
 * Why no wake is lost. Let `used` be the number of messages in the box; only the lock changes it.
 *
 *   Hook. The producer that turns used from 0 to > 0 calls the hook after unlocking. Messages
 *   posted while used > 0 call no hook, but the hook of the post that left 0 is then either still
 *   to come or was already called; in both cases the consumer will run after this message was
 *   put in, unless a take emptied the box first, and then this message was taken with it.
 *   (uv_async_send may merge calls, but a call made during the callback always causes another
 *   one.)
 *
 *   Sleep. The consumer tests used and begins to wait under the lock in one step; the producer
 *   changes used and signals under the same lock. A post lies either before the test, which then
 *   sees it, or after the consumer waits, whom the signal then wakes.
 */
#include "daemon/mailbox.h"

#include "proto/assert.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct box {
	unsigned char *bytes;
	size_t used; /* messages */
	size_t room; /* messages */
};

struct bn_mailbox {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct box in;  /* under the lock */
	struct box out; /* the consumer's */
	size_t item_bytes;
	bn_mailbox_wake_fn wake;
	void *who;
};

enum bn_status bn_mailbox_new(struct bn_mailbox **out, size_t item_bytes, size_t room,
			      bn_mailbox_wake_fn wake, void *who, struct bn_error *err)
{
	struct bn_mailbox *m = calloc(1, sizeof(*m));
	pthread_condattr_t monotonic;

	bn_assert(item_bytes > 0);
	if (room == 0) {
		room = 1;
	}
	if (m == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a mailbox");
	}
	m->in.bytes = calloc(room, item_bytes);
	m->out.bytes = calloc(room, item_bytes);
	if (m->in.bytes == NULL || m->out.bytes == NULL) {
		free(m->in.bytes);
		free(m->out.bytes);
		free(m);
		return bn_fail(err, BN_E_MEMORY, "no memory for a mailbox of %zu messages", room);
	}
	m->in.room = room;
	m->out.room = room;
	m->item_bytes = item_bytes;
	m->wake = wake;
	m->who = who;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->filled, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&m->lock, NULL);
	*out = m;
	return BN_OK;
}

void bn_mailbox_free(struct bn_mailbox *m)
{
	if (m == NULL) {
		return;
	}
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->filled);
	free(m->in.bytes);
	free(m->out.bytes);
	free(m);
}

/* Makes room for `need` messages; a backlog that large has been paid for once and stays. */
static void grow(struct box *box, size_t need, size_t item_bytes)
{
	size_t room = box->room;
	size_t bytes;
	unsigned char *grown = NULL;

	while (room < need) {
		bn_assert(!__builtin_mul_overflow(room, (size_t)2, &room));
	}
	if (!__builtin_mul_overflow(room, item_bytes, &bytes)) {
		grown = realloc(box->bytes, bytes);
	}
	bn_assert(grown != NULL); /* see bn_mailbox_post: a lost message is a lost baton */
	box->bytes = grown;
	box->room = room;
}

void bn_mailbox_post(struct bn_mailbox *m, const void *items, size_t n)
{
	bool was_empty;
	size_t need;

	if (n == 0) {
		return;
	}
	pthread_mutex_lock(&m->lock);
	was_empty = m->in.used == 0;
	bn_assert(!__builtin_add_overflow(m->in.used, n, &need));
	if (need > m->in.room) {
		grow(&m->in, need, m->item_bytes);
	}
	memcpy(m->in.bytes + m->in.used * m->item_bytes, items, n * m->item_bytes);
	m->in.used = need;
	if (was_empty) {
		pthread_cond_signal(&m->filled);
	}
	pthread_mutex_unlock(&m->lock);
	if (was_empty && m->wake != NULL) {
		m->wake(m->who);
	}
}

size_t bn_mailbox_take(struct bn_mailbox *m, const void **items)
{
	struct box taken;

	m->out.used = 0; /* what the last take gave out ends here */
	pthread_mutex_lock(&m->lock);
	taken = m->in;
	m->in = m->out;
	pthread_mutex_unlock(&m->lock);
	m->out = taken;
	*items = m->out.bytes;
	return m->out.used;
}

bool bn_mailbox_wait(struct bn_mailbox *m, uint64_t timeout_ns)
{
	struct timespec until;
	bool filled;
	int rc = 0;

	bn_assert(m->wake == NULL);
	clock_gettime(CLOCK_MONOTONIC, &until);
	/* Ages are for ever: one century keeps the sum inside time_t. */
	if (timeout_ns / 1000000000u < UINT64_C(3153600000)) {
		until.tv_sec += (time_t)(timeout_ns / 1000000000u);
		until.tv_nsec += (long)(timeout_ns % 1000000000u);
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
	} else {
		until.tv_sec += (time_t)3153600000;
	}
	pthread_mutex_lock(&m->lock);
	while (m->in.used == 0 && rc != ETIMEDOUT) {
		rc = pthread_cond_timedwait(&m->filled, &m->lock, &until);
		bn_assert(rc == 0 || rc == ETIMEDOUT);
	}
	filled = m->in.used > 0;
	pthread_mutex_unlock(&m->lock);
	return filled;
}
