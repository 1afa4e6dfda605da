/*
 * Three loops, each around the one before: an attempt; attempts, as long as something arrives; and
 * for files a digest of it all, with one more try when that is wrong.
 *
 * The rest of a file is asked for with If-Range and the entity tag of the bytes that are here. A
 * server whose file has changed answers 200 and all of it, and the part starts over.
 */
#include "client/download.h"

#include "client/part.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	URL_MAX = 4096,
	ATTEMPTS_MAX = 1000, /* of one file, even if each brings a byte */
	WAIT_FIRST_MS = 500,
	WAIT_MAX_MS = 30000,
	WAIT_SLICE_MS = 100,
	RETRY_AFTER_MAX_S = 120,
	DIGEST_TRIES = 2,
};

struct bn_download {
	struct bn_download_options o;
	struct bn_http *http;
};

/* Where the bytes of attempts go: into a part or a text. */
struct sink {
	struct bn_download *d;
	struct bn_part *part; /* or */
	char *text;
	size_t n, cap;
	bool again; /* the attempt failed in a way that the next may not */
	struct bn_http_answer answer;
	struct bn_error *err;
};

/* ---- the hooks of an attempt -------------------------------------------------------------- */

/* A range must be the one that was asked for, of the same bytes. */
static enum bn_status begin_range(struct sink *s, const struct bn_http_answer *a,
				  struct bn_error *err)
{
	struct bn_part *p = s->part;
	enum bn_status status;

	if (a->has_range && a->range_at == p->at && a->range_all == p->size &&
	    (a->etag[0] == '\0' || strcmp(a->etag, p->etag) == 0)) {
		return BN_OK;
	}
	status = bn_part_restart(p, "", p->size, err);
	if (status != BN_OK) {
		return status;
	}
	s->again = true;
	return bn_fail(err, BN_E_CONNECT,
		       "the server answers with other bytes than were asked for");
}

static enum bn_status on_begin(void *who, const struct bn_http_answer *a, struct bn_error *err)
{
	struct sink *s = who;
	uint64_t size;

	if (s->part == NULL) {
		s->n = 0;
		return BN_OK;
	}
	if (a->status == 206) {
		return begin_range(s, a, err);
	}
	size = s->part->size != BN_PART_SIZE_UNKNOWN ? s->part->size : a->linked_size;
	size = size != BN_PART_SIZE_UNKNOWN ? size : a->length;
	if (a->length != BN_HTTP_UNKNOWN && a->length != size) {
		return bn_fail(err, BN_E_FORMAT,
			       "the server has %" PRIu64 " bytes where the hub says %" PRIu64,
			       a->length, size);
	}
	return bn_part_restart(s->part, a->etag, size, err);
}

static enum bn_status on_bytes(void *who, const void *bytes, size_t n, struct bn_error *err)
{
	struct sink *s = who;
	char *text;

	if (s->part != NULL) {
		return bn_part_append(s->part, bytes, n, err);
	}
	if (n > s->cap - s->n) {
		return bn_fail(err, BN_E_TOO_LARGE, "the answer has over %zu bytes", s->cap);
	}
	text = realloc(s->text, s->n + n + 1);
	if (text == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for an answer");
	}
	memcpy(text + s->n, bytes, n);
	s->text = text;
	s->n += n;
	return BN_OK;
}

static bool on_go_on(void *who)
{
	const struct sink *s = who;
	const struct bn_download_options *o = &s->d->o;

	return o->progress == NULL ||
	       o->progress(o->who, BN_DOWNLOAD_FETCH, s->part != NULL ? s->part->at : 0);
}

/* ---- attempts ----------------------------------------------------------------------------- */

static enum bn_status attempt(struct sink *s, const char *path)
{
	struct bn_part *p = s->part;
	const bool resume = p != NULL && p->at > 0 && p->etag[0] != '\0';
	const struct bn_http_request request = {
		.path = path,
		.if_range = resume ? p->etag : NULL,
		.from = resume ? p->at : 0,
		.who = s,
		.begin = on_begin,
		.bytes = on_bytes,
		.go_on = on_go_on,
	};
	bool again;
	enum bn_status status;

	s->again = false;
	status = bn_http_get(s->d->http, &request, &s->answer, &again, s->err);
	s->again = s->again || (again && s->answer.retry_after_s <= RETRY_AFTER_MAX_S);
	if (status == BN_OK && p != NULL && p->size != BN_PART_SIZE_UNKNOWN && p->at < p->size) {
		/* Without a Content-Length nobody but us notices. */
		s->again = true;
		return bn_fail(s->err, BN_E_CONNECT, "the connection was cut");
	}
	if (s->answer.status == 416 && resume) {
		/* The server's file is not longer than what is here: it is another. */
		s->again = bn_part_restart(p, "", p->size, s->err) == BN_OK;
		return s->again ? bn_fail(s->err, BN_E_CONNECT, "the file has changed") : BN_E_IO;
	}
	return status;
}

