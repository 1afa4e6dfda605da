/*
 * The lead thread: composes one step after the other out of everything that was submitted, has
 * the team compute it, and tells the loop what came of it.
 *
 * It does not load models, reserve memory, know clients' connections or keep a request's life:
 * what is submitted has its memory already, and is never preempted.
 *
 * One lead, one team, one step at a time: weights are read once for all sequences of a model, and
 * a core is never wanted by two teams. Whose turn it is and what a step holds: daemon/lineup.h.
 *
 * The baton. bn_work and bn_sequence belong to the loop until bn_scheduler_submit() and again
 * from the BN_STEP_DONE event on; in between the loop may read neither (it asks by id). A
 * bn_tenant is touched by the lead only while work of it is out (daemon/tenant.h).
 */
#ifndef BN_DAEMON_SCHEDULER_H
#define BN_DAEMON_SCHEDULER_H

#include "daemon/lineup.h"
#include "engine/sequence.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { BN_STEP_TEXT_BYTES = 256 }; /* text of one event; longer pieces come in several */

enum bn_step_kind {
	BN_STEP_BEGUN,    /* the first row of a work is about to be computed               */
	BN_STEP_PROGRESS, /* part of the prompt was read: n_past of n_prompt                */
	BN_STEP_TOKEN,    /* a token was accepted, or (n_tokens 0) more text of the last one */
	BN_STEP_DONE,     /* the end: seq->finish says how; the baton is back               */
	BN_STEP_STEP,     /* a step took `ns`, with `n_rows` rows; `work` is NULL           */
};

/* A copy of what happened; moves through the outbox. */
struct bn_step_event {
	enum bn_step_kind kind;
	struct bn_work *work;
	uint64_t id;
	uint64_t ns;
	uint32_t n_rows;
	uint32_t n_past, n_prompt;
	uint32_t n_tokens;
	uint32_t token;
	float logprob;
	uint32_t n_top;
	struct bn_logprob top[BN_SAMPLER_LOGPROBS_MAX];
	uint32_t n_text;
	char text[BN_STEP_TEXT_BYTES]; /* whole characters, not terminated */
};

/* Called on the loop for each event, in order; borrowed. */
typedef void (*bn_step_fn)(void *who, const struct bn_step_event *event);

struct bn_scheduler_config {
	uint32_t lanes;          /* worker threads, the lead included: 1..BN_TEAM_MAX_LANES */
	const uint32_t *cores;   /* [lanes], or NULL: not pinned; read during start          */
	uint64_t step_target_ns; /* how long a step with prompt rows in it shall take        */
	uint32_t max_batch;      /* sequences that decode in one step                        */
	uint32_t prefill_chunk;  /* prompt rows of one step at most                          */
	bn_step_fn on_event;
	void *who;
};

/* Opaque; owned by main. */
struct bn_scheduler;

/*
 * Starts lead and lanes. BN_E_INVALID, BN_E_MEMORY, BN_E_INTERNAL (threads, loop handle); nothing
 * is left then. Undo with bn_scheduler_stop.
 */
BN_MUST_USE enum bn_status bn_scheduler_start(struct bn_scheduler **out, uv_loop_t *loop,
					      const struct bn_scheduler_config *config,
					      struct bn_error *err) BN_ON_LOOP;

/*
 * Ends lead and lanes and joins them, which takes as long as the step in progress; all work must
 * be back (asserted). The loop must turn once more: the handle closes, then everything is freed.
 * NULL is fine.
 */
void bn_scheduler_stop(struct bn_scheduler *s) BN_ON_LOOP;

/* The workspace steps need, for bn_tenant_new and for bn_forward_bytes. */
struct bn_forward_config bn_scheduler_forward_config(const struct bn_scheduler *s) BN_ON_LOOP;

/* Hands over the baton. Exactly one BN_STEP_DONE will follow, whatever happens. */
void bn_scheduler_submit(struct bn_scheduler *s, struct bn_work *work) BN_ON_LOOP;

/*
 * Asks for the end of work `id`: within one step its DONE arrives, its finish being CANCELLED with
 * `status`, unless it had ended by itself. Unknown ids are ignored.
 */
void bn_scheduler_cancel(struct bn_scheduler *s, uint64_t id, enum bn_status status) BN_ON_LOOP;

/* Holds work `id` back from the next step on, or lets it go on; its memory stays. */
void bn_scheduler_pause(struct bn_scheduler *s, uint64_t id, bool pause) BN_ON_LOOP;

uint32_t bn_scheduler_lanes(const struct bn_scheduler *s) BN_ON_ANY;

/*
 * For how long, in ns, no lane has moved although a step is in progress; 0 when all is well. To be
 * asked regularly (each second or so): it compares with the time before.
 */
uint64_t bn_scheduler_stuck_ns(struct bn_scheduler *s) BN_ON_LOOP;

#endif
