/*
 * Any bytes as a safetensors file. Refused ones must say why; the tensors of accepted ones tile
 * their data. The first input byte says how much longer than its bytes the file claims to be, so
 * that large tensors, whose data a fuzzer cannot deliver, are reached too.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/safetensors.h"
#include "proto/assert.h"

#include <string.h>

static void try_file(const uint8_t *data, size_t n, uint64_t size)
{
	struct bn_safetensors *st = NULL;
	struct bn_error err = { 0 };
	uint64_t total = 0;
	enum bn_status status = bn_safetensors_parse(&st, data, n, size, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		return;
	}
	for (size_t i = 0; i < bn_safetensors_count(st); i++) {
		const struct bn_safetensors_tensor *t = bn_safetensors_at(st, i);
		const size_t width = bn_safetensors_width(t->type);

		bn_assert(t->n_dims <= BN_SAFETENSORS_MAX_DIMS && t->begin <= t->end);
		bn_assert(t->end <= size && bn_safetensors_find(st, t->name) == t);
		bn_assert(width == 0 || t->end - t->begin == t->elements * width);
		total += t->end - t->begin;
	}
	bn_assert(total < size);
	bn_safetensors_free(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_file(data, size, size);
	if (size > 0) {
		try_file(data + 1, size - 1, (size - 1) + ((uint64_t)1 << data[0] % 63));
	}
	return 0;
}
