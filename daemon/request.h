/*
 * The life of one generation, or one embedding, on the loop: it waits for its model, is prepared on
 * a helper, waits for memory, runs, and ends, once, whatever happens.
 *
 *   model ---> prepare ---> memory ---> run ---> done ---> (freed)
 *     \__________\____________\__________\______/
 *
 * It does not read messages or know connections: it is started with parameters and tells a sink
 * (daemon/answer.h). How many there may be is daemon/admission.h, all of them daemon/requests.h.
 *
 * Cancelling, a deadline, a client that went away and shutdown are one thing: a reason that is
 * written down once (the first counts). Where nothing is out, the end is at once; a helper or the
 * lead is asked to hand back what it has, which takes a moment at most (one step).
 */
#ifndef BN_DAEMON_REQUEST_H
#define BN_DAEMON_REQUEST_H

#include "daemon/admission.h"
#include "daemon/answer.h"
#include "daemon/deadline.h"
#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "daemon/scheduler.h"
#include "proto/error.h"
#include "proto/params.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Opaque. Known to its starter from start until sink.done or bn_request_orphan. */
struct bn_request;

/* Sums since the start. */
struct bn_requests_totals {
	uint64_t requests;
	uint64_t prompt_tokens;
	uint64_t completion_tokens;
	uint64_t cancelled;
	uint64_t failed;
};

/* What all requests share; outlives them. */
struct bn_request_context {
	uv_loop_t *loop;
	struct bn_registry *registry; /* borrowed, as are the next two */
	struct bn_scheduler *scheduler;
	struct bn_metrics *metrics; /* NULL allowed */
	void (*gone)(void *who);    /* one has been freed */
	void *who;
	/* Changed by the requests. */
	struct bn_admission admission;
	struct bn_deadlines deadlines;
	struct bn_requests_totals totals; /* and numbers: unique for ever */
};

/* What to start. Texts and lists are copied. */
struct bn_request_order {
	/* BN_METHOD_COMPLETIONS or BN_METHOD_CHAT_COMPLETIONS; or BN_METHOD_EMBEDDINGS, with one
	 * text and what it waits for as params->completions. */
	enum bn_method method;
	const union bn_params *params;
	bool may_cut; /* of an embedding: bn_recipe_allow_cut */
	uid_t uid;
	bool paused;         /* begin as after bn_request_pause(true) */
	struct bn_sink sink; /* never called from inside bn_request_start */
};

/*
 * Starts one. Errors are answers: BN_E_NOT_FOUND, BN_E_QUEUE_FULL, BN_E_OVERLOADED, BN_E_INVALID,
 * BN_E_NOT_SUPPORTED, BN_E_MEMORY; the sink is not called then.
 */
BN_MUST_USE enum bn_status bn_request_start(struct bn_request_context *context,
					    const struct bn_request_order *order,
					    struct bn_request **out,
					    struct bn_error *err) BN_ON_LOOP;

/* Ends it with that reason: BN_E_CANCELLED, BN_E_STALLED, BN_E_DRAINING. sink.done follows. */
void bn_request_cancel(struct bn_request *r, enum bn_status reason) BN_ON_LOOP;

/* Ends it without telling anybody: the client is gone. The sink is not called any more. */
void bn_request_orphan(struct bn_request *r) BN_ON_LOOP;

/* The client does not keep up (or does again): nothing is computed for it meanwhile. */
void bn_request_pause(struct bn_request *r, bool pause) BN_ON_LOOP;

/* If it runs: answers it with *err without waiting for the lead. What it holds is kept until the
 * lead hands it back, if it does. */
void bn_request_abandon(struct bn_request *r, const struct bn_error *err) BN_ON_LOOP;

/* What the scheduler says about one; not BN_STEP_STEP, which is about none. */
void bn_request_on_step(const struct bn_step_event *event) BN_ON_LOOP;

/* The request whose place that is. */
struct bn_request *bn_request_of(struct bn_place *p) BN_ON_LOOP;

#endif
