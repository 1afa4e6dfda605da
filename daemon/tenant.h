/*
 * A loaded model as the scheduler sees it: the workspace its steps need, its place among other
 * models, who waits and who runs, and what its steps have cost so far.
 *
 * It does not schedule (daemon/lineup.h) and does not own the model (daemon/entry.h).
 *
 * Made and freed together with the model. The lead touches a tenant only while work of it is out
 * (from bn_scheduler_submit to the last BN_STEP_DONE), so whoever holds no work may free it and
 * need not ask the scheduler.
 */
#ifndef BN_DAEMON_TENANT_H
#define BN_DAEMON_TENANT_H

#include "daemon/fair.h"
#include "engine/forward.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>

struct bn_work;

struct bn_work_list {
	struct bn_work *first, *last;
};

/* The fields are the line-up's. */
struct bn_tenant {
	const struct bn_model *model;
	struct bn_forward *forward;
	/* The lead's, while work is out. */
	struct bn_fair_party party;
	uint32_t weight; /* of the work that came last */
	struct bn_work_list begun, waiting;
	uint32_t n_active;  /* begun and not paused */
	uint64_t row_ns;    /* a prompt row, measured; 0: not yet      */
	uint64_t decode_ns; /* a step without prompt rows; 0: not yet  */
};

/*
 * Takes all memory steps of `model` (borrowed) will need: bn_forward_bytes, and a few hundred
 * bytes. BN_E_MEMORY. Undo with bn_tenant_free. Helper or loop.
 */
BN_MUST_USE enum bn_status bn_tenant_new(struct bn_tenant **out, const struct bn_model *model,
					 const struct bn_forward_config *forward,
					 struct bn_error *err) BN_ON_ANY;

/* No work of it may be out. NULL is fine. */
void bn_tenant_free(struct bn_tenant *t) BN_ON_ANY;

#endif
