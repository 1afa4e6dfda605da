/*
 * The schema as data: what `server.info` answers and what docs/protocol.md says.
 *
 * It holds no fact of its own: everything comes from the tables of proto/schema.h.
 */
#ifndef BN_PROTO_DESCRIBE_H
#define BN_PROTO_DESCRIBE_H

#include "proto/pack.h"

#include <stdio.h>

/*
 * Packs the result map of `server.info`. `features` are n_features short words chosen by the
 * daemon ("socket_activation"). BN_ON_ANY.
 */
void bn_describe_info(struct bn_pack *p, const char *version, const char *const *features,
		      size_t n_features);

/* Prints docs/protocol.md. BN_ON_ANY. */
void bn_describe_markdown(FILE *out);

/* Prints one line per published name or number, for tests/proto/schema.recorded. BN_ON_ANY. */
void bn_describe_listing(FILE *out);

#endif
