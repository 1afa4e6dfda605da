/*
 * The life of one generation on the loop: it waits for its model, is prepared on a helper, waits
 * for memory, runs, and ends, once, whatever happens.
 *
 *   model ---> prepare ---> memory ---> run ---> done ---> (freed)
 *     \__________\____________\__________\______/
 *
 * It does not read messages or know connections: it is started with parameters and tells a sink.
 *
 * Cancelling, a deadline, a client that went away and shutdown are one thing: a reason that is
 * written down once (the first counts). Where nothing is out, the end is at once; a helper or the
 * lead is asked to hand back what it has, which takes a moment at most (one step).
 */
#ifndef BN_DAEMON_REQUEST_H
#define BN_DAEMON_REQUEST_H

#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "daemon/scheduler.h"
#include "proto/error.h"
#include "proto/message.h"
#include "proto/params.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Opaque: all requests of the daemon; owned by main. */
struct bn_requests;

/* Opaque: one of them. Known to its starter from start until sink.done. */
struct bn_request;

/* How it ended well, with times in ns; borrowed, texts of entry included. */
struct bn_outcome {
	struct bn_text id;
	const struct bn_entry *entry;
	struct bn_text text;       /* all of it, unless it was streamed                     */
	const char *finish_reason; /* "stop", "length"                                      */
	int64_t seed;
	uint32_t prompt_tokens, completion_tokens, cached_tokens;
	uint64_t queue_ns, load_ns, prefill_ns, decode_ns;
	bool has_logprobs; /* the arrays below, unless it was streamed              */
	uint32_t n_tokens;
	uint32_t n_top;             /* entries of each row                                   */
	const uint32_t *tokens;     /* [n_tokens]                                            */
	const float *logprobs;      /* [n_tokens]                                            */
	const uint32_t *top_tokens; /* [n_tokens, n_top]                                    */
	const float *top_logprobs;  /* [n_tokens, n_top]                                    */
};

/* Who hears of it; called from the loop, never from inside bn_request_start. */
struct bn_sink {
	/* A `stream` notification; only if the request said `stream`. Borrowed. */
	void (*event)(void *who, const struct bn_event *event);
	/* The end, exactly once. `error` is NULL when it went well, else `outcome` is. The request
	 * is not to be touched afterwards. */
	void (*done)(void *who, const struct bn_outcome *outcome, const struct bn_error *error);
	void *who;
};

struct bn_requests_limits {
	uint32_t queue; /* that wait, all together             */
	uint32_t queue_per_model;
	uint32_t queue_per_user;
	uint32_t max_batch; /* that run before `queue: "fail"` fails */
};

struct bn_requests_config {
	uv_loop_t *loop;
	struct bn_registry *registry; /* borrowed, as are the next two */
	struct bn_scheduler *scheduler;
	struct bn_metrics *metrics; /* NULL allowed */
	struct bn_requests_limits limits;
};

/* None yet. BN_E_MEMORY. Undo with bn_requests_close. */
BN_MUST_USE enum bn_status bn_requests_new(struct bn_requests **out,
					   const struct bn_requests_config *config,
					   struct bn_error *err) BN_ON_LOOP;

/* Everything the scheduler says goes in here. */
void bn_requests_on_step(struct bn_requests *q, const struct bn_step_event *event) BN_ON_LOOP;

/* New limits, for those who come from now on. */
void bn_requests_set_limits(struct bn_requests *q,
			    const struct bn_requests_limits *limits) BN_ON_LOOP;

/* From now on newcomers are refused with BN_E_DRAINING. */
void bn_requests_drain(struct bn_requests *q) BN_ON_LOOP;

/* Cancels all with that reason. */
void bn_requests_cancel_all(struct bn_requests *q, enum bn_status reason) BN_ON_LOOP;

/* Cancels those of a model (running or waiting). Returns how many. */
uint32_t bn_requests_cancel_model(struct bn_requests *q, const struct bn_entry *e,
				  enum bn_status reason) BN_ON_LOOP;

/*
 * Answers everything that runs with BN_E_INTERNAL without waiting for the lead, because it hangs.
 * What it holds is kept until it comes back, if it does.
 */
void bn_requests_abandon(struct bn_requests *q) BN_ON_LOOP;

/* Drains, and calls closed(who) from the loop when the last one is gone; q is freed then. */
void bn_requests_close(struct bn_requests *q, void (*closed)(void *who), void *who) BN_ON_LOOP;

/* Requests that were started and not yet answered: running (submitted to the scheduler) and
 * waiting; of one uid; by priority. */
struct bn_requests_count {
	uint32_t running;
	uint32_t waiting;
	uint32_t waiting_by_priority[3]; /* by enum bn_priority */
};
struct bn_requests_count bn_requests_count(const struct bn_requests *q) BN_ON_LOOP;
struct bn_requests_count bn_requests_count_uid(const struct bn_requests *q, uid_t uid) BN_ON_LOOP;
struct bn_requests_count bn_requests_count_model(const struct bn_requests *q,
						 const struct bn_entry *e) BN_ON_LOOP;

/* Sums since the start. */
struct bn_requests_totals {
	uint64_t requests;
	uint64_t prompt_tokens;
	uint64_t completion_tokens;
	uint64_t cancelled;
	uint64_t failed;
};
struct bn_requests_totals bn_requests_totals(const struct bn_requests *q) BN_ON_LOOP;

/* What to start. Texts and lists are copied. */
struct bn_request_order {
	enum bn_method method; /* BN_METHOD_COMPLETIONS or BN_METHOD_CHAT_COMPLETIONS */
	const union bn_params *params;
	struct bn_text id; /* at most BN_LIMIT_ID_BYTES */
	uid_t uid;
	bool paused; /* begin as after bn_request_pause(true) */
	struct bn_sink sink;
};

/*
 * Starts one. Errors are answers: BN_E_NOT_FOUND, BN_E_DRAINING, BN_E_QUEUE_FULL, BN_E_OVERLOADED,
 * BN_E_INVALID, BN_E_NOT_SUPPORTED, BN_E_MEMORY; the sink is not called then.
 */
BN_MUST_USE enum bn_status bn_request_start(struct bn_requests *q,
					    const struct bn_request_order *order,
					    struct bn_request **out,
					    struct bn_error *err) BN_ON_LOOP;

/* Ends it with that reason: BN_E_CANCELLED, BN_E_STALLED, BN_E_DRAINING. sink.done follows. */
void bn_request_cancel(struct bn_request *r, enum bn_status reason) BN_ON_LOOP;

/* Ends it without telling anybody: the client is gone. The sink is not called any more. */
void bn_request_orphan(struct bn_request *r) BN_ON_LOOP;

/* The client does not keep up (or does again): nothing is computed for it meanwhile. */
void bn_request_pause(struct bn_request *r, bool pause) BN_ON_LOOP;

#endif
