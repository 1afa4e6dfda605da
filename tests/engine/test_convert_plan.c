/* The order and the sizes of a converted file's tensors. */
#include "engine/convert_plan.h"

#include "tests/engine/hf_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void plan_lists_every_tensor_in_the_order_of_a_step(void **state)
{
	static const char *const wanted[] = {
		"token_embd.weight",     "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
		"blk.0.attn_k.weight",   "blk.0.attn_v.weight",    "blk.0.attn_output.weight",
		"blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",  "blk.0.ffn_up.weight",
		"blk.0.ffn_down.weight", "blk.1.attn_norm.weight",
	};
	struct bn_convert_plan plan = { 0 };
	struct bn_checkpoint c = { 0 };
	struct bn_error err = { 0 };
	struct hf_folder hf;
	uint64_t bytes = 0;

	(void)state;
	hf_init(&hf);
	hf_write(&hf);
	hf_expect(bn_checkpoint_open(&c, hf.path, NULL, &err), &err, BN_OK, "");
	hf_expect(bn_convert_plan(&plan, &c, BN_GGML_F16, BN_GGML_I2_S, &err), &err, BN_OK, "");
	assert_int_equal(plan.n, 3 + 2 * 9);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		assert_string_equal(plan.tensors[i].name, wanted[i]);
	}
	assert_string_equal(plan.tensors[plan.n - 2].name, "output_norm.weight");
	assert_string_equal(plan.tensors[plan.n - 1].name, "output.weight");
	assert_string_equal(plan.jobs[9].source, "model.layers.0.mlp.down_proj.weight");
	for (size_t i = 0; i < plan.n; i++) {
		bytes += plan.jobs[i].nbytes;
	}
	assert_int_equal(bytes, plan.total_bytes);
	/* Trits as n / 4 + 32, tables as halves, norms as floats. */
	assert_int_equal(plan.total_bytes, 2 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 256) / 4 +
						   14 * 32 + 2 * 300 * 128 * 2 + 5 * 128 * 4);
	bn_convert_plan_finish(&plan);
	hf_expect(bn_convert_plan(&plan, &c, BN_GGML_Q6_K, BN_GGML_I2_S, &err), &err, BN_OK, "");
	assert_int_equal(plan.tensors[0].type, BN_GGML_Q8_0); /* rows of 128 */
	bn_convert_plan_finish(&plan);
	hf_expect(bn_convert_plan(&plan, &c, BN_GGML_F16, BN_GGML_TL2, &err), &err, BN_E_KERNEL,
		  "tl2 cannot hold matrices of 128 x 128");
	hf_expect(bn_convert_plan(&plan, &c, BN_GGML_F16, BN_GGML_TL1, &err), &err, BN_OK, "");
	assert_int_equal(plan.tensors[9].type, BN_GGML_TL1);
	assert_int_equal(plan.tensors[9].tiles.bm_rows, 128);
	assert_int_equal(plan.tensors[0].tiles.strip, 0);
	bn_convert_plan_finish(&plan);
	c.tied = true;
	hf_expect(bn_convert_plan(&plan, &c, BN_GGML_F16, BN_GGML_I2_S, &err), &err, BN_OK, "");
	assert_string_equal(plan.tensors[plan.n - 1].name, "output_norm.weight");
	bn_convert_plan_finish(&plan);
	bn_convert_plan_finish(&plan); /* twice is fine */
	bn_checkpoint_finish(&c);
	hf_finish(&hf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plan_lists_every_tensor_in_the_order_of_a_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
