#include "engine/tiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CODEGEN "codegen"
#define PRESETS "presets"

/*
 * The parameters of bitnet.cpp: those setup_env.py hands to utils/codegen_tl1.py and codegen_tl2.py
 * and those of preset_kernels/, used with setup_env.py -p. The preset of 4096 x 1536 in TL2 has
 * strips of 64, which its own header and converter cannot have meant: it is left out. For TL2 the
 * two agree wherever both have a shape; for TL1 of the Llama3-8B model they do not in any.
 */
static const struct known_tiles {
	const char *origin;
	enum bn_ggml_type type;
	uint32_t rows, cols;
	struct bn_tiles tiles;
} known[] = {
	/* bitnet_b1_58-large */
	{ CODEGEN, BN_GGML_TL1, 1536, 4096, { 256, 128, 32 } },
	{ CODEGEN, BN_GGML_TL1, 1536, 1536, { 128, 64, 64 } },
	{ CODEGEN, BN_GGML_TL1, 4096, 1536, { 256, 128, 32 } },
	{ PRESETS, BN_GGML_TL1, 1536, 4096, { 256, 128, 32 } },
	{ PRESETS, BN_GGML_TL1, 1536, 1536, { 128, 64, 64 } },
	{ PRESETS, BN_GGML_TL1, 4096, 1536, { 256, 128, 32 } },
	{ CODEGEN, BN_GGML_TL2, 1536, 4096, { 256, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 1536, 1536, { 128, 192, 32 } },
	{ CODEGEN, BN_GGML_TL2, 4096, 1536, { 256, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 1536, 4096, { 256, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 1536, 1536, { 128, 192, 32 } },
	/* bitnet_b1_58-3B */
	{ CODEGEN, BN_GGML_TL1, 3200, 8640, { 160, 64, 32 } },
	{ CODEGEN, BN_GGML_TL1, 3200, 3200, { 320, 128, 64 } },
	{ CODEGEN, BN_GGML_TL1, 8640, 3200, { 320, 64, 32 } },
	{ PRESETS, BN_GGML_TL1, 3200, 8640, { 160, 64, 32 } },
	{ PRESETS, BN_GGML_TL1, 3200, 3200, { 320, 128, 64 } },
	{ PRESETS, BN_GGML_TL1, 8640, 3200, { 320, 64, 32 } },
	{ CODEGEN, BN_GGML_TL2, 3200, 8640, { 160, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 3200, 3200, { 320, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 8640, 3200, { 320, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 3200, 8640, { 160, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 3200, 3200, { 320, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 8640, 3200, { 320, 96, 32 } },
	/* Llama3-8B-1.58-100B-tokens */
	{ CODEGEN, BN_GGML_TL1, 14336, 4096, { 256, 128, 32 } },
	{ CODEGEN, BN_GGML_TL1, 4096, 14336, { 128, 64, 64 } },
	{ CODEGEN, BN_GGML_TL1, 1024, 4096, { 256, 128, 32 } },
	{ CODEGEN, BN_GGML_TL1, 4096, 4096, { 128, 64, 64 } },
	{ PRESETS, BN_GGML_TL1, 14336, 4096, { 256, 128, 64 } },
	{ PRESETS, BN_GGML_TL1, 4096, 14336, { 256, 128, 32 } },
	{ PRESETS, BN_GGML_TL1, 1024, 4096, { 128, 64, 64 } },
	{ PRESETS, BN_GGML_TL1, 4096, 4096, { 128, 64, 32 } },
	{ CODEGEN, BN_GGML_TL2, 14336, 4096, { 256, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 4096, 14336, { 128, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 1024, 4096, { 256, 96, 32 } },
	{ CODEGEN, BN_GGML_TL2, 4096, 4096, { 128, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 14336, 4096, { 256, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 4096, 14336, { 128, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 1024, 4096, { 256, 96, 32 } },
	{ PRESETS, BN_GGML_TL2, 4096, 4096, { 128, 96, 32 } },
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static bool same(const struct bn_tiles *a, const struct bn_tiles *b)
{
	return a->bm_rows == b->bm_rows && a->bk_cols == b->bk_cols && a->strip == b->strip;
}

const char *bn_tiles_key(enum bn_ggml_type type)
{
	return type == BN_GGML_TL1 ? "bnd.tl1.tiles" : type == BN_GGML_TL2 ? "bnd.tl2.tiles" : NULL;
}

bool bn_tiles_note(struct bn_tiles_list *list, uint32_t rows, uint32_t cols,
		   const struct bn_tiles *tiles)
{
	const int32_t fields[BN_TILES_FIELDS] = { (int32_t)rows, (int32_t)cols,
						  (int32_t)tiles->bm_rows, (int32_t)tiles->bk_cols,
						  (int32_t)tiles->strip };

	for (size_t i = 0; i < list->n; i += BN_TILES_FIELDS) {
		if (memcmp(&list->fields[i], fields, 2 * sizeof(fields[0])) == 0) {
			return true;
		}
	}
	if (list->n + BN_TILES_FIELDS > sizeof(list->fields) / sizeof(list->fields[0])) {
		return false;
	}
	memcpy(&list->fields[list->n], fields, sizeof(fields));
	list->n += BN_TILES_FIELDS;
	return true;
}

/* ---- advice --------------------------------------------------------------------------------- */

/* Numbers [n] of at most 2^20 with these characters between them; false for anything else. */
static bool read_numbers(const char **text, uint32_t *out, size_t n, const char *between)
{
	for (size_t i = 0; i < n; i++) {
		char *end;
		unsigned long value;

		if (**text < '0' || **text > '9') {
			return false;
		}
		value = strtoul(*text, &end, 10);
		if (value == 0 || value > 1u << 20) {
			return false;
		}
		out[i] = (uint32_t)value;
		*text = end;
		if (i + 1 < n && *(*text)++ != between[i]) {
			return false;
		}
	}
	return true;
}

enum bn_status bn_tiles_advise(struct bn_tiles_advice *advice, const char *text,
			       struct bn_error *err)
{
	const char *at = text, *equals = strchr(text, '=');
	uint32_t shape[2] = { 0, 0 }, t[3];
	bool good = true;

	if (strcmp(text, CODEGEN) == 0 || strcmp(text, PRESETS) == 0) {
		advice->origin = strcmp(text, CODEGEN) == 0 ? CODEGEN : PRESETS;
		return BN_OK;
	}
	if (equals != NULL) {
		good = read_numbers(&at, shape, 2, "x") && at++ == equals;
	}
	if (!good || !read_numbers(&at, t, 3, ",,") || *at != '\0') {
		return bn_fail(err, BN_E_INVALID,
			       "'%.40s' is not BM,BK,bm, ROWSxCOLUMNS=BM,BK,bm, " CODEGEN
			       " or " PRESETS,
			       text);
	}
	if (advice->n == BN_TILES_MAX) {
		return bn_fail(err, BN_E_INVALID, "more than %d sets of parameters", BN_TILES_MAX);
	}
	advice->entry[advice->n].rows = shape[0];
	advice->entry[advice->n].cols = shape[1];
	advice->entry[advice->n++].tiles = (struct bn_tiles){ t[0], t[1], t[2] };
	return BN_OK;
}

static bool find_advice(struct bn_tiles *out, const struct bn_tiles_advice *advice, uint32_t rows,
			uint32_t cols)
{
	bool found = false;

	for (uint32_t i = 0; advice != NULL && i < advice->n; i++) {
		const bool exact = advice->entry[i].rows == rows && advice->entry[i].cols == cols;

		if (exact || (advice->entry[i].rows == 0 && !found)) {
			*out = advice->entry[i].tiles;
			found = true;
		}
		if (exact) {
			break;
		}
	}
	return found;
}

/* ---- the file and the known sets ------------------------------------------------------------ */

/* From the file's own key. */
static enum bn_status read_key(struct bn_tiles *out, const struct bn_gguf *gguf, const char *key,
			       uint32_t rows, uint32_t cols, struct bn_error *err)
{
	struct bn_gguf_array a = { 0 };
	const enum bn_status status = bn_gguf_ints(gguf, key, 0, &a, err);

	if (status != BN_OK) {
		return status;
	}
	for (size_t i = 0; i + BN_TILES_FIELDS <= a.count; i += BN_TILES_FIELDS) {
		int64_t f[BN_TILES_FIELDS];
		bool good = true;

		for (size_t j = 0; j < BN_TILES_FIELDS; j++) {
			f[j] = bn_gguf_int_at(&a, i + j);
			good &= f[j] > 0 && f[j] <= INT32_MAX;
		}
		if (good && f[0] == rows && f[1] == cols) {
			*out = (struct bn_tiles){ (uint32_t)f[2], (uint32_t)f[3], (uint32_t)f[4] };
			return BN_OK;
		}
	}
	return bn_fail(err, BN_E_FORMAT, "metadata key '%s' does not say how %u x %u is cut", key,
		       rows, cols);
}

/* From the known sets: the only one, or the only one of an origin. */
static enum bn_status find_known(struct bn_tiles *out, enum bn_ggml_type type, uint32_t rows,
				 uint32_t cols, const char *origin, struct bn_error *err)
{
	const struct known_tiles *found = NULL;

	for (size_t i = 0; i < LENGTH(known); i++) {
		const struct known_tiles *k = &known[i];

		if (k->type != type || k->rows != rows || k->cols != cols ||
		    (origin != NULL && strcmp(origin, k->origin) != 0)) {
			continue;
		}
		if (found != NULL && !same(&found->tiles, &k->tiles)) {
			return bn_fail(
				err, BN_E_NOT_SUPPORTED,
				"it is %s of %u x %u, which " CODEGEN " and " PRESETS
				" of bitnet.cpp cut differently, and the file does not say: use "
				"the i2_s file, or bn-convert --tl-params " CODEGEN " (or " PRESETS
				", for setup_env.py -p)",
				bn_ggml_name(type), rows, cols);
		}
		found = k;
	}
	if (found == NULL) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"it is %s of %u x %u, a shape that no known kernel cuts, and the file "
			"does not say how: use the i2_s file, or bn-convert --tl-params "
			"BM,BK,bm",
			bn_ggml_name(type), rows, cols);
	}
	*out = found->tiles;
	return BN_OK;
}

enum bn_status bn_tiles_settle(struct bn_tiles *out, const struct bn_gguf *gguf,
			       enum bn_ggml_type type, uint32_t rows, uint32_t cols,
			       const struct bn_tiles_advice *advice, struct bn_error *err)
{
	const char *key = bn_tiles_key(type);
	struct bn_tiles tiles = { 0, 0, 0 };
	enum bn_status status = BN_OK;

	if (key == NULL) {
		*out = tiles;
		return BN_OK;
	}
	if (!find_advice(&tiles, advice, rows, cols)) {
		status = bn_gguf_has(gguf, key)
				 ? read_key(&tiles, gguf, key, rows, cols, err)
				 : find_known(&tiles, type, rows, cols,
					      advice != NULL ? advice->origin : NULL, err);
	}
	if (status == BN_OK && !bn_codec_fits(bn_codec_find(type), rows, cols, &tiles)) {
		status = bn_fail(err, BN_E_FORMAT, "%u x %u cannot be cut as %s with %u,%u,%u",
				 rows, cols, bn_ggml_name(type), tiles.bm_rows, tiles.bk_cols,
				 tiles.strip);
	}
	if (status == BN_OK) {
		*out = tiles;
	}
	return status;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* The first cut that fits, known ones first; false when there is none. */
static bool cut(struct bn_tiles *out, const struct bn_codec *codec, uint32_t rows, uint32_t cols)
{
	/* Of known files; 96 columns of TL2 leave 0, 32 or 64 of every width that is possible. */
	static const uint32_t bm[] = { 256, 320, 160, 128, 96, 64, 32 };
	static const uint32_t bk[2][2] = { { 128, 64 }, { 96, 0 } };

	*out = (struct bn_tiles){ 0, 0, 0 };
	if (codec->fits == NULL) {
		return bn_codec_fits(codec, rows, cols, out);
	}
	/* Where the origins differ, what setup_env.py does without being told. */
	if (find_known(out, codec->type, rows, cols, CODEGEN, NULL) == BN_OK) {
		return true;
	}
	for (size_t i = 0; i < LENGTH(bm); i++) {
		for (size_t j = 0; j < 2; j++) {
			*out = (struct bn_tiles){ bm[i], bk[codec->type == BN_GGML_TL2][j], 32 };
			if (bn_codec_fits(codec, rows, cols, out)) {
				return true;
			}
		}
	}
	return false;
}

enum bn_status bn_tiles_choose(struct bn_tiles *out, enum bn_ggml_type type, uint32_t rows,
			       uint32_t cols, struct bn_error *err)
{
	static const enum bn_ggml_type all[] = { BN_GGML_I2_S, BN_GGML_TL1, BN_GGML_TL2 };
	struct bn_tiles tiles;
	char others[32] = "";
	size_t n = 0;

	if (cut(&tiles, bn_codec_find(type), rows, cols)) {
		*out = tiles;
		return BN_OK;
	}
	for (size_t i = 0; i < LENGTH(all); i++) {
		if (cut(&tiles, bn_codec_find(all[i]), rows, cols)) {
			n += (size_t)snprintf(others + n, sizeof(others) - n, "%s%s",
					      n > 0 ? ", " : "", bn_ggml_name(all[i]));
		}
	}
	return bn_fail(
		err, BN_E_KERNEL,
		"%s cannot hold matrices of %u x %u (rows x columns), it needs %s; these can: "
		"%s",
		bn_ggml_name(type), rows, cols,
		type == BN_GGML_TL1   ? "a multiple of 32 rows and of 64 columns"
		: type == BN_GGML_TL2 ? "a multiple of 32 rows and of 32 columns, 256 at least"
				      : "weights in whole blocks",
		n > 0 ? others : "none");
}
