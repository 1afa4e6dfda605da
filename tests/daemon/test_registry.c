#include "daemon/registry.h"

#include "tests/daemon/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { HOLDS_MAX = 64, PATIENCE_MS = 60, RESIDENCY_MS = 60 };

/* A hold and what it heard. */
struct want {
	struct bn_hold hold; /* first, see of_hold */
	uint32_t granted, failed, waiting;
	struct bn_error err;
	uint32_t turn; /* when it was granted last, counted over all */
};

struct stage {
	struct rig rig;
	struct want want[HOLDS_MAX];
	uint32_t n;
	uint64_t resident, load_bytes; /* of each model */
};

static uint32_t turns;

static void on_granted(struct bn_hold *h)
{
	struct want *w = (struct want *)h;

	w->granted++;
	w->turn = ++turns;
}

static void on_failed(struct bn_hold *h, const struct bn_error *err)
{
	struct want *w = (struct want *)h;

	w->failed++;
	w->err = *err;
}

static void on_waiting(struct bn_hold *h, uint32_t position, double loaded)
{
	(void)position;
	assert_true(loaded <= 1.0);
	((struct want *)h)->waiting++;
}

static const struct bn_hold_hooks hooks = { on_granted, on_failed, on_waiting };

/* Three models of one size and a budget that holds `fit` of them, and `kv` bytes more. */
static struct stage *open_stage(double fit, uint64_t kv)
{
	struct stage *s = calloc(1, sizeof(*s));

	rig_up(&s->rig);
	rig_scheduler(&s->rig, 1, 2, 8, NULL, NULL);
	rig_model(&s->rig, "ann", 1, 256);
	rig_model(&s->rig, "bob", 2, 256);
	rig_model(&s->rig, "cid", 3, 256);
	s->resident = rig_resident(&s->rig, s->rig.paths[0], &s->load_bytes);
	rig_registry(&s->rig, (uint64_t)(fit * (double)s->resident) + s->load_bytes + kv,
		     PATIENCE_MS, RESIDENCY_MS);
	return s;
}

static void close_stage(struct stage *s)
{
	bn_enter_loop();
	for (uint32_t i = 0; i < s->n; i++) {
		bn_registry_release(s->rig.registry, &s->want[i].hold);
	}
	rig_down(&s->rig);
	free(s);
}

static struct want *want_as(struct stage *s, const char *name, uid_t uid, bool no_load,
			    bool no_wait)
{
	struct want *w = &s->want[s->n++];

	assert_true(s->n <= HOLDS_MAX);
	w->hold.hooks = &hooks;
	w->hold.uid = uid;
	w->hold.no_load = no_load;
	w->hold.no_wait = no_wait;
	bn_enter_loop();
	bn_registry_hold(s->rig.registry, &w->hold, rig_entry(&s->rig, name));
	return w;
}

static struct want *want(struct stage *s, const char *name)
{
	return want_as(s, name, 1, false, false);
}

static void release(struct stage *s, struct want *w)
{
	bn_enter_loop();
	bn_registry_release(s->rig.registry, &w->hold);
}

static void reserve(struct stage *s, struct want *w, uint64_t bytes)
{
	bn_enter_loop();
	w->granted = 0;
	bn_registry_reserve(s->rig.registry, &w->hold, bytes);
}

static bool is_granted(void *who)
{
	return ((struct want *)who)->granted > 0;
}

static bool has_failed(void *who)
{
	return ((struct want *)who)->failed > 0;
}

static void until_granted(struct stage *s, struct want *w)
{
	rig_until(&s->rig, is_granted, w);
	assert_int_equal(w->failed, 0);
}

static enum bn_entry_state state_of(struct stage *s, const char *name)
{
	return rig_entry(&s->rig, name)->state;
}

struct look {
	struct stage *s;
	const char *name;
	enum bn_entry_state state;
};

static bool has_state(void *who)
{
	struct look *l = who;

	return state_of(l->s, l->name) == l->state;
}

static void until_state(struct stage *s, const char *name, enum bn_entry_state state)
{
	struct look l = { s, name, state };

	rig_until(&s->rig, has_state, &l);
}

static uint64_t used(struct stage *s)
{
	bn_enter_loop();
	return bn_budget_used(s->rig.budget);
}

/* One model, and nothing else. */
static bool holds_one(void *who)
{
	struct stage *s = who;

	return used(s) == s->resident;
}

/* --- loading -------------------------------------------------------------------------------- */

