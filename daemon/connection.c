/*
 * Everything that changes a connection's state happens in one function, service(), which the rota
 * calls for those that are due just before the loop sleeps. Callbacks and calls from above only
 * note what they saw and make the connection due. That is why no hook runs inside a call, why a
 * burst becomes one write, and why there is one way to end.
 */
#include "daemon/connection.h"

#include "daemon/hangup.h"
#include "daemon/log.h"
#include "daemon/outbox.h"
#include "daemon/rota.h"
#include "proto/assert.h"
#include "proto/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	MESSAGES_AT_ONCE = 64, /* of one connection in one go: others wait meanwhile */
	LINGER_MS = 1000,
	SWEEP_MOST_MS = 200,
	GROUP_PARTS = 2, /* that close by themselves: rota, hangup */
};

struct bn_connection {
	struct bn_rota_item turn;
	struct bn_connections *group;
	uv_pipe_t pipe;
	struct bn_hangup_watch watch;
	struct bn_frame frame;
	struct bn_peer peer;
	uint64_t id;
	void *data;
	uint32_t in_flight;
	struct bn_outbox out;
	uint64_t partial_since_ms; /* 0: no message has begun */
	uint64_t linger_until_ms;
	enum bn_close reason;
	bool is_reading;
	bool is_paused;
	bool is_ended;    /* the peer sends nothing more */
	bool has_untaken; /* the frame may hold further whole messages */
	bool is_closing;
	bool was_told;    /* on_closed was called */
	bool is_hopeless; /* no use in writing any more */
	bool is_finished; /* uv_close was called */
};

struct bn_connections {
	uv_loop_t *loop;
	struct bn_rota rota;
	struct bn_hangup *hangup;
	struct bn_connection_limits limits;
	struct bn_connection_hooks hooks;
	struct bn_metrics *metrics;
	uint32_t n;
	uint64_t in_flight;
	uint64_t last_id;
	struct bn_log_limit cut_limit;
	uint64_t grace_ms;
	uint32_t parts; /* not closed yet */
	bool is_closing;
	void (*closed)(void *who);
	void *closed_who;
};

#define CLOSE_WORD(SYMBOL, word) word,
static const char *const close_words[BN_CLOSES] = { BN_CLOSE_TABLE(CLOSE_WORD) };
#undef CLOSE_WORD

const char *bn_close_word(enum bn_close reason)
{
	bn_assert((unsigned)reason < BN_CLOSES);
	return close_words[reason];
}

struct bn_connection_limits bn_connection_limits_of(const struct bn_config *config)
{
	return (struct bn_connection_limits){
		.in_flight = (uint32_t)config->limits.in_flight,
		.message = (size_t)config->limits.message,
		.output_soft = (size_t)config->limits.output_soft,
		.output_hard = (size_t)config->limits.output_hard,
		.stall_timeout_ms = config->limits.stall_timeout_ms,
		.stall_rate = config->limits.stall_rate,
		.message_timeout_ms = config->limits.message_timeout_ms,
	};
}

static struct bn_connection *of_turn(struct bn_rota_item *item)
{
	return (struct bn_connection *)(void *)((char *)item -
						offsetof(struct bn_connection, turn));
}

/* The connections of a group, in a loop: first(g), after(c), NULL past the end. */
static BN_ON_LOOP struct bn_connection *first(const struct bn_connections *g)
{
	struct bn_rota_item *item = bn_rota_first(&g->rota);

	return item != NULL ? of_turn(item) : NULL;
}

static BN_ON_LOOP struct bn_connection *after(const struct bn_connection *c)
{
	struct bn_rota_item *item = bn_rota_after(&c->group->rota, &c->turn);

	return item != NULL ? of_turn(item) : NULL;
}

/* service() will be called, soon. */
static BN_ON_LOOP void mark(struct bn_connection *c)
{
	if (!c->is_finished) {
		bn_rota_soon(&c->group->rota, &c->turn);
	}
}

static BN_ON_LOOP size_t queued(const struct bn_connection *c)
{
	return bn_outbox_queued(&c->out);
}

void bn_connection_close(struct bn_connection *c, enum bn_close reason)
{
	if (c->is_closing) {
		return;
	}
	c->is_closing = true;
	c->reason = reason;
	mark(c);
}

static BN_ON_LOOP void queue(struct bn_connection *c, const void *bytes, size_t n)
{
	if (c->is_closing || n == 0) {
		return;
	}
	/*
	 * Judged before the message is added, and only once the peer is known to be behind: large
	 * answers that come together are no fault of a peer who had no chance to read them yet.
	 */
	if (c->is_paused && queued(c) > c->group->limits.output_hard) {
		bn_connection_close(c, BN_CLOSE_STALLED);
	} else if (!bn_outbox_put(&c->out, bytes, n)) {
		bn_connection_close(c, BN_CLOSE_MEMORY);
	} else {
		mark(c);
	}
}

