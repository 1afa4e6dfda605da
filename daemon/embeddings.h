/*
 * The call `embeddings`: many texts, each a request of its own, and one answer.
 *
 * It does not check rights or decode parameters (daemon/methods.c does), tokenize or compute.
 *
 * A request for each text, a few at a time, gives an embedding everything a generation has: it is
 * admitted, waits, is batched with whatever runs, is fair to other users, can be cancelled, and
 * holds KV only while it is computed. The first that fails fails the call.
 */
#ifndef BN_DAEMON_EMBEDDINGS_H
#define BN_DAEMON_EMBEDDINGS_H

#include "daemon/requests.h"
#include "daemon/ticket.h"
#include "proto/params.h"
#include "proto/role.h"

#include <uv.h>

/* Answers exactly once, now or later, as long as the session lives. Loop and requests are borrowed
 * for good. */
void bn_call_embeddings(uv_loop_t *loop, struct bn_requests *requests, struct bn_session *s,
			uint32_t msgid, const struct bn_params_embeddings *p) BN_ON_LOOP;

#endif
