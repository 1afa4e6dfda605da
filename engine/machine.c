#include "engine/machine.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

enum {
	SMALLEST_BUDGET = 64 << 20,
	FILE_BYTES = 16384, /* of a file in /proc or /sys that is looked at */
};

/* Reads a small file of the kernel's into text [FILE_BYTES], terminated. */
static bool read_small(const char *path, char *text)
{
	FILE *file = fopen(path, "re");
	size_t n;

	if (file == NULL) {
		return false;
	}
	n = fread(text, 1, FILE_BYTES - 1, file);
	text[n] = '\0';
	fclose(file);
	return true;
}

/* The number behind "<name>:" in kB, as bytes. */
static bool meminfo_field(const char *text, const char *name, uint64_t *bytes)
{
	const char *at = strstr(text, name);
	char *end;
	unsigned long long kib;

	if (at == NULL) {
		return false;
	}
	at += strlen(name);
	errno = 0;
	kib = strtoull(at, &end, 10);
	return end != at && errno == 0 &&
	       !__builtin_mul_overflow((uint64_t)kib, UINT64_C(1024), bytes);
}

/*
 * The tightest limit from <base><path>/<file> up to <base>/<file>. A group's own limit may be
 * wide and its parent's narrow, so every level counts.
 */
static void walk_up(const char *base, const char *path, const char *file, uint64_t *tightest)
{
	char group[PATH_MAX];
	char text[FILE_BYTES];
	char name[PATH_MAX + 64];

	if (strlen(path) >= sizeof(group)) {
		return;
	}
	strcpy(group, path);
	for (;;) {
		char *slash = strrchr(group, '/');
		int n = snprintf(name, sizeof(name), "%s%s/%s", base,
				 strcmp(group, "/") == 0 ? "" : group, file);

		if (n > 0 && (size_t)n < sizeof(name) && read_small(name, text)) {
			char *end;
			unsigned long long limit;

			errno = 0;
			limit = strtoull(text, &end, 10); /* "max" has no digits */
			/* Version 1 says "no limit" by a number just under 2^63. */
			if (end != text && errno == 0 && limit < UINT64_C(1) << 62 &&
			    limit < *tightest) {
				*tightest = limit;
			}
		}
		if (slash == NULL || group[0] == '\0' || strcmp(group, "/") == 0) {
			return;
		}
		*slash = '\0';
	}
}

/* Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has no controllers. */
static uint64_t cgroup_limit(const char *root)
{
	uint64_t tightest = UINT64_MAX;
	char text[FILE_BYTES];
	char name[PATH_MAX];
	char *rest = NULL;

	snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
	if (!read_small(name, text)) {
		return tightest;
	}
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *controllers = strchr(line, ':');
		char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

		if (path == NULL || path[1] != '/' || strstr(path, "/../") != NULL) {
			continue; /* a path outside our cgroup namespace cannot be read anyway */
		}
		*path++ = '\0';
		controllers++;
		if (controllers[0] == '\0') {
			snprintf(name, sizeof(name), "%s/sys/fs/cgroup", root);
			walk_up(name, path, "memory.max", &tightest);
			snprintf(name, sizeof(name), "%s/sys/fs/cgroup/unified", root);
			walk_up(name, path, "memory.max", &tightest);
		} else if (strcmp(controllers, "memory") == 0 ||
			   strstr(controllers, ",memory") != NULL ||
			   strncmp(controllers, "memory,", 7) == 0) {
			snprintf(name, sizeof(name), "%s/sys/fs/cgroup/memory", root);
			walk_up(name, path, "memory.limit_in_bytes", &tightest);
		}
	}
	return tightest;
}

enum bn_status bn_machine_look(struct bn_machine *out, const char *root, struct bn_error *err)
{
	struct bn_machine machine = { 0 };
	char text[FILE_BYTES];
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/proc/meminfo", root);
	if (!read_small(name, text) || !meminfo_field(text, "MemTotal:", &machine.total_bytes) ||
	    !meminfo_field(text, "MemAvailable:", &machine.available_bytes)) {
		struct sysinfo info;

		/* Hidden by ProcSubset=pid: count only what is plainly free. */
		if (sysinfo(&info) != 0) {
			return bn_fail(err, BN_E_IO, "cannot learn how much memory there is: %s",
				       strerror(errno));
		}
		machine.total_bytes = (uint64_t)info.totalram * info.mem_unit;
		machine.available_bytes = ((uint64_t)info.freeram + info.bufferram) * info.mem_unit;
	}
	machine.cgroup_bytes = cgroup_limit(root);
	*out = machine;
	return BN_OK;
}

enum bn_status bn_machine_budget(uint64_t *out, const struct bn_machine *machine, uint64_t headroom,
				 struct bn_error *err)
{
	uint64_t budget =
		machine->available_bytes > headroom ? machine->available_bytes - headroom : 0;
	char group[48] = "none";

	if (machine->cgroup_bytes != UINT64_MAX) {
		snprintf(group, sizeof(group), "%llu MiB",
			 (unsigned long long)(machine->cgroup_bytes >> 20));
		if (machine->cgroup_bytes / 10 * 9 < budget) {
			budget = machine->cgroup_bytes / 10 * 9;
		}
	}
	if (budget < SMALLEST_BUDGET) {
		return bn_fail(
			err, BN_E_MEMORY,
			"too little memory for `memory.budget: auto`: %llu MiB available, "
			"%llu MiB kept for others by memory.headroom, control group limit %s",
			(unsigned long long)(machine->available_bytes >> 20),
			(unsigned long long)(headroom >> 20), group);
	}
	*out = budget;
	return BN_OK;
}
