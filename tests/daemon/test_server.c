/* Real sockets in a temporary folder, real clients on the other side, all in one process. */
#include "daemon/server.h"

#include "daemon/log.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static uv_loop_t loop;
static struct bn_config *config;
static struct bn_auth *auth;
static struct bn_metrics *metrics;
static struct bn_server *server;
static char folder[64];
static char path[96];
static int closed_count;
static int message_count;

static void on_message(struct bn_connection *c, const struct bn_message *m, void *who)
{
	(void)who;
	message_count++;
	if (m->kind == BN_MESSAGE_CALL) {
		struct bn_pack p;

		bn_pack_init(&p);
		bn_message_result_begin(&p, m->msgid);
		bn_pack_int(&p, NULL, bn_connection_peer(c)->pid);
		assert_int_equal(bn_message_result_end(&p, NULL), BN_OK);
		bn_connection_respond(c, p.data, p.used);
		bn_pack_finish(&p);
	}
}

static void on_closed(struct bn_connection *c, enum bn_close reason, void *who)
{
	(void)c;
	(void)reason;
	(void)who;
	closed_count++;
}

static const struct bn_connection_hooks hooks = { on_message, NULL, on_closed, NULL };

static void configure(const char *text)
{
	struct bn_yaml_report report;
	struct bn_error err;

	bn_config_free(config);
	if (bn_config_parse(&config, "bnd.yaml", text, strlen(text), &report, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

static struct bn_server *new_server(void)
{
	struct bn_server *s;

	assert_int_equal(bn_server_new(&s, &loop, config, auth, &hooks, metrics, NULL), BN_OK);
	return s;
}

static int open_all(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	closed_count = 0;
	message_count = 0;
	strcpy(folder, "/tmp/bn-test-server-XXXXXX");
	if (mkdtemp(folder) == NULL || uv_loop_init(&loop) != 0) {
		return -1;
	}
	snprintf(path, sizeof(path), "%s/bnd.sock", folder);
	config = NULL;
	configure("limits: {clients: 8, connections_per_user: 6}\n");
	if (bn_auth_new(&auth, config, NULL) != BN_OK || bn_metrics_new(&metrics, NULL) != BN_OK) {
		return -1;
	}
	server = new_server();
	return 0;
}

static void set_flag(void *who)
{
	*(bool *)who = true;
}

static void stop(struct bn_server *s)
{
	bool stopped = false;

	bn_server_stop(s, 100, set_flag, &stopped);
	while (!stopped) {
		uv_run(&loop, UV_RUN_ONCE);
	}
}

static int close_all(void **state)
{
	char command[128];
	int rc;

	(void)state;
	if (server != NULL) {
		stop(server);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	rc = uv_loop_close(&loop);
	bn_auth_free(auth);
	bn_config_free(config);
	bn_metrics_free(metrics);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return rc != 0 || system(command) != 0;
}

static void listen_here(void)
{
	struct bn_error err;

	if (bn_server_listen(server, 0, path, "", 0660, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

static void turn(int times)
{
	while (times-- > 0) {
		uv_run(&loop, UV_RUN_NOWAIT);
	}
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A client's socket, non-blocking; -1 and errno when nobody lets it connect. */
static int dial_to(const char *where)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(strlen(where) < sizeof(address.sun_path));
	strcpy(address.sun_path, where);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		int cause = errno;

		close(fd);
		errno = cause;
		return -1;
	}
	return fd;
}

static int dial(void)
{
	return dial_to(path);
}

/* Waits for the answer to whatever was sent; the error's status, BN_OK for a result. */
static enum bn_status answer(int fd, struct bn_remote_error *error)
{
	static unsigned char bytes[1024];
	struct bn_message m;
	uint64_t end = now_ms() + 3000;
	ssize_t n = -1;

	while (n < 0 && now_ms() < end) {
		turn(2);
		n = read(fd, bytes, sizeof(bytes));
	}
	assert_true(n > 0);
	assert_int_equal(bn_message_open(&m, bytes, (size_t)n, NULL), BN_OK);
	assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
	return bn_message_read_error(&m, error) ? error->status : BN_OK;
}

static enum bn_status ping(int fd)
{
	struct bn_remote_error error;

	assert_int_equal(write(fd, "\x94\x00\x01\xa4ping\x90", 9), 9);
	return answer(fd, &error);
}

static bool is_closed(int fd)
{
	uint64_t end = now_ms() + 2000;
	char byte;
	ssize_t n;

	do {
		turn(1);
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EAGAIN && now_ms() < end);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void server_lets_clients_in_and_answers(void **state)
{
	int fd;

	(void)state;
	assert_false(bn_server_is_listening(server));
	listen_here();
	assert_true(bn_server_is_listening(server));
	fd = dial();
	assert_true(fd >= 0);
	assert_int_equal(ping(fd), BN_OK);
	assert_int_equal(bn_connections_count(bn_server_connections(server)), 1);
	close(fd);
	turn(5);
	assert_int_equal(closed_count, 1);
	assert_int_equal(bn_connections_count(bn_server_connections(server)), 0);
}

static void server_never_replaces_another_bnd(void **state)
{
	struct bn_server *second;
	struct bn_error err;
	int fd;

	(void)state;
	listen_here();
	second = new_server();
	assert_int_equal(bn_server_listen(second, 0, path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "another bnd serves it"));
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	close(fd);
	/* When the first drains, the second may have the place, and the first does not take it
	 * away. */
	bn_server_drain(server, NULL, 0);
	assert_int_equal(bn_server_listen(second, 0, path, "", 0660, &err), BN_OK);
	stop(server);
	server = second;
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	close(fd);
}

static void server_adopts_an_inherited_socket_and_leaves_its_name(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int given = socket(AF_UNIX, SOCK_STREAM, 0);
	struct bn_error err;
	int fd;

	(void)state;
	strcpy(address.sun_path, path);
	assert_int_equal(bind(given, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(given, 16), 0);
	assert_int_equal(bn_server_listen(server, given, "/ignored", "", 0660, &err), BN_OK);
	assert_int_equal(fcntl(given, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	close(fd);
	stop(server);
	server = NULL;
	assert_int_equal(access(path, F_OK), 0);
}

static void server_full_for_one_user_says_so_and_serves_the_others(void **state)
{
	struct bn_remote_error error;
	int fd[6], extra;

	(void)state;
	listen_here();
	for (int i = 0; i < 6; i++) {
		fd[i] = dial();
		assert_int_equal(ping(fd[i]), BN_OK);
	}
	extra = dial();
	assert_int_equal(answer(extra, &error), BN_E_QUEUE_FULL);
	assert_int_equal(error.code, 429);
	assert_int_equal(bn_value_int(bn_value_get(error.data, "limit"), 0), 6);
	assert_true(is_closed(extra));
	close(extra);
	assert_int_equal(ping(fd[0]), BN_OK);
	close(fd[0]);
	turn(5);
	extra = dial();
	assert_int_equal(ping(extra), BN_OK); /* a place is free again */
	close(extra);
	for (int i = 1; i < 6; i++) {
		close(fd[i]);
	}
	assert_true(bn_metrics_get(metrics, BN_METRIC_CLOSED, "refused") == 1);
}

static void server_full_for_all_says_so(void **state)
{
	struct bn_remote_error error;
	int fd[8], extra;

	(void)state;
	configure("limits: {clients: 8, connections_per_user: 100}\n");
	bn_server_reconfigure(server, config, auth);
	listen_here();
	for (int i = 0; i < 8; i++) {
		fd[i] = dial();
		assert_int_equal(ping(fd[i]), BN_OK);
	}
	extra = dial();
	assert_int_equal(answer(extra, &error), BN_E_OVERLOADED);
	assert_int_equal(error.code, 503);
	assert_true(is_closed(extra));
	close(extra);
	for (int i = 0; i < 8; i++) {
		close(fd[i]);
	}
}

static void server_turns_away_who_has_no_rights(void **state)
{
	struct bn_auth *strict;
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0) {
		skip();
	}
	configure("access: [{user: '54321', may: status}]\n");
	assert_int_equal(bn_auth_new(&strict, config, NULL), BN_OK);
	bn_server_reconfigure(server, config, strict);
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(bn_server_listen(server, 0, path, "", 0666, NULL), BN_OK);
	for (int listed = 0; listed < 2; listed++) {
		child = fork();
		if (child == 0) {
			unsigned char bytes[512];
			struct bn_remote_error error;
			struct bn_message m;
			ssize_t n;
			int fd;

			if (setgid(50000) != 0 || setuid(listed ? 54321 : 54322) != 0) {
				_exit(9);
			}
			fd = dial();
			fcntl(fd, F_SETFL, 0);
			if (listed && write(fd, "\x94\x00\x01\xa4ping\x90", 9) != 9) {
				_exit(8);
			}
			n = read(fd, bytes, sizeof(bytes));
			if (n <= 0 || bn_message_open(&m, bytes, (size_t)n, NULL) != BN_OK) {
				_exit(7);
			}
			_exit(bn_message_read_error(&m, &error) ? (int)error.status : 0);
		}
		while (waitpid(child, &status, WNOHANG) == 0) {
			turn(1);
			usleep(1000);
		}
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), listed ? BN_OK : BN_E_PERMISSION);
	}
	stop(server);
	server = NULL;
	bn_auth_free(strict);
}

static void server_drain_shuts_the_door_and_keeps_who_is_inside(void **state)
{
	char text[16];
	int fd;

	(void)state;
	listen_here();
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	bn_server_drain(server,
			"\x93\x02\xa3"
			"bye\x90",
			7);
	assert_false(bn_server_is_listening(server));
	assert_int_equal(dial(), -1);
	assert_int_equal(errno, ENOENT);
	turn(3);
	assert_int_equal(read(fd, text, sizeof(text)), 7);
	assert_int_equal(ping(fd), BN_OK); /* whoever is inside is served until the stop */
	stop(server);
	server = NULL;
	assert_int_equal(closed_count, 1);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close(fd);
}

static void server_stop_without_listening_is_clean(void **state)
{
	(void)state;
	stop(server);
	server = NULL;
}

/* L4: the process has no descriptors left, and a crowd calls. */
static void server_out_of_descriptors_tells_and_does_not_spin(void **state)
{
	enum { CROWD = 40 };
	struct rlimit before, tight;
	struct timespec cpu;
	struct bn_remote_error error;
	int inside, crowd[CROWD], plug[512], plugs = 0;
	double burnt;
	uint64_t end;

	(void)state;
	configure("{}\n");
	bn_server_reconfigure(server, config, auth);
	listen_here();
	inside = dial();
	assert_int_equal(ping(inside), BN_OK);
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = dial();
		assert_true(crowd[i] >= 0);
	}
	getrlimit(RLIMIT_NOFILE, &before);
	tight = before;
	tight.rlim_cur = 256;
	setrlimit(RLIMIT_NOFILE, &tight);
	while (plugs < 512 && (plug[plugs] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
		plugs++;
	}
	assert_int_equal(errno, EMFILE);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	burnt = (double)cpu.tv_sec + 1e-9 * (double)cpu.tv_nsec;
	assert_int_equal(answer(crowd[0], &error), BN_E_OVERLOADED); /* the spare one spoke */
	end = now_ms() + 500;
	while (now_ms() < end) {
		uv_run(&loop, UV_RUN_ONCE); /* sleeps: the pause timer wakes it */
		assert_int_equal(ping(inside), BN_OK);
		usleep(20000);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	burnt = (double)cpu.tv_sec + 1e-9 * (double)cpu.tv_nsec - burnt;
	assert_true(burnt < 0.25);
	while (plugs > 0) {
		close(plug[--plugs]);
	}
	setrlimit(RLIMIT_NOFILE, &before);
	end = now_ms() + 1000; /* recovers within a second */
	while (ping(crowd[CROWD - 1]) != BN_OK) {
		assert_true(now_ms() < end);
	}
	close(inside);
	for (int i = 0; i < CROWD; i++) {
		close(crowd[i]);
	}
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 2048; fd++) {
		n += fcntl(fd, F_GETFD) >= 0;
	}
	return n;
}

/* L2 in small: connect, say something, leave, 2000 times; every descriptor comes back. */
static void server_thousands_of_visits_leave_nothing_behind(void **state)
{
	int before;

	(void)state;
	configure("{}\n");
	bn_server_reconfigure(server, config, auth);
	listen_here();
	before = dial(); /* libuv takes a descriptor for good with its first stream */
	assert_int_equal(ping(before), BN_OK);
	close(before);
	turn(5);
	before = open_descriptors();
	for (int i = 0; i < 2000; i++) {
		int fd = dial();

		assert_true(fd >= 0);
		if (i % 3 == 0) {
			assert_int_equal(ping(fd), BN_OK);
		} else if (i % 3 == 1) {
			assert_int_equal(write(fd, "junk", 4), 4);
		}
		close(fd);
		if (i % 50 == 0) {
			turn(5);
		}
	}
	for (int i = 0; i < 500 && bn_connections_count(bn_server_connections(server)) > 0; i++) {
		turn(5);
		usleep(1000);
	}
	assert_int_equal(bn_connections_count(bn_server_connections(server)), 0);
	assert_int_equal(open_descriptors(), before);
}

/* A stopped listener's number is reused by a peer; the loop must not forget that peer. */
static void server_drain_does_not_disturb_a_peer_with_the_old_number(void **state)
{
	struct bn_server *second;
	int fd;

	(void)state;
	listen_here();
	bn_server_drain(server, NULL, 0);
	second = new_server();
	snprintf(path, sizeof(path), "%s/second.sock", folder);
	assert_int_equal(bn_server_listen(second, 0, path, "", 0660, NULL), BN_OK);
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	stop(server);
	server = second;
	assert_int_equal(ping(fd), BN_OK);
	close(fd);
	fd = dial();
	assert_int_equal(ping(fd), BN_OK);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(server_lets_clients_in_and_answers),
		TEST(server_never_replaces_another_bnd),
		TEST(server_adopts_an_inherited_socket_and_leaves_its_name),
		TEST(server_full_for_one_user_says_so_and_serves_the_others),
		TEST(server_full_for_all_says_so),
		TEST(server_turns_away_who_has_no_rights),
		TEST(server_drain_shuts_the_door_and_keeps_who_is_inside),
		TEST(server_stop_without_listening_is_clean),
		TEST(server_out_of_descriptors_tells_and_does_not_spin),
		TEST(server_thousands_of_visits_leave_nothing_behind),
		TEST(server_drain_does_not_disturb_a_peer_with_the_old_number),
	};

	bn_log_set_level(BN_LOG_ERROR);
	return cmocka_run_group_tests_name("daemon/server", tests, NULL, NULL);
}
