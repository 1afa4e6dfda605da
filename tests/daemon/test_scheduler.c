#include "daemon/scheduler.h"

#include "daemon/tenant.h"
#include "tests/daemon/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
	WORKS_MAX = 64,
	TEXT_MAX = 1 << 17,
	ENDLESS = 100000, /* tokens: nobody computes so many before we have our say */
	CONTEXT = ENDLESS + 1000,
};

/* A work and everything that was heard of it. */
struct item {
	struct bn_work work;
	char text[TEXT_MAX];
	size_t n_text;
	uint32_t tokens, begun, progress, done;
	uint32_t seen_tokens; /* by has_more_tokens */
	uint32_t began_as;    /* order of BEGUN events */
	uint64_t ns;          /* of the steps that brought its tokens */
	uint64_t other_ns;    /* that of the first work, from this one's begin to its end */
	enum bn_finish finish;
	enum bn_status status;
};

struct stage {
	struct rig rig;
	struct bn_model *model[2];
	struct bn_tenant *tenant[2];
	struct item item[WORKS_MAX];
	uint32_t n, n_done, n_begun, steps;
	uint32_t most_rows;
	uint64_t step_ns; /* of the step whose events are coming in */
	uint64_t most_ns; /* the longest step */
};

static void on_event(void *who, const struct bn_step_event *e)
{
	struct stage *s = who;
	struct item *i = (struct item *)e->work; /* work comes first in item */

	if (e->kind == BN_STEP_STEP) {
		s->steps++;
		s->step_ns = e->ns;
		s->most_ns = e->ns > s->most_ns ? e->ns : s->most_ns;
		s->most_rows = e->n_rows > s->most_rows ? e->n_rows : s->most_rows;
		assert_true(e->ns > 0 && e->n_rows > 0);
		return;
	}
	assert_int_equal(i->done, 0);
	assert_int_equal(e->id, i->work.id);
	switch (e->kind) {
	case BN_STEP_BEGUN:
		i->begun++;
		i->began_as = s->n_begun++;
		i->other_ns = s->item[0].ns;
		break;
	case BN_STEP_PROGRESS:
		i->progress++;
		assert_true(e->n_past <= e->n_prompt);
		break;
	case BN_STEP_TOKEN:
		i->tokens += e->n_tokens;
		i->ns += e->n_tokens > 0 ? s->step_ns : 0;
		if (i->n_text + e->n_text <
		    TEXT_MAX) { /* the rest of endless ones is not looked at */
			memcpy(i->text + i->n_text, e->text, e->n_text);
			i->n_text += e->n_text;
		}
		break;
	default:
		i->done++;
		i->other_ns = s->item[0].ns - i->other_ns;
		s->n_done++;
		i->finish = i->work.seq->finish;
		i->status = i->work.seq->status;
		bn_sequence_free(i->work.seq);
		i->work.seq = NULL;
		break;
	}
}

static bool all_done(void *who)
{
	const struct stage *s = who;

	return s->n_done == s->n;
}

static struct stage *open_stage(uint32_t lanes, uint32_t max_batch, uint32_t chunk)
{
	struct stage *s = calloc(1, sizeof(*s));

	rig_up(&s->rig);
	rig_scheduler(&s->rig, lanes, max_batch, chunk, on_event, s);
	for (int k = 0; k < 2; k++) {
		struct bn_forward_config f;

		bn_enter_loop();
		f = bn_scheduler_forward_config(s->rig.scheduler);
		s->model[k] =
			rig_load(rig_model(&s->rig, k == 0 ? "a" : "b", (uint64_t)k, CONTEXT));
		assert_int_equal(bn_tenant_new(&s->tenant[k], s->model[k], &f, NULL), BN_OK);
	}
	return s;
}

static void close_stage(struct stage *s)
{
	bn_enter_loop();
	rig_until(&s->rig, all_done, s);
	for (int k = 0; k < 2; k++) {
		bn_tenant_free(s->tenant[k]);
		bn_enter_helper();
		bn_model_free(s->model[k]);
	}
	rig_down(&s->rig);
	free(s);
}

static struct item *prepare(struct stage *s, int model, uid_t uid, uint32_t n_prompt,
			    uint32_t max_tokens)
{
	struct item *i = &s->item[s->n++];
	bn_token *prompt = calloc(n_prompt, sizeof(*prompt));
	struct bn_sequence_config c = { .id = s->n,
					.prompt = prompt,
					.n_prompt = n_prompt,
					.max_tokens = max_tokens,
					.ignore_eos = true };

	for (uint32_t k = 0; k < n_prompt; k++) {
		prompt[k] = (k * 7 + uid + n_prompt) % 300;
	}
	bn_sampler_defaults(&c.sampler);
	c.sampler.seed = s->n;
	assert_int_equal(bn_sequence_new(&i->work.seq, s->model[model], &c, NULL), BN_OK);
	free(prompt);
	i->work.id = s->n;
	i->work.tenant = s->tenant[model];
	i->work.uid = uid;
	i->work.weight = 1;
	return i;
}

