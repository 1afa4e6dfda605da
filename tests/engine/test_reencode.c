/*
 * GGUF to GGUF: the file that comes out is, byte for byte, the one that would have been written in
 * the other type to begin with.
 */
#include "engine/reencode.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "kernels/cpu.h"
#include "kernels/dense.h"
#include "tests/engine/rig.h"
#include "tests/tiny.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 512, VOCAB = 512 };

/* Scales of 1/16 and 1/64, which every type holds exactly. */
static void make(const char *name, enum bn_ggml_type trits, bool tied, char path[160])
{
	struct bn_error err = { 0 };
	struct bn_tiny t;

	bn_tiny_default(&t);
	t.dim = DIM;
	t.ffn = 2048;
	t.heads = 4;
	t.kv_heads = 2;
	t.tied = tied;
	t.trits = trits;
	snprintf(path, 160, "%s", rig_path(name));
	if (bn_tiny_write(&t, path, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

static enum bn_status reencode(const char *from, const char *to, const char *kernel,
			       enum bn_ggml_type embedding, const struct bn_tiles_advice *advice,
			       struct bn_convert_report *r, struct bn_error *err)
{
	const struct bn_convert_options options = {
		.cpu = strcmp(kernel, "tl1") == 0   ? BN_CPU_NEON
		       : strcmp(kernel, "tl2") == 0 ? BN_CPU_SSSE3
						    : 0,
		.kernel = kernel,
		.embedding = embedding,
		.force = true,
	};

	bn_enter_helper();
	return bn_reencode(from, to, &options, advice, r, err);
}

static void must(const char *from, const char *to, const char *kernel, enum bn_ggml_type embedding,
		 const struct bn_tiles_advice *advice)
{
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };

	if (reencode(from, to, kernel, embedding, advice, &r, &err) != BN_OK) {
		fail_msg("%s to %s: %s", from, kernel, err.text);
	}
	assert_int_equal(r.recoded, 14);
	assert_int_equal(r.packed + r.latent + r.dequantized, 0);
	assert_true(r.trits > 0 && r.zero_trits * 2 > r.trits * 9 / 10);
	assert_string_equal(bn_ggml_name(r.format), kernel);
}

static void expect_same(const char *a, const char *b)
{
	size_t n, m;
	char *x = rig_slurp(a, &n), *y = rig_slurp(b, &m);

	assert_non_null(x);
	assert_non_null(y);
	assert_int_equal(n, m);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

static void every_type_becomes_every_format(void **state)
{
	static const enum bn_ggml_type formats[] = { BN_GGML_I2_S, BN_GGML_TL1, BN_GGML_TL2 };
	char from[160], wanted[160], to[160];

	(void)state;
	for (size_t f = 0; f < 3; f++) {
		make("wanted.gguf", formats[f], true, wanted);
		for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
			make("from.gguf", bn_codec_at(i)->type, true, from);
			snprintf(to, sizeof(to), "%s", rig_path("to.gguf"));
			must(from, to, bn_ggml_name(formats[f]), BN_GGML_F32, NULL);
			expect_same(to, wanted);
		}
	}
}

/* A file of bitnet.cpp's: no key says how it was cut. */
static void forget_tiles(const char *path)
{
	size_t n;
	char *bytes = rig_slurp(path, &n), *at = memmem(bytes, n, "bnd.tl", 6);
	FILE *f = fopen(path, "wb");

	assert_non_null(at);
	assert_non_null(f);
	memcpy(at, "xyz", 3);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
	free(bytes);
}

static void the_matrix_holds_for_files_too(void **state)
{
	static const struct {
		const char *kernel;
		uint64_t cpu;
		const char *says;
	} denied[] = {
		{ "tl1", BN_CPU_SSSE3, "kernel tl1 does not run on this x86 processor" },
		{ "tl2", BN_CPU_NEON, "kernel tl2 does not run on this arm processor" },
		{ "tq2_0", 0, "there is no kernel 'tq2_0'" },
	};
	char from[160];

	(void)state;
	make("from.gguf", BN_GGML_I2_S, true, from);
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
		const struct bn_convert_options options = { .kernel = denied[i].kernel,
							    .cpu = denied[i].cpu };
		struct bn_convert_report r = { 0 };
		struct bn_error err = { 0 };

		bn_enter_helper();
		assert_int_equal(bn_reencode(from, rig_path("no.gguf"), &options, NULL, &r, &err),
				 BN_E_KERNEL);
		assert_non_null(strstr(err.text, denied[i].says));
		assert_non_null(strstr(err.text, "i2_s"));
	}
}

static void files_that_do_not_say_how_they_are_cut_need_advice(void **state)
{
	static const char *const kernels[] = { "tl1", "tl2" };
	static const char *const right[] = { "256,128,32", "256,96,32" };
	static const char *const wrong[] = { "256,96,32", "256,192,32" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct bn_tiles_advice good = { 0 }, bad = { 0 };
		char from[160], to[160], back[160], plain[160];
		struct bn_convert_report r = { .tensors = 77 };
		struct bn_error err = { 0 };
		size_t n, m;
		char *x, *y;

		assert_int_equal(bn_tiles_advise(&good, right[i], NULL), BN_OK);
		assert_int_equal(bn_tiles_advise(&bad, wrong[i], NULL), BN_OK);
		make("from.gguf", i == 0 ? BN_GGML_TL1 : BN_GGML_TL2, true, from);
		make("plain.gguf", BN_GGML_I2_S, true, plain);
		forget_tiles(from);
		snprintf(to, sizeof(to), "%s", rig_path("to.gguf"));
		unlink(to);
		assert_int_equal(reencode(from, to, "i2_s", BN_GGML_F32, NULL, &r, &err),
				 BN_E_NOT_SUPPORTED);
		assert_non_null(strstr(err.text, "tensor 'blk.0.attn_q.weight'"));
		assert_non_null(strstr(err.text, "--tl-params"));
		assert_int_not_equal(reencode(from, to, "i2_s", BN_GGML_F32, &bad, &r, &err),
				     BN_OK);
		assert_int_equal(r.tensors, 77);
		assert_int_equal(access(to, F_OK), -1);
		/* to the same kind of file, which says it then, and on */
		must(from, to, kernels[i], BN_GGML_F32, &good);
		snprintf(back, sizeof(back), "%s", rig_path("back.gguf"));
		must(to, back, "i2_s", BN_GGML_F32, NULL);
		/* The unknown key stays; the tensors are as ever. */
		x = rig_slurp(back, &n);
		y = rig_slurp(plain, &m);
		assert_true(n > m && n - m < 1000);
		assert_memory_equal(x + n - 2000000, y + m - 2000000, 2000000);
		free(x);
		free(y);
	}
}

static const struct bn_gguf_tensor *open_tensor(const char *path, struct bn_file *file,
						struct bn_gguf **g, const char *name)
{
	assert_int_equal(bn_file_open(file, AT_FDCWD, path, true, NULL), BN_OK);
	assert_int_equal(bn_gguf_open(g, file, NULL), BN_OK);
	return bn_gguf_tensor(*g, name);
}

static void embeddings_are_requantized_where_asked(void **state)
{
	static const struct {
		enum bn_ggml_type type;
		enum bn_dense_type dense;
		float error; /* of a row's largest */
	} cases[] = {
		{ BN_GGML_F16, BN_DENSE_F16, 0.0f },
		{ BN_GGML_Q8_0, BN_DENSE_Q8_0, 0.005f },
		{ BN_GGML_Q6_K, BN_DENSE_Q6_K, 0.04f },
	};
	char from[160], to[160];

	(void)state;
	make("from.gguf", BN_GGML_I2_S, false, from);
	for (size_t i = 0; i < 3; i++) {
		snprintf(to, sizeof(to), "%s", rig_path("to.gguf"));
		must(from, to, "i2_s", cases[i].type, NULL);
		for (int k = 0; k < 2; k++) {
			const char *name = k == 0 ? "token_embd.weight" : "output.weight";
			struct bn_gguf *was = NULL, *is = NULL;
			struct bn_file a, b;
			const struct bn_gguf_tensor *x = open_tensor(from, &a, &was, name);
			const struct bn_gguf_tensor *y = open_tensor(to, &b, &is, name);
			const size_t bytes = bn_dense_row_bytes(cases[i].dense, DIM);
			uint8_t row[2][DIM * 2];
			float value[2][DIM], most = 0.0f;

			assert_int_equal(y->type, cases[i].type);
			assert_int_equal(y->nbytes, VOCAB * bytes);
			/* the last row */
			assert_int_equal(
				bn_gguf_read(was, x, x->nbytes - DIM * 2, row[0], DIM * 2, NULL),
				BN_OK);
			assert_int_equal(
				bn_gguf_read(is, y, y->nbytes - bytes, row[1], bytes, NULL), BN_OK);
			bn_dense_choose(BN_DENSE_F16, 0)->decode(value[0], row[0], DIM);
			bn_dense_choose(cases[i].dense, 0)->decode(value[1], row[1], DIM);
			for (int c = 0; c < DIM; c++) {
				most = fmaxf(most, fabsf(value[0][c]));
			}
			for (int c = 0; c < DIM; c++) {
				assert_true(fabsf(value[0][c] - value[1][c]) <=
					    cases[i].error * most);
			}
			bn_gguf_free(was);
			bn_gguf_free(is);
			bn_file_close(&a);
			bn_file_close(&b);
		}
	}
}

/* The same model with another embedding: of one block of 32 in every row's place. */
static void write_with_embedding(const char *from, const char *to, enum bn_ggml_type type)
{
	static const uint8_t block[18] = { 0x00, 0x2c, 0x08, 0x9f }; /* scale 1/16 */
	struct bn_gguf_writer *w = NULL;
	struct bn_gguf *g = NULL;
	struct bn_file file;

	open_tensor(from, &file, &g, "");
	assert_int_equal(bn_gguf_writer_new(&w, to, 32, NULL), BN_OK);
	for (size_t i = 0; i < bn_gguf_kv_count(g); i++) {
		bn_gguf_put_value(w, bn_gguf_kv_key(g, i), bn_gguf_kv_type(g, i),
				  bn_gguf_kv_value(g, i));
	}
	for (int data = 0; data < 2; data++) {
		for (size_t i = 0; i < bn_gguf_tensor_count(g); i++) {
			const struct bn_gguf_tensor *t = bn_gguf_tensor_at(g, i);
			const bool embedding = i == 0;
			char *name = strndup(t->name.p, t->name.n);
			uint8_t *bytes = malloc(t->nbytes);

			if (data == 0) {
				bn_gguf_put_tensor(w, name, embedding ? type : t->type, t->n_dims,
						   t->dims);
			} else if (embedding) {
				for (size_t k = 0; k < (size_t)VOCAB * DIM / 32; k++) {
					bn_gguf_write(w, block, sizeof(block));
				}
			} else {
				assert_int_equal(bn_gguf_read(g, t, 0, bytes, t->nbytes, NULL),
						 BN_OK);
				bn_gguf_write(w, bytes, t->nbytes);
			}
			free(name);
			free(bytes);
		}
	}
	assert_int_equal(bn_gguf_commit(w, NULL), BN_OK);
	bn_gguf_writer_free(w);
	bn_gguf_free(g);
	bn_file_close(&file);
}

static void embeddings_bnd_does_not_multiply_are_requantized_or_refused(void **state)
{
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	const struct bn_gguf_tensor *t;
	struct bn_gguf *g = NULL;
	struct bn_file file;
	float value[DIM];
	uint8_t row[DIM * 2];
	char plain[160], from[160], to[160];

	(void)state;
	make("plain.gguf", BN_GGML_IQ2_BN, true, plain);
	snprintf(from, sizeof(from), "%s", rig_path("from.gguf"));
	snprintf(to, sizeof(to), "%s", rig_path("to.gguf"));
	write_with_embedding(plain, from, BN_GGML_Q4_0);
	assert_int_equal(reencode(from, to, "i2_s", BN_GGML_F32, NULL, &r, &err),
			 BN_E_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "'token_embd.weight': it is q4_0"));
	assert_non_null(strstr(err.text, "--embedding q8_0"));
	must(from, to, "i2_s", BN_GGML_F16, NULL);
	t = open_tensor(to, &file, &g, "token_embd.weight");
	assert_int_equal(t->type, BN_GGML_F16);
	assert_int_equal(bn_gguf_read(g, t, (VOCAB - 1) * sizeof(row), row, sizeof(row), NULL),
			 BN_OK);
	bn_dense_choose(BN_DENSE_F16, 0)->decode(value, row, DIM);
	/* codes 8, 15 in the low nibbles; 0, 9 in the high ones */
	assert_true(value[32] == 0.0f && value[33] == 7.0f / 16.0f);
	assert_true(value[48] == -8.0f / 16.0f && value[49] == 1.0f / 16.0f);
	bn_gguf_free(g);
	bn_file_close(&file);
	write_with_embedding(plain, from, BN_GGML_IQ4_NL);
	must(from, to, "tl2", BN_GGML_Q8_0, NULL);
}

