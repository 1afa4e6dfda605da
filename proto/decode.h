/*
 * Parameter maps and event maps into structs, with every check the tables of proto/schema.h ask
 * for.
 *
 * It does not open messages (proto/message.h does) and copies no text: results borrow the bytes.
 */
#ifndef BN_PROTO_DECODE_H
#define BN_PROTO_DECODE_H

#include "proto/error.h"
#include "proto/kind.h"
#include "proto/params.h"
#include "proto/value.h"

/*
 * Decodes a parameter map (NONE: an empty one) of `method` into *out, which is zeroed first.
 * BN_E_INVALID names the field, the value and what is allowed, and carries data.param; *out is
 * then half filled and must not be used. A field given as nil counts as absent. BN_ON_ANY.
 */
enum bn_status bn_params_decode(union bn_params *out, enum bn_method method, struct bn_value map,
				struct bn_error *err) BN_MUST_USE;

/*
 * Decodes the map of a `stream` notification. Lenient: fields of a newer server are ignored.
 * BN_E_NOT_SUPPORTED: an event of a newer server. BN_E_INVALID. BN_ON_ANY.
 */
enum bn_status bn_event_decode(struct bn_event_head *head, enum bn_event_kind *kind,
			       union bn_event_body *body, struct bn_value map,
			       struct bn_error *err) BN_MUST_USE;

/* Copies a decoded (or host) list; `out` has room for list->n turns. See also proto/kind.h. */
void bn_chat_copy(const struct bn_chat *list, struct bn_params_turn *out);

#endif
