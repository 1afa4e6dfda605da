/*
 * Containers are opened with a 16-bit count that is filled in when they end. That costs two bytes
 * over the shortest form for small maps, and saves every caller from counting, and a stale count
 * (the classic MessagePack bug) cannot be written.
 */
#include "proto/pack.h"

#include "proto/assert.h"

#include <msgpack/pack.h>

#include <stdlib.h>
#include <string.h>

enum {
	FIRST_BYTES = 256,
	COUNT_HEAD_BYTES = 3, /* 0xdc or 0xde and the count */
};

/* The first failure is the one reported. */
static void fail(struct bn_pack *p, enum bn_status status)
{
	if (p->failed == BN_OK) {
		p->failed = status;
	}
}

/* Room for n more bytes, or NULL and failed. */
static unsigned char *grow(struct bn_pack *p, size_t n)
{
	size_t need, capacity;
	unsigned char *data;

	if (p->failed != BN_OK) {
		return NULL;
	}
	if (__builtin_add_overflow(p->used, n, &need)) {
		fail(p, BN_E_MEMORY);
		return NULL;
	}
	if (need > p->capacity) {
		capacity = p->capacity > 0 ? p->capacity : FIRST_BYTES;
		while (capacity < need) {
			if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) {
				capacity = need;
			}
		}
		data = realloc(p->data, capacity);
		if (data == NULL) {
			fail(p, BN_E_MEMORY);
			return NULL;
		}
		p->data = data;
		p->capacity = capacity;
	}
	data = p->data + p->used;
	p->used = need;
	return data;
}

/* msgpack_packer_write */
static int append(void *who, const char *bytes, size_t n)
{
	unsigned char *room = grow(who, n);

	if (room == NULL) {
		return -1;
	}
	if (n > 0) {
		memcpy(room, bytes, n);
	}
	return 0;
}

static msgpack_packer packer(struct bn_pack *p)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, p, append);
	return pk;
}

/* Counts one value in the innermost container and writes its key. */
static msgpack_packer begin(struct bn_pack *p, const char *key)
{
	msgpack_packer pk = packer(p);

	if (p->depth == 0) {
		bn_assert(key == NULL);
	} else {
		bn_assert(p->open[p->depth - 1].map == (key != NULL));
		p->open[p->depth - 1].count++;
		if (key != NULL) {
			msgpack_pack_str_with_body(&pk, key, strlen(key));
		}
	}
	return pk;
}

void bn_pack_init(struct bn_pack *p)
{
	*p = (struct bn_pack){ 0 };
}

void bn_pack_finish(struct bn_pack *p)
{
	free(p->data);
	bn_pack_init(p);
}

void bn_pack_cut(struct bn_pack *p, size_t used)
{
	bn_assert(used <= p->used);
	p->used = used;
	p->depth = 0;
	p->failed = BN_OK;
}

void bn_pack_reset(struct bn_pack *p)
{
	bn_pack_cut(p, 0);
	p->mark = 0;
}

unsigned char *bn_pack_take(struct bn_pack *p, size_t *n)
{
	unsigned char *data = p->data;

	bn_assert(p->depth == 0);
	*n = p->used;
	if (p->failed != BN_OK || p->used == 0) {
		free(data);
		data = NULL;
		*n = 0;
	}
	bn_pack_init(p);
	return data;
}

enum bn_status bn_pack_check(const struct bn_pack *p, struct bn_error *err)
{
	if (p->failed == BN_E_MEMORY) {
		return bn_fail(err, BN_E_MEMORY, "no memory to write a message of over %zu bytes",
			       p->used);
	} else if (p->failed != BN_OK) {
		return bn_fail(err, p->failed, "a message would hold more than fits in one");
	}
	return BN_OK;
}

static void open_container(struct bn_pack *p, const char *key, bool map)
{
	size_t head;

	begin(p, key);
	bn_assert(p->depth < BN_PACK_DEPTH);
	head = p->used;
	append(p, map ? "\xde\0\0" : "\xdc\0\0", COUNT_HEAD_BYTES);
	p->open[p->depth].head = head;
	p->open[p->depth].count = 0;
	p->open[p->depth].map = map;
	p->depth++;
}

void bn_pack_map(struct bn_pack *p, const char *key)
{
	open_container(p, key, true);
}

void bn_pack_array(struct bn_pack *p, const char *key)
{
	open_container(p, key, false);
}

/* Writes the count of the container whose head stands at `head`. */
static void close_container(struct bn_pack *p, size_t head, uint32_t count)
{
	if (count > UINT16_MAX) {
		fail(p, BN_E_TOO_LARGE);
	}
	if (p->failed == BN_OK) {
		p->data[head + 1] = (unsigned char)(count >> 8);
		p->data[head + 2] = (unsigned char)count;
	}
}

