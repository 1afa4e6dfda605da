/* How the socket comes to its place and leaves it: modes, stale ones, live ones, races. */
#include "daemon/server.h"

#include "tests/daemon/door.h"

#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void server_socket_has_its_mode_and_group(void **state)
{
	struct door *d = *state;
	struct stat about;
	struct bn_error err;
	const struct group *group = getgrnam("daemon");

	umask(0); /* must not matter */
	assert_int_equal(bn_server_listen(d->server, 0, d->path,
					  group != NULL && geteuid() == 0 ? "daemon" : "", 0620,
					  &err),
			 BN_OK);
	assert_int_equal(stat(d->path, &about), 0);
	assert_int_equal(about.st_mode & 07777, 0620);
	if (group != NULL && geteuid() == 0) {
		assert_int_equal(about.st_gid, group->gr_gid);
	}
	umask(022);
}

static void server_names_the_group_it_does_not_find(void **state)
{
	struct door *d = *state;
	struct bn_error err;

	assert_int_equal(bn_server_listen(d->server, 0, d->path, "bn-no-such-group", 0660, &err),
			 BN_E_CONFIG);
	assert_non_null(strstr(err.text, "there is no group 'bn-no-such-group'"));
	assert_int_equal(access(d->path, F_OK), -1);
	door_open(d); /* a second try is allowed */
}

static void server_removes_its_socket_at_the_end(void **state)
{
	struct door *d = *state;
	struct stat about;

	door_open(d);
	door_end(d);
	assert_int_equal(lstat(d->path, &about), -1);
}

static void server_does_not_remove_a_socket_that_took_its_place(void **state)
{
	struct door *d = *state;
	struct stat about;
	char other[128];

	door_open(d);
	snprintf(other, sizeof(other), "%s.moved", d->path);
	assert_int_equal(rename(d->path, other), 0);
	assert_int_equal(symlink("/nowhere", d->path), 0);
	door_end(d);
	assert_int_equal(lstat(d->path, &about), 0);
}

static void server_refuses_a_path_too_long_for_the_kernel(void **state)
{
	struct door *d = *state;
	char longer[160];
	struct bn_error err;

	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[101] = '\0';
	assert_int_equal(bn_server_listen(d->server, 0, longer, "", 0660, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "1 to 100 bytes"));
	assert_int_equal(bn_server_listen(d->server, 0, "", "", 0660, &err), BN_E_CONFIG);
	/* The longest that is allowed works, and is not cut. */
	snprintf(longer, sizeof(longer), "%s/", d->folder);
	memset(longer + strlen(longer), 'y', 100 - strlen(longer));
	longer[100] = '\0';
	assert_int_equal(bn_server_listen(d->server, 0, longer, "", 0660, &err), BN_OK);
	assert_int_equal(access(longer, F_OK), 0);
}

/* A socket bound at d->path by nobody's server. */
static int bind_here(const struct door *d)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, d->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void server_replaces_a_stale_socket(void **state)
{
	struct door *d = *state;

	close(bind_here(d)); /* the name stays behind, as after SIGKILL */
	assert_int_equal(door_dial(d), -1);
	door_open(d);
	door_visit(d);
}

