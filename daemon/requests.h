/*
 * All generations of the daemon: started here, told here what the scheduler says, counted,
 * cancelled together, and drained at the end.
 *
 * It does not lead any of them through its life: daemon/request.h does.
 */
#ifndef BN_DAEMON_REQUESTS_H
#define BN_DAEMON_REQUESTS_H

#include "daemon/request.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Opaque; owned by main. */
struct bn_requests;

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

/* bn_request_start, but with BN_E_DRAINING since bn_requests_drain. */
BN_MUST_USE enum bn_status bn_requests_start(struct bn_requests *q,
					     const struct bn_request_order *order,
					     struct bn_request **out,
					     struct bn_error *err) BN_ON_LOOP;

/* Everything the scheduler says goes in here. */
void bn_requests_on_step(struct bn_requests *q, const struct bn_step_event *event) BN_ON_LOOP;

/* New limits, for those who come from now on. */
void bn_requests_set_limits(struct bn_requests *q,
			    const struct bn_requests_limits *limits) BN_ON_LOOP;

/* From now on newcomers are refused with BN_E_DRAINING. */
void bn_requests_drain(struct bn_requests *q) BN_ON_LOOP;

/* Cancels all with that reason; those of one model. */
void bn_requests_cancel_all(struct bn_requests *q, enum bn_status reason) BN_ON_LOOP;
void bn_requests_cancel_model(struct bn_requests *q, const struct bn_entry *e,
			      enum bn_status reason) BN_ON_LOOP;

/*
 * Answers everything that runs with BN_E_INTERNAL without waiting for the lead, because it hangs.
 * What it holds is kept until it comes back, if it does.
 */
void bn_requests_abandon(struct bn_requests *q) BN_ON_LOOP;

/* Drains, and calls closed(who) from the loop when the last one is gone; q is freed then. */
void bn_requests_close(struct bn_requests *q, void (*closed)(void *who), void *who) BN_ON_LOOP;

/* Requests that were started and not yet answered: all, of one uid, of one model. */
struct bn_requests_count bn_requests_count(const struct bn_requests *q) BN_ON_LOOP;
struct bn_requests_count bn_requests_count_uid(const struct bn_requests *q, uid_t uid) BN_ON_LOOP;
struct bn_requests_count bn_requests_count_model(const struct bn_requests *q,
						 const struct bn_entry *e) BN_ON_LOOP;

struct bn_requests_totals bn_requests_totals(const struct bn_requests *q) BN_ON_LOOP;

#endif
