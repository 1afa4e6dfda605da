/*
 * One socket, one frame in, one pack out. Replies are matched by msgid; everything else that
 * arrives is a notification. Bytes from the daemon pass the same guard walk as a client's do on
 * the other side: a library must not crash because its server is ill.
 *
 * Parameters are packed as the caller names them and checked by the daemon, not here, so that an
 * old library can use a new daemon's fields.
 */
#include "client/bnclient.h"

#include "proto/error.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/pack.h"
#include "proto/value.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(sizeof(struct bn_value) <= sizeof(struct bn_client_value), "a value fits its box");
_Static_assert(sizeof(struct bn_iter) <= sizeof(struct bn_client_iter), "an iterator fits its box");

/* How long bn_client_call() sleeps before it asks keep_waiting again. */
enum { TICK_MS = 100 };

struct bn_client {
	int fd;
	uint32_t last_msgid;
	struct bn_frame in;
	struct bn_pack out; /* whole messages not yet sent */
	size_t sent;        /* bytes of out already sent   */
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char error[BN_ERROR_TEXT_BYTES];
};

struct bn_client_params {
	struct bn_pack pack;
};

/* ---- values ------------------------------------------------------------------------------- */

static struct bn_client_value box(struct bn_value v)
{
	struct bn_client_value b = { { 0 } };

	memcpy(&b, &v, sizeof(v));
	return b;
}

static struct bn_value unbox(struct bn_client_value b)
{
	struct bn_value v;

	memcpy(&v, &b, sizeof(v));
	return v;
}

static struct bn_client_text text_of(struct bn_text t)
{
	return (struct bn_client_text){ t.at, t.n };
}

enum bn_client_type bn_client_type(struct bn_client_value v)
{
	switch (unbox(v).type) {
	case BN_TYPE_NIL:
		return BN_CLIENT_NIL;
	case BN_TYPE_BOOL:
		return BN_CLIENT_BOOL;
	case BN_TYPE_INT:
		return BN_CLIENT_INT;
	case BN_TYPE_BIG:
	case BN_TYPE_FLOAT:
		return BN_CLIENT_NUM;
	case BN_TYPE_STR:
		return BN_CLIENT_STR;
	case BN_TYPE_BIN:
		return BN_CLIENT_BIN;
	case BN_TYPE_ARRAY:
		return BN_CLIENT_ARRAY;
	case BN_TYPE_MAP:
		return BN_CLIENT_MAP;
	case BN_TYPE_EXT:
	case BN_TYPE_NONE:
		break;
	}
	return BN_CLIENT_NONE;
}

struct bn_client_value bn_client_get(struct bn_client_value map, const char *path)
{
	return box(bn_value_find(unbox(map), path));
}

bool bn_client_get_bool(struct bn_client_value v, bool fallback)
{
	return bn_value_bool(unbox(v), fallback);
}

int64_t bn_client_get_int(struct bn_client_value v, int64_t fallback)
{
	return bn_value_int(unbox(v), fallback);
}

double bn_client_get_num(struct bn_client_value v, double fallback)
{
	struct bn_value value = unbox(v);

	return value.type == BN_TYPE_BIG ? (double)value.as.big : bn_value_num(value, fallback);
}

struct bn_client_text bn_client_text(struct bn_client_value v)
{
	struct bn_value value = unbox(v);
	struct bn_bytes b = bn_value_bytes(value);

	return (struct bn_client_text){ b.at != NULL ? (const char *)b.at : "", b.n };
}

uint32_t bn_client_count(struct bn_client_value v)
{
	struct bn_value value = unbox(v);

	return value.type == BN_TYPE_ARRAY || value.type == BN_TYPE_MAP ? value.n : 0;
}

struct bn_client_iter bn_client_iterate(struct bn_client_value v)
{
	struct bn_iter it = bn_iter_begin(unbox(v));
	struct bn_client_iter b = { { 0 } };

	memcpy(&b, &it, sizeof(it));
	return b;
}

bool bn_client_next(struct bn_client_iter *b, struct bn_client_value *key,
		    struct bn_client_value *value)
{
	struct bn_value k = { .type = BN_TYPE_NONE }, v;
	struct bn_iter it;
	bool more;

	memcpy(&it, b, sizeof(it));
	more = bn_iter_next(&it, &k, &v);
	memcpy(b, &it, sizeof(it));
	if (more) {
		*value = box(v);
		if (key != NULL) {
			*key = box(k);
		}
	}
	return more;
}

