/*
 * One end of a socket pair is a connection on a real loop, the other is driven by hand, well and
 * badly. A small protocol stands for methods.c: the hooks below count, answer or keep calls.
 */
#include "daemon/connection.h"

#include "daemon/log.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static uv_loop_t loop;
static struct bn_connections *group;
static struct bn_metrics *metrics;

/* What the hooks saw, over all connections of one test. */
static struct {
	int calls, notifications, pauses, resumes, closed;
	uint32_t last_msgid;
	enum bn_close reason;
	struct bn_connection *last;
	bool keep;        /* do not answer */
	size_t reply;     /* answer with this many extra bytes */
	bool close_first; /* close the connection from inside the hook */
} seen;

static void respond(struct bn_connection *c, uint32_t msgid)
{
	struct bn_pack p;
	char *filler = calloc(1, seen.reply + 1);

	memset(filler, 'r', seen.reply);
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
	assert_ptr_equal(who, &seen);
	seen.last = c;
	if (m->kind == BN_MESSAGE_NOTIFICATION) {
		seen.notifications++;
		return;
	}
	seen.calls++;
	seen.last_msgid = m->msgid;
	if (seen.close_first) {
		int before = seen.closed;

		bn_connection_close(c, BN_CLOSE_REFUSED);
		assert_int_equal(seen.closed, before); /* never from inside a call */
	}
	if (!seen.keep) {
		respond(c, m->msgid);
	}
}

static void on_pause(struct bn_connection *c, bool pause, void *who)
{
	(void)who;
	assert_int_equal(bn_connection_is_paused(c), pause);
	seen.pauses += pause;
	seen.resumes += !pause;
}

static void on_closed(struct bn_connection *c, enum bn_close reason, void *who)
{
	(void)who;
	assert_true(bn_connection_is_closing(c));
	seen.closed++;
	seen.reason = reason;
	bn_connection_send(c, "dropped", 7); /* allowed, does nothing */
}

static const struct bn_connection_hooks hooks = { on_message, on_pause, on_closed, &seen };
static const struct bn_connection_limits usual = { .in_flight = 4,
						   .message = 65536,
						   .output_soft = 16384,
						   .output_hard = 65536,
						   .stall_timeout_ms = 200,
						   .stall_rate = 1024,
						   .message_timeout_ms = 200 };

static int open_all(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	memset(&seen, 0, sizeof(seen));
	return uv_loop_init(&loop) != 0 || bn_metrics_new(&metrics, NULL) != BN_OK ||
	       bn_connections_new(&group, &loop, &usual, &hooks, metrics, NULL) != BN_OK;
}

static void set_flag(void *who)
{
	*(bool *)who = true;
}

