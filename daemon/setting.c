/*
 * Every type has three functions: read, print, and the words for what it wants. Scalars come as
 * text, so `mode: 0660` is octal because the row says so, and not what YAML would make of it.
 */
#include "daemon/setting.h"

#include "daemon/units.h"
#include "proto/assert.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything a reading needs at hand. */
struct job {
	const struct bn_setting *s;
	const struct bn_yaml_node *node;
	const char *shown;
	struct bn_yaml *tree;
	struct bn_yaml_report *report;
};

/* In double quotes, so that no text can be mistaken for another type or for syntax. */
static void print_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\') {
			fprintf(out, "\\%c", *p);
		} else if (*p < 0x20 || *p == 0x7f) {
			fprintf(out, "\\x%02x", *p);
		} else {
			fputc(*p, out);
		}
	}
	fputc('"', out);
}

/* ", from 1KiB to 4GiB" for types with a range in `print`'s words. */
static void show_range(FILE *out, const struct bn_setting *s, void (*print)(FILE *, uint64_t))
{
	fputs(" from ", out);
	print(out, (uint64_t)s->min);
	fputs(" to ", out);
	print(out, (uint64_t)s->max);
}

static void show_words(FILE *out, const char *const *words)
{
	for (size_t i = 0; words[i] != NULL; i++) {
		fprintf(out, "%s%s", i == 0 ? "" : words[i + 1] != NULL ? ", " : " or ", words[i]);
	}
}

const char *bn_setting_wants(char *text, size_t size, const struct bn_setting *s)
{
	FILE *out = fmemopen(text, size, "w");

	text[0] = '\0';
	if (out == NULL) {
		return text;
	}
	switch (s->type) {
	case BN_SETTING_TEXT:
		fprintf(out, "a text of at most %d bytes", BN_SETTING_TEXT_MAX);
		break;
	case BN_SETTING_NAME:
		fprintf(out, "1 to %d of a-z 0-9 . _ -", BN_SETTING_NAME_MAX);
		break;
	case BN_SETTING_TEXTS:
		fputs("a list of texts", out);
		break;
	case BN_SETTING_NAMES:
		fprintf(out, "a list of names, each 1 to %d of a-z 0-9 . _ -", BN_SETTING_NAME_MAX);
		break;
	case BN_SETTING_BOOL:
		fputs("true or false", out);
		break;
	case BN_SETTING_COUNT:
	case BN_SETTING_INT:
		fprintf(out, "a whole number from %" PRId64 " to %" PRId64, s->min, s->max);
		break;
	case BN_SETTING_NUM:
		fprintf(out, "a number from %g to %g", s->num_min, s->num_max);
		break;
	case BN_SETTING_SIZE:
		fputs("a size", out);
		show_range(out, s, bn_units_print_size);
		break;
	case BN_SETTING_BUDGET:
		fputs("auto, or a size", out);
		show_range(out, s, bn_units_print_size);
		break;
	case BN_SETTING_DURATION:
		fputs("a time", out);
		show_range(out, s, bn_units_print_duration);
		break;
	case BN_SETTING_KEEP:
		fputs("-1 for ever, or a time", out);
		show_range(out, s, bn_units_print_duration);
		break;
	case BN_SETTING_MODE:
		fputs("permission bits in octal, \"0600\" to \"0777\"", out);
		break;
	case BN_SETTING_CORES:
		fprintf(out,
			"auto, a number from %" PRId64 " to %" PRId64 ", or a list of core numbers",
			s->min, s->max);
		break;
	case BN_SETTING_WORD:
		show_words(out, s->words);
		break;
	case BN_SETTING_WORDS:
		fputs("a list of ", out);
		show_words(out, s->words);
		fputs(", or all", out);
		break;
	}
	fclose(out);
	return text;
}

/* "limits.clients: expected a whole number from 1 to 65536, found 'many'". */
static enum bn_status complain(const struct job *j, const struct bn_yaml_node *node)
{
	char wants[160];

	bn_setting_wants(wants, sizeof(wants), j->s);
	if (node->kind == BN_YAML_SCALAR) {
		bn_yaml_complain(j->report, node->line, node->column,
				 "%s: expected %s, found '%.64s'%s", j->shown, wants, node->text,
				 strlen(node->text) > 64 ? "..." : "");
	} else {
		bn_yaml_complain(j->report, node->line, node->column, "%s: expected %s, found a %s",
				 j->shown, wants, node->kind == BN_YAML_MAP ? "map" : "list");
	}
	return BN_E_CONFIG;
}

