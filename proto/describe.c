/*
 * Three readers of the same rows: a map for clients, a page for people, a listing for the test
 * that guards published names.
 */
#include "proto/describe.h"

#include "proto/error.h"
#include "proto/params.h"
#include "proto/schema.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct limit {
	const char *name;
	int64_t value;
	const char *doc;
};

#define LIMIT_ROW(SYMBOL, name, value, doc) { #name, value, doc },
static const struct limit limits[] = { BN_LIMIT_TABLE(LIMIT_ROW) };
enum { N_LIMITS = sizeof(limits) / sizeof(limits[0]) };

static const char *right_name(enum bn_right right)
{
	return right == BN_RIGHT_ADMIN ? "admin" : "user";
}

/* --- server.info ---------------------------------------------------------------------------- */

static void pack_range(struct bn_pack *p, const struct bn_field *field)
{
	if (field->kind == BN_KIND_NUM) {
		bn_pack_num(p, "min", field->num_min);
		bn_pack_num(p, "max", field->num_max);
	} else if (field->kind != BN_KIND_BOOL && field->kind != BN_KIND_WORD) {
		bn_pack_int(p, "min", field->int_min);
		bn_pack_int(p, "max", field->int_max);
	}
}

static void pack_fields(struct bn_pack *p, const struct bn_field *field)
{
	for (; field->name != NULL; field++) {
		bn_pack_map(p, NULL);
		bn_pack_str(p, "name", field->name);
		bn_pack_str(p, "type", bn_kind_name(field->kind));
		bn_pack_bool(p, "required", field->must);
		pack_range(p, field);
		if (field->words != NULL) {
			bn_pack_array(p, "words");
			for (size_t i = 0; field->words[i] != NULL; i++) {
				bn_pack_str(p, NULL, field->words[i]);
			}
			bn_pack_end(p);
		}
		if (!field->must) {
			bn_pack_str(p, "default", field->missing);
		}
		bn_pack_str(p, "doc", field->doc);
		bn_pack_end(p);
	}
}

static void pack_method(struct bn_pack *p, const struct bn_method_info *method)
{
	bn_pack_map(p, NULL);
	bn_pack_str(p, "name", method->name);
	bn_pack_int(p, "since", method->since);
	bn_pack_str(p, "role", right_name(method->right));
	bn_pack_bool(p, "stream", method->stream);
	bn_pack_str(p, "doc", method->doc);
	bn_pack_array(p, "params");
	pack_fields(p, method->own);
	pack_fields(p, method->shared);
	bn_pack_end(p);
	bn_pack_end(p);
}

static void pack_notifications(struct bn_pack *p)
{
	bn_pack_array(p, "notifications");
	bn_pack_map(p, NULL);
	bn_pack_str(p, "name", BN_STREAM_NAME);
	bn_pack_array(p, "events");
	for (enum bn_event_kind e = 0; e < BN_EVENT_COUNT; e++) {
		bn_pack_str(p, NULL, bn_event_info(e)->name);
	}
	bn_pack_end(p);
	bn_pack_end(p);
	bn_pack_end(p);
}

static void pack_errors(struct bn_pack *p)
{
	bn_pack_array(p, "errors");
	for (enum bn_status s = BN_OK + 1; s < BN_STATUS_COUNT; s++) {
		bn_pack_map(p, NULL);
		bn_pack_int(p, "code", bn_status_code(s));
		bn_pack_str(p, "kind", bn_status_word(s));
		bn_pack_str(p, "doc", bn_status_sentence(s));
		bn_pack_end(p);
	}
	bn_pack_end(p);
}

void bn_describe_info(struct bn_pack *p, const char *version, const char *const *features,
		      size_t n_features)
{
	bn_pack_map(p, NULL);
	bn_pack_str(p, "server", "bnd");
	bn_pack_str(p, "version", version);
	bn_pack_int(p, "api_level", BN_API_LEVEL);
	bn_pack_int(p, "api_compatible", BN_API_COMPATIBLE);
	bn_pack_array(p, "methods");
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		pack_method(p, bn_method_info(m));
	}
	bn_pack_end(p);
	pack_notifications(p);
	pack_errors(p);
	bn_pack_map(p, "limits");
	for (size_t i = 0; i < N_LIMITS; i++) {
		bn_pack_int(p, limits[i].name, limits[i].value);
	}
	bn_pack_end(p);
	bn_pack_array(p, "features");
	for (size_t i = 0; i < n_features; i++) {
		bn_pack_str(p, NULL, features[i]);
	}
	bn_pack_end(p);
	bn_pack_end(p);
}

/* --- docs/protocol.md ----------------------------------------------------------------------- */

/* A cell of a table: '|' would end it. */
static void print_cell(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '|') {
			fputc('\\', out);
		}
		fputc(*text, out);
	}
}

