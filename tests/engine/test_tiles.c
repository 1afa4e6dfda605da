/* Which tiles: what the file says, what is known, what a person says, and when the answer is no. */
#include "engine/tiles.h"

#include "tests/engine/raw_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* A file of metadata alone: none, or one array of i32 under `key`. */
static struct bn_gguf *file_with(struct raw *raw, const char *key, const int32_t *list, size_t n)
{
	struct bn_gguf *g = NULL;

	raw_begin(raw, 3, 0, key != NULL);
	if (key != NULL) {
		raw_key(raw, key, 9);
		raw_number(raw, 5, 4);
		raw_number(raw, n, 8);
		for (size_t i = 0; i < n; i++) {
			raw_number(raw, (uint32_t)list[i], 4);
		}
	}
	assert_int_equal(bn_gguf_parse(&g, raw->p, raw->n, raw->n, NULL), BN_OK);
	return g;
}

static void expect(const struct bn_gguf *g, enum bn_ggml_type type, uint32_t rows, uint32_t cols,
		   const struct bn_tiles_advice *advice, uint32_t bm, uint32_t bk, uint32_t strip)
{
	struct bn_error err = { 0 };
	struct bn_tiles t;

	if (bn_tiles_settle(&t, g, type, rows, cols, advice, &err) != BN_OK) {
		fail_msg("%u x %u: %s", rows, cols, err.text);
	}
	assert_int_equal(t.bm_rows, bm);
	assert_int_equal(t.bk_cols, bk);
	assert_int_equal(t.strip, strip);
}

static void refuses(const struct bn_gguf *g, enum bn_ggml_type type, uint32_t rows, uint32_t cols,
		    const struct bn_tiles_advice *advice, enum bn_status status, const char *words)
{
	struct bn_tiles t = { 1, 2, 3 };
	struct bn_error err = { 0 };

	assert_int_equal(bn_tiles_settle(&t, g, type, rows, cols, advice, &err), status);
	assert_non_null(strstr(err.text, words));
	assert_int_equal(t.bm_rows, 1);
}

static void known_shapes_are_settled_where_the_known_sets_agree(void **state)
{
	struct raw raw = { 0 };
	struct bn_gguf *g = file_with(&raw, NULL, NULL, 0);

	(void)state;
	expect(g, BN_GGML_TL2, 3200, 8640, NULL, 160, 96, 32);
	expect(g, BN_GGML_TL2, 4096, 1536, NULL, 256, 96, 32);
	expect(g, BN_GGML_TL2, 1024, 4096, NULL, 256, 96, 32);
	expect(g, BN_GGML_TL1, 3200, 3200, NULL, 320, 128, 64);
	expect(g, BN_GGML_TL1, 1536, 1536, NULL, 128, 64, 64);
	expect(g, BN_GGML_I2_S, 1536, 1536, NULL, 0, 0, 0);
	expect(g, BN_GGML_IQ2_BN, 7, 64, NULL, 0, 0, 0);
	/* a shape nobody published; one whose two sets differ */
	refuses(g, BN_GGML_TL2, 2560, 6912, NULL, BN_E_NOT_SUPPORTED, "no known kernel");
	refuses(g, BN_GGML_TL1, 4096, 14336, NULL, BN_E_NOT_SUPPORTED, "cut differently");
	refuses(g, BN_GGML_TL1, 4096, 14336, NULL, BN_E_NOT_SUPPORTED, "--tl-params codegen");
	bn_gguf_free(g);
	raw_free(&raw);
}

static void advice_settles_the_rest(void **state)
{
	struct raw raw = { 0 };
	struct bn_gguf *g = file_with(&raw, NULL, NULL, 0);
	struct bn_tiles_advice a = { 0 };

	(void)state;
	assert_int_equal(bn_tiles_advise(&a, "codegen", NULL), BN_OK);
	expect(g, BN_GGML_TL1, 4096, 14336, &a, 128, 64, 64);
	assert_int_equal(bn_tiles_advise(&a, "presets", NULL), BN_OK);
	expect(g, BN_GGML_TL1, 4096, 14336, &a, 256, 128, 32);
	refuses(g, BN_GGML_TL2, 2560, 6912, &a, BN_E_NOT_SUPPORTED, "no known kernel");
	assert_int_equal(bn_tiles_advise(&a, "2560x6912=160,192,32", NULL), BN_OK);
	expect(g, BN_GGML_TL2, 2560, 6912, &a, 160, 192, 32);
	expect(g, BN_GGML_TL1, 4096, 14336, &a, 256, 128, 32);
	assert_int_equal(bn_tiles_advise(&a, "64,96,32", NULL), BN_OK);
	expect(g, BN_GGML_TL2, 2560, 6912, &a, 160, 192, 32);
	expect(g, BN_GGML_TL2, 1024, 4096, &a, 64, 96, 32);
	refuses(g, BN_GGML_TL2, 1000, 4096, &a, BN_E_FORMAT, "cannot be cut as tl2 with 64,96,32");
	bn_gguf_free(g);
	raw_free(&raw);
}

