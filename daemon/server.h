/*
 * The front door: opens on a listening socket, lets peers in up to the limits, and shuts again.
 *
 * It does not make the socket (daemon/listener.h), read messages or answer methods; the hooks it is
 * given go straight to daemon/connection.h, where their rules are.
 *
 * Who is turned away gets a typed error first. When descriptors run out, a spare one is used to
 * tell the caller so, and accepting pauses for 100 ms, so that a full table costs no processor.
 */
#ifndef BN_DAEMON_SERVER_H
#define BN_DAEMON_SERVER_H

#include "daemon/auth.h"
#include "daemon/config.h"
#include "daemon/connection.h"
#include "daemon/metrics.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* Opaque; owned by main. */
struct bn_server;

/*
 * Makes a server that does not listen yet. `config` is read and not kept; `auth` is borrowed until
 * bn_server_reconfigure or the end, `metrics` (NULL allowed) until the end. BN_E_MEMORY, BN_E_IO.
 */
BN_MUST_USE enum bn_status bn_server_new(struct bn_server **out, uv_loop_t *loop,
					 const struct bn_config *config, const struct bn_auth *auth,
					 const struct bn_connection_hooks *hooks,
					 struct bn_metrics *metrics,
					 struct bn_error *err) BN_ON_LOOP;

/*
 * Opens the door. inherited_fd > 0: bn_listener_adopt, else bn_listener_create with the rest, and
 * their errors.
 */
BN_MUST_USE enum bn_status bn_server_listen(struct bn_server *s, int inherited_fd, const char *path,
					    const char *group, uint32_t mode,
					    struct bn_error *err) BN_ON_LOOP;

/* New limits and rights, for peers that come from now on (limits of connections: for all). */
void bn_server_reconfigure(struct bn_server *s, const struct bn_config *config,
			   const struct bn_auth *auth) BN_ON_LOOP;

/*
 * Begins a drain: lets nobody in any more, removes a created socket so that a successor may start,
 * and sends n bytes (one notification, NULL allowed) to everybody. Connections stay.
 */
void bn_server_drain(struct bn_server *s, const void *farewell, size_t n) BN_ON_LOOP;

/*
 * Ends everything: drains if that was not done, writes what is queued for at most grace_ms, closes
 * all connections and frees the server; then calls `stopped(who)` from the loop. Once only.
 */
void bn_server_stop(struct bn_server *s, uint64_t grace_ms, void (*stopped)(void *who),
		    void *who) BN_ON_LOOP;

/* The connections, for counting, walking and broadcasting. Lives until stopped. */
struct bn_connections *bn_server_connections(struct bn_server *s) BN_ON_LOOP;

/* True between listen and drain. */
bool bn_server_is_listening(const struct bn_server *s) BN_ON_LOOP;

#endif
