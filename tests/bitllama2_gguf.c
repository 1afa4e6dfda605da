/*
 * bn-bitllama2-gguf: turns a ternary model of bitllama2.c into a GGUF file that bnd runs, so that
 * the tests have a model that was really trained, with golden outputs computed by other code.
 *
 *   bn-bitllama2-gguf FOLDER OUT.gguf      FOLDER holds bit_model_3M_lsb.bin and tokenizer.model
 *
 * Its linear layers compute q = int8(x / (|x| sqrt(n))) and multiply by a scale. x / (|x| sqrt(n))
 * is the RMS norm of x without gain, divided by the width n, and quantization does not see a common
 * factor: the same as our sub-normed `bitnet` graph with all gains 1 and the scale divided by n.
 * Its rope turns neighbours (2i, 2i + 1), ours the halves (i, i + half): the rows of wq and wk are
 * put in that order, head by head. The one eps of GGUF serves all norms; the model uses 1e-5 in the
 * last one and none in the others, where it must be small, so it is small.
 */
#include "engine/cursor.h"
#include "engine/file.h"
#include "engine/gguf_write.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
	MAGIC = 0x616b3432,
	HEADER_BYTES = 256,
	MAX_LAYERS = 64,
	MAX_DIM = 8192,
	FILE_TYPE_I2_S = 40,
};

#define INNER_EPS  1e-20f
#define ROPE_BASE  10000.0f
#define MODEL_FILE "bit_model_3M_lsb.bin"

/* In the order of the file: each kind for all layers, then the next kind. */
enum kind { WQ, WK, WV, WO, W1, W2, W3, KINDS };

static const char *const gguf_names[KINDS] = {
	[WQ] = "attn_q",   [WK] = "attn_k",   [WV] = "attn_v", [WO] = "attn_output",
	[W1] = "ffn_gate", [W2] = "ffn_down", [W3] = "ffn_up",
};

struct matrix {
	uint32_t rows, cols;
	float scale;
	const unsigned char *codes; /* four to a byte, low bits first; 0: 0, 1: +1, 3: -1 */
};

struct model {
	uint32_t dim, hidden, layers, heads, kv_heads, vocab, context;
	const unsigned char *final_norm, *embedding; /* little-endian floats, as GGUF wants */
	struct matrix matrices[MAX_LAYERS][KINDS];
};

/* Reads a whole file into memory the caller frees. */
static enum bn_status slurp(const char *folder, const char *name, unsigned char **out, size_t *n,
			    struct bn_error *err)
{
	char path[4096];
	struct bn_file file;
	enum bn_status status;

	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path)) {
		return bn_fail(err, BN_E_INVALID, "'%s': the path is too long", folder);
	}
	status = bn_file_open(&file, AT_FDCWD, path, false, err);
	if (status != BN_OK) {
		return bn_wrap(err, "'%s'", path);
	}
	*n = (size_t)file.size;
	*out = malloc(*n + 1);
	status = *out == NULL ? bn_fail(err, BN_E_MEMORY, "no %zu bytes of memory", *n)
			      : bn_file_read(&file, 0, *out, *n, err);
	bn_file_close(&file);
	if (status != BN_OK) {
		free(*out);
		*out = NULL;
		return bn_wrap(err, "'%s'", path);
	}
	return BN_OK;
}

static enum bn_status parse_header(struct model *m, struct bn_cursor *c, struct bn_error *err)
{
	uint32_t magic = bn_cursor_u32(c), version = bn_cursor_u32(c);

	m->dim = bn_cursor_u32(c);
	m->hidden = bn_cursor_u32(c);
	m->layers = bn_cursor_u32(c);
	m->heads = bn_cursor_u32(c);
	m->kv_heads = bn_cursor_u32(c);
	m->vocab = bn_cursor_u32(c);
	m->context = bn_cursor_u32(c);
	(void)bn_cursor_bytes(c, HEADER_BYTES - 9 * 4);
	if (c->failed || magic != MAGIC || version != 1) {
		return bn_fail(err, BN_E_FORMAT, MODEL_FILE " is not a bitllama2 model");
	}
	if (m->dim == 0 || m->dim > MAX_DIM || m->hidden == 0 || m->hidden > MAX_DIM ||
	    m->layers == 0 || m->layers > MAX_LAYERS || m->heads == 0 || m->dim % m->heads != 0 ||
	    m->dim / m->heads % 2 != 0 || m->kv_heads == 0 || m->heads % m->kv_heads != 0 ||
	    m->vocab == 0 || m->vocab > 1u << 20) {
		return bn_fail(err, BN_E_FORMAT, MODEL_FILE ": its dimensions make no sense");
	}
	return BN_OK;
}

