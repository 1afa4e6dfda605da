#include "engine/tokenizer.h"

#include "engine/bpe.h"
#include "engine/merge.h"
#include "engine/nfc.h"
#include "engine/pretokenize.h"
#include "engine/spm.h"

#include <stdlib.h>
#include <string.h>

struct bn_tokenizer {
	enum bn_tokenizer_kind kind;
	enum bn_splitter splitter;
	bool add_bos, add_eos, add_space_prefix;
	bool nfc;
	bn_token bos, eos;
	unsigned warnings;
	size_t bytes; /* of the block this struct begins */
	struct bn_lexicon lex;
	struct bn_bpe bpe; /* kind BPE */
	struct bn_spm spm; /* kind SPM */
	bool starts[2]
		   [256]; /* [parse_special][byte]: may a token that is matched in text start so? */
};

/* --- making ----------------------------------------------------------------------------------- */

/* Takes everything from the block in one fixed order; with base NULL only measures. */
static enum bn_status build(struct bn_tokenizer *tok, struct bn_block *block,
			    const struct bn_vocab *vocab, struct bn_error *err)
{
	enum bn_status status;

	bn_block_take(block, 1, sizeof(*tok));
	status = bn_lexicon_build(&tok->lex, block, vocab, err);
	if (status != BN_OK) {
		return status;
	}
	if (vocab->kind == BN_TOKENIZER_SPM) {
		bn_spm_build(&tok->spm, block, vocab, &tok->lex);
		return BN_OK;
	}
	return bn_bpe_build(&tok->bpe, block, vocab, &tok->lex, err);
}

size_t bn_tokenizer_need(const struct bn_vocab *vocab)
{
	struct bn_tokenizer tok;
	struct bn_block block = { NULL, 0 };

	return build(&tok, &block, vocab, NULL) == BN_OK ? block.used : SIZE_MAX;
}

static bool lacks_bytes(const struct bn_lexicon *lex)
{
	for (unsigned b = 0; b < 256; b++) {
		bool in_utf8 = b != 0xC0 && b != 0xC1 && b < 0xF5;

		if (in_utf8 && lex->byte_id[b] == BN_TOKEN_NONE) {
			return true;
		}
	}
	return false;
}

static unsigned warnings_of(const struct bn_tokenizer *tok)
{
	unsigned w = 0;

	w |= tok->kind == BN_TOKENIZER_SPM && tok->spm.flat ? BN_TOKENIZER_FLAT_SCORES : 0;
	w |= tok->kind == BN_TOKENIZER_BPE && tok->bpe.lost > 0 ? BN_TOKENIZER_LOST_MERGES : 0;
	w |= lacks_bytes(&tok->lex) ? BN_TOKENIZER_LOST_BYTES : 0;
	w |= tok->lex.glued_bos ? BN_TOKENIZER_GLUED_BOS : 0;
	w |= tok->lex.has_eog ? 0 : BN_TOKENIZER_NO_EOG;
	return w;
}

static bn_token in_range(bn_token id, const struct bn_vocab *vocab)
{
	return id < vocab->n_tokens ? id : BN_TOKEN_NONE;
}

enum bn_status bn_tokenizer_new(struct bn_tokenizer **out, const struct bn_vocab *vocab,
				struct bn_error *err)
{
	struct bn_tokenizer *tok;
	struct bn_tokenizer measured;
	struct bn_block block = { NULL, 0 };
	size_t need;
	enum bn_status status = build(&measured, &block, vocab, err);

	if (status != BN_OK) {
		return status;
	}
	need = block.used;
	tok = calloc(1, need);
	if (tok == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a tokenizer of %zu bytes", need);
	}
	block = (struct bn_block){ (unsigned char *)tok, 0 };
	status = build(tok, &block, vocab, err);
	if (status != BN_OK) {
		free(tok);
		return status;
	}
	tok->bytes = need;
	tok->kind = vocab->kind;
	tok->splitter = vocab->splitter;
	tok->nfc = vocab->kind == BN_TOKENIZER_BPE && vocab->nfc;
	tok->add_bos = vocab->add_bos;
	tok->add_eos = vocab->add_eos;
	tok->add_space_prefix = vocab->kind == BN_TOKENIZER_SPM && vocab->add_space_prefix;
	tok->bos = in_range(vocab->bos, vocab);
	tok->eos = in_range(vocab->eos, vocab);
	tok->warnings = warnings_of(tok) | vocab->warnings;
	for (unsigned c = 0; c < 256; c++) {
		tok->starts[0][c] = tok->lex.literal.first[c] < tok->lex.literal.first[c + 1];
		tok->starts[1][c] = tok->starts[0][c] ||
				    tok->lex.guarded.first[c] < tok->lex.guarded.first[c + 1];
	}
	*out = tok;
	return BN_OK;
}

