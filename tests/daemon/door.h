/*
 * What tests of daemon/server.h stand on: a server over a loop in a folder of its own, whose hooks
 * answer every call with the pid of the caller, and clients of it in the same process. Time is the
 * test's own (tests/daemon/clock.h).
 *
 * It does not listen by itself. Connections as such are tested over tests/daemon/wire.h.
 */
#ifndef BN_TESTS_DAEMON_DOOR_H
#define BN_TESTS_DAEMON_DOOR_H

#include "daemon/server.h"
#include "proto/message.h"

#include <stdbool.h>
#include <uv.h>

struct door {
	uv_loop_t loop;
	struct bn_config *config;
	struct bn_auth *auth;
	struct bn_metrics *metrics;
	struct bn_server *server; /* NULL: the test has stopped it */
	char folder[64];
	char path[96]; /* where door_open listens and door_dial calls */
	int closed;    /* connections that have ended */
	struct bn_connection_hooks hooks;
};

/* What the list of a test program consists of. */
#define DOOR_TEST(name) cmocka_unit_test_setup_teardown(name, door_up, door_down)

/* Setup and teardown, with the door in *state: room for 8 clients, 6 of them of one user. */
int door_up(void **state);
int door_down(void **state);

/* Another configuration, of the server there is too. */
void door_configure(struct door *d, const char *yaml);

/* A second server over the same loop, configuration and hooks. */
struct bn_server *door_server(struct door *d);

/* Stops d->server, or one that took its place, and waits for its end. */
void door_end(struct door *d);
void door_replace(struct door *d, struct bn_server *successor);

/* Listens at d->path, with mode 0660. */
void door_open(struct door *d);

/* Turns the loop so often without waiting; lets time pass. */
void door_turn(struct door *d, int times);
void door_pass(struct door *d, uint64_t ms);

/* A client's socket, non-blocking; -1 and errno when nobody lets it connect. */
int door_dial(const struct door *d);

/* The answer to whatever was sent: the error's status, BN_OK for a result; fails without one. */
enum bn_status door_answer(struct door *d, int fd, struct bn_remote_error *error);

/* Sends a call and returns what door_answer says. */
enum bn_status door_ping(struct door *d, int fd);

/* Somebody comes, is answered, and leaves. */
void door_visit(struct door *d);

/* Whether the other side has hung up. */
bool door_is_closed(struct door *d, int fd);

#endif
