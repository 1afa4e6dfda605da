/*
 * The metadata and the tensor list are collected in two growing buffers in their final encoding;
 * the header is the two behind each other. The first failure is kept in the writer and everything
 * after it does nothing, so that callers read like the list of what a file holds.
 */
#include "engine/gguf_write.h"

#include "engine/gguf.h"
#include "proto/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GGUF_VERSION = 3, NAME_TRIES = 100 };

struct bytes {
	unsigned char *p;
	size_t n, capacity;
};

struct bn_gguf_writer {
	char *path, *temporary;
	int fd; /* -1 when closed */
	uint32_t alignment;
	struct bytes kv, infos;
	uint64_t n_kv, n_tensors;
	uint64_t *ends; /* [n_tensors] where each one's data ends, from the section's start */
	size_t ends_capacity;
	bool streaming; /* the header is written        */
	size_t current; /* tensor being written         */
	uint64_t at;    /* position in the data section */
	bool committed;
	struct bn_error error; /* BN_OK until something fails */
};

bool bn_gguf_writer_ok(const struct bn_gguf_writer *w)
{
	return w->error.status == BN_OK;
}

/* --- buffers --------------------------------------------------------------------------------- */

static bool grow(struct bn_gguf_writer *w, struct bytes *b, size_t n)
{
	size_t need, capacity = b->capacity == 0 ? 4096 : b->capacity;
	unsigned char *p;

	if (__builtin_add_overflow(b->n, n, &need) || need > SIZE_MAX / 2) {
		bn_fail(&w->error, BN_E_MEMORY, "a header of more than %zu bytes", SIZE_MAX / 2);
		return false;
	}
	while (capacity < need) {
		capacity *= 2;
	}
	if (capacity != b->capacity) {
		p = realloc(b->p, capacity);
		if (p == NULL) {
			bn_fail(&w->error, BN_E_MEMORY, "no memory for a header of %zu bytes",
				capacity);
			return false;
		}
		b->p = p;
		b->capacity = capacity;
	}
	return true;
}

static void put_bytes(struct bn_gguf_writer *w, struct bytes *b, const void *p, size_t n)
{
	if (bn_gguf_writer_ok(w) && n > 0 && grow(w, b, n)) {
		memcpy(b->p + b->n, p, n);
		b->n += n;
	}
}

static void put_little(struct bn_gguf_writer *w, struct bytes *b, uint64_t value, size_t n)
{
	unsigned char little[8];

	for (size_t i = 0; i < n; i++) {
		little[i] = (unsigned char)(value >> (8 * i));
	}
	put_bytes(w, b, little, n);
}

static void put_string(struct bn_gguf_writer *w, struct bytes *b, const char *p, size_t n)
{
	put_little(w, b, n, 8);
	put_bytes(w, b, p, n);
}

static uint32_t float_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* --- metadata -------------------------------------------------------------------------------- */

static void begin_kv(struct bn_gguf_writer *w, const char *key, enum bn_gguf_type type)
{
	bn_assert(!w->streaming);
	put_string(w, &w->kv, key, strlen(key));
	put_little(w, &w->kv, type, 4);
	w->n_kv++;
}

static void begin_array(struct bn_gguf_writer *w, const char *key, enum bn_gguf_type element,
			size_t n)
{
	begin_kv(w, key, BN_GGUF_ARRAY);
	put_little(w, &w->kv, element, 4);
	put_little(w, &w->kv, n, 8);
}

void bn_gguf_put_u32(struct bn_gguf_writer *w, const char *key, uint32_t value)
{
	begin_kv(w, key, BN_GGUF_U32);
	put_little(w, &w->kv, value, 4);
}

void bn_gguf_put_i32(struct bn_gguf_writer *w, const char *key, int32_t value)
{
	begin_kv(w, key, BN_GGUF_I32);
	put_little(w, &w->kv, (uint32_t)value, 4);
}

void bn_gguf_put_f32(struct bn_gguf_writer *w, const char *key, float value)
{
	begin_kv(w, key, BN_GGUF_F32);
	put_little(w, &w->kv, float_bits(value), 4);
}

void bn_gguf_put_bool(struct bn_gguf_writer *w, const char *key, bool value)
{
	begin_kv(w, key, BN_GGUF_BOOL);
	put_little(w, &w->kv, value, 1);
}

void bn_gguf_put_str(struct bn_gguf_writer *w, const char *key, const char *value)
{
	begin_kv(w, key, BN_GGUF_STRING);
	put_string(w, &w->kv, value, strlen(value));
}

void bn_gguf_put_strs(struct bn_gguf_writer *w, const char *key, const struct bn_str *values,
		      size_t n)
{
	begin_array(w, key, BN_GGUF_STRING, n);
	for (size_t i = 0; i < n; i++) {
		put_string(w, &w->kv, values[i].p, values[i].n);
	}
}