/* ---- parameters --------------------------------------------------------------------------- */

struct bn_client_params *bn_client_params_new(void)
{
	struct bn_client_params *p = malloc(sizeof(*p));

	if (p != NULL) {
		bn_pack_init(&p->pack);
		bn_pack_map(&p->pack, NULL);
	}
	return p;
}

void bn_client_params_free(struct bn_client_params *p)
{
	if (p != NULL) {
		bn_pack_finish(&p->pack);
		free(p);
	}
}

void bn_client_bool(struct bn_client_params *p, const char *key, bool value)
{
	if (p != NULL) {
		bn_pack_bool(&p->pack, key, value);
	}
}

void bn_client_int(struct bn_client_params *p, const char *key, int64_t value)
{
	if (p != NULL) {
		bn_pack_int(&p->pack, key, value);
	}
}

void bn_client_num(struct bn_client_params *p, const char *key, double value)
{
	if (p != NULL) {
		bn_pack_num(&p->pack, key, value);
	}
}

void bn_client_str(struct bn_client_params *p, const char *key, const char *value)
{
	if (p != NULL) {
		bn_pack_str(&p->pack, key, value);
	}
}

void bn_client_strn(struct bn_client_params *p, const char *key, const char *at, size_t n)
{
	if (p != NULL) {
		bn_pack_text(&p->pack, key, (struct bn_text){ at, n });
	}
}

void bn_client_bin(struct bn_client_params *p, const char *key, const void *at, size_t n)
{
	if (p != NULL) {
		bn_pack_bin(&p->pack, key, at, n);
	}
}

void bn_client_map(struct bn_client_params *p, const char *key)
{
	if (p != NULL) {
		bn_pack_map(&p->pack, key);
	}
}

void bn_client_array(struct bn_client_params *p, const char *key)
{
	if (p != NULL) {
		bn_pack_array(&p->pack, key);
	}
}

void bn_client_end(struct bn_client_params *p)
{
	if (p != NULL) {
		bn_pack_end(&p->pack);
	}
}

/* ---- connection --------------------------------------------------------------------------- */

static enum bn_client_status fail(struct bn_client *c, enum bn_client_status status,
				  const char *format, ...) __attribute__((format(printf, 3, 4)));

static enum bn_client_status fail(struct bn_client *c, enum bn_client_status status,
				  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->error, sizeof(c->error), format, args);
	va_end(args);
	return status;
}

/* After these the stream cannot be followed any further. */
static enum bn_client_status lose(struct bn_client *c, enum bn_client_status status,
				  const char *sentence)
{
	if (c->fd >= 0) {
		close(c->fd);
		c->fd = -1;
	}
	return fail(c, status, "%s", sentence);
}

char *bn_client_default_path(char *to, size_t size)
{
	const char *given = getenv("BND_SOCKET");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (given != NULL && given[0] != '\0') {
		snprintf(to, size, "%s", given);
		return to;
	}
	if (runtime != NULL && runtime[0] == '/') {
		n = snprintf(to, size, "%s/bnd/bnd.sock", runtime);
		if (n > 0 && (size_t)n < size && stat(to, &st) == 0) {
			return to;
		}
	}
	snprintf(to, size, "/run/bnd/bnd.sock");
	return to;
}

static enum bn_client_status connect_to(struct bn_client *c)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, c->path, sizeof(c->path));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		return fail(c, BN_CLIENT_UNREACHABLE, "no socket: %s", strerror(errno));
	}
	if (connect(c->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		int error = errno;

		close(c->fd);
		c->fd = -1;
		return fail(c, BN_CLIENT_UNREACHABLE, "cannot reach bnd at %s: %s", c->path,
			    strerror(error));
	}
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) {
		return lose(c, BN_CLIENT_UNREACHABLE, "the socket cannot be made non-blocking");
	}
	return BN_CLIENT_OK;
}

enum bn_client_status bn_client_open(struct bn_client **out, const char *path)
{
	struct bn_client *c = calloc(1, sizeof(*c));
	char found[4096];

	*out = c;
	if (c == NULL) {
		return BN_CLIENT_NO_MEMORY;
	}
	c->fd = -1;
	bn_frame_init(&c->in, BN_FRAME_CAPS);
	bn_pack_init(&c->out);
	if (path == NULL) {
		path = bn_client_default_path(found, sizeof(found));
	}
	if (strlen(path) >= sizeof(c->path)) {
		return fail(c, BN_CLIENT_UNREACHABLE,
			    "the socket path is longer than %zu bytes: %s", sizeof(c->path) - 1,
			    path);
	}
	memcpy(c->path, path, strlen(path) + 1);
	return connect_to(c);
}

