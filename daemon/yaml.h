/*
 * A YAML file as a tree of maps, lists and scalars that remember their place, and a list of
 * complaints with places.
 *
 * It does not know any key and does not type scalars: `yes`, `0x10` and `10` are text until
 * somebody asks. It refuses what makes YAML dangerous or surprising: anchors and aliases (alias
 * bombs), tags, merge keys, duplicate and non-scalar keys, several documents, more than 1 MiB,
 * more than 16 levels. It stands on libyaml's event parser, which expands nothing.
 */
#ifndef BN_DAEMON_YAML_H
#define BN_DAEMON_YAML_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_YAML_BYTES_MAX = 1048576,
	BN_YAML_DEPTH_MAX = 16,
	BN_YAML_COMPLAINTS_MAX = 50,
	BN_YAML_COMPLAINT_BYTES = 240,
};

/* One thing wrong with the file. Lines and columns count from 1; 0 means the file as a whole. */
struct bn_yaml_complaint {
	uint32_t line;
	uint32_t column;
	char text[BN_YAML_COMPLAINT_BYTES]; /* one sentence, valid UTF-8 */
};

/* All things wrong with it, in the order they were found until sorted. Start from zeroes. */
struct bn_yaml_report {
	uint32_t n;
	uint32_t dropped; /* complaints beyond BN_YAML_COMPLAINTS_MAX */
	struct bn_yaml_complaint at[BN_YAML_COMPLAINTS_MAX];
};

enum bn_yaml_kind {
	BN_YAML_SCALAR,
	BN_YAML_MAP,
	BN_YAML_LIST,
};

/* One node. Children of a map carry their key. Plain data, borrowed from the tree. */
struct bn_yaml_node {
	enum bn_yaml_kind kind;
	bool plain; /* SCALAR: written without quotes, so that `null` or nothing may mean "not set"
		     */
	uint32_t line;
	uint32_t column;
	const char *text; /* SCALAR: NUL-terminated, no NUL inside, valid UTF-8 */
	const char *key;  /* child of a map: likewise */
	uint32_t key_line;
	uint32_t key_column;
	uint32_t n;                 /* MAP, LIST: children */
	struct bn_yaml_node *first; /* MAP, LIST: first child or NULL */
	struct bn_yaml_node *next;  /* sibling or NULL */
	struct bn_yaml_node *last;  /* MAP, LIST: last child, for whoever appends */
};

/* Opaque; owns its nodes, their text, and whatever bn_yaml_alloc gave out. */
struct bn_yaml;

/*
 * Reads n bytes. An empty file (or one of comments) has no root. What is wrong is added to
 * *report and reading goes on where that makes sense. BN_OK even then: look at report->n.
 * BN_E_MEMORY is the only error. Free with bn_yaml_free. BN_ON_ANY.
 */
BN_MUST_USE enum bn_status bn_yaml_read(struct bn_yaml **out, const void *bytes, size_t n,
					struct bn_yaml_report *report, struct bn_error *err);

/* NULL is fine. */
void bn_yaml_free(struct bn_yaml *y);

/* The root, or NULL for an empty file. */
const struct bn_yaml_node *bn_yaml_root(const struct bn_yaml *y);

/* Zeroed memory that lives as long as the tree, aligned for any type; NULL when there is none. */
void *bn_yaml_alloc(struct bn_yaml *y, size_t bytes);

/* Adds a complaint. Broken UTF-8 and control characters in it become '?'. */
void bn_yaml_complain(struct bn_yaml_report *report, uint32_t line, uint32_t column,
		      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Sorts by place; stable. */
void bn_yaml_sort(struct bn_yaml_report *report);

/* Whether a scalar means "nothing": empty, `~` or `null` without quotes. */
bool bn_yaml_is_null(const struct bn_yaml_node *node);

#endif
