#include "engine/checkpoint.h"

#include "engine/file.h"
#include "engine/hfconfig.h"
#include "engine/hfpooling.h"
#include "kernels/half.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	README_BYTES = 16 * 1024,
	I2S_BLOCK = 128, /* weights of a block of the file format */
	HASH_CHARACTERS = 40,
};

/* Scales of mean |W| lie near 1, their reciprocals above 10 (design paper, 2.2). */
#define RECIPROCAL_ABOVE 4.0f

static const char *const projection_names[BN_PROJ_COUNT] = {
	[BN_PROJ_Q] = "self_attn.q_proj", [BN_PROJ_K] = "self_attn.k_proj",
	[BN_PROJ_V] = "self_attn.v_proj", [BN_PROJ_O] = "self_attn.o_proj",
	[BN_PROJ_GATE] = "mlp.gate_proj", [BN_PROJ_UP] = "mlp.up_proj",
	[BN_PROJ_DOWN] = "mlp.down_proj",
};

static const char embed_name[] = "embed_tokens.weight";
static const char head_name[] = "lm_head.weight";
static const char norm_name[] = "norm.weight";

const char *bn_checkpoint_projection(const struct bn_checkpoint *c,
				     char name[BN_CHECKPOINT_NAME_BYTES], uint32_t layer,
				     enum bn_projection p, const char *tail)
{
	snprintf(name, BN_CHECKPOINT_NAME_BYTES, "%slayers.%u.%s.%s", c->prefix, layer,
		 projection_names[p], tail);
	return name;
}

struct bn_shape bn_checkpoint_dimensions(const struct bn_checkpoint *c)
{
	return (struct bn_shape){
		.layers = c->layers,
		.dim = c->dim,
		.ffn = c->ffn,
		.heads = c->heads,
		.kv_heads = c->kv_heads,
		.head_dim = c->head_dim,
		.vocab = c->n_vocab,
		.tied = c->tied,
		.sub_norms = c->sub_norms,
	};
}

const char *bn_checkpoint_name(const struct bn_checkpoint *c, char name[BN_CHECKPOINT_NAME_BYTES],
			       const char *tail)
{
	snprintf(name, BN_CHECKPOINT_NAME_BYTES, "%s%s", c->prefix, tail);
	return name;
}

/* --- norms ----------------------------------------------------------------------------------- */

struct norm_list {
	struct bn_checkpoint_norm *at;
	size_t n;
};

static void put_norm(struct norm_list *l, const char *source, const char *target, uint32_t n,
		     bool less_one, enum bn_projection before)
{
	l->at[l->n++] = (struct bn_checkpoint_norm){ source, target, n, less_one, before };
}

/* What BitNet-embedding adds to its backbone is no norm of the backbone's kind: all gains as they
 * are. */
static void put_input_norms(struct norm_list *l, const struct bn_checkpoint *c)
{
	static const char *const names[BN_PROJ_COUNT][2] = {
		[BN_PROJ_Q] = { "self_attn.q_proj.norm", "attn_q_norm_in" },
		[BN_PROJ_K] = { "self_attn.k_proj.norm", "attn_k_norm_in" },
		[BN_PROJ_V] = { "self_attn.v_proj.norm", "attn_v_norm_in" },
		[BN_PROJ_O] = { "self_attn.o_proj.norm", "attn_output_norm_in" },
		[BN_PROJ_GATE] = { "mlp.gate_proj.norm", "ffn_gate_norm_in" },
		[BN_PROJ_UP] = { "mlp.up_proj.norm", "ffn_up_norm_in" },
		[BN_PROJ_DOWN] = { "mlp.down_proj.norm", "ffn_down_norm_in" },
	};

	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		uint32_t rows, cols;

		bn_checkpoint_shape(c, (enum bn_projection)p, &rows, &cols);
		put_norm(l, names[p][0], names[p][1], cols, false, (enum bn_projection)p);
	}
}

