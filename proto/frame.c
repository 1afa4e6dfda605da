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
 * Keys must be unique, or two readers may see two different messages. When a map ends, its keys
 * (their offsets, 4 bytes each) are sorted in the free tail of the buffer: n log n whatever the
 * keys are, where hashing would need a secret and comparing all pairs would be quadratic.
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
			return bn_fail(err, BN_E_MEMORY, "no memory for a message of over %zu bytes",
				       f->used);
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

/* A total order of keys: integers by value, then strings by length and bytes. */
static int compare_keys(const unsigned char *message, const unsigned char *end, uint32_t a,
			uint32_t b)
{
	struct bn_value x = { 0 }, y = { 0 };

	bn_value_head(&x, message + a, end);
	bn_value_head(&y, message + b, end);
	if (x.type != y.type) {
		return x.type < y.type ? -1 : 1;
	}
	if (x.type == BN_TYPE_STR) {
		if (x.n != y.n) {
			return x.n < y.n ? -1 : 1;
		}
		return memcmp(x.body, y.body, x.n);
	}
	/* as.big and as.integer share their bits; keys are not negative. */
	return (x.as.big > y.as.big) - (x.as.big < y.as.big);
}

static void sift_down(uint32_t *keys, uint32_t root, uint32_t n, const unsigned char *message,
		      const unsigned char *end)
{
	for (;;) {
		uint32_t child = 2 * root + 1, moved = keys[root];

		if (child >= n) {
			return;
		}
		if (child + 1 < n &&
		    compare_keys(message, end, keys[child], keys[child + 1]) < 0) {
			child++;
		}
		if (compare_keys(message, end, moved, keys[child]) >= 0) {
			return;
		}
		keys[root] = keys[child];
		keys[child] = moved;
		root = child;
	}
}

/* Heapsort: in place, no recursion, no worst case. Returns an offset of a twin, or UINT32_MAX. */
static uint32_t find_twin(uint32_t *keys, uint32_t n, const unsigned char *message,
			  const unsigned char *end)
{
	for (uint32_t i = n / 2; i > 0; i--) {
		sift_down(keys, i - 1, n, message, end);
	}
	for (uint32_t last = n; last > 1; last--) {
		uint32_t greatest = keys[0];

		/* The heap gives keys from greatest to least; twins come one after the other. */
		keys[0] = keys[last - 1];
		keys[last - 1] = greatest;
		sift_down(keys, 0, last - 1, message, end);
		if (compare_keys(message, end, keys[0], greatest) == 0) {
			return greatest;
		}
	}
	return UINT32_MAX;
}

/*
 * Whether the keys of the map whose head is at offset `head` differ. Its bytes have all arrived
 * and each key is a short string or a non-negative integer.
 */
static enum bn_status check_keys(struct bn_frame *f, size_t head, struct bn_error *err)
{
	uint32_t few[FEW_KEYS];
	uint32_t *keys = few;
	uint32_t n = 0, twin = UINT32_MAX;
	bool sorted = true;
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
		/* realloc aligns f->bytes for anything, and `tail` is a multiple of 4. */
		keys = (uint32_t *)(void *)(f->bytes + tail);
	}
	message = f->bytes + f->begin;
	end = f->bytes + f->cursor;
	map = bn_value_read(message + head, (size_t)(end - message) - head);
	it = bn_iter_begin(map);
	while (bn_iter_next(&it, &key, &value)) {
		keys[n] = (uint32_t)(key.head - message);
		if (n > 0 && compare_keys(message, end, keys[n - 1], keys[n]) >= 0) {
			sorted = false;
		}
		n++;
	}
	if (!sorted) {
		twin = find_twin(keys, n, message, end);
	}
	if (twin == UINT32_MAX) {
		return BN_OK;
	}
	bn_value_head(&key, message + twin, end);
	if (key.type == BN_TYPE_STR) {
		return bn_fail(err, BN_E_PARSE, "a map has the key '%.*s' twice", (int)key.n,
			       (const char *)key.body);
	}
	return bn_fail(err, BN_E_PARSE, "a map has the key %" PRIu64 " twice", key.as.big);
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
				       "a method name of %" PRIu32 " bytes; 1..%d are allowed", v->n,
				       BN_LIMIT_METHOD_BYTES);
		}
	}
	return BN_OK;
}

static enum bn_status check_key(const struct bn_value *v, struct bn_error *err)
{
	switch (v->type) {
	case BN_TYPE_STR:
		if (v->n > BN_LIMIT_KEY_BYTES) {
			return bn_fail(err, BN_E_PARSE, "a map key of %" PRIu32 " bytes; at most %d",
				       v->n, BN_LIMIT_KEY_BYTES);
		}
		return BN_OK;
	case BN_TYPE_INT:
	case BN_TYPE_BIG:
		if (v->type == BN_TYPE_INT && v->as.integer < 0) {
			return bn_fail(err, BN_E_PARSE, "a map key is negative");
		}
		return BN_OK;
	default:
		return bn_fail(err, BN_E_PARSE,
			       "a map key must be a string or an integer, not %s",
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
				       v->type == BN_TYPE_ARRAY ? "of another length" :
								  bn_type_name(v->type));
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
static enum bn_status accept(struct bn_frame *f, const struct bn_value *v, struct bn_error *err)
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

	switch (bn_value_head(&v, f->bytes + f->cursor, end)) {
	case BN_HEAD_SHORT:
		if (f->cursor - f->begin >= f->caps.message_bytes) {
			return refuse(f, too_large(err, "bytes", f->caps.message_bytes + 1,
						   f->caps.message_bytes));
		}
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
	status = accept(f, &v, err);
	if (status != BN_OK) {
		return refuse(f, status);
	}
	return f->depth == 0 ? STEP_DONE : STEP_ON;
}

enum bn_status bn_frame_next(struct bn_frame *f, struct bn_frame_message *out,
			     struct bn_error *err)
{
	enum step found = STEP_WAIT;

	if (f->refused != BN_OK) {
		return bn_fail(err, f->refused, "an earlier message of this connection was refused");
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
