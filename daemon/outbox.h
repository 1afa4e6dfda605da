/*
 * What waits to be written to one stream: filled by many small puts, emptied by few large writes,
 * and the judgement whether the peer reads at all.
 *
 * It does not decide when to write, what to do about a peer that does not read, or close anything.
 */
#ifndef BN_DAEMON_OUTBOX_H
#define BN_DAEMON_OUTBOX_H

#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct bn_outbox_buffer {
	unsigned char *bytes; /* owned */
	size_t used;
	size_t room;
};

/* Embed one beside its stream; do not move it. Owned by the loop. */
struct bn_outbox {
	uv_stream_t *stream; /* borrowed; closed before finish */
	int fd;              /* its descriptor, to ask the kernel what lies unread there */
	uv_write_t write;
	struct bn_outbox_buffer filling; /* what the next write will take */
	struct bn_outbox_buffer leaving; /* what the write in progress has */
	uint64_t sent;                   /* bytes of finished writes */
	bool is_writing;
	uint64_t window_ms;   /* when the present stall window began; 0: nothing waits */
	int64_t window_taken; /* what the peer had taken then */
	void (*written)(void *who, bool failed);
	void *who;
};

/* `written` is called from the loop after every write. Allocates nothing. */
void bn_outbox_init(struct bn_outbox *o, uv_stream_t *stream, int fd,
		    void (*written)(void *who, bool failed), void *who) BN_ON_LOOP;

/* Frees the buffers; the stream is closed (its close callback has been called). */
void bn_outbox_finish(struct bn_outbox *o) BN_ON_LOOP;

/* Copies n bytes in. False, and nothing changed, when memory is out. */
bool bn_outbox_put(struct bn_outbox *o, const void *bytes, size_t n) BN_ON_LOOP;

/*
 * Hands everything to one write, unless one is still under way or nothing waits; the kernel is
 * offered the bytes at once. False when the stream is broken; what waited is gone then.
 */
bool bn_outbox_flush(struct bn_outbox *o) BN_ON_LOOP;

/* Bytes the kernel has not taken. */
size_t bn_outbox_queued(const struct bn_outbox *o) BN_ON_LOOP;

/*
 * Starts the stall window when something waits and none runs, ends it when nothing waits. Call it
 * after every flush; true while a window runs. `now_ms` > 0, of any clock that does not jump.
 */
bool bn_outbox_watch(struct bn_outbox *o, uint64_t now_ms) BN_ON_LOOP;

/*
 * Whether the window is over and the peer took fewer than rate bytes per second (at least one byte)
 * in it. If it took enough, the next window begins: a trickle never lasts longer than two.
 */
bool bn_outbox_is_stalled(struct bn_outbox *o, uint64_t now_ms, uint64_t timeout_ms,
			  uint64_t rate) BN_ON_LOOP;

#endif
