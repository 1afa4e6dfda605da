/*
 * The order of writes makes every moment safe to be killed at: the part is emptied before the tag
 * of the new bytes is recorded, and the record is there before the first of them. After a power
 * cut the part may hold blocks that were never written; the digest of the whole file finds those.
 *
 * Names are opened with O_NOFOLLOW: a link that somebody put into a shared folder is not written
 * through.
 */
#include "client/part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_MAX_BYTES = 8192, FILE_MODE = 0644 };

/* Names of the two files, and of the record while it is written. */
struct names {
	char part[BN_PART_NAME_MAX + 32];
	char state[BN_PART_NAME_MAX + 32];
	char fresh[BN_PART_NAME_MAX + 32];
};

static struct names names_of(const char *name)
{
	struct names n;

	snprintf(n.part, sizeof(n.part), "%s.part", name);
	snprintf(n.state, sizeof(n.state), "%s.part.json", name);
	snprintf(n.fresh, sizeof(n.fresh), "%s.part.json.new", name);
	return n;
}

static enum bn_status fail_io(struct bn_error *err, const char *what, const char *name)
{
	return bn_fail(err, BN_E_IO, "cannot %s '%s': %s", what, name, strerror(errno));
}

/* A tag that promises the same bytes, not just the same meaning, and is safe in a header. */
static bool is_strong(const char *etag)
{
	const size_t n = strlen(etag);

	if (n < 3 || n >= BN_PART_ETAG_BYTES || etag[0] != '"' || etag[n - 1] != '"') {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)etag[i] < 0x21 || (unsigned char)etag[i] > 0x7e) {
			return false;
		}
	}
	return true;
}

