/*
 * Binding makes a list of items, one per tensor of the graph; loading sorts nothing and looks
 * nothing up any more: it walks the items in file order with one buffer, so that the file is read
 * once and sequentially, which is also what lets the digest be the plain SHA-256 of the file.
 */
#include "engine/weights.h"

#include "kernels/trits.h"
#include "proto/assert.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NAME_BYTES = 64,
	STAGE_BYTES = 1024 * 1024, /* one read; cancel is looked at between two */
	I2S_BLOCK = 128,           /* elements of the file's block              */
	I2S_TRAILER = 32,          /* the scale and its padding                 */
	PACK_ROWS = 128,           /* rows packed at a time: whole blocks whatever the width */
	KERNELS_MAX = 32,
};

enum what {
	NORM,  /* to floats in `norm`      */
	TRITS, /* to packed in `matrix`    */
	ROWS,  /* as they are in `table`   */
};

/* Which norm of a layer, or none of them. */
enum norm {
	NORM_ATTN,
	NORM_FFN,
	NORM_ATTN_SUB,
	NORM_FFN_SUB,
	NORM_OUT,
};

struct item {
	const struct bn_gguf_tensor *tensor;
	enum what what;
	uint32_t layer;
	uint32_t slot; /* enum norm, enum bn_projection, or 0 embedding and 1 head */
	uint32_t rows;
	uint32_t cols;
	float scale;
	enum bn_dense_type type; /* of NORM and ROWS */
	uint64_t bytes;          /* in the arena     */
};

struct bn_binding {
	const struct bn_gguf *gguf;
	const struct bn_file *file;
	struct bn_hyper hyper;
	uint64_t cpu;
	const char *const *only;
	const struct bn_kernel *kernel[BN_PROJ_COUNT];
	struct {
		const struct bn_kernel *kernel;
		bool sound;
	} tested[KERNELS_MAX];
	uint32_t n_tested;
	bool sub_norms;
	bool tied;
	const char *embed_type;
	const char *head_type;
	uint64_t parameters;
	uint64_t trits;
	uint64_t arena_bytes;
	uint64_t codes_bytes; /* canonical codes of PACK_ROWS rows of the widest matrix */
	uint32_t n_items;
	struct item items[];
};

/* ---- binding: one tensor ------------------------------------------------------------------- */

static const char *const projection_names[BN_PROJ_COUNT] = {
	[BN_PROJ_Q] = "attn_q",      [BN_PROJ_K] = "attn_k",      [BN_PROJ_V] = "attn_v",
	[BN_PROJ_O] = "attn_output", [BN_PROJ_GATE] = "ffn_gate", [BN_PROJ_UP] = "ffn_up",
	[BN_PROJ_DOWN] = "ffn_down",
};

static void projection_shape(const struct bn_hyper *h, enum bn_projection p, uint32_t *rows,
			     uint32_t *cols)
{
	const uint32_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim;
	const uint32_t out[BN_PROJ_COUNT] = { q, kv, kv, h->dim, h->ffn, h->ffn, h->dim };
	const uint32_t in[BN_PROJ_COUNT] = { h->dim, h->dim, h->dim, q, h->dim, h->dim, h->ffn };

	*rows = out[p];
	*cols = in[p];
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

/* Room in the arena, which starts every object on a line. Objects are far below 2^63: their bytes
 * in the file fit the file, and packing at most doubles them. */
static void charge(struct bn_binding *b, uint64_t bytes)
{
	b->arena_bytes += (bytes + BN_ARENA_ALIGN - 1) & ~(uint64_t)(BN_ARENA_ALIGN - 1);
}

static enum bn_status find(const struct bn_binding *b, const char *name, uint32_t n_dims,
			   uint32_t cols, uint32_t rows, const struct bn_gguf_tensor **out,
			   struct bn_error *err)
{
	const struct bn_gguf_tensor *t = bn_gguf_tensor(b->gguf, name);

	if (t == NULL) {
		return bn_fail(err, BN_E_FORMAT, "tensor '%s' is missing", name);
	}
	if (t->n_dims < n_dims || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 ||
	    t->dims[3] != 1) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s' is %llu x %llu (%u dimensions), the hyper-parameters "
			       "call for %u x %u",
			       name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
			       t->n_dims, cols, rows);
	}
	*out = t;
	return BN_OK;
}

