/* The forward pass against the blackboard (reference.c), against itself in other batches, chunks
 * and lanes, and what a step may not do. */
#include "engine/forward.h"

#include "engine/guide.h"
#include "engine/workspace.h"
#include "kernels/cpu.h"
#include "tests/engine/reference.h"
#include "tests/engine/rig.h"

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- allocation counting: the linker sends malloc and friends here (--wrap) ----------------- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *p, size_t n);

static _Atomic unsigned long allocations;
/* Bytes ever asked of the heap, and bytes mapped now, which arenas do. */
static _Atomic uint64_t asked_bytes, mapped_bytes;

void *__wrap_malloc(size_t n)
{
	allocations++;
	asked_bytes += n;
	return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	asked_bytes += n * size;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	allocations++;
	asked_bytes += n;
	return __real_realloc(p, n);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	allocations++;
	mapped_bytes += n;
	return __real_mmap(at, n, prot, flags, fd, offset);
}

int __wrap_munmap(void *p, size_t n)
{
	mapped_bytes -= n;
	return __real_munmap(p, n);
}

/* ---- helpers ------------------------------------------------------------------------------- */

/* Largest difference relative to the spread of the reference's logits. */
static double distance(const float *got, const double *want, size_t n)
{
	double worst = 0.0, max = -INFINITY, min = INFINITY;

	for (size_t i = 0; i < n; i++) {
		max = fmax(max, want[i]);
		min = fmin(min, want[i]);
		worst = fmax(worst, fabs((double)got[i] - want[i]));
	}
	return worst / (max - min);
}

/*
 * Several prompts of N tokens. The model contains steps: int8 activations and a half-precision
 * cache. A value within float error of a tie is rounded one way in float and the other in double,
 * both rightly; it then shows in its row and, through attention, in later ones, about one part in
 * 127 of one input strong. So rows fall into two kinds: those that agree to float precision, which
 * any fault of the graph would leave none of, and those behind a tie, which must still be near.
 */
static void compare_with_reference(const struct bn_tiny *tiny, const char *what)
{
	enum { PROMPTS = 10, N = 12 };
	const char *path = rig_tiny(tiny);
	double exact_worst = 0.0, worst = 0.0;
	unsigned exact = 0;
	struct rig rig;

	rig_open(&rig, path, bn_cpu_features(), 2);
	for (uint64_t seed = 0; seed < PROMPTS; seed++) {
		bn_token prompt[N];
		uint32_t vocab;

		rig_prompt(&rig, seed, prompt, N);

		float *got = rig_logits(&rig, prompt, N, N);
		double *want = reference_logits(path, prompt, N, &vocab);

		assert_int_equal(vocab, rig.model->vocab);
		for (uint32_t t = 0; t < N; t++) {
			const double d = distance(got + t * vocab, want + t * vocab, vocab);

			if (d < 1e-5) {
				exact++;
				exact_worst = fmax(exact_worst, d);
			}
			worst = fmax(worst, d);
		}
		free(got);
		free(want);
	}
	print_message("%-26s %3u of %u rows agree to %.1e, all to %.1e\n", what, exact, PROMPTS * N,
		      exact_worst, worst);
	assert_true(exact >= PROMPTS * N / 2);
	assert_true(worst < 0.05);
	rig_close(&rig);
}

static void logits_agree_with_double_precision_for_every_architecture(void **state)
{
	static const char *const archs[] = { "bitnet-b1.58", "bitnet-25", "bitnet", "llama" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct bn_tiny t;

		bn_tiny_default(&t);
		t.arch = archs[i];
		t.sub_norms = i != 3;
		t.tied = i % 2 == 0;
		compare_with_reference(&t, archs[i]);
	}
}

