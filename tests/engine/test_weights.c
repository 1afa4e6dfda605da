#include "engine/weights.h"

#include "kernels/cpu.h"
#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* An open skeleton and what was bound of it. */
struct bound {
	struct bn_file file;
	struct bn_gguf *gguf;
	struct bn_hyper hyper;
	struct bn_binding *binding;
};

static enum bn_status bind_file(struct bound *b, const char *path, const char *const *only,
				struct bn_error *err)
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(bn_file_open(&b->file, AT_FDCWD, path, false, err), BN_OK);
	if (bn_gguf_open(&b->gguf, &b->file, err) != BN_OK ||
	    bn_hyper_read(&b->hyper, b->gguf, err) != BN_OK) {
		fail_msg("%s", err->text);
	}
	return bn_binding_new(&b->binding, b->gguf, &b->file, &b->hyper, bn_cpu_features(), only,
			      err);
}

static enum bn_status bind_graph(struct bound *b, const struct graph *g, struct bn_error *err)
{
	const char *path = rig_path("graph.gguf");

	graph_write(g, path);
	return bind_file(b, path, NULL, err);
}

static void unbind(struct bound *b)
{
	bn_binding_free(b->binding);
	bn_gguf_free(b->gguf);
	bn_file_close(&b->file);
}

static void refuses(const struct graph *g, enum bn_status status, const char *words)
{
	struct bound b;
	struct bn_error err = { .status = BN_OK };
	const enum bn_status got = bind_graph(&b, g, &err);

	if (got != status || strstr(err.text, words) == NULL) {
		fail_msg("%s instead of %s: %s (no '%s')", bn_status_word(got),
			 bn_status_word(status), err.text, words);
	}
	assert_null(b.binding);
	unbind(&b);
}

static void loading_takes_exactly_what_was_announced(void **state)
{
	static const char *const archs[] = { "bitnet-b1.58", "llama" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bn_tiny t;
		struct bound b;
		struct bn_weights w;
		struct bn_load_watch watch;
		char digest[BN_DIGEST_TEXT_BYTES], command[512], sum[65] = "";
		struct bn_error err;
		FILE *p;

		bn_tiny_default(&t);
		t.arch = archs[i];
		t.sub_norms = i == 0;
		t.tied = i == 0;
		t.dim = 320; /* rows that straddle the blocks of the file */
		t.heads = 5;
		t.kv_heads = 5;
		memset(&watch, 0, sizeof(watch));

		const char *path = rig_tiny(&t);

		assert_int_equal(bind_file(&b, path, NULL, &err), BN_OK);
		assert_int_equal(bn_weights_load(&w, b.binding, &watch, digest, &err), BN_OK);
		assert_int_equal(bn_arena_bytes(&w.arena), bn_binding_bytes(b.binding));
		assert_int_equal(atomic_load(&watch.done_bytes), b.file.size);
		assert_int_equal(w.tied, i == 0);
		assert_true(w.tied == (w.embed.rows == w.head.rows));
		assert_int_equal(bn_binding_is_tied(b.binding), w.tied);
		assert_true((w.layers[1].attn_sub_norm != NULL) == (i == 0));
		assert_int_equal(w.layers[1].proj[BN_PROJ_DOWN].rows, 320);
		assert_int_equal(w.layers[1].proj[BN_PROJ_DOWN].cols, 256);
		assert_true(bn_binding_parameters(b.binding, true) ==
			    2ull * (4 * 320 * 320 + 3 * 320 * 256));
		assert_true(bn_binding_parameters(b.binding, false) >
			    bn_binding_parameters(b.binding, true) + 512 * 320);
		assert_true(bn_binding_transient_bytes(b.binding) > 1 << 20);

		/* the digest is what everybody else calls it */
		snprintf(command, sizeof(command), "sha256sum %s", path);
		p = popen(command, "r");
		assert_non_null(p);
		assert_int_equal(fread(sum, 1, 64, p), 64);
		pclose(p);
		assert_string_equal(digest, sum);
		bn_weights_finish(&w);
		bn_weights_finish(&w);
		unbind(&b);
	}
}

