/*
 * Text to tokens and back, for the two kinds of tokenizer ternary models carry: byte-level BPE
 * (tokenizer.ggml.model "gpt2") and SentencePiece BPE ("llama").
 *
 * It does not know chat templates (engine/chat.h), sampling or stop strings, and it never runs a
 * regular expression: splitters are hand-written (engine/pretokenize.h), merging is O(n log n).
 *
 * A tokenizer is immutable once made, so every function here that takes it const may run on any
 * number of threads at once. The vocabulary comes from a file and is hostile: see bn_vocab.
 *
 * Promise: for every text t of valid UTF-8, a vocabulary that has all its byte symbols, and
 * neither parse_special nor add_special, decode(encode(t)) == t; where the tokenizer composes
 * texts first (Qwen's do), it is the NFC of t.
 *
 * Guarded tokens (what they are: engine/lexicon.h) come out of bn_tokenizer_encode only with
 * `parse_special`; no merge, byte fallback or whole-word match ever yields one.
 */
#ifndef BN_ENGINE_TOKENIZER_H
#define BN_ENGINE_TOKENIZER_H

#include "engine/cursor.h"
#include "engine/lexicon.h"
#include "engine/utf8.h"
#include "proto/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_gguf;

enum {
	BN_TOKENIZER_TEXT_BYTES = 64 * 1024 * 1024, /* most text of one encode call               */
	BN_TOKENIZER_PIECE_BYTES = 64 * 1024, /* merging never looks across more than this        */
	/* What one bn_detok_push may write: a token of the longest kind behind a held-back tail,
	 * every byte of it broken and thus three bytes of U+FFFD. */
	BN_DETOK_BYTES = 3 * (BN_TOKENIZER_TOKEN_BYTES + 4),
};

/* Things worth a line in the log of whoever loads the model; a bit set. */
enum bn_tokenizer_warning {
	BN_TOKENIZER_UNKNOWN_PRE = 1 << 0, /* tokenizer.ggml.pre not known: GPT-2 splitter used   */
	BN_TOKENIZER_FLAT_SCORES = 1 << 1, /* SPM scores are all the same: merges will be poor    */
	BN_TOKENIZER_LOST_MERGES = 1 << 2, /* merges name tokens that do not exist; skipped       */
	BN_TOKENIZER_LOST_BYTES = 1 << 3,  /* some byte of UTF-8 has no token: lost from texts    */
	BN_TOKENIZER_GLUED_BOS = 1 << 4,   /* tokens carried "<|begin_of_text|>" in front         */
	BN_TOKENIZER_NO_EOG = 1 << 5,      /* no end-of-generation token: only lengths stop it    */
};

/* Opaque; one block of memory, never changed after it is made. */
struct bn_tokenizer;

/*
 * Bytes that bn_tokenizer_new will take for this vocabulary, so that the ledger can be asked
 * first; SIZE_MAX when it would refuse. The answer is exact. Any thread.
 */
size_t bn_tokenizer_need(const struct bn_vocab *vocab);

/*
 * Makes a tokenizer; undo with bn_tokenizer_free. BN_E_FORMAT as told at bn_vocab, BN_E_MEMORY.
 * 128k tokens and 280k merges take about 0.1 s and 12 MB. Helper.
 */
BN_MUST_USE enum bn_status bn_tokenizer_new(struct bn_tokenizer **out, const struct bn_vocab *vocab,
					    struct bn_error *err);

/*
 * Reads tokenizer.ggml.* of a GGUF directory, applies the rules of known models and makes the
 * tokenizer; nothing of the directory is kept. `vocab_rows` is the height of the embedding:
 * more tokens than that is BN_E_FORMAT, fewer is fine (padding rows). BN_E_NOT_SUPPORTED for a
 * tokenizer.ggml.model other than "gpt2" and "llama". Helper.
 */
BN_MUST_USE enum bn_status bn_tokenizer_from_gguf(struct bn_tokenizer **out,
						  const struct bn_gguf *gguf, uint32_t vocab_rows,
						  struct bn_error *err);

/* Frees; NULL is fine. */
void bn_tokenizer_free(struct bn_tokenizer *tok);

/* Bytes of memory held: what bn_tokenizer_need said. */
size_t bn_tokenizer_bytes(const struct bn_tokenizer *tok);

enum bn_tokenizer_kind bn_tokenizer_kind(const struct bn_tokenizer *tok);

/* Number of tokens; ids are below it. */
uint32_t bn_tokenizer_size(const struct bn_tokenizer *tok);

/* Bits of bn_tokenizer_warning, and the sentence for one bit (static, for a log line). */
unsigned bn_tokenizer_warnings(const struct bn_tokenizer *tok);
const char *bn_tokenizer_warning_text(enum bn_tokenizer_warning warning);

/* BN_TOKEN_NONE where there is none. */
bn_token bn_tokenizer_bos(const struct bn_tokenizer *tok);
bn_token bn_tokenizer_eos(const struct bn_tokenizer *tok);
bool bn_tokenizer_adds_bos(const struct bn_tokenizer *tok);
bool bn_tokenizer_adds_eos(const struct bn_tokenizer *tok);