/* Everything must end by itself, with nothing left on the loop. */
static int close_all(void **state)
{
	bool closed = false;

	(void)state;
	bn_connections_close(group, 100, set_flag, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	bn_metrics_free(metrics);
	return !closed || uv_loop_close(&loop) != 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void turn(int times)
{
	while (times-- > 0) {
		uv_run(&loop, UV_RUN_NOWAIT);
	}
}

/* Runs the loop for so long, or until the counter reaches `want`. */
static bool run_until(const int *counter, int want, uint64_t ms)
{
	uint64_t end = now_ms() + ms;

	while (*counter < want && now_ms() < end) {
		uv_run(&loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	return *counter >= want;
}

/* A connection; returns the peer's end, non-blocking. */
static int connect_peer(struct bn_connection **c)
{
	struct bn_peer peer = { .uid = 1000, .gid = 1000, .pid = 7, .rights = BN_MAY_ALL };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	assert_int_equal(bn_connection_open(c, group, pair[0], &peer, NULL), BN_OK);
	return pair[1];
}

/* [0, msgid, "ping", []] or, with msgid 0 and notify, [2, "tick", []]. */
static size_t put_call(unsigned char *out, uint32_t msgid)
{
	memcpy(out, "\x94\x00\xce\0\0\0\0\xa4ping\x90", 13);
	out[3] = (unsigned char)(msgid >> 24);
	out[4] = (unsigned char)(msgid >> 16);
	out[5] = (unsigned char)(msgid >> 8);
	out[6] = (unsigned char)msgid;
	return 13;
}

static void send_calls(int fd, uint32_t from, uint32_t n)
{
	unsigned char bytes[13];

	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(put_call(bytes, from + i), 13);
		assert_int_equal(write(fd, bytes, 13), 13);
	}
}

/* The peer's half of the conversation: messages that came, opened. */
static struct bn_frame inbox;

static int open_inbox(void **state)
{
	bn_frame_init(&inbox, BN_FRAME_CAPS);
	return open_all(state);
}

static int close_inbox(void **state)
{
	bn_frame_finish(&inbox);
	return close_all(state);
}

/* Reads what is there; returns read()'s last result (0: end of file). */
static ssize_t slurp(int fd)
{
	ssize_t n;

	do {
		unsigned char *space;
		size_t room;

		assert_int_equal(bn_frame_space(&inbox, &space, &room, NULL), BN_OK);
		n = read(fd, space, room);
		if (n > 0) {
			bn_frame_commit(&inbox, (size_t)n);
		}
	} while (n > 0 && bn_frame_pending(&inbox) < 1000000);
	return n;
}

/* The next message, or false. */
static bool next_message(struct bn_message *m)
{
	struct bn_frame_message raw;

	assert_int_equal(bn_frame_next(&inbox, &raw, NULL), BN_OK);
	return raw.bytes != NULL && bn_message_open(m, raw.bytes, raw.n, NULL) == BN_OK;
}

static void connection_answers_calls_in_order(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);

	(void)state;
	assert_int_equal(bn_connection_peer(c)->uid, 1000);
	assert_int_equal(bn_connection_id(c), 1);
	assert_null(bn_connection_data(c));
	bn_connection_set_data(c, &seen);
	assert_ptr_equal(bn_connection_data(c), &seen);
	send_calls(fd, 100, 3);
	assert_true(run_until(&seen.calls, 3, 2000));
	turn(3);
	slurp(fd);
	for (uint32_t i = 100; i < 103; i++) {
		assert_true(next_message(&m));
		assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
		assert_int_equal(m.msgid, i);
	}
	assert_false(next_message(&m));
	assert_int_equal(bn_connection_in_flight(c), 0);
	assert_int_equal(bn_connections_in_flight(group), 0);
	close(fd);
	assert_true(run_until(&seen.closed, 1, 2000));
	assert_int_equal(seen.reason, BN_CLOSE_DONE);
	turn(3);
	assert_int_equal(bn_connections_count(group), 0);
	assert_true(bn_metrics_get(metrics, BN_METRIC_CLOSED, "done") == 1);
	assert_true(bn_metrics_get(metrics, BN_METRIC_CONNECTIONS, NULL) == 0);
}

static void connection_understands_a_byte_at_a_time(void **state)
{
	struct bn_connection *c;
	unsigned char bytes[13];
	int fd = connect_peer(&c);

	(void)state;
	put_call(bytes, 9);
	for (int i = 0; i < 13; i++) {
		assert_int_equal(seen.calls, 0);
		assert_int_equal(write(fd, bytes + i, 1), 1);
		turn(3);
	}
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.last_msgid, 9);
	close(fd);
}

static void connection_passes_notifications_and_owes_nothing_for_them(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	for (int i = 0; i < 100; i++) { /* more than in_flight */
		assert_int_equal(write(fd, "\x93\x02\xa4tick\x90", 8), 8);
	}
	assert_true(run_until(&seen.notifications, 100, 2000));
	assert_int_equal(bn_connection_in_flight(c), 0);
	close(fd);
}

/* A burst of sends in one turn of the loop reaches the peer as one write: one read gets all. */
static void connection_gathers_a_burst_into_one_write(void **state)
{
	struct bn_connection *c;
	char bytes[4096];
	int fd = connect_peer(&c);

	(void)state;
	turn(2);
	for (int i = 0; i < 100; i++) {
		bn_connection_send(c, "\x93\x02\xa1t\x90", 5);
	}
	assert_int_equal(bn_connection_queued(c), 500);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), -1);
	turn(1);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 500);
	assert_int_equal(bn_connection_queued(c), 0);
	close(fd);
}