static struct item *submit(struct stage *s, int model, uid_t uid, uint32_t n_prompt,
			   uint32_t max_tokens)
{
	struct item *i = prepare(s, model, uid, n_prompt, max_tokens);

	bn_enter_loop();
	bn_scheduler_submit(s->rig.scheduler, &i->work);
	return i;
}

/* The same ten works, however they are batched; returns their texts one after the other. */
static char *ten_works(uint32_t lanes, uint32_t max_batch, uint32_t chunk, bool one_by_one)
{
	struct stage *s = open_stage(lanes, max_batch, chunk);
	char *all = calloc(1, 10 * 4096);
	size_t n = 0;

	for (uint32_t k = 0; k < 10; k++) {
		submit(s, (int)(k % 2), 1000 + k % 3, 1 + k * 9, 20 + k);
		if (one_by_one) {
			rig_until(&s->rig, all_done, s);
		}
	}
	rig_until(&s->rig, all_done, s);
	for (uint32_t k = 0; k < 10; k++) {
		const struct item *i = &s->item[k];

		assert_int_equal(i->begun, 1);
		assert_int_equal(i->finish, BN_FINISH_LENGTH);
		assert_int_equal(i->tokens, 20 + k);
		assert_true(n + i->n_text < 10 * 4096);
		memcpy(all + n, i->text, i->n_text);
		n += i->n_text;
	}
	assert_true(n > 100);
	close_stage(s);
	return all;
}

static void scheduler_gives_the_same_text_however_work_is_batched(void **state)
{
	static const uint32_t ways[][3] = {
		{ 1, 1, 1 }, { 1, 4, 7 }, { 1, 16, 512 }, { 2, 3, 5 }, { 2, 16, 64 }
	};
	char *want = ten_works(1, 16, 512, true);

	(void)state;
	for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
		char *got = ten_works(ways[k][0], ways[k][1], ways[k][2], false);

		assert_string_equal(got, want);
		free(got);
	}
	free(want);
}

static bool has_tokens(void *who)
{
	const struct item *i = who;

	return i->tokens > 0;
}

static bool is_done(void *who)
{
	const struct item *i = who;

	return i->done > 0;
}

/*
 * Whatever was said before has been heard: what is said is taken in order, and a work that was
 * submitted last has come and gone. Needs a free place in the batch.
 */
static void settle(struct stage *s)
{
	struct item *i = submit(s, 0, 99, 1, 2);

	rig_until(&s->rig, is_done, i);
}

static void cancel(struct stage *s, const struct item *i, enum bn_status status)
{
	bn_enter_loop();
	bn_scheduler_cancel(s->rig.scheduler, i->work.id, status);
}

static void pause_work(struct stage *s, const struct item *i, bool pause)
{
	bn_enter_loop();
	bn_scheduler_pause(s->rig.scheduler, i->work.id, pause);
}

/* Steps are counted as their events come in, which may be late on a busy machine: "within one step"
 * must be seen once in a while, not each time. */
static void scheduler_cancels_within_one_step_and_touches_nobody_else(void **state)
{
	struct stage *s = open_stage(1, 8, 64);
	struct item *other = submit(s, 0, 2, 10, 300);
	uint32_t least = UINT32_MAX;

	(void)state;
	for (int k = 0; k < 40 && least > 10; k++) {
		struct item *victim = submit(s, 0, 1, 10, ENDLESS);
		uint32_t steps;

		rig_until(&s->rig, has_tokens, victim);
		steps = s->steps;
		cancel(s, victim, BN_E_DEADLINE);
		bn_scheduler_cancel(s->rig.scheduler, 4711, BN_E_CANCELLED); /* nobody has it */
		rig_until(&s->rig, is_done, victim);
		assert_int_equal(victim->finish, BN_FINISH_CANCELLED);
		assert_int_equal(victim->status, BN_E_DEADLINE);
		least = s->steps - steps < least ? s->steps - steps : least;
		/* Too late, and of no effect. */
		cancel(s, victim, BN_E_CANCELLED);
	}
	assert_true(least <= 10);
	rig_until(&s->rig, all_done, s);
	assert_int_equal(other->finish, BN_FINISH_LENGTH);
	assert_int_equal(other->tokens, 300);
	close_stage(s);
}