static void registry_loads_once_for_all_who_wait(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	struct want *w[10];

	(void)state;
	for (int i = 0; i < 10; i++) {
		w[i] = want(s, "ann");
	}
	for (int i = 0; i < 10; i++) {
		until_granted(s, w[i]);
		assert_int_equal(w[i]->granted, 1);
		assert_true(w[i]->waiting > 0);
	}
	assert_int_equal(used(s), s->resident); /* and what only loading takes is free again */
	assert_int_equal(rig_entry(&s->rig, "ann")->live, 10);
	assert_non_null(rig_entry(&s->rig, "ann")->model);
	close_stage(s);
}

static void registry_tells_everybody_what_is_wrong_and_tries_again(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	const char *path = s->rig.paths[0];
	struct want *first, *second;
	char aside[160];

	(void)state;
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	first = want(s, "ann");
	second = want(s, "ann");
	rig_until(&s->rig, has_failed, first);
	rig_until(&s->rig, has_failed, second);
	assert_int_equal(first->err.status, BN_E_IO);
	assert_non_null(strstr(first->err.text, "ann"));
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_FAILED);
	assert_int_equal(used(s), 0);
	assert_int_equal(rename(aside, path), 0);
	until_granted(s, want(s, "ann"));
	close_stage(s);
}

static bool is_not_loading(void *who)
{
	return state_of(who, "ann") != BN_ENTRY_LOADING;
}

static void registry_stops_a_load_nobody_waits_for(void **state)
{
	struct stage *s = open_stage(1.0, 0);

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct want *w = want(s, "ann");

		rig_for(&s->rig, (uint32_t)i);
		release(s, w);
		if (i % 2 == 0) {
			rig_for(&s->rig, 5);
		}
	}
	/* Stopped, or faster than we; never somewhere between. */
	rig_until(&s->rig, is_not_loading, s);
	assert_true(state_of(s, "ann") == BN_ENTRY_COLD || state_of(s, "ann") == BN_ENTRY_READY);
	until_granted(s, want(s, "ann"));
	close_stage(s);
}

static void registry_does_not_load_for_one_who_says_so(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	struct want *w = want_as(s, "ann", 1, true, false);

	(void)state;
	rig_until(&s->rig, has_failed, w);
	assert_int_equal(w->err.status, BN_E_CONFLICT);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_COLD);
	until_granted(s, want(s, "ann"));
	until_granted(s, want_as(s, "ann", 1, true, false));
	close_stage(s);
}

static void registry_finds_by_name_and_alias_and_suggests(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	static const char *const aliases[] = { "annie", "first" };
	struct bn_entry *e;
	struct bn_error err;

	(void)state;
	s->rig.models[0].aliases = (struct bn_config_strings){ 2, aliases };
	bn_enter_loop();
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, false, NULL), BN_OK);
	assert_int_equal(bn_registry_find(s->rig.registry, bn_text_of("first"), &e, &err), BN_OK);
	assert_string_equal(e->config.name, "ann");
	assert_int_equal(bn_registry_find(s->rig.registry, bn_text_of("anie"), &e, &err),
			 BN_E_NOT_FOUND);
	assert_non_null(strstr(err.text, "annie"));
	assert_string_equal(err.data[0].text, "annie");
	close_stage(s);
}

/* --- leaving -------------------------------------------------------------------------------- */

static void registry_evicts_the_idle_one_used_longest_ago(void **state)
{
	struct stage *s = open_stage(2.0, 0);
	struct want *a, *b;
	const struct bn_departure *d;

	(void)state;
	a = want(s, "ann");
	until_granted(s, a);
	b = want(s, "bob");
	until_granted(s, b);
	release(s, b);
	release(s, a); /* used last */
	until_granted(s, want(s, "cid"));
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_READY);
	assert_int_equal(state_of(s, "bob"), BN_ENTRY_COLD);
	bn_enter_loop();
	d = bn_registry_departure(s->rig.registry, 0);
	assert_string_equal(d->name, "bob");
	assert_string_equal(d->by, "cid");
	assert_int_equal(d->reason, BN_DEPARTURE_MEMORY);
	assert_int_equal(d->bytes, s->resident);
	assert_null(bn_registry_departure(s->rig.registry, 1));
	close_stage(s);
}