void bn_gguf_put_i32s(struct bn_gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
	begin_array(w, key, BN_GGUF_I32, n);
	for (size_t i = 0; i < n; i++) {
		put_little(w, &w->kv, (uint32_t)values[i], 4);
	}
}

void bn_gguf_put_f32s(struct bn_gguf_writer *w, const char *key, const float *values, size_t n)
{
	begin_array(w, key, BN_GGUF_F32, n);
	for (size_t i = 0; i < n; i++) {
		put_little(w, &w->kv, float_bits(values[i]), 4);
	}
}

void bn_gguf_put_value(struct bn_gguf_writer *w, struct bn_str key, enum bn_gguf_type type,
		       struct bn_str value)
{
	bn_assert(!w->streaming);
	put_string(w, &w->kv, key.p, key.n);
	put_little(w, &w->kv, type, 4);
	put_bytes(w, &w->kv, value.p, value.n);
	w->n_kv++;
}

/* --- tensors --------------------------------------------------------------------------------- */

static uint64_t aligned(const struct bn_gguf_writer *w, uint64_t at)
{
	return at + (-at & (w->alignment - 1));
}

/* Where tensor i's data begins in the data section. */
static uint64_t start_of(const struct bn_gguf_writer *w, size_t i)
{
	return i == 0 ? 0 : aligned(w, w->ends[i - 1]);
}

static bool grow_ends(struct bn_gguf_writer *w)
{
	size_t capacity = w->ends_capacity == 0 ? 256 : w->ends_capacity * 2;
	uint64_t *p;

	if (w->n_tensors < w->ends_capacity) {
		return true;
	}
	p = reallocarray(w->ends, capacity, sizeof(*p));
	if (p == NULL) {
		bn_fail(&w->error, BN_E_MEMORY, "no memory to list %zu tensors", capacity);
		return false;
	}
	w->ends = p;
	w->ends_capacity = capacity;
	return true;
}

void bn_gguf_put_tensor(struct bn_gguf_writer *w, const char *name, enum bn_ggml_type type,
			uint32_t n_dims, const uint64_t *dims)
{
	uint64_t nbytes, start;

	bn_assert(!w->streaming);
	if (!bn_gguf_writer_ok(w) || !grow_ends(w)) {
		return;
	}
	if (bn_ggml_nbytes(type, n_dims, dims, &nbytes) != BN_GGML_FITS) {
		bn_fail(&w->error, BN_E_INVALID,
			"tensor '%s': its %u dimensions do not make a tensor of type %u", name,
			n_dims, (unsigned)type);
		return;
	}
	start = start_of(w, w->n_tensors);
	if (nbytes > INT64_MAX / 2 - start) {
		bn_fail(&w->error, BN_E_TOO_LARGE, "tensor '%s': the file passes 2^62 bytes", name);
		return;
	}
	put_string(w, &w->infos, name, strlen(name));
	put_little(w, &w->infos, n_dims, 4);
	for (uint32_t i = 0; i < n_dims; i++) {
		put_little(w, &w->infos, dims[i], 8);
	}
	put_little(w, &w->infos, type, 4);
	put_little(w, &w->infos, start, 8);
	w->ends[w->n_tensors++] = start + nbytes;
}

/* --- the file -------------------------------------------------------------------------------- */

static void put_file(struct bn_gguf_writer *w, const void *bytes, size_t n)
{
	const char *p = bytes;

	while (bn_gguf_writer_ok(w) && n > 0) {
		ssize_t done = write(w->fd, p, n);

		if (done < 0 && errno != EINTR) {
			bn_fail(&w->error, BN_E_IO, "cannot write '%s': %m", w->temporary);
		} else if (done > 0) {
			p += done;
			n -= (size_t)done;
		}
	}
}

static void put_zeros(struct bn_gguf_writer *w, uint64_t n)
{
	static const unsigned char zeros[4096];

	while (bn_gguf_writer_ok(w) && n > 0) {
		size_t piece = n < sizeof(zeros) ? (size_t)n : sizeof(zeros);

		put_file(w, zeros, piece);
		n -= piece;
	}
}

/*
 * Reads the header back with our own reader, sizes and all: a duplicate key, an over-long string
 * or whatever else a reader refuses is then the writer's error, before gigabytes are written.
 */
static void check_header(struct bn_gguf_writer *w, const struct bytes *header)
{
	uint64_t data = w->n_tensors > 0 ? aligned(w, w->ends[w->n_tensors - 1]) : 0;
	struct bn_gguf *g;
	struct bn_error err;

	if (bn_gguf_parse(&g, header->p, header->n, header->n + data, &err) != BN_OK) {
		bn_fail(&w->error, BN_E_INVALID, "%s", err.text);
		return;
	}
	bn_gguf_free(g);
}

