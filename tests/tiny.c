/*
 * Weights come from one counter-based generator per tensor, so tensors do not depend on each other
 * or on how they are cut into pieces.
 *
 * Why activations stay sane: with half of the trits non-zero and a normalised input, a sum over K
 * columns has variance K/2, so a scale of sqrt(2/K) gives unit outputs; the two matrices that write
 * to the residual stream are scaled down by sqrt(2 * layers) on top. Embedding rows have a norm of
 * about 2, which makes logits that differ by a few units: neither uniform nor one-hot.
 */
#include "tests/tiny.h"

#include "engine/gguf_write.h"
#include "engine/tiles.h"
#include "tests/tiny_fill.h"
#include "tests/tiny_vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_BYTES = 1 << 20, /* of tensor data per write; a multiple of every block size */
	NAME_BYTES = 64,
};

static uint32_t head_dim_of(const struct bn_tiny *t)
{
	return t->vectors.head_dim != 0 ? t->vectors.head_dim : t->dim / t->heads;
}

static enum bn_ggml_type trits_type(const struct bn_tiny *t)
{
	return t->trits == BN_GGML_F32 ? BN_GGML_I2_S : t->trits;
}

static void put_u32(struct bn_gguf_writer *w, const struct bn_tiny *t, const char *key,
		    uint32_t value)
{
	char full[NAME_BYTES];

	snprintf(full, sizeof(full), "%s.%s", t->arch, key);
	bn_gguf_put_u32(w, full, value);
}

static void put_f32(struct bn_gguf_writer *w, const struct bn_tiny *t, const char *key, float value)
{
	char full[NAME_BYTES];

	snprintf(full, sizeof(full), "%s.%s", t->arch, key);
	bn_gguf_put_f32(w, full, value);
}

static void put_hyper(struct bn_gguf_writer *w, const struct bn_tiny *t)
{
	char full[NAME_BYTES];

	bn_gguf_put_str(w, "general.architecture", t->arch);
	bn_gguf_put_str(w, "general.name", t->name);
	put_u32(w, t, "vocab_size", t->vocab);
	put_u32(w, t, "context_length", t->context);
	put_u32(w, t, "embedding_length", t->dim);
	put_u32(w, t, "block_count", t->layers);
	put_u32(w, t, "feed_forward_length", t->ffn);
	put_u32(w, t, "attention.head_count", t->heads);
	put_u32(w, t, "attention.head_count_kv", t->kv_heads);
	put_f32(w, t, "attention.layer_norm_rms_epsilon", t->eps);
	put_f32(w, t, "rope.freq_base", t->rope_base);
	/* As the converters do: 1bitLLM files have a scaling that scales nothing and no width. */
	if (strcmp(t->arch, "bitnet") == 0) {
		snprintf(full, sizeof(full), "%s.rope.scaling.type", t->arch);
		bn_gguf_put_str(w, full, "linear");
		put_f32(w, t, "rope.scaling.factor", 1.0f);
	} else {
		put_u32(w, t, "rope.dimension_count", head_dim_of(t));
	}
	if (t->vectors.pooling != 0) {
		put_u32(w, t, "attention.key_length", head_dim_of(t));
		put_u32(w, t, "attention.value_length", head_dim_of(t));
		put_u32(w, t, "pooling_type", t->vectors.pooling);
	}
	if (t->vectors.window != 0) {
		put_u32(w, t, "attention.sliding_window", t->vectors.window);
	}
	bn_gguf_put_u32(w, "general.file_type", bn_codec_find(trits_type(t))->file_type);
	bn_gguf_put_u32(w, "general.quantization_version", 2);
}

struct plan {
	char name[NAME_BYTES];
	enum bn_ggml_type type;
	struct bn_tiles tiles;
	uint64_t cols, rows;
	float spread; /* scale of a ternary tensor, deviation of a dense one */
};