static void connection_stops_reading_at_its_cap_and_goes_on_after_an_answer(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	seen.keep = true;
	send_calls(fd, 1, 10);
	assert_true(run_until(&seen.calls, 4, 2000));
	turn(10);
	assert_int_equal(seen.calls, 4);
	assert_int_equal(bn_connection_in_flight(c), 4);
	assert_int_equal(bn_connections_in_flight(group), 4);
	for (uint32_t done = 1; done <= 6; done++) {
		respond(c, done);
		assert_true(run_until(&seen.calls, 4 + (int)done, 2000));
		turn(5);
		assert_int_equal(seen.calls, 4 + (int)done);
		assert_int_equal(bn_connection_in_flight(c), 4);
	}
	/* 300 ms at the cap: reading is our pause, not the peer's, so no clock runs. */
	assert_false(run_until(&seen.closed, 1, 300));
	close(fd);
}

/* The kernel holds the sender back: what we have not read fills its buffer and no more. */
static void connection_at_its_cap_lets_the_kernel_hold_the_sender_back(void **state)
{
	struct bn_connection *c;
	unsigned char bytes[13];
	int fd = connect_peer(&c);
	uint32_t sent = 0;

	(void)state;
	seen.keep = true;
	put_call(bytes, 1);
	for (;;) {
		while (write(fd, bytes, 13) == 13) {
			sent++;
			assert_true(sent < 100000);
		}
		turn(5);
		if (write(fd, bytes, 13) != 13) {
			break;
		}
		sent++;
	}
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(seen.calls, 4);
	/* And at the cap its death is noticed at once, though nobody reads. */
	close(fd);
	assert_true(run_until(&seen.closed, 1, 1000));
	assert_int_equal(seen.reason, BN_CLOSE_GONE);
	assert_int_equal(bn_connections_in_flight(group), 0);
}

static void connection_half_closed_gets_its_answers_and_then_the_end(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);

	(void)state;
	seen.keep = true;
	send_calls(fd, 1, 6); /* two more than the cap: they wait in the frame */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(run_until(&seen.calls, 4, 2000));
	assert_false(run_until(&seen.closed, 1, 300)); /* no clock runs against who only waits */
	for (uint32_t i = 1; i <= 6; i++) {
		respond(c, i);
		turn(5);
	}
	assert_true(run_until(&seen.closed, 1, 1000));
	assert_int_equal(seen.reason, BN_CLOSE_DONE);
	turn(3);
	assert_int_equal(slurp(fd), 0); /* all of it, and then the end of file */
	for (uint32_t i = 1; i <= 6; i++) {
		assert_true(next_message(&m));
		assert_int_equal(m.msgid, i);
	}
	close(fd);
}

static void connection_half_closed_and_then_dead_is_noticed(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	seen.keep = true;
	send_calls(fd, 1, 1);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(run_until(&seen.calls, 1, 2000));
	turn(20);
	assert_int_equal(seen.closed, 0);
	close(fd);
	turn(3);
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.reason, BN_CLOSE_GONE);
}

static void connection_half_closed_inside_a_message_is_a_fault(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);

	(void)state;
	assert_int_equal(write(fd, "\x94\x00\x05", 3), 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(run_until(&seen.closed, 1, 1000));
	assert_int_equal(seen.reason, BN_CLOSE_FAULT);
	turn(3);
	slurp(fd);
	assert_true(next_message(&m));
	assert_int_equal(m.msgid, 5);
	close(fd);
}

