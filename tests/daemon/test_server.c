/* Who is let in and how many, who is turned away with which words, and how the door shuts. */
#include "daemon/server.h"

#include "tests/daemon/door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void server_lets_clients_in_and_answers(void **state)
{
	struct door *d = *state;
	int fd;

	assert_false(bn_server_is_listening(d->server));
	door_open(d);
	assert_true(bn_server_is_listening(d->server));
	fd = door_dial(d);
	assert_true(fd >= 0);
	assert_int_equal(door_ping(d, fd), BN_OK);
	assert_int_equal(bn_connections_count(bn_server_connections(d->server)), 1);
	close(fd);
	door_turn(d, 5);
	assert_int_equal(d->closed, 1);
	assert_int_equal(bn_connections_count(bn_server_connections(d->server)), 0);
}

static void server_full_for_one_user_says_so_and_serves_the_others(void **state)
{
	struct door *d = *state;
	struct bn_remote_error error;
	int fd[6], extra;

	door_open(d);
	for (int i = 0; i < 6; i++) {
		fd[i] = door_dial(d);
		assert_int_equal(door_ping(d, fd[i]), BN_OK);
	}
	extra = door_dial(d);
	assert_int_equal(door_answer(d, extra, &error), BN_E_QUEUE_FULL);
	assert_int_equal(error.code, 429);
	assert_int_equal(bn_value_int(bn_value_get(error.data, "limit"), 0), 6);
	assert_true(door_is_closed(d, extra));
	close(extra);
	assert_int_equal(door_ping(d, fd[0]), BN_OK);
	close(fd[0]);
	door_turn(d, 5);
	extra = door_dial(d);
	assert_int_equal(door_ping(d, extra), BN_OK); /* a place is free again */
	close(extra);
	for (int i = 1; i < 6; i++) {
		close(fd[i]);
	}
	assert_true(bn_metrics_get(d->metrics, BN_METRIC_CLOSED, "refused") == 1);
}

static void server_full_for_all_says_so(void **state)
{
	struct door *d = *state;
	struct bn_remote_error error;
	int fd[8], extra;

	door_configure(d, "limits: {clients: 8, connections_per_user: 100}\n");
	door_open(d);
	for (int i = 0; i < 8; i++) {
		fd[i] = door_dial(d);
		assert_int_equal(door_ping(d, fd[i]), BN_OK);
	}
	extra = door_dial(d);
	assert_int_equal(door_answer(d, extra, &error), BN_E_OVERLOADED);
	assert_int_equal(error.code, 503);
	assert_true(door_is_closed(d, extra));
	close(extra);
	for (int i = 0; i < 8; i++) {
		close(fd[i]);
	}
}

static void server_turns_away_who_has_no_rights(void **state)
{
	struct door *d = *state;
	struct bn_auth *strict;
	int status;
	pid_t child;

	if (geteuid() != 0) {
		skip();
	}
	door_configure(d, "access: [{user: '54321', may: status}]\n");
	assert_int_equal(bn_auth_new(&strict, d->config, NULL), BN_OK);
	bn_server_reconfigure(d->server, d->config, strict);
	assert_int_equal(chmod(d->folder, 0755), 0);
	assert_int_equal(bn_server_listen(d->server, 0, d->path, "", 0666, NULL), BN_OK);
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
			fd = door_dial(d);
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
			door_turn(d, 1);
			usleep(1000);
		}
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), listed ? BN_OK : BN_E_PERMISSION);
	}
	door_end(d);
	bn_auth_free(strict);
}

static void server_drain_shuts_the_door_and_keeps_who_is_inside(void **state)
{
	struct door *d = *state;
	char text[16];
	int fd;

	door_open(d);
	fd = door_dial(d);
	assert_int_equal(door_ping(d, fd), BN_OK);
	bn_server_drain(d->server,
			"\x93\x02\xa3"
			"bye\x90",
			7);
	assert_false(bn_server_is_listening(d->server));
	assert_int_equal(door_dial(d), -1);
	assert_int_equal(errno, ENOENT);
	door_turn(d, 3);
	assert_int_equal(read(fd, text, sizeof(text)), 7);
	assert_int_equal(door_ping(d, fd), BN_OK); /* whoever is inside is served until the stop */
	door_end(d);
	assert_int_equal(d->closed, 1);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close(fd);
}

static void server_stop_without_listening_is_clean(void **state)
{
	struct door *d = *state;

	door_end(d);
}

/* Whether the loop would wait for something to happen instead of going round at once. */
static bool sleeps(const uv_loop_t *loop)
{
	struct pollfd backend = { .fd = uv_backend_fd(loop), .events = POLLIN };

	return uv_backend_timeout(loop) != 0 && poll(&backend, 1, 0) == 0;
}

