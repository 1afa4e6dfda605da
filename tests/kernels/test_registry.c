#include "kernels/cpu.h"
#include "kernels/tables.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_kernel_this_processor_runs_passes_the_self_test(void **state)
{
	const struct bn_kernel *const *list;
	const size_t n = bn_kernels(&list);
	size_t tested = 0;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		if ((list[i]->needs & rig_cpu()) == list[i]->needs) {
			assert_true(bn_kernel_self_test(list[i]));
			tested++;
		}
	}
	assert_true(tested >= 1);
}

/* A kernel that is wrong in one sum of one shape, and one whose packing is off by a bit. */
static void wrong_mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	bn_kernel_i2s_scalar.mul(m, row0, row1);
	if (m->acts->n == 9 && m->rows == 70) {
		m->out[8 * m->out_stride + 69] += m->scale * m->acts->scale[8];
	}
}

static void wrong_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1)
{
	bn_kernel_i2s_scalar.pack(dst, src, row0, row1);
	*(uint8_t *)dst = (uint8_t)(*(uint8_t *)dst ^ (*(uint8_t *)dst & 1 ? 1 : 2));
}

static void the_self_test_catches_wrong_kernels(void **state)
{
	struct bn_kernel k = bn_kernel_i2s_scalar;

	(void)state;
	k.mul = wrong_mul;
	assert_false(bn_kernel_self_test(&k));
	k = bn_kernel_i2s_scalar;
	k.pack = wrong_pack;
	assert_false(bn_kernel_self_test(&k));
}

static void lists_end_with_scalar_and_names_are_unique(void **state)
{
	const struct bn_kernel *const *kernels;
	const struct bn_vec *const *vecs;
	const struct bn_dense *const *denses;
	const size_t nk = bn_kernels(&kernels);
	const size_t nv = bn_vecs(&vecs);
	const size_t nd = bn_denses(&denses);

	(void)state;
	assert_ptr_equal(kernels[nk - 3], &bn_kernel_i2s_scalar);
	for (size_t i = 0; i < nk; i++) {
		assert_int_equal(kernels[i]->needs == 0, i >= nk - 3);
	}
	assert_ptr_equal(vecs[nv - 1], &bn_vec_scalar);
	assert_int_equal(nd % BN_DENSE_TYPE_COUNT, 0);
	for (size_t i = 0; i < nk; i++) {
		assert_ptr_equal(bn_kernel_find(kernels[i]->name), kernels[i]);
	}
	for (size_t i = 0; i < nd; i++) {
		assert_int_equal(denses[i]->type, i % BN_DENSE_TYPE_COUNT);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(denses[i]->name, denses[j]->name);
		}
	}
	assert_null(bn_kernel_find("i2s.mmx"));
}

static void choose_takes_the_best_the_features_allow(void **state)
{
	const uint64_t avx2 = BN_CPU_SSSE3 | BN_CPU_AVX2;
	const uint64_t avx512 = avx2 | BN_CPU_AVX512;

	(void)state;
	assert_string_equal(bn_kernel_choose(0, 100, 100, NULL)->name, "i2s.scalar");
	assert_string_equal(bn_vec_choose(0)->name, "scalar");
	assert_string_equal(bn_dense_choose(BN_DENSE_F16, 0)->name, "f16.scalar");
#if defined(__x86_64__)
	assert_string_equal(bn_kernel_choose(BN_CPU_SSSE3, 100, 100, NULL)->name, "i2s.scalar");
	assert_string_equal(bn_kernel_choose(avx2, 100, 100, NULL)->name, "i2s.avx2");
	assert_string_equal(bn_kernel_choose(avx512, 100, 100, NULL)->name, "i2s.avx2");
	assert_string_equal(bn_kernel_choose(avx2 | BN_CPU_AVXVNNI, 100, 100, NULL)->name,
			    "i2s.avxvnni");
	assert_string_equal(bn_kernel_choose(avx512 | BN_CPU_VNNI, 100, 100, NULL)->name,
			    "i2s.vnni");
	assert_string_equal(bn_vec_choose(avx2)->name, "avx2");
	assert_string_equal(bn_vec_choose(avx512)->name, "avx512");
	assert_string_equal(bn_dense_choose(BN_DENSE_Q6_K, avx2)->name, "q6_k.avx2");
	assert_string_equal(bn_dense_choose(BN_DENSE_Q8_0, avx512)->name, "q8_0.avx512");
#else
	(void)avx512;
#endif
	for (int type = 0; type < BN_DENSE_TYPE_COUNT; type++) {
		assert_int_equal(bn_dense_choose((enum bn_dense_type)type, rig_cpu())->type, type);
	}
}

