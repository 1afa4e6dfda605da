/*
 * How long loading and encoding take, and that encoding is linear:
 *
 *   BN_TEST_DATA=... build/release/tests/bench/bench_tokenizer [MiB]
 *
 * One line per vocabulary and text: seconds for an eighth and for the whole, their ratio over eight
 * (1 is linear), MB/s. A hostile MiB must take less than a second; the worst one is printed last.
 * tests/engine/test_linear.c counts the steps of the same texts, without a clock.
 */
#include "engine/tokenizer.h"

#include "tests/engine/vocabs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *repeat(const char *unit, size_t unit_bytes, size_t bytes, size_t *n)
{
	char *text = malloc(bytes + unit_bytes);

	if (text == NULL) {
		abort();
	}
	for (*n = 0; *n + unit_bytes <= bytes; *n += unit_bytes) {
		memcpy(text + *n, unit, unit_bytes);
	}
	if (*n == 0) {
		memcpy(text, unit, bytes);
		*n = bytes;
	}
	return text;
}

/* Best of three; broken text is the slowest, so it may fail only by not being text. */
static double encode(const struct bn_tokenizer *tok, const char *text, size_t n, size_t *tokens)
{
	double best = 1e9;

	for (int i = 0; i < 3; i++) {
		struct bn_tokens out = { 0 };
		double start = now();

		if (bn_tokenizer_encode(tok, text, n, NULL, &out, NULL) != BN_OK) {
			abort();
		}
		if (now() - start < best) {
			best = now() - start;
		}
		*tokens = out.n;
		bn_tokens_finish(&out);
	}
	return best;
}

static double measure(const struct bn_tokenizer *tok, const char *vocabulary, const char *name,
		      const char *unit, size_t unit_bytes, size_t bytes)
{
	size_t n, n_part, tokens;
	char *text = repeat(unit, unit_bytes, bytes, &n);
	char *part = repeat(unit, unit_bytes, bytes / 8, &n_part);
	const double t_part = encode(tok, part, n_part, &tokens);
	const double t = encode(tok, text, n, &tokens);

	printf("%-8s %-12s %9zu bytes %9zu tokens  %7.4f s %7.4f s  ratio/8 %.2f  %7.1f MB/s\n",
	       vocabulary, name, n, tokens, t_part, t, t / t_part * (double)n_part / (double)n,
	       1e-6 * (double)n / t);
	free(text);
	free(part);
	return t;
}

/* Falcon-E's: a symbol for every byte of UTF-8, none for the others, and merges of common pairs. */
static struct bn_tokenizer *falcon_e(void)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	vocabs_falcon_e(&v, 0);
	tok = vocabs_make(&v);
	vocabs_finish(&v);
	return tok;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *unit;
	} hostile[] = {
		{ "A", "A" },
		{ "space", " " },
		{ "newline", "\n" },
		{ "us", "us" },
		{ "CJK", "\u9547" },
		{ "emoji ZWJ", "\U0001F469\u200D\U0001F4BB" },
		{ "combining", "e\u0301\u0300" },
		{ "digits", "1234567890" },
		{ "broken", "\xFF\xE2\x82" },
		{ "apostrophe", "'" },
		{ "space+nl", "  \n" },
		{ "U+2581", "\u2581" },
		{ "mixed", "A \u9547\U0001F469\u200D\U0001F4BBe\u0301 12.\n\n  it's" },
	};
	size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) << 20;
	struct vocabs v;
	enum { TOKS = 4 };
	struct bn_tokenizer *toks[TOKS];
	static const char *const names[TOKS] = { "llama3", "llama2", "phi3", "falcon-e" };
	double worst = 0.0;
	size_t n_book;
	char *book;
	double start;

	vocabs_llama3(&v);
	start = now();
	toks[0] = vocabs_make(&v);
	printf("llama3 made in %.1f ms, %.1f MB\n", 1e3 * (now() - start),
	       1e-6 * (double)bn_tokenizer_bytes(toks[0]));
	vocabs_finish(&v);
	start = now();
	toks[1] = vocabs_gguf("tokenizers/ggml-vocab-llama-spm.gguf");
	printf("llama2 read and made in %.1f ms, %.1f MB\n", 1e3 * (now() - start),
	       1e-6 * (double)bn_tokenizer_bytes(toks[1]));
	toks[2] = vocabs_gguf("tokenizers/ggml-vocab-phi-3.gguf");
	toks[3] = falcon_e();
	book = vocabs_read("corpora/fairytaleqa.test.txt", &n_book);
	for (int t = 0; t < TOKS; t++) {
		for (size_t h = 0; h < sizeof(hostile) / sizeof(hostile[0]); h++) {
			const double took =
				measure(toks[t], names[t], hostile[h].name, hostile[h].unit,
					strlen(hostile[h].unit), bytes);

			worst = took > worst ? took : worst;
		}
		measure(toks[t], names[t], "English", book, n_book, bytes);
		bn_tokenizer_free(toks[t]);
	}
	free(book);
	printf("slowest hostile text: %.4f s for %zu bytes\n", worst, bytes);
	return 0;
}
