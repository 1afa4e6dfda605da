/*
 * The pieces of a SentencePiece tokenizer.model, read from its protobuf by a bounds-checked reader
 * of just the fields that matter.
 *
 * It does not tokenize and knows no other protobuf. Only bn-convert uses it.
 */
#ifndef BN_ENGINE_SENTENCEPIECE_H
#define BN_ENGINE_SENTENCEPIECE_H

#include "engine/cursor.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_piece {
	struct bn_str text; /* borrowed from the bytes parsed */
	float score;
	int32_t type; /* as tokenizer.ggml.token_type: 1 normal .. 6 byte */
};

/* Plain value; undo with bn_sentencepiece_finish. */
struct bn_sentencepiece {
	struct bn_piece *pieces; /* [n] */
	uint32_t n;
	int32_t unk, bos, eos, pad; /* ids, -1 where there is none */
	bool add_dummy_prefix;
	bool normalizes; /* it has a character map: not the identity */
};

/*
 * Reads bytes [n], borrowed for as long as the pieces are used. BN_E_FORMAT for what is not such a
 * file, naming the piece; BN_E_NOT_SUPPORTED for a model that is not BPE (unigram, word, char), for
 * our merging would give other tokens; BN_E_MEMORY. Any thread.
 */
BN_MUST_USE enum bn_status bn_sentencepiece_parse(struct bn_sentencepiece *out, const void *bytes,
						  size_t n, struct bn_error *err);

/* A zeroed one is fine. */
void bn_sentencepiece_finish(struct bn_sentencepiece *sp);

#endif
