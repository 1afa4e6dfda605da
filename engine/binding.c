#include "engine/binding.h"

#include "engine/guide.h"
#include "engine/tiles.h"
#include "proto/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NAME_BYTES = 64,
	KERNELS_MAX = 32,
	/* attn_norm, ffn_norm; of each head; post; sub or input. */
	NORMS_MAX = 2 + 2 + 2 + BN_PROJ_COUNT,
};

/* A binding in the making. */
struct binder {
	struct bn_binding *b;
	struct bn_error *err;
	const char *const *only;
	const struct bn_guide_model *known; /* the published model it is, or NULL */
	struct {
		const struct bn_kernel *kernel;
		bool sound;
	} tested[KERNELS_MAX];
	uint32_t n_tested;
};

/* ---- one tensor ---------------------------------------------------------------------------- */

static const char *const projection_names[BN_PROJ_COUNT] = {
	[BN_PROJ_Q] = "attn_q",      [BN_PROJ_K] = "attn_k",      [BN_PROJ_V] = "attn_v",
	[BN_PROJ_O] = "attn_output", [BN_PROJ_GATE] = "ffn_gate", [BN_PROJ_UP] = "ffn_up",
	[BN_PROJ_DOWN] = "ffn_down",
};

static void projection_shape(const struct bn_hyper *h, enum bn_projection p, uint32_t *rows,
			     uint32_t *cols)
{
	const struct bn_shape shape = bn_hyper_shape(h);

	bn_shape_projection(&shape, p, rows, cols);
}

static bool dense_type(enum bn_ggml_type type, enum bn_dense_type *out)
{
	switch (type) {
	case BN_GGML_F32:
		*out = BN_DENSE_F32;
		return true;
	case BN_GGML_F16:
		*out = BN_DENSE_F16;
		return true;
	case BN_GGML_BF16:
		*out = BN_DENSE_BF16;
		return true;
	case BN_GGML_Q8_0:
		*out = BN_DENSE_Q8_0;
		return true;
	case BN_GGML_Q6_K:
		*out = BN_DENSE_Q6_K;
		return true;
	default:
		return false;
	}
}

/* The tensor, which must be [rows, cols]. */
static enum bn_status find(const struct binder *w, const char *name, uint32_t n_dims, uint32_t cols,
			   uint32_t rows, const struct bn_gguf_tensor **out)
{
	const struct bn_gguf_tensor *t = bn_gguf_tensor(w->b->gguf, name);

	if (t == NULL) {
		return bn_fail(w->err, BN_E_FORMAT, "tensor '%s' is missing", name);
	}
	if (t->n_dims < n_dims || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 ||
	    t->dims[3] != 1) {
		return bn_fail(w->err, BN_E_FORMAT,
			       "tensor '%s' is %llu x %llu (%u dimensions), the hyper-parameters "
			       "call for %u x %u",
			       name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
			       t->n_dims, cols, rows);
	}
	*out = t;
	return BN_OK;
}

static struct bn_item *new_item(struct binder *w, const struct bn_gguf_tensor *t,
				enum bn_role_in_graph role, uint32_t layer)
{
	struct bn_item *item = &w->b->items[w->b->n_items++];

	*item = (struct bn_item){
		.tensor = t,
		.role = role,
		.layer = layer,
		.rows = (uint32_t)t->dims[1],
		.cols = (uint32_t)t->dims[0],
	};
	w->b->parameters += (uint64_t)item->rows * item->cols;
	return item;
}

static enum bn_status bind_norm(struct binder *w, const char *name, uint32_t n, uint32_t layer,
				enum bn_role_in_graph role, enum bn_projection p)
{
	const struct bn_gguf_tensor *t = NULL;
	const enum bn_status status = find(w, name, 1, n, 1, &t);
	enum bn_dense_type type;

	if (status != BN_OK) {
		return status;
	}
	if (!dense_type(t->type, &type) || type == BN_DENSE_Q8_0 || type == BN_DENSE_Q6_K) {
		return bn_fail(w->err, BN_E_NOT_SUPPORTED,
			       "tensor '%s' is %s; norms are f32, f16 or bf16", name,
			       bn_ggml_name(t->type));
	}

	struct bn_item *item = new_item(w, t, role, layer);

	item->type = type;
	item->proj = p;
	item->bytes = (uint64_t)n * sizeof(float);
	return BN_OK;
}

