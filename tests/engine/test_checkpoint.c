/* Folders whose parts contradict each other, and the conventions of sound ones. */
#include "engine/checkpoint.h"

#include "tests/engine/hf_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum bn_status open_written(const struct hf_folder *hf, struct bn_checkpoint *c,
				   struct bn_error *err)
{
	return bn_checkpoint_open(c, hf->path, NULL, err);
}

static enum bn_status open_folder(struct hf_folder *hf, struct bn_checkpoint *c,
				  struct bn_error *err)
{
	hf_write(hf);
	return open_written(hf, c, err);
}

/* Everything by name, so that a test reads as what was done. */
static void expect_refused(struct hf_folder *hf, enum bn_status status, const char *words)
{
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };

	hf_expect(open_folder(hf, &c, &err), &err, status, words);
	hf_finish(hf);
}

static void checkpoint_tells_what_a_packed_folder_is(void **state)
{
	static const char readme[] = "---\nlanguage: en\nlicense: apache-2.0\n---\n# T\n";
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };
	char name[BN_CHECKPOINT_NAME_BYTES];
	struct hf_folder hf;
	uint32_t rows, cols;
	float scale;

	(void)state;
	hf_init(&hf);
	hf_write_file(&hf, "README.md", readme, sizeof(readme) - 1);
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	assert_string_equal(c.arch->name, "llama");
	assert_int_equal(c.activation, BN_ACT_SILU);
	assert_int_equal(c.form, BN_FORM_PACKED);
	assert_true(c.divide);
	assert_true(c.scale_median == 16.0f);
	assert_false(c.tied);
	assert_false(c.sub_norms);
	assert_null(c.known);
	assert_string_equal(c.licence, "apache-2.0");
	assert_string_equal(c.source, "somebody/tiny-ternary");
	assert_string_equal(c.name, strrchr(hf.path, '/') + 1);
	assert_int_equal(c.n_eos, 2); /* 291 and 292; tokenizer_config.json's is 292 again */
	assert_int_equal(c.vocab.bos, 290);
	assert_string_equal(bn_checkpoint_projection(&c, name, 1, BN_PROJ_DOWN, "weight"),
			    "model.layers.1.mlp.down_proj.weight");
	bn_checkpoint_shape(&c, BN_PROJ_K, &rows, &cols);
	assert_int_equal(rows, 64);
	assert_int_equal(cols, 128);
	assert_int_equal(bn_checkpoint_scale(&c, 0, BN_PROJ_Q, &scale, &err), BN_OK);
	assert_true(scale == 16.0f);
	bn_checkpoint_finish(&c);
	bn_checkpoint_finish(&c); /* twice is fine */
	hf_finish(&hf);
}

static void set_scales(struct hf_folder *hf, float value)
{
	for (size_t i = 0; i < hf->n; i++) {
		if (strstr(hf->tensors[i].name, "weight_scale") != NULL) {
			hf_set(&hf->tensors[i], 0, value);
		}
	}
}

static void checkpoint_compares_scales_with_the_linear_class(void **state)
{
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_replace(&hf.config, "\"bitnet\",", "\"bitnet\", \"linear_class\": \"autobitlinear\",");
	set_scales(&hf, 1.5f);
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	assert_false(c.divide);
	bn_checkpoint_finish(&c);
	set_scales(&hf, 16.0f);
	expect_refused(&hf, BN_E_FORMAT, "look like reciprocals");
	hf_init(&hf);
	set_scales(&hf, 1.5f);
	expect_refused(&hf, BN_E_FORMAT, "look like mean |W|");
	/* The odd one does not decide: the median does. */
	hf_init(&hf);
	hf_set(hf_find(&hf, "model.layers.0.mlp.up_proj.weight_scale"), 0, 2.0f);
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	bn_checkpoint_finish(&c);
	hf_finish(&hf);
}

