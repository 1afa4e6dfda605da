/*
 * One configured model: its settings, its state, and the jobs that bring it into memory and out
 * again. It keeps the ledger's rule for the model: reserve, then load; free, then release.
 *
 * It decides nothing: who waits, who must leave and when is daemon/registry.h. It does not count
 * its users beyond a number the registry keeps in it.
 *
 *            plan            read             (loaded)          drop            (freed)
 *   cold ----------> loading ----> loading --------> ready --------> draining --------> cold
 *   failed ------->  planning      reading             a failed plan or read -> failed
 *                      room
 *
 * A change that takes time ends with context->changed(), called from the loop.
 */
#ifndef BN_DAEMON_ENTRY_H
#define BN_DAEMON_ENTRY_H

#include "daemon/budget.h"
#include "daemon/config.h"
#include "daemon/job.h"
#include "daemon/tenant.h"
#include "engine/model.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* X(SYMBOL, word) */
#define BN_ENTRY_STATE_TABLE(X) \
	X(COLD, "cold")         \
	X(LOADING, "loading")   \
	X(READY, "ready")       \
	X(DRAINING, "draining") \
	X(FAILED, "failed")

#define BN_ENTRY_STATE_ENUM(SYMBOL, word) BN_ENTRY_##SYMBOL,
enum bn_entry_state { BN_ENTRY_STATE_TABLE(BN_ENTRY_STATE_ENUM) BN_ENTRY_STATES };
#undef BN_ENTRY_STATE_ENUM

/* How far a loading entry is. */
enum bn_entry_phase {
	BN_ENTRY_PLANNING, /* a helper reads the file's directory                           */
	BN_ENTRY_ROOM,     /* the bytes are known and wait to be reserved: bn_entry_read()  */
	BN_ENTRY_READING,  /* reserved; a helper reads and packs                            */
};

struct bn_entry;

/* Called on the loop when a change that takes time has ended. */
typedef void (*bn_entry_fn)(void *who, struct bn_entry *e);

/* What all entries share; copied into each. */
struct bn_entry_context {
	uv_loop_t *loop;
	struct bn_budget *budget;
	uint64_t cpu;                     /* CPU features that may be used             */
	struct bn_forward_config forward; /* the largest step                          */
	bn_entry_fn changed;
	void *who;
};

/* The loop's. Read what you like; the second block is written by those above: holds.c
 * counts, catalog.c removes, the registry does the rest. */
struct bn_entry {
	struct bn_entry_context context;
	struct bn_config_model config; /* our own copy */
	enum bn_entry_state state;
	enum bn_entry_phase phase; /* while LOADING */
	bool cancelled;            /* while LOADING: it shall end */
	bool has_info;
	struct bn_model_info info; /* of the last plan; with digest once loaded */
	uint64_t file_bytes;       /* 0: the file could not be looked at */
	uint64_t weights_bytes;    /* held while READY, wanted while in ROOM */
	uint64_t scratch_bytes;
	uint64_t load_bytes;          /* beside the two while READING */
	const struct bn_model *model; /* READY only */
	struct bn_tenant *tenant;     /* READY only */
	struct bn_error error;        /* FAILED only */
	uint64_t loaded_ms;           /* unix time of the last load; 0: never */
	uint64_t load_ns;             /* how long it took */
	struct bn_entry_load *load;   /* the job; NULL while nothing is out */

	struct bn_entry *next;
	uint32_t live;          /* holds granted */
	uint32_t waiting;       /* holds not granted */
	uint64_t kv_bytes;      /* reserved by holds */
	uint64_t used_order;    /* larger: used later */
	uint64_t used_ms;       /* unix time of the last use; 0: never */
	uint64_t idle_since_ms; /* loop time */
	int64_t keep_alive_ms;  /* in force: the configured, or what the last user asked */
	bool pinned;
	bool wanted;  /* asked for by name: do not give a load up for lack of users */
	bool closing; /* to be unloaded: nobody new gets in */
	bool removed; /* left the configuration: goes when it can */
};

/* "cold", "loading" ...: static. */
const char *bn_entry_state_word(enum bn_entry_state state) BN_ON_ANY;

/* Makes a cold one from a copy of `config` and looks at the size of its file. BN_E_MEMORY. */
BN_MUST_USE enum bn_status bn_entry_new(struct bn_entry **out,
					const struct bn_entry_context *context,
					const struct bn_config_model *config,
					struct bn_error *err) BN_ON_LOOP;

/* It must be COLD or FAILED. NULL is fine. */
void bn_entry_free(struct bn_entry *e) BN_ON_LOOP;

/*
 * Takes over settings that need no reload: aliases, weight, keep_alive, pin, preload, max_tokens,
 * sampling. BN_E_MEMORY leaves it as it was.
 */
BN_MUST_USE enum bn_status bn_entry_adjust(struct bn_entry *e, const struct bn_config_model *config,
					   struct bn_error *err) BN_ON_LOOP;

/* Whether `config` describes the same loaded model: path, context, kernels and template. */
bool bn_entry_is_same(const struct bn_entry *e, const struct bn_config_model *config) BN_ON_LOOP;

/* COLD or FAILED -> LOADING. Ends in ROOM or FAILED (COLD when cancelled). */
void bn_entry_plan(struct bn_entry *e) BN_ON_LOOP;

/* What bn_entry_read will reserve; in ROOM. */
uint64_t bn_entry_need(const struct bn_entry *e) BN_ON_LOOP;

/*
 * Reserves and begins to read; in ROOM. BN_E_MEMORY when the ledger says no: nothing has changed
 * then. Ends in READY or FAILED (COLD when cancelled).
 */
BN_MUST_USE enum bn_status bn_entry_read(struct bn_entry *e, struct bn_error *err) BN_ON_LOOP;

/*
 * LOADING: ends the load soon; in ROOM at once (changed() is not called then). A load that was
 * faster than the cancel is READY after all.
 */
void bn_entry_cancel(struct bn_entry *e) BN_ON_LOOP;

/* LOADING/ROOM -> FAILED with *error: the bytes can never be had. */
void bn_entry_give_up(struct bn_entry *e, const struct bn_error *error) BN_ON_LOOP;

/* READY with nobody in it -> DRAINING; ends in COLD, and then its bytes are free. */
void bn_entry_drop(struct bn_entry *e) BN_ON_LOOP;

/*
 * What loading would take, found out by a helper without loading or reserving. Embed one, zeroed;
 * `done` is called from the loop, and the entry may be gone by then. Nothing is to be freed.
 */
struct bn_entry_estimate {
	struct bn_job job;
	void (*done)(struct bn_entry_estimate *x);
	enum bn_status status;
	struct bn_error err;
	struct bn_model_info info;
	uint64_t scratch_bytes;
	char *path, *template;
	struct bn_config_strings kernel_names;
	struct bn_model_options options;
	struct bn_forward_config forward;
};

void bn_entry_estimate(const struct bn_entry *e, struct bn_entry_estimate *x,
		       void (*done)(struct bn_entry_estimate *x)) BN_ON_LOOP;

/* What READY holds in the ledger, users' context aside. */
uint64_t bn_entry_resident(const struct bn_entry *e) BN_ON_LOOP;

/* How much of the file has been read, 0..1; while LOADING. */
double bn_entry_progress(const struct bn_entry *e) BN_ON_LOOP;

#endif
