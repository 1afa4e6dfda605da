/*
 * The vocabulary of a GGUF file, with the rules of known models where files are silent or wrong.
 * Sources and evidence for each rule: the design paper "models", sections 3.4, 3.6 and 5.
 */
#include "engine/gguf.h"
#include "engine/pretokenize.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum { LLAMA3_TOKENS = 128256 };

/* What was read; the vocabulary borrows the arrays. */
struct reading {
	const struct bn_gguf *gguf;
	struct bn_vocab vocab;
	struct bn_str *tokens;
	struct bn_str *merges;
	float *scores;
	uint8_t *types;
	struct bn_error *err;
};

static void *take(struct reading *r, size_t count, size_t size)
{
	void *p = calloc(count > 0 ? count : 1, size);

	if (p == NULL) {
		bn_fail(r->err, BN_E_MEMORY, "no memory to read %zu entries of the vocabulary",
			count);
	}
	return p;
}

static enum bn_status read_strings(struct reading *r, struct bn_gguf_array *array,
				   struct bn_str **out)
{
	*out = take(r, array->count, sizeof(**out));
	if (*out == NULL) {
		return BN_E_MEMORY;
	}
	for (size_t i = 0; i < array->count && bn_gguf_next_str(array, &(*out)[i]); i++) {
	}
	return BN_OK;
}

static enum bn_status read_tokens(struct reading *r, uint32_t vocab_rows)
{
	struct bn_gguf_array array;
	enum bn_status status = bn_gguf_strs(r->gguf, "tokenizer.ggml.tokens", 0, &array, r->err);

	if (status != BN_OK) {
		return status;
	}
	if (array.count > vocab_rows) {
		return bn_fail(r->err, BN_E_FORMAT,
			       "tokenizer.ggml.tokens has %zu tokens, the embedding has %u rows",
			       array.count, vocab_rows);
	}
	status = read_strings(r, &array, &r->tokens);
	r->vocab.tokens = r->tokens;
	r->vocab.n_tokens = (uint32_t)array.count;
	return status;
}

static enum bn_status read_types(struct reading *r)
{
	struct bn_gguf_array array;
	enum bn_status status;

	if (!bn_gguf_has(r->gguf, "tokenizer.ggml.token_type")) {
		return BN_OK;
	}
	status = bn_gguf_ints(r->gguf, "tokenizer.ggml.token_type", r->vocab.n_tokens, &array,
			      r->err);
	if (status != BN_OK) {
		return status;
	}
	r->types = take(r, array.count, sizeof(*r->types));
	if (r->types == NULL) {
		return BN_E_MEMORY;
	}
	for (size_t i = 0; i < array.count; i++) {
		int64_t type = bn_gguf_int_at(&array, i);
		bool known = type >= BN_TOKEN_NORMAL && type <= BN_TOKEN_BYTE;

		r->types[i] = (uint8_t)(known ? type : BN_TOKEN_NORMAL);
	}
	r->vocab.types = r->types;
	return BN_OK;
}

static enum bn_status read_scores(struct reading *r)
{
	struct bn_gguf_array array;
	enum bn_status status;

	if (!bn_gguf_has(r->gguf, "tokenizer.ggml.scores")) {
		return BN_OK;
	}
	status = bn_gguf_f32s(r->gguf, "tokenizer.ggml.scores", r->vocab.n_tokens, &array, r->err);
	if (status != BN_OK) {
		return status;
	}
	r->scores = take(r, array.count, sizeof(*r->scores));
	if (r->scores == NULL) {
		return BN_E_MEMORY;
	}
	for (size_t i = 0; i < array.count; i++) {
		r->scores[i] = bn_gguf_f32_at(&array, i);
	}
	r->vocab.scores = r->scores;
	return BN_OK;
}

static enum bn_status read_merges(struct reading *r)
{
	struct bn_gguf_array array;
	enum bn_status status = bn_gguf_strs(r->gguf, "tokenizer.ggml.merges", 0, &array, r->err);

	if (status != BN_OK) {
		return status;
	}
	if (array.count > BN_TOKENIZER_MAX_MERGES) {
		return bn_fail(r->err, BN_E_FORMAT,
			       "tokenizer.ggml.merges has %zu merges, at most %d expected",
			       array.count, BN_TOKENIZER_MAX_MERGES);
	}
	status = read_strings(r, &array, &r->merges);
	r->vocab.merges = r->merges;
	r->vocab.n_merges = (uint32_t)array.count;
	return status;
}

/*
 * An id under `key`, or what SentencePiece's trainer always puts at `usual` when the file is
 * silent and the token there is spelled so. Ids out of range, -1 among them, mean none.
 */
static bn_token read_id(const struct reading *r, const char *key, bn_token usual,
			const char *spelling)
{
	const struct bn_vocab *v = &r->vocab;
	uint32_t id;

	if (bn_gguf_has(r->gguf, key)) {
		return bn_gguf_u32(r->gguf, key, 0, v->n_tokens - 1, &id, NULL) == BN_OK
			       ? id
			       : BN_TOKEN_NONE;
	}
	if (v->kind == BN_TOKENIZER_SPM && spelling != NULL && usual < v->n_tokens &&
	    v->tokens[usual].n == strlen(spelling) &&
	    memcmp(v->tokens[usual].p, spelling, strlen(spelling)) == 0) {
		return usual;
	}
	return BN_TOKEN_NONE;
}