static void connection_answers_garbage_and_cuts(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		uint32_t msgid;
		int code;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 18, 0, -32600 },
		{ "\xc1", 1, 0, -32700 },
		{ "\x94\x00\x07\xa1x\xdd\xff\xff\xff\xff", 10, 7, 0 }, /* count bomb */
		{ "\x94\x00\x07\xc1", 4, 7, 0 },
		{ "\x94\x01\x08\xc0\xc0", 5, 8, -32600 },     /* a response */
		{ "\x94\x00\x09\xa1\xff\x90", 6, 9, -32700 }, /* not UTF-8 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_connection *c;
		struct bn_remote_error error;
		struct bn_message m;
		int fd = connect_peer(&c);

		seen.closed = 0;
		assert_int_equal(write(fd, cases[i].bytes, cases[i].n), (ssize_t)cases[i].n);
		assert_true(run_until(&seen.closed, 1, 1000));
		assert_int_equal(seen.reason, BN_CLOSE_FAULT);
		turn(3);
		slurp(fd);
		assert_true(next_message(&m));
		assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
		assert_int_equal(m.msgid, cases[i].msgid);
		assert_true(bn_message_read_error(&m, &error));
		if (cases[i].code != 0) {
			assert_int_equal(error.code, cases[i].code);
		}
		close(fd);
	}
	assert_int_equal(seen.calls, 0);
}

static void connection_answers_what_came_before_the_garbage(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);

	(void)state;
	send_calls(fd, 1, 2);
	assert_int_equal(write(fd, "garbage", 7), 7);
	assert_true(run_until(&seen.closed, 1, 1000));
	turn(3);
	slurp(fd);
	assert_true(next_message(&m) && m.msgid == 1);
	assert_true(next_message(&m) && m.msgid == 2);
	assert_true(next_message(&m) && m.msgid == 0);
	close(fd);
}

static void connection_message_that_does_not_end_is_cut_in_time(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	unsigned char bytes[13];
	int fd = connect_peer(&c);
	uint64_t start = now_ms();

	(void)state;
	put_call(bytes, 77);
	/* One byte each 40 ms: progress does not reset the clock of a message. */
	for (int i = 0; i < 12 && seen.closed == 0; i++) {
		assert_int_equal(write(fd, bytes + i, 1), 1);
		run_until(&seen.closed, 1, 40);
	}
	assert_true(run_until(&seen.closed, 1, 1000));
	assert_int_equal(seen.reason, BN_CLOSE_PARTIAL);
	assert_in_range(now_ms() - start, 200, 350);
	turn(3);
	slurp(fd);
	assert_true(next_message(&m));
	close(fd);
}

static void connection_idle_between_messages_is_never_cut(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	send_calls(fd, 1, 1);
	assert_true(run_until(&seen.calls, 1, 1000));
	assert_false(run_until(&seen.closed, 1, 600));
	send_calls(fd, 2, 1);
	assert_true(run_until(&seen.calls, 2, 1000));
	close(fd);
}

/* Fills the peer's kernel buffer and then our queue. */
static void stuff(struct bn_connection *c, size_t bytes)
{
	static const char block[1024] = { 0 };

	for (size_t i = 0; i < bytes / sizeof(block); i++) {
		bn_connection_send(c, block, sizeof(block));
		if (i % 8 == 7) {
			turn(1);
		}
	}
	turn(2);
}

static void connection_pauses_a_producer_and_lets_it_go_on(void **state)
{
	struct bn_connection *c;
	char sink[65536];
	int fd = connect_peer(&c);
	size_t got = 0, sent = 0;

	(void)state;
	turn(2);
	while (seen.pauses == 0) {
		stuff(c, 8192);
		sent += 8192;
		assert_true(sent < 8 << 20);
	}
	assert_true(bn_connection_is_paused(c));
	assert_in_range(bn_connection_queued(c), usual.output_soft, usual.output_hard);
	/* Reading goes on pause too: a pipelining client that does not read is held back. */
	send_calls(fd, 1, 1);
	turn(5);
	assert_int_equal(seen.calls, 0);
	while (seen.resumes == 0) {
		ssize_t n = read(fd, sink, sizeof(sink));

		got += n > 0 ? (size_t)n : 0;
		turn(2);
	}
	assert_false(bn_connection_is_paused(c));
	turn(5);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.pauses, 1);
	while (got < sent) {
		ssize_t n = read(fd, sink, sizeof(sink));

		got += n > 0 ? (size_t)n : 0;
		turn(1);
	}
	assert_int_equal(seen.closed, 0);
	close(fd);
}

