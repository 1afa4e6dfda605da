#include "daemon/registry.h"

#include "tests/daemon/wants.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- loading -------------------------------------------------------------------------------- */

static void registry_loads_once_for_all_who_wait(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *w[10];

	(void)state;
	for (int i = 0; i < 10; i++) {
		w[i] = wants_hold(s, "ann");
	}
	for (int i = 0; i < 10; i++) {
		wants_until_granted(s, w[i]);
		assert_int_equal(w[i]->granted, 1);
		assert_true(w[i]->waiting > 0);
	}
	assert_int_equal(wants_used(s),
			 s->resident); /* and what only loading takes is free again */
	assert_int_equal(rig_entry(&s->rig, "ann")->live, 10);
	assert_non_null(rig_entry(&s->rig, "ann")->model);
	wants_close(s);
}

static void registry_tells_everybody_what_is_wrong_and_tries_again(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	const char *path = s->rig.paths[0];
	struct want *first, *second;
	char aside[160];

	(void)state;
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	first = wants_hold(s, "ann");
	second = wants_hold(s, "ann");
	rig_until(&s->rig, want_has_failed, first);
	rig_until(&s->rig, want_has_failed, second);
	assert_int_equal(first->err.status, BN_E_IO);
	assert_non_null(strstr(first->err.text, "ann"));
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_FAILED);
	assert_int_equal(wants_used(s), 0);
	assert_int_equal(rename(aside, path), 0);
	wants_until_granted(s, wants_hold(s, "ann"));
	wants_close(s);
}

static bool is_not_loading(void *who)
{
	return wants_state_of(who, "ann") != BN_ENTRY_LOADING;
}

static void registry_stops_a_load_nobody_waits_for(void **state)
{
	struct wants *s = wants_open(1.0, 0);

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct want *w = wants_hold(s, "ann");

		rig_for(&s->rig, (uint32_t)i);
		wants_release(s, w);
		if (i % 2 == 0) {
			rig_for(&s->rig, 5);
		}
	}
	/* Stopped, or faster than we; never somewhere between. */
	rig_until(&s->rig, is_not_loading, s);
	assert_true(wants_state_of(s, "ann") == BN_ENTRY_COLD ||
		    wants_state_of(s, "ann") == BN_ENTRY_READY);
	wants_until_granted(s, wants_hold(s, "ann"));
	wants_close(s);
}

static void registry_does_not_load_for_one_who_says_so(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *w = wants_hold_as(s, "ann", 1, true, false);

	(void)state;
	rig_until(&s->rig, want_has_failed, w);
	assert_int_equal(w->err.status, BN_E_CONFLICT);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	wants_until_granted(s, wants_hold(s, "ann"));
	wants_until_granted(s, wants_hold_as(s, "ann", 1, true, false));
	wants_close(s);
}

/* --- leaving -------------------------------------------------------------------------------- */

static void registry_evicts_the_idle_one_used_longest_ago(void **state)
{
	struct wants *s = wants_open(2.0, 0);
	struct want *a, *b;
	const struct bn_departure *d;

	(void)state;
	a = wants_hold(s, "ann");
	wants_until_granted(s, a);
	b = wants_hold(s, "bob");
	wants_until_granted(s, b);
	wants_release(s, b);
	wants_release(s, a); /* used last */
	wants_until_granted(s, wants_hold(s, "cid"));
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY);
	assert_int_equal(wants_state_of(s, "bob"), BN_ENTRY_COLD);
	bn_enter_loop();
	d = bn_registry_departure(s->rig.registry, 0);
	assert_string_equal(d->name, "bob");
	assert_string_equal(d->by, "cid");
	assert_int_equal(d->reason, BN_DEPARTURE_MEMORY);
	assert_int_equal(d->bytes, s->resident);
	assert_null(bn_registry_departure(s->rig.registry, 1));
	wants_close(s);
}

static void registry_never_evicts_the_busy_and_the_pinned(void **state)
{
	struct wants *s = wants_open(2.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b, *c;

	(void)state;
	wants_until_granted(s, a);
	b = wants_hold(s, "bob");
	wants_until_granted(s, b);
	wants_release(s, b);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "bob"), true);
	c = wants_hold(s, "cid");
	rig_for(&s->rig, 4 * PATIENCE_MS);
	assert_int_equal(c->granted + c->failed, 0);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY);
	assert_int_equal(wants_state_of(s, "bob"), BN_ENTRY_READY);
	wants_release(s, a);
	wants_until_granted(s, c);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	assert_int_equal(wants_state_of(s, "bob"), BN_ENTRY_READY);
	wants_close(s);
}

