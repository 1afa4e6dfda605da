#include "engine/workspace.h"

#include "kernels/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* bitnet_b1_58-3B: heads of 100, nothing a multiple of what buffers are padded to. */
static void describe(struct bn_model_info *info)
{
	memset(info, 0, sizeof(*info));
	info->dim = 3200;
	info->ffn = 8641;
	info->heads = 31;
	info->kv_heads = 31;
	info->head_dim = 100;
	info->vocab = 3201;
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		info->kernels[p] = bn_kernel_find("i2s.scalar");
	}
}

static void buffers_lie_apart_on_lines_and_fill_what_was_announced(void **state)
{
	enum { ROWS = 5, OUTPUTS = 3, LANES = 2 };
	struct bn_model_info info;
	struct bn_workspace w = { 0 };

	(void)state;
	describe(&info);
	assert_int_equal(bn_workspace_init(&w, &info, ROWS, OUTPUTS, LANES, NULL), BN_OK);
	assert_int_equal(bn_arena_bytes(&w.arena), bn_workspace_bytes(&info, ROWS, OUTPUTS, LANES));

	const struct {
		void *p;
		size_t bytes;
	} parts[] = {
		{ w.x, ROWS * 3200 * 4 },
		{ w.q, ROWS * 3104 * 4 },
		{ w.k, ROWS * 3104 * 4 },
		{ w.v, ROWS * 3104 * 4 },
		{ w.ctx, ROWS * 3104 * 4 },
		{ w.gate, ROWS * 8656 * 4 },
		{ w.up, ROWS * 8656 * 4 },
		{ w.angles[0].cos, ROWS * 64 * 4 },
		{ w.angles[0].sin, ROWS * 64 * 4 },
		{ w.in[0].q, ROWS * 8704 },
		{ w.in[0].scale, ROWS * 4 },
		{ w.in[0].sum, ROWS * 4 },
		{ w.last, OUTPUTS * 3200 * 4 },
		{ w.logits, OUTPUTS * 3216 * 4 },
		{ w.row_of, OUTPUTS * 4 },
		{ w.output_of, ROWS * 4 },
		{ w.scratch, LANES * 3201 * sizeof(struct bn_candidate) },
	};
	const size_t n = sizeof(parts) / sizeof(parts[0]);

	/* Each filled with its own byte, then all looked at: an overlap shows. */
	for (size_t i = 0; i < n; i++) {
		assert_int_equal((uintptr_t)parts[i].p % 64, 0);
		memset(parts[i].p, (int)i + 1, parts[i].bytes);
	}
	for (size_t i = 0; i < n; i++) {
		const unsigned char *p = parts[i].p;

		assert_int_equal(p[0], i + 1);
		assert_int_equal(p[parts[i].bytes / 2], i + 1);
		assert_int_equal(p[parts[i].bytes - 1], i + 1);
	}
	bn_workspace_finish(&w);
	bn_workspace_finish(&w);
}

static void models_of_vectors_take_states_and_no_logits(void **state)
{
	enum { ROWS = 64, OUTPUTS = 4, LANES = 2 };
	struct bn_model_info info;
	struct bn_workspace w = { 0 };
	uint64_t generates, embeds;

	(void)state;
	describe(&info);
	info.vocab = 262144;
	generates = bn_workspace_bytes(&info, ROWS, OUTPUTS, LANES);
	info.pooling = "last";
	info.input_norms = true;
	info.post_norms = true;
	info.has_windows = true;
	embeds = bn_workspace_bytes(&info, ROWS, OUTPUTS, LANES);
	assert_true(embeds + 4 * OUTPUTS * 262144 < generates);
	assert_int_equal(bn_workspace_init(&w, &info, ROWS, OUTPUTS, LANES, NULL), BN_OK);
	assert_int_equal(bn_arena_bytes(&w.arena), embeds);
	/* Three inputs side by side, a row of states for every row, two tables of angles. */
	for (int i = 0; i < BN_WORKSPACE_INPUTS; i++) {
		memset(w.in[i].q, i, (size_t)ROWS * 8704);
		memset(w.in[i].scale, i, ROWS * sizeof(float));
		memset(w.in[i].sum, i, ROWS * sizeof(int32_t));
	}
	memset(w.h, 3, (size_t)ROWS * 3200 * sizeof(float));
	memset(w.last, 4, (size_t)ROWS * 3200 * sizeof(float));
	memset(w.row_of, 5, ROWS * sizeof(uint32_t));
	memset(w.angles[1].sin, 6, (size_t)ROWS * 64 * sizeof(float));
	for (int i = 0; i < BN_WORKSPACE_INPUTS; i++) {
		assert_int_equal(w.in[i].q[(size_t)ROWS * 8704 - 1], i);
	}
	bn_workspace_finish(&w);
}

static size_t wide(uint32_t cols, uint32_t n)
{
	return (size_t)cols * n * 10;
}

static void touch(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to)
{
	(void)dst;
	(void)acts;
	(void)from;
	(void)to;
}

/* What ROWS rows take more with these kernels than without. */
static uint64_t room(struct bn_model_info *info, uint32_t rows)
{
	struct bn_model_info plain;

	describe(&plain);
	return bn_workspace_bytes(info, rows, 1, 1) - bn_workspace_bytes(&plain, rows, 1, 1);
}

static void prepared_inputs_have_room_once_for_each_kernel_that_shares(void **state)
{
	struct bn_model_info info;
	struct bn_kernel k = *bn_kernel_find("i2s.scalar"), other;
	const uint32_t dim = 3200, ffn = 8641;

	(void)state;
	k.prep_cols = 16;
	k.prep_bytes = wide;
	k.prep = touch;
	other = k;
	describe(&info);
	info.kernels[BN_PROJ_DOWN] = &k;
	assert_in_range(room(&info, 20), ffn * 200 - 4096, ffn * 200 + 4096);
	/* A long prompt has as much as BN_WORKSPACE_PREP rows. */
	assert_in_range(room(&info, 512), ffn * 320 - 4096, ffn * 320 + 4096);
	info.kernels[BN_PROJ_Q] = &k;
	info.kernels[BN_PROJ_V] = &k;
	assert_in_range(room(&info, 20), ffn * 200 - 4096, ffn * 200 + 4096);
	info.kernels[BN_PROJ_K] = &other;
	assert_in_range(room(&info, 20), (ffn + dim) * 200 - 4096, (ffn + dim) * 200 + 4096);
}

static void a_machine_without_that_memory_gives_an_error(void **state)
{
	struct bn_model_info info;
	struct bn_workspace w = { 0 };
	struct bn_error err;

	(void)state;
	describe(&info);
	info.vocab = 1u << 21;
	/* 65536 rows of logits of 2 M tokens: 512 GiB */
	assert_int_equal(bn_workspace_init(&w, &info, 65536, 65536, 1, &err), BN_E_MEMORY);
	assert_null(w.x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_lie_apart_on_lines_and_fill_what_was_announced),
		cmocka_unit_test(models_of_vectors_take_states_and_no_logits),
		cmocka_unit_test(prepared_inputs_have_room_once_for_each_kernel_that_shares),
		cmocka_unit_test(a_machine_without_that_memory_gives_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
