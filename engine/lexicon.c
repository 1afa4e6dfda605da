#include "engine/lexicon.h"

#include "engine/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(size_t) == 8, "sizes of a block are computed in 64 bits");

/*
 * Texts of all tokens together stay below what 32-bit offsets reach; no model comes near (Llama-3
 * has 0.8 MB).
 */
#define MAX_TEXT_BYTES (1u << 30)

/*
 * A hash table over strings from a file can be filled with strings chosen to collide. Ours gives
 * up when a probe takes this long; with honest strings and half-empty tables the longest run seen
 * is a few dozen.
 */
enum { MAX_PROBE = 2048 };

static const char begin_of_text[] = "<|begin_of_text|>";

/* Spellings that end a generation whatever id the file calls eos. */
static const char *const eog_spellings[] = {
	"<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>",
	"<|end|>",    "<|eom_id|>",      "<end_of_turn>", "<EOT>",
};

void *bn_block_take(struct bn_block *block, size_t count, size_t size)
{
	void *at = block->base == NULL ? NULL : block->base + block->used;

	block->used += (count * size + 15) & ~(size_t)15;
	return at;
}

static bool equals(struct bn_str s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static bool starts(struct bn_str s, const char *text)
{
	return s.n >= strlen(text) && memcmp(s.p, text, strlen(text)) == 0;
}

static bool ends(struct bn_str s, const char *text)
{
	size_t n = strlen(text);

	return s.n >= n && memcmp(s.p + s.n - n, text, n) == 0;
}

/* "<|...|>", with ASCII or full-width bars (U+FF5C). */
static bool is_markup(struct bn_str s)
{
	return (s.n >= 5 && starts(s, "<|") && ends(s, "|>")) ||
	       (s.n >= 9 && starts(s, "<\xEF\xBD\x9C") && ends(s, "\xEF\xBD\x9C>"));
}

static bool in_angles(struct bn_str s)
{
	return s.n >= 3 && s.p[0] == '<' && s.p[s.n - 1] == '>';
}

static bool is_eog_spelling(struct bn_str s)
{
	if (!in_angles(s)) {
		return false;
	}
	for (size_t i = 0; i < sizeof(eog_spellings) / sizeof(eog_spellings[0]); i++) {
		if (equals(s, eog_spellings[i])) {
			return true;
		}
	}
	return false;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of "<0xHH>", or -1. */
static int byte_spelling(struct bn_str s)
{
	int high;
	int low;

	if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') {
		return -1;
	}
	high = hex_digit(s.p[3]);
	low = hex_digit(s.p[4]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The byte a character of the GPT-2 alphabet stands for, or -1: printable Latin-1 means itself,
 * the 68 others are U+0100 and up, in order. */
static int gpt2_byte(uint32_t cp)
{
	if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xFF && cp != 0xAD)) {
		return (int)cp;
	}
	if (cp < 0x100 || cp > 0x143) {
		return -1;
	}
	cp -= 0x100;
	if (cp <= 0x20) {
		return (int)cp; /* 00..20 */
	}
	return cp <= 0x42 ? (int)(0x7F + cp - 0x21) : 0xAD; /* 7F..A0, then the soft hyphen */
}

size_t bn_lexicon_from_gpt2(struct bn_str spelling, char *out)
{
	size_t written = 0;

	for (size_t i = 0; i < spelling.n;) {
		uint32_t cp;
		int byte;

		i += bn_utf8_decode(spelling.p + i, spelling.n - i, &cp);
		byte = gpt2_byte(cp);
		if (byte < 0) {
			return SIZE_MAX;
		}
		if (out != NULL) {
			out[written] = (char)byte;
		}
		written++;
	}
	return written;
}

/* SentencePiece writes a space as U+2581. Returns the bytes; out [spelling.n] or NULL. */
static size_t from_spm(struct bn_str spelling, char *out)
{
	size_t written = 0;

	for (size_t i = 0; i < spelling.n; written++) {
		bool space = spelling.n - i >= 3 && memcmp(spelling.p + i, "\xE2\x96\x81", 3) == 0;

		if (out != NULL) {
			out[written] = space ? ' ' : spelling.p[i];
		}
		i += space ? 3 : 1;
	}
	return written;
}

/* What becomes of one token. */
struct verdict {
	unsigned flags;
	int byte; /* the single byte it stands for, or -1     */
	bool glued;
	size_t length; /* of its text                              */
};

static bool is_named(const struct bn_vocab *v, bn_token id)
{
	return id == v->bos || id == v->eos || id == v->eot || id == v->eom || id == v->unk;
}

/* Judges token `id` and writes its text to out (NULL: only measures). */
static struct verdict judge(const struct bn_vocab *v, bn_token id, char *out)
{
	struct verdict verdict = { .byte = -1 };
	struct bn_str s = v->tokens[id];
	unsigned type = v->types == NULL ? BN_TOKEN_NORMAL : v->types[id];
	bool guarded = type == BN_TOKEN_CONTROL || type == BN_TOKEN_UNKNOWN;

	/* Converters that encoded each special token with a BOS in front left it in the text. */
	if (s.n > strlen(begin_of_text) && starts(s, begin_of_text)) {
		s.p += strlen(begin_of_text);
		s.n -= strlen(begin_of_text);
		verdict.glued = true;
	}
	if (is_eog_spelling(s) || id == v->eos || id == v->eot || id == v->eom) {
		verdict.flags |= BN_LEXICON_EOG;
	}
	guarded = guarded || is_eog_spelling(s) || is_markup(s) ||
		  (type == BN_TOKEN_USER_DEFINED && in_angles(s)) ||
		  (is_named(v, id) && in_angles(s));
	if (guarded) {
		verdict.flags |= BN_LEXICON_GUARDED;
	} else if (type == BN_TOKEN_USER_DEFINED) {
		verdict.flags |= BN_LEXICON_LITERAL;
	} else if (v->kind == BN_TOKENIZER_SPM && byte_spelling(s) >= 0) {
		verdict.byte = byte_spelling(s);
	} else if (type != BN_TOKEN_UNUSED) {
		verdict.flags |= BN_LEXICON_MERGEABLE;
	}

	verdict.length = s.n;
	if (verdict.byte >= 0) {
		verdict.length = 1;
		if (out != NULL) {
			out[0] = (char)verdict.byte;
		}
		return verdict;
	}
	if (!guarded && v->kind == BN_TOKENIZER_SPM) {
		verdict.length = from_spm(s, out);
		return verdict;
	}
	if ((verdict.flags & BN_LEXICON_MERGEABLE) != 0) {
		size_t length = bn_lexicon_from_gpt2(s, out);

		if (length != SIZE_MAX) {
			verdict.length = length;
			if (length == 1) {
				verdict.byte = gpt2_byte((unsigned char)s.p[0]);
				if (s.n > 1) {
					uint32_t cp;

					bn_utf8_decode(s.p, s.n, &cp);
					verdict.byte = gpt2_byte(cp);
				}
			}
			return verdict;
		}
		/* Not of the alphabet: no sequence of bytes merges to it. It keeps its text. */
		verdict.flags &= ~(unsigned)BN_LEXICON_MERGEABLE;
	}
	if (out != NULL && s.n > 0) {
		memcpy(out, s.p, s.n);
	}
	return verdict;
}

static uint32_t hash_of(const char *s, size_t n)
{
	uint64_t h = n * 0x9E3779B97F4A7C15u;

	while (n > 0) {
		uint64_t word = 0;
		size_t part = n < 8 ? n : 8;

		memcpy(&word, s, part);
		h = (h ^ word) * 0xD6E8FEB86659FD93u;
		h ^= h >> 32;
		s += part;
		n -= part;
	}
	h *= 0xD6E8FEB86659FD93u;
	return (uint32_t)(h >> 32);
}

struct bn_str bn_lexicon_text(const struct bn_lexicon *lex, bn_token id)
{
	if (id >= lex->n) {
		return (struct bn_str){ "", 0 };
	}
	return (struct bn_str){ lex->bytes + lex->offset[id],
				lex->offset[id + 1] - lex->offset[id] };
}

unsigned bn_lexicon_flags(const struct bn_lexicon *lex, bn_token id)
{
	return id < lex->n ? lex->flags[id] : 0;
}

static bool same_text(const struct bn_lexicon *lex, bn_token id, const char *s, size_t n)
{
	struct bn_str text = bn_lexicon_text(lex, id);

	return text.n == n && memcmp(text.p, s, n) == 0;
}

bn_token bn_lexicon_find(const struct bn_lexicon *lex, const char *text, size_t n)
{
	uint32_t hash;

	if (n == 0) {
		return BN_TOKEN_NONE;
	}
	hash = hash_of(text, n);
	for (uint32_t at = hash;; at++) { /* a table always has empty slots */
		const struct bn_lexicon_slot *slot = &lex->slots[at & lex->mask];

		if (slot->id == BN_TOKEN_NONE ||
		    (slot->hash == hash && same_text(lex, slot->id, text, n))) {
			return slot->id;
		}
	}
}

/* Enters a token unless its text is known already. False when the probe takes too long. */
static bool enter(struct bn_lexicon *lex, bn_token id)
{
	struct bn_str text = bn_lexicon_text(lex, id);
	uint32_t hash = hash_of(text.p, text.n);

	for (uint32_t probe = 0; probe < MAX_PROBE; probe++) {
		struct bn_lexicon_slot *slot = &lex->slots[(hash + probe) & lex->mask];

		if (slot->id == BN_TOKEN_NONE) {
			*slot = (struct bn_lexicon_slot){ hash, id };
			return true;
		}
		if (slot->hash == hash && same_text(lex, slot->id, text.p, text.n)) {
			return true;
		}
	}
	return false;
}

static int by_text(const void *a, const void *b, void *who)
{
	const struct bn_lexicon *lex = who;
	bn_token ia = *(const bn_token *)a;
	bn_token ib = *(const bn_token *)b;
	struct bn_str x = bn_lexicon_text(lex, ia);
	struct bn_str y = bn_lexicon_text(lex, ib);
	int order = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);

	if (order != 0) {
		return order;
	}
	if (x.n != y.n) {
		return x.n < y.n ? -1 : 1;
	}
	return ia < ib ? -1 : ia > ib;
}

