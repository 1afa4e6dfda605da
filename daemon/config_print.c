/*
 * Everything here is a walk over the table, so a new setting appears in all of it by itself. Two
 * configurations are compared as text, setting by setting: what prints alike is alike.
 */
#include "daemon/config_print.h"

#include "proto/assert.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void bn_config_print_report(FILE *out, const char *name, const struct bn_yaml_report *report)
{
	for (uint32_t i = 0; i < report->n; i++) {
		const struct bn_yaml_complaint *c = &report->at[i];

		if (c->line > 0) {
			fprintf(out, "%s:%u:%u: %s\n", name, c->line, c->column, c->text);
		} else {
			fprintf(out, "%s: %s\n", name, c->text);
		}
	}
	if (report->dropped > 0) {
		fprintf(out, "%s: and %u more\n", name, report->dropped);
	}
}

const char *bn_config_when_word(enum bn_config_when when)
{
	static const char *const words[] = { "now", "at the next load", "at the next start" };

	bn_assert((unsigned)when < sizeof(words) / sizeof(words[0]));
	return words[when];
}

void bn_config_print_table(FILE *out)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		const struct bn_setting *s = &table[i];
		char wants[160];

		fprintf(out, "%s\t%s\t%s\t%s\t%s\n", s->path,
			s->missing != NULL ? s->missing
			: s->must          ? "required"
					   : s->fallback,
			bn_config_when_word((enum bn_config_when)s->when),
			bn_setting_wants(wants, sizeof(wants), s), s->doc);
	}
}

/*
 * Prints the rows below `scope` ("", "models[]."), which are members of the struct at `base`.
 * `margin` stands before each line, `bullet` instead of it before the first.
 */
static void print_scope(FILE *out, const char *scope, const void *base, const char *margin,
			const char *bullet)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);
	size_t n = strlen(scope);
	char section[32] = "";

	for (size_t i = 0; i < rows; i++) {
		const char *leaf, *dot;

		if (strncmp(table[i].path, scope, n) != 0 ||
		    strstr(table[i].path + n, "[]") != NULL ||
		    !bn_setting_is_set(&table[i], base)) {
			continue;
		}
		leaf = table[i].path + n;
		dot = strchr(leaf, '.');
		if (dot != NULL && (strncmp(section, leaf, (size_t)(dot - leaf)) != 0 ||
				    section[dot - leaf] != '\0')) {
			snprintf(section, sizeof(section), "%.*s", (int)(dot - leaf), leaf);
			fprintf(out, "%s%s:\n", bullet, section);
			bullet = margin;
		}
		fprintf(out, "%s%s%s: ", dot != NULL ? margin : bullet, dot != NULL ? "  " : "",
			dot != NULL ? dot + 1 : leaf);
		bullet = margin;
		bn_setting_print(out, &table[i], base);
		fputc('\n', out);
	}
}

void bn_config_print(FILE *out, const struct bn_config *c)
{
	print_scope(out, "", c, "", "");
	fputs(c->n_models == 0 ? "models: []\n" : "models:\n", out);
	for (uint32_t i = 0; i < c->n_models; i++) {
		print_scope(out, "models[].", &c->models[i], "    ", "  - ");
	}
	fputs(c->n_access == 0 ? "access: []\n" : "access:\n", out);
	for (uint32_t i = 0; i < c->n_access; i++) {
		print_scope(out, "access[].", &c->access[i], "    ", "  - ");
	}
}

/* What grows while two configurations are compared. */
struct comparison {
	struct bn_config_diff *diff;
	bool no_memory;
};

__attribute__((format(printf, 3, 4))) static void change(struct comparison *cmp,
							 enum bn_config_when when,
							 const char *format, ...)
{
	struct bn_config_change *grown =
		reallocarray(cmp->diff->at, cmp->diff->n + 1u, sizeof(*grown));
	va_list args;

	if (grown == NULL) {
		cmp->no_memory = true;
		return;
	}
	cmp->diff->at = grown;
	grown = &grown[cmp->diff->n++];
	grown->when = when;
	va_start(args, format);
	vsnprintf(grown->text, sizeof(grown->text), format, args);
	va_end(args);
}

