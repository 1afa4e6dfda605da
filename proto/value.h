/*
 * Reading MessagePack in place: a value is a place in bytes that somebody else keeps alive.
 *
 * It does not guard against hostile sizes: bytes from a peer go through proto/frame.h first. It
 * never reads past the end it was given, whatever the bytes say, and it allocates nothing.
 *
 * Why not msgpack-c's object tree: it trusts declared counts (5 bytes may reserve gigabytes), it
 * costs 24 bytes per element, and once the guard walk of frame.c exists it would be a second
 * parser of the same bytes. msgpack-c packs (proto/pack.h) and is the judge in the tests.
 */
#ifndef BN_PROTO_VALUE_H
#define BN_PROTO_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UTF-8 text that lies elsewhere; not NUL-terminated. Print with "%.*s", (int)t.n, t.at. */
struct bn_text {
	const char *at;
	size_t n;
};

/* Bytes that lie elsewhere. */
struct bn_bytes {
	const unsigned char *at;
	size_t n;
};

/* What a value is. Integers above INT64_MAX are BN_TYPE_BIG; everything else fits int64_t. */
enum bn_type {
	BN_TYPE_NONE, /* no value: not found, past the end, or bytes that are no MessagePack */
	BN_TYPE_NIL,
	BN_TYPE_BOOL,
	BN_TYPE_INT,
	BN_TYPE_BIG,
	BN_TYPE_FLOAT,
	BN_TYPE_STR,
	BN_TYPE_BIN,
	BN_TYPE_ARRAY,
	BN_TYPE_MAP,
	BN_TYPE_EXT,
};

/*
 * One decoded head and the bytes behind it. Copy freely; valid as long as the bytes are.
 * `body` is the payload of str, bin and ext, or the first element of an array or map.
 */
struct bn_value {
	enum bn_type type;
	uint32_t n; /* str, bin, ext: bytes; array: elements; map: pairs */
	union {
		bool boolean;
		int64_t integer;
		uint64_t big;
		double number;
	} as;
	const unsigned char *head; /* its first byte */
	const unsigned char *body;
	const unsigned char *end; /* of all the bytes known to the reader, not of this value */
};

/* How bn_value_head() ended. */
enum bn_head {
	BN_HEAD_OK,
	BN_HEAD_SHORT,    /* the head itself is cut; more bytes may complete it */
	BN_HEAD_RESERVED, /* the byte 0xc1, which MessagePack never uses        */
};

/*
 * Decodes the head at `at` into *v without looking at payload or elements, which may lie past
 * `end` (the guard walk asks before they have arrived). *v is untouched unless BN_HEAD_OK.
 */
enum bn_head bn_value_head(struct bn_value *v, const unsigned char *at, const unsigned char *end);

/* The first value in n bytes; BN_TYPE_NONE when there is none or its payload is cut. */
struct bn_value bn_value_read(const void *bytes, size_t n);

/* The first byte after `v`, nested values included; NULL when the bytes end before it does. */
const unsigned char *bn_value_after(const struct bn_value *v);

/* As above, and how many values that were, itself and all levels together. `n` may be NULL. */
const unsigned char *bn_value_walk(const struct bn_value *v, uint64_t *n);

/* The value of `key` in a map, compared as bytes; NONE when absent or `map` is no map. */
struct bn_value bn_value_get(struct bn_value map, const char *key);

/* As above by a path of keys with dots: "usage.prompt_tokens". */
struct bn_value bn_value_find(struct bn_value map, const char *path);

/* Element `i` of an array; NONE when there is none. Walks from the start: use bn_iter for all. */
struct bn_value bn_value_at(struct bn_value array, uint32_t i);

/* Walks an array (key stays NONE) or a map; anything else has no elements. */
struct bn_iter {
	struct bn_value next;
	const unsigned char *at;
	const unsigned char *end;
	uint32_t left;
	bool map;
};

struct bn_iter bn_iter_begin(struct bn_value v);

/* Steps; false at the end. `key` may be NULL. */
bool bn_iter_next(struct bn_iter *it, struct bn_value *key, struct bn_value *value);

/* The content, or `fallback` when the value is of another type. */
bool bn_value_bool(struct bn_value v, bool fallback);
int64_t bn_value_int(struct bn_value v, int64_t fallback);
double bn_value_num(struct bn_value v, double fallback); /* integers convert */

/* The text of a str (or of a bin that is UTF-8: some clients send names so); else {"", 0}. */
struct bn_text bn_value_text(struct bn_value v);

/* The bytes of a bin or str; else {NULL, 0}. */
struct bn_bytes bn_value_bytes(struct bn_value v);

/* "a string", "an array": for sentences. Never NULL. */
const char *bn_type_name(enum bn_type type);

/* Whether t equals the NUL-terminated string. */
bool bn_text_is(struct bn_text t, const char *string);

/* A NUL-terminated string as text; NULL gives {"", 0}. */
struct bn_text bn_text_of(const char *string);

/*
 * Length of the longest prefix of `n` bytes that is well-formed UTF-8 (Unicode table 3-7: no
 * surrogates, no overlong forms, nothing above U+10FFFF). Equals n when all of it is.
 */
size_t bn_utf8_prefix(const void *bytes, size_t n);

#endif
