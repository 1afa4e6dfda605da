#include "tests/engine/vocabs.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "engine/utf8.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *must(void *p)
{
	if (p == NULL) {
		perror("vocabs");
		abort();
	}
	return p;
}

static void data_path(char *path, size_t n, const char *name)
{
	const char *data = getenv("BN_TEST_DATA");

	snprintf(path, n, "%s/%s", data == NULL ? "" : data, name);
	if (data == NULL || access(path, R_OK) != 0) {
		fprintf(stderr, "skipped: %s is not there (BN_TEST_DATA)\n", path);
		exit(77);
	}
}

char *vocabs_read(const char *name, size_t *n)
{
	char path[1024];
	char command[1100];
	bool packed = strlen(name) > 3 && strcmp(name + strlen(name) - 3, ".gz") == 0;
	size_t capacity = 1 << 16;
	char *text = must(malloc(capacity + 1));
	FILE *file;

	data_path(path, sizeof(path), name);
	snprintf(command, sizeof(command), "gzip -dc '%s'", path);
	file = must(packed ? popen(command, "r") : fopen(path, "rb"));
	*n = 0;
	for (;;) {
		size_t got = fread(text + *n, 1, capacity - *n, file);

		if (got == 0) {
			break;
		}
		*n += got;
		if (*n == capacity) {
			capacity *= 2;
			text = must(realloc(text, capacity + 1));
		}
	}
	text[*n] = '\0';
	if ((packed ? pclose(file) : fclose(file)) != 0) {
		fprintf(stderr, "%s: cannot be read\n", path);
		abort();
	}
	return text;
}

/* Memory that lives as long as the vocabulary. */
static char *own(struct vocabs *v, char *block)
{
	if (v->n_owned == v->owned_capacity) {
		v->owned_capacity = v->n_owned == 0 ? 1024 : 2 * v->n_owned;
		v->owned = must(realloc(v->owned, v->owned_capacity * sizeof(*v->owned)));
	}
	v->owned[v->n_owned++] = block;
	return block;
}

void vocabs_init(struct vocabs *v, enum bn_tokenizer_kind kind)
{
	*v = (struct vocabs){ 0 };
	v->vocab.kind = kind;
	v->vocab.splitter = BN_SPLIT_LLAMA3;
	v->vocab.add_space_prefix = true;
	v->vocab.bos = v->vocab.eos = v->vocab.eot = BN_TOKEN_NONE;
	v->vocab.eom = v->vocab.unk = BN_TOKEN_NONE;
}

/* Appends a token whose spelling is borrowed. */
static bn_token add_view(struct vocabs *v, struct bn_str spelling, enum bn_token_type type,
			 float score)
{
	uint32_t id = v->vocab.n_tokens++;

	if (id == v->capacity) {
		v->capacity = v->capacity == 0 ? 1024 : 2 * v->capacity;
		v->tokens = must(realloc(v->tokens, v->capacity * sizeof(*v->tokens)));
		v->types = must(realloc(v->types, v->capacity * sizeof(*v->types)));
		v->scores = must(realloc(v->scores, v->capacity * sizeof(*v->scores)));
	}
	v->tokens[id] = spelling;
	v->types[id] = (uint8_t)type;
	v->scores[id] = score;
	v->vocab.tokens = v->tokens;
	v->vocab.types = v->types;
	v->vocab.scores = v->scores;
	return id;
}

bn_token vocabs_add_bytes(struct vocabs *v, const char *spelling, size_t n, enum bn_token_type type,
			  float score)
{
	char *copy = own(v, must(malloc(n + 1)));

	if (n > 0) {
		memcpy(copy, spelling, n);
	}
	return add_view(v, (struct bn_str){ copy, n }, type, score);
}

bn_token vocabs_add(struct vocabs *v, const char *spelling, enum bn_token_type type, float score)
{
	return vocabs_add_bytes(v, spelling, strlen(spelling), type, score);
}

static void add_merge_view(struct vocabs *v, struct bn_str merge)
{
	uint32_t i = v->vocab.n_merges++;

	if (i == v->merges_capacity) {
		v->merges_capacity = i == 0 ? 1024 : 2 * i;
		v->merges = must(realloc(v->merges, v->merges_capacity * sizeof(*v->merges)));
	}
	v->merges[i] = merge;
	v->vocab.merges = v->merges;
}

void vocabs_add_merge(struct vocabs *v, const char *merge)
{
	add_merge_view(v, (struct bn_str){ own(v, must(strdup(merge))), strlen(merge) });
}