static struct item *new_item(struct bn_binding *b, const struct bn_gguf_tensor *t, enum what what,
			     uint32_t layer, uint32_t slot)
{
	struct item *item = &b->items[b->n_items++];

	*item = (struct item){ .tensor = t, .what = what, .layer = layer, .slot = slot };
	item->cols = (uint32_t)t->dims[0];
	item->rows = (uint32_t)t->dims[1];
	b->parameters += (uint64_t)item->rows * item->cols;
	return item;
}

static enum bn_status bind_norm(struct bn_binding *b, const char *name, uint32_t n, uint32_t layer,
				enum norm slot, struct bn_error *err)
{
	const struct bn_gguf_tensor *t = NULL;
	const enum bn_status status = find(b, name, 1, n, 1, &t, err);
	enum bn_dense_type type;

	if (status != BN_OK) {
		return status;
	}
	if (!dense_type(t->type, &type) || type == BN_DENSE_Q8_0 || type == BN_DENSE_Q6_K) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "tensor '%s' is %s; norms are f32, f16 or bf16", name,
			       bn_ggml_name(t->type));
	}

	struct item *item = new_item(b, t, NORM, layer, slot);

	item->type = type;
	item->bytes = (uint64_t)n * sizeof(float);
	charge(b, item->bytes);
	return BN_OK;
}

static enum bn_status bind_rows(struct bn_binding *b, const char *name, uint32_t slot,
				const char **type_name, struct bn_error *err)
{
	const struct bn_gguf_tensor *t = NULL;
	const enum bn_status status = find(b, name, 2, b->hyper.dim, b->hyper.vocab, &t, err);
	enum bn_dense_type type;

	if (status != BN_OK) {
		return status;
	}
	*type_name = bn_ggml_name(t->type);
	if (!dense_type(t->type, &type)) {
		return bn_fail(
			err, BN_E_KERNEL,
			"tensor '%s' is %s; embedding and output must be f32, f16, bf16, q8_0 "
			"or q6_k: requantize them",
			name, *type_name);
	}

	struct item *item = new_item(b, t, ROWS, 0, slot);

	item->type = type;
	item->bytes = (uint64_t)bn_dense_row_bytes(type, b->hyper.dim) * b->hyper.vocab;
	if (item->bytes != t->nbytes) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s': rows of %u do not divide into blocks of %s", name,
			       b->hyper.dim, *type_name);
	}
	charge(b, item->bytes);
	return BN_OK;
}

/* Multiplies a known matrix with the kernel and its oracle, once per kernel. */
static bool is_sound(struct bn_binding *b, const struct bn_kernel *k)
{
	for (uint32_t i = 0; i < b->n_tested; i++) {
		if (b->tested[i].kernel == k) {
			return b->tested[i].sound;
		}
	}
	bn_assert(b->n_tested < KERNELS_MAX);
	b->tested[b->n_tested].kernel = k;
	b->tested[b->n_tested].sound = bn_kernel_self_test(k);
	return b->tested[b->n_tested++].sound;
}

static bool can_use(struct bn_binding *b, const struct bn_kernel *k, uint32_t rows, uint32_t cols)
{
	return k != NULL && (k->needs & b->cpu) == k->needs && k->fits(rows, cols) &&
	       is_sound(b, k);
}

static enum bn_status choose_kernel(struct bn_binding *b, enum bn_projection p,
				    struct bn_error *err)
{
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);
	char list[160] = "";
	size_t used = 0;
	uint32_t rows, cols;

	projection_shape(&b->hyper, p, &rows, &cols);
	if (b->only == NULL) {
		for (size_t i = 0; i < n && b->kernel[p] == NULL; i++) {
			b->kernel[p] = can_use(b, all[i], rows, cols) ? all[i] : NULL;
		}
	} else {
		for (size_t i = 0; b->only[i] != NULL && b->kernel[p] == NULL; i++) {
			const struct bn_kernel *k = bn_kernel_find(b->only[i]);

			b->kernel[p] = can_use(b, k, rows, cols) ? k : NULL;
		}
	}
	if (b->kernel[p] != NULL) {
		return BN_OK;
	}
	for (size_t i = 0; i < n && used < sizeof(list); i++) {
		if (can_use(b, all[i], rows, cols)) {
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
						 used > 0 ? ", " : "", all[i]->name);
		}
	}
	return bn_fail(err, BN_E_KERNEL,
		       "none of the allowed kernels runs on this processor and fits matrices of "
		       "%u x %u; these would: %s",
		       rows, cols, list);
}

