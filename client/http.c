/*
 * One handle lives as long as the connection, so that a hundred small files cost one handshake.
 *
 * curl takes the token as the bearer of the hub's host and by itself keeps it from any other host,
 * port and scheme it is redirected to. Headers of every answer in a chain of redirects pass through
 * on_header: what the last one says of its bytes counts, and what the hub said of the linked file
 * stays.
 */
#include "client/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef BN_VERSION
#define BN_VERSION "unknown"
#endif

enum {
	ENDPOINT_MAX = 300,
	URL_MAX = 4096,
	REDIRECTS_MAX = 10,
	CONNECT_S = 30,
	STALL_BYTES_PER_S = 1024,
	ERROR_BODY_MAX = 1 << 16,
};

struct bn_http {
	struct bn_http_options o;
	CURL *curl;
	char endpoint[ENDPOINT_MAX + 1]; /* without the slash at its end */
	bool has_token, send_token;
	char why[CURL_ERROR_SIZE];
};

/* One request on its way. */
struct transfer {
	struct bn_http *h;
	const struct bn_http_request *r;
	struct bn_http_answer *a;
	char code[64]; /* X-Error-Code: GatedRepo, EntryNotFound, ... */
	bool begun, stopped;
	size_t error_bytes;
	enum bn_status status; /* of the hooks */
	struct bn_error *err;
};

/* ---- the hub's address -------------------------------------------------------------------- */

static bool is_local(const char *host, size_t n)
{
	return (n == 9 && strncasecmp(host, "localhost", n) == 0) ||
	       (n > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= n) ||
	       (n == 5 && strncmp(host, "[::1]", n) == 0);
}

static bool is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

static enum bn_status take_endpoint(struct bn_http *h, struct bn_error *err)
{
	const char *text = h->o.endpoint;
	const char *host = text + (is_https(text) ? 8 : 7);
	size_t n = strlen(text), host_n;

	while (n > 0 && text[n - 1] == '/') {
		n--;
	}
	if ((!is_https(text) && strncasecmp(text, "http://", 7) != 0) || n > ENDPOINT_MAX ||
	    strpbrk(text, "@?#\\ \t\r\n") != NULL || strcspn(host, "/:") == 0) {
		return bn_fail(err, BN_E_INVALID,
			       "HF_ENDPOINT must be http://host or https://host, optionally with a "
			       "port and a path, without a user");
	}
	snprintf(h->endpoint, sizeof(h->endpoint), "%.*s", (int)n, text);
	host_n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
	h->send_token = h->has_token && (is_https(text) || is_local(host, host_n));
	return BN_OK;
}

/* What fits into a header; a token that does not is not shown either. */
static enum bn_status take_token(struct bn_http *h, struct bn_error *err)
{
	for (const char *c = h->o.token; c != NULL && *c != '\0'; c++) {
		if ((unsigned char)*c < 0x21 || (unsigned char)*c > 0x7e) {
			return bn_fail(err, BN_E_INVALID,
				       "HF_TOKEN holds a character that no token has: a space, a "
				       "line end?");
		}
	}
	h->has_token = h->o.token != NULL && h->o.token[0] != '\0';
	return BN_OK;
}

/* ---- headers ------------------------------------------------------------------------------ */

/* What is too long is no value. */
static void copy(char *to, size_t size, const char *from, size_t n)
{
	snprintf(to, size, "%.*s", n < size ? (int)n : 0, from);
}

/* A number and the character behind it (0: the end); NULL when that is not what stands there. */
static const char *number_then(const char *at, char behind, uint64_t *out)
{
	char *end;

	if (at == NULL || at[0] < '0' || at[0] > '9') {
		return NULL;
	}
	errno = 0;
	*out = strtoull(at, &end, 10);
	return errno == 0 && *end == behind ? end + 1 : NULL;
}