/* Sorts a list whose ids are gathered. Texts that are no UTF-8 could match in the middle of a
 * character, empty ones everywhere; neither was gathered. */
static void finish_list(const struct bn_lexicon *lex, struct bn_lexicon_list *list)
{
	uint32_t at = 0;

	qsort_r(list->ids, list->n, sizeof(*list->ids), by_text, (void *)(uintptr_t)lex);
	for (unsigned c = 0; c < 257; c++) {
		while (at < list->n &&
		       (unsigned char)bn_lexicon_text(lex, list->ids[at]).p[0] < c) {
			at++;
		}
		list->first[c] = at;
	}
	list->first[256] = list->n;
}

/* The first index in [lo, hi) whose text has a byte >= c at `depth`; all are longer than that. */
static uint32_t lower(const struct bn_lexicon *lex, const struct bn_lexicon_list *list, uint32_t lo,
		      uint32_t hi, size_t depth, unsigned c)
{
	while (lo < hi) {
		uint32_t middle = lo + (hi - lo) / 2;

		if ((unsigned char)bn_lexicon_text(lex, list->ids[middle]).p[depth] < c) {
			lo = middle + 1;
		} else {
			hi = middle;
		}
	}
	return lo;
}

bn_token bn_lexicon_match(const struct bn_lexicon *lex, const struct bn_lexicon_list *list,
			  const char *text, size_t n, size_t *bytes)
{
	bn_token best = BN_TOKEN_NONE;
	unsigned char c = n > 0 ? (unsigned char)text[0] : 0;
	uint32_t lo = n > 0 ? list->first[c] : 0;
	uint32_t hi = n > 0 ? list->first[c + 1] : 0;

	/* [lo, hi) all start with text [depth]; those of exactly that length come first. */
	for (size_t depth = 1; lo < hi; depth++) {
		if (bn_lexicon_text(lex, list->ids[lo]).n == depth) {
			best = list->ids[lo];
			*bytes = depth;
			while (lo < hi && bn_lexicon_text(lex, list->ids[lo]).n == depth) {
				lo++;
			}
		}
		if (depth == n) {
			break;
		}
		c = (unsigned char)text[depth];
		lo = lower(lex, list, lo, hi, depth, c);
		hi = lower(lex, list, lo, hi, depth, c + 1u);
	}
	return best;
}

