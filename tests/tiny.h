/*
 * Synthetic ternary models: well-formed GGUF files of any shape with random weights, the same bytes
 * for the same parameters on every machine. A two-layer one takes milliseconds.
 *
 * They do not speak sense; their activations, though, stay of the size real ones have, so that
 * engines can be compared on them. Not part of the product.
 */
#ifndef BN_TESTS_TINY_H
#define BN_TESTS_TINY_H

#include "engine/ggml.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>

enum bn_tiny_tokenizer {
	/* Byte-level BPE: 256 byte symbols, merges, specials. Tokens are "Ġ" or a letter followed
	 * by letters, short ones first, each merged from its prefix and its last letter. */
	BN_TINY_GPT2,
	/* SentencePiece BPE: <unk>, <s>, </s>, 256 byte tokens, ASCII, then as above with "▁". */
	BN_TINY_SPM,
};

/* What only models that make vectors have: input norms and head norms always. Zeroed: the model
 * generates. */
struct bn_tiny_vectors {
	uint32_t pooling;  /* <arch>.pooling_type: 1 mean, 2 first, 3 last                        */
	uint32_t head_dim; /* 0: dim / heads                                                      */
	bool post_norms;
	uint32_t window; /* of the layers but every sixth; 0: all see all                       */
};

/* Plain value. Fill with bn_tiny_default or bn_tiny_preset, then change what the test is about. */
struct bn_tiny {
	const char *name; /* general.name                                                      */
	const char *arch; /* general.architecture                                              */
	uint32_t layers, dim, ffn, heads, kv_heads, vocab, context;
	float rope_base;
	float eps;
	bool tied; /* no output.weight                                        */
	bool sub_norms;
	bool norms_one;              /* all gains 1 instead of about 1                          */
	enum bn_ggml_type embedding; /* F32, F16, Q8_0 or Q6_K; of the output matrix too        */
	enum bn_tiny_tokenizer tokenizer;
	const char *pre; /* tokenizer.ggml.pre, NULL: absent                        */
	uint64_t seed;
	struct bn_tiny_vectors vectors;
	enum bn_ggml_type trits; /* F32 (zero) or I2_S: I2_S, else one of engine/codec.h        */
};

/* qwen3 or gemma3 of the default's dimensions, last token pooled, eos appended. */
void bn_tiny_vectors(struct bn_tiny *t, const char *arch);

/*
 * bitnet-b1.58 with 2 layers, dim 128, ffn 256, 4 heads on 2, vocabulary 512, context 256, tied,
 * sub-norms, F16, GPT-2 tokenizer with llama-bpe splitter. BOS is the token 10 before the last, or
 * 1 for SPM; EOS the next.
 */
void bn_tiny_default(struct bn_tiny *t);

/*
 * The true dimensions of a published model (design table of the models): "bitnet-2b-4t", "large",
 * "3b", "llama3-8b", "falcon3-1b", "falcon3-3b", "falcon3-7b", "falcon3-10b", "falcon-e-1b",
 * "falcon-e-3b", "embedding-0.6b", "embedding-270m". False for another name. bn_tiny_preset_at
 * lists the names, NULL past the end.
 */
bool bn_tiny_preset(struct bn_tiny *t, const char *name);
const char *bn_tiny_preset_at(uint32_t i);

/*
 * Writes the model to `path`, streaming: memory stays bounded whatever the model's size.
 * BN_E_INVALID when the parameters make no model (vocabulary below 300, a tensor whose elements are
 * no multiple of 128 or that its type cannot hold, heads that do not divide), else the errors of
 * the GGUF writer.
 */
BN_MUST_USE enum bn_status bn_tiny_write(const struct bn_tiny *t, const char *path,
					 struct bn_error *err);

#endif