static void logits_agree_for_every_embedding_type(void **state)
{
	static const enum bn_ggml_type types[] = { BN_GGML_F32, BN_GGML_F16, BN_GGML_Q8_0,
						   BN_GGML_Q6_K };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct bn_tiny t;

		bn_tiny_default(&t);
		t.dim = 256;
		t.embedding = types[i];
		t.tied = i % 2 == 1;
		compare_with_reference(&t, bn_ggml_name(types[i]));
	}
}

static void logits_agree_for_odd_shapes(void **state)
{
	/* dim, ffn, heads, kv heads: head_dim 96 and 100 as the 1bitLLM models have, one KV head
	 * for sixteen, no sharing at all, widths that are no multiple of 64 or 128. */
	static const uint32_t shapes[][4] = {
		{ 384, 448, 4, 4 },
		{ 400, 320, 4, 2 },
		{ 512, 192, 16, 1 },
		{ 320, 576, 2, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct bn_tiny t;
		char what[64];

		bn_tiny_default(&t);
		t.dim = shapes[i][0];
		t.ffn = shapes[i][1];
		t.heads = shapes[i][2];
		t.kv_heads = shapes[i][3];
		snprintf(what, sizeof(what), "%u x %u, %u/%u heads", t.dim, t.ffn, t.heads,
			 t.kv_heads);
		compare_with_reference(&t, what);
	}
}

/* Attention over more than two blocks of positions. Ties are certain on this way, so the measure is
 * the whole: a wrong position, head or mask moves logits by their own size. */
static void long_prompts_agree_with_double_precision(void **state)
{
	enum { N = 300 };
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[N];
	double mean = 0.0, worst = 0.0;
	uint32_t vocab;

	(void)state;
	bn_tiny_default(&t);
	t.context = 512;

	const char *path = rig_tiny(&t);

	rig_open(&rig, path, bn_cpu_features(), 2);
	rig_prompt(&rig, 1, prompt, N);

	float *got = rig_logits(&rig, prompt, N, 77);
	double *want = reference_logits(path, prompt, N, &vocab);

	for (uint32_t i = 0; i < N; i++) {
		const double d = distance(got + i * vocab, want + i * vocab, vocab);

		mean += d / N;
		worst = fmax(worst, d);
	}
	print_message("%d positions: mean %.1e, worst %.1e\n", N, mean, worst);
	assert_true(mean < 0.005);
	assert_true(worst < 0.05);
	free(got);
	free(want);
	rig_close(&rig);
}

static void chunks_and_lanes_change_no_bit(void **state)
{
	enum { N = 200 };
	static const uint32_t chunks[] = { 1, 2, 3, 7, 64, 128 };
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[N];

	(void)state;
	bn_tiny_default(&t);
	t.heads = 8;
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	rig_prompt(&rig, 3, prompt, N);

	const size_t bytes = (size_t)N * rig.model->vocab * sizeof(float);
	float *want = rig_logits(&rig, prompt, N, N);

	for (uint32_t lanes = 1; lanes <= 5; lanes++) {
		rig_lanes(&rig, lanes);
		for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
			float *got = rig_logits(&rig, prompt, N, chunks[i]);

			assert_memory_equal(got, want, bytes);
			free(got);
		}
	}
	free(want);
	rig_close(&rig);
}

static void every_processor_level_gives_the_same_bits(void **state)
{
	enum { N = 150 };
	static const char *const masks[] = { "vnni", "avx512", "avx2", "dotprod", "i8mm", "neon" };
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[N];
	float *want = NULL;

	(void)state;
	bn_tiny_default(&t);
	t.dim = 192;
	t.heads = 2;
	t.kv_heads = 1;
	t.ffn = 320;

	const char *path = rig_tiny(&t);

	/* Whole model on the best of this machine, then with one level less each time. */
	for (size_t i = 0; i <= 6; i++) {
		rig_open(&rig, path, bn_cpu_mask(bn_cpu_features(), masks, i), 2);
		rig_prompt(&rig, 11, prompt, N);

		float *got = rig_logits(&rig, prompt, N, 33);

		print_message("%s and %s\n", rig.model->info.kernel, rig.model->info.vec);
		if (want == NULL) {
			want = got;
		} else {
			assert_memory_equal(got, want,
					    (size_t)N * rig.model->vocab * sizeof(float));
			free(got);
		}
		rig_close(&rig);
	}
	free(want);
}

