/*
 * UTF-8: decoding one character, making any bytes valid, and holding the incomplete tail of a
 * stream back until the rest has come.
 *
 * It does not know character classes (engine/unicode.h) or allocate. "Broken" is judged as
 * Unicode 15, 3.9 advises: every maximal part of a broken sequence becomes one U+FFFD; overlong
 * forms, surrogates and code points beyond U+10FFFF are broken. Any thread.
 */
#ifndef BN_ENGINE_UTF8_H
#define BN_ENGINE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BN_UTF8_REPLACEMENT 0xFFFDu

/*
 * Decodes the first character of s [n], n > 0. Returns the bytes it takes (1..4) and the code
 * point; for a broken sequence the bytes of its maximal part (1..3), and *cp is UINT32_MAX.
 */
size_t bn_utf8_decode(const char *s, size_t n, uint32_t *cp);

/* Writes cp, a Unicode scalar value, to out [4]; returns its bytes. */
size_t bn_utf8_encode(uint32_t cp, char *out);

/* True when s [n] is valid UTF-8. */
bool bn_utf8_valid(const char *s, size_t n);

/* Copies s [n] to out [3 * n] with broken parts replaced by U+FFFD; returns the bytes written. */
size_t bn_utf8_clean(const char *s, size_t n, char *out);

/* The incomplete end of a stream. Zero it to start. */
struct bn_utf8_hold {
	unsigned char tail[4];
	unsigned n; /* 0..3 */
};

/*
 * Appends bytes s [n] to the stream and writes every character now whole to out [3 * (n + 3)],
 * broken parts replaced; returns the bytes written. What may still become a character is kept.
 */
size_t bn_utf8_push(struct bn_utf8_hold *hold, const char *s, size_t n, char *out);

/* The stream is over: a kept tail becomes one U+FFFD in out [3]. Returns 0 or 3; hold is empty. */
size_t bn_utf8_flush(struct bn_utf8_hold *hold, char *out);

#endif