static void begin_data(struct bn_gguf_writer *w)
{
	struct bytes header = { NULL, 0, 0 };

	w->streaming = true;
	put_bytes(w, &header, "GGUF", 4);
	put_little(w, &header, GGUF_VERSION, 4);
	put_little(w, &header, w->n_tensors, 8);
	put_little(w, &header, w->n_kv, 8);
	put_bytes(w, &header, w->kv.p, w->kv.n);
	put_bytes(w, &header, w->infos.p, w->infos.n);
	while (bn_gguf_writer_ok(w) && header.n % w->alignment != 0) {
		put_little(w, &header, 0, 1);
	}
	if (bn_gguf_writer_ok(w)) {
		check_header(w, &header);
	}
	put_file(w, header.p, header.n);
	free(header.p);
}

void bn_gguf_write(struct bn_gguf_writer *w, const void *bytes, size_t n)
{
	if (!w->streaming) {
		begin_data(w);
	}
	/* A finished tensor's padding comes with the next one's first byte, or with commit. */
	if (bn_gguf_writer_ok(w) && n > 0 && w->current < w->n_tensors &&
	    w->at == w->ends[w->current]) {
		uint64_t start = aligned(w, w->at);

		put_zeros(w, start - w->at);
		w->at = start;
		w->current++;
	}
	if (!bn_gguf_writer_ok(w) || n == 0) {
		return;
	}
	if (w->current >= w->n_tensors || n > w->ends[w->current] - w->at) {
		bn_fail(&w->error, BN_E_INVALID,
			"tensor %zu of %llu: %zu bytes are more than was announced", w->current,
			(unsigned long long)w->n_tensors, n);
		return;
	}
	put_file(w, bytes, n);
	w->at += n;
}

/* A rename is on disk only when the directory is. */
static void sync_directory(struct bn_gguf_writer *w)
{
	char *slash = strrchr(w->path, '/');
	int fd;

	if (slash == NULL) {
		fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	} else if (slash == w->path) {
		fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	} else {
		*slash = '\0';
		fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		*slash = '/';
	}
	if (fd >= 0) {
		/* Some file systems cannot sync a directory; the file itself is safe. */
		(void)fsync(fd);
		close(fd);
	}
}

enum bn_status bn_gguf_commit(struct bn_gguf_writer *w, struct bn_error *err)
{
	if (!w->streaming) {
		begin_data(w);
	}
	if (bn_gguf_writer_ok(w) && w->n_tensors > 0) {
		uint64_t end = w->ends[w->n_tensors - 1];

		if (w->at != end) {
			bn_fail(&w->error, BN_E_INVALID, "%llu bytes of tensor data are missing",
				(unsigned long long)(end - w->at));
		}
		put_zeros(w, aligned(w, end) - end);
	}
	if (bn_gguf_writer_ok(w) && (fsync(w->fd) != 0 || rename(w->temporary, w->path) != 0)) {
		bn_fail(&w->error, BN_E_IO, "cannot put '%s' in place: %m", w->path);
	}
	if (!bn_gguf_writer_ok(w)) {
		if (err != NULL) {
			*err = w->error;
		}
		return w->error.status;
	}
	w->committed = true;
	sync_directory(w);
	return BN_OK;
}

/* Beside the target, so that the rename stays within one file system. */
static bool create(struct bn_gguf_writer *w)
{
	for (int i = 0; i < NAME_TRIES; i++) {
		free(w->temporary);
		if (asprintf(&w->temporary, "%s.%d-%d.tmp", w->path, (int)getpid(), i) < 0) {
			w->temporary = NULL;
			errno = ENOMEM;
			return false;
		}
		w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			     0644);
		if (w->fd >= 0 || errno != EEXIST) {
			return w->fd >= 0;
		}
	}
	return false;
}

enum bn_status bn_gguf_writer_new(struct bn_gguf_writer **out, const char *path, uint32_t alignment,
				  struct bn_error *err)
{
	struct bn_gguf_writer *w = calloc(1, sizeof(*w));
	enum bn_status status;

	bn_assert(alignment >= 1 && alignment <= BN_GGUF_MAX_ALIGNMENT &&
		  (alignment & (alignment - 1)) == 0);
	if (w == NULL || (w->path = strdup(path)) == NULL) {
		free(w);
		return bn_fail(err, BN_E_MEMORY, "no memory for a GGUF writer");
	}
	w->fd = -1;
	w->alignment = alignment;
	if (!create(w)) {
		status = bn_fail(err, BN_E_IO, "cannot create a file beside '%s': %m", path);
		free(w->temporary);
		w->temporary = NULL;
		bn_gguf_writer_free(w);
		return status;
	}
	if (alignment != BN_GGUF_DEFAULT_ALIGNMENT) {
		bn_gguf_put_u32(w, "general.alignment", alignment);
	}
	*out = w;
	return BN_OK;
}

void bn_gguf_writer_free(struct bn_gguf_writer *w)
{
	if (w == NULL) {
		return;
	}
	if (w->fd >= 0) {
		close(w->fd);
	}
	if (!w->committed && w->temporary != NULL) {
		unlink(w->temporary);
	}
	free(w->path);
	free(w->temporary);
	free(w->kv.p);
	free(w->infos.p);
	free(w->ends);
	free(w);
}