static void connection_that_does_not_read_is_cut_after_its_time(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);
	uint64_t start;

	(void)state;
	turn(2);
	while (seen.pauses == 0) {
		stuff(c, 8192);
	}
	start = now_ms();
	assert_true(run_until(&seen.closed, 1, 2000));
	assert_int_equal(seen.reason, BN_CLOSE_STALLED);
	assert_in_range(now_ms() - start, 150, 400);
	close(fd);
}

static void connection_trickle_of_reads_does_not_save_it(void **state)
{
	struct bn_connection *c;
	char byte;
	int fd = connect_peer(&c);
	uint64_t start;

	(void)state;
	turn(2);
	while (seen.pauses == 0) {
		stuff(c, 8192);
	}
	start = now_ms();
	while (seen.closed == 0 && now_ms() - start < 2000) {
		assert_true(read(fd, &byte, 1) <= 1);
		run_until(&seen.closed, 1, 10);
	}
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.reason, BN_CLOSE_STALLED);
	assert_in_range(now_ms() - start, 150, 700); /* at most two windows */
	close(fd);
}

static void connection_slow_but_steady_reader_is_kept(void **state)
{
	struct bn_connection *c;
	char sink[4096];
	int fd = connect_peer(&c);
	uint64_t start;

	(void)state;
	turn(2);
	while (seen.pauses == 0) {
		stuff(c, 8192);
	}
	start = now_ms();
	while (now_ms() - start < 1000) { /* 5 windows; 400 KiB/s of its backlog, then all */
		assert_true(read(fd, sink, sizeof(sink)) <= (ssize_t)sizeof(sink));
		run_until(&seen.closed, 1, 10);
	}
	assert_int_equal(seen.closed, 0);
	close(fd);
}

static void connection_over_the_hard_mark_is_cut_at_once(void **state)
{
	struct bn_connection *c;
	char *block = calloc(1, 32768);
	int fd = connect_peer(&c);
	uint64_t start = now_ms();

	(void)state;
	turn(2);
	for (int i = 0; i < 64 && seen.closed == 0; i++) {
		bn_connection_send(c, block, 32768);
		assert_true(bn_connection_queued(c) <= usual.output_hard + 32768);
		turn(1);
	}
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.reason, BN_CLOSE_STALLED);
	assert_true(now_ms() - start < 150); /* did not wait for a clock */
	free(block);
	close(fd);
}

static void connection_takes_one_answer_larger_than_the_hard_mark(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);
	uint64_t end = now_ms() + 5000;
	bool whole = false;

	(void)state;
	seen.reply = 1000000;
	send_calls(fd, 1, 1);
	while (!whole && now_ms() < end) {
		turn(2);
		slurp(fd);
		whole = next_message(&m);
	}
	assert_true(whole);
	assert_int_equal(m.result.n, 1000000);
	assert_int_equal(seen.closed, 0);
	close(fd);
}

/* Four answers of 100 KB to pipelined calls are six times the hard mark: the reader gets them. */
static void connection_pipelined_large_answers_are_no_stall(void **state)
{
	struct bn_connection *c;
	struct bn_message m;
	int fd = connect_peer(&c);
	uint64_t end = now_ms() + 5000;
	uint32_t got = 0;

	(void)state;
	seen.reply = 100000;
	send_calls(fd, 0, 40);
	while (got < 40 && now_ms() < end) {
		turn(2);
		slurp(fd);
		while (next_message(&m)) {
			assert_int_equal(m.msgid, got);
			got++;
		}
	}
	assert_int_equal(got, 40);
	/* Also when they all finish in the same turn. */
	seen.keep = true;
	send_calls(fd, 100, 4);
	assert_true(run_until(&seen.calls, 44, 2000));
	for (uint32_t i = 100; i < 104; i++) {
		respond(c, i);
	}
	while (got < 44 && now_ms() < end) {
		turn(2);
		slurp(fd);
		while (next_message(&m)) {
			got++;
		}
	}
	assert_int_equal(got, 44);
	assert_int_equal(seen.closed, 0);
	close(fd);
}

