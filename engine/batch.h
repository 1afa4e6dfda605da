/*
 * The rows of one step: which tokens of which sequences pass through the model together.
 *
 * It does not decide who goes first (daemon/lineup.h composes) and computes nothing.
 */
#ifndef BN_ENGINE_BATCH_H
#define BN_ENGINE_BATCH_H

#include <stdint.h>

#include "engine/model.h"
#include "engine/sequence.h"
#include "proto/error.h"
#include "proto/role.h"

/* What is made of a row's final state. */
enum bn_row_output {
	BN_ROW_NONE,   /* only its K and V: prompt rows                              */
	BN_ROW_SAMPLE, /* logits, from which its sequence accepts a token             */
	BN_ROW_LOGITS, /* logits for bn_forward_logits: perplexity, tests             */
	BN_ROW_POOL,   /* its final state takes part in the vector of its text        */
};

struct bn_row {
	struct bn_sequence *seq;
	bn_token token;
	uint32_t position; /* in its sequence; rows of a sequence are neighbours, in order */
	enum bn_row_output output;
};

/* Owned by the lead; lanes read it during a step. */
struct bn_batch {
	const struct bn_model *model;
	struct bn_row *rows; /* [n_rows] */
	uint32_t n_rows;
	uint32_t n_outputs; /* rows that give logits */
	uint32_t n_sequences;
	uint32_t max_rows;
	uint32_t max_outputs;
};

/* Room for max_rows >= 1 rows, max_outputs >= 1 of them with logits. BN_E_MEMORY. Undo with
 * bn_batch_finish. */
BN_MUST_USE enum bn_status bn_batch_init(struct bn_batch *batch, uint32_t max_rows,
					 uint32_t max_outputs, struct bn_error *err) BN_ON_ANY;

/* A zeroed or finished one is fine. */
void bn_batch_finish(struct bn_batch *batch) BN_ON_ANY;

/* Empties it, for a step of this model. */
void bn_batch_reset(struct bn_batch *batch, const struct bn_model *model) BN_ON_LEAD;

/*
 * Adds up to `most` of the sequence's pending tokens, in order, and returns how many: fewer when it
 * has fewer, or the batch is full; when they reach its last token, that row samples, and it is left
 * out if there is no output left. Where the model makes vectors nothing samples and the rows it
 * pools are marked; of those there may be any number. A sequence is added at most once per step and
 * must be of the batch's model. Allocates nothing.
 */
uint32_t bn_batch_add(struct bn_batch *batch, struct bn_sequence *seq, uint32_t most) BN_ON_LEAD;

/* Makes all rows from `first` on give logits and none of them sample (their sequences accept
 * nothing): for perplexity and tests. There must be enough outputs. */
void bn_batch_probe(struct bn_batch *batch, uint32_t first) BN_ON_LEAD;

#endif
