/*
 * A list of holders, a few dozen at most (models and a handful of fixed words), walked linearly:
 * the ledger changes once per request and once per load, and the list is what a refusal prints.
 */
#include "daemon/budget.h"

#include "proto/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

struct bn_budget {
	uint64_t limit;
	uint64_t used;
	uint64_t peak;
	uint64_t used_by_kind[BN_BUDGET_KINDS];
	struct bn_budget_holder *holder; /* [n_holders], none with total 0, order of arrival */
	size_t n_holders;
	size_t room;
};

enum {
	SMALLEST_AUTO = 64 << 20,
	FILE_BYTES = 16384, /* of a file in /proc or /sys that is looked at */
};

#define KIND_WORD(SYMBOL, word) word,
static const char *const kind_words[BN_BUDGET_KINDS] = { BN_BUDGET_KIND_TABLE(KIND_WORD) };
#undef KIND_WORD

const char *bn_budget_kind_word(enum bn_budget_kind kind)
{
	bn_assert((unsigned)kind < BN_BUDGET_KINDS);
	return kind_words[kind];
}

const char *bn_budget_show(char *text, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024.0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024.0;
		unit++;
	}
	snprintf(text, size, unit == 0 || value >= 100.0 ? "%.0f %s" : "%.1f %s", value,
		 units[unit]);
	return text;
}

enum bn_status bn_budget_new(struct bn_budget **out, uint64_t limit, struct bn_error *err)
{
	struct bn_budget *b = calloc(1, sizeof(*b));

	bn_assert(limit > 0);
	if (b == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the ledger");
	}
	b->limit = limit;
	*out = b;
	return BN_OK;
}

void bn_budget_free(struct bn_budget *b)
{
	if (b == NULL) {
		return;
	}
	bn_assert(b->used == 0 && b->n_holders == 0);
	free(b->holder);
	free(b);
}

/* The one invariant of this file. */
static void check(const struct bn_budget *b)
{
	uint64_t kinds = 0;

	for (size_t k = 0; k < BN_BUDGET_KINDS; k++) {
		kinds += b->used_by_kind[k];
	}
	bn_assert(kinds == b->used);
	bn_assert(b->used <= b->limit);
}

static struct bn_budget_holder *find(const struct bn_budget *b, const char *name)
{
	for (size_t i = 0; i < b->n_holders; i++) {
		if (strncmp(b->holder[i].name, name, sizeof(b->holder[i].name) - 1) == 0) {
			return &b->holder[i];
		}
	}
	return NULL;
}

static struct bn_budget_holder *find_or_add(struct bn_budget *b, const char *name)
{
	struct bn_budget_holder *h = find(b, name);

	if (h != NULL) {
		return h;
	}
	if (b->n_holders == b->room) {
		size_t room = b->room == 0 ? 16 : b->room * 2;
		struct bn_budget_holder *grown = reallocarray(b->holder, room, sizeof(*grown));

		if (grown == NULL) {
			return NULL;
		}
		b->holder = grown;
		b->room = room;
	}
	h = &b->holder[b->n_holders++];
	*h = (struct bn_budget_holder){ 0 };
	memcpy(h->name, name, strnlen(name, sizeof(h->name) - 1));
	return h;
}

/* "bitnet-2b (weights 1.1 GiB, kv 315 MiB), falcon3 (weights 600 MiB)", largest first. */
static BN_ON_LOOP void list_holders(const struct bn_budget *b, char *text, size_t size, bool kinds)
{
	struct bn_budget_holder h;
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; used < size && bn_budget_holder(b, i, &h); i++) {
		char amount[32];
		const char *comma = "";

		used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "",
					 h.name);
		for (size_t k = 0; kinds && used < size && k < BN_BUDGET_KINDS; k++) {
			if (h.bytes[k] > 0) {
				bn_budget_show(amount, sizeof(amount), h.bytes[k]);
				used += (size_t)snprintf(text + used, size - used, "%s%s %s",
							 comma[0] != '\0' ? comma : " (",
							 kind_words[k], amount);
				comma = ", ";
			}
		}
		if (kinds && used < size) {
			used += (size_t)snprintf(text + used, size - used, ")");
		}
	}
}

enum bn_status bn_budget_refuse(const struct bn_budget *b, const char *holder, uint64_t bytes,
				struct bn_error *err)
{
	char need[32], limit[32], left[32];
	char held[224], names[BN_ERROR_DATA_TEXT_BYTES];

	bn_budget_show(need, sizeof(need), bytes);
	bn_budget_show(limit, sizeof(limit), b->limit);
	bn_budget_show(left, sizeof(left), b->limit - b->used);
	list_holders(b, held, sizeof(held), true);
	list_holders(b, names, sizeof(names), false);
	if (bytes > b->limit) {
		bn_fail(err, BN_E_MEMORY,
			"%s needs %s, more than the whole memory budget of %s: raise memory.budget",
			holder, need, limit);
	} else {
		bn_fail(err, BN_E_MEMORY, "%s needs %s, %s of the budget of %s are free%s%s",
			holder, need, left, limit, held[0] != '\0' ? ", held by " : "", held);
	}
	bn_error_number(err, "need_bytes", (int64_t)(bytes < INT64_MAX ? bytes : INT64_MAX));
	bn_error_number(err, "budget_bytes", (int64_t)b->limit);
	bn_error_number(err, "free_bytes", (int64_t)(b->limit - b->used));
	if (names[0] != '\0') {
		bn_error_string(err, "held_by", names);
	}
	return BN_E_MEMORY;
}