static void registry_refuses_what_can_never_fit(void **state)
{
	struct wants *s = wants_open(0.5, 0);
	struct want *w = wants_hold(s, "ann");

	(void)state;
	rig_until(&s->rig, want_has_failed, w);
	assert_int_equal(w->err.status, BN_E_MEMORY);
	assert_string_equal(w->err.data[0].key, "need_bytes");
	assert_int_equal(w->err.data[0].number, s->resident + s->load_bytes);
	assert_int_equal(wants_used(s), 0);
	wants_close(s);
}

static void registry_refuses_what_pinned_models_leave_no_room_for(void **state)
{
	struct wants *s = wants_open(1.5, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b;

	(void)state;
	wants_until_granted(s, a);
	wants_release(s, a);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), true);
	b = wants_hold(s, "bob");
	rig_until(&s->rig, want_has_failed, b);
	assert_int_equal(b->err.status, BN_E_MEMORY);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), false);
	wants_until_granted(s, wants_hold(s, "bob"));
	wants_close(s);
}

static void registry_sends_idle_models_away_after_keep_alive(void **state)
{
	struct wants *s = wants_open(3.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *b = wants_hold(s, "bob");

	(void)state;
	wants_until_granted(s, a);
	wants_until_granted(s, b);
	bn_enter_loop();
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "ann"), 50);
	rig_for(&s->rig, 100);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY); /* in use */
	wants_release(s, a);
	wants_release(s, b);
	assert_true(bn_registry_expires_ms(s->rig.registry, rig_entry(&s->rig, "ann")) > 0);
	assert_int_equal(bn_registry_expires_ms(s->rig.registry, rig_entry(&s->rig, "bob")), 0);
	wants_until_state(s, "ann", BN_ENTRY_COLD);
	assert_int_equal(wants_state_of(s, "bob"), BN_ENTRY_READY);
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_IDLE);
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "bob"), 0);
	wants_until_state(s, "bob", BN_ENTRY_COLD);
	wants_close(s);
}

static void registry_unloads_when_the_last_user_has_left(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");
	struct want *late;

	(void)state;
	wants_until_granted(s, a);
	bn_enter_loop();
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	late = wants_hold(s, "ann");
	rig_for(&s->rig, 50);
	assert_int_equal(late->granted, 0);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY);
	wants_release(s, a);
	wants_until_granted(s, late); /* unloaded, and loaded again for him */
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_UNLOAD);
	/* Taken back: nothing happens. */
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	bn_registry_keep(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_release(s, late);
	rig_for(&s->rig, 50);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY);
	wants_close(s);
}

/* --- reload --------------------------------------------------------------------------------- */

static void registry_applies_a_new_configuration_around_what_runs(void **state)
{
	struct wants *s = wants_open(3.0, 0);
	struct want *a = wants_hold(s, "ann");
	const struct bn_model *old;
	struct bn_entry *entry;
	struct bn_entry *found;

	(void)state;
	wants_until_granted(s, a);
	entry = a->hold.entry;
	old = entry->model;
	/* ann becomes what cid was, bob goes, cid stays. */
	s->rig.models[0].path = s->rig.paths[2];
	s->rig.models[1] = s->rig.models[2];
	s->rig.models[1].keep_alive_ms = 12345;
	s->rig.config.n_models = 2;
	bn_enter_loop();
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, false, NULL), BN_OK);
	assert_int_equal(bn_registry_find(s->rig.registry, bn_text_of("bob"), &found, NULL),
			 BN_E_NOT_FOUND);
	assert_ptr_not_equal(rig_entry(&s->rig, "ann"), entry);
	assert_ptr_equal(entry->model, old);
	assert_int_equal(rig_entry(&s->rig, "cid")->keep_alive_ms, 12345);
	wants_until_granted(s, wants_hold(s, "ann"));
	assert_ptr_equal(entry->model, old);
	wants_release(s, a);
	rig_until(&s->rig, wants_hold_one_model, s);
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_RELOAD);
	s->rig.config.n_models = 3; /* for the files */
	wants_close(s);
}

static void registry_warms_and_preloads(void **state)
{
	struct wants *s = wants_open(3.0, 0);

	(void)state;
	s->rig.models[1].preload = true;
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, true, NULL), BN_OK);
	wants_until_state(s, "ann", BN_ENTRY_READY);
	wants_until_state(s, "bob", BN_ENTRY_READY);
	assert_int_equal(wants_state_of(s, "cid"), BN_ENTRY_COLD);
	bn_enter_loop();
	assert_int_equal(bn_registry_ready(s->rig.registry), 2);
	wants_close(s);
}

static bool ann_is_reading(void *who)
{
	const struct bn_entry *e = rig_entry(&((struct wants *)who)->rig, "ann");

	return e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_READING;
}

