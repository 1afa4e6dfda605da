/*
 * From the logits of one row to one token: penalties, filters, temperature and a draw from a
 * generator of its own.
 *
 * It does not know text, stop conditions or grammars, and it never touches the logits it reads.
 *
 * The chain is llama-server's, in its default order:
 *   logit_bias, repetition penalties, top_k, typical_p, top_p, min_p, temperature, draw.
 * Temperature 0 is greedy: the greatest logit after bias and penalties, the filters being idle.
 * Wherever two candidates are equal the lower id comes first, so there are no ties.
 *
 * The seed promise: the same build gives the same tokens for the same logits, parameters and
 * seed, on every processor. Sums run in a fixed order, in double, exp and ln are our own
 * (engine/numbers.h); one 64-bit number is drawn per token (none at temperature 0). The generator
 * is xoshiro256** (Blackman and Vigna, 2018), its state filled from the seed by splitmix64.
 */
#ifndef BN_ENGINE_SAMPLER_H
#define BN_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/candidates.h"
#include "proto/error.h"
#include "proto/role.h"

enum {
	BN_SAMPLER_LOGPROBS_MAX = 20,
	BN_SAMPLER_BIAS_MAX = 1024,
};

struct bn_logit_bias {
	uint32_t token;
	float bias; /* added to the logit; -INFINITY forbids the token */
};

/* All of it as bn_sampler_defaults leaves it is plain sampling at temperature 1. */
struct bn_sampler_params {
	float temperature;       /* 0..; 0 is greedy                                              */
	uint32_t top_k;          /* keep the k greatest; 0: all                                   */
	float top_p;             /* 0..1; smallest set with this much probability; 1: all         */
	float min_p;             /* 0..1; drop p < min_p * greatest p; 0: none                    */
	float typical_p;         /* 0..1; locally typical set (Meister et al. 2022); 1: all       */
	float repeat_penalty;    /* > 0; divides positive, multiplies negative logits; 1: none    */
	float presence_penalty;  /* subtracted once for a token seen; 0: none                     */
	float frequency_penalty; /* subtracted for each time a token was seen; 0: none            */
	int32_t repeat_last_n; /* tokens the penalties look back, prompt included; 0: none, -1: all
				*/
	uint64_t seed;
	uint32_t n_bias;
	const struct bn_logit_bias *bias; /* [n_bias], copied; a token given twice is added twice */
	bool logprobs;  /* fill bn_sampled.logprob                                       */
	uint32_t n_top; /* 0..BN_SAMPLER_LOGPROBS_MAX most probable tokens to report     */
};

struct bn_logprob {
	uint32_t token;
	float logprob; /* ln p of the model's own distribution: before bias, penalties and filters
			*/
};

/* One draw. Plain value. */
struct bn_sampled {
	uint32_t token;
	uint32_t n_top;
	float logprob; /* 0 unless params.logprobs or n_top asked for it */
	struct bn_logprob top[BN_SAMPLER_LOGPROBS_MAX]; /* most probable first */
};

/* Opaque; one per sequence, one thread at a time. */
struct bn_sampler;

/* Temperature 1, no filter, no penalty, repeat_last_n 64, seed 0. */
void bn_sampler_defaults(struct bn_sampler_params *params) BN_ON_ANY;

/* Bytes bn_sampler_new will take. `history` is the most tokens the sequence can have. */
uint64_t bn_sampler_bytes(const struct bn_sampler_params *params, uint32_t history) BN_ON_ANY;

/*
 * Makes a sampler for a vocabulary of `vocab` >= 1 tokens. The parameters are copied.
 * BN_E_INVALID naming the field ("temperature must be finite and not negative, is -1"; fact
 * "param") for values outside the ranges above; BN_E_MEMORY. Undo with bn_sampler_free.
 */
BN_MUST_USE enum bn_status bn_sampler_new(struct bn_sampler **out,
					  const struct bn_sampler_params *params, uint32_t vocab,
					  uint32_t history, struct bn_error *err) BN_ON_ANY;

/* NULL is fine. */
void bn_sampler_free(struct bn_sampler *s) BN_ON_ANY;

/* Tells the sampler that the sequence now ends in this token (< vocab), prompt or drawn: what the
 * penalties look back on. Allocates nothing. */
void bn_sampler_note(struct bn_sampler *s, uint32_t token) BN_ON_ANY;

/*
 * Draws from logits [vocab]. Does not note the token. `scratch` [vocab] is overwritten. Allocates
 * nothing. O(vocab), plus log(vocab) for each candidate that a sorted filter looks at.
 * BN_E_NUMERIC when a logit is not finite, BN_E_INVALID when logit_bias forbids every token; the
 * sampler is then as before. Lane or lead.
 */
BN_MUST_USE enum bn_status bn_sampler_draw(struct bn_sampler *s, const float *logits,
					   struct bn_candidate *scratch, struct bn_sampled *out,
					   struct bn_error *err) BN_ON_ANY;

#endif
