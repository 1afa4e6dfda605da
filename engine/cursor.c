#include "engine/cursor.h"

#include <string.h>

/* Assembled from bytes, so that a big-endian host would read the same; compilers make it a load. */
static uint64_t little(struct bn_cursor *c, size_t n)
{
	const unsigned char *p = bn_cursor_bytes(c, n);
	uint64_t v = 0;

	if (p != NULL) {
		for (size_t i = 0; i < n; i++) {
			v |= (uint64_t)p[i] << (8 * i);
		}
	}
	return v;
}

void bn_cursor_init(struct bn_cursor *c, const void *bytes, size_t n)
{
	c->base = bytes;
	c->at = 0;
	c->have = n;
	c->size = n;
	c->failed = false;
	c->more = NULL;
	c->who = NULL;
}

size_t bn_cursor_left(const struct bn_cursor *c)
{
	return c->failed ? 0 : c->size - c->at;
}

const unsigned char *bn_cursor_bytes(struct bn_cursor *c, size_t n)
{
	const unsigned char *p;

	if (c->failed || n > c->size - c->at) {
		c->failed = true;
		return NULL;
	}
	if (n > c->have - c->at && (c->more == NULL || !c->more(c, c->at + n))) {
		c->failed = true;
		return NULL;
	}
	p = c->base + c->at;
	c->at += n;
	return p;
}

uint8_t bn_cursor_u8(struct bn_cursor *c)
{
	return (uint8_t)little(c, 1);
}

uint16_t bn_cursor_u16(struct bn_cursor *c)
{
	return (uint16_t)little(c, 2);
}

uint32_t bn_cursor_u32(struct bn_cursor *c)
{
	return (uint32_t)little(c, 4);
}

uint64_t bn_cursor_u64(struct bn_cursor *c)
{
	return little(c, 8);
}

float bn_cursor_f32(struct bn_cursor *c)
{
	uint32_t bits = bn_cursor_u32(c);
	float v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

double bn_cursor_f64(struct bn_cursor *c)
{
	uint64_t bits = bn_cursor_u64(c);
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}
