/*
 * How many generations wait and run, of whom and for which model, and whether there is room for
 * one more.
 *
 * It does not know what a generation does: each embeds a `struct bn_place` and says when it begins
 * to run, is answered and leaves.
 */
#ifndef BN_DAEMON_ADMISSION_H
#define BN_DAEMON_ADMISSION_H

#include "daemon/metrics.h"
#include "proto/error.h"
#include "proto/params.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bn_entry;

enum bn_place_state {
	BN_PLACE_WAITS,
	BN_PLACE_RUNS,
	BN_PLACE_ANSWERED, /* and cleaning up */
};

/* Embed one, zeroed; fill in the first block. The loop's. */
struct bn_place {
	uid_t uid;
	const struct bn_entry *entry; /* the model; compared, not read */
	enum bn_priority priority;
	size_t prompt_bytes; /* held while it waits */
	/* Admission's. */
	enum bn_place_state state;
	struct bn_place *before, *after;
};

struct bn_requests_limits {
	uint32_t queue; /* that wait, all together             */
	uint32_t queue_per_model;
	uint32_t queue_per_user;
	uint32_t max_batch; /* that run before `queue: "fail"` fails */
};

/* Not yet answered: running and waiting; those who wait by priority. */
struct bn_requests_count {
	uint32_t running;
	uint32_t waiting;
	uint32_t waiting_by_priority[3]; /* by enum bn_priority */
};

/* Embed one, zeroed; fill in the first block. The loop's. */
struct bn_admission {
	struct bn_requests_limits limits; /* for those who come from now on */
	struct bn_metrics *metrics;       /* borrowed; NULL allowed         */
	/* Admission's; walk the places, which may leave meanwhile, with care. */
	struct bn_place *first, *last; /* in order of arrival */
	size_t queue_bytes;
};

/*
 * Lets one in, who waits, or says why not: BN_E_QUEUE_FULL when it is his own requests that fill
 * the queue, else BN_E_OVERLOADED, with fact retry_after_ms and, where a queue is full, queue_depth
 * and limit. `no_wait`: refuse as well when all places to run are taken.
 */
BN_MUST_USE enum bn_status bn_admission_enter(struct bn_admission *a, struct bn_place *p,
					      bool no_wait, struct bn_error *err) BN_ON_LOOP;

/* It begins to run; its prompt bytes are no longer held. */
void bn_admission_run(struct bn_admission *a, struct bn_place *p) BN_ON_LOOP;

/* It does not count any more, but is still there. */
void bn_admission_answered(struct bn_admission *a, struct bn_place *p) BN_ON_LOOP;

/* It was answered, and goes. */
void bn_admission_leave(struct bn_admission *a, struct bn_place *p) BN_ON_LOOP;

/* Of all, of one uid, of one model. */
struct bn_requests_count bn_admission_count(const struct bn_admission *a) BN_ON_LOOP;
struct bn_requests_count bn_admission_count_uid(const struct bn_admission *a, uid_t uid) BN_ON_LOOP;
struct bn_requests_count bn_admission_count_model(const struct bn_admission *a,
						  const struct bn_entry *e) BN_ON_LOOP;

#endif