/* Ours, or for a family of the other side one that looks like it: its oracle runs anywhere. */
static uint64_t processor_for(const char *kernel)
{
	const enum bn_guide_processor here = bn_guide_processor(0);
	enum bn_guide_kernel family;

	assert_true(bn_guide_kernel_of(kernel, &family));
	if (bn_guide_allows(NULL, here, family)) {
		return bn_cpu_features();
	}
	return here == BN_GUIDE_ARM ? BN_CPU_SSSE3 : BN_CPU_NEON;
}

static void every_kernel_family_gives_the_same_bits(void **state)
{
	enum { N = 150 };
	static const char *const names[] = { "i2s",        "tl1",        "tl2",
					     "i2s.scalar", "tl1.scalar", "tl2.scalar" };
	static const uint32_t chunks[] = { N, 70, 9 }; /* more and fewer rows than are prepared */
	struct bn_tiny t;
	bn_token prompt[N];
	float *want = NULL;

	(void)state;
	bn_tiny_default(&t);
	t.dim = 192;
	t.heads = 2;
	t.kv_heads = 1;
	t.ffn = 704; /* seven lanes of 32 rows are uneven */

	const char *path = rig_tiny(&t);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *const list[] = { names[i], NULL };
		struct rig rig;

		rig_open_with(&rig, path, processor_for(names[i]), list, 3);
		rig_prompt(&rig, 11, prompt, N);
		assert_true(bn_kernel_named(rig.model->info.kernels[BN_PROJ_Q], names[i]));
		for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
			float *got = rig_logits(&rig, prompt, N, chunks[c]);

			if (want == NULL) {
				want = got;
				continue;
			}
			assert_memory_equal(got, want,
					    (size_t)N * rig.model->vocab * sizeof(float));
			free(got);
		}
		rig_close(&rig);
	}
	free(want);
}

/* Eight generations with different prompts, parameters and lengths; tokens and text. */
struct outcome {
	bn_token tokens[256];
	uint32_t n;
	char text[4096];
};

static void generate(struct rig *rig, struct outcome *out, const uint32_t *which, uint32_t n,
		     uint32_t chunk)
{
	struct bn_sequence *seqs[8];
	char *texts[8];

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t id = which[i], n_prompt = 5 + id * 17;
		bn_token prompt[256];
		struct bn_sequence_config c;

		rig_prompt(rig, id, prompt, n_prompt);
		c = rig_config(prompt, n_prompt, 40 + id);
		c.ignore_eos = true;
		c.sampler.temperature = id % 3 == 0 ? 0.0f : 0.9f;
		c.sampler.top_p = id % 2 == 0 ? 1.0f : 0.95f;
		c.sampler.top_k = id == 5 ? 40 : 0;
		c.sampler.repeat_penalty = id == 6 ? 1.3f : 1.0f;
		c.sampler.seed = id;
		seqs[i] = rig_sequence(rig, &c);
		texts[i] = out[id].text;
	}
	rig_run(rig, seqs, n, chunk, texts, sizeof(out->text));
	for (uint32_t i = 0; i < n; i++) {
		struct outcome *o = &out[which[i]];

		o->n = seqs[i]->n_tokens;
		memcpy(o->tokens, seqs[i]->tokens, o->n * sizeof(bn_token));
		bn_sequence_free(seqs[i]);
	}
}

