/*
 * How much memory this machine offers, and what of it bnd takes when nobody says.
 *
 * It keeps no accounts (daemon/budget.h does) and knows no models. Outside of the daemon because
 * bnctl, too, says what would fit here.
 */
#ifndef BN_ENGINE_MACHINE_H
#define BN_ENGINE_MACHINE_H

#include <stdint.h>

#include "proto/error.h"

struct bn_machine {
	uint64_t total_bytes;     /* of memory                                        */
	uint64_t available_bytes; /* without swapping, now                            */
	uint64_t cgroup_bytes;    /* tightest limit on us, UINT64_MAX when there is none */
};

/*
 * Looks at the machine: <root>/proc/meminfo (sysinfo(2) where that is hidden) and the memory
 * limits of our control group and all groups above it, version 1 and 2, below <root>/sys/fs/cgroup.
 * `root` is "" in production, a folder in tests. BN_E_IO when not even sysinfo answers. Any thread.
 */
BN_MUST_USE enum bn_status bn_machine_look(struct bn_machine *out, const char *root,
					   struct bn_error *err);

/*
 * The budget for `memory.budget: auto`: the smaller of what is available less `headroom` and nine
 * tenths of the control group's limit. BN_E_MEMORY, with the numbers, when less than 64 MiB is
 * left. Any thread.
 */
BN_MUST_USE enum bn_status bn_machine_budget(uint64_t *out, const struct bn_machine *machine,
					     uint64_t headroom, struct bn_error *err);

#endif
