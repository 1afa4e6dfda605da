/*
 * The configuration as text for people: what is wrong with a file, what is in effect, what can be
 * set, and what a reload would change.
 *
 * It does not read files or judge values (daemon/config.h does); it walks the same table.
 */
#ifndef BN_DAEMON_CONFIG_PRINT_H
#define BN_DAEMON_CONFIG_PRINT_H

#include "daemon/config.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>
#include <stdio.h>

struct bn_config_change {
	enum bn_config_when when;
	char text[200]; /* "memory.budget: 4GiB -> 6GiB", "models: gained \"x\"" */
};

/* What differs; free with bn_config_diff_free. */
struct bn_config_diff {
	uint32_t n;
	struct bn_config_change *at;
};

/* Prints a report, one complaint a line: `file:line:column: text`. All BN_ON_ANY. */
void bn_config_print_report(FILE *out, const char *name, const struct bn_yaml_report *report);

/* Prints the effective configuration as YAML that parses to the same values. */
void bn_config_print(FILE *out, const struct bn_config *c);

/*
 * Prints a line for every setting: path, default, when a change takes effect, what is allowed,
 * sentence; separated by tabs.
 */
void bn_config_print_table(FILE *out);

/* What a reload from `a` to `b` would change, in the order of the table. BN_E_MEMORY. */
BN_MUST_USE enum bn_status bn_config_compare(struct bn_config_diff *out, const struct bn_config *a,
					     const struct bn_config *b, struct bn_error *err);

/* Frees what compare filled in; a zeroed struct is fine. */
void bn_config_diff_free(struct bn_config_diff *diff);

/* "now", "at the next load", "at the next start": static. */
const char *bn_config_when_word(enum bn_config_when when);

#endif