void bn_client_close(struct bn_client *c)
{
	if (c != NULL) {
		if (c->fd >= 0) {
			close(c->fd);
		}
		bn_frame_finish(&c->in);
		bn_pack_finish(&c->out);
		free(c);
	}
}

const char *bn_client_path(const struct bn_client *c)
{
	return c->path;
}

const char *bn_client_error(const struct bn_client *c)
{
	return c->error;
}

int bn_client_fd(const struct bn_client *c)
{
	return c->fd;
}

short bn_client_events(const struct bn_client *c)
{
	return c->sent < c->out.used ? POLLIN | POLLOUT : POLLIN;
}

/* ---- sending ------------------------------------------------------------------------------ */

static enum bn_client_status flush(struct bn_client *c)
{
	while (c->sent < c->out.used) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.used - c->sent, MSG_NOSIGNAL);

		if (n > 0) {
			c->sent += (size_t)n;
		} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			return BN_CLIENT_OK;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else {
			/* What the daemon said last may still lie in the socket: it is read first.
			 */
			return BN_CLIENT_DISCONNECTED;
		}
	}
	bn_pack_reset(&c->out);
	c->sent = 0;
	return BN_CLIENT_OK;
}

/* [kind, msgid?, method, [params]] */
static enum bn_client_status queue(struct bn_client *c, bool call, uint32_t msgid,
				   const char *method, const struct bn_client_params *params)
{
	struct bn_error err;

	if (c->fd < 0) {
		return fail(c, BN_CLIENT_DISCONNECTED, "not connected to bnd");
	}
	if (params != NULL && (params->pack.failed || params->pack.depth != 1)) {
		return fail(c, params->pack.failed ? BN_CLIENT_NO_MEMORY : BN_CLIENT_PROTOCOL,
			    params->pack.failed ? "no memory for the parameters"
						: "a map or array of the parameters was not ended");
	}
	bn_pack_array(&c->out, NULL);
	bn_pack_int(&c->out, NULL, call ? BN_MESSAGE_CALL : BN_MESSAGE_NOTIFICATION);
	if (call) {
		bn_pack_int(&c->out, NULL, msgid);
	}
	bn_pack_str(&c->out, NULL, method);
	bn_pack_array(&c->out, NULL);
	if (params == NULL) {
		bn_pack_map(&c->out, NULL);
		bn_pack_end(&c->out);
	} else {
		/* The caller's map stays open: params may be used again. */
		bn_pack_append(&c->out, NULL, &params->pack);
	}
	bn_pack_end(&c->out);
	bn_pack_end(&c->out);
	if (bn_pack_check(&c->out, &err) != BN_OK) {
		return lose(c, BN_CLIENT_NO_MEMORY, err.text);
	}
	(void)flush(c);
	return BN_CLIENT_OK;
}

enum bn_client_status bn_client_start(struct bn_client *c, const char *method,
				      const struct bn_client_params *params, uint32_t *msgid)
{
	*msgid = ++c->last_msgid;
	return queue(c, true, *msgid, method, params);
}

