/*
 * Asks a parsed directory everything there is to ask, and aborts when an answer breaks a promise of
 * engine/gguf.h: what tests and fuzzers do with every file that is accepted.
 */
#ifndef BN_TESTS_GGUF_WALK_H
#define BN_TESTS_GGUF_WALK_H

#include "engine/gguf.h"
#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>

/* A terminated copy, or NULL when the name holds a zero byte and cannot be asked for. */
static inline char *walk_name(struct bn_str name)
{
	return memchr(name.p, 0, name.n) == NULL ? strndup(name.p, name.n) : NULL;
}

/* Reads every byte of every value, so that a sanitizer sees a view that points nowhere. */
static inline size_t walk_value(const struct bn_gguf *g, const char *key, enum bn_gguf_type type)
{
	struct bn_gguf_array a;
	struct bn_str s;
	size_t sum = 0;
	uint32_t u;
	float f;
	bool b;

	bn_assert(bn_gguf_has(g, key));
	if (bn_gguf_str(g, key, &s, NULL) == BN_OK) {
		bn_assert(type == BN_GGUF_STRING);
		for (size_t i = 0; i < s.n; i++) {
			sum += (unsigned char)s.p[i];
		}
	}
	if (bn_gguf_strs(g, key, 0, &a, NULL) == BN_OK) {
		size_t n = 0;

		while (bn_gguf_next_str(&a, &s)) {
			sum += s.n > 0 ? (unsigned char)s.p[0] + (unsigned char)s.p[s.n - 1] : 0;
			n++;
		}
		bn_assert(n == a.count);
	}
	if (bn_gguf_ints(g, key, 0, &a, NULL) == BN_OK) {
		for (size_t i = 0; i < a.count; i++) {
			sum += (size_t)bn_gguf_int_at(&a, i);
		}
	}
	if (bn_gguf_f32s(g, key, 0, &a, NULL) == BN_OK) {
		for (size_t i = 0; i < a.count; i++) {
			sum += bn_gguf_f32_at(&a, i) > 0.0f;
		}
	}
	if (bn_gguf_u32(g, key, 1, 1000, &u, NULL) == BN_OK) {
		bn_assert(u >= 1 && u <= 1000);
	}
	if (bn_gguf_f32(g, key, -1.0f, 1.0f, &f, NULL) == BN_OK) {
		bn_assert(f >= -1.0f && f <= 1.0f);
	}
	if (bn_gguf_bool(g, key, &b, NULL) == BN_OK) {
		bn_assert(type == BN_GGUF_BOOL);
	}
	return sum;
}

/* `size` is that of the whole file. Returns a sum that keeps the reads alive. */
static inline size_t walk_gguf(const struct bn_gguf *g, uint64_t size)
{
	size_t sum = bn_gguf_bytes(g);

	bn_assert(bn_gguf_version(g) == 2 || bn_gguf_version(g) == 3);
	for (size_t i = 0; i < bn_gguf_kv_count(g); i++) {
		char *key = walk_name(bn_gguf_kv_key(g, i));

		if (key != NULL) {
			sum += walk_value(g, key, bn_gguf_kv_type(g, i));
		}
		free(key);
	}
	for (size_t i = 0; i < bn_gguf_tensor_count(g); i++) {
		const struct bn_gguf_tensor *t = bn_gguf_tensor_at(g, i);
		char *name = walk_name(t->name);
		unsigned char byte;

		bn_assert(t->n_dims >= 1 && t->n_dims <= BN_GGML_MAX_DIMS);
		bn_assert(t->nbytes > 0 && t->nbytes <= size && t->offset <= size - t->nbytes);
		bn_assert(bn_ggml_name(t->type) != NULL);
		bn_assert(name == NULL || bn_gguf_tensor(g, name) == t);
		bn_assert(bn_gguf_read(g, t, t->nbytes, &byte, 1, NULL) == BN_E_FORMAT);
		if (bn_gguf_read(g, t, t->nbytes - 1, &byte, 1, NULL) == BN_OK) {
			sum += byte;
		}
		free(name);
	}
	return sum;
}

#endif