/* The tag recorded for these bytes; false when the record is absent, damaged or of another file. */
static bool read_state(int dirfd, const struct names *names, const char *url, uint64_t size,
		       char etag[BN_PART_ETAG_BYTES], uint64_t *size_out)
{
	const int fd = openat(dirfd, names->state, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[STATE_MAX_BYTES];
	const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	json_t *state = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *from = NULL, *tag = NULL;
	json_int_t bytes = -1;
	bool ok = state != NULL && json_unpack(state, "{s:s, s:s, s:I}", "url", &from, "etag", &tag,
					       "size", &bytes) == 0;

	ok = ok && strcmp(from, url) == 0 && is_strong(tag) && bytes >= 0 &&
	     (size == BN_PART_SIZE_UNKNOWN || (uint64_t)bytes == size);
	if (ok) {
		snprintf(etag, BN_PART_ETAG_BYTES, "%s", tag);
		*size_out = (uint64_t)bytes;
	}
	json_decref(state);
	if (fd >= 0) {
		close(fd);
	}
	return ok;
}

static enum bn_status write_state(const struct bn_part *p, const struct names *names,
				  struct bn_error *err)
{
	const int fd = openat(p->dirfd, names->fresh,
			      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	json_t *state = json_pack("{s:s, s:s, s:I}", "url", p->url, "etag", p->etag, "size",
				  (json_int_t)p->size);
	const bool ok = fd >= 0 && state != NULL && json_dumpfd(state, fd, JSON_INDENT(2)) == 0;

	json_decref(state);
	if (fd >= 0) {
		close(fd);
	}
	if (!ok || renameat(p->dirfd, names->fresh, p->dirfd, names->state) != 0) {
		return fail_io(err, "write", names->state);
	}
	return BN_OK;
}

uint64_t bn_part_peek(int dirfd, const char *name, const char *url, uint64_t size)
{
	const struct names names = names_of(name);
	char etag[BN_PART_ETAG_BYTES];
	struct stat about;
	uint64_t bytes;

	if (fstatat(dirfd, names.part, &about, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(about.st_mode) || !read_state(dirfd, &names, url, size, etag, &bytes) ||
	    (uint64_t)about.st_size > bytes) {
		return 0;
	}
	return (uint64_t)about.st_size;
}

enum bn_status bn_part_open(struct bn_part *p, int dirfd, const char *name, const char *url,
			    uint64_t size, struct bn_error *err)
{
	const struct names names = names_of(name);
	struct stat about;

	memset(p, 0, sizeof(*p));
	p->fd = -1;
	if (strlen(name) > BN_PART_NAME_MAX || strchr(name, '/') != NULL) {
		return bn_fail(err, BN_E_INVALID, "'%.80s' cannot be the name of a file here",
			       name);
	}
	p->dirfd = dirfd;
	p->url = url;
	p->size = size;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->fd = openat(dirfd, names.part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (p->fd >= 0 && fstat(p->fd, &about) == 0 && !S_ISREG(about.st_mode)) {
		bn_part_close(p);
		return bn_fail(err, BN_E_IO, "'%s' is no ordinary file", names.part);
	}
	if (p->fd < 0 || fstat(p->fd, &about) != 0) {
		const enum bn_status status = fail_io(err, "open", names.part);

		bn_part_close(p);
		return status;
	}
	if (read_state(dirfd, &names, url, size, p->etag, &p->size) &&
	    (uint64_t)about.st_size <= p->size) {
		p->at = (uint64_t)about.st_size;
	} else {
		p->etag[0] = '\0';
		p->size = size;
	}
	return BN_OK;
}

enum bn_status bn_part_restart(struct bn_part *p, const char *etag, uint64_t size,
			       struct bn_error *err)
{
	const struct names names = names_of(p->name);

	p->at = 0;
	p->size = size;
	p->etag[0] = '\0';
	if (unlinkat(p->dirfd, names.state, 0) != 0 && errno != ENOENT) {
		return fail_io(err, "remove", names.state);
	}
	if (ftruncate(p->fd, 0) != 0) {
		return fail_io(err, "empty", names.part);
	}
	if (!is_strong(etag) || size == BN_PART_SIZE_UNKNOWN) {
		return BN_OK;
	}
	snprintf(p->etag, sizeof(p->etag), "%s", etag);
	return write_state(p, &names, err);
}

enum bn_status bn_part_append(struct bn_part *p, const void *bytes, size_t n, struct bn_error *err)
{
	const char *from = bytes;

	if (p->size != BN_PART_SIZE_UNKNOWN && n > p->size - p->at) {
		return bn_fail(err, BN_E_FORMAT,
			       "the server sends more than the %" PRIu64 " bytes the file has",
			       p->size);
	}
	while (n > 0) {
		const ssize_t done = pwrite(p->fd, from, n, (off_t)p->at);

		if (done < 0 && errno == EINTR) {
			continue;
		} else if (done < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
			return bn_fail(err, BN_E_IO,
				       "%s after %" PRIu64 " bytes; they are kept: make room, then "
				       "run the same command again",
				       errno == EFBIG ? "the limit on the size of files is reached"
						      : "the disk is full",
				       p->at);
		} else if (done < 0) {
			return fail_io(err, "write", p->name);
		}
		from += done;
		p->at += (uint64_t)done;
		n -= (size_t)done;
	}
	return BN_OK;
}

enum bn_status bn_part_finish(struct bn_part *p, struct bn_error *err)
{
	const struct names names = names_of(p->name);
	enum bn_status status = BN_OK;

	if (fsync(p->fd) != 0) {
		status = fail_io(err, "write", names.part);
	} else if (renameat(p->dirfd, names.part, p->dirfd, p->name) != 0) {
		status = fail_io(err, "rename to", p->name);
	} else {
		unlinkat(p->dirfd, names.state, 0);
		if (fsync(p->dirfd) != 0) {
			status = fail_io(err, "write the folder of", p->name);
		}
	}
	bn_part_close(p);
	return status;
}

void bn_part_close(struct bn_part *p)
{
	if (p->fd >= 0) {
		close(p->fd);
	}
	p->fd = -1;
}

void bn_part_discard(struct bn_part *p)
{
	const struct names names = names_of(p->name);

	unlinkat(p->dirfd, names.state, 0);
	unlinkat(p->dirfd, names.part, 0);
	bn_part_close(p);
}
