/*
 * The directory of a GGUF model file (versions 2 and 3, little endian): typed metadata and where
 * each tensor's bytes lie, with every count, length and offset checked before it is believed.
 *
 * It does not interpret metadata, hold or decode tensor data, or know any model; what it reports
 * is well-formed, not sensible. Ranges of values are the asking side's: each getter takes them.
 *
 * Everything a file can do wrong is BN_E_FORMAT with a sentence naming key or tensor, the value and
 * the limit. Memory: the header's bytes as read (at most BN_GGUF_MAX_HEADER) plus an index of at
 * most a few MiB; a small file cannot make us allocate more than that, whatever its counts say.
 */
#ifndef BN_ENGINE_GGUF_H
#define BN_ENGINE_GGUF_H

#include "engine/cursor.h"
#include "engine/file.h"
#include "engine/gguf_type.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * An array of metadata. Elements are packed little endian, so they are read by the functions
 * below, never by pointer. A plain value; a copy is an independent reading position.
 */
struct bn_gguf_array {
	enum bn_gguf_type type; /* of the elements; never ARRAY */
	size_t count;
	const unsigned char *data; /* private to the accessors */
	size_t at;                 /* private: byte position of bn_gguf_next_str, */
	size_t left;               /* and how many strings follow it              */
};

/* Opaque; immutable after opening, so any number of threads may read it. */
struct bn_gguf;

/*
 * Reads the directory of an open file, header bytes by pread as far as needed. The file is
 * borrowed and must stay open until bn_gguf_free. Helper, tools.
 */
BN_MUST_USE enum bn_status bn_gguf_open(struct bn_gguf **out, const struct bn_file *file,
					struct bn_error *err);

/*
 * The same for a file whose first n bytes are in memory, borrowed until bn_gguf_free, and which is
 * `size` >= n bytes long in all (asserted). bn_gguf_read then knows only those n. Any thread.
 */
BN_MUST_USE enum bn_status bn_gguf_parse(struct bn_gguf **out, const void *bytes, size_t n,
					 uint64_t size, struct bn_error *err);

/* Frees; NULL is fine. All bn_str and arrays handed out die. */
void bn_gguf_free(struct bn_gguf *g);

/* Bytes of memory the directory holds. */
size_t bn_gguf_bytes(const struct bn_gguf *g);

uint32_t bn_gguf_version(const struct bn_gguf *g);

/* --- metadata ---------------------------------------------------------------------------------
 * Each getter: BN_E_FORMAT when the key is absent, is of another type, or its value lies outside
 * [min, max]; *out is then untouched. For an optional key ask bn_gguf_has first.
 */

bool bn_gguf_has(const struct bn_gguf *g, const char *key);

/* Any integer type is accepted as long as the value fits the range. */
BN_MUST_USE enum bn_status bn_gguf_u32(const struct bn_gguf *g, const char *key, uint32_t min,
				       uint32_t max, uint32_t *out, struct bn_error *err);

/* F32 or F64, finite. */
BN_MUST_USE enum bn_status bn_gguf_f32(const struct bn_gguf *g, const char *key, float min,
				       float max, float *out, struct bn_error *err);

BN_MUST_USE enum bn_status bn_gguf_bool(const struct bn_gguf *g, const char *key, bool *out,
					struct bn_error *err);

/* The string is borrowed, not terminated, and whatever bytes the file held. */
BN_MUST_USE enum bn_status bn_gguf_str(const struct bn_gguf *g, const char *key, struct bn_str *out,
				       struct bn_error *err);

/* True when `key` is a string equal to `text`. */
bool bn_gguf_is(const struct bn_gguf *g, const char *key, const char *text);

/*
 * An array of strings / of any integer type / of F32. With `count` not 0 the array must have
 * exactly that many elements ("scores has 10 elements, tokens has 32000").
 */
BN_MUST_USE enum bn_status bn_gguf_strs(const struct bn_gguf *g, const char *key, size_t count,
					struct bn_gguf_array *out, struct bn_error *err);
BN_MUST_USE enum bn_status bn_gguf_ints(const struct bn_gguf *g, const char *key, size_t count,
					struct bn_gguf_array *out, struct bn_error *err);
BN_MUST_USE enum bn_status bn_gguf_f32s(const struct bn_gguf *g, const char *key, size_t count,
					struct bn_gguf_array *out, struct bn_error *err);

/*
 * The next string of an array got by bn_gguf_strs, `count` times, in order: strings have no fixed
 * size, so there is no random access. False after the last.
 */
bool bn_gguf_next_str(struct bn_gguf_array *a, struct bn_str *out);

/* Element i < count (asserted) of an array got by bn_gguf_ints (U64 beyond INT64_MAX saturates). */
int64_t bn_gguf_int_at(const struct bn_gguf_array *a, size_t i);

/* Element i < count (asserted) of an array got by bn_gguf_f32s. May be NaN: check. */
float bn_gguf_f32_at(const struct bn_gguf_array *a, size_t i);

/* For listing: pairs in file order; i < bn_gguf_kv_count (asserted). */
size_t bn_gguf_kv_count(const struct bn_gguf *g);
struct bn_str bn_gguf_kv_key(const struct bn_gguf *g, size_t i);
enum bn_gguf_type bn_gguf_kv_type(const struct bn_gguf *g, size_t i);

/* The value as the file encodes it, behind its type number, to be written again as it is. */
struct bn_str bn_gguf_kv_value(const struct bn_gguf *g, size_t i);

/* --- tensors ---------------------------------------------------------------------------------- */

size_t bn_gguf_tensor_count(const struct bn_gguf *g);

/* In file order; i < count (asserted). */
const struct bn_gguf_tensor *bn_gguf_tensor_at(const struct bn_gguf *g, size_t i);

/* By name; NULL when there is none. */
const struct bn_gguf_tensor *bn_gguf_tensor(const struct bn_gguf *g, const char *name);

/*
 * Copies bytes [from, from + bytes) of the tensor's data into dst. Errors of bn_file_read, with the
 * tensor named; BN_E_FORMAT too when the range leaves the tensor, or the bytes that
 * bn_gguf_parse was given. Several threads may read at once.
 */
BN_MUST_USE enum bn_status bn_gguf_read(const struct bn_gguf *g, const struct bn_gguf_tensor *t,
					uint64_t from, void *dst, size_t bytes,
					struct bn_error *err);

#endif
