/*
 * Three choices that a reader may wonder about.
 *
 * A heap instead of a sort. The sorted filters look at the most probable few hundred of 128 k
 * candidates; a heap is built in O(vocab) and gives them in order, log(vocab) each. With top_k a
 * bounded heap holds k candidates and the rest is compared with its root once.
 *
 * exp and log of our own. The seed promise must not depend on a libm; both are within 2 ulp, made
 * of operations that IEEE 754 rounds the same everywhere.
 *
 * Token counts in a hash table. The penalties look back over up to the whole context, and counting
 * it anew for each token would make long generations quadratic. A ring of the last tokens says
 * which one leaves the window.
 */
#include "engine/sampler.h"

#include "proto/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY UINT32_MAX

/* How often a token is in the window. */
struct count {
	uint32_t token; /* EMPTY: a free place */
	uint32_t n;
};

struct bn_sampler {
	struct bn_sampler_params params; /* bias points into our own block */
	uint64_t rng[4];
	uint32_t vocab;
	uint32_t window;  /* tokens in `ring`; 0: no penalties       */
	uint32_t n_noted; /* of them present                         */
	uint32_t next;    /* place of the next one                   */
	uint32_t mask;    /* places in `counts` - 1                  */
	uint32_t *ring;
	struct count *counts;
	struct bn_logit_bias *bias;
};

/* ---- numbers ------------------------------------------------------------------------------- */

/* e^x for x <= 0; 0 below -700. Argument reduction after Cody and Waite, then Taylor to degree 13:
 * the remainder at |r| <= ln2/2 is 4e-18. */
static double exp_of(double x)
{
	static const double c[] = {
		1.0 / 6227020800.0,
		1.0 / 479001600.0,
		1.0 / 39916800.0,
		1.0 / 3628800.0,
		1.0 / 362880.0,
		1.0 / 40320.0,
		1.0 / 5040.0,
		1.0 / 720.0,
		1.0 / 120.0,
		1.0 / 24.0,
		1.0 / 6.0,
		0.5,
		1.0,
		1.0,
	};
	const double round = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
	double k, r, p = 0.0;
	union {
		uint64_t bits;
		double value;
	} scale;

	if (!(x > -700.0)) {
		return 0.0;
	}
	k = (x * 1.4426950408889634 + round) - round;
	r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		p = p * r + c[i];
	}
	scale.bits = (uint64_t)(1023 + (int64_t)k) << 52;
	return p * scale.value;
}

/* ln x for normal x > 0: x = m 2^e with m in [1/sqrt 2, sqrt 2), ln m = 2 artanh((m-1)/(m+1)). */
static double log_of(double x)
{
	union {
		uint64_t bits;
		double value;
	} u = { .value = x };
	int64_t e = (int64_t)(u.bits >> 52) - 1023;
	double s, s2, p = 0.0;

	u.bits = (u.bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1023) << 52);
	if (u.value > 1.4142135623730951) {
		u.value *= 0.5;
		e++;
	}
	s = (u.value - 1.0) / (u.value + 1.0);
	s2 = s * s;
	for (int i = 23; i >= 3; i -= 2) {
		p = (p + 1.0 / (double)i) * s2;
	}
	return (double)e * 1.90821492927058770002e-10 +
	       (2.0 * (s + s * p) + (double)e * 6.93147180369123816490e-01);
}

static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

/* xoshiro256**, public domain (prng.di.unimi.it); uniform in [0, 1) with 53 bits. */
static double uniform(uint64_t s[4])
{
	const uint64_t result = rotate(s[1] * 5, 7) * 9;
	const uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return (double)(result >> 11) * 0x1.0p-53;
}

/* ---- parameters ---------------------------------------------------------------------------- */

void bn_sampler_defaults(struct bn_sampler_params *params)
{
	*params = (struct bn_sampler_params){
		.temperature = 1.0f,
		.top_p = 1.0f,
		.typical_p = 1.0f,
		.repeat_penalty = 1.0f,
		.repeat_last_n = 64,
	};
}

