/* The table of published models, how files are recognised, and the kernel matrix. */
#include "engine/guide.h"

#include "engine/chat.h"
#include "engine/family.h"
#include "engine/pooling.h"
#include "kernels/cpu.h"
#include "kernels/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define STR(text) ((struct bn_str){ (text), strlen(text) })

static const uint64_t x86 = BN_CPU_SSSE3 | BN_CPU_AVX2;
static const uint64_t arm = BN_CPU_NEON | BN_CPU_DOTPROD;

static bool is_template(const char *name)
{
	for (size_t i = 0; bn_chat_name_at(i) != NULL; i++) {
		if (strcmp(bn_chat_name_at(i), name) == 0) {
			return true;
		}
	}
	return false;
}

static void rows_are_complete_and_of_sound_shape(void **state)
{
	size_t n = 0, n_vectors = 0;

	(void)state;
	for (const struct bn_guide_model *m; (m = bn_guide_at(n)) != NULL; n++) {
		const struct bn_shape *s = &m->shape;

		assert_non_null(strchr(m->repo, '/'));
		assert_string_equal(strchr(m->repo, '/') + 1, m->name);
		assert_true(m->nickname[0] != '\0');
		assert_true(strspn(m->nickname, "abcdefghijklmnopqrstuvwxyz0123456789._-") ==
			    strlen(m->nickname));
		assert_ptr_equal(bn_guide_find(m->name), m);
		assert_ptr_equal(bn_guide_find(m->repo), m);
		assert_ptr_equal(bn_guide_find(m->nickname), m);
		assert_non_null(m->architectures[0]);
		for (size_t i = 0; m->architectures[i] != NULL; i++) {
			const struct bn_architecture *a = bn_family_architecture(
				m->architectures[i], strlen(m->architectures[i]));

			assert_non_null(a);
			assert_int_equal(a->sub_norms == BN_ALWAYS, s->sub_norms);
			assert_int_equal(a->input_norms == BN_ALWAYS, s->input_norms);
			assert_int_equal(a->head_norms == BN_ALWAYS, s->head_norms);
			assert_int_equal(a->post_norms == BN_ALWAYS, s->post_norms);
			assert_int_equal(a->embeds, m->pooling != NULL);
		}
		if (m->pooling == NULL) {
			assert_int_equal(s->heads * s->head_dim, s->dim);
			assert_non_null(m->stops[0]);
		} else {
			/* Heads of a width of their own; nothing that an answer needs. */
			assert_true(s->heads * s->head_dim > s->dim);
			assert_null(m->stops[0]);
			assert_string_equal(m->template, "none");
			assert_string_equal(m->pooling, bn_pooling_name(BN_POOL_LAST));
			n_vectors++;
		}
		assert_int_equal(s->heads % s->kv_heads, 0);
		assert_true(s->heads / s->kv_heads <= BN_GROUP_MAX);
		assert_true(s->head_dim <= BN_HEAD_DIM_MAX);
		assert_true(m->context >= 2048);
		assert_non_null(m->tokenizer);
		assert_true(is_template(m->template));
		assert_null(m->stops[BN_GUIDE_STOPS_MAX - 1]);
	}
	assert_int_equal(n, 15);
	assert_int_equal(n_vectors, 2);
	assert_null(bn_guide_find("gpt-5"));
	assert_ptr_equal(bn_guide_find("BITNET-2b"), bn_guide_at(0));
}

static const char *recognised(const struct bn_shape *s, const char *architecture, const char *name,
			      bool sure)
{
	bool certain = !sure;
	const struct bn_guide_model *m = bn_guide_recognise(s, architecture, STR(name), &certain);

	assert_int_equal(certain, sure);
	return m != NULL ? m->name : "";
}

