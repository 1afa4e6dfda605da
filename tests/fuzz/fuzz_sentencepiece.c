/*
 * Any bytes as a SentencePiece tokenizer.model. Refused ones must say why; the pieces of accepted
 * ones lie within the bytes and their ids within the pieces.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/lexicon.h"
#include "engine/sentencepiece.h"
#include "proto/assert.h"

#include <math.h>

static void check_id(const struct bn_sentencepiece *sp, int32_t id)
{
	bn_assert(id == -1 || (id >= 0 && (uint32_t)id < sp->n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *const bytes = (const char *)data;
	struct bn_sentencepiece sp = { 0 };
	struct bn_error err = { 0 };
	const enum bn_status status = bn_sentencepiece_parse(&sp, data, size, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		bn_assert(sp.pieces == NULL);
		return 0;
	}
	bn_assert(sp.n > 0);
	for (uint32_t i = 0; i < sp.n; i++) {
		const struct bn_piece *p = &sp.pieces[i];

		bn_assert(p->text.n > 0 && p->text.n <= BN_TOKENIZER_TOKEN_BYTES);
		bn_assert(p->text.p >= bytes && p->text.p + p->text.n <= bytes + size);
		bn_assert(p->type >= BN_TOKEN_NORMAL && p->type <= BN_TOKEN_BYTE);
		bn_assert(isfinite(p->score));
	}
	check_id(&sp, sp.unk);
	check_id(&sp, sp.bos);
	check_id(&sp, sp.eos);
	check_id(&sp, sp.pad);
	bn_sentencepiece_finish(&sp);
	return 0;
}