static enum bn_status bind_trits(struct bn_binding *b, const char *name, uint32_t layer,
				 enum bn_projection p, struct bn_error *err)
{
	const struct bn_gguf_tensor *t = NULL;
	enum bn_status status;
	uint32_t rows, cols;
	float scale;

	projection_shape(&b->hyper, p, &rows, &cols);
	status = find(b, name, 2, cols, rows, &t, err);
	if (status != BN_OK) {
		return status;
	}
	if (t->type != BN_GGML_I2_S) {
		return bn_fail(
			err, BN_E_KERNEL,
			"tensor '%s' is %s; bnd multiplies ternary weights of type i2_s: use the "
			"i2_s file of this model or convert it",
			name, bn_ggml_name(t->type));
	}

	const uint64_t n = (uint64_t)rows * cols;

	if (n % I2S_BLOCK != 0 || t->nbytes != n / 4 + I2S_TRAILER) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s': %llu weights do not divide into blocks of %d", name,
			       (unsigned long long)n, I2S_BLOCK);
	}
	status = bn_gguf_read(b->gguf, t, n / 4, &scale, sizeof(scale), err);
	if (status != BN_OK) {
		return status;
	}
	if (!isfinite(scale) || scale <= 0.0f) {
		return bn_fail(
			err, BN_E_FORMAT,
			"tensor '%s' has the scale %g; it must be a finite number above zero", name,
			(double)scale);
	}

	struct item *item = new_item(b, t, TRITS, layer, p);
	const uint64_t codes = (uint64_t)bn_trits_stride(cols) * PACK_ROWS;

	item->scale = scale;
	item->bytes = b->kernel[p]->packed_bytes(rows, cols);
	charge(b, item->bytes);
	b->trits += n;
	if (codes > b->codes_bytes) {
		b->codes_bytes = codes;
	}
	return BN_OK;
}

/* ---- binding: the graph -------------------------------------------------------------------- */

static const char *layer_name(char name[NAME_BYTES], uint32_t layer, const char *part)
{
	snprintf(name, NAME_BYTES, "blk.%u.%s.weight", layer, part);
	return name;
}

static enum bn_status bind_layer(struct bn_binding *b, uint32_t l, struct bn_error *err)
{
	const struct bn_hyper *h = &b->hyper;
	const struct {
		const char *part;
		uint32_t n;
		enum norm slot;
		bool wanted;
	} norms[] = {
		{ "attn_norm", h->dim, NORM_ATTN, true },
		{ "ffn_norm", h->dim, NORM_FFN, true },
		{ "attn_sub_norm", h->heads * h->head_dim, NORM_ATTN_SUB, b->sub_norms },
		{ "ffn_sub_norm", h->ffn, NORM_FFN_SUB, b->sub_norms },
	};
	char name[NAME_BYTES];
	enum bn_status status = BN_OK;

	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]) && status == BN_OK; i++) {
		if (norms[i].wanted) {
			status = bind_norm(b, layer_name(name, l, norms[i].part), norms[i].n, l,
					   norms[i].slot, err);
		}
	}
	for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK; p++) {
		status = bind_trits(b, layer_name(name, l, projection_names[p]), l,
				    (enum bn_projection)p, err);
	}
	return status;
}

static int by_offset(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return (x->tensor->offset > y->tensor->offset) - (x->tensor->offset < y->tensor->offset);
}

static bool ends_in(const struct bn_str *s, const char *tail)
{
	const size_t n = strlen(tail);

	return s->n >= n && memcmp(s->p + s->n - n, tail, n) == 0;
}

/* A tensor of a layer that we do not use is a graph that we do not compute: silence would be
 * fluent nonsense. Items are sorted. */
static enum bn_status refuse_unused(const struct bn_binding *b, struct bn_error *err)
{
	const size_t n = bn_gguf_tensor_count(b->gguf);

