/*
 * The table says everything that can be said about one setting; the walk over the tree below it
 * knows maps, lists of maps and nothing else. A new setting is a member, a row, and a paragraph
 * in etc/bnd.yaml, which a test demands.
 */
#include "daemon/config.h"

#include "engine/guide.h"
#include "proto/assert.h"
#include "proto/suggest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A list of maps: where its entries go. */
#define IN(type, member) offsetof(struct type, member)
static const struct list {
	const char *path;
	size_t entry_bytes;
	size_t n_at;   /* of uint32_t in struct bn_config */
	size_t ptr_at; /* of the array's pointer */
	uint32_t most;
} lists[] = {
	{ "models", sizeof(struct bn_config_model), IN(bn_config, n_models), IN(bn_config, models),
	  BN_CONFIG_MODELS_MAX },
	{ "access", sizeof(struct bn_config_rule), IN(bn_config, n_access), IN(bn_config, access),
	  BN_CONFIG_RULES_MAX },
};

enum {
	PATH_BYTES = 64,
	SHOWN_BYTES = 96,
	ROWS_MAX = 128,
	/* Root, sections, models and their `defaults`, rules. */
	SCOPES_MAX = 1 + 16 + 2 * BN_CONFIG_MODELS_MAX + BN_CONFIG_RULES_MAX,
};

/* A map that is still to be read, and the struct it fills. */
struct scope {
	const struct bn_yaml_node *map;
	void *base;
	char path[PATH_BYTES];   /* as in the table, with its dot: "models[].defaults." */
	char shown[SHOWN_BYTES]; /* for people: "models[2].defaults." */
};

struct walk {
	struct bn_config *config;
	struct bn_yaml_report *report;
	struct scope *scopes; /* [SCOPES_MAX]; a list of work instead of recursion */
	size_t n_scopes;
	bool no_memory;
};

static const struct bn_setting *find_row(const char *path)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		if (strcmp(table[i].path, path) == 0) {
			return &table[i];
		}
	}
	return NULL;
}

/* Whether some row lies below `path`, joined by `joint` ("." or "[]."). */
static bool has_rows_below(const char *path, const char *joint)
{
	size_t n = strlen(path);
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		if (strncmp(table[i].path, path, n) == 0 &&
		    strncmp(table[i].path + n, joint, strlen(joint)) == 0) {
			return true;
		}
	}
	return false;
}

/* Whether the row is a setting of this very scope, not of a section or list inside it. */
static bool is_direct(const struct bn_setting *s, const char *scope_path)
{
	size_t n = strlen(scope_path);

	return strncmp(s->path, scope_path, n) == 0 && strpbrk(s->path + n, ".[") == NULL;
}

static void push(struct walk *w, const struct bn_yaml_node *map, void *base, const char *path,
		 const char *shown)
{
	struct scope *scope;

	bn_assert(w->n_scopes < SCOPES_MAX);
	scope = &w->scopes[w->n_scopes++];
	scope->map = map;
	scope->base = base;
	snprintf(scope->path, sizeof(scope->path), "%s", path);
	snprintf(scope->shown, sizeof(scope->shown), "%s", shown);
}

static void unknown_key(struct walk *w, const struct scope *scope, const struct bn_yaml_node *node)
{
	struct bn_suggest suggest;
	size_t n = strlen(scope->path);
	char words[ROWS_MAX][PATH_BYTES];
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	bn_assert(rows <= ROWS_MAX);
	if (n + strlen(node->key) < PATH_BYTES) {
		char path[PATH_BYTES];
		const char *dot = strchr(node->key, '.');

		memcpy(path, scope->path, n);
		memcpy(path + n, node->key, strlen(node->key) + 1);
		if (dot != NULL && find_row(path) != NULL) {
			bn_yaml_complain(w->report, node->key_line, node->key_column,
					 "%s%s: write '%.*s:' and below it, further in, '%s:'",
					 scope->shown, node->key, (int)(dot - node->key), node->key,
					 dot + 1);
			return;
		}
	}

	bn_suggest_init(&suggest, bn_text_of(node->key));
	for (size_t i = 0; i < rows; i++) {
		if (strncmp(table[i].path, scope->path, n) == 0) {
			size_t length = strcspn(table[i].path + n, ".[");

			memcpy(words[i], table[i].path + n, length);
			words[i][length] = '\0';
			bn_suggest_offer(&suggest, words[i]);
		}
	}
	if (bn_suggest_best(&suggest) != NULL) {
		bn_yaml_complain(w->report, node->key_line, node->key_column,
				 "%s%.64s: there is no such setting; did you mean '%s'?",
				 scope->shown, node->key, bn_suggest_best(&suggest));
	} else {
		bn_yaml_complain(w->report, node->key_line, node->key_column,
				 "%s%.64s: there is no such setting", scope->shown, node->key);
	}
}

