/*
 * Digests of files as a model hub states them: SHA-256 of large files, git's blob id of small ones.
 *
 * It does not compare trees, sign anything or know where a digest came from.
 */
#ifndef BN_CLIENT_DIGEST_H
#define BN_CLIENT_DIGEST_H

#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>

enum bn_digest_kind {
	BN_DIGEST_NONE,     /* not known                                          */
	BN_DIGEST_SHA256,   /* 64 hex digits                                      */
	BN_DIGEST_GIT_BLOB, /* 40: SHA-1 of "blob <bytes>", a NUL and the content */
};

enum { BN_DIGEST_HEX_BYTES = 65 };

/* Plain value. */
struct bn_digest {
	enum bn_digest_kind kind;
	char hex[BN_DIGEST_HEX_BYTES]; /* lower case; "" for NONE */
};

/* Called after every few MiB; false stops the work. */
typedef bool (*bn_digest_progress)(void *who, uint64_t done_bytes);

/* Reads hex digits of either case; their number tells the kind. False, and *out is untouched, when
 * it is neither. */
bool bn_digest_parse(struct bn_digest *out, const char *hex);

/* Whether both are known and equal. */
bool bn_digest_equal(const struct bn_digest *a, const struct bn_digest *b);

/*
 * The digest of a whole open file, whatever its position, which stays. `kind` is not NONE;
 * `progress` may be NULL. BN_E_IO when it cannot be read or shrinks meanwhile, BN_E_CANCELLED when
 * progress says so.
 */
BN_MUST_USE enum bn_status bn_digest_file(struct bn_digest *out, enum bn_digest_kind kind, int fd,
					  bn_digest_progress progress, void *who,
					  struct bn_error *err);

#endif
