/*
 * Unicode's canonical composition (NFC, UAX 15), which the tokenizers of Qwen apply to every text.
 *
 * It does not decide who needs it. The tables and the rules of single characters are utf8proc's;
 * the order of combining marks is made here, because theirs takes quadratic time on long runs of
 * marks and this one n log n.
 */
#ifndef BN_ENGINE_NFC_H
#define BN_ENGINE_NFC_H

#include "proto/error.h"

#include <stddef.h>

/*
 * The NFC of text [n], valid UTF-8. *out is NULL where the text is its own, which is found without
 * memory for texts of characters below U+0300; else it is the caller's to free and has *out_n
 * bytes. Takes at most 24 bytes of working memory for each byte of text. BN_E_MEMORY. Any thread.
 */
BN_MUST_USE enum bn_status bn_nfc(const char *text, size_t n, char **out, size_t *out_n,
				  struct bn_error *err);

#endif