static void a_name_is_given_and_the_rest_of_the_metadata_stays(void **state)
{
	struct bn_convert_options options = { .name = "another", .kernel = "tl2" };
	struct bn_gguf *was = NULL, *is = NULL;
	struct bn_convert_report r;
	struct bn_error err = { 0 };
	struct bn_file a, b;
	char from[160], to[160];

	(void)state;
	make("from.gguf", BN_GGML_TQ2_0, true, from);
	snprintf(to, sizeof(to), "%s", rig_path("named.gguf"));
	bn_enter_helper();
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_OK);
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_E_CONFLICT);
	open_tensor(from, &a, &was, "");
	open_tensor(to, &b, &is, "");
	assert_int_equal(bn_gguf_kv_count(is), bn_gguf_kv_count(was) + 1);
	for (size_t i = 0; i < bn_gguf_kv_count(was); i++) {
		const struct bn_str key = bn_gguf_kv_key(was, i), x = bn_gguf_kv_value(was, i);
		const struct bn_str y = bn_gguf_kv_value(is, i);

		assert_int_equal(bn_gguf_kv_type(is, i), bn_gguf_kv_type(was, i));
		assert_memory_equal(key.p, bn_gguf_kv_key(is, i).p, key.n);
		if (key.n == 12 && memcmp(key.p, "general.name", 12) == 0) {
			assert_true(bn_gguf_is(is, "general.name", "another"));
		} else if (key.n != 17 || memcmp(key.p, "general.file_type", 17) != 0) {
			assert_int_equal(x.n, y.n);
			assert_memory_equal(x.p, y.p, x.n);
		}
	}
	assert_true(bn_gguf_has(is, "bnd.tl2.tiles"));
	bn_gguf_free(was);
	bn_gguf_free(is);
	bn_file_close(&a);
	bn_file_close(&b);
}

