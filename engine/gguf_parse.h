/*
 * Fills struct bn_gguf from bytes that nobody vouches for.
 *
 * It does not open, own or free anything and answers no questions: engine/gguf.c does, which alone
 * includes this.
 */
#ifndef BN_ENGINE_GGUF_PARSE_H
#define BN_ENGINE_GGUF_PARSE_H

#include "engine/cursor.h"
#include "engine/file.h"
#include "engine/gguf_type.h"
#include "proto/error.h"

#include <stddef.h>
#include <stdint.h>

/* One metadata pair; pointers into the header's bytes. */
struct bn_gguf_kv {
	struct bn_str key;
	const unsigned char *data; /* value, first element, or first byte of the string  */
	uint64_t count;            /* elements of an array, bytes of a string, else 1    */
	uint32_t type;             /* enum bn_gguf_type                                  */
	uint32_t element;          /* of an array                                        */
};

struct bn_gguf {
	const struct bn_file *file;  /* NULL when from memory                                */
	const unsigned char *memory; /* NULL when from a file                                */
	size_t memory_bytes;
	void *mapping;        /* the file's header, NULL when from memory             */
	size_t mapping_bytes; /* reserved address space                               */
	size_t header_bytes;  /* of it, present                                       */
	uint64_t size;        /* of the whole file                                    */
	uint32_t version;
	uint32_t alignment;
	size_t n_kv;
	size_t n_tensors;
	struct bn_gguf_kv *kv;          /* in file order                                    */
	struct bn_gguf_tensor *tensors; /* in file order                                    */
	uint32_t *kv_by_name;           /* [n_kv] indices sorted by bn_gguf_name_order      */
	uint32_t *tensors_by_name;      /* [n_tensors]                                      */
};

/* The pair with this key, NULL when there is none. Needs kv_by_name. */
const struct bn_gguf_kv *bn_gguf_find(const struct bn_gguf *g, const char *key);

/*
 * Where a header is read from; the cursor's `who`. Remembers why the file could not be read.
 * Memory: file NULL.
 */
struct bn_gguf_source {
	const struct bn_file *file;
	unsigned char *mapping; /* the cursor's base, writable */
	enum bn_status status;
	struct bn_error error;
};

/*
 * Fills the directory from the cursor, whose `who` is a bn_gguf_source; g->size is set. The caller
 * frees what is allocated, on failure too.
 */
BN_MUST_USE enum bn_status bn_gguf_parse_directory(struct bn_gguf *g, struct bn_cursor *c,
						   struct bn_error *err);

#endif