/* A flag that may be absent; one of another type is a damaged file. */
static enum bn_status read_flag(const struct reading *r, const char *key, bool usual, bool *out)
{
	*out = usual;
	return bn_gguf_has(r->gguf, key) ? bn_gguf_bool(r->gguf, key, out, r->err) : BN_OK;
}

/*
 * The published BitNet-b1.58-2B-4T has no tokenizer.ggml.pre, its fine-tunes say "default"; only
 * Llama-3's vocabulary has 128256 tokens.
 */
static void choose_splitter(struct reading *r)
{
	static const char key[] = "tokenizer.ggml.pre";
	const struct bn_pretokenizer *row = NULL;
	struct bn_str pre = { "", 0 };

	if (bn_gguf_has(r->gguf, key) && bn_gguf_str(r->gguf, key, &pre, NULL) == BN_OK) {
		row = bn_pretokenizer_find(pre.p, pre.n);
	}
	if (r->vocab.n_tokens == LLAMA3_TOKENS &&
	    (row == NULL || strcmp(row->name, "default") == 0)) {
		row = bn_pretokenizer_find("llama3", strlen("llama3"));
	}
	if (row == NULL) {
		r->vocab.warnings |= BN_TOKENIZER_UNKNOWN_PRE;
		row = bn_pretokenizer_find("gpt-2", strlen("gpt-2"));
	}
	r->vocab.splitter = row->splitter;
	r->vocab.ignore_merges = row->ignore_merges;
	r->vocab.nfc = row->nfc;
}

/*
 * Whether texts begin with bos when the file does not say: SentencePiece models were trained so,
 * and Llama-3's. Falcon3 and Falcon-E were not; engines that add one by the name of the splitter
 * put an end token in front there.
 */
static bool usually_adds_bos(const struct bn_vocab *v)
{
	static const char llama3[] = "<|begin_of_text|>";

	if (v->kind == BN_TOKENIZER_SPM) {
		return true;
	}
	return v->bos != BN_TOKEN_NONE && v->tokens[v->bos].n >= strlen(llama3) &&
	       memcmp(v->tokens[v->bos].p, llama3, strlen(llama3)) == 0;
}

static enum bn_status read_vocab(struct reading *r, uint32_t vocab_rows)
{
	struct bn_vocab *v = &r->vocab;
	struct bn_str model;
	enum bn_status status = bn_gguf_str(r->gguf, "tokenizer.ggml.model", &model, r->err);

	if (status != BN_OK) {
		return status;
	}
	if (bn_gguf_is(r->gguf, "tokenizer.ggml.model", "gpt2")) {
		v->kind = BN_TOKENIZER_BPE;
	} else if (bn_gguf_is(r->gguf, "tokenizer.ggml.model", "llama")) {
		v->kind = BN_TOKENIZER_SPM;
	} else {
		return bn_fail(r->err, BN_E_NOT_SUPPORTED,
			       "tokenizer.ggml.model is '%.*s'; supported are 'gpt2' (byte-level "
			       "BPE) and 'llama' (SentencePiece BPE)",
			       (int)(model.n < 64 ? model.n : 64), model.p);
	}

	status = read_tokens(r, vocab_rows);
	if (status == BN_OK && v->n_tokens == 0) {
		status = bn_fail(r->err, BN_E_FORMAT, "tokenizer.ggml.tokens is empty");
	}
	if (status == BN_OK) {
		status = read_types(r);
	}
	if (status == BN_OK) {
		status = v->kind == BN_TOKENIZER_SPM ? read_scores(r) : read_merges(r);
	}
	if (status != BN_OK) {
		return status;
	}

	v->bos = read_id(r, "tokenizer.ggml.bos_token_id", 1, "<s>");
	v->eos = read_id(r, "tokenizer.ggml.eos_token_id", 2, "</s>");
	v->unk = read_id(r, "tokenizer.ggml.unknown_token_id", 0, "<unk>");
	v->eot = read_id(r, "tokenizer.ggml.eot_token_id", 0, NULL);
	v->eom = read_id(r, "tokenizer.ggml.eom_token_id", 0, NULL);
	if (v->kind == BN_TOKENIZER_BPE) {
		choose_splitter(r);
	}
	status = read_flag(r, "tokenizer.ggml.add_bos_token", usually_adds_bos(v), &v->add_bos);
	if (status == BN_OK) {
		status = read_flag(r, "tokenizer.ggml.add_eos_token", false, &v->add_eos);
	}
	if (status == BN_OK) {
		status =
			read_flag(r, "tokenizer.ggml.add_space_prefix", true, &v->add_space_prefix);
	}
	return status;
}

enum bn_status bn_tokenizer_from_gguf(struct bn_tokenizer **out, const struct bn_gguf *gguf,
				      uint32_t vocab_rows, struct bn_error *err)
{
	struct reading r = { .gguf = gguf, .err = err };
	enum bn_status status = read_vocab(&r, vocab_rows);

	if (status == BN_OK) {
		status = bn_tokenizer_new(out, &r.vocab, err);
	}
	free(r.tokens);
	free(r.merges);
	free(r.scores);
	free(r.types);
	return status;
}
