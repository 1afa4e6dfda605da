/*
 * A team of pinned threads, one lane per core, that run one function together, meet at barriers
 * inside it, and cost nothing between two tasks.
 *
 * It does not queue work, balance it or know what a step is: the scheduler has exactly one team per
 * process (or per NUMA node), for two teams with barriers on the same cores stop each other.
 *
 * Waiting spins for `spin_us` and then sleeps in the kernel, so that a core is never burnt while
 * idle and the loop thread may borrow it; a team with more lanes than the process has cores never
 * spins. The caller of bn_team_run is lane 0, so a team of one lane has no thread of its own.
 */
#ifndef BN_ENGINE_TEAM_H
#define BN_ENGINE_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/role.h"

enum {
	BN_TEAM_MAX_LANES = 256,
	BN_TEAM_SPIN_US = 50, /* a good value: longer than the barriers of a step are apart */
};

/* Opaque; owned by whoever started it. */
struct bn_team;

struct bn_team_config {
	uint32_t lanes; /* 1..BN_TEAM_MAX_LANES                                              */
	const uint32_t
		*cores;   /* [lanes] core of each lane, read during bn_team_start; NULL: no pin */
	uint32_t spin_us; /* 0: sleep at once                                                   */
};

/* What the lanes run; every lane gets the same arg. */
typedef void (*bn_lane_fn)(void *arg, uint32_t lane);

/*
 * Starts lanes 1.. and returns when they exist. They block all signals. A core that refuses to be
 * pinned to (not in the cpuset, not there) is tolerated: see bn_team_is_pinned. BN_E_INVALID for a
 * lane count out of range, BN_E_MEMORY or BN_E_INTERNAL when threads cannot be made; nothing is
 * left running then. Undo with bn_team_stop. Any thread.
 */
BN_MUST_USE enum bn_status bn_team_start(struct bn_team **out, const struct bn_team_config *config,
					 struct bn_error *err) BN_ON_ANY;

/* Pins the calling thread as lane 0; call it once, first thing on the thread that will run tasks.
 * Returns false when it could not be pinned (and nothing is wrong otherwise). */
bool bn_team_join(struct bn_team *team) BN_ON_LEAD;

/* Runs fn(arg, lane) on every lane at once, the caller being lane 0, and returns when all are back.
 * What the caller wrote before is seen by all lanes, what they wrote is seen by him after. */
void bn_team_run(struct bn_team *team, bn_lane_fn fn, void *arg) BN_ON_LEAD;

/* The barrier, inside fn: returns when every lane has called it. What any lane wrote before it is
 * seen by all after it. Every lane must call it equally often. */
void bn_team_sync(struct bn_team *team, uint32_t lane) BN_ON_LANE;

/*
 * This lane's share of n things dealt in runs of `step` (>= 1): [*from, *to), both multiples of
 * step except that the end may be n. The shares of all lanes tile [0, n); some are empty when there
 * are fewer runs than lanes.
 */
void bn_team_slice(const struct bn_team *team, uint32_t lane, uint32_t n, uint32_t step,
		   uint32_t *from, uint32_t *to) BN_ON_LANE;

uint32_t bn_team_lanes(const struct bn_team *team) BN_ON_ANY;

/* True when every lane (and the lead, once it has joined) sits on the core it was given. */
bool bn_team_is_pinned(const struct bn_team *team) BN_ON_ANY;

/* For a watchdog: counts tasks and barriers this lane has entered; one relaxed load. A lane whose
 * count stands still while bn_team_is_busy is stuck or starved. */
uint64_t bn_team_progress(const struct bn_team *team, uint32_t lane) BN_ON_ANY;

/* True while bn_team_run is in progress. */
bool bn_team_is_busy(const struct bn_team *team) BN_ON_ANY;

/* Ends and joins the lanes and frees the team; no task may be running. NULL is fine. */
void bn_team_stop(struct bn_team *team) BN_ON_ANY;

#endif