size_t bn_checkpoint_norms(const struct bn_checkpoint *c,
			   struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX])
{
	const bool post = c->arch != NULL && c->arch->post_norms == BN_ALWAYS;
	const uint32_t q = c->heads * c->head_dim;
	struct norm_list l = { norms, 0 };

	/* Gemma's norms multiply by 1 + w. */
	put_norm(&l, "input_layernorm", "attn_norm", c->dim, post, BN_PROJ_Q);
	if (c->arch != NULL && c->arch->head_norms == BN_ALWAYS) {
		put_norm(&l, "self_attn.q_norm", "attn_q_norm", c->head_dim, post, BN_PROJ_O);
		put_norm(&l, "self_attn.k_norm", "attn_k_norm", c->head_dim, post, BN_PROJ_O);
	}
	if (c->sub_norms) {
		put_norm(&l, c->attn_sub_norm, "attn_sub_norm", q, false, BN_PROJ_O);
		put_norm(&l, c->ffn_sub_norm, "ffn_sub_norm", c->ffn, false, BN_PROJ_DOWN);
	}
	if (c->arch != NULL && c->arch->input_norms == BN_ALWAYS) {
		put_input_norms(&l, c);
	}
	/* The same words stand for another norm where there are four. */
	if (post) {
		put_norm(&l, "post_attention_layernorm", "post_attention_norm", c->dim, true,
			 BN_PROJ_GATE);
		put_norm(&l, "pre_feedforward_layernorm", "ffn_norm", c->dim, true, BN_PROJ_GATE);
		put_norm(&l, "post_feedforward_layernorm", "post_ffw_norm", c->dim, true,
			 BN_PROJ_COUNT);
	} else {
		put_norm(&l, "post_attention_layernorm", "ffn_norm", c->dim, false, BN_PROJ_GATE);
	}
	return l.n;
}

void bn_checkpoint_shape(const struct bn_checkpoint *c, enum bn_projection p, uint32_t *rows,
			 uint32_t *cols)
{
	const struct bn_shape shape = bn_checkpoint_dimensions(c);

	bn_shape_projection(&shape, p, rows, cols);
}

static bool is_float(const struct bn_safetensors_tensor *t)
{
	return t->type == BN_ST_F32 || t->type == BN_ST_F16 || t->type == BN_ST_BF16;
}

static bool has_shape(const struct bn_safetensors_tensor *t, uint64_t rows, uint64_t cols)
{
	return t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols;
}

static enum bn_status find(const struct bn_checkpoint *c, const char *name,
			   const struct bn_safetensors_tensor **out, struct bn_error *err)
{
	*out = bn_safetensors_find(c->tensors, name);
	return *out != NULL ? BN_OK : bn_fail(err, BN_E_FORMAT, "tensor '%s' is missing", name);
}

/* "[12, 34]" */
static const char *show_shape(const struct bn_safetensors_tensor *t, char text[96])
{
	int n = snprintf(text, 96, "[");

	for (uint32_t i = 0; i < t->n_dims && n < 70; i++) {
		n += snprintf(text + n, 96 - (size_t)n, "%s%llu", i > 0 ? ", " : "",
			      (unsigned long long)t->dims[i]);
	}
	snprintf(text + n, 96 - (size_t)n, "]");
	return text;
}

/* --- dense tensors --------------------------------------------------------------------------- */

static enum bn_status check_table(const struct bn_checkpoint *c, const char *name,
				  struct bn_error *err)
{
	const struct bn_safetensors_tensor *t;
	enum bn_status status = find(c, name, &t, err);
	char shape[96];

	if (status != BN_OK) {
		return status;
	}
	if (!has_shape(t, c->n_vocab, c->dim) || !is_float(t)) {
		return bn_fail(
			err, BN_E_FORMAT,
			"tensor '%s' is %s %s; the configuration calls for [%u, %u] (vocab_size, "
			"hidden_size) in F32, F16 or BF16",
			name, t->dtype, show_shape(t, shape), c->n_vocab, c->dim);
	}
	return BN_OK;
}

static enum bn_status check_norm(const struct bn_checkpoint *c, const char *name, uint32_t n,
				 struct bn_error *err)
{
	const struct bn_safetensors_tensor *t;
	enum bn_status status = find(c, name, &t, err);
	char shape[96];

	if (status != BN_OK) {
		return status;
	}
	if (t->n_dims != 1 || t->dims[0] != n || !is_float(t)) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s' is %s %s; [%u] in F32, F16 or BF16 expected", name,
			       t->dtype, show_shape(t, shape), n);
	}
	return BN_OK;
}

