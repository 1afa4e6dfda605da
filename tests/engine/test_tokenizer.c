/* The tokenizer as a whole: public vectors, round trips, specials, hostile vocabularies, limits. */
#include "engine/tokenizer.h"

#include "tests/engine/vocabs.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* --- helpers ---------------------------------------------------------------------------------- */

static struct bn_tokens encode_with(const struct bn_tokenizer *tok, const char *text, size_t n,
				    struct bn_encode_options options)
{
	struct bn_tokens out = { 0 };
	struct bn_error err;

	if (bn_tokenizer_encode(tok, text, n, &options, &out, &err) != BN_OK) {
		fail_msg("encode: %s", err.text);
	}
	return out;
}

static struct bn_tokens encode(const struct bn_tokenizer *tok, const char *text)
{
	return encode_with(tok, text, strlen(text), (struct bn_encode_options){ 0 });
}

static void print_ids(const char *what, const bn_token *ids, size_t n)
{
	fprintf(stderr, "%s:", what);
	for (size_t i = 0; i < n; i++) {
		fprintf(stderr, " %u", ids[i]);
	}
	fprintf(stderr, "\n");
}

static void assert_ids(const char *text, struct bn_tokens got, const bn_token *want, size_t n)
{
	if (got.n != n || (n > 0 && memcmp(got.ids, want, n * sizeof(*want)) != 0)) {
		fprintf(stderr, "text '%s'\n", text);
		print_ids("got", got.ids, got.n);
		print_ids("want", want, n);
		fail();
	}
}

