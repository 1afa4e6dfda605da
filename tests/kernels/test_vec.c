/* The float functions: the scalar set against mathematics in double, every other set against the
 * scalar one, bit for bit. */
#include "kernels/vec.h"

#include "kernels/half.h"
#include "kernels/order.h"
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

static const struct bn_vec *usable(size_t *i)
{
	const struct bn_vec *const *list;
	const size_t n = bn_vecs(&list);
	const uint64_t cpu = rig_cpu();

	while (*i < n) {
		const struct bn_vec *v = list[(*i)++];
		if ((v->needs & cpu) == v->needs) {
			return v;
		}
	}
	return NULL;
}

static void every_set_has_the_bits_of_the_scalar_one(void **state)
{
	(void)state;
	for (size_t i = 0;;) {
		const struct bn_vec *v = usable(&i);
		struct rig rig;
		if (v == NULL) {
			break;
		}
		rig_init(&rig, i);
		for (int round = 0; round < 1500; round++) {
			if (!rig_compare_vec(&rig, v, round < 1400 ? 80 : 3000)) {
				fail_msg("%s", rig.why);
			}
		}
	}
}

static void attention_has_the_bits_of_the_scalar_one_head_by_head_too(void **state)
{
	(void)state;
	for (size_t i = 0;;) {
		const struct bn_vec *v = usable(&i);
		struct rig rig;
		if (v == NULL) {
			break;
		}
		rig_init(&rig, i);
		for (int round = 0; round < 80; round++) {
			if (!rig_compare_attend(&rig, v)) {
				fail_msg("%s", rig.why);
			}
		}
	}
}

static void scalar_results_are_those_recorded_for_every_architecture(void **state)
{
	(void)state;
	if (rig_digest() != RIG_DIGEST) {
		fail_msg("digest 0x%016llx", (unsigned long long)rig_digest());
	}
}

static void exp_is_within_two_ten_millionths_everywhere(void **state)
{
	double worst = 0.0;

	(void)state;
	for (double x = -87.3; x < 88.7; x += 0.00037) {
		const float f = (float)x;
		const double e = fabs((double)bn_expf(f) / exp((double)f) - 1.0);
		worst = e > worst ? e : worst;
	}
	assert_true(worst < 1.3e-7);
	/* Denormal results: within one unit of the last place that is left. */
	for (double x = -103.9; x < -87.3; x += 0.0037) {
		const float f = (float)x;
		assert_true(fabs((double)bn_expf(f) - exp((double)f)) <= 0x1p-149);
	}
}

static void exp_of_special_values(void **state)
{
	(void)state;
	assert_true(bn_expf(0.0f) == 1.0f);
	assert_true(bn_expf(-0.0f) == 1.0f);
	assert_true(bn_float_bits(bn_expf(-INFINITY)) == 0);
	assert_true(bn_float_bits(bn_expf(-1e30f)) == 0);
	assert_true(bn_expf(INFINITY) == INFINITY);
	assert_true(bn_expf(89.0f) == INFINITY);
	assert_true(isfinite(bn_expf(88.7f)));
	assert_true(isnan(bn_expf(NAN)));
}

static void fold_adds_eight_apart_then_four_two_one(void **state)
{
	float p[16], q[16];
	struct rig rig;

	(void)state;
	rig_init(&rig, 5);
	for (int i = 0; i < 16; i++) {
		p[i] = q[i] = rig_float(&rig, 1.0f);
	}
	const float a = ((q[0] + q[8]) + (q[4] + q[12])) + ((q[2] + q[10]) + (q[6] + q[14]));
	const float b = ((q[1] + q[9]) + (q[5] + q[13])) + ((q[3] + q[11]) + (q[7] + q[15]));
	assert_true(bn_fold16(p) == a + b);
}