static enum bn_status check_norms(const struct bn_checkpoint *c, uint32_t layer,
				  struct bn_error *err)
{
	struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX];
	const size_t n = bn_checkpoint_norms(c, norms);
	char name[BN_CHECKPOINT_NAME_BYTES];
	enum bn_status status = BN_OK;

	for (size_t i = 0; i < n && status == BN_OK; i++) {
		snprintf(name, sizeof(name), "%slayers.%u.%s.weight", c->prefix, layer,
			 norms[i].source);
		status = check_norm(c, name, norms[i].n, err);
	}
	return status;
}

/* --- projections ----------------------------------------------------------------------------- */

static float value_at(const unsigned char *p, enum bn_safetensors_type type)
{
	const uint16_t half = (uint16_t)(p[0] | p[1] << 8);

	if (type == BN_ST_F16) {
		return bn_half_to_float(half);
	}
	if (type == BN_ST_BF16) {
		return bn_bf16_to_float(half);
	}
	return bn_bits_float((uint32_t)half | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

enum bn_status bn_checkpoint_scale(const struct bn_checkpoint *c, uint32_t layer,
				   enum bn_projection p, float *out, struct bn_error *err)
{
	const struct bn_safetensors_tensor *t;
	char name[BN_CHECKPOINT_NAME_BYTES];
	unsigned char bytes[4] = { 0 };
	enum bn_status status;

	bn_checkpoint_projection(c, name, layer, p, "weight_scale");
	status = find(c, name, &t, err);
	if (status != BN_OK) {
		return status;
	}
	if (t->elements != 1) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"tensor '%s' has %llu scales: bnd runs models with one scale for each "
			"matrix, not for groups or rows",
			name, (unsigned long long)t->elements);
	}
	if (!is_float(t)) {
		return bn_fail(err, BN_E_FORMAT, "tensor '%s' is %s; F32, F16 or BF16 expected",
			       name, t->dtype);
	}
	status = bn_safetensors_read(c->tensors, t, 0, bytes, bn_safetensors_width(t->type), err);
	if (status != BN_OK) {
		return status;
	}

	const float scale = value_at(bytes, t->type);

	/* Its reciprocal must be a number as well. */
	if (!isfinite(scale) || scale < 1e-30f || scale > 1e30f) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s' is %g; a scale is a finite number above zero", name,
			       (double)scale);
	}
	*out = scale;
	return BN_OK;
}

static enum bn_status check_packed(const struct bn_safetensors_tensor *t, uint32_t rows,
				   uint32_t cols, struct bn_error *err)
{
	char shape[96];

	if (rows % 4 != 0) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s': %u rows do not divide into the four of a packed byte",
			       t->name, rows);
	}
	if (t->type != BN_ST_U8) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s' is %s, though layer 0 is packed: packed and float "
			       "projections are mixed",
			       t->name, t->dtype);
	}
	if (cols % 4 == 0 && has_shape(t, rows, cols / 4)) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"tensor '%s' is %s: packed along the columns; packed along the rows, [%u, "
			"%u], as the transformers library writes it, is expected",
			t->name, show_shape(t, shape), rows / 4, cols);
	}
	if (!has_shape(t, rows / 4, cols)) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s' is %s; packed weights of %u x %u are [%u, %u]", t->name,
			       show_shape(t, shape), rows, cols, rows / 4, cols);
	}
	return BN_OK;
}

static enum bn_status check_floats(const struct bn_safetensors_tensor *t, uint32_t rows,
				   uint32_t cols, struct bn_error *err)
{
	char shape[96];

	if (!is_float(t)) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "tensor '%s' is %s; F32, F16, BF16, or packed U8 in every layer "
			       "expected",
			       t->name, t->dtype);
	}
	if (!has_shape(t, rows, cols)) {
		return bn_fail(err, BN_E_FORMAT, "tensor '%s' is %s; [%u, %u] expected", t->name,
			       show_shape(t, shape), rows, cols);
	}
	return BN_OK;
}

static enum bn_status check_projection(const struct bn_checkpoint *c, uint32_t layer,
				       enum bn_projection p, float *scale, struct bn_error *err)
{
	const struct bn_safetensors_tensor *t;
	char name[BN_CHECKPOINT_NAME_BYTES];
	uint32_t rows, cols;
	enum bn_status status;

