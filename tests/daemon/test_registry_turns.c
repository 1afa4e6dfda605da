#include "daemon/registry.h"

#include "tests/daemon/wants.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- taking turns --------------------------------------------------------------------------- */

static void registry_lets_a_model_run_dry_for_one_whose_patience_is_over(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b, *late;

	(void)state;
	wants_until_granted(s, a);
	b = wants_hold(s, "bob");
	/* While he is patient, others still get in. */
	late = wants_hold(s, "ann");
	wants_until_granted(s, late);
	wants_release(s, late);
	rig_for(&s->rig, 2 * PATIENCE_MS + RESIDENCY_MS);
	late = wants_hold(s, "ann");
	rig_for(&s->rig, 50);
	assert_int_equal(late->granted, 0);
	wants_release(s, a);
	wants_until_granted(s, b);
	assert_int_equal(late->granted, 0);
	wants_release(s, b);
	wants_until_granted(s, late);
	assert_true(late->turn > b->turn);
	wants_close(s);
}

static void registry_hands_context_memory_out_in_turn(void **state)
{
	struct wants *s = wants_open(1.0, 1000000);
	struct want *w[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		w[i] = wants_hold(s, "ann");
		wants_until_granted(s, w[i]);
	}
	for (int i = 0; i < 4; i++) {
		wants_reserve(s, w[i], s->load_bytes + 600000);
	}
	wants_until_granted(s, w[0]);
	assert_int_equal(wants_used(s), s->resident + s->load_bytes + 600000);
	assert_int_equal(rig_entry(&s->rig, "ann")->kv_bytes, s->load_bytes + 600000);
	rig_for(&s->rig, 3 * PATIENCE_MS);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(w[i]->granted, 0);
		wants_release(s, w[i - 1]);
		wants_until_granted(s, w[i]);
	}
	wants_release(s, w[3]);
	assert_int_equal(wants_used(s), s->resident);
	wants_close(s);
}

static void registry_refuses_context_that_can_never_fit(void **state)
{
	struct wants *s = wants_open(1.0, 1000);
	struct want *w = wants_hold(s, "ann");

	(void)state;
	wants_until_granted(s, w);
	wants_reserve(s, w, s->load_bytes + 1001);
	rig_until(&s->rig, want_has_failed, w);
	assert_int_equal(w->err.status, BN_E_MEMORY);
	assert_int_equal(rig_entry(&s->rig, "ann")->live, 0);
	wants_close(s);
}