static void rmsnorm_is_the_formula(void **state)
{
	float x[700], gain[700], out[700];
	struct rig rig;

	(void)state;
	rig_init(&rig, 6);
	for (uint32_t n = 1; n <= 700; n += 37) {
		double sum = 0.0;
		for (uint32_t i = 0; i < n; i++) {
			x[i] = rig_float(&rig, 4.0f);
			gain[i] = rig_float(&rig, 2.0f);
			sum += (double)x[i] * x[i];
		}
		const double factor = 1.0 / sqrt(sum / n + 1e-5);
		bn_vec_scalar.rmsnorm(out, x, gain, n, 1e-5f);
		for (uint32_t i = 0; i < n; i++) {
			assert_true(fabs(out[i] - x[i] * factor * gain[i]) < 2e-6);
		}
	}
}

static void quantize_all(const float *x, uint32_t n, int8_t *q, float *scale, int32_t *sum)
{
	bool first = true;

	for (size_t i = 0;;) {
		const struct bn_vec *v = usable(&i);
		int8_t other[256];
		float s;
		if (v == NULL) {
			break;
		}
		memset(other, 77, sizeof(other));
		const int32_t total = v->quantize(other, &s, x, n, 256);
		if (!first) {
			assert_memory_equal(other, q, 256);
			assert_memory_equal(&s, scale, sizeof(s));
			assert_int_equal(total, *sum);
		}
		first = false;
		memcpy(q, other, sizeof(other));
		*scale = s;
		*sum = total;
	}
}

static void quantize_zeros_gives_zeros_and_the_floor(void **state)
{
	float x[200] = { 0 };
	int8_t q[256], zero[256] = { 0 };
	float scale;
	int32_t sum;

	(void)state;
	quantize_all(x, 200, q, &scale, &sum);
	assert_memory_equal(q, zero, 256);
	assert_int_equal(sum, 0);
	assert_true(scale == 1.0f / (127.0f / 1e-5f));

	/* Denormals and anything below the floor are small against it, not scaled up to 127. */
	x[3] = 1e-40f;
	x[4] = 4e-6f;
	quantize_all(x, 200, q, &scale, &sum);
	assert_int_equal(q[3], 0);
	assert_int_equal(q[4], 51); /* 50.8 */
	assert_int_equal(sum, 51);
}

static void quantize_rounds_ties_to_even_and_reaches_127(void **state)
{
	float x[130];
	int8_t q[256];
	float scale;
	int32_t sum;

	(void)state;
	/* Maximum 127: the factor is one. */
	for (int i = 0; i < 128; i++) {
		x[i] = (float)i - 0.5f;
	}
	x[128] = 127.0f;
	x[129] = -127.0f;
	quantize_all(x, 130, q, &scale, &sum);
	assert_true(scale == 1.0f);
	for (int i = 0; i < 128; i++) {
		assert_int_equal(q[i], i % 2 ? i - 1 : i);
	}
	assert_int_equal(q[128], 127);
	assert_int_equal(q[129], -127);
	for (int i = 130; i < 256; i++) {
		assert_int_equal(q[i], 0);
	}
}

static void quantize_of_what_is_not_finite_gives_nan_and_zeros(void **state)
{
	const float bad[] = { INFINITY, -INFINITY, NAN, -NAN };
	int8_t q[256], zero[256] = { 0 };
	float scale;
	int32_t sum;

	(void)state;
	for (size_t b = 0; b < 4; b++) {
		for (uint32_t at = 0; at < 37; at++) {
			float x[37];
			for (int i = 0; i < 37; i++) {
				x[i] = (float)i;
			}
			x[at] = bad[b];
			quantize_all(x, 37, q, &scale, &sum);
			assert_memory_equal(q, zero, 256);
			assert_true(isnan(scale));
			assert_int_equal(sum, 0);
		}
	}
}

