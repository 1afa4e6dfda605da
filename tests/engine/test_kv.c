#include "engine/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void sizes_are_those_of_published_models(void **state)
{
	/* KV f16 bytes per token: BitNet-b1.58-2B-4T, bitnet_b1_58-3B, Falcon3-1B */
	const struct bn_kv_shape b2 = { 30, 5, 128, BN_KV_F16 }, b3 = { 26, 32, 100, BN_KV_F16 },
				 falcon = { 18, 4, 256, BN_KV_F16 };

	(void)state;
	assert_int_equal(bn_kv_position_bytes(&b2), 76800);
	assert_int_equal(bn_kv_position_bytes(&b3), 332800);
	assert_int_equal(bn_kv_position_bytes(&falcon), 73728);
	assert_int_equal(bn_kv_bytes(&b2, 4096), 76800ull * 4096);
	/* odd ones round up, to a line for each matrix and to a page in all */
	assert_true(bn_kv_bytes(&b3, 33) >= 332800ull * 33);
	assert_true(bn_kv_bytes(&b3, 33) < 332800ull * 33 + 26 * 32 * 2 * 64 + 4096);
	assert_int_equal(bn_kv_bytes(&b3, 33) % 4096, 0);
}

static void matrices_are_apart_and_keep_what_is_written(void **state)
{
	const struct bn_kv_shape shape = { 3, 2, 50, BN_KV_F16 };
	enum { N = 13 };
	struct bn_kv kv = { 0 };
	uint16_t mark = 0;

	(void)state;
	assert_int_equal(bn_kv_init(&kv, &shape, N, NULL), BN_OK);
	assert_int_equal(kv.bytes, bn_kv_bytes(&shape, N));
	for (uint64_t i = 0; i < kv.bytes; i++) {
		assert_int_equal(kv.base[i], 0);
	}
	for (int pass = 0; pass < 2; pass++) {
		mark = 0;
		for (uint32_t l = 0; l < 3; l++) {
			for (uint32_t h = 0; h < 2; h++) {
				assert_int_equal((uintptr_t)bn_kv_k(&kv, l, h, 0) % 64, 0);
				assert_int_equal((uintptr_t)bn_kv_v(&kv, l, h, 0) % 64, 0);
				for (uint32_t p = 0; p < N; p++) {
					uint16_t *k = bn_kv_k(&kv, l, h, p);
					uint16_t *v = bn_kv_v(&kv, l, h, p);

					assert_ptr_equal(k, bn_kv_k(&kv, l, h, 0) + p * 50);
					assert_true((uint8_t *)(v + 50) <= kv.base + kv.bytes);
					for (uint32_t d = 0; d < 50; d++, mark += 2) {
						if (pass == 0) {
							k[d] = mark;
							v[d] = (uint16_t)(mark + 1);
						}
						assert_int_equal(k[d], mark);
						assert_int_equal(v[d], (uint16_t)(mark + 1));
					}
				}
			}
		}
	}
	bn_kv_finish(&kv);
	assert_null(kv.base);
	bn_kv_finish(&kv);
}

static void a_reservation_touches_no_memory(void **state)
{
	/* 64 GiB: more than the machines that run this have, but only addresses. */
	const struct bn_kv_shape shape = { 32, 8, 128, BN_KV_F16 };
	struct bn_kv kv = { 0 };

	(void)state;
	assert_int_equal(bn_kv_init(&kv, &shape, 524288, NULL), BN_OK);
	assert_int_equal(kv.bytes, 64ull << 30);
	*bn_kv_v(&kv, 31, 7, 524287) = 1;
	bn_kv_finish(&kv);
}

static void what_cannot_be_is_an_error_with_the_need(void **state)
{
	const struct bn_kv_shape shape = { 512, 1024, 256, BN_KV_F16 };
	struct bn_kv kv = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_kv_bytes(&shape, UINT32_MAX) % 4096, 0);
	assert_int_equal(bn_kv_init(&kv, &shape, UINT32_MAX, &err), BN_E_MEMORY);
	assert_non_null(strstr(err.text, "KV memory for 4294967295 positions"));
	assert_string_equal(err.data[0].key, "need_bytes");
	assert_true(err.data[0].number > INT64_C(1) << 50);
	assert_null(kv.base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_those_of_published_models),
		cmocka_unit_test(matrices_are_apart_and_keep_what_is_written),
		cmocka_unit_test(a_reservation_touches_no_memory),
		cmocka_unit_test(what_cannot_be_is_an_error_with_the_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