static void registry_never_evicts_the_busy_and_the_pinned(void **state)
{
	struct stage *s = open_stage(2.0, 0);
	struct want *a = want(s, "ann");
	struct want *b, *c;

	(void)state;
	until_granted(s, a);
	b = want(s, "bob");
	until_granted(s, b);
	release(s, b);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "bob"), true);
	c = want(s, "cid");
	rig_for(&s->rig, 4 * PATIENCE_MS);
	assert_int_equal(c->granted + c->failed, 0);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_READY);
	assert_int_equal(state_of(s, "bob"), BN_ENTRY_READY);
	release(s, a);
	until_granted(s, c);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_COLD);
	assert_int_equal(state_of(s, "bob"), BN_ENTRY_READY);
	close_stage(s);
}

static void registry_refuses_what_can_never_fit(void **state)
{
	struct stage *s = open_stage(0.5, 0);
	struct want *w = want(s, "ann");

	(void)state;
	rig_until(&s->rig, has_failed, w);
	assert_int_equal(w->err.status, BN_E_MEMORY);
	assert_string_equal(w->err.data[0].key, "need_bytes");
	assert_int_equal(w->err.data[0].number, s->resident + s->load_bytes);
	assert_int_equal(used(s), 0);
	close_stage(s);
}

static void registry_refuses_what_pinned_models_leave_no_room_for(void **state)
{
	struct stage *s = open_stage(1.5, 0);
	struct want *a = want(s, "ann");
	struct want *b;

	(void)state;
	until_granted(s, a);
	release(s, a);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), true);
	b = want(s, "bob");
	rig_until(&s->rig, has_failed, b);
	assert_int_equal(b->err.status, BN_E_MEMORY);
	bn_enter_loop();
	bn_registry_pin(s->rig.registry, rig_entry(&s->rig, "ann"), false);
	until_granted(s, want(s, "bob"));
	close_stage(s);
}

static void registry_sends_idle_models_away_after_keep_alive(void **state)
{
	struct stage *s = open_stage(3.0, 0);
	struct want *a = want(s, "ann");
	struct want *b = want(s, "bob");

	(void)state;
	until_granted(s, a);
	until_granted(s, b);
	bn_enter_loop();
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "ann"), 50);
	rig_for(&s->rig, 100);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_READY); /* in use */
	release(s, a);
	release(s, b);
	assert_true(bn_registry_expires_ms(s->rig.registry, rig_entry(&s->rig, "ann")) > 0);
	assert_int_equal(bn_registry_expires_ms(s->rig.registry, rig_entry(&s->rig, "bob")), 0);
	until_state(s, "ann", BN_ENTRY_COLD);
	assert_int_equal(state_of(s, "bob"), BN_ENTRY_READY);
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_IDLE);
	bn_registry_keep_alive(s->rig.registry, rig_entry(&s->rig, "bob"), 0);
	until_state(s, "bob", BN_ENTRY_COLD);
	close_stage(s);
}

static void registry_unloads_when_the_last_user_has_left(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	struct want *a = want(s, "ann");
	struct want *late;

	(void)state;
	until_granted(s, a);
	bn_enter_loop();
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	late = want(s, "ann");
	rig_for(&s->rig, 50);
	assert_int_equal(late->granted, 0);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_READY);
	release(s, a);
	until_granted(s, late); /* unloaded, and loaded again for him */
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_UNLOAD);
	/* Taken back: nothing happens. */
	bn_registry_unload(s->rig.registry, rig_entry(&s->rig, "ann"));
	bn_registry_keep(s->rig.registry, rig_entry(&s->rig, "ann"));
	release(s, late);
	rig_for(&s->rig, 50);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_READY);
	close_stage(s);
}

/* --- taking turns --------------------------------------------------------------------------- */

static void registry_lets_a_model_run_dry_for_one_whose_patience_is_over(void **state)
{
	struct stage *s = open_stage(1.0, 0);
	struct want *a = want(s, "ann");
	struct want *b, *late;

	(void)state;
	until_granted(s, a);
	b = want(s, "bob");
	/* While he is patient, others still get in. */
	late = want(s, "ann");
	until_granted(s, late);
	release(s, late);
	rig_for(&s->rig, 2 * PATIENCE_MS + RESIDENCY_MS);
	late = want(s, "ann");
	rig_for(&s->rig, 50);
	assert_int_equal(late->granted, 0);
	release(s, a);
	until_granted(s, b);
	assert_int_equal(late->granted, 0);
	release(s, b);
	until_granted(s, late);
	assert_true(late->turn > b->turn);
	close_stage(s);
}

