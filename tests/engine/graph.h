/*
 * The skeleton of a model file, to be bent before it is written: hyper-parameters and tensors of a
 * sound two-layer bitnet-b1.58 without tokenizer, weights all zero. What must be refused is one
 * call away from what is accepted.
 */
#ifndef BN_TESTS_ENGINE_GRAPH_H
#define BN_TESTS_ENGINE_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/binding.h"
#include "engine/ggml.h"

enum { GRAPH_MAX = 96, GRAPH_NAME = 96 };

enum graph_kind { GRAPH_U32, GRAPH_I32, GRAPH_F32, GRAPH_BOOL, GRAPH_STR };

struct graph_value {
	enum graph_kind kind;
	double number;
	const char *text;
};

struct graph_tensor {
	char name[GRAPH_NAME];
	enum bn_ggml_type type;
	uint32_t n_dims;
	uint64_t dims[4];
	float scale;  /* of I2_S */
	uint8_t fill; /* every byte of the data: 0x55 is all zeros in I2_S */
};

struct graph {
	struct {
		char key[GRAPH_NAME];
		struct graph_value value;
	} kv[GRAPH_MAX];
	size_t n_kv;
	struct graph_tensor tensors[GRAPH_MAX];
	size_t n_tensors;
};

/* 2 layers, dim 128, ffn 256, 4 heads on 2, vocabulary 512, context 256, tied, F16 embedding. */
void graph_init(struct graph *g);

/* Sets or adds a key. */
void graph_set(struct graph *g, const char *key, struct graph_value value);

/* Makes it another architecture's: moves the keys, and drops the sub-norms where it has none. */
void graph_rename(struct graph *g, const char *arch);

/* Removes a key that must be there. */
void graph_drop(struct graph *g, const char *key);

/* A tensor by name, to be changed; aborts when there is none. */
struct graph_tensor *graph_tensor(struct graph *g, const char *name);

void graph_drop_tensor(struct graph *g, const char *name);

/* Adds a tensor of n_dims 1 (rows 1) or 2. */
struct graph_tensor *graph_add(struct graph *g, const char *name, enum bn_ggml_type type,
			       uint64_t cols, uint64_t rows);

/* Writes it; aborts on failure. */
void graph_write(const struct graph *g, const char *path);

/* An open file and what was bound of it. */
struct bound {
	struct bn_file file;
	struct bn_gguf *gguf;
	struct bn_hyper hyper;
	struct bn_binding *binding;
};

/* Opens and binds a file whose directory and hyper-parameters are sound; undo with unbind. */
enum bn_status bind_file(struct bound *b, const char *path, const char *const *only,
			 struct bn_error *err);
void unbind(struct bound *b);

#endif