static const char *range_unit(enum bn_kind kind)
{
	switch (kind) {
	case BN_KIND_STR:
	case BN_KIND_BIN:
		return " bytes";
	case BN_KIND_TIME:
		return " s";
	case BN_KIND_PROMPT:
	case BN_KIND_IDS:
		return " tokens";
	case BN_KIND_STRS:
		return " strings";
	case BN_KIND_TEXTS:
		return " texts";
	case BN_KIND_BIAS:
		return " entries";
	case BN_KIND_CHAT:
		return " messages";
	default:
		return "";
	}
}

static void print_range(FILE *out, const struct bn_field *field)
{
	if (field->words != NULL) {
		for (size_t i = 0; field->words[i] != NULL; i++) {
			fprintf(out, "%s`%s`", i > 0 ? ", " : "", field->words[i]);
		}
	} else if (field->kind == BN_KIND_NUM) {
		fprintf(out, "%g..%g", field->num_min, field->num_max);
	} else if (field->kind != BN_KIND_BOOL) {
		fprintf(out, "%" PRId64 "..", field->int_min);
		if (field->int_max == INT64_MAX) {
			fprintf(out, "2^63-1");
		} else {
			fprintf(out, "%" PRId64, field->int_max);
		}
		fputs(range_unit(field->kind), out);
	}
}

static void print_field(FILE *out, const struct bn_field *field)
{
	fprintf(out, "| `%s` | ", field->name);
	print_cell(out, bn_kind_name(field->kind));
	fputs(" | ", out);
	print_range(out, field);
	fprintf(out, " | %s | ", field->must ? "**required**" : field->missing);
	print_cell(out, field->doc);
	fputs(" |\n", out);
}

/* Required fields first, then the rest, each in the order of the schema. `shared` may be NULL. */
static void print_fields(FILE *out, const struct bn_field *own, const struct bn_field *shared)
{
	if (own->name == NULL && (shared == NULL || shared->name == NULL)) {
		fputs("No parameters.\n\n", out);
		return;
	}
	fputs("| field | type | range | without it | meaning |\n|---|---|---|---|---|\n", out);
	for (int must = 1; must >= 0; must--) {
		const struct bn_field *lists[] = { shared, own };

		for (size_t i = 0; i < 2; i++) {
			for (const struct bn_field *f = lists[i]; f != NULL && f->name != NULL;
			     f++) {
				if (f->must == (must == 1)) {
					print_field(out, f);
				}
			}
		}
	}
	fputs("\n", out);
}

static void print_method(FILE *out, const struct bn_method_info *method)
{
	fprintf(out, "### %s\n\n%s Since level %" PRIu32 ", for %ss%s.\n\n", method->name,
		method->doc, method->since, right_name(method->right),
		method->stream ? ", may send `" BN_STREAM_NAME "` notifications" : "");
	print_fields(out, method->own, method->shared);
	fputs("| result | type | meaning |\n|---|---|---|\n", out);
	for (const struct bn_result_field *r = method->result; r->path != NULL; r++) {
		fprintf(out, "| `%s` | ", r->path);
		print_cell(out, r->type);
		fputs(" | ", out);
		print_cell(out, r->doc);
		fputs(" |\n", out);
	}
	fputs("\n", out);
}

static const char intro[] =
	"# The protocol of bnd\n"
	"\n"
	"This page is printed from the tables in `proto/schema.h` by `bn-schema-doc`; edit those.\n"
	"\n"
	"bnd speaks [MessagePack-RPC](https://github.com/msgpack-rpc/msgpack-rpc) over a Unix\n"
	"socket: messages follow each other without any framing.\n"
	"\n"
	"| message | meaning |\n"
	"|---|---|\n"
	"| `[0, msgid, method, [{...}]]` | a call; exactly one response follows, also after a "
	"cancel |\n"
	"| `[1, msgid, nil, result]` | its result |\n"
	"| `[1, msgid, [code, text], nil]` | or its error; a third element `{kind, ...}` holds "
	"facts, if any |\n"
	"| `[2, method, [{...}]]` | a notification; `stream` to the client, `cancel` to the "
	"server |\n"
	"\n"
	"- Parameters are one map, or none: `[{...}]` or `[]`. A field given as nil counts as\n"
	"  absent.\n"
	"- An unknown field is an error that names the nearest known one. An integer field takes\n"
	"  no float; NaN and infinities are refused.\n"
	"- Responses may come in any order. All notifications of a request come before its\n"
	"  response.\n"
	"- Text is UTF-8 in `str`; bytes are `bin`. Token ids in a `bin` are little-endian u32,\n"
	"  log-probabilities little-endian f32.\n"
	"- Map keys are short strings, or token ids in `logit_bias`, and stand once. Extension\n"
	"  types are refused.\n"
	"- A message that breaks these rules of form (codes -32700, -32600, 413) is answered if\n"
	"  possible and the connection is closed.\n"
	"- Closing the connection cancels its requests. Shutting down only its sending side means\n"
	"  \"no more requests, finish what I asked\".\n"
	"- Notifications the server does not know are ignored.\n"
	"\n"
	"```\n"
	"> [0, 7, 'chat.completions', [{'id': 'a1', 'model': 'bitnet-2b', 'stream': true,\n"
	"       'messages': [{'role': 'user', 'content': 'hi'}], 'max_tokens': 64}]]\n"
	"< [2, 'stream', [{'id': 'a1', 'seq': 0, 'event': 'queued', 'position': 2,\n"
	"       'eta_ms': 900}]]\n"
	"< [2, 'stream', [{'id': 'a1', 'seq': 1, 'event': 'status', 'state': 'loading',\n"
	"       'model': 'bitnet-2b', 'progress': 0.42}]]\n"
	"< [2, 'stream', [{'id': 'a1', 'seq': 2, 'event': 'delta', 'text': 'Hello', 'n': 1}]]\n"
	"< [1, 7, nil, {'id': 'a1', 'finish_reason': 'stop', 'seed': 81, ...}]\n"
	"```\n"
	"\n";

