/*
 * jansson makes 50 bytes and more of every small value, so a walk before it bounds their number:
 * no answer costs more than some 100 MiB, whoever sent it.
 *
 * Files are chosen by name from a short list and never by excluding: what is not known is not
 * fetched.
 */
#include "client/hub.h"

#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_VALUES = 400000, /* brackets, braces and commas in a text */
	MAX_FILE_BYTES_LOG2 = 44,
};

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

/* What bn-convert reads beside the weights. */
static const char *const companions[] = {
	"config.json",       "generation_config.json",  "tokenizer*.json",     "tokenizer.model",
	"added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "README.md",
};

/* ---- the description of a repository ------------------------------------------------------ */

/* Not too long, not too many small values; JSON or not is jansson's question. */
static enum bn_status parse_json(json_t **out, const char *text, size_t n, const char *what,
				 struct bn_error *err)
{
	json_error_t why;
	json_t *root;
	size_t values = 0;

	for (size_t i = 0; i < n && values <= MAX_VALUES; i++) {
		values += text[i] == '{' || text[i] == '[' || text[i] == ',';
	}
	if (n > BN_HUB_ANSWER_MAX || values > MAX_VALUES) {
		return bn_fail(err, BN_E_TOO_LARGE, "%s is larger than any real one", what);
	}
	root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(root)) {
		json_decref(root);
		return bn_fail(err, BN_E_FORMAT, "%s is no JSON object%s%s", what,
			       root == NULL ? ": " : "", root == NULL ? why.text : "");
	}
	*out = root;
	return BN_OK;
}

static enum bn_status read_size(const json_t *entry, uint64_t *out, const char *path,
				struct bn_error *err)
{
	const json_t *size = json_object_get(json_object_get(entry, "lfs"), "size");

	size = size != NULL ? size : json_object_get(entry, "size");
	if (size == NULL || json_is_null(size)) {
		*out = BN_HUB_SIZE_UNKNOWN;
		return BN_OK;
	}
	if (!json_is_integer(size) || json_integer_value(size) < 0 ||
	    json_integer_value(size) >> MAX_FILE_BYTES_LOG2 != 0) {
		return bn_fail(err, BN_E_FORMAT, "the hub says a size of '%s' that no file has",
			       path);
	}
	*out = (uint64_t)json_integer_value(size);
	return BN_OK;
}

/* The blob id of a large file is that of its pointer, and says nothing about the content. */
static enum bn_status read_digest(const json_t *entry, struct bn_digest *out, const char *path,
				  struct bn_error *err)
{
	const json_t *lfs = json_object_get(entry, "lfs");
	const bool large = json_is_object(lfs);
	const json_t *hex =
		large ? json_object_get(lfs, "sha256") : json_object_get(entry, "blobId");
	const char *text = json_string_value(hex);

	out->kind = BN_DIGEST_NONE;
	out->hex[0] = '\0';
	if (hex == NULL || json_is_null(hex)) {
		return BN_OK;
	}
	if (text == NULL || !bn_digest_parse(out, text) ||
	    out->kind != (large ? BN_DIGEST_SHA256 : BN_DIGEST_GIT_BLOB)) {
		return bn_fail(err, BN_E_FORMAT, "the hub gives '%s' a digest that is none", path);
	}
	return BN_OK;
}

static enum bn_status read_file(const json_t *entry, struct bn_hub_file *out, struct bn_error *err)
{
	const char *path = json_string_value(json_object_get(entry, "rfilename"));
	enum bn_status status;

	if (path == NULL) {
		return bn_fail(err, BN_E_FORMAT, "the hub lists a file without 'rfilename'");
	}
	/* One that is merely too long for us cannot be chosen; the others are an attack. */
	if (!bn_hub_path_is_safe(path) && strlen(path) <= BN_HUB_PATH_MAX) {
		return bn_fail(
			err, BN_E_FORMAT,
			"the hub lists a file '%.80s': such a name could leave its folder, so "
			"nothing of this repository is fetched",
			path);
	}
	status = read_size(entry, &out->size, path, err);
	if (status == BN_OK) {
		status = read_digest(entry, &out->digest, path, err);
	}
	if (status == BN_OK) {
		out->path = strdup(path);
		status = out->path != NULL ? BN_OK : bn_fail(err, BN_E_MEMORY, "no memory");
	}
	return status;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct bn_hub_file *)a)->path, ((const struct bn_hub_file *)b)->path);
}