static void registry_unloads_a_load_that_was_faster_than_its_end(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");

	(void)state;
	rig_until(&s->rig, ann_is_reading, s);
	usleep(50000); /* the helper is through with it, and we have not looked */
	bn_enter_loop();
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	rig_until(&s->rig, want_has_failed, a);
	assert_int_equal(a->err.status, BN_E_CONFLICT);
	wants_until_state(s, "ann", BN_ENTRY_COLD);
	rig_for(&s->rig, 20);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	wants_until_granted(s, wants_hold(s, "ann")); /* and that was that */
	wants_close(s);
}

static void registry_warms_what_is_just_leaving(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");

	(void)state;
	rig_until(&s->rig, ann_is_reading, s);
	wants_release(s, a); /* which stops the load */
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_READY);
	bn_enter_loop();
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	while (wants_state_of(s, "ann") == BN_ENTRY_READY) {
		uv_run(&s->rig.loop, UV_RUN_NOWAIT);
	}
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_READY);
	wants_close(s);
}

static void registry_does_not_want_for_ever_what_could_not_be_had(void **state)
{
	struct wants *s = wants_open(1.5, 0);
	struct want *a = wants_hold(s, "ann");

	(void)state;
	wants_until_granted(s, a);
	wants_release(s, a);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), true);
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "bob"));
	wants_until_state(s, "bob", BN_ENTRY_FAILED);
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), false);
	a = wants_hold(s, "bob");
	wants_until_state(s, "bob", BN_ENTRY_LOADING);
	wants_release(s, a);
	wants_until_state(s, "bob", BN_ENTRY_COLD);
	wants_close(s);
}

static void registry_goes_on_with_a_load_somebody_asked_for_by_name(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a;

	(void)state;
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	a = wants_hold(s, "ann");
	wants_release(s, a);
	assert_false(rig_entry(&s->rig, "ann")->cancelled);
	wants_until_state(s, "ann", BN_ENTRY_READY);
	wants_close(s);
}

static void registry_writes_down_when_a_model_was_used(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");
	uint64_t before;

	(void)state;
	wants_until_granted(s, a);
	wants_release(s, a);
	before = rig_entry(&s->rig, "ann")->used_ms;
	rig_for(&s->rig, 5);
	wants_until_granted(s, wants_hold(s, "ann"));
	assert_true(rig_entry(&s->rig, "ann")->used_ms > before);
	wants_close(s);
}

static void registry_keeps_pinned_models_past_their_keep_alive(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");

	(void)state;
	wants_until_granted(s, a);
	wants_release(s, a);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), true);
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "ann"), 1);
	rig_for(&s->rig, 30);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_READY);
	assert_int_equal(bn_registry_expires_ms(s->rig.registry, rig_entry(&s->rig, "ann")), 0);
	/* But unloading goes before a pin. */
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_COLD);
	wants_close(s);
}

static void registry_lets_nobody_take_memory_of_a_model_that_was_unloaded(void **state)
{
	struct wants *s = wants_open(1.0, 1000);
	struct want *a = wants_hold(s, "ann");

	(void)state;
	wants_until_granted(s, a);
	wants_reserve(s, a, 500); /* would fit at once */
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_granted(s, a); /* by the model that was loaded again for him */
	bn_enter_loop();
	assert_non_null(bn_registry_departure(s->rig.registry, 0));
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_UNLOAD);
	wants_close(s);
}

/* Two loaded models, and on each one who waits for memory that only the other's could give. */
static void two_who_wait(struct wants *s, struct want **a, struct want **b)
{
	*a = wants_hold(s, "ann");
	*b = wants_hold(s, "bob");
	wants_until_granted(s, *a);
	wants_until_granted(s, *b);
	wants_reserve(s, *a, s->load_bytes + s->resident / 2);
	wants_reserve(s, *b, s->load_bytes + s->resident / 2);
	rig_for(&s->rig, 30);
	assert_int_equal((*a)->granted + (*b)->granted, 0);
}

static void registry_keeps_models_somebody_waits_for(void **state)
{
	struct wants *s = wants_open_with(2.0, 0, HOURS_MS, 0);
	struct want *a, *b;

	(void)state;
	two_who_wait(s, &a, &b); /* not for the patient */
	bn_enter_loop();
	bn_registry_keep_alive(s->rig.registry, a->hold.entry, 0);
	bn_registry_keep_alive(s->rig.registry, b->hold.entry, 0);
	assert_int_equal(bn_registry_expires_ms(s->rig.registry, a->hold.entry), 0);
	rig_for(&s->rig, 30);
	assert_null(bn_registry_departure(s->rig.registry, 0));
	wants_release(s, b);
	wants_until_granted(s, a);
	assert_null(bn_registry_departure(s->rig.registry, 1)); /* bob left, ann never did */
	wants_close(s);
}

