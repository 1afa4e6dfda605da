/*
 * The guard walk. It looks at each head once, in the order of arrival, and stops at the first one
 * it cannot accept; a payload is only waited for once its length has been judged. State between
 * calls is a stack of at most 16 counts, so a message may arrive in any pieces, byte by byte too,
 * at constant cost per piece.
 *
 * Why a walk of our own: MessagePack-RPC has no length in front, and msgpack-c reserves memory
 * for whatever count a header declares (`dd ff ff ff ff`: 96 GB). Here a count is charged against
 * one budget for the whole message *before* anything follows it, so nesting cannot multiply.
 *
 * Keys must be unique, or two readers may see two different messages. When a map ends its keys
 * are hashed, pairs of (hash, offset) are sorted in the free tail of the buffer, and only keys of
 * equal hash are compared. The hash is no secret, so a peer can make keys collide; more than four
 * of one hash do not happen by chance (1 in 1e18 for 32k keys) and are refused. So the cost is
 * n log n on plain integers whatever the keys are: 5 ms for the largest map there can be, where
 * comparing all pairs would take seconds and sorting the keys themselves some 50 ms.
 */
#include "proto/frame.h"

#include "proto/assert.h"
#include "proto/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_BYTES = 4096,
	LEAST_ROOM_BYTES = 2048, /* grow rather than offer less */
	FEW_KEYS = 64,           /* sorted on the stack */
	MOST_OF_A_HASH = 4,      /* keys of one map; more is malice */
	KIND_UNKNOWN = -1,
};

/* What one step of the walk found. */
enum step {
	STEP_ON,   /* a value was accepted; go on */
	STEP_DONE, /* it was the last one of the message */
	STEP_WAIT, /* more bytes must arrive */
	STEP_BAD,  /* refused; the error is filled in */
};

static void start_message(struct bn_frame *f)
{
	f->begin = f->cursor;
	f->elements_left = f->caps.elements;
	f->depth = 0;
	f->msgid = 0;
	f->kind = KIND_UNKNOWN;
}

void bn_frame_init(struct bn_frame *f, struct bn_frame_caps caps)
{
	bn_assert(caps.depth <= BN_LIMIT_DEPTH && caps.message_bytes <= UINT32_MAX);
	*f = (struct bn_frame){ .caps = caps };
	start_message(f);
}

void bn_frame_finish(struct bn_frame *f)
{
	free(f->bytes);
	*f = (struct bn_frame){ .refused = BN_E_MESSAGE };
}

/* --- buffer --------------------------------------------------------------------------------- */

static bool set_capacity(struct bn_frame *f, size_t capacity)
{
	unsigned char *bytes = realloc(f->bytes, capacity);

	if (bytes == NULL) {
		return false;
	}
	f->bytes = bytes;
	f->capacity = capacity;
	return true;
}

/* Moves the unfinished message to the front; lets go of what one large message has left. */
static void compact(struct bn_frame *f)
{
	size_t kept = f->used - f->begin;

	if (kept == 0 && f->capacity > 2 * BN_FRAME_READ_BYTES) {
		free(f->bytes);
		f->bytes = NULL;
		f->capacity = 0;
	} else if (kept > 0 && f->begin > 0) {
		memmove(f->bytes, f->bytes + f->begin, kept);
	}
	f->cursor -= f->begin;
	f->used = kept;
	f->begin = 0;
}

enum bn_status bn_frame_space(struct bn_frame *f, unsigned char **space, size_t *n,
			      struct bn_error *err)
{
	size_t most = f->caps.message_bytes + BN_FRAME_READ_BYTES;
	size_t room;

	compact(f);
	if (f->capacity - f->used < LEAST_ROOM_BYTES && f->capacity < most) {
		size_t capacity = f->capacity > 0 ? 2 * f->capacity : FIRST_BYTES;

		if (!set_capacity(f, capacity < most ? capacity : most)) {
			return bn_fail(err, BN_E_MEMORY,
				       "no memory for a message of over %zu bytes", f->used);
		}
	}
	room = f->capacity - f->used;
	if (room == 0) {
		return bn_fail(err, BN_E_TOO_LARGE, "%zu bytes received and not taken", f->used);
	}
	*space = f->bytes + f->used;
	*n = room < BN_FRAME_READ_BYTES ? room : BN_FRAME_READ_BYTES;
	return BN_OK;
}

void bn_frame_commit(struct bn_frame *f, size_t n)
{
	bn_assert(n <= f->capacity - f->used);
	f->used += n;
}

size_t bn_frame_pending(const struct bn_frame *f)
{
	return f->used - f->begin;
}

uint32_t bn_frame_msgid(const struct bn_frame *f)
{
	return f->msgid;
}

/* --- keys ----------------------------------------------------------------------------------- */