static enum bn_status bind_rows(struct binder *w, const char *name, enum bn_role_in_graph role,
				const char **type_name)
{
	const struct bn_hyper *h = &w->b->hyper;
	const struct bn_gguf_tensor *t = NULL;
	const enum bn_status status = find(w, name, 2, h->dim, h->vocab, &t);
	enum bn_dense_type type;

	if (status != BN_OK) {
		return status;
	}
	*type_name = bn_ggml_name(t->type);
	if (!dense_type(t->type, &type)) {
		return bn_fail(w->err, BN_E_KERNEL,
			       "tensor '%s' is %s; embedding and output must be f32, f16, bf16, "
			       "q8_0 or q6_k: bn-convert --embedding q8_0 requantizes them",
			       name, *type_name);
	}

	struct bn_item *item = new_item(w, t, role, 0);

	item->type = type;
	item->bytes = (uint64_t)bn_dense_row_bytes(type, h->dim) * h->vocab;
	if (item->bytes != t->nbytes) {
		return bn_fail(w->err, BN_E_FORMAT,
			       "tensor '%s': rows of %u do not divide into blocks of %s", name,
			       h->dim, *type_name);
	}
	return BN_OK;
}

/* ---- kernels ------------------------------------------------------------------------------- */

/* Multiplies a known matrix with the kernel and its oracle, once per kernel. */
static bool is_sound(struct binder *w, const struct bn_kernel *k)
{
	for (uint32_t i = 0; i < w->n_tested; i++) {
		if (w->tested[i].kernel == k) {
			return w->tested[i].sound;
		}
	}
	bn_assert(w->n_tested < KERNELS_MAX);
	w->tested[w->n_tested].kernel = k;
	w->tested[w->n_tested].sound = bn_kernel_self_test(k);
	return w->tested[w->n_tested++].sound;
}

static bool can_use(struct binder *w, const struct bn_kernel *k, uint32_t rows, uint32_t cols)
{
	return k != NULL && bn_guide_runs(w->known, w->b->cpu, k, rows, cols) && is_sound(w, k);
}

/* The best kernel that `word` stands for: one by its name, or any of a family ("tl2", "i2_s"), or
 * any at all ("auto"). NULL when none of them can be used. */
static const struct bn_kernel *best_of(struct binder *w, const char *word, uint32_t rows,
				       uint32_t cols)
{
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);
	const bool any = strcmp(word, "auto") == 0;
	enum bn_guide_kernel family;

	if (strchr(word, '.') != NULL) {
		const struct bn_kernel *k = bn_kernel_find(word);

		return can_use(w, k, rows, cols) ? k : NULL;
	}
	if (!any && !bn_guide_kernel_of(word, &family)) {
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		enum bn_guide_kernel own;

		if ((any || (bn_guide_kernel_of(all[i]->name, &own) && own == family)) &&
		    can_use(w, all[i], rows, cols)) {
			return all[i];
		}
	}
	return NULL;
}

static const struct bn_kernel *best_kernel(struct binder *w, uint32_t rows, uint32_t cols)
{
	const struct bn_kernel *found = NULL;

	if (w->only == NULL) {
		return best_of(w, "auto", rows, cols);
	}
	for (size_t i = 0; found == NULL && w->only[i] != NULL; i++) {
		found = best_of(w, w->only[i], rows, cols);
	}
	return found;
}

static enum bn_status choose_kernel(struct binder *w, enum bn_projection p)
{
	const struct bn_shape shape = bn_hyper_shape(&w->b->hyper);
	char list[256], asked[96] = "";
	uint32_t rows, cols;

	bn_shape_projection(&shape, p, &rows, &cols);
	w->b->kernel[p] = best_kernel(w, rows, cols);
	if (w->b->kernel[p] != NULL) {
		return BN_OK;
	}
	for (size_t i = 0; w->only != NULL && w->only[i] != NULL; i++) {
		const size_t n = strlen(asked);

		snprintf(asked + n, sizeof(asked) - n, "%s%s", i > 0 ? ", " : "", w->only[i]);
	}
	return bn_fail(w->err, BN_E_KERNEL,
		       "%s: none of the kernels asked for (%s) may multiply it on this %s "
		       "processor; what works here: %s",
		       w->known != NULL ? w->known->name : "this model",
		       w->only != NULL ? asked : "auto",
		       bn_guide_processor_word(bn_guide_processor(w->b->cpu)),
		       bn_guide_list(w->known, &shape, w->b->cpu, list, sizeof(list)));
}

/* The one scale of types that have one. */
static enum bn_status read_scale(const struct binder *w, const char *name,
				 const struct bn_gguf_tensor *t, float *scale)
{
	const uint64_t tail = t->nbytes - BN_CODEC_TAIL;
	enum bn_status status = bn_gguf_read(w->b->gguf, t, tail, scale, sizeof(*scale), w->err);

	if (status == BN_OK) {
		status = bn_codec_check_scale(*scale, w->err);
		if (status != BN_OK) {
			bn_wrap(w->err, "tensor '%s'", name);
		}
	}
	return status;
}

