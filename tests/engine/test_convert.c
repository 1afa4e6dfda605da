/* A folder becomes a file: trit for trit, key for key, and nothing is left when it does not. */
#include "engine/convert.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "kernels/half.h"
#include "kernels/trits.h"
#include "tests/engine/hf_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A folder, its checkpoint and where the file goes. */
struct work {
	struct hf_folder hf;
	struct bn_checkpoint c;
	char out[160];
};

static void begin(struct work *w, const struct bn_checkpoint_options *options)
{
	struct bn_error err = { 0 };

	hf_write(&w->hf);
	hf_expect(bn_checkpoint_open(&w->c, w->hf.path, options, &err), &err, BN_OK, "");
	snprintf(w->out, sizeof(w->out), "%s/out.gguf", w->hf.path);
}

static void end(struct work *w)
{
	bn_checkpoint_finish(&w->c);
	hf_finish(&w->hf);
}

static enum bn_status convert(struct work *w, const struct bn_convert_options *options,
			      struct bn_convert_report *report, struct bn_error *err)
{
	bn_enter_helper();
	return bn_convert(&w->c, w->out, options, report, err);
}

/* Files in the folder that a conversion made: the output or leftovers. */
static int made(const struct work *w)
{
	DIR *dir = opendir(w->hf.path);
	struct dirent *entry;
	int n = 0;

	while ((entry = readdir(dir)) != NULL) {
		n += strncmp(entry->d_name, "out.gguf", 8) == 0;
	}
	closedir(dir);
	return n;
}

static struct bn_gguf *reopen(const struct work *w, struct bn_file *file)
{
	struct bn_gguf *g = NULL;
	struct bn_error err = { 0 };

	hf_expect(bn_file_open(file, AT_FDCWD, w->out, true, &err), &err, BN_OK, "");
	hf_expect(bn_gguf_open(&g, file, &err), &err, BN_OK, "");
	return g;
}

/* Row r of the file's q and k is row `from` of the checkpoint: halves of a head interleaved. */
static uint32_t source_row(const char *gguf_name, uint32_t r)
{
	const uint32_t hd = HF_DIM / HF_HEADS;

	if (strstr(gguf_name, "attn_q") == NULL && strstr(gguf_name, "attn_k") == NULL) {
		return r;
	}
	return r / hd * hd + (r % hd % 2) * (hd / 2) + r % hd / 2;
}

static void expect_trits(const struct bn_gguf *g, const char *name, const char *source,
			 float wanted_scale)
{
	const struct bn_gguf_tensor *t = bn_gguf_tensor(g, name);
	uint32_t rows, cols;
	uint8_t *raw, *codes;
	float scale;

	assert_non_null(t);
	assert_int_equal(t->type, BN_GGML_I2_S);
	cols = (uint32_t)t->dims[0];
	rows = (uint32_t)t->dims[1];
	raw = malloc(t->nbytes);
	codes = malloc(rows * bn_trits_stride(cols));
	assert_int_equal(bn_gguf_read(g, t, 0, raw, t->nbytes, NULL), BN_OK);
	memcpy(&scale, raw + (size_t)rows * cols / 4, 4);
	assert_true(fabsf(scale - wanted_scale) <= 1e-6f * wanted_scale);
	assert_true(bn_trits_from_i2s(codes, raw, 0, rows, cols));
	for (uint32_t r = 0; r < rows; r++) {
		const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };

		for (uint32_t c = 0; c < cols; c++) {
			assert_int_equal(bn_trit(&trits, r, c),
					 hf_trit(source, source_row(name, r), c));
		}
	}
	free(raw);
	free(codes);
}

static void expect_all_trits(const struct work *w, float scale)
{
	static const char *const names[][2] = {
		{ "attn_q", "self_attn.q_proj" }, { "attn_k", "self_attn.k_proj" },
		{ "attn_v", "self_attn.v_proj" }, { "attn_output", "self_attn.o_proj" },
		{ "ffn_gate", "mlp.gate_proj" },  { "ffn_up", "mlp.up_proj" },
		{ "ffn_down", "mlp.down_proj" },
	};
	struct bn_file file;
	struct bn_gguf *g = reopen(w, &file);

	for (int l = 0; l < HF_LAYERS; l++) {
		for (size_t i = 0; i < 7; i++) {
			char name[64], source[96];

			snprintf(name, sizeof(name), "blk.%d.%s.weight", l, names[i][0]);
			snprintf(source, sizeof(source), "model.layers.%d.%s.weight", l,
				 names[i][1]);
			expect_trits(g, name, source, scale);
		}
	}
	bn_gguf_free(g);
	bn_file_close(&file);
}

