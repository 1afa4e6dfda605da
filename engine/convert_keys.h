/*
 * The metadata of a converted model: every key that our loader, bitnet.cpp and its relatives read,
 * as the published files have them (design paper "models", 3.3 to 3.6).
 *
 * It writes no tensors. Only engine/convert.c uses it.
 */
#ifndef BN_ENGINE_CONVERT_KEYS_H
#define BN_ENGINE_CONVERT_KEYS_H

#include "engine/checkpoint.h"
#include "engine/gguf_write.h"

/* Puts all but those of tiles; `name` is general.name, `file_type` general.file_type. Failures
 * stick to the writer. Tools. */
void bn_convert_keys(struct bn_gguf_writer *w, const struct bn_checkpoint *c, const char *name,
		     uint32_t file_type);

#endif
