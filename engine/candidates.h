/*
 * The tokens that may come next, in the order of their logits, and the filters that keep some of
 * them.
 *
 * It does not know parameters, penalties or generators (engine/sampler.h does), and it allocates
 * nothing: everything happens in the caller's array.
 *
 * A heap instead of a sort: the sorted filters look at the most probable few hundred of 128 k
 * candidates; a heap is built in O(n) and gives them in order, log n each. The order is total
 * (equal logits go by the lower id), so what comes out depends on no algorithm. Any thread.
 */
#ifndef BN_ENGINE_CANDIDATES_H
#define BN_ENGINE_CANDIDATES_H

#include <stdint.h>

struct bn_candidate {
	float logit; /* finite */
	uint32_t token;
};

/* All functions: c [n], n > 0; those that keep return how many, now at the front. */

/* The first in the order. */
struct bn_candidate bn_candidates_first(const struct bn_candidate *c, uint32_t n);

/* Sum of exp(logit - max), in the order they lie in; `max` is the greatest logit. */
double bn_candidates_mass(const struct bn_candidate *c, uint32_t n, float max);

/* The k <= n first, in order. */
uint32_t bn_candidates_keep_top_k(struct bn_candidate *c, uint32_t n, uint32_t k);

/* The smallest set of the most probable with probability top_p or more, at least one; in order. */
uint32_t bn_candidates_keep_top_p(struct bn_candidate *c, uint32_t n, float max, float top_p);

/* Those with at least min_p times the greatest probability; in the order they lay in. */
uint32_t bn_candidates_keep_min_p(struct bn_candidate *c, uint32_t n, float max, float min_p);

/* The logit of a token, as it is among the candidates. */
typedef float (*bn_logit_of)(const void *who, uint32_t token);

/*
 * Locally typical sampling (Meister et al. 2022): those whose information -ln p is nearest to the
 * entropy, until they have probability typical_p, at least one; the most typical first. For the
 * sorting, a distance stands in for the logit, so logits are asked for again through `logit_of`.
 */
uint32_t bn_candidates_keep_typical(struct bn_candidate *c, uint32_t n, float max, float typical_p,
				    bn_logit_of logit_of, const void *who);

#endif
