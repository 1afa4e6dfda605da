/*
 * Random weights in every format our synthetic models use: the bytes of a piece of a tensor, from a
 * counter-based generator, the same on every machine.
 *
 * It does not know tensors or files.
 */
#ifndef BN_TESTS_TINY_FILL_H
#define BN_TESTS_TINY_FILL_H

#include "engine/ggml.h"

#include <stddef.h>
#include <stdint.h>

enum { TINY_FILL_TABLE = 4096 }; /* distinct values in an F16 tensor */

/* splitmix64's mixing of one number, for seeds (Steele, Lea, Flood 2014). */
uint64_t tiny_fill_mix(uint64_t x);

/* What an F16 tensor is drawn from: about normal. */
void tiny_fill_table(uint16_t table[TINY_FILL_TABLE], uint64_t *state, float mean, float spread);

void tiny_fill_f16(unsigned char *p, size_t n, uint64_t *state, const uint16_t *table);
void tiny_fill_f32(unsigned char *p, size_t n, uint64_t *state, float mean, float spread);

/* Blocks of Q8_0 or Q6_K with uniform quants whose deviation is `spread`. */
void tiny_fill_blocks(unsigned char *p, size_t n, uint64_t *state, enum bn_ggml_type type,
		      float spread);

/*
 * Trits, 32 to a draw: of two random bits 3 becomes 1, so -1, 0, +1 come as 25, 50, 25 %, which is
 * what the published model has (25.2, 49.6, 25.2).
 */
void tiny_fill_trits(unsigned char *p, size_t n, uint64_t *state);

/* A float as GGUF has it. */
void tiny_fill_float(unsigned char *p, float value);

#endif
