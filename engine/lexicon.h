/*
 * The tokens of a vocabulary: what bytes each stands for, which may come out of plain text, and
 * how to find one by its text.
 *
 * It does not merge or split (engine/bpe.h, engine/spm.h) and knows no file format. What it reads
 * comes from a model file and is hostile; what it answers is in range.
 *
 * Guarded tokens. A token is *guarded* when reaching it from plain text would hand control to
 * whoever wrote the text: type CONTROL or UNKNOWN; any token whose spelling is markup ("<|...|>",
 * also with full-width bars) whatever type the file gives it; USER_DEFINED tokens spelled "<...>";
 * the end-of-generation spellings; and the ids the file names as bos, eos, eot, eom or unk when
 * spelled "<...>". Other USER_DEFINED tokens (runs of white space, mostly) are *literal*: matched
 * in all text, as their models' training did.
 */
#ifndef BN_ENGINE_LEXICON_H
#define BN_ENGINE_LEXICON_H

#include "engine/cursor.h"
#include "engine/pretokenize.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t bn_token;

#define BN_TOKEN_NONE UINT32_MAX

enum {
	BN_TOKENIZER_MAX_TOKENS = 4 * 1024 * 1024,
	BN_TOKENIZER_MAX_MERGES = 16 * 1024 * 1024,
	BN_TOKENIZER_TOKEN_BYTES = 1024, /* longest spelling of one token */
};

enum bn_tokenizer_kind {
	BN_TOKENIZER_BPE, /* byte-level, merges by rank                     */
	BN_TOKENIZER_SPM, /* SentencePiece BPE, merges by score; byte fallback */
};

/* Numbers of tokenizer.ggml.token_type. */
enum bn_token_type {
	BN_TOKEN_NORMAL = 1,
	BN_TOKEN_UNKNOWN = 2,
	BN_TOKEN_CONTROL = 3,
	BN_TOKEN_USER_DEFINED = 4,
	BN_TOKEN_UNUSED = 5,
	BN_TOKEN_BYTE = 6,
};

/*
 * What a file says about its vocabulary, as plain borrowed arrays; read while a tokenizer is made
 * and not kept. Refused with BN_E_FORMAT: no tokens, more than the limits above, a spelling longer
 * than BN_TOKENIZER_TOKEN_BYTES, spellings chosen to collide in a hash table. Repaired in silence:
 * duplicate spellings (the lowest id is the one encoding yields), empty spellings (never yielded),
 * special ids out of range (ignored), types out of range (NORMAL). Repaired with a warning: merges
 * that name a token the vocabulary lacks (skipped).
 */
struct bn_vocab {
	enum bn_tokenizer_kind kind;
	uint32_t n_tokens;
	const struct bn_str *tokens; /* [n_tokens] as spelled in the file: byte-level BPE in the
				      * GPT-2 alphabet, SentencePiece with U+2581 for space */
	const float *scores;         /* [n_tokens] or NULL; SPM only                           */
	const uint8_t *types;        /* [n_tokens] of bn_token_type, or NULL: guessed          */
	uint32_t n_merges;
	const struct bn_str *merges; /* [n_merges] "left right", best first; BPE only          */

	enum bn_splitter splitter; /* BPE only                                               */
	bool ignore_merges;        /* BPE: a pre-token that is a token needs no merging      */
	bool nfc;                  /* BPE: texts are composed canonically first              */
	bool add_space_prefix;     /* SPM: text starts with a dummy space                    */
	bool add_bos, add_eos;     /* what "add_special" does                                */

	bn_token bos, eos, eot, eom, unk; /* BN_TOKEN_NONE where the file names none           */
	unsigned warnings; /* found while the file was read; passed on to the tokenizer        */
};

/*
 * The one block of memory a tokenizer lives in. Everything is taken from it in a fixed order,
 * once with base NULL to learn its size and once for real. Plain value.
 */
struct bn_block {
	unsigned char *base;
	size_t used;
};

/* The next count * size bytes, 16-aligned and zeroed; NULL while measuring. The counts are
 * limited above, so the product cannot overflow. */
void *bn_block_take(struct bn_block *block, size_t count, size_t size);

enum bn_lexicon_flag {
	BN_LEXICON_GUARDED = 1,
	BN_LEXICON_LITERAL = 2,
	BN_LEXICON_MERGEABLE = 4, /* ordinary text: may come out of merging */
	BN_LEXICON_EOG = 8,       /* ends a generation                      */
};

struct bn_lexicon_slot {
	uint32_t hash;
	bn_token id; /* BN_TOKEN_NONE: empty */
};

/* Ids sorted by their text, to find the longest that a place in a text starts with. */
struct bn_lexicon_list {
	bn_token *ids; /* [n]                                           */
	uint32_t n;
	uint32_t first[257]; /* ids of texts with first byte c: [first[c], first[c + 1]) */
};

/* Immutable once built. Owned by its tokenizer; the arrays lie in the tokenizer's block. */
struct bn_lexicon {
	uint32_t n;
	uint32_t *offset;      /* [n + 1] into bytes */
	char *bytes;           /* texts as decoded: no GPT-2 alphabet, no U+2581 */
	uint8_t *flags;        /* [n] of bn_lexicon_flag */
	bn_token byte_id[256]; /* token of a single byte, BN_TOKEN_NONE where there is none */
	struct bn_lexicon_slot *slots; /* mergeable and literal tokens by text */
	uint32_t mask;
	uint32_t longest; /* bytes of the longest mergeable token */
	struct bn_lexicon_list guarded, literal;
	bool glued_bos; /* "<|begin_of_text|>" was stripped from some longer spelling */
	bool has_eog;
};

/*
 * Fills *lex from the vocabulary, memory from *block. With block->base NULL it only checks and
 * measures, and *lex may not be used. BN_E_FORMAT as told at bn_vocab. Helper.
 */
BN_MUST_USE enum bn_status bn_lexicon_build(struct bn_lexicon *lex, struct bn_block *block,
					    const struct bn_vocab *vocab, struct bn_error *err);

/* Text of a token; empty for ids out of range. Any thread. */
struct bn_str bn_lexicon_text(const struct bn_lexicon *lex, bn_token id);

/* Flags of a token; 0 for ids out of range. */
unsigned bn_lexicon_flags(const struct bn_lexicon *lex, bn_token id);

/* The unguarded token of exactly this text, mergeable ones first, lowest id among equals. */
bn_token bn_lexicon_find(const struct bn_lexicon *lex, const char *text, size_t n);

/* The longest token of the list that text [n] starts with, or BN_TOKEN_NONE; *bytes its length. */
bn_token bn_lexicon_match(const struct bn_lexicon *lex, const struct bn_lexicon_list *list,
			  const char *text, size_t n, size_t *bytes);

/*
 * Translates a spelling in the GPT-2 alphabet (printable characters standing for bytes) to the
 * bytes it means, written to out [spelling.n] unless NULL; returns their number, or SIZE_MAX when
 * a character is not of that alphabet.
 */
size_t bn_lexicon_from_gpt2(struct bn_str spelling, char *out);

#endif