/* Answers a message that cannot be followed with the best msgid we have, and cuts. */
static BN_ON_LOOP void cut(struct bn_connection *c, enum bn_close reason, uint32_t msgid,
			   const struct bn_error *error)
{
	struct bn_pack pack;

	bn_pack_init(&pack);
	if (bn_message_error(&pack, msgid, error, NULL) == BN_OK) {
		queue(c, pack.data, pack.used);
	}
	bn_pack_finish(&pack);
	bn_connection_close(c, reason);
}

static BN_ON_LOOP void deliver(struct bn_connection *c, const struct bn_frame_message *raw)
{
	struct bn_connections *g = c->group;
	struct bn_message message;
	struct bn_error err;

	if (bn_message_open(&message, raw->bytes, raw->n, &err) != BN_OK) {
		cut(c, BN_CLOSE_FAULT, bn_frame_msgid(&c->frame), &err);
		return;
	}
	if (message.kind == BN_MESSAGE_RESPONSE) {
		bn_fail(&err, BN_E_MESSAGE, "a response, but bnd never calls its clients");
		cut(c, BN_CLOSE_FAULT, message.msgid, &err);
		return;
	}
	if (message.kind == BN_MESSAGE_CALL) {
		c->in_flight++;
		g->in_flight++;
	}
	g->hooks.on_message(c, &message, g->hooks.who);
}

static BN_ON_LOOP bool may_take(const struct bn_connection *c)
{
	return !c->is_closing && !c->is_paused && c->in_flight < c->group->limits.in_flight &&
	       queued(c) < c->group->limits.output_soft;
}

/* Takes whole messages out of the frame and hands them up, a few at a time. */
static BN_ON_LOOP void pump(struct bn_connection *c)
{
	for (int i = 0; c->has_untaken && i < MESSAGES_AT_ONCE && may_take(c); i++) {
		struct bn_frame_message raw;
		struct bn_error err;
		enum bn_status status = bn_frame_next(&c->frame, &raw, &err);

		if (status == BN_E_MEMORY) {
			bn_connection_close(c, BN_CLOSE_MEMORY);
		} else if (status != BN_OK) {
			cut(c, BN_CLOSE_FAULT, bn_frame_msgid(&c->frame), &err);
		} else if (raw.bytes == NULL) {
			c->has_untaken = false;
		} else {
			c->partial_since_ms = 0;
			deliver(c, &raw);
		}
	}
	if (c->has_untaken) {
		mark(c);
	}
}

static BN_ON_LOOP uint64_t now_ms(const struct bn_connections *g)
{
	return bn_rota_now_ms(&g->rota);
}

/* Some clock of a connection has begun to tick. */
static BN_ON_LOOP void need_sweep(struct bn_connections *g)
{
	uint64_t least = g->limits.stall_timeout_ms;
	uint64_t period;

	if (g->limits.message_timeout_ms < least) {
		least = g->limits.message_timeout_ms;
	}
	period = least / 8;
	period = period < 5 ? 5 : period > SWEEP_MOST_MS ? SWEEP_MOST_MS : period;
	bn_rota_need_sweep(&g->rota, period);
}

/* Begun messages are timed only while we read: our own pauses are not the peer's fault. */
static BN_ON_LOOP void time_partial(struct bn_connection *c)
{
	if (!c->is_reading || c->has_untaken || bn_frame_pending(&c->frame) == 0) {
		c->partial_since_ms = 0;
	} else if (c->partial_since_ms == 0) {
		c->partial_since_ms = now_ms(c->group);
		need_sweep(c->group);
	}
}

static BN_ON_LOOP void cut_partial(struct bn_connection *c)
{
	struct bn_error err;

	bn_fail(&err, BN_E_DEADLINE, "a message had begun and did not end within %" PRIu64 " ms",
		c->group->limits.message_timeout_ms);
	cut(c, BN_CLOSE_PARTIAL, bn_frame_msgid(&c->frame), &err);
}

