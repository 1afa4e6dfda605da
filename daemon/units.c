/* Integer arithmetic throughout: a budget written as 1.1GiB must not depend on rounding. */
#include "daemon/units.h"

#include "proto/time.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <strings.h>

static const struct {
	const char *word;
	uint64_t bytes;
} units[] = {
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TiB", UINT64_C(1) << 40 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ "TB", 1000000000000 },
	{ "B", 1 },
	{ "", 1 },
};

enum {
	UNITS = sizeof(units) / sizeof(units[0]),
	BINARY_UNITS = 4,
	FRACTION_SCALE = 1000000, /* six digits count, 999999 * 2^40 still fits */
};

bool bn_units_parse_whole(const char *text, int64_t *value)
{
	char *end;
	long long parsed;

	if (text[0] != '-' && (text[0] < '0' || text[0] > '9')) {
		return false;
	}
	errno = 0;
	parsed = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0') {
		return false;
	}
	*value = parsed;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool bn_units_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t whole = 0, part = 0, scale = 1, sum;
	const char *at = text;
	size_t unit = 0;

	if (!is_digit(*at)) {
		return false;
	}
	for (; is_digit(*at); at++) {
		if (__builtin_mul_overflow(whole, UINT64_C(10), &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole)) {
			return false;
		}
	}
	if (*at == '.') {
		at++;
		if (!is_digit(*at)) {
			return false;
		}
		for (; is_digit(*at); at++) {
			if (scale < FRACTION_SCALE) {
				part = part * 10 + (uint64_t)(*at - '0');
				scale *= 10;
			}
		}
	}
	while (*at == ' ') {
		at++;
	}
	while (unit < UNITS && strcasecmp(units[unit].word, at) != 0) {
		unit++;
	}
	if (unit == UNITS || (scale > 1 && units[unit].bytes == 1) ||
	    __builtin_mul_overflow(whole, units[unit].bytes, &sum) ||
	    __builtin_add_overflow(sum, part * units[unit].bytes / scale, &sum) ||
	    sum > INT64_MAX) {
		return false;
	}
	*bytes = sum;
	return true;
}

bool bn_units_parse_duration(const char *text, int64_t *ms)
{
	int64_t bare;

	if (bn_units_parse_whole(text, &bare)) {
		*ms = bare;
		return bare == 0 || bare == BN_UNITS_FOREVER;
	}
	return bn_time_parse(bn_text_of(text), ms);
}

void bn_units_print_size(FILE *out, uint64_t bytes)
{
	for (size_t unit = BINARY_UNITS; bytes > 0 && unit-- > 0;) {
		if (bytes % units[unit].bytes == 0) {
			fprintf(out, "%" PRIu64 "%s", bytes / units[unit].bytes, units[unit].word);
			return;
		}
	}
	fprintf(out, "%" PRIu64, bytes);
}

void bn_units_print_duration(FILE *out, uint64_t ms)
{
	if (ms == 0) {
		fputs("0", out);
	} else if (ms % 3600000 == 0) {
		fprintf(out, "%" PRIu64 "h", ms / 3600000);
	} else if (ms % 60000 == 0) {
		fprintf(out, "%" PRIu64 "m", ms / 60000);
	} else if (ms % 1000 == 0) {
		fprintf(out, "%" PRIu64 "s", ms / 1000);
	} else {
		fprintf(out, "%" PRIu64 "ms", ms);
	}
}