/* The process has no descriptors left, and a crowd calls. */
static void server_out_of_descriptors_tells_and_does_not_spin(void **state)
{
	struct door *d = *state;
	enum { CROWD = 40 };
	struct rlimit usual, tight;
	struct bn_remote_error error;
	int inside, crowd[CROWD], plug[512], plugs = 0;
	char byte;

	door_configure(d, "{}\n");
	door_open(d);
	inside = door_dial(d);
	assert_int_equal(door_ping(d, inside), BN_OK);
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = door_dial(d);
		assert_true(crowd[i] >= 0);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	tight = usual;
	tight.rlim_cur = 256;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	while (plugs < 512 && (plug[plugs] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
		plugs++;
	}
	assert_int_equal(errno, EMFILE);
	/* The spare one speaks to one caller; then, for 100 ms, the loop has no reason to wake. */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(door_answer(d, crowd[i], &error), BN_E_OVERLOADED);
		for (int ms = 0; ms < 99; ms++) {
			assert_int_equal(door_ping(d, inside), BN_OK);
			door_turn(d, 3);
			assert_true(sleeps(&d->loop));
			door_pass(d, 1);
		}
		assert_int_equal(read(crowd[i + 1], &byte, 1), -1); /* not yet its turn */
		door_pass(d, 1);
	}
	while (plugs > 0) {
		close(plug[--plugs]);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	door_pass(d, 100);
	assert_int_equal(door_ping(d, crowd[CROWD - 1]), BN_OK);
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

/* Connect, say something, leave, 2000 times; every descriptor comes back. */
static void server_thousands_of_visits_leave_nothing_behind(void **state)
{
	struct door *d = *state;
	int before;

	door_configure(d, "{}\n");
	door_open(d);
	before = door_dial(d); /* libuv takes a descriptor for good with its first stream */
	assert_int_equal(door_ping(d, before), BN_OK);
	close(before);
	door_turn(d, 5);
	before = open_descriptors();
	for (int i = 0; i < 2000; i++) {
		int fd = door_dial(d);

		assert_true(fd >= 0);
		if (i % 3 == 0) {
			assert_int_equal(door_ping(d, fd), BN_OK);
		} else if (i % 3 == 1) {
			assert_int_equal(write(fd, "junk", 4), 4);
		}
		close(fd);
		if (i % 50 == 0) {
			door_turn(d, 5);
		}
	}
	door_pass(d, 2000); /* longer than anybody's parting words are kept */
	assert_int_equal(bn_connections_count(bn_server_connections(d->server)), 0);
	assert_int_equal(open_descriptors(), before);
}

/* A stopped listener's number is reused by a peer; the loop must not forget that peer. */
static void server_drain_does_not_disturb_a_peer_with_the_old_number(void **state)
{
	struct door *d = *state;
	struct bn_server *second;
	int fd;

	door_open(d);
	bn_server_drain(d->server, NULL, 0);
	second = door_server(d);
	snprintf(d->path, sizeof(d->path), "%s/second.sock", d->folder);
	assert_int_equal(bn_server_listen(second, 0, d->path, "", 0660, NULL), BN_OK);
	fd = door_dial(d);
	assert_int_equal(door_ping(d, fd), BN_OK);
	door_replace(d, second);
	assert_int_equal(door_ping(d, fd), BN_OK);
	close(fd);
	door_visit(d);
}

static void server_never_replaces_another_bnd(void **state)
{
	struct door *d = *state;
	struct bn_server *second;
	struct bn_error err;

	door_open(d);
	second = door_server(d);
	assert_int_equal(bn_server_listen(second, 0, d->path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "another bnd serves it"));
	door_visit(d);
	/* When the first drains, the second may have the place, and the first does not take it
	 * away. */
	bn_server_drain(d->server, NULL, 0);
	assert_int_equal(bn_server_listen(second, 0, d->path, "", 0660, &err), BN_OK);
	door_replace(d, second);
	door_visit(d);
}

static int bind_here(const struct door *d)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, d->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void server_adopts_an_inherited_socket_and_leaves_its_name(void **state)
{
	struct door *d = *state;
	int given = bind_here(d);
	struct bn_error err;

	assert_int_equal(fcntl(given, F_GETFD) & FD_CLOEXEC, 0);
	assert_int_equal(listen(given, 16), 0);
	assert_int_equal(bn_server_listen(d->server, given, "/ignored", "", 0660, &err), BN_OK);
	assert_int_equal(fcntl(given, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	door_visit(d);
	door_end(d);
	assert_int_equal(access(d->path, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOOR_TEST(server_lets_clients_in_and_answers),
		DOOR_TEST(server_never_replaces_another_bnd),
		DOOR_TEST(server_adopts_an_inherited_socket_and_leaves_its_name),
		DOOR_TEST(server_full_for_one_user_says_so_and_serves_the_others),
		DOOR_TEST(server_full_for_all_says_so),
		DOOR_TEST(server_turns_away_who_has_no_rights),
		DOOR_TEST(server_drain_shuts_the_door_and_keeps_who_is_inside),
		DOOR_TEST(server_stop_without_listening_is_clean),
		DOOR_TEST(server_out_of_descriptors_tells_and_does_not_spin),
		DOOR_TEST(server_thousands_of_visits_leave_nothing_behind),
		DOOR_TEST(server_drain_does_not_disturb_a_peer_with_the_old_number),
	};

	return cmocka_run_group_tests_name("daemon/server", tests, NULL, NULL);
}