static void registry_hands_context_memory_out_in_turn(void **state)
{
	struct stage *s = open_stage(1.0, 1000000);
	struct want *w[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		w[i] = want(s, "ann");
		until_granted(s, w[i]);
	}
	for (int i = 0; i < 4; i++) {
		reserve(s, w[i], s->load_bytes + 600000);
	}
	until_granted(s, w[0]);
	assert_int_equal(used(s), s->resident + s->load_bytes + 600000);
	assert_int_equal(rig_entry(&s->rig, "ann")->kv_bytes, s->load_bytes + 600000);
	rig_for(&s->rig, 3 * PATIENCE_MS);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(w[i]->granted, 0);
		release(s, w[i - 1]);
		until_granted(s, w[i]);
	}
	release(s, w[3]);
	assert_int_equal(used(s), s->resident);
	close_stage(s);
}

static void registry_refuses_context_that_can_never_fit(void **state)
{
	struct stage *s = open_stage(1.0, 1000);
	struct want *w = want(s, "ann");

	(void)state;
	until_granted(s, w);
	reserve(s, w, s->load_bytes + 1001);
	rig_until(&s->rig, has_failed, w);
	assert_int_equal(w->err.status, BN_E_MEMORY);
	assert_int_equal(rig_entry(&s->rig, "ann")->live, 0);
	close_stage(s);
}

static void registry_evicts_idle_models_for_context_memory(void **state)
{
	struct stage *s = open_stage(2.0, 0);
	struct want *a = want(s, "ann");
	struct want *b = want(s, "bob");

	(void)state;
	until_granted(s, a);
	until_granted(s, b);
	release(s, a);
	reserve(s, b, s->load_bytes + 1000);
	until_granted(s, b);
	assert_int_equal(state_of(s, "ann"), BN_ENTRY_COLD);
	close_stage(s);
}

static void registry_fails_one_who_does_not_want_to_wait(void **state)
{
	struct stage *s = open_stage(1.0, 1000);
	struct want *a = want(s, "ann");
	struct want *b;

	(void)state;
	until_granted(s, a);
	b = want_as(s, "bob", 1, false, true);
	rig_until(&s->rig, has_failed, b);
	assert_int_equal(b->err.status, BN_E_OVERLOADED);
	release(s, a);
	until_granted(s, want_as(s, "bob", 1, false, true)); /* an idle one in the way is no wait */
	close_stage(s);
}

static void registry_goes_round_the_users(void **state)
{
	struct stage *s = open_stage(1.0, 1000);
	struct want *greedy[4], *light;

	(void)state;
	for (int i = 0; i < 4; i++) {
		greedy[i] = want_as(s, "ann", 7, false, false);
		until_granted(s, greedy[i]);
	}
	for (int i = 0; i < 4; i++) {
		reserve(s, greedy[i], s->load_bytes + 900);
	}
	until_granted(s, greedy[0]);
	light = want_as(s, "ann", 8, false, false);
	until_granted(s, light);
	reserve(s, light, s->load_bytes + 900);
	rig_for(&s->rig, 20);
	release(s, greedy[0]);
	until_granted(s, greedy[1]); /* they are even, and he was first */
	release(s, greedy[1]);
	until_granted(s, light); /* but now it is the other one's turn */
	assert_int_equal(greedy[2]->granted + greedy[3]->granted, 0);
	release(s, light);
	until_granted(s, greedy[2]);
	close_stage(s);
}

/*
 * Everybody waits for memory on a model that is loaded, and nobody can have it while the other's
 * model is there too: the first in order gets it, whatever has to leave.
 */
static void registry_has_no_deadlock_among_those_who_wait(void **state)
{
	struct stage *s = open_stage(2.0, 0);
	struct want *a = want(s, "ann");
	struct want *b = want(s, "bob");

	(void)state;
	until_granted(s, a);
	until_granted(s, b);
	reserve(s, a, s->load_bytes + s->resident / 2);
	reserve(s, b, s->load_bytes + s->resident / 2);
	until_granted(s, a);
	assert_int_equal(b->granted, 0);
	release(s, a);
	until_granted(s, b);
	assert_non_null(b->hold.entry->model);
	close_stage(s);
}

/* --- reload --------------------------------------------------------------------------------- */