void vocabs_add_gpt2_bytes(struct vocabs *v)
{
	uint32_t other = 0x100;

	for (unsigned b = 0; b < 256; b++) {
		bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
		char text[4];
		size_t n = bn_utf8_encode(printable ? b : other++, text);

		vocabs_add_bytes(v, text, n, BN_TOKEN_NORMAL, 0);
	}
}

void vocabs_add_spm_bytes(struct vocabs *v)
{
	for (unsigned b = 0; b < 256; b++) {
		char text[8];

		snprintf(text, sizeof(text), "<0x%02X>", b);
		vocabs_add(v, text, BN_TOKEN_BYTE, 0);
	}
}

struct bn_tokenizer *vocabs_make(struct vocabs *v)
{
	struct bn_tokenizer *tok;
	struct bn_error err;

	if (bn_tokenizer_new(&tok, &v->vocab, &err) != BN_OK) {
		fprintf(stderr, "bn_tokenizer_new: %s\n", err.text);
		abort();
	}
	return tok;
}

void vocabs_finish(struct vocabs *v)
{
	for (size_t i = 0; i < v->n_owned; i++) {
		free(v->owned[i]);
	}
	free(v->owned);
	free(v->tokens);
	free(v->types);
	free(v->scores);
	free(v->merges);
	*v = (struct vocabs){ 0 };
}

static void add_llama3_tokens(struct vocabs *v)
{
	size_t n;
	char *text = vocabs_read("tokenizers/llama3/llama3.2-json/encoder.json.gz", &n);
	json_t *map = must(json_loadb(text, n, 0, NULL));
	const char **spelling = must(calloc(128000, sizeof(*spelling)));
	const char *key;
	json_t *id;

	json_object_foreach(map, key, id)
	{
		spelling[json_integer_value(id)] = key;
	}
	for (size_t i = 0; i < 128000; i++) {
		vocabs_add(v, spelling[i], BN_TOKEN_NORMAL, 0);
	}
	free(spelling);
	json_decref(map);
	free(text);
}

void vocabs_llama3(struct vocabs *v)
{
	static const char *const names[] = {
		"<|begin_of_text|>",
		"<|end_of_text|>",
		"<|reserved_special_token_0|>",
		"<|reserved_special_token_1|>",
		"<|finetune_right_pad_id|>",
		"<|reserved_special_token_2|>",
		"<|start_header_id|>",
		"<|end_header_id|>",
		"<|eom_id|>",
		"<|eot_id|>",
		"<|python_tag|>",
	};
	size_t n;
	char *text;

	vocabs_init(v, BN_TOKENIZER_BPE);
	add_llama3_tokens(v);
	for (unsigned i = 0; i < 256; i++) {
		char name[40];

		if (i < sizeof(names) / sizeof(names[0])) {
			snprintf(name, sizeof(name), "%s", names[i]);
		} else {
			snprintf(name, sizeof(name), "<|reserved_special_token_%u|>", i - 8);
		}
		vocabs_add(v, name, BN_TOKEN_CONTROL, 0);
	}
	text = own(v, vocabs_read("tokenizers/llama3/llama3.2-json/vocab.bpe.gz", &n));
	for (char *line = text; line < text + n;) {
		char *end = must(strchr(line, '\n'));

		add_merge_view(v, (struct bn_str){ line, (size_t)(end - line) });
		line = end + 1;
	}
	v->vocab.ignore_merges = true;
	v->vocab.bos = 128000;
	v->vocab.eos = 128001;
	v->vocab.add_bos = true;
}

struct bn_tokenizer *vocabs_gguf(const char *name)
{
	char path[1024];
	struct bn_file file;
	struct bn_gguf *gguf;
	struct bn_tokenizer *tok;
	struct bn_error err;

	data_path(path, sizeof(path), name);
	if (bn_file_open(&file, AT_FDCWD, path, false, &err) != BN_OK ||
	    bn_gguf_open(&gguf, &file, &err) != BN_OK ||
	    bn_tokenizer_from_gguf(&tok, gguf, UINT32_MAX, &err) != BN_OK) {
		fprintf(stderr, "%s: %s\n", path, err.text);
		abort();
	}
	bn_gguf_free(gguf);
	bn_file_close(&file);
	return tok;
}

