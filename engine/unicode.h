/*
 * Character classes as the pre-tokenizers' regular expressions mean them: \p{L}, \p{N} and \s.
 *
 * It does not decode UTF-8 (engine/utf8.h) or normalise text. \s is the Unicode property
 * White_Space, as in Rust and Oniguruma, whose regexes the models were trained with. Any thread.
 */
#ifndef BN_ENGINE_UNICODE_H
#define BN_ENGINE_UNICODE_H

#include <stdint.h>

enum bn_class {
	BN_CLASS_OTHER,   /* none of the below: marks, punctuation, symbols, controls, unassigned */
	BN_CLASS_LETTER,  /* \p{L}                                                                */
	BN_CLASS_NUMBER,  /* \p{N}                                                                */
	BN_CLASS_SPACE,   /* \s except the two below                                              */
	BN_CLASS_NEWLINE, /* \r or \n                                                            */
};

/* The class of any 32-bit value; what is no code point is OTHER. */
enum bn_class bn_unicode_class(uint32_t cp);

#endif