enum { PER_LAYER = 22, GLOBAL = 3 };

static void plan_one(struct plan *list, size_t *n, const char *name, enum bn_ggml_type type,
		     uint64_t cols, uint64_t rows, double spread)
{
	struct plan *p = &list[(*n)++];

	snprintf(p->name, sizeof(p->name), "%s", name);
	p->type = type;
	p->cols = cols;
	p->rows = rows;
	p->spread = (float)spread;
}

static void plan_layer(const struct bn_tiny *t, struct plan *list, size_t *n, uint32_t layer)
{
	const uint64_t head = head_dim_of(t), q = head * t->heads, kv = head * t->kv_heads;
	const double gain = t->norms_one ? 0.0 : 0.1, residual = 1.0 / sqrt(2.0 * t->layers);
	const double from_dim = sqrt(2.0 / t->dim), from_ffn = sqrt(2.0 / t->ffn);
	const bool v = t->vectors.pooling != 0;
	const enum bn_ggml_type trits = trits_type(t);
	char prefix[24], name[NAME_BYTES];
	const struct {
		const char *name;
		bool present;
		enum bn_ggml_type type;
		uint64_t cols, rows;
		double spread;
	} tensors[PER_LAYER] = {
		{ "attn_norm", true, BN_GGML_F32, t->dim, 1, gain },
		{ "attn_q", true, trits, t->dim, q, from_dim },
		{ "attn_k", true, trits, t->dim, kv, from_dim },
		{ "attn_v", true, trits, t->dim, kv, from_dim },
		{ "attn_sub_norm", t->sub_norms, BN_GGML_F32, t->dim, 1, gain },
		{ "attn_output", true, trits, q, t->dim, from_dim * residual },
		{ "ffn_norm", true, BN_GGML_F32, t->dim, 1, gain },
		{ "ffn_gate", true, trits, t->dim, t->ffn, from_dim },
		{ "ffn_up", true, trits, t->dim, t->ffn, from_dim },
		{ "ffn_sub_norm", t->sub_norms, BN_GGML_F32, t->ffn, 1, gain },
		{ "ffn_down", true, trits, t->ffn, t->dim, from_ffn * residual },
		{ "attn_q_norm_in", v, BN_GGML_F16, t->dim, 1, gain },
		{ "attn_k_norm_in", v, BN_GGML_F16, t->dim, 1, gain },
		{ "attn_v_norm_in", v, BN_GGML_F16, t->dim, 1, gain },
		{ "attn_output_norm_in", v, BN_GGML_F16, q, 1, gain },
		{ "ffn_gate_norm_in", v, BN_GGML_F16, t->dim, 1, gain },
		{ "ffn_up_norm_in", v, BN_GGML_F16, t->dim, 1, gain },
		{ "ffn_down_norm_in", v, BN_GGML_F16, t->ffn, 1, gain },
		{ "attn_q_norm", v, BN_GGML_F16, head, 1, gain },
		{ "attn_k_norm", v, BN_GGML_F16, head, 1, gain },
		{ "post_attention_norm", t->vectors.post_norms, BN_GGML_F16, t->dim, 1, gain },
		{ "post_ffw_norm", t->vectors.post_norms, BN_GGML_F16, t->dim, 1, gain },
	};

	snprintf(prefix, sizeof(prefix), "blk.%u.", layer);
	for (size_t i = 0; i < PER_LAYER; i++) {
		if (tensors[i].present) {
			snprintf(name, sizeof(name), "%s%s.weight", prefix, tensors[i].name);
			plan_one(list, n, name, tensors[i].type, tensors[i].cols, tensors[i].rows,
				 tensors[i].spread);
		}
	}
}