static enum bn_status parse_model(struct model *m, struct bn_cursor *c, struct bn_error *err)
{
	enum bn_status status = parse_header(m, c, err);
	uint32_t kv_dim;

	if (status != BN_OK) {
		return status;
	}
	kv_dim = m->dim / m->heads * m->kv_heads;
	m->final_norm = bn_cursor_bytes(c, (size_t)m->dim * 4);
	m->embedding = bn_cursor_bytes(c, (size_t)m->vocab * m->dim * 4);
	for (enum kind k = 0; k < KINDS; k++) {
		for (uint32_t i = 0; i < m->layers; i++) {
			struct matrix *w = &m->matrices[i][k];

			w->rows = k == WK || k == WV   ? kv_dim
				  : k == W1 || k == W3 ? m->hidden
						       : m->dim;
			w->cols = k == W2 ? m->hidden : m->dim;
			w->scale = bn_cursor_f32(c);
			w->codes = bn_cursor_bytes(c, (size_t)w->rows * w->cols / 4);
		}
	}
	if (c->failed || bn_cursor_left(c) != 0) {
		return bn_fail(err, BN_E_FORMAT, MODEL_FILE ": %zu bytes where the end should be",
			       bn_cursor_left(c));
	}
	return BN_OK;
}

/* --- weights --------------------------------------------------------------------------------- */

/* The row of the file that becomes `row`, where heads have `width` rows (0: no rope). */
static uint32_t source_row(uint32_t row, uint32_t width)
{
	uint32_t in_head;

	if (width == 0) {
		return row;
	}
	in_head = row % width;
	return row - in_head + (in_head < width / 2 ? 2 * in_head : 2 * (in_head - width / 2) + 1);
}

/* The file's two bits as I2_S has them: 0, 1, 2 for -1, 0, +1. */
static bool recode(unsigned code, unsigned *out)
{
	static const unsigned char codes[4] = { 1, 2, 0xff, 0 };

	*out = codes[code];
	return codes[code] != 0xff;
}

static enum bn_status write_matrix(struct bn_gguf_writer *w, const struct matrix *m,
				   uint32_t head_width, struct bn_error *err)
{
	size_t n = (size_t)m->rows * m->cols;
	unsigned char *out = calloc(n / 4 + 32, 1);
	float scale = m->scale / (float)m->cols;
	uint32_t bits;

	if (out == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a matrix");
	}
	for (size_t i = 0; i < n; i++) {
		size_t from = (size_t)source_row((uint32_t)(i / m->cols), head_width) * m->cols +
			      i % m->cols;
		unsigned code;

		if (!recode((unsigned)m->codes[from / 4] >> (2 * (from % 4)) & 3u, &code)) {
			free(out);
			return bn_fail(err, BN_E_FORMAT, MODEL_FILE ": a weight has code 2");
		}
		out[i / 128 * 32 + i % 32] |= (unsigned char)(code << (6 - 2 * (i % 128 / 32)));
	}
	memcpy(&bits, &scale, sizeof(bits));
	for (size_t i = 0; i < 4; i++) {
		out[n / 4 + i] = (unsigned char)(bits >> (8 * i));
	}
	bn_gguf_write(w, out, n / 4 + 32);
	free(out);
	return BN_OK;
}

static void write_ones(struct bn_gguf_writer *w, uint32_t n)
{
	static const unsigned char one[4] = { 0, 0, 0x80, 0x3f };

	for (uint32_t i = 0; i < n; i++) {
		bn_gguf_write(w, one, sizeof(one));
	}
}

/*
 * A layer's tensors in the order of the file. Called twice: to announce (data false) and to write.
 */
static enum bn_status layer(struct bn_gguf_writer *w, const struct model *m, uint32_t i, bool data,
			    struct bn_error *err)
{
	static const struct {
		const char *norm; /* or */
		enum kind kind;
	} order[] = {
		{ "attn_norm", 0 },     { NULL, WQ },          { NULL, WK },      { NULL, WV },
		{ "attn_sub_norm", 0 }, { NULL, WO },          { "ffn_norm", 0 }, { NULL, W1 },
		{ NULL, W3 },           { "ffn_sub_norm", 0 }, { NULL, W2 },
	};
	enum bn_status status = BN_OK;

