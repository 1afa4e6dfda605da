/*
 * Two buffers that change places: libuv needs the bytes of a write to stay where they are until
 * it is done, and meanwhile more comes.
 */
#include "daemon/outbox.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
	FIRST_BYTES = 1024,
	KEEP_BYTES = 16384, /* an empty buffer larger than this is given back */
};

void bn_outbox_init(struct bn_outbox *o, uv_stream_t *stream, int fd,
		    void (*written)(void *who, bool failed), void *who)
{
	*o = (struct bn_outbox){ .stream = stream, .fd = fd, .written = written, .who = who };
	o->write.data = o;
}

void bn_outbox_finish(struct bn_outbox *o)
{
	free(o->filling.bytes);
	free(o->leaving.bytes);
	o->filling = (struct bn_outbox_buffer){ 0 };
	o->leaving = (struct bn_outbox_buffer){ 0 };
}

bool bn_outbox_put(struct bn_outbox *o, const void *bytes, size_t n)
{
	struct bn_outbox_buffer *b = &o->filling;
	size_t need;

	if (n == 0) {
		return true;
	}
	if (__builtin_add_overflow(b->used, n, &need)) {
		return false;
	}
	if (need > b->room) {
		size_t room = b->room > 0 ? b->room : FIRST_BYTES;
		unsigned char *grown;

		while (room < need) {
			room = room > SIZE_MAX / 2 ? need : room * 2;
		}
		grown = realloc(b->bytes, room);
		if (grown == NULL) {
			return false;
		}
		b->bytes = grown;
		b->room = room;
	}
	memcpy(b->bytes + b->used, bytes, n);
	b->used = need;
	return true;
}

static void empty(struct bn_outbox_buffer *b)
{
	b->used = 0;
	if (b->room > KEEP_BYTES) {
		free(b->bytes);
		*b = (struct bn_outbox_buffer){ 0 };
	}
}

static void on_written(uv_write_t *write, int status)
{
	struct bn_outbox *o = write->data;

	bn_enter_loop();
	o->is_writing = false;
	o->sent += o->leaving.used;
	empty(&o->leaving);
	o->written(o->who, status < 0);
}

bool bn_outbox_flush(struct bn_outbox *o)
{
	struct bn_outbox_buffer free_one = o->leaving;
	uv_buf_t buf;

	if (o->is_writing || o->filling.used == 0) {
		return true;
	}
	o->leaving = o->filling;
	o->filling = free_one;
	/* What waits is bounded far below 4 GiB by the limits of its owner; libuv counts in
	 * unsigned. */
	buf = uv_buf_init((char *)o->leaving.bytes,
			  o->leaving.used < UINT32_MAX ? (unsigned)o->leaving.used : UINT32_MAX);
	if (uv_write(&o->write, o->stream, &buf, 1, on_written) != 0) {
		empty(&o->leaving);
		return false;
	}
	o->is_writing = true;
	return true;
}

size_t bn_outbox_queued(const struct bn_outbox *o)
{
	return o->filling.used + uv_stream_get_write_queue_size(o->stream);
}

/*
 * Grows as the peer reads. The kernel asks for more only after the peer has emptied most of its
 * buffer, some 200 KiB, so what we have sent says little about a slow reader; what lies unread
 * there (SIOCOUTQ) says more. That is counted in whole pieces of at most about 36 KiB, so readers
 * slower than such a piece in a window may be taken for stalled.
 */
static BN_ON_LOOP int64_t taken(const struct bn_outbox *o)
{
	uint64_t sent = o->sent + o->leaving.used - uv_stream_get_write_queue_size(o->stream);
	int unread = 0;

	if (ioctl(o->fd, SIOCOUTQ, &unread) != 0) {
		unread = 0;
	}
	return (int64_t)sent - unread;
}

bool bn_outbox_watch(struct bn_outbox *o, uint64_t now_ms)
{
	if (bn_outbox_queued(o) == 0) {
		o->window_ms = 0;
	} else if (o->window_ms == 0) {
		o->window_ms = now_ms;
		o->window_taken = taken(o);
	}
	return o->window_ms != 0;
}

bool bn_outbox_is_stalled(struct bn_outbox *o, uint64_t now_ms, uint64_t timeout_ms, uint64_t rate)
{
	int64_t wanted;

	if (o->window_ms == 0 || now_ms - o->window_ms < timeout_ms) {
		return false;
	}
	wanted = (int64_t)(rate * timeout_ms / 1000);
	if (taken(o) - o->window_taken < (wanted > 0 ? wanted : 1)) {
		return true;
	}
	o->window_ms = now_ms;
	o->window_taken = taken(o);
	return false;
}
