#include "proto/time.h"

#include <string.h>

/* Milliseconds in the unit at *p, which is moved behind it; 0 when there is none. */
static int64_t take_unit(const char **p, const char *end)
{
	static const struct {
		const char *word;
		int64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].word);

		if ((size_t)(end - *p) >= n && memcmp(*p, units[i].word, n) == 0) {
			*p += n;
			return units[i].ms;
		}
	}
	return 0;
}

/* One "30m"; adds it to *ms. */
static bool take_part(const char **p, const char *end, int64_t *ms)
{
	const char *first = *p;
	int64_t number = 0, unit;

	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
		if (__builtin_mul_overflow(number, (int64_t)10, &number) ||
		    __builtin_add_overflow(number, (int64_t)(**p - '0'), &number)) {
			return false;
		}
	}
	if (*p == first) {
		return false;
	}
	unit = take_unit(p, end);
	return unit > 0 && !__builtin_mul_overflow(number, unit, &number) &&
	       !__builtin_add_overflow(*ms, number, ms);
}

bool bn_time_parse(struct bn_text text, int64_t *ms)
{
	const char *p = text.at, *end = text.at + text.n;
	bool negative = text.n > 0 && *p == '-';
	int64_t sum = 0;

	if (bn_text_is(text, "0")) {
		*ms = 0;
		return true;
	}
	if (bn_text_is(text, "-1")) {
		*ms = BN_TIME_FOREVER;
		return true;
	}
	p += negative;
	if (p == end) {
		return false;
	}
	while (p < end) {
		if (!take_part(&p, end, &sum)) {
			return false;
		}
	}
	*ms = negative ? BN_TIME_FOREVER : sum;
	return true;
}
