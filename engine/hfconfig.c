#include "engine/hfconfig.h"

#include "engine/hyper.h"
#include "engine/json.h"
#include "kernels/vec.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { WINDOW_PERIOD = 6 }; /* of Gemma 3 where the file does not say */

static const char config_name[] = "config.json";
static const char generation_name[] = "generation_config.json";

struct reader {
	struct bn_hfconfig *c;
	const json_t *root;
	struct bn_error *err;
};

static bool has(const struct reader *r, const char *key)
{
	return bn_json_get(r->root, key) != NULL;
}

static enum bn_status u32(struct reader *r, const char *key, uint32_t max, uint32_t *out)
{
	return bn_json_u32(r->root, key, 1, max, out, r->err);
}

/* --- what it is ------------------------------------------------------------------------------ */

static const struct {
	const char *model_type, *architecture;
} backbones[] = {
	{ "qwen3", "qwen3" },
	{ "gemma3_text", "gemma3" },
};

static enum bn_status read_class(struct reader *r)
{
	const json_t *list = bn_json_get(r->root, "architectures");
	const char *name = json_string_value(json_array_get(list, 0));
	const char *type = json_string_value(bn_json_get(r->root, "model_type"));

	/* The models of vectors come as bare backbones of classes of several names. */
	for (size_t i = 0; type != NULL && i < sizeof(backbones) / sizeof(backbones[0]); i++) {
		if (strcmp(type, backbones[i].model_type) == 0) {
			const char *arch = backbones[i].architecture;

			r->c->embeds = bn_family_architecture(arch, strlen(arch));
			return BN_OK;
		}
	}
	if (name == NULL) {
		return bn_fail(
			r->err, BN_E_FORMAT,
			"'architectures' is not a list with a name; the model cannot be told");
	}
	/* 1bitLLM writes "model_type": "llama" beside BitnetForCausalLM: the class decides. */
	if (strcasecmp(name, "BitNetForCausalLM") == 0) {
		r->c->bitnet_class = true;
		r->c->says_ternary = true;
		return BN_OK;
	}
	if (strcasecmp(name, "LlamaForCausalLM") == 0) {
		return BN_OK;
	}
	return bn_fail(r->err, BN_E_NOT_SUPPORTED,
		       "a model of class '%.48s' (model_type '%.32s') is not supported; "
		       "BitNetForCausalLM and LlamaForCausalLM with ternary weights are, and "
		       "BitNet-embedding",
		       name, type != NULL ? type : "not given");
}

/* Keys that, unless absent, null, false, 0 or 1 as said, make another graph. */
static enum bn_status refuse_other_graphs(struct reader *r)
{
	static const struct {
		const char *key;
		const char *what;
		bool one; /* 1 is harmless too */
	} keys[] = {
		{ "attention_bias", "biases in the attention", false },
		{ "mlp_bias", "biases in the feed-forward", false },
		{ "num_local_experts", "a mixture of experts", true },
		{ "num_experts", "a mixture of experts", true },
		{ "n_routed_experts", "a mixture of experts", true },
		{ "q_lora_rank", "compressed attention", false },
		{ "final_logit_softcapping", "softened logits", false },
		{ "attn_logit_softcapping", "softened attention", false },
		{ "is_encoder_decoder", "an encoder", false },
		{ "use_bidirectional_attention", "attention to what follows", false },
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const json_t *value = bn_json_get(r->root, keys[i].key);
		const double number = json_number_value(value);
		const bool harmless = value == NULL || json_is_false(value) ||
				      (json_is_number(value) &&
				       (number == 0.0 || (keys[i].one && number == 1.0)));

		if (!harmless) {
			return bn_fail(r->err, BN_E_NOT_SUPPORTED,
				       "'%s' is set: bnd does not run models with %s", keys[i].key,
				       keys[i].what);
		}
	}
	return BN_OK;
}

/* --- windows --------------------------------------------------------------------------------- */

/* Which of the layers see everything must be every n-th: that is what GGUF can say. */
static enum bn_status read_layer_types(struct reader *r, const json_t *list)
{
	struct bn_hfconfig *c = r->c;
	const size_t n = json_array_size(list);
	size_t i;
	json_t *type;
	bool regular = n == c->layers;