static void files_are_recognised_by_dimensions_and_name(void **state)
{
	struct bn_shape s = bn_guide_find("bitnet-2b")->shape;

	(void)state;
	assert_string_equal(recognised(&s, "bitnet-b1.58", "", false), "bitnet-b1.58-2B-4T");
	assert_string_equal(recognised(&s, "bitnet-25", "bitnet2b_2501", false),
			    "bitnet-b1.58-2B-4T");
	assert_string_equal(recognised(&s, "bitnet", "Bitnet B1.58 2B 4T", true),
			    "bitnet-b1.58-2B-4T");
	assert_string_equal(recognised(&s, "bitnet", "my bitnet-b1.58-2B-4T-bf16 copy", true),
			    "bitnet-b1.58-2B-4T-bf16");
	assert_string_equal(recognised(&s, "llama", "bitnet-b1.58-2B-4T", false), "");
	s.tied = s.sub_norms = false; /* not looked at */
	assert_string_equal(recognised(&s, "bitnet", "", false), "bitnet-b1.58-2B-4T");
	s.layers--;
	assert_string_equal(recognised(&s, "bitnet", "bitnet-b1.58-2B-4T", false), "");

	s = bn_guide_find("falcon-e-1b")->shape;
	assert_string_equal(recognised(&s, "llama", "", false), "Falcon-E-1B-Instruct");
	assert_string_equal(recognised(&s, "llama", "Falcon E 1B Base", true), "Falcon-E-1B-Base");
	assert_string_equal(recognised(&s, "llama", "falcon_e_1b_instruct", true),
			    "Falcon-E-1B-Instruct");
	/* cut short, or only its start */
	assert_string_equal(recognised(&s, "llama", "Falcon-E-1B-Instruc", false),
			    "Falcon-E-1B-Instruct");

	/* both heights of its embedding */
	s = bn_guide_find("falcon3-7b")->shape;
	assert_int_equal(s.vocab, 131080);
	s.vocab = 131072;
	assert_string_equal(recognised(&s, "llama", "", false), "Falcon3-7B-Instruct-1.58bit");
	assert_ptr_equal(bn_guide_recognise(&s, "llama", STR(""), NULL),
			 bn_guide_find("falcon3-7b"));
	s.vocab = 131073;
	assert_string_equal(recognised(&s, "llama", "", false), "");

	/* the two that make vectors, whose norms the reader of a file does not tell */
	s = bn_guide_find("embedding-0.6b")->shape;
	s.tied = s.input_norms = s.head_norms = false;
	assert_string_equal(recognised(&s, "qwen3", "BitNet embedding 0.6B", true),
			    "bitnet-embedding-0.6b");
	assert_string_equal(recognised(&s, "gemma3", "", false), "");
	s = bn_guide_find("embedding-270m")->shape;
	assert_string_equal(recognised(&s, "gemma3", "", false), "bitnet-embedding-270m");
	assert_string_equal(recognised(&s, "qwen3", "", false), "");
}

static void names_are_found_in_what_people_write(void **state)
{
	(void)state;
	assert_ptr_equal(
		bn_guide_named(STR("/m/microsoft/bitnet-b1.58-2B-4T/0f3a/ggml-model-i2_s.gguf")),
		bn_guide_find("bitnet-2b"));
	assert_ptr_equal(bn_guide_named(STR("bitnet-b1.58-2b-4t-bf16.gguf")),
			 bn_guide_find("bitnet-2b-bf16"));
	assert_ptr_equal(bn_guide_named(STR("BITNET B158 2B4T")), bn_guide_find("bitnet-2b"));
	assert_null(bn_guide_named(STR("storyteller")));
	assert_null(bn_guide_named(STR("")));
}

