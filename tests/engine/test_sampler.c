/* The sampler against a naive one: sort everything, use libm, count everything anew. Draws are
 * judged by chi-square, with fixed seeds, so a test that passes passes always. */
#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 200, DRAWS = 8000 };

static struct bn_candidate scratch[1 << 17];

static double noise(uint64_t *x)
{
	*x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(*x >> 11) * 0x1.0p-53;
}

static void random_logits(uint64_t seed, float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		logits[i] = (float)(10.0 * noise(&seed) * noise(&seed) - 3.0);
	}
}

static struct bn_sampler *make(const struct bn_sampler_params *p, uint32_t vocab)
{
	struct bn_sampler *s = NULL;
	struct bn_error err;

	if (bn_sampler_new(&s, p, vocab, 4096, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return s;
}

static uint32_t draw(struct bn_sampler *s, const float *logits)
{
	struct bn_sampled out;

	assert_int_equal(bn_sampler_draw(s, logits, scratch, &out, NULL), BN_OK);
	return out.token;
}

/* ---- the naive sampler ----------------------------------------------------------------------- */

struct naive {
	double logit[V];
	uint32_t order[V]; /* candidates, best first */
	uint32_t n;
};

static const double *sort_keys;

static int by_key(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (sort_keys[x] != sort_keys[y]) {
		return sort_keys[x] > sort_keys[y] ? -1 : 1;
	}
	return x < y ? -1 : 1;
}

static void softmax(const struct naive *c, double temperature, double p[V])
{
	double sum = 0.0;

	memset(p, 0, V * sizeof(double));
	for (uint32_t i = 0; i < c->n; i++) {
		p[c->order[i]] = exp((c->logit[c->order[i]] - c->logit[c->order[0]]) / temperature);
		sum += p[c->order[i]];
	}
	for (uint32_t i = 0; i < V; i++) {
		p[i] /= sum;
	}
}

static void sort_candidates(struct naive *c, const double *keys)
{
	sort_keys = keys;
	qsort(c->order, c->n, sizeof(c->order[0]), by_key);
}

/* Probabilities that each token be drawn, after everything. */
static void naive_distribution(const struct bn_sampler_params *s, const float *logits,
			       const uint32_t *history, uint32_t n_history, double p[V])
{
	struct naive c = { .n = 0 };
	const uint32_t window = s->repeat_last_n < 0 || (uint32_t)s->repeat_last_n > n_history
					? n_history
					: (uint32_t)s->repeat_last_n;

	for (uint32_t i = 0; i < V; i++) {
		float l = logits[i];
		uint32_t seen = 0;

		for (uint32_t b = 0; b < s->n_bias; b++) {
			l += s->bias[b].token == i ? s->bias[b].bias : 0.0f;
		}
		for (uint32_t h = n_history - window; h < n_history; h++) {
			seen += history[h] == i;
		}
		if (seen > 0) {
			l = l > 0.0f ? l / s->repeat_penalty : l * s->repeat_penalty;
			l -= (float)seen * s->frequency_penalty + s->presence_penalty;
		}
		c.logit[i] = (double)l;
		if (isfinite(l)) {
			c.order[c.n++] = i;
		}
	}
	sort_candidates(&c, c.logit);
	if (s->top_k > 0 && s->top_k < c.n) {
		c.n = s->top_k;
	}
	if (s->typical_p < 1.0f) {
		double entropy = 0.0, sum = 0.0, key[V];
		uint32_t kept = 0;

		softmax(&c, 1.0, p);
		for (uint32_t i = 0; i < V; i++) {
			entropy -= p[i] > 0.0 ? p[i] * log(p[i]) : 0.0;
		}
		for (uint32_t i = 0; i < V; i++) {
			key[i] = p[i] > 0.0 ? -fabs(-log(p[i]) - entropy) : -1e9;
		}
		sort_candidates(&c, key);
		while (kept < c.n && (kept == 0 || sum < (double)s->typical_p)) {
			sum += p[c.order[kept++]];
		}
		c.n = kept;
		sort_candidates(&c, c.logit);
	}
	if (s->top_p < 1.0f) {
		double sum = 0.0;
		uint32_t kept = 0;

		softmax(&c, 1.0, p);
		while (kept < c.n && (kept == 0 || sum < (double)s->top_p)) {
			sum += p[c.order[kept++]];
		}
		c.n = kept;
	}
	if (s->min_p > 0.0f) {
		uint32_t kept = 0;

		softmax(&c, 1.0, p);
		while (kept < c.n && p[c.order[kept]] >= (double)s->min_p * p[c.order[0]]) {
			kept++;
		}
		c.n = kept;
	}
	softmax(&c, (double)s->temperature, p);
}

/* Chi-square of counts against p, cells with fewer than 8 expected pooled, as the normal deviate of
 * the same probability (Wilson and Hilferty 1931). A count where p is 0 is an error. */
static double surprise(const uint32_t counts[V], const double p[V], uint32_t draws)
{
	double chi = 0.0, pooled_want = 0.0, pooled_got = 0.0;
	uint32_t cells = 0;

	for (uint32_t i = 0; i < V; i++) {
		const double want = p[i] * draws;

		if (p[i] == 0.0) {
			assert_int_equal(counts[i], 0);
		} else if (want < 8.0) {
			pooled_want += want;
			pooled_got += counts[i];
		} else {
			chi += (counts[i] - want) * (counts[i] - want) / want;
			cells++;
		}
	}
	if (pooled_want > 0.0) {
		chi += (pooled_got - pooled_want) * (pooled_got - pooled_want) /
		       fmax(pooled_want, 1.0);
		cells++;
	}
	if (cells < 2) {
		return 0.0;
	}

	const double v = 2.0 / (9.0 * (cells - 1));

	return (cbrt(chi / (cells - 1)) - (1.0 - v)) / sqrt(v);
}

static void check_distribution(struct bn_sampler_params p, const char *what)
{
	static const struct bn_logit_bias bias[] = { { 3, 4.0f }, { 7, -INFINITY }, { 3, 1.0f } };
	uint32_t history[100];
	float logits[V];
	double want[V];
	uint32_t counts[V] = { 0 };
	uint64_t x = 5;

	p.bias = bias;
	for (uint32_t i = 0; i < 100; i++) {
		history[i] = (uint32_t)(noise(&x) * 20.0);
	}
	random_logits(p.seed, logits, V);
	naive_distribution(&p, logits, history, 100, want);

	struct bn_sampler *s = make(&p, V);

	for (uint32_t i = 0; i < 100; i++) {
		bn_sampler_note(s, history[i]);
	}
	for (uint32_t i = 0; i < DRAWS; i++) {
		counts[draw(s, logits)]++;
	}
	bn_sampler_free(s);

	uint32_t support = 0;

	for (uint32_t i = 0; i < V; i++) {
		support += want[i] > 0.0;
		/* What the naive one can draw we must be able to draw. */
		assert_true(want[i] * DRAWS < 20.0 || counts[i] > 0);
	}

	const double off = surprise(counts, want, DRAWS);

	print_message("%-34s %3u candidates, %+.1f sigma\n", what, support, off);
	assert_true(off < 4.0);
}

static struct bn_sampler_params plain(uint64_t seed)
{
	struct bn_sampler_params p;

	bn_sampler_defaults(&p);
	p.seed = seed;
	return p;
}

static void draws_follow_the_naive_distribution(void **state)
{
	struct bn_sampler_params p;

	(void)state;
	check_distribution(plain(1), "temperature 1");
	p = plain(2);
	p.temperature = 0.3f;
	check_distribution(p, "temperature 0.3");
	p.temperature = 2.5f;
	check_distribution(p, "temperature 2.5");
	for (uint32_t k = 1; k <= 60; k += 13) {
		p = plain(k);
		p.top_k = k;
		check_distribution(p, "top_k");
	}
	for (int i = 0; i <= 10; i++) {
		p = plain((uint64_t)i + 20);
		p.top_p = (float)i / 10.0f;
		check_distribution(p, "top_p");
		p = plain((uint64_t)i + 40);
		p.min_p = (float)i / 10.0f;
		check_distribution(p, "min_p");
		p = plain((uint64_t)i + 60);
		p.typical_p = (float)i / 10.0f;
		check_distribution(p, "typical_p");
	}
	p = plain(80);
	p.repeat_penalty = 1.5f;
	p.presence_penalty = 0.4f;
	p.frequency_penalty = 0.2f;
	check_distribution(p, "penalties over 64");
	p.repeat_last_n = -1;
	check_distribution(p, "penalties over all");
	p.repeat_last_n = 0;
	check_distribution(p, "penalties over none");
	p.repeat_last_n = 7;
	p.frequency_penalty = -0.7f;
	check_distribution(p, "a negative penalty over 7");
	p = plain(90);
	p.n_bias = 3;
	check_distribution(p, "logit_bias");
	p.top_k = 50;
	p.typical_p = 0.9f;
	p.top_p = 0.9f;
	p.min_p = 0.02f;
	p.temperature = 1.3f;
	p.repeat_penalty = 1.2f;
	p.frequency_penalty = 0.1f;
	check_distribution(p, "everything together");
}

static void temperature_zero_takes_the_greatest_after_bias_and_penalties(void **state)
{
	uint64_t x = 11;

	(void)state;
	for (uint32_t round = 0; round < 200; round++) {
		struct bn_sampler_params p = plain(round);
		uint32_t history[300], n = 0;
		float logits[V];

		p.temperature = 0.0f;
		p.repeat_penalty = 1.0f + (float)noise(&x);
		p.frequency_penalty = (float)noise(&x) - 0.3f;
		p.presence_penalty = (float)noise(&x);
		p.repeat_last_n = (int32_t)(noise(&x) * 60.0) - 1;
		p.typical_p = 0.1f; /* idle, though it would drop the greatest */

		struct bn_sampler *s = make(&p, V);

		/* The window slides over 300 tokens of a generation that repeats itself a lot. */
		for (; n < 300; n++) {
			double want[V];
			struct bn_sampler_params sharp = p;

			random_logits(round, logits, V);
			sharp.temperature = 1e-3f;
			sharp.typical_p = 1.0f;
			sharp.top_k = 1;
			if (n % 10 == 0) {
				naive_distribution(&sharp, logits, history, n, want);
				assert_true(want[draw(s, logits)] > 0.5);
			}
			history[n] =
				noise(&x) < 0.5 ? draw(s, logits) : (uint32_t)(noise(&x) * 30.0);
			bn_sampler_note(s, history[n]);
		}
		bn_sampler_free(s);
	}
}

static void equal_logits_go_by_the_lower_id(void **state)
{
	float logits[V] = { 0 };
	struct bn_sampler_params p = plain(1);
	struct bn_sampler *s;

	(void)state;
	logits[50] = logits[20] = logits[90] = 2.0f;
	p.temperature = 0.0f;
	s = make(&p, V);
	assert_int_equal(draw(s, logits), 20);
	bn_sampler_free(s);

	/* top_k 5 of these is 20, 50, 90, 0, 1 */
	p.temperature = 100.0f;
	p.top_k = 5;
	s = make(&p, V);
	for (int i = 0; i < 1000; i++) {
		const uint32_t t = draw(s, logits);

		assert_true(t == 20 || t == 50 || t == 90 || t == 0 || t == 1);
	}
	bn_sampler_free(s);
}

static void a_seed_gives_the_same_tokens_for_ever(void **state)
{
	/* Recorded from the first version: the promise of sampler.h. A change here breaks users'
	 * seeds and must be in the CHANGELOG. */
	static const uint32_t recorded[16] = { 33,  21, 194, 67, 79,  168, 119, 31,
					       168, 88, 178, 33, 161, 33,  119, 19 };
	struct bn_sampler_params p = plain(42);
	float logits[V];

	(void)state;
	p.temperature = 0.9f;
	p.top_p = 0.95f;
	random_logits(42, logits, V);
	for (int round = 0; round < 2; round++) {
		struct bn_sampler *s = make(&p, V);

		for (int i = 0; i < 16; i++) {
			assert_int_equal(draw(s, logits), recorded[i]);
		}
		bn_sampler_free(s);
	}
}

static void one_number_is_drawn_for_each_token(void **state)
{
	/* A filter that leaves one candidate still uses up its number: what comes after it does not
	 * depend on how sure the model was. */
	struct bn_sampler_params p = plain(9);
	float flat[V] = { 0 }, sure[V] = { 0 };
	struct bn_sampler *a, *b;
	struct bn_sampled out;

	(void)state;
	sure[5] = 50.0f;
	p.top_p = 0.9f;
	a = make(&p, V);
	b = make(&p, V);
	draw(a, flat);
	assert_int_equal(draw(b, sure), 5);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(draw(a, flat), draw(b, flat));
	}
	/* and a fault uses none */
	sure[7] = NAN;
	assert_int_equal(bn_sampler_draw(b, sure, scratch, &out, NULL), BN_E_NUMERIC);
	assert_int_equal(draw(a, flat), draw(b, flat));
	bn_sampler_free(a);
	bn_sampler_free(b);
}

static void log_probabilities_are_the_models_own(void **state)
{
	struct bn_sampler_params p = plain(3);
	const struct bn_logit_bias bias = { 4, 5.0f };
	float logits[V];

	(void)state;
	p.n_top = BN_SAMPLER_LOGPROBS_MAX;
	p.temperature = 0.5f;
	p.top_k = 3;
	p.n_bias = 1;
	p.bias = &bias;
	for (uint32_t round = 0; round < 50; round++) {
		struct bn_sampled out;
		struct naive c = { .n = V };
		double sum = 0.0;

		p.seed = round;
		random_logits(round, logits, V);

		struct bn_sampler *s = make(&p, V);

		assert_int_equal(bn_sampler_draw(s, logits, scratch, &out, NULL), BN_OK);
		for (uint32_t i = 0; i < V; i++) {
			c.logit[i] = (double)logits[i];
			c.order[i] = i;
			sum += exp(c.logit[i]);
		}
		sort_candidates(&c, c.logit);
		assert_int_equal(out.n_top, BN_SAMPLER_LOGPROBS_MAX);
		for (uint32_t i = 0; i < out.n_top; i++) {
			assert_int_equal(out.top[i].token, c.order[i]);
			assert_true(fabs((double)out.top[i].logprob -
					 (c.logit[c.order[i]] - log(sum))) < 1e-6);
		}
		assert_true(fabs((double)out.logprob - (c.logit[out.token] - log(sum))) < 1e-6);
		bn_sampler_free(s);
	}
}

static void scores_that_are_no_numbers_are_an_error(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY };
	struct bn_sampler_params p = plain(1);
	struct bn_sampler *s = make(&p, V);
	struct bn_sampled out;
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		float logits[V] = { 0 };

