/* What the writer writes the reader reads; and a failure leaves nothing behind. tests/tiny too. */
#include "engine/gguf_write.h"

#include "engine/gguf.h"
#include "tests/gguf_walk.h"
#include "tests/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/bn-test-write-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/model.gguf", p->dir);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unlink(p->path);
	/* Fails, and the test with it, when a temporary file was left behind. */
	assert_int_equal(rmdir(p->dir), 0);
	free(p);
	return 0;
}

static struct bn_gguf_writer *begin(const char *path, uint32_t alignment)
{
	struct bn_gguf_writer *w = NULL;
	struct bn_error err;

	if (bn_gguf_writer_new(&w, path, alignment, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return w;
}

/* Ends the writer's life; the outcome must be this status with these words. */
static void commit(struct bn_gguf_writer *w, enum bn_status status, const char *words)
{
	struct bn_error err = { 0 };

	assert_int_equal(bn_gguf_commit(w, &err), status);
	if (strstr(err.text, words) == NULL) {
		fail_msg("'%s' does not say '%s'", err.text, words);
	}
	bn_gguf_writer_free(w);
}

static struct bn_gguf *open_file(const char *path, struct bn_file *f)
{
	struct bn_gguf *g = NULL;
	struct bn_error err;

	if (bn_file_open(f, AT_FDCWD, path, false, &err) != BN_OK ||
	    bn_gguf_open(&g, f, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	walk_gguf(g, f->size);
	return g;
}

static void writer_and_reader_agree_at_every_alignment(void **state)
{
	static const uint32_t alignments[] = { 1, 2, 8, 32, 64, 4096, 1048576 };
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(alignments) / sizeof(alignments[0]); i++) {
		const uint32_t alignment = alignments[i];
		struct bn_gguf_writer *w = begin(p->path, alignment);
		const struct bn_str words[3] = { { "one", 3 }, { NULL, 0 }, { "th\0ree", 6 } };
		const int32_t ints[2] = { -5, 7 };
		const float floats[2] = { 0.5f, -2.0f };
		const uint64_t matrix[2] = { 128, 3 }, vector[1] = { 5 };
		const struct bn_gguf_tensor *t;
		unsigned char data[128], got[128];
		struct bn_gguf_array a;
		struct bn_gguf *g;
		struct bn_file f;
		struct bn_str s;
		uint32_t u;
		float x;
		bool b;

		for (size_t k = 0; k < sizeof(data); k++) {
			data[k] = (unsigned char)(k + 1);
		}
		bn_gguf_put_u32(w, "u32", 4000000000u);
		bn_gguf_put_i32(w, "i32", 12);
		bn_gguf_put_f32(w, "f32", 0.25f);
		bn_gguf_put_bool(w, "bool", true);
		bn_gguf_put_str(w, "str", "text");
		bn_gguf_put_strs(w, "strs", words, 3);
		bn_gguf_put_i32s(w, "i32s", ints, 2);
		bn_gguf_put_f32s(w, "f32s", floats, 2);
		bn_gguf_put_tensor(w, "small", BN_GGML_F32, 1, vector);
		bn_gguf_put_tensor(w, "trits", BN_GGML_I2_S, 2, matrix);
		bn_gguf_put_tensor(w, "last", BN_GGML_F16, 1, vector);
		bn_gguf_write(w, data, 20);
		bn_gguf_write(w, data, 1);
		bn_gguf_write(w, data, 0);
		bn_gguf_write(w, data + 1, 127);
		bn_gguf_write(w, data, 10);
		assert_true(bn_gguf_writer_ok(w));
		commit(w, BN_OK, "");

		g = open_file(p->path, &f);
		assert_int_equal(bn_gguf_version(g), 3);
		assert_int_equal(bn_gguf_has(g, "general.alignment"), alignment != 32);
		assert_int_equal(bn_gguf_u32(g, "u32", 0, UINT32_MAX, &u, NULL), BN_OK);
		assert_int_equal(u, 4000000000u);
		assert_int_equal(bn_gguf_u32(g, "i32", 12, 12, &u, NULL), BN_OK);
		assert_int_equal(bn_gguf_f32(g, "f32", 0.25f, 0.25f, &x, NULL), BN_OK);
		assert_int_equal(bn_gguf_bool(g, "bool", &b, NULL), BN_OK);
		assert_true(b);
		assert_true(bn_gguf_is(g, "str", "text"));
		assert_int_equal(bn_gguf_strs(g, "strs", 3, &a, NULL), BN_OK);
		for (size_t k = 0; k < 3; k++) {
			assert_true(bn_gguf_next_str(&a, &s));
			assert_int_equal(s.n, words[k].n);
			assert_true(s.n == 0 || memcmp(s.p, words[k].p, s.n) == 0);
		}
		assert_int_equal(bn_gguf_ints(g, "i32s", 2, &a, NULL), BN_OK);
		assert_int_equal(bn_gguf_int_at(&a, 0), -5);
		assert_int_equal(bn_gguf_f32s(g, "f32s", 2, &a, NULL), BN_OK);
		assert_true(bn_gguf_f32_at(&a, 1) == -2.0f);

		assert_int_equal(bn_gguf_tensor_count(g), 3);
		t = bn_gguf_tensor(g, "trits");
		assert_non_null(t);
		assert_int_equal(t->nbytes, 128);
		assert_int_equal(t->offset % alignment, 0);
		assert_int_equal(bn_gguf_read(g, t, 0, got, 128, NULL), BN_OK);
		assert_memory_equal(got, data, 128);
		t = bn_gguf_tensor(g, "last");
		assert_int_equal(bn_gguf_read(g, t, 0, got, 10, NULL), BN_OK);
		assert_memory_equal(got, data, 10);
		assert_int_equal(f.size % alignment, 0);
		bn_gguf_free(g);
		bn_file_close(&f);
	}
}

static void writer_needs_no_tensors(void **state)
{
	struct place *p = *state;
	struct bn_gguf_writer *w = begin(p->path, 32);
	struct bn_gguf *g;
	struct bn_file f;

	bn_gguf_put_str(w, "general.architecture", "none");
	commit(w, BN_OK, "");
	g = open_file(p->path, &f);
	assert_int_equal(bn_gguf_tensor_count(g), 0);
	bn_gguf_free(g);
	bn_file_close(&f);
}

static void writer_refuses_data_that_was_not_announced(void **state)
{
	struct place *p = *state;
	const uint64_t dims[1] = { 4 };
	const unsigned char data[32] = { 0 };
	struct bn_gguf_writer *w = begin(p->path, 32);

	bn_gguf_put_tensor(w, "t", BN_GGML_F32, 1, dims);
	bn_gguf_write(w, data, 17);
	assert_false(bn_gguf_writer_ok(w));
	commit(w, BN_E_INVALID, "tensor 0 of 1: 17 bytes are more than was announced");

	w = begin(p->path, 32);
	bn_gguf_put_tensor(w, "t", BN_GGML_F32, 1, dims);
	bn_gguf_write(w, data, 16);
	bn_gguf_write(w, data, 1);
	commit(w, BN_E_INVALID, "tensor 1 of 1");

	w = begin(p->path, 32);
	bn_gguf_put_tensor(w, "t", BN_GGML_F32, 1, dims);
	bn_gguf_put_tensor(w, "u", BN_GGML_F32, 1, dims);
	bn_gguf_write(w, data, 16);
	commit(w, BN_E_INVALID, "32 bytes of tensor data are missing");
	assert_int_equal(access(p->path, F_OK), -1);
}

static void writer_refuses_what_the_reader_would(void **state)
{
	struct place *p = *state;
	const uint64_t dims[2] = { 100, 1 };
	struct bn_gguf_writer *w = begin(p->path, 32);

	bn_gguf_put_u32(w, "twice", 1);
	bn_gguf_put_u32(w, "twice", 2);
	commit(w, BN_E_INVALID, "metadata key 'twice' occurs twice");

	w = begin(p->path, 32);
	bn_gguf_put_u32(w, "", 1);
	commit(w, BN_E_INVALID, "an empty name");

	w = begin(p->path, 32);
	bn_gguf_put_tensor(w, "ragged", BN_GGML_I2_S, 2, dims);
	assert_false(bn_gguf_writer_ok(w));
	commit(w, BN_E_INVALID, "tensor 'ragged'");
	assert_int_equal(access(p->path, F_OK), -1);
}

static void writer_replaces_a_file_at_once_or_not_at_all(void **state)
{
	struct place *p = *state;
	struct bn_gguf_writer *w = begin(p->path, 32);
	struct stat st;
	struct bn_gguf *g;
	struct bn_file f;

	bn_gguf_put_u32(w, "first", 1);
	assert_int_equal(access(p->path, F_OK), -1);
	commit(w, BN_OK, "");
	assert_int_equal(stat(p->path, &st), 0);
	assert_int_equal(st.st_mode & 07111, 0);

	/* Given up: the old file stays. */
	w = begin(p->path, 32);
	bn_gguf_put_u32(w, "second", 2);
	bn_gguf_writer_free(w);
	g = open_file(p->path, &f);
	assert_true(bn_gguf_has(g, "first"));
	bn_gguf_free(g);
	bn_file_close(&f);

	/* Two writers at once do not meet; the last to commit wins. */
	w = begin(p->path, 32);
	bn_gguf_put_u32(w, "third", 3);
	{
		struct bn_gguf_writer *other = begin(p->path, 32);

		bn_gguf_put_u32(other, "fourth", 4);
		commit(other, BN_OK, "");
	}
	commit(w, BN_OK, "");
	g = open_file(p->path, &f);
	assert_true(bn_gguf_has(g, "third"));
	bn_gguf_free(g);
	bn_file_close(&f);
	bn_gguf_writer_free(NULL);
}

static void writer_tells_when_there_is_no_place(void **state)
{
	struct place *p = *state;
	struct bn_gguf_writer *w;
	struct bn_error err;
	char path[128];

	snprintf(path, sizeof(path), "%s/absent/model.gguf", p->dir);
	assert_int_equal(bn_gguf_writer_new(&w, path, 32, &err), BN_E_IO);
	assert_non_null(strstr(err.text, "No such file or directory"));

	/* The target is a directory: known at the end only. */
	assert_int_equal(mkdir(p->path, 0700), 0);
	w = begin(p->path, 32);
	commit(w, BN_E_IO, "cannot put");
	assert_int_equal(rmdir(p->path), 0);
}

static void writer_survives_a_full_disk(void **state)
{
	struct place *p = *state;
	struct rlimit was, small;
	struct bn_tiny t;
	struct bn_error err;

	/* A file size limit fails writes as a full disk does, in the middle. */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small = was;
	small.rlim_cur = 100000;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	bn_tiny_default(&t);
	assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_E_IO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_non_null(strstr(err.text, "File too large"));
	assert_int_equal(access(p->path, F_OK), -1);
}

/* --- tests/tiny ------------------------------------------------------------------------------ */

static uint64_t file_hash(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint64_t hash = UINT64_C(14695981039346656037);
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF) {
		hash = (hash ^ (unsigned)c) * UINT64_C(1099511628211);
	}
	fclose(f);
	return hash;
}

static void check_trits(const struct bn_gguf *g, const struct bn_gguf_tensor *t)
{
	unsigned char *p = malloc((size_t)t->nbytes);
	size_t n = (size_t)t->nbytes - 32, count[4] = { 0 };
	float scale;

	assert_non_null(p);
	assert_int_equal(bn_gguf_read(g, t, 0, p, (size_t)t->nbytes, NULL), BN_OK);
	for (size_t i = 0; i < n; i++) {
		for (unsigned k = 0; k < 8; k += 2) {
			count[p[i] >> k & 3]++;
		}
	}
	memcpy(&scale, p + n, 4);
	for (size_t i = 4; i < 32; i++) {
		assert_int_equal(p[n + i], 0);
	}
	free(p);
	assert_true(scale > 0.0f && scale < 1.0f);
	assert_int_equal(count[3], 0);
	/* 25, 50, 25 %, give or take: of 4 n weights n, 2 n and n. */
	assert_in_range(count[0], n - n / 20, n + n / 20);
	assert_in_range(count[1], 2 * n - n / 10, 2 * n + n / 10);
	assert_in_range(count[2], n - n / 20, n + n / 20);
}

static void tiny_models_are_whole_and_always_the_same(void **state)
{
	struct place *p = *state;
	const enum bn_ggml_type types[] = { BN_GGML_F32, BN_GGML_F16, BN_GGML_Q8_0, BN_GGML_Q6_K };
	uint64_t hash;

	for (int i = 0; i < 8; i++) {
		struct bn_gguf_array tokens, merges, kinds;
		struct bn_tiny t;
		struct bn_error err;
		struct bn_gguf *g;
		struct bn_file f;
		uint32_t bos;

		bn_tiny_default(&t);
		t.embedding = types[i % 4];
		t.tokenizer = i < 4 ? BN_TINY_GPT2 : BN_TINY_SPM;
		t.arch = i < 4 ? "bitnet-b1.58" : "llama";
		t.tied = i % 2 == 0;
		t.sub_norms = i < 4;
		t.dim = 256;
		t.vocab = i == 3 ? 5000 : 300 + (uint32_t)i;
		assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_OK);
		hash = file_hash(p->path);
		assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_OK);
		assert_true(file_hash(p->path) == hash);
		g = open_file(p->path, &f);
		assert_int_equal(bn_gguf_tensor_count(g),
				 1 + t.layers * (t.sub_norms ? 11 : 9) + 1 + !t.tied);
		assert_int_equal(bn_gguf_strs(g, "tokenizer.ggml.tokens", t.vocab, &tokens, &err),
				 BN_OK);
		assert_int_equal(
			bn_gguf_ints(g, "tokenizer.ggml.token_type", t.vocab, &kinds, &err), BN_OK);
		assert_int_equal(
			bn_gguf_strs(g, "tokenizer.ggml.merges", 0, &merges, &err) == BN_OK, i < 4);
		assert_int_equal(
			bn_gguf_u32(g, "tokenizer.ggml.bos_token_id", 0, t.vocab - 1, &bos, &err),
			BN_OK);
		assert_int_equal(bn_gguf_int_at(&kinds, bos), 3);
		assert_int_equal(bn_gguf_int_at(&kinds, bos + 1), 3);
		check_trits(g, bn_gguf_tensor(g, "blk.1.ffn_down.weight"));
		assert_int_equal(bn_gguf_tensor(g, "token_embd.weight")->type, t.embedding);
		bn_gguf_free(g);
		bn_file_close(&f);
		t.seed++;
		assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_OK);
		assert_true(file_hash(p->path) != hash);
	}
}