/* False when somebody wants to stop. */
static bool wait_ms(struct sink *s, uint64_t ms)
{
	const struct timespec slice = { .tv_nsec = WAIT_SLICE_MS * 1000000L };

	for (uint64_t waited = 0; waited < ms; waited += WAIT_SLICE_MS) {
		if (!on_go_on(s)) {
			return false;
		}
		nanosleep(&slice, NULL);
	}
	return true;
}

/* How long before the next attempt: what the hub asks for, else longer each time. */
static uint64_t patience_ms(const struct sink *s, unsigned failures)
{
	uint64_t ms = WAIT_FIRST_MS;

	if (s->answer.retry_after_s > 0) {
		return (uint64_t)s->answer.retry_after_s * 1000;
	}
	for (unsigned k = 1; k < failures && ms < WAIT_MAX_MS; k++) {
		ms *= 2;
	}
	return ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS;
}

static void say_retry(const struct sink *s, uint64_t ms, unsigned failures)
{
	const struct bn_download_options *o = &s->d->o;
	char text[BN_ERROR_TEXT_BYTES + 80];

	if (o->notice != NULL) {
		snprintf(text, sizeof(text), "%s; trying again in %.1f s (%u of %u)", s->err->text,
			 (double)ms / 1000, failures, o->retries);
		o->notice(o->who, text);
	}
}

/* Attempts until one succeeds or no more is to be hoped for. */
static enum bn_status fetch(struct sink *s, const char *path)
{
	uint64_t best = s->part != NULL ? s->part->at : 0;
	unsigned failures = 0;

	for (unsigned i = 1;; i++) {
		const enum bn_status status = attempt(s, path);
		const uint64_t at = s->part != NULL ? s->part->at : 0;
		uint64_t ms;

		if (status == BN_OK || !s->again || s->d->o.retries == 0) {
			return status;
		}
		failures = at > best ? 1 : failures + 1;
		best = at > best ? at : best;
		if (failures > s->d->o.retries || i == ATTEMPTS_MAX) {
			return bn_wrap(s->err, "given up after %u tries", i);
		}
		ms = patience_ms(s, failures);
		say_retry(s, ms, failures);
		if (!wait_ms(s, ms)) {
			return bn_fail(s->err, BN_E_CANCELLED, "stopped");
		}
	}
}

enum bn_status bn_download_text(struct bn_download *d, const char *path, size_t cap, char **text,
				size_t *n, struct bn_error *err)
{
	struct bn_error own;
	struct sink s = { .d = d, .cap = cap, .err = err != NULL ? err : &own };
	enum bn_status status = fetch(&s, path);

	if (status == BN_OK) {
		/* An empty answer has no byte that made room for the NUL. */
		status = on_bytes(&s, "", 0, s.err);
	}
	if (status != BN_OK) {
		free(s.text);
		return status;
	}
	s.text[s.n] = '\0';
	*text = s.text;
	*n = s.n;
	return BN_OK;
}

/* ---- files -------------------------------------------------------------------------------- */

static bool on_check(void *who, uint64_t done)
{
	const struct bn_download *d = who;

	return d->o.progress == NULL || d->o.progress(d->o.who, BN_DOWNLOAD_CHECK, done);
}

static enum bn_status check(struct bn_download *d, const struct bn_digest *want, int fd, bool *ok,
			    struct bn_error *err)
{
	struct bn_digest is;
	const enum bn_status status = bn_digest_file(&is, want->kind, fd, on_check, d, err);

	*ok = status == BN_OK && bn_digest_equal(&is, want);
	return status;
}

enum bn_status bn_download_have(struct bn_download *d, const struct bn_download_file *file,
				int dirfd, const char *name, bool *have, struct bn_error *err)
{
	const int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat about;
	enum bn_status status = BN_OK;

	*have = false;
	if (fd < 0) {
		return BN_OK;
	}
	if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
	    file->digest.kind != BN_DIGEST_NONE &&
	    (file->size == BN_PART_SIZE_UNKNOWN || (uint64_t)about.st_size == file->size)) {
		status = check(d, &file->digest, fd, have, err);
	}
	close(fd);
	return status == BN_OK ? BN_OK : bn_wrap(err, "%s", name);
}

