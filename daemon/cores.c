/*
 * Two hardware threads of a core share its vector units, so a second lane there adds little and
 * takes the room in which the loop runs; hence one per core. Asking sysfs directly is thirty lines
 * and needs no library that wants to know about network cards.
 */
#include "daemon/cores.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_BYTES = 1024 };

/* The lowest allowed hardware thread that shares cpu's core. */
static uint32_t first_sibling(uint32_t cpu, const cpu_set_t *mask, const char *sys)
{
	char path[512], list[LIST_BYTES];
	const char *at = list;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%u/topology/thread_siblings_list",
		 sys, cpu);
	f = fopen(path, "re");
	if (f == NULL) {
		return cpu;
	}
	n = fread(list, 1, sizeof(list) - 1, f);
	fclose(f);
	list[n] = '\0';
	while (isdigit((unsigned char)*at)) { /* "0-1,4" */
		char *end;
		unsigned long from = strtoul(at, &end, 10);
		unsigned long to = from;

		if (*end == '-') {
			to = strtoul(end + 1, &end, 10);
		}
		for (unsigned long c = from; c <= to && c < cpu; c++) {
			if (c < CPU_SETSIZE && CPU_ISSET(c, mask)) {
				return (uint32_t)c;
			}
		}
		at = *end == ',' ? end + 1 : "";
	}
	return cpu;
}

static enum bn_status take_list(struct bn_cores *out, const struct bn_config_numbers *list,
				const cpu_set_t *mask, struct bn_error *err)
{
	if (list->n > BN_CORES_MAX) {
		return bn_fail(err, BN_E_CONFIG, "workers.cores: %u cores, at most %d can be used",
			       list->n, BN_CORES_MAX);
	}
	for (uint32_t i = 0; i < list->n; i++) {
		uint32_t cpu = list->at[i];

		if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, mask)) {
			return bn_fail(
				err, BN_E_CONFIG,
				"workers.cores: core %u does not exist or is not ours to use "
				"(affinity mask, cpuset)",
				cpu);
		}
		out->at[out->n++] = cpu;
	}
	return BN_OK;
}

enum bn_status bn_cores_choose(struct bn_cores *out, const struct bn_config_cores *want,
			       const char *sys, struct bn_error *err)
{
	struct bn_cores cores = { 0 };
	uint32_t n_cores = 0;
	enum bn_status status;
	cpu_set_t mask;

	if (sched_getaffinity(0, sizeof(mask), &mask) != 0) {
		return bn_fail(err, BN_E_IO, "cannot tell which cores we may use: %s",
			       strerror(errno));
	}
	if (want->list.n > 0) {
		status = take_list(&cores, &want->list, &mask, err);
		if (status == BN_OK) {
			*out = cores;
		}
		return status;
	}
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t c = 0; c < CPU_SETSIZE && cores.n < BN_CORES_MAX; c++) {
			if (CPU_ISSET(c, &mask) &&
			    (first_sibling(c, &mask, sys) == c) == (pass == 0)) {
				cores.at[cores.n++] = c;
			}
		}
		if (pass == 0) {
			n_cores = cores.n;
		}
	}
	if (want->count > cores.n) {
		return bn_fail(err, BN_E_CONFIG,
			       "workers.cores: %u wanted, but only %u may be used (affinity mask, "
			       "cpuset)",
			       want->count, cores.n);
	}
	cores.n = want->count > 0 ? want->count : n_cores;
	*out = cores;
	return BN_OK;
}
