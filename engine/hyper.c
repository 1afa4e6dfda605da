#include "engine/hyper.h"

#include "proto/assert.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128, WINDOW_PERIOD = 6 };

#define WINDOW_ROPE_BASE 10000.0f /* of layers that see a window */

/* The directory with the prefix of its architecture, and where to complain. */
struct reader {
	const struct bn_gguf *gguf;
	const struct bn_architecture *arch;
	struct bn_error *err;
	char key[KEY_BYTES];
};

/* "<arch>.<name>", valid until the next call. */
static const char *key_of(struct reader *r, const char *name)
{
	const int n = snprintf(r->key, sizeof(r->key), "%s.%s", r->arch->name, name);

	bn_assert(n > 0 && n < KEY_BYTES);
	return r->key;
}

static bool has(struct reader *r, const char *name)
{
	return bn_gguf_has(r->gguf, key_of(r, name));
}

static bool need_u32(struct reader *r, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
	return bn_gguf_u32(r->gguf, key_of(r, name), min, max, out, r->err) == BN_OK;
}

/* Leaves *out, the default, where the key is absent. */
static bool maybe_u32(struct reader *r, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
	return !has(r, name) || need_u32(r, name, min, max, out);
}

static bool maybe_f32(struct reader *r, const char *name, float min, float max, float *out)
{
	return !has(r, name) ||
	       bn_gguf_f32(r->gguf, key_of(r, name), min, max, out, r->err) == BN_OK;
}

static bool read_architecture(struct reader *r)
{
	struct bn_str name;
	char list[128] = "";
	size_t used = 0;

	if (bn_gguf_str(r->gguf, "general.architecture", &name, r->err) != BN_OK) {
		return false;
	}
	r->arch = bn_family_architecture(name.p, name.n);
	if (r->arch != NULL) {
		return true;
	}
	for (size_t i = 0; bn_family_architecture_at(i) != NULL && used < sizeof(list); i++) {
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 bn_family_architecture_at(i)->name);
	}
	bn_fail(r->err, BN_E_NOT_SUPPORTED,
		"general.architecture is '%.*s'; bnd runs ternary decoders of the architectures %s",
		(int)(name.n < 64 ? name.n : 64), name.p, list);
	return false;
}

/* The embedding is the authority on the vocabulary's size: the key is absent from many files. */
static bool read_vocab(struct reader *r, struct bn_hyper *h)
{
	const struct bn_gguf_tensor *embed = bn_gguf_tensor(r->gguf, "token_embd.weight");
	uint32_t stated;

	if (embed == NULL) {
		bn_fail(r->err, BN_E_FORMAT, "tensor 'token_embd.weight' is missing");
		return false;
	}
	if (embed->n_dims != 2 || embed->dims[1] > BN_HYPER_MAX_VOCAB) {
		bn_fail(r->err, BN_E_FORMAT,
			"tensor 'token_embd.weight' has %u dimensions and %llu rows; a matrix of "
			"at "
			"most %d rows is needed",
			embed->n_dims, (unsigned long long)embed->dims[1], BN_HYPER_MAX_VOCAB);
		return false;
	}
	h->vocab = (uint32_t)embed->dims[1];
	stated = h->vocab;
	if (!maybe_u32(r, "vocab_size", 1, BN_HYPER_MAX_VOCAB, &stated)) {
		return false;
	}
	if (stated > h->vocab) {
		bn_fail(r->err, BN_E_FORMAT, "%s is %u but 'token_embd.weight' has only %u rows",
			key_of(r, "vocab_size"), stated, h->vocab);
		return false;
	}
	return true;
}

static bool read_dims(struct reader *r, struct bn_hyper *h)
{
	return need_u32(r, "block_count", 1, BN_HYPER_MAX_LAYERS, &h->layers) &&
	       need_u32(r, "embedding_length", 1, BN_HYPER_MAX_DIM, &h->dim) &&
	       need_u32(r, "feed_forward_length", 1, BN_HYPER_MAX_FFN, &h->ffn) &&
	       need_u32(r, "context_length", 1, BN_HYPER_MAX_CONTEXT, &h->context);
}