/* Fetches what is missing, and checks all of it. *wrong: the bytes are not the file's. */
static enum bn_status fetch_part(struct bn_download *d, const struct bn_download_file *file,
				 struct bn_part *part, bool *wrong, struct bn_error *err)
{
	struct sink s = { .d = d, .part = part, .err = err };
	struct bn_digest want = file->digest;
	enum bn_status status = BN_OK;
	bool ok = true;

	*wrong = false;
	/* A whole part that nobody can check is not believed either. */
	if (part->size == BN_PART_SIZE_UNKNOWN || part->at < part->size || part->size == 0 ||
	    want.kind == BN_DIGEST_NONE) {
		status = fetch(&s, file->path);
	}
	if (status == BN_OK && want.kind == BN_DIGEST_NONE) {
		(void)bn_digest_parse(&want, s.answer.linked_etag);
	}
	if (status == BN_OK && want.kind != BN_DIGEST_NONE) {
		status = check(d, &want, part->fd, &ok, err);
	}
	if (status == BN_OK && !ok) {
		*wrong = true;
		return bn_fail(err, BN_E_FORMAT, "its %s is not the one the hub states",
			       want.kind == BN_DIGEST_SHA256 ? "SHA-256" : "git blob id");
	}
	return status;
}

/* Whether something has the name already, and must not go. */
static enum bn_status in_the_way(int dirfd, const char *name, bool replace, struct bn_error *err)
{
	struct stat about;

	if (fstatat(dirfd, name, &about, AT_SYMLINK_NOFOLLOW) != 0) {
		return BN_OK;
	}
	if (!S_ISREG(about.st_mode)) {
		return bn_fail(err, BN_E_CONFLICT,
			       "something that is no ordinary file has its name");
	}
	return replace ? BN_OK
		       : bn_fail(err, BN_E_CONFLICT,
				 "a file of that name with other bytes is there: move it away, or "
				 "replace it with --force");
}

static enum bn_status download(struct bn_download *d, const struct bn_download_file *file,
			       int dirfd, const char *name, struct bn_error *err)
{
	char url[URL_MAX];
	enum bn_status status = BN_OK;
	bool wrong = true;

	bn_download_url(d, file->path, url, sizeof(url));
	for (unsigned i = 1; wrong && i <= DIGEST_TRIES; i++) {
		struct bn_part part;

		status = bn_part_open(&part, dirfd, name, url, file->size, err);
		if (status != BN_OK) {
			return status;
		}
		status = fetch_part(d, file, &part, &wrong, err);
		if (wrong) {
			bn_part_discard(&part);
			if (i < DIGEST_TRIES && d->o.notice != NULL) {
				d->o.notice(d->o.who, "what came is damaged: fetching it again");
			}
		} else if (status == BN_OK) {
			status = bn_part_finish(&part, err);
		} else {
			bn_part_close(&part);
		}
	}
	return status;
}

enum bn_status bn_download_to(struct bn_download *d, const struct bn_download_file *file, int dirfd,
			      const char *name, struct bn_error *err)
{
	struct bn_error own;
	bool have;
	enum bn_status status;

	err = err != NULL ? err : &own;
	status = bn_download_have(d, file, dirfd, name, &have, err);
	if (status != BN_OK || have) {
		return status;
	}
	status = in_the_way(dirfd, name, file->replace, err);
	if (status == BN_OK) {
		status = download(d, file, dirfd, name, err);
	}
	return status == BN_OK ? BN_OK : bn_wrap(err, "%s", name);
}

/* ---- life --------------------------------------------------------------------------------- */

enum bn_status bn_download_new(struct bn_download **out, const struct bn_download_options *options,
			       struct bn_error *err)
{
	struct bn_download *d = calloc(1, sizeof(*d));
	enum bn_status status;

	if (d == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory");
	}
	d->o = *options;
	status = bn_http_open(&d->http, &options->http, err);
	if (status != BN_OK) {
		free(d);
		return status;
	}
	if (bn_http_keeps_token(d->http) && d->o.notice != NULL) {
		d->o.notice(d->o.who, "HF_TOKEN is not sent: the connection to HF_ENDPOINT would "
				      "not be encrypted");
	}
	*out = d;
	return BN_OK;
}

void bn_download_free(struct bn_download *d)
{
	if (d != NULL) {
		bn_http_close(d->http);
		free(d);
	}
}

void bn_download_url(const struct bn_download *d, const char *path, char *to, size_t size)
{
	bn_http_url(d->http, path, to, size);
}
