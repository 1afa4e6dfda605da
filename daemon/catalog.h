/*
 * The catalog of models: the configured ones in the order of the file and then those that have left
 * the configuration but not memory yet; found by name or alias, and brought in line with a new
 * configuration.
 *
 * It loads and unloads nothing: whoever is `removed` is for daemon/registry.h to see off.
 */
#ifndef BN_DAEMON_CATALOG_H
#define BN_DAEMON_CATALOG_H

#include "daemon/config.h"
#include "daemon/entry.h"
#include "proto/error.h"
#include "proto/role.h"
#include "proto/value.h"

/* Embed one, zeroed; the loop's. */
struct bn_catalog {
	struct bn_entry *first; /* follow ->next */
};

/* The model of that name or alias. BN_E_NOT_FOUND, with fact "suggestions" for the nearest name. */
BN_MUST_USE enum bn_status bn_catalog_find(const struct bn_catalog *r, struct bn_text name,
					   struct bn_entry **out, struct bn_error *err) BN_ON_LOOP;

/*
 * Makes the models of `config` the configured ones. New ones come in, cold, with `context`;
 * settings that need no load change at once; a model that is gone, or is loaded differently now,
 * is removed: unpinned, wanted by nobody, and no longer found. BN_E_MEMORY: some changes were made.
 */
BN_MUST_USE enum bn_status bn_catalog_apply(struct bn_catalog *r,
					    const struct bn_entry_context *context,
					    const struct bn_config *config,
					    struct bn_error *err) BN_ON_LOOP;

/* Takes `e` off the list and frees it; COLD or FAILED, and nobody has or wants it. */
void bn_catalog_drop(struct bn_catalog *r, struct bn_entry *e) BN_ON_LOOP;

#endif
