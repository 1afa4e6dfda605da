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
#include "kernels/half.h"

#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_BYTES = 1 << 20, /* of tensor data per write; a multiple of every block size    */
	TABLE = 4096,          /* distinct values in an F16 embedding                         */
	NAME_BYTES = 64,
	SPECIALS_FEW = 10,
	SPECIALS_MANY = 256, /* as in the Llama-3 vocabulary                                */
	SPECIALS_MANY_FROM = 4096,
	TOKEN_NORMAL = 1, /* tokenizer.ggml.token_type                                   */
	TOKEN_UNKNOWN = 2,
	TOKEN_CONTROL = 3,
	TOKEN_BYTE = 6,
	FILE_TYPE_I2_S = 40,
	LONGEST_PIECE = 32,
};

struct preset {
	const char *key;
	struct bn_tiny model;
};

#define GPT2 BN_TINY_GPT2
#define SPM  BN_TINY_SPM
/* clang-format off: three lines each */
static const struct preset presets[] = {
	/* key, { name, arch, layers, dim, ffn, heads, kv, vocab, context, rope base, eps,
	 *        tied, sub-norms, gains one, embedding, tokenizer, pre, seed } */
	{ "bitnet-2b-4t",
	  { "synthetic BitNet-b1.58-2B-4T", "bitnet-b1.58", 30, 2560, 6912, 20, 5, 128256, 4096,
	    500000.0f, 1e-5f, true, true, false, BN_GGML_F16, GPT2, NULL, 1 } },
	{ "large",
	  { "synthetic bitnet_b1_58-large", "bitnet", 24, 1536, 4096, 16, 16, 32002, 2048, 10000.0f,
	    1e-5f, true, true, false, BN_GGML_F16, SPM, "default", 1 } },
	{ "3b",
	  { "synthetic bitnet_b1_58-3B", "bitnet", 26, 3200, 8640, 32, 32, 32002, 2048, 10000.0f,
	    1e-5f, true, true, false, BN_GGML_F16, SPM, "default", 1 } },
	{ "llama3-8b",
	  { "synthetic Llama3-8B-1.58", "llama", 32, 4096, 14336, 32, 8, 128256, 8192, 500000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "llama-bpe", 1 } },
	{ "falcon3-1b",
	  { "synthetic Falcon3-1B-1.58bit", "llama", 18, 2048, 8192, 8, 4, 131072, 8192, 1000042.0f,
	    1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1 } },
	{ "falcon3-3b",
	  { "synthetic Falcon3-3B-1.58bit", "llama", 22, 3072, 9216, 12, 4, 131072, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1 } },
	{ "falcon3-7b",
	  { "synthetic Falcon3-7B-1.58bit", "llama", 28, 3072, 23040, 12, 4, 131080, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1 } },
	{ "falcon3-10b",
	  { "synthetic Falcon3-10B-1.58bit", "llama", 40, 3072, 23040, 12, 4, 131072, 32768,
	    1000042.0f, 1e-6f, false, false, false, BN_GGML_F16, GPT2, "falcon3", 1 } },
	{ "falcon-e-1b",
	  { "synthetic Falcon-E-1B", "llama", 24, 2048, 9216, 16, 2, 32768, 32768, 1000000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "falcon_e", 1 } },
	{ "falcon-e-3b",
	  { "synthetic Falcon-E-3B", "llama", 32, 2048, 13312, 16, 2, 32768, 32768, 1000000.0f,
	    1e-5f, false, false, false, BN_GGML_F16, GPT2, "falcon_e", 1 } },
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

/* --- randomness ------------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t draw(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

/* About normal, mean 0, deviation 1: a sum of four uniform numbers, from -3.46 to 3.46. */
static float draw_normal(uint64_t *state)
{
	uint64_t r = draw(state);
	uint32_t sum = (uint32_t)(r & 0xffff) + (uint32_t)(r >> 16 & 0xffff) +
		       (uint32_t)(r >> 32 & 0xffff) + (uint32_t)(r >> 48);

	return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

/* --- vocabulary ------------------------------------------------------------------------------ */

/* Token texts in one buffer each; sized for the longest piece we make. */
struct lexicon {
	struct bn_str *tokens, *merges;
	float *scores;
	int32_t *types;
	char *text; /* where the next string goes */
	char *memory;
	size_t n, n_merges;
};

static bool lexicon_new(struct lexicon *x, uint32_t vocab)
{
	*x = (struct lexicon){
		.tokens = calloc(vocab, sizeof(*x->tokens)),
		.merges = calloc(vocab, sizeof(*x->merges)),
		.scores = calloc(vocab, sizeof(*x->scores)),
		.types = calloc(vocab, sizeof(*x->types)),
		.memory = calloc(vocab, (size_t)3 * LONGEST_PIECE),
	};
	x->text = x->memory;
	return x->tokens != NULL && x->merges != NULL && x->scores != NULL && x->types != NULL &&
	       x->memory != NULL;
}

static void lexicon_free(struct lexicon *x)
{
	free(x->tokens);
	free(x->merges);
	free(x->scores);
	free(x->types);
	free(x->memory);
}

static struct bn_str keep(struct lexicon *x, const char *p, size_t n)
{
	struct bn_str s = { x->text, n };

	memcpy(x->text, p, n);
	x->text += n;
	return s;
}

static void add(struct lexicon *x, const char *text, int32_t type, float score)
{
	x->tokens[x->n] = keep(x, text, strlen(text));
	x->types[x->n] = type;
	x->scores[x->n] = score;
	x->n++;
}

/* GPT-2's printable stand-in for a byte, in UTF-8: itself, or U+0100 and up in order. */
static void byte_symbol(unsigned byte, char out[4])
{
	unsigned code = byte, shift = 0;

	for (unsigned b = 0; b <= byte; b++) {
		bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

		if (b == byte && !printable) {
			code = 0x100 + shift;
		}
		shift += !printable;
	}
	if (code < 0x80) {
		snprintf(out, 4, "%c", (char)code);
	} else {
		snprintf(out, 4, "%c%c", (char)(0xc0 | code >> 6), (char)(0x80 | (code & 63)));
	}
}

/*
 * Fills the lexicon up to `end` with words: breadth first, each token of the queue (first the
 * `n_roots` one-letter ones) is extended by each letter. A word has one parent, so none occurs
 * twice, and its merge comes after its parent's.
 */
static void add_words(struct lexicon *x, const struct bn_str *roots, size_t n_roots, size_t end)
{
	size_t first = x->n, taken = 0;

	while (x->n < end) {
		struct bn_str parent =
			taken < n_roots ? roots[taken] : x->tokens[first + taken - n_roots];

		taken++;
		for (char letter = 'a'; letter <= 'z' && x->n < end; letter++) {
			char word[LONGEST_PIECE], merge[LONGEST_PIECE + 1];
			int n = snprintf(word, sizeof(word), "%.*s%c", (int)parent.n, parent.p,
					 letter);
			int m = snprintf(merge, sizeof(merge), "%.*s %c", (int)parent.n, parent.p,
					 letter);

			x->tokens[x->n] = keep(x, word, (size_t)n);
			x->types[x->n] = TOKEN_NORMAL;
			x->scores[x->n] = -(float)(x->n - first);
			x->n++;
			x->merges[x->n_merges++] = keep(x, merge, (size_t)m);
		}
	}
}

static uint32_t specials(const struct bn_tiny *t)
{
	return t->vocab >= SPECIALS_MANY_FROM ? SPECIALS_MANY : SPECIALS_FEW;
}

static void fill_gpt2(struct lexicon *x, const struct bn_tiny *t)
{
	static const char *const named[SPECIALS_FEW] = {
		[0] = "<|begin_of_text|>", [1] = "<|end_of_text|>", [6] = "<|start_header_id|>",
		[7] = "<|end_header_id|>", [9] = "<|eot_id|>",
	};
	struct bn_str roots[27];
	size_t n_roots = 0;

	/* Llama-3's order of byte symbols: the printable ones, then their stand-ins. */
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned b = 0; b < 256; b++) {
			bool printable =
				(b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
			char symbol[4];

			if (printable == (pass == 0)) {
				byte_symbol(b, symbol);
				add(x, symbol, TOKEN_NORMAL, 0.0f);
				if (b == ' ' || (b >= 'a' && b <= 'z')) {
					roots[n_roots++] = x->tokens[x->n - 1];
				}
			}
		}
	}
	add_words(x, roots, n_roots, t->vocab - specials(t));
	memset(x->scores, 0, x->n * sizeof(*x->scores));
	for (uint32_t i = 0; i < specials(t); i++) {
		char reserved[NAME_BYTES];

		snprintf(reserved, sizeof(reserved), "<|reserved_special_token_%u|>", i);
		add(x, i < SPECIALS_FEW && named[i] != NULL ? named[i] : reserved, TOKEN_CONTROL,
		    0.0f);
	}
}

static void fill_spm(struct lexicon *x, const struct bn_tiny *t)
{
	struct bn_str roots[27];
	size_t n_roots = 0;

	add(x, "<unk>", TOKEN_UNKNOWN, 0.0f);
	add(x, "<s>", TOKEN_CONTROL, 0.0f);
	add(x, "</s>", TOKEN_CONTROL, 0.0f);
	for (unsigned b = 0; b < 256; b++) {
		char text[8];

		snprintf(text, sizeof(text), "<0x%02X>", b);
		add(x, text, TOKEN_BYTE, 0.0f);
	}
	/* Only as much of ASCII as a tiny vocabulary has room for; bytes cover the rest. */
	add(x, "\xe2\x96\x81", TOKEN_NORMAL, -1e6f);
	roots[n_roots++] = x->tokens[x->n - 1];
	for (char c = 'a'; c <= 'z'; c++) {
		char text[2] = { c, '\0' };

		add(x, text, TOKEN_NORMAL, -1e6f);
		roots[n_roots++] = x->tokens[x->n - 1];
	}
	add_words(x, roots, n_roots, t->vocab);
}

static void put_tokenizer(struct bn_gguf_writer *w, const struct bn_tiny *t,
			  const struct lexicon *x)
{
	const bool spm = t->tokenizer == BN_TINY_SPM;
	const uint32_t bos = spm ? 1 : t->vocab - specials(t);

	bn_gguf_put_str(w, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	if (t->pre != NULL) {
		bn_gguf_put_str(w, "tokenizer.ggml.pre", t->pre);
	}
	bn_gguf_put_strs(w, "tokenizer.ggml.tokens", x->tokens, x->n);
	bn_gguf_put_f32s(w, "tokenizer.ggml.scores", x->scores, x->n);
	bn_gguf_put_i32s(w, "tokenizer.ggml.token_type", x->types, x->n);
	if (!spm) {
		bn_gguf_put_strs(w, "tokenizer.ggml.merges", x->merges, x->n_merges);
	}
	bn_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", bos);
	bn_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", bos + 1);
	if (spm) {
		bn_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
	} else {
		bn_gguf_put_u32(w, "tokenizer.ggml.padding_token_id", bos + 1);
	}
	bn_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
}

/* --- metadata -------------------------------------------------------------------------------- */

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
		put_u32(w, t, "rope.dimension_count", t->dim / t->heads);
	}
	bn_gguf_put_u32(w, "general.file_type", FILE_TYPE_I2_S);
	bn_gguf_put_u32(w, "general.quantization_version", 2);
}

