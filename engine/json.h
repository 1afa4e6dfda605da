/*
 * JSON of model folders: jansson behind limits, so that a hostile file costs no more than a
 * sentence.
 *
 * It does not know what the files mean and writes none. Only bn-convert links it; the daemon reads
 * GGUF alone.
 *
 * Before jansson sees a text, a walk over its bytes refuses what is too deep or would take more
 * than BN_JSON_COST times its size in memory: jansson makes 50 bytes and more of every "[],".
 */
#ifndef BN_ENGINE_JSON_H
#define BN_ENGINE_JSON_H

#include "proto/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_JSON_MAX_BYTES = 64 * 1024 * 1024,
	BN_JSON_MAX_DEPTH = 32,
	BN_JSON_COST = 8,                      /* bytes of tree per byte of text (the tokenizer of
						* Gemma 3 takes 7), and ...                    */
	BN_JSON_FREE_BYTES = 32 * 1024 * 1024, /* ... this much that every text may take          */
};

/*
 * Parses text [n] whose outermost value is an object. BN_E_FORMAT with line and column for what is
 * not JSON or UTF-8, for a key given twice, a number no double or int64 holds, more than max_depth
 * levels; BN_E_TOO_LARGE by size. *out belongs to the caller: json_decref. Any thread.
 */
BN_MUST_USE enum bn_status bn_json_parse(json_t **out, const char *text, size_t n,
					 unsigned max_depth, struct bn_error *err);

/* The same for a file `name` of an open folder. BN_E_IO when it is not there. Tools. */
BN_MUST_USE enum bn_status bn_json_load(json_t **out, int dirfd, const char *name,
					struct bn_error *err);

/* The value of a key, NULL when it is absent or null: many configurations write null for "no". */
json_t *bn_json_get(const json_t *object, const char *key);

/* The same for a file whose outermost value is an array. */
BN_MUST_USE enum bn_status bn_json_load_list(json_t **out, int dirfd, const char *name,
					     struct bn_error *err);

/*
 * Typed values. The key must be there: ask bn_json_get first for an optional one. BN_E_FORMAT
 * naming key, value and range; *out is then untouched. An integer is one without point or exponent;
 * a real may be an integer. Strings are borrowed from the tree.
 */
BN_MUST_USE enum bn_status bn_json_u32(const json_t *object, const char *key, uint32_t min,
				       uint32_t max, uint32_t *out, struct bn_error *err);
BN_MUST_USE enum bn_status bn_json_real(const json_t *object, const char *key, double min,
					double max, double *out, struct bn_error *err);
BN_MUST_USE enum bn_status bn_json_bool(const json_t *object, const char *key, bool *out,
					struct bn_error *err);
BN_MUST_USE enum bn_status bn_json_string(const json_t *object, const char *key, const char **out,
					  struct bn_error *err);

#endif