/* The value as the file would have it; to be freed; NULL when there is no memory. */
static char *value_text(const struct bn_setting *s, const void *base)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	if (out == NULL) {
		return NULL;
	}
	if (bn_setting_is_set(s, base)) {
		bn_setting_print(out, s, base);
	} else {
		fputs("(not set)", out);
	}
	return fclose(out) == 0 ? text : NULL;
}

/* Compares the rows below `scope` of two structs; `shown` stands before the rest of their path. */
static void compare_scope(struct comparison *cmp, const char *scope, const char *shown,
			  const void *a, const void *b)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);
	size_t n = strlen(scope);

	for (size_t i = 0; i < rows; i++) {
		char *old, *new;

		if (strncmp(table[i].path, scope, n) != 0 ||
		    strstr(table[i].path + n, "[]") != NULL) {
			continue;
		}
		old = value_text(&table[i], a);
		new = value_text(&table[i], b);
		if (old == NULL || new == NULL) {
			cmp->no_memory = true;
		} else if (strcmp(old, new) != 0) {
			change(cmp, (enum bn_config_when)table[i].when, "%s%s: %.60s -> %.60s",
			       shown, table[i].path + n, old, new);
		}
		free(old);
		free(new);
	}
}

static const struct bn_config_model *same_model(const struct bn_config *c, const char *name)
{
	const struct bn_config_model *model = bn_config_model(c, name);

	return model != NULL && strcmp(model->name, name) == 0 ? model : NULL;
}

static void compare_models(struct comparison *cmp, const struct bn_config *a,
			   const struct bn_config *b)
{
	for (uint32_t i = 0; i < b->n_models; i++) {
		const struct bn_config_model *old = same_model(a, b->models[i].name);
		char shown[96];

		if (old == NULL) {
			change(cmp, BN_CONFIG_NOW, "models: gained \"%s\"", b->models[i].name);
			continue;
		}
		snprintf(shown, sizeof(shown), "models[%s].", old->name);
		compare_scope(cmp, "models[].", shown, old, &b->models[i]);
	}
	for (uint32_t i = 0; i < a->n_models; i++) {
		if (same_model(b, a->models[i].name) == NULL) {
			change(cmp, BN_CONFIG_NOW, "models: lost \"%s\"", a->models[i].name);
		}
	}
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void compare_access(struct comparison *cmp, const struct bn_config *a,
			   const struct bn_config *b)
{
	bool same = a->n_access == b->n_access;

	for (uint32_t i = 0; same && i < a->n_access; i++) {
		same = same_text(a->access[i].user, b->access[i].user) &&
		       same_text(a->access[i].group, b->access[i].group) &&
		       a->access[i].may == b->access[i].may;
	}
	if (!same) {
		change(cmp, BN_CONFIG_NOW,
		       "access: %u -> %u entries, for connections made from now on", a->n_access,
		       b->n_access);
	}
}

enum bn_status bn_config_compare(struct bn_config_diff *out, const struct bn_config *a,
				 const struct bn_config *b, struct bn_error *err)
{
	struct bn_config_diff diff = { 0 };
	struct comparison cmp = { .diff = &diff };

	compare_scope(&cmp, "", "", a, b);
	compare_models(&cmp, a, b);
	compare_access(&cmp, a, b);
	if (cmp.no_memory) {
		bn_config_diff_free(&diff);
		return bn_fail(err, BN_E_MEMORY, "no memory to compare configurations");
	}
	*out = diff;
	return BN_OK;
}

void bn_config_diff_free(struct bn_config_diff *diff)
{
	free(diff->at);
	*diff = (struct bn_config_diff){ 0 };
}