static int compare(const void *a, const void *b)
{
	const struct bn_str *x = a, *y = b;

	return bn_gguf_name_order(*x, *y);
}

static void tiny_vocabularies_have_no_token_twice(void **state)
{
	struct place *p = *state;

	for (int i = 0; i < 2; i++) {
		struct bn_gguf_array tokens;
		struct bn_tiny t;
		struct bn_error err;
		struct bn_gguf *g;
		struct bn_file f;
		struct bn_str *all;

		bn_tiny_default(&t);
		t.layers = 1;
		t.vocab = 40000;
		t.tokenizer = i == 0 ? BN_TINY_GPT2 : BN_TINY_SPM;
		assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_OK);
		g = open_file(p->path, &f);
		assert_int_equal(bn_gguf_strs(g, "tokenizer.ggml.tokens", t.vocab, &tokens, &err),
				 BN_OK);
		all = calloc(t.vocab, sizeof(*all));
		assert_non_null(all);
		for (uint32_t k = 0; k < t.vocab; k++) {
			assert_true(bn_gguf_next_str(&tokens, &all[k]));
			assert_true(all[k].n > 0);
		}
		qsort(all, t.vocab, sizeof(*all), compare);
		for (uint32_t k = 1; k < t.vocab; k++) {
			assert_true(compare(&all[k - 1], &all[k]) != 0);
		}
		free(all);
		bn_gguf_free(g);
		bn_file_close(&f);
	}
}

