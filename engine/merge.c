#include "engine/merge.h"

#include "proto/assert.h"

#include <stdlib.h>

/*
 * The heap holds (rank, place of the left symbol) in one integer, so that the smallest is the
 * best and leftmost pair. Joining changes the pairs around it; their old entries stay in the heap
 * and are recognised when they come up, because the symbol's rank is another by then (or the same,
 * and then the entry is as good as the newer one). Each join pops one entry and adds at most two,
 * and there are fewer joins than symbols, so 2 n entries are enough.
 */

enum { POLL_MASK = 4095 };

enum bn_status bn_merge_reserve(struct bn_merger *m, uint32_t symbols, struct bn_error *err)
{
	struct bn_symbol *s;
	uint64_t *heap;

	if (symbols <= m->capacity) {
		return BN_OK;
	}
	s = realloc(m->symbols, symbols * sizeof(*s));
	if (s != NULL) {
		m->symbols = s;
	}
	heap = realloc(m->heap, 2 * (size_t)symbols * sizeof(*heap));
	if (heap != NULL) {
		m->heap = heap;
	}
	if (s == NULL || heap == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to merge %u symbols", symbols);
	}
	m->capacity = symbols;
	return BN_OK;
}

void bn_merge_add(struct bn_merger *m, uint32_t start, uint32_t bytes, uint32_t id)
{
	uint32_t i = m->n;

	bn_assert(i < m->capacity);
	m->symbols[i] = (struct bn_symbol){
		.start = start,
		.bytes = bytes,
		.id = id,
		.rank = BN_MERGE_NONE,
		.joined = BN_MERGE_NONE,
		.previous = i == 0 ? BN_MERGE_NONE : i - 1,
		.next = BN_MERGE_NONE,
	};
	if (i > 0) {
		m->symbols[i - 1].next = i;
	}
	m->n++;
}

static void push(struct bn_merger *m, uint64_t entry)
{
	uint32_t i = m->n_heap++;

	while (i > 0) {
		uint32_t parent = (i - 1) / 2;

		if (m->heap[parent] <= entry) {
			break;
		}
		m->heap[i] = m->heap[parent];
		i = parent;
	}
	m->heap[i] = entry;
}

static uint64_t pop(struct bn_merger *m)
{
	uint64_t top = m->heap[0];
	uint64_t last = m->heap[--m->n_heap];
	uint32_t i = 0;

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= m->n_heap) {
			break;
		}
		if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child]) {
			child++;
		}
		if (last <= m->heap[child]) {
			break;
		}
		m->heap[i] = m->heap[child];
		i = child;
	}
	m->heap[i] = last;
	return top;
}

/* Asks about the pair that starts at symbol i and enters it. */
static void consider(struct bn_merger *m, uint32_t i, bn_merge_pair pair, const void *who)
{
	struct bn_symbol *left = &m->symbols[i];

	left->rank = BN_MERGE_NONE;
	if (left->next == BN_MERGE_NONE) {
		return;
	}
	m->pairs++;
	if (pair(who, left, &m->symbols[left->next], &left->rank, &left->joined)) {
		push(m, (uint64_t)left->rank << 32 | i);
	} else {
		left->rank = BN_MERGE_NONE;
	}
}

static void join(struct bn_merger *m, struct bn_symbol *left)
{
	struct bn_symbol *right = &m->symbols[left->next];

	left->bytes += right->bytes;
	left->id = left->joined;
	left->next = right->next;
	right->rank = BN_MERGE_NONE; /* dead: its entries match no more */
	if (right->next != BN_MERGE_NONE) {
		m->symbols[right->next].previous = (uint32_t)(left - m->symbols);
	}
}

enum bn_status bn_merge_run(struct bn_merger *m, bn_merge_pair pair, const void *who,
			    struct bn_error *err)
{
	m->n_heap = 0;
	for (uint32_t i = 0; i + 1 < m->n; i++) {
		consider(m, i, pair, who);
	}
	for (uint32_t round = 1; m->n_heap > 0; round++) {
		uint64_t best = pop(m);
		uint32_t i = (uint32_t)best;
		struct bn_symbol *left = &m->symbols[i];

		if ((round & POLL_MASK) == 0 && m->cancel != NULL &&
		    atomic_load_explicit(m->cancel, memory_order_relaxed)) {
			return bn_fail(err, BN_E_CANCELLED, "cancelled while tokenizing");
		}
		if (left->rank != (uint32_t)(best >> 32)) {
			continue;
		}
		join(m, left);
		consider(m, i, pair, who);
		if (left->previous != BN_MERGE_NONE) {
			consider(m, left->previous, pair, who);
		}
	}
	return BN_OK;
}

void bn_merge_finish(struct bn_merger *m)
{
	free(m->symbols);
	free(m->heap);
	*m = (struct bn_merger){ 0 };
}