static bool read_heads(struct reader *r, struct bn_hyper *h)
{
	uint32_t value_dim;

	if (!need_u32(r, "attention.head_count", 1, BN_HYPER_MAX_HEADS, &h->heads)) {
		return false;
	}
	h->kv_heads = h->heads;
	if (!maybe_u32(r, "attention.head_count_kv", 1, h->heads, &h->kv_heads)) {
		return false;
	}
	if (h->heads % h->kv_heads != 0 || h->heads / h->kv_heads > BN_GROUP_MAX) {
		bn_fail(r->err, BN_E_FORMAT,
			"%s is %u: it must divide the %u query heads into groups of at most %u",
			key_of(r, "attention.head_count_kv"), h->kv_heads, h->heads, BN_GROUP_MAX);
		return false;
	}
	if (!has(r, "attention.key_length") && h->dim % h->heads != 0) {
		bn_fail(r->err, BN_E_FORMAT,
			"%s is %u: it must divide the embedding length %u where no key_length is "
			"given",
			key_of(r, "attention.head_count"), h->heads, h->dim);
		return false;
	}
	/* Each length is dim / heads where the file does not say. */
	h->head_dim = h->dim / h->heads;
	value_dim = h->head_dim;
	if (!maybe_u32(r, "attention.key_length", 2, BN_HEAD_DIM_MAX, &h->head_dim) ||
	    !maybe_u32(r, "attention.value_length", 2, BN_HEAD_DIM_MAX, &value_dim)) {
		return false;
	}
	if (value_dim != h->head_dim) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"%s is %u but the keys have length %u; bnd runs models where both are "
			"equal",
			key_of(r, "attention.value_length"), value_dim, h->head_dim);
		return false;
	}
	if (h->head_dim < 2 || h->head_dim > BN_HEAD_DIM_MAX || h->head_dim % 2 != 0 ||
	    (uint64_t)h->heads * h->head_dim > BN_HYPER_MAX_DIM) {
		bn_fail(r->err, BN_E_FORMAT,
			"%u heads of %u dimensions: a head must have an even number of 2 to %u, "
			"all together at most %d",
			h->heads, h->head_dim, BN_HEAD_DIM_MAX, BN_HYPER_MAX_DIM);
		return false;
	}
	return true;
}

/* Any scaling but the identity would need another table of angles. */
static bool refuse_rope_scaling(struct reader *r)
{
	static const char *const factors[] = { "rope.scaling.factor", "rope.scale_linear" };
	struct bn_str type;

	for (size_t i = 0; i < 2; i++) {
		float factor = 1.0f;

		if (!maybe_f32(r, factors[i], 0.0f, 1e6f, &factor)) {
			return false;
		}
		/* 0 is how some converters write "none". */
		if (factor != 1.0f && factor != 0.0f) {
			bn_fail(r->err, BN_E_NOT_SUPPORTED,
				"%s is %g; bnd runs models without rope scaling (factor 1)",
				key_of(r, factors[i]), (double)factor);
			return false;
		}
	}
	if (has(r, "rope.scaling.type")) {
		if (bn_gguf_str(r->gguf, key_of(r, "rope.scaling.type"), &type, r->err) != BN_OK) {
			return false;
		}
		if (!bn_gguf_is(r->gguf, r->key, "none") &&
		    !bn_gguf_is(r->gguf, r->key, "linear")) {
			bn_fail(r->err, BN_E_NOT_SUPPORTED,
				"%s is '%.*s'; bnd runs models without rope scaling", r->key,
				(int)(type.n < 32 ? type.n : 32), type.p);
			return false;
		}
	}
	if (bn_gguf_tensor(r->gguf, "rope_freqs.weight") != NULL) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"tensor 'rope_freqs.weight' scales the rope; bnd runs models without that");
		return false;
	}
	return true;
}

static bool read_rope(struct reader *r, struct bn_hyper *h)
{
	float base = r->arch->default_rope_base;

	h->rot = h->head_dim;
	if (!maybe_u32(r, "rope.dimension_count", 2, h->head_dim, &h->rot) ||
	    !maybe_f32(r, "rope.freq_base", 1.0f, 1e9f, &base)) {
		return false;
	}
	if (h->rot % 2 != 0) {
		bn_fail(r->err, BN_E_FORMAT, "%s is %u: it must be even, dimensions turn in pairs",
			key_of(r, "rope.dimension_count"), h->rot);
		return false;
	}
	h->rope = r->arch->rope;
	h->rope_base = (double)base;
	return refuse_rope_scaling(r);
}

static bool read_activation(struct reader *r, struct bn_hyper *h)
{
	struct bn_str text;

	h->activation = bn_family_activation(r->arch, h->vocab);
	if (!has(r, "hidden_activation")) {
		return true;
	}
	if (bn_gguf_str(r->gguf, key_of(r, "hidden_activation"), &text, r->err) != BN_OK) {
		return false;
	}
	if (!bn_family_parse_activation(text.p, text.n, &h->activation)) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"%s is '%.*s'; bnd knows silu, relu2 and gelu_pytorch_tanh", r->key,
			(int)(text.n < 32 ? text.n : 32), text.p);
		return false;
	}
	return true;
}

/*
 * The converter of BitNet-embedding writes no window, and none is run then; llama.cpp's writes the
 * window of Gemma 3 but neither the period nor the other base, which are the same in all of its
 * models.
 */
