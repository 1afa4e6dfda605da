/*
 * Sentences are built in a fixed buffer so that reporting an error can never fail, and cleaned
 * of control characters and broken UTF-8 on the way in, so that a file name or a metadata key
 * chosen by an attacker cannot forge a log line or break the encoding of a reply.
 */
#include "proto/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct status_row {
	int code;
	const char *word;
	const char *sentence;
};

#define STATUS_ROW(symbol, code, word, sentence) [BN_##symbol] = { code, word, sentence },
static const struct status_row rows[BN_STATUS_COUNT] = { BN_STATUS_TABLE(STATUS_ROW) };
#undef STATUS_ROW

static const struct status_row *row(enum bn_status status)
{
	if ((unsigned)status >= BN_STATUS_COUNT) {
		status = BN_E_INTERNAL;
	}
	return &rows[status];
}

/* Length of the well-formed UTF-8 sequence at p (left bytes remain), or 0. Unicode table 3-7. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	size_t n;
	unsigned char low = 0x80, high = 0xbf;

	if (p[0] < 0x80) {
		return 1;
	} else if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2;
	} else if (p[0] >= 0xe0 && p[0] <= 0xef) {
		n = 3;
		low = p[0] == 0xe0 ? 0xa0 : 0x80;
		high = p[0] == 0xed ? 0x9f : 0xbf;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4;
		low = p[0] == 0xf0 ? 0x90 : 0x80;
		high = p[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (n > left || p[1] < low || p[1] > high) {
		return 0;
	}
	for (size_t i = 2; i < n; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf) {
			return 0;
		}
	}
	return n;
}

/* Replaces in place: the result is never longer than the input. */
static void clean(char *text)
{
	unsigned char *p = (unsigned char *)text;
	size_t left = strlen(text);

	while (left > 0) {
		size_t n = utf8_length(p, left);

		/* U+0080..U+009F are the C1 controls, as good as ESC on some terminals. */
		if (n == 0 || p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0)) {
			*p = '?';
			n = 1;
		}
		p += n;
		left -= n;
	}
}

/* Cuts at a character boundary and marks the cut; `size` is the whole buffer. */
static void mark_cut(char *text, size_t size)
{
	size_t end = size - 4;

	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) {
		end--;
	}
	memcpy(text + end, "...", 4);
}

__attribute__((format(printf, 3, 0))) static void format_clean(char *text, size_t size,
							       const char *format, va_list args)
{
	int n = vsnprintf(text, size, format, args);

	if (n < 0) {
		text[0] = '\0';
	} else if ((size_t)n >= size) {
		mark_cut(text, size);
	}
	clean(text);
}

enum bn_status bn_fail(struct bn_error *err, enum bn_status status, const char *format, ...)
{
	if (err != NULL) {
		va_list args;

		err->status = status;
		err->n_data = 0;
		va_start(args, format);
		format_clean(err->text, sizeof(err->text), format, args);
		va_end(args);
	}
	return status;
}

enum bn_status bn_wrap(struct bn_error *err, const char *format, ...)
{
	char inner[BN_ERROR_TEXT_BYTES];
	va_list args;
	size_t used;
	int n;

	if (err == NULL) {
		return BN_E_INTERNAL;
	}
	memcpy(inner, err->text, sizeof(inner));
	va_start(args, format);
	format_clean(err->text, sizeof(err->text), format, args);
	va_end(args);
	used = strlen(err->text);
	n = snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner);
	if (n >= 0 && (size_t)n >= sizeof(err->text) - used) {
		mark_cut(err->text, sizeof(err->text));
	}
	return err->status;
}

static struct bn_error_data *next_data(struct bn_error *err, const char *key)
{
	struct bn_error_data *d;

	if (err == NULL || err->n_data >= BN_ERROR_DATA_MAX) {
		return NULL;
	}
	d = &err->data[err->n_data++];
	d->key = key;
	d->number = 0;
	d->text[0] = '\0';
	return d;
}

void bn_error_number(struct bn_error *err, const char *key, int64_t number)
{
	struct bn_error_data *d = next_data(err, key);

	if (d != NULL) {
		d->number = number;
	}
}

void bn_error_string(struct bn_error *err, const char *key, const char *text)
{
	struct bn_error_data *d = next_data(err, key);

	if (d != NULL) {
		int n = snprintf(d->text, sizeof(d->text), "%s", text);

		if (n >= 0 && (size_t)n >= sizeof(d->text)) {
			mark_cut(d->text, sizeof(d->text));
		}
		clean(d->text);
	}
}

int bn_status_code(enum bn_status status)
{
	return row(status)->code;
}

const char *bn_status_word(enum bn_status status)
{
	return row(status)->word;
}

const char *bn_status_sentence(enum bn_status status)
{
	return row(status)->sentence;
}
