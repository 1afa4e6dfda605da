/*
 * A list of holders, a few dozen at most (models and a handful of fixed words), walked linearly:
 * the ledger changes once per request and once per load, and the list is what a refusal prints.
 */
#include "daemon/budget.h"

#include "proto/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bn_budget {
	uint64_t limit;
	uint64_t used;
	uint64_t used_by_kind[BN_BUDGET_KINDS];
	struct bn_budget_holder *holder; /* [n_holders], none with total 0, order of arrival */
	size_t n_holders;
	size_t room;
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
