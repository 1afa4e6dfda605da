/*
 * The daemon as a whole: builds its parts bottom-up, runs the loop, applies new configurations, and
 * takes the parts down top-down.
 *
 * It does not read the command line or prepare the process (daemon/main.c does).
 */
#ifndef BN_DAEMON_DAEMON_H
#define BN_DAEMON_DAEMON_H

#include "daemon/auth.h"
#include "daemon/config.h"
#include "daemon/options.h"
#include "proto/error.h"
#include "proto/role.h"

/*
 * Serves until SIGTERM or SIGINT has been heeded: on the listening socket `inherited`, or for 0 on
 * one of its own making. Takes `config` and `auth`, which a reload replaces, and frees what stands
 * in the end. BN_OK after a good end; otherwise what stopped the start, which is in the log too.
 * The process must ignore SIGPIPE; the log must have been started.
 */
BN_MUST_USE enum bn_status bn_daemon_run(const struct bn_options *options, struct bn_config *config,
					 struct bn_auth *auth, int inherited,
					 struct bn_error *err) BN_ON_LOOP;

#endif