/* decode(encode(text)) == text, with ids checked to be in range and unguarded. */
static void assert_round_trip(const struct bn_tokenizer *tok, const char *text, size_t n)
{
	struct bn_tokens t = encode_with(tok, text, n, (struct bn_encode_options){ 0 });
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

/* --- public vectors --------------------------------------------------------------------------- */

/* llama.cpp's files: texts separated by a line, and one line of ids for each. */
static void check_ggml_vectors(const struct bn_tokenizer *tok, const char *name)
{
	static const char separator[] = "\n__ggml_vocab_test__\n";
	char path[128];
	size_t n_texts;
	size_t n_lines;
	char *texts;
	char *lines;
	char *line;
	unsigned checked = 0;

	snprintf(path, sizeof(path), "tokenizer-vectors/%s.inp", name);
	texts = vocabs_read(path, &n_texts);
	snprintf(path, sizeof(path), "tokenizer-vectors/%s.out", name);
	lines = vocabs_read(path, &n_lines);
	line = lines;
	for (char *text = texts; text != NULL;) {
		char *end = strstr(text, separator);
		char *line_end = strchr(line, '\n');
		bn_token want[512];
		size_t n = 0;
		struct bn_tokens got;

		if (line_end == NULL) {
			break; /* the last separator is followed by nothing */
		}
		if (end != NULL) {
			*end = '\0';
		}
		*line_end = '\0';
		for (char *at = line; *at != '\0';) {
			char *after;
			unsigned long id = strtoul(at, &after, 10);

			if (after == at) {
				break;
			}
			assert_true(n < 512);
			want[n++] = (bn_token)id;
			at = after;
		}
		got = encode(tok, text);
		assert_ids(text, got, want, n);
		bn_tokens_finish(&got);
		checked++;
		text = end == NULL ? NULL : end + strlen(separator);
		line = line_end + 1;
	}
	assert_int_equal(*line, '\0');
	assert_true(checked >= 46);
	free(texts);
	free(lines);
}

/* JSON collections of Llama-2 and Llama-3 vectors. */
static void check_json_vectors(const struct bn_tokenizer *tok, const char *name, size_t at_least)
{
	size_t n;
	char *text = vocabs_read(name, &n);
	json_t *root = json_loadb(text, n, 0, NULL);
	size_t i;
	json_t *vector;

	assert_non_null(root);
	assert_true(json_array_size(json_object_get(root, "vectors")) >= at_least);
	json_array_foreach(json_object_get(root, "vectors"), i, vector)
	{
		const json_t *string = json_object_get(vector, "text");
		const json_t *ids = json_object_get(vector, "ids");
		bn_token want[512];
		struct bn_encode_options options = {
			.add_special = json_is_true(json_object_get(vector, "bos")),
			.parse_special = json_is_true(json_object_get(vector, "parse_special")),
			/* The same tokenizer, asked not to put the dummy space in front. */
			.continues = json_is_false(json_object_get(vector, "add_space_prefix")),
		};
		struct bn_tokens got = encode_with(tok, json_string_value(string),
						   json_string_length(string), options);

		assert_true(json_array_size(ids) < 512);
		for (size_t k = 0; k < json_array_size(ids); k++) {
			want[k] = (bn_token)json_integer_value(json_array_get(ids, k));
		}
		assert_ids(json_string_value(string), got, want, json_array_size(ids));
		bn_tokens_finish(&got);
	}
	json_decref(root);
	free(text);
}

/* Loaded once; cmocka runs tests in one thread. The first two need no data. */
static struct bn_tokenizer *tiny;
static struct bn_tokenizer *tiny_spm;
static struct bn_tokenizer *llama3;
static struct bn_tokenizer *spm;
static struct bn_tokenizer *phi3;

static void tokenizer_gives_the_llama_bpe_vectors(void **state)
{
	(void)state;
	check_ggml_vectors(llama3, "ggml-vocab-llama-bpe.gguf");
}

static void tokenizer_gives_the_llama_spm_vectors(void **state)
{
	(void)state;
	check_ggml_vectors(spm, "ggml-vocab-llama-spm.gguf");
}

static void tokenizer_gives_the_phi3_vectors(void **state)
{
	(void)state;
	check_ggml_vectors(phi3, "ggml-vocab-phi-3.gguf");
}

static void tokenizer_gives_the_llama3_vectors(void **state)
{
	(void)state;
	check_json_vectors(llama3, "tokenizer-vectors/llama3-vectors.json", 39);
}

static void tokenizer_gives_the_llama2_vectors(void **state)
{
	(void)state;
	check_json_vectors(spm, "tokenizer-vectors/llama2-vectors.json", 21);
}

static void tokenizer_decodes_the_llama2_vectors(void **state)
{
	size_t n;
	char *text = vocabs_read("tokenizer-vectors/llama2-vectors.json", &n);
	json_t *root = json_loadb(text, n, 0, NULL);
	size_t i;
	json_t *vector;

	(void)state;
	assert_int_equal(json_array_size(json_object_get(root, "decode_vectors")), 2);
	json_array_foreach(json_object_get(root, "decode_vectors"), i, vector)
	{
		const char *want = json_string_value(json_object_get(vector, "text"));
		const json_t *list = json_object_get(vector, "ids");
		bn_token ids[16];
		char got[64];
		size_t needed;

		for (size_t k = 0; k < json_array_size(list); k++) {
			ids[k] = (bn_token)json_integer_value(json_array_get(list, k));
		}
		assert_int_equal(bn_tokenizer_decode(spm, ids, json_array_size(list), 0, got,
						     sizeof(got), &needed, NULL),
				 BN_OK);
		assert_int_equal(needed, strlen(want));
		assert_memory_equal(got, want, needed);
	}
	json_decref(root);
	free(text);
}

/* The prompt of transformers' own BitNet test, 128000 128000 1502 25 ... */
static void tokenizer_gives_the_bitnet_prompt_of_transformers(void **state)
{
	static const bn_token want[] = { 128000, 128000, 1502,   25,    2650, 527,
					 499,    30,     128009, 72803, 25,   220 };
	static const char text[] = "<|begin_of_text|>User: How are you?<|eot_id|>Assistant: ";
	struct bn_tokens got = encode_with(
		llama3, text, strlen(text),
		(struct bn_encode_options){ .add_special = true, .parse_special = true });

	(void)state;
	assert_ids(text, got, want, sizeof(want) / sizeof(want[0]));
	bn_tokens_finish(&got);
}

/* --- round trips ------------------------------------------------------------------------------ */

static uint64_t random_state = 0x1234567;

static uint32_t random_below(uint32_t n)
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

	switch (random_below(10)) {
	case 0:
		return (uint32_t) "'sStTreRElLvVdDmM<|>_/"[random_below(22)];
	case 1:
		return (uint32_t) " \n\r\t\v"[random_below(5)];
	case 2:
	case 3:
		return ' ';
	case 4:
		return '0' + random_below(10);
	case 5:
		return special[random_below(sizeof(special) / sizeof(special[0]))];
	case 6:
		return 0x4E00 + random_below(0x5000);
	case 7:
		do {
			cp = random_below(0x110000);
		} while (cp >= 0xD800 && cp <= 0xDFFF);
		return cp;
	default:
		return 'a' + random_below(26);
	}
}

static size_t random_text(char *out, unsigned characters)
{
	size_t n = 0;

	for (unsigned i = 0; i < characters; i++) {
		n += bn_utf8_encode(random_character(), out + n);
	}
	return n;
}

static void round_trips_random_text(const struct bn_tokenizer *tok)
{
	char text[4 * 64];

	for (unsigned i = 0; i < 5000; i++) {
		assert_round_trip(tok, text, random_text(text, 1 + random_below(64)));
	}
}

static void tokenizer_gives_random_text_back(void **state)
{
	(void)state;
	round_trips_random_text(tiny);
	round_trips_random_text(tiny_spm);
}

static void real_tokenizers_give_random_text_back(void **state)
{
	(void)state;
	round_trips_random_text(llama3);
	round_trips_random_text(spm);
	round_trips_random_text(phi3);
}

