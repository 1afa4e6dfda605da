#include "tests/engine/reference.h"

#include "engine/gguf.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ref {
	struct bn_file file;
	struct bn_gguf *gguf;
	char arch[32];
	uint32_t layers, dim, ffn, heads, kv_heads, head_dim, rot, vocab;
	double eps, base;
	bool interleaved, relu2, gelu;
	uint32_t window; /* of layers but every sixth; 0: all see all */
	double embed_scale;
};

static void die(const char *what)
{
	fprintf(stderr, "reference: %s\n", what);
	abort();
}

static uint32_t number(const struct ref *r, const char *name, uint32_t absent)
{
	char key[128];
	uint32_t value = absent;

	snprintf(key, sizeof(key), "%s.%s", r->arch, name);
	if (bn_gguf_has(r->gguf, key) &&
	    bn_gguf_u32(r->gguf, key, 0, UINT32_MAX, &value, NULL) != BN_OK) {
		die(key);
	}
	return value;
}

static double real(const struct ref *r, const char *name, double absent)
{
	char key[128];
	float value = 0.0f;

	snprintf(key, sizeof(key), "%s.%s", r->arch, name);
	if (!bn_gguf_has(r->gguf, key)) {
		return absent;
	}
	if (bn_gguf_f32(r->gguf, key, -1e30f, 1e30f, &value, NULL) != BN_OK) {
		die(key);
	}
	return (double)value;
}

static double half(uint16_t h)
{
	const int e = (h >> 10) & 31, m = h & 1023;
	const double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);

	return (h & 0x8000) != 0 ? -v : v;
}

