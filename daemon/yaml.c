/*
 * libyaml's event parser scans; this file builds the tree, because libyaml's own (the composer)
 * resolves aliases, takes duplicates, and does not say where a key stood. Depth, nodes and keys
 * per map are capped before anything is kept, and nothing here recurses.
 */
#include "daemon/yaml.h"

#include "proto/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
	NODES_MAX = 65536,
	KEYS_MAX = 512, /* of one map; duplicates are found by comparing each with each */
	CHUNK_BYTES = 16384,
};

/* Memory comes in chunks that are freed together. */
struct chunk {
	struct chunk *next;
	size_t used;
	size_t room;
	max_align_t bytes[];
};

struct bn_yaml {
	struct chunk *chunks;
	struct bn_yaml_node *root;
	uint32_t n_nodes;
};

void bn_yaml_complain(struct bn_yaml_report *report, uint32_t line, uint32_t column,
		      const char *format, ...)
{
	char raw[BN_YAML_COMPLAINT_BYTES];
	struct bn_yaml_complaint *complaint;
	struct bn_error clean;
	va_list args;

	if (report->n == BN_YAML_COMPLAINTS_MAX) {
		report->dropped++;
		return;
	}
	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	bn_fail(&clean, BN_E_CONFIG, "%s", raw);
	complaint = &report->at[report->n++];
	complaint->line = line;
	complaint->column = column;
	snprintf(complaint->text, sizeof(complaint->text), "%.*s", BN_YAML_COMPLAINT_BYTES - 1,
		 clean.text);
}

void bn_yaml_sort(struct bn_yaml_report *report)
{
	/* Insertion: fifty at most, nearly sorted, and stable. */
	for (uint32_t i = 1; i < report->n; i++) {
		struct bn_yaml_complaint moving = report->at[i];
		uint32_t to = i;

		while (to > 0 && (report->at[to - 1].line > moving.line ||
				  (report->at[to - 1].line == moving.line &&
				   report->at[to - 1].column > moving.column))) {
			report->at[to] = report->at[to - 1];
			to--;
		}
		report->at[to] = moving;
	}
}

void *bn_yaml_alloc(struct bn_yaml *y, size_t bytes)
{
	struct chunk *chunk = y->chunks;
	size_t unit = sizeof(max_align_t);
	void *out;

	if (bytes > SIZE_MAX / 2) {
		return NULL;
	}
	bytes = (bytes + unit - 1) / unit * unit;
	if (chunk == NULL || chunk->room - chunk->used < bytes) {
		size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;

		chunk = calloc(1, sizeof(*chunk) + room);
		if (chunk == NULL) {
			return NULL;
		}
		chunk->room = room;
		chunk->next = y->chunks;
		y->chunks = chunk;
	}
	out = (unsigned char *)chunk->bytes + chunk->used;
	chunk->used += bytes;
	return out;
}

void bn_yaml_free(struct bn_yaml *y)
{
	if (y == NULL) {
		return;
	}
	while (y->chunks != NULL) {
		struct chunk *next = y->chunks->next;

		free(y->chunks);
		y->chunks = next;
	}
	free(y);
}

const struct bn_yaml_node *bn_yaml_root(const struct bn_yaml *y)
{
	return y->root;
}

bool bn_yaml_is_null(const struct bn_yaml_node *node)
{
	return node->kind == BN_YAML_SCALAR && node->plain &&
	       (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
		strcmp(node->text, "null") == 0 || strcmp(node->text, "Null") == 0 ||
		strcmp(node->text, "NULL") == 0);
}

/* How one reading stands. */
struct reader {
	struct bn_yaml *tree;
	struct bn_yaml_report *report;
	struct bn_yaml_node *open[BN_YAML_DEPTH_MAX]; /* containers not ended, outermost first */
	uint32_t depth;
	struct bn_yaml_node *key; /* key of the innermost map that waits for its value */
	uint32_t documents;
	bool stop; /* nothing sensible follows */
	bool no_memory;
};

static uint32_t line_of(yaml_mark_t mark)
{
	return (uint32_t)(mark.line < UINT32_MAX - 1 ? mark.line + 1 : UINT32_MAX);
}

static uint32_t column_of(yaml_mark_t mark)
{
	return (uint32_t)(mark.column < UINT32_MAX - 1 ? mark.column + 1 : UINT32_MAX);
}