static void gives_file_back(const struct bn_tokenizer *tok, const char *name)
{
	size_t n;
	char *text = vocabs_read(name, &n);
	char *clean = malloc(3 * n);
	size_t n_clean;

	assert_non_null(clean);
	n_clean = bn_utf8_clean(text, n, clean);
	assert_round_trip(tok, clean, n_clean);
	for (char *line = clean; line < clean + n_clean;) {
		char *end = memchr(line, '\n', (size_t)(clean + n_clean - line));

		end = end == NULL ? clean + n_clean : end + 1;
		assert_round_trip(tok, line, (size_t)(end - line));
		line = end;
	}
	free(clean);
	free(text);
}

static void tokenizer_gives_stress_files_and_naughty_strings_back(void **state)
{
	const struct bn_tokenizer *const toks[] = { llama3, spm, phi3 };
	size_t n;
	char *text = vocabs_read("tokenizer-vectors/utf8/blns.json", &n);
	json_t *strings = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
	size_t i;
	json_t *string;

	(void)state;
	assert_true(json_array_size(strings) > 400);
	for (size_t t = 0; t < 3; t++) {
		json_array_foreach(strings, i, string)
		{
			assert_round_trip(toks[t], json_string_value(string),
					  json_string_length(string));
		}
		gives_file_back(toks[t], "tokenizer-vectors/utf8/UTF-8-demo.txt");
		gives_file_back(toks[t], "tokenizer-vectors/utf8/UTF-8-test.txt");
	}
	json_decref(strings);
	free(text);
}

/* --- control tokens --------------------------------------------------------------------------- */

static unsigned count_control(const struct bn_tokenizer *tok, struct bn_tokens t)
{
	unsigned count = 0;

	for (size_t i = 0; i < t.n; i++) {
		count += bn_tokenizer_is_control(tok, t.ids[i]);
	}
	return count;
}

static unsigned injects(const struct bn_tokenizer *tok)
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
		assert_round_trip(tok, s.p, s.n);
		n = snprintf(text, sizeof(text), "a%.*sb %.*s%.*s", (int)s.n, s.p, (int)s.n, s.p,
			     (int)s.n, s.p);
		assert_round_trip(tok, text, (size_t)n);
		n = snprintf(text, sizeof(text), "%.*s %.*s", (int)s.n / 2, s.p,
			     (int)(s.n - s.n / 2), s.p + s.n / 2);
		assert_round_trip(tok, text, (size_t)n);
		/* Parsed: one token. */
		t = encode_with(tok, s.p, s.n, parse);
		assert_int_equal(t.n, 1);
		assert_true(bn_tokenizer_is_control(tok, t.ids[0]));
		bn_tokens_finish(&t);
		n = snprintf(text, sizeof(text), "a%.*sb", (int)s.n, s.p);
		t = encode_with(tok, text, (size_t)n, parse);
		assert_int_equal(count_control(tok, t), 1);
		bn_tokens_finish(&t);
	}
	return seen;
}

static void tokenizer_never_makes_control_tokens_of_text(void **state)
{
	(void)state;
	assert_int_equal(injects(tiny), 8);
	assert_int_equal(injects(tiny_spm), 3);
}

static void real_tokenizers_never_make_control_tokens_of_text(void **state)
{
	(void)state;
	assert_int_equal(injects(llama3), 256);
	assert_int_equal(injects(spm), 3);
	assert_true(injects(phi3) >= 14);
}

