/*
 * Tickets: calls that are not answered yet, one struct per call, found by connection and id,
 * answered once, and told when their connection is gone.
 *
 * It does not know methods (daemon/methods.c) or what a call is waiting for; each kind of call
 * embeds a `struct bn_ticket` and gives three hooks.
 */
#ifndef BN_DAEMON_TICKET_H
#define BN_DAEMON_TICKET_H

#include "daemon/connection.h"
#include "proto/error.h"
#include "proto/message.h"
#include "proto/pack.h"
#include "proto/role.h"
#include "proto/schema.h"

#include <stdbool.h>
#include <stdint.h>

struct bn_ticket;

/* What open calls share; owned by methods.c. */
struct bn_desk {
	struct bn_pack pack;        /* every answer is written here, one at a time */
	struct bn_metrics *metrics; /* NULL allowed */
};

/* The calls of one connection; hangs on its data pointer. */
struct bn_session {
	struct bn_desk *desk;
	struct bn_connection *connection;
	struct bn_ticket *first;
	uint64_t made; /* ids */
};

/* Embed one, zeroed, in what a call needs while it is open. */
struct bn_ticket {
	struct bn_session *session; /* NULL: the connection is gone, nobody reads the answer */
	struct bn_desk *desk;
	struct bn_ticket *before, *after;
	uint32_t msgid;
	enum bn_method method;
	char id[BN_LIMIT_ID_BYTES];
	uint32_t id_bytes;
	int64_t seq; /* of the next event */
	/* The connection is gone: stop the work. The call is already off its session. */
	void (*gone)(struct bn_ticket *c);
	/* Somebody cancels it; its answer follows now or later. NULL: cannot be cancelled. */
	void (*cancel)(struct bn_ticket *c);
	/* The client reads too slowly, or catches up. NULL: does not matter. */
	void (*pause)(struct bn_ticket *c, bool pause);
};

/* The session of a connection, made when it is asked for the first time; NULL without memory. */
struct bn_session *bn_session_of(struct bn_desk *desk, struct bn_connection *c) BN_ON_LOOP;

/* The connection's hooks on_closed and on_pause end here. */
void bn_session_close(struct bn_connection *c) BN_ON_LOOP;
void bn_session_pause(struct bn_connection *c, bool pause) BN_ON_LOOP;

/* The open call of that id, or NULL. */
struct bn_ticket *bn_session_find(const struct bn_session *s, struct bn_text id) BN_ON_LOOP;

/*
 * Puts a call on its session under `id` (empty: one is made). BN_E_CONFLICT, with fact "param",
 * when the connection has one of that id open.
 */
BN_MUST_USE enum bn_status bn_ticket_open(struct bn_session *s, struct bn_ticket *c, uint32_t msgid,
					  enum bn_method method, struct bn_text id,
					  struct bn_error *err) BN_ON_LOOP;

/* Takes it off its session, if it still is on one; the owner frees it. */
void bn_ticket_close(struct bn_ticket *c) BN_ON_LOOP;

/* The answer, once, before closing: begin, fill the map that has been opened, end. */
struct bn_pack *bn_ticket_result_begin(struct bn_ticket *c) BN_ON_LOOP;
void bn_ticket_result_end(struct bn_ticket *c) BN_ON_LOOP;
void bn_ticket_fail(struct bn_ticket *c, const struct bn_error *err) BN_ON_LOOP;

/* Sends a `stream` event, whose id and seq are filled in here. */
void bn_ticket_event(struct bn_ticket *c, struct bn_event *event) BN_ON_LOOP;

/* The same for calls that are answered at once and have no struct. */
struct bn_pack *bn_desk_result_begin(struct bn_desk *d, uint32_t msgid) BN_ON_LOOP;
void bn_desk_result_end(struct bn_desk *d, struct bn_connection *c, uint32_t msgid) BN_ON_LOOP;
void bn_desk_fail(struct bn_desk *d, struct bn_connection *c, uint32_t msgid,
		  const struct bn_error *err) BN_ON_LOOP;

#endif
