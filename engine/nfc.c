#include "engine/nfc.h"

#include "engine/utf8.h"
#include "proto/assert.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
	DECOMPOSED_MAX = 4, /* characters of one, by the canonical mappings of Unicode 15  */
	ROOM_MAX = 32,      /* what is given to utf8proc, which checks                     */
};

static const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

/* A mark that waits for its place: marks are ordered by class, and by where they stood. */
struct mark {
	uint32_t class;
	uint32_t cp;
};

static bool is_plain(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		/* Everything before U+0300 (CC 80) is a starter and composed already. */
		if ((unsigned char)text[i] >= 0xCC) {
			return false;
		}
	}
	return true;
}

static uint32_t class_of(int32_t cp)
{
	return (uint32_t)utf8proc_get_property(cp)->combining_class;
}

/* Stable, by merging neighbours of growing length; `spare` has room for n. */
static void sort_marks(struct mark *marks, struct mark *spare, size_t n)
{
	for (size_t half = 1; half < n; half *= 2) {
		for (size_t from = 0; from < n; from += 2 * half) {
			const size_t middle = n - from < half ? n : from + half;
			const size_t to = n - from < 2 * half ? n : from + 2 * half;
			size_t a = from, b = middle;

			for (size_t i = from; i < to; i++) {
				const bool left =
					b == to || (a < middle && marks[a].class <= marks[b].class);

				spare[i] = left ? marks[a++] : marks[b++];
			}
		}
		memcpy(marks, spare, n * sizeof(*marks));
	}
}

/* Orders cps [n] canonically: each run of marks by class. */
static bool order(int32_t *cps, size_t n)
{
	struct mark *marks = NULL;
	size_t room = 0;

	for (size_t i = 0; i < n;) {
		size_t run = 0;
		bool sorted = true;

		while (i + run < n && class_of(cps[i + run]) != 0) {
			sorted &= run == 0 || class_of(cps[i + run - 1]) <= class_of(cps[i + run]);
			run++;
		}
		if (!sorted && 2 * run > room) {
			free(marks);
			room = 2 * run;
			marks = calloc(room, sizeof(*marks));
			if (marks == NULL) {
				return false;
			}
		}
		for (size_t k = 0; k < run && !sorted; k++) {
			marks[k] = (struct mark){ class_of(cps[i + k]), (uint32_t)cps[i + k] };
		}
		if (!sorted) {
			sort_marks(marks, marks + run, run);
		}
		for (size_t k = 0; k < run && !sorted; k++) {
			cps[i + k] = (int32_t)marks[k].cp;
		}
		i += run > 0 ? run : 1;
	}
	free(marks);
	return true;
}

/* The canonical decomposition of text [n], in cps with room for DECOMPOSED_MAX a character. */
static size_t decompose(const char *text, size_t n, int32_t *cps)
{
	size_t count = 0;

	for (size_t i = 0; i < n;) {
		int32_t parts[ROOM_MAX];
		int boundary = 0;
		uint32_t cp;
		utf8proc_ssize_t some;

		i += bn_utf8_decode(text + i, n - i, &cp);
		some = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, ROOM_MAX, options,
					       &boundary);
		bn_assert(some >= 1 && some <= DECOMPOSED_MAX);
		memcpy(cps + count, parts, (size_t)some * sizeof(*cps));
		count += (size_t)some;
	}
	return count;
}

static size_t characters(const char *text, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		count += ((unsigned char)text[i] & 0xC0) != 0x80;
	}
	return count;
}

enum bn_status bn_nfc(const char *text, size_t n, char **out, size_t *out_n, struct bn_error *err)
{
	const size_t most = characters(text, n) * DECOMPOSED_MAX;
	int32_t *cps;
	utf8proc_ssize_t composed;
	size_t count;

	*out = NULL;
	if (is_plain(text, n)) {
		return BN_OK;
	}
	cps = calloc(most, sizeof(*cps));
	if (cps == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to normalize %zu bytes of text", n);
	}
	count = decompose(text, n, cps);
	if (!order(cps, count)) {
		free(cps);
		return bn_fail(err, BN_E_MEMORY, "no memory to normalize %zu bytes of text", n);
	}
	composed = utf8proc_normalize_utf32(cps, (utf8proc_ssize_t)count, options);
	bn_assert(composed >= 0);
	*out = malloc((size_t)composed * 4 + 1);
	if (*out == NULL) {
		free(cps);
		return bn_fail(err, BN_E_MEMORY, "no memory to normalize %zu bytes of text", n);
	}
	*out_n = 0;
	for (utf8proc_ssize_t i = 0; i < composed; i++) {
		*out_n += bn_utf8_encode((uint32_t)cps[i], *out + *out_n);
	}
	free(cps);
	return BN_OK;
}