static void convert_keeps_every_trit_of_packed_weights(void **state)
{
	const struct bn_convert_options options = { .name = "t" };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	struct work w = { 0 };
	uint32_t tensors;

	(void)state;
	hf_init(&w.hf);
	begin(&w, NULL);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
	expect_all_trits(&w, 1.0f / 16.0f);
	assert_int_equal(r.packed, 14);
	assert_int_equal(r.latent + r.dequantized, 0);
	assert_int_equal(r.tensors, 3 + 2 * 9);
	assert_int_equal(r.data_bytes, bn_convert_data_bytes(&w.c, &options, &tensors));
	assert_int_equal(tensors, r.tensors);
	assert_true(r.file_bytes > r.data_bytes);
	assert_true(r.zero_trits > r.trits * 45 / 100 && r.zero_trits < r.trits * 55 / 100);
	assert_int_equal(made(&w), 1);
	end(&w);
}

static void convert_keeps_dequantized_weights_and_their_scale(void **state)
{
	const struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	struct work w = { 0 };

	(void)state;
	hf_init(&w.hf);
	hf_make_float(&w.hf, 0.03f, 0);
	/* Nothing says ternary: the weights do. */
	hf_replace(&w.hf.config, "\"quantization_config\"", "\"was\"");
	begin(&w, NULL);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
	expect_all_trits(&w, 0.03f);
	assert_int_equal(r.dequantized, 14);
	end(&w);
}

static void convert_rounds_latent_weights_only_where_that_was_meant(void **state)
{
	const struct bn_checkpoint_options assume = { .assume_latent = true };
	const struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	struct work w = { 0 };

	(void)state;
	hf_init(&w.hf);
	hf_make_float(&w.hf, 0.02f, 1);
	begin(&w, NULL);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
	assert_int_equal(r.latent, 14);
	bn_checkpoint_finish(&w.c);
	assert_int_equal(unlink(w.out), 0);
	hf_replace(&w.hf.config, "\"quantization_config\"", "\"was\"");
	begin(&w, NULL);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_E_NOT_SUPPORTED, "is not ternary");
	assert_int_equal(made(&w), 0);
	bn_checkpoint_finish(&w.c);
	begin(&w, &assume);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
	end(&w);
}

static void convert_refuses_damaged_weights_and_leaves_nothing(void **state)
{
	const struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { .tensors = 77 };
	struct bn_error err = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++) {
		static const char *const words[] = { "row 70 holds a code 3", "is not finite or",
						     "row 17 has a value",
						     "1 weights are not finite" };
		struct work w = { 0 };

		hf_init(&w.hf);
		if (i == 0) {
			/* Bits 2-3 of packed row 6 of 64: row 70 of 256. */
			hf_find(&w.hf, "model.layers.1.mlp.up_proj.weight")->data[6 * 128] |= 3
											      << 2;
		} else if (i == 1) {
			hf_set(hf_find(&w.hf, "model.norm.weight"), 5, INFINITY);
		} else if (i == 2) {
			hf_set(hf_find(&w.hf, "lm_head.weight"), 17 * 128, 1e6f);
		} else {
			hf_make_float(&w.hf, 1.0f, 1);
			hf_set(hf_find(&w.hf, "model.layers.0.mlp.up_proj.weight"), 3, INFINITY);
		}
		begin(&w, NULL);
		hf_expect(convert(&w, &options, &r, &err), &err, BN_E_FORMAT, words[i]);
		assert_int_equal(r.tensors, 77);
		assert_int_equal(made(&w), 0);
		end(&w);
	}
}

static void convert_names_the_kernels_that_work(void **state)
{
	static const struct {
		const char *kernel;
		enum bn_status status;
		const char *words;
	} cases[] = {
#if defined(__x86_64__)
		{ "tl1", BN_E_KERNEL,
		  "kernel tl1 does not run on this x86 processor; what works here: i2_s (" },
#elif defined(__aarch64__)
		{ "tl2", BN_E_KERNEL,
		  "kernel tl2 does not run on this arm processor; what works here: i2_s (" },
#endif
		{ "q4", BN_E_KERNEL, "no kernel 'q4'" },
		{ "i2_s", BN_OK, "" },
		{ "auto", BN_OK, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct bn_convert_options options = { .kernel = cases[i].kernel };
		struct bn_convert_report r = { 0 };
		struct bn_error err = { 0 };
		struct work w = { 0 };

		hf_init(&w.hf);
		begin(&w, NULL);
		hf_expect(convert(&w, &options, &r, &err), &err, cases[i].status, cases[i].words);
		assert_int_equal(made(&w), cases[i].status == BN_OK);
		end(&w);
	}
}

static void convert_replaces_a_file_only_by_force(void **state)
{
	struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	struct work w = { 0 };
	struct bn_file file;

	(void)state;
	hf_init(&w.hf);
	begin(&w, NULL);
	hf_write_file(&w.hf, "out.gguf", "mine", 4);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_E_CONFLICT, "--force");
	assert_int_equal(bn_file_open(&file, AT_FDCWD, w.out, true, &err), BN_OK);
	assert_int_equal(file.size, 4);
	bn_file_close(&file);
	options.force = true;
	hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
	expect_all_trits(&w, 1.0f / 16.0f);
	assert_int_equal(made(&w), 1);
	snprintf(w.out, sizeof(w.out), "%s/no/such/folder.gguf", w.hf.path);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_E_IO, "cannot create");
	end(&w);
}

