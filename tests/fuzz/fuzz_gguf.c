/*
 * Any bytes as a GGUF file. Refused ones must say why; accepted ones answer every question without
 * leaving their bytes. The first input byte says how much longer than its bytes the file claims to
 * be, so that large tensors, whose data a fuzzer cannot deliver, are reached too.
 *
 * Ternary tensors whose data are there are decoded, and what is decoded survives being written and
 * read again; models are bound as the loader does.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/binding.h"
#include "engine/gguf.h"
#include "engine/hyper.h"
#include "engine/tiles.h"
#include "engine/weights.h"
#include "proto/assert.h"
#include "tests/gguf_walk.h"

#include <stdlib.h>
#include <string.h>

enum { WEIGHTS_MAX = 1 << 20 };

/* No code 3 anywhere, and the same again after a round trip. */
static void check_codes(const struct bn_codec *codec, const uint8_t *codes, uint32_t rows,
			uint32_t cols, const struct bn_tiles *tiles, size_t nbytes)
{
	const size_t n = rows * bn_trits_stride(cols);
	const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };
	uint8_t *data = malloc(nbytes), *back = malloc(n);
	struct bn_scale scale = { 0 };

	for (size_t i = 0; i < n; i++) {
		bn_assert((codes[i] & codes[i] >> 1 & 0x55) == 0);
	}
	bn_codec_encode(codec, data, &trits, 0.5f, tiles);
	bn_assert(bn_codec_decode(codec, &scale, back, data, rows, cols, tiles) == BN_TRITS_GOOD);
	bn_assert(memcmp(codes, back, n) == 0);
	free(data);
	free(back);
}

static void try_trits(const struct bn_gguf *g, const struct bn_gguf_tensor *t,
		      const struct bn_tiles_advice *advice)
{
	const struct bn_codec *codec = bn_codec_find(t->type);
	const uint32_t rows = (uint32_t)t->dims[1], cols = (uint32_t)t->dims[0];
	enum bn_trits_verdict verdict;
	struct bn_scale scale = { 0 };
	struct bn_error err = { 0 };
	struct bn_tiles tiles;
	uint8_t *data, *codes;
	enum bn_status status;

	status = bn_tiles_settle(&tiles, g, t->type, rows, cols, advice, &err);
	if (status != BN_OK) {
		bn_assert(err.text[0] != '\0');
		return;
	}
	data = malloc(t->nbytes);
	codes = malloc(rows * bn_trits_stride(cols));
	if (bn_gguf_read(g, t, 0, data, t->nbytes, NULL) == BN_OK) {
		verdict = bn_codec_decode(codec, &scale, codes, data, rows, cols, &tiles);
		if (verdict == BN_TRITS_GOOD) {
			check_codes(codec, codes, rows, cols, &tiles, t->nbytes);
		} else {
			status = bn_codec_refuse(codec, verdict, &scale, &tiles, &err);
			bn_assert(status != BN_OK && err.text[0] != '\0');
		}
	}
	free(data);
	free(codes);
}

static void try_tensors(const struct bn_gguf *g)
{
	static const char *const words[] = { "codegen", "32,32,32", "32,96,32" };

	for (size_t i = 0; i < bn_gguf_tensor_count(g); i++) {
		const struct bn_gguf_tensor *t = bn_gguf_tensor_at(g, i);

		if (bn_codec_find(t->type) == NULL || t->n_dims > 2 || t->dims[0] > WEIGHTS_MAX ||
		    t->dims[1] > WEIGHTS_MAX / t->dims[0]) {
			continue;
		}
		try_trits(g, t, NULL);
		for (size_t w = 0; w < 3; w++) {
			struct bn_tiles_advice advice = { 0 };
			const enum bn_status status = bn_tiles_advise(&advice, words[w], NULL);

			bn_assert(status == BN_OK);
			try_trits(g, t, &advice);
		}
	}
}

static void try_model(const struct bn_gguf *g, uint64_t size)
{
	const struct bn_file file = { .fd = -1, .size = size };
	struct bn_binding *b = NULL;
	struct bn_error err = { 0 };
	struct bn_hyper hyper;
	enum bn_status status = bn_hyper_read(&hyper, g, &err);

	if (status == BN_OK) {
		status = bn_binding_new(&b, g, &file, &hyper, 0, NULL, &err);
	}
	if (status == BN_OK) {
		bn_assert(bn_weights_bytes(b) > 0 && bn_weights_transient_bytes(b) > 0);
	} else {
		bn_assert(err.status == status && err.text[0] != '\0');
	}
	bn_binding_free(b);
}

static void try_file(const uint8_t *data, size_t n, uint64_t size)
{
	struct bn_gguf *g = NULL;
	struct bn_error err = { 0 };
	enum bn_status status = bn_gguf_parse(&g, data, n, size, &err);

	if (status == BN_OK) {
		walk_gguf(g, size);
		try_tensors(g);
		try_model(g, size);
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
