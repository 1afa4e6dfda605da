/*
 * One decoder of MessagePack heads for the whole project. The guard walk (frame.c) and every
 * reader below use bn_value_head(), so they cannot disagree about what a byte means.
 *
 * Walking is iterative: skipping a value counts the values still owed instead of descending, so
 * depth costs nothing, whatever the bytes say.
 */
#include "proto/value.h"

#include <string.h>

static uint64_t big_endian(const unsigned char *at, size_t n)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++) {
		value = value << 8 | at[i];
	}
	return value;
}

static double float_of_bits(uint64_t bits, size_t n)
{
	if (n == 4) {
		uint32_t narrow = (uint32_t)bits;
		float number;

		memcpy(&number, &narrow, sizeof(number));
		return (double)number;
	} else {
		double number;

		memcpy(&number, &bits, sizeof(number));
		return number;
	}
}

/* Types of the bytes 0xc0 .. 0xdf and how many bytes of number follow them. */
static const struct {
	unsigned char type;
	unsigned char n;
} wide[32] = {
	{ BN_TYPE_NIL, 0 },   { BN_TYPE_NONE, 0 },  { BN_TYPE_BOOL, 0 },  { BN_TYPE_BOOL, 0 },
	{ BN_TYPE_BIN, 1 },   { BN_TYPE_BIN, 2 },   { BN_TYPE_BIN, 4 },   { BN_TYPE_EXT, 1 },
	{ BN_TYPE_EXT, 2 },   { BN_TYPE_EXT, 4 },   { BN_TYPE_FLOAT, 4 }, { BN_TYPE_FLOAT, 8 },
	{ BN_TYPE_BIG, 1 },   { BN_TYPE_BIG, 2 },   { BN_TYPE_BIG, 4 },   { BN_TYPE_BIG, 8 },
	{ BN_TYPE_INT, 1 },   { BN_TYPE_INT, 2 },   { BN_TYPE_INT, 4 },   { BN_TYPE_INT, 8 },
	{ BN_TYPE_EXT, 0 },   { BN_TYPE_EXT, 0 },   { BN_TYPE_EXT, 0 },   { BN_TYPE_EXT, 0 },
	{ BN_TYPE_EXT, 0 },   { BN_TYPE_STR, 1 },   { BN_TYPE_STR, 2 },   { BN_TYPE_STR, 4 },
	{ BN_TYPE_ARRAY, 2 }, { BN_TYPE_ARRAY, 4 }, { BN_TYPE_MAP, 2 },   { BN_TYPE_MAP, 4 },
};

/* Two's complement of n bytes, without the implementation-defined narrowing of a cast. */
static int64_t sign_extend(uint64_t bits, size_t n)
{
	uint64_t sign = (uint64_t)1 << (8 * n - 1);

	if ((bits & sign) == 0) {
		return (int64_t)bits;
	}
	return -(int64_t)((sign << 1) - 1 - bits) - 1;
}

/* Fills type and content from the first byte and the number after it. */
static void classify(struct bn_value *v, unsigned char first, uint64_t number, size_t n)
{
	switch (v->type) {
	case BN_TYPE_BOOL:
		v->as.boolean = first == 0xc3;
		break;
	case BN_TYPE_INT:
		v->as.integer = sign_extend(number, n);
		break;
	case BN_TYPE_BIG:
		if (number <= INT64_MAX) {
			v->type = BN_TYPE_INT;
			v->as.integer = (int64_t)number;
		} else {
			v->as.big = number;
		}
		break;
	case BN_TYPE_FLOAT:
		v->as.number = float_of_bits(number, n);
		break;
	default:
		v->n = (uint32_t)number;
		break;
	}
}

enum bn_head bn_value_head(struct bn_value *v, const unsigned char *at, const unsigned char *end)
{
	struct bn_value r = { .head = at, .end = end };
	unsigned char first;

