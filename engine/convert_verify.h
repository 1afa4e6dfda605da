/*
 * Reads a converted file back and compares it with what was meant to be in it, by digests taken
 * before the weights were put in the file's layout.
 *
 * It knows no checkpoint. Only engine/convert.c uses it.
 */
#ifndef BN_ENGINE_CONVERT_VERIFY_H
#define BN_ENGINE_CONVERT_VERIFY_H

#include "engine/codec.h"
#include "engine/ggml.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stddef.h>
#include <stdint.h>

enum { BN_VERIFY_DIGEST_BYTES = 32, BN_VERIFY_NAME_BYTES = 64 };

/* One tensor as meant: a ternary one by SHA-256 of its canonical codes (rows of
 * bn_trits_stride(cols) bytes) and its scale, others by SHA-256 of their bytes. */
struct bn_verify_tensor {
	char name[BN_VERIFY_NAME_BYTES];
	enum bn_ggml_type type;
	uint32_t rows, cols;
	struct bn_tiles tiles; /* of TL1 and TL2 */
	float scale;
	unsigned char digest[BN_VERIFY_DIGEST_BYTES];
};

/* Called with the bytes read so far; may be NULL. What is not BN_OK ends the work. */
typedef enum bn_status (*bn_verify_progress)(void *who, uint64_t done_bytes);

/*
 * Compares tensors [n] and opens the file as the daemon will. BN_E_INTERNAL naming the tensor that
 * differs; errors of bn_gguf_open and bn_model_open. Helper.
 */
BN_MUST_USE enum bn_status bn_convert_verify(const char *path,
					     const struct bn_verify_tensor *tensors, size_t n,
					     bn_verify_progress progress, void *who,
					     struct bn_error *err) BN_ON_HELPER;

#endif
