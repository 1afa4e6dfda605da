/*
 * What methods answer about models, memory and generations, as maps: BN_RESULT_... of
 * proto/schema.h, written out.
 *
 * It decides nothing and keeps nothing; every function appends fields to a map that is open.
 */
#ifndef BN_DAEMON_RESPOND_H
#define BN_DAEMON_RESPOND_H

#include "daemon/budget.h"
#include "daemon/registry.h"
#include "daemon/requests.h"
#include "proto/pack.h"
#include "proto/params.h"
#include "proto/role.h"

/* `memory`: budget and use. */
void bn_respond_memory(struct bn_pack *p, const struct bn_budget *b) BN_ON_LOOP;

/* `models`: those in memory or on their way. */
void bn_respond_ps(struct bn_pack *p, struct bn_registry *r,
		   const struct bn_requests *q) BN_ON_LOOP;

/* `evictions`: who left, newest first. */
void bn_respond_departures(struct bn_pack *p, const struct bn_registry *r) BN_ON_LOOP;

/* `models` of models.list; the fields of models.show. */
void bn_respond_list(struct bn_pack *p, struct bn_registry *r) BN_ON_LOOP;
void bn_respond_show(struct bn_pack *p, const struct bn_entry *e) BN_ON_LOOP;

/* The result of completions or chat.completions, but the id. `streamed` leaves the text out. */
void bn_respond_outcome(struct bn_pack *p, enum bn_method method, const struct bn_outcome *o,
			bool streamed) BN_ON_LOOP;

#endif
