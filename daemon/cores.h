/*
 * Which processor cores the lanes get: one hardware thread of each core this process may use.
 *
 * It does not pin (engine/team.h does) and sees neither caches nor NUMA nodes.
 */
#ifndef BN_DAEMON_CORES_H
#define BN_DAEMON_CORES_H

#include "daemon/config.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>

enum { BN_CORES_MAX = 256 };

/* Cores by the numbers the kernel gives their hardware threads. */
struct bn_cores {
	uint32_t n; /* >= 1 */
	uint32_t at[BN_CORES_MAX];
};

/*
 * The cores for `workers.cores`: the list as it is, or the first `count`, or all (auto) of the
 * hardware threads in our affinity mask, of which those that share a core with an earlier one come
 * last and are not taken by auto. `sys` is "/sys" in production; what cannot be read there counts
 * as a core of its own. BN_E_CONFIG when the list names one we may not use, or count is more than
 * there are; BN_E_IO when the kernel does not tell our mask. At start only.
 */
BN_MUST_USE enum bn_status bn_cores_choose(struct bn_cores *out, const struct bn_config_cores *want,
					   const char *sys, struct bn_error *err) BN_ON_ANY;

#endif
