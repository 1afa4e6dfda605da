/* What the guide says a model takes is what the engine reserves for it; and what it recommends. */
#include "engine/advice.h"

#include "engine/forward.h"
#include "kernels/cpu.h"
#include "tests/engine/rig.h"
#ifdef BN_HAVE_VOCABS
#include "tests/engine/vocabs.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static struct bn_advice_machine machine_of(uint64_t budget)
{
	return (struct bn_advice_machine){ .cpu = bn_cpu_features(),
					   .budget_bytes = budget,
					   .rows = BN_ADVICE_BATCH + BN_ADVICE_CHUNK,
					   .outputs = BN_ADVICE_BATCH,
					   .lanes = 3 };
}

/* The same shape as a row of the table and as a file, opened. Of several kinds: tied or not, with
 * sub-norms or without, rows that end inside the lines of kernels. */
static void bytes_are_those_the_engine_reserves(void **state)
{
	static const struct {
		const char *arch;
		uint32_t layers, dim, ffn, heads, kv_heads;
		bool tied, sub_norms;
		const char *pooling; /* of vectors, whose heads are `head_dim` wide; or NULL */
		uint32_t head_dim;
	} shapes[] = {
		{ "bitnet-b1.58", 2, 128, 256, 4, 2, true, true, NULL, 0 },
		{ "bitnet", 3, 384, 640, 4, 4, true, true, NULL, 0 },
		{ "llama", 1, 256, 448, 2, 1, false, false, NULL, 0 },
		{ "qwen3", 2, 256, 384, 4, 2, true, false, "last", 96 },
		{ "gemma3", 3, 192, 320, 4, 1, true, false, "last", 64 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct bn_advice_machine machine = machine_of(UINT64_C(1) << 30);
		const struct bn_model_options options = { .cpu = machine.cpu };
		const struct bn_forward_config forward = { machine.rows, machine.outputs,
							   machine.lanes };
		struct bn_guide_model row = { .name = "x",
					      .context = 256,
					      .pooling = shapes[i].pooling };
		const bool vectors = shapes[i].pooling != NULL;
		const bool post = strcmp(shapes[i].arch, "gemma3") == 0;
		const uint32_t head_dim =
			vectors ? shapes[i].head_dim : shapes[i].dim / shapes[i].heads;
		const struct bn_model_info *info;
		struct bn_model_plan *plan;
		struct bn_model *model;
		struct bn_advice a;
		struct bn_tiny t;
		struct bn_error err;

		bn_tiny_default(&t);
		if (vectors) {
			bn_tiny_vectors(&t, shapes[i].arch);
			t.vectors.head_dim = head_dim;
		}
		t.arch = shapes[i].arch;
		t.layers = shapes[i].layers;
		t.dim = shapes[i].dim;
		t.ffn = shapes[i].ffn;
		t.heads = shapes[i].heads;
		t.kv_heads = shapes[i].kv_heads;
		t.tied = shapes[i].tied;
		t.sub_norms = shapes[i].sub_norms;
		row.shape = (struct bn_shape){ .layers = t.layers,
					       .dim = t.dim,
					       .ffn = t.ffn,
					       .heads = t.heads,
					       .kv_heads = t.kv_heads,
					       .head_dim = head_dim,
					       .vocab = t.vocab,
					       .tied = t.tied,
					       .sub_norms = t.sub_norms,
					       .input_norms = vectors,
					       .head_norms = vectors,
					       .post_norms = post };
		bn_enter_helper();
		if (bn_model_open(&plan, rig_tiny(&t), &options, &err) != BN_OK) {
			fail_msg("%s", err.text);
		}
		info = bn_model_plan_info(plan);
		bn_advice_of(&row, &machine, &a);
		assert_string_equal(a.kernel->name, info->kernel);
		assert_int_equal(info->pooling != NULL, vectors);
		assert_int_equal(a.position_bytes, info->kv_position_bytes);
		assert_int_equal(a.kv_bytes,
				 bn_kv_bytes(&(struct bn_kv_shape){ t.layers, t.kv_heads, head_dim,
								    BN_KV_F16 },
					     256));
		/* the steps' workspace, but for the struct that holds it */
		assert_in_range(bn_forward_bytes(info, &forward) - a.scratch_bytes, 1, 4096);
		assert_int_equal(bn_model_load(&model, plan, NULL, &err), BN_OK);
		assert_int_equal(a.weights_bytes, info->weights_bytes -
							  bn_tokenizer_bytes(model->tok) -
							  sizeof(struct bn_model));
		assert_int_equal(a.weights_bytes, bn_arena_bytes(&model->weights.arena));
		bn_model_free(model);
		bn_model_plan_free(plan);
	}
	rig_cleanup();
}

static void what_fits_is_the_longest_context_that_fits(void **state)
{
	const struct bn_guide_model *m = bn_guide_find("bitnet-2b");
	struct bn_advice_machine machine = machine_of(UINT64_C(1) << 40);
	struct bn_advice all, a;
	uint64_t fixed;

	(void)state;
	bn_advice_of(m, &machine, &all);
	assert_int_equal(all.fits_context, 4096);
	assert_true(all.runs[BN_GUIDE_I2S]);
	assert_int_equal(all.fixed_bytes,
			 all.weights_bytes + all.scratch_bytes + 128256 * BN_ADVICE_VOCABULARY);
	assert_int_equal(all.total_bytes, all.fixed_bytes + all.kv_bytes);
	/* within a hundredth of the file: embedding and norms as they are, trits at two bits */
	assert_in_range(all.weights_bytes, 1179449920 / 100 * 99, 1179449920 / 100 * 101);
	fixed = all.fixed_bytes;
	machine.budget_bytes = all.total_bytes;
	bn_advice_of(m, &machine, &a);
	assert_int_equal(a.fits_context, 4096);
	machine.budget_bytes = all.total_bytes - 1;
	bn_advice_of(m, &machine, &a);
	assert_int_equal(a.fits_context, 4096 - BN_ADVICE_STEP);
	machine.budget_bytes = fixed + 1000 * all.position_bytes;
	bn_advice_of(m, &machine, &a);
	assert_int_equal(a.fits_context, 768);
	machine.budget_bytes = fixed;
	bn_advice_of(m, &machine, &a);
	assert_int_equal(a.fits_context, 0);
	machine.budget_bytes = 0;
	bn_advice_of(m, &machine, &a);
	assert_int_equal(a.fits_context, 0);
}

static void a_model_without_a_kernel_fits_nowhere(void **state)
{
	const struct bn_guide_model *m = bn_guide_find("bitnet-3b");
	struct bn_advice_machine machine = machine_of(UINT64_C(1) << 40);
	struct bn_advice a;

	(void)state;
	bn_advice_of(m, &machine, &a);
	assert_false(a.runs[BN_GUIDE_I2S]);
	if (a.kernel == NULL) {
		assert_int_equal(a.fits_context, 0);
		assert_int_equal(a.weights_bytes, 0);
		assert_false(a.runs[BN_GUIDE_TL1] || a.runs[BN_GUIDE_TL2]);
	} else {
		assert_int_equal(a.fits_context, 2048);
		assert_memory_equal(a.kernel->name, "tl", 2);
	}
}

static void the_advice_is_the_guides(void **state)
{
	static const struct {
		const char *use;
		uint64_t budget;
		const char *wanted, *chosen; /* NULL: nothing fits */
	} cases[] = {
		{ "testing", 64 << 10, "bitnet_b1_58-large", "bitnet_b1_58-large" },
		{ "general", 64 << 10, "bitnet-b1.58-2B-4T", "bitnet-b1.58-2B-4T" },
		{ "edge", 64 << 10, "Falcon-E-1B-Instruct", "Falcon-E-1B-Instruct" },
		{ "quality", 64 << 10, "Falcon3-7B-Instruct-1.58bit",
		  "Falcon3-7B-Instruct-1.58bit" },
		{ "maximum", 64 << 10, "Falcon3-10B-Instruct-1.58bit",
		  "Falcon3-10B-Instruct-1.58bit" },
		{ "maximum", 4000, "Falcon3-10B-Instruct-1.58bit", "Falcon3-7B-Instruct-1.58bit" },
		{ "maximum", 2000, "Falcon3-10B-Instruct-1.58bit", "bitnet-b1.58-2B-4T" },
		{ "quality", 1250, "Falcon3-7B-Instruct-1.58bit", "Falcon-E-3B-Instruct" },
		{ "general", 900, "bitnet-b1.58-2B-4T", "Falcon-E-1B-Instruct" },
		{ "edge", 640, "Falcon-E-1B-Instruct", "bitnet_b1_58-large" },
		{ "embedding", 64 << 10, "bitnet-embedding-0.6b", "bitnet-embedding-0.6b" },
		{ "embedding", 600, "bitnet-embedding-0.6b", "bitnet-embedding-270m" },
		{ "testing", 200, "bitnet_b1_58-large", NULL },
		{ "maximum", 100, "Falcon3-10B-Instruct-1.58bit", NULL },
		{ "embedding", 100, "bitnet-embedding-0.6b", NULL },
	};
	enum bn_advice_use use;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct bn_advice_machine machine = machine_of(cases[i].budget * MIB);
		struct bn_advice_answer answer;
		bool fits;

		assert_true(bn_advice_use_of(cases[i].use, &use));
		assert_string_equal(bn_advice_use_word(use), cases[i].use);
		assert_true(strlen(bn_advice_use_reason(use)) > 0);
		fits = bn_advice_recommend(use, &machine, &answer);
		assert_string_equal(answer.wanted.model->name, cases[i].wanted);
		assert_int_equal(fits, cases[i].chosen != NULL);
		if (fits) {
			if (strcmp(answer.chosen.model->name, cases[i].chosen) != 0) {
				fail_msg("%s in %d MiB: %s instead of %s", cases[i].use,
					 (int)cases[i].budget, answer.chosen.model->name,
					 cases[i].chosen);
			}
			assert_true(answer.context >= BN_ADVICE_LEAST);
			assert_true(answer.context <= answer.chosen.context);
			assert_true(answer.chosen.fixed_bytes +
					    answer.context * answer.chosen.position_bytes <=
				    machine.budget_bytes);
		} else {
			assert_string_equal(answer.chosen.model->name,
					    use == BN_ADVICE_EMBEDDING ? "bitnet-embedding-270m"
								       : "bitnet_b1_58-large");
		}
	}
	assert_false(bn_advice_use_of("gaming", &use));
}