static enum bn_status refuse(struct bn_error *err, const char *param, const char *rule,
			     double value)
{
	bn_fail(err, BN_E_INVALID, "%s must be %s, is %g", param, rule, value);
	bn_error_string(err, "param", param);
	return BN_E_INVALID;
}

static enum bn_status check(const struct bn_sampler_params *p, uint32_t vocab, struct bn_error *err)
{
	const struct {
		const char *param;
		float value;
	} shares[] = {
		{ "top_p", p->top_p },
		{ "min_p", p->min_p },
		{ "typical_p", p->typical_p },
	};

	if (!isfinite(p->temperature) || p->temperature < 0.0f) {
		return refuse(err, "temperature", "finite and not negative",
			      (double)p->temperature);
	}
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		if (!(shares[i].value >= 0.0f && shares[i].value <= 1.0f)) {
			return refuse(err, shares[i].param, "between 0 and 1",
				      (double)shares[i].value);
		}
	}
	if (!isfinite(p->repeat_penalty) || p->repeat_penalty <= 0.0f) {
		return refuse(err, "repeat_penalty", "finite and above 0",
			      (double)p->repeat_penalty);
	}
	if (!isfinite(p->presence_penalty)) {
		return refuse(err, "presence_penalty", "finite", (double)p->presence_penalty);
	}
	if (!isfinite(p->frequency_penalty)) {
		return refuse(err, "frequency_penalty", "finite", (double)p->frequency_penalty);
	}
	if (p->repeat_last_n < -1) {
		return refuse(err, "repeat_last_n", "-1 (all), 0 (none) or a count",
			      (double)p->repeat_last_n);
	}
	if (p->n_top > BN_SAMPLER_LOGPROBS_MAX) {
		return refuse(err, "logprobs", "at most 20", (double)p->n_top);
	}
	if (p->n_bias > BN_SAMPLER_BIAS_MAX) {
		return refuse(err, "logit_bias", "for at most 1024 tokens", (double)p->n_bias);
	}
	for (uint32_t i = 0; i < p->n_bias; i++) {
		const float bias = p->bias[i].bias;

		if (p->bias[i].token >= vocab) {
			return refuse(err, "logit_bias", "for tokens of the vocabulary",
				      (double)p->bias[i].token);
		}
		if (!isfinite(bias) && !(isinf(bias) && bias < 0.0f)) {
			return refuse(err, "logit_bias", "finite or minus infinity", (double)bias);
		}
	}
	return BN_OK;
}

static bool has_penalties(const struct bn_sampler_params *p)
{
	return p->repeat_last_n != 0 && (p->repeat_penalty != 1.0f || p->presence_penalty != 0.0f ||
					 p->frequency_penalty != 0.0f);
}

/* Tokens the penalties look back, of a sequence of at most `history`. */
static uint32_t window_of(const struct bn_sampler_params *p, uint32_t history)
{
	if (!has_penalties(p)) {
		return 0;
	}
	return p->repeat_last_n < 0 || (uint32_t)p->repeat_last_n > history
		       ? history
		       : (uint32_t)p->repeat_last_n;
}

/* A power of two at least twice the window, so that probes stay short. */
static uint64_t places_of(uint32_t window)
{
	uint64_t n = 16;

	while (window > 0 && n < 2 * (uint64_t)window) {
		n *= 2;
	}
	return window > 0 ? n : 0;
}

uint64_t bn_sampler_bytes(const struct bn_sampler_params *params, uint32_t history)
{
	const uint32_t window = window_of(params, history);

	return sizeof(struct bn_sampler) + places_of(window) * sizeof(struct count) +
	       params->n_bias * sizeof(struct bn_logit_bias) + (uint64_t)window * sizeof(uint32_t);
}

