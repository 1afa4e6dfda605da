#include "proto/value.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

/* One value written by msgpack-c, read by us. */
#define PACK(buffer, pk)               \
	msgpack_sbuffer buffer;        \
	msgpack_packer pk;             \
	msgpack_sbuffer_init(&buffer); \
	msgpack_packer_init(&pk, &buffer, msgpack_sbuffer_write)

static void value_reads_integers_of_every_width(void **state)
{
	static const int64_t cases[] = {
		0,         1,      127,    128,        255,
		256,       65535,  65536,  UINT32_MAX, (int64_t)UINT32_MAX + 1,
		INT64_MAX, -1,     -32,    -33,        -128,
		-129,      -32768, -32769, INT32_MIN,  (int64_t)INT32_MIN - 1,
		INT64_MIN,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PACK(buffer, pk);
		struct bn_value v;

		msgpack_pack_int64(&pk, cases[i]);
		v = bn_value_read(buffer.data, buffer.size);
		assert_int_equal(v.type, BN_TYPE_INT);
		assert_true(v.as.integer == cases[i]);
		assert_true(bn_value_int(v, 5) == cases[i]);
		assert_ptr_equal(bn_value_after(&v), buffer.data + buffer.size);
		/* The same number in its widest form. */
		msgpack_sbuffer_clear(&buffer);
		msgpack_pack_fix_int64(&pk, cases[i]);
		v = bn_value_read(buffer.data, buffer.size);
		assert_true(v.type == BN_TYPE_INT && v.as.integer == cases[i]);
		msgpack_sbuffer_destroy(&buffer);
	}
}

static void value_keeps_integers_above_int64_apart(void **state)
{
	static const unsigned char big[] = { 0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0 };
	struct bn_value v = bn_value_read(big, sizeof(big));

	(void)state;
	assert_int_equal(v.type, BN_TYPE_BIG);
	assert_true(v.as.big == UINT64_C(1) << 63);
	assert_int_equal(bn_value_int(v, -7), -7);
	assert_true(bn_value_num(v, 0) == 0x1p63);
}

static void value_reads_floats_of_both_widths(void **state)
{
	PACK(buffer, pk);
	struct bn_value v;

	(void)state;
	msgpack_pack_float(&pk, 0.25f);
	v = bn_value_read(buffer.data, buffer.size);
	assert_true(v.type == BN_TYPE_FLOAT && v.as.number == 0.25);
	msgpack_sbuffer_clear(&buffer);
	msgpack_pack_double(&pk, -1e300);
	v = bn_value_read(buffer.data, buffer.size);
	assert_true(v.type == BN_TYPE_FLOAT && bn_value_num(v, 0) == -1e300);
	assert_int_equal(bn_value_int(v, 9), 9);
	msgpack_sbuffer_destroy(&buffer);
}

static void pack_sample(msgpack_packer *pk)
{
	msgpack_pack_map(pk, 4);
	msgpack_pack_str_with_body(pk, "usage", 5);
	msgpack_pack_map(pk, 2);
	msgpack_pack_str_with_body(pk, "prompt_tokens", 13);
	msgpack_pack_int(pk, 12);
	msgpack_pack_str_with_body(pk, "x", 1);
	msgpack_pack_array(pk, 3);
	msgpack_pack_nil(pk);
	msgpack_pack_true(pk);
	msgpack_pack_bin_with_body(pk, "\xff\x00", 2);
	msgpack_pack_str_with_body(pk, "text", 4);
	msgpack_pack_str_with_body(pk, "h\xc3\xa9", 3);
	msgpack_pack_int(pk, 7);
	msgpack_pack_str_with_body(pk, "seven", 5);
	msgpack_pack_str_with_body(pk, "name", 4);
	msgpack_pack_bin_with_body(pk, "ab", 2);
}

