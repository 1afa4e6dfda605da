#include "engine/family.h"

#include <string.h>

/*
 * Where the rules come from. Permuted q/k rows, hence interleaved rotation, are written by the
 * converter's LlamaModel alone. Sub-norms are in both BitNet lines, so they say nothing about the
 * activation; the vocabulary does: 32002 tokens are the 1bitLLM reproductions (SiLU), 128256 are
 * BitNet-b1.58-2B-4T and its fine-tunes (squared ReLU).
 */
static const struct bn_architecture architectures[] = {
	{
		.name = "bitnet-b1.58",
		.rope = BN_ROPE_NEOX,
		.sub_norms = BN_ALWAYS,
		.activation = BN_ACT_RELU2,
		.other_vocab = 32002,
		.other_activation = BN_ACT_SILU,
		.default_eps = 1e-5f,
		.default_rope_base = 500000.0f,
	},
	{
		.name = "bitnet-25",
		.rope = BN_ROPE_NEOX,
		.sub_norms = BN_ALWAYS,
		.activation = BN_ACT_RELU2,
		.other_vocab = 32002,
		.other_activation = BN_ACT_SILU,
		.default_eps = 1e-5f,
		.default_rope_base = 500000.0f,
	},
	{
		.name = "bitnet",
		.rope = BN_ROPE_NEOX,
		.sub_norms = BN_ALWAYS,
		.activation = BN_ACT_SILU,
		.other_vocab = 128256,
		.other_activation = BN_ACT_RELU2,
		.default_eps = 1e-5f,
		.default_rope_base = 10000.0f,
	},
	{
		.name = "llama",
		.rope = BN_ROPE_NORM,
		.sub_norms = BN_NEVER,
		.activation = BN_ACT_SILU,
		.other_vocab = 0,
		.other_activation = BN_ACT_SILU,
		.default_eps = 1e-5f,
		.default_rope_base = 10000.0f,
	},
	/*
	 * The two bases of BitNet-embedding, Qwen3 and Gemma 3, each projection behind a norm of
	 * its own. The converter of their authors turns Gemma's gains w into w + 1 and writes
	 * neither a window nor a scale for the scores, which is 1 / sqrt(head_dim) in both.
	 */
	{
		.name = "qwen3",
		.rope = BN_ROPE_NEOX,
		.sub_norms = BN_NEVER,
		.input_norms = BN_ALWAYS,
		.head_norms = BN_ALWAYS,
		.embeds = true,
		.activation = BN_ACT_SILU,
		.default_eps = 1e-6f,
		.default_rope_base = 1000000.0f,
	},
	{
		.name = "gemma3",
		.rope = BN_ROPE_NEOX,
		.sub_norms = BN_NEVER,
		.input_norms = BN_ALWAYS,
		.head_norms = BN_ALWAYS,
		.post_norms = BN_ALWAYS,
		.scales_embedding = true,
		.may_slide = true,
		.embeds = true,
		.activation = BN_ACT_GELU,
		.default_eps = 1e-6f,
		.default_rope_base = 10000.0f,
	},
};

/* clang-format off */
static const struct {
	const char *text;
	enum bn_activation activation;
} activation_words[] = {
	{ "silu", BN_ACT_SILU },   { "swish", BN_ACT_SILU },
	{ "relu2", BN_ACT_RELU2 }, { "relu_squared", BN_ACT_RELU2 }, { "relu_sqr", BN_ACT_RELU2 },
	{ "gelu_pytorch_tanh", BN_ACT_GELU }, { "gelu_tanh", BN_ACT_GELU }, { "gelu_new", BN_ACT_GELU },
};
/* clang-format on */

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static bool same(const char *word, const char *text, size_t n)
{
	return strlen(word) == n && memcmp(word, text, n) == 0;
}

const struct bn_architecture *bn_family_architecture(const char *name, size_t n)
{
	for (size_t i = 0; i < LENGTH(architectures); i++) {
		if (same(architectures[i].name, name, n)) {
			return &architectures[i];
		}
	}
	return NULL;
}

const struct bn_architecture *bn_family_architecture_at(size_t i)
{
	return i < LENGTH(architectures) ? &architectures[i] : NULL;
}

enum bn_activation bn_family_activation(const struct bn_architecture *arch, uint32_t vocab)
{
	return vocab == arch->other_vocab ? arch->other_activation : arch->activation;
}

bool bn_family_parse_activation(const char *text, size_t n, enum bn_activation *out)
{
	for (size_t i = 0; i < LENGTH(activation_words); i++) {
		if (same(activation_words[i].text, text, n)) {
			*out = activation_words[i].activation;
			return true;
		}
	}
	return false;
}

const char *bn_family_activation_name(enum bn_activation activation)
{
	switch (activation) {
	case BN_ACT_SILU:
		return "silu";
	case BN_ACT_RELU2:
		return "relu2";
	case BN_ACT_GELU:
		return "gelu_pytorch_tanh";
	}
	return "?";
}