void bn_tokenizer_free(struct bn_tokenizer *tok)
{
	free(tok);
}

/* --- asking ----------------------------------------------------------------------------------- */

size_t bn_tokenizer_bytes(const struct bn_tokenizer *tok)
{
	return tok->bytes;
}

enum bn_tokenizer_kind bn_tokenizer_kind(const struct bn_tokenizer *tok)
{
	return tok->kind;
}

uint32_t bn_tokenizer_size(const struct bn_tokenizer *tok)
{
	return tok->lex.n;
}

unsigned bn_tokenizer_warnings(const struct bn_tokenizer *tok)
{
	return tok->warnings;
}

const char *bn_tokenizer_warning_text(enum bn_tokenizer_warning warning)
{
	switch (warning) {
	case BN_TOKENIZER_UNKNOWN_PRE:
		return "the file's pre-tokenizer is not known: text is split as for GPT-2, answers "
		       "may be worse";
	case BN_TOKENIZER_FLAT_SCORES:
		return "all scores of the vocabulary are the same (converted without "
		       "tokenizer.model): answers will be worse";
	case BN_TOKENIZER_LOST_MERGES:
		return "some merges name tokens that do not exist and were skipped";
	case BN_TOKENIZER_LOST_BYTES:
		return "some bytes have no token: characters that need them are lost from texts";
	case BN_TOKENIZER_GLUED_BOS:
		return "tokens spelled with a leading <|begin_of_text|> were repaired";
	case BN_TOKENIZER_NO_EOG:
		return "no end-of-generation token: only max_tokens and stop strings end an answer";
	}
	return "unknown warning";
}

bn_token bn_tokenizer_bos(const struct bn_tokenizer *tok)
{
	return tok->bos;
}

bn_token bn_tokenizer_eos(const struct bn_tokenizer *tok)
{
	return tok->eos;
}

bool bn_tokenizer_adds_bos(const struct bn_tokenizer *tok)
{
	return tok->add_bos && tok->bos != BN_TOKEN_NONE;
}

bool bn_tokenizer_adds_eos(const struct bn_tokenizer *tok)
{
	return tok->add_eos && tok->eos != BN_TOKEN_NONE;
}

bool bn_tokenizer_is_eog(const struct bn_tokenizer *tok, bn_token id)
{
	return (bn_lexicon_flags(&tok->lex, id) & BN_LEXICON_EOG) != 0;
}

bool bn_tokenizer_is_control(const struct bn_tokenizer *tok, bn_token id)
{
	return (bn_lexicon_flags(&tok->lex, id) & BN_LEXICON_GUARDED) != 0;
}

bn_token bn_tokenizer_find(const struct bn_tokenizer *tok, const char *text, size_t bytes)
{
	size_t matched = 0;
	bn_token id = bn_lexicon_match(&tok->lex, &tok->lex.guarded, text, bytes, &matched);

	if (id != BN_TOKEN_NONE && matched == bytes) {
		return id;
	}
	return bn_lexicon_find(&tok->lex, text, bytes);
}

struct bn_str bn_tokenizer_piece(const struct bn_tokenizer *tok, bn_token id)
{
	if (bn_tokenizer_is_control(tok, id)) {
		return (struct bn_str){ "", 0 };
	}
	return bn_lexicon_text(&tok->lex, id);
}

struct bn_str bn_tokenizer_text(const struct bn_tokenizer *tok, bn_token id)
{
	return bn_lexicon_text(&tok->lex, id);
}

