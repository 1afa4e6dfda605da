/*
 * One generation: its tokens, its place in the KV memory, its sampler, and the text that comes out,
 * cut at stop strings and at whole characters. Or one embedding: tokens and KV alike, and in the
 * end a vector instead of text.
 *
 * It does not compute logits (engine/forward.h) and knows no client, budget or queue.
 *
 * It is the baton: the loop makes it, hands it to the lead, and has it back when it is finished.
 * Whoever holds it may call everything here; there is no lock. All its memory is taken in
 * bn_sequence_new, nothing in a step.
 *
 * A life: bn_sequence_new; then steps, in each of which bn_batch_add feeds some of the tokens that
 * have no KV yet (bn_sequence_pending: many of a prompt, later one), bn_forward_step computes and,
 * when the last one was fed, accepts a new token; after each step the holder takes the text
 * (bn_sequence_take) and looks at `finish`; when that is set, takes the rest and frees.
 */
#ifndef BN_ENGINE_SEQUENCE_H
#define BN_ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kv.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/tokenizer.h"
#include "proto/error.h"
#include "proto/role.h"

enum {
	BN_SEQUENCE_STOPS_MAX = 16,
	BN_SEQUENCE_STOP_BYTES = 256, /* longest stop string           */
	BN_SEQUENCE_STOP_TOKENS_MAX = 64,
};

/* Why a generation ended. */
enum bn_finish {
	BN_FINISH_NONE,   /* it has not                                                        */
	BN_FINISH_STOP,   /* an end token, a stop token or a stop string                        */
	BN_FINISH_LENGTH, /* max_tokens                                                         */
	BN_FINISH_VECTOR, /* an embedding: the vector is there                                  */
	BN_FINISH_CANCELLED, /* by request, disconnect, deadline or shutdown: `status` says which */
	BN_FINISH_ERROR, /* `error` says why                                                   */
};

/* "stop", "length", "vector", "cancelled", "error"; "" for NONE. Static. */
const char *bn_finish_word(enum bn_finish finish);

/* What a generation is to be. Everything is copied. */
struct bn_sequence_config {
	uint64_t id; /* the caller's, not interpreted */
	const bn_token *prompt;
	uint32_t n_prompt;   /* >= 1                                               */
	bool embed;          /* a vector is wanted: max_tokens is 0 and all below unused  */
	uint32_t max_tokens; /* >= 1                                               */
	struct bn_sampler_params sampler;
	uint32_t n_stops;
	const struct bn_str *stops; /* valid UTF-8, 1..BN_SEQUENCE_STOP_BYTES each; never emitted */
	uint32_t n_stop_tokens;
	const bn_token *stop_tokens; /* beside the model's own; never emitted */
	bool ignore_eos; /* the model's end tokens do not end it (they have no text)	     */
	bool echo; /* the text begins with that of the prompt                                */
};

/* Read it as you like, when you hold it; write nothing but through the functions. */
struct bn_sequence {
	uint64_t id;
	const struct bn_model *model;

	bn_token *tokens; /* [n_tokens], prompt first                                          */
	uint32_t n_tokens;
	uint32_t n_prompt;
	uint32_t n_generated; /* drawn tokens, a final end token included */
	uint32_t n_past;   /* tokens whose K and V are in `kv`                                  */
	uint32_t capacity; /* n_prompt + max_tokens                                             */
	struct bn_kv kv;

	struct bn_sampled last; /* the draw of the latest token, with its log-probabilities */
	bool has_new; /* the latest step accepted a token (cleared when fed again)        */

	float *vector; /* [dim] of an embedding, of length 1 once finish is VECTOR; else NULL */

	enum bn_finish finish;
	enum bn_status status; /* BN_OK; for CANCELLED and ERROR what to answer */
	int32_t stop_index;    /* the stop string that matched, -1: none                          */
	struct bn_error error; /* filled for ERROR and CANCELLED */

