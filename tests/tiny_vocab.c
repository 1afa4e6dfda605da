#include "tests/tiny_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NAME_BYTES = 64,
	LONGEST_PIECE = 32,
	SPECIALS_FEW = 10,
	SPECIALS_MANY = 256, /* as in the Llama-3 vocabulary */
	SPECIALS_MANY_FROM = 4096,
	TOKEN_NORMAL = 1, /* tokenizer.ggml.token_type */
	TOKEN_UNKNOWN = 2,
	TOKEN_CONTROL = 3,
	TOKEN_BYTE = 6,
};

/* Token texts in one buffer each; sized for the longest piece we make. */
struct lexicon {
	struct bn_str *tokens, *merges;
	float *scores;
	int32_t *types;
	char *text; /* where the next string goes */
	char *memory;
	size_t n, n_merges;
};

static bool lexicon_new(struct lexicon *x, uint32_t vocab)
{
	*x = (struct lexicon){
		.tokens = calloc(vocab, sizeof(*x->tokens)),
		.merges = calloc(vocab, sizeof(*x->merges)),
		.scores = calloc(vocab, sizeof(*x->scores)),
		.types = calloc(vocab, sizeof(*x->types)),
		.memory = calloc(vocab, (size_t)3 * LONGEST_PIECE),
	};
	x->text = x->memory;
	return x->tokens != NULL && x->merges != NULL && x->scores != NULL && x->types != NULL &&
	       x->memory != NULL;
}

static void lexicon_free(struct lexicon *x)
{
	free(x->tokens);
	free(x->merges);
	free(x->scores);
	free(x->types);
	free(x->memory);
}

static struct bn_str keep(struct lexicon *x, const char *p, size_t n)
{
	struct bn_str s = { x->text, n };

	memcpy(x->text, p, n);
	x->text += n;
	return s;
}

static void add(struct lexicon *x, const char *text, int32_t type, float score)
{
	x->tokens[x->n] = keep(x, text, strlen(text));
	x->types[x->n] = type;
	x->scores[x->n] = score;
	x->n++;
}

static bool is_printable(unsigned byte)
{
	return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* GPT-2's printable stand-in for a byte, in UTF-8: itself, or U+0100 and up in order. */
static void byte_symbol(unsigned byte, char out[4])
{
	unsigned code = byte, shift = 0;

	for (unsigned b = 0; b <= byte; b++) {
		if (b == byte && !is_printable(b)) {
			code = 0x100 + shift;
		}
		shift += !is_printable(b);
	}
	if (code < 0x80) {
		snprintf(out, 4, "%c", (char)code);
	} else {
		snprintf(out, 4, "%c%c", (char)(0xc0 | code >> 6), (char)(0x80 | (code & 63)));
	}
}

/*
 * Fills the lexicon up to `end` with words: breadth first, each token of the queue (first the
 * `n_roots` one-letter ones) is extended by each letter. A word has one parent, so none occurs
 * twice, and its merge comes after its parent's.
 */
static void add_words(struct lexicon *x, const struct bn_str *roots, size_t n_roots, size_t end)
{
	size_t first = x->n, taken = 0;

	while (x->n < end) {
		struct bn_str parent =
			taken < n_roots ? roots[taken] : x->tokens[first + taken - n_roots];

		taken++;
		for (char letter = 'a'; letter <= 'z' && x->n < end; letter++) {
			char word[LONGEST_PIECE], merge[LONGEST_PIECE + 1];
			int n = snprintf(word, sizeof(word), "%.*s%c", (int)parent.n, parent.p,
					 letter);
			int m = snprintf(merge, sizeof(merge), "%.*s %c", (int)parent.n, parent.p,
					 letter);

			x->tokens[x->n] = keep(x, word, (size_t)n);
			x->types[x->n] = TOKEN_NORMAL;
			x->scores[x->n] = -(float)(x->n - first);
			x->n++;
			x->merges[x->n_merges++] = keep(x, merge, (size_t)m);
		}
	}
}

static uint32_t specials(const struct bn_tiny *t)
{
	return t->vocab >= SPECIALS_MANY_FROM ? SPECIALS_MANY : SPECIALS_FEW;
}

static void fill_gpt2(struct lexicon *x, const struct bn_tiny *t)
{
	static const char *const named[SPECIALS_FEW] = {
		[0] = "<|begin_of_text|>", [1] = "<|end_of_text|>", [6] = "<|start_header_id|>",
		[7] = "<|end_header_id|>", [9] = "<|eot_id|>",
	};
	struct bn_str roots[27];
	size_t n_roots = 0;

	/* Llama-3's order of byte symbols: the printable ones, then their stand-ins. */
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned b = 0; b < 256; b++) {
			char symbol[4];

			if (is_printable(b) == (pass == 0)) {
				byte_symbol(b, symbol);
				add(x, symbol, TOKEN_NORMAL, 0.0f);
				if (b == ' ' || (b >= 'a' && b <= 'z')) {
					roots[n_roots++] = x->tokens[x->n - 1];
				}
			}
		}
	}
	add_words(x, roots, n_roots, t->vocab - specials(t));
	memset(x->scores, 0, x->n * sizeof(*x->scores));
	for (uint32_t i = 0; i < specials(t); i++) {
		char reserved[NAME_BYTES];

		snprintf(reserved, sizeof(reserved), "<|reserved_special_token_%u|>", i);
		add(x, i < SPECIALS_FEW && named[i] != NULL ? named[i] : reserved, TOKEN_CONTROL,
		    0.0f);
	}
}