	bn_checkpoint_shape(c, p, &rows, &cols);
	status = find(c, bn_checkpoint_projection(c, name, layer, p, "weight"), &t, err);
	if (status != BN_OK) {
		return status;
	}
	if ((uint64_t)rows * cols % I2S_BLOCK != 0) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"tensor '%s': %u x %u weights are no multiple of %d, the block of i2_s",
			name, rows, cols, I2S_BLOCK);
	}
	if (c->form == BN_FORM_FLOAT) {
		return check_floats(t, rows, cols, err);
	}
	status = check_packed(t, rows, cols, err);
	return status == BN_OK ? bn_checkpoint_scale(c, layer, p, scale, err) : status;
}

static int by_value(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* The direction of the scales, by the class and by their size: they must agree. */
static enum bn_status judge_scales(struct bn_checkpoint *c, enum bn_linear_class linear,
				   float *scales, size_t n, struct bn_error *err)
{
	bool reciprocal;

	qsort(scales, n, sizeof(*scales), by_value);
	c->scale_median = scales[n / 2];
	reciprocal = c->scale_median > RECIPROCAL_ABOVE;
	c->divide = linear != BN_AUTO_BIT_LINEAR;
	if (reciprocal != c->divide) {
		return bn_fail(
			err, BN_E_FORMAT,
			"the weight scales (median %g) look like %s, but linear_class %s %s by "
			"them: converting would give fluent nonsense; the folder mixes two "
			"conventions",
			(double)c->scale_median,
			reciprocal ? "reciprocals (1 / mean |W|)" : "mean |W|",
			c->divide ? "'bitlinear'" : "'autobitlinear'",
			c->divide ? "divides" : "multiplies");
	}
	return BN_OK;
}

static enum bn_status check_layers(struct bn_checkpoint *c, enum bn_linear_class linear,
				   struct bn_error *err)
{
	const size_t n = (size_t)c->layers * BN_PROJ_COUNT;
	float *scales = calloc(n, sizeof(*scales));
	enum bn_status status = BN_OK;

	if (scales == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for %zu scales", n);
	}
	for (uint32_t l = 0; l < c->layers && status == BN_OK; l++) {
		status = check_norms(c, l, err);
		for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK; p++) {
			status = check_projection(c, l, (enum bn_projection)p,
						  &scales[l * BN_PROJ_COUNT + p], err);
		}
	}
	if (status == BN_OK && c->form == BN_FORM_PACKED) {
		status = judge_scales(c, linear, scales, n, err);
	}
	free(scales);
	return status;
}

/* --- tensors nobody asked for ---------------------------------------------------------------- */

static bool in_layer(const struct bn_checkpoint *c, const char *part)
{
	struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX];
	const size_t n_norms = bn_checkpoint_norms(c, norms);
	char name[BN_CHECKPOINT_NAME_BYTES];

	for (size_t i = 0; i < n_norms; i++) {
		snprintf(name, sizeof(name), "%s.weight", norms[i].source);
		if (strcmp(part, name) == 0) {
			return true;
		}
	}
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		const size_t n = strlen(projection_names[p]);

		if (strncmp(part, projection_names[p], n) == 0) {
			return strcmp(part + n, ".weight") == 0 ||
			       (c->form == BN_FORM_PACKED &&
				strcmp(part + n, ".weight_scale") == 0);
		}
	}
	return false;
}

static bool ends_in(const char *name, const char *tail)
{
	const size_t n = strlen(name), k = strlen(tail);

	return n >= k && strcmp(name + n - k, tail) == 0;
}

static bool is_used(const struct bn_checkpoint *c, const char *name)
{
	const size_t n = strlen(c->prefix);
	unsigned layer;
	int used = 0;

	if (strcmp(name, head_name) == 0) {
		return true;
	}
	if (strncmp(name, c->prefix, n) != 0) {
		return ends_in(name, "rotary_emb.inv_freq");
	}
	name += n;
	if (strcmp(name, embed_name) == 0 || strcmp(name, norm_name) == 0) {
		return true;
	}
	/* A table of angles that old files carry; it follows from the configuration. */
	if (ends_in(name, "rotary_emb.inv_freq")) {
		return true;
	}
	/* Five digits do not overflow. NOLINTNEXTLINE(cert-err34-c) */
	return sscanf(name, "layers.%5u.%n", &layer, &used) == 1 && used > 0 && layer < c->layers &&
	       in_layer(c, name + used);
}

