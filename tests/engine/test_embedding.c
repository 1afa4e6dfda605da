/*
 * The graphs of BitNet-embedding as a whole: engine/forward.c with input norms, head norms,
 * post-norms, windows and pooling, against the blackboard and against itself.
 */
#include "kernels/cpu.h"
#include "tests/engine/reference.h"
#include "tests/engine/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIM_MAX = 256, TEXTS = 6 };

static struct bn_sequence *embed_start(struct rig *rig, const bn_token *text, uint32_t n)
{
	const struct bn_sequence_config config = { .prompt = text, .n_prompt = n, .embed = true };

	return rig_sequence(rig, &config);
}

static void embed(struct rig *rig, const bn_token *text, uint32_t n, uint32_t chunk, float *vector)
{
	struct bn_sequence *seq = embed_start(rig, text, n);

	rig_run(rig, &seq, 1, chunk, NULL, 0);
	assert_int_equal(seq->finish, BN_FINISH_VECTOR);
	memcpy(vector, seq->vector, rig->model->hyper.dim * sizeof(float));
	bn_sequence_free(seq);
}

static double length(const float *v, uint32_t n)
{
	double squares = 0.0;

	for (uint32_t i = 0; i < n; i++) {
		squares += (double)v[i] * (double)v[i];
	}
	return sqrt(squares);
}

/*
 * As in test_forward.c there are two kinds of texts: those whose activations keep clear of rounding
 * ties agree to float precision, the others nearly. A wrong norm, scale, window or pooling moves a
 * vector by its own size.
 */
static void compare(const struct bn_tiny *tiny, uint32_t n, const char *what)
{
	enum { PROMPTS = 24, MOST = 160 };
	const char *path = rig_tiny(tiny);
	double worst = 0.0, exact_worst = 0.0;
	unsigned exact = 0;
	struct rig rig;

	rig_open(&rig, path, bn_cpu_features(), 2);
	assert_true(n <= MOST && tiny->dim <= DIM_MAX);
	for (uint64_t seed = 0; seed < PROMPTS; seed++) {
		bn_token text[MOST];
		float got[DIM_MAX];
		double *want, d = 0.0;
		uint32_t dim;

		rig_prompt(&rig, seed, text, n);
		embed(&rig, text, n, 5, got);
		want = reference_vector(path, text, n, &dim);
		assert_int_equal(dim, tiny->dim);
		assert_true(fabs(length(got, dim) - 1.0) < 1e-6);
		for (uint32_t i = 0; i < dim; i++) {
			d = fmax(d, fabs((double)got[i] - want[i]) * sqrt(dim));
		}
		if (d < 3e-5) {
			exact++;
			exact_worst = fmax(exact_worst, d);
		}
		worst = fmax(worst, d);
		free(want);
	}
	print_message("%-34s %2u of %u vectors agree to %.1e, all to %.1e\n", what, exact, PROMPTS,
		      exact_worst, worst);
	assert_true(exact >= PROMPTS / 4);
	assert_true(worst < 0.15);
	rig_close(&rig);
}

static void vectors_agree_with_double_precision(void **state)
{
	static const char *const archs[] = { "qwen3", "gemma3" };
	static const char *const poolings[] = { "", "mean", "first", "last" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (uint32_t pooling = 1; pooling <= 3; pooling++) {
			struct bn_tiny t;
			char what[64];

			bn_tiny_vectors(&t, archs[i]);
			t.vectors.pooling = pooling;
			snprintf(what, sizeof(what), "%s, %s token", archs[i], poolings[pooling]);
			compare(&t, 6, what);
		}
	}
}

/* As in the 270M, where 4 heads of 256 stand on a width of 640, and not 160 each. */
static void heads_may_be_wider_or_narrower_than_their_share(void **state)
{
	static const uint32_t head_dims[] = { 16, 48, 96 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct bn_tiny t;
		char what[64];

		bn_tiny_vectors(&t, i % 2 == 0 ? "gemma3" : "qwen3");
		t.vectors.head_dim = head_dims[i];
		snprintf(what, sizeof(what), "%s, heads of %u", t.arch, head_dims[i]);
		compare(&t, 6, what);
	}
}

/* Two layers with a window of 7, a text that is longer and one that is not; and a window that
 * begins inside a later block of positions. */
