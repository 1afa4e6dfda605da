#include "proto/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

/* Linked with --wrap=realloc: after this many more calls every one fails; -1 never. */
static int allocations_left = -1;

void *__real_realloc(void *block, size_t n);
void *__wrap_realloc(void *block, size_t n);

void *__wrap_realloc(void *block, size_t n)
{
	if (allocations_left == 0) {
		return NULL;
	}
	if (allocations_left > 0) {
		allocations_left--;
	}
	return __real_realloc(block, n);
}

static void pack_everything(struct bn_pack *p)
{
	static const uint32_t ids[] = { 1, 0x01020304 };
	static const float scores[] = { -0.5f };

	bn_pack_map(p, NULL);
	bn_pack_nil(p, "nil");
	bn_pack_bool(p, "yes", true);
	bn_pack_bool(p, "no", false);
	bn_pack_int(p, "int", -5);
	bn_pack_num(p, "num", 1.5);
	bn_pack_floats(p, "floats", (const float[]){ 0.5f, -2.0f }, 2);
	bn_pack_str(p, "str", "text");
	bn_pack_str(p, "null", NULL);
	bn_pack_text(p, "empty", (struct bn_text){ NULL, 0 });
	bn_pack_array(p, "array");
	bn_pack_int(p, NULL, 1);
	bn_pack_map(p, NULL);
	bn_pack_end(p);
	bn_pack_end(p);
	bn_pack_u32s(p, "ids", ids, 2);
	bn_pack_f32s(p, "scores", scores, 1);
	bn_pack_map(p, "bias");
	bn_pack_entry(p, 7, -1.0);
	bn_pack_end(p);
	bn_pack_end(p);
}

static void pack_writes_what_msgpack_c_reads(void **state)
{
	static const char expected[] =
		"{\"nil\"=>nil, \"yes\"=>true, \"no\"=>false, \"int\"=>-5, \"num\"=>1.500000, "
		"\"floats\"=>[0.500000, -2.000000], "
		"\"str\"=>\"text\", \"null\"=>nil, \"empty\"=>\"\", \"array\"=>[1, {}], "
		"\"ids\"=>\"\\x01\\x00\\x00\\x00\\x04\\x03\\x02\\x01\", "
		"\"scores\"=>\"\\x00\\x00\\x00\\xbf\", \"bias\"=>{7=>-1.000000}}";
	char text[1024];
	msgpack_unpacked result;
	struct bn_pack p;

	(void)state;
	bn_pack_init(&p);
	pack_everything(&p);
	assert_int_equal(bn_pack_check(&p, NULL), BN_OK);
	msgpack_unpacked_init(&result);
	assert_int_equal(msgpack_unpack_next(&result, (char *)p.data, p.used, NULL),
			 MSGPACK_UNPACK_SUCCESS);
	msgpack_object_print_buffer(text, sizeof(text), result.data);
	assert_string_equal(text, expected);
	msgpack_unpacked_destroy(&result);
	bn_pack_finish(&p);
}

static void pack_copies_values_whole(void **state)
{
	struct bn_pack p, q;
	struct bn_value v;

	(void)state;
	bn_pack_init(&p);
	bn_pack_init(&q);
	pack_everything(&p);
	v = bn_value_read(p.data, p.used);
	bn_pack_value(&q, NULL, v);
	assert_int_equal(q.used, p.used);
	assert_memory_equal(q.data, p.data, p.used);
	bn_pack_reset(&q);
	bn_pack_value(&q, NULL, bn_value_get(v, "array"));
	assert_memory_equal(q.data, "\xdc\0\x02\x01\xde\0\0", 7);
	bn_pack_reset(&q);
	bn_pack_value(&q, NULL, bn_value_get(v, "absent"));
	assert_memory_equal(q.data, "\xc0", 1);
	bn_pack_finish(&p);
	bn_pack_finish(&q);
}

