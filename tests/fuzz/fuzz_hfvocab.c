/*
 * Any bytes as the tokenizer files of a folder: one byte for the rows of the embedding, then, with
 * 0x1E between them, tokenizer.json, tokenizer_config.json, added_tokens.json and tokenizer.model.
 * Refused ones must say why. What is accepted must be sound, make a tokenizer (unless its merges
 * were chosen to collide), and that one must give texts back where no byte is missing.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/hfvocab.h"
#include "engine/tokenizer.h"
#include "proto/assert.h"
#include "tests/fuzz/folder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_id(const struct bn_hfvocab *v, bn_token id)
{
	bn_assert(id == BN_TOKEN_NONE || id < v->n);
}

static void check_vocab(const struct bn_hfvocab *v, uint32_t rows)
{
	bn_assert(v->n == rows && v->n_named <= v->n && v->pre != NULL);
	bn_assert((v->kind == BN_TOKENIZER_SPM) == (v->scores != NULL));
	for (uint32_t i = 0; i < v->n; i++) {
		bn_assert(v->types[i] >= BN_TOKEN_NORMAL && v->types[i] <= BN_TOKEN_BYTE);
		bn_assert(v->tokens[i].n <= BN_TOKENIZER_TOKEN_BYTES);
		bn_assert(v->scores == NULL || isfinite(v->scores[i]));
	}
	for (uint32_t i = 0; i < v->n_merges; i++) {
		bn_assert(memchr(v->merges[i].p, ' ', v->merges[i].n) != NULL);
	}
	check_id(v, v->bos);
	check_id(v, v->eos);
	check_id(v, v->unk);
	check_id(v, v->pad);
	bn_assert(v->n_notices <= BN_HFVOCAB_NOTICES);
}

static void check_text(const struct bn_tokenizer *tok, const char *text, size_t n)
{
	struct bn_tokens ids = { 0 };
	size_t needed = 0;
	char *back = malloc(n + 1);

	bn_assert(back != NULL);
	bn_assert(bn_tokenizer_encode(tok, text, n, NULL, &ids, NULL) == BN_OK);
	bn_assert(bn_tokenizer_decode(tok, ids.ids, ids.n, 0, back, n, &needed, NULL) == BN_OK);
	if ((bn_tokenizer_warnings(tok) & BN_TOKENIZER_LOST_BYTES) == 0) {
		bn_assert(needed == n && memcmp(back, text, n) == 0);
	}
	free(back);
	bn_tokens_finish(&ids);
}

static void try_tokenizer(const struct bn_hfvocab *v)
{
	static const char text[] = " I'LL ab  aab 12\n\n\u00A3 \U0001F469\u200D\U0001F4BB <s>";
	uint8_t *types = malloc(v->n);
	struct bn_tokenizer *tok = NULL;
	struct bn_error err = { 0 };

	bn_assert(types != NULL);
	for (uint32_t i = 0; i < v->n; i++) {
		types[i] = (uint8_t)v->types[i];
	}

	const struct bn_vocab vocab = {
		.kind = v->kind,
		.n_tokens = v->n,
		.tokens = v->tokens,
		.scores = v->scores,
		.types = types,
		.merges = v->merges,
		.n_merges = v->n_merges,
		.splitter = BN_SPLIT_LLAMA3,
		.add_space_prefix = v->add_space_prefix,
		.add_bos = v->add_bos,
		.bos = v->bos,
		.eos = v->eos,
		.unk = v->unk,
		.eot = BN_TOKEN_NONE,
		.eom = BN_TOKEN_NONE,
	};

	if (bn_tokenizer_new(&tok, &vocab, &err) == BN_OK) {
		check_text(tok, text, sizeof(text) - 1);
		bn_tokenizer_free(tok);
	} else {
		bn_assert(err.status == BN_E_FORMAT && strstr(err.text, "collide") != NULL);
	}
	free(types);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "tokenizer.json", "tokenizer_config.json",
					     "added_tokens.json", "tokenizer.model" };
	struct bn_hfvocab v = { 0 };
	struct bn_error err = { 0 };
	enum bn_status status;
	uint32_t rows;
	int folder;

	if (size == 0) {
		return 0;
	}
	rows = 4u * data[0] + 4;
	folder = fuzz_folder(names, 4, data + 1, size - 1);
	status = bn_hfvocab_load(&v, folder, rows, &err);
	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		bn_assert(v.sources == NULL);
		return 0;
	}
	check_vocab(&v, rows);
	try_tokenizer(&v);
	bn_hfvocab_finish(&v);
	return 0;
}
