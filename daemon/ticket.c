/*
 * A connection is gone only when its on_closed hook has run, and then its calls are off its
 * session; so `session` says exactly whether anybody can be answered, and no call keeps a pointer
 * to a connection of its own.
 */
#include "daemon/ticket.h"

#include "proto/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bn_session *bn_session_of(struct bn_desk *desk, struct bn_connection *c)
{
	struct bn_session *s = bn_connection_data(c);

	if (s == NULL) {
		s = calloc(1, sizeof(*s));
		if (s != NULL) {
			s->desk = desk;
			s->connection = c;
			bn_connection_set_data(c, s);
		}
	}
	return s;
}

void bn_session_close(struct bn_connection *c)
{
	struct bn_session *s = bn_connection_data(c);

	if (s == NULL) {
		return;
	}
	while (s->first != NULL) {
		struct bn_ticket *call = s->first;

		bn_ticket_close(call);
		call->gone(call);
	}
	bn_connection_set_data(c, NULL);
	free(s);
}

void bn_session_pause(struct bn_connection *c, bool pause)
{
	struct bn_session *s = bn_connection_data(c);

	for (struct bn_ticket *call = s != NULL ? s->first : NULL; call != NULL;
	     call = call->after) {
		if (call->pause != NULL) {
			call->pause(call, pause);
		}
	}
}

struct bn_ticket *bn_session_find(const struct bn_session *s, struct bn_text id)
{
	for (struct bn_ticket *c = s->first; c != NULL; c = c->after) {
		if (c->id_bytes == id.n && memcmp(c->id, id.at, id.n) == 0) {
			return c;
		}
	}
	return NULL;
}

enum bn_status bn_ticket_open(struct bn_session *s, struct bn_ticket *c, uint32_t msgid,
			      enum bn_method method, struct bn_text id, struct bn_error *err)
{
	bn_assert(id.n <= sizeof(c->id));
	if (id.n > 0 && bn_session_find(s, id) != NULL) {
		bn_fail(err, BN_E_CONFLICT,
			"this connection already has a request '%.*s'; ids are unique while a "
			"request lives",
			(int)id.n, id.at);
		bn_error_string(err, "param", "id");
		return BN_E_CONFLICT;
	}
	if (id.n > 0) {
		memcpy(c->id, id.at, id.n);
		c->id_bytes = (uint32_t)id.n;
	} else {
		do {
			c->id_bytes =
				(uint32_t)snprintf(c->id, sizeof(c->id), "%" PRIu64 "-%" PRIu64,
						   bn_connection_id(s->connection), ++s->made);
		} while (bn_session_find(s, (struct bn_text){ c->id, c->id_bytes }) != NULL);
	}
	c->session = s;
	c->desk = s->desk;
	c->msgid = msgid;
	c->method = method;
	c->before = NULL;
	c->after = s->first;
	if (s->first != NULL) {
		s->first->before = c;
	}
	s->first = c;
	return BN_OK;
}

void bn_ticket_close(struct bn_ticket *c)
{
	struct bn_session *s = c->session;

	if (s == NULL) {
		return;
	}
	if (c->before != NULL) {
		c->before->after = c->after;
	} else {
		s->first = c->after;
	}
	if (c->after != NULL) {
		c->after->before = c->before;
	}
	c->session = NULL;
}

struct bn_pack *bn_desk_result_begin(struct bn_desk *d, uint32_t msgid)
{
	bn_pack_reset(&d->pack);
	bn_message_result_begin(&d->pack, msgid);
	bn_pack_map(&d->pack, NULL);
	return &d->pack;
}

void bn_desk_fail(struct bn_desk *d, struct bn_connection *c, uint32_t msgid,
		  const struct bn_error *err)
{
	bn_metrics_add(d->metrics, BN_METRIC_REJECTED, bn_status_word(err->status), 1);
	bn_connection_respond_error(c, msgid, err);
}

void bn_desk_result_end(struct bn_desk *d, struct bn_connection *c, uint32_t msgid)
{
	struct bn_error err;

	bn_pack_end(&d->pack);
	if (bn_message_result_end(&d->pack, &err) != BN_OK) {
		bn_desk_fail(d, c, msgid, &err);
		return;
	}
	bn_connection_respond(c, d->pack.data, d->pack.used);
}

struct bn_pack *bn_ticket_result_begin(struct bn_ticket *c)
{
	return bn_desk_result_begin(c->desk, c->msgid);
}

void bn_ticket_result_end(struct bn_ticket *c)
{
	if (c->session != NULL) {
		bn_desk_result_end(c->desk, c->session->connection, c->msgid);
	}
}

void bn_ticket_fail(struct bn_ticket *c, const struct bn_error *err)
{
	if (c->session != NULL) {
		bn_desk_fail(c->desk, c->session->connection, c->msgid, err);
	}
}

void bn_ticket_event(struct bn_ticket *c, struct bn_event *event)
{
	struct bn_error err;

	if (c->session == NULL) {
		return;
	}
	event->head.has_id = true;
	event->head.id = (struct bn_text){ c->id, c->id_bytes };
	event->head.has_seq = true;
	event->head.seq = c->seq++;
	bn_pack_reset(&c->desk->pack);
	if (bn_message_event(&c->desk->pack, event, &err) == BN_OK) {
		bn_connection_send(c->session->connection, c->desk->pack.data, c->desk->pack.used);
	} else {
		/* A lost piece of text must not go unnoticed. */
		bn_connection_close(c->session->connection, BN_CLOSE_MEMORY);
	}
}