static void connection_closed_from_inside_its_hook_ends_once_and_later(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	seen.close_first = true;
	send_calls(fd, 1, 3);
	assert_true(run_until(&seen.closed, 1, 1000));
	turn(5);
	assert_int_equal(seen.calls, 1); /* nothing is delivered after the close */
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.reason, BN_CLOSE_REFUSED);
	assert_int_equal(bn_connections_in_flight(group), 0);
	close(fd);
}

static void connection_shutdown_delivers_what_is_queued(void **state)
{
	struct bn_connection *c;
	char sink[65536];
	int fd = connect_peer(&c);
	bool closed = false;
	size_t got = 0;
	ssize_t n;

	(void)state;
	turn(2);
	while (seen.pauses == 0) { /* the kernel's buffer is full, 16 KiB wait with us */
		stuff(c, 8192);
	}
	bn_connections_close(group, 1000, set_flag, &closed);
	turn(3);
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.reason, BN_CLOSE_SHUTDOWN);
	do {
		n = read(fd, sink, sizeof(sink));
		got += n > 0 ? (size_t)n : 0;
		turn(1);
	} while (n != 0);
	assert_int_equal(got % 1024, 0); /* nothing torn, nothing lost */
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	close(fd);
	assert_int_equal(bn_connections_new(&group, &loop, &usual, &hooks, metrics, NULL), BN_OK);
}

static void connection_shutdown_does_not_wait_for_those_who_do_not_read(void **state)
{
	struct bn_connection *c;
	int fd = connect_peer(&c);
	bool closed = false;
	uint64_t start;

	(void)state;
	turn(2);
	while (seen.pauses == 0) {
		stuff(c, 8192);
	}
	start = now_ms();
	bn_connections_close(group, 100, set_flag, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_in_range(now_ms() - start, 90, 400);
	close(fd);
	assert_int_equal(bn_connections_new(&group, &loop, &usual, &hooks, metrics, NULL), BN_OK);
}

static void connection_broadcast_and_walk_reach_everybody(void **state)
{
	struct bn_connection *c[5];
	char text[8];
	int fd[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		fd[i] = connect_peer(&c[i]);
	}
	assert_int_equal(bn_connections_count(group), 5);
	assert_int_equal(bn_connections_count_uid(group, 1000), 5);
	assert_int_equal(bn_connections_count_uid(group, 1001), 0);
	bn_connections_broadcast(group, "bye", 3);
	turn(2);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(read(fd[i], text, sizeof(text)), 3);
		close(fd[i]);
	}
	assert_true(run_until(&seen.closed, 5, 1000));
}

static void connection_new_limits_hold_for_open_ones(void **state)
{
	struct bn_connection_limits wider = usual;
	struct bn_connection *c;
	int fd = connect_peer(&c);

	(void)state;
	seen.keep = true;
	send_calls(fd, 1, 10);
	assert_true(run_until(&seen.calls, 4, 1000));
	turn(5);
	assert_int_equal(seen.calls, 4);
	wider.in_flight = 8;
	bn_connections_set_limits(group, &wider);
	assert_true(run_until(&seen.calls, 8, 1000));
	turn(5);
	assert_int_equal(seen.calls, 8);
	close(fd);
}

/* kill -9 while idle, with calls open, mid-message, and with unread output. */
static void connection_survives_peers_killed_in_every_phase(void **state)
{
	(void)state;
	for (int phase = 0; phase < 40; phase++) {
		struct bn_connection *c;
		int fd = connect_peer(&c);
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			unsigned char bytes[13];

			for (uint32_t i = 0; i < (uint32_t)phase % 4; i++) {
				put_call(bytes, i);
				if (write(fd, bytes, 13) != 13) {
					_exit(1);
				}
			}
			if (phase % 3 == 0 && write(fd, "\x94\x00", 2) != 2) {
				_exit(1);
			}
			raise(SIGKILL);
		}
		close(fd);
		seen.keep = phase % 2 == 0;
		seen.closed = 0;
		waitpid(child, &status, 0);
		assert_true(WIFSIGNALED(status));
		assert_true(run_until(&seen.closed, 1, 1000));
		turn(3);
		assert_int_equal(bn_connections_count(group), 0);
		assert_int_equal(bn_connections_in_flight(group), 0);
	}
}

