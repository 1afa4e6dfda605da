/*
 * Writing MessagePack: one growing buffer, nested maps and arrays whose counts are filled in when
 * they end, so that nobody counts by hand.
 *
 * It does not know the protocol (proto/message.h does) and does not send. Encoding itself is
 * msgpack-c's msgpack_packer.
 */
#ifndef BN_PROTO_PACK_H
#define BN_PROTO_PACK_H

#include "proto/error.h"
#include "proto/role.h"
#include "proto/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_PACK_DEPTH = 16 };

/*
 * Failure is sticky: after a failed allocation, or a count or length MessagePack cannot carry,
 * every call does nothing and bn_pack_check() says so. Owns `data`.
 */
struct bn_pack {
	unsigned char *data; /* used bytes of complete or growing messages; owned */
	size_t used;
	size_t capacity;
	enum bn_status failed; /* BN_OK, BN_E_MEMORY, BN_E_TOO_LARGE */
	size_t mark;           /* where the message begins that proto/message.c is writing */
	uint32_t depth;
	struct {
		size_t head; /* where the count will be written */
		uint32_t count;
		bool map;
	} open[BN_PACK_DEPTH];
};

/* An empty pack; allocates nothing. BN_ON_ANY, as all of this file: one owner at a time. */
void bn_pack_init(struct bn_pack *p);

/* Frees the buffer; p is empty again. */
void bn_pack_finish(struct bn_pack *p);

/* Forgets what was written from offset `used` on, and a failure; closes all containers. */
void bn_pack_cut(struct bn_pack *p, size_t used);

/* Forgets the content and a failure, keeps the memory. */
void bn_pack_reset(struct bn_pack *p);

/*
 * Gives the bytes away: *n of them, to be released with free(). NULL and 0 when empty or failed.
 * p is empty afterwards. All containers must be closed.
 */
unsigned char *bn_pack_take(struct bn_pack *p, size_t *n);

/* BN_E_MEMORY or BN_E_TOO_LARGE if any call since init or reset failed. */
enum bn_status bn_pack_check(const struct bn_pack *p, struct bn_error *err) BN_MUST_USE;

/*
 * Each call appends one value. `key` names it inside a map and must be NULL inside an array or at
 * top level; a broken nesting is the programmer's fault and asserts. Text must be valid UTF-8
 * (ours is: it came through a frame or from the tokenizer, which holds back cut characters).
 */
void bn_pack_map(struct bn_pack *p, const char *key);   /* opens a map    */
void bn_pack_array(struct bn_pack *p, const char *key); /* opens an array */
void bn_pack_end(struct bn_pack *p);                    /* closes the innermost; <= 65535 in it */

void bn_pack_nil(struct bn_pack *p, const char *key);
void bn_pack_bool(struct bn_pack *p, const char *key, bool value);
void bn_pack_int(struct bn_pack *p, const char *key, int64_t value);
void bn_pack_num(struct bn_pack *p, const char *key, double value);
void bn_pack_str(struct bn_pack *p, const char *key, const char *value); /* NULL packs nil */
void bn_pack_text(struct bn_pack *p, const char *key, struct bn_text value);
void bn_pack_bin(struct bn_pack *p, const char *key, const void *bytes, size_t n);

/* A bin of n little-endian u32: token ids. A bin of n little-endian f32: log-probabilities. */
void bn_pack_u32s(struct bn_pack *p, const char *key, const uint32_t *values, size_t n);
void bn_pack_f32s(struct bn_pack *p, const char *key, const float *values, size_t n);

/* An array of n float32. */
void bn_pack_floats(struct bn_pack *p, const char *key, const float *values, size_t n);

/* An entry of a map whose keys are numbers: logit_bias. */
void bn_pack_entry(struct bn_pack *p, uint32_t key, double value);

/* At top level only: an array of n <= 15 values, which are the next n. For fixed shapes. */
void bn_pack_tuple(struct bn_pack *p, uint32_t n);

/* Copies a value with all that is in it; NONE packs nil. */
void bn_pack_value(struct bn_pack *p, const char *key, struct bn_value value);

/*
 * Copies what `other` holds, one value, as if its open containers ended here; `other` stays as it
 * is and may grow on. A failure of `other` becomes p's. They must not be the same.
 */
void bn_pack_append(struct bn_pack *p, const char *key, const struct bn_pack *other);

#endif