/* Cancels in `phase`. */
struct stop {
	const char *phase;
	uint64_t last, total;
	int calls;
};

static bool on_progress(void *who, const char *phase, uint64_t done, uint64_t total)
{
	struct stop *stop = who;

	assert_true(done <= total);
	stop->last = done;
	stop->total = total;
	stop->calls++;
	return stop->phase == NULL || strcmp(stop->phase, phase) != 0;
}

static void convert_stops_when_asked_and_removes_its_file(void **state)
{
	static const char *const phases[] = { "converting", "verifying", NULL };

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct stop stop = { .phase = phases[i] };
		const struct bn_convert_options options = { .progress = on_progress, .who = &stop };
		struct bn_convert_report r = { 0 };
		struct bn_error err = { 0 };
		struct work w = { 0 };

		hf_init(&w.hf);
		begin(&w, NULL);
		hf_expect(convert(&w, &options, &r, &err), &err,
			  phases[i] == NULL ? BN_OK : BN_E_CANCELLED, "stopped");
		assert_true(stop.calls > 0);
		assert_int_equal(made(&w), phases[i] == NULL);
		end(&w);
	}
}

static void convert_writes_embeddings_as_asked_or_as_they_fit(void **state)
{
	static const struct {
		enum bn_ggml_type asked, wanted;
	} cases[] = {
		{ 0, BN_GGML_F16 },
		{ BN_GGML_F16, BN_GGML_F16 },
		{ BN_GGML_Q8_0, BN_GGML_Q8_0 },
		{ BN_GGML_Q6_K, BN_GGML_Q8_0 }, /* rows of 128 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct bn_convert_options options = { .embedding = cases[i].asked };
		struct bn_convert_report r = { 0 };
		struct bn_error err = { 0 };
		struct work w = { 0 };
		struct bn_file file;
		struct bn_gguf *g;

		hf_init(&w.hf);
		begin(&w, NULL);
		hf_expect(convert(&w, &options, &r, &err), &err, BN_OK, "");
		g = reopen(&w, &file);
		assert_int_equal(bn_gguf_tensor(g, "token_embd.weight")->type, cases[i].wanted);
		assert_int_equal(bn_gguf_tensor(g, "output.weight")->type, cases[i].wanted);
		assert_int_equal(bn_gguf_tensor(g, "output_norm.weight")->type, BN_GGML_F32);
		assert_int_equal(r.embedding, cases[i].wanted);
		assert_int_equal(r.n_notices, i == 3);
		bn_gguf_free(g);
		bn_file_close(&file);
		end(&w);
	}
}

static void convert_refuses_files_that_change_meanwhile(void **state)
{
	const struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	struct work w = { 0 };
	char path[200];

	(void)state;
	hf_init(&w.hf);
	begin(&w, NULL);
	hf_write(&w.hf);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_E_FORMAT, "model.safetensors");
	bn_checkpoint_finish(&w.c);
	begin(&w, NULL);
	snprintf(path, sizeof(path), "%s/model.safetensors", w.hf.path);
	assert_int_equal(truncate(path, 20000), 0);
	hf_expect(convert(&w, &options, &r, &err), &err, BN_E_FORMAT, "model.safetensors");
	assert_int_equal(made(&w), 0);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(convert_keeps_every_trit_of_packed_weights),
		cmocka_unit_test(convert_keeps_dequantized_weights_and_their_scale),
		cmocka_unit_test(convert_rounds_latent_weights_only_where_that_was_meant),
		cmocka_unit_test(convert_refuses_damaged_weights_and_leaves_nothing),
		cmocka_unit_test(convert_names_the_kernels_that_work),
		cmocka_unit_test(convert_replaces_a_file_only_by_force),
		cmocka_unit_test(convert_stops_when_asked_and_removes_its_file),
		cmocka_unit_test(convert_writes_embeddings_as_asked_or_as_they_fit),
		cmocka_unit_test(convert_refuses_files_that_change_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