/* A power of two at least twice n, so that the table stays half empty. */
static uint32_t table_size(uint32_t n)
{
	uint32_t size = 16;

	while (size < 2 * n) {
		size *= 2;
	}
	return size;
}

static enum bn_status check(const struct bn_vocab *v, struct bn_error *err)
{
	if (v->n_tokens == 0 || v->n_tokens > BN_TOKENIZER_MAX_TOKENS) {
		return bn_fail(err, BN_E_FORMAT,
			       "vocabulary has %u tokens, at least 1 and at most %d expected",
			       v->n_tokens, BN_TOKENIZER_MAX_TOKENS);
	}
	if (v->n_merges > BN_TOKENIZER_MAX_MERGES) {
		return bn_fail(err, BN_E_FORMAT, "vocabulary has %u merges, at most %d expected",
			       v->n_merges, BN_TOKENIZER_MAX_MERGES);
	}
	for (uint32_t i = 0; i < v->n_tokens; i++) {
		if (v->tokens[i].n > BN_TOKENIZER_TOKEN_BYTES) {
			return bn_fail(err, BN_E_FORMAT,
				       "token %u is %zu bytes long, at most %d expected", i,
				       v->tokens[i].n, BN_TOKENIZER_TOKEN_BYTES);
		}
	}
	return BN_OK;
}

