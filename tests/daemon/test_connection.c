/* A connection that behaves: calls, answers, notifications, many of them, and its limits. */
#include "daemon/connection.h"

#include "tests/daemon/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers have memory of their own: what a connection costs is seen in the other builds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURES_MEMORY = 0 };
#else
enum { MEASURES_MEMORY = 1 };
#endif

static void connection_answers_calls_in_order(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	struct bn_message m;
	int fd = wire_connect(w, &c);

	assert_int_equal(bn_connection_peer(c)->uid, 1000);
	assert_int_equal(bn_connection_id(c), 1);
	assert_null(bn_connection_data(c));
	bn_connection_set_data(c, w);
	assert_ptr_equal(bn_connection_data(c), w);
	wire_send_calls(fd, 100, 3);
	assert_true(wire_until(w, &w->calls, 3));
	wire_turn(w, 3);
	wire_slurp(w, fd);
	for (uint32_t i = 100; i < 103; i++) {
		assert_true(wire_next(w, &m));
		assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
		assert_int_equal(m.msgid, i);
	}
	assert_false(wire_next(w, &m));
	assert_int_equal(bn_connection_in_flight(c), 0);
	assert_int_equal(bn_connections_in_flight(w->group), 0);
	close(fd);
	assert_true(wire_until(w, &w->closed, 1));
	assert_int_equal(w->reason, BN_CLOSE_DONE);
	wire_turn(w, 3);
	assert_int_equal(bn_connections_count(w->group), 0);
	assert_true(bn_metrics_get(w->metrics, BN_METRIC_CLOSED, "done") == 1);
	assert_true(bn_metrics_get(w->metrics, BN_METRIC_CONNECTIONS, NULL) == 0);
}

static void connection_understands_a_byte_at_a_time(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	unsigned char bytes[13];
	int fd = wire_connect(w, &c);

	wire_put_call(bytes, 9);
	for (int i = 0; i < 13; i++) {
		assert_int_equal(w->calls, 0);
		assert_int_equal(write(fd, bytes + i, 1), 1);
		wire_turn(w, 3);
	}
	assert_int_equal(w->calls, 1);
	assert_int_equal(w->last_msgid, 9);
	close(fd);
}

static void connection_passes_notifications_and_owes_nothing_for_them(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	for (int i = 0; i < 100; i++) { /* more than in_flight */
		assert_int_equal(write(fd, "\x93\x02\xa4tick\x90", 8), 8);
	}
	assert_true(wire_until(w, &w->notifications, 100));
	assert_int_equal(bn_connection_in_flight(c), 0);
	close(fd);
}

static void connection_broadcast_and_walk_reach_everybody(void **state)
{
	struct wire *w = *state;
	struct bn_connection *c[5];
	char text[8];
	int fd[5];

	for (int i = 0; i < 5; i++) {
		fd[i] = wire_connect(w, &c[i]);
	}
	assert_int_equal(bn_connections_count(w->group), 5);
	assert_int_equal(bn_connections_count_uid(w->group, 1000), 5);
	assert_int_equal(bn_connections_count_uid(w->group, 1001), 0);
	bn_connections_broadcast(w->group, "bye", 3);
	wire_turn(w, 2);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(read(fd[i], text, sizeof(text)), 3);
		close(fd[i]);
	}
	assert_true(wire_until(w, &w->closed, 5));
}

static void connection_new_limits_hold_for_open_ones(void **state)
{
	struct wire *w = *state;
	struct bn_connection_limits wider = wire_limits;
	struct bn_connection *c;
	int fd = wire_connect(w, &c);

	w->keep = true;
	wire_send_calls(fd, 1, 10);
	assert_true(wire_until(w, &w->calls, 4));
	wire_turn(w, 5);
	assert_int_equal(w->calls, 4);
	wider.in_flight = 8;
	bn_connections_set_limits(w->group, &wider);
	assert_true(wire_until(w, &w->calls, 8));
	wire_turn(w, 5);
	assert_int_equal(w->calls, 8);
	close(fd);
}

static long resident_kib(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long pages = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A thousand idle peers that have said something cost at most 16 KiB each. */
static void connection_idle_thousand_is_cheap(void **state)
{
	struct wire *w = *state;
	enum { MOST = 1000, SPARE = 50 };
	static int fd[MOST];
	struct rlimit files = { 0 };
	int n = MOST;
	long before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	if (files.rlim_cur < 2 * MOST + SPARE) {
		n = ((int)files.rlim_cur - SPARE) / 2; /* as many as may be opened here */
	}
	assert_true(n >= 100);
	before = resident_kib();
	for (int i = 0; i < n; i++) {
		struct bn_connection *c;

		fd[i] = wire_connect(w, &c);
		wire_send_calls(fd[i], 1, 1);
	}
	assert_true(wire_until(w, &w->calls, n));
	wire_turn(w, 5);
	if (MEASURES_MEMORY) {
		assert_true(resident_kib() - before <= 16 * n);
	}
	for (int i = 0; i < n; i++) {
		close(fd[i]);
	}
	assert_true(wire_until(w, &w->closed, n));
	wire_turn(w, 5);
	assert_int_equal(bn_connections_count(w->group), 0);
}

/* Pipelined calls, none lost, none out of order. */
static void connection_pipelined_calls_all_come_back_in_order(void **state)
{
	struct wire *w = *state;
	enum { N = 50000, WINDOW = 64 };
	struct bn_connection *c;
	struct bn_message m;
	unsigned char bytes[13];
	int fd = wire_connect(w, &c);
	uint32_t sent = 0, got = 0;

	while (got < N) {
		while (sent < N && sent - got < WINDOW) {
			wire_put_call(bytes, sent);
			assert_int_equal(write(fd, bytes, 13), 13);
			sent++;
		}
		wire_turn(w, 2);
		wire_slurp(w, fd);
		while (wire_next(w, &m)) {
			assert_int_equal(m.msgid, got);
			got++;
		}
	}
	assert_int_equal(w->closed, 0);
	close(fd);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		WIRE_TEST(connection_answers_calls_in_order),
		WIRE_TEST(connection_understands_a_byte_at_a_time),
		WIRE_TEST(connection_passes_notifications_and_owes_nothing_for_them),
		WIRE_TEST(connection_broadcast_and_walk_reach_everybody),
		WIRE_TEST(connection_new_limits_hold_for_open_ones),
		WIRE_TEST(connection_idle_thousand_is_cheap),
		WIRE_TEST(connection_pipelined_calls_all_come_back_in_order),
		cmocka_unit_test(connection_limits_come_from_the_configuration),
	};

	return cmocka_run_group_tests_name("daemon/connection", tests, NULL, NULL);
}