static void scheduler_ends_what_never_began(void **state)
{
	struct stage *s = open_stage(1, 1, 64);
	struct item *runs = submit(s, 0, 1, 4, ENDLESS);
	struct item *waits = submit(s, 0, 1, 4, 1000);

	(void)state;
	rig_until(&s->rig, has_tokens, runs);
	cancel(s, waits, BN_E_CANCELLED);
	rig_until(&s->rig, is_done, waits);
	assert_int_equal(waits->begun, 0);
	assert_int_equal(waits->tokens, 0);
	assert_int_equal(runs->done, 0);
	cancel(s, runs, BN_E_CANCELLED);
	close_stage(s);
}

/* Whether n_tokens were enough to be still at it when the pause was heard. */
static bool is_held_back(uint32_t n_tokens)
{
	struct stage *s = open_stage(1, 4, 64);
	struct item *i = submit(s, 0, 1, 4, n_tokens);
	uint32_t tokens;
	bool in_time;

	rig_until(&s->rig, has_tokens, i);
	pause_work(s, i, true);
	settle(s);
	in_time = i->done == 0;
	if (in_time) {
		tokens = i->tokens;
		assert_true(tokens < n_tokens);
		/* Others go on meanwhile, and it does not take their place. */
		for (int k = 0; k < 20; k++) {
			settle(s);
		}
		assert_int_equal(i->tokens, tokens);
		pause_work(s, i, false);
	}
	rig_until(&s->rig, all_done, s);
	assert_int_equal(i->tokens, n_tokens);
	assert_int_equal(i->finish, BN_FINISH_LENGTH);
	close_stage(s);
	return in_time;
}

static void scheduler_holds_paused_work_back_and_loses_nothing(void **state)
{
	uint32_t n_tokens = 400;

	(void)state;
	while (!is_held_back(n_tokens)) {
		n_tokens *= 2; /* this machine is faster, or busier, than that */
		assert_true(n_tokens < ENDLESS);
	}
}

static void scheduler_begins_paused_and_goes_on_when_told(void **state)
{
	struct stage *s = open_stage(1, 4, 64);
	struct item *i = prepare(s, 0, 1, 4, 40);

	(void)state;
	i->work.start_paused = true;
	bn_enter_loop();
	bn_scheduler_submit(s->rig.scheduler, &i->work);
	settle(s);
	settle(s);
	assert_int_equal(i->begun, 0);
	pause_work(s, i, false);
	rig_until(&s->rig, all_done, s);
	assert_int_equal(i->tokens, 40);
	close_stage(s);
}

static void scheduler_cancels_paused_work(void **state)
{
	struct stage *s = open_stage(1, 4, 64);
	struct item *i = submit(s, 0, 1, 4, ENDLESS);

	(void)state;
	pause_work(s, i, true);
	settle(s);
	cancel(s, i, BN_E_STALLED);
	rig_until(&s->rig, all_done, s);
	assert_int_equal(i->status, BN_E_STALLED);
	close_stage(s);
}

static void scheduler_reads_long_prompts_in_pieces_between_others_tokens(void **state)
{
	struct stage *s = open_stage(1, 4, 16);
	struct item *decodes = submit(s, 0, 1, 2, ENDLESS);
	struct item *reads;
	uint32_t before;

	(void)state;
	rig_until(&s->rig, has_tokens, decodes);
	before = decodes->tokens;
	reads = prepare(s, 0, 2, 400, 4);
	reads->work.want_progress = true;
	bn_enter_loop();
	bn_scheduler_submit(s->rig.scheduler, &reads->work);
	rig_until(&s->rig, is_done, reads);
	assert_true(reads->progress >= 400 / 16);
	assert_true(decodes->tokens - before >= 400 / 16);
	assert_true(s->most_rows <= 16 + 4);
	cancel(s, decodes, BN_E_CANCELLED);
	close_stage(s);
}

static void scheduler_begins_whom_it_has_served_least(void **state)
{
	struct stage *s = open_stage(1, 1, 64);
	struct item *plug = submit(s, 0, 3, 2, ENDLESS);
	struct item *greedy[6], *light;

	(void)state;
	/* All of them stand in line before the only place becomes free. */
	rig_until(&s->rig, has_tokens, plug);
	for (int k = 0; k < 6; k++) {
		greedy[k] = submit(s, 0, 1, 30, 50);
	}
	light = submit(s, 0, 2, 2, 2);
	cancel(s, plug, BN_E_CANCELLED);
	rig_until(&s->rig, all_done, s);
	/* It came last, and yet at most one of the others was in front of it. */
	assert_true(light->began_as < greedy[1]->began_as);
	for (int k = 1; k < 6; k++) {
		assert_true(greedy[k - 1]->began_as < greedy[k]->began_as);
	}
	close_stage(s);
}

