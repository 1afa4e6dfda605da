/* config.json: what is read, and sixty ways to spoil it. */
#include "engine/hfconfig.h"

#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum bn_status load(struct hf_folder *hf, struct bn_hfconfig *c, struct bn_error *err)
{
	enum bn_status status;
	int fd;

	hf_write(hf);
	fd = open(hf->path, O_RDONLY | O_DIRECTORY);
	status = bn_hfconfig_load(c, fd, err);
	close(fd);
	return status;
}

static void hfconfig_reads_the_numbers(void **state)
{
	struct bn_hfconfig c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_expect(load(&hf, &c, &err), &err, BN_OK, "");
	assert_false(c.bitnet_class);
	assert_true(c.says_ternary);
	assert_int_equal(c.layers, 2);
	assert_int_equal(c.dim, 128);
	assert_int_equal(c.ffn, 256);
	assert_int_equal(c.heads, 4);
	assert_int_equal(c.kv_heads, 2);
	assert_int_equal(c.head_dim, 32);
	assert_int_equal(c.vocab, 300);
	assert_int_equal(c.context, 512);
	assert_true(c.eps == 1e-5 && c.rope_base == 10000.0);
	assert_int_equal(c.activation, BN_ACT_SILU);
	assert_int_equal(c.linear, BN_BIT_LINEAR);
	assert_int_equal(c.tied, BN_TIED_NO);
	assert_false(c.rms_norm_inputs);
	assert_int_equal(c.bos, 290);
	assert_int_equal(c.pad, BN_TOKEN_NONE);
	assert_int_equal(c.n_eos, 2); /* the union of both files */
	assert_int_equal(c.eos[0], 291);
	assert_int_equal(c.eos[1], 292);
	assert_string_equal(c.source, "somebody/tiny-ternary");
	hf_finish(&hf);
}

/* Changes that are still sound, and what they change. */
static void hfconfig_accepts_the_spellings_in_the_world(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "LlamaForCausalLM", "BitnetForCausalLM" },
		{ "LlamaForCausalLM", "BitNetForCausalLM" },
		{ "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"default\"}" },
		{ "\"rope_theta\": 10000.0", "\"rope_parameters\": {\"rope_type\": \"default\","
					     " \"rope_theta\": 500000.0}" },
		{ "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu2\"" },
		{ "\"hidden_act\": \"silu\", ", "" },
		{ "\"num_key_value_heads\": 2, ", "" },
		{ "\"eos_token_id\": 291", "\"eos_token_id\": [291, 291, 290]" },
		{ "\"eos_token_id\": 291", "\"eos_token_id\": null" },
		{ "\"bos_token_id\": 290", "\"bos_token_id\": null" },
		{ "\"pad_token_id\": null", "\"pad_token_id\": -1" },
		{ "\"attention_bias\": false", "\"attention_bias\": null, \"num_experts\": 0" },
		{ "\"quant_method\": \"bitnet\"",
		  "\"quant_method\": \"bitnet\", \"linear_class\": \"autobitlinear\"" },
		{ "\"hidden_size\"", "\"head_dim\": 32, \"hidden_size\"" },
		{ "somebody/tiny", "/home/somebody/tiny" },
		{ "somebody/tiny", "..\\u002ftiny" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_hfconfig c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;

		hf_init(&hf);
		hf_replace(&hf.config, cases[i].from, cases[i].to);
		hf_expect(load(&hf, &c, &err), &err, BN_OK, "");
		assert_int_equal(c.bitnet_class, i < 2);
		assert_true(c.rope_base == (i == 3 ? 500000.0 : 10000.0));
		assert_int_equal(c.activation, i == 4 ? BN_ACT_RELU2 : BN_ACT_SILU);
		assert_int_equal(c.kv_heads, i == 6 ? 4 : 2);
		assert_int_equal(c.n_eos, i == 7 ? 3 : 2);
		assert_int_equal(c.linear, i == 12 ? BN_AUTO_BIT_LINEAR : BN_BIT_LINEAR);
		assert_int_equal(c.source[0] == '\0', i >= 14);
		hf_finish(&hf);
	}
}