/* Whether any clock of it ticks on. */
static bool sweep(struct bn_rota_item *item, uint64_t now)
{
	struct bn_connection *c = of_turn(item);
	const struct bn_connection_limits *limits = &c->group->limits;

	bn_enter_loop();
	if (c->is_closing) {
		if (c->was_told && now >= c->linger_until_ms) {
			c->is_hopeless = true;
			mark(c);
		}
	} else if (bn_outbox_is_stalled(&c->out, now, limits->stall_timeout_ms,
					limits->stall_rate)) {
		bn_connection_close(c, BN_CLOSE_STALLED);
	} else if (c->partial_since_ms != 0 &&
		   now - c->partial_since_ms >= limits->message_timeout_ms) {
		cut_partial(c);
	}
	return c->is_closing || c->partial_since_ms != 0 || bn_outbox_watch(&c->out, now);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
	struct bn_connection *c = handle->data;
	unsigned char *space = NULL;
	size_t n = 0;

	(void)suggested;
	if (bn_frame_space(&c->frame, &space, &n, NULL) != BN_OK) {
		n = 0; /* libuv then calls on_read with UV_ENOBUFS */
	}
	*out = uv_buf_init((char *)space, n < UINT32_MAX ? (unsigned)n : UINT32_MAX);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct bn_connection *c = stream->data;

	bn_enter_loop();
	(void)buf;
	if (n > 0) {
		bn_frame_commit(&c->frame, (size_t)n);
		c->has_untaken = true;
		pump(c);
		time_partial(c);
	} else if (n == UV_EOF) {
		c->is_ended = true;
	} else if (n == UV_ENOBUFS) {
		bn_connection_close(c, BN_CLOSE_MEMORY);
	} else if (n < 0) {
		bn_connection_close(c, BN_CLOSE_GONE);
	} else {
		return; /* EAGAIN */
	}
	mark(c);
}

static void on_gone(void *who)
{
	struct bn_connection *c = who;

	bn_enter_loop();
	c->is_hopeless = true;
	bn_connection_close(c, c->in_flight == 0 && queued(c) == 0 ? BN_CLOSE_DONE : BN_CLOSE_GONE);
	mark(c);
}

static void on_written(void *who, bool failed)
{
	struct bn_connection *c = who;

	bn_enter_loop();
	if (failed) {
		c->is_hopeless = true;
		bn_connection_close(c, BN_CLOSE_GONE);
	}
	mark(c);
}

static BN_ON_LOOP void flush(struct bn_connection *c)
{
	if (!bn_outbox_flush(&c->out)) {
		c->is_hopeless = true;
		bn_connection_close(c, BN_CLOSE_GONE);
	}
}

static BN_ON_LOOP void update_pause(struct bn_connection *c)
{
	struct bn_connections *g = c->group;
	size_t waiting = queued(c);
	bool pause = c->is_paused ? waiting > g->limits.output_soft / 2
				  : waiting >= g->limits.output_soft;

	if (pause == c->is_paused) {
		return;
	}
	c->is_paused = pause;
	if (g->hooks.on_pause != NULL) {
		g->hooks.on_pause(c, pause, g->hooks.who);
	}
}

static BN_ON_LOOP void update_reading(struct bn_connection *c)
{
	bool want = !c->is_ended && !c->has_untaken && may_take(c);

	if (want && !c->is_reading) {
		c->is_reading = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) == 0;
		if (!c->is_reading) {
			bn_connection_close(c, BN_CLOSE_GONE);
		}
	} else if (!want && c->is_reading) {
		uv_read_stop((uv_stream_t *)&c->pipe);
		c->is_reading = false;
	}
	time_partial(c);
}

static BN_ON_LOOP void close_parts(struct bn_connections *g);

static void on_pipe_closed(uv_handle_t *handle)
{
	struct bn_connection *c = handle->data;
	struct bn_connections *g = c->group;

	bn_enter_loop();
	bn_rota_remove(&c->turn);
	bn_frame_finish(&c->frame);
	bn_outbox_finish(&c->out);
	free(c);
	g->n--;
	bn_metrics_set(g->metrics, BN_METRIC_CONNECTIONS, NULL, g->n);
	if (g->is_closing && g->n == 0) {
		close_parts(g);
	}
}

static BN_ON_LOOP void tell_closed(struct bn_connection *c)
{
	struct bn_connections *g = c->group;
	bool bad = c->reason == BN_CLOSE_FAULT || c->reason == BN_CLOSE_STALLED ||
		   c->reason == BN_CLOSE_PARTIAL || c->reason == BN_CLOSE_MEMORY;

	c->was_told = true;
	c->linger_until_ms = now_ms(g) + (c->reason == BN_CLOSE_SHUTDOWN ? g->grace_ms : LINGER_MS);
	need_sweep(g);
	g->in_flight -= c->in_flight;
	c->in_flight = 0;
	bn_metrics_add(g->metrics, BN_METRIC_CLOSED, close_words[c->reason], 1);
	bn_log_limited(&g->cut_limit, bad ? BN_LOG_INFO : BN_LOG_DEBUG,
		       "connection %" PRIu64 " of uid %" PRIu32 " (pid %" PRId32 ") ended: %s",
		       c->id, (uint32_t)c->peer.uid, (int32_t)c->peer.pid, close_words[c->reason]);
	if (g->hooks.on_closed != NULL) {
		g->hooks.on_closed(c, c->reason, g->hooks.who);
	}
}