static void checkpoint_refuses_scales_that_are_none(void **state)
{
	static const float bad[] = { 0.0f, -16.0f, 1e-38f };
	const uint64_t groups[] = { 2 };
	struct hf_folder hf;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		hf_init(&hf);
		hf_set(hf_find(&hf, "model.layers.1.mlp.up_proj.weight_scale"), 0, bad[i]);
		expect_refused(&hf, BN_E_FORMAT, "up_proj.weight_scale' is");
	}
	hf_init(&hf);
	hf_set(hf_find(&hf, "model.layers.1.mlp.up_proj.weight_scale"), 0, HUGE_VALF);
	expect_refused(&hf, BN_E_FORMAT, "is inf");
	hf_init(&hf);
	memcpy(hf_find(&hf, "model.layers.1.mlp.up_proj.weight_scale")->data, "\xc0\x7f", 2);
	expect_refused(&hf, BN_E_FORMAT, "is nan");
	hf_init(&hf);
	hf_remove(&hf, "model.layers.0.mlp.up_proj.weight_scale");
	hf_add(&hf, "model.layers.0.mlp.up_proj.weight_scale", "BF16", 1, groups);
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "has 2 scales");
	hf_init(&hf);
	strcpy(hf_find(&hf, "model.layers.0.mlp.up_proj.weight_scale")->dtype, "I16");
	expect_refused(&hf, BN_E_FORMAT, "is I16");
}

static void checkpoint_refuses_missing_tensors_by_name(void **state)
{
	static const char *const names[] = {
		"model.embed_tokens.weight",
		"model.norm.weight",
		"lm_head.weight",
		"model.layers.0.self_attn.q_proj.weight",
		"model.layers.1.mlp.down_proj.weight",
		"model.layers.1.mlp.down_proj.weight_scale",
		"model.layers.1.input_layernorm.weight",
		"model.layers.0.post_attention_layernorm.weight",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct hf_folder hf;

		hf_init(&hf);
		hf_remove(&hf, names[i]);
		expect_refused(&hf, BN_E_FORMAT, names[i]);
	}
}

static void checkpoint_refuses_tensors_of_other_graphs(void **state)
{
	static const struct {
		const char *name, *words;
	} cases[] = {
		{ "model.layers.0.self_attn.q_proj.bias", "without biases" },
		{ "model.layers.0.mlp.experts.0.up_proj.weight", "mixtures of experts" },
		{ "model.layers.0.block_sparse_moe.gate.weight", "mixtures of experts" },
		{ "model.layers.0.self_attn.q_proj.qzeros", "quantized in groups" },
		{ "model.layers.2.input_layernorm.weight", "no part of the graph" },
		{ "model.layers.0.self_attn.q_norm.weight", "no part of the graph" },
		{ "model.layers.0.mlp.ffn_sub_norm.weight", "no part of the graph" },
		{ "lm_head.weight_scale", "not packed" },
		{ "score.weight", "no part of the graph" },
	};
	const uint64_t dims[] = { 128 };
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hf_init(&hf);
		hf_add(&hf, cases[i].name, "F32", 1, dims);
		expect_refused(&hf, BN_E_NOT_SUPPORTED, cases[i].words);
	}
	/* This one follows from the configuration. */
	hf_init(&hf);
	hf_add(&hf, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, dims);
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	bn_checkpoint_finish(&c);
	hf_finish(&hf);
}

