/*
 * Writes GGUF version 3 files: metadata, then tensors streamed in the order announced, under a
 * temporary name that becomes the real one only when everything is on disk.
 *
 * It does not check that the metadata make a model, and does not convert data.
 *
 * The order is fixed: bn_gguf_writer_new; any number of bn_gguf_put_*; bn_gguf_put_tensor for every
 * tensor; bn_gguf_write for their data; bn_gguf_commit; bn_gguf_writer_free. Failures stick: the
 * functions between new and commit return nothing, and commit tells the first thing that went
 * wrong. A writer that streams gigabytes may ask bn_gguf_writer_ok in between.
 */
#ifndef BN_ENGINE_GGUF_WRITE_H
#define BN_ENGINE_GGUF_WRITE_H

#include "engine/cursor.h"
#include "engine/ggml.h"
#include "engine/gguf_type.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opaque. One thread at a time; helper or tools. */
struct bn_gguf_writer;

/*
 * Begins a file that will be `path`. Creates the temporary file beside it at once, so that a
 * directory one may not write to is known before the work: BN_E_IO. Alignment is a power of two,
 * 1..1 MiB (asserted); other than 32 it is written as general.alignment.
 */
BN_MUST_USE enum bn_status bn_gguf_writer_new(struct bn_gguf_writer **out, const char *path,
					      uint32_t alignment, struct bn_error *err);

/* Metadata. Keys and values are copied. A key given twice is an error. */
void bn_gguf_put_u32(struct bn_gguf_writer *w, const char *key, uint32_t value);
void bn_gguf_put_i32(struct bn_gguf_writer *w, const char *key, int32_t value);
void bn_gguf_put_f32(struct bn_gguf_writer *w, const char *key, float value);
void bn_gguf_put_bool(struct bn_gguf_writer *w, const char *key, bool value);
void bn_gguf_put_str(struct bn_gguf_writer *w, const char *key, const char *value);
void bn_gguf_put_strs(struct bn_gguf_writer *w, const char *key, const struct bn_str *values,
		      size_t n);
void bn_gguf_put_i32s(struct bn_gguf_writer *w, const char *key, const int32_t *values, size_t n);
void bn_gguf_put_f32s(struct bn_gguf_writer *w, const char *key, const float *values, size_t n);
/* A value as another file encodes it (bn_gguf_kv_value). */
void bn_gguf_put_value(struct bn_gguf_writer *w, struct bn_str key, enum bn_gguf_type type,
		       struct bn_str value);

/* Announces a tensor: dims [n_dims], innermost first. Size and place follow from type and dims. */
void bn_gguf_put_tensor(struct bn_gguf_writer *w, const char *name, enum bn_ggml_type type,
			uint32_t n_dims, const uint64_t *dims);

/*
 * Appends data bytes, in tensor order, in pieces of any size; a piece may not span two tensors. The
 * padding between tensors is ours. The first call ends the announcements. Writing more than was
 * announced is an error.
 */
void bn_gguf_write(struct bn_gguf_writer *w, const void *bytes, size_t n);

/* False once something failed. */
bool bn_gguf_writer_ok(const struct bn_gguf_writer *w);

/*
 * Checks that all announced data came, syncs, renames over `path` and syncs the directory. On
 * failure (the first that happened, BN_E_IO, BN_E_INVALID or BN_E_MEMORY) there is no new file, and
 * what was at `path` is as before.
 */
BN_MUST_USE enum bn_status bn_gguf_commit(struct bn_gguf_writer *w, struct bn_error *err);

/* Frees; without a successful commit the temporary file is removed. NULL is fine. */
void bn_gguf_writer_free(struct bn_gguf_writer *w);

#endif
