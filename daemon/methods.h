/*
 * What can be asked and who answers: the method table, the rights each needs, and the tie between
 * connections and requests, which know nothing of each other.
 *
 * It does not read sockets or compute; everything that takes time is begun here and answered by a
 * hook.
 */
#ifndef BN_DAEMON_METHODS_H
#define BN_DAEMON_METHODS_H

#include "daemon/budget.h"
#include "daemon/connection.h"
#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "daemon/requests.h"
#include "engine/forward.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Opaque; owned by main. */
struct bn_methods;

/* Everything is borrowed until bn_methods_free. */
struct bn_methods_config {
	uv_loop_t *loop;
	struct bn_registry *registry;
	struct bn_requests *requests;
	struct bn_budget *budget;
	struct bn_metrics *metrics; /* NULL allowed */
	const char *version;
	uint32_t lanes;
	uint64_t cpu;                     /* features that may be used */
	struct bn_forward_config forward; /* the largest step          */
};

/* BN_E_MEMORY. Not ready at first. */
BN_MUST_USE enum bn_status bn_methods_new(struct bn_methods **out,
					  const struct bn_methods_config *config,
					  struct bn_error *err) BN_ON_LOOP;

/* All connections must be gone. NULL is fine. */
void bn_methods_free(struct bn_methods *m) BN_ON_LOOP;

/* The hooks to make a server with. */
struct bn_connection_hooks bn_methods_hooks(struct bn_methods *m) BN_ON_LOOP;

/* The connections, for counting and for administrators who cancel: once they exist. */
void bn_methods_set_connections(struct bn_methods *m, struct bn_connections *g) BN_ON_LOOP;

/* What server.health says; `reason` is static, NULL when ready. */
void bn_methods_set_ready(struct bn_methods *m, bool ready, const char *reason) BN_ON_LOOP;

#endif