/* "bytes 100-199/200" */
static void take_range(struct bn_http_answer *a, const char *value, size_t n)
{
	static const char unit[] = "bytes ";
	char text[96];
	uint64_t first = 0, last = 0, all = 0;
	const char *at = text + sizeof(unit) - 1;

	copy(text, sizeof(text), value, n);
	at = strncmp(text, unit, sizeof(unit) - 1) == 0 ? number_then(at, '-', &first) : NULL;
	at = number_then(at, '/', &last);
	a->has_range = number_then(at, '\0', &all) != NULL && first <= last && last < all;
	a->range_at = first;
	a->range_all = all;
}

/* A digest in quotes; the first one is the hub's. */
static void take_linked_etag(struct bn_http_answer *a, const char *value, size_t n)
{
	while (n > 0 && value[0] == '"') {
		value++;
		n--;
	}
	while (n > 0 && value[n - 1] == '"') {
		n--;
	}
	if (a->linked_etag[0] == '\0') {
		copy(a->linked_etag, sizeof(a->linked_etag), value, n);
	}
}

static void take_linked_size(struct bn_http_answer *a, const char *value, size_t n)
{
	char number[32];

	copy(number, sizeof(number), value, n);
	if (a->linked_size == BN_HTTP_UNKNOWN && number[0] >= '0' && number[0] <= '9') {
		a->linked_size = strtoull(number, NULL, 10);
	}
}

static bool is_name(const char *wanted, const char *name, size_t n)
{
	return strlen(wanted) == n && strncasecmp(wanted, name, n) == 0;
}

static void take_header(struct transfer *t, const char *name, size_t name_n, const char *value,
			size_t n)
{
	if (is_name("etag", name, name_n)) {
		copy(t->a->etag, sizeof(t->a->etag), value, n);
	} else if (is_name("content-range", name, name_n)) {
		take_range(t->a, value, n);
	} else if (is_name("x-linked-etag", name, name_n)) {
		take_linked_etag(t->a, value, n);
	} else if (is_name("x-linked-size", name, name_n)) {
		take_linked_size(t->a, value, n);
	} else if (is_name("x-error-code", name, name_n)) {
		copy(t->code, sizeof(t->code), value, n);
	}
}

static size_t on_header(char *line, size_t size, size_t n, void *who)
{
	struct transfer *t = who;
	const char *colon = memchr(line, ':', n);
	const char *value;
	size_t left;

	(void)size;
	if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		/* The next answer in a chain of redirects. */
		t->a->etag[0] = t->code[0] = '\0';
		t->a->has_range = false;
		return n;
	}
	if (colon == NULL) {
		return n;
	}
	value = colon + 1;
	left = n - (size_t)(value - line);
	while (left > 0 && (value[0] == ' ' || value[0] == '\t')) {
		value++;
		left--;
	}
	while (left > 0 && strchr(" \t\r\n", value[left - 1]) != NULL) {
		left--;
	}
	take_header(t, line, (size_t)(colon - line), value, left);
	return n;
}

/* ---- bytes -------------------------------------------------------------------------------- */

