#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

/* One pread moves at most this much: Linux itself stops just below 2 GiB. */
enum { READ_MAX = 1 << 30 };

static const char *kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	case S_IFLNK:
		return "a symbolic link";
	default:
		return "no regular file";
	}
}

static enum bn_status not_regular(mode_t mode, struct bn_error *err)
{
	return bn_fail(err, BN_E_FORMAT, "is %s, a model must be a regular file", kind(mode));
}

enum bn_status bn_file_adopt(struct bn_file *f, int fd, struct bn_error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return bn_fail(err, BN_E_IO, "cannot examine the file: %m");
	}
	if (!S_ISREG(st.st_mode)) {
		return not_regular(st.st_mode, err);
	}
	f->fd = fd;
	f->size = (uint64_t)st.st_size;
	f->was = st;
	/* A model is read once from front to back; a failed hint costs nothing. */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return BN_OK;
}

enum bn_status bn_file_open(struct bn_file *f, int dirfd, const char *path, bool nofollow,
			    struct bn_error *err)
{
	/* O_NONBLOCK: opening a FIFO nobody writes to must not wait. O_NOCTTY: nor must a path
	 * make a terminal ours. Neither changes anything for a regular file. */
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (nofollow ? O_NOFOLLOW : 0);
	enum bn_status status;
	int fd;

	do {
		fd = openat(dirfd, path, flags);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0) {
		int saved = errno;
		struct stat st;

		/* Sockets, driverless devices and forbidden links do not open at all: say why. */
		if ((saved == ENXIO || saved == ENODEV || saved == ELOOP) &&
		    fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode)) {
			return not_regular(st.st_mode, err);
		}
		errno = saved;
		return bn_fail(err, BN_E_IO, "cannot open the file: %m");
	}
	status = bn_file_adopt(f, fd, err);
	if (status != BN_OK) {
		close(fd);
	}
	return status;
}

enum bn_status bn_file_read(const struct bn_file *f, uint64_t offset, void *dst, size_t bytes,
			    struct bn_error *err)
{
	char *p = dst;

	if (offset > f->size || bytes > f->size - offset) {
		return bn_fail(err, BN_E_FORMAT,
			       "need %zu bytes at offset %llu, the file has %llu in all", bytes,
			       (unsigned long long)offset, (unsigned long long)f->size);
	}
	while (bytes > 0) {
		size_t piece = bytes < READ_MAX ? bytes : READ_MAX;
		ssize_t n = pread(f->fd, p, piece, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return bn_fail(err, BN_E_IO, "cannot read at offset %llu: %m",
				       (unsigned long long)offset);
		}
		if (n == 0) {
			return bn_fail(err, BN_E_FORMAT,
				       "the file was cut to %llu bytes while it was read, it had "
				       "%llu",
				       (unsigned long long)offset, (unsigned long long)f->size);
		}
		p += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return BN_OK;
}

enum bn_status bn_file_unchanged(const struct bn_file *f, struct bn_error *err)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0) {
		return bn_fail(err, BN_E_IO, "cannot examine the file: %m");
	}
	/* mtime and not ctime: renaming or unlinking moves ctime and is harmless. */
	if (st.st_size != f->was.st_size || st.st_mtim.tv_sec != f->was.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != f->was.st_mtim.tv_nsec) {
		return bn_fail(err, BN_E_FORMAT,
			       "the file was written to while it was read: load it again");
	}
	return BN_OK;
}

void bn_file_close(struct bn_file *f)
{
	if (f != NULL && f->fd >= 0) {
		close(f->fd);
		f->fd = -1;
	}
}
