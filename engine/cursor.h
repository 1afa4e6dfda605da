/*
 * A bounds-checked little-endian reading position over bytes, with a sticky failure: read a whole
 * structure, ask once whether it was all there.
 *
 * It does not allocate, know files or explain failures; its owner does, who knows what was read.
 */
#ifndef BN_ENGINE_CURSOR_H
#define BN_ENGINE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes, not terminated, any content (not necessarily UTF-8). p may be NULL when n = 0. */
struct bn_str {
	const char *p;
	size_t n;
};

/*
 * Plain value. `size` is where the data ends; only the first `have` bytes need to be present at
 * `base`, the rest is asked for through `more` when first touched.
 */
struct bn_cursor {
	const unsigned char *base; /* does not move while the cursor lives               */
	size_t at;                 /* next byte; at <= have <= size                      */
	size_t have;
	size_t size;
	bool failed; /* sticky: a read passed `size`, or `more` gave up    */

	/* Makes base[0, need) present, need <= size, updates have; false on failure. NULL when
	 * have == size from the start. */
	bool (*more)(struct bn_cursor *c, size_t need);
	void *who; /* for `more` */
};

/* Over n bytes in memory, borrowed. */
void bn_cursor_init(struct bn_cursor *c, const void *bytes, size_t n);

/* Bytes between the position and the end; 0 after a failure. */
size_t bn_cursor_left(const struct bn_cursor *c);

/*
 * The next n bytes, valid as long as the base, and moves past them. After or upon a failure: NULL,
 * and the cursor stays where it was.
 */
const unsigned char *bn_cursor_bytes(struct bn_cursor *c, size_t n);

/* The next value; 0 after or upon a failure. */
uint8_t bn_cursor_u8(struct bn_cursor *c);
uint16_t bn_cursor_u16(struct bn_cursor *c);
uint32_t bn_cursor_u32(struct bn_cursor *c);
uint64_t bn_cursor_u64(struct bn_cursor *c);
float bn_cursor_f32(struct bn_cursor *c);
double bn_cursor_f64(struct bn_cursor *c);

#endif