/* Texts, flags, byte tokens; fills the lists in id order. */
static void fill(struct bn_lexicon *lex, const struct bn_vocab *v)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < lex->n; i++) {
		struct verdict verdict = judge(v, i, lex->bytes + at);
		struct bn_str text = { lex->bytes + at, verdict.length };
		bool matchable = text.n > 0 && bn_utf8_valid(text.p, text.n);

		lex->offset[i] = at;
		at += (uint32_t)verdict.length;
		lex->flags[i] = (uint8_t)verdict.flags;
		lex->glued_bos = lex->glued_bos || verdict.glued;
		lex->has_eog = lex->has_eog || (verdict.flags & BN_LEXICON_EOG) != 0;
		if (verdict.byte >= 0 && lex->byte_id[verdict.byte] == BN_TOKEN_NONE) {
			lex->byte_id[verdict.byte] = i;
		}
		if ((verdict.flags & BN_LEXICON_MERGEABLE) != 0 && text.n > lex->longest) {
			lex->longest = (uint32_t)text.n;
		}
		if ((verdict.flags & BN_LEXICON_GUARDED) != 0 && matchable) {
			lex->guarded.ids[lex->guarded.n++] = i;
		}
		if ((verdict.flags & BN_LEXICON_LITERAL) != 0 && matchable) {
			lex->literal.ids[lex->literal.n++] = i;
		}
	}
	lex->offset[lex->n] = at;
}

static enum bn_status fill_table(struct bn_lexicon *lex, struct bn_error *err)
{
	static const unsigned passes[] = { BN_LEXICON_MERGEABLE, BN_LEXICON_LITERAL };

	memset(lex->slots, 0xFF, (lex->mask + (size_t)1) * sizeof(*lex->slots));
	for (size_t pass = 0; pass < sizeof(passes) / sizeof(passes[0]); pass++) {
		for (uint32_t i = 0; i < lex->n; i++) {
			if ((lex->flags[i] & passes[pass]) == 0 ||
			    lex->offset[i] == lex->offset[i + 1]) {
				continue;
			}
			if (!enter(lex, i)) {
				return bn_fail(err, BN_E_FORMAT,
					       "the texts of the tokens are chosen to collide "
					       "(at token %u)",
					       i);
			}
		}
	}
	return BN_OK;
}

enum bn_status bn_lexicon_build(struct bn_lexicon *lex, struct bn_block *block,
				const struct bn_vocab *vocab, struct bn_error *err)
{
	uint64_t text_bytes = 0;
	uint32_t n_guarded = 0;
	uint32_t n_literal = 0;
	enum bn_status status = check(vocab, err);

	if (status != BN_OK) {
		return status;
	}
	for (uint32_t i = 0; i < vocab->n_tokens; i++) {
		struct verdict verdict = judge(vocab, i, NULL);

		text_bytes += verdict.length;
		n_guarded += (verdict.flags & BN_LEXICON_GUARDED) != 0;
		n_literal += (verdict.flags & BN_LEXICON_LITERAL) != 0;
	}
	if (text_bytes > MAX_TEXT_BYTES) {
		return bn_fail(err, BN_E_FORMAT,
			       "the tokens of the vocabulary have %llu bytes, at most %u expected",
			       (unsigned long long)text_bytes, MAX_TEXT_BYTES);
	}

	*lex = (struct bn_lexicon){ .n = vocab->n_tokens };
	lex->mask = table_size(lex->n) - 1;
	memset(lex->byte_id, 0xFF, sizeof(lex->byte_id));
	lex->offset = bn_block_take(block, (size_t)lex->n + 1, sizeof(*lex->offset));
	lex->flags = bn_block_take(block, lex->n, sizeof(*lex->flags));
	/* judge() writes while it finds out that a spelling is not of the alphabet, never more
	 * than the spelling has; the last one may need that much room beyond its own text. */
	lex->bytes = bn_block_take(block, text_bytes + BN_TOKENIZER_TOKEN_BYTES, 1);
	lex->slots = bn_block_take(block, (size_t)lex->mask + 1, sizeof(*lex->slots));
	lex->guarded.ids = bn_block_take(block, n_guarded, sizeof(*lex->guarded.ids));
	lex->literal.ids = bn_block_take(block, n_literal, sizeof(*lex->literal.ids));
	if (block->base == NULL) {
		return BN_OK;
	}

	fill(lex, vocab);
	finish_list(lex, &lex->guarded);
	finish_list(lex, &lex->literal);
	return fill_table(lex, err);
}