static void windows_hide_what_lies_before_them(void **state)
{
	struct bn_tiny t;

	(void)state;
	bn_tiny_vectors(&t, "gemma3");
	t.vectors.window = 7;
	compare(&t, 6, "gemma3, window 7, 6 tokens");
	compare(&t, 12, "gemma3, window 7, 12 tokens");
	t.layers = 1;
	t.vectors.pooling = 3;
	t.vectors.window = 140;
	compare(&t, 160, "gemma3, window 140, 160 tokens");
}

/* With one layer a position sees its window and nothing more, whatever came before. */
static void what_a_window_hides_changes_no_bit(void **state)
{
	enum { N = 150, WINDOW = 20 };
	struct bn_tiny t;
	struct rig rig;
	bn_token text[N], other[N];
	float a[DIM_MAX], b[DIM_MAX];

	(void)state;
	bn_tiny_vectors(&t, "gemma3");
	t.layers = 1;
	t.vectors.window = WINDOW;
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 2);
	rig_prompt(&rig, 1, text, N);
	rig_prompt(&rig, 2, other, N);
	memcpy(other + N - WINDOW, text + N - WINDOW, WINDOW * sizeof(bn_token));
	embed(&rig, text, N, 64, a);
	embed(&rig, other, N, 64, b);
	assert_memory_equal(a, b, t.dim * sizeof(float));
	other[N - WINDOW]++;
	embed(&rig, other, N, 64, b);
	assert_memory_not_equal(a, b, t.dim * sizeof(float));
	rig_close(&rig);
}

static void chunks_lanes_and_neighbours_change_no_bit(void **state)
{
	static const uint32_t lengths[TEXTS] = { 1, 2, 9, 40, 131, 200 };
	static const uint32_t chunks[] = { 1, 3, 64, 200 };
	static bn_token texts[TEXTS][256];
	static float alone[TEXTS][DIM_MAX];

	(void)state;
	for (uint32_t which = 0; which < 4; which++) {
		struct bn_tiny t;
		struct rig rig;

		bn_tiny_vectors(&t, which % 2 == 0 ? "qwen3" : "gemma3");
		t.vectors.pooling = which < 2 ? 3 : 1;
		t.vectors.window = which == 3 ? 50 : 0;
		rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
		for (uint32_t i = 0; i < TEXTS; i++) {
			rig_prompt(&rig, i, texts[i], lengths[i]);
			embed(&rig, texts[i], lengths[i], RIG_ROWS, alone[i]);
		}
		for (uint32_t lanes = 1; lanes <= 4; lanes++) {
			rig_lanes(&rig, lanes);
			for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
				struct bn_sequence *seqs[TEXTS];

				for (uint32_t i = 0; i < TEXTS; i++) {
					seqs[i] = embed_start(&rig, texts[i], lengths[i]);
				}
				rig_run(&rig, seqs, TEXTS, chunks[c], NULL, 0);
				for (uint32_t i = 0; i < TEXTS; i++) {
					assert_int_equal(seqs[i]->finish, BN_FINISH_VECTOR);
					assert_memory_equal(seqs[i]->vector, alone[i],
							    t.dim * sizeof(float));
					bn_sequence_free(seqs[i]);
				}
			}
		}
		rig_close(&rig);
	}
}

static void every_processor_level_gives_the_same_bits(void **state)
{
	enum { N = 150 };
	static const char *const masks[] = { "vnni", "avx512", "avx2", "dotprod", "i8mm", "neon" };
	static const char *const archs[] = { "qwen3", "gemma3" };

	(void)state;
	for (size_t a = 0; a < 2; a++) {
		struct bn_tiny t;
		float want[DIM_MAX], got[DIM_MAX];
		const char *path;

		bn_tiny_vectors(&t, archs[a]);
		t.dim = 192;
		t.heads = 2;
		t.kv_heads = 1;
		t.ffn = 320;
		path = rig_tiny(&t);
		for (size_t i = 0; i <= 6; i++) {
			bn_token text[N];
			struct rig rig;

			rig_open(&rig, path, bn_cpu_mask(bn_cpu_features(), masks, i), 2);
			rig_prompt(&rig, 11, text, N);
			embed(&rig, text, N, 33, i == 0 ? want : got);
			if (i > 0) {
				assert_memory_equal(got, want, t.dim * sizeof(float));
			}
			rig_close(&rig);
		}
	}
}

