/*
 * CPUID and XGETBV are asked directly: __builtin_cpu_supports knows different names in different
 * compilers, and a wrong "yes" here is a crash on somebody's machine. A level counts only when all
 * of its instructions are there *and* the operating system saves the registers it uses.
 */
#include "kernels/cpu.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

/* Leaf 1 ecx */
#define ECX1_SSSE3   (1u << 9)
#define ECX1_FMA     (1u << 12)
#define ECX1_OSXSAVE (1u << 27)
#define ECX1_AVX     (1u << 28)
#define ECX1_F16C    (1u << 29)
/* Leaf 7.0 ebx */
#define EBX7_AVX2     (1u << 5)
#define EBX7_BMI2     (1u << 8)
#define EBX7_AVX512F  (1u << 16)
#define EBX7_AVX512DQ (1u << 17)
#define EBX7_AVX512CD (1u << 28)
#define EBX7_AVX512BW (1u << 30)
#define EBX7_AVX512VL (1u << 31)
/* Leaf 7.0 ecx */
#define ECX7_VBMI (1u << 1)
#define ECX7_VNNI (1u << 11)
/* Leaf 7.1 eax */
#define EAX71_AVXVNNI (1u << 4)
/* XCR0 */
#define XCR0_YMM 0x06u /* xmm, ymm                              */
#define XCR0_ZMM 0xe6u /* and opmask, upper zmm, zmm16 to zmm31 */

static uint32_t xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static bool all(uint32_t value, uint32_t bits)
{
	return (value & bits) == bits;
}

uint64_t bn_cpu_features(void)
{
	uint32_t a, b, c, d;
	uint64_t f = 0;

	if (!__get_cpuid(1, &a, &b, &c, &d)) {
		return 0;
	}
	const uint32_t ecx1 = c;
	if (all(ecx1, ECX1_SSSE3)) {
		f |= BN_CPU_SSSE3;
	}
	if (!all(ecx1, ECX1_OSXSAVE | ECX1_AVX | ECX1_FMA | ECX1_F16C | ECX1_SSSE3)) {
		return f;
	}
	const uint32_t os = xcr0();
	if (!all(os, XCR0_YMM) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
		return f;
	}
	const uint32_t leaves = a, ebx7 = b, ecx7 = c;
	if (!all(ebx7, EBX7_AVX2 | EBX7_BMI2)) {
		return f;
	}
	f |= BN_CPU_AVX2;
	if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && all(a, EAX71_AVXVNNI)) {
		f |= BN_CPU_AVXVNNI;
	}
	if (!all(os, XCR0_ZMM) || !all(ebx7, EBX7_AVX512F | EBX7_AVX512DQ | EBX7_AVX512CD |
						     EBX7_AVX512BW | EBX7_AVX512VL)) {
		return f;
	}
	f |= BN_CPU_AVX512;
	if (all(ecx7, ECX7_VNNI)) {
		f |= BN_CPU_VNNI;
	}
	if (all(ecx7, ECX7_VBMI)) {
		f |= BN_CPU_VBMI;
	}
	return f;
}

#elif defined(__aarch64__)

/* asm/hwcap.h; older headers lack the younger names. */
#define HWCAP_BIT_ASIMD   (1ul << 1)
#define HWCAP_BIT_ASIMDDP (1ul << 20)
#define HWCAP2_BIT_I8MM   (1ul << 13)

uint64_t bn_cpu_features(void)
{
	unsigned long caps = getauxval(AT_HWCAP);
	unsigned long caps2 = getauxval(AT_HWCAP2);
	uint64_t f = 0;

	if ((caps & HWCAP_BIT_ASIMD) == 0) {
		return 0;
	}
	f |= BN_CPU_NEON;
	if (caps & HWCAP_BIT_ASIMDDP) {
		f |= BN_CPU_DOTPROD;
	}
	if (caps2 & HWCAP2_BIT_I8MM) {
		f |= BN_CPU_I8MM;
	}
	return f;
}

#else

uint64_t bn_cpu_features(void)
{
	return 0;
}

#endif

#define ON_AVX512 (BN_CPU_AVX512 | BN_CPU_VNNI | BN_CPU_VBMI)
#define ON_AVX2   (BN_CPU_AVX2 | BN_CPU_AVXVNNI | ON_AVX512)

/* A name, its own bit, and everything that goes with it when it is forbidden. */
static const struct level {
	const char *name;
	uint64_t bit;
	uint64_t without;
} levels[] = {
	{ "ssse3", BN_CPU_SSSE3, BN_CPU_SSSE3 | ON_AVX2 },
	{ "avx2", BN_CPU_AVX2, ON_AVX2 },
	{ "avxvnni", BN_CPU_AVXVNNI, BN_CPU_AVXVNNI },
	{ "avx512", BN_CPU_AVX512, ON_AVX512 },
	{ "vnni", BN_CPU_VNNI, BN_CPU_VNNI },
	{ "vbmi", BN_CPU_VBMI, BN_CPU_VBMI },
	{ "neon", BN_CPU_NEON, BN_CPU_NEON | BN_CPU_DOTPROD | BN_CPU_I8MM },
	{ "dotprod", BN_CPU_DOTPROD, BN_CPU_DOTPROD },
	{ "i8mm", BN_CPU_I8MM, BN_CPU_I8MM },
};

enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

uint64_t bn_cpu_mask(uint64_t features, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < LEVELS; j++) {
			if (strcmp(names[i], levels[j].name) == 0) {
				features &= ~levels[j].without;
			}
		}
	}
	return features;
}

char *bn_cpu_describe(uint64_t features, char *text, size_t size)
{
	size_t used = 0;

	if (size == 0) {
		return text;
	}
	text[0] = '\0';
	for (size_t j = 0; j < LEVELS; j++) {
		if ((features & levels[j].bit) == 0) {
			continue;
		}
		size_t length = strlen(levels[j].name);
		size_t space = used > 0 ? 1 : 0;
		if (length + space >= size - used) {
			break; /* whole words only */
		}
		if (space) {
			text[used++] = ' ';
		}
		memcpy(text + used, levels[j].name, length + 1);
		used += length;
	}
	return text;
}

uint64_t bn_cpu_parse(const char *text)
{
	uint64_t features = 0;

	while (*text != '\0') {
		const size_t n = strcspn(text, " ");

		for (size_t j = 0; j < LEVELS; j++) {
			if (strlen(levels[j].name) == n && memcmp(levels[j].name, text, n) == 0) {
				features |= levels[j].bit;
			}
		}
		text += n;
		text += strspn(text, " ");
	}
	return features;
}
