/*
 * How a created socket comes to its place without a moment in which somebody else could reach it
 * or two daemons could both think they own it:
 *   1. flock() on <path>.lock, kept until we end: among bnds, the lock decides.
 *   2. connect() to <path>: whoever answers is alive, and not ours to replace.
 *   3. A socket of mode 0600 is bound to <path>.new, gets group and mode, listens.
 *   4. rename() puts it over the stale one, or in the empty place, in one step.
 */
#include "daemon/listener.h"

#include "proto/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	BACKLOG = 1024,
	GROUP_BYTES_MAX = 1 << 20,
};

static enum bn_status system_error(struct bn_error *err, const char *path, const char *what)
{
	enum bn_status status =
		errno == EACCES || errno == EPERM || errno == EROFS ? BN_E_PERMISSION : BN_E_IO;

	return bn_fail(err, status, "socket '%s': %s: %s", path, what, strerror(errno));
}

static void fill_address(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	bn_assert(strlen(path) < sizeof(address->sun_path));
	strcpy(address->sun_path, path);
}

static enum bn_status find_group(const char *name, gid_t *gid, struct bn_error *err)
{
	struct group group, *found = NULL;
	unsigned long long number;
	char *end;
	size_t n = 1024;
	int rc = ERANGE;

	errno = 0;
	number = strtoull(name, &end, 10);
	if (name[0] >= '0' && name[0] <= '9' && *end == '\0' && errno == 0 && number < UINT32_MAX) {
		*gid = (gid_t)number;
		return BN_OK;
	}
	while (rc == ERANGE && n <= GROUP_BYTES_MAX) {
		char *buffer = malloc(n);

		if (buffer == NULL) {
			return bn_fail(err, BN_E_MEMORY, "no memory to look up group '%s'", name);
		}
		rc = getgrnam_r(name, &group, buffer, n, &found);
		if (found != NULL) {
			*gid = found->gr_gid;
		}
		free(buffer);
		n *= 4;
	}
	if (found == NULL) {
		return bn_fail(err, BN_E_CONFIG,
			       "socket.group: there is no group '%s' on this machine", name);
	}
	return BN_OK;
}

/* Step 1. The file stays: removing it would let two daemons lock two different files. */
static enum bn_status take_lock(const char *path, int *lock, struct bn_error *err)
{
	char name[BN_LISTENER_PATH_ROOM];
	int fd;

	snprintf(name, sizeof(name), "%.*s.lock", BN_LISTENER_PATH_MOST, path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0) {
		return system_error(err, path, "its lock file");
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		enum bn_status status = errno == EWOULDBLOCK
						? bn_fail(err, BN_E_CONFLICT,
							  "socket '%s': another bnd serves it: "
							  "stop that one, or give "
							  "this one another socket.path",
							  path)
						: system_error(err, path, "its lock file");

		close(fd);
		return status;
	}
	*lock = fd;
	return BN_OK;
}

/* Step 2. BN_OK: nothing there, or a socket nobody listens on. */
static enum bn_status check_place(const char *path, struct bn_error *err)
{
	struct sockaddr_un address;
	struct stat about;
	int fd, rc;

