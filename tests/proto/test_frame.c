#include "proto/frame.h"
#include "proto/value.h"

#include "tests/proto/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

/* Linked with --wrap=realloc: fails while set. */
static bool no_memory;

void *__real_realloc(void *block, size_t n);
void *__wrap_realloc(void *block, size_t n);

void *__wrap_realloc(void *block, size_t n)
{
	return no_memory ? NULL : __real_realloc(block, n);
}

/* --- bytes to send -------------------------------------------------------------------------- */

struct bytes {
	unsigned char *at;
	size_t n, room;
};

static void put(struct bytes *b, const void *at, size_t n)
{
	if (b->n + n > b->room) {
		b->room = 2 * (b->n + n);
		b->at = __real_realloc(b->at, b->room);
		assert_non_null(b->at);
	}
	memcpy(b->at + b->n, at, n);
	b->n += n;
}

/* "94 00 cd-12-34": whatever is no hex digit separates. */
static void put_hex(struct bytes *b, const char *hex)
{
	unsigned value;
	int step;

	while (*hex != '\0') {
		if (*hex == ' ' || *hex == '-') {
			hex++;
			continue;
		}
		assert_int_equal(sscanf(hex, "%2x%n", &value, &step), 1);
		put(b, &(unsigned char){ (unsigned char)value }, 1);
		hex += step;
	}
}

static void put_be(struct bytes *b, unsigned char first, uint32_t value, int n)
{
	put(b, &first, 1);
	while (n-- > 0) {
		put(b, &(unsigned char){ (unsigned char)(value >> (8 * n)) }, 1);
	}
}

/* --- feeding -------------------------------------------------------------------------------- */

/* What came out: the messages one after the other, and where each ends. */
struct seen {
	struct bytes bytes;
	size_t ends[64];
	size_t n;
	size_t most_capacity;
};

static void forget(struct seen *s)
{
	free(s->bytes.at);
	*s = (struct seen){ 0 };
}

static enum bn_status drain(struct bn_frame *f, struct seen *s, struct bn_error *err)
{
	for (;;) {
		struct bn_frame_message m;
		enum bn_status status = bn_frame_next(f, &m, err);

		if (f->capacity > s->most_capacity) {
			s->most_capacity = f->capacity;
		}
		if (status != BN_OK || m.bytes == NULL) {
			return status;
		}
		assert_true(judge_accepts(m.bytes, m.n));
		put(&s->bytes, m.bytes, m.n);
		assert_true(s->n < 64);
		s->ends[s->n++] = s->bytes.n;
	}
}

/* Sends all bytes in pieces of `piece`; stops at the first refusal. */
static enum bn_status feed(struct bn_frame *f, const void *bytes, size_t n, size_t piece,
			   struct seen *s, struct bn_error *err)
{
	const unsigned char *at = bytes;
	enum bn_status status = BN_OK;

	while (n > 0 && status == BN_OK) {
		unsigned char *space;
		size_t room, step;

		status = bn_frame_space(f, &space, &room, err);
		if (status != BN_OK) {
			return status;
		}
		step = piece < room ? piece : room;
		step = step < n ? step : n;
		memcpy(space, at, step);
		bn_frame_commit(f, step);
		at += step;
		n -= step;
		status = drain(f, s, err);
	}
	return status;
}

static enum bn_status feed_hex(const char *hex, size_t piece, struct seen *s, struct bn_error *err)
{
	struct bytes b = { 0 };
	struct bn_frame f;
	enum bn_status status;

	put_hex(&b, hex);
	bn_frame_init(&f, BN_FRAME_CAPS);
	status = feed(&f, b.at, b.n, piece, s, err);
	bn_frame_finish(&f);
	free(b.at);
	return status;
}

/* --- tests ---------------------------------------------------------------------------------- */

