/*
 * The line-up without threads: this one is the lead, the team has one lane, and how long a step
 * took is whatever the test says.
 */
#include "daemon/lineup.h"

#include "tests/daemon/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
	WORKS_MAX = 400,
	MAX_BATCH = 4,
	CHUNK = 64,
	PROMPT_MAX = 500,
};

#define MS UINT64_C(1000000)

struct stage {
	struct rig rig;
	struct bn_lineup lineup;
	struct bn_team *team;
	struct bn_model *model;
	struct bn_tenant *tenant[2]; /* two of one model serve as well as two models */
	struct bn_work work[WORKS_MAX];
	uint32_t n;
	uint32_t weight; /* of the models of works that enter */
};

static struct stage *open_stage(void)
{
	struct bn_lineup_config config = { 100 * MS, MAX_BATCH, CHUNK };
	struct bn_forward_config forward = { MAX_BATCH + CHUNK, MAX_BATCH, 1 };
	struct bn_team_config team = { 1, NULL, 0 };
	struct stage *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->weight = 1;
	rig_up(&s->rig);
	s->model = rig_load(rig_model(&s->rig, "a", 1, 2048));
	assert_int_equal(bn_lineup_init(&s->lineup, &config, NULL), BN_OK);
	assert_int_equal(bn_team_start(&s->team, &team, NULL), BN_OK);
	for (int k = 0; k < 2; k++) {
		assert_int_equal(bn_tenant_new(&s->tenant[k], s->model, &forward, NULL), BN_OK);
	}
	bn_enter_lead();
	return s;
}

static void leave(struct stage *s, struct bn_work *w)
{
	bn_lineup_leave(&s->lineup, w);
	bn_sequence_free(w->seq);
	w->seq = NULL;
}

static void close_stage(struct stage *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->work[i].seq != NULL) {
			leave(s, &s->work[i]);
		}
	}
	assert_null(bn_lineup_next(&s->lineup));
	bn_lineup_finish(&s->lineup);
	bn_team_stop(s->team);
	for (int k = 0; k < 2; k++) {
		bn_tenant_free(s->tenant[k]);
	}
	bn_enter_helper();
	bn_model_free(s->model);
	rig_down(&s->rig);
	free(s);
}

static struct bn_work *enter(struct stage *s, int tenant, uid_t uid, uint32_t n_prompt, bool paused)
{
	static const bn_token prompt[PROMPT_MAX];
	struct bn_work *w = &s->work[s->n++];
	struct bn_sequence_config c = { .id = s->n,
					.prompt = prompt,
					.n_prompt = n_prompt,
					.max_tokens = 1000,
					.ignore_eos = true };

	assert_true(s->n <= WORKS_MAX && n_prompt <= PROMPT_MAX);
	bn_sampler_defaults(&c.sampler);
	assert_int_equal(bn_sequence_new(&w->seq, s->model, &c, NULL), BN_OK);
	w->id = s->n;
	w->tenant = s->tenant[tenant];
	w->uid = uid;
	w->weight = s->weight;
	w->start_paused = paused;
	bn_lineup_enter(&s->lineup, w);
	return w;
}

/* One step of whoever is next, which is said to have taken `ns`. */
static struct bn_tenant *step(struct stage *s, uint64_t ns)
{
	struct bn_tenant *t = bn_lineup_next(&s->lineup);

	assert_non_null(t);
	bn_lineup_compose(&s->lineup, t);
	(void)bn_forward_step(t->forward, &s->lineup.batch, s->team);
	bn_lineup_charge(&s->lineup, t, ns);
	return t;
}

/* How many rows of w the step composed last holds. */
static uint32_t rows_of(const struct stage *s, const struct bn_work *w)
{
	for (uint32_t i = 0; i < s->lineup.n_step; i++) {
		if (s->lineup.step[i] == w) {
			return w->fed;
		}
	}
	return 0;
}

static void lineup_reads_as_much_prompt_as_the_target_allows(void **state)
{
	struct stage *s = open_stage();
	struct bn_work *long_one = enter(s, 0, 1, 400, false);

	(void)state;
	step(s, 160 * MS); /* nothing is known: a probe of 16 rows, 10 ms each as it turns out */
	assert_int_equal(rows_of(s, long_one), 16);
	assert_int_equal(s->lineup.n_begun, 1);
	assert_int_equal(s->lineup.n_decoding, 0);
	step(s, 400 * MS); /* alone: four times the target of 100 ms */
	assert_int_equal(rows_of(s, long_one), 40);
	assert_int_equal(s->lineup.n_begun, 0);
	/* Half a millisecond a row: a quarter of that is believed at a time. */
	step(s, 20 * MS);
	step(s, 20 * MS);
	assert_int_equal(rows_of(s, long_one), 52); /* 400 / 7.625 */
	step(s, 20 * MS);
	assert_int_equal(rows_of(s, long_one), CHUNK);
	close_stage(s);
}

static void lineup_leaves_time_for_those_who_decode(void **state)
{
	struct stage *s = open_stage();
	struct bn_work *decodes = enter(s, 0, 1, 8, false);
	struct bn_work *reads;

	(void)state;
	step(s, 80 * MS); /* 10 ms a prompt row */
	step(s, 40 * MS); /* and 40 ms to decode */
	assert_int_equal(rows_of(s, decodes), 1);
	assert_int_equal(s->lineup.n_decoding, 1);
	reads = enter(s, 0, 2, 400, false);
	step(s, 100 * MS);
	assert_int_equal(rows_of(s, decodes), 1);
	assert_int_equal(rows_of(s, reads), 6); /* (100 - 40) / 10 */
	s->tenant[0]->decode_ns = 500 * MS;
	step(s, 540 * MS);
	assert_int_equal(rows_of(s, reads), 4); /* progress, however slow decoding is */
	close_stage(s);
}

