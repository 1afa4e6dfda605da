/*
 * The vocabulary of a synthetic model: bytes, words of letters merged from their prefixes, control
 * tokens, as the tokenizer metadata of a GGUF file.
 *
 * It does not look like any language.
 */
#ifndef BN_TESTS_TINY_VOCAB_H
#define BN_TESTS_TINY_VOCAB_H

#include "engine/gguf_write.h"
#include "tests/tiny.h"

/* Writes the metadata. False when there is no memory; the writer tells of everything else. */
bool tiny_vocab_put(struct bn_gguf_writer *w, const struct bn_tiny *t);

#endif