	c->window_period = 0;
	json_array_foreach(list, i, type)
	{
		const char *word = json_string_value(type);
		const bool full = word != NULL && strcmp(word, "full_attention") == 0;

		if (!full && (word == NULL || strcmp(word, "sliding_attention") != 0)) {
			return bn_fail(r->err, BN_E_NOT_SUPPORTED,
				       "'layer_types' has '%.32s'; bnd knows full_attention and "
				       "sliding_attention",
				       word != NULL ? word : "something else");
		}
		if (full && c->window_period == 0) {
			c->window_period = (uint32_t)i + 1;
		}
		regular &= full == (c->window_period != 0 && (i + 1) % c->window_period == 0);
	}
	if (!regular) {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "'layer_types' is not one of every n-th of the %u layers with full "
			       "attention",
			       c->layers);
	}
	if (c->window_period == 0) {
		c->window_period = c->layers + 1; /* none of them */
	}
	return BN_OK;
}

static enum bn_status read_windows(struct reader *r)
{
	struct bn_hfconfig *c = r->c;
	const json_t *window = bn_json_get(r->root, "sliding_window");
	const json_t *use = bn_json_get(r->root, "use_sliding_window");
	const json_t *types = bn_json_get(r->root, "layer_types");
	enum bn_status status;

	if (window == NULL || json_is_false(use) ||
	    (json_is_integer(window) && json_integer_value(window) == 0)) {
		return BN_OK;
	}
	if (c->embeds == NULL || !c->embeds->may_slide) {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "'sliding_window' is set: bnd does not run models with a sliding "
			       "attention window");
	}
	status = u32(r, "sliding_window", INT32_MAX, &c->window);
	c->window_period = WINDOW_PERIOD;
	if (status == BN_OK && types != NULL) {
		status = read_layer_types(r, types);
	} else if (status == BN_OK && has(r, "sliding_window_pattern")) {
		status = u32(r, "sliding_window_pattern", BN_HYPER_MAX_LAYERS, &c->window_period);
	}
	if (status == BN_OK && c->window_period == 1) {
		c->window = 0; /* every layer sees everything */
	}
	return status;
}

/* --- rope ------------------------------------------------------------------------------------ */

/* The word for "no scaling", under its two keys. */
static enum bn_status refuse_rope_scaling(struct reader *r, const json_t *rope, const char *key)
{
	const json_t *type = bn_json_get(rope, "rope_type");
	const char *word;

	if (rope == NULL) {
		return BN_OK;
	}
	type = type != NULL ? type : bn_json_get(rope, "type");
	word = json_string_value(type);
	if (json_is_object(rope) && word != NULL && strcmp(word, "default") == 0) {
		return BN_OK;
	}
	return bn_fail(r->err, BN_E_NOT_SUPPORTED,
		       "'%s' is '%.32s': bnd runs models without rope scaling", key,
		       word != NULL ? word : "set");
}

/* --- numbers --------------------------------------------------------------------------------- */

/* "rope_theta" of an object, if it is there. */
static enum bn_status read_base(struct reader *r, const json_t *object, const char *key,
				double *out)
{
	return bn_json_get(object, key) == NULL ? BN_OK
						: bn_json_real(object, key, 1.0, 1e9, out, r->err);
}

/* Newer files keep base and scaling in one object, those of models with windows one for each kind
 * of layer. */
static enum bn_status read_rope_parameters(struct reader *r, const json_t *parameters)
{
	const json_t *full = bn_json_get(parameters, "full_attention");
	const json_t *local = bn_json_get(parameters, "sliding_attention");
	enum bn_status status;

	if (full == NULL && local == NULL) {
		status = refuse_rope_scaling(r, parameters, "rope_parameters");
		return status == BN_OK ? read_base(r, parameters, "rope_theta", &r->c->rope_base)
				       : status;
	}
	status = refuse_rope_scaling(r, full, "rope_parameters");
	if (status == BN_OK) {
		status = refuse_rope_scaling(r, local, "rope_parameters");
	}
	if (status == BN_OK) {
		status = read_base(r, full, "rope_theta", &r->c->rope_base);
	}
	return status == BN_OK ? read_base(r, local, "rope_theta", &r->c->window_rope_base)
			       : status;
}

static enum bn_status read_rope(struct reader *r)
{
	struct bn_hfconfig *c = r->c;
	enum bn_status status =
		refuse_rope_scaling(r, bn_json_get(r->root, "rope_scaling"), "rope_scaling");
	double partial = 1.0, scalar = (double)c->head_dim;

