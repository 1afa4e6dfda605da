#include "engine/binding.h"

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
	assert_non_null(strstr(err.text, "these would: "));
	assert_non_null(strstr(err.text, "i2s.scalar"));
	unbind(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_or_misshapen_tensor_is_named),
		cmocka_unit_test(ternary_tensors_of_another_type_say_what_to_do),
		cmocka_unit_test(embeddings_of_another_type_say_what_to_do),
		cmocka_unit_test(scales_must_be_finite_and_positive),
		cmocka_unit_test(tensors_of_another_graph_are_refused),
		cmocka_unit_test(kernels_are_chosen_from_the_list_in_its_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