/* A file that types everything NORMAL and has merges that spell control tokens. */
static void tokenizer_guards_tokens_typed_normal(void **state)
{
	static const char *const merges[] = { "< |",     "i m", "im _",      "e n",        "en d",
					      "im_ end", "| >", "<| im_end", "<|im_end |>" };
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token id = BN_TOKEN_NONE;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		const char *space = strchr(merges[i], ' ');
		char joined[64];

		snprintf(joined, sizeof(joined), "%.*s%s", (int)(space - merges[i]), merges[i],
			 space + 1);
		id = vocabs_add(&v, joined, BN_TOKEN_NORMAL, 0);
		vocabs_add_merge(&v, merges[i]);
	}
	v.vocab.types = NULL;
	v.vocab.splitter = BN_SPLIT_GPT2;
	v.vocab.ignore_merges = true;
	tok = vocabs_make(&v);
	assert_true(bn_tokenizer_is_control(tok, id));
	assert_true(bn_tokenizer_is_eog(tok, id));
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_MERGES) != 0);
	t = encode(tok, "<|im_end|>");
	assert_int_equal(count_control(tok, t), 0);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);

	/* The same for SentencePiece, where any token whose text appears would be merged. */
	vocabs_init(&v, BN_TOKENIZER_SPM);
	v.vocab.unk = vocabs_add(&v, "<unk>", BN_TOKEN_NORMAL, 0);
	v.vocab.bos = vocabs_add(&v, "<s>", BN_TOKEN_NORMAL, 0);
	v.vocab.eos = vocabs_add(&v, "</s>", BN_TOKEN_NORMAL, 0);
	vocabs_add_spm_bytes(&v);
	vocabs_add(&v, "<s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "</", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "</s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "<0x41>", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "<", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "s", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, ">", BN_TOKEN_NORMAL, 0);
	v.vocab.types = NULL;
	tok = vocabs_make(&v);
	assert_true(bn_tokenizer_is_control(tok, v.vocab.eos));
	assert_round_trip(tok, "</s><s><unk><0x41>", 18);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_takes_the_longest_control_token(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token want[3];

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	want[2] = vocabs_add(&v, "<a>", BN_TOKEN_CONTROL, 0);
	want[0] = vocabs_add(&v, "<a><a>b", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<a><a>b", BN_TOKEN_CONTROL, 0); /* a duplicate: the lower id counts */
	vocabs_add(&v, "", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<a><a>bcd", BN_TOKEN_CONTROL, 0);
	want[1] = 'c'; /* byte symbols have the ids of their bytes */
	tok = vocabs_make(&v);
	t = encode_with(tok, "<a><a>bc<a>", 11,
			(struct bn_encode_options){ .parse_special = true });
	assert_ids("<a><a>bc<a>", t, want, 3);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_matches_literal_tokens_in_all_text(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	bn_token literal;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = vocabs_make(&v);
	literal = bn_tokenizer_find(tok, "\n\n\n", 3);
	assert_int_not_equal(literal, BN_TOKEN_NONE);
	t = encode(tok, "a\n\n\n\nb");
	assert_int_equal(t.n, 4);
	assert_int_equal(t.ids[1], literal);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);

	/* In SentencePiece the dummy space stands in front of one, too, or decoding would eat it.
	 */
	vocabs_tiny_spm(&v);
	literal = vocabs_add(&v, "\u2581\u2581\u2581", BN_TOKEN_USER_DEFINED, 0);
	tok = vocabs_make(&v);
	t = encode(tok, "   once");
	assert_int_equal(t.ids[1], literal);
	bn_tokens_finish(&t);
	assert_round_trip(tok, "   once", 7);
	assert_round_trip(tok, "once      once ", 15);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_strips_a_glued_begin_of_text(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	bn_token eot;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	v.vocab.bos = vocabs_add(&v, "<|begin_of_text|>", BN_TOKEN_CONTROL, 0);
	eot = vocabs_add(&v, "<|begin_of_text|><|eot_id|>", BN_TOKEN_CONTROL, 0);
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_find(tok, "<|eot_id|>", 10), eot);
	assert_int_equal(bn_tokenizer_find(tok, "<|begin_of_text|>", 17), v.vocab.bos);
	assert_true(bn_tokenizer_is_eog(tok, eot));
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_GLUED_BOS) != 0);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_knows_what_ends_a_generation(void **state)
{
	static const char *const yes[] = { "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		bn_token id = bn_tokenizer_find(llama3, yes[i], strlen(yes[i]));

		assert_true(bn_tokenizer_is_eog(llama3, id));
	}
	assert_false(bn_tokenizer_is_eog(llama3, 128000));
	assert_false(bn_tokenizer_is_eog(llama3, 0));
	assert_false(bn_tokenizer_is_eog(llama3, UINT32_MAX));
	assert_true(bn_tokenizer_is_eog(spm, 2));
	assert_true(bn_tokenizer_is_eog(phi3, 32000));
	assert_true(bn_tokenizer_is_eog(phi3, 32007)); /* <|end|> */
}

/* --- options ---------------------------------------------------------------------------------- */

static void tokenizer_adds_bos_and_eos_only_when_asked(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;

	(void)state;
	vocabs_tiny_bpe(&v);
	v.vocab.add_eos = true;
	tok = vocabs_make(&v);
	t = encode_with(tok, "", 0, (struct bn_encode_options){ .add_special = true });
	assert_int_equal(t.n, 2);
	assert_int_equal(t.ids[0], bn_tokenizer_bos(tok));
	assert_int_equal(t.ids[1], bn_tokenizer_eos(tok));
	bn_tokens_finish(&t);
	t = encode_with(tok, NULL, 0, (struct bn_encode_options){ 0 });
	assert_int_equal(t.n, 0);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_refuses_text_that_is_too_long(void **state)
{
	struct bn_encode_options options = { .max_bytes = 10 };
	struct bn_tokens t = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_tokens_push(&t, 7, NULL), BN_OK);
	assert_int_equal(bn_tokenizer_encode(tiny, "12345678901", 11, &options, &t, &err),
			 BN_E_TOO_LARGE);
	assert_int_equal(t.n, 1); /* what was there before */
	assert_string_equal(err.data[0].key, "limit");
	assert_int_equal(err.data[0].number, 10);
	assert_int_equal(err.data[1].number, 11);
	assert_int_equal(bn_tokenizer_encode(tiny, "1234567890", 10, &options, &t, &err), BN_OK);
	assert_int_equal(t.n, 9); /* 123 is a token */
	bn_tokens_finish(&t);
}

static void tokenizer_stops_when_cancelled(void **state)
{
	atomic_bool cancel = true;
	struct bn_encode_options options = { .cancel = &cancel, .add_special = true };
	struct bn_tokens t = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_tokenizer_encode(tiny, "text", 4, &options, &t, &err), BN_E_CANCELLED);
	assert_int_equal(t.n, 0);
	atomic_store(&cancel, false);
	assert_int_equal(bn_tokenizer_encode(tiny, "text", 4, &options, &t, &err), BN_OK);
	assert_int_equal(t.n, 5); /* bos and four bytes */
	bn_tokens_finish(&t);
}

