#include "tests/kernels/family.h"

#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The next kernel of the list that this processor can run; NULL at the end. */
static const struct bn_kernel *usable(size_t *i, enum bn_layout layout)
{
	const struct bn_kernel *const *list;
	const size_t n = bn_kernels(&list);
	const uint64_t cpu = rig_cpu();

	while (*i < n) {
		const struct bn_kernel *k = list[(*i)++];
		if ((k->needs & cpu) == k->needs && k->layout == layout) {
			return k;
		}
	}
	return NULL;
}

static void check_shape(struct rig *rig, const struct bn_kernel *k, uint32_t rows, uint32_t cols,
			uint32_t n, bool extremes)
{
	if (!rig_compare_kernel_shape(rig, k, rows, cols, n, extremes)) {
		fail_msg("%s", rig->why);
	}
}

void family_check_random_shapes(enum bn_layout layout)
{
	const struct bn_kernel *k;
	struct rig rig;

	for (size_t i = 0; (k = usable(&i, layout)) != NULL;) {
		rig_init(&rig, i);
		for (int round = 0; round < 40; round++) {
			if (!rig_compare_kernel(&rig, k, 100, 400, 33)) {
				fail_msg("%s", rig.why);
			}
		}
	}
}

void family_check_tokens(enum bn_layout layout)
{
	const struct bn_kernel *k;
	struct rig rig;

	for (size_t i = 0; (k = usable(&i, layout)) != NULL;) {
		rig_init(&rig, i);
		for (uint32_t n = 1; n <= 33; n++) {
			check_shape(&rig, k, 49, 70 + n, n, false);
		}
	}
}

void family_check_extremes(enum bn_layout layout)
{
	static const uint32_t cols[] = { 255, 256, 257, 511, 512, 1024, 2560, 6912 };
	const struct bn_kernel *k;
	struct rig rig;

	for (size_t i = 0; (k = usable(&i, layout)) != NULL;) {
		rig_init(&rig, i);
		for (size_t c = 0; c < sizeof(cols) / sizeof(cols[0]); c++) {
			for (uint32_t n = 1; n <= 9; n += 4) {
				/* Twice: the sign of the weights is drawn. */
				check_shape(&rig, k, 20, cols[c], n, true);
				check_shape(&rig, k, 20, cols[c], n, true);
			}
		}
	}
}

void family_check_panels(enum bn_layout layout)
{
	const struct bn_kernel *k;
	struct rig rig;

	for (size_t i = 0; (k = usable(&i, layout)) != NULL;) {
		rig_init(&rig, i);
		check_shape(&rig, k, 34, 6900, 75, false);
		check_shape(&rig, k, 3, 23040, 2, true);
		check_shape(&rig, k, 600, 100, 3, false);
	}
}