bool bn_budget_fits(const struct bn_budget *b, uint64_t bytes)
{
	return bytes <= b->limit - b->used;
}

bool bn_budget_could_fit(const struct bn_budget *b, uint64_t bytes)
{
	return bytes <= b->limit;
}

enum bn_status bn_budget_reserve(struct bn_budget *b, enum bn_budget_kind kind, const char *holder,
				 uint64_t bytes, struct bn_error *err)
{
	struct bn_budget_holder *h;

	bn_assert((unsigned)kind < BN_BUDGET_KINDS);
	if (bytes == 0) {
		return BN_OK;
	}
	if (!bn_budget_fits(b, bytes)) {
		return bn_budget_refuse(b, holder, bytes, err);
	}
	h = find_or_add(b, holder);
	if (h == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the ledger");
	}
	h->bytes[kind] += bytes;
	h->total += bytes;
	b->used_by_kind[kind] += bytes;
	b->used += bytes;
	if (b->used > b->peak) {
		b->peak = b->used;
	}
	check(b);
	return BN_OK;
}

void bn_budget_release(struct bn_budget *b, enum bn_budget_kind kind, const char *holder,
		       uint64_t bytes)
{
	struct bn_budget_holder *h;

	bn_assert((unsigned)kind < BN_BUDGET_KINDS);
	if (bytes == 0) {
		return;
	}
	h = find(b, holder);
	bn_assert(h != NULL && h->bytes[kind] >= bytes);
	h->bytes[kind] -= bytes;
	h->total -= bytes;
	b->used_by_kind[kind] -= bytes;
	b->used -= bytes;
	if (h->total == 0) {
		size_t i = (size_t)(h - b->holder);

		memmove(h, h + 1, (b->n_holders - i - 1) * sizeof(*h));
		b->n_holders--;
	}
	check(b);
}

enum bn_status bn_budget_set_limit(struct bn_budget *b, uint64_t limit, struct bn_error *err)
{
	char used[32], wanted[32];

	bn_assert(limit > 0);
	if (limit < b->used) {
		return bn_fail(err, BN_E_CONFLICT,
			       "%s are in use, the budget cannot become %s: unload a model first",
			       bn_budget_show(used, sizeof(used), b->used),
			       bn_budget_show(wanted, sizeof(wanted), limit));
	}
	b->limit = limit;
	return BN_OK;
}

uint64_t bn_budget_limit(const struct bn_budget *b)
{
	return b->limit;
}

uint64_t bn_budget_used(const struct bn_budget *b)
{
	return b->used;
}

uint64_t bn_budget_used_by_kind(const struct bn_budget *b, enum bn_budget_kind kind)
{
	bn_assert((unsigned)kind < BN_BUDGET_KINDS);
	return b->used_by_kind[kind];
}

uint64_t bn_budget_peak(const struct bn_budget *b)
{
	return b->peak;
}

/* Selection by rank; among equals the earlier. Quadratic over a few dozen, and only for people. */
bool bn_budget_holder(const struct bn_budget *b, size_t i, struct bn_budget_holder *out)
{
	for (size_t h = 0; h < b->n_holders; h++) {
		size_t in_front = 0;

		for (size_t o = 0; o < b->n_holders; o++) {
			in_front += b->holder[o].total > b->holder[h].total ||
				    (b->holder[o].total == b->holder[h].total && o < h);
		}
		if (in_front == i) {
			*out = b->holder[h];
			return true;
		}
	}
	return false;
}

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

enum bn_status bn_budget_look(struct bn_budget_machine *out, const char *root, struct bn_error *err)
{
	struct bn_budget_machine machine = { 0 };
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

enum bn_status bn_budget_auto(uint64_t *out, const struct bn_budget_machine *machine,
			      uint64_t headroom, struct bn_error *err)
{
	uint64_t budget =
		machine->available_bytes > headroom ? machine->available_bytes - headroom : 0;
	char available[32], kept[32], group[32];

	if (machine->cgroup_bytes != UINT64_MAX && machine->cgroup_bytes / 10 * 9 < budget) {
		budget = machine->cgroup_bytes / 10 * 9;
	}
	if (budget < SMALLEST_AUTO) {
		return bn_fail(
			err, BN_E_MEMORY,
			"too little memory for `memory.budget: auto`: %s available, %s kept for "
			"others by memory.headroom, control group limit %s",
			bn_budget_show(available, sizeof(available), machine->available_bytes),
			bn_budget_show(kept, sizeof(kept), headroom),
			machine->cgroup_bytes == UINT64_MAX
				? "none"
				: bn_budget_show(group, sizeof(group), machine->cgroup_bytes));
	}
	*out = budget;
	return BN_OK;
}
