/*
 * What tests of whole tokenizers stand on: one of each kind, small ones made here or real ones from
 * the test data, and texts to put through them: random ones, control tokens, hostile ones.
 *
 * It asserts what holds for every tokenizer and every text. What one of them must give, tests say.
 */
#ifndef BN_TESTS_ENGINE_TEXTS_H
#define BN_TESTS_ENGINE_TEXTS_H

#include "engine/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

/* In *state of a group of tests. */
struct texts {
	struct bn_tokenizer *bpe;
	struct bn_tokenizer *spm;
	struct bn_tokenizer *phi3; /* NULL with the small ones */
};

/* Group setups: vocabs_tiny_bpe and vocabs_tiny_spm; Llama-3, Llama-2 and Phi-3, or the program
 * ends with 77 (skipped). And their teardown. */
int texts_small(void **state);
int texts_real(void **state);
int texts_drop(void **state);

/* Tokens of a text that must be encodable; to be finished by the caller. */
struct bn_tokens texts_encode_with(const struct bn_tokenizer *tok, const char *text, size_t n,
				   struct bn_encode_options options);
struct bn_tokens texts_encode(const struct bn_tokenizer *tok, const char *text);

/* Finishes `got`. */
void texts_assert_ids(const char *text, struct bn_tokens got, const bn_token *want, size_t n);

/* decode(encode(text)) == text, with no id out of range and no control token. */
void texts_round_trip(const struct bn_tokenizer *tok, const char *text, size_t n);

/* The same for 5000 random texts. */
void texts_random_round_trips(const struct bn_tokenizer *tok);

/* How many of the tokens are control tokens. */
unsigned texts_count_control(const struct bn_tokenizer *tok, const struct bn_tokens *t);

/* Every control token of the vocabulary, spelled out in text, stays text, and is itself only where
 * parsing was asked for; returns how many there are. */
unsigned texts_inject(const struct bn_tokenizer *tok);

/* The same numbers in every run of a program. */
uint32_t texts_random_below(uint32_t n);

/* So many characters of random kinds (what tokenizers trip over is more frequent than in real text)
 * into out [4 * characters]; returns how many bytes. */
size_t texts_random(char *out, unsigned characters);

/* Units that made other tokenizers quadratic or overflow their stack; NULL past the end. */
const char *texts_hostile_at(size_t i);

/* A unit over and over, as often as fits into `bytes`; n: how many bytes; for free(). */
char *texts_repeat(const char *unit, size_t bytes, size_t *n);

/* 256 KiB of every hostile unit make the round trip, and not in quadratic time. */
void texts_take_hostile(const struct bn_tokenizer *tok);

#endif