static bool read_windows(struct reader *r, struct bn_hyper *h)
{
	float base = WINDOW_ROPE_BASE;

	h->window_period = WINDOW_PERIOD;
	if (!maybe_u32(r, "attention.sliding_window", 0, UINT32_MAX, &h->window)) {
		return false;
	}
	if (h->window == 0) {
		return true;
	}
	if (!r->arch->may_slide) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"%s is %u: a sliding attention window is not supported in this architecture",
			key_of(r, "attention.sliding_window"), h->window);
		return false;
	}
	if (!maybe_u32(r, "attention.sliding_window_pattern", 1, BN_HYPER_MAX_LAYERS,
		       &h->window_period) ||
	    !maybe_f32(r, "rope.freq_base_swa", 1.0f, 1e9f, &base)) {
		return false;
	}
	h->window_rope_base = (double)base;
	return true;
}

/* Numbers of <arch>.pooling_type. */
static bool read_pooling(struct reader *r, struct bn_hyper *h)
{
	static const enum bn_pooling poolings[] = { BN_POOL_NONE, BN_POOL_MEAN, BN_POOL_FIRST,
						    BN_POOL_LAST };
	uint32_t type;

	h->embed_scale = r->arch->scales_embedding ? sqrtf((float)h->dim) : 1.0f;
	if (!r->arch->embeds) {
		return true;
	}
	if (!need_u32(r, "pooling_type", 0, UINT32_MAX, &type)) {
		return false;
	}
	if (type == 0 || type >= sizeof(poolings) / sizeof(poolings[0])) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"%s is %u; models of this architecture make vectors in bnd: 1 (mean), 2 "
			"(first token) or 3 (last token)",
			key_of(r, "pooling_type"), type);
		return false;
	}
	h->pooling = poolings[type];
	return true;
}

/* Graphs that share our architecture words but not our graph. */
static bool refuse_other_graphs(struct reader *r, const struct bn_hyper *h)
{
	static const struct {
		const char *name;
		const char *what;
	} zero[] = {
		{ "expert_count", "a mixture of experts" },
		{ "attention.q_lora_rank", "compressed attention" },
	};
	const float scale = 1.0f / sqrtf((float)h->head_dim);
	float stated = scale;
	bool flag = false;

	if (!maybe_f32(r, "attention.scale", 0.0f, 1e6f, &stated)) {
		return false;
	}
	/* 0 is how some converters write "the usual". */
	if (stated != 0.0f && fabsf(stated - scale) > 1e-5f * scale) {
		bn_fail(r->err, BN_E_NOT_SUPPORTED,
			"%s is %g; bnd runs models with 1 / sqrt(key length), %g",
			key_of(r, "attention.scale"), (double)stated, (double)scale);
		return false;
	}
	for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
		uint32_t n = 0;

		if (!maybe_u32(r, zero[i].name, 0, UINT32_MAX, &n)) {
			return false;
		}
		if (n != 0) {
			bn_fail(r->err, BN_E_NOT_SUPPORTED, "%s is %u: %s is not supported",
				key_of(r, zero[i].name), n, zero[i].what);
			return false;
		}
	}
	if (has(r, "attention.causal")) {
		if (bn_gguf_bool(r->gguf, key_of(r, "attention.causal"), &flag, r->err) != BN_OK) {
			return false;
		}
		if (!flag) {
			bn_fail(r->err, BN_E_NOT_SUPPORTED,
				"%s is false: encoders are not supported, bnd runs decoders",
				r->key);
			return false;
		}
	}
	if (has(r, "use_parallel_residual")) {
		if (bn_gguf_bool(r->gguf, key_of(r, "use_parallel_residual"), &flag, r->err) !=
		    BN_OK) {
			return false;
		}
		if (flag) {
			bn_fail(r->err, BN_E_NOT_SUPPORTED,
				"%s is true: parallel residuals are not supported", r->key);
			return false;
		}
	}
	return true;
}

enum bn_status bn_hyper_read(struct bn_hyper *out, const struct bn_gguf *gguf, struct bn_error *err)
{
	struct bn_error own; /* so that err may be NULL and still be looked at */
	struct reader r = { .gguf = gguf, .err = err != NULL ? err : &own };
	struct bn_hyper h = { 0 };

	if (!read_architecture(&r)) {
		return r.err->status;
	}
	h.arch = r.arch;
	h.eps = r.arch->default_eps;
	/* An eps of zero would divide zero by zero on a zero row; above 0.1 it is no epsilon. */
	if (!read_vocab(&r, &h) || !read_dims(&r, &h) || !read_heads(&r, &h) ||
	    !read_rope(&r, &h) || !read_activation(&r, &h) || !read_windows(&r, &h) ||
	    !read_pooling(&r, &h) || !refuse_other_graphs(&r, &h) ||
	    !maybe_f32(&r, "attention.layer_norm_rms_epsilon", 1e-30f, 0.1f, &h.eps)) {
		return r.err->status;
	}
	*out = h;
	return BN_OK;
}

struct bn_shape bn_hyper_shape(const struct bn_hyper *h)
{
	return (struct bn_shape){
		.layers = h->layers,
		.dim = h->dim,
		.ffn = h->ffn,
		.heads = h->heads,
		.kv_heads = h->kv_heads,
		.head_dim = h->head_dim,
		.vocab = h->vocab,
	};
}