static void tokenizer_replaces_broken_utf8(void **state)
{
	struct bn_tokens got =
		encode_with(tiny, "a\xFF\xE2\x82z", 5, (struct bn_encode_options){ 0 });
	struct bn_tokens want = encode(tiny, "a\uFFFD\uFFFDz");

	(void)state;
	assert_ids("broken", got, want.ids, want.n);
	bn_tokens_finish(&got);
	bn_tokens_finish(&want);
}

/* --- tokens to text --------------------------------------------------------------------------- */

static void detok_gives_whole_characters_only(void **state)
{
	static const char text[] = "£ 👩‍💻 café 镇";
	struct bn_tokens t = encode(tiny, text);
	struct bn_detok d;
	char all[256];
	size_t n = 0;

	(void)state;
	bn_detok_init(&d, tiny, 0);
	for (size_t i = 0; i < t.n; i++) {
		char part[BN_DETOK_BYTES];
		size_t bytes = bn_detok_push(&d, t.ids[i], part);

		assert_true(bn_utf8_valid(part, bytes));
		memcpy(all + n, part, bytes);
		n += bytes;
	}
	assert_int_equal(bn_detok_flush(&d, all + n), 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(all, text, n);
	bn_tokens_finish(&t);
}

static void detok_replaces_what_never_becomes_a_character(void **state)
{
	struct bn_detok d;
	char out[BN_DETOK_BYTES];

	(void)state;
	bn_detok_init(&d, tiny_spm, BN_DETOK_CONTINUES);
	assert_int_equal(bn_detok_push(&d, 3 + 0xE2, out), 0);
	assert_int_equal(bn_detok_push(&d, 3 + 0x82, out), 0);
	assert_int_equal(bn_detok_push(&d, 3 + 'x', out), 4);
	assert_memory_equal(out, "\uFFFDx", 4);
	assert_int_equal(bn_detok_push(&d, 3 + 0xF0, out), 0);
	assert_int_equal(bn_detok_flush(&d, out), 3);
	assert_memory_equal(out, "\uFFFD", 3);
	assert_int_equal(bn_detok_flush(&d, out), 0);
	assert_int_equal(bn_detok_push(&d, UINT32_MAX, out), 0);
}

static void detok_strips_the_dummy_space_at_the_start_only(void **state)
{
	struct bn_tokens t = encode_with(tiny_spm, "once once", 9,
					 (struct bn_encode_options){ .add_special = true });
	char out[64];
	size_t n;

	(void)state;
	assert_int_equal(bn_tokenizer_decode(tiny_spm, t.ids, t.n, 0, out, sizeof(out), &n, NULL),
			 BN_OK);
	assert_int_equal(n, 9);
	assert_memory_equal(out, "once once", 9);
	assert_int_equal(bn_tokenizer_decode(tiny_spm, t.ids, t.n, BN_DETOK_CONTINUES, out,
					     sizeof(out), &n, NULL),
			 BN_OK);
	assert_int_equal(n, 10);
	assert_memory_equal(out, " once once", 10);
	assert_int_equal(bn_tokenizer_decode(tiny_spm, t.ids, t.n, BN_DETOK_SPECIAL, out,
					     sizeof(out), &n, NULL),
			 BN_OK);
	assert_int_equal(n, 12);
	assert_memory_equal(out, "<s>once once", 12);
	bn_tokens_finish(&t);
}

static void tokenizer_decode_tells_what_it_needs(void **state)
{
	struct bn_tokens t = encode(tiny, "hello world, how are you");
	char out[64] = "untouched";
	struct bn_error err;
	size_t needed = 0;

	(void)state;
	assert_int_equal(bn_tokenizer_decode(tiny, t.ids, t.n, 0, out, 0, &needed, NULL), BN_OK);
	assert_int_equal(needed, 24);
	assert_string_equal(out, "untouched");
	assert_int_equal(bn_tokenizer_decode(tiny, t.ids, t.n, 0, out, 24, &needed, NULL), BN_OK);
	assert_memory_equal(out, "hello world, how are you", 24);
	t.ids[2] = 99999;
	assert_int_equal(bn_tokenizer_decode(tiny, t.ids, t.n, 0, out, 24, &needed, &err),
			 BN_E_INVALID);
	assert_non_null(strstr(err.text, "99999"));
	assert_non_null(strstr(err.text, "index 2"));
	bn_tokens_finish(&t);
}

static void tokenizer_hides_control_tokens(void **state)
{
	bn_token eot = bn_tokenizer_find(tiny, "<|eot_id|>", 10);

	(void)state;
	assert_int_equal(bn_tokenizer_piece(tiny, eot).n, 0);
	assert_int_equal(bn_tokenizer_text(tiny, eot).n, 10);
	assert_int_equal(bn_tokenizer_piece(tiny, bn_tokenizer_size(tiny)).n, 0);
	assert_int_equal(bn_tokenizer_text(tiny, UINT32_MAX).n, 0);
	assert_int_equal(bn_tokenizer_find(tiny, "", 0), BN_TOKEN_NONE);
	assert_int_equal(bn_tokenizer_piece(tiny, bn_tokenizer_find(tiny, " the", 4)).n, 4);
	assert_int_equal(bn_tokenizer_find(tiny, "no such token at all", 20), BN_TOKEN_NONE);
}

/* --- vocabularies ----------------------------------------------------------------------------- */

static enum bn_status make_fails(const struct bn_vocab *vocab, struct bn_error *err)
{
	struct bn_tokenizer *tok = NULL;
	enum bn_status status = bn_tokenizer_new(&tok, vocab, err);

	assert_null(tok);
	assert_true(bn_tokenizer_need(vocab) == SIZE_MAX);
	return status;
}

static void tokenizer_refuses_impossible_vocabularies(void **state)
{
	struct vocabs v;
	struct bn_error err;
	char *token;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);

	token = calloc(1, BN_TOKENIZER_TOKEN_BYTES + 1);
	assert_non_null(token);
	memset(token, 'x', BN_TOKENIZER_TOKEN_BYTES + 1);
	vocabs_add(&v, "fine", BN_TOKEN_NORMAL, 0);
	vocabs_add_bytes(&v, token, BN_TOKENIZER_TOKEN_BYTES + 1, BN_TOKEN_NORMAL, 0);
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "token 1"));
	vocabs_finish(&v);

	vocabs_init(&v, BN_TOKENIZER_BPE);
	v.vocab.n_tokens = BN_TOKENIZER_MAX_TOKENS + 1;
	assert_int_equal(make_fails(&v.vocab, &err), BN_E_FORMAT);
	free(token);
	vocabs_finish(&v);
}