enum bn_client_status bn_client_notify(struct bn_client *c, const char *method,
				       const struct bn_client_params *params)
{
	return queue(c, false, 0, method, params);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static void fill_reply(struct bn_client_reply *reply, const struct bn_message *m)
{
	struct bn_remote_error error;

	memset(reply, 0, sizeof(*reply));
	reply->message = (struct bn_client_text){ "", 0 };
	if (bn_message_read_error(m, &error)) {
		/* 0 would mean success: an error of a foreign shape still is one. */
		reply->code = error.code != 0 ? (int)error.code : bn_status_code(BN_E_INTERNAL);
		reply->message = text_of(error.text);
		reply->data = box(error.data);
	} else {
		reply->result = box(m->result);
	}
}

/* Takes the next whole message out of the frame; *got says whether there was one. */
static enum bn_client_status take(struct bn_client *c, struct bn_message *m, bool *got)
{
	struct bn_frame_message raw;
	struct bn_error err;

	if (bn_frame_next(&c->in, &raw, &err) != BN_OK) {
		return lose(c, BN_CLIENT_PROTOCOL, err.text);
	}
	*got = raw.bytes != NULL;
	if (*got && bn_message_open(m, raw.bytes, raw.n, &err) != BN_OK) {
		return lose(c, BN_CLIENT_PROTOCOL, err.text);
	}
	return BN_CLIENT_OK;
}

/* Reads what the socket has now. */
static enum bn_client_status receive(struct bn_client *c)
{
	unsigned char *space;
	struct bn_error err;
	size_t room;
	ssize_t n;

	if (bn_frame_space(&c->in, &space, &room, &err) != BN_OK) {
		return lose(c, BN_CLIENT_NO_MEMORY, err.text);
	}
	do {
		n = recv(c->fd, space, room, 0);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		bn_frame_commit(&c->in, (size_t)n);
		return BN_CLIENT_OK;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		return BN_CLIENT_OK;
	}
	return lose(c, BN_CLIENT_DISCONNECTED, "bnd closed the connection");
}

static void tell_event(const struct bn_client_hooks *hooks, const struct bn_message *m)
{
	char name[BN_LIMIT_METHOD_BYTES + 1];

	if (m->kind == BN_MESSAGE_NOTIFICATION && hooks != NULL && hooks->event != NULL) {
		snprintf(name, sizeof(name), "%.*s", (int)m->method.n, m->method.at);
		hooks->event(hooks->who, name, box(bn_value_at(m->params, 0)));
	}
}

enum bn_client_status bn_client_dispatch(struct bn_client *c, const struct bn_client_hooks *hooks)
{
	enum bn_client_status status;
	struct bn_client_reply reply;
	struct bn_message m;
	bool got = true;

	if (c->fd < 0) {
		return fail(c, BN_CLIENT_DISCONNECTED, "not connected to bnd");
	}
	(void)flush(c);
	status = receive(c);
	while (status == BN_CLIENT_OK) {
		status = take(c, &m, &got);
		if (status != BN_CLIENT_OK || !got) {
			break;
		}
		if (m.kind == BN_MESSAGE_RESPONSE && hooks != NULL && hooks->answer != NULL) {
			fill_reply(&reply, &m);
			hooks->answer(hooks->who, m.msgid, &reply);
		}
		tell_event(hooks, &m);
	}
	return status;
}

/* Looks through what has arrived for the answer to msgid. */
static enum bn_client_status search(struct bn_client *c, uint32_t msgid,
				    const struct bn_client_hooks *hooks,
				    struct bn_client_reply *reply, bool *found)
{
	struct bn_message m;
	bool got = true;

	while (got) {
		enum bn_client_status status = take(c, &m, &got);

		if (status != BN_CLIENT_OK) {
			return status;
		}
		if (got && m.kind == BN_MESSAGE_RESPONSE && (m.msgid == msgid || m.msgid == 0)) {
			/* msgid 0 is how a refused stream is answered: nobody else's. */
			fill_reply(reply, &m);
			*found = true;
			return BN_CLIENT_OK;
		}
		if (got) {
			tell_event(hooks, &m);
		}
	}
	return BN_CLIENT_OK;
}

enum bn_client_status bn_client_call(struct bn_client *c, const char *method,
				     const struct bn_client_params *params,
				     const struct bn_client_hooks *hooks,
				     struct bn_client_reply *reply)
{
	enum bn_client_status status;
	bool found = false;
	uint32_t msgid;

	status = bn_client_start(c, method, params, &msgid);
	while (status == BN_CLIENT_OK) {
		struct pollfd wait = { .fd = c->fd, .events = bn_client_events(c) };
		int n = poll(&wait, 1, TICK_MS);

		/* Asked every time round: a signal may fall between two polls that both find data.
		 */
		if (hooks != NULL && hooks->keep_waiting != NULL &&
		    !hooks->keep_waiting(hooks->who)) {
			return fail(c, BN_CLIENT_GIVEN_UP, "interrupted");
		}
		if (n <= 0) {
			continue;
		}
		(void)flush(c);
		status = receive(c);
		if (status == BN_CLIENT_OK) {
			status = search(c, msgid, hooks, reply, &found);
		}
		if (found) {
			bool refused = reply->code != 0;

			if (refused) {
				(void)fail(c, BN_CLIENT_REFUSED, "%.*s", (int)reply->message.n,
					   reply->message.at);
			}
			return refused ? BN_CLIENT_REFUSED : BN_CLIENT_OK;
		}
	}
	return status;
}
