/*
 * The penalties look back over up to the whole context, and counting it anew for each token would
 * make long generations quadratic: so the counts are kept, in a hash table, and a ring of the last
 * tokens says which one leaves the window.
 */
#include "engine/sampler.h"

#include "engine/numbers.h"
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

/* ---- the generator --------------------------------------------------------------------------- */

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

struct scores {
	const struct bn_sampler *s;
	const float *logits;
};

static float adjusted_of(const void *who, uint32_t token)
{
	const struct scores *scores = who;

	return adjusted(scores->s, scores->logits, token);
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

static uint32_t draw(struct bn_sampler *s, const struct bn_candidate *c, uint32_t n)
{
	const double t = (double)s->params.temperature;
	const double max = (double)bn_candidates_first(c, n).logit;
	double sum = 0.0, cumulative = 0.0, at;
	uint32_t last = 0;

	for (uint32_t i = 0; i < n; i++) {
		sum += bn_numbers_exp(((double)c[i].logit - max) / t);
	}
	at = uniform(s->rng) * sum;
	for (uint32_t i = 0; i < n; i++) {
		const double w = bn_numbers_exp(((double)c[i].logit - max) / t);

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
	const struct scores who = { s, logits };
	float max;

	if (p->top_k > 0 && p->top_k < n) {
		n = bn_candidates_keep_top_k(c, n, p->top_k);
	}
	max = bn_candidates_first(c, n).logit;
	if (p->typical_p < 1.0f && n > 1) {
		n = bn_candidates_keep_typical(c, n, max, p->typical_p, adjusted_of, &who);
		max = bn_candidates_first(c, n).logit;
	}
	if (p->top_p < 1.0f && n > 1) {
		n = bn_candidates_keep_top_p(c, n, max, p->top_p);
	}
	if (p->min_p > 0.0f && n > 1) {
		n = bn_candidates_keep_min_p(c, n, max, p->min_p);
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
	best = bn_candidates_first(scratch, s->vocab);
	log_sum = bn_numbers_log(bn_candidates_mass(scratch, s->vocab, best.logit)) +
		  (double)best.logit;
	out->logprob = (float)((double)logits[out->token] - log_sum);
	out->n_top = n_top;
	if (n_top > 0) {
		bn_candidates_keep_top_k(scratch, s->vocab, n_top);
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
		out->token = bn_candidates_first(scratch, n).token;
	}
	if (s->params.logprobs || s->params.n_top > 0) {
		report(s, logits, scratch, out);
	}
	return BN_OK;
}