static bool is_name(const char *text)
{
	size_t n = strlen(text);

	return n >= 1 && n <= BN_SETTING_NAME_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static bool parse_num(const char *text, double *value)
{
	char *end;

	/* strtod also takes hex, "inf" and "nan", which nobody means here. */
	if (text[0] == '\0' || strspn(text, "0123456789.eE+-") != strlen(text)) {
		return false;
	}
	*value = strtod(text, &end);
	return *end == '\0' && isfinite(*value);
}

static bool in_range(const struct bn_setting *s, int64_t value)
{
	return value >= s->min && value <= s->max;
}

/* The element of a list, or the node itself standing for a list of one. */
static const struct bn_yaml_node *first_of(const struct bn_yaml_node *node, uint32_t *n)
{
	*n = node->kind == BN_YAML_LIST ? node->n : 1;
	return node->kind == BN_YAML_LIST ? node->first : node;
}

static enum bn_status read_strings(const struct job *j, struct bn_config_strings *out, bool names)
{
	uint32_t n;
	uint32_t i = 0;
	const struct bn_yaml_node *item = first_of(j->node, &n);
	const char **list;

	if (j->node->kind == BN_YAML_MAP || n > BN_SETTING_LIST_MAX) {
		return complain(j, j->node);
	}
	list = bn_yaml_alloc(j->tree, (n + 1u) * sizeof(*list));
	if (list == NULL) {
		return BN_E_MEMORY;
	}
	for (; i < n; i++, item = item->next) {
		if (item->kind != BN_YAML_SCALAR || strlen(item->text) > BN_SETTING_TEXT_MAX ||
		    item->text[0] == '\0' || (names && !is_name(item->text))) {
			return complain(j, item);
		}
		list[i] = item->text;
	}
	out->n = n;
	out->at = list;
	return BN_OK;
}

static enum bn_status read_cores(const struct job *j, struct bn_config_cores *out)
{
	struct bn_config_cores cores = { 0 };
	const struct bn_yaml_node *item;
	uint32_t *list;
	int64_t value;

	if (j->node->kind == BN_YAML_SCALAR) {
		if (strcmp(j->node->text, "auto") != 0) {
			if (!bn_units_parse_whole(j->node->text, &value) ||
			    !in_range(j->s, value)) {
				return complain(j, j->node);
			}
			cores.count = (uint32_t)value;
		}
		*out = cores;
		return BN_OK;
	}
	if (j->node->kind == BN_YAML_MAP || j->node->n == 0 || j->node->n > j->s->max) {
		return complain(j, j->node);
	}
	list = bn_yaml_alloc(j->tree, j->node->n * sizeof(*list));
	if (list == NULL) {
		return BN_E_MEMORY;
	}
	item = j->node->first;
	for (uint32_t i = 0; i < j->node->n; i++, item = item->next) {
		if (item->kind != BN_YAML_SCALAR || !bn_units_parse_whole(item->text, &value) ||
		    value < 0 || value > 65535) {
			return complain(j, item);
		}
		for (uint32_t before = 0; before < i; before++) {
			if (list[before] == (uint32_t)value) {
				bn_yaml_complain(j->report, item->line, item->column,
						 "%s: core %s stands twice", j->shown, item->text);
				return BN_E_CONFIG;
			}
		}
		list[i] = (uint32_t)value;
	}
	cores.list.n = j->node->n;
	cores.list.at = list;
	*out = cores;
	return BN_OK;
}

/* The position of a word, or -1. */
static int word_index(const struct bn_setting *s, const char *text)
{
	for (int i = 0; s->words[i] != NULL; i++) {
		if (strcmp(s->words[i], text) == 0) {
			return i;
		}
	}
	return -1;
}

static enum bn_status read_words(const struct job *j, uint32_t *out)
{
	uint32_t n;
	uint32_t set = 0;
	const struct bn_yaml_node *item = first_of(j->node, &n);

	if (j->node->kind == BN_YAML_MAP || n == 0) {
		return complain(j, j->node);
	}
	for (; item != NULL && n > 0; item = item->next, n--) {
		int index;

		if (item->kind != BN_YAML_SCALAR) {
			return complain(j, item);
		}
		index = word_index(j->s, item->text);
		if (index >= 0) {
			set |= UINT32_C(1) << index;
		} else if (strcmp(item->text, "all") == 0) {
			for (index = 0; j->s->words[index] != NULL; index++) {
				set |= UINT32_C(1) << index;
			}
		} else {
			return complain(j, item);
		}
	}
	*out = set;
	return BN_OK;
}

static enum bn_status read_scalar(const struct job *j, void *member)
{
	const char *text = j->node->text;
	int64_t value = 0;
	uint64_t size = 0;
	double number = 0;
	bool ok = false;
	int word;

	switch (j->s->type) {
	case BN_SETTING_TEXT:
		ok = strlen(text) <= BN_SETTING_TEXT_MAX;
		break;
	case BN_SETTING_NAME:
		ok = is_name(text);
		break;
	case BN_SETTING_BOOL:
		value = strcmp(text, "true") == 0;
		ok = value || strcmp(text, "false") == 0;
		break;
	case BN_SETTING_COUNT:
	case BN_SETTING_INT:
		ok = bn_units_parse_whole(text, &value) && in_range(j->s, value);
		break;
	case BN_SETTING_NUM:
		ok = parse_num(text, &number) && number >= j->s->num_min && number <= j->s->num_max;
		break;
	case BN_SETTING_BUDGET:
		if (strcmp(text, "auto") == 0) {
			ok = true;
			break;
		}
		ok = bn_units_parse_size(text, &size) && in_range(j->s, (int64_t)size);
		break;
	case BN_SETTING_SIZE:
		ok = bn_units_parse_size(text, &size) && in_range(j->s, (int64_t)size);
		break;
	case BN_SETTING_DURATION:
		ok = bn_units_parse_duration(text, &value) && value >= 0 && in_range(j->s, value);
		size = (uint64_t)value;
		break;
	case BN_SETTING_KEEP:
		ok = bn_units_parse_duration(text, &value) &&
		     (value == BN_UNITS_FOREVER || in_range(j->s, value));
		break;
	case BN_SETTING_MODE:
		ok = strlen(text) >= 3 && strlen(text) <= 4 &&
		     strspn(text, "01234567") == strlen(text);
		size = ok ? strtoull(text, NULL, 8) : 0;
		ok = ok && size >= 0600 && size <= 0777;
		break;
	case BN_SETTING_WORD:
		word = word_index(j->s, text);
		ok = word >= 0;
		value = word;
		break;
	default:
		bn_assert(false);
	}
	if (!ok) {
		return complain(j, j->node);
	}
	switch (j->s->type) {
	case BN_SETTING_TEXT:
	case BN_SETTING_NAME:
		*(const char **)member = text;
		break;
	case BN_SETTING_BOOL:
		*(bool *)member = value != 0;
		break;
	case BN_SETTING_COUNT:
		*(uint64_t *)member = (uint64_t)value;
		break;
	case BN_SETTING_INT:
	case BN_SETTING_KEEP:
		*(int64_t *)member = value;
		break;
	case BN_SETTING_NUM:
		*(double *)member = number;
		break;
	case BN_SETTING_WORD:
		*(uint32_t *)member = (uint32_t)value;
		break;
	default:
		*(uint64_t *)member = size;
		break;
	}
	return BN_OK;
}

enum bn_status bn_setting_read(const struct bn_setting *s, void *base,
			       const struct bn_yaml_node *node, const char *shown,
			       struct bn_yaml *tree, struct bn_yaml_report *report)
{
	struct job j = { s, node, shown, tree, report };
	void *member = (char *)base + s->at;
	enum bn_status status;

	switch (s->type) {
	case BN_SETTING_TEXTS:
	case BN_SETTING_NAMES:
		status = read_strings(&j, member, s->type == BN_SETTING_NAMES);
		break;
	case BN_SETTING_CORES:
		status = read_cores(&j, member);
		break;
	case BN_SETTING_WORDS:
		status = read_words(&j, member);
		break;
	default:
		status =
			node->kind == BN_YAML_SCALAR ? read_scalar(&j, member) : complain(&j, node);
		break;
	}
	if (status == BN_OK && s->has != SIZE_MAX) {
		*((bool *)base + s->has) = true;
	}
	return status;
}

void bn_setting_default(const struct bn_setting *s, void *base, struct bn_yaml *tree)
{
	const struct bn_yaml_node node = { .kind = BN_YAML_SCALAR, .text = s->fallback };
	struct bn_yaml_report report;

	if (s->fallback == NULL || strcmp(s->fallback, "[]") == 0) {
		return; /* the struct was zeroed */
	}
	report.n = 0;
	report.dropped = 0;
	bn_assert(bn_setting_read(s, base, &node, s->path, tree, &report) == BN_OK);
}

bool bn_setting_is_set(const struct bn_setting *s, const void *base)
{
	if (s->has != SIZE_MAX) {
		return *((const bool *)base + s->has);
	}
	if (s->type == BN_SETTING_TEXT || s->type == BN_SETTING_NAME) {
		return *(const char *const *)(const void *)((const char *)base + s->at) != NULL;
	}
	return true;
}

static void print_strings(FILE *out, const struct bn_config_strings *list)
{
	fputc('[', out);
	for (uint32_t i = 0; i < list->n; i++) {
		fputs(i > 0 ? ", " : "", out);
		print_text(out, list->at[i]);
	}
	fputc(']', out);
}

static void print_cores(FILE *out, const struct bn_config_cores *cores)
{
	if (cores->count > 0) {
		fprintf(out, "%" PRIu32, cores->count);
	} else if (cores->list.n == 0) {
		fputs("auto", out);
	} else {
		for (uint32_t i = 0; i < cores->list.n; i++) {
			fprintf(out, "%s%" PRIu32, i > 0 ? ", " : "[", cores->list.at[i]);
		}
		fputc(']', out);
	}
}

static void print_words(FILE *out, const struct bn_setting *s, uint32_t set)
{
	const char *comma = "";

	fputc('[', out);
	for (int i = 0; s->words[i] != NULL; i++) {
		if ((set >> i & 1) != 0) {
			fprintf(out, "%s%s", comma, s->words[i]);
			comma = ", ";
		}
	}
	fputc(']', out);
}

/* The shortest decimal that reads back as the same double. */
static void print_num(FILE *out, double value)
{
	char text[40];

	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value) {
			break;
		}
	}
	fputs(text, out);
}