static void set_defaults(void *base, const char *scope_path, struct bn_yaml *tree)
{
	size_t n = strlen(scope_path);
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		if (strncmp(table[i].path, scope_path, n) == 0 &&
		    strstr(table[i].path + n, "[]") == NULL) {
			bn_setting_default(&table[i], base, tree);
		}
	}
}

static void read_list(struct walk *w, const char *path, const struct bn_yaml_node *node)
{
	const struct list *list = lists;
	const struct bn_yaml_node *item;
	unsigned char *entries;
	uint32_t i = 0;

	while (strcmp(list->path, path) != 0) {
		list++;
		bn_assert(list < lists + sizeof(lists) / sizeof(lists[0]));
	}
	if (node->kind != BN_YAML_LIST || node->n > list->most) {
		bn_yaml_complain(
			w->report, node->line, node->column,
			"%s: expected a list of at most %u entries, each beginning with '- '", path,
			list->most);
		return;
	}
	entries = bn_yaml_alloc(w->config->tree, (node->n + 1u) * list->entry_bytes);
	if (entries == NULL) {
		w->no_memory = true;
		return;
	}
	*(uint32_t *)(void *)((char *)w->config + list->n_at) = node->n;
	*(void **)(void *)((char *)w->config + list->ptr_at) = entries;
	for (item = node->first; item != NULL; item = item->next, i++) {
		char scope_path[PATH_BYTES], shown[SHOWN_BYTES];

		snprintf(scope_path, sizeof(scope_path), "%s[].", list->path);
		snprintf(shown, sizeof(shown), "%s[%u].", list->path, i);
		set_defaults(entries, scope_path, w->config->tree);
		if (item->kind == BN_YAML_MAP) {
			push(w, item, entries, scope_path, shown);
		} else {
			bn_yaml_complain(w->report, item->line, item->column,
					 "%s[%u]: expected a map of settings", path, i);
		}
		entries += list->entry_bytes;
	}
}

static void read_key(struct walk *w, const struct scope *scope, const struct bn_yaml_node *node)
{
	char path[PATH_BYTES], shown[SHOWN_BYTES + 48], inner[PATH_BYTES + 1];
	const struct bn_setting *row = NULL;
	int n = snprintf(path, sizeof(path), "%s%s", scope->path, node->key);

	/* `socket.path:` is not how one writes a setting, although the table has that word. */
	bool is_word = n >= 0 && (size_t)n < sizeof(path) && strpbrk(node->key, ".[") == NULL;

	if (is_word) {
		row = find_row(path);
	}
	snprintf(shown, sizeof(shown), "%s%.40s", scope->shown, node->key);
	if (row != NULL) {
		if (!bn_yaml_is_null(node) &&
		    bn_setting_read(row, scope->base, node, shown, w->config->tree, w->report) ==
			    BN_E_MEMORY) {
			w->no_memory = true;
		}
	} else if (!is_word) {
		unknown_key(w, scope, node);
	} else if (has_rows_below(path, ".")) {
		if (node->kind == BN_YAML_MAP) {
			snprintf(inner, sizeof(inner), "%s.", path);
			snprintf(shown, sizeof(shown), "%s%.40s.", scope->shown, node->key);
			push(w, node, scope->base, inner, shown);
		} else if (!bn_yaml_is_null(node)) {
			bn_yaml_complain(w->report, node->line, node->column,
					 "%s: expected a map of settings", shown);
		}
	} else if (has_rows_below(path, "[].")) {
		if (!bn_yaml_is_null(node)) {
			read_list(w, path, node);
		}
	} else {
		unknown_key(w, scope, node);
	}
}

