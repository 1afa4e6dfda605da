/* The ways a connection ends: it leaves, dies, is closed from above, or the daemon stops. */
#include "daemon/connection.h"

#include "tests/daemon/wire.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void connection_half_closed_gets_its_answers_and_then_the_end(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_message m;
	int fd = wire_connect(w, &c);

	w->keep = true;
	wire_send_calls(fd, 1, 6); /* two more than the cap: they wait in the frame */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(wire_until(w, &w->calls, 4));
	wire_pass(w, 3000); /* no clock runs against who only waits */
	assert_int_equal(w->closed, 0);
	for (uint32_t i = 1; i <= 6; i++) {
		wire_respond(w, c, i);
		wire_turn(w, 5);
	}
	assert_true(wire_until(w, &w->closed, 1));
	assert_int_equal(w->reason, BN_CLOSE_DONE);
	wire_turn(w, 3);
	assert_int_equal(wire_slurp(w, fd), 0); /* all of it, and then the end of file */
	for (uint32_t i = 1; i <= 6; i++) {
		assert_true(wire_next(w, &m));
		assert_int_equal(m.msgid, i);
	}
	close(fd);
}

static void connection_half_closed_and_then_dead_is_noticed(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->keep = true;
	wire_send_calls(fd, 1, 1);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(wire_until(w, &w->calls, 1));
	wire_turn(w, 20);
	assert_int_equal(w->closed, 0);
	close(fd);
	wire_turn(w, 3);
	assert_int_equal(w->closed, 1);
	assert_int_equal(w->reason, BN_CLOSE_GONE);
}

static void connection_half_closed_inside_a_message_is_a_fault(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_message m;
	int fd = wire_connect(w, &c);

	assert_int_equal(write(fd, "\x94\x00\x05", 3), 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	wire_last_words(w, fd, BN_CLOSE_FAULT, &m);
	assert_int_equal(m.msgid, 5);
	close(fd);
}

static void connection_closed_from_inside_its_hook_ends_once_and_later(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->close_first = true;
	wire_send_calls(fd, 1, 3);
	assert_true(wire_until(w, &w->closed, 1));
	wire_turn(w, 5);
	assert_int_equal(w->calls, 1); /* nothing is delivered after the close */
	assert_int_equal(w->closed, 1);
	assert_int_equal(w->reason, BN_CLOSE_REFUSED);
	assert_int_equal(bn_connections_in_flight(w->group), 0);
	close(fd);
}

static void set_flag(void *who)
{
	*(int *)who = 1;
}

static void connection_shutdown_delivers_what_is_queued(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	char sink[65536];
	int fd = wire_connect(w, &c);
	int ended = 0;
	size_t got = 0,
	       sent = wire_fill(w, c); /* the kernel's buffer is full, 16 KiB are with us */
	ssize_t n;

	bn_connections_close(w->group, 1000, set_flag, &ended);
	wire_turn(w, 3);
	assert_int_equal(w->closed, 1);
	assert_int_equal(w->reason, BN_CLOSE_SHUTDOWN);
	do {
		n = read(fd, sink, sizeof(sink));
		got += n > 0 ? (size_t)n : 0;
		wire_turn(w, 1);
	} while (n != 0);
	assert_int_equal(got, sent); /* nothing torn, nothing lost */
	assert_true(wire_until(w, &ended, 1));
	close(fd);
	wire_regroup(w);
}

static void connection_shutdown_does_not_wait_for_those_who_do_not_read(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);
	int ended = 0;

	wire_fill(w, c);
	bn_connections_close(w->group, 100, set_flag, &ended);
	assert_in_range(wire_ms_until(w, &ended, 1), 100, 100 + 25 + 1);
	close(fd);
	wire_regroup(w);
}

/* kill -9 while idle, with calls open, mid-message, and with unread output. */
static void connection_survives_peers_killed_in_every_phase(void **state)
{
	struct wire *w = *state;

	for (int phase = 0; phase < 40; phase++) {
		struct bn_connection *c;
		int fd = wire_connect(w, &c);
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			unsigned char bytes[WIRE_CALL_BYTES];

			for (uint32_t i = 0; i < (uint32_t)phase % 4; i++) {
				wire_put_call(bytes, i);
				if (write(fd, bytes, sizeof(bytes)) != sizeof(bytes)) {
					_exit(1);
				}
			}
			if (phase % 3 == 0 && write(fd, "\x94\x00", 2) != 2) {
				_exit(1);
			}
			raise(SIGKILL);
		}
		close(fd);
		w->keep = phase % 2 == 0;
		w->closed = 0;
		waitpid(child, &status, 0);
		assert_true(WIFSIGNALED(status));
		assert_true(wire_until(w, &w->closed, 1));
		wire_turn(w, 3);
		assert_int_equal(bn_connections_count(w->group), 0);
		assert_int_equal(bn_connections_in_flight(w->group), 0);
	}
}

/* Random sizes of writes, random answers and closes: every connection ends exactly once. */
static void connection_random_walk_ends_everybody_once(void **state)
{
	struct wire *w = *state;
	int opened = 0;

	srand(11);
	for (int round = 0; round < 300; round++) {
		struct bn_connection *c;
		unsigned char bytes[8 * WIRE_CALL_BYTES];
		int fd = wire_connect(w, &c);
		size_t n = 0, at = 0;

		opened++;
		w->keep = rand() % 3 == 0;
		w->close_first = rand() % 7 == 0;
		w->reply = (size_t)(rand() % 3) * 20000;
		for (int i = 0; i < 8; i++) {
			wire_put_call(bytes + n, (uint32_t)i);
			n += WIRE_CALL_BYTES;
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
			wire_turn(w, rand() % 3);
			if (rand() % 20 == 0) {
				break;
			}
		}
		if (rand() % 3 == 0) {
			shutdown(fd, SHUT_WR);
			wire_turn(w, rand() % 3);
		}
		close(fd);
		wire_turn(w, rand() % 3);
	}
	assert_true(wire_until(w, &w->closed, opened));
	wire_turn(w, 5);
	assert_int_equal(w->closed, opened);
	assert_int_equal(bn_connections_count(w->group), 0);
	assert_int_equal(bn_connections_in_flight(w->group), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WIRE_TEST(connection_half_closed_gets_its_answers_and_then_the_end),
		WIRE_TEST(connection_half_closed_and_then_dead_is_noticed),
		WIRE_TEST(connection_half_closed_inside_a_message_is_a_fault),
		WIRE_TEST(connection_closed_from_inside_its_hook_ends_once_and_later),
		WIRE_TEST(connection_shutdown_delivers_what_is_queued),
		WIRE_TEST(connection_shutdown_does_not_wait_for_those_who_do_not_read),
		WIRE_TEST(connection_survives_peers_killed_in_every_phase),
		WIRE_TEST(connection_random_walk_ends_everybody_once),
	};

	return cmocka_run_group_tests_name("daemon/connection_end", tests, NULL, NULL);
}