/* The head of the design paper "models"; the two that make vectors, see guide.c. */
static void the_matrix_is_the_published_one(void **state)
{
	(void)state;
	for (size_t i = 0; bn_guide_at(i) != NULL; i++) {
		const struct bn_guide_model *m = bn_guide_at(i);
		const bool is_3b = strcmp(m->name, "bitnet_b1_58-3B") == 0;
		const bool embeds = m->pooling != NULL;

		assert_int_equal(bn_guide_allows(m, BN_GUIDE_X86, BN_GUIDE_I2S), !is_3b);
		assert_int_equal(bn_guide_allows(m, BN_GUIDE_ARM, BN_GUIDE_I2S), !is_3b);
		assert_false(bn_guide_allows(m, BN_GUIDE_X86, BN_GUIDE_TL1));
		assert_int_equal(bn_guide_allows(m, BN_GUIDE_ARM, BN_GUIDE_TL1), !embeds);
		assert_int_equal(bn_guide_allows(m, BN_GUIDE_X86, BN_GUIDE_TL2), !embeds);
		assert_false(bn_guide_allows(m, BN_GUIDE_ARM, BN_GUIDE_TL2));
	}
	assert_true(bn_guide_allows(NULL, BN_GUIDE_OTHER, BN_GUIDE_I2S));
	assert_false(bn_guide_allows(NULL, BN_GUIDE_OTHER, BN_GUIDE_TL1));
	assert_false(bn_guide_allows(NULL, BN_GUIDE_OTHER, BN_GUIDE_TL2));
	assert_false(bn_guide_allows(NULL, BN_GUIDE_X86, BN_GUIDE_TL1));
	assert_false(bn_guide_allows(NULL, BN_GUIDE_ARM, BN_GUIDE_TL2));
}

static void kernel_words_of_users_and_of_kernels_are_one(void **state)
{
	static const struct {
		const char *word;
		int want; /* -1: none */
	} cases[] = {
		{ "i2_s", BN_GUIDE_I2S },
		{ "i2s", BN_GUIDE_I2S },
		{ "i2s.vnni", BN_GUIDE_I2S },
		{ "tl1", BN_GUIDE_TL1 },
		{ "tl1.neon", BN_GUIDE_TL1 },
		{ "tl2.avx2", BN_GUIDE_TL2 },
		{ "tl2", BN_GUIDE_TL2 },
		{ "i2_s.vnni", -1 },
		{ "i2", -1 },
		{ "", -1 },
		{ "tl21", -1 },
		{ "auto", -1 },
	};
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum bn_guide_kernel k = BN_GUIDE_KERNELS;

		assert_int_equal(bn_guide_kernel_of(cases[i].word, &k), cases[i].want >= 0);
		if (cases[i].want >= 0) {
			assert_int_equal(k, cases[i].want);
		}
	}
	/* No kernel of the binary stands outside the matrix. */
	for (size_t i = 0; i < n; i++) {
		enum bn_guide_kernel k;

		assert_true(bn_guide_kernel_of(all[i]->name, &k));
	}
	assert_int_equal(bn_guide_processor(x86), BN_GUIDE_X86);
	assert_int_equal(bn_guide_processor(arm), BN_GUIDE_ARM);
	assert_int_equal(bn_guide_processor(bn_cpu_features()), bn_guide_processor(0));
}

