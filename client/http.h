/*
 * One GET from a model hub, over HTTP: redirects, the token, headers, what a refusal means.
 *
 * It does not try twice and keeps no bytes. libcurl is behind it and nowhere else; its usual
 * variables for proxies hold. Certificates are always verified, only http and https are spoken, a
 * hub reached by https is never left for http, and the token goes to the hub's own host alone.
 */
#ifndef BN_CLIENT_HTTP_H
#define BN_CLIENT_HTTP_H

#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_HTTP_TAG_BYTES = 256 };

#define BN_HTTP_UNKNOWN UINT64_MAX

struct bn_http;

/* Borrowed for the life of the connection. */
struct bn_http_options {
	const char *endpoint; /* "https://huggingface.co": no user, no query               */
	const char *token;    /* NULL or "": none                                          */
	unsigned stall_s;     /* a connection below 1 KiB/s for this long is given up; 1.. */
};

/* What the headers say. Plain value. */
struct bn_http_answer {
	long status; /* of the last answer; 0: none came        */
	char etag[BN_HTTP_TAG_BYTES];
	uint64_t length;    /* of the body, or BN_HTTP_UNKNOWN  */
	bool has_range;     /* a Content-Range that can be read */
	uint64_t range_at;  /* where it begins                  */
	uint64_t range_all; /* bytes of the whole file          */
	/* Of the hub itself, about the file behind its redirect: */
	char linked_etag[BN_HTTP_TAG_BYTES];
	uint64_t linked_size; /* or BN_HTTP_UNKNOWN */
	unsigned retry_after_s;
};

/* Hooks run within bn_http_get. */
struct bn_http_request {
	const char *path;     /* below the endpoint, encoded, with a leading slash         */
	const char *if_range; /* entity tag of the first `from` bytes; NULL: all is wanted */
	uint64_t from;
	void *who;
	/* Before the first byte of a success (200 or 206), also if there is none; then each piece
	 * of it. Another status than BN_OK ends the transfer and comes back. */
	enum bn_status (*begin)(void *who, const struct bn_http_answer *answer,
				struct bn_error *err);
	enum bn_status (*bytes)(void *who, const void *bytes, size_t n, struct bn_error *err);
	/* Several times a second while bytes come, and about once while none do. False: stop. */
	bool (*go_on)(void *who);
};

/* One thread. BN_E_INVALID for an endpoint that is none or a token that cannot be one;
 * BN_E_MEMORY, BN_E_INTERNAL. */
BN_MUST_USE enum bn_status bn_http_open(struct bn_http **out, const struct bn_http_options *options,
					struct bn_error *err);
void bn_http_close(struct bn_http *h);

/* Whether there is a token that is kept back because the connection would not be encrypted. */
bool bn_http_keeps_token(const struct bn_http *h);

/* The whole address of a path, cut to `size` bytes. */
void bn_http_url(const struct bn_http *h, const char *path, char *to, size_t size);

/*
 * Does it. *answer is filled in any case. Errors: what a hook returned; BN_E_CANCELLED (go_on);
 * BN_E_PERMISSION (401, 403); BN_E_NOT_FOUND (404); BN_E_OVERLOADED (429, 503); BN_E_CONNECT (other
 * statuses and the network). *again tells whether the last two may be worth another try.
 */
BN_MUST_USE enum bn_status bn_http_get(struct bn_http *h, const struct bn_http_request *request,
				       struct bn_http_answer *answer, bool *again,
				       struct bn_error *err);

#endif