	/* The defaults of the classes. */
	c->rope_base = c->embeds != NULL && c->embeds->may_slide ? 1000000.0 : 10000.0;
	c->window_rope_base = 10000.0;
	if (status == BN_OK) {
		status = read_rope_parameters(r, bn_json_get(r->root, "rope_parameters"));
	}
	if (status == BN_OK) {
		status = read_base(r, r->root, "rope_theta", &c->rope_base);
	}
	if (status == BN_OK) {
		status = read_base(r, r->root, "rope_local_base_freq", &c->window_rope_base);
	}
	if (status == BN_OK && has(r, "partial_rotary_factor")) {
		status = bn_json_real(r->root, "partial_rotary_factor", 0.0, 1.0, &partial, r->err);
	}
	if (status == BN_OK && partial != 1.0) {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "'partial_rotary_factor' is %g: bnd turns whole heads", partial);
	}
	if (status == BN_OK && has(r, "query_pre_attn_scalar")) {
		status = bn_json_real(r->root, "query_pre_attn_scalar", 1e-6, 1e9, &scalar, r->err);
	}
	if (status == BN_OK && scalar != (double)c->head_dim) {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "'query_pre_attn_scalar' is %g; bnd runs models where it is the "
			       "length of a head, %u",
			       scalar, c->head_dim);
	}
	return status;
}

static enum bn_status read_heads(struct reader *r)
{
	struct bn_hfconfig *c = r->c;
	enum bn_status status = u32(r, "num_attention_heads", BN_HYPER_MAX_HEADS, &c->heads);

	if (status != BN_OK) {
		return status;
	}
	c->kv_heads = c->heads;
	if (has(r, "num_key_value_heads")) {
		status = u32(r, "num_key_value_heads", c->heads, &c->kv_heads);
	}
	if (status != BN_OK) {
		return status;
	}
	if (c->heads % c->kv_heads != 0 || c->heads / c->kv_heads > BN_GROUP_MAX) {
		return bn_fail(
			r->err, BN_E_FORMAT,
			"'num_key_value_heads' is %u: it must divide the %u heads into groups "
			"of at most %u",
			c->kv_heads, c->heads, BN_GROUP_MAX);
	}
	if (has(r, "head_dim")) {
		return u32(r, "head_dim", BN_HEAD_DIM_MAX, &c->head_dim);
	}
	if (c->dim % c->heads != 0) {
		return bn_fail(r->err, BN_E_FORMAT,
			       "'hidden_size' %u is not divisible by 'num_attention_heads' %u",
			       c->dim, c->heads);
	}
	c->head_dim = c->dim / c->heads;
	return BN_OK;
}

static enum bn_status read_dims(struct reader *r)
{
	struct bn_hfconfig *c = r->c;
	enum bn_status status = u32(r, "hidden_size", BN_HYPER_MAX_DIM, &c->dim);

	if (status == BN_OK) {
		status = u32(r, "num_hidden_layers", BN_HYPER_MAX_LAYERS, &c->layers);
	}
	if (status == BN_OK) {
		status = u32(r, "intermediate_size", BN_HYPER_MAX_FFN, &c->ffn);
	}
	if (status == BN_OK) {
		status = u32(r, "vocab_size", BN_HYPER_MAX_VOCAB, &c->vocab);
	}
	if (status == BN_OK) {
		status = u32(r, "max_position_embeddings", BN_HYPER_MAX_CONTEXT, &c->context);
	}
	if (status == BN_OK) {
		status = bn_json_real(r->root, "rms_norm_eps", 1e-30, 0.1, &c->eps, r->err);
	}
	if (status == BN_OK) {
		status = read_heads(r);
	}
	if (status != BN_OK) {
		return status;
	}
	if (c->head_dim < 2 || c->head_dim % 2 != 0 || c->head_dim > BN_HEAD_DIM_MAX ||
	    (uint64_t)c->head_dim * c->heads > BN_HYPER_MAX_DIM) {
		return bn_fail(
			r->err, BN_E_FORMAT,
			"%u heads of %u dimensions: a head has an even number of 2 to %u, all "
			"together at most %d",
			c->heads, c->head_dim, BN_HEAD_DIM_MAX, BN_HYPER_MAX_DIM);
	}
	return BN_OK;
}

