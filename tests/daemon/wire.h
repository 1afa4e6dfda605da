/*
 * What tests of daemon/connection.h stand on. One end of a socket pair is a connection on a real
 * loop, the other is driven by hand, well and badly. A small protocol stands for methods.c: its
 * hooks count, and answer or keep the calls. Time is the test's own (tests/daemon/clock.h).
 *
 * It judges nothing but itself: what must have happened the tests say.
 */
#ifndef BN_TESTS_DAEMON_WIRE_H
#define BN_TESTS_DAEMON_WIRE_H

#include "daemon/connection.h"
#include "proto/frame.h"
#include "proto/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

enum { WIRE_CALL_BYTES = 13 };

struct wire {
	uv_loop_t loop;
	struct bn_connections *group;
	struct bn_metrics *metrics;
	struct bn_frame inbox; /* the peer's: what came and is not taken by wire_next */

	/* What the hooks have seen, over all connections of one test. */
	int calls, notifications, pauses, resumes, closed;
	uint32_t last_msgid;
	enum bn_close reason;

	/* What they do. */
	bool keep;        /* do not answer */
	size_t reply;     /* answer with this many bytes */
	bool close_first; /* close the connection from inside the hook */
};

/* 4 calls in flight, messages of 64 KiB, output marks at 16 and 64 KiB, 200 ms for everything. */
extern const struct bn_connection_limits wire_limits;

/* What the list of a test program consists of. */
#define WIRE_TEST(name) cmocka_unit_test_setup_teardown(name, wire_up, wire_down)

/* Setup and teardown, with the wire in *state. At the end everything must end by itself and leave
 * nothing on the loop. */
int wire_up(void **state);
int wire_down(void **state);

/* Another group, for a test that has closed its own. */
void wire_regroup(struct wire *w);

/* Turns the loop so often without waiting; lets time pass. */
void wire_turn(struct wire *w, int times);
void wire_pass(struct wire *w, uint64_t ms);

/* Turns the loop until the counter reaches `want`, without letting time pass; false if it does not
 * get there. All that is at work lies in this process, so a number of turns is enough. */
bool wire_until(struct wire *w, const int *counter, int want);

/* Lets time pass until the counter reaches `want`: how many milliseconds; fails after a minute. */
uint64_t wire_ms_until(struct wire *w, const int *counter, int want);

/* A connection; returns the peer's end, non-blocking, the caller's to close. */
int wire_connect(struct wire *w, struct bn_connection **c);

/* The bytes of [0, msgid, "ping", []]; sends n of them with msgids from `from`. */
void wire_put_call(unsigned char out[WIRE_CALL_BYTES], uint32_t msgid);
void wire_send_calls(int fd, uint32_t from, uint32_t n);

/* The answer the hook would have given. */
void wire_respond(struct wire *w, struct bn_connection *c, uint32_t msgid);

/* Reads what is there into the inbox; returns read()'s last result (0: end of file). */
ssize_t wire_slurp(struct wire *w, int fd);

/* The next message of the inbox, borrowed until the next call; false when there is none. */
bool wire_next(struct wire *w, struct bn_message *m);

/* The connection ends for that reason; the message it left behind is in *m. */
void wire_last_words(struct wire *w, int fd, enum bn_close reason, struct bn_message *m);

/* Sends until the peer's kernel buffer is full and so much waits with us that the hook has heard of
 * a pause; returns how many bytes that took. */
size_t wire_fill(struct wire *w, struct bn_connection *c);

#endif
