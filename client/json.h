/*
 * Prints a received value as JSON, for `--json`: the same keys as on the wire.
 *
 * It does not choose what to print. Bins whose key says token ids or log-probabilities come out as
 * arrays of numbers, other bins as base64 strings, since JSON has no bytes.
 */
#ifndef BN_CLIENT_JSON_H
#define BN_CLIENT_JSON_H

#include "client/bnclient.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* One value, two spaces of indent (or one line when `compact`), newline at the end. False without
 * memory or when the stream failed. */
bool bn_json_print(FILE *to, struct bn_client_value v, bool compact);

/* Prints a document of our own, two spaces of indent and a newline, and frees it. False when it is
 * NULL (there was no memory to make it) or when the stream failed. */
bool bn_json_put(FILE *to, json_t *document);

#endif
