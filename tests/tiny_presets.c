#include "tests/tiny.h"

#include <stddef.h>
#include <string.h>

struct preset {
	const char *key;
	struct bn_tiny model;
};

#define GPT2 BN_TINY_GPT2
#define SPM  BN_TINY_SPM
/* clang-format off: three lines each */
static const struct preset presets[] = {
	/* key, { name, arch, layers, dim, ffn, heads, kv, vocab, context, rope base, eps,
	 *        tied, sub-norms, gains one, embedding, tokenizer, pre, seed, vectors } */
	{ "bitnet-2b-4t",
	  { "synthetic BitNet-b1.58-2B-4T", "bitnet-b1.58", 30, 2560, 6912, 20, 5, 128256, 4096,
	    500000.0f, 1e-5f, true, true, false, BN_GGML_F16, GPT2, NULL, 1, { 0 } } },
	{ "large",
	  { "synthetic bitnet_b1_58-large", "bitnet", 24, 1536, 4096, 16, 16, 32002, 2048, 10000.0f,
	    1e-5f, true, true, false, BN_GGML_F16, SPM, "default", 1, { 0 } } },
	{ "3b",
	  { "synthetic bitnet_b1_58-3B", "bitnet", 26, 3200, 8640, 32, 32, 32002, 2048, 10000.0f,
	    1e-5f, true, true, false, BN_GGML_F16, SPM, "default", 1, { 0 } } },
	{ "llama3-8b",
	  { "synthetic Llama3-8B-1.58", "llama", 32, 4096, 14336, 32, 8, 128256, 8192, 500000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "llama-bpe", 1, { 0 } } },
	{ "falcon3-1b",
	  { "synthetic Falcon3-1B-1.58bit", "llama", 18, 2048, 8192, 8, 4, 131072, 8192, 1000042.0f,
	    1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1, { 0 } } },
	{ "falcon3-3b",
	  { "synthetic Falcon3-3B-1.58bit", "llama", 22, 3072, 9216, 12, 4, 131072, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1, { 0 } } },
	{ "falcon3-7b",
	  { "synthetic Falcon3-7B-1.58bit", "llama", 28, 3072, 23040, 12, 4, 131080, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1, { 0 } } },
	{ "falcon3-10b",
	  { "synthetic Falcon3-10B-1.58bit", "llama", 40, 3072, 23040, 12, 4, 131072, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1, { 0 } } },
	{ "falcon-e-1b",
	  { "synthetic Falcon-E-1B", "llama", 24, 2048, 9216, 16, 2, 32768, 32768, 1000000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "falcon_e", 1, { 0 } } },
	{ "falcon-e-3b",
	  { "synthetic Falcon-E-3B", "llama", 32, 2048, 13312, 16, 2, 32768, 32768, 1000000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "falcon_e", 1, { 0 } } },
	{ "embedding-0.6b",
	  { "synthetic bitnet-embedding-0.6b", "qwen3", 28, 1024, 3072, 16, 8, 151936, 32768,
	    1000000.0f, 1e-6f, true, false, false, BN_GGML_F16, GPT2, "qwen2", 1,
	    { 3, 128, false, 0 } } },
	{ "embedding-270m",
	  { "synthetic bitnet-embedding-270m", "gemma3", 18, 640, 2048, 4, 1, 262144, 32768,
	    10000.0f, 1e-6f, true, false, false, BN_GGML_F16, SPM, "default", 1,
	    { 3, 256, true, 0 } } },
};
/* clang-format on */
#undef GPT2
#undef SPM

void bn_tiny_default(struct bn_tiny *t)
{
	*t = (struct bn_tiny){
		.name = "tiny",
		.arch = "bitnet-b1.58",
		.layers = 2,
		.dim = 128,
		.ffn = 256,
		.heads = 4,
		.kv_heads = 2,
		.vocab = 512,
		.context = 256,
		.rope_base = 10000.0f,
		.eps = 1e-5f,
		.tied = true,
		.sub_norms = true,
		.embedding = BN_GGML_F16,
		.tokenizer = BN_TINY_GPT2,
		.pre = "llama-bpe",
		.seed = 1,
	};
}

void bn_tiny_vectors(struct bn_tiny *t, const char *arch)
{
	const bool gemma = strcmp(arch, "gemma3") == 0;

	bn_tiny_default(t);
	t->arch = arch;
	t->eps = 1e-6f;
	t->sub_norms = false;
	t->tokenizer = gemma ? BN_TINY_SPM : BN_TINY_GPT2;
	t->pre = gemma ? "default" : "qwen2";
	t->vectors = (struct bn_tiny_vectors){ .pooling = 3, .post_norms = gemma };
}

bool bn_tiny_preset(struct bn_tiny *t, const char *name)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		if (strcmp(presets[i].key, name) == 0) {
			*t = presets[i].model;
			return true;
		}
	}
	return false;
}

const char *bn_tiny_preset_at(uint32_t i)
{
	return i < sizeof(presets) / sizeof(presets[0]) ? presets[i].key : NULL;
}
