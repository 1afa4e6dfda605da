/*
 * The program a tokenizer.json describes (normalizer, pre_tokenizer, decoder, post_processor):
 * which of the programs of known models it is.
 *
 * It runs none of it and reads no vocabulary (engine/hfvocab.h does). Only bn-convert uses it.
 *
 * All arguments are the root of a tokenizer.json, borrowed, NULL for none. Any thread.
 */
#ifndef BN_ENGINE_HFPROGRAM_H
#define BN_ENGINE_HFPROGRAM_H

#include "engine/lexicon.h"
#include "proto/error.h"

#include <jansson.h>
#include <stdbool.h>

/* True when it works on bytes in the GPT-2 alphabet. */
bool bn_hfprogram_is_byte_level(const json_t *tokenizer);

/* Byte-level BPE or SentencePiece BPE; BN_E_NOT_SUPPORTED for another model type, naming it. */
BN_MUST_USE enum bn_status bn_hfprogram_kind(const json_t *tokenizer, enum bn_tokenizer_kind *out,
					     struct bn_error *err);

/*
 * The name for tokenizer.ggml.pre of a byte-level program; NULL when its splitter is none we know.
 * Falcon3 and Falcon-E cut digits and punctuation first: other engines know that program as
 * "falcon3", and run Llama-3's for it, which gives the same tokens (design paper "models", 5.4).
 */
const char *bn_hfprogram_splitter(const json_t *tokenizer);

/* The type of the normalizer, "" for one without a name; NULL when there is none. Borrowed. */
const char *bn_hfprogram_normalizer(const json_t *tokenizer);

/* SentencePiece: a space is put in front of a text. */
bool bn_hfprogram_prepends_space(const json_t *tokenizer);

/* The spelling of the tokens put in front of and behind a text, NULL for none. False when the
 * program does not say; *first and *last are then untouched. Borrowed. */
bool bn_hfprogram_specials(const json_t *tokenizer, const char **first, const char **last);

#endif
