/*
 * What a spoilt file may cost: tokenizer.json, config.json and a safetensors header of megabytes,
 * each broken where it hurts most, behind everything that was read. Every case runs in a process of
 * its own that may have 64 MiB and twice the file more than it starts with; the answer must be a
 * sentence about the file, not about memory.
 */
#include "engine/hfconfig.h"
#include "engine/hfvocab.h"
#include "engine/safetensors.h"

#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TOKENS = 131072, TENSORS = 40000, FREE_MIB = 64, MIB = 1 << 20 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITED 0 /* their shadow is terabytes of address space */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITED 0
#endif
#endif
#ifndef LIMITED
#define LIMITED 1
#endif

/* The readers, as one kind of function on an open folder. */
typedef enum bn_status (*reader)(int folder, struct bn_error *err);

static enum bn_status read_vocab(int folder, struct bn_error *err)
{
	struct bn_hfvocab v = { 0 };
	const enum bn_status status = bn_hfvocab_load(&v, folder, TOKENS, err);

	bn_hfvocab_finish(&v);
	return status;
}

static enum bn_status read_config(int folder, struct bn_error *err)
{
	struct bn_hfconfig c = { 0 };

	return bn_hfconfig_load(&c, folder, err);
}

static enum bn_status read_tensors(int folder, struct bn_error *err)
{
	struct bn_safetensors *st = NULL;
	const enum bn_status status = bn_safetensors_open(&st, folder, err);

	bn_safetensors_free(st);
	return status;
}

/* --- large files ------------------------------------------------------------------------------ */

struct text {
	char *p;
	size_t n;
};

/* The i-th of many tokens: letters, shortest first, each the one of i / 26 and a letter more. */
static void token_text(unsigned i, char out[16])
{
	char reversed[16];
	size_t n = 0;

	for (i++; i > 0; i = (i - 1) / 26) {
		reversed[n++] = (char)('a' + (i - 1) % 26);
	}
	for (size_t k = 0; k < n; k++) {
		out[k] = reversed[n - 1 - k];
	}
	out[n] = '\0';
}

static struct text tokenizer_text(void)
{
	struct text t = { 0 };
	FILE *f = open_memstream(&t.p, &t.n);
	char token[16];

	assert_non_null(f);
	fputs("{\"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\": {\"type\": "
	      "\"ByteLevel\", \"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"vocab\": {",
	      f);
	for (unsigned i = 0; i < TOKENS; i++) {
		token_text(i, token);
		fprintf(f, "%s\n      \"%s\": %u", i > 0 ? "," : "", token, i);
	}
	fputs("}, \"merges\": [", f);
	for (unsigned i = 26; i < TOKENS; i++) {
		const size_t n = (token_text(i, token), strlen(token));

		fprintf(f, "%s\n      \"%.*s %s\"", i > 26 ? "," : "", (int)n - 1, token,
			token + n - 1);
	}
	fputs("]}, \"end\": 0}\n", f);
	fclose(f);
	return t;
}

static struct text config_text(void)
{
	struct text t = { 0 };
	FILE *f = open_memstream(&t.p, &t.n);

	assert_non_null(f);
	fputs("{\"label2id\": {", f);
	for (unsigned i = 0; i < 100000; i++) {
		fprintf(f, "%s\"LABEL_WITH_A_LONG_NAME_%u\": %u", i > 0 ? ", " : "", i, i);
	}
	fputs("}, \"architectures\": [\"LlamaForCausalLM\"], \"hidden_act\": \"silu\", "
	      "\"hidden_size\": 128, \"intermediate_size\": 256, \"num_attention_heads\": 4, "
	      "\"num_hidden_layers\": 2, \"max_position_embeddings\": 512, \"rms_norm_eps\": "
	      "1e-05, \"rope_theta\": 10000.0, \"vocab_size\": 300, \"end\": 0}\n",
	      f);
	fclose(f);
	return t;
}

static struct text tensors_text(void)
{
	struct text t = { 0 };
	FILE *f = open_memstream(&t.p, &t.n);