	for (size_t i = 0; i < n; i++) {
		const struct bn_gguf_tensor *t = bn_gguf_tensor_at(b->gguf, i);
		const struct item key = { .tensor = t };
		const int shown = (int)(t->name.n < 64 ? t->name.n : 64);

		if (bsearch(&key, b->items, b->n_items, sizeof(b->items[0]), by_offset) != NULL) {
			continue;
		}
		if (ends_in(&t->name, ".bias")) {
			return bn_fail(err, BN_E_NOT_SUPPORTED,
				       "tensor '%.*s': bnd runs models without biases", shown,
				       t->name.p);
		}
		if (t->name.n > 4 && memcmp(t->name.p, "blk.", 4) == 0) {
			return bn_fail(
				err, BN_E_NOT_SUPPORTED,
				"tensor '%.*s' belongs to no layer of architecture %s with %u "
				"layers: this is another model graph",
				shown, t->name.p, b->hyper.arch->name, b->hyper.layers);
		}
	}
	return BN_OK;
}

static enum bn_status bind_all(struct bn_binding *b, struct bn_error *err)
{
	enum bn_status status = BN_OK;
	char name[NAME_BYTES];

	b->sub_norms = b->hyper.arch->sub_norms == BN_ALWAYS ||
		       (b->hyper.arch->sub_norms == BN_MAYBE &&
			bn_gguf_tensor(b->gguf, layer_name(name, 0, "attn_sub_norm")) != NULL);
	for (unsigned p = 0; p < BN_PROJ_COUNT && status == BN_OK; p++) {
		status = choose_kernel(b, (enum bn_projection)p, err);
	}
	if (status == BN_OK) {
		status = bind_rows(b, "token_embd.weight", 0, &b->embed_type, err);
	}
	b->tied = bn_gguf_tensor(b->gguf, "output.weight") == NULL;
	b->head_type = b->embed_type;
	if (status == BN_OK && !b->tied) {
		status = bind_rows(b, "output.weight", 1, &b->head_type, err);
	}
	if (status == BN_OK) {
		status = bind_norm(b, "output_norm.weight", b->hyper.dim, 0, NORM_OUT, err);
	}
	for (uint32_t l = 0; l < b->hyper.layers && status == BN_OK; l++) {
		status = bind_layer(b, l, err);
	}
	if (status == BN_OK) {
		qsort(b->items, b->n_items, sizeof(b->items[0]), by_offset);
		status = refuse_unused(b, err);
	}
	return status;
}