static void checkpoint_refuses_wrong_shapes_and_types(void **state)
{
	struct hf_folder hf;
	struct hf_tensor *t;

	(void)state;
	hf_init(&hf);
	t = hf_find(&hf, "model.layers.0.mlp.up_proj.weight"); /* [64, 128] */
	t->dims[0] = 256;
	t->dims[1] = 32;
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "packed along the columns");
	hf_init(&hf);
	t = hf_find(&hf, "model.layers.0.mlp.up_proj.weight");
	t->dims[0] = 32;
	t->dims[1] = 256;
	expect_refused(&hf, BN_E_FORMAT, "up_proj.weight' is [32, 256]");
	hf_init(&hf);
	strcpy(hf_find(&hf, "model.layers.1.mlp.up_proj.weight")->dtype, "I8");
	expect_refused(&hf, BN_E_FORMAT, "mixed");
	hf_init(&hf);
	strcpy(hf_find(&hf, "model.layers.0.self_attn.q_proj.weight")->dtype, "I8");
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "q_proj.weight' is I8");
	hf_init(&hf);
	t = hf_find(&hf, "model.embed_tokens.weight");
	t->dims[0] = 150;
	t->dims[1] = 256;
	expect_refused(&hf, BN_E_FORMAT, "embed_tokens.weight' is BF16 [150, 256]");
	hf_init(&hf);
	strcpy(hf_find(&hf, "model.norm.weight")->dtype, "I16");
	expect_refused(&hf, BN_E_FORMAT, "model.norm.weight' is I16");
	hf_init(&hf);
	hf_replace(&hf.config, "\"vocab_size\": 300", "\"vocab_size\": 301");
	expect_refused(&hf, BN_E_FORMAT, "calls for [301, 128]");
	hf_init(&hf);
	hf_replace(&hf.config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
	expect_refused(&hf, BN_E_FORMAT, "model.layers.2.");
	hf_init(&hf);
	hf_replace(&hf.config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "model.layers.1.");
	hf_init(&hf);
	hf_replace(&hf.config, "\"intermediate_size\": 256", "\"intermediate_size\": 255");
	expect_refused(&hf, BN_E_FORMAT, "do not divide into the four");
}

static void checkpoint_knows_norms_by_both_spellings(void **state)
{
	static const char *const names[][2] = { { "attn_sub_norm", "ffn_sub_norm" },
						{ "inner_attn_ln", "ffn_layernorm" } };
	const uint64_t dim[] = { HF_DIM }, ffn[] = { HF_FFN };

	(void)state;
	for (int spelling = 0; spelling < 2; spelling++) {
		struct bn_checkpoint c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;

		hf_init(&hf);
		hf_replace(&hf.config, "LlamaForCausalLM",
			   spelling == 0 ? "BitNetForCausalLM" : "BitnetForCausalLM");
		hf_expect(open_folder(&hf, &c, &err), &err, BN_E_FORMAT,
			  "self_attn.attn_sub_norm.weight' is missing");
		for (int l = 0; l < HF_LAYERS; l++) {
			char name[96];

			snprintf(name, sizeof(name), "model.layers.%d.self_attn.%s.weight", l,
				 names[spelling][0]);
			hf_add(&hf, name, "BF16", 1, dim);
			snprintf(name, sizeof(name), "model.layers.%d.mlp.%s.weight", l,
				 names[spelling][1]);
			hf_add(&hf, name, "BF16", 1, ffn);
		}
		hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
		assert_true(c.sub_norms);
		assert_string_equal(c.arch->name, "bitnet"); /* silu */
		bn_checkpoint_finish(&c);
		hf_replace(&hf.config, "\"silu\"", "\"relu2\"");
		hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
		assert_string_equal(c.arch->name, "bitnet-b1.58");
		bn_checkpoint_finish(&c);
		hf_finish(&hf);
	}
}

static void checkpoint_tells_what_a_model_of_vectors_is(void **state)
{
	static const char *const types[] = { "qwen3", "gemma3_text" };
	static const char *const archs[] = { "qwen3", "gemma3" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX];
		struct bn_checkpoint c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;

		hf_init(&hf);
		hf_make_embedding(&hf, types[i]);
		hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
		assert_string_equal(c.arch->name, archs[i]);
		assert_string_equal(c.prefix, "");
		assert_true(c.tied && c.may_ternarize && !c.sub_norms);
		assert_int_equal(c.pooling, BN_POOL_LAST);
		assert_non_null(strstr(c.notice, "no modules.json"));
		assert_int_equal(bn_checkpoint_norms(&c, norms), i == 0 ? 11 : 13);
		/* Gemma's own gains are stored less one, those of the projections are not. */
		for (size_t k = 0; k < (i == 0 ? 11 : 13); k++) {
			const bool input = strstr(norms[k].source, "_proj.norm") != NULL;

			assert_true(norms[k].less_one == (i == 1 && !input));
		}
		bn_checkpoint_finish(&c);
		hf_finish(&hf);
	}
}