/* --- tensors --------------------------------------------------------------------------------- */

struct plan {
	char name[NAME_BYTES];
	enum bn_ggml_type type;
	uint64_t cols, rows;
	float spread; /* scale of a ternary tensor, deviation of a dense one */
};

enum { PER_LAYER = 11, GLOBAL = 3 };

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
	const uint64_t kv = (uint64_t)t->dim / t->heads * t->kv_heads;
	const double gain = t->norms_one ? 0.0 : 0.1, residual = 1.0 / sqrt(2.0 * t->layers);
	const double from_dim = sqrt(2.0 / t->dim), from_ffn = sqrt(2.0 / t->ffn);
	char prefix[24], name[NAME_BYTES];
	const struct {
		const char *name;
		bool present;
		enum bn_ggml_type type;
		uint64_t cols, rows;
		double spread;
	} tensors[PER_LAYER] = {
		{ "attn_norm", true, BN_GGML_F32, t->dim, 1, gain },
		{ "attn_q", true, BN_GGML_I2_S, t->dim, t->dim, from_dim },
		{ "attn_k", true, BN_GGML_I2_S, t->dim, kv, from_dim },
		{ "attn_v", true, BN_GGML_I2_S, t->dim, kv, from_dim },
		{ "attn_sub_norm", t->sub_norms, BN_GGML_F32, t->dim, 1, gain },
		{ "attn_output", true, BN_GGML_I2_S, t->dim, t->dim, from_dim * residual },
		{ "ffn_norm", true, BN_GGML_F32, t->dim, 1, gain },
		{ "ffn_gate", true, BN_GGML_I2_S, t->dim, t->ffn, from_dim },
		{ "ffn_up", true, BN_GGML_I2_S, t->dim, t->ffn, from_dim },
		{ "ffn_sub_norm", t->sub_norms, BN_GGML_F32, t->ffn, 1, gain },
		{ "ffn_down", true, BN_GGML_I2_S, t->ffn, t->dim, from_ffn * residual },
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

/* --- data ------------------------------------------------------------------------------------ */

static void fill_random(unsigned char *p, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = htole64(draw(state));

		memcpy(p + i, &r, n - i < 8 ? n - i : 8);
	}
}

