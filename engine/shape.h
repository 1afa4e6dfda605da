/*
 * The dimensions of a decoder and what follows from them alone: its tensors, its parameters, the
 * bytes of its I2_S file.
 *
 * It knows no names of models or tensors and reads no files (engine/hyper.h does). What the tensors
 * take in memory depends on kernels too: engine/advice.h.
 */
#ifndef BN_ENGINE_SHAPE_H
#define BN_ENGINE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

/* The seven ternary matrices of a layer, in the order a step meets them. */
enum bn_projection {
	BN_PROJ_Q,
	BN_PROJ_K,
	BN_PROJ_V,
	BN_PROJ_O,
	BN_PROJ_GATE,
	BN_PROJ_UP,
	BN_PROJ_DOWN,
	BN_PROJ_COUNT,
};

/* Plain value; every number of it is bounded as engine/hyper.h says. */
struct bn_shape {
	uint32_t layers;
	uint32_t dim;
	uint32_t ffn;
	uint32_t heads;
	uint32_t kv_heads;
	uint32_t head_dim;
	uint32_t vocab;
	bool tied;      /* no output matrix: the embedding is the head */
	bool sub_norms; /* norms before wo and down                    */
	/* Of models that make vectors; see struct bn_architecture (engine/family.h). */
	bool input_norms; /* before each projection, wo and down among them */
	bool head_norms;  /* of queries and of keys, [head_dim]             */
	bool post_norms;  /* behind attention and behind the feed-forward   */
};

/* Rows (outputs) and columns (inputs) of a projection. Any thread. */
void bn_shape_projection(const struct bn_shape *s, enum bn_projection p, uint32_t *rows,
			 uint32_t *cols);

enum bn_shape_kind {
	BN_SHAPE_NORM,   /* float32 vector [cols]                       */
	BN_SHAPE_TABLE,  /* embedding or output matrix [rows, cols]     */
	BN_SHAPE_MATRIX, /* ternary matrix [rows, cols] of projection p */
};

/* `count` tensors that are alike. */
struct bn_shape_part {
	enum bn_shape_kind kind;
	enum bn_projection projection;
	uint32_t rows, cols;
	uint32_t count;
};

/* The i-th group of tensors; false past the end. */
bool bn_shape_part(const struct bn_shape *s, uint32_t i, struct bn_shape_part *out);

/* What an I2_S file of it holds: ternary matrices of n/4 + 32 bytes, F16 tables, F32 norms. */
struct bn_shape_file {
	uint64_t ternary;    /* parameters in ternary matrices    */
	uint64_t parameters; /* all                               */
	uint32_t norms, tables, matrices;
	uint64_t bytes; /* of tensor data, without padding between tensors */
};

/* Any thread. */
struct bn_shape_file bn_shape_file(const struct bn_shape *s);

#endif
