#include "engine/weights.h"

#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void loading_takes_exactly_what_was_announced(void **state)
{
	static const char *const archs[] = { "bitnet-b1.58", "llama" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bn_tiny t;
		struct bound b;
		struct bn_weights w;
		struct bn_load_watch watch;
		char digest[BN_DIGEST_TEXT_BYTES], command[512], sum[65] = "";
		struct bn_error err;
		FILE *p;

		bn_tiny_default(&t);
		t.arch = archs[i];
		t.sub_norms = i == 0;
		t.tied = i == 0;
		t.dim = 320; /* rows that straddle the blocks of the file */
		t.heads = 5;
		t.kv_heads = 5;
		memset(&watch, 0, sizeof(watch));

		const char *path = rig_tiny(&t);

		assert_int_equal(bind_file(&b, path, NULL, &err), BN_OK);
		assert_int_equal(bn_weights_load(&w, b.binding, &watch, digest, &err), BN_OK);
		assert_int_equal(bn_arena_bytes(&w.arena), bn_weights_bytes(b.binding));
		assert_int_equal(atomic_load(&watch.done_bytes), b.file.size);
		assert_int_equal(w.tied, i == 0);
		assert_true(w.tied == (w.embed.rows == w.head.rows));
		assert_int_equal(b.binding->tied, w.tied);
		assert_true((w.layers[1].in_norm[BN_PROJ_O] != NULL) == (i == 0));
		assert_int_equal(w.layers[1].proj[BN_PROJ_DOWN].rows, 320);
		assert_int_equal(w.layers[1].proj[BN_PROJ_DOWN].cols, 256);
		assert_true(b.binding->trits == 2ull * (4 * 320 * 320 + 3 * 320 * 256));
		assert_true(b.binding->parameters > b.binding->trits + 512 * 320);
		assert_true(bn_weights_transient_bytes(b.binding) > 1 << 20);

		/* the digest is what everybody else calls it */
		snprintf(command, sizeof(command), "sha256sum %s", path);
		p = popen(command, "r");
		assert_non_null(p);
		assert_int_equal(fread(sum, 1, 64, p), 64);
		pclose(p);
		assert_string_equal(digest, sum);
		bn_weights_finish(&w);
		bn_weights_finish(&w);
		unbind(&b);
	}
}

/* Binds g, spoils the file's data, loads. */
static enum bn_status load_spoiled(struct graph *g, const char *tensor, uint64_t at,
				   const void *bytes, size_t n, struct bn_error *err)
{
	const char *path = rig_path("graph.gguf");
	struct bound b;
	struct bn_weights w;
	char digest[BN_DIGEST_TEXT_BYTES];
	enum bn_status status;
	int fd;

	graph_write(g, path);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);

	const uint64_t offset = bn_gguf_tensor(b.gguf, tensor)->offset + at;

	unbind(&b);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)offset), (ssize_t)n);
	close(fd);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);
	status = bn_weights_load(&w, b.binding, NULL, digest, err);
	assert_null(w.layers);
	unbind(&b);
	return status;
}

static void damaged_data_is_named(void **state)
{
	static const float nan = NAN;
	struct graph g;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	/* element 96 + 5 of some block in the last rows */
	assert_int_equal(load_spoiled(&g, "blk.1.ffn_down.weight", 8000, "\xff", 1, &err),
			 BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'blk.1.ffn_down.weight'"));
	assert_non_null(strstr(err.text, "no trit"));
	assert_int_equal(load_spoiled(&g, "output_norm.weight", 127 * 4, &nan, 4, &err),
			 BN_E_FORMAT);
	assert_non_null(strstr(err.text, "'output_norm.weight' holds a value that is not finite"));
}

static void a_file_that_changes_while_it_is_loaded_is_refused(void **state)
{
	const char *path = rig_path("graph.gguf");
	char digest[BN_DIGEST_TEXT_BYTES] = "before";
	struct graph g;
	struct bound b;
	struct bn_weights w;
	struct bn_error err;

	(void)state;
	graph_init(&g);
	graph_write(&g, path);
	assert_int_equal(bind_file(&b, path, NULL, &err), BN_OK);
	assert_int_equal(truncate(path, (off_t)(b.file.size - 100)), 0);
	assert_int_equal(bn_weights_load(&w, b.binding, NULL, digest, &err), BN_E_FORMAT);
	assert_int_equal(truncate(path, (off_t)b.file.size), 0);
	assert_int_equal(bn_weights_load(&w, b.binding, NULL, digest, &err), BN_E_FORMAT);
	assert_string_equal(digest, "before"); /* outputs are untouched on failure */
	unbind(&b);
}

static void cancelling_ends_a_load(void **state)
{
	char digest[BN_DIGEST_TEXT_BYTES];
	struct graph g;
	struct bound b;
	struct bn_weights w;
	struct bn_error err;
	struct bn_load_watch watch;

	(void)state;
	memset(&watch, 0, sizeof(watch));
	atomic_store(&watch.cancel, true);
	graph_init(&g);
	graph_write(&g, rig_path("graph.gguf"));
	assert_int_equal(bind_file(&b, rig_path("graph.gguf"), NULL, &err), BN_OK);
	assert_int_equal(bn_weights_load(&w, b.binding, &watch, digest, &err), BN_E_CANCELLED);
	assert_null(w.layers);
	assert_true(atomic_load(&watch.done_bytes) < b.file.size);
	unbind(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loading_takes_exactly_what_was_announced),
		cmocka_unit_test(damaged_data_is_named),
		cmocka_unit_test(a_file_that_changes_while_it_is_loaded_is_refused),
		cmocka_unit_test(cancelling_ends_a_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
