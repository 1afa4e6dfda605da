/* What a peer may send, how much of it at a time, and what becomes of one that sends badly. */
#include "daemon/connection.h"

#include "tests/daemon/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static void connection_stops_reading_at_its_cap_and_goes_on_after_an_answer(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->keep = true;
	wire_send_calls(fd, 1, 10);
	assert_true(wire_until(w, &w->calls, 4));
	wire_turn(w, 10);
	assert_int_equal(w->calls, 4);
	assert_int_equal(bn_connection_in_flight(c), 4);
	assert_int_equal(bn_connections_in_flight(w->group), 4);
	for (uint32_t done = 1; done <= 6; done++) {
		wire_respond(w, c, done);
		assert_true(wire_until(w, &w->calls, 4 + (int)done));
		wire_turn(w, 5);
		assert_int_equal(w->calls, 4 + (int)done);
		assert_int_equal(bn_connection_in_flight(c), 4);
	}
	/* Reading is our pause, not the peer's, so no clock runs. */
	wire_pass(w, 3000);
	assert_int_equal(w->closed, 0);
	close(fd);
}

/* The kernel holds the sender back: what we have not read fills its buffer and no more. */
static void connection_at_its_cap_lets_the_kernel_hold_the_sender_back(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	unsigned char bytes[13];
	int fd = wire_connect(w, &c);
	uint32_t sent = 0;

	w->keep = true;
	wire_put_call(bytes, 1);
	for (;;) {
		while (write(fd, bytes, 13) == 13) {
			sent++;
			assert_true(sent < 100000);
		}
		wire_turn(w, 5);
		if (write(fd, bytes, 13) != 13) {
			break;
		}
		sent++;
	}
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(w->calls, 4);
	/* And at the cap its death is noticed at once, though nobody reads. */
	close(fd);
	assert_true(wire_until(w, &w->closed, 1));
	assert_int_equal(w->reason, BN_CLOSE_GONE);
	assert_int_equal(bn_connections_in_flight(w->group), 0);
}

static void connection_answers_garbage_and_cuts(void **state)
{
	struct wire *w = *state;
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

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_connection *c;
		struct bn_remote_error error;
		struct bn_message m;
		int fd = wire_connect(w, &c);

		w->closed = 0;
		assert_int_equal(write(fd, cases[i].bytes, cases[i].n), (ssize_t)cases[i].n);
		wire_last_words(w, fd, BN_CLOSE_FAULT, &m);
		assert_int_equal(m.msgid, cases[i].msgid);
		assert_true(bn_message_read_error(&m, &error));
		if (cases[i].code != 0) {
			assert_int_equal(error.code, cases[i].code);
		}
		close(fd);
	}
	assert_int_equal(w->calls, 0);
}

static void connection_answers_what_came_before_the_garbage(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_message m;
	int fd = wire_connect(w, &c);

	wire_send_calls(fd, 1, 2);
	assert_int_equal(write(fd, "garbage", 7), 7);
	assert_true(wire_until(w, &w->closed, 1));
	wire_turn(w, 3);
	wire_slurp(w, fd);
	assert_true(wire_next(w, &m) && m.msgid == 1);
	assert_true(wire_next(w, &m) && m.msgid == 2);
	assert_true(wire_next(w, &m) && m.msgid == 0);
	close(fd);
}

static void connection_message_that_does_not_end_is_cut_in_time(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_message m;
	unsigned char bytes[13];
	int fd = wire_connect(w, &c);
	uint64_t ms = 0;

	wire_put_call(bytes, 77);
	/* One byte each 40 ms: progress does not reset the clock of a message. */
	while (w->closed == 0) {
		if (ms % 40 == 0) {
			assert_in_range(ms / 40, 0, 11);
			assert_int_equal(write(fd, bytes + ms / 40, 1), 1);
		}
		wire_pass(w, 1);
		ms++;
	}
	/* One eighth more: so often are the clocks looked at. */
	assert_in_range(ms, 200, 200 + 25 + 1);
	wire_last_words(w, fd, BN_CLOSE_PARTIAL, &m);
	close(fd);
}

static void connection_idle_between_messages_is_never_cut(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	wire_send_calls(fd, 1, 1);
	assert_true(wire_until(w, &w->calls, 1));
	wire_pass(w, 3000);
	assert_int_equal(w->closed, 0);
	wire_send_calls(fd, 2, 1);
	assert_true(wire_until(w, &w->calls, 2));
	close(fd);
}

static void connection_message_over_the_limit_is_a_fault(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_remote_error error;
	struct bn_message m;
	int fd = wire_connect(w, &c);

	/* [0, 3, "x", [bin of 1 MiB]] with a limit of 64 KiB: refused at the header. */
	assert_int_equal(write(fd, "\x94\x00\x03\xa1x\x91\xc6\x00\x10\x00\x00", 11), 11);
	wire_last_words(w, fd, BN_CLOSE_FAULT, &m);
	assert_int_equal(m.msgid, 3);
	assert_true(bn_message_read_error(&m, &error));
	assert_int_equal(error.status, BN_E_TOO_LARGE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WIRE_TEST(connection_stops_reading_at_its_cap_and_goes_on_after_an_answer),
		WIRE_TEST(connection_at_its_cap_lets_the_kernel_hold_the_sender_back),
		WIRE_TEST(connection_answers_garbage_and_cuts),
		WIRE_TEST(connection_answers_what_came_before_the_garbage),
		WIRE_TEST(connection_message_that_does_not_end_is_cut_in_time),
		WIRE_TEST(connection_idle_between_messages_is_never_cut),
		WIRE_TEST(connection_message_over_the_limit_is_a_fault),
	};

	return cmocka_run_group_tests_name("daemon/connection_input", tests, NULL, NULL);
}