/* The way out: tell the owner, let the queue run off if that makes sense, close. */
static BN_ON_LOOP void end(struct bn_connection *c)
{
	bool worth = c->reason == BN_CLOSE_DONE || c->reason == BN_CLOSE_FAULT ||
		     c->reason == BN_CLOSE_PARTIAL || c->reason == BN_CLOSE_REFUSED ||
		     c->reason == BN_CLOSE_SHUTDOWN;

	if (c->is_reading) {
		uv_read_stop((uv_stream_t *)&c->pipe);
		c->is_reading = false;
	}
	if (!c->was_told) {
		tell_closed(c);
	}
	if (worth && !c->is_hopeless) {
		flush(c);
		if (queued(c) > 0 && !c->is_hopeless) {
			return; /* on_written, on_gone or the sweep comes back here */
		}
	}
	if (c->turn.is_due) {
		return; /* marked again in this very pass: the next one ends it */
	}
	bn_hangup_forget(c->group->hangup, &c->watch);
	c->is_finished = true;
	uv_close((uv_handle_t *)&c->pipe, on_pipe_closed);
}

static void service(struct bn_rota_item *item)
{
	struct bn_connection *c = of_turn(item);

	bn_enter_loop();
	if (!c->is_closing) {
		pump(c);
		flush(c);
		update_pause(c);
		update_reading(c);
		if (bn_outbox_watch(&c->out, now_ms(c->group))) {
			need_sweep(c->group);
		}
		if (c->is_ended && !c->has_untaken) {
			if (bn_frame_pending(&c->frame) > 0) {
				struct bn_error err;

				bn_fail(&err, BN_E_PARSE, "the stream ended inside a message");
				cut(c, BN_CLOSE_FAULT, bn_frame_msgid(&c->frame), &err);
			} else if (c->in_flight == 0 && queued(c) == 0) {
				bn_connection_close(c, BN_CLOSE_DONE);
			}
		}
	}
	if (c->is_closing) {
		end(c);
	}
}

enum bn_status bn_connections_new(struct bn_connections **out, uv_loop_t *loop,
				  const struct bn_connection_limits *limits,
				  const struct bn_connection_hooks *hooks,
				  struct bn_metrics *metrics, struct bn_error *err)
{
	struct bn_connections *g = calloc(1, sizeof(*g));
	enum bn_status status;

	bn_assert(hooks->on_message != NULL);
	if (g == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for connections");
	}
	status = bn_hangup_open(&g->hangup, loop, err);
	if (status != BN_OK) {
		free(g);
		return status;
	}
	g->loop = loop;
	g->limits = *limits;
	g->hooks = *hooks;
	g->metrics = metrics;
	g->parts = GROUP_PARTS;
	g->cut_limit.interval_ns = UINT64_C(10000000000);
	g->cut_limit.burst = 20;
	bn_rota_init(&g->rota, loop, service, sweep);
	*out = g;
	return BN_OK;
}

void bn_connections_set_limits(struct bn_connections *g, const struct bn_connection_limits *limits)
{
	g->limits = *limits;
	for (struct bn_connection *c = first(g); c != NULL; c = after(c)) {
		mark(c);
	}
}

/* The last of the group's parts takes the group with it. */
static void one_less(void *who)
{
	struct bn_connections *g = who;
	void (*closed)(void *who) = g->closed;
	void *closed_who = g->closed_who;

	if (--g->parts > 0) {
		return;
	}
	free(g);
	if (closed != NULL) {
		closed(closed_who);
	}
}

static BN_ON_LOOP void close_parts(struct bn_connections *g)
{
	bn_rota_close(&g->rota, one_less, g);
	bn_hangup_close(g->hangup, one_less, g);
}

void bn_connections_close(struct bn_connections *g, uint64_t grace_ms, void (*closed)(void *who),
			  void *who)
{
	bn_assert(!g->is_closing);
	g->is_closing = true;
	g->grace_ms = grace_ms;
	g->closed = closed;
	g->closed_who = who;
	for (struct bn_connection *c = first(g); c != NULL; c = after(c)) {
		bn_connection_close(c, BN_CLOSE_SHUTDOWN);
	}
	if (g->n == 0) {
		close_parts(g);
	}
}

