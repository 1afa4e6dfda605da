/*
 * What the client of one generation gets to hear: events while it goes on, if it asked for a
 * stream; else the answer, gathered here until it is whole; and the end, once.
 *
 * It knows no connections (a sink is told) and nothing of the generation's state: daemon/request.h
 * says what happened.
 */
#ifndef BN_DAEMON_ANSWER_H
#define BN_DAEMON_ANSWER_H

#include "daemon/scheduler.h"
#include "proto/error.h"
#include "proto/message.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_entry;

/* How it ended well, with times in ns; borrowed, texts of entry included. */
struct bn_outcome {
	const struct bn_entry *entry;
	const char *finish_reason; /* "stop", "length", "vector"                            */
	int64_t seed;
	uint32_t prompt_tokens, completion_tokens, cached_tokens;
	uint64_t queue_ns, load_ns, prefill_ns, decode_ns;
	const float *vector; /* [dim] of an embedding, of length 1; else NULL */
	uint32_t dim;
	bool was_cut; /* the text was longer than the context */
	/* What was gathered; filled in by bn_answer_succeed. Nothing of it when it was streamed. */
	struct bn_text text;
	bool has_logprobs; /* the arrays below */
	uint32_t n_tokens;
	uint32_t n_top;             /* entries of each row                                   */
	const uint32_t *tokens;     /* [n_tokens]                                            */
	const float *logprobs;      /* [n_tokens]                                            */
	const uint32_t *top_tokens; /* [n_tokens, n_top]                                    */
	const float *top_logprobs;  /* [n_tokens, n_top]                                    */
};

/* Who hears of it; called from the loop. */
struct bn_sink {
	/* A `stream` notification, its id and seq left open; only if a stream was asked for.
	 * Borrowed. */
	void (*event)(void *who, const struct bn_event *event);
	/* The end, exactly once. `error` is NULL when it went well, else `outcome` is. */
	void (*done)(void *who, const struct bn_outcome *outcome, const struct bn_error *error);
	void *who;
};

/* Embed one, zeroed; fill in the first block. The loop's. */
struct bn_answer {
	struct bn_sink sink;
	bool stream, want_logprobs;
	/* The answer's. */
	bool is_over;   /* sink.done was called, or would have been */
	bool is_silent; /* the sink is gone                         */
	bool told_loading, told_position;
	uint32_t position;
	uint64_t loading_ms; /* loop time when it was told last */
	uint32_t untold;     /* tokens since the last delta */
	char *text;
	size_t n_text, text_room;
	uint32_t *tokens, *top_tokens;
	float *logprobs, *top_logprobs;
	uint32_t n_tokens, token_room, n_top;
};

/* Frees what was gathered. */
void bn_answer_finish(struct bn_answer *a) BN_ON_LOOP;

/* The sink is gone: it is not called any more. */
void bn_answer_silence(struct bn_answer *a) BN_ON_LOOP;

/* It waits behind `position` others. Told when that changes. */
void bn_answer_queued(struct bn_answer *a, uint32_t position) BN_ON_LOOP;

/* `progress` (0..1) of its model is loaded, `now_ms` of the loop. Told every 100 ms at most. */
void bn_answer_loading(struct bn_answer *a, const char *model, double progress,
		       uint64_t now_ms) BN_ON_LOOP;

/* The model is there. Told if loading was. */
void bn_answer_loaded(struct bn_answer *a, const char *model) BN_ON_LOOP;

/* n_past of n_prompt tokens of the prompt are read. */
void bn_answer_progress(struct bn_answer *a, uint32_t n_past, uint32_t n_prompt) BN_ON_LOOP;

/* A BN_STEP_TOKEN: told, or kept. False when there is no memory to keep it. */
BN_MUST_USE bool bn_answer_token(struct bn_answer *a, const struct bn_step_event *step) BN_ON_LOOP;

/* The end, good or bad; once. What was gathered is filled into *outcome. */
void bn_answer_succeed(struct bn_answer *a, struct bn_outcome *outcome) BN_ON_LOOP;
void bn_answer_fail(struct bn_answer *a, const struct bn_error *err) BN_ON_LOOP;

#endif