static void tokenizer_takes_exactly_the_memory_it_announced(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_tiny_bpe(&v);
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_bytes(tok), bn_tokenizer_need(&v.vocab));
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_drops_bytes_without_a_token(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "b", BN_TOKEN_NORMAL, 0);
	vocabs_add(&v, "ab", BN_TOKEN_NORMAL, 0);
	vocabs_add_merge(&v, "a b");
	tok = vocabs_make(&v);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) != 0);
	t = encode(tok, "\n aXb \xC2\xA3");
	assert_int_equal(t.n, 1);
	assert_int_equal(t.ids[0], 2); /* the neighbours of a dropped byte meet */
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

/* Falcon-E: no symbols for bytes that valid UTF-8 cannot contain. Nothing is lost. */
static void tokenizer_needs_no_symbols_for_impossible_bytes(void **state)
{
	struct vocabs all;
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_init(&all, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&all);
	vocabs_init(&v, BN_TOKENIZER_BPE);
	for (unsigned b = 0; b < 256; b++) {
		if (b != 0xC0 && b != 0xC1 && b < 0xF5) {
			vocabs_add_bytes(&v, all.tokens[b].p, all.tokens[b].n, BN_TOKEN_NORMAL, 0);
		}
	}
	tok = vocabs_make(&v);
	assert_int_equal(bn_tokenizer_size(tok), 243);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) == 0);
	round_trips_random_text(tok);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	vocabs_finish(&all);
}

static void tokenizer_uses_unk_where_bytes_are_missing(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	static const bn_token want[] = { 1, 0, 1 };

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	v.vocab.unk = vocabs_add(&v, "<unk>", BN_TOKEN_UNKNOWN, 0);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, 0);
	v.vocab.add_space_prefix = false;
	tok = vocabs_make(&v);
	t = encode(tok, "a镇a");
	assert_ids("a镇a", t, want, 3);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_merges_leftmost_first_when_scores_are_flat(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;
	static const bn_token want[] = { 2, 2, 0 }; /* aa aa a, not a aa aa */

	(void)state;
	vocabs_init(&v, BN_TOKENIZER_SPM);
	vocabs_add(&v, "a", BN_TOKEN_NORMAL, -1000);
	vocabs_add(&v, "b", BN_TOKEN_NORMAL, -1000);
	vocabs_add(&v, "aa", BN_TOKEN_NORMAL, -1000);
	v.vocab.add_space_prefix = false;
	tok = vocabs_make(&v);
	assert_true((bn_tokenizer_warnings(tok) & BN_TOKENIZER_FLAT_SCORES) != 0);
	t = encode(tok, "aaaaa");
	assert_ids("aaaaa", t, want, 3);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	assert_true((bn_tokenizer_warnings(tiny_spm) & BN_TOKENIZER_FLAT_SCORES) == 0);
}

