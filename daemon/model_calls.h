/*
 * The calls that bring a model into memory and out again: models.load and models.unload. Each
 * begins here, waits as long as it must, and answers its ticket.
 *
 * It does not check rights or decode parameters (daemon/methods.c does).
 */
#ifndef BN_DAEMON_MODEL_CALLS_H
#define BN_DAEMON_MODEL_CALLS_H

#include "daemon/registry.h"
#include "daemon/requests.h"
#include "daemon/ticket.h"
#include "proto/params.h"
#include "proto/role.h"

#include <uv.h>

/* What they work with; borrowed for good. */
struct bn_model_calls {
	uv_loop_t *loop;
	struct bn_registry *registry;
	struct bn_requests *requests;
};

/* Each answers exactly once, now or later, as long as the session lives. */
void bn_call_load(const struct bn_model_calls *m, struct bn_session *s, uint32_t msgid,
		  const struct bn_params_models_load *p) BN_ON_LOOP;
void bn_call_unload(const struct bn_model_calls *m, struct bn_session *s, uint32_t msgid,
		    const struct bn_params_models_unload *p) BN_ON_LOOP;

#endif
