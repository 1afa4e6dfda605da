#include "engine/binding.h"

#include "engine/guide.h"
#include "kernels/cpu.h"
#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum bn_status bind_graph(struct bound *b, const struct graph *g, struct bn_error *err)
{
	const char *path = rig_path("graph.gguf");

	graph_write(g, path);
	return bind_file(b, path, NULL, err);
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
	static const enum bn_ggml_type types[] = { BN_GGML_F16, BN_GGML_IQ1_S, BN_GGML_Q4_0,
						   BN_GGML_Q8_0 };

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

static void ternary_types_that_cannot_be_read_say_what_to_do(void **state)
{
	struct graph g;

	(void)state;
	graph_init(&g);
	graph_tensor(&g, "blk.1.ffn_down.weight")->type = BN_GGML_IQ2_BN_R4;
	refuses(&g, BN_E_KERNEL, "'blk.1.ffn_down.weight' is iq2_bn_r4");
	refuses(&g, BN_E_KERNEL, "use the iq2_bn or i2_s file");
	graph_init(&g);
	graph_tensor(&g, "blk.0.ffn_down.weight")->type = BN_GGML_TL1;
	refuses(&g, BN_E_NOT_SUPPORTED, "'blk.0.ffn_down.weight': it is tl1 of 128 x 256");
	refuses(&g, BN_E_NOT_SUPPORTED, "--tl-params");
}

static void embeddings_of_another_type_say_what_to_do(void **state)
{
	struct graph g;

	(void)state;
	graph_init(&g);
	graph_tensor(&g, "token_embd.weight")->type = BN_GGML_Q4_0;
	refuses(&g, BN_E_KERNEL, "q4_0");
	refuses(&g, BN_E_KERNEL, "--embedding q8_0 requantizes");
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
		refuses(&g, BN_E_FORMAT, "'blk.1.attn_v.weight': its scale is");
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

/* Each norm that only these graphs have, missing or of another size; and one too many. */
static void models_of_vectors_need_all_their_norms(void **state)
{
	static const char *const norms[] = {
		"attn_q_norm_in", "attn_k_norm_in", "attn_v_norm_in",      "attn_output_norm_in",
		"ffn_up_norm_in", "attn_q_norm",    "ffn_gate_norm_in",    "ffn_down_norm_in",
		"attn_k_norm",    "post_ffw_norm",  "post_attention_norm",
	};
	static const uint64_t sizes[] = { 128, 128, 128, 128, 128, 32, 128, 256, 32, 128, 128 };
	enum { N = sizeof(norms) / sizeof(norms[0]) };

	(void)state;
	for (size_t bad = 0; bad <= 2 * N; bad++) {
		struct graph g;
		struct bound b;
		struct bn_error err;

		graph_init(&g);
		graph_rename(&g, "gemma3");
		graph_set(&g, "gemma3.pooling_type", (struct graph_value){ .number = 3 });
		for (uint32_t l = 0; l < 2; l++) {
			for (size_t i = 0; i < N; i++) {
				char name[GRAPH_NAME];
				const bool here = l == 1 && i == bad % N && bad < 2 * N;

				snprintf(name, sizeof(name), "blk.%u.%s.weight", l, norms[i]);
				if (!here || bad >= N) {
					graph_add(&g, name, BN_GGML_F16, sizes[i] + here, 1);
				}
			}
		}
		if (bad < 2 * N) {
			refuses(&g, BN_E_FORMAT, norms[bad % N]);
			refuses(&g, BN_E_FORMAT, bad < N ? "is missing" : "call for");
			continue;
		}
		assert_int_equal(bind_graph(&b, &g, &err), BN_OK);
		assert_true(b.binding->input_norms && b.binding->head_norms &&
			    b.binding->post_norms && !b.binding->sub_norms);
		unbind(&b);
		graph_add(&g, "blk.0.attn_sub_norm.weight", BN_GGML_F16, 128, 1);
		refuses(&g, BN_E_NOT_SUPPORTED, "another model graph");
	}
}

static void kernels_are_chosen_from_the_list_in_its_order(void **state)
{
	static const char *const scalar[] = { "i2s.scalar", NULL };
	static const char *const second[] = { "no.such", "i2s.neon", "i2s.vnni", "i2s.scalar",
					      NULL };
	static const char *const nothing[] = { "tl9.sse", NULL };
	static const char *const family[] = { "tl9", "tl2", "i2s", NULL };
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
	assert_string_equal(b.binding->kernel[BN_PROJ_Q]->name, "i2s.scalar");
	unbind(&b);
	assert_int_equal(bind_file(&b, path, second, &err), BN_OK);
	assert_string_equal(b.binding->kernel[BN_PROJ_DOWN]->name, neon != NULL ? "i2s.neon"
								   : has        ? "i2s.vnni"
										: "i2s.scalar");
	unbind(&b);
	assert_int_equal(bind_file(&b, path, family, &err), BN_OK);
	assert_ptr_equal(b.binding->kernel[BN_PROJ_K],
			 bn_kernel_choose(bn_cpu_features(), 64, 64, family));
	unbind(&b);
	assert_int_equal(bind_file(&b, path, nothing, &err), BN_E_KERNEL);
	assert_non_null(strstr(err.text, "what works here: "));
	assert_non_null(strstr(err.text, "i2s.scalar"));
	unbind(&b);
}

static void families_and_auto_are_words_of_the_list(void **state)
{
	static const char *const lists[][3] = {
		{ "i2_s", NULL },
		{ "auto", NULL },
		{ "tl9.sse", "i2s", NULL },
	};
	const char *path = rig_path("graph.gguf");
	struct graph g;
	struct bound any;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_write(&g, path);
	assert_int_equal(bind_file(&any, path, NULL, &err), BN_OK);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct bound b;

		assert_int_equal(bind_file(&b, path, lists[i], &err), BN_OK);
		for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
			if (i == 1) {
				assert_ptr_equal(b.binding->kernel[p], any.binding->kernel[p]);
			} else {
				assert_memory_equal(b.binding->kernel[p]->name, "i2s.", 4);
			}
		}
		unbind(&b);
	}
	unbind(&any);
}