enum bn_status bn_sampler_new(struct bn_sampler **out, const struct bn_sampler_params *params,
			      uint32_t vocab, uint32_t history, struct bn_error *err)
{
	const uint32_t window = window_of(params, history);
	const uint64_t places = places_of(window);
	const enum bn_status status = check(params, vocab, err);
	uint64_t seed = params->seed;
	struct bn_sampler *s;

	bn_assert(vocab > 0);
	if (status != BN_OK) {
		return status;
	}
	s = calloc(1, (size_t)bn_sampler_bytes(params, history));
	if (s == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a sampler looking back %u tokens",
			       window);
	}
	s->params = *params;
	s->vocab = vocab;
	s->window = window;
	s->mask = places > 0 ? (uint32_t)(places - 1) : 0;
	s->counts = (struct count *)(s + 1);
	s->bias = (struct bn_logit_bias *)(s->counts + places);
	s->ring = (uint32_t *)(s->bias + params->n_bias);
	s->params.bias = s->bias;
	if (params->n_bias > 0) {
		memcpy(s->bias, params->bias, params->n_bias * sizeof(*s->bias));
	}
	for (uint64_t i = 0; i < places; i++) {
		s->counts[i].token = EMPTY;
	}
	for (size_t i = 0; i < 4; i++) {
		s->rng[i] = splitmix(&seed);
	}
	*out = s;
	return BN_OK;
}

void bn_sampler_free(struct bn_sampler *s)
{
	free(s);
}

/* ---- the window ---------------------------------------------------------------------------- */

static uint32_t home(const struct bn_sampler *s, uint32_t token)
{
	return (token * UINT32_C(2654435761) >> 7) & s->mask;
}

/* The token's place, or the free one where it would go. There always is one: half are free. */
static uint32_t place_of(const struct bn_sampler *s, uint32_t token)
{
	uint32_t i = home(s, token);

	while (s->counts[i].token != EMPTY && s->counts[i].token != token) {
		i = (i + 1) & s->mask;
	}
	return i;
}

static void count_up(struct bn_sampler *s, uint32_t token)
{
	struct count *c = &s->counts[place_of(s, token)];

	c->token = token;
	c->n++;
}

/* Removes one; at zero the place is freed and later ones of the same run move up (Knuth 6.4 R). */
static void count_down(struct bn_sampler *s, uint32_t token)
{
	uint32_t hole = place_of(s, token);
	uint32_t i = hole;

	bn_assert(s->counts[hole].token == token);
	if (--s->counts[hole].n > 0) {
		return;
	}
	for (;;) {
		i = (i + 1) & s->mask;
		if (s->counts[i].token == EMPTY) {
			break;
		}

		const uint32_t from_home = (i - home(s, s->counts[i].token)) & s->mask;

		if (from_home >= ((i - hole) & s->mask)) {
			s->counts[hole] = s->counts[i];
			hole = i;
		}
	}
	s->counts[hole] = (struct count){ .token = EMPTY };
}

void bn_sampler_note(struct bn_sampler *s, uint32_t token)
{
	bn_assert(token < s->vocab);
	if (s->window == 0) {
		return;
	}
	if (s->n_noted == s->window) {
		count_down(s, s->ring[s->next]);
	} else {
		s->n_noted++;
	}
	s->ring[s->next] = token;
	s->next = s->next + 1 == s->window ? 0 : s->next + 1;
	count_up(s, token);
}

/* ---- candidates ---------------------------------------------------------------------------- */

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

/* The k first of candidates [n] come to the front, in order. */
static void select_sorted(struct bn_candidate *c, uint32_t n, uint32_t k)
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

/* ---- the chain ----------------------------------------------------------------------------- */

static float penalised(const struct bn_sampler *s, float logit, uint32_t n)
{
	const struct bn_sampler_params *p = &s->params;

	logit = logit > 0.0f ? logit / p->repeat_penalty : logit * p->repeat_penalty;
	return logit - ((float)n * p->frequency_penalty + p->presence_penalty);
}