/* Spreads a key over 32 bits. Keys that are equal hash alike, however they were encoded. */
static uint32_t hash_key(const struct bn_value *key)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15);

	if (key->type == BN_TYPE_STR) {
		for (size_t i = 0; i < key->n; i += sizeof(uint64_t)) {
			uint64_t eight = 0;
			size_t left = key->n - i;

			memcpy(&eight, key->body + i, left < sizeof(eight) ? left : sizeof(eight));
			h = (h ^ eight) * UINT64_C(0xff51afd7ed558ccd);
			h ^= h >> 32;
		}
		h += key->n;
	} else {
		/* as.big and as.integer share their bits; keys are not negative. */
		h ^= key->as.big;
	}
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (uint32_t)(h >> 32);
}

static bool same_key(const unsigned char *message, const unsigned char *end, uint32_t a, uint32_t b)
{
	struct bn_value x = { 0 }, y = { 0 };

	bn_value_head(&x, message + a, end);
	bn_value_head(&y, message + b, end);
	if (x.type != y.type) {
		return false;
	}
	return x.type == BN_TYPE_STR ? x.n == y.n && memcmp(x.body, y.body, x.n) == 0
				     : x.as.big == y.as.big;
}

static void sift_down(uint64_t *heap, uint32_t root, uint32_t n)
{
	uint64_t moved = heap[root];

	for (uint32_t child = 2 * root + 1; child < n; child = 2 * root + 1) {
		if (child + 1 < n && heap[child] < heap[child + 1]) {
			child++;
		}
		if (moved >= heap[child]) {
			break;
		}
		heap[root] = heap[child];
		root = child;
	}
	heap[root] = moved;
}

/* Heapsort: in place, no recursion, no worst case. */
static void sort(uint64_t *keys, uint32_t n)
{
	for (uint32_t i = n / 2; i > 0; i--) {
		sift_down(keys, i - 1, n);
	}
	for (uint32_t last = n; last > 1; last--) {
		uint64_t greatest = keys[0];

		keys[0] = keys[last - 1];
		keys[last - 1] = greatest;
		sift_down(keys, 0, last - 1);
	}
}

static enum bn_status refuse_twin(const unsigned char *message, const unsigned char *end,
				  uint32_t offset, struct bn_error *err)
{
	struct bn_value key = { 0 };

	bn_value_head(&key, message + offset, end);
	if (key.type == BN_TYPE_STR) {
		return bn_fail(err, BN_E_PARSE, "a map has the key '%.*s' twice", (int)key.n,
			       (const char *)key.body);
	}
	return bn_fail(err, BN_E_PARSE, "a map has the key %" PRIu64 " twice", key.as.big);
}

/* Compares keys of equal hash, which lie side by side. */
static enum bn_status check_sorted(const uint64_t *keys, uint32_t n, const unsigned char *message,
				   const unsigned char *end, struct bn_error *err)
{
	uint32_t first = 0; /* of the keys with this hash */

	for (uint32_t i = 1; i < n; i++) {
		if (keys[i] >> 32 != keys[first] >> 32) {
			first = i;
		}
		for (uint32_t j = first; j < i; j++) {
			if (same_key(message, end, (uint32_t)keys[j], (uint32_t)keys[i])) {
				return refuse_twin(message, end, (uint32_t)keys[i], err);
			}
		}
		if (i - first >= MOST_OF_A_HASH) {
			return bn_fail(err, BN_E_PARSE, "the keys of a map are made to collide");
		}
	}
	return BN_OK;
}

/*
 * Whether the keys of the map whose head is at offset `head` differ. Its bytes have all arrived
 * and each key is a short string or a non-negative integer.
 */
static enum bn_status check_keys(struct bn_frame *f, size_t head, struct bn_error *err)
{
	uint64_t few[FEW_KEYS];
	uint64_t *keys = few;
	uint32_t n = 0;
	struct bn_value map, key, value;
	struct bn_iter it;
	const unsigned char *message, *end;

	map = bn_value_read(f->bytes + f->begin + head, f->cursor - f->begin - head);
	if (map.n > FEW_KEYS) {
		size_t tail = (f->used + sizeof(*keys) - 1) / sizeof(*keys) * sizeof(*keys);
		size_t need = tail + map.n * sizeof(*keys);

		if (need > f->capacity && !set_capacity(f, need)) {
			return bn_fail(err, BN_E_MEMORY, "no memory to compare %" PRIu32 " keys",
				       map.n);
		}
		/* realloc aligns f->bytes for anything, and `tail` is a multiple of 8. */
		keys = (uint64_t *)(void *)(f->bytes + tail);
	}
	message = f->bytes + f->begin;
	end = f->bytes + f->cursor;
	it = bn_iter_begin(bn_value_read(message + head, (size_t)(end - message) - head));
	while (bn_iter_next(&it, &key, &value)) {
		keys[n++] = (uint64_t)hash_key(&key) << 32 | (uint32_t)(key.head - message);
	}
	sort(keys, n);
	return check_sorted(keys, n, message, end, err);
}