static void a_forbidden_kernel_is_refused_with_those_that_work(void **state)
{
	const struct bn_guide_model *m = bn_guide_find("bitnet-3b");
	const struct bn_guide_model *general = bn_guide_find("bitnet-2b");
	const struct bn_guide_model *vectors = bn_guide_find("embedding-0.6b");
	static const struct {
		uint64_t cpu;
		const char *good, *bad, *processor;
	} sides[] = {
		{ BN_CPU_SSSE3 | BN_CPU_AVX2, "tl2", "tl1", "x86" },
		{ BN_CPU_NEON, "tl1", "tl2", "arm" },
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const char *good = sides[i].good;
		enum bn_guide_kernel k = BN_GUIDE_KERNELS, want;
		struct bn_error err;
		char list[256];

		/* i2_s for the 3B */
		assert_int_equal(bn_guide_choose(m, &m->shape, sides[i].cpu, "i2_s", &k, &err),
				 BN_E_KERNEL);
		assert_non_null(strstr(err.text, "bitnet_b1_58-3B"));
		assert_non_null(strstr(err.text, "i2_s"));
		assert_non_null(strstr(err.text, sides[i].processor));
		assert_non_null(strstr(err.text, good));
		assert_null(strstr(err.text, "i2s."));
		assert_int_equal(k, BN_GUIDE_KERNELS);
		/* and auto: the other, or an honest refusal while this binary lacks it */
		assert_true(bn_guide_kernel_of(good, &want));
		if (bn_guide_best(m, &m->shape, sides[i].cpu, want) != NULL) {
			assert_int_equal(
				bn_guide_choose(m, &m->shape, sides[i].cpu, "auto", &k, &err),
				BN_OK);
			assert_int_equal(k, want);
		} else {
			assert_int_equal(
				bn_guide_choose(m, &m->shape, sides[i].cpu, NULL, &k, &err),
				BN_E_KERNEL);
			assert_non_null(strstr(err.text, "none of this build, it needs "));
			assert_non_null(strstr(err.text, good));
		}
		/* the other side's tables, for every model */
		assert_int_equal(bn_guide_choose(general, &general->shape, sides[i].cpu,
						 sides[i].bad, &k, &err),
				 BN_E_KERNEL);
		assert_non_null(strstr(err.text, sides[i].bad));
		assert_non_null(strstr(err.text, "i2_s (i2s."));
		assert_int_equal(bn_guide_choose(NULL, &general->shape, sides[i].cpu, sides[i].bad,
						 &k, &err),
				 BN_E_KERNEL);
		assert_int_equal(
			bn_guide_choose(general, &general->shape, sides[i].cpu, "i2_s", &k, &err),
			BN_OK);
		assert_int_equal(k, BN_GUIDE_I2S);
		bn_guide_list(general, &general->shape, sides[i].cpu, list, sizeof(list));
		assert_non_null(strstr(list, "i2s.scalar"));
		assert_null(strstr(list, sides[i].bad));
		/* tables of any side for models that make vectors, whatever this binary has */
		assert_int_equal(
			bn_guide_choose(vectors, &vectors->shape, sides[i].cpu, good, &k, &err),
			BN_E_KERNEL);
		assert_non_null(strstr(err.text, "bitnet-embedding-0.6b"));
		assert_non_null(strstr(err.text, "i2_s (i2s."));
		assert_int_equal(
			bn_guide_choose(vectors, &vectors->shape, sides[i].cpu, "auto", &k, &err),
			BN_OK);
		assert_int_equal(k, BN_GUIDE_I2S);
	}
}

static void words_that_are_no_kernel_are_named(void **state)
{
	const struct bn_guide_model *m = bn_guide_find("bitnet-2b");
	enum bn_guide_kernel k;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_guide_choose(m, &m->shape, x86, "q4", &k, &err), BN_E_KERNEL);
	assert_non_null(strstr(err.text, "no kernel 'q4'"));
	assert_non_null(strstr(err.text, "i2_s, tl1 and tl2"));
}

static void lists_are_cut_and_not_overrun(void **state)
{
	const struct bn_guide_model *m = bn_guide_find("bitnet-2b");
	char text[12];

	(void)state;
	bn_guide_list(m, &m->shape, bn_cpu_features(), text, sizeof(text));
	assert_int_equal(strlen(text), sizeof(text) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_complete_and_of_sound_shape),
		cmocka_unit_test(files_are_recognised_by_dimensions_and_name),
		cmocka_unit_test(names_are_found_in_what_people_write),
		cmocka_unit_test(the_matrix_is_the_published_one),
		cmocka_unit_test(kernel_words_of_users_and_of_kernels_are_one),
		cmocka_unit_test(a_forbidden_kernel_is_refused_with_those_that_work),
		cmocka_unit_test(words_that_are_no_kernel_are_named),
		cmocka_unit_test(lists_are_cut_and_not_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
