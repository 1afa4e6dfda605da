#include "engine/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int64_t fact(const struct bn_error *err, const char *key)
{
	for (uint32_t i = 0; i < err->n_data; i++) {
		if (strcmp(err->data[i].key, key) == 0) {
			return err->data[i].number;
		}
	}
	return -1;
}

static void arena_gives_zeroed_aligned_memory_that_does_not_overlap(void **state)
{
	struct bn_arena a;
	unsigned char *p[200];

	(void)state;
	bn_arena_init(&a, 4096, 1 << 20);
	for (size_t i = 0; i < 200; i++) {
		p[i] = bn_arena_alloc(&a, i, 1, NULL);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % BN_ARENA_ALIGN, 0);
		for (size_t k = 0; k < i; k++) {
			assert_int_equal(p[i][k], 0);
		}
		memset(p[i], (int)i, i);
	}
	for (size_t i = 0; i < 200; i++) {
		for (size_t k = 0; k < i; k++) {
			assert_int_equal(p[i][k], i);
		}
	}
	bn_arena_finish(&a);
}

static void arena_counts_what_it_maps_and_never_passes_its_limit(void **state)
{
	struct bn_arena a;
	struct bn_error err;
	size_t before;

	(void)state;
	bn_arena_init(&a, 8192, 32768);
	assert_int_equal(bn_arena_bytes(&a), 0);
	assert_non_null(bn_arena_alloc(&a, 1, 100, NULL));
	assert_int_equal(bn_arena_bytes(&a), 8192);
	/* The chunk's first line is its own, the second holds the 100 bytes: this just fits, */
	assert_non_null(bn_arena_alloc(&a, 1, 8192 - 64 - 128, NULL));
	assert_int_equal(bn_arena_bytes(&a), 8192);
	/* and this needs another chunk. */
	assert_non_null(bn_arena_alloc(&a, 1, 1, NULL));
	assert_int_equal(bn_arena_bytes(&a), 16384);
	before = bn_arena_bytes(&a);
	assert_null(bn_arena_alloc(&a, 1, 20000, &err));
	assert_int_equal(err.status, BN_E_MEMORY);
	assert_int_equal(fact(&err, "need_bytes"), 20032);
	assert_int_equal(fact(&err, "limit_bytes"), 32768);
	assert_int_equal(bn_arena_bytes(&a), before);
	/* The refusal changed nothing: what fits still fits. */
	assert_non_null(bn_arena_alloc(&a, 1, 8000, NULL));
	while (bn_arena_alloc(&a, 1, 64, NULL) != NULL) {
		assert_true(bn_arena_bytes(&a) <= 32768);
	}
	bn_arena_finish(&a);
	assert_int_equal(bn_arena_bytes(&a), 0);
}

static void arena_gives_a_large_object_a_chunk_of_its_own(void **state)
{
	struct bn_arena a;
	char *p;

	(void)state;
	bn_arena_init(&a, 4096, 1 << 24);
	p = bn_arena_alloc(&a, 3, 1 << 20, NULL);
	assert_non_null(p);
	memset(p, 1, 3 << 20);
	assert_true(bn_arena_bytes(&a) >= 3 << 20);
	assert_true(bn_arena_bytes(&a) < (3 << 20) + 8192);
	bn_arena_finish(&a);
}

static void arena_aligns_large_chunks_for_huge_pages(void **state)
{
	struct bn_arena a;
	char *p;

	(void)state;
	bn_arena_init(&a, 5 * (size_t)BN_ARENA_HUGE, 5 * (size_t)BN_ARENA_HUGE);
	p = bn_arena_alloc(&a, 1, 4 * (size_t)BN_ARENA_HUGE, NULL);
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % BN_ARENA_HUGE, BN_ARENA_ALIGN);
	assert_int_equal(bn_arena_bytes(&a), 5 * (size_t)BN_ARENA_HUGE);
	p[0] = 1;
	p[4 * (size_t)BN_ARENA_HUGE - 1] = 1;
	bn_arena_finish(&a);
}

static void arena_need_is_enough_for_any_order_of_allocations(void **state)
{
	const size_t sizes[] = { 1, 63, 64, 65, 4000, 1, 100000, 7 };
	size_t total = 0, n = sizeof(sizes) / sizeof(sizes[0]), need;
	struct bn_arena a;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		total += sizes[i];
	}
	need = bn_arena_need(total, n);
	for (size_t first = 0; first < n; first++) {
		bn_arena_init(&a, need, need);
		for (size_t i = 0; i < n; i++) {
			assert_non_null(bn_arena_alloc(&a, 1, sizes[(first + i) % n], NULL));
		}
		assert_true(bn_arena_bytes(&a) <= need);
		bn_arena_finish(&a);
	}
	assert_int_equal(bn_arena_need(SIZE_MAX - 10, 1), SIZE_MAX);
	assert_int_equal(bn_arena_need(1, SIZE_MAX / 2), SIZE_MAX);
}

static void arena_refuses_sizes_that_overflow(void **state)
{
	struct bn_arena a;
	struct bn_error err;

	(void)state;
	bn_arena_init(&a, 4096, SIZE_MAX);
	assert_null(bn_arena_alloc(&a, SIZE_MAX / 2, 3, &err));
	assert_int_equal(err.status, BN_E_MEMORY);
	assert_null(bn_arena_alloc(&a, 1, SIZE_MAX, &err));
	assert_int_equal(err.status, BN_E_MEMORY);
	assert_null(bn_arena_alloc(&a, 1, SIZE_MAX - 63, &err));
	assert_int_equal(err.status, BN_E_MEMORY);
	/* Below every limit of ours, above what the address space has. */
	assert_null(bn_arena_alloc(&a, 1, (size_t)1 << 62, &err));
	assert_int_equal(err.status, BN_E_MEMORY);
	assert_int_equal(bn_arena_bytes(&a), 0);
	assert_non_null(bn_arena_alloc(&a, 1, 1, NULL));
	bn_arena_finish(&a);
}

static void arena_may_be_finished_twice_or_unused(void **state)
{
	struct bn_arena a = { 0 };

	(void)state;
	bn_arena_finish(NULL);
	bn_arena_finish(&a);
	bn_arena_init(&a, 4096, 4096);
	bn_arena_finish(&a);
	bn_arena_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_gives_zeroed_aligned_memory_that_does_not_overlap),
		cmocka_unit_test(arena_counts_what_it_maps_and_never_passes_its_limit),
		cmocka_unit_test(arena_gives_a_large_object_a_chunk_of_its_own),
		cmocka_unit_test(arena_aligns_large_chunks_for_huge_pages),
		cmocka_unit_test(arena_need_is_enough_for_any_order_of_allocations),
		cmocka_unit_test(arena_refuses_sizes_that_overflow),
		cmocka_unit_test(arena_may_be_finished_twice_or_unused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