static enum bn_status read_activation(struct reader *r)
{
	/* Gemma 3 has the other name, and perhaps both. */
	const char *key = has(r, "hidden_activation") ? "hidden_activation" : "hidden_act";
	const char *word;
	enum bn_status status;

	/* The defaults of the classes of transformers; 1bitLLM's own class has Llama's. */
	r->c->activation = r->c->embeds != NULL ? r->c->embeds->activation : BN_ACT_SILU;
	if (!has(r, key)) {
		const char *type = json_string_value(bn_json_get(r->root, "model_type"));

		if (r->c->bitnet_class && type != NULL && strcmp(type, "bitnet") == 0) {
			r->c->activation = BN_ACT_RELU2;
		}
		return BN_OK;
	}
	status = bn_json_string(r->root, key, &word, r->err);
	if (status == BN_OK && !bn_family_parse_activation(word, strlen(word), &r->c->activation)) {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "'%s' is '%.32s'; bnd knows silu, relu2 and gelu_pytorch_tanh", key,
			       word);
	}
	return status;
}

/* --- quantization ---------------------------------------------------------------------------- */

static enum bn_status read_linear_class(struct reader *r, const json_t *q)
{
	const char *word = "bitlinear";
	enum bn_status status = BN_OK;

	if (bn_json_get(q, "linear_class") != NULL) {
		status = bn_json_string(q, "linear_class", &word, r->err);
	}
	if (status != BN_OK) {
		return status;
	}
	if (strcmp(word, "bitlinear") == 0) {
		r->c->linear = BN_BIT_LINEAR;
	} else if (strcmp(word, "autobitlinear") == 0) {
		r->c->linear = BN_AUTO_BIT_LINEAR;
	} else {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "quantization_config: 'linear_class' is '%.32s'; bitlinear and "
			       "autobitlinear are known",
			       word);
	}
	return BN_OK;
}

static enum bn_status read_quantization(struct reader *r)
{
	const json_t *q = bn_json_get(r->root, "quantization_config");
	const json_t *skipped = bn_json_get(q, "modules_to_not_convert");
	const char *method = json_string_value(bn_json_get(q, "quant_method"));
	enum bn_status status;
	size_t i;
	json_t *module;

	r->c->says_ternary |= json_is_true(bn_json_get(r->root, "is_bitnet_config")) ||
			      json_integer_value(bn_json_get(r->root, "weight_bits")) == 1;
	if (q == NULL) {
		return BN_OK;
	}
	if (!json_is_object(q) || method == NULL) {
		return bn_fail(r->err, BN_E_FORMAT,
			       "'quantization_config' is not an object with a 'quant_method'");
	}
	if (strcmp(method, "bitnet") != 0) {
		return bn_fail(
			r->err, BN_E_NOT_SUPPORTED,
			"the model is quantized by '%.32s'; bnd runs ternary (bitnet) models "
			"only",
			method);
	}
	json_array_foreach(skipped, i, module)
	{
		const char *name = json_string_value(module);

		if (name == NULL ||
		    (strcmp(name, "lm_head") != 0 && strstr(name, "embed_tokens") == NULL)) {
			return bn_fail(
				r->err, BN_E_NOT_SUPPORTED,
				"quantization_config: '%.48s' is not ternary; bnd runs models "
				"whose projections all are",
				name != NULL ? name : "modules_to_not_convert");
		}
	}
	r->c->says_ternary = true;
	status = read_linear_class(r, q);
	if (status == BN_OK && bn_json_get(q, "use_rms_norm") != NULL) {
		status = bn_json_bool(q, "use_rms_norm", &r->c->rms_norm_inputs, r->err);
	}
	return status;
}

/* --- tokens ---------------------------------------------------------------------------------- */

static enum bn_status add_eos(struct reader *r, const json_t *value)
{
	const json_int_t id = json_integer_value(value);
	struct bn_hfconfig *c = r->c;

