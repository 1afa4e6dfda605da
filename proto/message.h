/*
 * MessagePack-RPC messages: checked bytes into calls, replies and events, and back. The daemon
 * and libbnclient use this file and nothing else for bytes.
 *
 * It does not find message boundaries or guard against hostile sizes (proto/frame.h does), does
 * not read or write sockets, and keeps no table of requests in flight.
 *
 *   [0, msgid, method, [{...}]]      a call; one response follows
 *   [1, msgid, nil, result]          its result, or
 *   [1, msgid, error, nil]           its error: [code, text] or [code, text, data]
 *   [2, method, [{...}]]             a notification: "stream" to clients, "cancel" to the server
 */
#ifndef BN_PROTO_MESSAGE_H
#define BN_PROTO_MESSAGE_H

#include "proto/decode.h"
#include "proto/encode.h"
#include "proto/error.h"
#include "proto/pack.h"
#include "proto/params.h"
#include "proto/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bn_message_kind {
	BN_MESSAGE_CALL = 0, /* the numbers are the wire's */
	BN_MESSAGE_RESPONSE = 1,
	BN_MESSAGE_NOTIFICATION = 2,
};

/* The envelope of one message; borrows its bytes. */
struct bn_message {
	enum bn_message_kind kind;
	uint32_t msgid;         /* call, response */
	struct bn_text method;  /* call, notification */
	struct bn_value params; /* call, notification: whatever was sent */
	struct bn_value error;  /* response: NIL when it succeeded */
	struct bn_value result; /* response */
};

/* A call or notification understood: which method, with which parameters (borrowed). */
struct bn_call {
	enum bn_method method;
	union bn_params params;
};

/* A `stream` notification understood (borrowed). head.has_id and head.has_seq are always set. */
struct bn_event {
	struct bn_event_head head;
	enum bn_event_kind kind;
	union bn_event_body body;
};

/* An error as the other side sent it (borrowed). */
struct bn_remote_error {
	enum bn_status status; /* nearest of ours; BN_E_INTERNAL for numbers we do not know */
	int64_t code;          /* as sent; 0 when the error was not of our shape */
	struct bn_text text;
	struct bn_value data; /* NONE when there was none */
};

/* --- reading; all BN_ON_ANY, nothing allocates --------------------------------------------- */

/*
 * Opens the envelope of the n bytes of one message that came out of a frame. BN_E_MESSAGE when
 * it is none (impossible for bytes from a frame).
 */
enum bn_status bn_message_open(struct bn_message *m, const void *bytes, size_t n,
			       struct bn_error *err) BN_MUST_USE;

/*
 * Understands a call, or a notification, by the schema. BN_E_METHOD (with the nearest known
 * name), BN_E_PARAMS (not [] or [{...}]), BN_E_INVALID (names the field; data.param). *call is
 * then not to be used, but call->method is set as soon as the method is known, else
 * BN_METHOD_COUNT. A server drops notifications it does not understand without a word.
 */
enum bn_status bn_message_read_call(const struct bn_message *m, struct bn_call *call,
				    struct bn_error *err) BN_MUST_USE;

/*
 * Understands a "stream" notification. BN_E_METHOD: another notification; BN_E_NOT_SUPPORTED: an
 * event of a newer server. Both are to be ignored by clients. BN_E_INVALID: a broken event.
 */
enum bn_status bn_message_read_event(const struct bn_message *m, struct bn_event *event,
				     struct bn_error *err) BN_MUST_USE;

/* Understands the error of a response; false when the response carries a result. Lenient. */
bool bn_message_read_error(const struct bn_message *m, struct bn_remote_error *error);

/* --- writing; each appends one whole message to the pack, or nothing --------------------- */

/*
 * A call, or (notify) a notification without msgid. Only fields with has_... set are sent.
 * BN_E_INVALID: a field the server would refuse; BN_E_TOO_LARGE; BN_E_MEMORY.
 */
enum bn_status bn_message_call(struct bn_pack *p, uint32_t msgid, const struct bn_call *call,
			       struct bn_error *err) BN_MUST_USE;
enum bn_status bn_message_notify(struct bn_pack *p, const struct bn_call *call,
				 struct bn_error *err) BN_MUST_USE;

/*
 * A result. Pack exactly one value (normally bn_pack_map ... bn_pack_end) between the two:
 *     bn_message_result_begin(p, msgid);
 *     bn_pack_map(p, NULL); bn_pack_str(p, "server", "bnd"); bn_pack_end(p);
 *     status = bn_message_result_end(p, err);
 * result_end: BN_E_TOO_LARGE when it is more than a peer's frame accepts (the message is cut off
 * again; answer with the error instead), BN_E_MEMORY.
 */
void bn_message_result_begin(struct bn_pack *p, uint32_t msgid);
enum bn_status bn_message_result_end(struct bn_pack *p, struct bn_error *err) BN_MUST_USE;

/*
 * An error response from *error: [code, text], with a third element {kind, facts...} only when
 * there are facts or when the code alone would be ambiguous. BN_E_MEMORY.
 */
enum bn_status bn_message_error(struct bn_pack *p, uint32_t msgid, const struct bn_error *error,
				struct bn_error *err) BN_MUST_USE;

/* A `stream` notification. head.id and head.seq are always sent. BN_E_INVALID, BN_E_MEMORY. */
enum bn_status bn_message_event(struct bn_pack *p, const struct bn_event *event,
				struct bn_error *err) BN_MUST_USE;

#endif