/* The status, the length and the patience that curl knows by now. */
static void take_info(struct transfer *t)
{
	curl_off_t length = -1, wait = 0;

	curl_easy_getinfo(t->h->curl, CURLINFO_RESPONSE_CODE, &t->a->status);
	curl_easy_getinfo(t->h->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(t->h->curl, CURLINFO_RETRY_AFTER, &wait);
	t->a->length = length >= 0 ? (uint64_t)length : BN_HTTP_UNKNOWN;
	t->a->retry_after_s = wait > 0 && wait < INT32_MAX ? (unsigned)wait : 0;
}

static bool is_success(long status)
{
	return status == 200 || status == 206;
}

static void begin(struct transfer *t)
{
	if (!t->begun) {
		t->begun = true;
		t->status = t->r->begin(t->r->who, t->a, t->err);
	}
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *who)
{
	struct transfer *t = who;

	(void)size;
	take_info(t);
	if (!is_success(t->a->status)) {
		/* The page of an error; its status says enough. */
		t->error_bytes += n;
		return t->error_bytes <= ERROR_BODY_MAX ? n : 0;
	}
	begin(t);
	if (t->status == BN_OK) {
		t->status = t->r->bytes(t->r->who, bytes, n, t->err);
	}
	return t->status == BN_OK ? n : 0;
}

static int on_progress(void *who, curl_off_t total, curl_off_t now, curl_off_t up_total,
		       curl_off_t up)
{
	struct transfer *t = who;

	(void)total, (void)now, (void)up_total, (void)up;
	t->stopped = t->stopped || !t->r->go_on(t->r->who);
	return t->stopped;
}

/* ---- what went wrong ---------------------------------------------------------------------- */

static enum bn_status fail_denied(const struct transfer *t)
{
	const bool token = t->h->send_token;

	if (strcmp(t->code, "GatedRepo") == 0) {
		return bn_fail(
			t->err, BN_E_PERMISSION,
			"the repository is gated (%ld): accept its licence on its page, then "
			"%s",
			t->a->status,
			token ? "try again; HF_TOKEN must be of the account that accepted it"
			      : "set HF_TOKEN to a token of that account");
	}
	return bn_fail(
		t->err, BN_E_PERMISSION,
		"the hub refuses (%ld): the repository is private, gated or does not exist; "
		"%s",
		t->a->status,
		token ? "HF_TOKEN is not enough: is it valid, and has its account accepted "
			"the licence on the repository's page?"
		      : "accept the licence on its page if there is one, and set HF_TOKEN to "
			"a token of that account");
}

static enum bn_status fail_absent(const struct transfer *t)
{
	if (strcmp(t->code, "RevisionNotFound") == 0) {
		return bn_fail(t->err, BN_E_NOT_FOUND, "the repository has no such revision (404)");
	} else if (strcmp(t->code, "EntryNotFound") == 0) {
		return bn_fail(t->err, BN_E_NOT_FOUND, "the repository has no such file (404)");
	}
	return bn_fail(t->err, BN_E_NOT_FOUND,
		       "the hub knows no such repository or revision (404): is the name right?");
}

static enum bn_status fail_status(const struct transfer *t, bool *again)
{
	const long status = t->a->status;
	const unsigned wait = t->a->retry_after_s;

	*again = status == 408 || status == 429 || status >= 500;
	if (status == 401 || status == 403) {
		return fail_denied(t);
	} else if (status == 404) {
		return fail_absent(t);
	} else if (status == 429 || status == 503) {
		return bn_fail(t->err, BN_E_OVERLOADED,
			       "the hub asks for patience (%ld): try again in %u s, or set "
			       "HF_TOKEN, which has a larger share",
			       status, wait > 0 ? wait : 60);
	}
	return bn_fail(t->err, BN_E_CONNECT, "the hub answers with status %ld", status);
}

/* Failures that another attempt would only repeat. */
static bool is_final(CURLcode code)
{
	switch (code) {
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_NOT_BUILT_IN:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FILESIZE_EXCEEDED:
		return true;
	default:
		return false;
	}
}

static enum bn_status fail_curl(const struct transfer *t, CURLcode code, bool *again)
{
	const char *why = t->h->why[0] != '\0' ? t->h->why : curl_easy_strerror(code);

	*again = !is_final(code);
	if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) {
		return bn_fail(t->err, BN_E_CONNECT, "the connection was cut");
	} else if (code == CURLE_OPERATION_TIMEDOUT) {
		return bn_fail(t->err, BN_E_CONNECT,
			       "the connection stalls: less than 1 KiB/s for %u s",
			       t->h->o.stall_s);
	}
	return bn_fail(t->err, BN_E_CONNECT, "%s", why);
}

/* What the transfer came to. */
static enum bn_status judge(struct transfer *t, CURLcode code, bool *again)
{
	const long status = t->a->status;