static bool stop_verifying(void *who, const char *phase, uint64_t done, uint64_t total)
{
	(void)who;
	assert_true(done <= total);
	return strcmp(phase, "verifying") != 0;
}

static void what_fails_leaves_no_file(void **state)
{
	struct bn_convert_options options = { .progress = stop_verifying };
	struct bn_convert_report r = { .tensors = 77 };
	struct bn_error err = { 0 };
	char from[160], to[160];
	FILE *f;

	(void)state;
	snprintf(to, sizeof(to), "%s", rig_path("none.gguf"));
	make("from.gguf", BN_GGML_IQ2_BN, true, from);
	bn_enter_helper();
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_E_CANCELLED);
	options = (struct bn_convert_options){ .kernel = "q4" };
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_E_KERNEL);
	options = (struct bn_convert_options){ 0 };
	assert_int_equal(bn_reencode("/no/such.gguf", to, &options, NULL, &r, &err), BN_E_IO);
	make("from.gguf", BN_GGML_I2_S, true, from);
	f = fopen(from, "r+b");
	assert_non_null(f);
	/* codes 3 before the norm that ends the file */
	assert_int_equal(fseek(f, -(DIM * 4 + 32 + 100), SEEK_END), 0);
	assert_int_equal(fwrite("\xff", 1, 1, f), 1);
	fclose(f);
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'blk.1.ffn_down.weight'"));
	f = fopen(from, "wb");
	fputs("GGUF?", f);
	fclose(f);
	assert_int_equal(bn_reencode(from, to, &options, NULL, &r, &err), BN_E_FORMAT);
	assert_int_equal(r.tensors, 77);
	assert_int_equal(access(to, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_becomes_every_format),
		cmocka_unit_test(the_matrix_holds_for_files_too),
		cmocka_unit_test(files_that_do_not_say_how_they_are_cut_need_advice),
		cmocka_unit_test(embeddings_are_requantized_where_asked),
		cmocka_unit_test(embeddings_bnd_does_not_multiply_are_requantized_or_refused),
		cmocka_unit_test(a_name_is_given_and_the_rest_of_the_metadata_stays),
		cmocka_unit_test(what_fails_leaves_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
