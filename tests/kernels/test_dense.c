/* Dense rows: the scalar decoders against the formats written out a second time, products against
 * double, and every other set against the scalar one, bit for bit. */
#include "kernels/dense.h"

#include "kernels/half.h"
#include "kernels/tables.h"
#include "tests/kernels/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { COLS = 1024 };

static void row_bytes_are_those_of_the_file_format(void **state)
{
	(void)state;
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_F32, 2560), 10240);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_F16, 2560), 5120);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_BF16, 7), 14);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_Q8_0, 3200), 3400);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_Q6_K, 2560), 2100);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_Q8_0, 33), 0);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_Q6_K, 3200), 0);
	assert_int_equal(bn_dense_row_bytes(BN_DENSE_TYPE_COUNT, 256), 0);
}

static float half_at(const uint8_t *p)
{
	return bn_half_to_float((uint16_t)(p[0] | p[1] << 8));
}

static void q8_0_decodes_by_the_format(void **state)
{
	uint8_t row[COLS / 32 * 34];
	float out[COLS];
	struct rig rig;

	(void)state;
	rig_init(&rig, 1);
	rig_dense_row(&rig, BN_DENSE_Q8_0, row, COLS);
	bn_dense_scalar[BN_DENSE_Q8_0].decode(out, row, COLS);
	for (int c = 0; c < COLS; c++) {
		const uint8_t *block = row + c / 32 * 34;
		const int q = (int8_t)block[2 + c % 32];
		assert_true(out[c] == half_at(block) * (float)q);
	}
}

/* The format in the order in which its definition walks: two halves, four quarters at a time. */
static void q6_k_decodes_by_the_format(void **state)
{
	uint8_t row[COLS / 256 * 210];
	float out[COLS], wanted[COLS];
	struct rig rig;

	(void)state;
	rig_init(&rig, 2);
	rig_dense_row(&rig, BN_DENSE_Q6_K, row, COLS);
	bn_dense_scalar[BN_DENSE_Q6_K].decode(out, row, COLS);
	float *y = wanted;
	for (int b = 0; b < COLS / 256; b++) {
		const uint8_t *ql = row + b * 210;
		const uint8_t *qh = ql + 128;
		const uint8_t *sc = ql + 192;
		const float d = half_at(ql + 208);
		for (int half = 0; half < 2; half++) {
			for (int l = 0; l < 32; l++) {
				const int is = l / 16;
				const int q1 = (ql[l] & 15) | ((qh[l] & 3) << 4);
				const int q2 = (ql[l + 32] & 15) | (((qh[l] >> 2) & 3) << 4);
				const int q3 = (ql[l] >> 4) | (((qh[l] >> 4) & 3) << 4);
				const int q4 = (ql[l + 32] >> 4) | ((qh[l] >> 6) << 4);
				y[l] = d * (float)(int8_t)sc[is] * (float)(q1 - 32);
				y[l + 32] = d * (float)(int8_t)sc[is + 2] * (float)(q2 - 32);
				y[l + 64] = d * (float)(int8_t)sc[is + 4] * (float)(q3 - 32);
				y[l + 96] = d * (float)(int8_t)sc[is + 6] * (float)(q4 - 32);
			}
			y += 128;
			ql += 64;
			qh += 32;
			sc += 8;
		}
	}
	assert_memory_equal(out, wanted, sizeof(out));
}

static void plain_types_decode_to_themselves(void **state)
{
	uint8_t row[COLS * 4];
	float out[COLS];
	struct rig rig;

	(void)state;
	rig_init(&rig, 3);
	rig_dense_row(&rig, BN_DENSE_F32, row, COLS);
	bn_dense_scalar[BN_DENSE_F32].decode(out, row, COLS);
	assert_memory_equal(out, row, sizeof(out));
	rig_dense_row(&rig, BN_DENSE_F16, row, COLS);
	bn_dense_scalar[BN_DENSE_F16].decode(out, row, COLS);
	for (int c = 0; c < COLS; c++) {
		assert_true(out[c] == half_at(row + c * 2));
	}
	rig_dense_row(&rig, BN_DENSE_BF16, row, COLS);
	bn_dense_scalar[BN_DENSE_BF16].decode(out, row, COLS);
	for (int c = 0; c < COLS; c++) {
		const uint16_t b = (uint16_t)(row[c * 2] | row[c * 2 + 1] << 8);
		assert_true(out[c] == bn_bf16_to_float(b));
	}
}

static void products_are_sums_of_products(void **state)
{
	uint8_t row[COLS * 4];
	float w[COLS], x[COLS], out;
	struct rig rig;

	(void)state;
	rig_init(&rig, 4);
	for (int type = 0; type < BN_DENSE_TYPE_COUNT; type++) {
		const struct bn_dense *d = &bn_dense_scalar[type];
		double wanted = 0.0, size = 0.0;
		rig_dense_row(&rig, d->type, row, COLS);
		d->decode(w, row, COLS);
		for (int c = 0; c < COLS; c++) {
			x[c] = rig_float(&rig, 1.0f);
			wanted += (double)w[c] * x[c];
			size += fabs((double)w[c] * x[c]);
		}
		d->mul(&out, 1, row, COLS, x, COLS, 1, 0, 1);
		assert_true(fabs(out - wanted) < 1e-5 * size);
	}
}

static void every_set_has_the_bits_of_the_scalar_one(void **state)
{
	const struct bn_dense *const *list;
	const size_t n = bn_denses(&list);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct rig rig;
		if ((list[i]->needs & rig_cpu()) != list[i]->needs) {
			continue;
		}
		rig_init(&rig, i);
		for (int round = 0; round < 40; round++) {
			if (!rig_compare_dense(&rig, list[i], 20, 600, round < 38 ? 9 : 40)) {
				fail_msg("%s", rig.why);
			}
		}
	}
}

/* Hardware converts what a file may hold: every half, NaN and infinity included. */
static void every_half_decodes_alike_in_every_set(void **state)
{
	static uint8_t row[65536 * 2];
	static float a[65536], b[65536];
	const struct bn_dense *const *list;
	const size_t n = bn_denses(&list);

	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		row[2 * h] = (uint8_t)h;
		row[2 * h + 1] = (uint8_t)(h >> 8);
	}
	for (size_t i = 0; i < n; i++) {
		const struct bn_dense *d = list[i];
		if ((d->needs & rig_cpu()) != d->needs ||
		    (d->type != BN_DENSE_F16 && d->type != BN_DENSE_BF16)) {
			continue;
		}
		d->decode(a, row, 65536);
		bn_dense_scalar[d->type].decode(b, row, 65536);
		assert_memory_equal(a, b, sizeof(a));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(row_bytes_are_those_of_the_file_format),
		cmocka_unit_test(q8_0_decodes_by_the_format),
		cmocka_unit_test(q6_k_decodes_by_the_format),
		cmocka_unit_test(plain_types_decode_to_themselves),
		cmocka_unit_test(products_are_sums_of_products),
		cmocka_unit_test(every_set_has_the_bits_of_the_scalar_one),
		cmocka_unit_test(every_half_decodes_alike_in_every_set),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