static void check_must(struct walk *w, const struct scope *scope)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	for (size_t i = 0; i < rows; i++) {
		const struct bn_yaml_node *node = scope->map->first;
		const char *leaf;

		if (!table[i].must || !is_direct(&table[i], scope->path)) {
			continue;
		}
		leaf = table[i].path + strlen(scope->path);
		while (node != NULL && (strcmp(node->key, leaf) != 0 || bn_yaml_is_null(node))) {
			node = node->next;
		}
		if (node == NULL) {
			bn_yaml_complain(w->report, scope->map->line, scope->map->column,
					 "%s%s: is missing. %s", scope->shown, leaf, table[i].doc);
		}
	}
}

/* The place of a struct's map, for complaints that come after the walk. */
static void note_place(const struct scope *scope)
{
	if (strcmp(scope->path, "models[].") == 0) {
		struct bn_config_model *model = scope->base;

		model->line = scope->map->line;
		model->column = scope->map->column;
	} else if (strcmp(scope->path, "access[].") == 0) {
		struct bn_config_rule *rule = scope->base;

		rule->line = scope->map->line;
		rule->column = scope->map->column;
	}
}

static void walk_tree(struct walk *w, const struct bn_yaml_node *root)
{
	if (root->kind != BN_YAML_MAP) {
		if (!bn_yaml_is_null(root)) {
			bn_yaml_complain(w->report, root->line, root->column,
					 "expected sections such as 'models:', found a %s",
					 root->kind == BN_YAML_LIST ? "list" : "text");
		}
		return;
	}
	push(w, root, w->config, "", "");
	while (w->n_scopes > 0) {
		struct scope scope = w->scopes[--w->n_scopes];

		note_place(&scope);
		for (const struct bn_yaml_node *n = scope.map->first; n != NULL; n = n->next) {
			read_key(w, &scope, n);
		}
		check_must(w, &scope);
	}
}

const struct bn_config_model *bn_config_model(const struct bn_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->n_models; i++) {
		const struct bn_config_model *model = &c->models[i];

		if (strcmp(model->name, name) == 0) {
			return model;
		}
		for (uint32_t a = 0; a < model->aliases.n; a++) {
			if (strcmp(model->aliases.at[a], name) == 0) {
				return model;
			}
		}
	}
	return NULL;
}

/* Complains when `name`, number `own` of models[at] (0: its name), is another one's already. */
static void check_name(struct walk *w, uint32_t at, uint32_t own, const char *name)
{
	const struct bn_config *c = w->config;

	for (uint32_t i = 0; i <= at; i++) {
		const struct bn_config_model *model = &c->models[i];
		uint32_t names = i == at ? own : model->aliases.n + 1;

		for (uint32_t k = 0; k < names; k++) {
			const char *other = k == 0 ? model->name : model->aliases.at[k - 1];

			if (other != NULL && strcmp(other, name) == 0) {
				bn_yaml_complain(
					w->report, c->models[at].line, c->models[at].column,
					"models[%u].%s: '%s' is already the name of the model "
					"in line %u",
					at, own == 0 ? "name" : "aliases", name, model->line);
				return;
			}
		}
	}
}

/* Relative paths start at the folder of the configuration file, wherever bnd was started. */
static void resolve_path(struct walk *w, struct bn_config_model *model, uint32_t at)
{
	const char *slash = strrchr(w->config->file, '/');
	size_t folder = slash != NULL ? (size_t)(slash - w->config->file) + 1 : 0;
	size_t n;
	char *joined;

	if (model->path == NULL) {
		return;
	}
	if (model->path[0] == '\0' || model->path[0] == '~') {
		bn_yaml_complain(w->report, model->line, model->column, "models[%u].path: %s", at,
				 model->path[0] == '~' ? "~ is not expanded, write the whole path"
						       : "is empty");
		return;
	}
	if (model->path[0] == '/' || folder == 0) {
		return;
	}
	n = strlen(model->path);
	joined = bn_yaml_alloc(w->config->tree, folder + n + 1);
	if (joined == NULL) {
		w->no_memory = true;
		return;
	}
	memcpy(joined, w->config->file, folder);
	memcpy(joined + folder, model->path, n);
	model->path = joined;
}