static enum bn_status refuse_unused(const struct bn_checkpoint *c, struct bn_error *err)
{
	for (size_t i = 0; i < bn_safetensors_count(c->tensors); i++) {
		const char *name = bn_safetensors_at(c->tensors, i)->name;
		const char *why = "it belongs to no part of the graph of this configuration";

		if (is_used(c, name)) {
			continue;
		}
		if (ends_in(name, ".bias")) {
			why = "bnd runs models without biases";
		} else if (strstr(name, "expert") != NULL || strstr(name, "moe") != NULL) {
			why = "bnd does not run mixtures of experts";
		} else if (ends_in(name, ".weight_scale")) {
			why = "a scale for weights that are not packed";
		} else if (ends_in(name, ".qweight") || ends_in(name, ".qzeros") ||
			   ends_in(name, ".scales")) {
			why = "bnd runs ternary models, not ones quantized in groups";
		}
		return bn_fail(err, BN_E_NOT_SUPPORTED, "tensor '%.128s': %s", name, why);
	}
	return BN_OK;
}

/* --- the graph ------------------------------------------------------------------------------- */

/* Two spellings of the norms in front of o_proj and down_proj: Microsoft's and 1bitLLM's. */
static void find_sub_norms(struct bn_checkpoint *c, bool bitnet_class)
{
	static const char *const names[][2] = {
		{ "self_attn.attn_sub_norm", "mlp.ffn_sub_norm" },
		{ "self_attn.inner_attn_ln", "mlp.ffn_layernorm" },
	};
	char name[BN_CHECKPOINT_NAME_BYTES];

	c->sub_norms = bitnet_class;
	c->attn_sub_norm = names[0][0];
	c->ffn_sub_norm = names[0][1];
	for (size_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "model.layers.0.%s.weight", names[i][0]);
		if (bn_safetensors_find(c->tensors, name) != NULL) {
			c->sub_norms = true;
			c->attn_sub_norm = names[i][0];
			c->ffn_sub_norm = names[i][1];
		}
	}
}

static enum bn_status check_input_norms(const struct bn_checkpoint *c, struct bn_error *err)
{
	char name[BN_CHECKPOINT_NAME_BYTES];

	bn_checkpoint_projection(c, name, 0, BN_PROJ_Q, "rms_norm.weight");
	if (bn_safetensors_find(c->tensors, name) == NULL) {
		return bn_fail(err, BN_E_FORMAT,
			       "'use_rms_norm' is true, but tensor '%s' is missing", name);
	}
	return bn_fail(err, BN_E_NOT_SUPPORTED,
		       "'use_rms_norm' is true: bnd does not run models with a norm in front of "
		       "every projection");
}

/* A plain backbone has none of them; the projections are then ordinary weights. */
static enum bn_status check_embeds(const struct bn_checkpoint *c, struct bn_error *err)
{
	char name[BN_CHECKPOINT_NAME_BYTES];

	bn_checkpoint_projection(c, name, 0, BN_PROJ_Q, "norm.weight");
	if (bn_safetensors_find(c->tensors, name) == NULL) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "tensor '%s' is missing: of models on %s bnd runs BitNet-embedding, "
			       "which has a norm in front of every projection, and no others",
			       name, c->arch->name);
	}
	return BN_OK;
}

static void choose_architecture(struct bn_checkpoint *c)
{
	const char *name = "llama";

	if (c->arch != NULL) {
		name = c->arch->name;
	} else if (c->sub_norms) {
		name = c->activation == BN_ACT_RELU2 ? "bitnet-b1.58" : "bitnet";
	}
	c->arch = bn_family_architecture(name, strlen(name));
}

/* By its dimensions; of several models that share them, the one the folder or else config.json
 * names. Asked before a name is chosen, and again with it. */
static void recognise(struct bn_checkpoint *c)
{
	const struct bn_shape shape = bn_checkpoint_dimensions(c);
	const char *const names[] = { c->name, c->source };
	bool certain = false;

	for (size_t i = 0; i < 2 && !certain; i++) {
		const struct bn_str name = { names[i], strlen(names[i]) };

		c->known = bn_guide_recognise(&shape, c->arch->name, name, &certain);
	}
}

