/*
 * The listening socket: created at a path or taken over from who started us, and removed again.
 *
 * It accepts nobody and needs no loop (daemon/server.h does).
 *
 * A created socket has its group and mode before anybody can reach it, replaces a stale one
 * atomically and never a live one, and is removed at the end, if it is still ours that lies there.
 * An inherited one (systemd) is checked and never removed.
 */
#ifndef BN_DAEMON_LISTENER_H
#define BN_DAEMON_LISTENER_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	BN_LISTENER_PATH_MOST = 100, /* leaves room for ".lock" in sun_path (108 with its NUL) */
	BN_LISTENER_PATH_ROOM = BN_LISTENER_PATH_MOST + 8,
};

/* Embed one, filled by one of the two below; the loop's. */
struct bn_listener {
	int fd;                           /* not blocking, closed on exec                       */
	int lock;                         /* on <path>.lock; -1 when the socket is not ours     */
	char path[BN_LISTENER_PATH_ROOM]; /* of a socket we made; "" when it is not ours        */
	dev_t device;                     /* of that socket, so that we remove no other         */
	ino_t inode;
};

/*
 * Makes one at `path` with `group` ("" leaves it) and `mode`. *out is untouched on failure.
 *
 *   BN_E_CONFIG    path empty or over 100 bytes, unknown group
 *   BN_E_CONFLICT  somebody listens there, or what lies there is no socket
 *   BN_E_PERMISSION, BN_E_IO  the system refused; the sentence has the path and the cause
 */
BN_MUST_USE enum bn_status bn_listener_create(struct bn_listener *out, const char *path,
					      const char *group, uint32_t mode,
					      struct bn_error *err) BN_ON_LOOP;

/* Takes fd over, which must be a listening AF_UNIX stream socket; closes it on failure.
 * BN_E_CONFIG, BN_E_IO. */
BN_MUST_USE enum bn_status bn_listener_adopt(struct bn_listener *out, int fd,
					     struct bn_error *err) BN_ON_LOOP;

/* Removes a created one's name, then closes: a client sees "no such file", not a dead socket. */
void bn_listener_close(struct bn_listener *l) BN_ON_LOOP;

#endif