static uint16_t u16(const unsigned char *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static float f32(const unsigned char *p)
{
	float v;

	memcpy(&v, p, 4);
	return v;
}

/* Element i of a flattened tensor of any type that models here use. */
static double element(const unsigned char *data, enum bn_ggml_type type, uint64_t i)
{
	switch (type) {
	case BN_GGML_F32:
		return (double)f32(data + i * 4);
	case BN_GGML_F16:
		return half(u16(data + i * 2));
	case BN_GGML_BF16: {
		const uint32_t bits = (uint32_t)u16(data + i * 2) << 16;
		float v;

		memcpy(&v, &bits, 4);
		return (double)v;
	}
	case BN_GGML_Q8_0: {
		const unsigned char *b = data + i / 32 * 34;

		return half(u16(b)) * (double)(signed char)b[2 + i % 32];
	}
	case BN_GGML_Q6_K: {
		/* 256 weights: 128 bytes of low nibbles, 64 of high pairs, 16 scales, one f16. Half
		 * of the block: weight 32 j + l, j = 0..3, has its nibble in ql[l + 32 (j % 2)]
		 * (low for j < 2) and its pair in qh[l] at bit 2 j. */
		const unsigned char *b = data + i / 256 * 210;
		const unsigned n = i % 256 / 128, j = i % 128 / 32, l = i % 32;
		const unsigned ql = b[n * 64 + l + 32 * (j % 2)] >> (j < 2 ? 0 : 4) & 15;
		const unsigned qh = b[128 + n * 32 + l] >> (2 * j) & 3;
		const int scale = (signed char)b[192 + n * 8 + 2 * j + l / 16];

		return half(u16(b + 208)) * scale * ((int)(ql | qh << 4) - 32);
	}
	case BN_GGML_I2_S:
		return (double)((data[i / 128 * 32 + i % 32] >> (6 - 2 * (i % 128 / 32))) & 3) -
		       1.0;
	default:
		die("tensor type");
		return 0.0;
	}
}

/* A tensor in doubles, without an I2_S scale, which goes to *scale. NULL when there is none. */
static double *tensor(const struct ref *r, const char *name, int layer, double *scale)
{
	char full[64];
	const struct bn_gguf_tensor *t;
	unsigned char *raw;
	double *out;

	if (layer < 0) {
		snprintf(full, sizeof(full), "%s.weight", name);
	} else {
		snprintf(full, sizeof(full), "blk.%d.%s.weight", layer, name);
	}
	t = bn_gguf_tensor(r->gguf, full);
	if (t == NULL) {
		return NULL;
	}

	const uint64_t n = t->dims[0] * t->dims[1];

	raw = malloc(t->nbytes);
	out = malloc(n * sizeof(double));
	if (bn_gguf_read(r->gguf, t, 0, raw, t->nbytes, NULL) != BN_OK) {
		die(full);
	}
	for (uint64_t i = 0; i < n; i++) {
		out[i] = element(raw, t->type, i);
	}
	if (scale != NULL) {
		*scale = t->type == BN_GGML_I2_S ? (double)f32(raw + n / 4) : 1.0;
	}
	free(raw);
	return out;
}

/* gain NULL: none, a copy. */
static void norm(const struct ref *r, double *out, const double *x, const double *gain, uint32_t n)
{
	double ms = 0.0;

	if (gain == NULL) {
		memmove(out, x, n * sizeof(double));
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		ms += x[i] * x[i] / n;
	}
	for (uint32_t i = 0; i < n; i++) {
		out[i] = x[i] / sqrt(ms + r->eps) * gain[i];
	}
}

/* x as its int8 representation stands for it. */
static void quantize(double *x, uint32_t n)
{
	double max = 1e-5;

	for (uint32_t i = 0; i < n; i++) {
		max = fmax(max, fabs(x[i]));
	}
	for (uint32_t i = 0; i < n; i++) {
		x[i] = nearbyint(x[i] * 127.0 / max) * max / 127.0;
	}
}

/* out = scale * W quantized(norm(x)) */
static void linear(const struct ref *r, double *out, const char *name, int layer, const double *x,
		   uint32_t rows, uint32_t cols)
{
	double scale, *w = tensor(r, name, layer, &scale), *q = malloc(cols * sizeof(double));
	char norm_in[64];
	double *gain;

	if (w == NULL) {
		die(name);
	}
	snprintf(norm_in, sizeof(norm_in), "%s_norm_in", name);
	gain = tensor(r, norm_in, layer, NULL);
	norm(r, q, x, gain, cols);
	free(gain);
	quantize(q, cols);
	for (uint32_t i = 0; i < rows; i++) {
		double sum = 0.0;

		for (uint32_t j = 0; j < cols; j++) {
			sum += w[(uint64_t)i * cols + j] * q[j];
		}
		out[i] = sum * scale;
	}
	free(q);
	free(w);
}

/* Each head behind its norm, if there is one, and turned. */
static void rope(const struct ref *r, double *x, const char *head_norm, int layer, bool local,
		 uint32_t heads, uint32_t position)
{
	double *gain = tensor(r, head_norm, layer, NULL);
	const double base = local ? 10000.0 : r->base;

	for (uint32_t h = 0; h < heads; h++) {
		norm(r, x + h * r->head_dim, x + h * r->head_dim, gain, r->head_dim);
		for (uint32_t i = 0; i < r->rot / 2; i++) {
			const double a = position * pow(base, -2.0 * i / r->rot);
			double *p = x + h * r->head_dim + (r->interleaved ? 2 * i : i);
			double *q = p + (r->interleaved ? 1 : r->rot / 2);
			const double u = *p * cos(a) - *q * sin(a), v = *p * sin(a) + *q * cos(a);

			*p = u;
			*q = v;
		}
	}
	free(gain);
}

/* What the cache keeps: half precision. */
static double to_half(double x)
{
	int e;

	if (x == 0.0) {
		return 0.0;
	}
	frexp(x, &e);
	e = e < -13 ? -13 : e;
	return ldexp(nearbyint(ldexp(x, 11 - e)), e - 11);
}

static void attention(const struct ref *r, double *ctx, const double *q, const double *keys,
		      const double *values, uint32_t first, uint32_t positions)
{
	const uint32_t hd = r->head_dim, kv_width = r->kv_heads * hd;
	double *score = malloc(positions * sizeof(double));

	for (uint32_t h = 0; h < r->heads; h++) {
		const uint32_t kv = h / (r->heads / r->kv_heads) * hd;
		double max = -INFINITY, sum = 0.0;

		for (uint32_t p = first; p < positions; p++) {
			score[p] = 0.0;
			for (uint32_t d = 0; d < hd; d++) {
				score[p] += q[h * hd + d] * keys[p * kv_width + kv + d] / sqrt(hd);
			}
			max = fmax(max, score[p]);
		}
		for (uint32_t p = first; p < positions; p++) {
			score[p] = exp(score[p] - max);
			sum += score[p];
		}
		for (uint32_t d = 0; d < hd; d++) {
			ctx[h * hd + d] = 0.0;
			for (uint32_t p = first; p < positions; p++) {
				ctx[h * hd + d] += score[p] / sum * values[p * kv_width + kv + d];
			}
		}
	}
	free(score);
}

/* One layer over all tokens: x [n, dim]. */
static void layer(const struct ref *r, int l, double *x, uint32_t n)
{
	const uint32_t qw = r->heads * r->head_dim, kvw = r->kv_heads * r->head_dim;
	const uint32_t wide = r->ffn > r->dim ? r->ffn : r->dim;
	double *attn_norm = tensor(r, "attn_norm", l, NULL),
	       *ffn_norm = tensor(r, "ffn_norm", l, NULL);
	double *attn_sub = tensor(r, "attn_sub_norm", l, NULL);
	double *ffn_sub = tensor(r, "ffn_sub_norm", l, NULL);
	double *post_attn = tensor(r, "post_attention_norm", l, NULL);
	double *post_ffn = tensor(r, "post_ffw_norm", l, NULL);
	double *add = malloc(r->dim * sizeof(double));
	const bool local = r->window > 0 && (l + 1) % 6 != 0;
	double *h = malloc((wide + qw) * sizeof(double)), *q = malloc(qw * sizeof(double));
	double *ctx = malloc(qw * sizeof(double)), *up = malloc(r->ffn * sizeof(double));
	double *keys = malloc(n * kvw * sizeof(double)), *values = malloc(n * kvw * sizeof(double));

	for (uint32_t t = 0; t < n; t++) {
		double *row = x + (size_t)t * r->dim, *k = keys + t * kvw, *v = values + t * kvw;

		norm(r, h, row, attn_norm, r->dim);
		linear(r, q, "attn_q", l, h, qw, r->dim);
		linear(r, k, "attn_k", l, h, kvw, r->dim);
		linear(r, v, "attn_v", l, h, kvw, r->dim);
		rope(r, q, "attn_q_norm", l, local, r->heads, t);
		rope(r, k, "attn_k_norm", l, local, r->kv_heads, t);
		for (uint32_t i = 0; i < kvw; i++) {
			k[i] = to_half(k[i]);
			v[i] = to_half(v[i]);
		}
		attention(r, ctx, q, keys, values,
			  local && t + 1 > r->window ? t + 1 - r->window : 0, t + 1);
		if (attn_sub != NULL) {
			norm(r, ctx, ctx, attn_sub, qw);
		}
		linear(r, add, "attn_output", l, ctx, r->dim, qw);
		norm(r, add, add, post_attn, r->dim);
		for (uint32_t i = 0; i < r->dim; i++) {
			row[i] += add[i];
		}

		norm(r, h, row, ffn_norm, r->dim);
		linear(r, up, "ffn_up", l, h, r->ffn, r->dim);
		linear(r, h, "ffn_gate", l, h, r->ffn, r->dim);
		for (uint32_t i = 0; i < r->ffn; i++) {
			const double g = h[i];

			const double cubic = sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g);
			const double gelu = 0.5 * g * (1.0 + tanh(cubic));

			h[i] = (r->relu2  ? (g > 0.0 ? g * g : 0.0)
				: r->gelu ? gelu
					  : g / (1.0 + exp(-g))) *
			       up[i];
		}
		if (ffn_sub != NULL) {
			norm(r, h, h, ffn_sub, r->ffn);
		}
		linear(r, add, "ffn_down", l, h, r->dim, r->ffn);
		norm(r, add, add, post_ffn, r->dim);
		for (uint32_t i = 0; i < r->dim; i++) {
			row[i] += add[i];
		}
	}
	free(attn_norm);
	free(ffn_norm);
	free(attn_sub);
	free(ffn_sub);
	free(post_attn);
	free(post_ffn);
	free(add);
	free(h);
	free(q);
	free(ctx);
	free(up);
	free(keys);
	free(values);
}