	*again = false;
	if (t->stopped) {
		return bn_fail(t->err, BN_E_CANCELLED, "stopped");
	}
	if (t->status != BN_OK) {
		return t->status;
	}
	/* A refusal says more than what became of the connection; a redirect does not. */
	if (status >= 400 || (code == CURLE_OK && !is_success(status))) {
		return fail_status(t, again);
	}
	if (code != CURLE_OK) {
		return fail_curl(t, code, again);
	}
	begin(t);
	return t->status;
}

/* ---- one request -------------------------------------------------------------------------- */

/* Puts the range into the request; *headers is freed by the caller. */
static bool ask_range(struct bn_http *h, const struct bn_http_request *r,
		      struct curl_slist **headers)
{
	char text[BN_HTTP_TAG_BYTES + 32];

	*headers = NULL;
	curl_easy_setopt(h->curl, CURLOPT_RANGE, NULL);
	if (r->if_range != NULL) {
		snprintf(text, sizeof(text), "%" PRIu64 "-", r->from);
		curl_easy_setopt(h->curl, CURLOPT_RANGE, text);
		snprintf(text, sizeof(text), "If-Range: %s", r->if_range);
		*headers = curl_slist_append(NULL, text);
		if (*headers == NULL) {
			return false;
		}
	}
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, *headers);
	return true;
}

enum bn_status bn_http_get(struct bn_http *h, const struct bn_http_request *request,
			   struct bn_http_answer *answer, bool *again, struct bn_error *err)
{
	struct transfer t = { .h = h, .r = request, .a = answer, .err = err };
	struct curl_slist *headers;
	char url[URL_MAX];
	CURLcode code;

	memset(answer, 0, sizeof(*answer));
	answer->length = answer->linked_size = BN_HTTP_UNKNOWN;
	*again = false;
	h->why[0] = '\0';
	bn_http_url(h, request->path, url, sizeof(url));
	curl_easy_setopt(h->curl, CURLOPT_URL, url);
	curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, &t);
	curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, &t);
	curl_easy_setopt(h->curl, CURLOPT_XFERINFODATA, &t);
	if (!ask_range(h, request, &headers)) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a request");
	}
	code = curl_easy_perform(h->curl);
	take_info(&t);
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	return judge(&t, code, again);
}

/* ---- life --------------------------------------------------------------------------------- */

static bool set_up(struct bn_http *h)
{
	CURL *c = h->curl;
	const char *onwards = is_https(h->endpoint) ? "https" : "http,https";
	bool ok = true;

	ok = ok && curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, onwards) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_UNRESTRICTED_AUTH, 0L) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S) == CURLE_OK;
	ok = ok &&
	     curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)h->o.stall_s) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_USERAGENT, "bnctl/" BN_VERSION) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->why) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK;
	ok = ok && curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK;
	if (h->send_token) {
		ok = ok && curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER) == CURLE_OK;
		ok = ok && curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, h->o.token) == CURLE_OK;
	}
	return ok;
}

enum bn_status bn_http_open(struct bn_http **out, const struct bn_http_options *options,
			    struct bn_error *err)
{
	struct bn_http *h = calloc(1, sizeof(*h));
	enum bn_status status;

	if (h == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory");
	}
	h->o = *options;
	status = take_token(h, err);
	if (status == BN_OK) {
		status = take_endpoint(h, err);
	}
	if (status == BN_OK && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
		h->curl = curl_easy_init();
	}
	if (status == BN_OK && (h->curl == NULL || !set_up(h))) {
		status = bn_fail(err, BN_E_INTERNAL, "libcurl cannot do what is needed");
	}
	if (status != BN_OK) {
		bn_http_close(h);
		return status;
	}
	*out = h;
	return BN_OK;
}

void bn_http_close(struct bn_http *h)
{
	if (h != NULL) {
		curl_easy_cleanup(h->curl);
		free(h);
	}
}

bool bn_http_keeps_token(const struct bn_http *h)
{
	return h->has_token && !h->send_token;
}

void bn_http_url(const struct bn_http *h, const char *path, char *to, size_t size)
{
	snprintf(to, size, "%s%s", h->endpoint, path);
}