static void tiny_refuses_parameters_that_make_no_model(void **state)
{
	struct place *p = *state;
	struct bn_error err;
	struct bn_tiny t;

	bn_tiny_default(&t);
	t.heads = 3;
	assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_E_INVALID);
	bn_tiny_default(&t);
	t.vocab = 299;
	assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_E_INVALID);
	bn_tiny_default(&t);
	t.dim = 24; /* 24 * 24 elements are no multiple of 128 */
	assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_E_INVALID);
	assert_non_null(strstr(err.text, "blk.0.attn_q.weight"));
	bn_tiny_default(&t);
	t.embedding = BN_GGML_Q4_0;
	assert_int_equal(bn_tiny_write(&t, p->path, &err), BN_E_INVALID);
	assert_false(bn_tiny_preset(&t, "gpt-5"));
	for (uint32_t i = 0; bn_tiny_preset_at(i) != NULL; i++) {
		assert_true(bn_tiny_preset(&t, bn_tiny_preset_at(i)));
		assert_int_equal(t.dim % t.heads, 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writer_and_reader_agree_at_every_alignment),
		TEST(writer_needs_no_tensors),
		TEST(writer_refuses_data_that_was_not_announced),
		TEST(writer_refuses_what_the_reader_would),
		TEST(writer_replaces_a_file_at_once_or_not_at_all),
		TEST(writer_tells_when_there_is_no_place),
		TEST(writer_survives_a_full_disk),
		TEST(tiny_models_are_whole_and_always_the_same),
		TEST(tiny_vocabularies_have_no_token_twice),
		TEST(tiny_refuses_parameters_that_make_no_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
