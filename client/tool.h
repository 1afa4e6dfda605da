/*
 * Other programs of the project, found and run: bnctl links no engine, bn-convert does.
 *
 * It does not go through a shell and does not look into the current folder.
 */
#ifndef BN_CLIENT_TOOL_H
#define BN_CLIENT_TOOL_H

#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Path of program `name`: beside the running program, else in the absolute folders of `search`
 * (PATH; NULL: none). BN_E_NOT_FOUND saying where it was looked for. `to` has `size` bytes.
 */
BN_MUST_USE enum bn_status bn_tool_find(char *to, size_t size, const char *name, const char *search,
					struct bn_error *err);

/*
 * Runs a program to its end, its standard output going to our standard error; argv[0] is its name,
 * argv ends with NULL. When `stop` (NULL: never) begins to say true, it gets SIGTERM, once (a
 * terminal's Ctrl-C has reached it already, and a second SIGINT is for killing). It does not
 * outlive us. Its exit status, 128 + N when signal N ended it, or -1 when it cannot be started.
 */
int bn_tool_run(const char *path, const char *const *argv, bool (*stop)(void *who), void *who);

#endif
