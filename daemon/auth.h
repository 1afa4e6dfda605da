/*
 * Who is on the other end of a socket and what may they do: kernel credentials to rights. There
 * are no secrets; the identity of a client is its uid.
 *
 * It does not know methods (daemon/methods.c maps each to the rights it needs) and does not
 * re-check: what was decided when the connection was accepted holds until it ends.
 *
 * Rules. Root and the daemon's own user may do everything. The overflow uid (what a peer from
 * another user namespace looks like) is nobody: many people would share it, so it gets nothing.
 * Without an `access` list everybody who can open the socket, which its mode decides, may
 * generate and see the status. With a list only who is on it, by uid, primary or supplementary
 * group; the rights of all matching entries add up.
 */
#ifndef BN_DAEMON_AUTH_H
#define BN_DAEMON_AUTH_H

#include "daemon/config.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Who a connection belongs to. Plain value. */
struct bn_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;       /* for log lines only: it may be reused, never decide by it */
	uint32_t rights; /* set of enum bn_may */
};

/* The access list with its names resolved. Opaque, const once made. */
struct bn_auth;

/*
 * Resolves the users and groups of config->access. BN_E_CONFIG naming file, place and name when
 * the system does not know one; BN_E_IO when it cannot tell. The config may be freed afterwards.
 */
BN_MUST_USE enum bn_status bn_auth_new(struct bn_auth **out, const struct bn_config *config,
				       struct bn_error *err) BN_ON_ANY;

/* NULL is fine. */
void bn_auth_free(struct bn_auth *a);

/*
 * The peer of a connected AF_UNIX socket, by SO_PEERCRED and SO_PEERGROUPS. BN_E_PERMISSION, with
 * a sentence fit for that peer, when it has no right at all (*out is filled even then, for the log
 * line); BN_E_IO when the kernel does not answer.
 */
BN_MUST_USE enum bn_status bn_auth_peer(const struct bn_auth *a, int fd, struct bn_peer *out,
					struct bn_error *err) BN_ON_ANY;

/* The rights of a uid with primary group gid and supplementary groups [n]; a set of enum bn_may. */
uint32_t bn_auth_rights(const struct bn_auth *a, uid_t uid, gid_t gid, const gid_t *groups,
			size_t n) BN_ON_ANY;

/*
 * BN_OK when the peer has every right in `needed` (set of enum bn_may), else BN_E_PERMISSION with
 * a sentence naming what is missing.
 */
BN_MUST_USE enum bn_status bn_auth_check(const struct bn_peer *peer, uint32_t needed,
					 struct bn_error *err) BN_ON_ANY;

/*
 * Refuses to serve several users from inside a user namespace (PrivateUsers=yes, a rootless
 * container), where the kernel shows all of them as one uid. `uid_map` is "/proc/self/uid_map".
 * BN_OK when the map is the whole identity, or when it cannot be read because /proc is hidden;
 * BN_E_CONFIG naming the cause otherwise. Call it when config->access is not empty.
 */
BN_MUST_USE enum bn_status bn_auth_check_identity(const char *uid_map,
						  struct bn_error *err) BN_ON_ANY;

#endif
