/*
 * One ledger in bytes: who holds how much of the memory budget, for what. The rule of its users:
 * reserve, then allocate; free, then release.
 *
 * It does not allocate what it counts, evict anybody or wait: the registry decides whom to evict
 * and calls again. The sum never passes the limit; that is asserted at every change.
 */
#ifndef BN_DAEMON_BUDGET_H
#define BN_DAEMON_BUDGET_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(SYMBOL, word) */
#define BN_BUDGET_KIND_TABLE(X)                                   \
	X(WEIGHTS, "weights") /* packed or mapped tensors      */ \
	X(KV, "kv")           /* context of running requests   */ \
	X(SCRATCH, "scratch") /* working space of lanes, loads */ \
	X(QUEUE, "queue")     /* prompts that wait             */

#define BN_BUDGET_KIND_ENUM(SYMBOL, word) BN_BUDGET_##SYMBOL,
enum bn_budget_kind { BN_BUDGET_KIND_TABLE(BN_BUDGET_KIND_ENUM) BN_BUDGET_KINDS };
#undef BN_BUDGET_KIND_ENUM

enum { BN_BUDGET_HOLDER_BYTES = 72 }; /* longest holder name kept, with its NUL */

/* Opaque; owned by main, changed on the loop. */
struct bn_budget;

/* One holder as it stands; a copy. */
struct bn_budget_holder {
	char name[BN_BUDGET_HOLDER_BYTES];
	uint64_t bytes[BN_BUDGET_KINDS];
	uint64_t total;
};

/* A ledger with nothing in it. limit > 0. BN_E_MEMORY. Free with bn_budget_free. */
BN_MUST_USE enum bn_status bn_budget_new(struct bn_budget **out, uint64_t limit,
					 struct bn_error *err);

/* Asserts that everything was released. NULL is fine. */
void bn_budget_free(struct bn_budget *b);

/*
 * Writes `bytes` down for `holder` (a model's name, or a fixed word such as "lanes"; longer names
 * are cut). 0 bytes always succeed. BN_E_MEMORY when the limit would be passed, with a sentence of
 * need, budget and holders and the facts need_bytes, budget_bytes, free_bytes, held_by; nothing
 * has changed then.
 */
BN_MUST_USE enum bn_status bn_budget_reserve(struct bn_budget *b, enum bn_budget_kind kind,
					     const char *holder, uint64_t bytes,
					     struct bn_error *err) BN_ON_LOOP;

/* Crosses out what was reserved under the same kind and name; more than that asserts. */
void bn_budget_release(struct bn_budget *b, enum bn_budget_kind kind, const char *holder,
		       uint64_t bytes) BN_ON_LOOP;

/* Whether `bytes` fit now. */
bool bn_budget_fits(const struct bn_budget *b, uint64_t bytes) BN_ON_LOOP;

/*
 * Fills *err as a refusal of `bytes` for `holder`, without trying, and returns BN_E_MEMORY: for
 * callers that know beforehand that the answer is no.
 */
enum bn_status bn_budget_refuse(const struct bn_budget *b, const char *holder, uint64_t bytes,
				struct bn_error *err) BN_ON_LOOP;

/* Changes the limit. BN_E_CONFLICT, nothing changed, while more than that is in use. */
BN_MUST_USE enum bn_status bn_budget_set_limit(struct bn_budget *b, uint64_t limit,
					       struct bn_error *err) BN_ON_LOOP;

uint64_t bn_budget_limit(const struct bn_budget *b) BN_ON_LOOP;
uint64_t bn_budget_used(const struct bn_budget *b) BN_ON_LOOP;
uint64_t bn_budget_used_by_kind(const struct bn_budget *b, enum bn_budget_kind kind) BN_ON_LOOP;

/* The i-th holder, largest first; false past the end. */
bool bn_budget_holder(const struct bn_budget *b, size_t i, struct bn_budget_holder *out) BN_ON_LOOP;

/* "weights", "kv", ...: static. */
const char *bn_budget_kind_word(enum bn_budget_kind kind) BN_ON_ANY;

/* "6.0 GiB", "712 MiB", "17 bytes" into text [size]; returns text. */
const char *bn_budget_show(char *text, size_t size, uint64_t bytes) BN_ON_ANY;

#endif