/* One logit after bias and penalties: what gather() makes of all, bit for bit. */
static float adjusted(const struct bn_sampler *s, const float *logits, uint32_t token)
{
	float logit = logits[token];

	for (uint32_t i = 0; i < s->params.n_bias; i++) {
		if (s->bias[i].token == token) {
			logit += s->bias[i].bias;
		}
	}
	if (s->window > 0) {
		const struct count *seen = &s->counts[place_of(s, token)];

		if (seen->token == token) {
			logit = penalised(s, logit, seen->n);
		}
	}
	return logit;
}

/* Copies the logits and changes those that bias and penalties name. */
static enum bn_status gather(const struct bn_sampler *s, const float *logits,
			     struct bn_candidate *c, struct bn_error *err)
{
	for (uint32_t i = 0; i < s->vocab; i++) {
		if (!isfinite(logits[i])) {
			return bn_fail(err, BN_E_NUMERIC,
				       "the model gave token %u a score that is not finite", i);
		}
		c[i] = (struct bn_candidate){ .logit = logits[i], .token = i };
	}
	for (uint32_t i = 0; i < s->params.n_bias; i++) {
		c[s->bias[i].token].logit += s->bias[i].bias;
	}
	for (uint32_t i = 0; s->window > 0 && i <= s->mask; i++) {
		const struct count *seen = &s->counts[i];

		if (seen->token != EMPTY) {
			c[seen->token].logit = penalised(s, c[seen->token].logit, seen->n);
		}
	}
	return BN_OK;
}

/* Forbidden ones leave, in place, in id order. */
static uint32_t drop_forbidden(struct bn_candidate *c, uint32_t n)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (isfinite(c[i].logit)) {
			c[kept++] = c[i];
		}
	}
	return kept;
}

static struct bn_candidate first_of(const struct bn_candidate *c, uint32_t n)
{
	struct bn_candidate best = c[0];

	for (uint32_t i = 1; i < n; i++) {
		if (before(&c[i], &best)) {
			best = c[i];
		}
	}
	return best;
}

/* Sum of exp(logit - max) in the order they lie in. */
static double mass(const struct bn_candidate *c, uint32_t n, float max)
{
	double sum = 0.0;

	for (uint32_t i = 0; i < n; i++) {
		sum += exp_of((double)c[i].logit - (double)max);
	}
	return sum;
}

/*
 * Locally typical sampling: keep those whose information -ln p is nearest to the entropy, until
 * their probability reaches typical_p. For the sorting, the distance, negated, stands in for the
 * logit, which is made anew for those that stay.
 */
static uint32_t keep_typical(const struct bn_sampler *s, const float *logits,
			     struct bn_candidate *c, uint32_t n, float max)
{
	const double norm = (double)max + log_of(mass(c, n, max));
	double entropy = 0.0, cumulative = 0.0;
	struct queue q = { .c = c, .n = n };
	uint32_t kept;

	for (uint32_t i = 0; i < n; i++) {
		const double log_p = (double)c[i].logit - norm;

		entropy -= exp_of(log_p < 0.0 ? log_p : 0.0) * log_p;
	}
	for (uint32_t i = 0; i < n; i++) {
		c[i].logit = (float)-fabs(norm - (double)c[i].logit - entropy);
	}
	heapify(c, n, false);
	do {
		const uint32_t token = queue_next(&q)->token;
		const double log_p = (double)adjusted(s, logits, token) - norm;

		cumulative += exp_of(log_p < 0.0 ? log_p : 0.0);
	} while (q.taken < n && cumulative < (double)s->params.typical_p);
	kept = queue_finish(&q);
	for (uint32_t i = 0; i < kept; i++) {
		c[i].logit = adjusted(s, logits, c[i].token);
	}
	return kept;
}

/* The smallest set of the most probable that has probability top_p. Leaves them sorted. */
static uint32_t keep_top_p(struct bn_candidate *c, uint32_t n, float max, float top_p)
{
	const double want = (double)top_p * mass(c, n, max);
	struct queue q = { .c = c, .n = n };
	double cumulative = 0.0;

	heapify(c, n, false);
	do {
		cumulative += exp_of((double)queue_next(&q)->logit - (double)max);
	} while (q.taken < n && cumulative < want);
	return queue_finish(&q);
}

