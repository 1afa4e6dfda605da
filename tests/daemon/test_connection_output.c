/* What waits for a peer that reads slowly, or not at all, and when it is cut for that. */
#include "daemon/connection.h"

#include "tests/daemon/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A burst of sends in one turn of the loop reaches the peer as one write: one read gets all. */
static void connection_gathers_a_burst_into_one_write(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char bytes[4096];
	int fd = wire_connect(w, &c);

	wire_turn(w, 2);
	for (int i = 0; i < 100; i++) {
		bn_connection_send(c, "\x93\x02\xa1t\x90", 5);
	}
	assert_int_equal(bn_connection_queued(c), 500);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), -1);
	wire_turn(w, 1);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 500);
	assert_int_equal(bn_connection_queued(c), 0);
	close(fd);
}

static void connection_pauses_a_producer_and_lets_it_go_on(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char sink[65536];
	int fd = wire_connect(w, &c);
	size_t got = 0, sent = wire_fill(w, c);

	assert_true(bn_connection_is_paused(c));
	assert_in_range(bn_connection_queued(c), wire_limits.output_soft, wire_limits.output_hard);
	/* Reading goes on pause too: a pipelining client that does not read is held back. */
	wire_send_calls(fd, 1, 1);
	wire_turn(w, 5);
	assert_int_equal(w->calls, 0);
	while (w->resumes == 0) {
		ssize_t n = read(fd, sink, sizeof(sink));

		got += n > 0 ? (size_t)n : 0;
		wire_turn(w, 2);
	}
	assert_false(bn_connection_is_paused(c));
	wire_turn(w, 5);
	assert_int_equal(w->calls, 1);
	assert_int_equal(w->pauses, 1);
	while (got < sent) {
		ssize_t n = read(fd, sink, sizeof(sink));

		got += n > 0 ? (size_t)n : 0;
		wire_turn(w, 1);
	}
	assert_int_equal(w->closed, 0);
	close(fd);
}

static void connection_that_does_not_read_is_cut_after_its_time(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	wire_fill(w, c);
	/* The window and an eighth of it: so often are the clocks looked at. */
	assert_in_range(wire_ms_until(w, &w->closed, 1), 200, 200 + 25);
	assert_int_equal(w->reason, BN_CLOSE_STALLED);
	close(fd);
}

static void connection_trickle_of_reads_does_not_save_it(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char byte;
	int fd = wire_connect(w, &c);
	uint64_t ms = 0;

	wire_fill(w, c);
	while (w->closed == 0) {
		assert_int_equal(read(fd, &byte, 1), 1);
		wire_pass(w, 10);
		ms += 10;
		assert_true(ms <= 2 * (200 + 25)); /* at most two windows */
	}
	assert_int_equal(w->reason, BN_CLOSE_STALLED);
	close(fd);
}

static void connection_slow_but_steady_reader_is_kept(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char sink[4096];
	int fd = wire_connect(w, &c);
	size_t left = wire_fill(w, c);

	/* 40 KiB/s are many windows of more than stall_rate. */
	while (left > 0) {
		ssize_t n = read(fd, sink, sizeof(sink));

		assert_true(n > 0);
		left -= (size_t)n;
		wire_pass(w, 100);
	}
	assert_int_equal(w->closed, 0);
	close(fd);
}

static void connection_over_the_hard_mark_is_cut_at_once(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char *block = calloc(1, 32768);
	int fd = wire_connect(w, &c);

	assert_non_null(block);
	wire_turn(w, 2);
	for (int i = 0; i < 64 && w->closed == 0; i++) {
		bn_connection_send(c, block, 32768);
		assert_true(bn_connection_queued(c) <= wire_limits.output_hard + 32768);
		wire_turn(w, 1);
	}
	assert_int_equal(w->closed, 1); /* and no time has passed */
	assert_int_equal(w->reason, BN_CLOSE_STALLED);
	free(block);
	close(fd);
}

/* The answers to calls `from` to from + n - 1 come, whole and in order. */
static void receive(struct wire *w, int fd, uint32_t from, uint32_t n)
{
	struct bn_message m;
	uint32_t got = 0;

	for (int i = 0; got < n && i < 20000; i++) {
		wire_turn(w, 2);
		wire_slurp(w, fd);
		while (wire_next(w, &m)) {
			assert_int_equal(m.msgid, from + got);
			assert_int_equal(m.result.n, w->reply);
			got++;
		}
	}
	assert_int_equal(got, n);
}

static void connection_takes_one_answer_larger_than_the_hard_mark(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->reply = 1000000;
	wire_send_calls(fd, 1, 1);
	receive(w, fd, 1, 1);
	assert_int_equal(w->closed, 0);
	close(fd);
}

/* Four answers of 100 KB to pipelined calls are six times the hard mark: the reader gets them. */
static void connection_pipelined_large_answers_are_no_stall(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->reply = 100000;
	wire_send_calls(fd, 0, 40);
	receive(w, fd, 0, 40);
	/* Also when they all finish in the same turn. */
	w->keep = true;
	wire_send_calls(fd, 100, 4);
	assert_true(wire_until(w, &w->calls, 44));
	for (uint32_t i = 100; i < 104; i++) {
		wire_respond(w, c, i);
	}
	receive(w, fd, 100, 4);
	assert_int_equal(w->closed, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WIRE_TEST(connection_gathers_a_burst_into_one_write),
		WIRE_TEST(connection_pauses_a_producer_and_lets_it_go_on),
		WIRE_TEST(connection_that_does_not_read_is_cut_after_its_time),
		WIRE_TEST(connection_trickle_of_reads_does_not_save_it),
		WIRE_TEST(connection_slow_but_steady_reader_is_kept),
		WIRE_TEST(connection_over_the_hard_mark_is_cut_at_once),
		WIRE_TEST(connection_takes_one_answer_larger_than_the_hard_mark),
		WIRE_TEST(connection_pipelined_large_answers_are_no_stall),
	};

	return cmocka_run_group_tests_name("daemon/connection_output", tests, NULL, NULL);
}
