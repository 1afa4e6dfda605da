/*
 * One peer: bytes in become checked messages handed upwards, messages out become as few writes as
 * possible, and whoever does not read, does not finish a message or breaks the protocol is cut.
 *
 * It does not accept (server.c), decide rights (auth.c) or know a method (methods.c). It never
 * waits and never blocks another peer.
 *
 * How it ends, and the memory rule. There is one way: bn_connection_close(), called by the owner
 * above or by this file itself (disconnect, stall, protocol fault ...). It only marks; the rest
 * happens from the loop, never inside a call you make: hooks.on_closed() is called exactly once
 * per opened connection, and when it returns the pointer is dead. Between the two everything you
 * call does nothing. So: never keep a `struct bn_connection *` beyond on_closed, and you need not
 * ask anywhere else whether it is alive. All hooks are called from the loop, none from inside
 * another function of this file.
 *
 * Output. bn_connection_send() copies into the connection's queue; one write per loop iteration
 * takes all of it, just before the loop sleeps: the first token leaves in the iteration it came
 * in, a burst leaves as one write. When output_soft bytes wait, on_pause(true) asks the owner to
 * stop producing and reading stops; below half of it on_pause(false). A peer that is behind like
 * that is cut when output_hard bytes wait and more is sent, and any peer that took fewer than
 * stall_rate bytes per second over stall_timeout while something waited: a trickle does not reset
 * that clock. What comes in one turn of the loop is never judged, so memory per peer is bounded
 * by output_hard plus the answers to in_flight calls.
 *
 * A peer that only closes its sending side asks for nothing more and gets its answers, then the
 * end. One that closes altogether, or dies, is noticed at once in any phase (daemon/hangup.h).
 *
 * The process must ignore SIGPIPE: libuv writes without MSG_NOSIGNAL.
 *
 * Input. After limits.in_flight unanswered calls, reading stops until one is answered; the kernel
 * then holds the sender back. A message that has begun must end within message_timeout.
 */
#ifndef BN_DAEMON_CONNECTION_H
#define BN_DAEMON_CONNECTION_H

#include "daemon/auth.h"
#include "daemon/config.h"
#include "daemon/metrics.h"
#include "proto/error.h"
#include "proto/message.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* Opaque; owned by its group, valid from open until on_closed returns. */
struct bn_connection;

/* Opaque: what the connections of one server share. */
struct bn_connections;

/* X(SYMBOL, word): why a connection ended; the word is a metrics label and stands in the log. */
#define BN_CLOSE_TABLE(X)                                                            \
	X(DONE, "done")         /* it left when everything was answered           */ \
	X(GONE, "gone")         /* it left, or its socket failed, with work open  */ \
	X(FAULT, "fault")       /* bytes that are no message; answered, then cut  */ \
	X(STALLED, "stalled")   /* does not read                                  */ \
	X(PARTIAL, "partial")   /* began a message and did not end it             */ \
	X(SHUTDOWN, "shutdown") /* we stop                                        */ \
	X(MEMORY, "memory")     /* no memory for its bytes                        */ \
	X(REFUSED, "refused")   /* over a limit, or not allowed here              */

#define BN_CLOSE_ENUM(SYMBOL, word) BN_CLOSE_##SYMBOL,
enum bn_close { BN_CLOSE_TABLE(BN_CLOSE_ENUM) BN_CLOSES };
#undef BN_CLOSE_ENUM

/* All times in ms, all sizes in bytes; see config.limits of the same names. */
struct bn_connection_limits {
	uint32_t in_flight;
	size_t message;
	size_t output_soft;
	size_t output_hard;
	uint64_t stall_timeout_ms;
	uint64_t stall_rate;
	uint64_t message_timeout_ms;
};

/* What the floor above gets to hear. All but on_message may be NULL. */
struct bn_connection_hooks {
	/*
	 * A call or a notification, its envelope opened; borrowed until the hook returns. For a
	 * call (message->kind) the owner owes exactly one bn_connection_respond(), now or later,
	 * even if the method is unknown. Responses from clients never arrive here: they are faults.
	 */
	void (*on_message)(struct bn_connection *c, const struct bn_message *message, void *who);
	/* Output piles up (true) or has drained (false): stop or resume producing for this peer. */
	void (*on_pause)(struct bn_connection *c, bool pause, void *who);
	/* The end: cancel what it asked for, forget the pointer. */
	void (*on_closed)(struct bn_connection *c, enum bn_close reason, void *who);
	void *who;
};

/* The word of a reason: static. */
const char *bn_close_word(enum bn_close reason) BN_ON_ANY;