static void value_finds_keys_paths_and_elements(void **state)
{
	PACK(buffer, pk);
	struct bn_value map, list;
	struct bn_bytes bytes;
	uint64_t n = 0;

	(void)state;
	pack_sample(&pk);
	map = bn_value_read(buffer.data, buffer.size);
	assert_int_equal(bn_value_int(bn_value_find(map, "usage.prompt_tokens"), 0), 12);
	assert_int_equal(bn_value_find(map, "usage.none").type, BN_TYPE_NONE);
	assert_int_equal(bn_value_find(map, "text.deeper").type, BN_TYPE_NONE);
	assert_int_equal(bn_value_get(map, "usag").type, BN_TYPE_NONE);
	assert_true(bn_text_is(bn_value_text(bn_value_get(map, "text")), "h\xc3\xa9"));
	assert_true(bn_text_is(bn_value_text(bn_value_get(map, "name")), "ab"));
	list = bn_value_find(map, "usage.x");
	assert_int_equal(bn_value_at(list, 0).type, BN_TYPE_NIL);
	assert_true(bn_value_bool(bn_value_at(list, 1), false));
	assert_int_equal(bn_value_at(list, 3).type, BN_TYPE_NONE);
	assert_int_equal(bn_value_at(map, 0).type, BN_TYPE_NONE);
	bytes = bn_value_bytes(bn_value_at(list, 2));
	assert_int_equal(bytes.n, 2);
	assert_memory_equal(bytes.at, "\xff", 2);
	/* A bin that is no UTF-8 is no text. */
	assert_int_equal(bn_value_text(bn_value_at(list, 2)).n, 0);
	assert_ptr_equal(bn_value_walk(&map, &n), buffer.data + buffer.size);
	assert_int_equal(n, 1 + 8 + 4 + 3);
	msgpack_sbuffer_destroy(&buffer);
}

static void value_never_reads_past_its_end(void **state)
{
	PACK(buffer, pk);

	(void)state;
	pack_sample(&pk);
	for (size_t n = 0; n < buffer.size; n++) {
		/* A block of exactly n bytes: the address sanitizer watches its end. */
		unsigned char *cut = malloc(n + 1);
		struct bn_value map, key, value;
		struct bn_iter it;

		memcpy(cut, buffer.data, n);
		map = bn_value_read(cut, n);
		assert_null(bn_value_after(&map));
		it = bn_iter_begin(map);
		while (bn_iter_next(&it, &key, &value)) {
			assert_non_null(bn_value_after(&value));
		}
		bn_value_find(map, "usage.x");
		bn_value_get(map, "name");
		free(cut);
	}
	msgpack_sbuffer_destroy(&buffer);
}

static void value_survives_random_bytes(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		unsigned char *bytes = malloc(32);
		struct bn_value v, key, value;
		struct bn_iter it;

		for (size_t i = 0; i < 32; i++) {
			seed = seed * 1664525 + 1013904223;
			bytes[i] = (unsigned char)(seed >> 24);
		}
		v = bn_value_read(bytes, 32);
		it = bn_iter_begin(v);
		while (bn_iter_next(&it, &key, &value)) {
			assert_true(value.body <= bytes + 32);
		}
		bn_value_get(v, "k");
		bn_value_at(v, 3);
		free(bytes);
	}
}

static void value_skips_a_million_levels_without_a_stack(void **state)
{
	size_t n = 1000000;
	unsigned char *bytes = malloc(n + 1);
	struct bn_value v;

	(void)state;
	memset(bytes, 0x91, n);
	bytes[n] = 0xc0;
	v = bn_value_read(bytes, n + 1);
	assert_ptr_equal(bn_value_after(&v), bytes + n + 1);
	v = bn_value_read(bytes, n);
	assert_null(bn_value_after(&v));
	free(bytes);
}

static void value_knows_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t good;
	} cases[] = {
		{ "", 0 },
		{ "plain text, longer than eight", 29 },
		{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9 },
		{ "12345678\xc3", 8 },
		{ "1234567\xff", 7 },
		{ "a\xc0\x80", 1 },
		{ "a\xe0\x9f\xbf", 1 },
		{ "a\xed\xa0\x80", 1 },
		{ "\xef\xbf\xbf", 3 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf5\x80\x80\x80", 0 },
		{ "\x80", 0 },
		{ "\xe2\x82", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(bn_utf8_prefix(cases[i].bytes, strlen(cases[i].bytes)),
				 cases[i].good);
	}
	assert_int_equal(bn_utf8_prefix("a\0b", 3), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(value_reads_integers_of_every_width),
		cmocka_unit_test(value_keeps_integers_above_int64_apart),
		cmocka_unit_test(value_reads_floats_of_both_widths),
		cmocka_unit_test(value_finds_keys_paths_and_elements),
		cmocka_unit_test(value_never_reads_past_its_end),
		cmocka_unit_test(value_survives_random_bytes),
		cmocka_unit_test(value_skips_a_million_levels_without_a_stack),
		cmocka_unit_test(value_knows_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