static enum bn_status check_tensors(struct bn_checkpoint *c, const struct bn_hfconfig *config,
				    struct bn_error *err)
{
	char name[BN_CHECKPOINT_NAME_BYTES];
	const struct bn_safetensors_tensor *first;
	const bool has_head = bn_safetensors_find(c->tensors, head_name) != NULL;
	enum bn_status status;

	c->prefix = bn_safetensors_find(c->tensors, embed_name) != NULL ? "" : "model.";
	status = find(c, bn_checkpoint_projection(c, name, 0, BN_PROJ_Q, "weight"), &first, err);

	if (status != BN_OK) {
		return status;
	}
	c->form = first->type == BN_ST_U8 ? BN_FORM_PACKED : BN_FORM_FLOAT;
	c->tied = config->embeds != NULL || config->tied == BN_TIED_YES ||
		  (config->tied == BN_TIED_UNKNOWN && !has_head);
	c->arch = config->embeds;
	if (config->embeds != NULL) {
		status = check_embeds(c, err);
		c->may_ternarize = true; /* trained for it: the norms say so */
	} else {
		find_sub_norms(c, config->bitnet_class);
		status = config->rms_norm_inputs ? check_input_norms(c, err) : BN_OK;
	}
	if (status == BN_OK) {
		status = check_table(c, bn_checkpoint_name(c, name, embed_name), err);
	}
	if (status == BN_OK && !c->tied) {
		status = check_table(c, head_name, err);
	}
	if (status == BN_OK) {
		status = check_norm(c, bn_checkpoint_name(c, name, norm_name), c->dim, err);
	}
	if (status == BN_OK) {
		status = check_layers(c, config->linear, err);
	}
	return status == BN_OK ? refuse_unused(c, err) : status;
}

/* --- words ----------------------------------------------------------------------------------- */

/* "license: mit" in the front matter of the model card. */
static void read_licence(struct bn_checkpoint *c)
{
	struct bn_file file;
	char text[README_BYTES + 1] = "";
	char *line, *end;

	if (faccessat(c->dirfd, "README.md", F_OK, 0) != 0 ||
	    bn_file_open(&file, c->dirfd, "README.md", false, NULL) != BN_OK) {
		return;
	}

	const size_t n = file.size < README_BYTES ? (size_t)file.size : README_BYTES;

	if (bn_file_read(&file, 0, text, n, NULL) != BN_OK) {
		text[0] = '\0';
	}
	bn_file_close(&file);
	if (strncmp(text, "---\n", 4) != 0 || (end = strstr(text + 4, "\n---")) == NULL) {
		return;
	}
	*end = '\0';
	line = strstr(text, "\nlicense_name:");
	line = line != NULL ? line : strstr(text, "\nlicense:");
	if (line != NULL && sscanf(line, "%*[^:]: %127[A-Za-z0-9.+_-]", c->licence) != 1) {
		c->licence[0] = '\0';
	}
}

/* The folder's name, unless it is a hash, as in the cache of the hub. */
static void choose_name(struct bn_checkpoint *c, const char *path)
{
	char *real = realpath(path, NULL);
	const char *base = real != NULL && strrchr(real, '/') != NULL ? strrchr(real, '/') + 1 : "";
	const char *slash = strchr(c->source, '/');

	if (*base != '\0' && (strlen(base) != HASH_CHARACTERS ||
			      strspn(base, "0123456789abcdef") != HASH_CHARACTERS)) {
		snprintf(c->name, sizeof(c->name), "%.100s", base);
	} else if (slash != NULL) {
		snprintf(c->name, sizeof(c->name), "%.100s", slash + 1);
	} else {
		snprintf(c->name, sizeof(c->name), "%s",
			 c->known != NULL ? c->known->name : "model");
	}
	free(real);
}

/*
 * What is appended to every text must be the end that is written first. Qwen3's tokenizer names the
 * end of an answer there, but BitNet-embedding was trained with <|endoftext|> behind every text,
 * which is what its last token pools; so that is the end where the folder appends nothing.
 */
static void settle_vector_ends(struct bn_checkpoint *c)
{
	static const char qwen_end[] = "<|endoftext|>";
	const bn_token end = bn_hfvocab_find(&c->vocab, qwen_end);

	if (c->vocab.kind == BN_TOKENIZER_BPE && !c->vocab.add_eos && end != BN_TOKEN_NONE) {
		c->vocab.eos = end;
		c->vocab.add_eos = true;
	}
	if (c->vocab.eos != BN_TOKEN_NONE) {
		c->eos[c->n_eos++] = c->vocab.eos;
	}
}