		logits[123] = bad[i];
		assert_int_equal(bn_sampler_draw(s, logits, scratch, &out, &err), BN_E_NUMERIC);
		assert_non_null(strstr(err.text, "token 123"));
	}
	bn_sampler_free(s);
}

static void forbidding_every_token_is_an_error(void **state)
{
	struct bn_logit_bias bias[4];
	struct bn_sampler_params p = plain(1);
	const float logits[4] = { 1.0f, 2.0f, 3.0f, 4.0f };
	struct bn_sampled out;
	struct bn_error err;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		bias[i] = (struct bn_logit_bias){ i, -INFINITY };
	}
	p.bias = bias;
	p.n_bias = 4;
	for (int greedy = 0; greedy < 2; greedy++) {
		p.temperature = greedy ? 0.0f : 1.0f;

		struct bn_sampler *s = make(&p, 4);

		assert_int_equal(bn_sampler_draw(s, logits, scratch, &out, &err), BN_E_INVALID);
		assert_non_null(strstr(err.text, "logit_bias forbids every token"));
		bn_sampler_free(s);
	}
}

static void parameters_out_of_range_name_their_field(void **state)
{
	const struct bn_logit_bias far = { V, 0.0f }, nan = { 0, NAN };
	struct bn_sampler_params wrong[16];
	static const char *const fields[16] = {
		"temperature",
		"temperature",
		"temperature",
		"top_p",
		"top_p",
		"min_p",
		"typical_p",
		"repeat_penalty",
		"repeat_penalty",
		"presence_penalty",
		"frequency_penalty",
		"repeat_last_n",
		"logprobs",
		"logit_bias",
		"logit_bias",
		"logit_bias",
	};

	(void)state;
	for (size_t i = 0; i < 16; i++) {
		wrong[i] = plain(0);
	}
	wrong[0].temperature = -1.0f;
	wrong[1].temperature = NAN;
	wrong[2].temperature = INFINITY;
	wrong[3].top_p = 1.5f;
	wrong[4].top_p = NAN;
	wrong[5].min_p = -0.1f;
	wrong[6].typical_p = 2.0f;
	wrong[7].repeat_penalty = 0.0f;
	wrong[8].repeat_penalty = INFINITY;
	wrong[9].presence_penalty = NAN;
	wrong[10].frequency_penalty = -INFINITY;
	wrong[11].repeat_last_n = -2;
	wrong[12].n_top = 21;
	wrong[13].n_bias = 1;
	wrong[13].bias = &far;
	wrong[14].n_bias = 1;
	wrong[14].bias = &nan;
	wrong[15].n_bias = BN_SAMPLER_BIAS_MAX + 1;
	for (size_t i = 0; i < 16; i++) {
		struct bn_sampler *s = NULL;
		struct bn_error err;

		assert_int_equal(bn_sampler_new(&s, &wrong[i], V, 100, &err), BN_E_INVALID);
		assert_string_equal(err.data[0].key, "param");
		assert_string_equal(err.data[0].text, fields[i]);
		assert_null(s);
	}
}