static long resident_kib(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long pages = 0;

	assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* L1: a thousand idle peers that have said something cost at most 16 KiB each. */
static void connection_idle_thousand_is_cheap(void **state)
{
	enum { N = 1000 };
	static int fd[N];
	struct rlimit files = { 0 };
	long before;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2 * N + 50) {
		skip();
	}
	before = resident_kib();
	for (int i = 0; i < N; i++) {
		struct bn_connection *c;

		fd[i] = connect_peer(&c);
		send_calls(fd[i], 1, 1);
	}
	assert_true(run_until(&seen.calls, N, 20000));
	turn(5);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	before += resident_kib(); /* sanitizers have memory of their own */
#endif
	assert_true(resident_kib() - before <= 16 * N);
	for (int i = 0; i < N; i++) {
		close(fd[i]);
	}
	assert_true(run_until(&seen.closed, N, 20000));
	turn(5);
	assert_int_equal(bn_connections_count(group), 0);
}

/* L6 in small: pipelined calls, none lost, none out of order. */
static void connection_pipelined_calls_all_come_back_in_order(void **state)
{
	enum { N = 50000, WINDOW = 64 };
	struct bn_connection *c;
	struct bn_message m;
	unsigned char bytes[13];
	int fd = connect_peer(&c);
	uint32_t sent = 0, got = 0;

	(void)state;
	while (got < N) {
		while (sent < N && sent - got < WINDOW) {
			put_call(bytes, sent);
			assert_int_equal(write(fd, bytes, 13), 13);
			sent++;
		}
		turn(2);
		slurp(fd);
		while (next_message(&m)) {
			assert_int_equal(m.msgid, got);
			got++;
		}
	}
	assert_int_equal(seen.closed, 0);
	close(fd);
}

/* Random sizes of writes, random answers and closes: every connection ends exactly once. */
static void connection_random_walk_ends_everybody_once(void **state)
{
	int opened = 0;

	(void)state;
	srand(11);
	for (int round = 0; round < 300; round++) {
		struct bn_connection *c;
		unsigned char bytes[13 * 8];
		int fd = connect_peer(&c);
		size_t n = 0, at = 0;

		opened++;
		seen.keep = rand() % 3 == 0;
		seen.close_first = rand() % 7 == 0;
		seen.reply = (size_t)(rand() % 3) * 20000;
		for (int i = 0; i < 8; i++) {
			n += put_call(bytes + n, (uint32_t)i);
		}
		if (rand() % 4 == 0) {
			bytes[(size_t)rand() % n] ^= (unsigned char)(1 << rand() % 8);
		}
		while (at < n) {
			size_t part = (size_t)rand() % (n - at) + 1;
			ssize_t put = write(fd, bytes + at, part);

			if (put <= 0) {
				break;
			}
			at += (size_t)put;
			turn(rand() % 3);
			if (rand() % 20 == 0) {
				break;
			}
		}
		if (rand() % 3 == 0) {
			shutdown(fd, SHUT_WR);
			turn(rand() % 3);
		}
		close(fd);
		turn(rand() % 3);
	}
	assert_true(run_until(&seen.closed, opened, 5000));
	turn(5);
	assert_int_equal(seen.closed, opened);
	assert_int_equal(bn_connections_count(group), 0);
	assert_int_equal(bn_connections_in_flight(group), 0);
}