static void server_never_replaces_a_live_one(void **state)
{
	struct door *d = *state;
	int alive = bind_here(d);
	struct bn_error err;
	int fd;

	assert_int_equal(listen(alive, 0), 0);
	assert_int_equal(bn_server_listen(d->server, 0, d->path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "somebody is listening there already"));
	assert_non_null(strstr(err.text, d->path));
	/* With a full backlog it is alive as well. */
	fd = door_dial(d);
	assert_int_equal(bn_server_listen(d->server, 0, d->path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "somebody is listening there already"));
	assert_int_equal(access(d->path, F_OK), 0);
	close(fd);
	close(alive);
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

static void server_refuses_what_is_no_socket(void **state)
{
	struct door *d = *state;
	struct bn_error err;
	char text[16];
	int fd = open(d->path, O_CREAT | O_WRONLY, 0600);

	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(bn_server_listen(d->server, 0, d->path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "no socket lies there"));
	fd = open(d->path, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_memory_equal(text, "precious", 8);
	close(fd);
}

static void server_says_what_is_wrong_with_the_folder(void **state)
{
	struct door *d = *state;
	struct bn_error err;

	assert_int_equal(bn_server_listen(d->server, 0, "/nowhere/at/all/x.sock", "", 0660, &err),
			 BN_E_IO);
	assert_non_null(strstr(err.text, "/nowhere/at/all/x.sock"));
	assert_non_null(strstr(err.text, "No such file or directory"));
}

/* Two daemons start at the same instant over a stale socket: exactly one of them wins. */
static void server_start_is_a_race_with_one_winner(void **state)
{
	struct door *d = *state;

	for (int round = 0; round < 10; round++) {
		int gate[2], results[2], fd, winners = 0;
		pid_t child[4];

		unlink(d->path);
		close(bind_here(d));
		assert_int_equal(pipe(gate), 0);
		assert_int_equal(pipe(results), 0);
		for (int i = 0; i < 4; i++) {
			child[i] = fork();
			if (child[i] == 0) {
				uv_loop_t own;
				struct bn_server *s;
				char result;

				close(gate[1]);
				if (uv_loop_init(&own) != 0 ||
				    bn_server_new(&s, &own, d->config, d->auth, &d->hooks, NULL,
						  NULL) != BN_OK ||
				    read(gate[0], &result, 1) != 0) { /* waits for the gate */
					_exit(1);
				}
				result = bn_server_listen(s, 0, d->path, "", 0660, NULL) == BN_OK
						 ? 'y'
						 : 'n';
				if (write(results[1], &result, 1) != 1) {
					_exit(1);
				}
				pause(); /* holds the lock until all have tried */
			}
		}
		close(gate[0]);
		close(gate[1]); /* go */
		for (int i = 0; i < 4; i++) {
			char result;

			assert_int_equal(read(results[0], &result, 1), 1);
			winners += result == 'y';
		}
		assert_int_equal(winners, 1);
		fd = door_dial(d);
		assert_true(fd >= 0); /* and the winner is who answers */
		close(fd);
		for (int i = 0; i < 4; i++) {
			kill(child[i], SIGKILL);
			waitpid(child[i], NULL, 0);
		}
		close(results[0]);
		close(results[1]);
	}
	door_open(d); /* SIGKILL left a socket and a lock file; neither is in the way */
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

static void server_refuses_inherited_things_that_are_no_listening_socket(void **state)
{
	struct door *d = *state;
	struct bn_error err;
	int pair[2];
	int fd;

	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(bn_server_listen(d->server, fd, d->path, "", 0660, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "is not a listening unix stream socket"));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(bn_server_listen(d->server, pair[0], d->path, "", 0660, &err),
			 BN_E_CONFIG);
	close(pair[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd >= 0) {
		assert_int_equal(listen(fd, 1), 0);
		assert_int_equal(bn_server_listen(d->server, fd, d->path, "", 0660, &err),
				 BN_E_CONFIG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOOR_TEST(server_socket_has_its_mode_and_group),
		DOOR_TEST(server_names_the_group_it_does_not_find),
		DOOR_TEST(server_removes_its_socket_at_the_end),
		DOOR_TEST(server_does_not_remove_a_socket_that_took_its_place),
		DOOR_TEST(server_refuses_a_path_too_long_for_the_kernel),
		DOOR_TEST(server_replaces_a_stale_socket),
		DOOR_TEST(server_never_replaces_a_live_one),
		DOOR_TEST(server_never_replaces_another_bnd),
		DOOR_TEST(server_refuses_what_is_no_socket),
		DOOR_TEST(server_says_what_is_wrong_with_the_folder),
		DOOR_TEST(server_start_is_a_race_with_one_winner),
		DOOR_TEST(server_adopts_an_inherited_socket_and_leaves_its_name),
		DOOR_TEST(server_refuses_inherited_things_that_are_no_listening_socket),
	};

	return cmocka_run_group_tests_name("daemon/server_socket", tests, NULL, NULL);
}