static void registry_evicts_idle_models_for_context_memory(void **state)
{
	struct wants *s = wants_open(2.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b = wants_hold(s, "bob");

	(void)state;
	wants_until_granted(s, a);
	wants_until_granted(s, b);
	wants_release(s, a);
	wants_reserve(s, b, s->load_bytes + 1000);
	wants_until_granted(s, b);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	wants_close(s);
}

static void registry_fails_one_who_does_not_want_to_wait(void **state)
{
	struct wants *s = wants_open(1.0, 1000);
	struct want *a = wants_hold(s, "ann");
	struct want *b;

	(void)state;
	wants_until_granted(s, a);
	b = wants_hold_as(s, "bob", 1, false, true);
	rig_until(&s->rig, want_has_failed, b);
	assert_int_equal(b->err.status, BN_E_OVERLOADED);
	wants_release(s, a);
	wants_until_granted(
		s, wants_hold_as(s, "bob", 1, false, true)); /* an idle one in the way is no wait */
	wants_close(s);
}

static void registry_goes_round_the_users(void **state)
{
	struct wants *s = wants_open(1.0, 1000);
	struct want *greedy[4], *light;

	(void)state;
	for (int i = 0; i < 4; i++) {
		greedy[i] = wants_hold_as(s, "ann", 7, false, false);
		wants_until_granted(s, greedy[i]);
	}
	for (int i = 0; i < 4; i++) {
		wants_reserve(s, greedy[i], s->load_bytes + 900);
	}
	wants_until_granted(s, greedy[0]);
	light = wants_hold_as(s, "ann", 8, false, false);
	wants_until_granted(s, light);
	wants_reserve(s, light, s->load_bytes + 900);
	rig_for(&s->rig, 20);
	wants_release(s, greedy[0]);
	wants_until_granted(s, greedy[1]); /* they are even, and he was first */
	wants_release(s, greedy[1]);
	wants_until_granted(s, light); /* but now it is the other one's turn */
	assert_int_equal(greedy[2]->granted + greedy[3]->granted, 0);
	wants_release(s, light);
	wants_until_granted(s, greedy[2]);
	wants_close(s);
}

/*
 * Everybody waits for memory on a model that is loaded, and nobody can have it while the other's
 * model is there too: the first in order gets it, whatever has to leave.
 */
static void registry_has_no_deadlock_among_those_who_wait(void **state)
{
	struct wants *s = wants_open(2.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b = wants_hold(s, "bob");

	(void)state;
	wants_until_granted(s, a);
	wants_until_granted(s, b);
	wants_reserve(s, a, s->load_bytes + s->resident / 2);
	wants_reserve(s, b, s->load_bytes + s->resident / 2);
	wants_until_granted(s, a);
	assert_int_equal(b->granted, 0);
	wants_release(s, a);
	wants_until_granted(s, b);
	assert_non_null(b->hold.entry->model);
	wants_close(s);
}

/* ann with all of the memory for context but `left` bytes taken by the first hold. */
static struct want *take_all_but(struct wants *s, uint64_t left)
{
	struct want *a = wants_hold(s, "ann");

	wants_until_granted(s, a);
	wants_reserve(s, a, bn_budget_limit(s->rig.budget) - wants_used(s) - left);
	wants_until_granted(s, a);
	return a;
}

static struct want *enter_ann(struct wants *s, uint64_t bytes)
{
	struct want *w = wants_hold(s, "ann");

	wants_until_granted(s, w);
	wants_reserve(s, w, bytes);
	return w;
}

static void registry_lets_others_take_what_is_too_little_for_the_patient(void **state)
{
	struct wants *s = wants_open_with(1.0, 1000, HOURS_MS, 0);
	struct want *a = take_all_but(s, 500);
	struct want *b = enter_ann(s, 600);

	(void)state;
	wants_until_granted(s, enter_ann(s, 400));
	assert_int_equal(b->granted, 0);
	wants_release(s, a);
	wants_until_granted(s, b);
	wants_close(s);
}

static bool wants_room(struct wants *s, const char *name)
{
	const struct bn_entry *e = rig_entry(&s->rig, name);

	return e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM;
}

static bool bob_wants_room(void *who)
{
	return wants_room(who, "bob");
}

static bool cid_wants_room(void *who)
{
	return wants_room(who, "cid");
}

static void registry_lets_nobody_past_one_whose_patience_is_over(void **state)
{
	struct wants *s =
		wants_open_with(2.0, 1000, PATIENCE_MS, HOURS_MS); /* nobody is promoted */
	struct want *a = take_all_but(s, s->resident + s->load_bytes + 500);
	struct want *b = enter_ann(s, s->resident + s->load_bytes + 600);
	struct want *c, *d;

	(void)state;
	rig_for(&s->rig, 2 * PATIENCE_MS);
	c = enter_ann(s, 400);    /* would fit */
	d = wants_hold(s, "bob"); /* so would this */
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "cid")); /* and this */
	rig_until(&s->rig, bob_wants_room, s);
	rig_until(&s->rig, cid_wants_room, s);
	rig_for(&s->rig, 20);
	assert_int_equal(b->granted + c->granted + d->granted, 0);
	assert_true(bob_wants_room(s) && cid_wants_room(s));
	wants_release(s, d);
	rig_for(&s->rig, 20); /* nobody waits for a model now, and cid still does not begin */
	assert_true(cid_wants_room(s));
	wants_release(s, a);
	wants_until_granted(s, b);
	wants_until_granted(s, c);
	assert_true(b->turn < c->turn);
	wants_close(s);
}

