#include "tests/daemon/wants.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

uint32_t want_turns;

static void on_granted(struct bn_hold *h)
{
	struct want *w = (struct want *)h;

	w->granted++;
	w->turn = ++want_turns;
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

const struct bn_hold_hooks want_hooks = { on_granted, on_failed, on_waiting };

struct wants *wants_open_with(double fit, uint64_t kv, uint32_t patience_ms, uint32_t residency_ms)
{
	struct wants *s = calloc(1, sizeof(*s));

	rig_up(&s->rig);
	rig_scheduler(&s->rig, 1, 2, 8, NULL, NULL);
	rig_model(&s->rig, "ann", 1, 256);
	rig_model(&s->rig, "bob", 2, 256);
	rig_model(&s->rig, "cid", 3, 256);
	s->resident = rig_resident(&s->rig, s->rig.paths[0], &s->load_bytes);
	rig_registry(&s->rig, (uint64_t)(fit * (double)s->resident) + s->load_bytes + kv,
		     patience_ms, residency_ms);
	return s;
}

struct wants *wants_open(double fit, uint64_t kv)
{
	return wants_open_with(fit, kv, PATIENCE_MS, RESIDENCY_MS);
}

void wants_close(struct wants *s)
{
	bn_enter_loop();
	for (uint32_t i = 0; i < s->n; i++) {
		bn_registry_release(s->rig.registry, &s->want[i].hold);
	}
	rig_down(&s->rig);
	free(s);
}

struct want *wants_hold_as(struct wants *s, const char *name, uid_t uid, bool no_load, bool no_wait)
{
	struct want *w = &s->want[s->n++];

	assert_true(s->n <= HOLDS_MAX);
	w->hold.hooks = &want_hooks;
	w->hold.uid = uid;
	w->hold.no_load = no_load;
	w->hold.no_wait = no_wait;
	bn_enter_loop();
	bn_registry_hold(s->rig.registry, &w->hold, rig_entry(&s->rig, name));
	return w;
}

struct want *wants_hold(struct wants *s, const char *name)
{
	return wants_hold_as(s, name, 1, false, false);
}

void wants_release(struct wants *s, struct want *w)
{
	bn_enter_loop();
	bn_registry_release(s->rig.registry, &w->hold);
}

void wants_reserve(struct wants *s, struct want *w, uint64_t bytes)
{
	bn_enter_loop();
	w->granted = 0;
	bn_registry_reserve(s->rig.registry, &w->hold, bytes);
}

bool want_is_granted(void *who)
{
	return ((struct want *)who)->granted > 0;
}

bool want_has_failed(void *who)
{
	return ((struct want *)who)->failed > 0;
}

void wants_until_granted(struct wants *s, struct want *w)
{
	rig_until(&s->rig, want_is_granted, w);
	assert_int_equal(w->failed, 0);
}

enum bn_entry_state wants_state_of(struct wants *s, const char *name)
{
	return rig_entry(&s->rig, name)->state;
}

struct look {
	struct wants *s;
	const char *name;
	enum bn_entry_state state;
};

static bool has_state(void *who)
{
	struct look *l = who;

	return wants_state_of(l->s, l->name) == l->state;
}

void wants_until_state(struct wants *s, const char *name, enum bn_entry_state state)
{
	struct look l = { s, name, state };

	rig_until(&s->rig, has_state, &l);
}

uint64_t wants_used(struct wants *s)
{
	bn_enter_loop();
	return bn_budget_used(s->rig.budget);
}

bool wants_hold_one_model(void *who)
{
	struct wants *s = who;

	return wants_used(s) == s->resident;
}