static void eight_together_equal_eight_alone(void **state)
{
	static const uint32_t all[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	static struct outcome alone[8], together[8];
	struct bn_tiny t;
	struct rig rig;

	(void)state;
	bn_tiny_default(&t);
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	for (uint32_t i = 0; i < 8; i++) {
		generate(&rig, alone, &all[i], 1, RIG_ROWS);
	}
	for (uint32_t lanes = 1; lanes <= 3; lanes++) {
		static const uint32_t chunks[] = { 1, 5, 64 };

		rig_lanes(&rig, lanes);
		for (size_t c = 0; c < 3; c++) {
			memset(together, 0, sizeof(together));
			generate(&rig, together, all, 8, chunks[c]);
			for (uint32_t i = 0; i < 8; i++) {
				assert_int_equal(together[i].n, alone[i].n);
				assert_memory_equal(together[i].tokens, alone[i].tokens,
						    alone[i].n * sizeof(bn_token));
				assert_string_equal(together[i].text, alone[i].text);
			}
		}
	}
	rig_close(&rig);
}

static void count_allocations(const char *const *kernels)
{
	struct bn_tiny t;
	struct rig rig;
	struct bn_sequence *seqs[4];
	bn_token prompt[40];

	bn_tiny_default(&t);
	rig_open_with(&rig, rig_tiny(&t),
		      kernels != NULL ? processor_for(kernels[0]) : bn_cpu_features(), kernels, 2);
	for (uint32_t i = 0; i < 4; i++) {
		struct bn_sequence_config c;
		const struct bn_str stop = { "zq~", 3 };

		rig_prompt(&rig, i, prompt, 40);
		c = rig_config(prompt, 10 * (i + 1), 60);
		c.ignore_eos = true;
		c.stops = &stop;
		c.n_stops = 1;
		c.sampler.temperature = 0.7f;
		c.sampler.top_k = i == 1 ? 20 : 0;
		c.sampler.top_p = 0.9f;
		c.sampler.typical_p = i == 2 ? 0.5f : 1.0f;
		c.sampler.frequency_penalty = 0.5f;
		c.sampler.n_top = 5;
		seqs[i] = rig_sequence(&rig, &c);
	}
	rig_step(&rig, seqs, 4, 8);

	const unsigned long before = allocations;
	const struct mallinfo2 heap = mallinfo2();

	rig_run(&rig, seqs, 4, 8, NULL, 0);
	assert_int_equal(allocations, before);
	assert_int_equal(mallinfo2().uordblks, heap.uordblks);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(seqs[i]->n_generated, 60);
		bn_sequence_free(seqs[i]);
	}
	assert_true(allocations > 0); /* the counter counts */
	rig_close(&rig);
}

/* Makes one embedding row of an untied F32 model not a number: the file is sound, a token is not.
 */
static void poison(struct rig *rig, bn_token token)
{
	const struct bn_table *embed = &rig->model->weights.embed;
	union {
		const void *in;
		uint8_t *out;
	} rows = { .in = embed->rows };
	const float nan = NAN;

	memcpy(rows.out + token * embed->row_bytes, &nan, sizeof(nan));
}

static void a_step_allocates_nothing(void **state)
{
	static const char *const tables[][2] = { { "tl1", NULL }, { "tl2", NULL } };

	(void)state;
	count_allocations(NULL);
	count_allocations(tables[0]);
	count_allocations(tables[1]);
}

