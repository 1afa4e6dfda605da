/*
 * The loop both kinds of BPE share: a list of symbols in which the best neighbouring pair is
 * joined until none can be, in O(n log n) by a heap and without recursion.
 *
 * It does not know vocabularies: what may be joined, and how good that is, a hook says. It never
 * looks further than two neighbours, so the best pair is the lowest rank, leftmost among equals.
 */
#ifndef BN_ENGINE_MERGE_H
#define BN_ENGINE_MERGE_H

#include "proto/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BN_MERGE_NONE UINT32_MAX

/* A stretch of text. Entries that were joined into their left neighbour are dead; walk `next`. */
struct bn_symbol {
	uint32_t start, bytes;   /* the text it covers                                      */
	uint32_t id;             /* its token; BN_MERGE_NONE when the text is no token      */
	uint32_t rank;           /* of joining it with `next`; BN_MERGE_NONE: not possible  */
	uint32_t joined;         /* the token that would give                               */
	uint32_t previous, next; /* neighbours; BN_MERGE_NONE at the ends                 */
};

/*
 * May `left` and its neighbour `right` be joined? True sets the rank (lower is better, below
 * BN_MERGE_NONE) and the token.
 */
typedef bool (*bn_merge_pair)(const void *who, const struct bn_symbol *left,
			      const struct bn_symbol *right, uint32_t *rank, uint32_t *joined);

/*
 * Working memory of one encode call; zero it to start. One owner. `pairs` counts how often the
 * hook was asked, for tests of the cost: at most three times per symbol.
 */
struct bn_merger {
	struct bn_symbol *symbols; /* [n], the live ones linked from 0    */
	uint64_t *heap;            /* [n_heap], rank above place          */
	uint32_t n;
	uint32_t capacity;
	uint32_t n_heap;
	uint64_t pairs;
	const atomic_bool *cancel; /* NULL or polled by bn_merge_run      */
};

/* Makes room for `symbols` symbols (never shrinks). BN_E_MEMORY. Any thread. */
BN_MUST_USE enum bn_status bn_merge_reserve(struct bn_merger *m, uint32_t symbols,
					    struct bn_error *err);

/* Appends a symbol behind the last; there must be room (asserted). m->n = 0 starts anew. */
void bn_merge_add(struct bn_merger *m, uint32_t start, uint32_t bytes, uint32_t id);

/* Joins all that can be. BN_E_CANCELLED when *cancel became true. */
BN_MUST_USE enum bn_status bn_merge_run(struct bn_merger *m, bn_merge_pair pair, const void *who,
					struct bn_error *err);

/* Frees; a zeroed struct is fine. */
void bn_merge_finish(struct bn_merger *m);

#endif
