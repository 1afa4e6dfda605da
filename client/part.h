/*
 * A file on its way here: `<name>.part` holds what has arrived, `<name>.part.json` what it is a
 * part of, so that another run of the program can go on where this one was stopped.
 *
 * It does not fetch anything and does not know whether the bytes are right: whoever calls checks
 * them before finishing. One process at a time may have a part open; a lock above sees to that.
 */
#ifndef BN_CLIENT_PART_H
#define BN_CLIENT_PART_H

#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_PART_NAME_MAX = 200, BN_PART_ETAG_BYTES = 256 };

#define BN_PART_SIZE_UNKNOWN UINT64_MAX

/* One thread. Fields are for reading. */
struct bn_part {
	int fd;
	int dirfd; /* borrowed                                          */
	char name[BN_PART_NAME_MAX + 1];
	const char *url;               /* borrowed: where it comes from                     */
	char etag[BN_PART_ETAG_BYTES]; /* strong entity tag of what is here; "": none       */
	uint64_t at;                   /* bytes here                                        */
	uint64_t size;                 /* bytes it will have, or BN_PART_SIZE_UNKNOWN       */
};

/*
 * Opens or creates the part of file `name` (no folders in it) in dirfd. What is there counts if it
 * came from the same url, is of the same size (unknown fits any) and had a strong entity tag:
 * otherwise `at` is 0. BN_E_IO; BN_E_INVALID for a name that is too long. On success the part must
 * be closed, finished or discarded.
 */
BN_MUST_USE enum bn_status bn_part_open(struct bn_part *p, int dirfd, const char *name,
					const char *url, uint64_t size, struct bn_error *err);

/* Empties it for bytes with this entity tag ("" or a weak one: they cannot be resumed later) and
 * size. BN_E_IO. */
BN_MUST_USE enum bn_status bn_part_restart(struct bn_part *p, const char *etag, uint64_t size,
					   struct bn_error *err);

/* Adds bytes. BN_E_IO: a full disk keeps all that fitted. BN_E_FORMAT: more than `size`. */
BN_MUST_USE enum bn_status bn_part_append(struct bn_part *p, const void *bytes, size_t n,
					  struct bn_error *err);

/* Makes it durable and gives it its name, replacing what has that name. Closes it in any case. */
BN_MUST_USE enum bn_status bn_part_finish(struct bn_part *p, struct bn_error *err);

/* Closes it and keeps it for later. Accepts a closed one. */
void bn_part_close(struct bn_part *p);

/* Closes it and removes it: the bytes are wrong. */
void bn_part_discard(struct bn_part *p);

/* Bytes that bn_part_open would find usable; 0 when there is nothing. Changes nothing. */
uint64_t bn_part_peek(int dirfd, const char *name, const char *url, uint64_t size);

#endif
