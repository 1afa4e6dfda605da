/*
 * A small Hugging Face folder in a temporary place, sound as made and then spoilt by the test that
 * wants to see it refused.
 *
 * Two layers, hidden 128, feed-forward 256, 4 heads on 2, 300 tokens, packed weights of the class
 * bitlinear (LlamaForCausalLM). It is not part of the product.
 */
#ifndef BN_TESTS_ENGINE_HF_FOLDER_H
#define BN_TESTS_ENGINE_HF_FOLDER_H

#include "proto/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
	HF_TENSORS_MAX = 80,
	HF_DIM = 128,
	HF_FFN = 256,
	HF_HEADS = 4,
	HF_KV = 2,
	HF_VOCAB = 300,
	HF_LAYERS = 2
};

struct hf_tensor {
	char name[96];
	char dtype[8];
	uint32_t n_dims;
	uint64_t dims[3];
	unsigned char *data;
	size_t bytes;
};

struct hf_folder {
	char path[128];
	char *config, *generation, *tokenizer, *tokenizer_config; /* NULL: no such file */
	struct hf_tensor tensors[HF_TENSORS_MAX];
	size_t n;
};

/* Fills it; undo with hf_finish, which removes the folder too. */
void hf_init(struct hf_folder *hf);
void hf_finish(struct hf_folder *hf);

/* The first `from` in *text becomes `to`; a `from` that is not there fails the test. */
void hf_replace(char **text, const char *from, const char *to);

/* A tensor by name (fails the test when there is none); adding one; taking one out. */
struct hf_tensor *hf_find(struct hf_folder *hf, const char *name);
struct hf_tensor *hf_add(struct hf_folder *hf, const char *name, const char *dtype, uint32_t n_dims,
			 const uint64_t *dims);
void hf_remove(struct hf_folder *hf, const char *name);

/* Makes all projections floats: codes times `scale`, or, with `latent`, noise around them. */
void hf_make_float(struct hf_folder *hf, float scale, int latent);

/*
 * Makes it BitNet-embedding: model_type "qwen3" or "gemma3_text", latent floats, all their norms,
 * no output matrix, and the names of a bare backbone, without "model.".
 */
void hf_make_embedding(struct hf_folder *hf, const char *model_type);

/* A float of an F32 or BF16 tensor, set. */
void hf_set(struct hf_tensor *t, size_t i, float value);

/* The trit that a packed projection was made with, before packing. */
int hf_trit(const char *name, uint64_t row, uint64_t col);

/* Writes all files, the tensors as model.safetensors. */
void hf_write(struct hf_folder *hf);

/* Writes one file of it: for what hf_write does not. */
void hf_write_file(const struct hf_folder *hf, const char *name, const void *bytes, size_t n);

/* Tensors [from, to) as a file of that name. */
void hf_write_tensors(const struct hf_folder *hf, const char *name, size_t from, size_t to);

/* Fails the test, saying what came, unless status is `wanted` and the sentence has `words`. */
void hf_expect(enum bn_status status, const struct bn_error *err, enum bn_status wanted,
	       const char *words);

/* A file below BN_TEST_DATA, 4 MiB at most, for free(); NULL when it is not there. */
unsigned char *hf_data(const char *name, size_t *n);

/* Peak of this process's memory, MiB; 0 under the thread sanitizer, whose shadow hides it. */
size_t hf_peak_mib(void);

#endif
