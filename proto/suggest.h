/*
 * "Did you mean ...?": the known word nearest to a mistyped one, by edit distance.
 *
 * It does not phrase the sentence and keeps no list: callers offer their words one by one.
 */
#ifndef BN_PROTO_SUGGEST_H
#define BN_PROTO_SUGGEST_H

#include "proto/value.h"

/* Plain value; borrows the wanted word and the best candidate. */
struct bn_suggest {
	struct bn_text wanted;
	const char *best; /* NULL: nothing near enough so far */
	uint32_t distance;
};

/* Starts a search. Words over 64 bytes find nothing, which bounds the cost of an offer. */
void bn_suggest_init(struct bn_suggest *s, struct bn_text wanted);

/* Considers one NUL-terminated known word, which must outlive the search. */
void bn_suggest_offer(struct bn_suggest *s, const char *known);

/*
 * The best word so far, or NULL. Near enough means: at most a third of the letters wrong
 * (insertion, deletion, substitution, swapped neighbours), or the wanted word begins the other.
 */
const char *bn_suggest_best(const struct bn_suggest *s);

#endif
