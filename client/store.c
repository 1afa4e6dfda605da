#include "client/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOCK_NAME ".bnctl-pull.lock"

enum { MIB = 1 << 20, FOLDER_MODE = 0755, LOCK_MODE = 0644 };

_Static_assert(BN_STORE_PATH_BYTES >= PATH_MAX, "realpath() writes that much");

enum bn_status bn_store_root(char to[BN_STORE_PATH_BYTES], bool is_root, const char *xdg_data_home,
			     const char *home, struct bn_error *err)
{
	int n = -1;

	if (is_root) {
		n = snprintf(to, BN_STORE_PATH_BYTES, "/var/lib/bnd/models");
	} else if (xdg_data_home != NULL && xdg_data_home[0] == '/') {
		n = snprintf(to, BN_STORE_PATH_BYTES, "%s/bnd/models", xdg_data_home);
	} else if (home != NULL && home[0] == '/') {
		n = snprintf(to, BN_STORE_PATH_BYTES, "%s/.local/share/bnd/models", home);
	}
	if (n < 0 || n >= BN_STORE_PATH_BYTES) {
		return bn_fail(err, BN_E_INVALID,
			       "neither XDG_DATA_HOME nor HOME says where models go: name a folder "
			       "with --to");
	}
	return BN_OK;
}

static enum bn_status make_folders(const char *path, struct bn_error *err)
{
	char part[BN_STORE_PATH_BYTES];
	const size_t n = strlen(path);

	if (n == 0 || n >= sizeof(part)) {
		return bn_fail(err, BN_E_INVALID, "'%.80s' is no name of a folder", path);
	}
	for (size_t i = 1; i <= n; i++) {
		if (i < n && path[i] != '/') {
			continue;
		}
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, FOLDER_MODE) != 0 && errno != EEXIST) {
			return bn_fail(err, BN_E_IO, "the folder %s cannot be made: %s", part,
				       strerror(errno));
		}
	}
	return BN_OK;
}

static enum bn_status lock(struct bn_store *s, struct bn_error *err)
{
	s->lock = openat(s->dirfd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_MODE);
	if (s->lock < 0) {
		return bn_fail(err, BN_E_IO, "%s cannot be written: %s", s->path, strerror(errno));
	}
	if (flock(s->lock, LOCK_EX | LOCK_NB) == 0) {
		return BN_OK;
	}
	if (errno == EWOULDBLOCK) {
		return bn_fail(err, BN_E_OVERLOADED,
			       "another bnctl is pulling into %s: wait for it, or name another "
			       "folder with --to",
			       s->path);
	}
	return bn_fail(err, BN_E_IO, "%s cannot be locked: %s", s->path, strerror(errno));
}

enum bn_status bn_store_open(struct bn_store *s, const char *path, struct bn_error *err)
{
	enum bn_status status = make_folders(path, err);

	memset(s, 0, sizeof(*s));
	s->dirfd = s->lock = -1;
	if (status != BN_OK) {
		return status;
	}
	if (realpath(path, s->path) != NULL) {
		s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (s->dirfd < 0) {
		return bn_fail(err, BN_E_IO, "the folder %s cannot be opened: %s", path,
			       strerror(errno));
	}
	status = lock(s, err);
	if (status != BN_OK) {
		bn_store_close(s);
	}
	return status;
}

void bn_store_close(struct bn_store *s)
{
	if (s->path[0] != '\0' && s->lock >= 0) {
		close(s->lock);
	}
	if (s->path[0] != '\0' && s->dirfd >= 0) {
		close(s->dirfd);
	}
	memset(s, 0, sizeof(*s));
}

enum bn_status bn_store_folder(int *out, int dirfd, const char *path, struct bn_error *err)
{
	int fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	char name[NAME_MAX + 1] = "";

	while (fd >= 0 && *path != '\0') {
		const size_t n = strcspn(path, "/");
		int next = -1;

		if (n > NAME_MAX) {
			close(fd);
			return bn_fail(err, BN_E_IO, "'%.80s': the name is too long", path);
		}
		memcpy(name, path, n);
		name[n] = '\0';
		if (mkdirat(fd, name, FOLDER_MODE) == 0 || errno == EEXIST) {
			next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		}
		close(fd);
		fd = next;
		path += n + (path[n] == '/');
	}
	if (fd < 0) {
		return bn_fail(err, BN_E_IO, "the folder '%.80s' cannot be made: %s", name,
			       strerror(errno));
	}
	*out = fd;
	return BN_OK;
}

enum bn_status bn_store_room(int dirfd, uint64_t bytes, struct bn_error *err)
{
	struct statvfs about;
	uint64_t room;

	if (fstatvfs(dirfd, &about) != 0) {
		return bn_fail(err, BN_E_IO, "the room on the disk is not known: %s",
			       strerror(errno));
	}
	room = (uint64_t)about.f_bavail * about.f_frsize;
	if (room < bytes) {
		return bn_fail(err, BN_E_IO,
			       "the disk has no room: %llu MiB are still to come, %llu MiB are "
			       "free; make room, or name a folder on another disk with --to",
			       (unsigned long long)((bytes + MIB - 1) / MIB),
			       (unsigned long long)(room / MIB));
	}
	return BN_OK;
}
