#include "engine/unicode.h"

#include <utf8proc.h>

/* White_Space of Unicode 15, PropList.txt; unchanged since 6.3 and frozen in practice. */
static enum bn_class class_of_space(uint32_t cp)
{
	switch (cp) {
	case '\n':
	case '\r':
		return BN_CLASS_NEWLINE;
	case '\t':
	case '\v':
	case '\f':
	case ' ':
	case 0x85:
	case 0xA0:
	case 0x1680:
	case 0x2028:
	case 0x2029:
	case 0x202F:
	case 0x205F:
	case 0x3000:
		return BN_CLASS_SPACE;
	default:
		return cp >= 0x2000 && cp <= 0x200A ? BN_CLASS_SPACE : BN_CLASS_OTHER;
	}
}

enum bn_class bn_unicode_class(uint32_t cp)
{
	uint32_t lower = cp | 0x20;

	if (cp < 0x80) {
		if (lower >= 'a' && lower <= 'z') {
			return BN_CLASS_LETTER;
		}
		return cp >= '0' && cp <= '9' ? BN_CLASS_NUMBER : class_of_space(cp);
	}
	if (cp > 0x10FFFF) {
		return BN_CLASS_OTHER;
	}
	switch (utf8proc_category((utf8proc_int32_t)cp)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
		return BN_CLASS_LETTER;
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_NO:
		return BN_CLASS_NUMBER;
	default:
		return class_of_space(cp);
	}
}
