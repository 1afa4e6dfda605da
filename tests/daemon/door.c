#include "tests/daemon/door.h"

#include "daemon/log.h"
#include "tests/daemon/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS_MOST = 20000, GRACE_MS = 100, PING_BYTES = 9 };

static void on_message(struct bn_connection *c, const struct bn_message *m, void *who)
{
	struct bn_pack p;

	(void)who;
	if (m->kind != BN_MESSAGE_CALL) {
		return;
	}
	bn_pack_init(&p);
	bn_message_result_begin(&p, m->msgid);
	bn_pack_int(&p, NULL, bn_connection_peer(c)->pid);
	assert_int_equal(bn_message_result_end(&p, NULL), BN_OK);
	bn_connection_respond(c, p.data, p.used);
	bn_pack_finish(&p);
}

static void on_closed(struct bn_connection *c, enum bn_close reason, void *who)
{
	struct door *d = who;

	(void)c;
	(void)reason;
	d->closed++;
}

static void set_flag(void *who)
{
	*(bool *)who = true;
}

static void stop(struct door *d, struct bn_server *s)
{
	uint64_t start = clock_now();
	bool stopped = false;

	bn_server_stop(s, GRACE_MS, set_flag, &stopped);
	while (!stopped) {
		assert_true(clock_now() - start < 10 * GRACE_MS);
		door_pass(d, 1);
	}
}

struct bn_server *door_server(struct door *d)
{
	struct bn_server *s;

	assert_int_equal(
		bn_server_new(&s, &d->loop, d->config, d->auth, &d->hooks, d->metrics, NULL),
		BN_OK);
	return s;
}

void door_configure(struct door *d, const char *yaml)
{
	struct bn_yaml_report report;
	struct bn_error err;

	bn_config_free(d->config);
	if (bn_config_parse(&d->config, "bnd.yaml", yaml, strlen(yaml), &report, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	if (d->server != NULL) {
		bn_server_reconfigure(d->server, d->config, d->auth);
	}
}

int door_up(void **state)
{
	struct door *d = calloc(1, sizeof(*d));

	bn_log_set_level(BN_LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(d);
	*state = d;
	d->hooks = (struct bn_connection_hooks){ .on_message = on_message,
						 .on_closed = on_closed,
						 .who = d };
	strcpy(d->folder, "/tmp/bn-test-server-XXXXXX");
	assert_non_null(mkdtemp(d->folder));
	snprintf(d->path, sizeof(d->path), "%s/bnd.sock", d->folder);
	assert_int_equal(uv_loop_init(&d->loop), 0);
	door_configure(d, "limits: {clients: 8, connections_per_user: 6}\n");
	assert_int_equal(bn_auth_new(&d->auth, d->config, NULL), BN_OK);
	assert_int_equal(bn_metrics_new(&d->metrics, NULL), BN_OK);
	d->server = door_server(d);
	return 0;
}

int door_down(void **state)
{
	struct door *d = *state;
	char command[128];

	if (d->server != NULL) {
		door_end(d);
	}
	door_turn(d, 3);
	assert_int_equal(uv_loop_close(&d->loop), 0);
	bn_auth_free(d->auth);
	bn_config_free(d->config);
	bn_metrics_free(d->metrics);
	snprintf(command, sizeof(command), "rm -rf '%s'", d->folder);
	assert_int_equal(system(command), 0);
	free(d);
	return 0;
}

void door_end(struct door *d)
{
	stop(d, d->server);
	d->server = NULL;
}

void door_replace(struct door *d, struct bn_server *successor)
{
	stop(d, d->server);
	d->server = successor;
}

void door_open(struct door *d)
{
	struct bn_error err;

	if (bn_server_listen(d->server, 0, d->path, "", 0660, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
}

void door_turn(struct door *d, int times)
{
	while (times-- > 0) {
		uv_run(&d->loop, UV_RUN_NOWAIT);
	}
}

void door_pass(struct door *d, uint64_t ms)
{
	clock_pass(&d->loop, ms);
}

int door_dial(const struct door *d)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(strlen(d->path) < sizeof(address.sun_path));
	strcpy(address.sun_path, d->path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		int cause = errno;

		close(fd);
		errno = cause;
		return -1;
	}
	return fd;
}

enum bn_status door_answer(struct door *d, int fd, struct bn_remote_error *error)
{
	static unsigned char bytes[1024]; /* `error` borrows from it */
	struct bn_message m;
	ssize_t n = -1;

	for (int i = 0; n < 0 && i < TURNS_MOST; i++) {
		door_turn(d, 1);
		n = read(fd, bytes, sizeof(bytes));
	}
	assert_true(n > 0);
	assert_int_equal(bn_message_open(&m, bytes, (size_t)n, NULL), BN_OK);
	assert_int_equal(m.kind, BN_MESSAGE_RESPONSE);
	return bn_message_read_error(&m, error) ? error->status : BN_OK;
}

enum bn_status door_ping(struct door *d, int fd)
{
	struct bn_remote_error error;

	assert_int_equal(write(fd, "\x94\x00\x01\xa4ping\x90", PING_BYTES), PING_BYTES);
	return door_answer(d, fd, &error);
}

void door_visit(struct door *d)
{
	int fd = door_dial(d);

	assert_true(fd >= 0);
	assert_int_equal(door_ping(d, fd), BN_OK);
	close(fd);
}

bool door_is_closed(struct door *d, int fd)
{
	char byte;
	ssize_t n = -1;

	errno = EAGAIN;
	for (int i = 0; n < 0 && errno == EAGAIN && i < TURNS_MOST; i++) {
		door_turn(d, 1);
		n = read(fd, &byte, 1);
	}
	return n == 0 || (n < 0 && errno == ECONNRESET);
}