/* In any memory: who wants answers gets no model that has none, and who wants vectors no other. */
static void vectors_are_advised_for_vectors_alone(void **state)
{
	(void)state;
	for (unsigned u = 0; u < BN_ADVICE_USES; u++) {
		for (uint64_t mib = 64; mib <= 64 << 10; mib += mib / 4) {
			const struct bn_advice_machine machine = machine_of(mib * MIB);
			struct bn_advice_answer answer;

			(void)bn_advice_recommend((enum bn_advice_use)u, &machine, &answer);
			assert_int_equal(answer.wanted.model->pooling != NULL,
					 u == BN_ADVICE_EMBEDDING);
			assert_int_equal(answer.chosen.model->pooling != NULL,
					 u == BN_ADVICE_EMBEDDING);
		}
	}
}

#ifdef BN_HAVE_VOCABS
static void tables_of_real_vocabularies_are_within_the_allowance(void **state)
{
	struct bn_tokenizer *tok;
	struct vocabs v;

	(void)state;
	vocabs_llama3(&v);
	tok = vocabs_make(&v);
	assert_true(bn_tokenizer_bytes(tok) <=
		    (uint64_t)bn_tokenizer_size(tok) * BN_ADVICE_VOCABULARY);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	tok = vocabs_gguf("tokenizers/ggml-vocab-llama-spm.gguf");
	assert_true(bn_tokenizer_bytes(tok) <=
		    (uint64_t)bn_tokenizer_size(tok) * BN_ADVICE_VOCABULARY);
	bn_tokenizer_free(tok);
}
#endif

int main(void)
{
#ifdef BN_HAVE_VOCABS
	const struct CMUnitTest real[] = {
		cmocka_unit_test(tables_of_real_vocabularies_are_within_the_allowance),
	};
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_those_the_engine_reserves),
		cmocka_unit_test(what_fits_is_the_longest_context_that_fits),
		cmocka_unit_test(a_model_without_a_kernel_fits_nowhere),
		cmocka_unit_test(the_advice_is_the_guides),
		cmocka_unit_test(vectors_are_advised_for_vectors_alone),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

#ifdef BN_HAVE_VOCABS
	failed = failed != 0 ? failed : cmocka_run_group_tests(real, NULL, NULL);
#endif
	return failed;
}