/* The limits the configuration asks for. */
struct bn_connection_limits bn_connection_limits_of(const struct bn_config *config) BN_ON_ANY;

/*
 * Makes an empty group on a loop. `hooks` and `limits` are copied; `metrics` (NULL allowed) is
 * borrowed and counts connections and reasons. BN_E_MEMORY, BN_E_IO.
 */
BN_MUST_USE enum bn_status bn_connections_new(struct bn_connections **out, uv_loop_t *loop,
					      const struct bn_connection_limits *limits,
					      const struct bn_connection_hooks *hooks,
					      struct bn_metrics *metrics,
					      struct bn_error *err) BN_ON_LOOP;

/* New limits, from now on, for open connections too (message: for new ones). */
void bn_connections_set_limits(struct bn_connections *g,
			       const struct bn_connection_limits *limits) BN_ON_LOOP;

/*
 * Closes all connections with BN_CLOSE_SHUTDOWN, then the group, and calls `closed(who)` from the
 * loop when nothing is left; the group is freed then. What is queued is still written for at
 * most grace_ms. Once only.
 */
void bn_connections_close(struct bn_connections *g, uint64_t grace_ms, void (*closed)(void *who),
			  void *who) BN_ON_LOOP;

/* Open connections; those of one uid. */
uint32_t bn_connections_count(const struct bn_connections *g) BN_ON_LOOP;
uint32_t bn_connections_count_uid(const struct bn_connections *g, uid_t uid) BN_ON_LOOP;

/* Unanswered calls of all connections: 0 means a drain is complete. */
uint64_t bn_connections_in_flight(const struct bn_connections *g) BN_ON_LOOP;

/* Calls fn for every connection that is not ending. fn may close any of them, not open one. */
void bn_connections_each(struct bn_connections *g, void (*fn)(struct bn_connection *c, void *who),
			 void *who) BN_ON_LOOP;

/* Sends one notification to everybody. */
void bn_connections_broadcast(struct bn_connections *g, const void *bytes, size_t n) BN_ON_LOOP;

/*
 * Takes over a connected, non-blocking stream socket. On success the group owns fd and *out;
 * on failure (BN_E_MEMORY, BN_E_IO) fd is closed. Reading starts from the loop.
 */
BN_MUST_USE enum bn_status bn_connection_open(struct bn_connection **out, struct bn_connections *g,
					      int fd, const struct bn_peer *peer,
					      struct bn_error *err) BN_ON_LOOP;

/* Queues n bytes of whole messages that are no response to a call: notifications. Copies. */
void bn_connection_send(struct bn_connection *c, const void *bytes, size_t n) BN_ON_LOOP;

/*
 * Queues the one response to one call and takes it off the count of unanswered calls. Copies. If
 * memory is out the connection is closed with BN_CLOSE_MEMORY. Never more often than calls came.
 */
void bn_connection_respond(struct bn_connection *c, const void *bytes, size_t n) BN_ON_LOOP;

/* The same with an error, encoded here. */
void bn_connection_respond_error(struct bn_connection *c, uint32_t msgid,
				 const struct bn_error *error) BN_ON_LOOP;

/*
 * Ends it. What is queued is still written, for at most a second (SHUTDOWN: the grace of
 * bn_connections_close), if reason is DONE, FAULT, PARTIAL, REFUSED or SHUTDOWN. The first reason
 * counts; calling again does nothing.
 */
void bn_connection_close(struct bn_connection *c, enum bn_close reason) BN_ON_LOOP;

/* True after bn_connection_close: nothing will be sent any more, on_closed is on its way. */
bool bn_connection_is_closing(const struct bn_connection *c) BN_ON_LOOP;

/* True while on_pause(true) stands. */
bool bn_connection_is_paused(const struct bn_connection *c) BN_ON_LOOP;

/* Who it is: uid, gid, pid, rights. Lives as long as the connection. */
const struct bn_peer *bn_connection_peer(const struct bn_connection *c) BN_ON_LOOP;

/* Number of this connection since the start, from 1: for log lines and request ids. */
uint64_t bn_connection_id(const struct bn_connection *c) BN_ON_LOOP;

/* Unanswered calls; bytes queued and not yet taken by the kernel. */
uint32_t bn_connection_in_flight(const struct bn_connection *c) BN_ON_LOOP;
size_t bn_connection_queued(const struct bn_connection *c) BN_ON_LOOP;

/* A pointer of the owner's, NULL at first; not touched here. */
void bn_connection_set_data(struct bn_connection *c, void *data) BN_ON_LOOP;
void *bn_connection_data(const struct bn_connection *c) BN_ON_LOOP;

#endif