static void hfconfig_reads_the_windows_of_gemma(void **state)
{
	static const struct {
		const char *keys;
		uint32_t window, period;
		double base, local;
	} cases[] = {
		{ "", 0, 0, 10000.0, 10000.0 },
		{ "\"sliding_window\": null, ", 0, 0, 10000.0, 10000.0 },
		{ "\"sliding_window\": 64, ", 64, 6, 10000.0, 10000.0 },
		{ "\"sliding_window\": 64, \"use_sliding_window\": false, ", 0, 0, 10000.0,
		  10000.0 },
		{ "\"sliding_window\": 64, \"sliding_window_pattern\": 2, ", 64, 2, 10000.0,
		  10000.0 },
		{ "\"sliding_window\": 64, \"rope_local_base_freq\": 5000.0, ", 64, 6, 10000.0,
		  5000.0 },
		{ "\"sliding_window\": 64, \"layer_types\": [\"sliding_attention\", "
		  "\"full_attention\"], ",
		  64, 2, 10000.0, 10000.0 },
		{ "\"sliding_window\": 64, \"layer_types\": [\"sliding_attention\", "
		  "\"sliding_attention\"], ",
		  64, 3, 10000.0, 10000.0 },
		{ "\"sliding_window\": 64, \"layer_types\": [\"full_attention\", "
		  "\"full_attention\"], ",
		  0, 1, 10000.0, 10000.0 },
		{ "\"sliding_window\": 64, \"query_pre_attn_scalar\": 32, \"rope_parameters\": "
		  "{\"full_attention\": {\"rope_type\": \"default\", \"rope_theta\": 7e5}, "
		  "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 6e3}}, ",
		  64, 6, 10000.0, 6000.0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_hfconfig c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;
		char config[512];

		hf_init(&hf);
		hf_make_embedding(&hf, "gemma3_text");
		snprintf(config, sizeof(config), "{%s\"architectures\"", cases[i].keys);
		hf_replace(&hf.config, "{\"architectures\"", config);
		hf_expect(load(&hf, &c, &err), &err, BN_OK, "");
		assert_string_equal(c.embeds->name, "gemma3");
		assert_int_equal(c.activation, BN_ACT_GELU);
		assert_int_equal(c.window, cases[i].window);
		assert_true(c.window == 0 || c.window_period == cases[i].period);
		assert_true(c.rope_base == cases[i].base && c.window_rope_base == cases[i].local);
		hf_finish(&hf);
	}
}

static void hfconfig_refuses_other_gemmas(void **state)
{
	static const struct {
		const char *keys, *words;
	} cases[] = {
		{ "\"use_bidirectional_attention\": true, ", "what follows" },
		{ "\"query_pre_attn_scalar\": 168, ", "'query_pre_attn_scalar' is 168" },
		{ "\"attn_logit_softcapping\": 50.0, ", "softened" },
		{ "\"sliding_window\": 9, \"layer_types\": [\"full_attention\", "
		  "\"sliding_attention\"], ",
		  "every n-th" },
		{ "\"sliding_window\": 9, \"layer_types\": [\"full_attention\"], ", "every n-th" },
		{ "\"sliding_window\": 9, \"layer_types\": [\"linear_attention\", 4], ",
		  "'linear_attention'" },
		{ "\"sliding_window\": 9, \"layer_types\": [4, 4], ", "something else" },
		{ "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\"}}, ",
		  "'linear'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_hfconfig c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;
		char config[512];

		hf_init(&hf);
		hf_make_embedding(&hf, "gemma3_text");
		snprintf(config, sizeof(config), "{%s\"architectures\"", cases[i].keys);
		hf_replace(&hf.config, "{\"architectures\"", config);
		hf_expect(load(&hf, &c, &err), &err, BN_E_NOT_SUPPORTED, cases[i].words);
		hf_finish(&hf);
	}
}

static void hfconfig_refuses_spoilt_files_with_a_sentence(void **state)
{
	static const struct {
		const char *from, *to;
		enum bn_status status;
		const char *words;
	} cases[] = {
		{ "{\"arch", "[\"arch", BN_E_FORMAT, "not valid JSON" },
		{ "\"architectures\": [\"LlamaForCausalLM\"]", "\"architectures\": []", BN_E_FORMAT,
		  "'architectures'" },
		{ "\"architectures\": [\"LlamaForCausalLM\"]", "\"architectures\": \"Llama\"",
		  BN_E_FORMAT, "'architectures'" },
		{ "\"architectures\": [\"LlamaForCausalLM\"], ", "", BN_E_FORMAT,
		  "'architectures'" },
		{ "LlamaForCausalLM", "GPT2LMHeadModel", BN_E_NOT_SUPPORTED, "'GPT2LMHeadModel'" },
		{ "LlamaForCausalLM", "MixtralForCausalLM", BN_E_NOT_SUPPORTED,
		  "MixtralForCausalLM" },
		{ "\"attention_bias\": false", "\"attention_bias\": true", BN_E_NOT_SUPPORTED,
		  "biases" },
		{ "\"attention_bias\": false", "\"mlp_bias\": true", BN_E_NOT_SUPPORTED, "biases" },
		{ "\"attention_bias\": false", "\"num_local_experts\": 8", BN_E_NOT_SUPPORTED,
		  "experts" },
		{ "\"attention_bias\": false", "\"num_experts\": 64", BN_E_NOT_SUPPORTED,
		  "experts" },
		{ "\"attention_bias\": false", "\"sliding_window\": 4096", BN_E_NOT_SUPPORTED,
		  "sliding" },
		{ "\"attention_bias\": false", "\"sliding_window\": 1", BN_E_NOT_SUPPORTED,
		  "sliding" },
		{ "\"attention_bias\": false", "\"q_lora_rank\": 512", BN_E_NOT_SUPPORTED,
		  "compressed" },
		{ "\"attention_bias\": false",
		  "\"attention_bias\": false, \"attention_bias\": false", BN_E_FORMAT,
		  "duplicate" },
		{ "\"rope_scaling\": null",
		  "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", BN_E_NOT_SUPPORTED,
		  "'linear'" },
		{ "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"llama3\"}",
		  BN_E_NOT_SUPPORTED, "'llama3'" },
		{ "\"rope_scaling\": null", "\"rope_scaling\": 2", BN_E_NOT_SUPPORTED,
		  "rope scaling" },
		{ "\"rope_scaling\": null", "\"rope_parameters\": {\"rope_type\": \"yarn\"}",
		  BN_E_NOT_SUPPORTED, "'yarn'" },
		{ "\"rope_theta\": 10000.0", "\"rope_theta\": 0", BN_E_FORMAT,
		  "'rope_theta' is 0" },
		{ "\"rope_theta\": 10000.0", "\"rope_theta\": -5", BN_E_FORMAT, "'rope_theta'" },
		{ "\"rope_theta\": 10000.0", "\"rope_theta\": 1e30", BN_E_FORMAT, "'rope_theta'" },
		{ "\"rope_theta\": 10000.0", "\"rope_theta\": \"x\"", BN_E_FORMAT, "'rope_theta'" },
		{ "\"rope_theta\"", "\"partial_rotary_factor\": 0.5, \"rope_theta\"",
		  BN_E_NOT_SUPPORTED, "whole heads" },
		{ "\"hidden_size\": 128", "\"hidden_size\": 0", BN_E_FORMAT, "'hidden_size' is 0" },
		{ "\"hidden_size\": 128", "\"hidden_size\": -128", BN_E_FORMAT, "'hidden_size'" },
		{ "\"hidden_size\": 128", "\"hidden_size\": 65537", BN_E_FORMAT, "'hidden_size'" },
		{ "\"hidden_size\": 128", "\"hidden_size\": 128.0", BN_E_FORMAT, "an integer" },
		{ "\"hidden_size\": 128", "\"hidden_size\": \"128\"", BN_E_FORMAT, "an integer" },
		{ "\"hidden_size\": 128", "\"hidden_size\": null", BN_E_FORMAT, "an integer" },
		{ "\"hidden_size\": 128, ", "", BN_E_FORMAT, "'hidden_size' is absent" },
		{ "\"hidden_size\": 128", "\"hidden_size\": 4294967424", BN_E_FORMAT,
		  "4294967424" },
		{ "\"hidden_size\": 128", "\"hidden_size\": 126", BN_E_FORMAT, "not divisible" },
		{ "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", BN_E_FORMAT,
		  "layers' is 0" },
		{ "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 513", BN_E_FORMAT, "513" },
		{ "\"intermediate_size\": 256", "\"intermediate_size\": 1e3", BN_E_FORMAT,
		  "an integer" },
		{ "\"intermediate_size\": 256", "\"intermediate_size\": 262145", BN_E_FORMAT,
		  "262145" },
		{ "\"vocab_size\": 300", "\"vocab_size\": 0", BN_E_FORMAT, "'vocab_size'" },
		{ "\"vocab_size\": 300", "\"vocab_size\": 99999999", BN_E_FORMAT, "'vocab_size'" },
		{ "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 0", BN_E_FORMAT,
		  "'max_position_embeddings'" },
		{ "\"max_position_embeddings\": 512", "\"max_position_embeddings\": []",
		  BN_E_FORMAT, "an array" },
		{ "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", BN_E_FORMAT, "'rms_norm_eps'" },
		{ "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1", BN_E_FORMAT, "'rms_norm_eps'" },
		{ "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": NaN", BN_E_FORMAT,
		  "not valid JSON" },
		{ "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", BN_E_FORMAT,
		  "heads' is 0" },
		{ "\"num_attention_heads\": 4", "\"num_attention_heads\": 128", BN_E_FORMAT,
		  "groups of at most" },
		{ "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", BN_E_FORMAT,
		  "must divide" },
		{ "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8", BN_E_FORMAT,
		  "heads' is 8" },
		{ "\"hidden_size\"", "\"head_dim\": 31, \"hidden_size\"", BN_E_FORMAT,
		  "even number" },
		{ "\"hidden_size\"", "\"head_dim\": 512, \"hidden_size\"", BN_E_FORMAT,
		  "'head_dim'" },
		{ "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", BN_E_NOT_SUPPORTED,
		  "'gelu'" },
		{ "\"hidden_act\": \"silu\"", "\"hidden_act\": 3", BN_E_FORMAT, "'hidden_act'" },
		{ "\"quant_method\": \"bitnet\"", "\"quant_method\": \"gptq\"", BN_E_NOT_SUPPORTED,
		  "'gptq'" },
		{ "\"quant_method\": \"bitnet\"", "\"quant_method\": 4", BN_E_FORMAT,
		  "quant_method" },
		{ "\"quant_method\": \"bitnet\",", "", BN_E_FORMAT, "quant_method" },
		{ "\"quant_method\": \"bitnet\"",
		  "\"quant_method\": \"bitnet\", \"linear_class\": \"other\"", BN_E_NOT_SUPPORTED,
		  "'other'" },
		{ "\"quant_method\": \"bitnet\"",
		  "\"quant_method\": \"bitnet\", \"use_rms_norm\": 1", BN_E_FORMAT,
		  "'use_rms_norm'" },
		{ "[\"lm_head\"]", "[\"lm_head\", \"model.layers.0.mlp\"]", BN_E_NOT_SUPPORTED,
		  "'model.layers.0.mlp' is not ternary" },
		{ "\"eos_token_id\": 291", "\"eos_token_id\": 300", BN_E_FORMAT, "holds 300" },
		{ "\"eos_token_id\": 291", "\"eos_token_id\": -7", BN_E_FORMAT, "holds -7" },
		{ "\"eos_token_id\": 291", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", BN_E_FORMAT,
		  "more than 8" },
		{ "\"bos_token_id\": 290", "\"bos_token_id\": 300", BN_E_FORMAT,
		  "'bos_token_id' is 300" },
		{ "\"pad_token_id\": null", "\"pad_token_id\": 1.5", BN_E_FORMAT,
		  "'pad_token_id'" },
		{ "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 0", BN_E_FORMAT,
		  "'tie_word_embeddings'" },
	};
	const size_t before = hf_peak_mib();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_hfconfig c = { 0 };
		struct bn_error err = { 0 };
		struct hf_folder hf;

		hf_init(&hf);
		hf_replace(&hf.config, cases[i].from, cases[i].to);
		hf_expect(load(&hf, &c, &err), &err, cases[i].status, cases[i].words);
		assert_non_null(strstr(err.text, "config.json"));
		hf_finish(&hf);
	}
	assert_true(hf_peak_mib() - before < 64);
}

static void hfconfig_names_the_file_that_is_wrong(void **state)
{
	struct bn_hfconfig c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;

	(void)state;
	hf_init(&hf);
	hf_replace(&hf.generation, "292", "\"x\"");
	hf_expect(load(&hf, &c, &err), &err, BN_E_FORMAT, "generation_config.json: 'eos");
	free(hf.generation);
	hf.generation = NULL;
	hf_expect(load(&hf, &c, &err), &err, BN_OK, "");
	assert_int_equal(c.n_eos, 1);
	free(hf.config);
	hf.config = NULL;
	hf_expect(load(&hf, &c, &err), &err, BN_E_IO, "not a Hugging Face model folder");
	hf_finish(&hf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hfconfig_reads_the_numbers),
		cmocka_unit_test(hfconfig_accepts_the_spellings_in_the_world),
		cmocka_unit_test(hfconfig_reads_the_windows_of_gemma),
		cmocka_unit_test(hfconfig_refuses_other_gemmas),
		cmocka_unit_test(hfconfig_refuses_spoilt_files_with_a_sentence),
		cmocka_unit_test(hfconfig_names_the_file_that_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
