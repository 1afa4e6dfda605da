/*
 * Vocabularies for tests: real ones from BN_TEST_DATA, and small hand-made ones that need no data.
 *
 * It does not test anything itself; what cannot be had ends the test with exit code 77 (skipped).
 */
#ifndef BN_TESTS_ENGINE_VOCABS_H
#define BN_TESTS_ENGINE_VOCABS_H

#include "engine/lexicon.h"
#include "engine/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

/* A vocabulary with the memory it borrows. Undo with vocabs_finish. */
struct vocabs {
	struct bn_vocab vocab;
	struct bn_str *tokens;
	uint32_t capacity;
	uint8_t *types;
	float *scores;
	struct bn_str *merges;
	uint32_t merges_capacity;
	char **owned; /* [n_owned] blocks to free */
	size_t n_owned;
	size_t owned_capacity;
};

/* The whole file BN_TEST_DATA/name, NUL-terminated; for names ending in .gz what it unpacks to.
 * Exits 77 when it is absent. */
char *vocabs_read(const char *name, size_t *n);

/* An empty vocabulary of that kind, no special ids. */
void vocabs_init(struct vocabs *v, enum bn_tokenizer_kind kind);

/* Appends a token (spelling copied); returns its id. */
bn_token vocabs_add(struct vocabs *v, const char *spelling, enum bn_token_type type, float score);
bn_token vocabs_add_bytes(struct vocabs *v, const char *spelling, size_t n, enum bn_token_type type,
			  float score);
void vocabs_add_merge(struct vocabs *v, const char *merge);

/* Appends the 256 byte symbols: GPT-2 alphabet, or <0x00>..<0xFF>. */
void vocabs_add_gpt2_bytes(struct vocabs *v);
void vocabs_add_spm_bytes(struct vocabs *v);

/* Makes the tokenizer; fails the test when that fails. */
struct bn_tokenizer *vocabs_make(struct vocabs *v);

void vocabs_finish(struct vocabs *v);

/* Llama-3: 128000 tokens, 280147 merges, 256 control tokens under their Llama-3.1 names. */
void vocabs_llama3(struct vocabs *v);

/* A GGUF file below BN_TEST_DATA. */
struct bn_tokenizer *vocabs_gguf(const char *name);

/*
 * A small byte-level vocabulary: 256 bytes at ids 0..255, then " a" "the" "he" "th" "in" and
 * friends, then a literal "\n\n" and control tokens <|begin_of_text|>, <|end_of_text|>,
 * <|start_header_id|>, <|end_header_id|>, <|eot_id|>, <|im_start|>, <|im_end|>, <|endoftext|>.
 */
void vocabs_tiny_bpe(struct vocabs *v);

/*
 * Falcon-E in small: specials first, then a symbol for every byte that UTF-8 has and none for the
 * other 13, in the order of their spellings, then tokens. `without`: a byte left out as well, or 0.
 */
void vocabs_falcon_e(struct vocabs *v, unsigned without);

/* A small SentencePiece vocabulary: <unk> <s> </s>, bytes, letters, a few words. */
void vocabs_tiny_spm(struct vocabs *v);

#endif