/* --- arrays of ids ---------------------------------------------------------------------------- */

enum bn_status bn_tokens_push(struct bn_tokens *t, bn_token id, struct bn_error *err)
{
	if (t->n == t->capacity) {
		size_t capacity = t->capacity < 64 ? 64 : 2 * t->capacity;
		bn_token *ids = NULL;

		if (capacity <= SIZE_MAX / sizeof(*ids)) {
			ids = realloc(t->ids, capacity * sizeof(*ids));
		}
		if (ids == NULL) {
			return bn_fail(err, BN_E_MEMORY, "no memory for %zu tokens", capacity);
		}
		t->ids = ids;
		t->capacity = capacity;
	}
	t->ids[t->n++] = id;
	return BN_OK;
}

void bn_tokens_finish(struct bn_tokens *t)
{
	free(t->ids);
	*t = (struct bn_tokens){ 0 };
}

/* --- text to tokens --------------------------------------------------------------------------- */

/* One bn_tokenizer_encode call. */
struct encoder {
	const struct bn_tokenizer *tok;
	const struct bn_encode_options *options;
	struct bn_merger merger;
	struct bn_tokens *out;
	struct bn_error *err;
};

static enum bn_status check_cancel(const struct encoder *e)
{
	const atomic_bool *cancel = e->options->cancel;

	if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed)) {
		return bn_fail(e->err, BN_E_CANCELLED, "cancelled while tokenizing");
	}
	return BN_OK;
}

/* Appends the symbols the merger ended with. */
static enum bn_status emit(struct encoder *e, const char *text)
{
	const struct bn_merger *m = &e->merger;

	for (uint32_t i = m->n == 0 ? BN_MERGE_NONE : 0; i != BN_MERGE_NONE;
	     i = m->symbols[i].next) {
		const struct bn_symbol *s = &m->symbols[i];
		bn_token ids[4] = { s->id };
		size_t n = 1;

		if (s->id == BN_MERGE_NONE) {
			n = bn_spm_fallback(&e->tok->spm, text + s->start, s->bytes, ids);
		}
		for (size_t k = 0; k < n; k++) {
			enum bn_status status = bn_tokens_push(e->out, ids[k], e->err);

			if (status != BN_OK) {
				return status;
			}
		}
	}
	return BN_OK;
}

/* Encodes one piece of at most BN_TOKENIZER_PIECE_BYTES. */
static enum bn_status encode_piece(struct encoder *e, const char *text, size_t n)
{
	enum bn_status status = check_cancel(e);

	if (status == BN_OK) {
		/* At least a page of symbols, so that short pieces do not grow it one by one. */
		status = bn_merge_reserve(&e->merger, (uint32_t)(n < 512 ? 512 : n), e->err);
	}
	if (status == BN_OK && e->tok->kind == BN_TOKENIZER_SPM) {
		status = bn_spm_encode(&e->tok->spm, &e->merger, text, (uint32_t)n, e->err);
	} else if (status == BN_OK) {
		status = bn_bpe_encode(&e->tok->bpe, &e->merger, text, (uint32_t)n, e->err);
	}
	return status != BN_OK ? status : emit(e, text);
}

/* The longest start of text [n] that fits a piece and ends between characters. */
static size_t cut(const char *text, size_t n)
{
	size_t end = BN_TOKENIZER_PIECE_BYTES;

	if (n <= end) {
		return n;
	}
	while (((unsigned char)text[end] & 0xC0) == 0x80) {
		end--;
	}
	return end;
}

/* Encodes text that holds no token matched as a whole. */
static enum bn_status encode_plain(struct encoder *e, const char *text, size_t n)
{
	enum bn_status status = BN_OK;

	while (n > 0 && status == BN_OK) {
		size_t piece =
			e->tok->kind == BN_TOKENIZER_SPM
				? bn_spm_next(&e->tok->spm, text, n, BN_TOKENIZER_PIECE_BYTES)
				: bn_pretokenize_next(e->tok->splitter, text, n);

		n -= piece;
		while (piece > 0 && status == BN_OK) {
			size_t part = cut(text, piece);

			status = encode_piece(e, text, part);
			text += part;
			piece -= part;
		}
	}
	return status;
}