static void print_errors(FILE *out)
{
	fputs("## Errors\n\nCodes are HTTP's where HTTP has one. Where several kinds share a code, "
	      "the third element\nof the error names the kind unless it is the first one listed "
	      "here.\n\n| code | kind | meaning |\n|---|---|---|\n",
	      out);
	for (enum bn_status s = BN_OK + 1; s < BN_STATUS_COUNT; s++) {
		fprintf(out, "| %d | `%s` | %s |\n", bn_status_code(s), bn_status_word(s),
			bn_status_sentence(s));
	}
	fputs("\n", out);
}

void bn_describe_markdown(FILE *out)
{
	fputs(intro, out);
	fprintf(out, "API level %d, compatible with clients since level %d.\n\n## Methods\n\n",
		BN_API_LEVEL, BN_API_COMPATIBLE);
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		print_method(out, bn_method_info(m));
	}
	fputs("### Other accepted names\n\n", out);
	for (const struct bn_alias *a = bn_aliases(); a->known != NULL; a++) {
		fprintf(out, "- `%s` for `%s`\n", a->accepted, a->known);
	}
	fputs("\n## Messages of a chat\n\n", out);
	print_fields(out, bn_turn_fields(), NULL);
	fputs("## The `" BN_STREAM_NAME "` notification\n\n"
	      "Every event has `id`, `seq` and `event`, its name.\n\n",
	      out);
	for (enum bn_event_kind e = 0; e < BN_EVENT_COUNT; e++) {
		fprintf(out, "### %s\n\n%s\n\n", bn_event_info(e)->name, bn_event_info(e)->doc);
		print_fields(out, bn_event_info(e)->fields, bn_event_head_fields());
	}
	print_errors(out);
	fputs("## Limits\n\n| name | value | meaning |\n|---|---|---|\n", out);
	for (size_t i = 0; i < N_LIMITS; i++) {
		fprintf(out, "| `%s` | %" PRId64 " | %s |\n", limits[i].name, limits[i].value,
			limits[i].doc);
	}
}

/* --- tests/proto/schema.recorded ------------------------------------------------------------ */

static void list_fields(FILE *out, const char *what, const char *owner,
			const struct bn_field *field)
{
	for (; field->name != NULL; field++) {
		fprintf(out, "%s %s %s: %s\n", what, owner, field->name, bn_kind_name(field->kind));
		for (size_t i = 0; field->words != NULL && field->words[i] != NULL; i++) {
			fprintf(out, "word %s %s: %s\n", owner, field->name, field->words[i]);
		}
	}
}

void bn_describe_listing(FILE *out)
{
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		const struct bn_method_info *method = bn_method_info(m);

		fprintf(out, "method %s since %" PRIu32 "\n", method->name, method->since);
		list_fields(out, "param", method->name, method->own);
		list_fields(out, "param", method->name, method->shared);
		for (const struct bn_result_field *r = method->result; r->path != NULL; r++) {
			fprintf(out, "result %s %s: %s\n", method->name, r->path, r->type);
		}
	}
	for (const struct bn_alias *a = bn_aliases(); a->known != NULL; a++) {
		fprintf(out, "alias %s: %s\n", a->accepted, a->known);
	}
	list_fields(out, "turn", "messages[]", bn_turn_fields());
	list_fields(out, "event", "*", bn_event_head_fields());
	for (enum bn_event_kind e = 0; e < BN_EVENT_COUNT; e++) {
		list_fields(out, "event", bn_event_info(e)->name, bn_event_info(e)->fields);
	}
	for (enum bn_status s = BN_OK + 1; s < BN_STATUS_COUNT; s++) {
		fprintf(out, "error %d %s\n", bn_status_code(s), bn_status_word(s));
	}
	for (size_t i = 0; i < N_LIMITS; i++) {
		fprintf(out, "limit %s\n", limits[i].name);
	}
}
