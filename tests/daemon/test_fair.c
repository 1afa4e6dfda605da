#include "daemon/fair.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Jain's index of the normalised shares: 1 is perfectly fair, 1/n is one taking all. */
static double jain(const double *x, size_t n)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < n; i++) {
		sum += x[i];
		squares += x[i] * x[i];
	}
	return sum * sum / ((double)n * squares);
}

static void fair_picks_nobody_when_nobody_is_active(void **state)
{
	struct bn_fair f;
	struct bn_fair_party p = { 0 };

	(void)state;
	bn_fair_init(&f);
	assert_null(bn_fair_pick(&f));
	bn_fair_sleep(&f, &p);
	bn_fair_wake(&f, &p, 1);
	assert_ptr_equal(bn_fair_pick(&f), &p);
	bn_fair_sleep(&f, &p);
	assert_null(bn_fair_pick(&f));
}

static void fair_takes_turns_among_equals(void **state)
{
	struct bn_fair f;
	struct bn_fair_party p[3] = { 0 };

	(void)state;
	bn_fair_init(&f);
	for (int i = 0; i < 3; i++) {
		bn_fair_wake(&f, &p[i], 1);
	}
	for (int turn = 0; turn < 9; turn++) {
		assert_ptr_equal(bn_fair_pick(&f), &p[turn % 3]);
		bn_fair_charge(&f, bn_fair_pick(&f), 10);
	}
}

static void fair_order_of_everybody_is_by_virtual_time(void **state)
{
	struct bn_fair f;
	struct bn_fair_party p[4] = { 0 };
	struct bn_fair_party *next;
	static const uint64_t cost[] = { 30, 10, 30, 0 };
	static const int order[] = { 3, 1, 0, 2 };

	(void)state;
	bn_fair_init(&f);
	for (int i = 0; i < 4; i++) {
		bn_fair_wake(&f, &p[i], 1);
	}
	for (int i = 0; i < 4; i++) {
		bn_fair_charge(&f, &p[i], cost[i]);
	}
	next = bn_fair_pick(&f);
	for (int i = 0; i < 4; i++) {
		assert_ptr_equal(next, &p[order[i]]);
		next = bn_fair_pick_after(&f, next);
	}
	assert_null(next);
}

/* Steps of random length, those of one party ten times longer: the shares are as weighted. */
static void fair_shares_are_as_weighted_in_a_simulation(void **state)
{
	enum { N = 8 };
	struct bn_fair f;
	struct bn_fair_party p[N] = { 0 };
	static const uint32_t weight[N] = { 1, 1, 1, 1, 2, 2, 5, 1 };
	double share[N] = { 0 };

	(void)state;
	srand(7);
	bn_fair_init(&f);
	for (int i = 0; i < N; i++) {
		bn_fair_wake(&f, &p[i], weight[i]);
	}
	for (int step = 0; step < 100000; step++) {
		struct bn_fair_party *next = bn_fair_pick(&f);
		int i = (int)(next - p);
		uint64_t cost = (uint64_t)(rand() % 1000 + 1) * (i == 7 ? 10 : 1);

		bn_fair_charge(&f, next, cost);
		share[i] += (double)cost / weight[i];
	}
	assert_true(jain(share, N) > 0.9999);
}

/* Without the lift, whoever slept would take the processor alone until it had caught up. */
static void fair_sleep_earns_no_credit(void **state)
{
	struct bn_fair f;
	struct bn_fair_party busy = { 0 }, late = { 0 };
	uint64_t late_got = 0;

	(void)state;
	bn_fair_init(&f);
	bn_fair_wake(&f, &late, 1);
	bn_fair_sleep(&f, &late);
	bn_fair_wake(&f, &busy, 1);
	for (int i = 0; i < 1000; i++) {
		bn_fair_charge(&f, bn_fair_pick(&f), 100);
	}
	bn_fair_wake(&f, &late, 1);
	for (int i = 0; i < 100; i++) {
		struct bn_fair_party *next = bn_fair_pick(&f);

		late_got += next == &late ? 100 : 0;
		bn_fair_charge(&f, next, 100);
	}
	assert_in_range(late_got, 4900, 5100);
}

/*
 * Going to sleep and coming back after every turn served must not wash a debt away either. The
 * index is not 1: a sleeper loses up to one charge of the others each time. Forgetting gives 0.69.
 */
static void fair_debt_is_not_forgotten_by_sleeping(void **state)
{
	struct bn_fair f;
	struct bn_fair_party sly = { 0 }, honest = { 0 };
	double got[2] = { 0 };

	(void)state;
	bn_fair_init(&f);
	bn_fair_wake(&f, &honest, 1);
	for (int i = 0; i < 10000; i++) {
		struct bn_fair_party *next;

		bn_fair_wake(&f, &sly, 1);
		next = bn_fair_pick(&f);
		bn_fair_charge(&f, next, next == &sly ? 500 : 100);
		got[next == &sly] += next == &sly ? 500 : 100;
		if (next == &sly) {
			bn_fair_sleep(&f, &sly);
		}
	}
	assert_true(jain(got, 2) > 0.99);
}

/* After everybody slept, the next ones start level, whoever they are. */
static void fair_newcomer_after_an_idle_time_has_no_advantage(void **state)
{
	struct bn_fair f;
	struct bn_fair_party old = { 0 }, fresh = { 0 };
	double got[2] = { 0 };

	(void)state;
	bn_fair_init(&f);
	bn_fair_wake(&f, &old, 1);
	bn_fair_charge(&f, &old, 1000000);
	bn_fair_sleep(&f, &old);
	bn_fair_wake(&f, &fresh, 1);
	bn_fair_wake(&f, &old, 1);
	for (int i = 0; i < 100; i++) {
		struct bn_fair_party *next = bn_fair_pick(&f);

		got[next == &old]++;
		bn_fair_charge(&f, next, 10);
	}
	assert_true(jain(got, 2) > 0.999);
}

/* 7 does not divide 10: what one division drops, the next one has. */
static void fair_rounding_loses_nothing(void **state)
{
	struct bn_fair f;
	struct bn_fair_party p = { 0 };

	(void)state;
	bn_fair_init(&f);
	bn_fair_wake(&f, &p, 7);
	for (int i = 0; i < 70000; i++) {
		bn_fair_charge(&f, &p, 10);
	}
	assert_int_equal(p.vtime, 100000);
}

static void fair_late_charge_reaches_a_sleeper(void **state)
{
	struct bn_fair f;
	struct bn_fair_party a = { 0 }, b = { 0 };

	(void)state;
	bn_fair_init(&f);
	bn_fair_wake(&f, &a, 1);
	bn_fair_wake(&f, &b, 1);
	bn_fair_sleep(&f, &a);
	bn_fair_charge(&f, &a, 50);
	bn_fair_wake(&f, &a, 1);
	assert_ptr_equal(bn_fair_pick(&f), &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fair_picks_nobody_when_nobody_is_active),
		cmocka_unit_test(fair_takes_turns_among_equals),
		cmocka_unit_test(fair_order_of_everybody_is_by_virtual_time),
		cmocka_unit_test(fair_shares_are_as_weighted_in_a_simulation),
		cmocka_unit_test(fair_sleep_earns_no_credit),
		cmocka_unit_test(fair_debt_is_not_forgotten_by_sleeping),
		cmocka_unit_test(fair_newcomer_after_an_idle_time_has_no_advantage),
		cmocka_unit_test(fair_rounding_loses_nothing),
		cmocka_unit_test(fair_late_charge_reaches_a_sleeper),
	};

	return cmocka_run_group_tests_name("daemon/fair", tests, NULL, NULL);
}