	assert_non_null(f);
	fputs("{", f);
	for (unsigned i = 0; i < TENSORS; i++) {
		fprintf(f,
			"%s\"model.layers.%u.mlp.gate_proj.weight\": {\"dtype\": \"F16\", "
			"\"shape\": [1], \"data_offsets\": [%u, %u]}",
			i > 0 ? ", " : "", i, 2 * i, 2 * i + 2);
	}
	fputs(", \"end\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [80000, 80000]}}",
	      f);
	fclose(f);
	return t;
}

/* --- one case --------------------------------------------------------------------------------- */

/* Address space of this process, bytes. */
static size_t mapped(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* In a child: 0 when the reader answers as it should. */
static int answer(reader read, int folder, size_t file_bytes, enum bn_status wanted,
		  const char *words)
{
	const size_t most = mapped() + 2 * file_bytes + (size_t)FREE_MIB * MIB;
	const struct rlimit limit = { most, most };
	struct bn_error err = { 0 };
	enum bn_status status;

	if (LIMITED && setrlimit(RLIMIT_AS, &limit) != 0) {
		return 2;
	}
	status = read(folder, &err);
	if (status == wanted && (status == BN_OK || strstr(err.text, words) != NULL)) {
		return 0;
	}
	fprintf(stderr, "wanted '%s', got %s: %s\n", words, bn_status_word(status),
		status == BN_OK ? "" : err.text);
	return 1;
}

/* The text as this file, behind its length where it is a header. */
static void write_case(const struct hf_folder *hf, const char *name, const struct text *t)
{
	unsigned char length[8];
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", hf->path, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	if (strstr(name, "safetensors") != NULL) {
		for (int i = 0; i < 8; i++) {
			length[i] = (unsigned char)((uint64_t)t->n >> (8 * i));
		}
		assert_int_equal(fwrite(length, 1, 8, f), 8);
	}
	assert_int_equal(fwrite(t->p, 1, t->n, f), t->n);
	if (strstr(name, "safetensors") != NULL) {
		fseek(f, 2 * TENSORS - 1, SEEK_CUR);
		fputc(0, f);
	}
	fclose(f);
}

struct spoil {
	const char *from, *to; /* the last `from` becomes `to`; from NULL: cut off there */
	enum bn_status status;
	const char *words;
};

