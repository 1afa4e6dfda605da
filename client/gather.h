/*
 * The files of a choice, from the hub into one folder: those that are missing, checked, in order.
 *
 * It does not choose (client/hub.h) and does not know what becomes of them.
 */
#ifndef BN_CLIENT_GATHER_H
#define BN_CLIENT_GATHER_H

#include "client/download.h"
#include "client/hub.h"
#include "client/meter.h"

#include <stdbool.h>

/* Borrowed during the call. */
struct bn_gather {
	struct bn_download *download;
	const char *name; /* of the repository, "org/name" */
	const struct bn_hub_repo *repo;
	struct bn_hub_choice *choice; /* gets the shards that its index names */
	int dirfd;
	bool replace; /* files of the same names with other bytes may go */
	struct bn_meter *meter;
};

/* The name of a repository's file in the folder: without the folders it has there. */
const char *bn_gather_base(const char *path);

/* Fetches them all. Says BN_E_IO before the first when the disk has no room for them; errors of
 * bn_download_to and bn_hub_add_shards. */
BN_MUST_USE enum bn_status bn_gather(const struct bn_gather *g, struct bn_error *err);

#endif
