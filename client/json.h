/*
 * Prints a received value as JSON, for `--json`: the same keys as on the wire.
 *
 * It does not choose what to print. Bins whose key says token ids or log-probabilities come out as
 * arrays of numbers, other bins as base64 strings, since JSON has no bytes.
 */
#ifndef BN_CLIENT_JSON_H
#define BN_CLIENT_JSON_H

#include "client/bnclient.h"

#include <stdbool.h>
#include <stdio.h>

/* One value, two spaces of indent (or one line when `compact`), newline at the end. False without
 * memory or when the stream failed. */
bool bn_json_print(FILE *to, struct bn_client_value v, bool compact);

#endif