static void run_case(const struct hf_folder *hf, const char *name, reader read,
		     const struct text *whole, const struct spoil *s)
{
	struct text t = { malloc(whole->n + 64), whole->n };
	int status, folder = open(hf->path, O_RDONLY | O_DIRECTORY);
	char *at = t.p;
	pid_t child;

	assert_true(at != NULL && folder >= 0);
	memcpy(t.p, whole->p, whole->n + 1);
	if (s->from == NULL) {
		t.n = whole->n - 8;
	} else {
		for (char *next = t.p; (next = strstr(next, s->from)) != NULL; next++) {
			at = next;
		}
		assert_memory_equal(at, s->from, strlen(s->from));
		memmove(at + strlen(s->to), at + strlen(s->from), strlen(at + strlen(s->from)) + 1);
		memcpy(at, s->to, strlen(s->to));
		t.n = whole->n + strlen(s->to) - strlen(s->from);
	}
	write_case(hf, name, &t);
	free(t.p);
	child = fork();
	if (child == 0) {
		_exit(answer(read, folder, t.n, s->status, s->words));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	close(folder);
	if (status != 0) {
		fail_msg("%s: '%s' for '%s'", name, s->to != NULL ? s->to : "cut",
			 s->from != NULL ? s->from : "the end");
	}
}

static void run_cases(const char *name, reader read, struct text whole, const struct spoil *cases,
		      size_t n)
{
	struct hf_folder hf;

	hf_init(&hf);
	for (size_t i = 0; i < n; i++) {
		run_case(&hf, name, read, &whole, &cases[i]);
	}
	print_message("%s of %zu bytes: %zu cases%s\n", name, whole.n, n,
		      LIMITED ? "" : ", memory not limited under a sanitizer");
	free(whole.p);
	hf_finish(&hf);
}

static void large_tokenizers_cost_little_when_they_are_spoilt(void **state)
{
	static const struct spoil cases[] = {
		{ "\"end\": 0", "\"end\": 1", BN_OK, "" },
		{ NULL, NULL, BN_E_FORMAT, "not valid JSON" },
		{ "\"end\": 0", "\"end\": 00", BN_E_FORMAT, "not valid JSON" },
		{ "\"end\": 0}", "\"end\": 0}}", BN_E_FORMAT, "end of file expected" },
		{ "\"end\": 0", "\"model\": 0", BN_E_FORMAT, "duplicate" },
		{ ": 131071}", ": 131072}", BN_E_FORMAT, "has the id 131072" },
		{ ": 131071}", ": 131070}", BN_E_FORMAT, "id 131070 is both" },
		{ ": 131071}", ": -1}", BN_E_FORMAT, "no integer" },
		{ ": 131071}", ": \"131071\"}", BN_E_FORMAT, "no integer" },
		{ "\"]}", "x\", 7]}", BN_E_FORMAT, "merges[131046]" },
		{ "\"]}", "\", \"ab\"]}", BN_E_FORMAT, "merges[131046]" },
		{ "\"type\": \"BPE\"", "\"type\": \"Unigram\"", BN_E_NOT_SUPPORTED, "Unigram" },
		{ "\"use_regex\": true", "\"use_regex\": false", BN_OK, "" },
		{ "\"added_tokens\": []", "\"added_tokens\": 7", BN_E_FORMAT, "added_tokens" },
	};

	(void)state;
	run_cases("tokenizer.json", read_vocab, tokenizer_text(), cases,
		  sizeof(cases) / sizeof(cases[0]));
}

static void large_configurations_cost_little_when_they_are_spoilt(void **state)
{
	static const struct spoil cases[] = {
		{ "\"end\": 0", "\"end\": 1", BN_OK, "" },
		{ NULL, NULL, BN_E_FORMAT, "not valid JSON" },
		{ "\"end\": 0", "\"end\": nul", BN_E_FORMAT, "not valid JSON" },
		{ "\"end\": 0", "\"hidden_size\": 0", BN_E_FORMAT, "duplicate" },
		{ "\"vocab_size\": 300", "\"vocab_size\": 0", BN_E_FORMAT, "vocab_size" },
		{ "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", BN_E_NOT_SUPPORTED,
		  "gelu" },
		{ "\"end\": 0", "\"end\": 1e999", BN_E_FORMAT, "not valid JSON" },
	};

	(void)state;
	run_cases("config.json", read_config, config_text(), cases,
		  sizeof(cases) / sizeof(cases[0]));
}

static void large_headers_cost_little_when_they_are_spoilt(void **state)
{
	static const struct spoil cases[] = {
		{ "\"end\": {\"dtype\": \"U8\"", "\"end\": {\"dtype\": \"I8\"", BN_OK, "" },
		{ NULL, NULL, BN_E_FORMAT, "model.safetensors" },
		{ "\"end\": {", "\"end\": [", BN_E_FORMAT, "model.safetensors" },
		{ "\"U8\"", "\"U9\"", BN_E_NOT_SUPPORTED, "'U9'" },
		{ "[80000, 80000]", "[79999, 80000]", BN_E_FORMAT, "'end'" },
		{ "[80000, 80000]", "[80000, 90000]", BN_E_FORMAT, "'end'" },
		{ "\"shape\": [0]", "\"shape\": [-1]", BN_E_FORMAT, "'end'" },
		{ "[79998, 80000]", "[79996, 79998]", BN_E_FORMAT, "model.safetensors" },
		{ "\"end\": {", "\"model.layers.0.mlp.gate_proj.weight\": {", BN_E_FORMAT,
		  "duplicate object key" },
	};

	(void)state;
	run_cases("model.safetensors", read_tensors, tensors_text(), cases,
		  sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_tokenizers_cost_little_when_they_are_spoilt),
		cmocka_unit_test(large_configurations_cost_little_when_they_are_spoilt),
		cmocka_unit_test(large_headers_cost_little_when_they_are_spoilt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