static void a_number_that_is_none_ends_only_its_own_sequence(void **state)
{
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[3][12];
	struct bn_sequence *seqs[3];
	static char alone[2][4096], together[3][4096];
	char *texts[3] = { together[0], together[1], together[2] };

	(void)state;
	bn_tiny_default(&t);
	t.tied = false;
	t.embedding = BN_GGML_F32;
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 2);
	for (uint32_t i = 0; i < 3; i++) {
		rig_prompt(&rig, i, prompt[i], 12);
	}
	prompt[1][6] = 299;
	for (uint32_t i = 0; i < 2; i++) {
		struct bn_sequence_config c = rig_config(prompt[i * 2], 12, 20);
		char *text = alone[i];

		c.sampler.n_bias = 1; /* the others never speak the poisoned word */
		c.sampler.bias = &(struct bn_logit_bias){ 299, -INFINITY };
		seqs[0] = rig_sequence(&rig, &c);
		rig_run(&rig, seqs, 1, 64, &text, sizeof(alone[0]));
		bn_sequence_free(seqs[0]);
	}
	poison(&rig, 299);
	for (uint32_t i = 0; i < 3; i++) {
		struct bn_sequence_config c = rig_config(prompt[i], 12, 20);

		c.sampler.n_bias = 1;
		c.sampler.bias = &(struct bn_logit_bias){ 299, -INFINITY };
		seqs[i] = rig_sequence(&rig, &c);
	}
	rig_run(&rig, seqs, 3, 5, texts, sizeof(together[0]));
	assert_int_equal(seqs[1]->finish, BN_FINISH_ERROR);
	assert_int_equal(seqs[1]->status, BN_E_NUMERIC);
	assert_non_null(strstr(seqs[1]->error.text, "not finite"));
	assert_int_equal(seqs[0]->finish, BN_FINISH_LENGTH);
	assert_int_equal(seqs[2]->finish, BN_FINISH_LENGTH);
	assert_string_equal(together[0], alone[0]);
	assert_string_equal(together[2], alone[1]);
	for (uint32_t i = 0; i < 3; i++) {
		bn_sequence_free(seqs[i]);
	}
	rig_close(&rig);
}

/* ---- a kernel that wants its input prepared -------------------------------------------------- */

static const struct bn_kernel *plain; /* does the work */
static _Atomic unsigned prepared_pieces;

static size_t copy_bytes(uint32_t cols, uint32_t n)
{
	return (size_t)((cols + 63) / 64 * 64) * n;
}

static void copy_prep(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to)
{
	const uint32_t of_row = acts->stride / 64;

	prepared_pieces += to - from;
	for (uint32_t i = from; i < to; i++) {
		const size_t at = (size_t)(i / of_row) * acts->stride + (size_t)(i % of_row) * 64;

		memcpy((uint8_t *)dst + at, acts->q + at, 64);
	}
}

static void mul_of_copy(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	struct bn_acts acts = *m->acts;
	struct bn_mul other = *m;

	acts.q = m->prep; /* NULL if it was forgotten */
	other.acts = &acts;
	other.prep = NULL;
	plain->mul(&other, row0, row1);
}

static void kernels_that_prepare_their_input_get_it_prepared_once(void **state)
{
	enum { N = 2 * BN_WORKSPACE_PREP + 7 };
	struct bn_kernel copying;
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[N];

	(void)state;
	bn_tiny_default(&t);
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 3);
	rig_prompt(&rig, 5, prompt, N);

	const size_t bytes = (size_t)N * rig.model->vocab * sizeof(float);
	float *want = rig_logits(&rig, prompt, N, N);

	plain = rig.model->info.kernels[0];
	copying = *plain;
	copying.prep_cols = 64;
	copying.prep_bytes = copy_bytes;
	copying.prep = copy_prep;
	copying.mul = mul_of_copy;
	for (uint32_t l = 0; l < t.layers; l++) {
		for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
			/* v keeps the plain one: a mixture within one input */
			if (p != BN_PROJ_V) {
				rig.model->weights.layers[l].proj[p].kernel = &copying;
				rig.model->info.kernels[p] = &copying;
			}
		}
	}
	rig_lanes(&rig, 3);

	float *got = rig_logits(&rig, prompt, N, N);

	assert_memory_equal(got, want, bytes);
	/* q+k, o, gate+up, down */
	assert_int_equal(prepared_pieces, N * t.layers * (3 * t.dim + t.ffn) / 64);
	free(got);
	free(want);
	rig_close(&rig);
}