/* The same behind the dummy space. */
static enum bn_status encode_prefixed(struct encoder *e, const char *text, size_t n)
{
	char *copy = malloc(n + 1);
	enum bn_status status;

	if (copy == NULL) {
		return bn_fail(e->err, BN_E_MEMORY, "no memory for a text of %zu bytes", n);
	}
	copy[0] = ' ';
	if (n > 0) {
		memcpy(copy + 1, text, n);
	}
	status = encode_plain(e, copy, n + 1);
	free(copy);
	return status;
}

/* The same behind canonical composition. */
static enum bn_status encode_composed(struct encoder *e, const char *text, size_t n)
{
	char *composed;
	size_t n_composed;
	enum bn_status status = bn_nfc(text, n, &composed, &n_composed, e->err);

	if (status != BN_OK || composed == NULL) {
		return status != BN_OK ? status : encode_plain(e, text, n);
	}
	status = encode_plain(e, composed, n_composed);
	free(composed);
	return status;
}

static bool only_spaces(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] != ' ') {
			return false;
		}
	}
	return true;
}

/*
 * Encodes text [n] between tokens matched as a whole; `start`: it begins the text, `end`: what
 * follows it, BN_TOKEN_NONE for nothing. The dummy space goes in front of the text's first word;
 * spaces alone before a control token, or none, are no word (Hugging Face, legacy=false).
 */
static enum bn_status encode_fragment(struct encoder *e, const char *text, size_t n, bool start,
				      bn_token end)
{
	bool before_control = end != BN_TOKEN_NONE && bn_tokenizer_is_control(e->tok, end);

	if (start && e->tok->add_space_prefix && !e->options->continues &&
	    !(before_control && only_spaces(text, n))) {
		return encode_prefixed(e, text, n);
	}
	return e->tok->nfc ? encode_composed(e, text, n) : encode_plain(e, text, n);
}

/* The token matched as a whole at text, or BN_TOKEN_NONE; the longest wins. */
static bn_token match(const struct bn_tokenizer *tok, bool special, const char *text, size_t n,
		      size_t *bytes)
{
	size_t literal_bytes = 0;
	size_t guarded_bytes = 0;
	bn_token literal = bn_lexicon_match(&tok->lex, &tok->lex.literal, text, n, &literal_bytes);
	bn_token guarded = BN_TOKEN_NONE;

	if (special) {
		guarded = bn_lexicon_match(&tok->lex, &tok->lex.guarded, text, n, &guarded_bytes);
	}
	if (guarded != BN_TOKEN_NONE && guarded_bytes >= literal_bytes) {
		*bytes = guarded_bytes;
		return guarded;
	}
	*bytes = literal_bytes;
	return literal;
}

static enum bn_status encode_valid(struct encoder *e, const char *text, size_t n)
{
	bool special = e->options->parse_special;
	const bool *starts = e->tok->starts[special];
	size_t from = 0; /* start of the fragment that grows */
	enum bn_status status;

	for (size_t at = 0; at < n;) {
		size_t bytes = 0;
		bn_token id = BN_TOKEN_NONE;

		if (starts[(unsigned char)text[at]]) {
			id = match(e->tok, special, text + at, n - at, &bytes);
		}
		if (id == BN_TOKEN_NONE) {
			at++;
			continue;
		}
		status = encode_fragment(e, text + from, at - from, from == 0, id);
		if (status == BN_OK) {
			status = bn_tokens_push(e->out, id, e->err);
		}
		if (status != BN_OK) {
			return status;
		}
		at += bytes;
		from = at;
	}
	return from == n ? BN_OK
			 : encode_fragment(e, text + from, n - from, from == 0, BN_TOKEN_NONE);
}

/* With broken UTF-8 repaired first. */
static enum bn_status encode_text(struct encoder *e, const char *text, size_t n)
{
	char *clean;
	enum bn_status status;

	if (bn_utf8_valid(text, n)) {
		return encode_valid(e, text, n);
	}
	clean = malloc(3 * n);
	if (clean == NULL) {
		return bn_fail(e->err, BN_E_MEMORY, "no memory for a text of %zu bytes", 3 * n);
	}
	status = encode_valid(e, clean, bn_utf8_clean(text, n, clean));
	free(clean);
	return status;
}

