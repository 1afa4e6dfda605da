/*
 * Optimal string alignment distance (Damerau-Levenshtein without moving a pair twice): the four
 * mistakes fingers make. Three rolling rows of at most 65 numbers, so an offer costs at most 64 x
 * 64 steps and no memory, whatever a peer sends as a name.
 */
#include "proto/suggest.h"

#include <string.h>

enum { WORD_BYTES = 64 };

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Both words are at most WORD_BYTES long. */
static uint32_t distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
	uint32_t rows[3][WORD_BYTES + 1];
	uint32_t *before = rows[0], *last = rows[1], *now = rows[2];

	for (uint32_t j = 0; j <= n_b; j++) {
		last[j] = j;
		before[j] = j;
	}
	for (size_t i = 1; i <= n_a; i++) {
		uint32_t *spare = before;

		now[0] = (uint32_t)i;
		for (size_t j = 1; j <= n_b; j++) {
			uint32_t d = last[j - 1] + (a[i - 1] != b[j - 1]);

			d = least(d, least(last[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				d = least(d, before[j - 2] + 1);
			}
			now[j] = d;
		}
		before = last;
		last = now;
		now = spare;
	}
	return last[n_b];
}

void bn_suggest_init(struct bn_suggest *s, struct bn_text wanted)
{
	s->wanted = wanted;
	s->best = NULL;
	s->distance = UINT32_MAX;
}

void bn_suggest_offer(struct bn_suggest *s, const char *known)
{
	size_t n = strlen(known);
	size_t longer = n > s->wanted.n ? n : s->wanted.n;
	uint32_t d;

	if (longer > WORD_BYTES || s->wanted.n == 0) {
		return;
	}
	d = distance(s->wanted.at, s->wanted.n, known, n);
	/* "temp" for "temperature": an abbreviation counts as one mistake. */
	if (s->wanted.n >= 3 && s->wanted.n < n && memcmp(s->wanted.at, known, s->wanted.n) == 0) {
		d = 1;
	}
	if (d <= (longer + 2) / 3 && d < s->distance) {
		s->best = known;
		s->distance = d;
	}
}

const char *bn_suggest_best(const struct bn_suggest *s)
{
	return s->best;
}