void bn_setting_print(FILE *out, const struct bn_setting *s, const void *base)
{
	const void *member = (const char *)base + s->at;

	switch (s->type) {
	case BN_SETTING_TEXT:
	case BN_SETTING_NAME:
		print_text(out, *(const char *const *)member);
		break;
	case BN_SETTING_TEXTS:
	case BN_SETTING_NAMES:
		print_strings(out, member);
		break;
	case BN_SETTING_BOOL:
		fputs(*(const bool *)member ? "true" : "false", out);
		break;
	case BN_SETTING_COUNT:
		fprintf(out, "%" PRIu64, *(const uint64_t *)member);
		break;
	case BN_SETTING_INT:
		fprintf(out, "%" PRId64, *(const int64_t *)member);
		break;
	case BN_SETTING_NUM:
		print_num(out, *(const double *)member);
		break;
	case BN_SETTING_BUDGET:
		if (*(const uint64_t *)member == 0) {
			fputs("auto", out);
			break;
		}
		bn_units_print_size(out, *(const uint64_t *)member);
		break;
	case BN_SETTING_SIZE:
		bn_units_print_size(out, *(const uint64_t *)member);
		break;
	case BN_SETTING_DURATION:
		bn_units_print_duration(out, *(const uint64_t *)member);
		break;
	case BN_SETTING_KEEP:
		if (*(const int64_t *)member < 0) {
			fputs("-1", out);
			break;
		}
		bn_units_print_duration(out, (uint64_t) * (const int64_t *)member);
		break;
	case BN_SETTING_MODE:
		fprintf(out, "\"%04" PRIo64 "\"", *(const uint64_t *)member);
		break;
	case BN_SETTING_CORES:
		print_cores(out, member);
		break;
	case BN_SETTING_WORD:
		fputs(s->words[*(const uint32_t *)member], out);
		break;
	case BN_SETTING_WORDS:
		print_words(out, s, *(const uint32_t *)member);
		break;
	}
}