	if (!json_is_integer(value) || id < 0 || id >= (json_int_t)c->vocab) {
		return bn_fail(
			r->err, BN_E_FORMAT,
			"'eos_token_id' holds %lld; it must be an id below the vocabulary's %u",
			(long long)id, c->vocab);
	}
	for (uint32_t i = 0; i < c->n_eos; i++) {
		if (c->eos[i] == (bn_token)id) {
			return BN_OK;
		}
	}
	if (c->n_eos == BN_HFCONFIG_EOS_MAX) {
		return bn_fail(r->err, BN_E_FORMAT, "'eos_token_id' has more than %d ids",
			       BN_HFCONFIG_EOS_MAX);
	}
	c->eos[c->n_eos++] = (bn_token)id;
	return BN_OK;
}

static enum bn_status read_eos(struct reader *r)
{
	const json_t *value = bn_json_get(r->root, "eos_token_id");
	enum bn_status status = BN_OK;
	size_t i;
	json_t *id;

	if (value != NULL && !json_is_array(value)) {
		return add_eos(r, value);
	}
	json_array_foreach(value, i, id)
	{
		status = add_eos(r, id);
		if (status != BN_OK) {
			break;
		}
	}
	return status;
}

/* -1 and null are how files write "none". */
static enum bn_status read_id(struct reader *r, const char *key, bn_token *out)
{
	const json_t *value = bn_json_get(r->root, key);

	*out = BN_TOKEN_NONE;
	if (value == NULL || (json_is_integer(value) && json_integer_value(value) == -1)) {
		return BN_OK;
	}
	return bn_json_u32(r->root, key, 0, r->c->vocab - 1, out, r->err);
}

/* "who/what", and not a path of somebody's machine. */
static void read_source(struct reader *r)
{
	const char *text = json_string_value(bn_json_get(r->root, "_name_or_path"));
	const char *slash = text != NULL ? strchr(text, '/') : NULL;
	bool plain = slash != NULL && slash != text && slash[1] != '\0' &&
		     strchr(slash + 1, '/') == NULL && strlen(text) < BN_HFCONFIG_TEXT_BYTES;

	for (const char *p = text; plain && *p != '\0'; p++) {
		plain = isalnum((unsigned char)*p) || strchr("/._-", *p) != NULL;
	}
	if (plain && text[0] != '.') {
		snprintf(r->c->source, sizeof(r->c->source), "%s", text);
	}
}

/* --- the files ------------------------------------------------------------------------------- */

static enum bn_status read_config(struct reader *r)
{
	static enum bn_status (*const steps[])(struct reader *) = {
		read_class, refuse_other_graphs, read_dims,         read_windows,
		read_rope,  read_activation,     read_quantization, read_eos,
	};
	enum bn_status status = BN_OK;
	bool tied = false;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && status == BN_OK; i++) {
		status = steps[i](r);
	}
	if (status == BN_OK) {
		status = read_id(r, "bos_token_id", &r->c->bos);
	}
	if (status == BN_OK) {
		status = read_id(r, "pad_token_id", &r->c->pad);
	}
	if (status == BN_OK && has(r, "tie_word_embeddings")) {
		status = bn_json_bool(r->root, "tie_word_embeddings", &tied, r->err);
		r->c->tied = tied ? BN_TIED_YES : BN_TIED_NO;
	}
	read_source(r);
	return status;
}

enum bn_status bn_hfconfig_load(struct bn_hfconfig *out, int dirfd, struct bn_error *err)
{
	struct bn_hfconfig c = { 0 };
	struct reader r = { .c = &c, .err = err };
	json_t *root = NULL;
	enum bn_status status;

	if (faccessat(dirfd, config_name, F_OK, 0) != 0) {
		return bn_fail(err, BN_E_IO,
			       "the folder has no %s: it is not a Hugging Face model folder",
			       config_name);
	}
	status = bn_json_load(&root, dirfd, config_name, err);
	if (status != BN_OK) {
		return status;
	}
	r.root = root;
	status = read_config(&r);
	json_decref(root);
	if (status != BN_OK) {
		return err == NULL ? status : bn_wrap(err, "%s", config_name);
	}
	if (faccessat(dirfd, generation_name, F_OK, 0) == 0) {
		root = NULL;
		status = bn_json_load(&root, dirfd, generation_name, err);
		if (status == BN_OK) {
			r.root = root;
			status = read_eos(&r);
			if (status != BN_OK && err != NULL) {
				bn_wrap(err, "%s", generation_name);
			}
		}
		json_decref(root);
	}
	if (status == BN_OK) {
		*out = c;
	}
	return status;
}
