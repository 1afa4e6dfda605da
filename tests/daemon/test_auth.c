#include "daemon/auth.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct bn_auth *auth_of(const char *text)
{
	struct bn_yaml_report report;
	struct bn_config *config;
	struct bn_auth *auth;
	struct bn_error err;

	assert_int_equal(bn_config_parse(&config, "bnd.yaml", text, strlen(text), &report, &err),
			 BN_OK);
	if (bn_auth_new(&auth, config, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	bn_config_free(config); /* nothing of it is needed any more */
	return auth;
}

/* Every right for every kind of caller; `own` is a uid that is never the one we run as. */
static void rights_without_a_list_are_for_whoever_gets_in(void **state)
{
	struct bn_auth *a = auth_of("");

	(void)state;
	assert_int_equal(bn_auth_rights(a, 54321, 1, NULL, 0), BN_MAY_STATUS | BN_MAY_GENERATE);
	assert_int_equal(bn_auth_rights(a, 0, 0, NULL, 0), BN_MAY_ALL);
	assert_int_equal(bn_auth_rights(a, geteuid(), 1, NULL, 0), BN_MAY_ALL);
	bn_auth_free(a);
	bn_auth_free(NULL);
}

static void rights_with_a_list_are_denied_by_default(void **state)
{
	struct bn_auth *a = auth_of("access:\n"
				    "  - {user: '54321', may: generate}\n"
				    "  - {group: '700', may: status}\n"
				    "  - {group: '701', may: [load, status]}\n");
	static const gid_t both[] = { 5, 700, 701 };
	static const gid_t none[] = { 5, 6 };

	(void)state;
	assert_int_equal(bn_auth_rights(a, 54322, 1, NULL, 0), 0);
	assert_int_equal(bn_auth_rights(a, 54322, 1, none, 2), 0);
	assert_int_equal(bn_auth_rights(a, 54321, 1, NULL, 0), BN_MAY_GENERATE);
	assert_int_equal(bn_auth_rights(a, 54322, 700, NULL, 0), BN_MAY_STATUS); /* primary */
	assert_int_equal(bn_auth_rights(a, 54322, 1, both, 2), BN_MAY_STATUS);   /* other */
	assert_int_equal(bn_auth_rights(a, 54321, 1, both, 3),
			 BN_MAY_STATUS | BN_MAY_GENERATE | BN_MAY_LOAD);
	assert_int_equal(bn_auth_rights(a, 700, 1, NULL, 0), 0); /* a uid is no gid */
	assert_int_equal(bn_auth_rights(a, 0, 0, NULL, 0), BN_MAY_ALL);
	assert_int_equal(bn_auth_rights(a, geteuid(), 1, NULL, 0), BN_MAY_ALL);
	bn_auth_free(a);
}

static void rights_of_the_overflow_uid_are_none_whatever_is_listed(void **state)
{
	struct bn_auth *open_to_all = auth_of("");
	struct bn_auth *listed = auth_of("access: [{user: '65534', may: all}, "
					 "{group: '65534', may: all}]\n");

	(void)state;
	assert_int_equal(bn_auth_rights(open_to_all, 65534, 65534, NULL, 0), 0);
	assert_int_equal(bn_auth_rights(listed, 65534, 65534, NULL, 0), 0);
	assert_int_equal(bn_auth_rights(open_to_all, (uid_t)-1, 1, NULL, 0), 0);
	bn_auth_free(open_to_all);
	bn_auth_free(listed);
}

static void names_are_resolved_when_made(void **state)
{
	const struct passwd *user = getpwnam("daemon");
	const struct group *group = getgrnam("daemon");
	struct bn_auth *a;
	gid_t list[1];

	(void)state;
	if (user == NULL || group == NULL) {
		skip();
	}
	a = auth_of("access: [{user: daemon, may: load}, {group: daemon, may: status}]\n");
	assert_int_equal(bn_auth_rights(a, user->pw_uid, 54321, NULL, 0), BN_MAY_LOAD);
	list[0] = group->gr_gid;
	assert_int_equal(bn_auth_rights(a, 54321, 54321, list, 1), BN_MAY_STATUS);
	bn_auth_free(a);
}

static void names_nobody_has_are_refused_with_their_place(void **state)
{
	static const char text[] = "access:\n  - {group: bn-no-such-group, may: all}\n";
	struct bn_yaml_report report;
	struct bn_config *config;
	struct bn_auth *auth;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_config_parse(&config, "bnd.yaml", text, strlen(text), &report, &err),
			 BN_OK);
	assert_int_equal(bn_auth_new(&auth, config, &err), BN_E_CONFIG);
	assert_string_equal(err.text,
			    "bnd.yaml:2:5: access: there is no group 'bn-no-such-group' on "
			    "this machine");
	bn_config_free(config);
}

static void peer_of_a_socket_is_who_made_it(void **state)
{
	struct bn_auth *a = auth_of("");
	struct bn_peer peer;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(bn_auth_peer(a, pair[0], &peer, NULL), BN_OK);
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(peer.gid, getegid());
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.rights, BN_MAY_ALL);
	close(pair[0]);
	close(pair[1]);
	bn_auth_free(a);
}