	for (size_t k = 0; k < sizeof(order) / sizeof(order[0]) && status == BN_OK; k++) {
		const struct matrix *mat = &m->matrices[i][order[k].kind];
		const bool norm = order[k].norm != NULL;
		const uint32_t width =
			norm && strcmp(order[k].norm, "ffn_sub_norm") == 0 ? m->hidden : m->dim;
		const bool roped = !norm && (order[k].kind == WQ || order[k].kind == WK);
		const uint64_t dims[2] = { norm ? width : mat->cols, norm ? 1 : mat->rows };
		char name[64];

		if (!data) {
			snprintf(name, sizeof(name), "blk.%u.%s.weight", i,
				 norm ? order[k].norm : gguf_names[order[k].kind]);
			bn_gguf_put_tensor(w, name, norm ? BN_GGML_F32 : BN_GGML_I2_S, norm ? 1 : 2,
					   dims);
		} else if (norm) {
			write_ones(w, width);
		} else {
			status = write_matrix(w, mat, roped ? m->dim / m->heads : 0, err);
		}
	}
	return status;
}

/* --- tokenizer ------------------------------------------------------------------------------- */

static uint64_t varint(struct bn_cursor *c)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = bn_cursor_u8(c);

		value |= (uint64_t)(byte & 127) << shift;
		if (byte < 128) {
			return value;
		}
	}
	c->failed = true;
	return 0;
}

/* Skips a protobuf field's value, or gives the bytes of a length-delimited one. */
static struct bn_str field(struct bn_cursor *c, uint64_t tag)
{
	struct bn_str s = { NULL, 0 };

	switch (tag & 7) {
	case 0:
		(void)varint(c);
		break;
	case 1:
		(void)bn_cursor_u64(c);
		break;
	case 2:
		s.n = (size_t)varint(c);
		s.p = (const char *)bn_cursor_bytes(c, s.n);
		break;
	case 5:
		(void)bn_cursor_u32(c);
		break;
	default:
		c->failed = true;
	}
	return s;
}

/* sentencepiece_model.proto: ModelProto.pieces = 1 { piece = 1, score = 2, type = 3 }. Its types
 * have the numbers of tokenizer.ggml.token_type; absent means normal. */
static bool piece(struct bn_str bytes, struct bn_str *text, float *score, int32_t *type)
{
	struct bn_cursor c;

	bn_cursor_init(&c, bytes.p, bytes.n);
	*type = 1;
	while (bn_cursor_left(&c) > 0) {
		uint64_t tag = varint(&c);

		if (tag == (1 << 3 | 2)) {
			*text = field(&c, tag);
		} else if (tag == (2 << 3 | 5)) {
			*score = bn_cursor_f32(&c);
		} else if (tag == (3 << 3 | 0)) {
			*type = (int32_t)varint(&c);
		} else {
			(void)field(&c, tag);
		}
	}
	return !c.failed && text->p != NULL;
}

static enum bn_status put_tokenizer(struct bn_gguf_writer *w, const struct model *m,
				    const unsigned char *bytes, size_t n, struct bn_error *err)
{
	struct bn_str *tokens = calloc(m->vocab, sizeof(*tokens));
	float *scores = calloc(m->vocab, sizeof(*scores));
	int32_t *types = calloc(m->vocab, sizeof(*types));
	enum bn_status status = BN_OK;
	struct bn_cursor c;
	uint32_t count = 0;

	if (tokens == NULL || scores == NULL || types == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory for %u tokens", m->vocab);
	}
	bn_cursor_init(&c, bytes, n);
	while (status == BN_OK && bn_cursor_left(&c) > 0) {
		uint64_t tag = varint(&c);
		struct bn_str s = field(&c, tag);

		if (tag != (1 << 3 | 2)) {
			continue;
		}
		if (c.failed || count >= m->vocab ||
		    !piece(s, &tokens[count], &scores[count], &types[count])) {
			status = bn_fail(err, BN_E_FORMAT, "tokenizer.model: piece %u is damaged",
					 count);
		}
		count++;
	}
	if (status == BN_OK && (c.failed || count != m->vocab)) {
		status = bn_fail(err, BN_E_FORMAT, "tokenizer.model: %u pieces, the model has %u",
				 count, m->vocab);
	}
	if (status == BN_OK) {
		bn_gguf_put_str(w, "tokenizer.ggml.model", "llama");
		bn_gguf_put_str(w, "tokenizer.ggml.pre", "default");
		bn_gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, count);
		bn_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, count);
		bn_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, count);
		bn_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
		bn_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
		bn_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
		bn_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
		bn_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", true);
	}
	free(tokens);
	free(scores);
	free(types);
	return status;
}

