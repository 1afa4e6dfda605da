/*
 * Byte-level BPE of one piece of text: its bytes as tokens, neighbours joined by the rank of
 * their merge until no merge applies.
 *
 * It does not split text into pieces (engine/pretokenize.h) and never yields a guarded token. A
 * byte without a token (Falcon-E has none for those that valid UTF-8 cannot contain) is dropped,
 * and its neighbours then stand side by side, as in Hugging Face's tokenizers.
 */
#ifndef BN_ENGINE_BPE_H
#define BN_ENGINE_BPE_H

#include "engine/lexicon.h"
#include "engine/merge.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_bpe_slot {
	bn_token left, right; /* left BN_TOKEN_NONE: empty */
	uint32_t rank;
	bn_token joined;
};

/* Immutable once built; the table lies in the tokenizer's block. */
struct bn_bpe {
	const struct bn_lexicon *lex;
	struct bn_bpe_slot *slots;
	uint32_t mask;
	uint32_t lost;      /* merges skipped: a token of theirs does not exist */
	bool ignore_merges; /* a whole piece that is a token needs no merging   */
};

/*
 * Fills *bpe from the merges of the vocabulary; memory from *block as bn_lexicon_build, which
 * must have filled *lex before (while measuring it is not looked at). Of merges of the same pair
 * the first counts. BN_E_FORMAT for pairs chosen to collide. Helper.
 */
BN_MUST_USE enum bn_status bn_bpe_build(struct bn_bpe *bpe, struct bn_block *block,
					const struct bn_vocab *vocab, const struct bn_lexicon *lex,
					struct bn_error *err);

/*
 * Encodes piece [n], n > 0, and leaves the tokens as the live symbols of *m (m->n is 0 when every
 * byte was dropped); *m has room for n symbols. BN_E_CANCELLED. Any thread.
 */
BN_MUST_USE enum bn_status bn_bpe_encode(const struct bn_bpe *bpe, struct bn_merger *m,
					 const char *piece, uint32_t n, struct bn_error *err);

#endif