void bn_pack_end(struct bn_pack *p)
{
	bn_assert(p->depth > 0);
	p->depth--;
	close_container(p, p->open[p->depth].head, p->open[p->depth].count);
}

void bn_pack_nil(struct bn_pack *p, const char *key)
{
	msgpack_packer pk = begin(p, key);

	msgpack_pack_nil(&pk);
}

void bn_pack_bool(struct bn_pack *p, const char *key, bool value)
{
	msgpack_packer pk = begin(p, key);

	if (value) {
		msgpack_pack_true(&pk);
	} else {
		msgpack_pack_false(&pk);
	}
}

void bn_pack_int(struct bn_pack *p, const char *key, int64_t value)
{
	msgpack_packer pk = begin(p, key);

	msgpack_pack_int64(&pk, value);
}

void bn_pack_num(struct bn_pack *p, const char *key, double value)
{
	msgpack_packer pk = begin(p, key);

	msgpack_pack_double(&pk, value);
}

void bn_pack_floats(struct bn_pack *p, const char *key, const float *values, size_t n)
{
	bn_pack_array(p, key);
	for (size_t i = 0; i < n; i++) {
		msgpack_packer pk = begin(p, NULL);

		msgpack_pack_float(&pk, values[i]);
	}
	bn_pack_end(p);
}

void bn_pack_str(struct bn_pack *p, const char *key, const char *value)
{
	if (value == NULL) {
		bn_pack_nil(p, key);
	} else {
		bn_pack_text(p, key, bn_text_of(value));
	}
}

/* MessagePack counts bytes in 32 bits; msgpack-c would cut a longer length silently. */
static bool fits(struct bn_pack *p, size_t n)
{
	if (n > UINT32_MAX) {
		fail(p, BN_E_TOO_LARGE);
	}
	return p->failed == BN_OK;
}

void bn_pack_text(struct bn_pack *p, const char *key, struct bn_text value)
{
	msgpack_packer pk = begin(p, key);

	if (fits(p, value.n)) {
		msgpack_pack_str(&pk, value.n);
		append(p, value.at, value.n);
	}
}

void bn_pack_bin(struct bn_pack *p, const char *key, const void *bytes, size_t n)
{
	msgpack_packer pk = begin(p, key);

	if (fits(p, n)) {
		msgpack_pack_bin(&pk, n);
		append(p, bytes, n);
	}
}

static void put_u32le(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++) {
		at[i] = (unsigned char)(value >> (8 * i));
	}
}

/* A bin of n 32-bit words whose payload the caller fills in; NULL when failed. */
static unsigned char *bin_of_words(struct bn_pack *p, const char *key, size_t n)
{
	msgpack_packer pk = begin(p, key);
	size_t bytes;

	if (__builtin_mul_overflow(n, (size_t)4, &bytes) || !fits(p, bytes)) {
		fail(p, BN_E_TOO_LARGE);
		return NULL;
	}
	msgpack_pack_bin(&pk, bytes);
	return grow(p, bytes);
}

void bn_pack_u32s(struct bn_pack *p, const char *key, const uint32_t *values, size_t n)
{
	unsigned char *at = bin_of_words(p, key, n);

	for (size_t i = 0; at != NULL && i < n; i++) {
		put_u32le(at + 4 * i, values[i]);
	}
}

void bn_pack_f32s(struct bn_pack *p, const char *key, const float *values, size_t n)
{
	unsigned char *at = bin_of_words(p, key, n);

	for (size_t i = 0; at != NULL && i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &values[i], sizeof(bits));
		put_u32le(at + 4 * i, bits);
	}
}

void bn_pack_entry(struct bn_pack *p, uint32_t key, double value)
{
	msgpack_packer pk = packer(p);

	bn_assert(p->depth > 0 && p->open[p->depth - 1].map);
	p->open[p->depth - 1].count++;
	msgpack_pack_uint32(&pk, key);
	msgpack_pack_double(&pk, value);
}

void bn_pack_tuple(struct bn_pack *p, uint32_t n)
{
	msgpack_packer pk = packer(p);

	bn_assert(p->depth == 0 && n <= 15);
	msgpack_pack_array(&pk, n);
}

void bn_pack_value(struct bn_pack *p, const char *key, struct bn_value value)
{
	const unsigned char *end = bn_value_after(&value);

	if (end == NULL) {
		bn_pack_nil(p, key);
	} else {
		begin(p, key);
		append(p, (const char *)value.head, (size_t)(end - value.head));
	}
}

void bn_pack_append(struct bn_pack *p, const char *key, const struct bn_pack *other)
{
	size_t start;

	bn_assert(p != other);
	begin(p, key);
	if (other->failed != BN_OK) {
		fail(p, other->failed);
	}
	start = p->used;
	append(p, (const char *)other->data, other->used);
	for (uint32_t i = 0; i < other->depth; i++) {
		close_container(p, start + other->open[i].head, other->open[i].count);
	}
}