/* What a model does not say itself: from `defaults` and `kernels`. */
static void inherit(const struct bn_config *c, struct bn_config_model *model)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	if (!model->has_keep_alive) {
		model->keep_alive_ms = c->defaults.keep_alive_ms;
	}
	if (!model->has_max_tokens) {
		model->max_tokens = c->defaults.max_tokens;
	}
	if (!model->has_kernels) {
		model->kernels = c->kernels;
	}
	model->has_keep_alive = true;
	model->has_max_tokens = true;
	model->has_kernels = true;
	for (size_t i = 0; i < rows; i++) {
		static const char own[] = "models[].defaults.";
		const struct bn_setting *row = &table[i];

		if (strncmp(row->path, own, strlen(own)) == 0 && !bn_setting_is_set(row, model)) {
			const struct bn_setting *global = find_row(row->path + strlen("models[]."));

			/* Both are an int64_t or both a double. */
			bn_assert(global != NULL && global->type == row->type);
			memcpy((char *)model + row->at, (const char *)c + global->at, 8);
			*((bool *)model + row->has) = bn_setting_is_set(global, c);
		}
	}
}

/* A name with a dot may be a kernel of another processor: one file can serve several machines. */
static void check_kernels(struct walk *w, const struct bn_config_strings *kernels, uint32_t line,
			  uint32_t column, const char *where)
{
	for (uint32_t i = 0; i < kernels->n; i++) {
		enum bn_guide_kernel family;

		if (strcmp(kernels->at[i], "auto") != 0 &&
		    !bn_guide_kernel_of(kernels->at[i], &family)) {
			bn_yaml_complain(w->report, line, column,
					 "%s: there is no kernel '%.32s'; take i2_s, tl1, tl2 or "
					 "auto, or a whole name such as i2s.avx2",
					 where, kernels->at[i]);
		}
	}
}

/* What concerns more than one setting, and words that other folders know. */
static void check_whole(struct walk *w)
{
	struct bn_config *c = w->config;
	char where[32];

	check_kernels(w, &c->kernels, 0, 0, "kernels");
	for (uint32_t i = 0; i < c->n_models; i++) {
		/* The tree owns the array and has just been filled; const is for later. */
		struct bn_config_model *model = (struct bn_config_model *)(uintptr_t)&c->models[i];

		if (model->has_kernels) {
			snprintf(where, sizeof(where), "models[%u].kernels", i);
			check_kernels(w, &model->kernels, model->line, model->column, where);
		}
		inherit(c, model);
		resolve_path(w, model, i);
		if (model->name != NULL) {
			check_name(w, i, 0, model->name);
		}
		for (uint32_t a = 0; a < model->aliases.n; a++) {
			check_name(w, i, a + 1, model->aliases.at[a]);
		}
	}
	for (uint32_t i = 0; i < c->n_access; i++) {
		const struct bn_config_rule *rule = &c->access[i];

		if (rule->line > 0 && (rule->user == NULL) == (rule->group == NULL)) {
			bn_yaml_complain(w->report, rule->line, rule->column,
					 "access[%u]: names %s: give either 'user' or 'group'", i,
					 rule->user == NULL ? "nobody" : "both a user and a group");
		}
	}
	if (c->limits.output_soft > c->limits.output_hard) {
		bn_yaml_complain(w->report, 0, 0,
				 "limits.output_hard: must not be less than limits.output_soft");
	}
}

static enum bn_status finish(struct bn_config **out, struct walk *w, const char *name,
			     struct bn_error *err)
{
	const struct bn_yaml_report *report = w->report;

	if (w->no_memory) {
		bn_config_free(w->config);
		return bn_fail(err, BN_E_MEMORY, "no memory for the configuration");
	}
	if (report->n == 0) {
		*out = w->config;
		return BN_OK;
	}
	bn_config_free(w->config);
	bn_yaml_sort(w->report);
	bn_fail(err, BN_E_CONFIG, "%s:%u:%u: %s", name, report->at[0].line, report->at[0].column,
		report->at[0].text);
	bn_error_number(err, "complaints", (int64_t)report->n + report->dropped);
	return BN_E_CONFIG;
}

