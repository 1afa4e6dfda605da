#include "tests/daemon/wire.h"

#include "daemon/log.h"
#include "tests/daemon/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	TURNS_MOST = 20000,
	MINUTE_MS = 60000,
	GRACE_MS = 100,
	INBOX_MOST = 1000000,
	BLOCK_BYTES = 1024, /* what wire_fill sends at a time */
	BLOCKS_A_TURN = 8,
	FILL_MOST = 8 << 20,
};

const struct bn_connection_limits wire_limits = { .in_flight = 4,
						  .message = 65536,
						  .output_soft = 16384,
						  .output_hard = 65536,
						  .stall_timeout_ms = 200,
						  .stall_rate = 1024,
						  .message_timeout_ms = 200 };

void wire_respond(struct wire *w, struct bn_connection *c, uint32_t msgid)
{
	struct bn_pack p;
	char *filler = calloc(1, w->reply + 1);

	assert_non_null(filler);
	memset(filler, 'r', w->reply);
	bn_pack_init(&p);
	bn_message_result_begin(&p, msgid);
	bn_pack_str(&p, NULL, filler);
	assert_int_equal(bn_message_result_end(&p, NULL), BN_OK);
	bn_connection_respond(c, p.data, p.used);
	bn_pack_finish(&p);
	free(filler);
}

static void on_message(struct bn_connection *c, const struct bn_message *m, void *who)
{
	struct wire *w = who;

	if (m->kind == BN_MESSAGE_NOTIFICATION) {
		w->notifications++;
		return;
	}
	w->calls++;
	w->last_msgid = m->msgid;
	if (w->close_first) {
		int before = w->closed;

		bn_connection_close(c, BN_CLOSE_REFUSED);
		assert_int_equal(w->closed, before); /* never from inside a call */
	}
	if (!w->keep) {
		wire_respond(w, c, m->msgid);
	}
}

static void on_pause(struct bn_connection *c, bool pause, void *who)
{
	struct wire *w = who;

	assert_int_equal(bn_connection_is_paused(c), pause);
	w->pauses += pause;
	w->resumes += !pause;
}

static void on_closed(struct bn_connection *c, enum bn_close reason, void *who)
{
	struct wire *w = who;

	assert_true(bn_connection_is_closing(c));
	w->closed++;
	w->reason = reason;
	bn_connection_send(c, "dropped", 7); /* allowed, does nothing */
}

void wire_regroup(struct wire *w)
{
	const struct bn_connection_hooks hooks = { on_message, on_pause, on_closed, w };

	assert_int_equal(
		bn_connections_new(&w->group, &w->loop, &wire_limits, &hooks, w->metrics, NULL),
		BN_OK);
}

int wire_up(void **state)
{
	struct wire *w = calloc(1, sizeof(*w));

	bn_log_set_level(BN_LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(w);
	*state = w;
	bn_frame_init(&w->inbox, BN_FRAME_CAPS);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	assert_int_equal(bn_metrics_new(&w->metrics, NULL), BN_OK);
	wire_regroup(w);
	return 0;
}

static void set_flag(void *who)
{
	*(int *)who = 1;
}

int wire_down(void **state)
{
	struct wire *w = *state;
	int ended = 0;

	bn_connections_close(w->group, GRACE_MS, set_flag, &ended);
	wire_ms_until(w, &ended, 1);
	wire_turn(w, 1);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	bn_metrics_free(w->metrics);
	bn_frame_finish(&w->inbox);
	free(w);
	return 0;
}

void wire_turn(struct wire *w, int times)
{
	while (times-- > 0) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
	}
}

void wire_pass(struct wire *w, uint64_t ms)
{
	clock_pass(&w->loop, ms);
}

bool wire_until(struct wire *w, const int *counter, int want)
{
	for (int i = 0; *counter < want && i < TURNS_MOST; i++) {
		wire_turn(w, 1);
	}
	return *counter >= want;
}

uint64_t wire_ms_until(struct wire *w, const int *counter, int want)
{
	uint64_t start = clock_now();

	while (*counter < want) {
		assert_true(clock_now() - start < MINUTE_MS);
		wire_pass(w, 1);
	}
	return clock_now() - start;
}

int wire_connect(struct wire *w, struct bn_connection **c)
{
	struct bn_peer peer = { .uid = 1000, .gid = 1000, .pid = 7, .rights = BN_MAY_ALL };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	assert_int_equal(bn_connection_open(c, w->group, pair[0], &peer, NULL), BN_OK);
	return pair[1];
}

void wire_put_call(unsigned char out[WIRE_CALL_BYTES], uint32_t msgid)
{
	memcpy(out, "\x94\x00\xce\0\0\0\0\xa4ping\x90", WIRE_CALL_BYTES);
	out[3] = (unsigned char)(msgid >> 24);
	out[4] = (unsigned char)(msgid >> 16);
	out[5] = (unsigned char)(msgid >> 8);
	out[6] = (unsigned char)msgid;
}

void wire_send_calls(int fd, uint32_t from, uint32_t n)
{
	unsigned char bytes[WIRE_CALL_BYTES];

	for (uint32_t i = 0; i < n; i++) {
		wire_put_call(bytes, from + i);
		assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	}
}

ssize_t wire_slurp(struct wire *w, int fd)
{
	ssize_t n;

	do {
		unsigned char *space;
		size_t room;

		assert_int_equal(bn_frame_space(&w->inbox, &space, &room, NULL), BN_OK);
		n = read(fd, space, room);
		if (n > 0) {
			bn_frame_commit(&w->inbox, (size_t)n);
		}
	} while (n > 0 && bn_frame_pending(&w->inbox) < INBOX_MOST);
	return n;
}

bool wire_next(struct wire *w, struct bn_message *m)
{
	struct bn_frame_message raw;

	assert_int_equal(bn_frame_next(&w->inbox, &raw, NULL), BN_OK);
	if (raw.bytes == NULL) {
		return false;
	}
	assert_int_equal(bn_message_open(m, raw.bytes, raw.n, NULL), BN_OK);
	return true;
}

void wire_last_words(struct wire *w, int fd, enum bn_close reason, struct bn_message *m)
{
	assert_true(wire_until(w, &w->closed, 1));
	assert_int_equal(w->reason, reason);
	wire_turn(w, 3);
	wire_slurp(w, fd);
	assert_true(wire_next(w, m));
	assert_int_equal(m->kind, BN_MESSAGE_RESPONSE);
}

size_t wire_fill(struct wire *w, struct bn_connection *c)
{
	static const char block[BLOCK_BYTES] = { 0 };
	size_t sent = 0;

	wire_turn(w, 2);
	while (w->pauses == 0) {
		for (int i = 0; i < BLOCKS_A_TURN; i++) {
			bn_connection_send(c, block, sizeof(block));
			sent += sizeof(block);
		}
		wire_turn(w, 3);
		assert_true(sent < FILL_MOST);
	}
	return sent;
}