static size_t plan_all(const struct bn_tiny *t, struct plan *list)
{
	const double embedding = 2.0 / sqrt((double)t->dim);
	size_t n = 0;

	plan_one(list, &n, "token_embd.weight", t->embedding, t->dim, t->vocab, embedding);
	for (uint32_t i = 0; i < t->layers; i++) {
		plan_layer(t, list, &n, i);
	}
	plan_one(list, &n, "output_norm.weight", BN_GGML_F32, t->dim, 1, t->norms_one ? 0.0 : 0.1);
	if (!t->tied) {
		plan_one(list, &n, "output.weight", t->embedding, t->dim, t->vocab, embedding);
	}
	return n;
}

/* The trits that an I2_S tensor of this seed has, in another type: whole in memory. */
static void write_recoded(struct bn_gguf_writer *w, const struct plan *plan, uint64_t seed,
			  uint64_t nbytes)
{
	const uint32_t rows = (uint32_t)plan->rows, cols = (uint32_t)plan->cols;
	const struct bn_codec *codec = bn_codec_find(plan->type);
	const size_t n = rows * bn_trits_stride(cols);
	unsigned char *i2s = malloc(n), *codes = malloc(n), *data = malloc(nbytes);

	if (i2s != NULL && codes != NULL && data != NULL) {
		const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };

		tiny_fill_trits(i2s, n, &seed);
		bn_trits_from_i2s(codes, i2s, 0, rows, cols);
		bn_codec_encode(codec, data, &trits, plan->spread, &plan->tiles);
		bn_gguf_write(w, data, nbytes);
	}
	free(i2s);
	free(codes);
	free(data);
}

static void write_tensor(struct bn_gguf_writer *w, const struct plan *plan, uint64_t seed,
			 unsigned char *piece)
{
	const uint64_t dims[2] = { plan->cols, plan->rows };
	const uint32_t block = plan->type == BN_GGML_Q8_0   ? 34
			       : plan->type == BN_GGML_Q6_K ? 210
							    : 64;
	const float mean = plan->rows == 1 ? 1.0f : 0.0f; /* gains of norms */
	uint64_t state = seed, left, total;
	uint16_t table[TINY_FILL_TABLE];

	if (bn_ggml_nbytes(plan->type, 2, dims, &total) != BN_GGML_FITS) {
		return; /* the writer has said so already */
	}
	if (plan->type != BN_GGML_I2_S && bn_codec_find(plan->type) != NULL) {
		write_recoded(w, plan, seed, total);
		return;
	}
	if (plan->type == BN_GGML_F16) {
		tiny_fill_table(table, &state, mean, plan->spread);
	}
	left = plan->type == BN_GGML_I2_S ? total - 32 : total;
	while (left > 0 && bn_gguf_writer_ok(w)) {
		size_t most = PIECE_BYTES / block * block;
		size_t n = left < most ? (size_t)left : most;

		if (plan->type == BN_GGML_I2_S) {
			tiny_fill_trits(piece, n, &state);
		} else if (plan->type == BN_GGML_F16) {
			tiny_fill_f16(piece, n, &state, table);
		} else if (plan->type == BN_GGML_F32) {
			tiny_fill_f32(piece, n, &state, mean, plan->spread);
		} else {
			tiny_fill_blocks(piece, n, &state, plan->type, plan->spread);
		}
		bn_gguf_write(w, piece, n);
		left -= n;
	}
	if (plan->type == BN_GGML_I2_S) {
		unsigned char tail[32] = { 0 };

		tiny_fill_float(tail, plan->spread);
		bn_gguf_write(w, tail, sizeof(tail));
	}
}