enum bn_status bn_config_parse(struct bn_config **out, const char *name, const void *bytes,
			       size_t n, struct bn_yaml_report *report, struct bn_error *err)
{
	struct walk w = { .report = report };
	struct bn_yaml *tree;
	enum bn_status status;
	char *file;

	report->n = 0;
	report->dropped = 0;
	status = bn_yaml_read(&tree, bytes, n, report, err);
	if (status != BN_OK) {
		return status;
	}
	w.config = bn_yaml_alloc(tree, sizeof(*w.config));
	file = bn_yaml_alloc(tree, strlen(name) + 1);
	w.scopes = calloc(SCOPES_MAX, sizeof(*w.scopes));
	if (w.config == NULL || file == NULL || w.scopes == NULL) {
		free(w.scopes);
		bn_yaml_free(tree);
		return bn_fail(err, BN_E_MEMORY, "no memory for the configuration");
	}
	w.config->tree = tree;
	w.config->file = strcpy(file, name);
	set_defaults(w.config, "", tree);
	if (bn_yaml_root(tree) != NULL) {
		walk_tree(&w, bn_yaml_root(tree));
	}
	check_whole(&w);
	free(w.scopes);
	return finish(out, &w, name, err);
}

void bn_config_free(struct bn_config *c)
{
	if (c != NULL) {
		bn_yaml_free(c->tree); /* c itself lies in it */
	}
}

/* Whoever can write the file decides who may do what: strangers must not. */
static enum bn_status check_owner(const struct stat *about, struct bn_error *err)
{
	if (!S_ISREG(about->st_mode)) {
		return bn_fail(err, BN_E_IO, "is not a regular file");
	}
	if ((about->st_mode & S_IWOTH) != 0 ||
	    ((about->st_mode & S_IWGRP) != 0 && about->st_gid != 0 && about->st_gid != getegid())) {
		return bn_fail(err, BN_E_CONFIG,
			       "others may write to it (mode %04o): chmod go-w it first",
			       (unsigned)about->st_mode & 07777u);
	}
	return BN_OK;
}

static enum bn_status read_file(int fd, unsigned char **bytes, size_t *n, struct bn_error *err)
{
	struct stat about;
	enum bn_status status;
	size_t room;

	if (fstat(fd, &about) != 0) {
		return bn_fail(err, BN_E_IO, "%s", strerror(errno));
	}
	status = check_owner(&about, err);
	if (status != BN_OK) {
		return status;
	}
	/* One byte more than allowed, so that the parser sees that it is too much. */
	room = about.st_size < BN_YAML_BYTES_MAX ? (size_t)about.st_size + 1
						 : BN_YAML_BYTES_MAX + 1;
	*bytes = malloc(room);
	if (*bytes == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to read it");
	}
	*n = 0;
	while (*n < room) {
		ssize_t got = read(fd, *bytes + *n, room - *n);

		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			return bn_fail(err, BN_E_IO, "%s", strerror(errno));
		}
		if (got == 0) {
			break;
		}
		*n += (size_t)got;
	}
	return BN_OK;
}

/* Model paths are joined to this, and must not depend on the folder a later reload runs in. */
static enum bn_status absolute(const char *path, char whole[PATH_MAX], struct bn_error *err)
{
	char here[PATH_MAX] = "";
	int n;

	if (path[0] != '/' && getcwd(here, sizeof(here)) == NULL) {
		return bn_fail(err, BN_E_IO, "%s: the current folder: %s", path, strerror(errno));
	}
	n = snprintf(whole, PATH_MAX, "%s%s%s", here, here[0] != '\0' ? "/" : "", path);
	if (n < 0 || n >= PATH_MAX) {
		return bn_fail(err, BN_E_IO, "%s: the name is too long", path);
	}
	return BN_OK;
}

enum bn_status bn_config_load(struct bn_config **out, const char *path,
			      struct bn_yaml_report *report, struct bn_error *err)
{
	unsigned char *bytes = NULL;
	char whole[PATH_MAX];
	enum bn_status status;
	size_t n = 0;
	int fd;

	report->n = 0;
	report->dropped = 0;
	status = absolute(path, whole, err);
	if (status != BN_OK) {
		return status;
	}
	/* NONBLOCK: a FIFO must not hold up the start; it is then refused. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		return bn_fail(err, BN_E_IO, "%s: %s", path, strerror(errno));
	}
	status = read_file(fd, &bytes, &n, err);
	close(fd);
	if (status != BN_OK) {
		bn_wrap(err, "%s", path);
	} else {
		status = bn_config_parse(out, whole, bytes, n, report, err);
	}
	free(bytes);
	return status;
}