static void open_ref(struct ref *r, const char *path)
{
	struct bn_str arch, act;
	const struct bn_gguf_tensor *embed;
	char key[128];

	memset(r, 0, sizeof(*r));
	if (bn_file_open(&r->file, AT_FDCWD, path, false, NULL) != BN_OK ||
	    bn_gguf_open(&r->gguf, &r->file, NULL) != BN_OK ||
	    bn_gguf_str(r->gguf, "general.architecture", &arch, NULL) != BN_OK) {
		die(path);
	}
	snprintf(r->arch, sizeof(r->arch), "%.*s", (int)arch.n, arch.p);
	embed = bn_gguf_tensor(r->gguf, "token_embd.weight");
	r->vocab = (uint32_t)embed->dims[1];
	r->layers = number(r, "block_count", 0);
	r->dim = number(r, "embedding_length", 0);
	r->ffn = number(r, "feed_forward_length", 0);
	r->heads = number(r, "attention.head_count", 0);
	r->kv_heads = number(r, "attention.head_count_kv", r->heads);
	r->head_dim = number(r, "attention.key_length", r->dim / r->heads);
	r->rot = number(r, "rope.dimension_count", r->head_dim);
	r->eps = real(r, "attention.layer_norm_rms_epsilon", 1e-5);
	r->base = real(r, "rope.freq_base", 10000.0);
	r->interleaved = strcmp(r->arch, "llama") == 0;
	r->relu2 = strcmp(r->arch, "bitnet-b1.58") == 0 || strcmp(r->arch, "bitnet-25") == 0;
	r->gelu = strcmp(r->arch, "gemma3") == 0;
	r->embed_scale = r->gelu ? sqrt(r->dim) : 1.0;
	r->window = number(r, "attention.sliding_window", 0);
	snprintf(key, sizeof(key), "%s.hidden_activation", r->arch);
	if (bn_gguf_has(r->gguf, key) && bn_gguf_str(r->gguf, key, &act, NULL) == BN_OK) {
		r->relu2 = act.n == 5 && memcmp(act.p, "relu2", 5) == 0;
	}
}