	/* CLOCK_MONOTONIC; 0 while it has not happened. */
	uint64_t first_step_ns; /* start of the step that fed its first row */
	uint64_t prefill_ns; /* time the steps took that fed prompt rows                        */
	uint64_t decode_ns;  /* time the other steps took                                       */
	uint64_t first_token_ns;
	uint64_t last_token_ns;

	struct bn_sequence_own *own; /* sampler, text, stops: private to sequence.c */
};

/* What bn_sequence_new will take, KV reservation included: what must be reserved before. Adds the
 * echo's text, so a long prompt costs a pass over it. UINT64_MAX on overflow. */
uint64_t bn_sequence_bytes(const struct bn_model *model,
			   const struct bn_sequence_config *config) BN_ON_ANY;

/*
 * Makes one. BN_E_CONTEXT when n_prompt + max_tokens passes model->context (facts limit, actual);
 * BN_E_NOT_SUPPORTED for text of a model that makes vectors, or the other way round;
 * BN_E_INVALID, with fact "param", for an empty prompt, a token out of range, too many or too long
 * stops, sampler parameters out of range; BN_E_MEMORY. Undo with bn_sequence_free.
 */
BN_MUST_USE enum bn_status bn_sequence_new(struct bn_sequence **out, const struct bn_model *model,
					   const struct bn_sequence_config *config,
					   struct bn_error *err) BN_ON_ANY;

/* NULL is fine. Unmaps the KV: for a helper when it was long. */
void bn_sequence_free(struct bn_sequence *seq) BN_ON_ANY;

/* Tokens that have no KV yet and can be fed: 0 once finished. */
uint32_t bn_sequence_pending(const struct bn_sequence *seq) BN_ON_ANY;

/* True until the whole prompt has been fed. */
bool bn_sequence_is_prefill(const struct bn_sequence *seq) BN_ON_ANY;

/*
 * Records that the step which just ended fed `rows` of its tokens and took from start_ns to
 * end_ns (CLOCK_MONOTONIC). Called by bn_forward_step.
 */
void bn_sequence_fed(struct bn_sequence *seq, uint32_t rows, uint64_t start_ns,
		     uint64_t end_ns) BN_ON_ANY;

/*
 * Draws the next token from logits [model->vocab] and takes it in: appended, its text assembled,
 * stops and length looked at, `finish` perhaps set. A fault in the numbers ends this sequence with
 * BN_E_NUMERIC and touches no other. scratch [model->vocab] is overwritten. All pending tokens must
 * have been fed and text must have been taken. Called by bn_forward_step on some lane, which says
 * what time it is (CLOCK_MONOTONIC).
 */
void bn_sequence_accept(struct bn_sequence *seq, const float *logits, struct bn_candidate *scratch,
			uint64_t now_ns) BN_ON_ANY;

/* Takes the final state [dim] of the next token that pooling wants. Called by bn_forward_step. */
void bn_sequence_pool(struct bn_sequence *seq, const float *state) BN_ON_ANY;

/* All tokens of an embedding were fed: makes the vector and sets `finish`: VECTOR, or ERROR with
 * BN_E_NUMERIC where the numbers have no direction. Called by bn_forward_step. */
void bn_sequence_pooled(struct bn_sequence *seq) BN_ON_ANY;

/*
 * Moves text that is certain (whole characters, no possible beginning of a stop string) to out
 * [capacity], capacity >= 4, and returns its bytes; never splits a character, never terminates.
 * Call until it returns 0. Once finished everything left comes out.
 */
size_t bn_sequence_take(struct bn_sequence *seq, char *out, size_t capacity) BN_ON_ANY;

/* Ends it now, for a reason of the caller's: CANCELLED or ERROR with a status for the answer.
 * A sequence that is already finished stays as it is. Text held back for a possible stop comes out.
 */
void bn_sequence_finish(struct bn_sequence *seq, enum bn_finish finish,
			enum bn_status status) BN_ON_ANY;

#endif