static enum bn_status refuse_type(const struct binder *w, const char *name, enum bn_ggml_type type)
{
	if (type == BN_GGML_IQ2_BN_R4) {
		return bn_fail(w->err, BN_E_KERNEL,
			       "tensor '%s' is iq2_bn_r4, whose rows are interleaved for one kind "
			       "of processor: use the iq2_bn or i2_s file it was made from",
			       name);
	}
	return bn_fail(w->err, BN_E_KERNEL,
		       "tensor '%s' is %s; bnd multiplies ternary weights (i2_s, tl1, tl2, tq1_0, "
		       "tq2_0, iq1_bn, iq2_bn): use such a file of this model or convert it",
		       name, bn_ggml_name(type));
}

static enum bn_status bind_trits(struct binder *w, const char *name, uint32_t layer,
				 enum bn_projection p)
{
	const struct bn_gguf_tensor *t = NULL;
	const struct bn_codec *codec;
	struct bn_tiles tiles;
	enum bn_status status;
	uint32_t rows, cols;
	float scale = 0.0f;

	projection_shape(&w->b->hyper, p, &rows, &cols);
	status = find(w, name, 2, cols, rows, &t);
	if (status != BN_OK) {
		return status;
	}
	codec = bn_codec_find(t->type);
	if (codec == NULL) {
		return refuse_type(w, name, t->type);
	}
	status = bn_tiles_settle(&tiles, w->b->gguf, t->type, rows, cols, NULL, w->err);
	if (status != BN_OK) {
		bn_wrap(w->err, "tensor '%s'", name);
		return status;
	}
	if (codec->tailed) {
		status = read_scale(w, name, t, &scale);
	}
	if (status != BN_OK) {
		return status;
	}

	struct bn_item *item = new_item(w, t, BN_ITEM_PROJ, layer);

	item->proj = p;
	item->codec = codec;
	item->tiles = tiles;
	item->scale = scale;
	item->bytes = w->b->kernel[p]->packed_bytes(rows, cols);
	w->b->trits += (uint64_t)rows * cols;
	return BN_OK;
}

/* ---- the graph ----------------------------------------------------------------------------- */

static const char *layer_name(char name[NAME_BYTES], uint32_t layer, const char *part)
{
	snprintf(name, NAME_BYTES, "blk.%u.%s.weight", layer, part);
	return name;
}

static enum bn_status bind_norms(struct binder *w, uint32_t l)
{
	const struct bn_binding *b = w->b;
	const struct bn_hyper *h = &b->hyper;
	const uint32_t q = h->heads * h->head_dim;
	const struct {
		const char *part;
		uint32_t n;
		enum bn_role_in_graph role;
		enum bn_projection proj;
		bool wanted;
	} norms[] = {
		{ "attn_norm", h->dim, BN_ITEM_ATTN_NORM, 0, true },
		{ "ffn_norm", h->dim, BN_ITEM_FFN_NORM, 0, true },
		{ "attn_sub_norm", q, BN_ITEM_IN_NORM, BN_PROJ_O, b->sub_norms },
		{ "ffn_sub_norm", h->ffn, BN_ITEM_IN_NORM, BN_PROJ_DOWN, b->sub_norms },
		{ "attn_q_norm", h->head_dim, BN_ITEM_Q_NORM, 0, b->head_norms },
		{ "attn_k_norm", h->head_dim, BN_ITEM_K_NORM, 0, b->head_norms },
		{ "post_attention_norm", h->dim, BN_ITEM_POST_ATTN_NORM, 0, b->post_norms },
		{ "post_ffw_norm", h->dim, BN_ITEM_POST_FFN_NORM, 0, b->post_norms },
	};
	char name[NAME_BYTES], part[NAME_BYTES / 2];
	enum bn_status status = BN_OK;

	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]) && status == BN_OK; i++) {
		if (norms[i].wanted) {
			status = bind_norm(w, layer_name(name, l, norms[i].part), norms[i].n, l,
					   norms[i].role, norms[i].proj);
		}
	}
	for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK && b->input_norms; p++) {
		uint32_t rows, cols;

		projection_shape(h, (enum bn_projection)p, &rows, &cols);
		snprintf(part, sizeof(part), "%s_norm_in", projection_names[p]);
		status = bind_norm(w, layer_name(name, l, part), cols, l, BN_ITEM_IN_NORM,
				   (enum bn_projection)p);
	}
	return status;
}

static enum bn_status bind_layer(struct binder *w, uint32_t l)
{
	char name[NAME_BYTES];
	enum bn_status status = bind_norms(w, l);

	for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK; p++) {
		status = bind_trits(w, layer_name(name, l, projection_names[p]), l,
				    (enum bn_projection)p);
	}
	return status;
}

static int by_offset(const void *a, const void *b)
{
	const struct bn_item *x = a, *y = b;

	return (x->tensor->offset > y->tensor->offset) - (x->tensor->offset < y->tensor->offset);
}