static bool last_left_by_reload(void *who)
{
	bn_enter_loop();
	return bn_registry_departure(((struct wants *)who)->rig.registry, 0)->reason ==
	       BN_DEPARTURE_RELOAD;
}

static void registry_keeps_removed_models_somebody_waits_for(void **state)
{
	struct wants *s = wants_open_with(2.0, 0, HOURS_MS, 0);
	struct bn_config_model ann = s->rig.models[0];
	struct want *a, *b;

	(void)state;
	two_who_wait(s, &a, &b);
	s->rig.models[0] = s->rig.models[1];
	s->rig.config.n_models = 1;
	bn_enter_loop();
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, false, NULL), BN_OK);
	rig_for(&s->rig, 30);
	assert_null(bn_registry_departure(s->rig.registry, 0));
	wants_release(s, b);
	wants_until_granted(s, a);
	wants_release(s, a);
	rig_until(&s->rig, last_left_by_reload, s);
	s->rig.models[0] = ann;
	s->rig.config.n_models = 3; /* for the files */
	wants_close(s);
}

static void registry_tries_once_what_was_asked_for_by_name(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	char aside[160];

	(void)state;
	snprintf(aside, sizeof(aside), "%s.aside", s->rig.paths[0]);
	assert_int_equal(rename(s->rig.paths[0], aside), 0);
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_FAILED);
	assert_int_equal(rename(aside, s->rig.paths[0]), 0);
	rig_for(&s->rig, 30);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_FAILED);
	/* Once it was there, it may leave; and an unload is the last word. */
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_READY);
	bn_enter_loop();
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "ann"), 0);
	wants_until_state(s, "ann", BN_ENTRY_COLD);
	rig_for(&s->rig, 30);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	bn_enter_loop();
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "ann"), BN_CONFIG_KEEP_FOREVER);
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	wants_until_state(s, "ann", BN_ENTRY_COLD);
	rig_for(&s->rig, 30);
	assert_int_equal(wants_state_of(s, "ann"), BN_ENTRY_COLD);
	wants_close(s);
}

static void set_flag(void *who)
{
	*(bool *)who = true;
}

static bool flag_is_set(void *who)
{
	return *(bool *)who;
}

static void registry_closes_when_the_last_hold_is_released(void **state)
{
	struct wants *s = wants_open(1.0, 0);
	struct want *a = wants_hold(s, "ann");
	bool closed = false;

	(void)state;
	bn_registry_close(s->rig.registry, set_flag, &closed);
	rig_for(&s->rig, 20);
	assert_false(closed);
	assert_int_equal(a->granted + a->failed, 0);
	wants_release(s, a);
	rig_until(&s->rig, flag_is_set, &closed);
	s->rig.registry = NULL;
	wants_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registry_loads_once_for_all_who_wait),
		cmocka_unit_test(registry_tells_everybody_what_is_wrong_and_tries_again),
		cmocka_unit_test(registry_stops_a_load_nobody_waits_for),
		cmocka_unit_test(registry_does_not_load_for_one_who_says_so),
		cmocka_unit_test(registry_evicts_the_idle_one_used_longest_ago),
		cmocka_unit_test(registry_never_evicts_the_busy_and_the_pinned),
		cmocka_unit_test(registry_refuses_what_can_never_fit),
		cmocka_unit_test(registry_refuses_what_pinned_models_leave_no_room_for),
		cmocka_unit_test(registry_sends_idle_models_away_after_keep_alive),
		cmocka_unit_test(registry_unloads_when_the_last_user_has_left),
		cmocka_unit_test(registry_applies_a_new_configuration_around_what_runs),
		cmocka_unit_test(registry_warms_and_preloads),
		cmocka_unit_test(registry_unloads_a_load_that_was_faster_than_its_end),
		cmocka_unit_test(registry_warms_what_is_just_leaving),
		cmocka_unit_test(registry_does_not_want_for_ever_what_could_not_be_had),
		cmocka_unit_test(registry_goes_on_with_a_load_somebody_asked_for_by_name),
		cmocka_unit_test(registry_writes_down_when_a_model_was_used),
		cmocka_unit_test(registry_keeps_pinned_models_past_their_keep_alive),
		cmocka_unit_test(registry_lets_nobody_take_memory_of_a_model_that_was_unloaded),
		cmocka_unit_test(registry_keeps_models_somebody_waits_for),
		cmocka_unit_test(registry_keeps_removed_models_somebody_waits_for),
		cmocka_unit_test(registry_tries_once_what_was_asked_for_by_name),
		cmocka_unit_test(registry_closes_when_the_last_hold_is_released),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
