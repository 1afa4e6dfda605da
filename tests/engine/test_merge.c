/* The merge loop: order, cost and cancelling, against a slow loop that obviously does the right
 * thing. */
#include "engine/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IDS = 24 };

/* A random world: ranks [left][right], tokens they give. */
struct world {
	uint32_t rank[IDS][IDS];
	uint32_t joined[IDS][IDS];
};

static bool pair(const void *who, const struct bn_symbol *left, const struct bn_symbol *right,
		 uint32_t *rank, uint32_t *joined)
{
	const struct world *w = who;

	if (w->rank[left->id][right->id] == BN_MERGE_NONE) {
		return false;
	}
	*rank = w->rank[left->id][right->id];
	*joined = w->joined[left->id][right->id];
	return true;
}

static uint32_t seed = 7;

static uint32_t random_below(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* Looks at all pairs each time: lowest rank, leftmost. Returns the new length. */
static size_t slowly(const struct world *w, uint32_t *ids, size_t n)
{
	for (;;) {
		size_t best = n;
		uint32_t best_rank = BN_MERGE_NONE;

		for (size_t i = 0; i + 1 < n; i++) {
			if (w->rank[ids[i]][ids[i + 1]] < best_rank) {
				best = i;
				best_rank = w->rank[ids[i]][ids[i + 1]];
			}
		}
		if (best == n) {
			return n;
		}
		ids[best] = w->joined[ids[best]][ids[best + 1]];
		memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof(*ids));
		n--;
	}
}

static void merge_joins_the_best_pair_leftmost_first(void **state)
{
	struct bn_merger m = { 0 };

	(void)state;
	assert_int_equal(bn_merge_reserve(&m, 64, NULL), BN_OK);
	for (unsigned round = 0; round < 20000; round++) {
		struct world w;
		uint32_t ids[64];
		size_t n = 1 + random_below(64);
		uint32_t ranks = 1 + random_below(30); /* few ranks: many ties */
		size_t left;
		size_t covered = 0;

		for (size_t a = 0; a < IDS; a++) {
			for (size_t b = 0; b < IDS; b++) {
				w.rank[a][b] =
					random_below(4) ? random_below(ranks) : BN_MERGE_NONE;
				w.joined[a][b] = random_below(IDS);
			}
		}
		m.n = 0;
		m.pairs = 0;
		for (size_t i = 0; i < n; i++) {
			ids[i] = random_below(IDS);
			bn_merge_add(&m, (uint32_t)i, 1, ids[i]);
		}
		assert_int_equal(bn_merge_run(&m, pair, &w, NULL), BN_OK);
		left = slowly(&w, ids, n);
		for (uint32_t i = 0; i != BN_MERGE_NONE; i = m.symbols[i].next) {
			assert_true(left > 0);
			assert_int_equal(m.symbols[i].start, covered);
			covered += m.symbols[i].bytes;
			left--;
		}
		assert_int_equal(left, 0);
		assert_int_equal(covered, n);
		left = 0;
		for (uint32_t i = 0; i != BN_MERGE_NONE; i = m.symbols[i].next) {
			assert_int_equal(m.symbols[i].id, ids[left++]);
		}
		assert_true(m.pairs <= 3 * n);
	}
	bn_merge_finish(&m);
}

static bool always(const void *who, const struct bn_symbol *left, const struct bn_symbol *right,
		   uint32_t *rank, uint32_t *joined)
{
	(void)right;
	*rank = who == NULL ? 0 : left->start % 977;
	*joined = 1;
	return true;
}

/* The bound behind "O(n log n)": questions asked and heap entries are linear in the text. */
static void merge_asks_at_most_three_times_per_symbol(void **state)
{
	struct bn_merger m = { 0 };
	static const char varied = 0;

	(void)state;
	for (uint32_t n = 1; n <= 1 << 18; n *= 4) {
		assert_int_equal(bn_merge_reserve(&m, n, NULL), BN_OK);
		for (int pass = 0; pass < 2; pass++) {
			m.n = 0;
			m.pairs = 0;
			for (uint32_t i = 0; i < n; i++) {
				bn_merge_add(&m, i, 1, 0);
			}
			assert_int_equal(bn_merge_run(&m, always, pass == 0 ? NULL : &varied, NULL),
					 BN_OK);
			assert_int_equal(m.symbols[0].bytes, n);
			assert_true(m.pairs <= 3 * (uint64_t)n);
		}
	}
	bn_merge_finish(&m);
}

static void merge_stops_when_cancelled(void **state)
{
	struct bn_merger m = { 0 };
	atomic_bool cancel = true;
	struct bn_error err;

	(void)state;
	m.cancel = &cancel;
	assert_int_equal(bn_merge_reserve(&m, 10000, NULL), BN_OK);
	for (uint32_t i = 0; i < 10000; i++) {
		bn_merge_add(&m, i, 1, 0);
	}
	assert_int_equal(bn_merge_run(&m, always, NULL, &err), BN_E_CANCELLED);
	bn_merge_finish(&m);
	bn_merge_finish(&m);
}

static void merge_of_nothing_is_nothing(void **state)
{
	struct bn_merger m = { 0 };

	(void)state;
	assert_int_equal(bn_merge_run(&m, always, NULL, NULL), BN_OK);
	assert_int_equal(m.n, 0);
	bn_merge_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merge_joins_the_best_pair_leftmost_first),
		cmocka_unit_test(merge_asks_at_most_three_times_per_symbol),
		cmocka_unit_test(merge_stops_when_cancelled),
		cmocka_unit_test(merge_of_nothing_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