/* --- the walk ------------------------------------------------------------------------------- */

static enum bn_status too_large(struct bn_error *err, const char *what, uint64_t actual,
				uint64_t limit)
{
	bn_fail(err, BN_E_TOO_LARGE, "a message with %" PRIu64 " %s; at most %" PRIu64, actual,
		what, limit);
	bn_error_number(err, "limit", (int64_t)limit);
	bn_error_number(err, "actual", actual <= INT64_MAX ? (int64_t)actual : INT64_MAX);
	return BN_E_TOO_LARGE;
}

/* [type, msgid, method, ...]: element `index` of the message itself. */
static enum bn_status check_header(struct bn_frame *f, uint32_t index, const struct bn_value *v,
				   bool *is_method, struct bn_error *err)
{
	if (index == 0) {
		int64_t kind = bn_value_int(*v, KIND_UNKNOWN);
		uint64_t expect = f->level[0].left;

		if (!((kind == 0 || kind == 1) && expect == 4) && !(kind == 2 && expect == 3)) {
			return bn_fail(err, BN_E_MESSAGE,
				       "a message of %" PRIu64 " elements must begin with %s",
				       expect, expect == 4 ? "0 or 1" : "2");
		}
		return BN_OK;
	}
	if (index == 1 && f->kind != 2) {
		if (v->type != BN_TYPE_INT || v->as.integer < 0 || v->as.integer > UINT32_MAX) {
			return bn_fail(err, BN_E_MESSAGE, "the message id must be 0..4294967295");
		}
		return BN_OK;
	}
	*is_method = (index == 2 && f->kind == 0) || (index == 1 && f->kind == 2);
	if (*is_method) {
		/* pynvim sends the names of its notifications as bin. */
		if (v->type != BN_TYPE_STR && v->type != BN_TYPE_BIN) {
			return bn_fail(err, BN_E_MESSAGE, "the method must be a string, not %s",
				       bn_type_name(v->type));
		}
		if (v->n < 1 || v->n > BN_LIMIT_METHOD_BYTES) {
			return bn_fail(err, BN_E_MESSAGE,
				       "a method name of %" PRIu32 " bytes; 1..%d are allowed",
				       v->n, BN_LIMIT_METHOD_BYTES);
		}
	}
	return BN_OK;
}

static enum bn_status check_key(const struct bn_value *v, struct bn_error *err)
{
	switch (v->type) {
	case BN_TYPE_STR:
		if (v->n > BN_LIMIT_KEY_BYTES) {
			return bn_fail(err, BN_E_PARSE,
				       "a map key of %" PRIu32 " bytes; at most %d", v->n,
				       BN_LIMIT_KEY_BYTES);
		}
		return BN_OK;
	case BN_TYPE_INT:
	case BN_TYPE_BIG:
		if (v->type == BN_TYPE_INT && v->as.integer < 0) {
			return bn_fail(err, BN_E_PARSE, "a map key is negative");
		}
		return BN_OK;
	default:
		return bn_fail(err, BN_E_PARSE, "a map key must be a string or an integer, not %s",
			       bn_type_name(v->type));
	}
}

/* Judges the head of a value before what it announces has arrived. `size`: bytes up to its body. */
static enum bn_status check_head(struct bn_frame *f, const struct bn_value *v, size_t size,
				 bool *is_method, struct bn_error *err)
{
	size_t cap = f->caps.message_bytes;
	struct bn_frame_level *level = f->depth > 0 ? &f->level[f->depth - 1] : NULL;
	enum bn_status status = BN_OK;

	*is_method = false;
	if (level == NULL) {
		if (v->type != BN_TYPE_ARRAY || (v->n != 3 && v->n != 4)) {
			return bn_fail(err, BN_E_MESSAGE,
				       "a message must be an array of 3 or 4 elements, not %s",
				       v->type == BN_TYPE_ARRAY ? "of another length"
								: bn_type_name(v->type));
		}
	} else if (f->depth == 1) {
		uint32_t length = f->kind == 2 ? 3 : 4;
		uint32_t index = f->kind < 0 ? 0 : length - (uint32_t)level->left;

		status = check_header(f, index, v, is_method, err);
	} else if (level->map && level->left % 2 == 0) {
		status = check_key(v, err);
	}
	if (status != BN_OK) {
		return status;
	}
	if (v->type == BN_TYPE_EXT) {
		return bn_fail(err, BN_E_PARSE, "extension types are not part of this protocol");
	}
	if (size > cap) {
		return too_large(err, "bytes", size, cap);
	}
	if (v->type == BN_TYPE_STR || v->type == BN_TYPE_BIN) {
		if (v->n > cap - size) {
			return too_large(err, "bytes", (uint64_t)size + v->n, cap);
		}
	} else if (v->type == BN_TYPE_ARRAY || v->type == BN_TYPE_MAP) {
		uint64_t children = v->type == BN_TYPE_MAP ? 2 * (uint64_t)v->n : v->n;

		if (children > f->elements_left) {
			return too_large(err, "elements",
					 f->caps.elements - f->elements_left + children,
					 f->caps.elements);
		}
		/* Each element is at least a byte. */
		if (children > cap - size) {
			return too_large(err, "bytes", size + children, cap);
		}
		if (f->depth >= f->caps.depth) {
			return bn_fail(err, BN_E_PARSE, "more than %" PRIu32 " levels of nesting",
				       f->caps.depth);
		}
	}
	return BN_OK;
}

