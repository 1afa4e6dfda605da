/*
 * Any bytes as a vocabulary and a text. The first byte chooses the kind and the options, the second
 * how many tokens follow (a type, a length, a spelling each; in byte-level vocabularies each is a
 * merge as well, cut in the middle); the rest is text. Promises checked: ids in range, no guarded
 * token from unparsed text, decode(encode(t)) == t where every byte has a token (the same text when
 * composed, where the tokenizer composes: always with Qwen's splitter), streaming equals
 * decoding at once, the announced memory, and chat frames that hold whatever the messages say.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/chat.h"
#include "engine/nfc.h"
#include "engine/tokenizer.h"
#include "proto/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SPM = 1,
	NO_BYTES = 2,
	IGNORE_MERGES = 4,
	NO_TYPES = 8,
	NO_PREFIX = 16,
	SPLITTER_SHIFT = 5, /* two bits */
	MAX_OWN = 64,
	MAX_TOKENS = 256 + MAX_OWN + 8,
	SPELLING = 40,
};

/* A vocabulary being made; too large for a stack. */
struct world {
	struct bn_vocab vocab;
	struct bn_str tokens[MAX_TOKENS];
	struct bn_str merges[MAX_OWN];
	float scores[MAX_TOKENS];
	uint8_t types[MAX_TOKENS];
	char spellings[MAX_TOKENS][SPELLING];
	char merge_texts[MAX_OWN][SPELLING + 1];
};

/* Bytes of the input not used yet. */
struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t take(struct input *in)
{
	if (in->left == 0) {
		return 0;
	}
	in->left--;
	return *in->at++;
}

static uint32_t add(struct world *w, const char *spelling, size_t n, uint8_t type, float score)
{
	uint32_t id = w->vocab.n_tokens++;

	if (n > 0) {
		memcpy(w->spellings[id], spelling, n);
	}
	w->tokens[id] = (struct bn_str){ w->spellings[id], n };
	w->types[id] = type;
	w->scores[id] = score;
	return id;
}

static void add_bytes(struct world *w)
{
	uint32_t other = 0x100;

	for (uint32_t b = 0; b < 256; b++) {
		char text[8];
		bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);

		if (w->vocab.kind == BN_TOKENIZER_SPM) {
			snprintf(text, sizeof(text), "<0x%02X>", b);
			add(w, text, 6, BN_TOKEN_BYTE, 0);
		} else {
			add(w, text, bn_utf8_encode(printable ? b : other++, text), BN_TOKEN_NORMAL,
			    0);
		}
	}
}

static void add_own(struct world *w, struct input *in)
{
	static const float scores[] = { 0, -1, 1, -1000, 1e38f, -1e-45f };
	unsigned n = take(in) % MAX_OWN;

	for (unsigned i = 0; i < n; i++) {
		uint8_t type = take(in);
		size_t bytes = take(in) % SPELLING;
		char *merge = w->merge_texts[i];

		bytes = bytes < in->left ? bytes : in->left;
		add(w, (const char *)in->at, bytes, type % 8, scores[type / 8 % 6]);
		if (bytes > 0) {
			memcpy(merge, in->at, bytes / 2);
			merge[bytes / 2] = ' ';
			memcpy(merge + bytes / 2 + 1, in->at + bytes / 2, bytes - bytes / 2);
			w->merges[w->vocab.n_merges++] = (struct bn_str){ merge, bytes + 1 };
		}
		in->at += bytes;
		in->left -= bytes;
	}
}

static void make_vocab(struct world *w, struct input *in)
{
	static const char *const controls[] = { "<|im_start|>", "<|im_end|>", "<|eot_id|>" };
	uint8_t choice = take(in);
	struct bn_vocab *v = &w->vocab;

	*v = (struct bn_vocab){
		.kind = (choice & SPM) != 0 ? BN_TOKENIZER_SPM : BN_TOKENIZER_BPE,
		.tokens = w->tokens,
		.merges = w->merges,
		.scores = w->scores,
		.types = (choice & NO_TYPES) != 0 ? NULL : w->types,
		.splitter = (enum bn_splitter)((choice >> SPLITTER_SHIFT) % BN_SPLITTER_COUNT),
		.ignore_merges = (choice & IGNORE_MERGES) != 0,
		.nfc = (choice >> SPLITTER_SHIFT) % BN_SPLITTER_COUNT == BN_SPLIT_QWEN2,
		.add_space_prefix = (choice & NO_PREFIX) == 0,
		.add_bos = true,
		.eos = BN_TOKEN_NONE,
		.eot = BN_TOKEN_NONE,
		.eom = BN_TOKEN_NONE,
		.unk = 3,
	};
	v->bos = add(w, "<s>", 3, BN_TOKEN_CONTROL, 0);
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		add(w, controls[i], strlen(controls[i]), BN_TOKEN_CONTROL, 0);
	}
	if ((choice & NO_BYTES) == 0) {
		add_bytes(w);
	}
	add_own(w, in);
}

