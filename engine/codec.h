/*
 * The ternary tensor types of GGUF files, one row of a const table each: from a file's bytes to
 * canonical trits and a scale, and back.
 *
 * It reads no files, knows no model, and does not find out how a TL1 or TL2 file was cut
 * (engine/tiles.h does). What is not in the table is not ternary, or an order that only its writer
 * knows.
 */
#ifndef BN_ENGINE_CODEC_H
#define BN_ENGINE_CODEC_H

#include "engine/ggml.h"
#include "engine/groups.h"
#include "engine/tl.h"
#include "kernels/trits.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* Rows decoded at a time where a type allows it: whole blocks whatever the width. */
	BN_CODEC_ROWS = 128,
	/* Bytes behind the data of types with one scale: a float, zeros. */
	BN_CODEC_TAIL = 32,
};

struct bn_codec {
	enum bn_ggml_type type; /* its other numbers: engine/ggml.h */
	uint32_t file_type;     /* general.file_type of files of this type */
	bool whole;  /* the order mixes all rows: only the whole matrix can be decoded       */
	bool tailed; /* one scale, in the last BN_CODEC_TAIL bytes; else a scale for each group of
			weights */
	/* NULL: bn_ggml_nbytes says it all. */
	bool (*fits)(uint32_t rows, uint32_t cols, const struct bn_tiles *tiles);
	enum bn_trits_verdict (*decode)(struct bn_scale *scale, uint8_t *codes, const uint8_t *data,
					uint32_t n, uint32_t cols, const struct bn_tiles *tiles);
	void (*encode)(uint8_t *data, const struct bn_trits *src, float scale,
		       const struct bn_tiles *tiles);
};

/* The row of a type; NULL when it is not ternary. */
const struct bn_codec *bn_codec_find(enum bn_ggml_type type);

/* The i-th row, NULL past the end. */
const struct bn_codec *bn_codec_at(size_t i);

/* Can a matrix be written so? `tiles` as settled or chosen; all zero for other types than TL. */
bool bn_codec_fits(const struct bn_codec *c, uint32_t rows, uint32_t cols,
		   const struct bn_tiles *tiles);

/* Rows decoded by one call of bn_codec_decode: BN_CODEC_ROWS, or all of them. */
uint32_t bn_codec_rows(const struct bn_codec *c, uint32_t rows);

/* Bytes of n rows, without the tail. n is what bn_codec_decode takes, of a matrix that fits. */
size_t bn_codec_bytes(const struct bn_codec *c, uint32_t n, uint32_t cols);

/*
 * Rows [n] of a matrix of `cols` columns from data [bn_codec_bytes(n)] to codes [n,
 * bn_trits_stride(cols)]. Pieces go in order, begin at a multiple of bn_codec_rows and are as long
 * but for the last. `scale` is zero before the first piece and, for types with a scale for each
 * group, holds the matrix's after the last (0: all weights are zero). Anything but BN_TRITS_GOOD:
 * codes are unspecified, ask bn_codec_refuse.
 */
enum bn_trits_verdict bn_codec_decode(const struct bn_codec *c, struct bn_scale *scale,
				      uint8_t *codes, const uint8_t *data, uint32_t n,
				      uint32_t cols, const struct bn_tiles *tiles);

/* The sentence for a verdict that is not good; BN_E_NOT_SUPPORTED for two scales, else BN_E_FORMAT.
 * The caller puts the tensor's name in front. */
enum bn_status bn_codec_refuse(const struct bn_codec *c, enum bn_trits_verdict verdict,
			       const struct bn_scale *scale, const struct bn_tiles *tiles,
			       struct bn_error *err);

/* BN_E_FORMAT unless a scale is a finite number above zero. */
BN_MUST_USE enum bn_status bn_codec_check_scale(float scale, struct bn_error *err);

/* The whole matrix with its scale, padding and tail to data [bn_ggml_nbytes]; it fits. */
void bn_codec_encode(const struct bn_codec *c, uint8_t *data, const struct bn_trits *src,
		     float scale, const struct bn_tiles *tiles);

#endif
