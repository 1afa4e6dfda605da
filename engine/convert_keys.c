#include "engine/convert_keys.h"

#include <stdio.h>
#include <string.h>

enum { QUANTIZATION_VERSION = 2, KEY_BYTES = 96 };

/* Numbers of <arch>.pooling_type. */
static const uint32_t pooling_types[] = {
	[BN_POOL_NONE] = 0,
	[BN_POOL_MEAN] = 1,
	[BN_POOL_FIRST] = 2,
	[BN_POOL_LAST] = 3,
};

struct keys {
	struct bn_gguf_writer *w;
	const struct bn_checkpoint *c;
	char key[KEY_BYTES];
};

/* "<arch>.<name>", valid until the next call. */
static const char *key_of(struct keys *k, const char *name)
{
	snprintf(k->key, sizeof(k->key), "%s.%s", k->c->arch->name, name);
	return k->key;
}

static void put_general(struct keys *k, const char *name, uint32_t file_type)
{
	bn_gguf_put_str(k->w, "general.architecture", k->c->arch->name);
	bn_gguf_put_str(k->w, "general.name", name);
	if (k->c->licence[0] != '\0') {
		bn_gguf_put_str(k->w, "general.license", k->c->licence);
	}
	if (k->c->source[0] != '\0') {
		bn_gguf_put_str(k->w, "general.source.huggingface.repository", k->c->source);
	}
	bn_gguf_put_u32(k->w, "general.file_type", file_type);
	bn_gguf_put_u32(k->w, "general.quantization_version", QUANTIZATION_VERSION);
}

static void put_graph(struct keys *k)
{
	const struct bn_checkpoint *c = k->c;

	bn_gguf_put_u32(k->w, key_of(k, "vocab_size"), c->n_vocab);
	bn_gguf_put_u32(k->w, key_of(k, "context_length"), c->context);
	bn_gguf_put_u32(k->w, key_of(k, "embedding_length"), c->dim);
	bn_gguf_put_u32(k->w, key_of(k, "block_count"), c->layers);
	bn_gguf_put_u32(k->w, key_of(k, "feed_forward_length"), c->ffn);
	bn_gguf_put_u32(k->w, key_of(k, "attention.head_count"), c->heads);
	bn_gguf_put_u32(k->w, key_of(k, "attention.head_count_kv"), c->kv_heads);
	bn_gguf_put_f32(k->w, key_of(k, "attention.layer_norm_rms_epsilon"), (float)c->eps);
	bn_gguf_put_f32(k->w, key_of(k, "rope.freq_base"), (float)c->rope_base);
	/* Of one architecture word there are two activations in the world: say which. */
	bn_gguf_put_str(k->w, key_of(k, "hidden_activation"),
			bn_family_activation_name(c->activation));
	if (c->heads * c->head_dim != c->dim || c->arch->embeds) {
		bn_gguf_put_u32(k->w, key_of(k, "attention.key_length"), c->head_dim);
		bn_gguf_put_u32(k->w, key_of(k, "attention.value_length"), c->head_dim);
	}
	if (c->arch->embeds) {
		bn_gguf_put_u32(k->w, key_of(k, "pooling_type"), pooling_types[c->pooling]);
	}
	if (c->window > 0) {
		bn_gguf_put_u32(k->w, key_of(k, "attention.sliding_window"), c->window);
		bn_gguf_put_u32(k->w, key_of(k, "attention.sliding_window_pattern"),
				c->window_period);
		bn_gguf_put_f32(k->w, key_of(k, "rope.freq_base_swa"), (float)c->window_rope_base);
	}
	/* The converter of 1bitLLM's models writes a scaling of one, and no dimension count. */
	if (strcmp(c->arch->name, "bitnet") == 0) {
		bn_gguf_put_str(k->w, key_of(k, "rope.scaling.type"), "linear");
		bn_gguf_put_f32(k->w, key_of(k, "rope.scaling.factor"), 1.0f);
	} else {
		bn_gguf_put_u32(k->w, key_of(k, "rope.dimension_count"), c->head_dim);
	}
}

static void put_id(struct keys *k, const char *key, bn_token id)
{
	if (id < k->c->n_vocab) {
		bn_gguf_put_u32(k->w, key, id);
	}
}

/* GGUF has one key for the end; the second and third end go where readers look for more. */
static void put_ends(struct keys *k)
{
	static const char *const names[] = { "tokenizer.ggml.eos_token_id",
					     "tokenizer.ggml.eot_token_id",
					     "tokenizer.ggml.eom_token_id" };

	for (uint32_t i = 0; i < k->c->n_eos && i < 3; i++) {
		put_id(k, names[i], k->c->eos[i]);
	}
}

static void put_tokenizer(struct keys *k)
{
	const struct bn_hfvocab *v = &k->c->vocab;
	const bool spm = v->kind == BN_TOKENIZER_SPM;

	bn_gguf_put_str(k->w, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	bn_gguf_put_str(k->w, "tokenizer.ggml.pre", v->pre);
	bn_gguf_put_strs(k->w, "tokenizer.ggml.tokens", v->tokens, v->n);
	if (spm) {
		bn_gguf_put_f32s(k->w, "tokenizer.ggml.scores", v->scores, v->n);
	}
	bn_gguf_put_i32s(k->w, "tokenizer.ggml.token_type", v->types, v->n);
	if (!spm) {
		bn_gguf_put_strs(k->w, "tokenizer.ggml.merges", v->merges, v->n_merges);
	}
	put_id(k, "tokenizer.ggml.bos_token_id", v->bos);
	put_ends(k);
	put_id(k, "tokenizer.ggml.unknown_token_id", v->unk);
	put_id(k, "tokenizer.ggml.padding_token_id", v->pad);
	/* Always said: engines guess it from other keys where it is not, and guess wrong. */
	bn_gguf_put_bool(k->w, "tokenizer.ggml.add_bos_token", v->add_bos);
	bn_gguf_put_bool(k->w, "tokenizer.ggml.add_eos_token", v->add_eos);
	if (spm) {
		bn_gguf_put_bool(k->w, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
	}
	if (v->chat_template != NULL && !k->c->arch->embeds) {
		bn_gguf_put_str(k->w, "tokenizer.chat_template", v->chat_template);
	}
}

void bn_convert_keys(struct bn_gguf_writer *w, const struct bn_checkpoint *c, const char *name,
		     uint32_t file_type)
{
	struct keys k = { .w = w, .c = c };

	put_general(&k, name, file_type);
	put_graph(&k);
	put_tokenizer(&k);
}