/* Empty ones first. */
static int by_spelling(const void *a, const void *b)
{
	const struct bn_str *x = a, *y = b;
	const int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

	return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

void vocabs_falcon_e(struct vocabs *v, unsigned without)
{
	static const char *const merges[] = { "Ġ t", "h e", "Ġt he", "Ċ Ċ", "Â °", "Â° F",
					      "i n", "Ġ Ġ", "ĠĠ ĠĠ", "- -", "\" ." };
	static const char *const specials[] = { "<|pad|>", "<|im_start|>", "<|im_end|>",
						"<|end_of_text|>", ">>UNUSED_4<<" };
	struct vocabs all;

	vocabs_init(v, BN_TOKENIZER_BPE);
	vocabs_init(&all, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&all);
	for (unsigned b = 0; b < 256; b++) {
		if (b == 0xC0 || b == 0xC1 || b >= 0xF5 || (b == without && b != 0)) {
			all.tokens[b].n = 0;
		}
	}
	qsort(all.tokens, 256, sizeof(all.tokens[0]), by_spelling);
	for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++) {
		vocabs_add(v, specials[i], BN_TOKEN_CONTROL, 0);
	}
	for (unsigned b = 0; b < 256; b++) {
		if (all.tokens[b].n > 0) {
			vocabs_add_bytes(v, all.tokens[b].p, all.tokens[b].n, BN_TOKEN_NORMAL, 0);
		}
	}
	for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		const char *space = strchr(merges[i], ' ');
		char joined[64];

		snprintf(joined, sizeof(joined), "%.*s%s", (int)(space - merges[i]), merges[i],
			 space + 1);
		vocabs_add(v, joined, BN_TOKEN_NORMAL, 0);
		vocabs_add_merge(v, merges[i]);
	}
	v->vocab.eos = 3;
	v->vocab.splitter = BN_SPLIT_LLAMA3;
	v->vocab.ignore_merges = true;
	vocabs_finish(&all);
}

void vocabs_tiny_bpe(struct vocabs *v)
{
	static const char *const merges[] = {
		"t h",  "th e",   "Ġ a",       "i n", "h e",       "Ġ the", "e r",   "in g", "Ġ Ġ",
		"A A",  "AA AA",  "AAAA AAAA", "1 2", "12 3",      "U s",   "Us er", "a s",  "s i",
		"si s", "as sis", "assis t",   "a n", "assist an", "Ċ Ċ",   "Ã ©",   "H i",  "Ġ Hi",
	};
	static const char *const controls[] = {
		"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
		"<|eot_id|>",        "<|im_start|>",    "<|im_end|>",          "<|endoftext|>",
	};

	vocabs_init(v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(v);
	for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		const char *space = strchr(merges[i], ' ');
		char joined[64];

		snprintf(joined, sizeof(joined), "%.*s%s", (int)(space - merges[i]), merges[i],
			 space + 1);
		vocabs_add(v, joined, BN_TOKEN_NORMAL, 0);
		vocabs_add_merge(v, merges[i]);
	}
	vocabs_add(v, "\n\n\n", BN_TOKEN_USER_DEFINED, 0);
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		bn_token id = vocabs_add(v, controls[i], BN_TOKEN_CONTROL, 0);

		if (i == 0) {
			v->vocab.bos = id;
		}
		if (i == 1) {
			v->vocab.eos = id;
		}
	}
	v->vocab.add_bos = true;
}

void vocabs_tiny_spm(struct vocabs *v)
{
	static const char *const words[] = {
		"\u2581t", "he",         "\u2581the",    "in",
		"er",      "\u2581a",    "\u2581\u2581", "\u2581\u2581\u2581\u2581",
		"re",      "\u2581he",   "on",           "ce",
		"once",    "\u2581once",
	};

	vocabs_init(v, BN_TOKENIZER_SPM);
	v->vocab.unk = vocabs_add(v, "<unk>", BN_TOKEN_UNKNOWN, 0);
	v->vocab.bos = vocabs_add(v, "<s>", BN_TOKEN_CONTROL, 0);
	v->vocab.eos = vocabs_add(v, "</s>", BN_TOKEN_CONTROL, 0);
	vocabs_add_spm_bytes(v);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		vocabs_add(v, words[i], BN_TOKEN_NORMAL, -(float)i);
	}
	vocabs_add(v, "\u2581", BN_TOKEN_NORMAL, -100);
	for (char c = 'a'; c <= 'z'; c++) {
		vocabs_add_bytes(v, &c, 1, BN_TOKEN_NORMAL, -101 - (float)(c - 'a'));
	}
	v->vocab.add_bos = true;
}