static void advice_that_is_none_is_named(void **state)
{
	static const char *const bad[] = {
		"",           "256",      "256,96",        "256,96,32,1", "256,96,32 ",
		"a,b,c",      "0,96,32",  "-1,96,32",      "x=256,96,32", "1024x=256,96,32",
		"1024x4096=", "presets2", "9999999,96,32", "256, 96,32",  "1024x4096x1=1,2,3",
		"=1,2,3",
	};
	struct bn_tiles_advice a = { 0 };
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(bn_tiles_advise(&a, bad[i], &err), BN_E_INVALID);
		assert_non_null(strstr(err.text, "is not BM,BK,bm"));
		assert_int_equal(a.n, 0);
	}
	for (int i = 0; i < BN_TILES_MAX; i++) {
		assert_int_equal(bn_tiles_advise(&a, "32,96,32", &err), BN_OK);
	}
	assert_int_equal(bn_tiles_advise(&a, "32,96,32", &err), BN_E_INVALID);
}

static void the_files_own_key_comes_before_what_is_known(void **state)
{
	static const int32_t list[] = { 64, 256, 32, 96, 32, 3200, 8640, 320, 192, 32,
					-1, 0,   0,  0,  0,  96,   256,  64,  96,  32 };
	struct bn_tiles_advice a = { 0 };
	struct raw raw = { 0 };
	struct bn_gguf *g = file_with(&raw, bn_tiles_key(BN_GGML_TL2), list, 20);

	(void)state;
	expect(g, BN_GGML_TL2, 64, 256, NULL, 32, 96, 32);
	expect(g, BN_GGML_TL2, 3200, 8640, NULL, 320, 192, 32);
	expect(g, BN_GGML_TL1, 3200, 8640, NULL, 160, 64, 32);
	refuses(g, BN_GGML_TL2, 3200, 3200, NULL, BN_E_FORMAT, "does not say how 3200 x 3200");
	refuses(g, BN_GGML_TL2, 96, 256, NULL, BN_E_FORMAT, "cannot be cut");
	assert_int_equal(bn_tiles_advise(&a, "64,96,32", NULL), BN_OK);
	expect(g, BN_GGML_TL2, 64, 256, &a, 64, 96, 32);
	bn_gguf_free(g);
	raw_free(&raw);
	g = file_with(&raw, bn_tiles_key(BN_GGML_TL2), list, 19);
	expect(g, BN_GGML_TL2, 64, 256, NULL, 32, 96, 32);
	refuses(g, BN_GGML_TL2, 96, 256, NULL, BN_E_FORMAT, "does not say");
	bn_gguf_free(g);
	raw_free(&raw);
}

/* What we write we read, and of known shapes bitnet.cpp does too. */
static void chosen_tiles_fit_and_known_ones_are_taken(void **state)
{
	static const uint32_t shapes[][2] = {
		{ 2560, 2560 }, { 640, 2560 },  { 6912, 2560 },  { 2560, 6912 }, { 3200, 8640 },
		{ 8640, 3200 }, { 1024, 2048 }, { 2048, 13312 }, { 256, 2048 },  { 3072, 23040 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		for (int k = 0; k < 2; k++) {
			const enum bn_ggml_type type = k == 0 ? BN_GGML_TL1 : BN_GGML_TL2;
			struct bn_tiles_list list = { 0 };
			struct bn_tiles t;
			struct raw raw = { 0 };
			struct bn_gguf *g;

			assert_int_equal(
				bn_tiles_choose(&t, type, shapes[i][0], shapes[i][1], NULL), BN_OK);
			assert_true(bn_tiles_note(&list, shapes[i][0], shapes[i][1], &t));
			assert_true(bn_tiles_note(&list, shapes[i][0], shapes[i][1], &t));
			assert_int_equal(list.n, BN_TILES_FIELDS);
			g = file_with(&raw, bn_tiles_key(type), list.fields, list.n);
			expect(g, type, shapes[i][0], shapes[i][1], NULL, t.bm_rows, t.bk_cols,
			       t.strip);
			bn_gguf_free(g);
			raw_free(&raw);
		}
	}
}

static void shapes_that_a_type_cannot_hold_are_named(void **state)
{
	static const struct {
		enum bn_ggml_type type;
		uint32_t rows, cols;
		const char *words;
	} cases[] = {
		{ BN_GGML_TL1, 100, 256, "multiple of 32 rows and of 64 columns; these can: i2_s" },
		{ BN_GGML_TL1, 128, 96, "64 columns" },
		{ BN_GGML_TL2, 128, 128, "256 at least; these can: i2_s, tl1" },
		{ BN_GGML_TL2, 128, 264, "of 32 columns" },
		{ BN_GGML_I2_S, 3, 32, "whole blocks; these can: none" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_tiles t;
		struct bn_error err;

		assert_int_equal(
			bn_tiles_choose(&t, cases[i].type, cases[i].rows, cases[i].cols, &err),
			BN_E_KERNEL);
		assert_non_null(strstr(err.text, cases[i].words));
	}
}

static void a_list_has_an_end(void **state)
{
	const struct bn_tiles t = { 32, 96, 32 };
	struct bn_tiles_list list = { 0 };

	(void)state;
	for (uint32_t i = 1; i <= BN_TILES_SHAPES; i++) {
		assert_true(bn_tiles_note(&list, 32 * i, 256, &t));
	}
	assert_false(bn_tiles_note(&list, 32, 512, &t));
	assert_true(bn_tiles_note(&list, 64, 256, &t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_shapes_are_settled_where_the_known_sets_agree),
		cmocka_unit_test(advice_settles_the_rest),
		cmocka_unit_test(advice_that_is_none_is_named),
		cmocka_unit_test(the_files_own_key_comes_before_what_is_known),
		cmocka_unit_test(chosen_tiles_fit_and_known_ones_are_taken),
		cmocka_unit_test(shapes_that_a_type_cannot_hold_are_named),
		cmocka_unit_test(a_list_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
