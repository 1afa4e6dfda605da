#include "tests/proto/judge.h"

#include <msgpack.h>

bool judge_accepts(const void *bytes, size_t n)
{
	msgpack_unpacked result;
	size_t offset = 0;
	bool good;

	msgpack_unpacked_init(&result);
	good = msgpack_unpack_next(&result, bytes, n, &offset) == MSGPACK_UNPACK_SUCCESS &&
	       offset == n;
	msgpack_unpacked_destroy(&result);
	return good;
}