/* --- the file -------------------------------------------------------------------------------- */

static void put_hyper(struct bn_gguf_writer *w, const struct model *m)
{
	bn_gguf_put_str(w, "general.architecture", "bitnet");
	bn_gguf_put_str(w, "general.name", "bitllama2 TinyStories 3M");
	bn_gguf_put_str(w, "general.license", "mit");
	bn_gguf_put_u32(w, "bitnet.vocab_size", m->vocab);
	bn_gguf_put_u32(w, "bitnet.context_length", m->context);
	bn_gguf_put_u32(w, "bitnet.embedding_length", m->dim);
	bn_gguf_put_u32(w, "bitnet.block_count", m->layers);
	bn_gguf_put_u32(w, "bitnet.feed_forward_length", m->hidden);
	bn_gguf_put_u32(w, "bitnet.attention.head_count", m->heads);
	bn_gguf_put_u32(w, "bitnet.attention.head_count_kv", m->kv_heads);
	bn_gguf_put_f32(w, "bitnet.attention.layer_norm_rms_epsilon", INNER_EPS);
	bn_gguf_put_f32(w, "bitnet.rope.freq_base", ROPE_BASE);
	bn_gguf_put_str(w, "bitnet.hidden_activation", "silu");
	bn_gguf_put_u32(w, "general.file_type", FILE_TYPE_I2_S);
	bn_gguf_put_u32(w, "general.quantization_version", 2);
}

static enum bn_status put_tensors(struct bn_gguf_writer *w, const struct model *m,
				  struct bn_error *err)
{
	const uint64_t embedding[2] = { m->dim, m->vocab };
	enum bn_status status = BN_OK;

	bn_gguf_put_tensor(w, "token_embd.weight", BN_GGML_F32, 2, embedding);
	for (uint32_t i = 0; i < m->layers && status == BN_OK; i++) {
		status = layer(w, m, i, false, err);
	}
	bn_gguf_put_tensor(w, "output_norm.weight", BN_GGML_F32, 1, embedding);

	bn_gguf_write(w, m->embedding, (size_t)m->vocab * m->dim * 4);
	for (uint32_t i = 0; i < m->layers && status == BN_OK; i++) {
		status = layer(w, m, i, true, err);
	}
	bn_gguf_write(w, m->final_norm, (size_t)m->dim * 4);
	return status;
}

static enum bn_status convert(const char *folder, const char *out, struct bn_error *err)
{
	unsigned char *weights = NULL, *tokenizer = NULL;
	struct bn_gguf_writer *w = NULL;
	struct model *m = calloc(1, sizeof(*m));
	size_t weights_bytes, tokenizer_bytes;
	struct bn_cursor c;
	enum bn_status status;

	if (m == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a model");
	}
	status = slurp(folder, MODEL_FILE, &weights, &weights_bytes, err);
	if (status != BN_OK) {
		goto out;
	}
	status = slurp(folder, "tokenizer.model", &tokenizer, &tokenizer_bytes, err);
	if (status != BN_OK) {
		goto out;
	}
	bn_cursor_init(&c, weights, weights_bytes);
	status = parse_model(m, &c, err);
	if (status != BN_OK) {
		goto out;
	}
	status = bn_gguf_writer_new(&w, out, 32, err);
	if (status != BN_OK) {
		goto out;
	}
	put_hyper(w, m);
	status = put_tokenizer(w, m, tokenizer, tokenizer_bytes, err);
	if (status != BN_OK) {
		goto out;
	}
	status = put_tensors(w, m, err);
	if (status == BN_OK) {
		status = bn_gguf_commit(w, err);
	}
out:
	bn_gguf_writer_free(w);
	free(weights);
	free(tokenizer);
	free(m);
	return status;
}

int main(int argc, char **argv)
{
	struct bn_error err;

	if (argc != 3) {
		fprintf(stderr, "usage: bn-bitllama2-gguf FOLDER OUT.gguf\n");
		return EX_USAGE;
	}
	if (convert(argv[1], argv[2], &err) != BN_OK) {
		fprintf(stderr, "bn-bitllama2-gguf: %s\n", err.text);
		return EX_DATAERR;
	}
	return EX_OK;
}