static void scheduler_shares_time_between_models_by_weight(void **state)
{
	struct stage *s = open_stage(1, 4, 64);
	struct item *light = prepare(s, 0, 1, 4, ENDLESS);
	struct item *heavy = prepare(s, 1, 1, 4, 1800);
	double light_ns, lead, most;

	(void)state;
	heavy->work.weight = 4;
	bn_enter_loop();
	bn_scheduler_submit(s->rig.scheduler, &light->work);
	bn_scheduler_submit(s->rig.scheduler, &heavy->work);
	rig_until(&s->rig, is_done, heavy);
	/*
	 * Time, not tokens: later tokens cost more. On a busy machine a step may take longer than
	 * anybody could know; that much more a model may be ahead. Exactly: test_lineup.c.
	 */
	light_ns = (double)heavy->other_ns;
	lead = (double)heavy->ns / 4 - light_ns;
	print_message("time %.2f to 1, longest step %.2f %% of it\n", (double)heavy->ns / light_ns,
		      100 * (double)s->most_ns / (double)heavy->ns);
	most = (double)heavy->ns / 80 + 2 * (double)s->most_ns;
	assert_true(lead < most && -lead < most);
	cancel(s, light, BN_E_CANCELLED);
	close_stage(s);
}

static bool has_more_tokens(void *who)
{
	struct item *i = who;
	bool more = i->tokens > i->seen_tokens;

	i->seen_tokens = i->tokens;
	return more;
}

static void scheduler_is_not_stuck_when_idle_or_busy(void **state)
{
	struct stage *s = open_stage(2, 4, 64);
	struct item *i;

	(void)state;
	bn_enter_loop();
	assert_int_equal(bn_scheduler_stuck_ns(s->rig.scheduler), 0);
	i = submit(s, 0, 1, 4, ENDLESS);
	for (int k = 0; k < 20; k++) {
		/* Ask; lanes move; ask again. */
		bn_enter_loop();
		(void)bn_scheduler_stuck_ns(s->rig.scheduler);
		rig_until(&s->rig, has_more_tokens, i);
		rig_until(&s->rig, has_more_tokens, i);
		assert_int_equal(bn_scheduler_stuck_ns(s->rig.scheduler), 0);
	}
	assert_int_equal(bn_scheduler_lanes(s->rig.scheduler), 2);
	cancel(s, i, BN_E_CANCELLED);
	close_stage(s);
}

/* Random submits, cancels, pauses and resumes: every baton comes back exactly once. */
static void scheduler_survives_a_random_walk(void **state)
{
	struct stage *s = open_stage(2, 5, 32);
	unsigned seed = 12345;

	(void)state;
	for (int k = 0; k < 600; k++) {
		uint32_t what = (uint32_t)rand_r(&seed) % 8;

		bn_enter_loop();
		if (what < 2 && s->n < WORKS_MAX) {
			submit(s, rand_r(&seed) % 2, (uid_t)(rand_r(&seed) % 4),
			       1 + (uint32_t)rand_r(&seed) % 120,
			       1 + (uint32_t)rand_r(&seed) % 200);
		} else if (s->n > 0) {
			uint64_t id = 1 + (uint64_t)rand_r(&seed) % s->n;

			if (what == 2) {
				bn_scheduler_cancel(s->rig.scheduler, id, BN_E_CANCELLED);
			} else if (what < 6) {
				bn_scheduler_pause(s->rig.scheduler, id, what == 3);
			} else {
				uv_run(&s->rig.loop, UV_RUN_NOWAIT);
			}
		}
	}
	bn_enter_loop();
	for (uint64_t id = 1; id <= s->n; id++) {
		bn_scheduler_pause(s->rig.scheduler, id, false);
	}
	rig_until(&s->rig, all_done, s);
	for (uint32_t k = 0; k < s->n; k++) {
		assert_int_equal(s->item[k].done, 1);
		assert_true(s->item[k].finish == BN_FINISH_LENGTH ||
			    s->item[k].finish == BN_FINISH_CANCELLED);
	}
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scheduler_gives_the_same_text_however_work_is_batched),
		cmocka_unit_test(scheduler_cancels_within_one_step_and_touches_nobody_else),
		cmocka_unit_test(scheduler_ends_what_never_began),
		cmocka_unit_test(scheduler_holds_paused_work_back_and_loses_nothing),
		cmocka_unit_test(scheduler_begins_paused_and_goes_on_when_told),
		cmocka_unit_test(scheduler_cancels_paused_work),
		cmocka_unit_test(scheduler_reads_long_prompts_in_pieces_between_others_tokens),
		cmocka_unit_test(scheduler_begins_whom_it_has_served_least),
		cmocka_unit_test(scheduler_shares_time_between_models_by_weight),
		cmocka_unit_test(scheduler_is_not_stuck_when_idle_or_busy),
		cmocka_unit_test(scheduler_survives_a_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