/* Decodes at once and token by token; both must agree. Returns the text, to be freed. */
static char *decode(const struct bn_tokenizer *tok, const struct bn_tokens *t, size_t *n)
{
	char part[BN_DETOK_BYTES];
	struct bn_detok detok;
	size_t streamed = 0;
	char *text;

	bn_assert(bn_tokenizer_decode(tok, t->ids, t->n, 0, NULL, 0, n, NULL) == BN_OK);
	text = malloc(*n + 1);
	bn_assert(text != NULL);
	bn_assert(bn_tokenizer_decode(tok, t->ids, t->n, 0, text, *n, n, NULL) == BN_OK);
	bn_assert(bn_utf8_valid(text, *n));

	bn_detok_init(&detok, tok, 0);
	for (size_t i = 0; i <= t->n; i++) {
		size_t bytes = i < t->n ? bn_detok_push(&detok, t->ids[i], part)
					: bn_detok_flush(&detok, part);

		bn_assert(bytes <= *n - streamed && memcmp(text + streamed, part, bytes) == 0);
		streamed += bytes;
	}
	bn_assert(streamed == *n);
	return text;
}

/* Equal, or equal once composed: tokens matched as a whole keep their neighbours apart, so what was
 * composed piece by piece need not be composed as a whole. */
static void check_same(const char *a, size_t n_a, const char *b, size_t n_b, bool nfc)
{
	char *x = NULL, *y = NULL;

	if (nfc) {
		bn_assert(bn_nfc(a, n_a, &x, &n_a, NULL) == BN_OK);
		bn_assert(bn_nfc(b, n_b, &y, &n_b, NULL) == BN_OK);
	}
	bn_assert(n_a == n_b && memcmp(x != NULL ? x : a, y != NULL ? y : b, n_a) == 0);
	free(x);
	free(y);
}

static void check_text(const struct bn_tokenizer *tok, const char *text, size_t n, bool nfc)
{
	struct bn_tokens t = { 0 };
	struct bn_encode_options parse = { .parse_special = true, .add_special = true };
	char *clean = malloc(3 * n + 1);
	size_t n_clean = bn_utf8_clean(text, n, clean);
	size_t n_back;
	char *back;

	bn_assert(clean != NULL);
	bn_assert(bn_tokenizer_encode(tok, text, n, NULL, &t, NULL) == BN_OK);
	for (size_t i = 0; i < t.n; i++) {
		/* unk stands for what has no bytes; it is the one guarded token allowed then. */
		bn_assert(t.ids[i] < bn_tokenizer_size(tok));
		bn_assert(!bn_tokenizer_is_control(tok, t.ids[i]) ||
			  (t.ids[i] == 3 &&
			   (bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) != 0));
	}
	back = decode(tok, &t, &n_back);
	if ((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) == 0) {
		check_same(back, n_back, clean, n_clean, nfc);
	}
	free(back);
	free(clean);

	t.n = 0;
	bn_assert(bn_tokenizer_encode(tok, text, n, &parse, &t, NULL) == BN_OK);
	free(decode(tok, &t, &n_back));
	bn_tokens_finish(&t);
}

static size_t count_control(const struct bn_tokenizer *tok, const struct bn_tokens *t)
{
	size_t count = 0;

	for (size_t i = 0; i < t->n; i++) {
		count += bn_tokenizer_is_control(tok, t->ids[i]) && t->ids[i] != 3;
	}
	return count;
}

static void check_chat(const struct bn_tokenizer *tok, const char *text, size_t n)
{
	struct bn_chat_hint hint = { .override = "chatml", .tok = tok };
	struct bn_chat_message messages[] = { { { "user", 4 }, { text, n } },
					      { { "assistant", 9 }, { text, n } } };
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_tokens t = { 0 };

	bn_assert(bn_chat_choose(&hint, &chat, &warning, NULL) == BN_OK);
	bn_assert(bn_chat_encode(chat, tok, messages, 2, NULL, &t, NULL) == BN_OK);
	bn_assert(count_control(tok, &t) == 6); /* bos, two messages, the opening */
	bn_tokens_finish(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w = calloc(1, sizeof(*w));
	struct input in = { data, size };
	struct bn_tokenizer *tok;
	struct bn_error err;
	bool nfc;

	bn_assert(w != NULL);
	make_vocab(w, &in);
	bn_assert(bn_tokenizer_new(&tok, &w->vocab, &err) == BN_OK);
	bn_assert(bn_tokenizer_bytes(tok) == bn_tokenizer_need(&w->vocab));
	nfc = w->vocab.kind == BN_TOKENIZER_BPE && w->vocab.nfc;
	free(w); /* nothing of it is kept */
	check_text(tok, (const char *)in.at, in.left, nfc);
	check_chat(tok, (const char *)in.at, in.left);
	bn_tokenizer_free(tok);
	return 0;
}
