/*
 * The kernel comparisons as a bare program, for a processor that is emulated and has no test
 * library: every table entry the processor can run, against the oracle. Prints what it ran.
 */
#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/tables.h"
#include "tests/kernels/rig.h"

#include <stdio.h>
#include <string.h>

static int failures;

static void report(const char *name, const char *what, bool good, const char *why)
{
	printf("%-4s %s: %s%s%s\n", good ? "ok" : "FAIL", name, what, good ? "" : ": ",
	       good ? "" : why);
	failures += !good;
}

static bool runs(uint64_t needs)
{
	return (needs & rig_cpu()) == needs;
}

static void kernels(void)
{
	const struct bn_kernel *const *list;
	const size_t n = bn_kernels(&list);
	struct rig rig;

	for (size_t i = 0; i < n; i++) {
		if (!runs(list[i]->needs)) {
			continue;
		}
		bool good = true;
		rig_init(&rig, i);
		for (int round = 0; good && round < 25; round++) {
			good = rig_compare_kernel(&rig, list[i], 70, 300, 17);
		}
		for (uint32_t tokens = 1; good && tokens <= 9; tokens++) {
			good = rig_compare_kernel_shape(&rig, list[i], 33, 70, tokens, false);
		}
		/* Past two flushes of int16 sums (512 columns, 4096 with tables), at both
		 * extremes. */
		for (int round = 0; good && round < 4; round++) {
			good = rig_compare_kernel_shape(&rig, list[i], 18, 1100, 3, true);
		}
		for (uint32_t tokens = 1; good && tokens <= 3; tokens++) {
			good = rig_compare_kernel_shape(&rig, list[i], 5, 9000, tokens, true);
		}
		/* More groups of rows than a slab of tables is shared by. */
		good = good && rig_compare_kernel_shape(&rig, list[i], 300, 520, 3, false);
		report(list[i]->name, "equals the definition", good, rig.why);
		report(list[i]->name, "self test", bn_kernel_self_test(list[i]), "");
	}
}

static void vecs(void)
{
	const struct bn_vec *const *list;
	const size_t n = bn_vecs(&list);
	struct rig rig;

	for (size_t i = 0; i < n; i++) {
		if (!runs(list[i]->needs)) {
			continue;
		}
		bool good = true;
		rig_init(&rig, i);
		for (int round = 0; good && round < 400; round++) {
			good = rig_compare_vec(&rig, list[i], round < 380 ? 80 : 1000);
		}
		report(list[i]->name, "float functions", good, rig.why);
		for (int round = 0; good && round < 20; round++) {
			good = rig_compare_attend(&rig, list[i]);
		}
		report(list[i]->name, "attention", good, rig.why);
	}
}

/* Every half through the conversion instructions. */
static bool all_halves(const struct bn_dense *d)
{
	static uint8_t row[65536 * 2];
	static float a[65536], b[65536];

	for (uint32_t h = 0; h < 65536; h++) {
		row[2 * h] = (uint8_t)h;
		row[2 * h + 1] = (uint8_t)(h >> 8);
	}
	d->decode(a, row, 65536);
	bn_dense_scalar[d->type].decode(b, row, 65536);
	return memcmp(a, b, sizeof(a)) == 0;
}

static void denses(void)
{
	const struct bn_dense *const *list;
	const size_t n = bn_denses(&list);
	struct rig rig;

	for (size_t i = 0; i < n; i++) {
		if (!runs(list[i]->needs)) {
			continue;
		}
		bool good = true;
		rig_init(&rig, i);
		for (int round = 0; good && round < 25; round++) {
			good = rig_compare_dense(&rig, list[i], 12, 520, round ? 7 : 40);
		}
		report(list[i]->name, "rows", good, rig.why);
		if (list[i]->type == BN_DENSE_F16 || list[i]->type == BN_DENSE_BF16) {
			report(list[i]->name, "all 65536 patterns", all_halves(list[i]), "");
		}
	}
}

int main(int argc, char **argv)
{
	char text[128];

	printf("features: %s\n", bn_cpu_describe(rig_cpu(), text, sizeof(text)));
	/* Argument: the kernel this processor must choose. */
	if (argc > 1) {
		const char *chosen = bn_kernel_choose(rig_cpu(), 64, 64, NULL)->name;
		report(chosen, "chosen", strcmp(chosen, argv[1]) == 0, argv[1]);
	}
	report("scalar", "results recorded for every architecture", rig_digest() == RIG_DIGEST, "");
	kernels();
	vecs();
	denses();
	return failures != 0;
}