/* A child changes who it is, makes a pair of sockets and gives one end back. */
static int socket_of(uid_t uid, gid_t gid, const gid_t *groups, size_t n)
{
	struct msghdr message = { 0 };
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte = 0;
	struct iovec io = { &byte, 1 };
	int channel[2], fd, status;
	struct cmsghdr *c;
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, channel), 0);
	message.msg_iov = &io;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	child = fork();
	if (child == 0) {
		int pair[2];

		if (setgroups(n, groups) != 0 || setgid(gid) != 0 || setuid(uid) != 0 ||
		    socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
			_exit(1);
		}
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pair[0], sizeof(int));
		_exit(sendmsg(channel[1], &message, 0) == 1 ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(recvmsg(channel[0], &message, 0), 1);
	c = CMSG_FIRSTHDR(&message);
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	close(channel[0]);
	close(channel[1]);
	return fd;
}

static void peer_groups_beyond_the_primary_count(void **state)
{
	struct bn_auth *a;
	struct bn_peer peer;
	struct bn_error err;
	gid_t many[500];
	int fd;

	(void)state;
	if (geteuid() != 0) {
		skip();
	}
	a = auth_of("access: [{group: '7499', may: generate}]\n");
	for (gid_t i = 0; i < 500; i++) {
		many[i] = 7000 + i; /* more than fit the first guess */
	}
	fd = socket_of(54321, 54321, many, 500);
	assert_int_equal(bn_auth_peer(a, fd, &peer, &err), BN_OK);
	assert_int_equal(peer.uid, 54321);
	assert_int_equal(peer.rights, BN_MAY_GENERATE);
	close(fd);
	fd = socket_of(54321, 54321, many, 499);
	assert_int_equal(bn_auth_peer(a, fd, &peer, &err), BN_E_PERMISSION);
	assert_int_equal(peer.uid, 54321);
	assert_int_equal(peer.rights, 0);
	assert_non_null(strstr(err.text, "uid 54321 is not on the access list"));
	close(fd);
	fd = socket_of(65534, 65534, NULL, 0);
	assert_int_equal(bn_auth_peer(a, fd, &peer, &err), BN_E_PERMISSION);
	assert_non_null(strstr(err.text, "user namespace"));
	close(fd);
	bn_auth_free(a);
}

static void peer_of_something_else_is_an_error(void **state)
{
	struct bn_auth *a = auth_of("");
	struct bn_peer peer;
	struct bn_error err;
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	assert_int_equal(bn_auth_peer(a, fd, &peer, &err), BN_E_IO);
	assert_int_equal(peer.rights, 0);
	close(fd);
	bn_auth_free(a);
}

static void check_names_the_right_that_is_missing(void **state)
{
	struct bn_peer peer = { .uid = 1000, .rights = BN_MAY_STATUS | BN_MAY_GENERATE };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_auth_check(&peer, BN_MAY_STATUS, &err), BN_OK);
	assert_int_equal(bn_auth_check(&peer, 0, &err), BN_OK);
	assert_int_equal(bn_auth_check(&peer, BN_MAY_STATUS | BN_MAY_LOAD, &err), BN_E_PERMISSION);
	assert_non_null(strstr(err.text, "uid 1000 lacks the right 'load'"));
	assert_string_equal(err.data[0].key, "right");
	assert_string_equal(err.data[0].text, "load");
	assert_int_equal(bn_auth_check(&peer, BN_MAY_ADMIN, &err), BN_E_PERMISSION);
}

static void identity_must_be_the_whole_map(void **state)
{
	static const struct {
		const char *map;
		enum bn_status status;
	} cases[] = { { "         0          0 4294967295\n", BN_OK },
		      { "         0       1000          1\n", BN_E_CONFIG },
		      { "0 0 65536\n", BN_E_CONFIG },
		      { "", BN_E_CONFIG } };
	char path[] = "/tmp/bn-test-uid-map-XXXXXX";
	struct bn_error err;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		FILE *out = fopen(path, "w");

		fputs(cases[i].map, out);
		fclose(out);
		assert_int_equal(bn_auth_check_identity(path, &err), cases[i].status);
	}
	unlink(path);
	assert_int_equal(bn_auth_check_identity(path, &err), BN_OK); /* cannot be seen */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights_without_a_list_are_for_whoever_gets_in),
		cmocka_unit_test(rights_with_a_list_are_denied_by_default),
		cmocka_unit_test(rights_of_the_overflow_uid_are_none_whatever_is_listed),
		cmocka_unit_test(names_are_resolved_when_made),
		cmocka_unit_test(names_nobody_has_are_refused_with_their_place),
		cmocka_unit_test(peer_of_a_socket_is_who_made_it),
		cmocka_unit_test(peer_groups_beyond_the_primary_count),
		cmocka_unit_test(peer_of_something_else_is_an_error),
		cmocka_unit_test(check_names_the_right_that_is_missing),
		cmocka_unit_test(identity_must_be_the_whole_map),
	};

	return cmocka_run_group_tests_name("daemon/auth", tests, NULL, NULL);
}