static void connection_limits_come_from_the_configuration(void **state)
{
	static const char text[] = "limits: {in_flight: 3, message: 8KiB, output_soft: 5KiB, "
				   "output_hard: 6KiB, stall_timeout: 7s, stall_rate: 8, "
				   "message_timeout: 9s}\n";
	struct bn_yaml_report report;
	struct bn_config *config;
	struct bn_connection_limits limits;

	(void)state;
	assert_int_equal(bn_config_parse(&config, "x", text, strlen(text), &report, NULL), BN_OK);
	limits = bn_connection_limits_of(config);
	assert_int_equal(limits.in_flight, 3);
	assert_int_equal(limits.message, 8192);
	assert_int_equal(limits.output_soft, 5120);
	assert_int_equal(limits.output_hard, 6144);
	assert_int_equal(limits.stall_timeout_ms, 7000);
	assert_int_equal(limits.stall_rate, 8);
	assert_int_equal(limits.message_timeout_ms, 9000);
	assert_string_equal(bn_close_word(BN_CLOSE_STALLED), "stalled");
	bn_config_free(config);
}

static void connection_message_over_the_limit_is_a_fault(void **state)
{
	struct bn_connection *c;
	struct bn_remote_error error;
	struct bn_message m;
	int fd = connect_peer(&c);

	(void)state;
	/* [0, 3, "x", [bin of 1 MiB]] with a limit of 64 KiB: refused at the header. */
	assert_int_equal(write(fd, "\x94\x00\x03\xa1x\x91\xc6\x00\x10\x00\x00", 11), 11);
	assert_true(run_until(&seen.closed, 1, 1000));
	assert_int_equal(seen.reason, BN_CLOSE_FAULT);
	turn(3);
	slurp(fd);
	assert_true(next_message(&m));
	assert_int_equal(m.msgid, 3);
	assert_true(bn_message_read_error(&m, &error));
	assert_int_equal(error.status, BN_E_TOO_LARGE);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_inbox, close_inbox)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connection_answers_calls_in_order),
		TEST(connection_understands_a_byte_at_a_time),
		TEST(connection_passes_notifications_and_owes_nothing_for_them),
		TEST(connection_gathers_a_burst_into_one_write),
		TEST(connection_stops_reading_at_its_cap_and_goes_on_after_an_answer),
		TEST(connection_at_its_cap_lets_the_kernel_hold_the_sender_back),
		TEST(connection_half_closed_gets_its_answers_and_then_the_end),
		TEST(connection_half_closed_and_then_dead_is_noticed),
		TEST(connection_half_closed_inside_a_message_is_a_fault),
		TEST(connection_answers_garbage_and_cuts),
		TEST(connection_answers_what_came_before_the_garbage),
		TEST(connection_message_that_does_not_end_is_cut_in_time),
		TEST(connection_idle_between_messages_is_never_cut),
		TEST(connection_pauses_a_producer_and_lets_it_go_on),
		TEST(connection_that_does_not_read_is_cut_after_its_time),
		TEST(connection_trickle_of_reads_does_not_save_it),
		TEST(connection_slow_but_steady_reader_is_kept),
		TEST(connection_over_the_hard_mark_is_cut_at_once),
		TEST(connection_takes_one_answer_larger_than_the_hard_mark),
		TEST(connection_pipelined_large_answers_are_no_stall),
		TEST(connection_closed_from_inside_its_hook_ends_once_and_later),
		TEST(connection_shutdown_delivers_what_is_queued),
		TEST(connection_shutdown_does_not_wait_for_those_who_do_not_read),
		TEST(connection_broadcast_and_walk_reach_everybody),
		TEST(connection_new_limits_hold_for_open_ones),
		TEST(connection_survives_peers_killed_in_every_phase),
		TEST(connection_idle_thousand_is_cheap),
		TEST(connection_pipelined_calls_all_come_back_in_order),
		TEST(connection_random_walk_ends_everybody_once),
		TEST(connection_message_over_the_limit_is_a_fault),
		cmocka_unit_test(connection_limits_come_from_the_configuration),
	};

	bn_log_set_level(BN_LOG_ERROR);
	return cmocka_run_group_tests_name("daemon/connection", tests, NULL, NULL);
}
