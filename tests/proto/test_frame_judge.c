/* The walk against others: the public conformance suite, and msgpack-c on random messages. */
#include "proto/frame.h"

#include "tests/proto/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* [1, 0, nil, <value>] through a frame, in one piece and byte by byte. */
static bool value_passes(const char *hex)
{
	bool passed[2];

	for (int i = 0; i < 2; i++) {
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_hex(&f, "94 01 00 c0");
		feed_hex(&f, hex);
		passed[i] = feed_all(&f, i == 0 ? SIZE_MAX : 1) == BN_OK;
		assert_int_equal(f.n, passed[i]);
		feed_close(&f);
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

static uint32_t random_number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* A value with a bias towards what is nearly right. */
static void put_random(struct feed *f, uint32_t *seed, int depth)
{
	uint32_t r = random_number(seed) % 100;
	uint32_t n = random_number(seed) % 5;

	if (r < 2) {
		feed_put(f, &(unsigned char){ (unsigned char)random_number(seed) }, 1);
	} else if (r < 25 && depth > 0) {
		feed_be(f, (unsigned char)(0x90 + n), 0, 0);
		while (n-- > 0) {
			put_random(f, seed, depth - 1);
		}
	} else if (r < 50 && depth > 0) {
		feed_be(f, 0xde, n, 2);
		while (n-- > 0) {
			uint32_t key = random_number(seed) % 64;

			feed_be(f, key % 2 == 0 ? 0xcc : 0xcd, key, key % 2 == 0 ? 1 : 2);
			put_random(f, seed, depth - 1);
		}
	} else if (r < 75) {
		feed_be(f, (unsigned char)(0xa0 + n), 0, 0);
		feed_put(f, "text!", n);
	} else if (r < 90) {
		feed_be(f, 0xce, random_number(seed), 4);
	} else {
		feed_hex(f, "cb 3ff8000000000000");
	}
}

static void frame_agrees_with_msgpack_c_on_random_messages(void **state)
{
	uint32_t seed = 7;
	size_t accepted = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct feed f;

		feed_open(&f, BN_FRAME_CAPS);
		feed_hex(&f, "94 01 05 c0");
		put_random(&f, &seed, 4);
		/* feed_all() asks the judge about each message. */
		if (feed_all(&f, 1 + random_number(&seed) % 20) == BN_OK) {
			accepted += f.n;
		}
		feed_close(&f);
	}
	assert_in_range(accepted, 5000, 25000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_judges_the_conformance_suite_by_our_profile),
		cmocka_unit_test(frame_agrees_with_msgpack_c_on_random_messages),
	};

	return cmocka_run_group_tests_name("proto/frame_judge", tests, NULL, NULL);
}
