/* Orders and sets; that the filters keep the right probabilities is judged in test_sampler.c. */
#include "engine/candidates.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 500 };

static int by_order(const void *a, const void *b)
{
	const struct bn_candidate *x = a, *y = b;

	if (x->logit != y->logit) {
		return x->logit > y->logit ? -1 : 1;
	}
	return x->token < y->token ? -1 : 1;
}

/* Few distinct logits, so that ties are the rule. */
static void random_candidates(struct bn_candidate *c, uint32_t n, int distinct)
{
	for (uint32_t i = 0; i < n; i++) {
		c[i] = (struct bn_candidate){ (float)(rand() % distinct) / 7.0f - 3.0f, i };
	}
}

static float logit_at(const void *who, uint32_t token)
{
	return ((const struct bn_candidate *)who)[token].logit;
}

static void top_k_is_the_front_of_the_sorted_whole_for_every_k(void **state)
{
	(void)state;
	srand(3);
	for (uint32_t k = 1; k <= N; k += 1 + k / 10) {
		struct bn_candidate c[N], sorted[N];

		random_candidates(c, N, k % 2 == 0 ? 10 : 100000);
		memcpy(sorted, c, sizeof(c));
		qsort(sorted, N, sizeof(sorted[0]), by_order);
		assert_int_equal(bn_candidates_first(c, N).token, sorted[0].token);
		assert_int_equal(bn_candidates_keep_top_k(c, N, k), k);
		assert_memory_equal(c, sorted, k * sizeof(c[0]));
	}
}

static void filters_keep_a_prefix_of_their_order_and_never_nothing(void **state)
{
	static const float shares[] = { 0.0f, 0.01f, 0.3f, 0.9f, 0.9999f, 1.0f };

	(void)state;
	srand(4);
	for (size_t i = 0; i < 6; i++) {
		for (uint32_t n = 1; n <= N; n += 37) {
			struct bn_candidate c[N], sorted[N], original[N];
			uint32_t kept;

			random_candidates(original, n, i % 2 == 0 ? 5 : 100000);
			memcpy(sorted, original, sizeof(c));
			qsort(sorted, n, sizeof(sorted[0]), by_order);

			const float max = sorted[0].logit;

			memcpy(c, original, sizeof(c));
			kept = bn_candidates_keep_top_p(c, n, max, shares[i]);
			assert_in_range(kept, 1, n);
			assert_memory_equal(c, sorted, kept * sizeof(c[0]));

			memcpy(c, original, sizeof(c));
			kept = bn_candidates_keep_min_p(c, n, max, shares[i] + 1e-6f);
			assert_in_range(kept, 1, n);
			for (uint32_t j = 1; j < kept; j++) {
				assert_true(c[j].token > c[j - 1].token);
			}

			memcpy(c, original, sizeof(c));
			kept = bn_candidates_keep_typical(c, n, max, shares[i], logit_at, original);
			assert_in_range(kept, 1, n);
			for (uint32_t j = 0; j < kept; j++) {
				/* each once, with its own logit again */
				assert_true(c[j].logit == original[c[j].token].logit);
				original[c[j].token].logit = NAN;
			}
		}
	}
}

static void mass_counts_every_candidate(void **state)
{
	const struct bn_candidate c[] = { { 1.0f, 0 }, { 1.0f, 1 }, { 0.0f, 2 }, { -1e30f, 3 } };

	(void)state;
	assert_true(fabs(bn_candidates_mass(c, 4, 1.0f) - (2.0 + exp(-1.0))) < 1e-14);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(top_k_is_the_front_of_the_sorted_whole_for_every_k),
		cmocka_unit_test(filters_keep_a_prefix_of_their_order_and_never_nothing),
		cmocka_unit_test(mass_counts_every_candidate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