	if (lstat(path, &about) != 0) {
		return errno == ENOENT ? BN_OK : system_error(err, path, "cannot be looked at");
	}
	if (!S_ISSOCK(about.st_mode)) {
		return bn_fail(err, BN_E_CONFLICT,
			       "socket '%s': something that is no socket lies there: remove it or "
			       "choose another socket.path",
			       path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return system_error(err, path, "socket");
	}
	fill_address(&address, path);
	rc = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	close(fd);
	if (rc == ECONNREFUSED || rc == ENOENT) {
		return BN_OK;
	}
	if (rc == 0 || rc == EAGAIN) { /* EAGAIN: alive, with a full backlog */
		return bn_fail(
			err, BN_E_CONFLICT,
			"socket '%s': somebody is listening there already: stop that service, "
			"or choose another socket.path",
			path);
	}
	return bn_fail(err, BN_E_CONFLICT,
		       "socket '%s': cannot tell whether somebody listens there: %s", path,
		       strerror(rc));
}

/* Step 3. On success *out listens at `name` and has its group and mode. */
static enum bn_status make_socket(const char *path, const char *name, const char *group,
				  uint32_t mode, int *out, struct bn_error *err)
{
	struct sockaddr_un address;
	gid_t gid = (gid_t)-1;
	int fd;

	if (group[0] != '\0') {
		enum bn_status status = find_group(group, &gid, err);

		if (status != BN_OK) {
			return status;
		}
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return system_error(err, path, "socket");
	}
	unlink(name);
	fill_address(&address, name);
	/* On Linux bind() takes the mode from the descriptor; umask is the process's, so no umask.
	 */
	if (fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		enum bn_status status = system_error(err, path, "cannot be made");

		close(fd);
		return status;
	}
	if ((gid != (gid_t)-1 && chown(name, (uid_t)-1, gid) != 0) || chmod(name, mode) != 0 ||
	    listen(fd, BACKLOG) != 0) {
		enum bn_status status = system_error(
			err, path, "cannot be given its group and mode (is bnd in that group?)");

		close(fd);
		unlink(name);
		return status;
	}
	*out = fd;
	return BN_OK;
}

enum bn_status bn_listener_create(struct bn_listener *out, const char *path, const char *group,
				  uint32_t mode, struct bn_error *err)
{
	char name[BN_LISTENER_PATH_ROOM];
	struct stat about;
	enum bn_status status;
	int lock = -1;
	int fd = -1;

	if (path[0] == '\0' || strlen(path) > BN_LISTENER_PATH_MOST) {
		return bn_fail(err, BN_E_CONFIG,
			       "socket.path: must have 1 to %d bytes (the kernel's limit), has %zu",
			       BN_LISTENER_PATH_MOST, strlen(path));
	}
	status = take_lock(path, &lock, err);
	if (status != BN_OK) {
		return status;
	}
	snprintf(name, sizeof(name), "%s.new", path);
	status = check_place(path, err);
	if (status == BN_OK) {
		status = make_socket(path, name, group, mode, &fd, err);
	}
	if (status == BN_OK && (rename(name, path) != 0 || lstat(path, &about) != 0)) {
		status = system_error(err, path, "cannot be put in its place");
		unlink(name);
		close(fd);
	}
	if (status != BN_OK) {
		close(lock);
		return status;
	}
	*out = (struct bn_listener){
		.fd = fd, .lock = lock, .device = about.st_dev, .inode = about.st_ino
	};
	strcpy(out->path, path);
	return BN_OK;
}

static int int_option(int fd, int option)
{
	int value = -1;
	socklen_t n = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &n) == 0 ? value : -1;
}

enum bn_status bn_listener_adopt(struct bn_listener *out, int fd, struct bn_error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (int_option(fd, SO_DOMAIN) != AF_UNIX || int_option(fd, SO_TYPE) != SOCK_STREAM ||
	    int_option(fd, SO_ACCEPTCONN) != 1) {
		close(fd);
		return bn_fail(
			err, BN_E_CONFIG,
			"the socket handed over (descriptor %d) is not a listening unix stream "
			"socket: use ListenStream= with a path",
			fd);
	}
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		enum bn_status status =
			bn_fail(err, BN_E_IO, "the socket handed over (descriptor %d): %s", fd,
				strerror(errno));

		close(fd);
		return status;
	}
	*out = (struct bn_listener){ .fd = fd, .lock = -1 };
	return BN_OK;
}

void bn_listener_close(struct bn_listener *l)
{
	struct stat about;

	if (l->path[0] != '\0' && lstat(l->path, &about) == 0 && about.st_dev == l->device &&
	    about.st_ino == l->inode) {
		unlink(l->path);
	}
	close(l->fd);
	if (l->lock >= 0) {
		close(l->lock);
	}
}
