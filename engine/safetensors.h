/*
 * The tensors of a Hugging Face folder: one safetensors file or the shards of an index, with every
 * length, shape and offset checked before it is believed.
 *
 * It does not know what the tensors mean and converts nothing. Only bn-convert uses it.
 *
 * A file is refused unless its tensors tile its data exactly, without gap, overlap or rest: bytes
 * that no tensor owns are how a file is two things at once.
 */
#ifndef BN_ENGINE_SAFETENSORS_H
#define BN_ENGINE_SAFETENSORS_H

#include "proto/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
	BN_SAFETENSORS_MAX_HEADER = 100 * 1000 * 1000,
	BN_SAFETENSORS_MAX_DIMS = 8,
	BN_SAFETENSORS_MAX_TENSORS = 65536,
	BN_SAFETENSORS_MAX_SHARDS = 1024,
	BN_SAFETENSORS_MAX_NAME = 512,
};

enum bn_safetensors_type {
	BN_ST_F32,
	BN_ST_F16,
	BN_ST_BF16,
	BN_ST_U8,
	BN_ST_OTHER, /* of a size we know, not read by us: integers, F64, F8 */
};

struct bn_safetensors_tensor {
	const char *name;
	const char *dtype; /* as the file says it, "BF16" */
	enum bn_safetensors_type type;
	uint32_t shard;
	uint32_t n_dims;
	uint64_t dims[BN_SAFETENSORS_MAX_DIMS]; /* outermost first */
	uint64_t elements;
	uint64_t begin, end; /* in the shard's data */
};

/* Opaque: open files and their tensors, sorted by name. Reading is pread: any number of threads. */
struct bn_safetensors;

/*
 * Opens model.safetensors of the folder, or the shards of model.safetensors.index.json. BN_E_IO
 * when there is neither (the sentence says what kind of folder it seems to be), BN_E_FORMAT naming
 * file and tensor. *out belongs to the caller: bn_safetensors_free. Tools.
 */
BN_MUST_USE enum bn_status bn_safetensors_open(struct bn_safetensors **out, int dirfd,
					       struct bn_error *err);

/*
 * A header alone, for tests: the first n bytes of a file of `size` >= n bytes (asserted), whose
 * data cannot be read. Any thread.
 */
BN_MUST_USE enum bn_status bn_safetensors_parse(struct bn_safetensors **out, const void *bytes,
						size_t n, uint64_t size, struct bn_error *err);

/* NULL is fine. */
void bn_safetensors_free(struct bn_safetensors *st);

size_t bn_safetensors_count(const struct bn_safetensors *st);

/* In the order of names; i < count (asserted). */
const struct bn_safetensors_tensor *bn_safetensors_at(const struct bn_safetensors *st, size_t i);

/* NULL when there is none. */
const struct bn_safetensors_tensor *bn_safetensors_find(const struct bn_safetensors *st,
							const char *name);

/* Bytes of an element; 0 for BN_ST_OTHER. */
size_t bn_safetensors_width(enum bn_safetensors_type type);

/* Copies `bytes` from byte `from` of the tensor on. BN_E_FORMAT when that leaves the tensor or the
 * file was cut, BN_E_IO. */
BN_MUST_USE enum bn_status bn_safetensors_read(const struct bn_safetensors *st,
					       const struct bn_safetensors_tensor *t, uint64_t from,
					       void *dst, size_t bytes, struct bn_error *err);

/* BN_E_FORMAT when a file was written to since it was opened: ask after the last read. */
BN_MUST_USE enum bn_status bn_safetensors_unchanged(const struct bn_safetensors *st,
						    struct bn_error *err);

#endif