enum bn_status bn_tokenizer_encode(const struct bn_tokenizer *tok, const char *text, size_t bytes,
				   const struct bn_encode_options *options, struct bn_tokens *out,
				   struct bn_error *err)
{
	static const struct bn_encode_options none = { 0 };
	struct encoder e = { .tok = tok, .options = options, .out = out, .err = err };
	size_t limit = BN_TOKENIZER_TEXT_BYTES;
	size_t n_before = out->n;
	enum bn_status status;

	if (options == NULL) {
		e.options = &none;
	}
	if (e.options->max_bytes > 0 && e.options->max_bytes < limit) {
		limit = e.options->max_bytes;
	}
	if (bytes > limit) {
		status = bn_fail(err, BN_E_TOO_LARGE,
				 "text of %zu bytes is longer than the %zu that may be tokenized",
				 bytes, limit);
		bn_error_number(err, "limit", (int64_t)limit);
		bn_error_number(err, "actual", (int64_t)bytes);
		return status;
	}
	e.merger.cancel = e.options->cancel;

	status = check_cancel(&e);
	if (status == BN_OK && e.options->add_special && bn_tokenizer_adds_bos(tok)) {
		status = bn_tokens_push(out, tok->bos, err);
	}
	if (status == BN_OK && bytes > 0) {
		status = encode_text(&e, text, bytes);
	}
	if (status == BN_OK && e.options->add_special && bn_tokenizer_adds_eos(tok)) {
		status = bn_tokens_push(out, tok->eos, err);
	}
	bn_merge_finish(&e.merger);
	if (status != BN_OK) {
		out->n = n_before;
	}
	return status;
}

/* --- tokens to text --------------------------------------------------------------------------- */

void bn_detok_init(struct bn_detok *d, const struct bn_tokenizer *tok, unsigned flags)
{
	*d = (struct bn_detok){ .tok = tok, .flags = flags };
	d->strip_space = tok->add_space_prefix && (flags & BN_DETOK_CONTINUES) == 0;
}

size_t bn_detok_push(struct bn_detok *d, bn_token id, char *out)
{
	struct bn_str piece = (d->flags & BN_DETOK_SPECIAL) != 0 ? bn_tokenizer_text(d->tok, id)
								 : bn_tokenizer_piece(d->tok, id);

	/* The dummy space belongs to the first word; a control token is none. */
	if (d->strip_space && piece.n > 0 && !bn_tokenizer_is_control(d->tok, id)) {
		d->strip_space = false;
		if (piece.p[0] == ' ') {
			piece.p++;
			piece.n--;
		}
	}
	return bn_utf8_push(&d->hold, piece.p, piece.n, out);
}

size_t bn_detok_flush(struct bn_detok *d, char *out)
{
	return bn_utf8_flush(&d->hold, out);
}

/* Writes text behind what is there, as long as everything before fitted. */
static void put(char *out, size_t capacity, size_t *length, const char *text, size_t n)
{
	if (n > 0 && *length <= capacity && n <= capacity - *length) {
		memcpy(out + *length, text, n);
	}
	*length += n;
}

enum bn_status bn_tokenizer_decode(const struct bn_tokenizer *tok, const bn_token *ids, size_t n,
				   unsigned flags, char *out, size_t capacity, size_t *needed,
				   struct bn_error *err)
{
	struct bn_detok detok;
	char text[BN_DETOK_BYTES];
	size_t length = 0;

	for (size_t i = 0; i < n; i++) {
		if (ids[i] >= tok->lex.n) {
			return bn_fail(
				err, BN_E_INVALID,
				"token %u at index %zu is not in the vocabulary of %u tokens",
				ids[i], i, tok->lex.n);
		}
	}
	bn_detok_init(&detok, tok, flags);
	for (size_t i = 0; i < n; i++) {
		put(out, capacity, &length, text, bn_detok_push(&detok, ids[i], text));
	}
	put(out, capacity, &length, text, bn_detok_flush(&detok, text));
	*needed = length;
	return BN_OK;
}
