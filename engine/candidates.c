#include "engine/candidates.h"

#include "engine/numbers.h"

#include <math.h>
#include <stdbool.h>

/* The total order: greater logit first, then lower id. */
static bool before(const struct bn_candidate *a, const struct bn_candidate *b)
{
	return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

/* Heaps of candidates [n] with the *last* of the order (worst) or the *first* (best) at the root.
 */
static bool above(const struct bn_candidate *a, const struct bn_candidate *b, bool worst)
{
	return worst ? before(b, a) : before(a, b);
}

static void sift_down(struct bn_candidate *heap, uint32_t n, uint32_t i, bool worst)
{
	const struct bn_candidate moved = heap[i];

	for (;;) {
		uint64_t child = 2 * (uint64_t)i + 1;

		if (child >= n) {
			break;
		}
		if (child + 1 < n && above(&heap[child + 1], &heap[child], worst)) {
			child++;
		}
		if (!above(&heap[child], &moved, worst)) {
			break;
		}
		heap[i] = heap[child];
		i = (uint32_t)child;
	}
	heap[i] = moved;
}

static void heapify(struct bn_candidate *heap, uint32_t n, bool worst)
{
	for (uint32_t i = n / 2; i-- > 0;) {
		sift_down(heap, n, i, worst);
	}
}

/* Sorts a heap of the worst into order, best first. */
static void sort_heap(struct bn_candidate *heap, uint32_t n)
{
	while (n > 1) {
		const struct bn_candidate last = heap[0];

		n--;
		heap[0] = heap[n];
		heap[n] = last;
		sift_down(heap, n, 0, true);
	}
}

uint32_t bn_candidates_keep_top_k(struct bn_candidate *c, uint32_t n, uint32_t k)
{
	heapify(c, k, true);
	for (uint32_t i = k; i < n; i++) {
		if (before(&c[i], &c[0])) {
			const struct bn_candidate out = c[0];

			c[0] = c[i];
			c[i] = out;
			sift_down(c, k, 0, true);
		}
	}
	sort_heap(c, k);
	return k;
}

/* Candidates whose order is asked for one by one. The taken ones lie at the end in reverse, where a
 * heap sort leaves them; the others are a heap of the best at the front. */
struct queue {
	struct bn_candidate *c;
	uint32_t n;     /* all            */
	uint32_t taken; /* from the heap  */
};

static const struct bn_candidate *queue_next(struct queue *q)
{
	const uint32_t left = q->n - q->taken;
	const struct bn_candidate best = q->c[0];

	q->c[0] = q->c[left - 1];
	q->c[left - 1] = best;
	q->taken++;
	if (left > 1) {
		sift_down(q->c, left - 1, 0, false);
	}
	return &q->c[left - 1];
}

/* Brings the taken ones to the front, best first; returns their number. */
static uint32_t queue_finish(struct queue *q)
{
	for (uint32_t i = 0, j = q->n - 1; i < j; i++, j--) {
		const struct bn_candidate swap = q->c[i];

		q->c[i] = q->c[j];
		q->c[j] = swap;
	}
	return q->taken;
}

struct bn_candidate bn_candidates_first(const struct bn_candidate *c, uint32_t n)
{
	struct bn_candidate best = c[0];

	for (uint32_t i = 1; i < n; i++) {
		if (before(&c[i], &best)) {
			best = c[i];
		}
	}
	return best;
}

double bn_candidates_mass(const struct bn_candidate *c, uint32_t n, float max)
{
	double sum = 0.0;

	for (uint32_t i = 0; i < n; i++) {
		sum += bn_numbers_exp((double)c[i].logit - (double)max);
	}
	return sum;
}

uint32_t bn_candidates_keep_typical(struct bn_candidate *c, uint32_t n, float max, float typical_p,
				    bn_logit_of logit_of, const void *who)
{
	const double norm = (double)max + bn_numbers_log(bn_candidates_mass(c, n, max));
	double entropy = 0.0, cumulative = 0.0;
	struct queue q = { .c = c, .n = n };
	uint32_t kept;

	for (uint32_t i = 0; i < n; i++) {
		const double log_p = (double)c[i].logit - norm;

		entropy -= bn_numbers_exp(log_p < 0.0 ? log_p : 0.0) * log_p;
	}
	for (uint32_t i = 0; i < n; i++) {
		c[i].logit = (float)-fabs(norm - (double)c[i].logit - entropy);
	}
	heapify(c, n, false);
	do {
		const double log_p = (double)logit_of(who, queue_next(&q)->token) - norm;

		cumulative += bn_numbers_exp(log_p < 0.0 ? log_p : 0.0);
	} while (q.taken < n && cumulative < (double)typical_p);
	kept = queue_finish(&q);
	for (uint32_t i = 0; i < kept; i++) {
		c[i].logit = logit_of(who, c[i].token);
	}
	return kept;
}

uint32_t bn_candidates_keep_top_p(struct bn_candidate *c, uint32_t n, float max, float top_p)
{
	const double want = (double)top_p * bn_candidates_mass(c, n, max);
	struct queue q = { .c = c, .n = n };
	double cumulative = 0.0;

	heapify(c, n, false);
	do {
		cumulative += bn_numbers_exp((double)queue_next(&q)->logit - (double)max);
	} while (q.taken < n && cumulative < want);
	return queue_finish(&q);
}

uint32_t bn_candidates_keep_min_p(struct bn_candidate *c, uint32_t n, float max, float min_p)
{
	/* p >= min_p * max p */
	const double least = (double)max + bn_numbers_log((double)min_p);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		if ((double)c[i].logit >= least || c[i].logit == max) {
			c[kept++] = c[i];
		}
	}
	return kept;
}
