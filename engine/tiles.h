/*
 * How the matrices of a TL1 or TL2 file are cut into tiles: what the file says, what is known of
 * the tools that write such files, what a person says, and what bn-convert chooses.
 *
 * It decodes nothing (engine/tl.h). bitnet.cpp's files do not say how they were cut, and another
 * cut mostly permutes the weights without any byte looking wrong: so where two known cuts are
 * possible the answer is no.
 */
#ifndef BN_ENGINE_TILES_H
#define BN_ENGINE_TILES_H

#include "engine/codec.h"
#include "engine/gguf.h"
#include "proto/error.h"

#include <stddef.h>
#include <stdint.h>

enum { BN_TILES_MAX = 16, BN_TILES_FIELDS = 5, BN_TILES_SHAPES = 32 };

/* What a person says of a file. Plain value; zeroed: nothing. */
struct bn_tiles_advice {
	uint32_t n;
	struct {
		uint32_t rows, cols; /* 0, 0: of every matrix that no other entry is for */
		struct bn_tiles tiles;
	} entry[BN_TILES_MAX];
	const char *origin; /* NULL, or the word of a known set (static) */
};

/*
 * Adds one argument to the advice: "256,96,32" (BM, BK, bm) for every matrix,
 * "4096x14336=128,64,64" (rows x columns) for those of a shape, or the word of a known set:
 * "codegen" (the parameters setup_env.py generates kernels with), "presets" (those of
 * preset_kernels/). BN_E_INVALID. Any thread.
 */
BN_MUST_USE enum bn_status bn_tiles_advise(struct bn_tiles_advice *advice, const char *text,
					   struct bn_error *err);

/*
 * How a matrix of this file is cut: by the advice (may be NULL), else by the file's own key (files
 * of bn-convert), else by the one known set with this shape. *out all zero for types without
 * tiles. BN_E_NOT_SUPPORTED when several or no known sets remain, BN_E_FORMAT when key or advice do
 * not fit the shape; the caller puts the tensor's name in front. Any thread.
 */
BN_MUST_USE enum bn_status bn_tiles_settle(struct bn_tiles *out, const struct bn_gguf *gguf,
					   enum bn_ggml_type type, uint32_t rows, uint32_t cols,
					   const struct bn_tiles_advice *advice,
					   struct bn_error *err);

/*
 * How bn-convert cuts a matrix: as the known set with this shape does, so that bitnet.cpp's kernels
 * read it, else the largest tiles that fit. All zero for types without tiles. BN_E_KERNEL with the
 * reason when none fit, or the type cannot hold the shape. Any thread.
 */
BN_MUST_USE enum bn_status bn_tiles_choose(struct bn_tiles *out, enum bn_ggml_type type,
					   uint32_t rows, uint32_t cols, struct bn_error *err);

/* The metadata key that lists a file's cuts: five i32 for each shape, rows, columns, BM, BK, bm.
 * NULL for types without tiles. */
const char *bn_tiles_key(enum bn_ggml_type type);

/* What goes under that key. Plain value; zeroed: no shape yet. */
struct bn_tiles_list {
	size_t n;
	int32_t fields[BN_TILES_SHAPES * BN_TILES_FIELDS]; /* [n] used */
};

/* Adds a shape unless it is there; false when there are BN_TILES_SHAPES others. Any thread. */
bool bn_tiles_note(struct bn_tiles_list *list, uint32_t rows, uint32_t cols,
		   const struct bn_tiles *tiles);

#endif