static void text_and_vectors_are_refused_where_the_other_is_made(void **state)
{
	const bn_token prompt[] = { 3, 4, 5 };
	struct bn_sequence_config config = rig_config(prompt, 3, 4);
	struct bn_sequence *seq = NULL;
	struct bn_error err;
	struct bn_tiny t;
	struct rig rig;

	(void)state;
	bn_tiny_vectors(&t, "qwen3");
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	assert_int_equal(bn_sequence_new(&seq, rig.model, &config, &err), BN_E_NOT_SUPPORTED);
	assert_string_equal(err.text, "the model makes embeddings and generates no text");
	rig_close(&rig);

	bn_tiny_default(&t);
	config.embed = true;
	config.max_tokens = 0;
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	assert_int_equal(bn_sequence_new(&seq, rig.model, &config, &err), BN_E_NOT_SUPPORTED);
	assert_string_equal(err.text, "the model generates text and makes no embeddings");
	rig_close(&rig);
}

static void a_text_longer_than_the_context_is_refused(void **state)
{
	static bn_token text[300];
	const struct bn_sequence_config config = { .prompt = text, .n_prompt = 257, .embed = true };
	struct bn_sequence *seq = NULL;
	struct bn_error err;
	struct bn_tiny t;
	struct rig rig;
	float vector[DIM_MAX];

	(void)state;
	bn_tiny_vectors(&t, "qwen3");
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	rig_prompt(&rig, 1, text, 257);
	assert_int_equal(bn_sequence_new(&seq, rig.model, &config, &err), BN_E_CONTEXT);
	assert_string_equal(err.text, "the text has 257 tokens, the context 256");
	embed(&rig, text, 256, 100, vector); /* that many fit, none is kept for an answer */
	rig_close(&rig);
}

/* Any number of rows of a step may be pooled; only logits are counted. */
static void more_texts_end_in_a_step_than_there_are_outputs(void **state)
{
	struct bn_sequence *seqs[TEXTS];
	struct bn_batch batch;
	struct bn_tiny t;
	struct rig rig;

	(void)state;
	bn_tiny_vectors(&t, "gemma3");
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	assert_int_equal(bn_batch_init(&batch, 64, 1, NULL), BN_OK);
	bn_enter_lead();
	bn_batch_reset(&batch, rig.model);
	for (uint32_t i = 0; i < TEXTS; i++) {
		const bn_token text[] = { i + 5, i + 6 };

		seqs[i] = embed_start(&rig, text, 2);
		assert_int_equal(bn_batch_add(&batch, seqs[i], 64), 2);
	}
	assert_int_equal(batch.n_outputs, 0);
	bn_forward_step(rig.fw, &batch, rig.team);
	for (uint32_t i = 0; i < TEXTS; i++) {
		assert_int_equal(seqs[i]->finish, BN_FINISH_VECTOR);
		bn_sequence_free(seqs[i]);
	}
	bn_batch_finish(&batch);
	rig_close(&rig);
}

/* The cancelled one leaves nothing behind, in any state. */
static void an_embedding_can_be_ended_between_steps(void **state)
{
	bn_token text[40];
	struct bn_sequence *seq;
	struct bn_tiny t;
	struct rig rig;
	char some[8];

	(void)state;
	bn_tiny_vectors(&t, "qwen3");
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	rig_prompt(&rig, 1, text, 40);
	seq = embed_start(&rig, text, 40);
	rig_step(&rig, &seq, 1, 7);
	assert_int_equal(bn_sequence_pending(seq), 33);
	bn_sequence_finish(seq, BN_FINISH_CANCELLED, BN_E_CANCELLED);
	assert_int_equal(seq->finish, BN_FINISH_CANCELLED);
	assert_int_equal(bn_sequence_pending(seq), 0);
	assert_int_equal(bn_sequence_take(seq, some, sizeof(some)), 0);
	bn_sequence_free(seq);
	rig_close(&rig);
}

static int cleanup(void **state)
{
	(void)state;
	rig_cleanup();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_agree_with_double_precision),
		cmocka_unit_test(heads_may_be_wider_or_narrower_than_their_share),
		cmocka_unit_test(windows_hide_what_lies_before_them),
		cmocka_unit_test(what_a_window_hides_changes_no_bit),
		cmocka_unit_test(chunks_lanes_and_neighbours_change_no_bit),
		cmocka_unit_test(every_processor_level_gives_the_same_bits),
		cmocka_unit_test(text_and_vectors_are_refused_where_the_other_is_made),
		cmocka_unit_test(a_text_longer_than_the_context_is_refused),
		cmocka_unit_test(more_texts_end_in_a_step_than_there_are_outputs),
		cmocka_unit_test(an_embedding_can_be_ended_between_steps),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
