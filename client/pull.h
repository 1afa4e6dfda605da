/*
 * Fetches a model from the hub and leaves one GGUF file that bnd reads: the work of `bnctl pull`.
 *
 * It does not talk to the daemon and changes no configuration; it prints the lines that one needs.
 */
#ifndef BN_CLIENT_PULL_H
#define BN_CLIENT_PULL_H

#include "client/bnctl.h"
#include "client/hub_name.h"

#include <stdbool.h>

/* Everything from the command line and the environment. Borrowed. */
struct bn_pull_options {
	struct bn_hub_name name;
	const char *to;        /* the folder; NULL: the usual one     */
	const char *kernel;    /* for bn-convert; NULL: its own choice */
	const char *embedding; /* the same                            */
	bool keep_source;      /* of what was converted               */
	bool force;            /* replace files of the same name      */
	unsigned stall_s, retries;
	const char *endpoint, *token, *search_path, *xdg_data_home, *home;
	bool is_root;
};

/* Does it, prints, complains. Returns an exit code. */
int bn_pull(struct bn_ctl *ctl, const struct bn_pull_options *options);

#endif