static void registry_applies_a_new_configuration_around_what_runs(void **state)
{
	struct stage *s = open_stage(3.0, 0);
	struct want *a = want(s, "ann");
	const struct bn_model *old;
	struct bn_entry *entry;
	struct bn_entry *found;

	(void)state;
	until_granted(s, a);
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
	until_granted(s, want(s, "ann"));
	assert_ptr_equal(entry->model, old);
	release(s, a);
	rig_until(&s->rig, holds_one, s);
	bn_enter_loop();
	assert_int_equal(bn_registry_departure(s->rig.registry, 0)->reason, BN_DEPARTURE_RELOAD);
	s->rig.config.n_models = 3; /* for the files */
	close_stage(s);
}

static void registry_warms_and_preloads(void **state)
{
	struct stage *s = open_stage(3.0, 0);

	(void)state;
	s->rig.models[1].preload = true;
	bn_enter_loop();
	bn_registry_warm(s->rig.registry, rig_entry(&s->rig, "ann"));
	assert_int_equal(bn_registry_apply(s->rig.registry, &s->rig.config, true, NULL), BN_OK);
	until_state(s, "ann", BN_ENTRY_READY);
	until_state(s, "bob", BN_ENTRY_READY);
	assert_int_equal(state_of(s, "cid"), BN_ENTRY_COLD);
	bn_enter_loop();
	assert_int_equal(bn_registry_ready(s->rig.registry), 2);
	close_stage(s);
}

static void registry_tells_who_would_have_to_leave(void **state)
{
	struct stage *s = open_stage(2.0, 0);
	struct want *a = want(s, "ann");
	struct want *b = want(s, "bob");
	struct bn_entry *victims[4];
	bool fits;

	(void)state;
	until_granted(s, a);
	until_granted(s, b);
	release(s, b);
	bn_enter_loop();
	assert_int_equal(bn_registry_victims(s->rig.registry, rig_entry(&s->rig, "cid"),
					     s->load_bytes + s->resident, victims, 4, &fits),
			 1);
	assert_true(fits);
	assert_string_equal(victims[0]->config.name, "bob");
	assert_int_equal(bn_registry_victims(s->rig.registry, rig_entry(&s->rig, "cid"),
					     s->load_bytes + s->resident + 1, victims, 4, &fits),
			 1);
	assert_false(fits);
	assert_int_equal(state_of(s, "bob"), BN_ENTRY_READY);
	close_stage(s);
}

/* --- a walk --------------------------------------------------------------------------------- */

/* Whether the ledger is what the entries say, and nobody is lost. */
static void check(struct stage *s)
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
	struct stage *s = open_stage(1.6, 50000);
	unsigned seed = 99;

	(void)state;
	s->n = 40;
	for (int step = 0; step < 4000; step++) {
		struct want *w = &s->want[rand_r(&seed) % 40];
		int what = rand_r(&seed) % 16;

		bn_enter_loop();
		if (w->hold.state == BN_HOLD_NONE && !w->hold.decided) {
			if (what < 8) {
				w->hold.hooks = &hooks;
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
	print_message("%u grants\n", turns);
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registry_loads_once_for_all_who_wait),
		cmocka_unit_test(registry_tells_everybody_what_is_wrong_and_tries_again),
		cmocka_unit_test(registry_stops_a_load_nobody_waits_for),
		cmocka_unit_test(registry_does_not_load_for_one_who_says_so),
		cmocka_unit_test(registry_finds_by_name_and_alias_and_suggests),
		cmocka_unit_test(registry_evicts_the_idle_one_used_longest_ago),
		cmocka_unit_test(registry_never_evicts_the_busy_and_the_pinned),
		cmocka_unit_test(registry_refuses_what_can_never_fit),
		cmocka_unit_test(registry_refuses_what_pinned_models_leave_no_room_for),
		cmocka_unit_test(registry_sends_idle_models_away_after_keep_alive),
		cmocka_unit_test(registry_unloads_when_the_last_user_has_left),
		cmocka_unit_test(registry_lets_a_model_run_dry_for_one_whose_patience_is_over),
		cmocka_unit_test(registry_hands_context_memory_out_in_turn),
		cmocka_unit_test(registry_refuses_context_that_can_never_fit),
		cmocka_unit_test(registry_evicts_idle_models_for_context_memory),
		cmocka_unit_test(registry_fails_one_who_does_not_want_to_wait),
		cmocka_unit_test(registry_goes_round_the_users),
		cmocka_unit_test(registry_has_no_deadlock_among_those_who_wait),
		cmocka_unit_test(registry_applies_a_new_configuration_around_what_runs),
		cmocka_unit_test(registry_warms_and_preloads),
		cmocka_unit_test(registry_tells_who_would_have_to_leave),
		cmocka_unit_test(registry_keeps_its_promises_on_a_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