static void frame_gives_the_same_messages_whatever_the_pieces(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 5, 7, 64, 1000, 4096, 65536, SIZE_MAX };
	struct bytes b = { 0 };
	char *text = malloc(200000);

	(void)state;
	memset(text, 'x', 200000);
	put_hex(&b, "94 00 07 a4 70696e67 90");
	put_hex(&b, "93 02 c4 04 6e616d65 91 81 a1 61 c0");
	put_hex(&b, "94 01 ce ffffffff c0 82 a1 61 93 01 cb 3ff0000000000000 c4 01 ff 05 80");
	put_hex(&b, "dc 0004 00 00 a1 61 dd 00000001 df 00000001 d9 01 62 db 00000002 c3a9");
	put_hex(&b, "94 00 01 a1 70 91 81 a1 74");
	put_be(&b, 0xdb, 200000, 4);
	put(&b, text, 200000);
	for (int i = 0; i < 20; i++) {
		put_hex(&b, "94 00 07 a4 70696e67 90");
	}
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		bn_frame_init(&f, BN_FRAME_CAPS);
		assert_int_equal(feed(&f, b.at, b.n, pieces[i], &s, &err), BN_OK);
		assert_int_equal(s.n, 25);
		assert_int_equal(s.ends[0], 9);
		assert_int_equal(s.bytes.n, b.n);
		assert_memory_equal(s.bytes.at, b.at, b.n);
		assert_int_equal(bn_frame_pending(&f), 0);
		bn_frame_finish(&f);
		forget(&s);
	}
	free(b.at);
	free(text);
}

