/*
 * The calls that turn text into tokens and back: tokenize and detokenize. Each begins here, waits
 * for its model, has a helper do the work and answers its ticket.
 *
 * It does not check rights or decode parameters (daemon/methods.c does).
 */
#ifndef BN_DAEMON_TOKEN_CALLS_H
#define BN_DAEMON_TOKEN_CALLS_H

#include "daemon/registry.h"
#include "daemon/ticket.h"
#include "proto/params.h"
#include "proto/role.h"

#include <uv.h>

/* What they work with; read when a call begins, the two borrowed until it ends. */
struct bn_token_calls {
	uv_loop_t *loop;
	struct bn_registry *registry;
};

/* Each answers exactly once, now or later, as long as the session lives. */
void bn_call_tokenize(const struct bn_token_calls *m, struct bn_session *s, uint32_t msgid,
		      const struct bn_params_tokenize *p) BN_ON_LOOP;
void bn_call_detokenize(const struct bn_token_calls *m, struct bn_session *s, uint32_t msgid,
			const struct bn_params_detokenize *p) BN_ON_LOOP;

#endif
