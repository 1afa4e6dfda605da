/* The keys of a converted file, as the published files have them. */
#include "engine/convert_keys.h"

#include "engine/convert.h"
#include "engine/file.h"
#include "engine/gguf.h"
#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct made {
	struct hf_folder hf;
	struct bn_file file;
	struct bn_gguf *g;
};

/* Converts the folder as it is. */
static void make(struct made *m)
{
	const struct bn_convert_options options = { .name = "a name" };
	struct bn_convert_report report;
	struct bn_checkpoint c;
	struct bn_error err = { 0 };
	char path[200];

	bn_enter_helper();
	hf_write(&m->hf);
	snprintf(path, sizeof(path), "%s/out.gguf", m->hf.path);
	hf_expect(bn_checkpoint_open(&c, m->hf.path, NULL, &err), &err, BN_OK, "");
	hf_expect(bn_convert(&c, path, &options, &report, &err), &err, BN_OK, "");
	bn_checkpoint_finish(&c);
	hf_expect(bn_file_open(&m->file, AT_FDCWD, path, true, &err), &err, BN_OK, "");
	hf_expect(bn_gguf_open(&m->g, &m->file, &err), &err, BN_OK, "");
}

static void finish(struct made *m)
{
	bn_gguf_free(m->g);
	bn_file_close(&m->file);
	hf_finish(&m->hf);
}

static uint32_t u32(const struct made *m, const char *key)
{
	uint32_t value = 0;

	if (bn_gguf_u32(m->g, key, 0, UINT32_MAX, &value, NULL) != BN_OK) {
		fail_msg("no %s", key);
	}
	return value;
}

static float f32(const struct made *m, const char *key)
{
	float value = 0.0f;

	assert_int_equal(bn_gguf_f32(m->g, key, -1e30f, 1e30f, &value, NULL), BN_OK);
	return value;
}

static void keys_of_a_llama_graph_are_those_of_the_published_files(void **state)
{
	static const char readme[] = "---\nlicense: mit\n---\n";
	struct made m = { 0 };
	struct bn_gguf_array tokens;
	bool flag = false;

	(void)state;
	hf_init(&m.hf);
	hf_write_file(&m.hf, "README.md", readme, sizeof(readme) - 1);
	make(&m);
	assert_true(bn_gguf_is(m.g, "general.architecture", "llama"));
	assert_true(bn_gguf_is(m.g, "general.name", "a name"));
	assert_true(bn_gguf_is(m.g, "general.license", "mit"));
	assert_true(
		bn_gguf_is(m.g, "general.source.huggingface.repository", "somebody/tiny-ternary"));
	assert_int_equal(u32(&m, "general.file_type"), 40);
	assert_int_equal(u32(&m, "general.quantization_version"), 2);
	assert_int_equal(u32(&m, "llama.vocab_size"), 300);
	assert_int_equal(u32(&m, "llama.context_length"), 512);
	assert_int_equal(u32(&m, "llama.embedding_length"), 128);
	assert_int_equal(u32(&m, "llama.block_count"), 2);
	assert_int_equal(u32(&m, "llama.feed_forward_length"), 256);
	assert_int_equal(u32(&m, "llama.attention.head_count"), 4);
	assert_int_equal(u32(&m, "llama.attention.head_count_kv"), 2);
	assert_int_equal(u32(&m, "llama.rope.dimension_count"), 32);
	assert_true(f32(&m, "llama.attention.layer_norm_rms_epsilon") == 1e-5f);
	assert_true(f32(&m, "llama.rope.freq_base") == 10000.0f);
	assert_true(bn_gguf_is(m.g, "llama.hidden_activation", "silu"));
	assert_false(bn_gguf_has(m.g, "llama.attention.key_length"));
	assert_false(bn_gguf_has(m.g, "llama.rope.scaling.type"));
	assert_true(bn_gguf_is(m.g, "tokenizer.ggml.model", "gpt2"));
	assert_true(bn_gguf_is(m.g, "tokenizer.ggml.pre", "gpt-2"));
	assert_int_equal(bn_gguf_strs(m.g, "tokenizer.ggml.tokens", 300, &tokens, NULL), BN_OK);
	assert_int_equal(bn_gguf_strs(m.g, "tokenizer.ggml.merges", 34, &tokens, NULL), BN_OK);
	assert_int_equal(bn_gguf_ints(m.g, "tokenizer.ggml.token_type", 300, &tokens, NULL), BN_OK);
	assert_false(bn_gguf_has(m.g, "tokenizer.ggml.scores"));
	assert_int_equal(u32(&m, "tokenizer.ggml.bos_token_id"), 290);
	assert_int_equal(u32(&m, "tokenizer.ggml.eos_token_id"), 291);
	assert_int_equal(u32(&m, "tokenizer.ggml.eot_token_id"), 292);
	assert_false(bn_gguf_has(m.g, "tokenizer.ggml.padding_token_id"));
	assert_int_equal(bn_gguf_bool(m.g, "tokenizer.ggml.add_bos_token", &flag, NULL), BN_OK);
	assert_true(flag);
	assert_true(bn_gguf_is(m.g, "tokenizer.chat_template", "{{ x }}"));
	finish(&m);
}

static void keys_of_a_bitnet_graph_say_its_activation_and_scale_nothing(void **state)
{
	const uint64_t dim[] = { HF_DIM }, ffn[] = { HF_FFN };

	(void)state;
	for (int relu2 = 0; relu2 < 2; relu2++) {
		struct made m = { 0 };
		char name[96];

		hf_init(&m.hf);
		hf_replace(&m.hf.config, "LlamaForCausalLM", "BitNetForCausalLM");
		if (relu2) {
			hf_replace(&m.hf.config, "\"silu\"", "\"relu2\"");
		}
		for (int l = 0; l < HF_LAYERS; l++) {
			snprintf(name, sizeof(name),
				 "model.layers.%d.self_attn.attn_sub_norm.weight", l);
			hf_add(&m.hf, name, "BF16", 1, dim);
			snprintf(name, sizeof(name), "model.layers.%d.mlp.ffn_sub_norm.weight", l);
			hf_add(&m.hf, name, "BF16", 1, ffn);
		}
		make(&m);
		if (relu2) {
			assert_true(bn_gguf_is(m.g, "general.architecture", "bitnet-b1.58"));
			assert_true(bn_gguf_is(m.g, "bitnet-b1.58.hidden_activation", "relu2"));
			assert_int_equal(u32(&m, "bitnet-b1.58.rope.dimension_count"), 32);
		} else {
			assert_true(bn_gguf_is(m.g, "general.architecture", "bitnet"));
			assert_true(bn_gguf_is(m.g, "bitnet.hidden_activation", "silu"));
			assert_true(bn_gguf_is(m.g, "bitnet.rope.scaling.type", "linear"));
			assert_true(f32(&m, "bitnet.rope.scaling.factor") == 1.0f);
			assert_false(bn_gguf_has(m.g, "bitnet.rope.dimension_count"));
		}
		assert_non_null(bn_gguf_tensor(m.g, "blk.1.attn_sub_norm.weight"));
		assert_non_null(bn_gguf_tensor(m.g, "blk.1.ffn_sub_norm.weight"));
		finish(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_a_llama_graph_are_those_of_the_published_files),
		cmocka_unit_test(keys_of_a_bitnet_graph_say_its_activation_and_scale_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