static void choose_honours_the_wish_list_in_its_order(void **state)
{
	const char *unknown[] = { "tl9.mmx", NULL };
	const char *scalar_first[] = { "i2s.scalar", "i2s.vnni", "i2s.avx2", NULL };
	const char *fallback[] = { "tl9.mmx", "i2s.scalar", NULL };
	const char *fast[] = { "i2s.vnni", "i2s.avx2", "i2s.neon", NULL };
	const char *none[] = { NULL };

	(void)state;
	assert_null(bn_kernel_choose(~UINT64_C(0), 100, 100, unknown));
	assert_null(bn_kernel_choose(~UINT64_C(0), 100, 100, none));
	assert_null(bn_kernel_choose(0, 100, 100, fast));
	assert_string_equal(bn_kernel_choose(~UINT64_C(0), 100, 100, scalar_first)->name,
			    "i2s.scalar");
	assert_string_equal(bn_kernel_choose(0, 100, 100, fallback)->name, "i2s.scalar");
}

static void a_family_name_means_its_best_kernel(void **state)
{
	static const char *const families[][2] = { { "tl1", NULL }, { "tl2", NULL } };
	const char *lists[][2] = { { "tl", NULL }, { "tl2.", NULL }, { "", NULL } };

	(void)state;
	assert_string_equal(bn_kernel_choose(0, 100, 100, families[0])->name, "tl1.scalar");
	assert_string_equal(bn_kernel_choose(0, 100, 100, families[1])->name, "tl2.scalar");
#if defined(__x86_64__)
	const uint64_t avx512 = BN_CPU_AVX2 | BN_CPU_AVX512;

	assert_string_equal(bn_kernel_choose(avx512, 100, 100, families[1])->name, "tl2.avx2");
	assert_string_equal(bn_kernel_choose(avx512 | BN_CPU_VBMI, 100, 100, families[1])->name,
			    "tl2.avx512");
#elif defined(__aarch64__)
	assert_string_equal(bn_kernel_choose(BN_CPU_NEON, 100, 100, families[0])->name, "tl1.neon");
#endif
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		assert_null(bn_kernel_choose(~UINT64_C(0), 100, 100, lists[i]));
	}
	assert_true(bn_kernel_named(&bn_kernel_tl2_scalar, "tl2"));
	assert_true(bn_kernel_named(&bn_kernel_tl2_scalar, "tl2.scalar"));
	assert_false(bn_kernel_named(&bn_kernel_tl2_scalar, "tl2.scala"));
	assert_false(bn_kernel_named(&bn_kernel_tl2_scalar, "tl2.scalar.x"));
}

/* The fast I2S16 kernels end at rows of 2^19. */
static void choose_looks_at_the_shape(void **state)
{
	const char *i2s[] = { "i2s", NULL };

	(void)state;
	assert_string_equal(bn_kernel_choose(~UINT64_C(0), 1, UINT32_C(1) << 20, i2s)->name,
			    "i2s.scalar");
	assert_true(bn_kernel_choose(~UINT64_C(0), 1, UINT32_C(1) << 20, NULL)->layout !=
		    BN_LAYOUT_I2S16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kernel_this_processor_runs_passes_the_self_test),
		cmocka_unit_test(the_self_test_catches_wrong_kernels),
		cmocka_unit_test(lists_end_with_scalar_and_names_are_unique),
		cmocka_unit_test(choose_takes_the_best_the_features_allow),
		cmocka_unit_test(choose_honours_the_wish_list_in_its_order),
		cmocka_unit_test(a_family_name_means_its_best_kernel),
		cmocka_unit_test(choose_looks_at_the_shape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