static enum bn_status read_files(const json_t *list, struct bn_hub_repo *repo, struct bn_error *err)
{
	const size_t n = json_array_size(list);

	repo->files = calloc(n + 1, sizeof(*repo->files));
	if (repo->files == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a list of %zu files", n);
	}
	for (size_t i = 0; i < n; i++) {
		const enum bn_status status =
			read_file(json_array_get(list, i), &repo->files[repo->n], err);

		if (status != BN_OK) {
			return status;
		}
		repo->n++;
	}
	qsort(repo->files, repo->n, sizeof(*repo->files), by_path);
	for (size_t i = 1; i < repo->n; i++) {
		if (strcmp(repo->files[i - 1].path, repo->files[i].path) == 0) {
			return bn_fail(err, BN_E_FORMAT, "the hub lists the file '%.80s' twice",
				       repo->files[i].path);
		}
	}
	return BN_OK;
}

enum bn_status bn_hub_repo_parse(struct bn_hub_repo *out, const char *json, size_t n,
				 struct bn_error *err)
{
	struct bn_hub_repo repo = { .n = 0 };
	json_t *root = NULL;
	enum bn_status status = parse_json(&root, json, n, "the hub's answer", err);
	const char *commit = json_string_value(json_object_get(root, "sha"));
	const json_t *list = json_object_get(root, "siblings");

	if (status != BN_OK) {
		return status;
	}
	if (commit == NULL || strlen(commit) < 40 || strlen(commit) > BN_HUB_COMMIT_MAX ||
	    strspn(commit, "0123456789abcdef") != strlen(commit)) {
		status = bn_fail(err, BN_E_FORMAT, "the hub's answer has no commit in 'sha'");
	} else if (!json_is_array(list)) {
		status = bn_fail(err, BN_E_FORMAT, "the hub's answer has no list 'siblings'");
	} else {
		snprintf(repo.commit, sizeof(repo.commit), "%s", commit);
		status = read_files(list, &repo, err);
	}
	json_decref(root);
	if (status != BN_OK) {
		bn_hub_repo_finish(&repo);
		return status;
	}
	*out = repo;
	return BN_OK;
}

void bn_hub_repo_finish(struct bn_hub_repo *repo)
{
	for (size_t i = 0; i < repo->n; i++) {
		free(repo->files[i].path);
	}
	free(repo->files);
	memset(repo, 0, sizeof(*repo));
}

/* ---- the choice --------------------------------------------------------------------------- */

static const struct bn_hub_file *find(const struct bn_hub_repo *repo, const char *path)
{
	for (size_t i = 0; i < repo->n; i++) {
		if (strcmp(repo->files[i].path, path) == 0) {
			return &repo->files[i];
		}
	}
	return NULL;
}

static bool add(struct bn_hub_choice *c, const struct bn_hub_file *file)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->files[i] == file) {
			return true;
		}
	}
	if (c->n == BN_HUB_CHOICE_MAX) {
		return false;
	}
	c->files[c->n++] = file;
	return true;
}

/* A whole model in one file: the parts of a split one are "name-00001-of-00003.gguf". */
static bool is_gguf(const struct bn_hub_file *f)
{
	return bn_hub_path_is_safe(f->path) && fnmatch("*.gguf", f->path, 0) == 0 &&
	       fnmatch("*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf", f->path,
		       0) != 0;
}

static bool is_i2s(const struct bn_hub_file *f)
{
	return is_gguf(f) && fnmatch("*i2_s*", f->path, FNM_CASEFOLD) == 0;
}

static void collect(struct bn_hub_choice *out, const struct bn_hub_repo *repo,
		    bool (*wanted)(const struct bn_hub_file *f))
{
	memset(out, 0, sizeof(*out));
	out->kind = BN_HUB_GGUF;
	for (size_t i = 0; i < repo->n && out->n < BN_HUB_CHOICE_MAX; i++) {
		if (wanted(&repo->files[i])) {
			add(out, &repo->files[i]);
		}
	}
}

static bool is_companion(const char *path)
{
	for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
		if (fnmatch(companions[i], path, FNM_PATHNAME) == 0 && bn_hub_path_is_safe(path)) {
			return true;
		}
	}
	return false;
}

static bool has_checkpoint(const struct bn_hub_repo *repo)
{
	return find(repo, index_name) != NULL || find(repo, single_name) != NULL;
}

