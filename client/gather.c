#include "client/gather.h"

#include "client/part.h"
#include "client/store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *bn_gather_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Bytes of a file that are still to come. */
static uint64_t missing(const struct bn_gather *g, const struct bn_hub_file *f)
{
	const char *name = bn_gather_base(f->path);
	char path[BN_HUB_URL_BYTES], url[2 * BN_HUB_URL_BYTES];
	struct stat about;

	if (f->size == BN_HUB_SIZE_UNKNOWN) {
		return 0;
	}
	if (fstatat(g->dirfd, name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (uint64_t)about.st_size == f->size) {
		return 0;
	}
	bn_hub_url_file(path, g->name, g->repo->commit, f->path);
	bn_download_url(g->download, path, url, sizeof(url));
	return f->size - bn_part_peek(g->dirfd, name, url, f->size);
}

static enum bn_status fetch_one(const struct bn_gather *g, const struct bn_hub_file *f,
				struct bn_error *err)
{
	char url[BN_HUB_URL_BYTES];
	const struct bn_download_file file = {
		.path = url,
		.size = f->size,
		.digest = f->digest,
		.replace = g->replace,
	};

	bn_hub_url_file(url, g->name, g->repo->commit, f->path);
	return bn_download_to(g->download, &file, g->dirfd, bn_gather_base(f->path), err);
}

/* Fetches the files of the choice from `first` on. */
static enum bn_status fetch(const struct bn_gather *g, size_t first, struct bn_error *err)
{
	const struct bn_hub_choice *c = g->choice;
	uint64_t room = 0;
	enum bn_status status;

	for (size_t i = first; i < c->n; i++) {
		const uint64_t size = c->files[i]->size;

		room += missing(g, c->files[i]);
		g->meter->total_bytes += size != BN_HUB_SIZE_UNKNOWN ? size : 0;
	}
	status = bn_store_room(g->dirfd, room, err);
	for (size_t i = first; i < c->n && status == BN_OK; i++) {
		const uint64_t size = c->files[i]->size;

		status = fetch_one(g, c->files[i], err);
		g->meter->before_bytes += size != BN_HUB_SIZE_UNKNOWN ? size : 0;
	}
	return status;
}

static enum bn_status read_text(int dirfd, const char *name, char **text, size_t *n,
				struct bn_error *err)
{
	const int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat about;
	ssize_t got = -1;

	*text = NULL;
	if (fd >= 0 && fstat(fd, &about) == 0 && about.st_size <= BN_HUB_ANSWER_MAX) {
		*n = (size_t)about.st_size;
		*text = malloc(*n + 1);
		got = *text != NULL ? read(fd, *text, *n) : -1;
	}
	if (fd >= 0) {
		close(fd);
	}
	if (got < 0 || (size_t)got != *n) {
		free(*text);
		*text = NULL;
		return bn_fail(err, BN_E_IO, "%s cannot be read", name);
	}
	return BN_OK;
}

/* The shards are known when their index is here. */
static enum bn_status fetch_shards(const struct bn_gather *g, struct bn_error *err)
{
	const size_t first = g->choice->n;
	char *text;
	size_t n = 0;
	enum bn_status status = read_text(g->dirfd, g->choice->index->path, &text, &n, err);

	if (status != BN_OK) {
		return status;
	}
	status = bn_hub_add_shards(g->choice, g->repo, text, n, err);
	free(text);
	return status == BN_OK ? fetch(g, first, err) : status;
}

enum bn_status bn_gather(const struct bn_gather *g, struct bn_error *err)
{
	enum bn_status status;

	bn_meter_start(g->meter, 0);
	status = fetch(g, 0, err);
	if (status == BN_OK && g->choice->index != NULL) {
		status = fetch_shards(g, err);
	}
	bn_meter_stop(g->meter);
	return status;
}