static void registry_keeps_room_it_made_for_the_one_it_made_it_for(void **state)
{
	struct wants *s = wants_open_with(2.0, 1000, HOURS_MS, 0);
	struct want *first = wants_hold_as(s, "cid", 2, false, false);
	struct want *served, *next, *b;

	(void)state;
	/* ann is idle, cid is used, user 2 has had less than user 1. */
	wants_until_granted(s, first);
	served = wants_hold(s, "ann");
	wants_until_granted(s, served);
	wants_release(s, served);
	served = wants_hold(s, "cid");
	wants_until_granted(s, served);
	wants_reserve(s, served, 1000);
	wants_until_granted(s, served);
	next = wants_hold(s, "cid");
	wants_until_granted(s, next);
	b = wants_hold_as(s, "bob", 2, false, false);
	rig_until(&s->rig, bob_wants_room, s);
	wants_reserve(s, next, s->load_bytes / 2); /* fits, until bob has his room */
	wants_until_granted(s, next);
	assert_int_equal(b->granted, 1);
	assert_true(b->turn < next->turn);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	wants_close(s);
}

static void registry_keeps_memory_it_freed_for_the_one_it_freed_it_for(void **state)
{
	struct wants *s = wants_open_with(2.0, 0, HOURS_MS, 0);
	struct want *idle = wants_hold(s, "bob");
	struct want *x, *y;

	(void)state;
	wants_until_granted(s, idle);
	x = wants_hold(s, "ann");
	y = wants_hold(s, "ann");
	wants_until_granted(s, x);
	wants_until_granted(s, y);
	wants_release(s, idle);
	wants_reserve(s, x, s->load_bytes + s->resident / 2); /* when bob has left */
	wants_reserve(s, y, s->load_bytes / 2 + s->resident); /* never together */
	wants_until_granted(s, x);
	assert_int_equal(y->granted, 0);
	wants_release(s, x);
	wants_until_granted(s, y);
	wants_close(s);
}

static void registry_lets_everybody_in_while_one_is_patient_or_a_model_is_new(void **state)
{
	static const uint32_t patience[] = { HOURS_MS, 0 };
	static const uint32_t residency[] = { 0, HOURS_MS };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct wants *s = wants_open_with(1.0, 0, patience[i], residency[i]);
		struct want *a = wants_hold(s, "ann");
		struct want *b;

		wants_until_granted(s, a);
		b = wants_hold(s, "bob");
		rig_until(&s->rig, bob_wants_room, s);
		rig_for(&s->rig, 20);
		wants_until_granted(s, wants_hold(s, "ann"));
		assert_int_equal(b->granted, 0);
		wants_close(s);
	}
}

static void registry_fails_one_who_does_not_want_to_wait_for_memory(void **state)
{
	struct wants *s = wants_open_with(1.0, 1000, HOURS_MS, 0);
	struct want *a = take_all_but(s, 500);
	struct want *b = wants_hold_as(s, "ann", 1, false, true);

	(void)state;
	wants_until_granted(s, b);
	wants_reserve(s, b, 501);
	rig_until(&s->rig, want_has_failed, b);
	assert_int_equal(b->err.status, BN_E_OVERLOADED);
	wants_release(s, a);
	wants_close(s);
}

/* --- a walk --------------------------------------------------------------------------------- */

/* Whether the ledger is what the entries say, and nobody is lost. */
static void check(struct wants *s)
{
	uint64_t sum = 0;
	uint32_t waiting = 0, live = 0;

	bn_enter_loop();
	for (const struct bn_entry *e = bn_registry_first(s->rig.registry); e != NULL;
	     e = e->next) {
		sum += e->kv_bytes;
		if (e->state == BN_ENTRY_READY || e->state == BN_ENTRY_DRAINING) {
			sum += bn_entry_resident(e);
		} else if (e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_READING) {
			sum += bn_entry_need(e);
		}
		assert_true(e->live == 0 || e->state == BN_ENTRY_READY);
		waiting += e->waiting;
		live += e->live;
	}
	assert_int_equal(sum, bn_budget_used(s->rig.budget));
	assert_true(bn_budget_used(s->rig.budget) <= bn_budget_limit(s->rig.budget));
	assert_int_equal(waiting, bn_registry_waiting(s->rig.registry));
	for (uint32_t i = 0; i < s->n; i++) {
		const struct bn_hold *h = &s->want[i].hold;

		waiting -= h->state == BN_HOLD_MODEL || h->state == BN_HOLD_MEMORY;
		live -= h->state == BN_HOLD_GRANTED;
	}
	assert_int_equal(waiting, 0);
	assert_int_equal(live, 0);
}

