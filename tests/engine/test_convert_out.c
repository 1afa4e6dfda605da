/* What conversions share: names of kernels, counting, the list of tiles, and when a file appears.
 */
#include "engine/convert_out.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "engine/tiles.h"
#include "tests/engine/rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void kernels_are_named_as_their_types(void **state)
{
	static const struct {
		const char *kernel;
		enum bn_ggml_type type;
	} good[] = {
		{ NULL, BN_GGML_I2_S }, { "auto", BN_GGML_I2_S }, { "i2_s", BN_GGML_I2_S },
		{ "tl1", BN_GGML_TL1 }, { "tl2", BN_GGML_TL2 },
	};
	static const char *const bad[] = { "", "tq2_0", "I2_S", "i2_s ", "f16" };
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		enum bn_ggml_type type = BN_GGML_F32;

		assert_int_equal(bn_convert_out_format(&type, good[i].kernel, &err), BN_OK);
		assert_int_equal(type, good[i].type);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum bn_ggml_type type = BN_GGML_F32;

		assert_int_equal(bn_convert_out_format(&type, bad[i], &err), BN_E_KERNEL);
		assert_non_null(strstr(err.text, "i2_s, tl1, tl2 or auto"));
		assert_int_equal(type, BN_GGML_F32);
	}
}

static void zeros_are_counted_without_what_fills_a_row(void **state)
{
	/* five columns: -1 0 +1 0 | 0 and three places of filling */
	static const uint8_t codes[] = { 0x64, 0x55, 0x64, 0x55 };
	struct bn_convert_report r = { 0 };

	(void)state;
	bn_convert_out_count(&r, codes, 2, 5);
	bn_convert_out_count(&r, codes, 1, 5);
	assert_int_equal(r.trits, 15);
	assert_int_equal(r.zero_trits, 9);
}

static void notices_have_an_end(void **state)
{
	struct bn_convert_report r = { 0 };

	(void)state;
	for (int i = 0; i < BN_CONVERT_NOTICES + 3; i++) {
		bn_convert_out_notice(&r, "notice %d", i);
	}
	assert_int_equal(r.n_notices, BN_CONVERT_NOTICES);
	assert_string_equal(r.notices[BN_CONVERT_NOTICES - 1], "notice 11");
}

static void tiles_are_listed_once_for_each_shape(void **state)
{
	static struct bn_verify_tensor tensors[BN_TILES_SHAPES + 2];
	const char *path = rig_path("tiles.gguf");
	struct bn_gguf_writer *w = NULL;
	struct bn_gguf *g = NULL;
	struct bn_gguf_array list;
	struct bn_file file;

	(void)state;
	for (uint32_t i = 0; i < BN_TILES_SHAPES + 2; i++) {
		tensors[i].type = i == 0 ? BN_GGML_F32 : BN_GGML_TL2;
		tensors[i].rows = i < 3 ? 64 : 32 * i;
		tensors[i].cols = 256;
		tensors[i].tiles = (struct bn_tiles){ 32, 96, i == 0 ? 0 : 32 };
	}
	assert_int_equal(bn_gguf_writer_new(&w, path, 32, NULL), BN_OK);
	assert_true(bn_convert_out_put_tiles(w, tensors, 1)); /* nothing to say */
	assert_true(bn_convert_out_put_tiles(w, tensors, 5));
	assert_int_equal(bn_gguf_commit(w, NULL), BN_OK);
	bn_gguf_writer_free(w);
	assert_int_equal(bn_file_open(&file, AT_FDCWD, path, true, NULL), BN_OK);
	assert_int_equal(bn_gguf_open(&g, &file, NULL), BN_OK);
	assert_int_equal(bn_gguf_kv_count(g), 1);
	assert_int_equal(bn_gguf_ints(g, "bnd.tl2.tiles", 3 * 5, &list, NULL), BN_OK);
	assert_int_equal(bn_gguf_int_at(&list, 0), 64);
	assert_int_equal(bn_gguf_int_at(&list, 5), 96);
	assert_int_equal(bn_gguf_int_at(&list, 14), 32);
	bn_gguf_free(g);
	bn_file_close(&file);
	assert_int_equal(bn_gguf_writer_new(&w, path, 32, NULL), BN_OK);
	for (uint32_t i = 1; i < BN_TILES_SHAPES + 2; i++) {
		tensors[i].rows = 32 * i;
	}
	assert_false(bn_convert_out_put_tiles(w, tensors, BN_TILES_SHAPES + 2));
	bn_gguf_writer_free(w);
}

/* Writes what is no model. */
static enum bn_status write_nonsense(void *who, const char *part)
{
	FILE *f = fopen(part, "wb");

	assert_non_null(f);
	fputs("nonsense", f);
	fclose(f);
	++*(int *)who;
	return BN_OK;
}

static void a_file_that_does_not_verify_never_appears(void **state)
{
	struct bn_convert_options options = { 0 };
	struct bn_convert_report r = { 0 };
	struct bn_error err = { 0 };
	char path[160], part[200];
	int writes = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s", rig_path("made.gguf"));
	snprintf(part, sizeof(part), "%s.%d.part", path, (int)getpid());
	bn_enter_helper();
	assert_int_equal(
		bn_convert_out_make(path, &options, &r, write_nonsense, &writes, NULL, 0, &err),
		BN_E_FORMAT);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(part, F_OK), -1);
	assert_int_equal(writes, 1);
	r.data_bytes = UINT64_MAX / 4;
	assert_int_equal(
		bn_convert_out_make(path, &options, &r, write_nonsense, &writes, NULL, 0, &err),
		BN_E_IO);
	assert_non_null(strstr(err.text, "MB free"));
	assert_int_equal(write_nonsense(&writes, path), BN_OK);
	r.data_bytes = 0;
	assert_int_equal(
		bn_convert_out_make(path, &options, &r, write_nonsense, &writes, NULL, 0, &err),
		BN_E_CONFLICT);
	assert_int_equal(writes, 2); /* neither was begun */
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernels_are_named_as_their_types),
		cmocka_unit_test(zeros_are_counted_without_what_fills_a_row),
		cmocka_unit_test(notices_have_an_end),
		cmocka_unit_test(tiles_are_listed_once_for_each_shape),
		cmocka_unit_test(a_file_that_does_not_verify_never_appears),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
