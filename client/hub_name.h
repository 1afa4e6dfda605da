/*
 * Names on the Hugging Face hub: of repositories as users type them, of files, and the addresses
 * made of both.
 *
 * It does not know what a repository holds (client/hub.h does).
 */
#ifndef BN_CLIENT_HUB_NAME_H
#define BN_CLIENT_HUB_NAME_H

#include "proto/error.h"

#include <stdbool.h>

enum {
	BN_HUB_ORG_MAX = 96, /* and as much for the name after it */
	BN_HUB_REVISION_MAX = 200,
	BN_HUB_PATH_MAX = 180, /* longest path of a file that is taken */
	BN_HUB_COMMIT_MAX = 64,
	BN_HUB_URL_BYTES = 2048,
};

/* What a user wants. Plain value. */
struct bn_hub_name {
	char repo[2 * BN_HUB_ORG_MAX + 2];      /* "org/name"                    */
	char revision[BN_HUB_REVISION_MAX + 1]; /* branch, tag or commit; "main" */
	char file[BN_HUB_PATH_MAX + 1];         /* "": choose                    */
};

/*
 * Reads "org/name", "org/name@revision", "org/name:file.gguf" or both. `revision` and `file` come
 * from options, NULL when not given; naming one twice is a mistake. BN_E_INVALID with the way out.
 */
BN_MUST_USE enum bn_status bn_hub_name_parse(struct bn_hub_name *out, const char *text,
					     const char *revision, const char *file,
					     struct bn_error *err);

/* 1 to BN_HUB_PATH_MAX bytes, not absolute; no part of it is empty, ".", ".." or holds a control
 * character or a backslash. */
bool bn_hub_path_is_safe(const char *path);

/* Paths below the endpoint: the description of a revision, and one file of a commit. `to` has
 * BN_HUB_URL_BYTES, which everything that was parsed fits. */
void bn_hub_url_about(char *to, const struct bn_hub_name *name);
void bn_hub_url_file(char *to, const char *repo, const char *commit, const char *path);

#endif