	if (at == NULL || at >= end) {
		return BN_HEAD_SHORT;
	}
	first = *at++;
	if (first < 0x80) {
		r.type = BN_TYPE_INT;
		r.as.integer = first;
	} else if (first < 0x90) {
		r.type = BN_TYPE_MAP;
		r.n = first & 0x0f;
	} else if (first < 0xa0) {
		r.type = BN_TYPE_ARRAY;
		r.n = first & 0x0f;
	} else if (first < 0xc0) {
		r.type = BN_TYPE_STR;
		r.n = first & 0x1f;
	} else if (first >= 0xe0) {
		r.type = BN_TYPE_INT;
		r.as.integer = (int64_t)first - 0x100;
	} else if (first == 0xc1) {
		return BN_HEAD_RESERVED;
	} else {
		size_t n = wide[first - 0xc0].n;
		uint64_t number;

		if (n > (size_t)(end - at)) {
			return BN_HEAD_SHORT;
		}
		number = big_endian(at, n);
		at += n;
		r.type = wide[first - 0xc0].type;
		if (r.type == BN_TYPE_EXT) {
			/* One byte of type follows, counted with the head. */
			if (at >= end) {
				return BN_HEAD_SHORT;
			}
			at++;
			r.n = n > 0 ? (uint32_t)number : 1u << (first - 0xd4);
		} else {
			classify(&r, first, number, n);
		}
	}
	r.body = at;
	*v = r;
	return BN_HEAD_OK;
}

static bool has_payload(enum bn_type type)
{
	return type == BN_TYPE_STR || type == BN_TYPE_BIN || type == BN_TYPE_EXT;
}

/* Values inside a container. */
static uint64_t children(const struct bn_value *v)
{
	return v->type == BN_TYPE_ARRAY ? v->n : v->type == BN_TYPE_MAP ? 2 * (uint64_t)v->n : 0;
}

static struct bn_value read_at(const unsigned char *at, const unsigned char *end)
{
	struct bn_value v = { 0 };

	if (bn_value_head(&v, at, end) != BN_HEAD_OK ||
	    (has_payload(v.type) && v.n > (size_t)(end - v.body))) {
		return (struct bn_value){ 0 };
	}
	return v;
}

struct bn_value bn_value_read(const void *bytes, size_t n)
{
	const unsigned char *at = bytes;

	return n == 0 ? (struct bn_value){ 0 } : read_at(at, at + n);
}

const unsigned char *bn_value_walk(const struct bn_value *v, uint64_t *n)
{
	struct bn_value each = *v;
	uint64_t owed = 0, seen = 0;

	for (;;) {
		const unsigned char *at;

		if (each.type == BN_TYPE_NONE) {
			return NULL;
		}
		seen++;
		owed += children(&each);
		at = has_payload(each.type) ? each.body + each.n : each.body;
		if (owed == 0) {
			if (n != NULL) {
				*n = seen;
			}
			return at;
		}
		each = read_at(at, v->end);
		owed--;
	}
}

const unsigned char *bn_value_after(const struct bn_value *v)
{
	return bn_value_walk(v, NULL);
}

struct bn_iter bn_iter_begin(struct bn_value v)
{
	struct bn_iter it = { .at = v.body, .end = v.end };

	if (v.type == BN_TYPE_ARRAY || v.type == BN_TYPE_MAP) {
		it.left = v.n;
		it.map = v.type == BN_TYPE_MAP;
	}
	return it;
}

/* Takes one value and moves behind it; false, and no more values, when the bytes end. */
static bool take(struct bn_iter *it, struct bn_value *v)
{
	*v = read_at(it->at, it->end);
	it->at = bn_value_after(v);
	if (it->at == NULL) {
		it->left = 0;
		return false;
	}
	return true;
}

bool bn_iter_next(struct bn_iter *it, struct bn_value *key, struct bn_value *value)
{
	struct bn_value k = { 0 };

	if (it->left == 0) {
		return false;
	}
	it->left--;
	if (it->map && !take(it, &k)) {
		return false;
	}
	if (!take(it, value)) {
		return false;
	}
	if (key != NULL) {
		*key = k;
	}
	return true;
}

static struct bn_value get(struct bn_value map, struct bn_text name)
{
	struct bn_iter it = bn_iter_begin(map);
	struct bn_value key, value;

	if (map.type != BN_TYPE_MAP) {
		return (struct bn_value){ 0 };
	}
	while (bn_iter_next(&it, &key, &value)) {
		if (key.type == BN_TYPE_STR && key.n == name.n &&
		    memcmp(key.body, name.at, name.n) == 0) {
			return value;
		}
	}
	return (struct bn_value){ 0 };
}

struct bn_value bn_value_get(struct bn_value map, const char *key)
{
	return get(map, bn_text_of(key));
}

