/*
 * A list by time. Most deadlines are cleared long before they are due, and a list needs nothing to
 * be closed with the loop before its owner may be freed, as a timer for each would.
 */
#include "daemon/deadline.h"

#include "proto/assert.h"

static void on_clock(uv_timer_t *clock);

/* The clock rings at the earliest of all. */
static void set_clock(struct bn_deadlines *all) BN_ON_LOOP
{
	uint64_t now = uv_now(all->clock.loop);

	if (all->first == NULL) {
		uv_timer_stop(&all->clock);
	} else {
		uint64_t due = all->first->due_ms;

		uv_timer_start(&all->clock, on_clock, due > now ? due - now : 0, 0);
	}
}

static void take_out(struct bn_deadlines *all, struct bn_deadline *d) BN_ON_LOOP
{
	*(d->before != NULL ? &d->before->after : &all->first) = d->after;
	*(d->after != NULL ? &d->after->before : &all->last) = d->before;
	d->is_set = false;
}

static void on_clock(uv_timer_t *clock)
{
	struct bn_deadlines *all = clock->data;
	uint64_t now = uv_now(clock->loop);

	bn_enter_loop();
	while (all->first != NULL && all->first->due_ms <= now) {
		struct bn_deadline *d = all->first;

		take_out(all, d);
		d->passed(d);
	}
	set_clock(all);
}

static void on_closed(uv_handle_t *handle)
{
	struct bn_deadlines *all = handle->data;

	bn_enter_loop();
	all->closed(all->who);
}

void bn_deadlines_init(struct bn_deadlines *all, uv_loop_t *loop)
{
	*all = (struct bn_deadlines){ 0 };
	uv_timer_init(loop, &all->clock);
	all->clock.data = all;
}

void bn_deadlines_close(struct bn_deadlines *all, void (*closed)(void *who), void *who)
{
	bn_assert(all->first == NULL);
	all->closed = closed;
	all->who = who;
	uv_close((uv_handle_t *)&all->clock, on_closed);
}

void bn_deadline_set(struct bn_deadlines *all, struct bn_deadline *d, uint32_t ms)
{
	struct bn_deadline *before = all->last;

	bn_assert(!d->is_set);
	d->is_set = true;
	d->ms = ms;
	d->due_ms = uv_now(all->clock.loop) + ms;
	while (before != NULL && before->due_ms > d->due_ms) {
		before = before->before;
	}
	d->before = before;
	d->after = before != NULL ? before->after : all->first;
	*(d->before != NULL ? &d->before->after : &all->first) = d;
	*(d->after != NULL ? &d->after->before : &all->last) = d;
	if (all->first == d) {
		set_clock(all);
	}
}

void bn_deadline_clear(struct bn_deadlines *all, struct bn_deadline *d)
{
	bool was_first = all->first == d;

	if (d->is_set) {
		take_out(all, d);
		if (was_first) {
			set_clock(all);
		}
	}
}