static void a_missing_or_misshapen_tensor_is_named(void **state)
{
	static const char *const names[] = {
		"output_norm.weight",        "blk.0.attn_norm.weight",
		"blk.1.ffn_norm.weight",     "blk.0.attn_sub_norm.weight",
		"blk.1.ffn_sub_norm.weight", "blk.0.attn_q.weight",
		"blk.1.attn_k.weight",       "blk.0.attn_v.weight",
		"blk.1.attn_output.weight",  "blk.0.ffn_gate.weight",
		"blk.1.ffn_up.weight",       "blk.0.ffn_down.weight",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct graph g;

		graph_init(&g);
		graph_drop_tensor(&g, names[i]);
		refuses(&g, BN_E_FORMAT, "is missing");
		refuses(&g, BN_E_FORMAT, names[i]);
		graph_init(&g);
		graph_tensor(&g, names[i])->dims[0] *= 2;
		refuses(&g, BN_E_FORMAT, names[i]);
		graph_init(&g);
		graph_tensor(&g, names[i])->n_dims = 2;
		graph_tensor(&g, names[i])->dims[1] = 384;
		refuses(&g, BN_E_FORMAT, "x 384");
		graph_init(&g);
		graph_tensor(&g, names[i])->n_dims = 3;
		graph_tensor(&g, names[i])->dims[2] = 2;
		refuses(&g, BN_E_FORMAT, names[i]);
	}
}

static void ternary_tensors_of_another_type_say_what_to_do(void **state)
{
	static const enum bn_ggml_type types[] = { BN_GGML_F16, BN_GGML_TQ1_0, BN_GGML_TQ2_0,
						   BN_GGML_IQ2_BN, BN_GGML_Q8_0 };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct graph g;

		graph_init(&g);
		/* whole blocks of 256 for every type */
		graph_tensor(&g, "blk.1.ffn_down.weight")->type = types[i];
		refuses(&g, BN_E_KERNEL, bn_ggml_name(types[i]));
		refuses(&g, BN_E_KERNEL, "convert it");
	}
}

static void embeddings_of_another_type_say_what_to_do(void **state)
{
	struct graph g;

	(void)state;
	graph_init(&g);
	graph_tensor(&g, "token_embd.weight")->type = BN_GGML_Q4_0;
	refuses(&g, BN_E_KERNEL, "q4_0");
	refuses(&g, BN_E_KERNEL, "requantize");
	graph_init(&g);
	graph_add(&g, "output.weight", BN_GGML_Q5_0, 128, 512);
	refuses(&g, BN_E_KERNEL, "'output.weight' is q5_0");
	graph_init(&g);
	graph_tensor(&g, "blk.0.attn_norm.weight")->type = BN_GGML_Q8_0;
	refuses(&g, BN_E_NOT_SUPPORTED, "norms are f32, f16 or bf16");
}

static void scales_must_be_finite_and_positive(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY, 0.0f, -0.5f };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct graph g;

		graph_init(&g);
		graph_tensor(&g, "blk.1.attn_v.weight")->scale = bad[i];
		refuses(&g, BN_E_FORMAT, "'blk.1.attn_v.weight' has the scale");
	}
}

static void tensors_of_another_graph_are_refused(void **state)
{
	static const struct {
		const char *name;
		const char *words;
	} extra[] = {
		{ "blk.0.attn_q.bias", "biases" },
		{ "output.bias", "biases" },
		{ "blk.0.attn_q_norm.weight", "another model graph" },
		{ "blk.1.ffn_gate_exps.weight", "another model graph" },
		{ "blk.2.attn_norm.weight", "with 2 layers" },
		{ "blk.0.post_attention_norm.weight", "another model graph" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++) {
		struct graph g;

		graph_init(&g);
		graph_add(&g, extra[i].name, BN_GGML_F32, 128, 1);
		refuses(&g, BN_E_NOT_SUPPORTED, extra[i].words);
	}
}

static void kernels_are_chosen_from_the_list_in_its_order(void **state)
{
	static const char *const scalar[] = { "i2s.scalar", NULL };
	static const char *const second[] = { "no.such", "i2s.neon", "i2s.vnni", "i2s.scalar",
					      NULL };
	static const char *const nothing[] = { "tl9.sse", NULL };
	const struct bn_kernel *vnni = bn_kernel_find("i2s.vnni");
	const bool has = vnni != NULL && (vnni->needs & bn_cpu_features()) == vnni->needs;
	const struct bn_kernel *neon = bn_kernel_find("i2s.neon");
	struct graph g;
	struct bound b;
	struct bn_error err;
	const char *path = rig_path("graph.gguf");

	(void)state;
	graph_init(&g);
	graph_write(&g, path);
	assert_int_equal(bind_file(&b, path, scalar, &err), BN_OK);
	assert_string_equal(bn_binding_kernel(b.binding, BN_PROJ_Q)->name, "i2s.scalar");
	unbind(&b);
	assert_int_equal(bind_file(&b, path, second, &err), BN_OK);
	assert_string_equal(bn_binding_kernel(b.binding, BN_PROJ_DOWN)->name, neon != NULL
										      ? "i2s.neon"
									      : has ? "i2s.vnni"
										    : "i2s.scalar");
	unbind(&b);
	assert_int_equal(bind_file(&b, path, nothing, &err), BN_E_KERNEL);
	assert_non_null(strstr(err.text, "these would: "));
	assert_non_null(strstr(err.text, "i2s.scalar"));
	unbind(&b);
}

/* Binds g, spoils the file's data, loads. */
static enum bn_status load_spoiled(struct graph *g, const char *tensor, uint64_t at,
				   const void *bytes, size_t n, struct bn_error *err)
{
	const char *path = rig_path("graph.gguf");
	struct bound b;
	struct bn_weights w;
	char digest[BN_DIGEST_TEXT_BYTES];
	enum bn_status status;
	int fd;

	graph_write(g, path);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);

	const uint64_t offset = bn_gguf_tensor(b.gguf, tensor)->offset + at;

	unbind(&b);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)offset), (ssize_t)n);
	close(fd);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);
	status = bn_weights_load(&w, b.binding, NULL, digest, err);
	assert_null(w.layers);
	unbind(&b);
	return status;
}