/*
 * Trits, 32 to a draw: of two random bits 3 becomes 1, so -1, 0, +1 come as 25, 50, 25 %, which is
 * what the published model has (25.2, 49.6, 25.2).
 */
static void fill_trits(unsigned char *p, size_t n, uint64_t *state)
{
	const uint64_t low_bits = UINT64_C(0x5555555555555555);

	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = draw(state);

		r = htole64(r & ~((r & r >> 1 & low_bits) << 1));
		memcpy(p + i, &r, n - i < 8 ? n - i : 8);
	}
}

static void put_float(unsigned char *p, float value)
{
	uint32_t bits = bn_float_bits(value);

	for (size_t i = 0; i < 4; i++) {
		p[i] = (unsigned char)(bits >> (8 * i));
	}
}

static void put_half(unsigned char *p, float value)
{
	uint16_t half = bn_float_to_half(value);

	p[0] = (unsigned char)half;
	p[1] = (unsigned char)(half >> 8);
}

/* A gain of a norm: about 1. Everything else: about 0. */
static void fill_f32(unsigned char *p, size_t n, uint64_t *state, float mean, float spread)
{
	for (size_t i = 0; i + 4 <= n; i += 4) {
		put_float(p + i, mean + spread * draw_normal(state));
	}
}

static void fill_f16(unsigned char *p, size_t n, uint64_t *state, const uint16_t *table)
{
	for (size_t i = 0; i + 2 <= n;) {
		uint64_t r = draw(state);

		for (int k = 0; k < 5 && i + 2 <= n; k++, i += 2, r >>= 12) {
			uint16_t half = table[r % TABLE];

			p[i] = (unsigned char)half;
			p[i + 1] = (unsigned char)(half >> 8);
		}
	}
}