static void lineup_decodes_no_more_than_max_batch_together(void **state)
{
	struct stage *s = open_stage();
	struct bn_work *w[MAX_BATCH + 2];
	uint32_t computed[MAX_BATCH + 2] = { 0 };

	(void)state;
	for (uint32_t i = 0; i < MAX_BATCH; i++) {
		w[i] = enter(s, 0, 1, 1, false);
	}
	step(s, MS);
	assert_int_equal(s->lineup.n_begun, MAX_BATCH);
	/* Two are held back, two others come; then all six want to go on. */
	bn_lineup_pause(&s->lineup, w[0], true);
	bn_lineup_pause(&s->lineup, w[1], true);
	for (uint32_t i = MAX_BATCH; i < MAX_BATCH + 2; i++) {
		w[i] = enter(s, 0, 1, 1, false);
	}
	step(s, MS);
	assert_int_equal(rows_of(s, w[0]), 0);
	assert_int_equal(s->lineup.n_begun, 2);
	bn_lineup_pause(&s->lineup, w[0], false);
	bn_lineup_pause(&s->lineup, w[1], false);
	for (int k = 0; k < 30; k++) {
		step(s, MS);
		assert_int_equal(s->lineup.n_decoding, MAX_BATCH);
		for (uint32_t i = 0; i < MAX_BATCH + 2; i++) {
			computed[i] += rows_of(s, w[i]);
		}
	}
	/* 120 rows among six: they take turns. */
	for (uint32_t i = 0; i < MAX_BATCH + 2; i++) {
		assert_in_range(computed[i], 18, 22);
	}
	close_stage(s);
}

static void lineup_begins_with_the_client_served_least(void **state)
{
	struct stage *s = open_stage();
	struct bn_work *first = enter(s, 0, 1, 100, false);
	struct bn_work *greedy, *light;

	(void)state;
	step(s, 160 * MS);
	assert_int_equal(rows_of(s, first), 16);
	greedy = enter(s, 0, 1, 100, false);
	light = enter(s, 0, 2, 2, false);
	do {
		step(s, 100 * MS);
	} while (s->lineup.n_begun == 0);
	assert_ptr_equal(s->lineup.step[s->lineup.n_step - s->lineup.n_begun], light);
	while (!greedy->begun) {
		step(s, 100 * MS);
	}
	close_stage(s);
}

static void lineup_gives_each_model_its_share_of_time(void **state)
{
	struct stage *s = open_stage();
	uint64_t ns[2] = { 0 };

	(void)state;
	enter(s, 0, 1, 4, false);
	s->weight = 3;
	enter(s, 1, 1, 4, false);
	/* A step of one costs seven times that of the other, and yet: 3 to 1. */
	for (int k = 0; k < 400; k++) {
		bool second = bn_lineup_next(&s->lineup) == s->tenant[1];
		uint64_t cost = second ? 7 * MS : MS;

		step(s, cost);
		ns[second] += cost;
	}
	assert_in_range(ns[1], 3 * ns[0] - 28 * MS, 3 * ns[0] + 28 * MS);
	close_stage(s);
}

static void lineup_has_nobody_next_while_all_are_held_back(void **state)
{
	struct stage *s = open_stage();
	struct bn_work *waits = enter(s, 0, 1, 4, true);

	(void)state;
	assert_null(bn_lineup_next(&s->lineup));
	bn_lineup_pause(&s->lineup, waits, false);
	assert_ptr_equal(step(s, MS), s->tenant[0]);
	bn_lineup_pause(&s->lineup, waits, true);
	assert_null(bn_lineup_next(&s->lineup));
	bn_lineup_pause(&s->lineup, waits, true); /* twice is once */
	bn_lineup_pause(&s->lineup, waits, false);
	assert_non_null(bn_lineup_next(&s->lineup));
	assert_ptr_equal(bn_lineup_find(&s->lineup, waits->id), waits);
	leave(s, waits);
	assert_null(bn_lineup_find(&s->lineup, 1));
	assert_null(bn_lineup_next(&s->lineup));
	close_stage(s);
}

static void lineup_remembers_a_bounded_number_of_clients(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	for (uid_t uid = 0; uid < 350; uid++) {
		leave(s, enter(s, 0, uid, 1, true));
	}
	assert_int_equal(s->lineup.n_accounts, 256);
	/* While they have work, none is given up. */
	s->n = 0;
	for (uid_t uid = 0; uid < 300; uid++) {
		enter(s, 0, uid, 1, true);
	}
	assert_int_equal(s->lineup.n_accounts, 300);
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lineup_reads_as_much_prompt_as_the_target_allows),
		cmocka_unit_test(lineup_leaves_time_for_those_who_decode),
		cmocka_unit_test(lineup_decodes_no_more_than_max_batch_together),
		cmocka_unit_test(lineup_begins_with_the_client_served_least),
		cmocka_unit_test(lineup_gives_each_model_its_share_of_time),
		cmocka_unit_test(lineup_has_nobody_next_while_all_are_held_back),
		cmocka_unit_test(lineup_remembers_a_bounded_number_of_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
