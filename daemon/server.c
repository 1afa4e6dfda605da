/*
 * Accepting is done here with accept4(2) and not by libuv, for two reasons: libuv's answer to a
 * full descriptor table is to close everybody who waits without a word, and a peer over a limit
 * is to be told so before any memory is spent on it.
 *
 * How a created socket comes to its place without a moment in which somebody else could reach it
 * or two daemons could both think they own it:
 *   1. flock() on <path>.lock, kept until we end: among bnds, the lock decides.
 *   2. connect() to <path>: whoever answers is alive, and not ours to replace.
 *   3. A socket of mode 0600 is bound to <path>.new, gets group and mode, listens.
 *   4. rename() puts it over the stale one, or in the empty place, in one step.
 */
#include "daemon/server.h"

#include "daemon/log.h"
#include "proto/assert.h"
#include "proto/message.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PATH_MOST = 100, /* leaves room for ".lock" in sun_path (108 with its NUL) */
	PATH_ROOM = PATH_MOST + 8,
	BACKLOG = 1024,
	ACCEPTS_AT_ONCE = 64,
	PAUSE_MS = 100,
	GROUP_BYTES_MAX = 1 << 20,
};

struct bn_server {
	uv_loop_t *loop;
	uv_poll_t door;
	uv_timer_t pause;
	struct bn_connections *connections;
	const struct bn_auth *auth;
	struct bn_metrics *metrics;
	uint64_t clients;
	uint64_t per_user;
	int listener;         /* -1: the door is shut */
	int spare;            /* given up for a moment to tell a caller that descriptors are out */
	int lock;             /* on <path>.lock; -1 when the socket is not ours */
	char path[PATH_ROOM]; /* of a socket we made; "" when it is not ours */
	dev_t device;         /* of that socket, so that we remove no other */
	ino_t inode;
	struct bn_log_limit full_limit;
	uint32_t ending;  /* handles and objects on their way out */
	bool is_watching; /* `door` is an open handle */
	bool is_stopping;
	void (*stopped)(void *who);
	void *who;
};

static BN_ON_LOOP void take_limits(struct bn_server *s, const struct bn_config *config)
{
	s->clients = config->limits.clients;
	s->per_user = config->limits.connections_per_user;
}

enum bn_status bn_server_new(struct bn_server **out, uv_loop_t *loop,
			     const struct bn_config *config, const struct bn_auth *auth,
			     const struct bn_connection_hooks *hooks, struct bn_metrics *metrics,
			     struct bn_error *err)
{
	struct bn_server *s = calloc(1, sizeof(*s));
	struct bn_connection_limits limits = bn_connection_limits_of(config);
	enum bn_status status;

	if (s == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the server");
	}
	s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->spare < 0) {
		free(s);
		return bn_fail(err, BN_E_IO, "/dev/null: %s", strerror(errno));
	}
	status = bn_connections_new(&s->connections, loop, &limits, hooks, metrics, err);
	if (status != BN_OK) {
		close(s->spare);
		free(s);
		return status;
	}
	s->loop = loop;
	s->auth = auth;
	s->metrics = metrics;
	s->listener = -1;
	s->lock = -1;
	s->full_limit.interval_ns = UINT64_C(10000000000);
	s->full_limit.burst = 3;
	take_limits(s, config);
	uv_timer_init(loop, &s->pause);
	s->pause.data = s;
	s->door.data = s;
	*out = s;
	return BN_OK;
}

/* --- the socket ---------------------------------------------------------------------------- */

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
	char name[PATH_ROOM];
	int fd;

	snprintf(name, sizeof(name), "%.*s.lock", PATH_MOST, path);
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

static BN_ON_LOOP enum bn_status create(struct bn_server *s, const char *path, const char *group,
					uint32_t mode, struct bn_error *err)
{
	char name[PATH_ROOM];
	struct stat about;
	enum bn_status status;
	int fd = -1;

	if (path[0] == '\0' || strlen(path) > PATH_MOST) {
		return bn_fail(err, BN_E_CONFIG,
			       "socket.path: must have 1 to %d bytes (the kernel's limit), has %zu",
			       PATH_MOST, strlen(path));
	}
	status = take_lock(path, &s->lock, err);
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
		close(s->lock);
		s->lock = -1;
		return status;
	}
	strcpy(s->path, path);
	s->device = about.st_dev;
	s->inode = about.st_ino;
	s->listener = fd;
	return BN_OK;
}