static void frame_refuses_at_the_first_wrong_byte(void **state)
{
	/* All but the last byte of each is fine; nothing after it is needed to refuse. */
	static const struct {
		const char *hex;
		enum bn_status status;
	} cases[] = {
		{ "47", BN_E_MESSAGE }, /* "GET / HTTP" */
		{ "7b", BN_E_MESSAGE }, /* JSON */
		{ "c0", BN_E_MESSAGE },
		{ "92", BN_E_MESSAGE },
		{ "95", BN_E_MESSAGE },
		{ "84", BN_E_MESSAGE },
		{ "dc 0005", BN_E_MESSAGE },
		{ "dd ffffffff", BN_E_MESSAGE },
		{ "94 03", BN_E_MESSAGE },
		{ "94 02", BN_E_MESSAGE },
		{ "93 00", BN_E_MESSAGE },
		{ "93 01", BN_E_MESSAGE },
		{ "94 ff", BN_E_MESSAGE },
		{ "94 a1", BN_E_MESSAGE },
		{ "94 cb 0000000000000000", BN_E_MESSAGE }, /* 0.0 is no type */
		{ "94 00 ff", BN_E_MESSAGE },
		{ "94 00 c0", BN_E_MESSAGE },
		{ "94 00 cf 0000000100000000", BN_E_MESSAGE },
		{ "94 01 a1", BN_E_MESSAGE },
		{ "94 00 01 05", BN_E_MESSAGE },
		{ "94 00 01 c0", BN_E_MESSAGE },
		{ "94 00 01 a0", BN_E_MESSAGE },
		{ "94 00 01 d9 41", BN_E_MESSAGE }, /* 65 bytes of method */
		{ "94 00 01 90", BN_E_MESSAGE },
		{ "93 02 01", BN_E_MESSAGE },
		{ "94 00 01 c4 02 c3 28", BN_E_PARSE }, /* method in broken UTF-8 */
		{ "94 00 01 a1 61 c1", BN_E_PARSE },
		{ "94 00 01 a1 61 d4 00", BN_E_PARSE },
		{ "94 00 01 a1 61 d8 00", BN_E_PARSE },
		{ "94 00 01 a1 61 c7 00 05", BN_E_PARSE },
		{ "94 00 01 a1 61 c9 ffffffff 05", BN_E_PARSE },
		{ "94 00 01 a1 61 d6 ff", BN_E_PARSE }, /* timestamp */
		{ "94 00 01 a1 61 a2 c3 28", BN_E_PARSE },
		{ "94 00 01 a1 61 a1 ff", BN_E_PARSE },
		{ "94 00 01 a1 61 81 c0", BN_E_PARSE }, /* keys */
		{ "94 00 01 a1 61 81 ff", BN_E_PARSE },
		{ "94 00 01 a1 61 81 c3", BN_E_PARSE },
		{ "94 00 01 a1 61 81 c4 01", BN_E_PARSE },
		{ "94 00 01 a1 61 81 90", BN_E_PARSE },
		{ "94 00 01 a1 61 81 ca 00000000", BN_E_PARSE },
		{ "94 00 01 a1 61 81 d9 41", BN_E_PARSE }, /* 65 bytes of key */
		{ "94 00 01 a1 61 82 a1 61 c0 a1 61 c0", BN_E_PARSE },
		{ "94 00 01 a1 61 82 05 c0 cc 05 c0", BN_E_PARSE },
		{ "94 00 01 a1 61 82 a1 61 c0 d9 01 61 c0", BN_E_PARSE },
		{ "94 00 01 a1 61 82 05 c0 d3 0000000000000005 c0", BN_E_PARSE },
		{ "94 00 01 a1 61 dc fff0 dd ffffffff", BN_E_TOO_LARGE },
		{ "94 00 01 a1 61 dd ffffffff", BN_E_TOO_LARGE }, /* the 96 GB of msgpack-c 1013 */
		{ "94 00 01 a1 61 dd 00010000", BN_E_TOO_LARGE },
		{ "94 00 01 a1 61 df ffffffff", BN_E_TOO_LARGE },
		{ "94 00 01 a1 61 df 00008000", BN_E_TOO_LARGE },
		{ "94 00 01 a1 61 db ffffffff", BN_E_TOO_LARGE },
		{ "94 00 01 a1 61 c6 01000000", BN_E_TOO_LARGE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes b = { 0 };

		put_hex(&b, cases[i].hex);
		for (size_t piece = 1; piece < 16; piece += 7) {
			struct seen s = { 0 };
			struct bn_frame f;
			struct bn_error err;

			bn_frame_init(&f, BN_FRAME_CAPS);
			assert_int_equal(feed(&f, b.at, b.n - 1, piece, &s, &err), BN_OK);
			assert_int_equal(feed(&f, b.at + b.n - 1, 1, piece, &s, &err),
					 cases[i].status);
			assert_int_equal(err.status, cases[i].status);
			assert_int_equal(s.n, 0);
			/* Sticky: not even a good message is taken any more. */
			assert_int_equal(feed(&f, "\x94\x00\x00\xa1p\x90", 6, 6, &s, &err),
					 cases[i].status);
			assert_true(s.most_capacity <= 4096);
			bn_frame_finish(&f);
			forget(&s);
		}
		free(b.at);
	}
}

static void frame_names_the_message_it_refuses(void **state)
{
	struct bytes b = { 0 };
	struct seen s = { 0 };
	struct bn_frame f;
	struct bn_error err;

	(void)state;
	bn_frame_init(&f, BN_FRAME_CAPS);
	put_hex(&b, "94 00 09 a1 61 90 94 00 cd 1234 a1 61");
	assert_int_equal(feed(&f, b.at, b.n, SIZE_MAX, &s, &err), BN_OK);
	assert_int_equal(s.n, 1);
	assert_int_equal(bn_frame_pending(&f), 7);
	assert_int_equal(feed(&f, "\xdd\xff\xff\xff\xff", 5, 5, &s, &err), BN_E_TOO_LARGE);
	assert_int_equal(bn_frame_msgid(&f), 0x1234);
	assert_int_equal(err.n_data, 2);
	assert_string_equal(err.data[0].key, "limit");
	assert_int_equal(err.data[0].number, 65536);
	assert_string_equal(err.data[1].key, "actual");
	assert_int_equal(err.data[1].number, 4294967299);
	bn_frame_finish(&f);
	forget(&s);
	free(b.at);
}

static void frame_counts_elements_over_all_levels(void **state)
{
	/* 4 + 1 + n elements; n = 65531 is the last that fits the budget of 65536. */
	for (uint32_t n = 65531; n <= 65532; n++) {
		struct bytes b = { 0 };
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_hex(&b, "94 00 01 a1 61 91");
		put_be(&b, 0xdd, n, 4);
		for (uint32_t i = 0; i < n; i++) {
			put(&b, "\x01", 1);
		}
		bn_frame_init(&f, BN_FRAME_CAPS);
		assert_int_equal(feed(&f, b.at, b.n, 4096, &s, &err),
				 n == 65531 ? BN_OK : BN_E_TOO_LARGE);
		assert_int_equal(s.n, n == 65531);
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
	(void)state;
}

static void frame_refuses_amplifying_nests(void **state)
{
	/* msgpackr 200: each header is modest, their sum is not. */
	struct bytes b = { 0 };
	struct seen s = { 0 };
	struct bn_frame f;
	struct bn_error err;

	(void)state;
	put_hex(&b, "94 00 01 a1 61");
	for (int i = 0; i < 24000; i++) {
		put_hex(&b, "dc ffff");
	}
	bn_frame_init(&f, BN_FRAME_CAPS);
	assert_int_equal(feed(&f, b.at, b.n, 4096, &s, &err), BN_E_TOO_LARGE);
	assert_true(s.most_capacity <= 65536);
	bn_frame_finish(&f);
	forget(&s);
	free(b.at);
}

static void frame_refuses_a_million_levels(void **state)
{
	struct bytes b = { 0 };
	struct seen s = { 0 };
	struct bn_frame f;
	struct bn_error err;

	(void)state;
	put_hex(&b, "94 00 01 a1 61");
	for (int i = 0; i < 1000000; i++) {
		put(&b, "\x91", 1);
	}
	bn_frame_init(&f, BN_FRAME_CAPS);
	assert_int_equal(feed(&f, b.at, b.n, SIZE_MAX, &s, &err), BN_E_PARSE);
	assert_true(s.most_capacity <= 65536);
	bn_frame_finish(&f);
	forget(&s);
	free(b.at);
}

static void frame_accepts_sixteen_levels_and_not_seventeen(void **state)
{
	struct seen s = { 0 };
	struct bn_error err;

	(void)state;
	/* The message, fifteen arrays. */
	assert_int_equal(feed_hex("94 00 01 a1 61 919191919191919191919191919190", 1, &s, &err),
			 BN_OK);
	assert_int_equal(s.n, 1);
	assert_int_equal(feed_hex("94 00 01 a1 61 919191919191919191919191919191 80", 1, &s, &err),
			 BN_E_PARSE);
	assert_string_equal(err.text, "more than 16 levels of nesting");
	forget(&s);
}

/* n pairs of key and nil. Keys: integers or "k<number>", number = (i * step + start) % n. */
static void put_map(struct bytes *b, uint32_t n, uint32_t step, bool strings)
{
	put_hex(b, "94 00 01 a1 61 91");
	put_be(b, 0xdf, n, 4);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t number = (uint32_t)((uint64_t)i * step % n);

		if (strings) {
			char key[16];
			int length = snprintf(key, sizeof(key), "k%u", number);

			put_be(b, 0xd9, (uint32_t)length, 1);
			put(b, key, (size_t)length);
		} else {
			put_be(b, 0xce, number, 4);
		}
		put(b, "\xc0", 1);
	}
}

static void frame_compares_the_keys_of_large_maps(void **state)
{
	(void)state;
	/* A step prime to n visits every number once; one that shares a factor repeats. */
	for (int variant = 0; variant < 8; variant++) {
		bool strings = variant & 1, twins = variant & 2, small = variant & 4;
		uint32_t n = small ? 65 : 32765;
		struct bytes b = { 0 };
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_map(&b, n, twins ? 5 : 16, strings);
		bn_frame_init(&f, BN_FRAME_CAPS);
		assert_int_equal(feed(&f, b.at, b.n, 50000, &s, &err), twins ? BN_E_PARSE : BN_OK);
		assert_int_equal(s.n, !twins);
		if (twins) {
			assert_non_null(strstr(err.text, "twice"));
		}
		/* The message, what may be read ahead, and eight bytes per key. */
		assert_true(s.most_capacity <= 2 * b.n + 65536 + 8 * n);
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
}

static void frame_finds_twins_wherever_they_stand(void **state)
{
	(void)state;
	for (uint32_t n = 2; n < 80; n += 7) {
		for (uint32_t a = 0; a < n; a++) {
			uint32_t other = (a + 1 + a * 3 % (n - 1)) % n;
			struct bytes b = { 0 };
			struct seen s = { 0 };
			struct bn_frame f;
			struct bn_error err;

			put_hex(&b, "94 00 01 a1 61 91");
			put_be(&b, 0xde, n, 2);
			for (uint32_t i = 0; i < n; i++) {
				/* Descending, so that sorting has work to do. */
				put_be(&b, 0xcd, 1000 - (i == a ? other : i), 2);
				put(&b, "\x90", 1);
			}
			bn_frame_init(&f, BN_FRAME_CAPS);
			assert_int_equal(feed(&f, b.at, b.n, SIZE_MAX, &s, &err),
					 other == a ? BN_OK : BN_E_PARSE);
			bn_frame_finish(&f);
			forget(&s);
			free(b.at);
		}
	}
}

/* The integer whose hash in frame.c is `high`, one of 2^32 such: that hash run backwards. */
static uint64_t key_of_hash(uint32_t high, uint32_t low)
{
	uint64_t factor = UINT64_C(0xc4ceb9fe1a85ec53), inverse = factor, h;

	for (int i = 0; i < 6; i++) {
		inverse *= 2 - factor * inverse;
	}
	h = ((uint64_t)high << 32 | low) * inverse;
	h ^= h >> 33;
	return h ^ UINT64_C(0x9e3779b97f4a7c15);
}

static void frame_refuses_keys_made_to_collide(void **state)
{
	(void)state;
	for (uint32_t n = 4; n <= 5; n++) {
		struct bytes b = { 0 };
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_hex(&b, "94 00 01 a1 61 91");
		put_be(&b, (unsigned char)(0x80 + n), 0, 0);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t key = key_of_hash(12345, i);

			put_be(&b, 0xcf, (uint32_t)(key >> 32), 4);
			put_be(&b, (unsigned char)(key >> 24), (uint32_t)key & 0xffffff, 3);
			put(&b, "\xc0", 1);
		}
		bn_frame_init(&f, BN_FRAME_CAPS);
		assert_int_equal(feed(&f, b.at, b.n, 1, &s, &err), n == 4 ? BN_OK : BN_E_PARSE);
		if (n == 5) {
			assert_string_equal(err.text, "the keys of a map are made to collide");
		}
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
}

static void frame_keeps_to_its_byte_cap(void **state)
{
	struct bn_frame_caps caps = BN_FRAME_CAPS;

	(void)state;
	caps.message_bytes = 1000;
	/* 5 bytes of header and 3 of length. */
	for (uint32_t n = 992; n <= 993; n++) {
		for (size_t piece = 1; piece <= 2000; piece += 333) {
			struct bytes b = { 0 };
			struct seen s = { 0 };
			struct bn_frame f;
			struct bn_error err;

			put_hex(&b, "94 00 01 a1 61");
			put_be(&b, 0xc5, n, 2);
			for (uint32_t i = 0; i < n; i++) {
				put(&b, "x", 1);
			}
			bn_frame_init(&f, caps);
			assert_int_equal(feed(&f, b.at, b.n, piece, &s, &err),
					 n == 992 ? BN_OK : BN_E_TOO_LARGE);
			assert_int_equal(s.n, n == 992);
			bn_frame_finish(&f);
			forget(&s);
			free(b.at);
		}
	}
	/* Many small values: no length announces the excess, nor may an array promise it. */
	caps.message_bytes = 998; /* a value of three bytes ends exactly there */
	for (uint32_t n = 500; n <= 1000; n += 500) {
		struct bytes b = { 0 };
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_hex(&b, "94 00 01 a1 61");
		put_be(&b, 0xdc, n, 2);
		for (uint32_t i = 0; i < n; i++) {
			put_hex(&b, "cd 0000");
		}
		bn_frame_init(&f, caps);
		assert_int_equal(feed(&f, b.at, b.n, 100, &s, &err), BN_E_TOO_LARGE);
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
}

static void frame_takes_the_largest_message_and_gives_its_memory_back(void **state)
{
	uint32_t n = BN_LIMIT_MESSAGE_BYTES - 10;
	struct bytes b = { 0 };
	struct seen s = { 0 };
	struct bn_frame f;
	struct bn_error err;

	(void)state;
	put_hex(&b, "94 00 01 a1 61");
	put_be(&b, 0xdb, n, 4);
	b.at = __real_realloc(b.at, b.n + n + 6);
	memset(b.at + b.n, 'x', n);
	memcpy(b.at + b.n + n, "\x94\x00\x00\xa1p\x90", 6);
	bn_frame_init(&f, BN_FRAME_CAPS);
	assert_int_equal(feed(&f, b.at, b.n + n + 6, 30000, &s, &err), BN_OK);
	assert_int_equal(s.n, 2);
	assert_true(s.most_capacity <= BN_LIMIT_MESSAGE_BYTES + BN_FRAME_READ_BYTES);
	assert_int_equal(feed(&f, "\x94\x00\x00\xa1p\x90", 6, 6, &s, &err), BN_OK);
	assert_int_equal(s.n, 3);
	assert_true(f.capacity <= 4096);
	bn_frame_finish(&f);
	forget(&s);
	free(b.at);
}

static void frame_reports_missing_memory(void **state)
{
	struct bytes b = { 0 };
	struct seen s = { 0 };
	struct bn_frame f;
	struct bn_error err;
	unsigned char *space;
	size_t room;

	(void)state;
	bn_frame_init(&f, BN_FRAME_CAPS);
	no_memory = true;
	assert_int_equal(bn_frame_space(&f, &space, &room, &err), BN_E_MEMORY);
	no_memory = false;
	/* Nothing is lost by it: the same call works later. */
	put_hex(&b, "94 00 01 a1 61 91 82 01 c0 02 c0");
	assert_int_equal(feed(&f, b.at, b.n, 1, &s, &err), BN_OK);
	assert_int_equal(s.n, 1);
	bn_frame_finish(&f);
	/* The keys of a large map need a little more. */
	b.n = 0;
	put_map(&b, 200, 7, false);
	bn_frame_init(&f, BN_FRAME_CAPS);
	assert_int_equal(bn_frame_space(&f, &space, &room, &err), BN_OK);
	assert_true(b.n < room);
	memcpy(space, b.at, b.n);
	bn_frame_commit(&f, b.n);
	f.capacity = f.used;
	no_memory = true;
	assert_int_equal(drain(&f, &s, &err), BN_E_MEMORY);
	no_memory = false;
	bn_frame_finish(&f);
	forget(&s);
	free(b.at);
}

static void frame_says_when_nobody_takes_messages(void **state)
{
	struct bn_frame_caps caps = BN_FRAME_CAPS;
	struct bn_frame f;
	struct bn_error err;
	enum bn_status status = BN_OK;
	size_t total = 0;

	(void)state;
	caps.message_bytes = 1000;
	bn_frame_init(&f, caps);
	while (status == BN_OK) {
		unsigned char *space;
		size_t room;

		status = bn_frame_space(&f, &space, &room, &err);
		if (status == BN_OK) {
			assert_true(room > 0);
			memset(space, 0x94, room);
			bn_frame_commit(&f, room);
			total += room;
		}
	}
	assert_int_equal(status, BN_E_TOO_LARGE);
	assert_int_equal(total, 1000 + BN_FRAME_READ_BYTES);
	bn_frame_finish(&f);
	bn_frame_finish(&f);
}

/* --- the public conformance suite ----------------------------------------------------------- */

/* [1, 0, nil, <value>] through a frame, in one piece and byte by byte. */
static bool value_passes(const char *hex)
{
	bool passed[2];

	for (int i = 0; i < 2; i++) {
		struct seen s = { 0 };
		struct bytes b = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_hex(&b, "94 01 00 c0");
		put_hex(&b, hex);
		bn_frame_init(&f, BN_FRAME_CAPS);
		passed[i] = feed(&f, b.at, b.n, i == 0 ? SIZE_MAX : 1, &s, &err) == BN_OK;
		assert_int_equal(s.n, passed[i]);
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
	assert_int_equal(passed[0], passed[1]);
	return passed[0];
}

static void frame_judges_the_conformance_suite_by_our_profile(void **state)
{
	const char *data = getenv("BN_TEST_DATA");
	char path[4096], line[4096], group[64] = "";
	int n_cases = 0, n_encodings = 0;
	bool in_encodings = false;
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/conformance/msgpack/msgpack-test-suite.json",
		 data != NULL ? data : "");
	file = fopen(path, "r");
	if (file == NULL) {
		print_message("skipped: no %s\n", path);
		skip();
	}
	/* One item per line: a group name, "msgpack": [, then quoted hex until ]. */
	while (fgets(line, sizeof(line), file) != NULL) {
		char word[2048];

		if (strstr(line, ".yaml\"") != NULL) {
			assert_int_equal(sscanf(line, " \"%63[^\"]", group), 1);
		} else if (strstr(line, "\"msgpack\": [") != NULL) {
			in_encodings = true;
			n_cases++;
		} else if (strchr(line, ']') != NULL) {
			in_encodings = false;
		} else if (in_encodings && sscanf(line, " \"%2047[0-9a-f-]\"", word) == 1) {
			bool extension =
				memcmp(group, "50.", 3) == 0 || memcmp(group, "60.", 3) == 0;

			n_encodings++;
			assert_int_equal(value_passes(word), !extension);
		}
	}
	fclose(file);
	assert_int_equal(n_cases, 85);
	assert_int_equal(n_encodings, 233);
}

/* --- random messages ------------------------------------------------------------------------ */

static uint32_t random_number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* A value with a bias towards what is nearly right. */
static void put_random(struct bytes *b, uint32_t *seed, int depth)
{
	uint32_t r = random_number(seed) % 100;
	uint32_t n = random_number(seed) % 5;

	if (r < 2) {
		put(b, &(unsigned char){ (unsigned char)random_number(seed) }, 1);
	} else if (r < 25 && depth > 0) {
		put_be(b, (unsigned char)(0x90 + n), 0, 0);
		while (n-- > 0) {
			put_random(b, seed, depth - 1);
		}
	} else if (r < 50 && depth > 0) {
		put_be(b, 0xde, n, 2);
		while (n-- > 0) {
			uint32_t key = random_number(seed) % 64;

			put_be(b, key % 2 == 0 ? 0xcc : 0xcd, key, key % 2 == 0 ? 1 : 2);
			put_random(b, seed, depth - 1);
		}
	} else if (r < 75) {
		put_be(b, (unsigned char)(0xa0 + n), 0, 0);
		put(b, "text!", n);
	} else if (r < 90) {
		put_be(b, 0xce, random_number(seed), 4);
	} else {
		put_hex(b, "cb 3ff8000000000000");
	}
}

static void frame_agrees_with_msgpack_c_on_random_messages(void **state)
{
	uint32_t seed = 7;
	size_t accepted = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct bytes b = { 0 };
		struct seen s = { 0 };
		struct bn_frame f;
		struct bn_error err;

		put_hex(&b, "94 01 05 c0");
		put_random(&b, &seed, 4);
		bn_frame_init(&f, BN_FRAME_CAPS);
		/* drain() asks the judge about each message. */
		if (feed(&f, b.at, b.n, 1 + random_number(&seed) % 20, &s, &err) == BN_OK) {
			accepted += s.n;
		}
		bn_frame_finish(&f);
		forget(&s);
		free(b.at);
	}
	assert_in_range(accepted, 5000, 25000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_gives_the_same_messages_whatever_the_pieces),
		cmocka_unit_test(frame_refuses_at_the_first_wrong_byte),
		cmocka_unit_test(frame_names_the_message_it_refuses),
		cmocka_unit_test(frame_counts_elements_over_all_levels),
		cmocka_unit_test(frame_refuses_amplifying_nests),
		cmocka_unit_test(frame_refuses_a_million_levels),
		cmocka_unit_test(frame_accepts_sixteen_levels_and_not_seventeen),
		cmocka_unit_test(frame_compares_the_keys_of_large_maps),
		cmocka_unit_test(frame_finds_twins_wherever_they_stand),
		cmocka_unit_test(frame_refuses_keys_made_to_collide),
		cmocka_unit_test(frame_keeps_to_its_byte_cap),
		cmocka_unit_test(frame_takes_the_largest_message_and_gives_its_memory_back),
		cmocka_unit_test(frame_reports_missing_memory),
		cmocka_unit_test(frame_says_when_nobody_takes_messages),
		cmocka_unit_test(frame_judges_the_conformance_suite_by_our_profile),
		cmocka_unit_test(frame_agrees_with_msgpack_c_on_random_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
