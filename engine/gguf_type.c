#include "engine/gguf_type.h"

#include <string.h>

static const char *const type_names[BN_GGUF_TYPE_COUNT] = {
	"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
	"bool", "string", "array", "u64", "i64", "f64",
};

static const unsigned char scalar_bytes[BN_GGUF_TYPE_COUNT] = {
	1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8,
};

const char *bn_gguf_type_name(uint32_t type)
{
	return type < BN_GGUF_TYPE_COUNT ? type_names[type] : "?";
}

size_t bn_gguf_scalar_bytes(uint32_t type)
{
	return type < BN_GGUF_TYPE_COUNT ? scalar_bytes[type] : 0;
}

int bn_gguf_name_order(struct bn_str a, struct bn_str b)
{
	if (a.n != b.n) {
		return a.n < b.n ? -1 : 1;
	}
	return memcmp(a.p, b.p, a.n);
}