static int int_option(int fd, int option)
{
	int value = -1;
	socklen_t n = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &n) == 0 ? value : -1;
}

static BN_ON_LOOP enum bn_status adopt(struct bn_server *s, int fd, struct bn_error *err)
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
	s->listener = fd;
	return BN_OK;
}

/* --- the door ------------------------------------------------------------------------------ */

/* Tells a peer why it may not come in, as an answer to nobody's call, and shuts it out. */
static BN_ON_LOOP void turn_away(struct bn_server *s, int fd, const struct bn_error *why)
{
	struct bn_pack pack;

	bn_pack_init(&pack);
	if (bn_message_error(&pack, 0, why, NULL) == BN_OK) {
		/* A fresh socket has room for it; if not, the peer learns it by the end of file. */
		ssize_t sent = send(fd, pack.data, pack.used, MSG_DONTWAIT | MSG_NOSIGNAL);

		(void)sent;
	}
	bn_pack_finish(&pack);
	close(fd);
	bn_metrics_add(s->metrics, BN_METRIC_CONNECTIONS_TOTAL, NULL, 1);
	bn_metrics_add(s->metrics, BN_METRIC_CLOSED, bn_close_word(BN_CLOSE_REFUSED), 1);
	bn_log_limited(&s->full_limit, BN_LOG_WARN, "a connection was refused: %s", why->text);
}

static BN_ON_LOOP void welcome(struct bn_server *s, int fd)
{
	struct bn_connection *connection;
	struct bn_peer peer;
	struct bn_error err;
	uint32_t own;

	if (bn_connections_count(s->connections) >= s->clients) {
		bn_fail(&err, BN_E_OVERLOADED, "all %" PRIu64 " connections are taken: try later",
			s->clients);
		bn_error_number(&err, "limit", (int64_t)s->clients);
		bn_error_number(&err, "retry_after_ms", 1000);
		turn_away(s, fd, &err);
		return;
	}
	if (bn_auth_peer(s->auth, fd, &peer, &err) != BN_OK) {
		turn_away(s, fd, &err);
		return;
	}
	own = bn_connections_count_uid(s->connections, peer.uid);
	if (own >= s->per_user) {
		bn_fail(&err, BN_E_QUEUE_FULL,
			"uid %" PRIu32 " has %" PRIu32 " of %" PRIu64
			" connections: close one first",
			(uint32_t)peer.uid, own, s->per_user);
		bn_error_number(&err, "limit", (int64_t)s->per_user);
		bn_error_number(&err, "retry_after_ms", 1000);
		turn_away(s, fd, &err);
		return;
	}
	if (bn_connection_open(&connection, s->connections, fd, &peer, &err) != BN_OK) {
		bn_log_limited(&s->full_limit, BN_LOG_WARN, "a connection was lost: %s", err.text);
	}
}

static void on_door(uv_poll_t *door, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
	struct bn_server *s = timer->data;

	bn_enter_loop();
	if (s->listener >= 0) {
		uv_poll_start(&s->door, UV_READABLE, on_door);
	}
}

/*
 * Descriptors (or kernel memory) are out. The caller in front gets an answer over the spare
 * descriptor; then the door stays shut for a moment, or the loop would spin on it.
 */
static BN_ON_LOOP void no_descriptors(struct bn_server *s, int cause)
{
	struct bn_error err;
	int fd;

	bn_fail(&err, BN_E_OVERLOADED, "bnd is out of file descriptors or memory (%s): try later",
		strerror(cause));
	bn_error_number(&err, "retry_after_ms", PAUSE_MS);
	if (s->spare >= 0) {
		close(s->spare);
		fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			turn_away(s, fd, &err);
		}
	}
	s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uv_poll_stop(&s->door);
	uv_timer_start(&s->pause, on_pause_over, PAUSE_MS, 0);
}

