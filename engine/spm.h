/*
 * SentencePiece BPE of a stretch of text: its characters, neighbours joined while the joined text
 * is a token, highest score first and leftmost among equals; what is no token in the end falls
 * back to byte tokens.
 *
 * It does not add the dummy space in front and never yields a guarded token. Inside, a space is a
 * space: the vocabulary's U+2581 was translated when it was read. A U+2581 in the text itself is
 * therefore no space; it goes through bytes and comes back as what it was.
 */
#ifndef BN_ENGINE_SPM_H
#define BN_ENGINE_SPM_H

#include "engine/lexicon.h"
#include "engine/merge.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Immutable once built; the array lies in the tokenizer's block. */
struct bn_spm {
	const struct bn_lexicon *lex;
	uint32_t *rank; /* [lex->n] order of the scores: lower merges first                  */
	bn_token unk;   /* for what has no token and no byte tokens; BN_TOKEN_NONE: dropped  */
	bool flat;      /* all scores are the same                                           */
	bool words;     /* no token has a space behind another character, so text may be cut
			 * before each run of spaces without changing the result             */
};

/* Fills *spm; memory from *block and *lex as in bn_bpe_build. Cannot fail. Helper. */
void bn_spm_build(struct bn_spm *spm, struct bn_block *block, const struct bn_vocab *vocab,
		  const struct bn_lexicon *lex);

/*
 * Bytes at the start of text [n] that can be encoded on their own: to the next word where the
 * vocabulary allows it, else n; never more than `limit` (at least 4), cut between characters.
 */
size_t bn_spm_next(const struct bn_spm *spm, const char *text, size_t n, size_t limit);

/*
 * Encodes text [n], n > 0, valid UTF-8, into the live symbols of *m, which has room for n
 * symbols. Symbols whose id is BN_MERGE_NONE have no token: see bn_spm_fallback. BN_E_CANCELLED.
 * Any thread.
 */
BN_MUST_USE enum bn_status bn_spm_encode(const struct bn_spm *spm, struct bn_merger *m,
					 const char *text, uint32_t n, struct bn_error *err);

/*
 * The tokens of a character [n], n <= 4, that has none of its own: one per byte, or when a byte
 * has no token a single unk, or nothing. Written to out [4]; returns their number.
 */
size_t bn_spm_fallback(const struct bn_spm *spm, const char *text, size_t n, bn_token *out);

#endif