enum bn_status bn_binding_new(struct bn_binding **out, const struct bn_gguf *gguf,
			      const struct bn_file *file, const struct bn_hyper *hyper,
			      uint64_t cpu, const char *const *only, struct bn_error *err)
{
	const size_t most = 3 + (size_t)hyper->layers * (4 + BN_PROJ_COUNT);
	struct bn_binding *b = calloc(1, sizeof(*b) + most * sizeof(b->items[0]));
	enum bn_status status;

	if (b == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a list of %zu tensors", most);
	}
	b->gguf = gguf;
	b->file = file;
	b->hyper = *hyper;
	b->cpu = cpu;
	b->only = only;
	charge(b, hyper->layers * sizeof(struct bn_layer));
	status = bind_all(b, err);
	b->only = NULL; /* borrowed during this call only */
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

uint64_t bn_binding_bytes(const struct bn_binding *b)
{
	return bn_arena_need(b->arena_bytes, 0);
}

uint64_t bn_binding_transient_bytes(const struct bn_binding *b)
{
	/* The codes as they lie in the file, and again in canonical rows. */
	return STAGE_BYTES + 2 * b->codes_bytes;
}

const struct bn_kernel *bn_binding_kernel(const struct bn_binding *b, enum bn_projection p)
{
	return b->kernel[p];
}

uint64_t bn_binding_parameters(const struct bn_binding *b, bool ternary_only)
{
	return ternary_only ? b->trits : b->parameters;
}

bool bn_binding_has_sub_norms(const struct bn_binding *b)
{
	return b->sub_norms;
}

bool bn_binding_is_tied(const struct bn_binding *b)
{
	return b->tied;
}

const char *bn_binding_embed_type(const struct bn_binding *b)
{
	return b->embed_type;
}

const char *bn_binding_head_type(const struct bn_binding *b)
{
	return b->head_type;
}

/* ---- loading ------------------------------------------------------------------------------- */

struct loader {
	const struct bn_binding *b;
	struct bn_weights *w;
	struct bn_load_watch *watch;
	struct bn_error *err;
	EVP_MD_CTX *digest;
	uint64_t at;    /* file position: everything before it is read and hashed */
	uint8_t *stage; /* [STAGE_BYTES] */
	uint8_t *raw;   /* [codes_bytes] */
	uint8_t *codes; /* [codes_bytes] */
};

/* The next `bytes` of the file into dst, through the hash. */
static enum bn_status take(struct loader *l, void *dst, uint64_t bytes)
{
	uint8_t *to = dst;

	while (bytes > 0) {
		const size_t n = bytes < STAGE_BYTES ? (size_t)bytes : STAGE_BYTES;
		const enum bn_status status = bn_file_read(l->b->file, l->at, to, n, l->err);

		if (status != BN_OK) {
			return status;
		}
		if (EVP_DigestUpdate(l->digest, to, n) != 1) {
			return bn_fail(l->err, BN_E_INTERNAL, "libcrypto cannot hash");
		}
		l->at += n;
		to += n;
		bytes -= n;
		if (l->watch != NULL) {
			atomic_store_explicit(&l->watch->done_bytes, l->at, memory_order_relaxed);
			if (atomic_load_explicit(&l->watch->cancel, memory_order_relaxed)) {
				return bn_fail(l->err, BN_E_CANCELLED, "loading was cancelled");
			}
		}
	}
	return BN_OK;
}

/* What lies between tensors, for the hash alone. */
static enum bn_status skip_to(struct loader *l, uint64_t offset)
{
	enum bn_status status = BN_OK;

	bn_assert(offset >= l->at); /* gguf.h: tensors do not overlap */
	while (l->at < offset && status == BN_OK) {
		const uint64_t left = offset - l->at;

		status = take(l, l->stage, left < STAGE_BYTES ? left : STAGE_BYTES);
	}
	return status;
}

static void *alloc(struct loader *l, uint64_t bytes)
{
	return bn_arena_alloc(&l->w->arena, 1, (size_t)bytes, l->err);
}

static enum bn_status load_norm(struct loader *l, const struct item *item)
{
	const struct bn_dense *dense = bn_dense_choose(item->type, l->b->cpu);
	const int shown = (int)(item->tensor->name.n < 64 ? item->tensor->name.n : 64);
	float *out = alloc(l, item->bytes);
	enum bn_status status;

	if (out == NULL) {
		return BN_E_MEMORY;
	}
	bn_assert(item->tensor->nbytes <= STAGE_BYTES); /* hyper.h: ffn <= 262144 */
	status = take(l, l->stage, item->tensor->nbytes);
	if (status != BN_OK) {
		return status;
	}
	dense->decode(out, l->stage, item->cols);
	for (uint32_t i = 0; i < item->cols; i++) {
		if (!isfinite(out[i])) {
			return bn_fail(l->err, BN_E_FORMAT,
				       "tensor '%.*s' holds a value that is not finite", shown,
				       item->tensor->name.p);
		}
	}

	struct bn_layer *layer = &l->w->layers[item->layer];

	switch ((enum norm)item->slot) {
	case NORM_ATTN:
		layer->attn_norm = out;
		break;
	case NORM_FFN:
		layer->ffn_norm = out;
		break;
	case NORM_ATTN_SUB:
		layer->attn_sub_norm = out;
		break;
	case NORM_FFN_SUB:
		layer->ffn_sub_norm = out;
		break;
	case NORM_OUT:
		l->w->out_norm = out;
		break;
	}
	return BN_OK;
}

static enum bn_status load_rows(struct loader *l, const struct item *item)
{
	struct bn_table *table = item->slot == 0 ? &l->w->embed : &l->w->head;
	void *rows = alloc(l, item->bytes);

	if (rows == NULL) {
		return BN_E_MEMORY;
	}
	*table = (struct bn_table){
		.rows = rows,
		.dense = bn_dense_choose(item->type, l->b->cpu),
		.row_bytes = bn_dense_row_bytes(item->type, item->cols),
		.n_rows = item->rows,
		.cols = item->cols,
	};
	return take(l, rows, item->bytes);
}

/* PACK_ROWS rows at a time: they are whole blocks of the file and whole steps of the kernel. */
static enum bn_status load_trits(struct loader *l, const struct item *item)
{
	const struct bn_kernel *kernel = l->b->kernel[item->slot];
	const uint32_t cols = item->cols;
	uint8_t *packed = alloc(l, item->bytes);

	if (packed == NULL) {
		return BN_E_MEMORY;
	}
	bn_assert(PACK_ROWS % kernel->row_step == 0);
	for (uint32_t row = 0; row < item->rows; row += PACK_ROWS) {
		const uint32_t left = item->rows - row;
		const uint32_t n = left < PACK_ROWS ? left : PACK_ROWS;
		const struct bn_trits trits = {
			.codes = l->codes,
			.stride = bn_trits_stride(cols),
			.rows = n,
			.cols = cols,
		};
		const enum bn_status status = take(l, l->raw, (uint64_t)n * cols / 4);

		if (status != BN_OK) {
			return status;
		}
		if (!bn_trits_from_i2s(l->codes, l->raw, 0, n, cols)) {
			const struct bn_str *name = &item->tensor->name;

			return bn_fail(
				l->err, BN_E_FORMAT,
				"tensor '%.*s' holds a code that is no trit between rows %u and "
				"%u: the file is damaged, or not i2_s",
				(int)(name->n < 64 ? name->n : 64), name->p, row, row + n);
		}
		kernel->pack(packed + kernel->packed_bytes(row, cols), &trits, 0, n);
	}
	l->w->layers[item->layer].proj[item->slot] = (struct bn_matrix){
		.packed = packed,
		.kernel = kernel,
		.rows = item->rows,
		.cols = cols,
		.scale = item->scale,
	};
	return BN_OK;
}

static enum bn_status load_items(struct loader *l)
{
	const struct bn_binding *b = l->b;
	enum bn_status status = BN_OK;

	l->w->layers = alloc(l, b->hyper.layers * sizeof(struct bn_layer));
	if (l->w->layers == NULL) {
		return BN_E_MEMORY;
	}
	for (uint32_t i = 0; i < b->n_items && status == BN_OK; i++) {
		const struct item *item = &b->items[i];

		status = skip_to(l, item->tensor->offset);
		if (status != BN_OK) {
			break;
		}
		switch (item->what) {
		case NORM:
			status = load_norm(l, item);
			break;
		case TRITS:
			status = load_trits(l, item);
			break;
		case ROWS:
			status = load_rows(l, item);
			break;
		}
	}
	if (status == BN_OK) {
		status = skip_to(l, b->file->size);
	}
	if (status == BN_OK) {
		status = bn_file_unchanged(b->file, l->err);
	}
	return status;
}

static enum bn_status finish_digest(struct loader *l, char text[BN_DIGEST_TEXT_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_DigestFinal_ex(l->digest, md, &n) != 1 || n * 2 + 1 != BN_DIGEST_TEXT_BYTES) {
		return bn_fail(l->err, BN_E_INTERNAL, "libcrypto cannot hash");
	}
	for (unsigned i = 0; i < n; i++) {
		snprintf(text + (size_t)i * 2, 3, "%02x", md[i]);
	}
	return BN_OK;
}

enum bn_status bn_weights_load(struct bn_weights *w, const struct bn_binding *b,
			       struct bn_load_watch *watch, char digest[BN_DIGEST_TEXT_BYTES],
			       struct bn_error *err)
{
	const size_t limit = (size_t)bn_binding_bytes(b);
	struct loader l = { .b = b, .w = w, .watch = watch, .err = err };
	char text[BN_DIGEST_TEXT_BYTES];
	enum bn_status status;

	memset(w, 0, sizeof(*w));
	bn_arena_init(&w->arena, limit, limit);
	l.digest = EVP_MD_CTX_new();
	l.stage = malloc(STAGE_BYTES);
	l.raw = malloc((size_t)b->codes_bytes);
	l.codes = malloc((size_t)b->codes_bytes);
	if (l.digest == NULL || l.stage == NULL || l.raw == NULL || l.codes == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory for the buffers of loading");
	} else if (EVP_DigestInit_ex(l.digest, EVP_sha256(), NULL) != 1) {
		status = bn_fail(err, BN_E_INTERNAL, "libcrypto has no SHA-256");
	} else {
		status = load_items(&l);
	}
	if (status == BN_OK) {
		status = finish_digest(&l, text);
	}
	free(l.codes);
	free(l.raw);
	free(l.stage);
	EVP_MD_CTX_free(l.digest);
	if (status != BN_OK) {
		bn_weights_finish(w);
		return status;
	}
	w->tied = b->tied;
	if (w->tied) {
		w->head = w->embed;
	}
	memcpy(digest, text, sizeof(text));
	return BN_OK;
}

void bn_weights_finish(struct bn_weights *w)
{
	bn_arena_finish(&w->arena);
	memset(w, 0, sizeof(*w));
}