/*
 * True for every token that ends a generation: eos, eot, eom and the tokens spelled <|eot_id|>,
 * <|end_of_text|>, <|endoftext|>, <|im_end|>, <|end|>, <|eom_id|>, <end_of_turn>, <EOT>. False
 * for ids out of range.
 */
bool bn_tokenizer_is_eog(const struct bn_tokenizer *tok, bn_token id);

/* True for guarded tokens (see above); they have no text. False for ids out of range. */
bool bn_tokenizer_is_control(const struct bn_tokenizer *tok, bn_token id);

/* The token of exactly this text (as decoded, not GPT-2 or U+2581 spelling), guarded tokens
 * first, then the lowest id; BN_TOKEN_NONE when there is none. */
bn_token bn_tokenizer_find(const struct bn_tokenizer *tok, const char *text, size_t bytes);

/*
 * The bytes a token stands for, perhaps part of a character, perhaps any bytes; borrowed as long
 * as the tokenizer lives. Empty for guarded tokens and for ids out of range.
 */
struct bn_str bn_tokenizer_piece(const struct bn_tokenizer *tok, bn_token id);

/* The same, but guarded tokens give their spelling ("<|eot_id|>"): for display only. */
struct bn_str bn_tokenizer_text(const struct bn_tokenizer *tok, bn_token id);

/* A growing array of ids. Zero it to start; owned by the caller; undo with bn_tokens_finish. */
struct bn_tokens {
	bn_token *ids;
	size_t n;
	size_t capacity;
};

/* Appends; BN_E_MEMORY leaves the array as it was. */
BN_MUST_USE enum bn_status bn_tokens_push(struct bn_tokens *t, bn_token id, struct bn_error *err);

/* Frees the ids and zeroes the struct; a zeroed one is fine. */
void bn_tokens_finish(struct bn_tokens *t);

struct bn_encode_options {
	bool add_special; /* bos in front and eos behind, as the model wants it                  */
	bool parse_special; /* guarded tokens spelled in the text become their ids, longest first;
			     * never set this for text of users */
	bool continues;   /* the text continues earlier text: no dummy space in front (SPM)      */
	size_t max_bytes; /* BN_E_TOO_LARGE beyond; 0: BN_TOKENIZER_TEXT_BYTES, also the maximum */
	const atomic_bool *cancel; /* polled at least every few thousand merges; or NULL */
};

/*
 * Appends the tokens of text [bytes] to *out. `options` NULL means all zero. Broken UTF-8 is
 * replaced by U+FFFD first. Errors: BN_E_TOO_LARGE (facts limit, actual), BN_E_CANCELLED,
 * BN_E_MEMORY; *out then holds what it held. Takes O(bytes log bytes) time, at most
 * about 4 MiB plus the tokens of working memory (and 3 x bytes for broken text), and little
 * stack. An empty text gives no tokens but bos and eos. Any thread; helpers for long texts.
 */
BN_MUST_USE enum bn_status bn_tokenizer_encode(const struct bn_tokenizer *tok, const char *text,
					       size_t bytes,
					       const struct bn_encode_options *options,
					       struct bn_tokens *out, struct bn_error *err);

/* Bits for bn_detok_init and bn_tokenizer_decode. */
enum bn_detok_flags {
	BN_DETOK_CONTINUES =
		1 << 0, /* earlier text precedes: keep the first space (SPM strips one) */
	BN_DETOK_SPECIAL = 1 << 1, /* guarded tokens show their spelling */
};

/*
 * Tokens to text as they come: whole UTF-8 characters only, incomplete tails wait for the next
 * token, bytes that can no longer become a character are U+FFFD. A plain value; the tokenizer
 * must outlive it. One thread at a time.
 */
struct bn_detok {
	const struct bn_tokenizer *tok;
	struct bn_utf8_hold hold;
	unsigned flags;
	bool strip_space; /* private: the next visible byte, if a space, is the dummy one */
};

void bn_detok_init(struct bn_detok *d, const struct bn_tokenizer *tok, unsigned flags);

/*
 * Feeds one token and writes the text that became certain to out [BN_DETOK_BYTES]; returns its
 * bytes, perhaps 0. Ids out of range write nothing. Always valid UTF-8, never terminated.
 */
size_t bn_detok_push(struct bn_detok *d, bn_token id, char *out);

/* The generation is over: writes what was held back (U+FFFD, for it is broken now) to out
 * [BN_DETOK_BYTES], returns its bytes and is ready for another text that continues this one. */
size_t bn_detok_flush(struct bn_detok *d, char *out);

/*
 * Text of ids [n] into out [capacity]; *needed is its length, and when that is more than capacity,
 * out holds only the text of the first tokens, so ask again with more (no error). `flags` of
 * bn_detok_flags. BN_E_INVALID naming the index of an id out of range.
 */
BN_MUST_USE enum bn_status bn_tokenizer_decode(const struct bn_tokenizer *tok, const bn_token *ids,
					       size_t n, unsigned flags, char *out, size_t capacity,
					       size_t *needed, struct bn_error *err);

#endif
