/*
 * Stop strings: finds the first of them in a growing text, and says how much of the text can no
 * longer become one.
 *
 * It does not hold the text, and knows no tokens or characters: stop strings may begin and end
 * anywhere in a token.
 */
#ifndef BN_ENGINE_STOPS_H
#define BN_ENGINE_STOPS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cursor.h"

/* Borrowed strings [n], none empty. */
struct bn_stops {
	const struct bn_str *strings;
	uint32_t n;
	size_t longest; /* bytes */
};

/* Over strings [n], borrowed as long as *s is used. */
void bn_stops_init(struct bn_stops *s, const struct bn_str *strings, uint32_t n);

/*
 * Looks at text [n], none of which was safe before. Returns the index of the stop string whose end
 * comes first (the longest of those that end there), or -1: so the answer does not depend on how
 * the text came in pieces. *safe is where the match begins; without one, the bytes that certainly
 * belong to no stop string, whatever follows. Any thread.
 */
int32_t bn_stops_scan(const struct bn_stops *s, const char *text, size_t n, size_t *safe);

#endif
