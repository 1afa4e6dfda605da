/*
 * The vocabulary of GGUF files: limits, types of metadata, and one tensor's entry in the directory.
 *
 * It reads nothing; engine/gguf.h does and is what to include.
 */
#ifndef BN_ENGINE_GGUF_TYPE_H
#define BN_ENGINE_GGUF_TYPE_H

#include "engine/cursor.h"
#include "engine/ggml.h"

#include <stddef.h>
#include <stdint.h>

enum {
	BN_GGUF_MAX_KV = 65536,
	BN_GGUF_MAX_TENSORS = 65536,
	BN_GGUF_MAX_KEY = 64 * 1024, /* bytes; tensor names too */
	BN_GGUF_MAX_STRING = 16 * 1024 * 1024,
	BN_GGUF_MAX_ELEMENTS = 16 * 1024 * 1024, /* of one array */
	BN_GGUF_MAX_HEADER = 256 * 1024 * 1024,
	BN_GGUF_MAX_ALIGNMENT = 1024 * 1024,
	BN_GGUF_DEFAULT_ALIGNMENT = 32,
};

/* Types of metadata values: the numbers in the file. */
enum bn_gguf_type {
	BN_GGUF_U8 = 0,
	BN_GGUF_I8 = 1,
	BN_GGUF_U16 = 2,
	BN_GGUF_I16 = 3,
	BN_GGUF_U32 = 4,
	BN_GGUF_I32 = 5,
	BN_GGUF_F32 = 6,
	BN_GGUF_BOOL = 7,
	BN_GGUF_STRING = 8,
	BN_GGUF_ARRAY = 9,
	BN_GGUF_U64 = 10,
	BN_GGUF_I64 = 11,
	BN_GGUF_F64 = 12,
	BN_GGUF_TYPE_COUNT = 13,
};

/* One tensor. Strings live as long as the directory. */
struct bn_gguf_tensor {
	struct bn_str name;
	enum bn_ggml_type type; /* always one that ggml.h knows                                  */
	uint32_t n_dims;        /* 1..4                                                          */
	uint64_t dims[BN_GGML_MAX_DIMS]; /* innermost first: a matrix is [cols, rows]; rest 1    */
	uint64_t offset; /* from the start of the file                                    */
	uint64_t nbytes; /* computed from type and dims; lies wholly inside the file      */
};

/* "u32", "array", ...; "?" for what is no type. */
const char *bn_gguf_type_name(uint32_t type);

/* Bytes of a metadata scalar; 0 for strings, arrays and unknown types. */
size_t bn_gguf_scalar_bytes(uint32_t type);

/* A total order of names: shorter first, then by bytes. */
int bn_gguf_name_order(struct bn_str a, struct bn_str b);

#endif
