/*
 * Tells at once that a peer is gone, even while nobody reads from or writes to it.
 *
 * It does not see half-closed peers (they are still there) and never reads or writes.
 *
 * Why it exists: reading is stopped while a client has too much in flight or reads too slowly, and
 * it ends for good at a half-close. libuv then watches the descriptor for nothing, so the death
 * of such a client would go unnoticed until the next write, and a generation that does not stream
 * has no next write. Here every peer is also in an epoll set of its own with no events asked for;
 * EPOLLHUP comes unasked. The set is itself one descriptor that the loop polls.
 */
#ifndef BN_DAEMON_HANGUP_H
#define BN_DAEMON_HANGUP_H

#include "proto/error.h"
#include "proto/role.h"

#include <uv.h>

/* Opaque; one per server, owned by the loop. */
struct bn_hangup;

/* Called on the loop, at most once per watched peer. */
typedef void (*bn_hangup_fn)(void *who);

/* BN_E_MEMORY, BN_E_IO. Undo with bn_hangup_close. */
BN_MUST_USE enum bn_status bn_hangup_open(struct bn_hangup **out, uv_loop_t *loop,
					  struct bn_error *err) BN_ON_LOOP;

/*
 * Ends it; `closed(who)` is called from the loop when it is gone (may be NULL). Nothing may be
 * watched any more.
 */
void bn_hangup_close(struct bn_hangup *h, void (*closed)(void *who), void *who) BN_ON_LOOP;

/* One watched peer: embed it, do not move it while it is watched. */
struct bn_hangup_watch {
	bn_hangup_fn gone;
	void *who;
	int fd; /* -1 while not watched */
};

/* Watches a connected socket (borrowed). BN_E_IO when the kernel refuses; not watched then. */
BN_MUST_USE enum bn_status bn_hangup_watch(struct bn_hangup *h, struct bn_hangup_watch *w, int fd,
					   bn_hangup_fn gone, void *who,
					   struct bn_error *err) BN_ON_LOOP;

/* Stops watching; before the socket is closed. Safe from within any callback, and twice. */
void bn_hangup_forget(struct bn_hangup *h, struct bn_hangup_watch *w) BN_ON_LOOP;

#endif
