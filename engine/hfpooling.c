#include "engine/hfpooling.h"

#include "engine/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 128 };

static const char modules_name[] = "modules.json";

/* Older files have a flag for each way, newer ones a word. */
static const struct {
	const char *flag, *word;
	enum bn_pooling pooling; /* NONE: not ours */
} ways[] = {
	{ "pooling_mode_cls_token", "cls", BN_POOL_FIRST },
	{ "pooling_mode_mean_tokens", "mean", BN_POOL_MEAN },
	{ "pooling_mode_lasttoken", "lasttoken", BN_POOL_LAST },
	{ "pooling_mode_max_tokens", "max", BN_POOL_NONE },
	{ "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", BN_POOL_NONE },
	{ "pooling_mode_weightedmean_tokens", "weightedmean", BN_POOL_NONE },
};

static enum bn_status read_way(enum bn_pooling *out, const json_t *config, struct bn_error *err)
{
	const char *word = json_string_value(json_object_get(config, "pooling_mode"));
	unsigned found = 0;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (word != NULL ? strcmp(word, ways[i].word) == 0
				 : json_is_true(json_object_get(config, ways[i].flag))) {
			*out = ways[i].pooling;
			found++;
		}
	}
	if (found != 1 || *out == BN_POOL_NONE) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "the pooling is none of mean, cls and lasttoken alone");
	}
	return BN_OK;
}

static bool ends_in(const char *text, const char *tail)
{
	const size_t n = text != NULL ? strlen(text) : 0, k = strlen(tail);

	return n >= k && strcmp(text + n - k, tail) == 0;
}

/* The folder of a module, one of this folder's own. */
static enum bn_status read_pooling(enum bn_pooling *out, int dirfd, const char *folder,
				   struct bn_error *err)
{
	char path[PATH_BYTES];
	json_t *config = NULL;
	enum bn_status status;

	if (folder == NULL || folder[0] == '.' || folder[0] == '\0' ||
	    strchr(folder, '/') != NULL || strlen(folder) > PATH_BYTES / 2) {
		return bn_fail(err, BN_E_FORMAT, "%s: the 'path' of the pooling is no folder",
			       modules_name);
	}
	snprintf(path, sizeof(path), "%s/config.json", folder);
	status = bn_json_load(&config, dirfd, path, err);
	if (status != BN_OK) {
		return status;
	}
	status = read_way(out, config, err);
	json_decref(config);
	return status == BN_OK || err == NULL ? status : bn_wrap(err, "%s", path);
}

/* { "type": "sentence_transformers.models.Pooling", "path": "1_Pooling" } */
static enum bn_status read_modules(enum bn_pooling *out, int dirfd, const json_t *list,
				   struct bn_error *err)
{
	size_t i;
	json_t *module;
	enum bn_status status = BN_OK;

	json_array_foreach(list, i, module)
	{
		const char *type = json_string_value(json_object_get(module, "type"));

		if (ends_in(type, "Pooling") && *out != BN_POOL_NONE) {
			status = bn_fail(err, BN_E_NOT_SUPPORTED, "%s names more than one pooling",
					 modules_name);
		} else if (ends_in(type, "Pooling")) {
			status = read_pooling(out, dirfd,
					      json_string_value(json_object_get(module, "path")),
					      err);
		} else if (!ends_in(type, "Transformer") && !ends_in(type, "Normalize")) {
			status = bn_fail(err, BN_E_NOT_SUPPORTED,
					 "%s has a module '%.64s'; bnd pools and normalizes, and "
					 "runs nothing behind that",
					 modules_name, type != NULL ? type : "without a type");
		}
		if (status != BN_OK) {
			return status;
		}
	}
	return *out != BN_POOL_NONE
		       ? BN_OK
		       : bn_fail(err, BN_E_FORMAT, "%s names no pooling", modules_name);
}

enum bn_status bn_hfpooling_load(enum bn_pooling *out, int dirfd, struct bn_error *err)
{
	enum bn_pooling pooling = BN_POOL_NONE;
	json_t *list = NULL;
	enum bn_status status;

	*out = BN_POOL_NONE;
	if (faccessat(dirfd, modules_name, F_OK, 0) != 0) {
		return BN_OK;
	}
	status = bn_json_load_list(&list, dirfd, modules_name, err);
	if (status != BN_OK) {
		return status;
	}
	status = read_modules(&pooling, dirfd, list, err);
	json_decref(list);
	if (status == BN_OK) {
		*out = pooling;
	}
	return status;
}