static void large_vocabularies_and_extreme_logits_work(void **state)
{
	enum { BIG = 1 << 17 };
	static float logits[BIG];
	struct bn_sampler_params p = plain(4);
	struct bn_sampler *s;

	(void)state;
	random_logits(1, logits, BIG);
	p.top_p = 0.99f;
	s = make(&p, BIG);
	for (int i = 0; i < 5; i++) {
		assert_true(draw(s, logits) < BIG);
	}
	bn_sampler_free(s);

	/* One token 1e30 above the rest, temperature tiny: no overflow, no division by zero. */
	p.temperature = 1e-30f;
	logits[77] = 1e30f;
	s = make(&p, BIG);
	assert_int_equal(draw(s, logits), 77);
	bn_sampler_free(s);
	for (uint32_t i = 0; i < BIG; i++) {
		logits[i] = -1e38f;
	}
	s = make(&p, BIG);
	assert_true(draw(s, logits) < BIG);
	bn_sampler_free(s);
}

static void bytes_announced_cover_window_and_bias(void **state)
{
	struct bn_sampler_params p = plain(0);
	const uint64_t none = bn_sampler_bytes(&p, 100000);

	(void)state;
	p.repeat_penalty = 1.1f;

	const uint64_t window = bn_sampler_bytes(&p, 100000);

	p.repeat_last_n = -1;
	assert_true(window > none + 64 * sizeof(uint32_t));
	assert_true(bn_sampler_bytes(&p, 100000) > 100000 * (sizeof(uint32_t) + 8));
	p.n_bias = 100;
	assert_true(bn_sampler_bytes(&p, 10) >= none + 100 * sizeof(struct bn_logit_bias));
	bn_sampler_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_follow_the_naive_distribution),
		cmocka_unit_test(temperature_zero_takes_the_greatest_after_bias_and_penalties),
		cmocka_unit_test(equal_logits_go_by_the_lower_id),
		cmocka_unit_test(a_seed_gives_the_same_tokens_for_ever),
		cmocka_unit_test(one_number_is_drawn_for_each_token),
		cmocka_unit_test(log_probabilities_are_the_models_own),
		cmocka_unit_test(scores_that_are_no_numbers_are_an_error),
		cmocka_unit_test(forbidding_every_token_is_an_error),
		cmocka_unit_test(parameters_out_of_range_name_their_field),
		cmocka_unit_test(large_vocabularies_and_extreme_logits_work),
		cmocka_unit_test(bytes_announced_cover_window_and_bias),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