static void fill_spm(struct lexicon *x, const struct bn_tiny *t)
{
	struct bn_str roots[27];
	size_t n_roots = 0;

	add(x, "<unk>", TOKEN_UNKNOWN, 0.0f);
	add(x, "<s>", TOKEN_CONTROL, 0.0f);
	add(x, "</s>", TOKEN_CONTROL, 0.0f);
	for (unsigned b = 0; b < 256; b++) {
		char text[8];

		snprintf(text, sizeof(text), "<0x%02X>", b);
		add(x, text, TOKEN_BYTE, 0.0f);
	}
	/* Only as much of ASCII as a tiny vocabulary has room for; bytes cover the rest. */
	add(x, "\xe2\x96\x81", TOKEN_NORMAL, -1e6f);
	roots[n_roots++] = x->tokens[x->n - 1];
	for (char c = 'a'; c <= 'z'; c++) {
		char text[2] = { c, '\0' };

		add(x, text, TOKEN_NORMAL, -1e6f);
		roots[n_roots++] = x->tokens[x->n - 1];
	}
	add_words(x, roots, n_roots, t->vocab);
}

static void put_tokenizer(struct bn_gguf_writer *w, const struct bn_tiny *t,
			  const struct lexicon *x)
{
	const bool spm = t->tokenizer == BN_TINY_SPM;
	const uint32_t bos = spm ? 1 : t->vocab - specials(t);

	bn_gguf_put_str(w, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	if (t->pre != NULL) {
		bn_gguf_put_str(w, "tokenizer.ggml.pre", t->pre);
	}
	bn_gguf_put_strs(w, "tokenizer.ggml.tokens", x->tokens, x->n);
	bn_gguf_put_f32s(w, "tokenizer.ggml.scores", x->scores, x->n);
	bn_gguf_put_i32s(w, "tokenizer.ggml.token_type", x->types, x->n);
	if (!spm) {
		bn_gguf_put_strs(w, "tokenizer.ggml.merges", x->merges, x->n_merges);
	}
	bn_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", bos);
	bn_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", bos + 1);
	if (spm) {
		bn_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
	} else {
		bn_gguf_put_u32(w, "tokenizer.ggml.padding_token_id", bos + 1);
	}
	/* Qwen's texts have no bos; what is pooled last is the eos. */
	bn_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", t->vectors.pooling == 0 || spm);
	if (t->vectors.pooling != 0) {
		bn_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", true);
	}
	if (t->vectors.pooling != 0 && spm) {
		bn_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
	}
}

bool tiny_vocab_put(struct bn_gguf_writer *w, const struct bn_tiny *t)
{
	struct lexicon x;
	bool made = lexicon_new(&x, t->vocab);

	if (made) {
		if (t->tokenizer == BN_TINY_SPM) {
			fill_spm(&x, t);
		} else {
			fill_gpt2(&x, t);
		}
		put_tokenizer(w, t, &x);
	}
	lexicon_free(&x);
	return made;
}