static struct bn_yaml_node *new_node(struct reader *r, enum bn_yaml_kind kind, yaml_mark_t mark)
{
	struct bn_yaml_node *node;

	if (r->tree->n_nodes == NODES_MAX) {
		bn_yaml_complain(r->report, line_of(mark), column_of(mark),
				 "more than %d values in one file", NODES_MAX);
		r->stop = true;
		return NULL;
	}
	node = bn_yaml_alloc(r->tree, sizeof(*node));
	if (node == NULL) {
		r->no_memory = true;
		r->stop = true;
		return NULL;
	}
	r->tree->n_nodes++;
	node->kind = kind;
	node->line = line_of(mark);
	node->column = column_of(mark);
	return node;
}

/* Makes `node` the value that was expected here: of a key, in a list, or the root. */
static void place(struct reader *r, struct bn_yaml_node *node)
{
	struct bn_yaml_node *parent;

	if (r->depth == 0) {
		if (r->tree->root == NULL) {
			r->tree->root = node;
		}
		return;
	}
	parent = r->open[r->depth - 1];
	if (parent->kind == BN_YAML_MAP) {
		node->key = r->key->text;
		node->key_line = r->key->line;
		node->key_column = r->key->column;
		r->key = NULL;
	}
	if (parent->last == NULL) {
		parent->first = node;
	} else {
		parent->last->next = node;
	}
	parent->last = node;
	parent->n++;
}

static bool at_key(const struct reader *r)
{
	return r->depth > 0 && r->open[r->depth - 1]->kind == BN_YAML_MAP && r->key == NULL;
}

/* Judges a key; it is kept even when refused, so that its value is read and judged as well. */
static void take_key(struct reader *r, struct bn_yaml_node *key)
{
	const struct bn_yaml_node *map = r->open[r->depth - 1];

	if (key->plain && strcmp(key->text, "<<") == 0) {
		bn_yaml_complain(r->report, key->line, key->column,
				 "merge keys (<<) are not supported: write the entries out");
	}
	for (const struct bn_yaml_node *n = map->first; n != NULL; n = n->next) {
		if (strcmp(n->key, key->text) == 0) {
			bn_yaml_complain(r->report, key->line, key->column,
					 "%s: stands twice, first in line %u", key->text,
					 n->key_line);
			break;
		}
	}
	if (map->n >= KEYS_MAX) {
		bn_yaml_complain(r->report, key->line, key->column, "more than %d keys in one map",
				 KEYS_MAX);
		r->stop = true;
	}
	r->key = key;
}

static void refuse_extras(struct reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
			  const yaml_char_t *tag)
{
	uint32_t line = line_of(event->start_mark);
	uint32_t column = column_of(event->start_mark);

	if (anchor != NULL) {
		bn_yaml_complain(
			r->report, line, column,
			"anchors (&%s) are not supported: write the value where it is used",
			(const char *)anchor);
	}
	if (tag != NULL) {
		bn_yaml_complain(r->report, line, column,
				 "tags (%s) are not supported: leave it out", (const char *)tag);
	}
}

static void on_scalar(struct reader *r, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t n = event->data.scalar.length;
	struct bn_yaml_node *node = new_node(r, BN_YAML_SCALAR, event->start_mark);
	char *copy;

	if (node == NULL) {
		return;
	}
	copy = bn_yaml_alloc(r->tree, n + 1);
	if (copy == NULL) {
		r->no_memory = true;
		r->stop = true;
		return;
	}
	memcpy(copy, text, n);
	node->text = copy;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	refuse_extras(r, event, event->data.scalar.anchor, event->data.scalar.tag);
	if (memchr(text, '\0', n) != NULL) {
		bn_yaml_complain(r->report, node->line, node->column,
				 "a text must not contain \\0");
	}
	if (at_key(r)) {
		take_key(r, node);
	} else {
		place(r, node);
	}
}