/* The residual stream [n, dim] behind all layers. */
static double *stream(const struct ref *r, const uint32_t *tokens, uint32_t n)
{
	double *embed = tensor(r, "token_embd", -1, NULL);
	double *x = malloc((size_t)n * r->dim * sizeof(double));

	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t i = 0; i < r->dim; i++) {
			x[(size_t)t * r->dim + i] =
				embed[(size_t)tokens[t] * r->dim + i] * r->embed_scale;
		}
	}
	free(embed);
	for (uint32_t l = 0; l < r->layers; l++) {
		layer(r, (int)l, x, n);
	}
	return x;
}

double *reference_vector(const char *path, const uint32_t *tokens, uint32_t n, uint32_t *dim)
{
	struct ref r;
	double *gain, *x, *state, *sum, squares = 0.0;
	uint32_t pooling;

	open_ref(&r, path);
	gain = tensor(&r, "output_norm", -1, NULL);
	pooling = number(&r, "pooling_type", 0);
	x = stream(&r, tokens, n);
	state = malloc(r.dim * sizeof(double));
	sum = calloc(r.dim, sizeof(double));
	for (uint32_t t = 0; t < n; t++) {
		norm(&r, state, x + (size_t)t * r.dim, gain, r.dim);
		if (pooling == 1 || (pooling == 2 && t == 0) || (pooling == 3 && t == n - 1)) {
			for (uint32_t i = 0; i < r.dim; i++) {
				sum[i] += state[i];
			}
		}
	}
	for (uint32_t i = 0; i < r.dim; i++) {
		squares += sum[i] * sum[i];
	}
	for (uint32_t i = 0; i < r.dim; i++) {
		sum[i] /= sqrt(squares);
	}
	free(gain);
	free(x);
	free(state);
	bn_gguf_free(r.gguf);
	bn_file_close(&r.file);
	*dim = r.dim;
	return sum;
}

double *reference_logits(const char *path, const uint32_t *tokens, uint32_t n, uint32_t *vocab)
{
	struct ref r;
	double *embed, *head, *gain, *x, *last, *logits;

	open_ref(&r, path);
	embed = tensor(&r, "token_embd", -1, NULL);
	head = tensor(&r, "output", -1, NULL);
	gain = tensor(&r, "output_norm", -1, NULL);
	x = stream(&r, tokens, n);
	last = malloc(r.dim * sizeof(double));
	logits = malloc((size_t)n * r.vocab * sizeof(double));
	for (uint32_t t = 0; t < n; t++) {
		const double *w = head != NULL ? head : embed;

		norm(&r, last, x + (size_t)t * r.dim, gain, r.dim);
		for (uint32_t i = 0; i < r.vocab; i++) {
			double sum = 0.0;

			for (uint32_t d = 0; d < r.dim; d++) {
				sum += w[(size_t)i * r.dim + d] * last[d];
			}
			logits[(size_t)t * r.vocab + i] = sum;
		}
	}
	free(embed);
	free(head);
	free(gain);
	free(x);
	free(last);
	bn_gguf_free(r.gguf);
	bn_file_close(&r.file);
	*vocab = r.vocab;
	return logits;
}