static void quantize_keeps_values_within_half_a_step(void **state)
{
	float x[100];
	int8_t q[256];
	float scale;
	int32_t sum;
	struct rig rig;

	(void)state;
	rig_init(&rig, 8);
	for (int round = 0; round < 200; round++) {
		const float range = ldexpf(1.0f, (int)rig_between(&rig, 0, 60) - 12);
		int32_t expected = 0;
		for (int i = 0; i < 100; i++) {
			x[i] = rig_float(&rig, range);
		}
		quantize_all(x, 100, q, &scale, &sum);
		for (int i = 0; i < 100; i++) {
			assert_true(fabsf(x[i] - (float)q[i] * scale) <= 0.5001f * scale);
			expected += q[i];
		}
		assert_int_equal(sum, expected);
	}
}

static void gates_are_the_formulas(void **state)
{
	float out[1];

	(void)state;
	for (float g = -90.0f; g < 90.0f; g += 0.173f) {
		const float up = 1.5f;
		const double silu = g / (1.0 + exp(-(double)g)) * 1.5;
		bn_vec_scalar.gate(out, &g, &up, 1, BN_ACT_SILU);
		/* Where exp(-g) is infinite the gate is closed; it was 4e-37 wide. */
		assert_true(fabs((double)out[0] - silu) <= 4e-7 * fabs(silu) + 4e-37);
		bn_vec_scalar.gate(out, &g, &up, 1, BN_ACT_RELU2);
		assert_true(out[0] == (g > 0.0f ? g * g * 1.5f : 0.0f));

		const double u =
			sqrt(2.0 / M_PI) * (g + 0.044715 * (double)g * (double)g * (double)g);
		const double gelu = 0.5 * g * (1.0 + tanh(u)) * 1.5;

		bn_vec_scalar.gate(out, &g, &up, 1, BN_ACT_GELU);
		/* 1 + tanh(u) cancels where the exponential does not. */
		assert_true(fabs((double)out[0] - gelu) <= 4e-6 * fabs(gelu) + 1e-14);
	}
}

static void a_nan_at_a_gate_comes_out(void **state)
{
	(void)state;
	for (size_t i = 0;;) {
		const struct bn_vec *v = usable(&i);
		float g[33], up[33], out[33];
		if (v == NULL) {
			break;
		}
		for (int j = 0; j < 33; j++) {
			g[j] = NAN;
			up[j] = 1.0f;
		}
		for (int act = BN_ACT_SILU; act <= BN_ACT_GELU; act++) {
			v->gate(out, g, up, 33, (enum bn_activation)act);
			for (int j = 0; j < 33; j++) {
				assert_true(isnan(out[j]));
			}
		}
	}
}

static void rope_turns_pairs_of_both_styles_and_leaves_the_rest(void **state)
{
	const float c[2] = { 0.0f, 0.6f }, s[2] = { 1.0f, 0.8f };
	float x[12] = { 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6 };

	(void)state;
	bn_vec_scalar.rope(x, c, s, 2, 6, 4, BN_ROPE_NEOX);
	for (int h = 0; h < 12; h += 6) {
		assert_true(x[h] == -3.0f && x[h + 2] == 1.0f); /* a quarter turn */
		assert_true(fabsf(x[h + 1] - (2 * 0.6f - 4 * 0.8f)) < 1e-6f);
		assert_true(fabsf(x[h + 3] - (4 * 0.6f + 2 * 0.8f)) < 1e-6f);
		assert_true(x[h + 4] == 5.0f && x[h + 5] == 6.0f);
	}
	float y[6] = { 1, 2, 3, 4, 5, 6 };
	bn_vec_scalar.rope(y, c, s, 1, 6, 4, BN_ROPE_NORM);
	assert_true(y[0] == -2.0f && y[1] == 1.0f);
	assert_true(fabsf(y[2] - (3 * 0.6f - 4 * 0.8f)) < 1e-6f);
	assert_true(fabsf(y[3] - (4 * 0.6f + 3 * 0.8f)) < 1e-6f);
	assert_true(y[4] == 5.0f && y[5] == 6.0f);
}