static void pack_appends_a_pack_that_is_still_open(void **state)
{
	static const char shut[] = "\xdc\0\x02\x05\xde\0\x01\xa1"
				   "k\xdc\0\x02\x01\x02";
	struct bn_pack p, open;
	struct bn_error err;

	(void)state;
	bn_pack_init(&p);
	bn_pack_init(&open);
	bn_pack_map(&open, NULL);
	bn_pack_array(&open, "k");
	bn_pack_int(&open, NULL, 1);
	bn_pack_int(&open, NULL, 2);
	for (int again = 0; again < 2; again++) {
		bn_pack_reset(&p);
		bn_pack_array(&p, NULL);
		bn_pack_int(&p, NULL, 5);
		bn_pack_append(&p, NULL, &open);
		bn_pack_end(&p);
		assert_int_equal(bn_pack_check(&p, &err), BN_OK);
		assert_int_equal(p.used, sizeof(shut) - 1);
		assert_memory_equal(p.data, shut, p.used);
	}
	/* It grows on where it was. */
	bn_pack_int(&open, NULL, 3);
	bn_pack_end(&open);
	bn_pack_end(&open);
	assert_memory_equal(open.data, "\xde\0\x01\xa1k\xdc\0\x03\x01\x02\x03", 11);

	bn_pack_reset(&open);
	bn_pack_text(&open, NULL, (struct bn_text){ "x", (size_t)UINT32_MAX + 1 });
	bn_pack_reset(&p);
	bn_pack_append(&p, NULL, &open);
	assert_int_equal(bn_pack_check(&p, &err), BN_E_TOO_LARGE);
	bn_pack_finish(&p);
	bn_pack_finish(&open);
}

static void pack_fails_once_and_stays_failed(void **state)
{
	(void)state;
	/* The sample needs two blocks: fail at the first, then at the second. */
	for (int i = 0; i < 2; i++) {
		struct bn_pack p;
		struct bn_error err;
		size_t n = 1;

		bn_pack_init(&p);
		allocations_left = i;
		pack_everything(&p);
		bn_pack_bin(&p, NULL, (char[300]){ 0 }, 300);
		allocations_left = -1;
		assert_int_equal(bn_pack_check(&p, &err), BN_E_MEMORY);
		bn_pack_int(&p, NULL, 1);
		assert_int_equal(bn_pack_check(&p, &err), BN_E_MEMORY);
		assert_null(bn_pack_take(&p, &n));
		assert_int_equal(n, 0);
		pack_everything(&p);
		assert_int_equal(bn_pack_check(&p, &err), BN_OK);
		bn_pack_finish(&p);
	}
}

static void pack_refuses_more_elements_than_its_count_holds(void **state)
{
	struct bn_pack p;
	struct bn_error err;

	(void)state;
	bn_pack_init(&p);
	bn_pack_array(&p, NULL);
	for (int i = 0; i < 65535; i++) {
		bn_pack_nil(&p, NULL);
	}
	bn_pack_end(&p);
	assert_int_equal(bn_pack_check(&p, &err), BN_OK);
	assert_int_equal(p.used, 3 + 65535);
	bn_pack_reset(&p);
	bn_pack_array(&p, NULL);
	for (int i = 0; i < 65536; i++) {
		bn_pack_nil(&p, NULL);
	}
	bn_pack_end(&p);
	assert_int_equal(bn_pack_check(&p, &err), BN_E_TOO_LARGE);
	bn_pack_reset(&p);
	bn_pack_text(&p, NULL, (struct bn_text){ "x", (size_t)UINT32_MAX + 1 });
	assert_int_equal(bn_pack_check(&p, &err), BN_E_TOO_LARGE);
	bn_pack_finish(&p);
}

static void pack_gives_its_bytes_away(void **state)
{
	struct bn_pack p;
	unsigned char *bytes;
	size_t n;

	(void)state;
	bn_pack_init(&p);
	bn_pack_tuple(&p, 2);
	bn_pack_int(&p, NULL, 2);
	bn_pack_str(&p, NULL, "a");
	bytes = bn_pack_take(&p, &n);
	assert_int_equal(n, 4);
	assert_memory_equal(bytes, "\x92\x02\xa1\x61", 4);
	free(bytes);
	assert_null(p.data);
	assert_null(bn_pack_take(&p, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pack_writes_what_msgpack_c_reads),
		cmocka_unit_test(pack_copies_values_whole),
		cmocka_unit_test(pack_appends_a_pack_that_is_still_open),
		cmocka_unit_test(pack_fails_once_and_stays_failed),
		cmocka_unit_test(pack_refuses_more_elements_than_its_count_holds),
		cmocka_unit_test(pack_gives_its_bytes_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
