/* The guard walk: which bytes are refused, and that it happens at the first wrong one. */
#include "proto/frame.h"

#include "tests/proto/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

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
		for (size_t piece = 1; piece < 16; piece += 7) {
			struct feed f;

			feed_open(&f, BN_FRAME_CAPS);
			feed_hex(&f, cases[i].hex);
			assert_int_equal(feed_send(&f, f.in.at, f.in.n - 1, piece), BN_OK);
			assert_int_equal(feed_send(&f, f.in.at + f.in.n - 1, 1, piece),
					 cases[i].status);
			assert_int_equal(f.err.status, cases[i].status);
			assert_int_equal(f.n, 0);
			/* Sticky: not even a good message is taken any more. */
			assert_int_equal(feed_send(&f, "\x94\x00\x00\xa1p\x90", 6, 6),
					 cases[i].status);
			assert_true(f.most_capacity <= 4096);
			feed_close(&f);
		}
	}
}

static void frame_counts_elements_over_all_levels(void **state)
{
	(void)state;
	/* 4 + 1 + n elements; n = 65531 is the last that fits the budget of 65536. */
	for (uint32_t n = 65531; n <= 65532; n++) {
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_hex(&f, "94 00 01 a1 61 91");
		feed_be(&f, 0xdd, n, 4);
		for (uint32_t i = 0; i < n; i++) {
			feed_put(&f, "\x01", 1);
		}
		assert_int_equal(feed_all(&f, 4096), n == 65531 ? BN_OK : BN_E_TOO_LARGE);
		assert_int_equal(f.n, n == 65531);
		feed_close(&f);
	}
}

/* msgpackr 200: each header is modest, their sum is not. */
static void frame_refuses_amplifying_nests(void **state)
{
	struct feed f;

	(void)state;
	feed_open(&f, BN_FRAME_CAPS);
	feed_call(&f);
	for (int i = 0; i < 24000; i++) {
		feed_hex(&f, "dc ffff");
	}
	assert_int_equal(feed_all(&f, 4096), BN_E_TOO_LARGE);
	assert_true(f.most_capacity <= 65536);
	feed_close(&f);
}

static void frame_refuses_a_million_levels(void **state)
{
	struct feed f;

	(void)state;
	feed_open(&f, BN_FRAME_CAPS);
	feed_call(&f);
	for (int i = 0; i < 1000000; i++) {
		feed_put(&f, "\x91", 1);
	}
	assert_int_equal(feed_all(&f, SIZE_MAX), BN_E_PARSE);
	assert_true(f.most_capacity <= 65536);
	feed_close(&f);
}

static void frame_accepts_sixteen_levels_and_not_seventeen(void **state)
{
	(void)state;
	for (int levels = 16; levels <= 17; levels++) {
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_call(&f);
		for (int i = 2; i < levels; i++) { /* the message is one, the last array another */
			feed_hex(&f, "91");
		}
		feed_hex(&f, "90");
		assert_int_equal(feed_all(&f, 1), levels == 16 ? BN_OK : BN_E_PARSE);
		assert_int_equal(f.n, levels == 16);
		if (levels == 17) {
			assert_string_equal(f.err.text, "more than 16 levels of nesting");
		}
		feed_close(&f);
	}
}

static void frame_compares_the_keys_of_large_maps(void **state)
{
	(void)state;
	/* A step prime to n visits every number once; one that shares a factor repeats. */
	for (int variant = 0; variant < 8; variant++) {
		bool strings = variant & 1, twins = variant & 2, small = variant & 4;
		uint32_t n = small ? 65 : 32765;
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_map(&f, n, twins ? 5 : 16, strings);
		assert_int_equal(feed_all(&f, 50000), twins ? BN_E_PARSE : BN_OK);
		assert_int_equal(f.n, !twins);
		if (twins) {
			assert_non_null(strstr(f.err.text, "twice"));
		}
		/* The message, what may be read ahead, and eight bytes per key. */
		assert_true(f.most_capacity <= 2 * f.in.n + 65536 + 8 * n);
		feed_close(&f);
	}
}

static void frame_finds_twins_wherever_they_stand(void **state)
{
	(void)state;
	for (uint32_t n = 2; n < 80; n += 7) {
		/* The twin of a stands anywhere else; a = n has none. */
		for (uint32_t a = 0; a <= n; a++) {
			uint32_t other = (a + 1 + a * 3 % (n - 1)) % n;
			struct feed f;

			feed_open(&f, BN_FRAME_CAPS);
			feed_hex(&f, "94 00 01 a1 61 91");
			feed_be(&f, 0xde, n, 2);
			for (uint32_t i = 0; i < n; i++) {
				/* Descending, so that sorting has work to do. */
				feed_be(&f, 0xcd, 1000 - (i == a ? other : i), 2);
				feed_put(&f, "\x90", 1);
			}
			assert_int_equal(feed_all(&f, SIZE_MAX), a == n ? BN_OK : BN_E_PARSE);
			feed_close(&f);
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
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_hex(&f, "94 00 01 a1 61 91");
		feed_be(&f, (unsigned char)(0x80 + n), 0, 0);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t key = key_of_hash(12345, i);

			feed_be(&f, 0xcf, (uint32_t)(key >> 32), 4);
			feed_be(&f, (unsigned char)(key >> 24), (uint32_t)key & 0xffffff, 3);
			feed_put(&f, "\xc0", 1);
		}
		assert_int_equal(feed_all(&f, 1), n == 4 ? BN_OK : BN_E_PARSE);
		if (n == 5) {
			assert_string_equal(f.err.text, "the keys of a map are made to collide");
		}
		feed_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_refuses_at_the_first_wrong_byte),
		cmocka_unit_test(frame_counts_elements_over_all_levels),
		cmocka_unit_test(frame_refuses_amplifying_nests),
		cmocka_unit_test(frame_refuses_a_million_levels),
		cmocka_unit_test(frame_accepts_sixteen_levels_and_not_seventeen),
		cmocka_unit_test(frame_compares_the_keys_of_large_maps),
		cmocka_unit_test(frame_finds_twins_wherever_they_stand),
		cmocka_unit_test(frame_refuses_keys_made_to_collide),
	};

	return cmocka_run_group_tests_name("proto/frame_walk", tests, NULL, NULL);
}
