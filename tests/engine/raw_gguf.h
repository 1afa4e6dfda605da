/*
 * Hand-made GGUF bytes, right or wrong: a growing buffer and the pieces of the format. Each
 * function writes exactly what it is told, so that tests can lie in one field at a time.
 */
#ifndef BN_TESTS_ENGINE_RAW_GGUF_H
#define BN_TESTS_ENGINE_RAW_GGUF_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct raw {
	unsigned char *p;
	size_t n, capacity;
};

static inline void raw_bytes(struct raw *r, const void *p, size_t n)
{
	if (r->n + n > r->capacity) {
		r->capacity = 2 * (r->n + n) + 256;
		r->p = realloc(r->p, r->capacity);
		if (r->p == NULL) {
			abort();
		}
	}
	if (p != NULL && n > 0) {
		memcpy(r->p + r->n, p, n);
	} else if (n > 0) {
		memset(r->p + r->n, 0, n);
	}
	r->n += n;
}

static inline void raw_number(struct raw *r, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)(value >> (8 * i));

		raw_bytes(r, &c, 1);
	}
}

static inline void raw_string(struct raw *r, const char *text)
{
	raw_number(r, strlen(text), 8);
	raw_bytes(r, text, strlen(text));
}

/* Magic, version, counts. */
static inline void raw_begin(struct raw *r, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
	raw_bytes(r, "GGUF", 4);
	raw_number(r, version, 4);
	raw_number(r, n_tensors, 8);
	raw_number(r, n_kv, 8);
}

/* A key and its type; the value follows. */
static inline void raw_key(struct raw *r, const char *key, uint32_t type)
{
	raw_string(r, key);
	raw_number(r, type, 4);
}

static inline void raw_u32(struct raw *r, const char *key, uint32_t value)
{
	raw_key(r, key, 4);
	raw_number(r, value, 4);
}

static inline void raw_tensor(struct raw *r, const char *name, uint32_t n_dims,
			      const uint64_t *dims, uint32_t type, uint64_t offset)
{
	raw_string(r, name);
	raw_number(r, n_dims, 4);
	for (uint32_t i = 0; i < n_dims; i++) {
		raw_number(r, dims[i], 8);
	}
	raw_number(r, type, 4);
	raw_number(r, offset, 8);
}

/* Zeros up to a multiple, then `n` more. */
static inline void raw_data(struct raw *r, size_t alignment, size_t n)
{
	raw_bytes(r, NULL, (alignment - r->n % alignment) % alignment);
	raw_bytes(r, NULL, n);
}

static inline void raw_free(struct raw *r)
{
	free(r->p);
	memset(r, 0, sizeof(*r));
}

#endif
