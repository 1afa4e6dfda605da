#include "engine/hyper.h"

#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static enum bn_status read_graph(const struct graph *g, struct bn_hyper *h, struct bn_error *err)
{
	const char *path = rig_path("graph.gguf");
	struct bn_file file;
	struct bn_gguf *gguf = NULL;
	enum bn_status status;

	graph_write(g, path);
	assert_int_equal(bn_file_open(&file, AT_FDCWD, path, false, err), BN_OK);
	assert_int_equal(bn_gguf_open(&gguf, &file, err), BN_OK);
	status = bn_hyper_read(h, gguf, err);
	bn_gguf_free(gguf);
	bn_file_close(&file);
	return status;
}

static void a_sound_file_gives_its_numbers(void **state)
{
	struct graph g;
	struct bn_hyper h;

	(void)state;
	graph_init(&g);
	assert_int_equal(read_graph(&g, &h, NULL), BN_OK);
	assert_string_equal(h.arch->name, "bitnet-b1.58");
	assert_int_equal(h.layers, 2);
	assert_int_equal(h.dim, 128);
	assert_int_equal(h.ffn, 256);
	assert_int_equal(h.heads, 4);
	assert_int_equal(h.kv_heads, 2);
	assert_int_equal(h.head_dim, 32);
	assert_int_equal(h.rot, 32);
	assert_int_equal(h.vocab, 512);
	assert_int_equal(h.context, 256);
	assert_true(h.eps == 1e-5f);
	assert_true(h.rope_base == 500000.0);
	assert_int_equal(h.rope, BN_ROPE_NEOX);
	assert_int_equal(h.activation, BN_ACT_RELU2);
}

#define ARCH "bitnet-b1.58."

static void optional_keys_have_the_defaults_of_the_architecture(void **state)
{
	struct graph g;
	struct bn_hyper h;

	(void)state;
	graph_init(&g);
	graph_drop(&g, ARCH "vocab_size");
	graph_drop(&g, ARCH "rope.dimension_count");
	graph_drop(&g, ARCH "rope.freq_base");
	graph_drop(&g, ARCH "attention.layer_norm_rms_epsilon");
	graph_drop(&g, ARCH "attention.head_count_kv");
	assert_int_equal(read_graph(&g, &h, NULL), BN_OK);
	assert_int_equal(h.kv_heads, 4);
	assert_int_equal(h.rot, 32);
	assert_true(h.eps == 1e-5f);
	assert_true(h.rope_base == 500000.0);
}