static void on_door(uv_poll_t *door, int status, int events)
{
	struct bn_server *s = door->data;

	bn_enter_loop();
	(void)events;
	if (status < 0) {
		bn_log_limited(&s->full_limit, BN_LOG_ERROR, "the listening socket failed: %s",
			       uv_strerror(status));
		uv_poll_stop(&s->door);
		uv_timer_start(&s->pause, on_pause_over, PAUSE_MS, 0);
		return;
	}
	/* Bounded, so that a flood of callers does not starve those who are inside. */
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			welcome(s, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			no_descriptors(s, errno);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return; /* EAGAIN: nobody else waits */
		}
	}
}

enum bn_status bn_server_listen(struct bn_server *s, int inherited_fd, const char *path,
				const char *group, uint32_t mode, struct bn_error *err)
{
	enum bn_status status;
	int rc;

	bn_assert(s->listener < 0 && !s->is_stopping);
	status = inherited_fd > 0 ? adopt(s, inherited_fd, err) : create(s, path, group, mode, err);
	if (status != BN_OK) {
		return status;
	}
	rc = uv_poll_init(s->loop, &s->door, s->listener);
	if (rc != 0) {
		bn_server_drain(s, NULL, 0);
		return bn_fail(err, BN_E_IO, "the listening socket cannot be watched: %s",
			       uv_strerror(rc));
	}
	s->is_watching = true;
	rc = uv_poll_start(&s->door, UV_READABLE, on_door);
	bn_assert(rc == 0);
	return BN_OK;
}

void bn_server_reconfigure(struct bn_server *s, const struct bn_config *config,
			   const struct bn_auth *auth)
{
	struct bn_connection_limits limits = bn_connection_limits_of(config);

	take_limits(s, config);
	s->auth = auth;
	bn_connections_set_limits(s->connections, &limits);
}

/* The last thing on its way out takes the server with it, if that is what is wanted. */
static void one_less(void *who)
{
	struct bn_server *s = who;
	void (*stopped)(void *who) = s->stopped;
	void *stopped_who = s->who;

	if (--s->ending > 0 || !s->is_stopping) {
		return;
	}
	if (s->spare >= 0) {
		close(s->spare);
	}
	free(s);
	if (stopped != NULL) {
		stopped(stopped_who);
	}
}

static void on_handle_closed(uv_handle_t *handle)
{
	bn_enter_loop();
	one_less(handle->data);
}

void bn_server_drain(struct bn_server *s, const void *farewell, size_t n)
{
	struct stat about;

	if (s->listener >= 0) {
		uv_timer_stop(&s->pause);
		/*
		 * The handle goes before the descriptor: libuv takes the number out of its epoll
		 * set once more when the handle is closed, and by then it might be a peer's.
		 */
		if (s->is_watching) {
			uv_close((uv_handle_t *)&s->door, on_handle_closed);
			s->is_watching = false;
			s->ending++;
		}
		/* The name before the socket: a client sees "no such file", not a dead socket. */
		if (s->path[0] != '\0' && lstat(s->path, &about) == 0 &&
		    about.st_dev == s->device && about.st_ino == s->inode) {
			unlink(s->path);
		}
		close(s->listener);
		s->listener = -1;
		if (s->lock >= 0) {
			close(s->lock);
			s->lock = -1;
		}
	}
	if (n > 0) {
		bn_connections_broadcast(s->connections, farewell, n);
	}
}

void bn_server_stop(struct bn_server *s, uint64_t grace_ms, void (*stopped)(void *who), void *who)
{
	bn_assert(!s->is_stopping);
	bn_server_drain(s, NULL, 0);
	s->is_stopping = true;
	s->stopped = stopped;
	s->who = who;
	s->ending += 2;
	uv_close((uv_handle_t *)&s->pause, on_handle_closed);
	bn_connections_close(s->connections, grace_ms, one_less, s);
}

struct bn_connections *bn_server_connections(struct bn_server *s)
{
	return s->connections;
}

bool bn_server_is_listening(const struct bn_server *s)
{
	return s->listener >= 0;
}
