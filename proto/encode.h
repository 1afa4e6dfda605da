/*
 * Structs into parameter maps and event maps: what is set is packed, by the tables of
 * proto/schema.h.
 *
 * It does not write the message around them (proto/message.h does).
 */
#ifndef BN_PROTO_ENCODE_H
#define BN_PROTO_ENCODE_H

#include "proto/error.h"
#include "proto/pack.h"
#include "proto/params.h"

/*
 * Packs the fields that are set as one map. BN_E_INVALID, as the decoder would say it, for what
 * the peer would refuse or drop the connection for (text that is no UTF-8); the pack then holds
 * half a map, to be cut off with bn_pack_cut(). Memory errors stay in the pack. BN_ON_ANY.
 */
enum bn_status bn_params_encode(struct bn_pack *p, enum bn_method method,
				const union bn_params *params, struct bn_error *err) BN_MUST_USE;

/* The same for the map of a `stream` notification; id and seq are packed whether set or not. */
enum bn_status bn_event_encode(struct bn_pack *p, const struct bn_event_head *head,
			       enum bn_event_kind kind, const union bn_event_body *body,
			       struct bn_error *err) BN_MUST_USE;

#endif
