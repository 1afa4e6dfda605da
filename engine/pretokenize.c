#include "engine/pretokenize.h"

#include "engine/unicode.h"
#include "engine/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/*
 * A regular expression of this kind tries its branches in order at each place, so each splitter
 * below is its expression read from left to right, one branch per paragraph. No branch needs
 * backtracking further than one character or to the last line end it passed, and what a branch
 * gives back is consumed by the next call, so the whole is linear: every byte is looked at a
 * fixed number of times.
 */

/* The character at `at`; class OTHER and length 0 at the end (`at` == n). */
struct glyph {
	uint32_t cp;
	enum bn_class class;
	size_t length;
};

static struct glyph glyph_at(const char *text, size_t n, size_t at)
{
	struct glyph g = { UINT32_MAX, BN_CLASS_OTHER, 0 };

	if (at < n) {
		g.length = bn_utf8_decode(text + at, n - at, &g.cp);
		g.class = bn_unicode_class(g.cp);
	}
	return g;
}

static bool is_space(enum bn_class class)
{
	return class == BN_CLASS_SPACE || class == BN_CLASS_NEWLINE;
}

/* End of the run of `class` that starts at `at`, or runs through `at` when it is not there. */
static size_t run_of(enum bn_class class, const char *text, size_t n, size_t at)
{
	for (;;) {
		struct glyph g = glyph_at(text, n, at);

		if (g.length == 0 || g.class != class) {
			return at;
		}
		at += g.length;
	}
}

/* 's 't 're 've 'm 'll 'd at the start of text, or 0. `fold`: letters in any case, and long s
 * (U+017F), which Unicode folds to s. */
static size_t contraction(const char *text, size_t n, bool fold)
{
	static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d" };

	if (n < 2 || text[0] != '\'') {
		return 0;
	}
	for (size_t e = 0; e < sizeof(endings) / sizeof(endings[0]); e++) {
		const char *ending = endings[e];
		size_t length = strlen(ending);
		size_t same = 0;

		while (same < length && 1 + same < n) {
			char c = text[1 + same];

			if (fold && c >= 'A' && c <= 'Z') {
				c = (char)(c | 0x20);
			}
			if (c != ending[same]) {
				break;
			}
			same++;
		}
		if (same == length) {
			return 1 + length;
		}
	}
	return fold && n >= 3 && memcmp(text + 1, "\xC5\xBF", 2) == 0 ? 3 : 0;
}

/*
 * \s*[\r\n]+ (only with `newlines`), \s+(?!\S), \s+ for text that starts with white space: up to
 * the last line end of the run; else the run, less its last character when something follows
 * that this character belongs to; else that single character.
 */
static size_t white_space(const char *text, size_t n, bool newlines)
{
	size_t at = 0;
	size_t last = 0;          /* where the last character of the run starts */
	size_t after_newline = 0; /* behind the last line end of the run        */

	for (;;) {
		struct glyph g = glyph_at(text, n, at);

		if (g.length == 0 || !is_space(g.class)) {
			break;
		}
		last = at;
		at += g.length;
		if (g.class == BN_CLASS_NEWLINE) {
			after_newline = at;
		}
	}
	if (newlines && after_newline > 0) {
		return after_newline;
	}
	if (at == n || last == 0) {
		return at;
	}
	return last;
}

static size_t llama3(const char *text, size_t n, unsigned digits)
{
	struct glyph first = glyph_at(text, n, 0);
	struct glyph second;
	size_t end = contraction(text, n, true);

	if (end > 0) {
		return end;
	}

	/* [^\r\n\p{L}\p{N}]?\p{L}+ */
	if (first.class == BN_CLASS_LETTER) {
		return run_of(BN_CLASS_LETTER, text, n, first.length);
	}
	second = glyph_at(text, n, first.length);
	if (first.class != BN_CLASS_NEWLINE && first.class != BN_CLASS_NUMBER &&
	    second.class == BN_CLASS_LETTER) {
		return run_of(BN_CLASS_LETTER, text, n, first.length);
	}

	/* \p{N}{1,3} */
	if (first.class == BN_CLASS_NUMBER) {
		end = first.length;
		for (unsigned i = 1; i < digits; i++) {
			struct glyph g = glyph_at(text, n, end);

			if (g.class != BN_CLASS_NUMBER) {
				break;
			}
			end += g.length;
		}
		return end;
	}

	/*  ?[^\s\p{L}\p{N}]+[\r\n]* */
	if (first.class == BN_CLASS_OTHER ||
	    (first.cp == ' ' && second.length > 0 && second.class == BN_CLASS_OTHER)) {
		end = run_of(BN_CLASS_OTHER, text, n, first.length);
		return run_of(BN_CLASS_NEWLINE, text, n, end);
	}

	return white_space(text, n, true);
}

static size_t gpt2(const char *text, size_t n)
{
	struct glyph first = glyph_at(text, n, 0);
	size_t end = contraction(text, n, false);

	if (end > 0) {
		return end;
	}

	/*  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+ */
	if (first.cp == ' ') {
		struct glyph second = glyph_at(text, n, first.length);

		if (second.length > 0 && !is_space(second.class)) {
			return run_of(second.class, text, n, first.length);
		}
	}
	if (!is_space(first.class)) {
		return run_of(first.class, text, n, first.length);
	}

	return white_space(text, n, false);
}

size_t bn_pretokenize_next(enum bn_splitter splitter, const char *text, size_t n)
{
	if (n == 0) {
		return 0;
	}
	switch (splitter) {
	case BN_SPLIT_LLAMA3:
		return llama3(text, n, 3);
	case BN_SPLIT_QWEN2:
		return llama3(text, n, 1);
	case BN_SPLIT_GPT2:
	case BN_SPLITTER_COUNT:
		break;
	}
	return gpt2(text, n);
}

/*
 * Falcon3 and Falcon-E: the regular expressions that bitnet.cpp gives them contradict their
 * vocabulary (its token "°F" can never come out of them); Llama-3's agrees with every encoding
 * known (design paper "models", 5.4), and is what other engines use under these names.
 */
static const struct bn_pretokenizer table[] = {
	{ "llama3", BN_SPLIT_LLAMA3, true, false },    { "llama-v3", BN_SPLIT_LLAMA3, true, false },
	{ "llama-bpe", BN_SPLIT_LLAMA3, true, false }, { "falcon3", BN_SPLIT_LLAMA3, true, false },
	{ "falcon_e", BN_SPLIT_LLAMA3, true, false },  { "falcon-e", BN_SPLIT_LLAMA3, true, false },
	{ "falcon-h1", BN_SPLIT_LLAMA3, true, false }, { "qwen2", BN_SPLIT_QWEN2, false, true },
	{ "gpt-2", BN_SPLIT_GPT2, false, false },      { "gpt2", BN_SPLIT_GPT2, false, false },
	{ "default", BN_SPLIT_GPT2, false, false },
};

const struct bn_pretokenizer *bn_pretokenizer_find(const char *name, size_t n)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0) {
			return &table[i];
		}
	}
	return NULL;
}