static void architectures_differ_in_rotation_and_activation(void **state)
{
	static const struct {
		const char *arch;
		uint32_t vocab;
		const char *key;
		enum bn_rope_style rope;
		enum bn_activation act;
	} cases[] = {
		{ "bitnet-b1.58", 128256, NULL, BN_ROPE_NEOX, BN_ACT_RELU2 },
		{ "bitnet-b1.58", 32002, NULL, BN_ROPE_NEOX, BN_ACT_SILU },
		{ "bitnet-b1.58", 32002, "relu2", BN_ROPE_NEOX, BN_ACT_RELU2 },
		{ "bitnet-25", 512, NULL, BN_ROPE_NEOX, BN_ACT_RELU2 },
		{ "bitnet-25", 32002, NULL, BN_ROPE_NEOX, BN_ACT_SILU },
		{ "bitnet", 32002, NULL, BN_ROPE_NEOX, BN_ACT_SILU },
		{ "bitnet", 512, NULL, BN_ROPE_NEOX, BN_ACT_SILU },
		{ "bitnet", 128256, NULL, BN_ROPE_NEOX, BN_ACT_RELU2 },
		{ "bitnet", 128256, "silu", BN_ROPE_NEOX, BN_ACT_SILU },
		{ "llama", 128256, NULL, BN_ROPE_NORM, BN_ACT_SILU },
		{ "llama", 512, "relu2", BN_ROPE_NORM, BN_ACT_RELU2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct graph g;
		struct bn_hyper h;
		char key[64];

		graph_init(&g);
		graph_rename(&g, cases[i].arch);
		snprintf(key, sizeof(key), "%s.vocab_size", cases[i].arch);
		graph_drop(&g, key);
		graph_tensor(&g, "token_embd.weight")->dims[1] = cases[i].vocab;
		if (cases[i].key != NULL) {
			snprintf(key, sizeof(key), "%s.hidden_activation", cases[i].arch);
			graph_set(&g, key,
				  (struct graph_value){ .kind = GRAPH_STR, .text = cases[i].key });
		}
		assert_int_equal(read_graph(&g, &h, NULL), BN_OK);
		assert_int_equal(h.rope, cases[i].rope);
		assert_int_equal(h.activation, cases[i].act);
		assert_int_equal(h.vocab, cases[i].vocab);
	}
}

static void identity_rope_scaling_is_accepted(void **state)
{
	struct graph g;
	struct bn_hyper h;

	(void)state;
	graph_init(&g);
	graph_set(&g, ARCH "rope.scaling.type",
		  (struct graph_value){ .kind = GRAPH_STR, .text = "linear" });
	graph_set(&g, ARCH "rope.scaling.factor",
		  (struct graph_value){ .kind = GRAPH_F32, .number = 1.0 });
	assert_int_equal(read_graph(&g, &h, NULL), BN_OK);
}

static void head_length_may_be_given(void **state)
{
	struct graph g;
	struct bn_hyper h;

	(void)state;
	graph_init(&g);
	graph_set(&g, ARCH "attention.key_length", (struct graph_value){ .number = 64 });
	graph_set(&g, ARCH "attention.value_length", (struct graph_value){ .number = 64 });
	graph_set(&g, ARCH "rope.dimension_count", (struct graph_value){ .number = 16 });
	assert_int_equal(read_graph(&g, &h, NULL), BN_OK);
	assert_int_equal(h.head_dim, 64);
	assert_int_equal(h.rot, 16);
}

/* What the models of vectors say beside: how rows are pooled, and perhaps windows. */
static void models_of_vectors_say_how_they_pool(void **state)
{
	static const enum bn_pooling poolings[] = { BN_POOL_NONE, BN_POOL_MEAN, BN_POOL_FIRST,
						    BN_POOL_LAST };
	struct graph g;
	struct bn_hyper h;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_rename(&g, "qwen3");
	assert_int_equal(read_graph(&g, &h, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'qwen3.pooling_type' is missing"));
	for (uint32_t type = 0; type < 6; type++) {
		graph_set(&g, "qwen3.pooling_type", (struct graph_value){ .number = type });
		if (type >= 1 && type <= 3) {
			assert_int_equal(read_graph(&g, &h, &err), BN_OK);
			assert_int_equal(h.pooling, poolings[type]);
			assert_int_equal(h.activation, BN_ACT_SILU);
			assert_true(h.embed_scale == 1.0f && h.window == 0);
		} else {
			assert_int_equal(read_graph(&g, &h, &err), BN_E_NOT_SUPPORTED);
			assert_non_null(strstr(err.text, "qwen3.pooling_type is "));
		}
	}
	graph_set(&g, "qwen3.pooling_type", (struct graph_value){ .number = 3 });
	graph_set(&g, "qwen3.attention.sliding_window", (struct graph_value){ .number = 512 });
	assert_int_equal(read_graph(&g, &h, &err), BN_E_NOT_SUPPORTED);
	graph_set(&g, "qwen3.attention.sliding_window", (struct graph_value){ .number = 0 });
	assert_int_equal(read_graph(&g, &h, &err), BN_OK);
}

static void windows_of_gemma_have_a_period_and_a_base_of_their_own(void **state)
{
	struct graph g;
	struct bn_hyper h;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_rename(&g, "gemma3");
	graph_set(&g, "gemma3.pooling_type", (struct graph_value){ .number = 3 });
	assert_int_equal(read_graph(&g, &h, &err), BN_OK);
	assert_int_equal(h.activation, BN_ACT_GELU);
	assert_true(fabs((double)h.embed_scale * (double)h.embed_scale - 128.0) < 1e-4);
	assert_int_equal(h.window, 0);
	assert_false(bn_hyper_is_local(&h, 0));

	graph_set(&g, "gemma3.attention.sliding_window", (struct graph_value){ .number = 512 });
	assert_int_equal(read_graph(&g, &h, &err), BN_OK);
	assert_int_equal(h.window, 512);
	assert_true(h.rope_base == 500000.0 && h.window_rope_base == 10000.0);
	for (uint32_t l = 0; l < 18; l++) {
		assert_true(bn_hyper_is_local(&h, l) == (l != 5 && l != 11 && l != 17));
	}
	graph_set(&g, "gemma3.attention.sliding_window_pattern",
		  (struct graph_value){ .number = 2 });
	graph_set(&g, "gemma3.rope.freq_base_swa",
		  (struct graph_value){ .kind = GRAPH_F32, .number = 20000.0 });
	assert_int_equal(read_graph(&g, &h, &err), BN_OK);
	assert_true(h.window_rope_base == 20000.0);
	assert_true(bn_hyper_is_local(&h, 0) && !bn_hyper_is_local(&h, 1));
	graph_set(&g, "gemma3.attention.sliding_window_pattern",
		  (struct graph_value){ .number = 0 });
	assert_int_equal(read_graph(&g, &h, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "sliding_window_pattern"));
}

/* ---- what must be refused ------------------------------------------------------------------ */

#define DROP                                    \
	{                                       \
		.kind = GRAPH_STR, .text = NULL \
	}
#define U(n)                                     \
	{                                        \
		.kind = GRAPH_U32, .number = (n) \
	}
#define I(n)                                     \
	{                                        \
		.kind = GRAPH_I32, .number = (n) \
	}
#define F(x)                                     \
	{                                        \
		.kind = GRAPH_F32, .number = (x) \
	}
#define S(string)                                   \
	{                                           \
		.kind = GRAPH_STR, .text = (string) \
	}
#define B(b)                                      \
	{                                         \
		.kind = GRAPH_BOOL, .number = (b) \
	}

static const struct {
	const char *key;
	struct graph_value value;
	enum bn_status status;
	const char *words;   /* besides the key, in the sentence               */
	const char *partner; /* the key it contradicts, which may stand there  */
} corruptions[] = {
	{ "general.architecture", DROP, BN_E_FORMAT, "", "?" },
	{ "general.architecture", S("gpt2"), BN_E_NOT_SUPPORTED, "'gpt2'", "?" },
	{ "general.architecture", S(""), BN_E_NOT_SUPPORTED, "bitnet-b1.58, bitnet-25", "?" },
	{ "general.architecture", S("bitnet-b1.58x"), BN_E_NOT_SUPPORTED, "bitnet-b1.58x", "?" },
	{ "general.architecture", S("qwen2moe"), BN_E_NOT_SUPPORTED, "decoders", "?" },
	{ "general.architecture", U(7), BN_E_FORMAT, "", "?" },
	{ ARCH "block_count", DROP, BN_E_FORMAT, "", "?" },
	{ ARCH "block_count", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "block_count", I(-1), BN_E_FORMAT, "-1", "?" },
	{ ARCH "block_count", U(513), BN_E_FORMAT, "513", "?" },
	{ ARCH "block_count", U(4294967295u), BN_E_FORMAT, "4294967295", "?" },
	{ ARCH "block_count", F(2.0), BN_E_FORMAT, "", "?" },
	{ ARCH "block_count", S("two"), BN_E_FORMAT, "", "?" },
	{ ARCH "embedding_length", DROP, BN_E_FORMAT, "", "?" },
	{ ARCH "embedding_length", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "embedding_length", U(65537), BN_E_FORMAT, "65537", "?" },
	{ ARCH "embedding_length", I(-128), BN_E_FORMAT, "-128", "?" },
	{ ARCH "embedding_length", U(4294967295u), BN_E_FORMAT, "4294967295", "?" },
	{ ARCH "feed_forward_length", DROP, BN_E_FORMAT, "", "?" },
	{ ARCH "feed_forward_length", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "feed_forward_length", U(262145), BN_E_FORMAT, "262145", "?" },
	{ ARCH "feed_forward_length", B(1), BN_E_FORMAT, "", "?" },
	{ ARCH "context_length", DROP, BN_E_FORMAT, "", "?" },
	{ ARCH "context_length", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "context_length", U(1048577), BN_E_FORMAT, "1048577", "?" },
	{ ARCH "context_length", U(4294967295u), BN_E_FORMAT, "4294967295", "?" },
	{ ARCH "attention.head_count", DROP, BN_E_FORMAT, "", "?" },
	{ ARCH "attention.head_count", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "attention.head_count", U(1025), BN_E_FORMAT, "1025", "?" },
	{ ARCH "attention.head_count", U(3), BN_E_FORMAT, "", ARCH "attention.head_count_kv" },
	{ ARCH "attention.head_count", I(-4), BN_E_FORMAT, "-4", "?" },
	{ ARCH "attention.head_count", U(6), BN_E_FORMAT, "embedding length 128", "?" },
	{ ARCH "attention.head_count_kv", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "attention.head_count_kv", U(3), BN_E_FORMAT, "divide the 4 query heads", "?" },
	{ ARCH "attention.head_count_kv", U(5), BN_E_FORMAT, "5", "?" },
	{ ARCH "attention.head_count_kv", S("2"), BN_E_FORMAT, "", "?" },
	{ ARCH "attention.key_length", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "attention.key_length", U(257), BN_E_FORMAT, "257", "?" },
	{ ARCH "attention.key_length", U(64), BN_E_NOT_SUPPORTED, "length 64",
	  ARCH "attention.value_length" },
	{ ARCH "attention.value_length", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "attention.value_length", U(16), BN_E_NOT_SUPPORTED, "16", "?" },
	{ ARCH "rope.dimension_count", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "rope.dimension_count", U(31), BN_E_FORMAT, "even", "?" },
	{ ARCH "rope.dimension_count", U(34), BN_E_FORMAT, "34", "?" },
	{ ARCH "rope.dimension_count", U(4294967295u), BN_E_FORMAT, "4294967295", "?" },
	{ ARCH "rope.freq_base", F(0.0), BN_E_FORMAT, "0", "?" },
	{ ARCH "rope.freq_base", F(-10000.0), BN_E_FORMAT, "-10000", "?" },
	{ ARCH "rope.freq_base", F(NAN), BN_E_FORMAT, "", "?" },
	{ ARCH "rope.freq_base", F(INFINITY), BN_E_FORMAT, "", "?" },
	{ ARCH "rope.freq_base", U(10000), BN_E_FORMAT, "", "?" },
	{ ARCH "rope.scaling.factor", F(2.0), BN_E_NOT_SUPPORTED, "2", "?" },
	{ ARCH "rope.scaling.factor", F(NAN), BN_E_FORMAT, "", "?" },
	{ ARCH "rope.scale_linear", F(4.0), BN_E_NOT_SUPPORTED, "4", "?" },
	{ ARCH "rope.scaling.type", S("yarn"), BN_E_NOT_SUPPORTED, "'yarn'", "?" },
	{ ARCH "rope.scaling.type", U(1), BN_E_FORMAT, "", "?" },
	{ ARCH "attention.layer_norm_rms_epsilon", F(0.0), BN_E_FORMAT, "0", "?" },
	{ ARCH "attention.layer_norm_rms_epsilon", F(-1e-5), BN_E_FORMAT, "", "?" },
	{ ARCH "attention.layer_norm_rms_epsilon", F(1.0), BN_E_FORMAT, "1", "?" },
	{ ARCH "attention.layer_norm_rms_epsilon", F(NAN), BN_E_FORMAT, "", "?" },
	{ ARCH "attention.layer_norm_rms_epsilon", U(1), BN_E_FORMAT, "", "?" },
	{ ARCH "vocab_size", U(0), BN_E_FORMAT, "0", "?" },
	{ ARCH "vocab_size", U(513), BN_E_FORMAT, "512 rows", "?" },
	{ ARCH "vocab_size", U(2097153), BN_E_FORMAT, "2097153", "?" },
	{ ARCH "vocab_size", I(-512), BN_E_FORMAT, "-512", "?" },
	{ ARCH "hidden_activation", S("gelu"), BN_E_NOT_SUPPORTED, "'gelu'", "?" },
	{ ARCH "hidden_activation", S(""), BN_E_NOT_SUPPORTED, "silu, relu2 and gelu_pytorch_tanh",
	  "?" },
	{ ARCH "hidden_activation", U(1), BN_E_FORMAT, "", "?" },
	{ ARCH "expert_count", U(8), BN_E_NOT_SUPPORTED, "mixture of experts", "?" },
	{ ARCH "attention.sliding_window", U(4096), BN_E_NOT_SUPPORTED, "sliding", "?" },
	{ ARCH "attention.scale", F(0.125), BN_E_NOT_SUPPORTED, "key length", "?" },
	{ ARCH "attention.causal", B(0), BN_E_NOT_SUPPORTED, "decoders", "?" },
	{ ARCH "use_parallel_residual", B(1), BN_E_NOT_SUPPORTED, "parallel", "?" },
};

static void every_corruption_is_a_named_error(void **state)
{
	const size_t n = sizeof(corruptions) / sizeof(corruptions[0]);

	(void)state;
	assert_true(n >= 60);
	for (size_t i = 0; i < n; i++) {
		const char *key = corruptions[i].key;
		const struct graph_value *v = &corruptions[i].value;
		struct graph g;
		struct bn_hyper h = { .layers = 12345 };
		struct bn_error err;
		enum bn_status status;

		graph_init(&g);
		if (v->kind == GRAPH_STR && v->text == NULL) {
			graph_drop(&g, key);
		} else {
			graph_set(&g, key, *v);
		}
		status = read_graph(&g, &h, &err);
		/* Two keys that contradict each other are told through either. */
		if (status != corruptions[i].status ||
		    strstr(err.text, corruptions[i].words) == NULL ||
		    (strstr(err.text, key) == NULL &&
		     strstr(err.text, corruptions[i].partner) == NULL)) {
			fail_msg("%s [%zu]: %s: %s", key, i, bn_status_word(status), err.text);
		}
		assert_int_equal(h.layers, 12345); /* untouched */
	}
}

static void tensors_that_make_another_vocabulary_are_named(void **state)
{
	struct graph g;
	struct bn_hyper h;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_drop_tensor(&g, "token_embd.weight");
	assert_int_equal(read_graph(&g, &h, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'token_embd.weight' is missing"));

	graph_init(&g);
	graph_tensor(&g, "token_embd.weight")->n_dims = 1;
	graph_tensor(&g, "token_embd.weight")->dims[1] = 1;
	assert_int_equal(read_graph(&g, &h, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "1 dimensions"));

	graph_init(&g);
	graph_add(&g, "rope_freqs.weight", BN_GGML_F32, 16, 1);
	assert_int_equal(read_graph(&g, &h, &err), BN_E_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "rope_freqs.weight"));
	assert_int_equal(read_graph(&g, &h, NULL), BN_E_NOT_SUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_file_gives_its_numbers),
		cmocka_unit_test(optional_keys_have_the_defaults_of_the_architecture),
		cmocka_unit_test(architectures_differ_in_rotation_and_activation),
		cmocka_unit_test(identity_rope_scaling_is_accepted),
		cmocka_unit_test(head_length_may_be_given),
		cmocka_unit_test(models_of_vectors_say_how_they_pool),
		cmocka_unit_test(windows_of_gemma_have_a_period_and_a_base_of_their_own),
		cmocka_unit_test(every_corruption_is_a_named_error),
		cmocka_unit_test(tensors_that_make_another_vocabulary_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