uint32_t bn_connections_count(const struct bn_connections *g)
{
	return g->n;
}

uint32_t bn_connections_count_uid(const struct bn_connections *g, uid_t uid)
{
	uint32_t n = 0;

	for (const struct bn_connection *c = first(g); c != NULL; c = after(c)) {
		n += c->peer.uid == uid;
	}
	return n;
}

uint64_t bn_connections_in_flight(const struct bn_connections *g)
{
	return g->in_flight;
}

void bn_connections_each(struct bn_connections *g, void (*fn)(struct bn_connection *c, void *who),
			 void *who)
{
	/* Closing only marks, so nobody leaves under us. */
	for (struct bn_connection *c = first(g); c != NULL; c = after(c)) {
		if (!c->is_closing) {
			fn(c, who);
		}
	}
}

void bn_connections_broadcast(struct bn_connections *g, const void *bytes, size_t n)
{
	for (struct bn_connection *c = first(g); c != NULL; c = after(c)) {
		queue(c, bytes, n);
	}
}

enum bn_status bn_connection_open(struct bn_connection **out, struct bn_connections *g, int fd,
				  const struct bn_peer *peer, struct bn_error *err)
{
	struct bn_connection *c = calloc(1, sizeof(*c));
	struct bn_frame_caps caps = BN_FRAME_CAPS;
	enum bn_status status;
	int rc;

	bn_assert(!g->is_closing);
	if (c == NULL) {
		close(fd);
		return bn_fail(err, BN_E_MEMORY, "no memory for a connection");
	}
	status = bn_hangup_watch(g->hangup, &c->watch, fd, on_gone, c, err);
	if (status != BN_OK) {
		close(fd);
		free(c);
		return status;
	}
	uv_pipe_init(g->loop, &c->pipe, 0);
	rc = uv_pipe_open(&c->pipe, fd);
	bn_outbox_init(&c->out, (uv_stream_t *)&c->pipe, fd, on_written, c);
	c->group = g;
	c->pipe.data = c;
	bn_rota_add(&g->rota, &c->turn);
	g->n++;
	if (rc != 0) {
		/* libuv knows the handle already, so the way out is the usual one, unheard. */
		bn_hangup_forget(g->hangup, &c->watch);
		c->is_finished = true;
		close(fd);
		uv_close((uv_handle_t *)&c->pipe, on_pipe_closed);
		return bn_fail(err, BN_E_IO, "a connection cannot be watched: %s", uv_strerror(rc));
	}
	if (g->limits.message < caps.message_bytes) {
		caps.message_bytes = g->limits.message;
	}
	bn_frame_init(&c->frame, caps);
	c->peer = *peer;
	c->id = ++g->last_id;
	bn_metrics_add(g->metrics, BN_METRIC_CONNECTIONS_TOTAL, NULL, 1);
	bn_metrics_set(g->metrics, BN_METRIC_CONNECTIONS, NULL, g->n);
	mark(c);
	*out = c;
	return BN_OK;
}

void bn_connection_send(struct bn_connection *c, const void *bytes, size_t n)
{
	queue(c, bytes, n);
}

void bn_connection_respond(struct bn_connection *c, const void *bytes, size_t n)
{
	if (c->is_closing) {
		return;
	}
	bn_assert(c->in_flight > 0);
	c->in_flight--;
	c->group->in_flight--;
	queue(c, bytes, n);
	mark(c);
}

void bn_connection_respond_error(struct bn_connection *c, uint32_t msgid,
				 const struct bn_error *error)
{
	struct bn_pack pack;

	bn_pack_init(&pack);
	if (bn_message_error(&pack, msgid, error, NULL) == BN_OK) {
		bn_connection_respond(c, pack.data, pack.used);
	} else {
		bn_connection_close(c, BN_CLOSE_MEMORY);
	}
	bn_pack_finish(&pack);
}

bool bn_connection_is_closing(const struct bn_connection *c)
{
	return c->is_closing;
}

bool bn_connection_is_paused(const struct bn_connection *c)
{
	return c->is_paused;
}

const struct bn_peer *bn_connection_peer(const struct bn_connection *c)
{
	return &c->peer;
}

uint64_t bn_connection_id(const struct bn_connection *c)
{
	return c->id;
}

uint32_t bn_connection_in_flight(const struct bn_connection *c)
{
	return c->in_flight;
}

size_t bn_connection_queued(const struct bn_connection *c)
{
	return queued(c);
}

void bn_connection_set_data(struct bn_connection *c, void *data)
{
	c->data = data;
}

void *bn_connection_data(const struct bn_connection *c)
{
	return c->data;
}