struct bn_value bn_value_find(struct bn_value map, const char *path)
{
	for (;;) {
		size_t n = strcspn(path, ".");

		map = get(map, (struct bn_text){ path, n });
		if (path[n] == '\0' || map.type == BN_TYPE_NONE) {
			return map;
		}
		path += n + 1;
	}
}

struct bn_value bn_value_at(struct bn_value array, uint32_t i)
{
	struct bn_iter it = bn_iter_begin(array);
	struct bn_value value;

	if (array.type != BN_TYPE_ARRAY || i >= array.n) {
		return (struct bn_value){ 0 };
	}
	do {
		if (!bn_iter_next(&it, NULL, &value)) {
			return (struct bn_value){ 0 };
		}
	} while (i-- > 0);
	return value;
}

bool bn_value_bool(struct bn_value v, bool fallback)
{
	return v.type == BN_TYPE_BOOL ? v.as.boolean : fallback;
}

int64_t bn_value_int(struct bn_value v, int64_t fallback)
{
	return v.type == BN_TYPE_INT ? v.as.integer : fallback;
}

double bn_value_num(struct bn_value v, double fallback)
{
	switch (v.type) {
	case BN_TYPE_INT:
		return (double)v.as.integer;
	case BN_TYPE_BIG:
		return (double)v.as.big;
	case BN_TYPE_FLOAT:
		return v.as.number;
	default:
		return fallback;
	}
}

struct bn_text bn_value_text(struct bn_value v)
{
	if (v.type == BN_TYPE_STR ||
	    (v.type == BN_TYPE_BIN && bn_utf8_prefix(v.body, v.n) == v.n)) {
		return (struct bn_text){ (const char *)v.body, v.n };
	}
	return (struct bn_text){ "", 0 };
}

struct bn_bytes bn_value_bytes(struct bn_value v)
{
	if (v.type == BN_TYPE_STR || v.type == BN_TYPE_BIN) {
		return (struct bn_bytes){ v.body, v.n };
	}
	return (struct bn_bytes){ NULL, 0 };
}

const char *bn_type_name(enum bn_type type)
{
	static const char *const names[] = {
		[BN_TYPE_NONE] = "nothing",     [BN_TYPE_NIL] = "nil",
		[BN_TYPE_BOOL] = "a boolean",   [BN_TYPE_INT] = "an integer",
		[BN_TYPE_BIG] = "an integer",   [BN_TYPE_FLOAT] = "a float",
		[BN_TYPE_STR] = "a string",     [BN_TYPE_BIN] = "binary data",
		[BN_TYPE_ARRAY] = "an array",   [BN_TYPE_MAP] = "a map",
		[BN_TYPE_EXT] = "an extension",
	};

	return (unsigned)type < sizeof(names) / sizeof(names[0]) ? names[type] : "nothing";
}

bool bn_text_is(struct bn_text t, const char *string)
{
	return t.n == strlen(string) && memcmp(t.at, string, t.n) == 0;
}

struct bn_text bn_text_of(const char *string)
{
	return string == NULL ? (struct bn_text){ "", 0 }
			      : (struct bn_text){ string, strlen(string) };
}

/* Length of the well-formed sequence at p (left > 0 bytes remain), or 0. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
	size_t n;
	unsigned char low = 0x80, high = 0xbf;

	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2;
	} else if (p[0] >= 0xe0 && p[0] <= 0xef) {
		n = 3;
		low = p[0] == 0xe0 ? 0xa0 : 0x80;
		high = p[0] == 0xed ? 0x9f : 0xbf;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4;
		low = p[0] == 0xf0 ? 0x90 : 0x80;
		high = p[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return p[0] < 0x80 ? 1 : 0;
	}
	if (n > left || p[1] < low || p[1] > high) {
		return 0;
	}
	for (size_t i = 2; i < n; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf) {
			return 0;
		}
	}
	return n;
}

size_t bn_utf8_prefix(const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	size_t i = 0;

	while (i < n) {
		uint64_t eight;
		size_t step;

		/* Most text is ASCII: take eight bytes at a time while no high bit is set. */
		if (n - i >= sizeof(eight)) {
			memcpy(&eight, p + i, sizeof(eight));
			if ((eight & UINT64_C(0x8080808080808080)) == 0) {
				i += sizeof(eight);
				continue;
			}
		}
		step = utf8_sequence(p + i, n - i);
		if (step == 0) {
			break;
		}
		i += step;
	}
	return i;
}
