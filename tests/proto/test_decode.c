/*
 * These tests are generated: for every field of every method they send values at, inside and
 * outside the range its row promises, and each wrong type there is.
 */
#include "proto/decode.h"

#include "tests/proto/call.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Decodes, checks that a refusal names the field, and frees the message. */
static void expect(struct call *m, enum bn_method method, const struct bn_field *f, bool good)
{
	enum bn_status status = call_decode(m, method);

	if (status != (good ? BN_OK : BN_E_INVALID)) {
		fail_msg("%s.%s: %s: %s", bn_method_info(method)->name, f->name,
			 good ? "refused" : "accepted", m->err.text);
	}
	if (!good) {
		assert_memory_equal(m->err.text, f->name, strlen(f->name));
		assert_string_equal(m->err.data[0].key, "param");
		assert_memory_equal(m->err.data[0].text, f->name, strlen(f->name));
	} else {
		assert_true(((const bool *)&m->params)[f->has]);
	}
	call_end(m);
}

/* Calls `visit` for each field of each method. */
static void each_field(void (*visit)(enum bn_method method, const struct bn_field *f))
{
	size_t visited = 0;

	for (enum bn_method method = 0; method < BN_METHOD_COUNT; method++) {
		for (int which = 0; which < 2; which++) {
			const struct bn_field *f = call_fields(bn_method_info(method), which);

			for (; f->name != NULL; f++) {
				visit(method, f);
				visited++;
			}
		}
	}
	assert_true(visited > 60);
}

static void try_int(enum bn_method method, const struct bn_field *f, int64_t value, bool good)
{
	struct call m;

	/* Shortest, widest signed and, where it exists, widest unsigned form. */
	call_begin(&m, method, f->name, f->name);
	msgpack_pack_int64(&m.pk, value);
	expect(&m, method, f, good);
	call_begin(&m, method, f->name, f->name);
	msgpack_pack_fix_int64(&m.pk, value);
	expect(&m, method, f, good);
	if (value >= 0) {
		call_begin(&m, method, f->name, f->name);
		msgpack_pack_fix_uint64(&m.pk, (uint64_t)value);
		expect(&m, method, f, good);
	}
}

static void try_float(enum bn_method method, const struct bn_field *f, double value, bool good)
{
	struct call m;

	call_begin(&m, method, f->name, f->name);
	msgpack_pack_double(&m.pk, value);
	expect(&m, method, f, good);
	if (isnan(value) || (double)(float)value == value) {
		call_begin(&m, method, f->name, f->name);
		msgpack_pack_float(&m.pk, (float)value);
		expect(&m, method, f, good);
	}
}

static void try_big(enum bn_method method, const struct bn_field *f)
{
	struct call m;

	call_begin(&m, method, f->name, f->name);
	msgpack_pack_uint64(&m.pk, UINT64_MAX);
	expect(&m, method, f, false);
	call_begin(&m, method, f->name, f->name);
	msgpack_pack_uint64(&m.pk, (uint64_t)INT64_MAX + 1);
	expect(&m, method, f, false);
}

static void check_numbers(enum bn_method method, const struct bn_field *f)
{
	if (f->kind == BN_KIND_INT) {
		try_int(method, f, f->int_min, true);
		try_int(method, f, f->int_max, true);
		if (f->int_max < INT64_MAX) {
			try_int(method, f, f->int_max + 1, false);
			try_int(method, f, INT64_MAX, false);
		}
		try_int(method, f, f->int_min - 1, false);
		try_int(method, f, INT64_MIN, false);
		try_big(method, f);
		try_float(method, f, (double)f->int_min, false);
		try_float(method, f, NAN, false);
		try_float(method, f, INFINITY, false);
		try_float(method, f, 0.5, false);
	} else if (f->kind == BN_KIND_NUM) {
		try_float(method, f, f->num_min, true);
		try_float(method, f, f->num_max, true);
		try_int(method, f, (int64_t)floor(f->num_max), true);
		try_float(method, f, nextafter(f->num_min, -INFINITY), false);
		try_float(method, f, nextafter(f->num_max, INFINITY), false);
		try_int(method, f, (int64_t)f->num_max + 1, false);
		try_int(method, f, (int64_t)f->num_min - 1, false);
		try_int(method, f, INT64_MIN, false);
		try_float(method, f, NAN, false);
		try_float(method, f, INFINITY, false);
		try_float(method, f, -INFINITY, false);
		try_float(method, f, 1e308, false);
		try_big(method, f);
	} else if (f->kind == BN_KIND_TIME) {
		try_int(method, f, f->int_min, true);
		try_int(method, f, f->int_max, true);
		try_int(method, f, f->int_max + 1, false);
		try_int(method, f, INT64_MAX, false);
		try_int(method, f, -1, true);
		try_int(method, f, INT64_MIN, true); /* any negative time is "for ever" */
		try_float(method, f, 1.0, false);
		try_float(method, f, NAN, false);
		try_big(method, f);
	}
}

static void decode_holds_every_number_to_its_range(void **state)
{
	(void)state;
	each_field(check_numbers);
}

