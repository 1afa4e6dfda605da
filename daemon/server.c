/*
 * Accepting is done here with accept4(2) and not by libuv, for two reasons: libuv's answer to a
 * full descriptor table is to close everybody who waits without a word, and a peer over a limit
 * is to be told so before any memory is spent on it.
 */
#include "daemon/server.h"

#include "daemon/listener.h"
#include "daemon/log.h"
#include "proto/assert.h"
#include "proto/message.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ACCEPTS_AT_ONCE = 64,
	PAUSE_MS = 100,
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
	struct bn_listener listener; /* while is_open */
	int spare; /* given up for a moment to tell a caller that descriptors are out */
	struct bn_log_limit full_limit;
	uint32_t ending;  /* handles and objects on their way out */
	bool is_open;     /* the socket */
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
	s->full_limit.interval_ns = UINT64_C(10000000000);
	s->full_limit.burst = 3;
	take_limits(s, config);
	uv_timer_init(loop, &s->pause);
	s->pause.data = s;
	s->door.data = s;
	*out = s;
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
	if (s->is_open) {
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
		fd = accept4(s->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
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
		int fd = accept4(s->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

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

	bn_assert(!s->is_open && !s->is_stopping);
	status = inherited_fd > 0 ? bn_listener_adopt(&s->listener, inherited_fd, err)
				  : bn_listener_create(&s->listener, path, group, mode, err);
	if (status != BN_OK) {
		return status;
	}
	s->is_open = true;
	rc = uv_poll_init(s->loop, &s->door, s->listener.fd);
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
	if (s->is_open) {
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
		bn_listener_close(&s->listener);
		s->is_open = false;
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
	return s->is_open;
}
