/*
 * What tests of the daemon stand on: a loop, a ledger, a scheduler and small models in a folder of
 * their own, and a way to turn the loop until something has happened.
 *
 * It is not a daemon: a test makes the parts it is about and takes them down again.
 */
#ifndef BN_TESTS_DAEMON_RIG_H
#define BN_TESTS_DAEMON_RIG_H

#include "daemon/budget.h"
#include "daemon/registry.h"
#include "daemon/requests.h"
#include "daemon/scheduler.h"
#include "engine/model.h"
#include "proto/role.h"

#include <stdbool.h>
#include <uv.h>

enum { RIG_MODELS_MAX = 8 };

struct rig {
	uv_loop_t loop;
	uv_timer_t alarm;
	char folder[64];
	struct bn_budget *budget;
	struct bn_scheduler *scheduler;
	struct bn_registry *registry;
	struct bn_requests *requests;
	struct bn_config config;
	struct bn_config_model models[RIG_MODELS_MAX];
	char paths[RIG_MODELS_MAX][128];
	uint32_t gone; /* parts that have told of their end */
};

/* A loop and a folder. */
void rig_up(struct rig *r);

/* Everything that was made, in the right order; asserts that nothing is left. */
void rig_down(struct rig *r);

/* Writes a model of 2 layers whose answers depend on `seed`; its path, in the rig. It is the next
 * one of config.models as well, under `name`. */
const char *rig_model(struct rig *r, const char *name, uint64_t seed, uint32_t context);

/* Opens and loads a model; to be freed with bn_model_free. */
struct bn_model *rig_load(const char *path);

/* The scheduler, with `on_event` (or that of the requests, for NULL). */
void rig_scheduler(struct rig *r, uint32_t lanes, uint32_t max_batch, uint32_t chunk,
		   bn_step_fn on_event, void *who);

/* A ledger of `limit` bytes and a registry of config.models. */
void rig_registry(struct rig *r, uint64_t limit, uint32_t patience_ms, uint32_t residency_ms);

/* The requests, over the two. */
void rig_requests(struct rig *r, const struct bn_requests_limits *limits);

/* What a model will hold in the ledger, and what it takes for a moment more while it is loaded. */
uint64_t rig_resident(struct rig *r, const char *path, uint64_t *load_bytes);

/* Turns the loop until done(who) holds; fails the test after 100 s, which is for
 * what never comes: a slow machine under a sanitizer needs many. */
void rig_until(struct rig *r, bool (*done)(void *who), void *who);

/* Turns the loop for so long. */
void rig_for(struct rig *r, uint32_t ms);

struct bn_entry *rig_entry(struct rig *r, const char *name);

#endif