static enum bn_status read_pooling(struct bn_checkpoint *c, struct bn_error *err)
{
	const enum bn_status status = bn_hfpooling_load(&c->pooling, c->dirfd, err);

	if (status == BN_OK && c->pooling == BN_POOL_NONE) {
		c->pooling = BN_POOL_LAST;
		snprintf(c->notice, sizeof(c->notice),
			 "the folder has no modules.json; the last token is pooled, as the card of "
			 "the model says");
	}
	return status;
}

/* The files' ids, joined: whatever one of them calls an end ends an answer. */
static void join_ends(struct bn_checkpoint *c, const struct bn_hfconfig *config)
{
	for (uint32_t i = 0; i < config->n_eos && c->n_eos < BN_CHECKPOINT_EOS_MAX; i++) {
		c->eos[c->n_eos++] = config->eos[i];
	}
	for (uint32_t i = 0; i < c->n_eos; i++) {
		if (c->eos[i] == c->vocab.eos) {
			return;
		}
	}
	if (c->vocab.eos != BN_TOKEN_NONE && c->n_eos < BN_CHECKPOINT_EOS_MAX) {
		c->eos[c->n_eos++] = c->vocab.eos;
	}
}

static enum bn_status fill(struct bn_checkpoint *c, const char *path,
			   const struct bn_checkpoint_options *options, struct bn_error *err)
{
	struct bn_hfconfig config;
	enum bn_status status;

	c->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dirfd < 0) {
		return bn_fail(err, BN_E_IO, "cannot open the folder: %s",
			       errno == ENOTDIR ? "it is not a folder" : strerror(errno));
	}
	status = bn_hfconfig_load(&config, c->dirfd, err);
	if (status != BN_OK) {
		return status;
	}
	c->layers = config.layers;
	c->dim = config.dim;
	c->ffn = config.ffn;
	c->heads = config.heads;
	c->kv_heads = config.kv_heads;
	c->head_dim = config.head_dim;
	c->n_vocab = config.vocab;
	c->context = config.context;
	c->eps = config.eps;
	c->rope_base = config.rope_base;
	c->window = config.window;
	c->window_period = config.window_period;
	c->window_rope_base = config.window_rope_base;
	c->activation = config.activation;
	c->may_ternarize = config.says_ternary || (options != NULL && options->assume_latent);
	memcpy(c->source, config.source, sizeof(c->source));
	status = bn_safetensors_open(&c->tensors, c->dirfd, err);
	if (status == BN_OK) {
		status = check_tensors(c, &config, err);
	}
	if (status != BN_OK) {
		return status;
	}
	choose_architecture(c);
	recognise(c);
	choose_name(c, path);
	recognise(c);
	read_licence(c);
	status = bn_hfvocab_load(&c->vocab, c->dirfd, c->n_vocab, err);
	if (status == BN_OK) {
		c->vocab.bos = c->vocab.bos != BN_TOKEN_NONE ? c->vocab.bos : config.bos;
		c->vocab.pad = c->vocab.pad != BN_TOKEN_NONE ? c->vocab.pad : config.pad;
		if (c->arch->embeds) {
			settle_vector_ends(c);
		} else {
			join_ends(c, &config);
		}
	}
	return status == BN_OK && c->arch->embeds ? read_pooling(c, err) : status;
}

enum bn_status bn_checkpoint_open(struct bn_checkpoint *out, const char *path,
				  const struct bn_checkpoint_options *options, struct bn_error *err)
{
	struct bn_checkpoint c = { .dirfd = -1 };
	enum bn_status status = fill(&c, path, options, err);

	if (status != BN_OK) {
		bn_checkpoint_finish(&c);
		return status;
	}
	*out = c;
	return BN_OK;
}

void bn_checkpoint_finish(struct bn_checkpoint *c)
{
	bn_safetensors_free(c->tensors);
	bn_hfvocab_finish(&c->vocab);
	if (c->dirfd > 0) {
		close(c->dirfd);
	}
	memset(c, 0, sizeof(*c));
	c->dirfd = -1;
}
