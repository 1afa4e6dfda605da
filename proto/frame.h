/*
 * Bytes in, whole checked messages out: finds the boundaries of MessagePack-RPC messages in a
 * stream and refuses hostile ones before anything trusts a length in them.
 *
 * It does not read sockets, keep time or decode parameters. Its only allocation is the buffer,
 * which grows geometrically with bytes that really arrived.
 */
#ifndef BN_PROTO_FRAME_H
#define BN_PROTO_FRAME_H

#include "proto/error.h"
#include "proto/role.h"
#include "proto/schema.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most room bn_frame_space() offers beyond one largest message. */
enum { BN_FRAME_READ_BYTES = 65536 };

/* Caps of one frame. BN_FRAME_CAPS is what the protocol promises. */
struct bn_frame_caps {
	size_t message_bytes;
	uint32_t elements;
	uint32_t depth; /* at most BN_LIMIT_DEPTH */
};

#define BN_FRAME_CAPS \
	((struct bn_frame_caps){ BN_LIMIT_MESSAGE_BYTES, BN_LIMIT_ELEMENTS, BN_LIMIT_DEPTH })

/* One open container of the walk. */
struct bn_frame_level {
	size_t head;   /* offset of its head from the start of the message */
	uint64_t left; /* values still to come; a map counts keys and values */
	bool map;
};

/* One direction of one connection. Embed it; only the functions below touch the members. */
struct bn_frame {
	struct bn_frame_caps caps;
	unsigned char *bytes; /* owned */
	size_t capacity;
	size_t used;   /* bytes received and kept */
	size_t begin;  /* where the message being walked starts */
	size_t cursor; /* everything from begin up to here is checked */
	uint32_t elements_left;
	uint32_t depth;
	struct bn_frame_level level[BN_LIMIT_DEPTH];
	uint32_t msgid;
	int kind;               /* of the message being walked; -1 while not known */
	enum bn_status refused; /* sticky; BN_OK while all is well */
};

/* One whole, checked message; borrowed until the next call with the same frame. */
struct bn_frame_message {
	const unsigned char *bytes; /* NULL: no whole message yet */
	size_t n;
};

/* An empty frame; allocates nothing. BN_ON_ANY, as all of this file: one owner at a time. */
void bn_frame_init(struct bn_frame *f, struct bn_frame_caps caps);

/* Frees the buffer. Accepts a zeroed struct. */
void bn_frame_finish(struct bn_frame *f);

/*
 * Room to read into: *n >= 1 bytes at *space, valid until the next call with this frame. Take
 * every message out with bn_frame_next() first. BN_E_MEMORY; BN_E_TOO_LARGE when the buffer is
 * full of messages nobody took.
 */
enum bn_status bn_frame_space(struct bn_frame *f, unsigned char **space, size_t *n,
			      struct bn_error *err) BN_MUST_USE;

/* Says that n bytes have been put into the room of the last bn_frame_space(). */
void bn_frame_commit(struct bn_frame *f, size_t n);

/*
 * The next whole message, or bytes == NULL when more must arrive. Call until then after every
 * commit. On error the stream cannot be followed any further: answer with bn_frame_msgid(),
 * close the connection; every later call fails the same way.
 *
 *   BN_E_MESSAGE    not [0, id, method, ...], [1, id, ...] or [2, method, ...]; found at the
 *                   first wrong byte
 *   BN_E_PARSE      0xc1, an extension type, text that is no UTF-8, a key that is no short string
 *                   or non-negative integer or stands twice, keys made to collide, more than
 *                   caps.depth levels
 *   BN_E_TOO_LARGE  more bytes or elements, declared or real, than the caps allow
 *   BN_E_MEMORY     no memory to compare the keys of a large map
 */
enum bn_status bn_frame_next(struct bn_frame *f, struct bn_frame_message *out,
			     struct bn_error *err) BN_MUST_USE;

/* Bytes of a message that has begun and not ended: > 0 is what a time limit should watch. */
size_t bn_frame_pending(const struct bn_frame *f);

/* The msgid of the message that was refused, 0 if it did not get that far. */
uint32_t bn_frame_msgid(const struct bn_frame *f);

#endif
