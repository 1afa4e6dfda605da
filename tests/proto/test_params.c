#include "proto/params.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Both lists of a method, one after the other. */
static const struct bn_field *nth_field(const struct bn_method_info *m, size_t i)
{
	const struct bn_field *f = m->own;

	while (f->name != NULL && i > 0) {
		f++;
		i--;
	}
	if (f->name == NULL) {
		for (f = m->shared; f->name != NULL && i > 0; i--) {
			f++;
		}
	}
	return f->name != NULL ? f : NULL;
}

static void params_names_are_unique_within_a_method(void **state)
{
	(void)state;
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		const struct bn_method_info *info = bn_method_info(m);
		const struct bn_field *a, *b;

		for (size_t i = 0; (a = nth_field(info, i)) != NULL; i++) {
			assert_true(strlen(a->name) <= BN_LIMIT_KEY_BYTES);
			for (size_t j = 0; j < i; j++) {
				b = nth_field(info, j);
				assert_string_not_equal(a->name, b->name);
				/* Nor do two rows share a place in the struct. */
				assert_int_not_equal(a->at, b->at);
				assert_int_not_equal(a->has, b->has);
			}
		}
	}
}

static void params_every_row_has_a_sane_range_and_its_sentences(void **state)
{
	(void)state;
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		const struct bn_method_info *info = bn_method_info(m);
		const struct bn_field *f;

		assert_true(info->doc[strlen(info->doc) - 1] == '.');
		assert_true(info->since >= 1 && info->since <= BN_API_LEVEL);
		assert_non_null(info->result->path);
		for (size_t i = 0; (f = nth_field(info, i)) != NULL; i++) {
			assert_true(f->doc[strlen(f->doc) - 1] == '.');
			assert_true(f->must == (f->missing[0] == '\0'));
			if (f->kind == BN_KIND_NUM) {
				assert_true(isfinite(f->num_min) && isfinite(f->num_max));
				assert_true(f->num_min < f->num_max);
			} else if (f->kind == BN_KIND_WORD) {
				assert_non_null(f->words[0]);
			} else if (f->kind != BN_KIND_BOOL) {
				assert_true(f->int_min < f->int_max);
			}
			assert_true(strlen(bn_kind_name(f->kind)) > 1);
		}
	}
}

static void params_finds_methods_by_exact_name(void **state)
{
	(void)state;
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		assert_int_equal(bn_method_find(bn_text_of(bn_method_info(m)->name)), m);
	}
	assert_int_equal(bn_method_find(bn_text_of("completion")), BN_METHOD_COUNT);
	assert_int_equal(bn_method_find(bn_text_of("")), BN_METHOD_COUNT);
	assert_int_equal(bn_method_find(bn_text_of("cancel ")), BN_METHOD_COUNT);
}

static void params_aliases_lead_to_fields(void **state)
{
	(void)state;
	for (const struct bn_alias *a = bn_aliases(); a->known != NULL; a++) {
		const struct bn_field *f = bn_method_info(BN_METHOD_COMPLETIONS)->shared;
		bool found = false;

		for (; f->name != NULL; f++) {
			assert_string_not_equal(f->name, a->accepted);
			found = found || strcmp(f->name, a->known) == 0;
		}
		assert_true(found);
	}
}

static void params_only_loading_and_unloading_need_an_admin(void **state)
{
	(void)state;
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		assert_int_equal(bn_method_info(m)->right,
				 m == BN_METHOD_MODELS_LOAD || m == BN_METHOD_MODELS_UNLOAD
					 ? BN_RIGHT_ADMIN
					 : BN_RIGHT_USER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(params_names_are_unique_within_a_method),
		cmocka_unit_test(params_every_row_has_a_sane_range_and_its_sentences),
		cmocka_unit_test(params_finds_methods_by_exact_name),
		cmocka_unit_test(params_aliases_lead_to_fields),
		cmocka_unit_test(params_only_loading_and_unloading_need_an_admin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
