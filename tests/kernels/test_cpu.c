#include "kernels/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ALL_X86 \
	(BN_CPU_SSSE3 | BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_VNNI | BN_CPU_VBMI | BN_CPU_AVXVNNI)
#define ALL_ARM (BN_CPU_NEON | BN_CPU_DOTPROD | BN_CPU_I8MM)

static uint64_t without(uint64_t features, const char *name)
{
	return bn_cpu_mask(features, &name, 1);
}

static void masking_a_level_removes_what_stands_on_it(void **state)
{
	(void)state;
	assert_int_equal(without(ALL_X86, "ssse3"), 0);
	assert_int_equal(without(ALL_X86, "avx2"), BN_CPU_SSSE3);
	assert_int_equal(without(ALL_X86, "avx512"), BN_CPU_SSSE3 | BN_CPU_AVX2 | BN_CPU_AVXVNNI);
	assert_int_equal(without(ALL_X86, "vnni"), ALL_X86 & ~BN_CPU_VNNI);
	assert_int_equal(without(ALL_X86, "avxvnni"), ALL_X86 & ~BN_CPU_AVXVNNI);
	assert_int_equal(without(ALL_X86, "vbmi"), ALL_X86 & ~BN_CPU_VBMI);
	assert_int_equal(without(ALL_ARM, "neon"), 0);
	assert_int_equal(without(ALL_ARM, "dotprod"), BN_CPU_NEON | BN_CPU_I8MM);
	assert_int_equal(without(ALL_ARM, "i8mm"), BN_CPU_NEON | BN_CPU_DOTPROD);
}

static void masking_ignores_unknown_names_and_takes_several(void **state)
{
	(void)state;
	const char *names[] = { "vnni", "mmx", "", "vbmi" };
	assert_int_equal(bn_cpu_mask(ALL_X86, names, 4), ALL_X86 & ~(BN_CPU_VNNI | BN_CPU_VBMI));
	assert_int_equal(bn_cpu_mask(ALL_X86, NULL, 0), ALL_X86);
}

static void describe_names_levels_and_cuts_between_words(void **state)
{
	char text[64];

	(void)state;
	assert_string_equal(bn_cpu_describe(BN_CPU_SSSE3 | BN_CPU_AVX2, text, sizeof(text)),
			    "ssse3 avx2");
	assert_string_equal(bn_cpu_describe(0, text, sizeof(text)), "");
	memset(text, 'x', sizeof(text));
	bn_cpu_describe(ALL_X86, text, 12);
	assert_string_equal(text, "ssse3 avx2");
	assert_int_equal(text[12], 'x');
	text[0] = 'x';
	bn_cpu_describe(ALL_X86, text, 0);
	assert_int_equal(text[0], 'x');
	bn_cpu_describe(ALL_X86, text, 1);
	assert_string_equal(text, "");
}

/* The kernel's own list, where there is one. */
static void parse_reads_what_describe_wrote(void **state)
{
	static const uint64_t sets[] = { 0, BN_CPU_SSSE3,
					 BN_CPU_SSSE3 | BN_CPU_AVX2 | BN_CPU_AVXVNNI,
					 BN_CPU_NEON | BN_CPU_I8MM };
	char text[96];

	(void)state;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		assert_int_equal(bn_cpu_parse(bn_cpu_describe(sets[i], text, sizeof(text))),
				 sets[i]);
	}
	assert_int_equal(bn_cpu_parse("  sse9 neon  neonx "), BN_CPU_NEON);
}

static void features_agree_with_proc_cpuinfo(void **state)
{
	static const struct {
		uint64_t bit;
		const char *flag;
	} rows[] = {
		{ BN_CPU_SSSE3, " ssse3 " },     { BN_CPU_AVX2, " avx2 " },
		{ BN_CPU_AVX512, " avx512bw " }, { BN_CPU_VNNI, " avx512_vnni " },
		{ BN_CPU_VBMI, " avx512vbmi " }, { BN_CPU_AVXVNNI, " avx_vnni " },
		{ BN_CPU_DOTPROD, " asimddp " }, { BN_CPU_I8MM, " i8mm " },
		{ BN_CPU_NEON, " asimd " },
	};
	const uint64_t features = bn_cpu_features();
	char line[16384];
	FILE *f = fopen("/proc/cpuinfo", "r");

	(void)state;
	if (f == NULL) {
		skip();
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) {
			break;
		}
		line[0] = '\0';
	}
	fclose(f);
	if (line[0] == '\0') {
		skip();
	}
	line[strcspn(line, "\n")] = ' ';
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const bool listed = strstr(line, rows[i].flag) != NULL;
		if (listed != ((features & rows[i].bit) != 0)) {
			fail_msg("we say %d about%s, the kernel says %d", !listed, rows[i].flag,
				 listed);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(masking_a_level_removes_what_stands_on_it),
		cmocka_unit_test(masking_ignores_unknown_names_and_takes_several),
		cmocka_unit_test(describe_names_levels_and_cuts_between_words),
		cmocka_unit_test(parse_reads_what_describe_wrote),
		cmocka_unit_test(features_agree_with_proc_cpuinfo),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
