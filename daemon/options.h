/*
 * The command line of bnd, and where things lie when nobody says: the only reader of argv and of
 * environment variables (XDG_CONFIG_HOME, XDG_RUNTIME_DIR, HOME).
 *
 * It does not open anything.
 */
#ifndef BN_DAEMON_OPTIONS_H
#define BN_DAEMON_OPTIONS_H

#include "proto/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

enum bn_options_mode {
	BN_OPTIONS_SERVE,
	BN_OPTIONS_CHECK,
	BN_OPTIONS_PRINT,
	BN_OPTIONS_VERSION,
	BN_OPTIONS_HELP,
};

struct bn_options {
	enum bn_options_mode mode;
	bool json;
	bool debuggable;
	bool config_given; /* by --config: it must exist         */
	char config[PATH_MAX];
	const char *socket; /* from the command line, or NULL     */
};

/* Reads argv. BN_E_INVALID with a sentence that says what is wrong and points to --help. */
BN_MUST_USE enum bn_status bn_options_parse(struct bn_options *out, int argc, char **argv,
					    struct bn_error *err);

/*
 * Where the socket lies when neither the command line nor the configuration says: /run/bnd/bnd.sock
 * for root, else $XDG_RUNTIME_DIR/bnd/bnd.sock. BN_E_CONFIG when that variable is not set or the
 * path does not fit.
 */
BN_MUST_USE enum bn_status bn_options_socket(char *path, size_t size, struct bn_error *err);

/* What --help prints. */
void bn_options_help(FILE *to);

#endif
