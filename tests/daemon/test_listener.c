/* Real sockets in a temporary folder. */
#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct bn_listener listener;
static bool is_open;
static char folder[64];
static char path[96];

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/bn-test-listener-XXXXXX");
	if (mkdtemp(folder) == NULL) {
		return -1;
	}
	snprintf(path, sizeof(path), "%s/bnd.sock", folder);
	return 0;
}

static void shut(void)
{
	if (is_open) {
		bn_listener_close(&listener);
	}
	is_open = false;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	shut();
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command) != 0;
}

static enum bn_status make(const char *where, const char *group, uint32_t mode,
			   struct bn_error *err)
{
	enum bn_status status = bn_listener_create(&listener, where, group, mode, err);

	is_open = is_open || status == BN_OK;
	return status;
}

static void listen_here(void)
{
	struct bn_error err;

	if (make(path, "", 0660, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

/* A socket bound at the path by somebody else. */
static int bind_here(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* A client's socket, connected; -1 when nobody listens. */
static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void listener_socket_has_its_mode_and_group(void **state)
{
	struct stat about;
	struct bn_error err;
	const struct group *group = getgrnam("daemon");

	(void)state;
	umask(0); /* must not matter */
	assert_int_equal(make(path, group != NULL && geteuid() == 0 ? "daemon" : "", 0620, &err),
			 BN_OK);
	assert_int_equal(stat(path, &about), 0);
	assert_int_equal(about.st_mode & 07777, 0620);
	if (group != NULL && geteuid() == 0) {
		assert_int_equal(about.st_gid, group->gr_gid);
	}
	umask(022);
}

static void listener_names_the_group_it_does_not_find(void **state)
{
	struct bn_error err;

	(void)state;
	assert_int_equal(make(path, "bn-no-such-group", 0660, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "there is no group 'bn-no-such-group'"));
	assert_int_equal(access(path, F_OK), -1);
	listen_here(); /* a second try is allowed */
}

static void listener_removes_its_socket_at_the_end(void **state)
{
	struct stat about;

	(void)state;
	listen_here();
	shut();
	assert_int_equal(lstat(path, &about), -1);
}

static void listener_does_not_remove_a_socket_that_took_its_place(void **state)
{
	struct stat about;
	char other[128];

	(void)state;
	listen_here();
	snprintf(other, sizeof(other), "%s.moved", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink("/nowhere", path), 0);
	shut();
	assert_int_equal(lstat(path, &about), 0);
}

static void listener_refuses_a_path_too_long_for_the_kernel(void **state)
{
	char longer[160];
	struct bn_error err;

	(void)state;
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[101] = '\0';
	assert_int_equal(make(longer, "", 0660, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "1 to 100 bytes"));
	assert_int_equal(make("", "", 0660, &err), BN_E_CONFIG);
	/* The longest that is allowed works, and is not cut. */
	snprintf(longer, sizeof(longer), "%s/", folder);
	memset(longer + strlen(longer), 'y', 100 - strlen(longer));
	longer[100] = '\0';
	assert_int_equal(make(longer, "", 0660, &err), BN_OK);
	assert_int_equal(access(longer, F_OK), 0);
}

static void listener_replaces_a_stale_socket(void **state)
{
	int fd;

	(void)state;
	close(bind_here()); /* the name stays behind, as after SIGKILL */
	assert_int_equal(dial(), -1);
	listen_here();
	fd = dial();
	assert_true(fd >= 0);
	close(fd);
}

static void listener_never_replaces_a_live_one(void **state)
{
	int alive = bind_here();
	struct bn_error err;
	int fd;

	(void)state;
	assert_int_equal(listen(alive, 0), 0);
	assert_int_equal(make(path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "somebody is listening there already"));
	assert_non_null(strstr(err.text, path));
	/* With a full backlog it is alive as well. */
	fd = dial();
	assert_int_equal(make(path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "somebody is listening there already"));
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
	close(alive);
}

static void listener_refuses_what_is_no_socket(void **state)
{
	struct bn_error err;
	char text[16];
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(make(path, "", 0660, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "no socket lies there"));
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_memory_equal(text, "precious", 8);
	close(fd);
}

static void listener_says_what_is_wrong_with_the_folder(void **state)
{
	struct bn_error err;

	(void)state;
	assert_int_equal(make("/nowhere/at/all/x.sock", "", 0660, &err), BN_E_IO);
	assert_non_null(strstr(err.text, "/nowhere/at/all/x.sock"));
	assert_non_null(strstr(err.text, "No such file or directory"));
}

/* Two daemons start at the same instant over a stale socket: exactly one of them wins. */
static void listener_start_is_a_race_with_one_winner(void **state)
{
	(void)state;
	for (int round = 0; round < 10; round++) {
		int gate[2], results[2], fd, winners = 0;
		pid_t child[4];

		unlink(path);
		close(bind_here());
		assert_int_equal(pipe(gate), 0);
		assert_int_equal(pipe(results), 0);
		for (int i = 0; i < 4; i++) {
			child[i] = fork();
			if (child[i] == 0) {
				char result;

				close(gate[1]);
				if (read(gate[0], &result, 1) != 0) { /* waits for the gate */
					_exit(1);
				}
				result = make(path, "", 0660, NULL) == BN_OK ? 'y' : 'n';
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
		fd = dial();
		assert_true(fd >= 0); /* and the winner is who answers */
		close(fd);
		for (int i = 0; i < 4; i++) {
			kill(child[i], SIGKILL);
			waitpid(child[i], NULL, 0);
		}
		close(results[0]);
		close(results[1]);
	}
	listen_here(); /* SIGKILL left a socket and a lock file; neither is in the way */
}

static void listener_refuses_inherited_things_that_are_no_listening_socket(void **state)
{
	struct bn_error err;
	int pair[2];
	int fd;

	(void)state;
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(bn_listener_adopt(&listener, fd, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "is not a listening unix stream socket"));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(bn_listener_adopt(&listener, pair[0], &err), BN_E_CONFIG);
	close(pair[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd >= 0) {
		assert_int_equal(listen(fd, 1), 0);
		assert_int_equal(bn_listener_adopt(&listener, fd, &err), BN_E_CONFIG);
	}
}

static void listener_adopts_what_listens_and_leaves_its_name(void **state)
{
	int given = bind_here();

	(void)state;
	assert_int_equal(listen(given, 16), 0);
	assert_int_equal(bn_listener_adopt(&listener, given, NULL), BN_OK);
	is_open = true;
	assert_int_equal(listener.fd, given);
	assert_int_equal(fcntl(given, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(given, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	shut();
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(dial(), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(listener_socket_has_its_mode_and_group),
		TEST(listener_names_the_group_it_does_not_find),
		TEST(listener_removes_its_socket_at_the_end),
		TEST(listener_does_not_remove_a_socket_that_took_its_place),
		TEST(listener_refuses_a_path_too_long_for_the_kernel),
		TEST(listener_replaces_a_stale_socket),
		TEST(listener_never_replaces_a_live_one),
		TEST(listener_refuses_what_is_no_socket),
		TEST(listener_says_what_is_wrong_with_the_folder),
		TEST(listener_start_is_a_race_with_one_winner),
		TEST(listener_refuses_inherited_things_that_are_no_listening_socket),
		TEST(listener_adopts_what_listens_and_leaves_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