/* The keys of bitnet_b1_58-3B; kernels are chosen before its tensors are looked for. */
static void graph_of_3b(struct graph *g)
{
	static const struct {
		const char *key;
		uint32_t value;
	} numbers[] = {
		{ "vocab_size", 32002 },           { "context_length", 2048 },
		{ "embedding_length", 3200 },      { "block_count", 26 },
		{ "feed_forward_length", 8640 },   { "attention.head_count", 32 },
		{ "attention.head_count_kv", 32 }, { "rope.dimension_count", 100 },
	};

	graph_init(g);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		char key[GRAPH_NAME];

		snprintf(key, sizeof(key), "bitnet-b1.58.%s", numbers[i].key);
		graph_set(g, key, (struct graph_value){ .number = numbers[i].value });
	}
	graph_tensor(g, "token_embd.weight")->dims[0] = 1;
	graph_tensor(g, "token_embd.weight")->dims[1] = 32002;
}

static void kernels_the_guide_forbids_are_refused_with_those_that_work(void **state)
{
	static const char *const lists[][2] = {
		{ "i2_s", NULL },
		{ "i2s.scalar", NULL },
#if defined(__x86_64__)
		{ "tl1.scalar", NULL },
		{ "tl1", NULL },
#elif defined(__aarch64__)
		{ "tl2.scalar", NULL },
		{ "tl2", NULL },
#endif
	};
	const char *path = rig_path("graph.gguf");
	struct graph g;
	struct bound b;
	struct bn_error err;

	(void)state;
	graph_of_3b(&g);
	graph_write(&g, path);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		err.status = BN_OK;
		assert_int_equal(bind_file(&b, path, lists[i], &err), BN_E_KERNEL);
		assert_non_null(strstr(err.text, "bitnet_b1_58-3B"));
		assert_non_null(strstr(err.text, lists[i][0]));
		assert_non_null(
			strstr(err.text, bn_guide_processor(0) == BN_GUIDE_X86 ? "tl2" : "tl1"));
		assert_null(strstr(err.text, "i2s.vnni"));
		unbind(&b);
	}
	/* auto gets as far as the tensors where this binary has the kernel, and never to i2_s. */
	if (bind_file(&b, path, NULL, &err) == BN_E_KERNEL) {
		assert_non_null(strstr(err.text, "none of this build, it needs"));
	} else {
		assert_non_null(strstr(err.text, "token_embd.weight"));
	}
	unbind(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_or_misshapen_tensor_is_named),
		cmocka_unit_test(ternary_tensors_of_another_type_say_what_to_do),
		cmocka_unit_test(ternary_types_that_cannot_be_read_say_what_to_do),
		cmocka_unit_test(embeddings_of_another_type_say_what_to_do),
		cmocka_unit_test(scales_must_be_finite_and_positive),
		cmocka_unit_test(tensors_of_another_graph_are_refused),
		cmocka_unit_test(models_of_vectors_need_all_their_norms),
		cmocka_unit_test(kernels_are_chosen_from_the_list_in_its_order),
		cmocka_unit_test(families_and_auto_are_words_of_the_list),
		cmocka_unit_test(kernels_the_guide_forbids_are_refused_with_those_that_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