/* Books an accepted value, and closes the containers it completes. */
static enum bn_status book(struct bn_frame *f, const struct bn_value *v, struct bn_error *err)
{
	if (f->depth == 1 && f->kind < 0) {
		f->kind = (int)v->as.integer;
	} else if (f->depth == 1 && f->kind != 2 && f->level[0].left == 3) {
		f->msgid = (uint32_t)v->as.integer;
	}
	if (f->depth > 0) {
		f->level[f->depth - 1].left--;
	}
	if (v->type == BN_TYPE_ARRAY || v->type == BN_TYPE_MAP) {
		struct bn_frame_level *level = &f->level[f->depth++];

		level->head = (size_t)(v->head - f->bytes) - f->begin;
		level->map = v->type == BN_TYPE_MAP;
		level->left = level->map ? 2 * (uint64_t)v->n : v->n;
		f->elements_left -= (uint32_t)level->left;
	}
	while (f->depth > 0 && f->level[f->depth - 1].left == 0) {
		const struct bn_frame_level *level = &f->level[--f->depth];

		if (level->map) {
			enum bn_status status = check_keys(f, level->head, err);

			if (status != BN_OK) {
				return status;
			}
		}
	}
	return BN_OK;
}

static enum step refuse(struct bn_frame *f, enum bn_status status)
{
	f->refused = status;
	return STEP_BAD;
}

static enum step step(struct bn_frame *f, struct bn_error *err)
{
	const unsigned char *message = f->bytes + f->begin;
	const unsigned char *end = f->bytes + f->used;
	struct bn_value v;
	enum bn_status status;
	bool is_method;

	/* Asked before the head, so that the verdict does not depend on how much of it is here. */
	if (f->cursor - f->begin >= f->caps.message_bytes) {
		return refuse(f, too_large(err, "bytes", f->caps.message_bytes + 1,
					   f->caps.message_bytes));
	}
	switch (bn_value_head(&v, f->bytes + f->cursor, end)) {
	case BN_HEAD_SHORT:
		return STEP_WAIT;
	case BN_HEAD_RESERVED:
		return refuse(f, bn_fail(err, BN_E_PARSE, "the byte 0xc1 is not MessagePack"));
	case BN_HEAD_OK:
		break;
	}
	status = check_head(f, &v, (size_t)(v.body - message), &is_method, err);
	if (status != BN_OK) {
		return refuse(f, status);
	}
	if (v.type == BN_TYPE_STR || v.type == BN_TYPE_BIN) {
		if (v.n > (size_t)(end - v.body)) {
			return STEP_WAIT;
		}
		if ((v.type == BN_TYPE_STR || is_method) && bn_utf8_prefix(v.body, v.n) != v.n) {
			return refuse(f, bn_fail(err, BN_E_PARSE,
						 "a string is not valid UTF-8 at byte %zu of it",
						 bn_utf8_prefix(v.body, v.n)));
		}
		f->cursor = (size_t)(v.body - f->bytes) + v.n;
	} else {
		f->cursor = (size_t)(v.body - f->bytes);
	}
	status = book(f, &v, err);
	if (status != BN_OK) {
		return refuse(f, status);
	}
	return f->depth == 0 ? STEP_DONE : STEP_ON;
}

enum bn_status bn_frame_next(struct bn_frame *f, struct bn_frame_message *out, struct bn_error *err)
{
	enum step found = STEP_WAIT;

	if (f->refused != BN_OK) {
		return bn_fail(err, f->refused,
			       "an earlier message of this connection was refused");
	}
	out->bytes = NULL;
	out->n = 0;
	while (f->cursor < f->used) {
		found = step(f, err);
		if (found != STEP_ON) {
			break;
		}
	}
	if (found == STEP_BAD) {
		return f->refused;
	}
	if (found == STEP_DONE) {
		out->bytes = f->bytes + f->begin;
		out->n = f->cursor - f->begin;
		start_message(f);
	}
	return BN_OK;
}