/* Random bytes as tokens, types, scores, merges and ids: nothing may crash or leave its range. */
static void tokenizer_survives_hostile_vocabularies(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		struct vocabs v;
		struct bn_tokenizer *tok;
		unsigned n = 1 + random_below(60);

		vocabs_init(&v, random_below(2) ? BN_TOKENIZER_SPM : BN_TOKENIZER_BPE);
		if (random_below(2)) {
			vocabs_add_gpt2_bytes(&v);
		}
		for (unsigned i = 0; i < n; i++) {
			char text[64];
			size_t bytes = random_below(8);
			float scores[] = {
				0, -1, 1, (float)NAN, (float)INFINITY, (float)-INFINITY
			};

			if (random_below(2)) {
				bytes = random_text(text, (unsigned)bytes);
			} else {
				for (size_t k = 0; k < bytes; k++) {
					text[k] = (char)random_below(256);
				}
			}
			vocabs_add_bytes(&v, text, bytes, random_below(9), scores[random_below(6)]);
			if (random_below(2)) {
				char merge[130];

				snprintf(merge, sizeof(merge), "%.*s %.*s", (int)bytes, text,
					 (int)bytes / 2, text);
				vocabs_add_merge(&v, merge);
			}
		}
		vocabs_add_merge(&v, "");
		vocabs_add_merge(&v, " ");
		vocabs_add_merge(&v, "nospace");
		v.vocab.bos = random_below(100);
		v.vocab.eos = random_below(100);
		v.vocab.unk = random_below(100);
		v.vocab.eot = UINT32_MAX - 1;
		v.vocab.add_bos = v.vocab.add_eos = true;
		v.vocab.splitter = random_below(BN_SPLITTER_COUNT);
		v.vocab.ignore_merges = random_below(2);
		if (random_below(4) == 0) {
			v.vocab.types = NULL;
		}
		tok = vocabs_make(&v);
		for (unsigned k = 0; k < 20; k++) {
			char text[4 * 32];
			char back[4096];
			size_t bytes = random_text(text, random_below(32));
			size_t needed;
			struct bn_tokens t = encode_with(
				tok, text, bytes,
				(struct bn_encode_options){ .add_special = random_below(2),
							    .parse_special = random_below(2) });

			assert_int_equal(bn_tokenizer_decode(tok, t.ids, t.n, 0, back, sizeof(back),
							     &needed, NULL),
					 BN_OK);
			bn_tokens_finish(&t);
		}
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

/* --- cost ------------------------------------------------------------------------------------- */

/* Texts that made other tokenizers quadratic or overflow their stack. */
static const char *const hostile[] = {
	"A",   " ",      "\n",     "us", "镇",       "👩‍💻", "e\u0301\u0300", "7", "'",
	" \n", "\u2581", "🦙 a", "\t", "<|eot_id", "a ",
};

enum { HOSTILE = sizeof(hostile) / sizeof(hostile[0]), HOSTILE_BYTES = 256 * 1024 };

static char *repeat(const char *unit, size_t bytes, size_t *n)
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

/*
 * 256 KiB takes about 0.1 s; 20 s would be reached by quadratic work (10^10 steps), not by a slow
 * machine or a sanitizer.
 */
static void takes_hostile_text(const struct bn_tokenizer *tok)
{
	for (size_t h = 0; h < HOSTILE; h++) {
		size_t n;
		char *text = repeat(hostile[h], HOSTILE_BYTES, &n);
		struct timespec a;
		struct timespec b;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		assert_round_trip(tok, text, n);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
		assert_true(b.tv_sec - a.tv_sec < 20);
		free(text);
	}
}

static void tokenizer_takes_hostile_text_in_reasonable_time(void **state)
{
	(void)state;
	takes_hostile_text(tiny);
	takes_hostile_text(tiny_spm);
}

static void real_tokenizers_take_hostile_text_in_reasonable_time(void **state)
{
	(void)state;
	takes_hostile_text(llama3);
	takes_hostile_text(spm);
}

static void *encode_hostile(void *who)
{
	(void)who;
	for (size_t h = 0; h < HOSTILE; h++) {
		size_t n;
		char *text = repeat(hostile[h], HOSTILE_BYTES / 4, &n);

		assert_round_trip(tiny, text, n);
		assert_round_trip(tiny_spm, text, n);
		free(text);
	}
	return NULL;
}

/* Helpers have whatever stack the thread pool gives them; recursion would need megabytes. */
static void tokenizer_needs_little_stack(void **state)
{
	pthread_attr_t attr;
	pthread_t thread;
	size_t stack = 64 * 1024;

	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	stack *= 8; /* sanitizers put red zones around every local */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	stack *= 8;
#endif
#endif
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
	assert_int_equal(pthread_create(&thread, &attr, encode_hostile, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
}

/* Pieces longer than the cap are cut between characters, and cost no memory beyond it. */
static void tokenizer_cuts_endless_words_between_characters(void **state)
{
	size_t n;
	char *text = repeat("镇", 3 * BN_TOKENIZER_PIECE_BYTES, &n);

	(void)state;
	assert_round_trip(tiny, text, n);
	assert_round_trip(tiny_spm, text, n);
	free(text);
}

static int load(void **state)
{
	struct vocabs v;

	(void)state;
	vocabs_tiny_bpe(&v);
	tiny = vocabs_make(&v);
	vocabs_finish(&v);
	vocabs_tiny_spm(&v);
	tiny_spm = vocabs_make(&v);
	vocabs_finish(&v);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	bn_tokenizer_free(tiny);
	bn_tokenizer_free(tiny_spm);
	return 0;
}

static int load_real(void **state)
{
	struct vocabs v;

	(void)state;
	vocabs_llama3(&v);
	llama3 = vocabs_make(&v);
	vocabs_finish(&v);
	spm = vocabs_gguf("tokenizers/ggml-vocab-llama-spm.gguf");
	phi3 = vocabs_gguf("tokenizers/ggml-vocab-phi-3.gguf");
	return 0;
}

static int unload_real(void **state)
{
	(void)state;
	bn_tokenizer_free(llama3);
	bn_tokenizer_free(spm);
	bn_tokenizer_free(phi3);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_gives_random_text_back),
		cmocka_unit_test(tokenizer_never_makes_control_tokens_of_text),
		cmocka_unit_test(tokenizer_guards_tokens_typed_normal),
		cmocka_unit_test(tokenizer_takes_the_longest_control_token),
		cmocka_unit_test(tokenizer_matches_literal_tokens_in_all_text),
		cmocka_unit_test(tokenizer_strips_a_glued_begin_of_text),
		cmocka_unit_test(tokenizer_adds_bos_and_eos_only_when_asked),
		cmocka_unit_test(tokenizer_refuses_text_that_is_too_long),
		cmocka_unit_test(tokenizer_stops_when_cancelled),
		cmocka_unit_test(tokenizer_replaces_broken_utf8),
		cmocka_unit_test(detok_gives_whole_characters_only),
		cmocka_unit_test(detok_replaces_what_never_becomes_a_character),
		cmocka_unit_test(detok_strips_the_dummy_space_at_the_start_only),
		cmocka_unit_test(tokenizer_decode_tells_what_it_needs),
		cmocka_unit_test(tokenizer_hides_control_tokens),
		cmocka_unit_test(tokenizer_refuses_impossible_vocabularies),
		cmocka_unit_test(tokenizer_takes_exactly_the_memory_it_announced),
		cmocka_unit_test(tokenizer_drops_bytes_without_a_token),
		cmocka_unit_test(tokenizer_needs_no_symbols_for_impossible_bytes),
		cmocka_unit_test(tokenizer_uses_unk_where_bytes_are_missing),
		cmocka_unit_test(tokenizer_merges_leftmost_first_when_scores_are_flat),
		cmocka_unit_test(tokenizer_survives_hostile_vocabularies),
		cmocka_unit_test(tokenizer_takes_hostile_text_in_reasonable_time),
		cmocka_unit_test(tokenizer_needs_little_stack),
		cmocka_unit_test(tokenizer_cuts_endless_words_between_characters),
	};
	const struct CMUnitTest real[] = {
		cmocka_unit_test(tokenizer_gives_the_llama_bpe_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama_spm_vectors),
		cmocka_unit_test(tokenizer_gives_the_phi3_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama3_vectors),
		cmocka_unit_test(tokenizer_gives_the_llama2_vectors),
		cmocka_unit_test(tokenizer_decodes_the_llama2_vectors),
		cmocka_unit_test(tokenizer_gives_the_bitnet_prompt_of_transformers),
		cmocka_unit_test(real_tokenizers_give_random_text_back),
		cmocka_unit_test(tokenizer_gives_stress_files_and_naughty_strings_back),
		cmocka_unit_test(real_tokenizers_never_make_control_tokens_of_text),
		cmocka_unit_test(tokenizer_knows_what_ends_a_generation),
		cmocka_unit_test(real_tokenizers_take_hostile_text_in_reasonable_time),
	};
	int failed = cmocka_run_group_tests(tests, load, unload);

	return failed != 0 ? failed : cmocka_run_group_tests(real, load_real, unload_real);
}