static void registry_keeps_its_promises_on_a_random_walk(void **state)
{
	static const char *const names[] = { "ann", "bob", "cid" };
	struct wants *s = wants_open(1.6, 50000);
	unsigned seed = 99;

	(void)state;
	s->n = 40;
	for (int step = 0; step < 4000; step++) {
		struct want *w = &s->want[rand_r(&seed) % 40];
		int what = rand_r(&seed) % 16;

		bn_enter_loop();
		if (w->hold.state == BN_HOLD_NONE && !w->hold.decided) {
			if (what < 8) {
				w->hold.hooks = &want_hooks;
				w->hold.uid = (uid_t)(rand_r(&seed) % 4);
				w->hold.no_load = rand_r(&seed) % 20 == 0;
				w->hold.no_wait = rand_r(&seed) % 10 == 0;
				w->granted = 0;
				bn_registry_hold(s->rig.registry, &w->hold,
						 rig_entry(&s->rig, names[rand_r(&seed) % 3]));
			}
		} else if (w->hold.state == BN_HOLD_GRANTED && w->granted > 0 &&
			   w->hold.bytes == 0 && what < 8) {
			w->granted = 0;
			bn_registry_reserve(s->rig.registry, &w->hold,
					    1 + (uint64_t)rand_r(&seed) % (s->resident / 2));
		} else if (what < 4) {
			bn_registry_release(s->rig.registry, &w->hold);
		}
		if (what == 15) {
			bn_registry_pin(s->rig.registry, rig_entry(&s->rig, names[step % 3]),
					rand_r(&seed) % 4 == 0);
		} else if (what == 14) {
			bn_registry_unload(s->rig.registry, rig_entry(&s->rig, names[step % 3]));
		}
		if (step % 8 == 0) {
			rig_for(&s->rig, 1);
		} else {
			uv_run(&s->rig.loop, UV_RUN_NOWAIT);
		}
		check(s);
	}
	/* Everybody who still waits is served or refused once the others have left. */
	bn_enter_loop();
	for (int i = 0; i < 3; i++) {
		bn_registry_pin(s->rig.registry, rig_entry(&s->rig, names[i]), false);
	}
	for (uint32_t left = 40; left > 0;) {
		left = 0;
		for (uint32_t i = 0; i < 40; i++) {
			struct want *w = &s->want[i];

			bn_enter_loop();
			if (w->hold.state == BN_HOLD_GRANTED) {
				bn_registry_release(s->rig.registry, &w->hold);
			}
			left += w->hold.state != BN_HOLD_NONE;
		}
		rig_for(&s->rig, 5);
		check(s);
	}
	print_message("%u grants\n", want_turns);
	wants_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registry_lets_a_model_run_dry_for_one_whose_patience_is_over),
		cmocka_unit_test(registry_hands_context_memory_out_in_turn),
		cmocka_unit_test(registry_refuses_context_that_can_never_fit),
		cmocka_unit_test(registry_evicts_idle_models_for_context_memory),
		cmocka_unit_test(registry_fails_one_who_does_not_want_to_wait),
		cmocka_unit_test(registry_goes_round_the_users),
		cmocka_unit_test(registry_has_no_deadlock_among_those_who_wait),
		cmocka_unit_test(registry_lets_others_take_what_is_too_little_for_the_patient),
		cmocka_unit_test(registry_lets_nobody_past_one_whose_patience_is_over),
		cmocka_unit_test(registry_keeps_room_it_made_for_the_one_it_made_it_for),
		cmocka_unit_test(registry_keeps_memory_it_freed_for_the_one_it_freed_it_for),
		cmocka_unit_test(registry_lets_everybody_in_while_one_is_patient_or_a_model_is_new),
		cmocka_unit_test(registry_fails_one_who_does_not_want_to_wait_for_memory),
		cmocka_unit_test(registry_keeps_its_promises_on_a_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
