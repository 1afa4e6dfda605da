/*
 * The splitters that cut text into pieces before byte-level BPE merges inside each: hand-written
 * equivalents of the regular expressions of the models, one pass, no table but Unicode's.
 *
 * It does not normalize, merge, look anything up in a vocabulary or allocate. Every byte of the text belongs
 * to exactly one piece. Any thread.
 */
#ifndef BN_ENGINE_PRETOKENIZE_H
#define BN_ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

enum bn_splitter {
	/*
	 * (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
	 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
	 */
	BN_SPLIT_LLAMA3,
	/* The same, but every number character is a piece of its own. */
	BN_SPLIT_QWEN2,
	/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
	BN_SPLIT_GPT2,
	BN_SPLITTER_COUNT,
};

/*
 * Bytes of the first piece of `text` [n], which must be valid UTF-8 and reach to the end of the
 * whole text (white space is cut by what follows it). At least 1 for n > 0, and 0 for n = 0.
 * Called until the text is used up it takes time linear in the text.
 */
size_t bn_pretokenize_next(enum bn_splitter splitter, const char *text, size_t n);

/* What a tokenizer.ggml.pre says: a splitter, and whether whole pieces in the vocabulary win. */
struct bn_pretokenizer {
	const char *name;
	enum bn_splitter splitter;
	bool ignore_merges;
	bool nfc; /* texts are composed canonically before they are split (engine/nfc.h) */
};

/* The row of that name, or NULL when it is not known. */
const struct bn_pretokenizer *bn_pretokenizer_find(const char *name, size_t n);

#endif
