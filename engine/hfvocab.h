/*
 * The tokenizer of a Hugging Face folder, as the arrays GGUF keeps: tokens, types, scores or
 * merges, special ids, the splitter's name and the chat template.
 *
 * It does not tokenize (engine/tokenizer.h reads what is written here) and guesses nothing: a
 * tokenizer it does not know is refused. Only bn-convert uses it.
 *
 * Sources, in this order: tokenizer.model when it is a SentencePiece model; tokenizer.json
 * (byte-level BPE, or SentencePiece BPE whose merges give the scores). Then tokenizer_config.json,
 * added_tokens.json and chat_template.jinja for what those do not say.
 */
#ifndef BN_ENGINE_HFVOCAB_H
#define BN_ENGINE_HFVOCAB_H

#include "engine/cursor.h"
#include "engine/lexicon.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_HFVOCAB_NOTICES = 8, BN_HFVOCAB_NOTICE_BYTES = 200 };

/* Opaque: the files everything below is borrowed from. */
struct bn_hfvocab_sources;

/* Plain value; undo with bn_hfvocab_finish. */
struct bn_hfvocab {
	enum bn_tokenizer_kind kind;
	uint32_t n;                  /* tokens: exactly the rows of the embedding */
	uint32_t n_named;            /* of them named by the files, the others are padding */
	struct bn_str *tokens;       /* [n] */
	int32_t *types;              /* [n] of bn_token_type */
	float *scores;               /* [n]; SPM only, else NULL */
	const struct bn_str *merges; /* [n_merges] "left right"; BPE only */
	uint32_t n_merges;
	const char *pre;             /* for tokenizer.ggml.pre; static */
	bn_token bos, eos, unk, pad; /* as tokenizer files say; BN_TOKEN_NONE where they do not */
	bool add_bos, add_eos, add_space_prefix;
	const char *chat_template; /* Jinja; NULL when there is none */
	uint32_t n_notices;
	char notices[BN_HFVOCAB_NOTICES][BN_HFVOCAB_NOTICE_BYTES]; /* for whoever converts */
	struct bn_hfvocab_sources *sources;
};

/*
 * Reads the tokenizer of an open folder for an embedding of `rows` rows; rows without a token get a
 * padding token, as other converters do. Errors: those of bn_json_load and bn_sentencepiece_parse;
 * BN_E_FORMAT for ids out of range or given twice, merges that are none; BN_E_NOT_SUPPORTED for a
 * model type, splitter or file we do not know. Tools.
 */
BN_MUST_USE enum bn_status bn_hfvocab_load(struct bn_hfvocab *out, int dirfd, uint32_t rows,
					   struct bn_error *err);

/* The lowest id of a token spelled so; BN_TOKEN_NONE when there is none. */
bn_token bn_hfvocab_find(const struct bn_hfvocab *v, const char *text);

/* A zeroed one is fine. */
void bn_hfvocab_finish(struct bn_hfvocab *v);

#endif
