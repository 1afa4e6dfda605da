/*
 * Model files: opens only what is a regular file, and reads ranges of it into the caller's memory
 * with an ordinary error when the bytes are not there.
 *
 * It does not map files. A mapping turns another process's truncate into SIGBUS, even for pages
 * already touched, and another's overwrite into silently different weights (MAP_PRIVATE does not
 * help); and since weights are repacked at load, a mapping would be read exactly once anyway. So
 * everything is pread into private memory: a file that shrinks while it is read is a named error,
 * and after the load the file may be replaced or deleted at will. The page cache that pread leaves
 * behind is the kernel's to reclaim and makes the next load fast; nothing needs dropping.
 */
#ifndef BN_ENGINE_FILE_H
#define BN_ENGINE_FILE_H

#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Plain value; owned by the loader, one thread at a time (reads are pread, so many may read). */
struct bn_file {
	int fd;          /* -1 when closed                                   */
	uint64_t size;   /* bytes when opened                                */
	struct stat was; /* the identity bn_file_unchanged compares against  */
};

/*
 * Opens `path` (relative to `dirfd`, AT_FDCWD for the working directory) for reading. Never
 * blocks: a directory, FIFO, socket or device is BN_E_FORMAT naming what it is, at once. With
 * `nofollow` a symbolic link as last component is refused. Missing or unreadable: BN_E_IO with
 * the system's reason. The descriptor is close-on-exec. Undo with bn_file_close. Helper, tools.
 */
BN_MUST_USE enum bn_status bn_file_open(struct bn_file *f, int dirfd, const char *path,
					bool nofollow, struct bn_error *err);

/*
 * Same checks for a descriptor that somebody else opened (a client may pass one over the socket,
 * so that the kernel has already judged his permission). On success the file owns `fd`; on
 * failure the caller still does. Helper.
 */
BN_MUST_USE enum bn_status bn_file_adopt(struct bn_file *f, int fd, struct bn_error *err);

/*
 * Reads exactly [offset, offset + bytes) into dst. BN_E_FORMAT when the range passes the end the
 * file had when opened or has now (it was truncated meanwhile), BN_E_IO for what the system
 * refuses; dst then holds an unspecified mixture. Retries after signals. Any thread.
 */
BN_MUST_USE enum bn_status bn_file_read(const struct bn_file *f, uint64_t offset, void *dst,
					size_t bytes, struct bn_error *err);

/*
 * BN_E_FORMAT when the file's size or modification time is not what it was at open: somebody wrote
 * into it while we read, and what we hold may be half of each. Call it once, after the last read.
 */
BN_MUST_USE enum bn_status bn_file_unchanged(const struct bn_file *f, struct bn_error *err);

/* Closes; a closed file (fd -1) is fine. */
void bn_file_close(struct bn_file *f);

#endif