static void damaged_data_is_named(void **state)
{
	static const float nan = NAN;
	struct graph g;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	/* element 96 + 5 of some block in the last rows */
	assert_int_equal(load_spoiled(&g, "blk.1.ffn_down.weight", 8000, "\xff", 1, &err),
			 BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'blk.1.ffn_down.weight'"));
	assert_non_null(strstr(err.text, "no trit"));
	assert_int_equal(load_spoiled(&g, "output_norm.weight", 127 * 4, &nan, 4, &err),
			 BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'output_norm.weight' holds a value that is not finite"));
}

static void a_file_that_changes_while_it_is_loaded_is_refused(void **state)
{
	const char *path = rig_path("graph.gguf");
	char digest[BN_DIGEST_TEXT_BYTES] = "before";
	struct graph g;
	struct bound b;
	struct bn_weights w;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_write(&g, path);
	assert_int_equal(bind_file(&b, path, NULL, &err), BN_OK);
	assert_int_equal(truncate(path, (off_t)(b.file.size - 100)), 0);
	assert_int_equal(bn_weights_load(&w, b.binding, NULL, digest, &err), BN_E_FORMAT);
	assert_int_equal(truncate(path, (off_t)b.file.size), 0);
	assert_int_equal(bn_weights_load(&w, b.binding, NULL, digest, &err), BN_E_FORMAT);
	assert_string_equal(digest, "before"); /* outputs are untouched on failure */
	unbind(&b);
}

static void cancelling_ends_a_load(void **state)
{
	char digest[BN_DIGEST_TEXT_BYTES];
	struct graph g;
	struct bound b;
	struct bn_weights w;
	struct bn_error err;
	struct bn_load_watch watch;

	(void)state;
	memset(&watch, 0, sizeof(watch));
	atomic_store(&watch.cancel, true);
	graph_init(&g);
	assert_int_equal(bind_graph(&b, &g, &err), BN_OK);
	assert_int_equal(bn_weights_load(&w, b.binding, &watch, digest, &err), BN_E_CANCELLED);
	assert_null(w.layers);
	assert_true(atomic_load(&watch.done_bytes) < b.file.size);
	unbind(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loading_takes_exactly_what_was_announced),
		cmocka_unit_test(a_missing_or_misshapen_tensor_is_named),
		cmocka_unit_test(ternary_tensors_of_another_type_say_what_to_do),
		cmocka_unit_test(embeddings_of_another_type_say_what_to_do),
		cmocka_unit_test(scales_must_be_finite_and_positive),
		cmocka_unit_test(tensors_of_another_graph_are_refused),
		cmocka_unit_test(kernels_are_chosen_from_the_list_in_its_order),
		cmocka_unit_test(damaged_data_is_named),
		cmocka_unit_test(a_file_that_changes_while_it_is_loaded_is_refused),
		cmocka_unit_test(cancelling_ends_a_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
