#include "engine/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const unsigned char bytes[] = {
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
	0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x00, 0x00, 0xc0, 0x3f, /* 1.5f  */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0xc0,       /* -2.5  */
};

static void cursor_reads_little_endian(void **state)
{
	struct bn_cursor c;

	(void)state;
	bn_cursor_init(&c, bytes, sizeof(bytes));
	assert_int_equal(bn_cursor_u8(&c), 0x01);
	assert_int_equal(bn_cursor_u16(&c), 0x0302);
	assert_int_equal(bn_cursor_u32(&c), 0x07060504);
	assert_true(bn_cursor_u64(&c) == UINT64_C(0x0f0e0d0c0b0a0908));
	assert_true(bn_cursor_f32(&c) == 1.5f);
	assert_true(bn_cursor_f64(&c) == -2.5);
	assert_int_equal(bn_cursor_left(&c), 0);
	assert_false(c.failed);
}

static void cursor_failure_sticks(void **state)
{
	struct bn_cursor c;

	(void)state;
	bn_cursor_init(&c, bytes, 7);
	assert_int_equal(bn_cursor_u32(&c), 0x04030201);
	assert_int_equal(bn_cursor_u32(&c), 0);
	assert_true(c.failed);
	/* One byte would still be there, but what was read before is not to be trusted. */
	assert_int_equal(bn_cursor_u8(&c), 0);
	assert_null(bn_cursor_bytes(&c, 0));
	assert_int_equal(bn_cursor_left(&c), 0);
	assert_int_equal(c.at, 4);
}

static void cursor_refuses_lengths_that_wrap(void **state)
{
	struct bn_cursor c;

	(void)state;
	bn_cursor_init(&c, bytes, sizeof(bytes));
	bn_cursor_u8(&c);
	assert_null(bn_cursor_bytes(&c, SIZE_MAX));
	assert_true(c.failed);
	bn_cursor_init(&c, NULL, 0);
	assert_int_equal(bn_cursor_u8(&c), 0);
	assert_true(c.failed);
}

struct tap {
	size_t asked, give; /* `give`: refuse to go past this */
};

static bool more(struct bn_cursor *c, size_t need)
{
	struct tap *tap = c->who;

	tap->asked++;
	assert_true(need > c->have && need <= c->size);
	if (need > tap->give) {
		return false;
	}
	c->have = need;
	return true;
}

static void cursor_asks_for_more_only_when_needed(void **state)
{
	struct tap tap = { 0, 12 };
	struct bn_cursor c;

	(void)state;
	bn_cursor_init(&c, bytes, sizeof(bytes));
	c.have = 4;
	c.more = more;
	c.who = &tap;
	assert_int_equal(bn_cursor_u32(&c), 0x04030201);
	assert_int_equal(tap.asked, 0);
	assert_int_equal(bn_cursor_u32(&c), 0x08070605);
	assert_int_equal(tap.asked, 1);
	assert_true(bn_cursor_u64(&c) == 0);
	assert_true(c.failed);
	assert_int_equal(tap.asked, 2);
	/* Past the end nobody is asked. */
	bn_cursor_init(&c, bytes, 4);
	c.more = more;
	c.who = &tap;
	assert_null(bn_cursor_bytes(&c, 5));
	assert_int_equal(tap.asked, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_little_endian),
		cmocka_unit_test(cursor_failure_sticks),
		cmocka_unit_test(cursor_refuses_lengths_that_wrap),
		cmocka_unit_test(cursor_asks_for_more_only_when_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
