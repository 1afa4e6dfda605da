#include "client/hub_name.h"

#include <stdio.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static bool is_word(const char *text, size_t n, const char *others)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\0' ||
		    (strchr(letters, text[i]) == NULL && strchr(others, text[i]) == NULL)) {
			return false;
		}
		if (text[i] == '.' && i + 1 < n && text[i + 1] == '.') {
			return false;
		}
	}
	return n > 0 && text[0] != '.' && text[0] != '-';
}

/* "org/name": exactly one slash. */
static bool is_repo(const char *text, size_t n)
{
	const char *slash = memchr(text, '/', n);
	const size_t org = slash != NULL ? (size_t)(slash - text) : n;

	return slash != NULL && org <= BN_HUB_ORG_MAX && n - org - 1 <= BN_HUB_ORG_MAX &&
	       is_word(text, org, "._-") && is_word(slash + 1, n - org - 1, "._-");
}

static enum bn_status take_revision(struct bn_hub_name *out, const char *text, size_t n,
				    struct bn_error *err)
{
	if (n > BN_HUB_REVISION_MAX || !is_word(text, n, "._-/+") || text[0] == '/') {
		return bn_fail(err, BN_E_INVALID,
			       "'%.*s' is no revision: it must be a branch, a tag or a commit",
			       (int)(n < 80 ? n : 80), text);
	}
	snprintf(out->revision, sizeof(out->revision), "%.*s", (int)n, text);
	return BN_OK;
}

static enum bn_status take_file(struct bn_hub_name *out, const char *text, struct bn_error *err)
{
	if (!bn_hub_path_is_safe(text)) {
		return bn_fail(err, BN_E_INVALID, "'%.80s' cannot be a file of a repository", text);
	}
	snprintf(out->file, sizeof(out->file), "%s", text);
	return BN_OK;
}

enum bn_status bn_hub_name_parse(struct bn_hub_name *out, const char *text, const char *revision,
				 const char *file, struct bn_error *err)
{
	struct bn_hub_name name = { .revision = "main" };
	const char *colon = strchr(text, ':');
	const size_t before = colon != NULL ? (size_t)(colon - text) : strlen(text);
	const char *at = memchr(text, '@', before);
	const size_t repo = at != NULL ? (size_t)(at - text) : before;
	enum bn_status status = BN_OK;

	if (!is_repo(text, repo)) {
		return bn_fail(
			err, BN_E_INVALID,
			"'%.100s' is no repository: give org/name, the last two words of its "
			"page's address, such as microsoft/bitnet-b1.58-2B-4T-gguf",
			text);
	}
	if (at != NULL && revision != NULL) {
		return bn_fail(err, BN_E_INVALID,
			       "the revision is given twice: '%.80s' and '%.80s'", at + 1,
			       revision);
	}
	if (colon != NULL && file != NULL) {
		return bn_fail(err, BN_E_INVALID, "the file is given twice: '%.80s' and '%.80s'",
			       colon + 1, file);
	}
	snprintf(name.repo, sizeof(name.repo), "%.*s", (int)repo, text);
	if (at != NULL) {
		status = take_revision(&name, at + 1, before - repo - 1, err);
	} else if (revision != NULL) {
		status = take_revision(&name, revision, strlen(revision), err);
	}
	file = colon != NULL ? colon + 1 : file;
	if (status == BN_OK && file != NULL) {
		status = take_file(&name, file, err);
	}
	if (status == BN_OK) {
		*out = name;
	}
	return status;
}

/* C0, DEL, and the C1 controls, which UTF-8 writes as C2 80 to C2 9F. */
static bool is_control(const unsigned char *at)
{
	return at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0);
}

bool bn_hub_path_is_safe(const char *path)
{
	const size_t n = strlen(path);
	size_t begin = 0;

	if (n == 0 || n > BN_HUB_PATH_MAX) {
		return false;
	}
	for (size_t i = 0; i <= n; i++) {
		const size_t length = i - begin;

		if (i < n && (is_control((const unsigned char *)path + i) || path[i] == '\\')) {
			return false;
		}
		if (i < n && path[i] != '/') {
			continue;
		}
		if (length == 0 || (length == 1 && path[begin] == '.') ||
		    (length == 2 && path[begin] == '.' && path[begin + 1] == '.')) {
			return false;
		}
		begin = i + 1;
	}
	return true;
}

/* ---- addresses ---------------------------------------------------------------------------- */

/* Percent-encodes into a buffer that the caller knows to be large enough; `keep` stays as it is. */
static char *encode(char *to, const char *text, const char *keep)
{
	for (; *text != '\0'; text++) {
		if (strchr(letters, *text) != NULL || strchr("-._~", *text) != NULL ||
		    strchr(keep, *text) != NULL) {
			*to++ = *text;
		} else {
			to += sprintf(to, "%%%02X", (unsigned char)*text);
		}
	}
	*to = '\0';
	return to;
}

void bn_hub_url_about(char *to, const struct bn_hub_name *name)
{
	to += sprintf(to, "/api/models/%s/revision/", name->repo);
	/* "refs/pr/1" is one word here. */
	to = encode(to, name->revision, "");
	strcpy(to, "?blobs=true");
}

void bn_hub_url_file(char *to, const char *repo, const char *commit, const char *path)
{
	to += sprintf(to, "/%s/resolve/%s/", repo, commit);
	encode(to, path, "/");
}