static enum bn_status check(const struct bn_tiny *t, struct bn_error *err)
{
	if (t->heads == 0 || (t->vectors.head_dim == 0 && t->dim % t->heads != 0) ||
	    t->kv_heads == 0 || t->heads % t->kv_heads != 0 || head_dim_of(t) % 2 != 0) {
		return bn_fail(err, BN_E_INVALID, "dim %u, heads %u, kv_heads %u do not divide",
			       t->dim, t->heads, t->kv_heads);
	}
	if (t->vocab < 300 || t->vocab > 2u << 20) {
		return bn_fail(err, BN_E_INVALID, "vocab is %u, must be 300 to 2097152", t->vocab);
	}
	if (t->layers == 0 || t->layers > 512 || t->dim == 0 || t->dim > 65536 || t->ffn == 0 ||
	    t->ffn > 262144) {
		return bn_fail(err, BN_E_INVALID, "layers %u, dim %u, ffn %u: out of range",
			       t->layers, t->dim, t->ffn);
	}
	if (bn_codec_find(trits_type(t)) == NULL) {
		return bn_fail(err, BN_E_INVALID, "type %u holds no trits", (unsigned)t->trits);
	}
	if (t->embedding != BN_GGML_F32 && t->embedding != BN_GGML_F16 &&
	    t->embedding != BN_GGML_Q8_0 && t->embedding != BN_GGML_Q6_K) {
		return bn_fail(err, BN_E_INVALID, "no embedding of type %s is made here",
			       bn_ggml_name(t->embedding));
	}
	return BN_OK;
}

static enum bn_status choose_tiles(struct plan *list, size_t n, struct bn_tiles_list *cut,
				   struct bn_error *err)
{
	for (size_t i = 0; i < n; i++) {
		const uint32_t rows = (uint32_t)list[i].rows, cols = (uint32_t)list[i].cols;

		if (bn_codec_find(list[i].type) == NULL) {
			continue;
		}
		if (bn_tiles_choose(&list[i].tiles, list[i].type, rows, cols, err) != BN_OK) {
			bn_wrap(err, "tensor '%s'", list[i].name);
			return BN_E_INVALID;
		}
		if (list[i].tiles.strip > 0) {
			bn_tiles_note(cut, rows, cols, &list[i].tiles);
		}
	}
	return BN_OK;
}

static enum bn_status write_all(struct bn_gguf_writer *w, const struct bn_tiny *t,
				struct plan *list, unsigned char *piece, struct bn_error *err)
{
	size_t n = plan_all(t, list);
	struct bn_tiles_list cut = { 0 };
	enum bn_status status = choose_tiles(list, n, &cut, err);

	if (status != BN_OK) {
		return status;
	}
	put_hyper(w, t);
	if (!tiny_vocab_put(w, t)) {
		return bn_fail(err, BN_E_MEMORY, "no memory to make a vocabulary");
	}
	if (cut.n > 0) {
		bn_gguf_put_i32s(w, bn_tiles_key(t->trits), cut.fields, cut.n);
	}
	for (size_t i = 0; i < n; i++) {
		const uint64_t dims[2] = { list[i].cols, list[i].rows };

		bn_gguf_put_tensor(w, list[i].name, list[i].type, list[i].rows == 1 ? 1 : 2, dims);
	}
	for (size_t i = 0; i < n && bn_gguf_writer_ok(w); i++) {
		write_tensor(w, &list[i], tiny_fill_mix(t->seed + (uint64_t)i * 0x10001), piece);
	}
	return bn_gguf_commit(w, err);
}

enum bn_status bn_tiny_write(const struct bn_tiny *t, const char *path, struct bn_error *err)
{
	struct bn_gguf_writer *w = NULL;
	struct plan *list = NULL;
	unsigned char *piece = NULL;
	enum bn_status status = check(t, err);

	if (status != BN_OK) {
		return status;
	}
	list = calloc((size_t)t->layers * PER_LAYER + GLOBAL, sizeof(*list));
	piece = malloc(PIECE_BYTES);
	if (list == NULL || piece == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory to make a model");
		goto out;
	}
	status = bn_gguf_writer_new(&w, path, 32, err);
	if (status != BN_OK) {
		goto out;
	}
	status = write_all(w, t, list, piece, err);
out:
	bn_gguf_writer_free(w);
	free(piece);
	free(list);
	return status;
}
