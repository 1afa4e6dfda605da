/*
 * What the next step holds: who has work for the team, which model's turn it is, and whose rows are
 * computed together.
 *
 * It computes nothing, runs no thread and tells nobody (daemon/scheduler.h does all three). All of
 * it is the lead's.
 *
 * The rules, all of them:
 *
 *   1. The model with the least virtual time among those with work (daemon/fair.h).
 *   2. One row for each of its sequences that decodes, up to max_batch.
 *   3. Prompt rows: first of prompts already begun, then of the waiting one whose client has been
 *      served least (prompt tokens count one, generated ones two), as many as the time target
 *      allows by the measured cost of a row, at least a few, at most prefill_chunk. While nobody
 *      decodes the target is longer: larger pieces are cheaper, and the only one who could wait is
 *      whoever comes next.
 *   4. Logits only for rows that sample (engine/batch.h does that).
 *   5. No preemption: what has begun keeps its memory and its place until it ends.
 *
 * Why a time and not a number of rows: a prompt row of a 2 B model costs ten milliseconds on two
 * cores, so a "small" piece of 64 rows would freeze everybody who decodes for 0.6 s.
 *
 * Sequences held back by a slow reader take no place in max_batch; when they come back and there
 * are more than max_batch, those that were computed go to the end of the line.
 *
 * Memory: it allocates only when a client is seen for the first time, never in a step.
 */
#ifndef BN_DAEMON_LINEUP_H
#define BN_DAEMON_LINEUP_H

#include "daemon/fair.h"
#include "daemon/tenant.h"
#include "engine/batch.h"
#include "engine/sequence.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The account of a uid; the line-up's own. */
struct bn_account;

/* One generation to compute; embedded in whatever stands for it on the loop. */
struct bn_work {
	uint64_t id;             /* unique for ever: late messages about the dead are dropped */
	struct bn_sequence *seq; /* the baton (daemon/scheduler.h) */
	struct bn_tenant *tenant;
	uid_t uid;          /* the client who is charged */
	uint32_t weight;    /* of its model against others, 1..BN_FAIR_WEIGHT_MAX */
	bool want_progress; /* BN_STEP_PROGRESS events after each piece of the prompt */
	bool start_paused;  /* as if paused before the first step */
	/* The rest is the line-up's. */
	struct bn_work *before, *after; /* in its tenant's list  */
	struct bn_work *above, *below;  /* in the list of all    */
	struct bn_account *account;
	bool begun, paused;
	uint32_t fed; /* rows in the step that is being computed */
};

struct bn_lineup_config {
	uint64_t step_target_ns; /* how long a step with prompt rows in it shall take */
	uint32_t max_batch;      /* sequences that decode in one step                 */
	uint32_t prefill_chunk;  /* prompt rows of one step at most                   */
};

/* Do not move it after bn_lineup_init: rings point at it. */
struct bn_lineup {
	/* The step composed last; to be read. */
	struct bn_batch batch;
	struct bn_work **step; /* [n_step] whose rows it holds                  */
	uint32_t n_step;
	uint32_t n_begun;    /* the last so many of them had never been computed */
	uint32_t n_decoding; /* so many of its rows decode                       */
	/* The rest is its own. */
	struct bn_lineup_config config;
	struct bn_fair tenants;
	struct bn_fair clients;
	struct bn_work *all;
	struct bn_account *accounts;
	uint32_t n_accounts;
};

/* An empty one. BN_E_MEMORY; *l is zero then. Undo with bn_lineup_finish. Any thread. */
BN_MUST_USE enum bn_status bn_lineup_init(struct bn_lineup *l,
					  const struct bn_lineup_config *config,
					  struct bn_error *err) BN_ON_ANY;

/* Frees what it holds; no work may be in it. A zeroed one is fine. */
void bn_lineup_finish(struct bn_lineup *l) BN_ON_ANY;

/* A work comes, with the fields of its owner filled in; it stays where it is until it leaves. */
void bn_lineup_enter(struct bn_lineup *l, struct bn_work *w) BN_ON_LEAD;

/* A work goes, begun or not. */
void bn_lineup_leave(struct bn_lineup *l, struct bn_work *w) BN_ON_LEAD;

/* The work of an id, or NULL. */
struct bn_work *bn_lineup_find(const struct bn_lineup *l, uint64_t id) BN_ON_LEAD;

/* Holds a work back, or lets it go on. */
void bn_lineup_pause(struct bn_lineup *l, struct bn_work *w, bool pause) BN_ON_LEAD;

/* Whose turn it is; NULL when nobody has work that may be computed. */
struct bn_tenant *bn_lineup_next(const struct bn_lineup *l) BN_ON_LEAD;

/* Rules 2 to 4: fills l->batch and l->step for the model that bn_lineup_next() named: at least one
 * row. Works that had been waiting have begun now. */
void bn_lineup_compose(struct bn_lineup *l, struct bn_tenant *t) BN_ON_LEAD;

/*
 * The step composed last took `ns`: accounts are charged, the cost of rows is learned, places in
 * line are given up where there are too many. To be called once, before anybody of the step leaves.
 */
void bn_lineup_charge(struct bn_lineup *l, struct bn_tenant *t, uint64_t ns) BN_ON_LEAD;

#endif
