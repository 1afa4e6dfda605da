/*
 * The configuration of this process: read at the start, and again whenever somebody asks.
 *
 * It does not apply anything (daemon/daemon.c does, piece by piece).
 */
#ifndef BN_DAEMON_RELOAD_H
#define BN_DAEMON_RELOAD_H

#include "daemon/config.h"
#include "daemon/options.h"
#include "proto/error.h"

#include <stdbool.h>

/*
 * Reads the file that the command line names, or the usual one; when nobody has written that, the
 * defaults serve with the bundled model. Every complaint goes to stderr, or into the log, with line
 * and column. Errors are those of bn_config_load. Free *out with bn_config_free. Loop.
 */
BN_MUST_USE enum bn_status bn_reload_read(struct bn_config **out, const struct bn_options *o,
					  bool to_log, struct bn_error *err);

/* Logs what is different, and what of it takes a restart. */
void bn_reload_tell(const struct bn_config *old, const struct bn_config *fresh);

#endif
