#include "engine/batch.h"

#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct rig rig;
static bn_token prompt[64];

static struct bn_sequence *sequence(uint32_t n_prompt)
{
	const struct bn_sequence_config c = rig_config(prompt, n_prompt, 4);

	return rig_sequence(&rig, &c);
}

static void rows_carry_tokens_and_positions_and_the_last_one_samples(void **state)
{
	struct bn_batch b;
	struct bn_sequence *a = sequence(5), *c = sequence(3);

	(void)state;
	bn_enter_lead();
	assert_int_equal(bn_batch_init(&b, 16, 4, NULL), BN_OK);
	bn_batch_reset(&b, rig.model);
	a->n_past = 2;
	assert_int_equal(bn_batch_add(&b, a, 100), 3);
	assert_int_equal(bn_batch_add(&b, c, 2), 2);
	assert_int_equal(b.n_rows, 5);
	assert_int_equal(b.n_outputs, 1);
	assert_int_equal(b.n_sequences, 2);
	for (uint32_t i = 0; i < 3; i++) {
		assert_ptr_equal(b.rows[i].seq, a);
		assert_int_equal(b.rows[i].position, 2 + i);
		assert_int_equal(b.rows[i].token, prompt[2 + i]);
		assert_int_equal(b.rows[i].output, i == 2 ? BN_ROW_SAMPLE : BN_ROW_NONE);
	}
	/* the prompt of c is not at its end */
	assert_ptr_equal(b.rows[4].seq, c);
	assert_int_equal(b.rows[4].output, BN_ROW_NONE);
	bn_batch_reset(&b, rig.model);
	assert_int_equal(b.n_rows + b.n_outputs + b.n_sequences, 0);
	bn_batch_finish(&b);
	bn_batch_finish(&b);
	bn_sequence_free(a);
	bn_sequence_free(c);
}

static void a_full_batch_takes_what_fits(void **state)
{
	struct bn_batch b;
	struct bn_sequence *a = sequence(5), *c = sequence(3), *d = sequence(4);

	(void)state;
	bn_enter_lead();
	assert_int_equal(bn_batch_init(&b, 10, 1, NULL), BN_OK);
	bn_batch_reset(&b, rig.model);
	assert_int_equal(bn_batch_add(&b, a, 100), 5);
	/* no output left: everything but the row that would sample */
	assert_int_equal(bn_batch_add(&b, c, 100), 2);
	assert_int_equal(b.rows[6].output, BN_ROW_NONE);
	/* three rows left */
	assert_int_equal(bn_batch_add(&b, d, 100), 3);
	assert_int_equal(b.n_rows, 10);
	assert_int_equal(b.n_outputs, 1);
	assert_int_equal(b.n_sequences, 3);
	bn_batch_finish(&b);
	bn_sequence_free(a);
	bn_sequence_free(c);
	bn_sequence_free(d);
}

static void finished_sequences_and_zero_rows_add_nothing(void **state)
{
	struct bn_batch b;
	struct bn_sequence *a = sequence(5), *c = sequence(1);

	(void)state;
	bn_enter_lead();
	assert_int_equal(bn_batch_init(&b, 10, 1, NULL), BN_OK);
	bn_batch_reset(&b, rig.model);
	assert_int_equal(bn_batch_add(&b, a, 0), 0);
	bn_sequence_finish(a, BN_FINISH_CANCELLED, BN_E_CANCELLED);
	assert_int_equal(bn_batch_add(&b, a, 100), 0);
	assert_int_equal(b.n_sequences, 0);
	/* a prompt of one token samples at once */
	assert_int_equal(bn_batch_add(&b, c, 1), 1);
	assert_int_equal(b.rows[0].output, BN_ROW_SAMPLE);
	bn_batch_finish(&b);
	bn_sequence_free(a);
	bn_sequence_free(c);
}

static void probing_gives_every_row_logits_and_samples_none(void **state)
{
	struct bn_batch b;
	struct bn_sequence *a = sequence(5);

	(void)state;
	bn_enter_lead();
	assert_int_equal(bn_batch_init(&b, 10, 5, NULL), BN_OK);
	bn_batch_reset(&b, rig.model);
	bn_batch_add(&b, a, 100);
	bn_batch_probe(&b, 1);
	assert_int_equal(b.n_outputs, 4);
	assert_int_equal(b.rows[0].output, BN_ROW_NONE);
	for (uint32_t i = 1; i < 5; i++) {
		assert_int_equal(b.rows[i].output, BN_ROW_LOGITS);
	}
	bn_batch_finish(&b);
	bn_sequence_free(a);
}

static int open_model(void **state)
{
	struct bn_tiny t;

	(void)state;
	bn_tiny_default(&t);
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	rig_prompt(&rig, 1, prompt, 64);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_carry_tokens_and_positions_and_the_last_one_samples),
		cmocka_unit_test(a_full_batch_takes_what_fits),
		cmocka_unit_test(finished_sequences_and_zero_rows_add_nothing),
		cmocka_unit_test(probing_gives_every_row_logits_and_samples_none),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
