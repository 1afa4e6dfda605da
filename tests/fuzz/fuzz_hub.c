/*
 * Any bytes as a hub's description of a repository, and as the index of its shards. Refused ones
 * must say why; every path that is chosen stays in its folder and is a file that was listed.
 *
 * The bytes up to the first NUL are the description, what follows is the index.
 */
#include "tests/fuzz/fuzz.h"

#include "client/hub.h"
#include "proto/assert.h"

#include <string.h>

static void check_choice(const struct bn_hub_repo *repo, const struct bn_hub_choice *c)
{
	char url[BN_HUB_URL_BYTES];

	bn_assert(c->n >= 1 && c->n <= BN_HUB_CHOICE_MAX);
	bn_assert(c->kind != BN_HUB_GGUF || c->n == 1);
	bn_assert(c->kind != BN_HUB_UNDECIDED || c->n > 1);
	for (size_t i = 0; i < c->n; i++) {
		const char *path = c->files[i]->path;
		const char *dot = strrchr(path, '.');

		bn_assert(c->files[i] >= repo->files && c->files[i] < repo->files + repo->n);
		bn_assert(bn_hub_path_is_safe(path) && dot != NULL);
		bn_assert(strcmp(dot, ".bin") != 0 && strcmp(dot, ".pt") != 0);
		bn_hub_url_file(url, "a/b", repo->commit, path);
		bn_assert(strlen(url) < sizeof(url));
	}
}

static void try_index(const struct bn_hub_repo *repo, struct bn_hub_choice *c, const char *text,
		      size_t n)
{
	struct bn_error err = { 0 };
	const size_t before = c->n;
	const enum bn_status status = bn_hub_add_shards(c, repo, text, n, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0' && c->n == before);
		return;
	}
	bn_assert(c->n > before || repo->n > 0);
	check_choice(repo, c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = size > 0 ? (const char *)data : "";
	const char *nul = memchr(text, '\0', size);
	const size_t n = nul != NULL ? (size_t)(nul - text) : size;
	struct bn_hub_repo repo;
	struct bn_hub_choice choice;
	struct bn_error err = { 0 };
	enum bn_status status = bn_hub_repo_parse(&repo, text, n, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		return 0;
	}
	status = bn_hub_choose(&choice, &repo, "", &err);
	if (status == BN_OK) {
		check_choice(&repo, &choice);
		if (choice.kind == BN_HUB_CHECKPOINT) {
			try_index(&repo, &choice, text + n, size - n > 1 ? size - n - 1 : 0);
		}
	} else {
		bn_assert(err.status == status && err.text[0] != '\0');
	}
	for (size_t i = 0; i < repo.n; i++) {
		if (bn_hub_choose(&choice, &repo, repo.files[i].path, &err) == BN_OK) {
			check_choice(&repo, &choice);
		}
	}
	bn_hub_repo_finish(&repo);
	return 0;
}
