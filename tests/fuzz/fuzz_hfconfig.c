/*
 * Any bytes as config.json and, behind a byte 0x1E, generation_config.json. Refused ones must say
 * why; the numbers of accepted ones must be within the limits the converter builds upon.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/hfconfig.h"
#include "proto/assert.h"
#include "tests/fuzz/folder.h"

#include <string.h>

static void check_token(const struct bn_hfconfig *c, bn_token id)
{
	bn_assert(id == BN_TOKEN_NONE || id < c->vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "config.json", "generation_config.json" };
	const int folder = fuzz_folder(names, 2, data, size);
	struct bn_hfconfig c = { 0 };
	struct bn_error err = { 0 };
	const enum bn_status status = bn_hfconfig_load(&c, folder, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		return 0;
	}
	bn_assert(c.layers > 0 && c.dim > 0 && c.ffn > 0 && c.vocab > 0 && c.context > 0);
	bn_assert(c.heads > 0 && c.kv_heads > 0 && c.heads % c.kv_heads == 0);
	bn_assert(c.head_dim > 0 && c.head_dim % 2 == 0);
	bn_assert(c.eps > 0 && c.eps < 1 && c.rope_base > 0);
	bn_assert(c.n_eos <= BN_HFCONFIG_EOS_MAX);
	check_token(&c, c.bos);
	check_token(&c, c.pad);
	for (uint32_t i = 0; i < c.n_eos; i++) {
		bn_assert(c.eos[i] < c.vocab);
	}
	bn_assert(memchr(c.source, '\0', sizeof(c.source)) != NULL);
	return 0;
}
