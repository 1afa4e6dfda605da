/*
 * One value of a configuration: from a YAML node into a C member and from the member back to text,
 * as a row of a table says.
 *
 * It does not know which settings there are (daemon/config.c has the table) or what they mean.
 */
#ifndef BN_DAEMON_SETTING_H
#define BN_DAEMON_SETTING_H

#include "daemon/yaml.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	BN_SETTING_LIST_MAX = 256,
	BN_SETTING_TEXT_MAX = 4095, /* bytes of a text */
	BN_SETTING_NAME_MAX = 64,   /* bytes of a NAME */
};

struct bn_config_strings {
	uint32_t n;
	const char *const *at;
};

struct bn_config_numbers {
	uint32_t n;
	const uint32_t *at;
};

/* `workers.cores`. */
struct bn_config_cores {
	uint32_t count;                /* `cores: 4`; 0 when not given like that       */
	struct bn_config_numbers list; /* `cores: [0, 2]`; neither: `auto`, every core */
};

/* What a value may look like in the file, and the C type of its member. */
enum bn_setting_type {
	BN_SETTING_TEXT,     /* any text                      const char *              */
	BN_SETTING_NAME,     /* [a-z0-9._-]{1,64}             const char *              */
	BN_SETTING_TEXTS,    /* [a, b] or a                   struct bn_config_strings  */
	BN_SETTING_NAMES,    /* [a, b] or a, each a NAME      struct bn_config_strings  */
	BN_SETTING_BOOL,     /* true | false                  bool                      */
	BN_SETTING_COUNT,    /* whole number >= 0             uint64_t                  */
	BN_SETTING_INT,      /* whole number                  int64_t                   */
	BN_SETTING_NUM,      /* number                        double                    */
	BN_SETTING_SIZE,     /* 512MiB                        uint64_t bytes            */
	BN_SETTING_BUDGET,   /* 6GiB | auto                   uint64_t bytes, auto is 0 */
	BN_SETTING_DURATION, /* 90s, 1h30m, 250ms             uint64_t ms               */
	BN_SETTING_KEEP,     /* 10m | 0 | -1                  int64_t ms, -1 for ever   */
	BN_SETTING_MODE,     /* "0660"                        uint64_t                  */
	BN_SETTING_CORES,    /* auto | 4 | [0, 2, 4]          struct bn_config_cores    */
	BN_SETTING_WORD,     /* one of words                  uint32_t, its position    */
	BN_SETTING_WORDS,    /* [a, b] or a, of words; `all`  uint32_t, a bit for each  */
};

/* One row. */
struct bn_setting {
	const char *path; /* "limits.clients", "models[].name" */
	enum bn_setting_type type;
	size_t at;  /* offset of the member in its struct */
	size_t has; /* offset of a bool that says whether it was given, or SIZE_MAX */
	const char
		*fallback; /* default as the file would write it; NULL: none, the member stays 0 */
	bool must;         /* may not be left out */
	int64_t min, max;  /* COUNT, INT: value; SIZE, BUDGET: bytes; DURATION, KEEP: ms */
	double num_min, num_max;  /* NUM */
	const char *const *words; /* WORD, WORDS: NULL-terminated */
	int when;                 /* enum bn_config_when of daemon/config.h */
	const char *missing;      /* what happens without it, where there is no fallback */
	const char *doc;          /* one sentence */
};

/*
 * Reads `node` into the member of the struct at `base`. Texts and lists live in `tree`.
 * BN_E_CONFIG: it is not what the row wants; a complaint that begins with `shown` has been added
 * to *report and the member is untouched. BN_E_MEMORY: no memory, nothing was reported.
 */
BN_MUST_USE enum bn_status bn_setting_read(const struct bn_setting *s, void *base,
					   const struct bn_yaml_node *node, const char *shown,
					   struct bn_yaml *tree, struct bn_yaml_report *report);

/* Puts the fallback into the member, or zero when there is none. The table is right: asserts. */
void bn_setting_default(const struct bn_setting *s, void *base, struct bn_yaml *tree);

/* Whether the struct at `base` has a value for it: always, unless the row has a `has`. */
bool bn_setting_is_set(const struct bn_setting *s, const void *base);

/* Prints the member as the file would write it; reading that gives the same member. */
void bn_setting_print(FILE *out, const struct bn_setting *s, const void *base);

/* What the row allows, for complaints and manuals: "a whole number from 1 to 65536". */
const char *bn_setting_wants(char *text, size_t size, const struct bn_setting *s);

#endif