/* Which MessagePack types a kind takes. */
static bool takes(enum bn_kind kind, enum bn_type type)
{
	switch (type) {
	case BN_TYPE_BOOL:
		return kind == BN_KIND_BOOL;
	case BN_TYPE_INT:
		return kind == BN_KIND_INT || kind == BN_KIND_NUM || kind == BN_KIND_TIME;
	case BN_TYPE_FLOAT:
		return kind == BN_KIND_NUM;
	case BN_TYPE_STR:
		return kind == BN_KIND_STR || kind == BN_KIND_PROMPT || kind == BN_KIND_STRS ||
		       kind == BN_KIND_TEXTS;
	case BN_TYPE_BIN:
		return kind == BN_KIND_PROMPT || kind == BN_KIND_IDS || kind == BN_KIND_BIN;
	case BN_TYPE_ARRAY: /* an empty one */
		return kind == BN_KIND_PROMPT || kind == BN_KIND_IDS || kind == BN_KIND_STRS;
	case BN_TYPE_MAP: /* an empty one */
		return kind == BN_KIND_BIAS;
	default:
		return false;
	}
}

static void check_types(enum bn_method method, const struct bn_field *f)
{
	for (enum bn_type type = BN_TYPE_BOOL; type <= BN_TYPE_MAP; type++) {
		struct call m;

		if (type == BN_TYPE_BIG) {
			continue;
		}
		call_begin(&m, method, f->name, f->name);
		switch (type) {
		case BN_TYPE_BOOL:
			msgpack_pack_true(&m.pk);
			break;
		case BN_TYPE_INT:
			msgpack_pack_int64(&m.pk, f->kind == BN_KIND_INT ? f->int_max : 1);
			break;
		case BN_TYPE_FLOAT:
			msgpack_pack_double(&m.pk, f->kind == BN_KIND_NUM ? f->num_max : 0.5);
			break;
		case BN_TYPE_STR:
			call_str(&m, "zzzz");
			break;
		case BN_TYPE_BIN:
			msgpack_pack_bin_with_body(&m.pk, "\1\0\0\0", 4);
			break;
		case BN_TYPE_ARRAY:
			msgpack_pack_array(&m.pk, 0);
			break;
		default:
			msgpack_pack_map(&m.pk, 0);
			break;
		}
		expect(&m, method, f, takes(f->kind, type));
	}
}

static void decode_refuses_every_wrong_type(void **state)
{
	(void)state;
	each_field(check_types);
}

static void check_presence(enum bn_method method, const struct bn_field *f)
{
	struct call m;

	/* Given: set. (cancel has a rule of its own about its two fields.) */
	call_begin(&m, method, f->name, f->name);
	call_good(&m, f);
	expect(&m, method, f, true);
	if (method == BN_METHOD_CANCEL) {
		return;
	}
	/* Nil and absent: not set, and an error only if it must be there. */
	for (int nil = 0; nil < 2; nil++) {
		call_begin(&m, method, f->name, nil ? f->name : NULL);
		if (nil) {
			msgpack_pack_nil(&m.pk);
		}
		if (f->must) {
			expect(&m, method, f, false);
		} else {
			assert_int_equal(call_decode(&m, method), BN_OK);
			assert_false(((const bool *)&m.params)[f->has]);
			call_end(&m);
		}
	}
}

static void decode_knows_given_from_absent(void **state)
{
	(void)state;
	each_field(check_presence);
}

static void check_sizes(enum bn_method method, const struct bn_field *f)
{
	struct call m;

	if (f->kind == BN_KIND_STR && f->int_max < 1000) {
		for (int64_t n = f->int_max; n <= f->int_max + 1; n++) {
			char text[1001];

			memset(text, 'x', sizeof(text));
			call_begin(&m, method, f->name, f->name);
			msgpack_pack_str_with_body(&m.pk, text, (size_t)n);
			expect(&m, method, f, n == f->int_max);
		}
		call_begin(&m, method, f->name, f->name);
		msgpack_pack_str_with_body(&m.pk, "", 0);
		expect(&m, method, f, f->int_min == 0);
	} else if (f->kind == BN_KIND_STRS || f->kind == BN_KIND_IDS || f->kind == BN_KIND_TEXTS) {
		for (int64_t n = f->int_max; n <= f->int_max + 1 && n < 3000; n++) {
			call_begin(&m, method, f->name, f->name);
			msgpack_pack_array(&m.pk, (size_t)n);
			for (int64_t i = 0; i < n; i++) {
				if (f->kind != BN_KIND_IDS) {
					call_str(&m, "stop");
				} else {
					msgpack_pack_int64(&m.pk, i);
				}
			}
			expect(&m, method, f, n == f->int_max);
		}
	} else if (f->kind == BN_KIND_BIAS) {
		for (int64_t n = f->int_max; n <= f->int_max + 1; n++) {
			call_begin(&m, method, f->name, f->name);
			msgpack_pack_map(&m.pk, (size_t)n);
			for (int64_t i = 0; i < n; i++) {
				msgpack_pack_int64(&m.pk, i);
				msgpack_pack_int(&m.pk, 1);
			}
			expect(&m, method, f, n == f->int_max);
		}
	}
}

static void decode_holds_texts_and_lists_to_their_sizes(void **state)
{
	(void)state;
	each_field(check_sizes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decode_holds_every_number_to_its_range),
		cmocka_unit_test(decode_refuses_every_wrong_type),
		cmocka_unit_test(decode_knows_given_from_absent),
		cmocka_unit_test(decode_holds_texts_and_lists_to_their_sizes),
	};

	return cmocka_run_group_tests_name("proto/decode", tests, NULL, NULL);
}
