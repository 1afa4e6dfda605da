#include "engine/family.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void architectures_are_found_by_their_exact_name(void **state)
{
	(void)state;
	for (size_t i = 0; bn_family_architecture_at(i) != NULL; i++) {
		const struct bn_architecture *a = bn_family_architecture_at(i);

		assert_ptr_equal(bn_family_architecture(a->name, strlen(a->name)), a);
		assert_null(bn_family_architecture(a->name, strlen(a->name) - 1));
	}
	assert_null(bn_family_architecture("mistral", 7));
	assert_null(bn_family_architecture("", 0));
	assert_ptr_equal(bn_family_architecture("bitnet-b1.58", 6),
			 bn_family_architecture("bitnet", 6));
}

static void the_vocabulary_decides_where_converters_disagree(void **state)
{
	const struct bn_architecture *b158 = bn_family_architecture("bitnet-b1.58", 12);
	const struct bn_architecture *bitnet = bn_family_architecture("bitnet", 6);
	const struct bn_architecture *llama = bn_family_architecture("llama", 5);

	(void)state;
	assert_int_equal(bn_family_activation(b158, 128256), BN_ACT_RELU2);
	assert_int_equal(bn_family_activation(b158, 32002), BN_ACT_SILU);
	assert_int_equal(bn_family_activation(bitnet, 32002), BN_ACT_SILU);
	assert_int_equal(bn_family_activation(bitnet, 128256), BN_ACT_RELU2);
	assert_int_equal(bn_family_activation(llama, 128256), BN_ACT_SILU);
	assert_int_equal(b158->rope, BN_ROPE_NEOX);
	assert_int_equal(bitnet->rope, BN_ROPE_NEOX);
	assert_int_equal(llama->rope, BN_ROPE_NORM);
}

static void activation_words_are_read_and_written(void **state)
{
	enum bn_activation a = BN_ACT_SILU;

	(void)state;
	assert_true(bn_family_parse_activation("relu2", 5, &a));
	assert_int_equal(a, BN_ACT_RELU2);
	assert_true(bn_family_parse_activation("silu", 4, &a));
	assert_int_equal(a, BN_ACT_SILU);
	assert_false(bn_family_parse_activation("relu", 4, &a));
	assert_false(bn_family_parse_activation("relu22", 6, &a));
	assert_string_equal(bn_family_activation_name(BN_ACT_SILU), "silu");
	assert_string_equal(bn_family_activation_name(BN_ACT_RELU2), "relu2");
	assert_true(bn_family_parse_activation("gelu_pytorch_tanh", 17, &a));
	assert_int_equal(a, BN_ACT_GELU);
	assert_false(bn_family_parse_activation("gelu", 4, &a)); /* the one with erf */
	assert_string_equal(bn_family_activation_name(BN_ACT_GELU), "gelu_pytorch_tanh");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(architectures_are_found_by_their_exact_name),
		cmocka_unit_test(the_vocabulary_decides_where_converters_disagree),
		cmocka_unit_test(activation_words_are_read_and_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