/* Uniform quants; their deviation is 74 for q8_0 and 18.5 * 32 for q6_k with scales about 32. */
static void fill_blocks(unsigned char *p, size_t n, uint64_t *state, enum bn_ggml_type type,
			float spread)
{
	const size_t block = type == BN_GGML_Q8_0 ? 34 : 210;

	fill_random(p, n, state);
	for (size_t i = 0; i + block <= n; i += block) {
		if (type == BN_GGML_Q8_0) {
			put_half(p + i, spread / 74.0f);
			for (size_t k = 2; k < block; k++) {
				if (p[i + k] == 0x80) { /* quantizers never give -128 */
					p[i + k] = 0x81;
				}
			}
		} else {
			for (size_t k = 192; k < 208; k++) {
				p[i + k] = (unsigned char)(24 + p[i + k] % 16);
			}
			put_half(p + i + 208, spread / (18.5f * 32.0f));
		}
	}
}

static void write_tensor(struct bn_gguf_writer *w, const struct plan *plan, uint64_t seed,
			 unsigned char *piece)
{
	const uint64_t dims[2] = { plan->cols, plan->rows };
	const uint32_t block = plan->type == BN_GGML_Q8_0   ? 34
			       : plan->type == BN_GGML_Q6_K ? 210
							    : 64;
	uint64_t state = seed, left, total;
	uint16_t table[TABLE];

	if (bn_ggml_nbytes(plan->type, 2, dims, &total) != BN_GGML_FITS) {
		return; /* the writer has said so already */
	}
	if (plan->type == BN_GGML_F16) {
		for (size_t i = 0; i < TABLE; i++) {
			table[i] = bn_float_to_half(plan->spread * draw_normal(&state));
		}
	}
	left = plan->type == BN_GGML_I2_S ? total - 32 : total;
	while (left > 0 && bn_gguf_writer_ok(w)) {
		size_t most = PIECE_BYTES / block * block;
		size_t n = left < most ? (size_t)left : most;

		if (plan->type == BN_GGML_I2_S) {
			fill_trits(piece, n, &state);
		} else if (plan->type == BN_GGML_F16) {
			fill_f16(piece, n, &state, table);
		} else if (plan->type == BN_GGML_F32) {
			fill_f32(piece, n, &state, plan->rows == 1 ? 1.0f : 0.0f, plan->spread);
		} else {
			fill_blocks(piece, n, &state, plan->type, plan->spread);
		}
		bn_gguf_write(w, piece, n);
		left -= n;
	}
	if (plan->type == BN_GGML_I2_S) {
		unsigned char tail[32] = { 0 };

		put_float(tail, plan->spread);
		bn_gguf_write(w, tail, sizeof(tail));
	}
}

