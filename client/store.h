/*
 * Where downloaded models lie on this machine: folders, the lock on one, the room left.
 *
 * It does not know what is in them.
 */
#ifndef BN_CLIENT_STORE_H
#define BN_CLIENT_STORE_H

#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_STORE_PATH_BYTES = 4096 };

/* A locked folder. One thread. */
struct bn_store {
	int dirfd;
	int lock;
	char path[BN_STORE_PATH_BYTES]; /* absolute, no links in it */
};

/*
 * The folder for models that nobody gave a place: /var/lib/bnd/models for root, else
 * xdg_data_home/bnd/models or home/.local/share/bnd/models (absolute, or NULL). BN_E_INVALID when
 * none of these is known.
 */
BN_MUST_USE enum bn_status bn_store_root(char to[BN_STORE_PATH_BYTES], bool is_root,
					 const char *xdg_data_home, const char *home,
					 struct bn_error *err);

/*
 * Makes the folder and those above it, opens and locks it. The file of the lock stays: to remove it
 * would be a race. BN_E_OVERLOADED when another process holds the lock; BN_E_IO.
 */
BN_MUST_USE enum bn_status bn_store_open(struct bn_store *s, const char *path,
					 struct bn_error *err);

/* Unlocks. Accepts a zeroed one and one that failed to open. */
void bn_store_close(struct bn_store *s);

/* Opens the folder `path` (safe and relative: client/hub.h) below dirfd, making what is missing;
 * "" is dirfd itself. Never goes through a link. The caller closes *out. BN_E_IO. */
BN_MUST_USE enum bn_status bn_store_folder(int *out, int dirfd, const char *path,
					   struct bn_error *err);

/* BN_E_IO with the numbers when the file system has less than this many bytes left for us. */
BN_MUST_USE enum bn_status bn_store_room(int dirfd, uint64_t bytes, struct bn_error *err);

#endif
