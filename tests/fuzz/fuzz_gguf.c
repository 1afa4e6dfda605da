/*
 * Any bytes as a GGUF file. Refused ones must say why; accepted ones answer every question without
 * leaving their bytes. The first input byte says how much longer than its bytes the file claims to
 * be, so that large tensors, whose data a fuzzer cannot deliver, are reached too.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/gguf.h"
#include "proto/assert.h"
#include "tests/gguf_walk.h"

static void try_file(const uint8_t *data, size_t n, uint64_t size)
{
	struct bn_gguf *g = NULL;
	struct bn_error err = { 0 };
	enum bn_status status = bn_gguf_parse(&g, data, n, size, &err);

	if (status == BN_OK) {
		walk_gguf(g, size);
		/* An index of a few MiB at most, and never more than the counts need. */
		bn_assert(bn_gguf_bytes(g) <= 256 + 4 * n);
		bn_gguf_free(g);
	} else {
		bn_assert(status == BN_E_FORMAT && err.status == status && err.text[0] != '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* As a file of its own, which corpora of other projects hold, */
	try_file(data, size, size);
	/* and as the beginning of a longer one. */
	if (size > 0) {
		try_file(data + 1, size - 1, (size - 1) + ((uint64_t)1 << data[0] % 63));
	}
	return 0;
}