/* --- the model ------------------------------------------------------------------------------- */

static enum bn_status check(const struct bn_tiny *t, struct bn_error *err)
{
	if (t->heads == 0 || t->dim % t->heads != 0 || t->kv_heads == 0 ||
	    t->heads % t->kv_heads != 0 || t->dim / t->heads % 2 != 0) {
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
	if (t->embedding != BN_GGML_F32 && t->embedding != BN_GGML_F16 &&
	    t->embedding != BN_GGML_Q8_0 && t->embedding != BN_GGML_Q6_K) {
		return bn_fail(err, BN_E_INVALID, "no embedding of type %s is made here",
			       bn_ggml_name(t->embedding));
	}
	return BN_OK;
}

static enum bn_status write_all(struct bn_gguf_writer *w, const struct bn_tiny *t,
				struct lexicon *x, struct plan *list, unsigned char *piece,
				struct bn_error *err)
{
	size_t n = plan_all(t, list);

	if (t->tokenizer == BN_TINY_SPM) {
		fill_spm(x, t);
	} else {
		fill_gpt2(x, t);
	}
	put_hyper(w, t);
	put_tokenizer(w, t, x);
	for (size_t i = 0; i < n; i++) {
		const uint64_t dims[2] = { list[i].cols, list[i].rows };

		bn_gguf_put_tensor(w, list[i].name, list[i].type, list[i].rows == 1 ? 1 : 2, dims);
	}
	for (size_t i = 0; i < n && bn_gguf_writer_ok(w); i++) {
		write_tensor(w, &list[i], mix(t->seed + (uint64_t)i * 0x10001), piece);
	}
	return bn_gguf_commit(w, err);
}

enum bn_status bn_tiny_write(const struct bn_tiny *t, const char *path, struct bn_error *err)
{
	struct bn_gguf_writer *w = NULL;
	struct lexicon x = { 0 };
	struct plan *list = NULL;
	unsigned char *piece = NULL;
	enum bn_status status = check(t, err);

	if (status != BN_OK) {
		return status;
	}
	list = calloc((size_t)t->layers * PER_LAYER + GLOBAL, sizeof(*list));
	piece = malloc(PIECE_BYTES);
	if (!lexicon_new(&x, t->vocab) || list == NULL || piece == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory to make a model");
		goto out;
	}
	status = bn_gguf_writer_new(&w, path, 32, err);
	if (status != BN_OK) {
		goto out;
	}
	status = write_all(w, t, &x, list, piece, err);
out:
	bn_gguf_writer_free(w);
	lexicon_free(&x);
	free(piece);
	free(list);
	return status;
}
