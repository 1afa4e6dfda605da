#include "tests/engine/texts.h"

#include "engine/utf8.h"
#include "tests/engine/vocabs.h"
#include "tests/spent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const hostile[] = {
	"A",   " ",      "\n",     "us", "镇",       "👩‍💻", "e\u0301\u0300", "7", "'",
	" \n", "\u2581", "🦙 a", "\t", "<|eot_id", "a ",
};

enum {
	HOSTILE = sizeof(hostile) / sizeof(hostile[0]),
	HOSTILE_BYTES = 256 * 1024,
	/* 256 KiB take about 0.1 s; quadratic work (10^10 steps) would take more than this, of the
	 * processor's time, and neither a slow machine nor a sanitizer does. */
	HOSTILE_SECONDS = 20,
};

int texts_small(void **state)
{
	struct texts *x = calloc(1, sizeof(*x));
	struct vocabs v;

	assert_non_null(x);
	vocabs_tiny_bpe(&v);
	x->bpe = vocabs_make(&v);
	vocabs_finish(&v);
	vocabs_tiny_spm(&v);
	x->spm = vocabs_make(&v);
	vocabs_finish(&v);
	*state = x;
	return 0;
}

int texts_real(void **state)
{
	struct texts *x = calloc(1, sizeof(*x));
	struct vocabs v;

	assert_non_null(x);
	vocabs_llama3(&v);
	x->bpe = vocabs_make(&v);
	vocabs_finish(&v);
	x->spm = vocabs_gguf("tokenizers/ggml-vocab-llama-spm.gguf");
	x->phi3 = vocabs_gguf("tokenizers/ggml-vocab-phi-3.gguf");
	*state = x;
	return 0;
}

int texts_drop(void **state)
{
	struct texts *x = *state;

	bn_tokenizer_free(x->bpe);
	bn_tokenizer_free(x->spm);
	bn_tokenizer_free(x->phi3);
	free(x);
	return 0;
}

struct bn_tokens texts_encode_with(const struct bn_tokenizer *tok, const char *text, size_t n,
				   struct bn_encode_options options)
{
	struct bn_tokens out = { 0 };
	struct bn_error err;

	if (bn_tokenizer_encode(tok, text, n, &options, &out, &err) != BN_OK) {
		fail_msg("encode: %s", err.text);
	}
	return out;
}

struct bn_tokens texts_encode(const struct bn_tokenizer *tok, const char *text)
{
	return texts_encode_with(tok, text, strlen(text), (struct bn_encode_options){ 0 });
}

static void print_ids(const char *what, const bn_token *ids, size_t n)
{
	fprintf(stderr, "%s:", what);
	for (size_t i = 0; i < n; i++) {
		fprintf(stderr, " %u", ids[i]);
	}
	fprintf(stderr, "\n");
}

void texts_assert_ids(const char *text, struct bn_tokens got, const bn_token *want, size_t n)
{
	if (got.n != n || (n > 0 && memcmp(got.ids, want, n * sizeof(*want)) != 0)) {
		fprintf(stderr, "text '%s'\n", text);
		print_ids("got", got.ids, got.n);
		print_ids("want", want, n);
		fail();
	}
	bn_tokens_finish(&got);
}

void texts_round_trip(const struct bn_tokenizer *tok, const char *text, size_t n)
{
	struct bn_tokens t = texts_encode_with(tok, text, n, (struct bn_encode_options){ 0 });
	char *back = malloc(n + 1);
	size_t needed;
	struct bn_error err;

	assert_non_null(back);
	for (size_t i = 0; i < t.n; i++) {
		assert_true(t.ids[i] < bn_tokenizer_size(tok));
		assert_false(bn_tokenizer_is_control(tok, t.ids[i]));
	}
	if (bn_tokenizer_decode(tok, t.ids, t.n, 0, back, n, &needed, &err) != BN_OK) {
		fail_msg("decode: %s", err.text);
	}
	if (needed != n || memcmp(back, text, n) != 0) {
		fprintf(stderr, "text   '%.*s'\n", (int)(n < 200 ? n : 200), text);
		fprintf(stderr, "became '%.*s'\n", (int)(needed < 200 ? needed : 200), back);
		print_ids("ids", t.ids, t.n < 50 ? t.n : 50);
		fail();
	}
	free(back);
	bn_tokens_finish(&t);
}

static uint64_t random_state = 0x1234567;

uint32_t texts_random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

