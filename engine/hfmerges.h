/*
 * The merges of a tokenizer.json, written as "left right" or as ["left", "right"], and the scores
 * that SentencePiece wants instead.
 *
 * It does not merge. Only engine/hfvocab.c uses it.
 */
#ifndef BN_ENGINE_HFMERGES_H
#define BN_ENGINE_HFMERGES_H

#include "engine/cursor.h"
#include "proto/error.h"

#include <jansson.h>
#include <stdint.h>

/* Plain value; undo with bn_hfmerges_finish. */
struct bn_hfmerges {
	struct bn_str *list; /* [n] "left right", best first */
	uint32_t n;
	char *text; /* what they point into */
};

/* Reads model.merges of `model`. BN_E_FORMAT naming the first that is none; BN_E_MEMORY. Any
 * thread. */
BN_MUST_USE enum bn_status bn_hfmerges_read(struct bn_hfmerges *out, const json_t *model,
					    struct bn_error *err);

/* A zeroed one is fine. */
void bn_hfmerges_finish(struct bn_hfmerges *m);

/*
 * Scores of tokens [n] that make SentencePiece merge in the order of the merges: minus the rank of
 * the first merge that makes a piece; less than all of those for pieces that no merge makes.
 * `vocab` maps spellings to ids below n (checked before). BN_E_FORMAT for a merge that makes no
 * token. Any thread.
 */
BN_MUST_USE enum bn_status bn_hfmerges_scores(const struct bn_hfmerges *m, const json_t *vocab,
					      float *scores, uint32_t n, struct bn_error *err);

#endif
