/* Bytes become messages whatever the pieces, within the memory that was promised. */
#include "proto/frame.h"

#include "tests/proto/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Linked with --wrap=realloc: fails while set. */
static bool no_memory;

void *__real_realloc(void *block, size_t n);
void *__wrap_realloc(void *block, size_t n);

void *__wrap_realloc(void *block, size_t n)
{
	return no_memory ? NULL : __real_realloc(block, n);
}

static void frame_gives_the_same_messages_whatever_the_pieces(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 5, 7, 64, 1000, 4096, 65536, SIZE_MAX };
	char *text = malloc(200000);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 200000);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_hex(&f, "94 00 07 a4 70696e67 90");
		feed_hex(&f, "93 02 c4 04 6e616d65 91 81 a1 61 c0");
		feed_hex(&f, "94 01 ce ffffffff c0 82 a1 61 93 01 cb 3ff0000000000000");
		feed_hex(&f, "c4 01 ff 05 80");
		feed_hex(&f, "dc 0004 00 00 a1 61 dd 00000001 df 00000001 d9 01 62");
		feed_hex(&f, "db 00000002 c3a9");
		feed_hex(&f, "94 00 01 a1 70 91 81 a1 74");
		feed_be(&f, 0xdb, 200000, 4);
		feed_put(&f, text, 200000);
		for (int k = 0; k < 20; k++) {
			feed_hex(&f, "94 00 07 a4 70696e67 90");
		}
		assert_int_equal(feed_all(&f, pieces[i]), BN_OK);
		assert_int_equal(f.n, 25);
		assert_int_equal(f.ends[0], 9);
		assert_int_equal(f.out.n, f.in.n);
		assert_memory_equal(f.out.at, f.in.at, f.in.n);
		assert_int_equal(bn_frame_pending(&f.frame), 0);
		feed_close(&f);
	}
	free(text);
}

static void frame_names_the_message_it_refuses(void **state)
{
	struct feed f;

	(void)state;
	feed_open(&f, BN_FRAME_CAPS);
	feed_hex(&f, "94 00 09 a1 61 90 94 00 cd 1234 a1 61");
	assert_int_equal(feed_all(&f, SIZE_MAX), BN_OK);
	assert_int_equal(f.n, 1);
	assert_int_equal(bn_frame_pending(&f.frame), 7);
	assert_int_equal(feed_send(&f, "\xdd\xff\xff\xff\xff", 5, 5), BN_E_TOO_LARGE);
	assert_int_equal(bn_frame_msgid(&f.frame), 0x1234);
	assert_int_equal(f.err.n_data, 2);
	assert_string_equal(f.err.data[0].key, "limit");
	assert_int_equal(f.err.data[0].number, 65536);
	assert_string_equal(f.err.data[1].key, "actual");
	assert_int_equal(f.err.data[1].number, 4294967299);
	feed_close(&f);
}

static void frame_keeps_to_its_byte_cap(void **state)
{
	struct bn_frame_caps caps = BN_FRAME_CAPS;

	(void)state;
	caps.message_bytes = 1000;
	/* 5 bytes of header and 3 of length. */
	for (uint32_t n = 992; n <= 993; n++) {
		for (size_t piece = 1; piece <= 2000; piece += 333) {
			struct feed f;

			feed_open(&f, caps);
			feed_call(&f);
			feed_be(&f, 0xc5, n, 2);
			for (uint32_t i = 0; i < n; i++) {
				feed_put(&f, "x", 1);
			}
			assert_int_equal(feed_all(&f, piece), n == 992 ? BN_OK : BN_E_TOO_LARGE);
			assert_int_equal(f.n, n == 992);
			feed_close(&f);
		}
	}
	/* Many small values: no length announces the excess, nor may an array promise it. */
	caps.message_bytes = 998; /* a value of three bytes ends exactly there */
	for (uint32_t n = 500; n <= 1000; n += 500) {
		struct feed f;

		feed_open(&f, caps);
		feed_call(&f);
		feed_be(&f, 0xdc, n, 2);
		for (uint32_t i = 0; i < n; i++) {
			feed_hex(&f, "cd 0000");
		}
		assert_int_equal(feed_all(&f, 100), BN_E_TOO_LARGE);
		feed_close(&f);
	}
}

static void frame_takes_the_largest_message_and_gives_its_memory_back(void **state)
{
	uint32_t n = BN_LIMIT_MESSAGE_BYTES - 10;
	char x[4096];
	struct feed f;

	(void)state;
	feed_open(&f, BN_FRAME_CAPS);
	feed_call(&f);
	feed_be(&f, 0xdb, n, 4);
	memset(x, 'x', sizeof(x));
	for (uint32_t left = n; left > 0;) {
		uint32_t some = left < sizeof(x) ? left : sizeof(x);

		feed_put(&f, x, some);
		left -= some;
	}
	feed_hex(&f, "94 00 00 a1 70 90");
	assert_int_equal(feed_all(&f, 30000), BN_OK);
	assert_int_equal(f.n, 2);
	assert_true(f.most_capacity <= BN_LIMIT_MESSAGE_BYTES + BN_FRAME_READ_BYTES);
	assert_int_equal(feed_send(&f, "\x94\x00\x00\xa1p\x90", 6, 6), BN_OK);
	assert_int_equal(f.n, 3);
	assert_true(f.frame.capacity <= 4096);
	feed_close(&f);
}

static void frame_reports_missing_memory(void **state)
{
	struct feed f;
	unsigned char *space;
	size_t room;

	(void)state;
	feed_open(&f, BN_FRAME_CAPS);
	no_memory = true;
	assert_int_equal(bn_frame_space(&f.frame, &space, &room, &f.err), BN_E_MEMORY);
	no_memory = false;
	/* Nothing is lost by it: the same call works later. */
	feed_hex(&f, "94 00 01 a1 61 91 82 01 c0 02 c0");
	assert_int_equal(feed_all(&f, 1), BN_OK);
	assert_int_equal(f.n, 1);
	bn_frame_finish(&f.frame);
	/* The keys of a large map need a little more. */
	f.in.n = 0;
	feed_map(&f, 200, 7, false);
	bn_frame_init(&f.frame, BN_FRAME_CAPS);
	assert_int_equal(bn_frame_space(&f.frame, &space, &room, &f.err), BN_OK);
	assert_true(f.in.n < room);
	memcpy(space, f.in.at, f.in.n);
	bn_frame_commit(&f.frame, f.in.n);
	f.frame.capacity = f.frame.used;
	no_memory = true;
	assert_int_equal(feed_drain(&f), BN_E_MEMORY);
	no_memory = false;
	feed_close(&f);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_gives_the_same_messages_whatever_the_pieces),
		cmocka_unit_test(frame_names_the_message_it_refuses),
		cmocka_unit_test(frame_keeps_to_its_byte_cap),
		cmocka_unit_test(frame_takes_the_largest_message_and_gives_its_memory_back),
		cmocka_unit_test(frame_reports_missing_memory),
		cmocka_unit_test(frame_says_when_nobody_takes_messages),
	};

	return cmocka_run_group_tests_name("proto/frame", tests, NULL, NULL);
}
