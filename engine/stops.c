/*
 * Plain comparison at every place. The text looked at is what one token added plus at most one stop
 * string held back, a few dozen bytes; sixteen strings of it cost less than the sampler's first
 * thousand candidates.
 */
#include "engine/stops.h"

#include <stdbool.h>
#include <string.h>

void bn_stops_init(struct bn_stops *s, const struct bn_str *strings, uint32_t n)
{
	*s = (struct bn_stops){ .strings = strings, .n = n };
	for (uint32_t i = 0; i < n; i++) {
		if (strings[i].n > s->longest) {
			s->longest = strings[i].n;
		}
	}
}

static bool equal(const struct bn_str *stop, const char *text, size_t n)
{
	return memcmp(stop->p, text, n) == 0;
}

/* The longest stop string that is the end of text [n]; -1. */
static int32_t ends_with(const struct bn_stops *s, const char *text, size_t n)
{
	int32_t found = -1;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct bn_str *stop = &s->strings[i];

		if (stop->n <= n && equal(stop, text + n - stop->n, stop->n) &&
		    (found < 0 || stop->n > s->strings[found].n)) {
			found = (int32_t)i;
		}
	}
	return found;
}

/* Some stop string begins with text [n]. */
static bool may_become(const struct bn_stops *s, const char *text, size_t n)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (n < s->strings[i].n && equal(&s->strings[i], text, n)) {
			return true;
		}
	}
	return false;
}

int32_t bn_stops_scan(const struct bn_stops *s, const char *text, size_t n, size_t *safe)
{
	size_t at;

	for (size_t end = 1; s->n > 0 && end <= n; end++) {
		const int32_t found = ends_with(s, text, end);

		if (found >= 0) {
			*safe = end - s->strings[found].n;
			return found;
		}
	}
	at = n >= s->longest ? n - s->longest : 0;
	while (at < n && !may_become(s, text + at, n - at)) {
		at++;
	}
	*safe = at;
	return -1;
}