static enum bn_status choose_checkpoint(struct bn_hub_choice *out, const struct bn_hub_repo *repo,
					struct bn_error *err)
{
	struct bn_hub_choice c = { .kind = BN_HUB_CHECKPOINT, .index = find(repo, index_name) };

	if (find(repo, "config.json") == NULL) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "the repository has safetensors but no config.json, so nobody can "
			       "tell what model they are");
	}
	if (find(repo, "tokenizer.json") == NULL && find(repo, "tokenizer.model") == NULL) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "the repository has neither tokenizer.json nor tokenizer.model");
	}
	for (size_t i = 0; i < repo->n; i++) {
		if (is_companion(repo->files[i].path) && !add(&c, &repo->files[i])) {
			return bn_fail(err, BN_E_TOO_LARGE, "over %d tokenizer files",
				       BN_HUB_CHOICE_MAX);
		}
	}
	if (!add(&c, c.index != NULL ? c.index : find(repo, single_name))) {
		return bn_fail(err, BN_E_TOO_LARGE, "over %d files", BN_HUB_CHOICE_MAX);
	}
	*out = c;
	return BN_OK;
}

static enum bn_status choose_named(struct bn_hub_choice *out, const struct bn_hub_repo *repo,
				   const char *file, struct bn_error *err)
{
	const struct bn_hub_file *f = find(repo, file);

	if (f == NULL) {
		return bn_fail(err, BN_E_NOT_FOUND, "the repository has no file '%s'", file);
	}
	if (!is_gguf(f)) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"'%s' is not a whole model in one GGUF file; only such a file can be "
			"asked for by name",
			file);
	}
	memset(out, 0, sizeof(*out));
	out->kind = BN_HUB_GGUF;
	out->n = 1;
	out->files[0] = f;
	return BN_OK;
}

enum bn_status bn_hub_choose(struct bn_hub_choice *out, const struct bn_hub_repo *repo,
			     const char *file, struct bn_error *err)
{
	struct bn_hub_choice i2s, all;

	if (file[0] != '\0') {
		return choose_named(out, repo, file, err);
	}
	collect(&i2s, repo, is_i2s);
	collect(&all, repo, is_gguf);
	if (i2s.n == 1) {
		*out = i2s;
	} else if (has_checkpoint(repo)) {
		return choose_checkpoint(out, repo, err);
	} else if (all.n == 0) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"none of the %zu files in the repository is a GGUF or "
			"model.safetensors; pickles (*.bin, *.pt) are programs and are never "
			"read",
			repo->n);
	} else {
		*out = i2s.n > 1 ? i2s : all;
		out->kind = out->n == 1 ? BN_HUB_GGUF : BN_HUB_UNDECIDED;
	}
	return BN_OK;
}

static enum bn_status add_shard(struct bn_hub_choice *c, const struct bn_hub_repo *repo,
				const char *name, struct bn_error *err)
{
	const struct bn_hub_file *f = name != NULL ? find(repo, name) : NULL;

	if (f == NULL || fnmatch("*.safetensors", name, 0) != 0 || strchr(name, '/') != NULL ||
	    !bn_hub_path_is_safe(name)) {
		return bn_fail(err, BN_E_FORMAT,
			       "%s names '%.80s', which is no safetensors file of the repository",
			       index_name, name != NULL ? name : "a value that is no text");
	}
	if (!add(c, f)) {
		return bn_fail(err, BN_E_TOO_LARGE, "%s names over %d files", index_name,
			       BN_HUB_CHOICE_MAX);
	}
	return BN_OK;
}

enum bn_status bn_hub_add_shards(struct bn_hub_choice *choice, const struct bn_hub_repo *repo,
				 const char *json, size_t n, struct bn_error *err)
{
	struct bn_hub_choice c = *choice;
	json_t *root = NULL, *map;
	json_t *value;
	const char *key;
	enum bn_status status = parse_json(&root, json, n, index_name, err);

	if (status != BN_OK) {
		return status;
	}
	map = json_object_get(root, "weight_map");
	if (json_object_size(map) == 0) {
		status = bn_fail(err, BN_E_FORMAT, "%s has no 'weight_map'", index_name);
	}
	json_object_foreach(map, key, value)
	{
		if (status == BN_OK) {
			status = add_shard(&c, repo, json_string_value(value), err);
		}
	}
	json_decref(root);
	if (status == BN_OK) {
		*choice = c;
	}
	return status;
}