static void checkpoint_refuses_backbones_without_input_norms(void **state)
{
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_make_embedding(&hf, "qwen3");
	for (int i = 0; i < 2; i++) {
		char name[64];

		snprintf(name, sizeof(name), "layers.%d.self_attn.q_proj.norm.weight", i);
		hf_remove(&hf, name);
	}
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "of models on qwen3 bnd runs BitNet-embedding");
	hf_init(&hf);
	hf_make_embedding(&hf, "gemma3_text");
	hf_remove(&hf, "layers.1.mlp.down_proj.norm.weight");
	expect_refused(&hf, BN_E_FORMAT, "'layers.1.mlp.down_proj.norm.weight' is missing");
	hf_init(&hf);
	hf_make_embedding(&hf, "gemma3_text");
	hf_remove(&hf, "layers.0.pre_feedforward_layernorm.weight");
	expect_refused(&hf, BN_E_FORMAT, "pre_feedforward_layernorm.weight' is missing");
}

static void checkpoint_refuses_input_norms(void **state)
{
	const uint64_t dims[] = { 128 };
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_replace(&hf.config, "\"bitnet\",", "\"bitnet\", \"use_rms_norm\": true,");
	expect_refused(&hf, BN_E_FORMAT, "rms_norm.weight' is missing");
	hf_init(&hf);
	hf_replace(&hf.config, "\"bitnet\",", "\"bitnet\", \"use_rms_norm\": true,");
	hf_add(&hf, "model.layers.0.self_attn.q_proj.rms_norm.weight", "BF16", 1, dims);
	expect_refused(&hf, BN_E_NOT_SUPPORTED, "norm in front of every projection");
}

static void checkpoint_ties_by_word_or_by_absence(void **state)
{
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_replace(&hf.config, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	assert_true(c.tied);
	bn_checkpoint_finish(&c);
	hf_replace(&hf.config, "\"tie_word_embeddings\": true,", "");
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	assert_false(c.tied);
	bn_checkpoint_finish(&c);
	hf_remove(&hf, "lm_head.weight");
	hf_expect(open_folder(&hf, &c, &err), &err, BN_OK, "");
	assert_true(c.tied);
	bn_checkpoint_finish(&c);
	hf_finish(&hf);
}

static void checkpoint_refuses_what_is_no_folder(void **state)
{
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };

	(void)state;
	hf_expect(bn_checkpoint_open(&c, "/nowhere/at/all", NULL, &err), &err, BN_E_IO, "No such");
	hf_expect(bn_checkpoint_open(&c, "/dev/null", NULL, &err), &err, BN_E_IO, "not a folder");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checkpoint_tells_what_a_packed_folder_is),
		cmocka_unit_test(checkpoint_compares_scales_with_the_linear_class),
		cmocka_unit_test(checkpoint_refuses_scales_that_are_none),
		cmocka_unit_test(checkpoint_refuses_missing_tensors_by_name),
		cmocka_unit_test(checkpoint_refuses_tensors_of_other_graphs),
		cmocka_unit_test(checkpoint_refuses_wrong_shapes_and_types),
		cmocka_unit_test(checkpoint_knows_norms_by_both_spellings),
		cmocka_unit_test(checkpoint_tells_what_a_model_of_vectors_is),
		cmocka_unit_test(checkpoint_refuses_backbones_without_input_norms),
		cmocka_unit_test(checkpoint_refuses_input_norms),
		cmocka_unit_test(checkpoint_ties_by_word_or_by_absence),
		cmocka_unit_test(checkpoint_refuses_what_is_no_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