static bool ends_in(const struct bn_str *s, const char *tail)
{
	const size_t n = strlen(tail);

	return s->n >= n && memcmp(s->p + s->n - n, tail, n) == 0;
}

/* A tensor of a layer that we do not use is a graph that we do not compute: silence would be
 * fluent nonsense. Items are sorted. */
static enum bn_status refuse_unused(const struct binder *w)
{
	const struct bn_binding *b = w->b;
	const size_t n = bn_gguf_tensor_count(b->gguf);

	for (size_t i = 0; i < n; i++) {
		const struct bn_gguf_tensor *t = bn_gguf_tensor_at(b->gguf, i);
		const struct bn_item key = { .tensor = t };
		const int shown = (int)(t->name.n < 64 ? t->name.n : 64);

		if (bsearch(&key, b->items, b->n_items, sizeof(b->items[0]), by_offset) != NULL) {
			continue;
		}
		if (ends_in(&t->name, ".bias")) {
			return bn_fail(w->err, BN_E_NOT_SUPPORTED,
				       "tensor '%.*s': bnd runs models without biases", shown,
				       t->name.p);
		}
		if (t->name.n > 4 && memcmp(t->name.p, "blk.", 4) == 0) {
			return bn_fail(w->err, BN_E_NOT_SUPPORTED,
				       "tensor '%.*s' belongs to no layer of architecture %s with "
				       "%u layers: this is another model graph",
				       shown, t->name.p, b->hyper.arch->name, b->hyper.layers);
		}
	}
	return BN_OK;
}

static bool is_wanted(const struct bn_binding *b, enum bn_presence rule, const char *part)
{
	char name[NAME_BYTES];

	return rule == BN_ALWAYS ||
	       (rule == BN_MAYBE && bn_gguf_tensor(b->gguf, layer_name(name, 0, part)) != NULL);
}

static enum bn_status bind_all(struct binder *w)
{
	struct bn_binding *b = w->b;
	const struct bn_architecture *arch = b->hyper.arch;
	enum bn_status status = BN_OK;

	b->sub_norms = is_wanted(b, arch->sub_norms, "attn_sub_norm");
	b->input_norms = is_wanted(b, arch->input_norms, "attn_q_norm_in");
	b->head_norms = is_wanted(b, arch->head_norms, "attn_q_norm");
	b->post_norms = is_wanted(b, arch->post_norms, "post_attention_norm");
	b->tied = bn_gguf_tensor(b->gguf, "output.weight") == NULL;
	for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK; p++) {
		status = choose_kernel(w, (enum bn_projection)p);
	}
	if (status == BN_OK) {
		status = bind_rows(w, "token_embd.weight", BN_ITEM_EMBED, &b->embed_type);
		b->head_type = b->embed_type;
	}
	if (status == BN_OK && !b->tied) {
		status = bind_rows(w, "output.weight", BN_ITEM_HEAD, &b->head_type);
	}
	if (status == BN_OK) {
		status = bind_norm(w, "output_norm.weight", b->hyper.dim, 0, BN_ITEM_OUT_NORM, 0);
	}
	for (uint32_t l = 0; l < b->hyper.layers && status == BN_OK; l++) {
		status = bind_layer(w, l);
	}
	if (status == BN_OK) {
		qsort(b->items, b->n_items, sizeof(b->items[0]), by_offset);
		status = refuse_unused(w);
	}
	return status;
}

/* Its dimensions suffice here: models that share them share their kernels. */
static const struct bn_guide_model *recognise(const struct bn_hyper *h)
{
	const struct bn_shape shape = bn_hyper_shape(h);

	return bn_guide_recognise(&shape, h->arch->name, (struct bn_str){ "", 0 }, NULL);
}

enum bn_status bn_binding_new(struct bn_binding **out, const struct bn_gguf *gguf,
			      const struct bn_file *file, const struct bn_hyper *hyper,
			      uint64_t cpu, const char *const *only, struct bn_error *err)
{
	/* Embedding, head, last norm; norms and projections of each layer. */
	const size_t most = 3 + (size_t)hyper->layers * (NORMS_MAX + BN_PROJ_COUNT);
	struct bn_binding *b = calloc(1, sizeof(*b) + most * sizeof(b->items[0]));
	struct binder w = { .b = b, .err = err, .only = only };
	enum bn_status status;

	if (b == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a list of %zu tensors", most);
	}
	b->gguf = gguf;
	b->file = file;
	b->hyper = *hyper;
	b->cpu = cpu;
	w.known = recognise(hyper);
	status = bind_all(&w);
	if (status != BN_OK) {
		bn_binding_free(b);
		return status;
	}
	*out = b;
	return BN_OK;
}

void bn_binding_free(struct bn_binding *b)
{
	free(b);
}