static void on_begin(struct reader *r, const yaml_event_t *event, enum bn_yaml_kind kind)
{
	struct bn_yaml_node *node;

	if (at_key(r)) {
		bn_yaml_complain(r->report, line_of(event->start_mark),
				 column_of(event->start_mark), "a key must be a word, not a %s",
				 kind == BN_YAML_MAP ? "map" : "list");
		r->stop = true;
		return;
	}
	if (r->depth == BN_YAML_DEPTH_MAX) {
		bn_yaml_complain(r->report, line_of(event->start_mark),
				 column_of(event->start_mark), "more than %d levels of nesting",
				 BN_YAML_DEPTH_MAX);
		r->stop = true;
		return;
	}
	node = new_node(r, kind, event->start_mark);
	if (node == NULL) {
		return;
	}
	if (kind == BN_YAML_MAP) {
		refuse_extras(r, event, event->data.mapping_start.anchor,
			      event->data.mapping_start.tag);
	} else {
		refuse_extras(r, event, event->data.sequence_start.anchor,
			      event->data.sequence_start.tag);
	}
	place(r, node);
	r->open[r->depth++] = node;
}

static void on_alias(struct reader *r, const yaml_event_t *event)
{
	struct bn_yaml_node *node;

	bn_yaml_complain(r->report, line_of(event->start_mark), column_of(event->start_mark),
			 "aliases (*%s) are not supported: write the value out",
			 (const char *)event->data.alias.anchor);
	node = new_node(r, BN_YAML_SCALAR, event->start_mark);
	if (node == NULL) {
		return;
	}
	node->text = "";
	node->plain = true;
	if (at_key(r)) {
		r->key = node;
	} else {
		place(r, node);
	}
}

static void on_event(struct reader *r, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		r->documents++;
		if (r->documents == 2) {
			bn_yaml_complain(r->report, line_of(event->start_mark),
					 column_of(event->start_mark),
					 "a second document begins here: one file holds one");
			r->stop = true;
		}
		break;
	case YAML_SCALAR_EVENT:
		on_scalar(r, event);
		break;
	case YAML_ALIAS_EVENT:
		on_alias(r, event);
		break;
	case YAML_MAPPING_START_EVENT:
		on_begin(r, event, BN_YAML_MAP);
		break;
	case YAML_SEQUENCE_START_EVENT:
		on_begin(r, event, BN_YAML_LIST);
		break;
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		r->depth--;
		break;
	case YAML_STREAM_END_EVENT:
		r->stop = true;
		break;
	default:
		break;
	}
}

/* What libyaml found wrong, in a sentence; its marks are not set for errors of the encoding. */
static void syntax_error(struct reader *r, const yaml_parser_t *parser)
{
	const char *problem = parser->problem != NULL ? parser->problem : "not YAML";

	if (parser->error == YAML_MEMORY_ERROR) {
		r->no_memory = true;
	} else if (parser->error == YAML_READER_ERROR) {
		bn_yaml_complain(r->report, line_of(parser->mark), column_of(parser->mark),
				 "the file is not plain UTF-8 text: %s at byte %zu", problem,
				 parser->problem_offset);
	} else {
		bn_yaml_complain(r->report, line_of(parser->problem_mark),
				 column_of(parser->problem_mark), "YAML syntax: %s%s%s", problem,
				 parser->context != NULL ? " " : "",
				 parser->context != NULL ? parser->context : "");
	}
}

enum bn_status bn_yaml_read(struct bn_yaml **out, const void *bytes, size_t n,
			    struct bn_yaml_report *report, struct bn_error *err)
{
	struct reader r = { .report = report };
	yaml_parser_t parser;
	yaml_event_t event;

	r.tree = calloc(1, sizeof(*r.tree));
	if (r.tree == NULL || !yaml_parser_initialize(&parser)) {
		free(r.tree);
		return bn_fail(err, BN_E_MEMORY, "no memory to read YAML");
	}
	if (n > BN_YAML_BYTES_MAX) {
		bn_yaml_complain(report, 0, 0, "the file has %zu bytes, at most %d are read", n,
				 BN_YAML_BYTES_MAX);
		n = 0;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)(n > 0 ? bytes : ""), n);
	while (!r.stop) {
		if (!yaml_parser_parse(&parser, &event)) {
			syntax_error(&r, &parser);
			break;
		}
		on_event(&r, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	if (r.no_memory) {
		bn_yaml_free(r.tree);
		return bn_fail(err, BN_E_MEMORY, "no memory to read YAML");
	}
	*out = r.tree;
	return BN_OK;
}
