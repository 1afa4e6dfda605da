/*
 * Fetches from one model hub with patience: short texts, and files that are resumed and checked.
 *
 * It does not know what the files are for, nor HTTP (client/http.h) or the disk (client/part.h) in
 * detail: it decides what is tried again, when, and what is believed.
 */
#ifndef BN_CLIENT_DOWNLOAD_H
#define BN_CLIENT_DOWNLOAD_H

#include "client/digest.h"
#include "client/http.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_download;

enum bn_download_phase { BN_DOWNLOAD_FETCH, BN_DOWNLOAD_CHECK };

/* Borrowed for the life of the download. */
struct bn_download_options {
	struct bn_http_options http;
	unsigned retries; /* after this many failures in a row without a byte: an error */
	void *who;        /* for the hooks, which may be NULL */
	/* Bytes of the file at hand that are here, or have been checked. False: stop. */
	bool (*progress)(void *who, enum bn_download_phase phase, uint64_t bytes);
	/* What went wrong and is being dealt with: one sentence. */
	void (*notice)(void *who, const char *text);
};

/* What a file must be. */
struct bn_download_file {
	const char *path;        /* below the endpoint, encoded, with a leading slash */
	uint64_t size;           /* UINT64_MAX: as the server says                    */
	struct bn_digest digest; /* NONE: as the server says in X-Linked-Etag, if so  */
	bool replace;            /* a file of that name with other bytes may go       */
};

/* One thread. Errors of bn_http_open. */
BN_MUST_USE enum bn_status bn_download_new(struct bn_download **out,
					   const struct bn_download_options *options,
					   struct bn_error *err);
void bn_download_free(struct bn_download *d);

/* The whole address of a path, as parts record it; cut to `size` bytes. */
void bn_download_url(const struct bn_download *d, const char *path, char *to, size_t size);

/*
 * A text of at most `cap` bytes; *text [*n], NUL-terminated, belongs to the caller. Errors, also of
 * bn_download_to: BN_E_PERMISSION (401, 403), BN_E_NOT_FOUND (404), BN_E_OVERLOADED (429 beyond all
 * patience), BN_E_CONNECT (network and 5xx, after all retries), BN_E_TOO_LARGE, BN_E_CANCELLED,
 * BN_E_MEMORY.
 */
BN_MUST_USE enum bn_status bn_download_text(struct bn_download *d, const char *path, size_t cap,
					    char **text, size_t *n, struct bn_error *err);

/*
 * The file `name` in dirfd, complete and checked, or an error that leaves what has arrived as a
 * part (client/part.h) for the next call. A file that is there already is checked and kept, unless
 * its bytes are others: BN_E_CONFLICT without `replace`. Bytes with the wrong digest are fetched
 * again once, then BN_E_FORMAT and nothing is left. BN_E_IO: the disk, full or broken.
 */
BN_MUST_USE enum bn_status bn_download_to(struct bn_download *d,
					  const struct bn_download_file *file, int dirfd,
					  const char *name, struct bn_error *err);

/* Whether dirfd holds a regular file `name` of this size and digest; one without a known digest is
 * never trusted. BN_E_IO, BN_E_CANCELLED. */
BN_MUST_USE enum bn_status bn_download_have(struct bn_download *d,
					    const struct bn_download_file *file, int dirfd,
					    const char *name, bool *have, struct bn_error *err);

#endif
