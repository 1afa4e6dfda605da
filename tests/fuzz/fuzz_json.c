/*
 * Any bytes as JSON, then as the tokenizer.json programs and merges that are recognised in it.
 * Refused texts must say why; accepted ones must not lead anything astray.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/hfmerges.h"
#include "engine/hfprogram.h"
#include "engine/json.h"
#include "proto/assert.h"

#include <string.h>

static void try_merges(const json_t *root)
{
	const json_t *model = json_object_get(root, "model");
	struct bn_hfmerges m = { 0 };
	struct bn_error err = { 0 };
	enum bn_status status = bn_hfmerges_read(&m, model, &err);

	if (status == BN_OK) {
		for (uint32_t i = 0; i < m.n; i++) {
			bn_assert(m.list[i].n >= 3 &&
				  memchr(m.list[i].p, ' ', m.list[i].n) != NULL);
		}
		bn_hfmerges_finish(&m);
	} else {
		bn_assert(err.status == status && err.text[0] != '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum bn_tokenizer_kind kind;
	const char *first = NULL, *last = NULL;
	struct bn_error err = { 0 };
	json_t *root = NULL;
	enum bn_status status =
		bn_json_parse(&root, (const char *)data, size, BN_JSON_MAX_DEPTH, &err);

	if (status != BN_OK) {
		bn_assert(err.status == status && err.text[0] != '\0');
		return 0;
	}
	if (bn_hfprogram_kind(root, &kind, &err) == BN_OK) {
		bn_assert(kind == BN_TOKENIZER_BPE || kind == BN_TOKENIZER_SPM);
	}
	bn_hfprogram_splitter(root);
	bn_hfprogram_normalizer(root);
	bn_hfprogram_prepends_space(root);
	bn_hfprogram_specials(root, &first, &last);
	try_merges(root);
	json_decref(root);
	return 0;
}
