#include "engine/utf8.h"

#include <string.h>

/* What a first byte promises: length of the sequence and the range of the second byte, which is
 * where overlong forms, surrogates and code points past U+10FFFF are caught. */
struct lead {
	unsigned length; /* 0: no character starts with this byte */
	unsigned char low, high;
};

static struct lead lead_of(unsigned char c)
{
	if (c < 0x80) {
		return (struct lead){ 1, 0, 0 };
	}
	if (c >= 0xC2 && c <= 0xDF) {
		return (struct lead){ 2, 0x80, 0xBF };
	}
	if (c >= 0xE0 && c <= 0xEF) {
		return (struct lead){ 3, c == 0xE0 ? 0xA0 : 0x80, c == 0xED ? 0x9F : 0xBF };
	}
	if (c >= 0xF0 && c <= 0xF4) {
		return (struct lead){ 4, c == 0xF0 ? 0x90 : 0x80, c == 0xF4 ? 0x8F : 0xBF };
	}
	return (struct lead){ 0, 0, 0 };
}

/* Bytes of s [n], n > 0, that agree with the promise of the first: the whole character when that
 * is *length, else the maximal part of a broken or unfinished one (1 for a byte that starts
 * nothing, *length then 0). */
static size_t agree(const char *s, size_t n, unsigned *length)
{
	struct lead lead = lead_of((unsigned char)s[0]);
	size_t have = 1;

	*length = lead.length;
	while (have < lead.length && have < n) {
		unsigned char c = (unsigned char)s[have];
		unsigned char low = have == 1 ? lead.low : 0x80;
		unsigned char high = have == 1 ? lead.high : 0xBF;

		if (c < low || c > high) {
			break;
		}
		have++;
	}
	return have;
}

size_t bn_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
	unsigned length;
	size_t have = agree(s, n, &length);
	unsigned char c = (unsigned char)s[0];
	uint32_t value;

	if (have != length) {
		*cp = UINT32_MAX;
		return have;
	}
	/* 0x7F, 0x1F, 0x0F, 0x07: the bits of the first byte that carry data. */
	value = length == 1 ? c : c & (0x7Fu >> length);
	for (size_t i = 1; i < length; i++) {
		value = value << 6 | ((unsigned char)s[i] & 0x3Fu);
	}
	*cp = value;
	return have;
}

size_t bn_utf8_encode(uint32_t cp, char *out)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xC0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 0x3F));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xE0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
		out[2] = (char)(0x80 | (cp & 0x3F));
		return 3;
	}
	out[0] = (char)(0xF0 | cp >> 18);
	out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
	out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
	out[3] = (char)(0x80 | (cp & 0x3F));
	return 4;
}

bool bn_utf8_valid(const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		unsigned length;
		size_t have;

		if ((unsigned char)s[i] < 0x80) {
			i++;
			continue;
		}
		have = agree(s + i, n - i, &length);
		if (have != length) {
			return false;
		}
		i += have;
	}
	return true;
}

size_t bn_utf8_clean(const char *s, size_t n, char *out)
{
	size_t written = 0;

	for (size_t i = 0; i < n;) {
		unsigned length;
		size_t have = agree(s + i, n - i, &length);

		if (have == length) {
			memcpy(out + written, s + i, have);
			written += have;
		} else {
			written += bn_utf8_encode(BN_UTF8_REPLACEMENT, out + written);
		}
		i += have;
	}
	return written;
}

/* Bytes at the end of s [n] that begin a character and do not contradict it: 0..3. */
static size_t unfinished(const char *s, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned length;

		if (((unsigned char)s[n - back] & 0xC0) == 0x80) {
			continue;
		}
		return agree(s + n - back, back, &length) == back && length > back ? back : 0;
	}
	return 0;
}

size_t bn_utf8_push(struct bn_utf8_hold *hold, const char *s, size_t n, char *out)
{
	size_t written = 0;
	size_t keep;

	/* The kept tail is finished or proven broken byte by byte; then s stands alone. */
	while (hold->n > 0 && n > 0) {
		char part[4];
		unsigned length;
		size_t have;

		memcpy(part, hold->tail, hold->n);
		part[hold->n] = s[0];
		have = agree(part, hold->n + 1u, &length);
		if (have == hold->n) { /* s[0] does not continue the tail: it is left for below */
			written += bn_utf8_encode(BN_UTF8_REPLACEMENT, out + written);
			hold->n = 0;
			break;
		}
		s++;
		n--;
		if (have == length) {
			memcpy(out + written, part, have);
			written += have;
			hold->n = 0;
		} else {
			memcpy(hold->tail, part, have);
			hold->n = (unsigned)have;
		}
	}
	if (n == 0) {
		return written;
	}
	keep = unfinished(s, n);
	written += bn_utf8_clean(s, n - keep, out + written);
	memcpy(hold->tail, s + n - keep, keep);
	hold->n = (unsigned)keep;
	return written;
}

size_t bn_utf8_flush(struct bn_utf8_hold *hold, char *out)
{
	if (hold->n == 0) {
		return 0;
	}
	hold->n = 0;
	return bn_utf8_encode(BN_UTF8_REPLACEMENT, out);
}
