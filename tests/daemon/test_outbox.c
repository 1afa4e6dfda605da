#include "daemon/outbox.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static uv_loop_t loop;
static uv_pipe_t pipe_end;
static struct bn_outbox out;
static int peer = -1;
static int written_count;
static bool written_failed;

static void on_written(void *who, bool failed)
{
	assert_ptr_equal(who, &out);
	written_count++;
	written_failed = failed;
}

static int open_all(void **state)
{
	int pair[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	written_count = 0;
	if (uv_loop_init(&loop) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0 ||
	    uv_pipe_init(&loop, &pipe_end, 0) != 0 || uv_pipe_open(&pipe_end, pair[0]) != 0) {
		return -1;
	}
	/* So much the kernel takes (twice that, as it counts), whatever the machine's default. */
	assert_int_equal(
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){ 100 * 1024 }, sizeof(int)), 0);
	peer = pair[1];
	bn_outbox_init(&out, (uv_stream_t *)&pipe_end, pair[0], on_written, &out);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	uv_close((uv_handle_t *)&pipe_end, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	bn_outbox_finish(&out);
	bn_outbox_finish(&out);
	if (peer >= 0) {
		close(peer);
	}
	return uv_loop_close(&loop);
}

static void turn(void)
{
	for (int i = 0; i < 3; i++) {
		uv_run(&loop, UV_RUN_NOWAIT);
	}
}

/* Puts n kilobytes in and offers them to the kernel. */
static void put_kib(int n)
{
	static const char kib[1024] = { 'k' };

	while (n-- > 0) {
		assert_true(bn_outbox_put(&out, kib, sizeof(kib)));
	}
	assert_true(bn_outbox_flush(&out));
}

/* Reads up to n bytes at the peer's end; returns how many there were. */
static size_t take(size_t n)
{
	char sink[65536];
	size_t got = 0;

	while (got < n) {
		size_t part = n - got < sizeof(sink) ? n - got : sizeof(sink);
		ssize_t r = read(peer, sink, part);

		if (r <= 0) {
			break;
		}
		got += (size_t)r;
	}
	return got;
}

static void outbox_many_puts_are_one_write(void **state)
{
	char text[64];

	(void)state;
	assert_true(bn_outbox_flush(&out)); /* nothing to do */
	assert_true(bn_outbox_put(&out, "a", 1));
	assert_true(bn_outbox_put(&out, NULL, 0));
	assert_true(bn_outbox_put(&out, "bc", 2));
	assert_int_equal(bn_outbox_queued(&out), 3);
	assert_true(bn_outbox_flush(&out));
	assert_int_equal(bn_outbox_queued(&out), 0); /* the kernel had room at once */
	assert_int_equal(read(peer, text, sizeof(text)), 3);
	assert_memory_equal(text, "abc", 3);
	turn();
	assert_int_equal(written_count, 1);
	assert_false(written_failed);
}

static void outbox_what_comes_during_a_write_goes_with_the_next(void **state)
{
	size_t total = 0;

	(void)state;
	put_kib(1000); /* more than the kernel takes */
	assert_true(bn_outbox_queued(&out) > 0);
	put_kib(10); /* waits: one write at a time */
	assert_int_equal(written_count, 0);
	while (written_count == 0) {
		total += take(65536);
		turn();
	}
	assert_int_equal(bn_outbox_queued(&out), 10 * 1024);
	assert_true(bn_outbox_flush(&out));
	for (int i = 0; i < 100; i++) {
		total += take(65536);
		turn();
	}
	assert_int_equal(total, 1010 * 1024);
	assert_int_equal(written_count, 2);
	assert_int_equal(bn_outbox_queued(&out), 0);
	/* A large buffer is not kept for ever. */
	assert_true(out.filling.room <= 16384 && out.leaving.room <= 16384);
}

static void outbox_to_a_peer_that_left_fails(void **state)
{
	(void)state;
	close(peer);
	peer = -1;
	assert_true(bn_outbox_put(&out, "x", 1));
	(void)bn_outbox_flush(&out);
	turn();
	assert_true(written_count == 1 && written_failed);
}

static void outbox_window_runs_only_while_something_waits(void **state)
{
	(void)state;
	assert_false(bn_outbox_watch(&out, 1000));
	put_kib(1);
	turn();
	assert_false(bn_outbox_watch(&out, 1000));
	assert_false(bn_outbox_is_stalled(&out, 999999, 10, 1));
	put_kib(1000);
	assert_true(bn_outbox_watch(&out, 1000));
	assert_true(bn_outbox_watch(&out, 1500)); /* does not begin again */
	assert_int_equal(out.window_ms, 1000);
	while (bn_outbox_queued(&out) > 0) {
		take(65536);
		turn();
	}
	assert_false(bn_outbox_watch(&out, 2000));
}

static void outbox_peer_that_takes_nothing_is_stalled_at_the_end_of_the_window(void **state)
{
	(void)state;
	put_kib(1000);
	assert_true(bn_outbox_watch(&out, 1000));
	assert_false(bn_outbox_is_stalled(&out, 10999, 10000, 1024));
	assert_true(bn_outbox_is_stalled(&out, 11000, 10000, 1024));
	assert_true(bn_outbox_is_stalled(&out, 11000, 10000, 0)); /* rate 0 still wants a byte */
}

/* What counts is what the peer reads, long before the kernel asks us for more. */
static void outbox_peer_that_reads_a_little_is_not_stalled(void **state)
{
	(void)state;
	put_kib(1000);
	assert_true(bn_outbox_watch(&out, 1000));
	for (uint64_t now = 11000; now < 60000; now += 10000) {
		assert_int_equal(take(40 * 1024), 40 * 1024); /* a fifth of the kernel's buffer */
		turn();
		assert_false(bn_outbox_is_stalled(&out, now, 10000, 1024));
		assert_int_equal(out.window_ms, now);
	}
	assert_true(bn_outbox_is_stalled(&out, 70000, 10000, 1024));
}

static void outbox_trickle_is_a_stall(void **state)
{
	(void)state;
	put_kib(1000);
	assert_true(bn_outbox_watch(&out, 1000));
	for (int i = 0; i < 10; i++) {
		assert_int_equal(take(1), 1);
		turn();
	}
	assert_true(bn_outbox_is_stalled(&out, 11000, 10000, 1024));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(outbox_many_puts_are_one_write),
		TEST(outbox_what_comes_during_a_write_goes_with_the_next),
		TEST(outbox_to_a_peer_that_left_fails),
		TEST(outbox_window_runs_only_while_something_waits),
		TEST(outbox_peer_that_takes_nothing_is_stalled_at_the_end_of_the_window),
		TEST(outbox_peer_that_reads_a_little_is_not_stalled),
		TEST(outbox_trickle_is_a_stall),
	};

	return cmocka_run_group_tests_name("daemon/outbox", tests, NULL, NULL);
}
