/*
 * A datagram socket stands for the service manager. The test is built with and without
 * libsystemd: without it everything must answer 0 and send nothing.
 */
#include "daemon/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int manager = -1;

/* An abstract address: nothing to clean up. */
static int open_manager(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = 5 };
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "bn-test-notify-%d", (int)getpid());
	memcpy(address.sun_path + 1, name, strlen(name));
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(manager, (struct sockaddr *)&address,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) != 0) {
		return -1;
	}
	setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	memmove(name + 1, name, strlen(name) + 1);
	name[0] = '@';
	return setenv("NOTIFY_SOCKET", name, 1);
}

static int close_manager(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	return close(manager);
}

static void expect(const char *text)
{
	char got[512];
	ssize_t n = recv(manager, got, sizeof(got) - 1, 0);

	assert_true(n >= 0);
	got[n] = '\0';
	assert_string_equal(got, text);
}

#ifdef BN_HAVE_SYSTEMD

static unsigned long long monotonic_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000;
}

static void notify_tells_the_manager_each_thing(void **state)
{
	char got[256];
	unsigned long long usec, before, after;
	ssize_t n;

	(void)state;
	assert_true(bn_notify_ready("2 models") > 0);
	expect("READY=1\nSTATUS=2 models");
	assert_true(bn_notify_status("3 running") > 0);
	expect("STATUS=3 running");
	assert_true(bn_notify_stopping("draining") > 0);
	expect("STOPPING=1\nSTATUS=draining");
	assert_true(bn_notify_watchdog() > 0);
	expect("WATCHDOG=1");
	assert_true(bn_notify_extend(1500) > 0);
	expect("EXTEND_TIMEOUT_USEC=1500000");
	before = monotonic_usec();
	assert_true(bn_notify_reloading() > 0);
	after = monotonic_usec();
	n = recv(manager, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = '\0';
	assert_int_equal(sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%llu", &usec), 1);
	assert_in_range(usec, before, after);
}

static void notify_watchdog_interval_is_half_of_what_is_asked(void **state)
{
	(void)state;
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(bn_notify_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(bn_notify_watchdog_ms(), 15000);
	setenv("WATCHDOG_USEC", "1", 1);
	assert_int_equal(bn_notify_watchdog_ms(), 1);
	setenv("WATCHDOG_USEC", "rubbish", 1);
	assert_int_equal(bn_notify_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
	assert_int_equal(bn_notify_watchdog_ms(), 0);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

/* In a child, because descriptors 3.. must be free for it. Returns the child's answer. */
static int listen_in_child(int n, const char *names, const char *pid)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct bn_error err;
		char text[32];
		int fd = -7;

		for (int i = 0; i < n; i++) {
			dup2(STDERR_FILENO, 3 + i);
		}
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", pid != NULL ? pid : text, 1);
		snprintf(text, sizeof(text), "%d", n);
		if (n > 0) {
			setenv("LISTEN_FDS", text, 1);
		}
		if (names != NULL) {
			setenv("LISTEN_FDNAMES", names, 1);
		}
		if (bn_notify_listen_fd(&fd, &err) != BN_OK) {
			_exit(err.status == BN_E_CONFIG ? 100 : 101);
		}
		if (getenv("LISTEN_FDS") != NULL ||
		    (fd > 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0)) {
			_exit(102);
		}
		_exit(fd);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void notify_takes_the_socket_that_was_handed_over(void **state)
{
	(void)state;
	assert_int_equal(listen_in_child(1, NULL, NULL), 3);
	assert_int_equal(listen_in_child(1, "anything", NULL), 3);
	assert_int_equal(listen_in_child(3, "http:rpc:admin", NULL), 4);
	assert_int_equal(listen_in_child(0, NULL, NULL), 0);
}

static void notify_refuses_sockets_it_cannot_choose_from(void **state)
{
	(void)state;
	assert_int_equal(listen_in_child(2, "a:b", NULL), 100);
	assert_int_equal(listen_in_child(2, "rpc:rpc", NULL), 100);
	assert_int_equal(listen_in_child(2, NULL, NULL), 100);
}

static void notify_ignores_sockets_meant_for_another_process(void **state)
{
	(void)state;
	assert_int_equal(listen_in_child(1, "rpc", "1"), 0);
}

#else

static void notify_without_libsystemd_does_nothing(void **state)
{
	struct bn_error err;
	int fd = -1;
	char got[8];

	(void)state;
	assert_int_equal(bn_notify_ready("x"), 0);
	assert_int_equal(bn_notify_reloading(), 0);
	assert_int_equal(bn_notify_stopping("x"), 0);
	assert_int_equal(bn_notify_status("x"), 0);
	assert_int_equal(bn_notify_watchdog(), 0);
	assert_int_equal(bn_notify_extend(1), 0);
	assert_int_equal(bn_notify_watchdog_ms(), 0);
	assert_int_equal(bn_notify_listen_fd(&fd, &err), BN_OK);
	assert_int_equal(fd, 0);
	assert_int_equal(recv(manager, got, sizeof(got), MSG_DONTWAIT), -1);
	(void)expect;
}

#endif

static void notify_without_a_manager_does_nothing(void **state)
{
	(void)state;
	assert_int_equal(bn_notify_ready("x"), 0);
	assert_int_equal(bn_notify_watchdog(), 0);
	assert_int_equal(bn_notify_reloading(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_manager, close_manager)

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef BN_HAVE_SYSTEMD
		TEST(notify_tells_the_manager_each_thing),
		TEST(notify_watchdog_interval_is_half_of_what_is_asked),
		TEST(notify_takes_the_socket_that_was_handed_over),
		TEST(notify_refuses_sockets_it_cannot_choose_from),
		TEST(notify_ignores_sockets_meant_for_another_process),
#else
		TEST(notify_without_libsystemd_does_nothing),
#endif
		cmocka_unit_test(notify_without_a_manager_does_nothing),
	};

	return cmocka_run_group_tests_name("daemon/notify", tests, NULL, NULL);
}
