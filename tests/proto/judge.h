/*
 * A second opinion on bytes: msgpack-c, the library every other client uses.
 *
 * It must only be asked about messages that went through the guard walk; see proto/value.h.
 */
#ifndef BN_TESTS_PROTO_JUDGE_H
#define BN_TESTS_PROTO_JUDGE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether msgpack-c reads exactly one value from the n bytes, and it ends where they end. */
bool judge_accepts(const void *bytes, size_t n);

#endif