/* p >= min_p * max p, that is logit >= max + ln min_p. Keeps the order. */
static uint32_t keep_min_p(struct bn_candidate *c, uint32_t n, float max, float min_p)
{
	const double least = (double)max + log_of((double)min_p);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		if ((double)c[i].logit >= least || c[i].logit == max) {
			c[kept++] = c[i];
		}
	}
	return kept;
}

static uint32_t draw(struct bn_sampler *s, const struct bn_candidate *c, uint32_t n)
{
	const double t = (double)s->params.temperature;
	const double max = (double)first_of(c, n).logit;
	double sum = 0.0, cumulative = 0.0, at;
	uint32_t last = 0;

	for (uint32_t i = 0; i < n; i++) {
		sum += exp_of(((double)c[i].logit - max) / t);
	}
	at = uniform(s->rng) * sum;
	for (uint32_t i = 0; i < n; i++) {
		const double w = exp_of(((double)c[i].logit - max) / t);

		if (w > 0.0) {
			last = i;
			cumulative += w;
			if (cumulative > at) {
				break;
			}
		}
	}
	/* Rounding may leave the sum just short of `at`: then it is the last possible one. */
	return c[last].token;
}

/* The filters, on candidates [n]; returns how many remain. They look at probabilities before
 * temperature, as llama-server's do. */
static uint32_t filter(const struct bn_sampler *s, const float *logits, struct bn_candidate *c,
		       uint32_t n)
{
	const struct bn_sampler_params *p = &s->params;
	float max;

	if (p->top_k > 0 && p->top_k < n) {
		select_sorted(c, n, p->top_k);
		n = p->top_k;
	}
	max = first_of(c, n).logit;
	if (p->typical_p < 1.0f && n > 1) {
		n = keep_typical(s, logits, c, n, max);
		max = first_of(c, n).logit;
	}
	if (p->top_p < 1.0f && n > 1) {
		n = keep_top_p(c, n, max, p->top_p);
	}
	if (p->min_p > 0.0f && n > 1) {
		n = keep_min_p(c, n, max, p->min_p);
	}
	return n;
}

static void report(const struct bn_sampler *s, const float *logits, struct bn_candidate *scratch,
		   struct bn_sampled *out)
{
	const uint32_t n_top = s->params.n_top < s->vocab ? s->params.n_top : s->vocab;
	struct bn_candidate best;
	double log_sum;

	for (uint32_t i = 0; i < s->vocab; i++) {
		scratch[i] = (struct bn_candidate){ .logit = logits[i], .token = i };
	}
	best = first_of(scratch, s->vocab);
	log_sum = log_of(mass(scratch, s->vocab, best.logit)) + (double)best.logit;
	out->logprob = (float)((double)logits[out->token] - log_sum);
	out->n_top = n_top;
	if (n_top > 0) {
		select_sorted(scratch, s->vocab, n_top);
	}
	for (uint32_t i = 0; i < n_top; i++) {
		out->top[i].token = scratch[i].token;
		out->top[i].logprob = (float)((double)scratch[i].logit - log_sum);
	}
}

enum bn_status bn_sampler_draw(struct bn_sampler *s, const float *logits,
			       struct bn_candidate *scratch, struct bn_sampled *out,
			       struct bn_error *err)
{
	const enum bn_status status = gather(s, logits, scratch, err);
	uint32_t n;

	if (status != BN_OK) {
		return status;
	}
	n = drop_forbidden(scratch, s->vocab);
	if (n == 0) {
		return bn_fail(err, BN_E_INVALID, "logit_bias forbids every token");
	}
	out->logprob = 0.0f;
	out->n_top = 0;
	if (s->params.temperature > 0.0f) {
		n = filter(s, logits, scratch, n);
		out->token = draw(s, scratch, n);
	} else {
		out->token = first_of(scratch, n).token;
	}
	if (s->params.logprobs || s->params.n_top > 0) {
		report(s, logits, scratch, out);
	}
	return BN_OK;
}