/* Falcon3-7B has an embedding of 131080 rows for 131072 tokens. */
static void rows_that_pad_the_embedding_are_never_drawn(void **state)
{
	enum { N = 8, TOKENS = 401 };
	struct bn_tiny t;
	struct rig rig;
	bn_token prompt[N];
	struct bn_sequence *seq;
	struct bn_sequence_config c;

	(void)state;
	bn_tiny_default(&t);
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 2);
	for (uint32_t i = 0; i < N; i++) {
		prompt[i] = 50 + i;
	}

	float *all = rig_logits(&rig, prompt, N, N);

	rig.model->vocab = TOKENS;
	rig.model->info.vocab = TOKENS;
	rig_lanes(&rig, 2);

	float *some = rig_logits(&rig, prompt, N, N);

	for (uint32_t i = 0; i < N; i++) {
		assert_memory_equal(some + (size_t)i * TOKENS, all + (size_t)i * t.vocab,
				    TOKENS * sizeof(float));
	}
	c = rig_config(prompt, N, 100);
	c.sampler.temperature = 5.0f; /* nearly uniform: it would hit the padding */
	c.ignore_eos = true;
	seq = rig_sequence(&rig, &c);
	rig_run(&rig, &seq, 1, 8, NULL, 0);
	for (uint32_t i = 0; i < seq->n_tokens; i++) {
		assert_true(seq->tokens[i] < TOKENS);
	}
	bn_sequence_free(seq);
	free(some);
	free(all);
	rig_close(&rig);
}

/* What is reserved for a workspace is what it takes, of the heap and of the system. */
static void announced_is_taken(struct rig *rig, const struct bn_forward_config *c)
{
	const uint64_t bytes = bn_forward_bytes(&rig->model->info, c);
	const uint64_t asked = asked_bytes, mapped = mapped_bytes;
	struct bn_forward *fw = NULL;

	assert_int_equal(bn_forward_new(&fw, rig->model, c, NULL), BN_OK);
	assert_true(mapped_bytes > mapped);
	assert_int_equal(asked_bytes - asked + mapped_bytes - mapped, bytes);
	bn_forward_free(fw);
	assert_int_equal(mapped_bytes, mapped);
}

static void the_workspace_is_as_large_as_announced(void **state)
{
	static const char *const kernels[] = { "i2s", "tl1", "tl2" };
	const struct bn_forward_config c = { .max_rows = 100, .max_outputs = 7, .lanes = 3 };
	const struct bn_forward_config one = { .max_rows = 1, .max_outputs = 1, .lanes = 1 };
	const struct bn_forward_config twice = { .max_rows = 200, .max_outputs = 14, .lanes = 6 };

	(void)state;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		const char *const list[] = { kernels[i], NULL };
		struct bn_tiny t;
		struct rig rig;

		bn_tiny_default(&t);
		rig_open_with(&rig, rig_tiny(&t), processor_for(kernels[i]), list, 1);
		announced_is_taken(&rig, &one);
		announced_is_taken(&rig, &c);
		announced_is_taken(&rig, &twice);
		assert_true(bn_forward_bytes(&rig.model->info, &c) >
			    100 * (128 * 3 + 2 * 256) * sizeof(float));
		rig_close(&rig);
	}
	bn_forward_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_agree_with_double_precision_for_every_architecture),
		cmocka_unit_test(logits_agree_for_every_embedding_type),
		cmocka_unit_test(logits_agree_for_odd_shapes),
		cmocka_unit_test(long_prompts_agree_with_double_precision),
		cmocka_unit_test(chunks_and_lanes_change_no_bit),
		cmocka_unit_test(every_processor_level_gives_the_same_bits),
		cmocka_unit_test(every_kernel_family_gives_the_same_bits),
		cmocka_unit_test(eight_together_equal_eight_alone),
		cmocka_unit_test(a_step_allocates_nothing),
		cmocka_unit_test(a_number_that_is_none_ends_only_its_own_sequence),
		cmocka_unit_test(kernels_that_prepare_their_input_get_it_prepared_once),
		cmocka_unit_test(rows_that_pad_the_embedding_are_never_drawn),
		cmocka_unit_test(the_workspace_is_as_large_as_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