/* Three blocks of attention against softmax(q k) v in double. */
static void attention_is_softmax_of_scores_times_values(void **state)
{
	enum { DIM = 40, COUNT = 2 * BN_ATTEND_BLOCK + 17 };
	static uint16_t k[COUNT * DIM], v[COUNT * DIM];
	struct bn_attend_state st = { -INFINITY, 0.0f };
	float q[DIM], acc[DIM] = { 0 }, out[DIM];
	double wanted[DIM] = { 0 }, total = 0.0;
	struct rig rig;

	(void)state;
	rig_init(&rig, 9);
	for (int d = 0; d < DIM; d++) {
		q[d] = rig_float(&rig, 0.8f);
	}
	for (int i = 0; i < COUNT * DIM; i++) {
		k[i] = bn_float_to_half(rig_float(&rig, 2.0f));
		v[i] = bn_float_to_half(rig_float(&rig, 2.0f));
	}
	for (int p = 0; p < COUNT; p++) {
		double score = 0.0;
		for (int d = 0; d < DIM; d++) {
			score += (double)q[d] * bn_half_to_float(k[p * DIM + d]);
		}
		total += exp(score);
		for (int d = 0; d < DIM; d++) {
			wanted[d] += exp(score) * bn_half_to_float(v[p * DIM + d]);
		}
	}
	for (uint32_t p = 0; p < COUNT; p += BN_ATTEND_BLOCK) {
		const uint32_t left = COUNT - p < BN_ATTEND_BLOCK ? COUNT - p : BN_ATTEND_BLOCK;
		bn_vec_scalar.attend(&st, acc, q, k + p * DIM, v + p * DIM, left, 1, DIM);
	}
	bn_vec_scalar.attend_finish(out, acc, &st, DIM);
	for (int d = 0; d < DIM; d++) {
		assert_true(fabs(out[d] - wanted[d] / total) < 1e-5);
	}
}

static void a_fault_in_one_score_shows_in_its_head_alone(void **state)
{
	enum { DIM = 64, COUNT = 100 };
	static uint16_t k[COUNT * DIM], v[COUNT * DIM];

	(void)state;
	for (size_t i = 0;;) {
		const struct bn_vec *set = usable(&i);
		struct bn_attend_state st[2] = { { -INFINITY, 0.0f }, { -INFINITY, 0.0f } };
		float q[2 * DIM] = { 0 }, acc[2 * DIM] = { 0 }, out[DIM];
		if (set == NULL) {
			break;
		}
		q[3] = NAN;
		set->attend(st, acc, q, k, v, COUNT, 2, DIM);
		set->attend_finish(out, acc, &st[0], DIM);
		for (int d = 0; d < DIM; d++) {
			assert_true(isnan(out[d]));
		}
		set->attend_finish(out, acc + DIM, &st[1], DIM);
		for (int d = 0; d < DIM; d++) {
			assert_true(out[d] == 0.0f);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_set_has_the_bits_of_the_scalar_one),
		cmocka_unit_test(attention_has_the_bits_of_the_scalar_one_head_by_head_too),
		cmocka_unit_test(scalar_results_are_those_recorded_for_every_architecture),
		cmocka_unit_test(exp_is_within_two_ten_millionths_everywhere),
		cmocka_unit_test(exp_of_special_values),
		cmocka_unit_test(fold_adds_eight_apart_then_four_two_one),
		cmocka_unit_test(rmsnorm_is_the_formula),
		cmocka_unit_test(quantize_zeros_gives_zeros_and_the_floor),
		cmocka_unit_test(quantize_rounds_ties_to_even_and_reaches_127),
		cmocka_unit_test(quantize_of_what_is_not_finite_gives_nan_and_zeros),
		cmocka_unit_test(quantize_keeps_values_within_half_a_step),
		cmocka_unit_test(gates_are_the_formulas),
		cmocka_unit_test(a_nan_at_a_gate_comes_out),
		cmocka_unit_test(rope_turns_pairs_of_both_styles_and_leaves_the_rest),
		cmocka_unit_test(attention_is_softmax_of_scores_times_values),
		cmocka_unit_test(a_fault_in_one_score_shows_in_its_head_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