/* A character of a random kind: what tokenizers trip over is more frequent than in real text. */
static uint32_t random_character(void)
{
	static const uint32_t special[] = { 0x2581,  0x17F,   0xFFFD,   0x200D, 0xFE0F,
					    0x1F469, 0x1F4BB, 0x300,    0xFEFF, 0xAD,
					    0x85,    0x3000,  0x10FFFF, 0x120 };
	uint32_t cp;

	switch (texts_random_below(10)) {
	case 0:
		return (uint32_t) "'sStTreRElLvVdDmM<|>_/"[texts_random_below(22)];
	case 1:
		return (uint32_t) " \n\r\t\v"[texts_random_below(5)];
	case 2:
	case 3:
		return ' ';
	case 4:
		return '0' + texts_random_below(10);
	case 5:
		return special[texts_random_below(sizeof(special) / sizeof(special[0]))];
	case 6:
		return 0x4E00 + texts_random_below(0x5000);
	case 7:
		do {
			cp = texts_random_below(0x110000);
		} while (cp >= 0xD800 && cp <= 0xDFFF);
		return cp;
	default:
		return 'a' + texts_random_below(26);
	}
}

size_t texts_random(char *out, unsigned characters)
{
	size_t n = 0;

	for (unsigned i = 0; i < characters; i++) {
		n += bn_utf8_encode(random_character(), out + n);
	}
	return n;
}

void texts_random_round_trips(const struct bn_tokenizer *tok)
{
	char text[4 * 64];

	for (unsigned i = 0; i < 5000; i++) {
		texts_round_trip(tok, text, texts_random(text, 1 + texts_random_below(64)));
	}
}

unsigned texts_count_control(const struct bn_tokenizer *tok, const struct bn_tokens *t)
{
	unsigned count = 0;

	for (size_t i = 0; i < t->n; i++) {
		count += bn_tokenizer_is_control(tok, t->ids[i]);
	}
	return count;
}

unsigned texts_inject(const struct bn_tokenizer *tok)
{
	unsigned seen = 0;

	for (bn_token id = 0; id < bn_tokenizer_size(tok); id++) {
		struct bn_str s = bn_tokenizer_text(tok, id);
		char text[3 * BN_TOKENIZER_TOKEN_BYTES];
		struct bn_tokens t;
		struct bn_encode_options parse = { .parse_special = true };
		int n;

		if (!bn_tokenizer_is_control(tok, id) || s.n == 0) {
			continue;
		}
		seen++;
		/* As text: alone, in the middle, twice, torn. */
		texts_round_trip(tok, s.p, s.n);
		n = snprintf(text, sizeof(text), "a%.*sb %.*s%.*s", (int)s.n, s.p, (int)s.n, s.p,
			     (int)s.n, s.p);
		texts_round_trip(tok, text, (size_t)n);
		n = snprintf(text, sizeof(text), "%.*s %.*s", (int)s.n / 2, s.p,
			     (int)(s.n - s.n / 2), s.p + s.n / 2);
		texts_round_trip(tok, text, (size_t)n);
		/* Parsed: one token. */
		t = texts_encode_with(tok, s.p, s.n, parse);
		assert_int_equal(t.n, 1);
		assert_true(bn_tokenizer_is_control(tok, t.ids[0]));
		bn_tokens_finish(&t);
		n = snprintf(text, sizeof(text), "a%.*sb", (int)s.n, s.p);
		t = texts_encode_with(tok, text, (size_t)n, parse);
		assert_int_equal(texts_count_control(tok, &t), 1);
		bn_tokens_finish(&t);
	}
	return seen;
}

const char *texts_hostile_at(size_t i)
{
	return i < HOSTILE ? hostile[i] : NULL;
}

char *texts_repeat(const char *unit, size_t bytes, size_t *n)
{
	char *text = malloc(bytes);
	size_t unit_bytes = strlen(unit);

	assert_non_null(text);
	*n = 0;
	while (*n + unit_bytes <= bytes) {
		memcpy(text + *n, unit, unit_bytes);
		*n += unit_bytes;
	}
	return text;
}

void texts_take_hostile(const struct bn_tokenizer *tok)
{
	for (size_t h = 0; h < HOSTILE; h++) {
		size_t n;
		char *text = texts_repeat(hostile[h], HOSTILE_BYTES, &n);
		double began = spent();

		texts_round_trip(tok, text, n);
		assert_true(spent() - began < HOSTILE_SECONDS);
		free(text);
	}
}
