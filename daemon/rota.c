#include "daemon/rota.h"

#include "proto/assert.h"

enum { HANDLES = 3 }; /* flush, again, timer */

static void on_again(uv_idle_t *idle)
{
	(void)idle; /* being active is its work: the loop does not sleep */
}

static void on_flush(uv_prepare_t *prepare)
{
	struct bn_rota *r = prepare->data;
	struct bn_rota_item *item;

	bn_enter_loop();
	item = r->due;
	r->due = NULL;
	r->due_end = &r->due;
	while (item != NULL) {
		struct bn_rota_item *next = item->next_due;

		item->is_due = false;
		r->serve(item);
		item = next;
	}
	if (r->due != NULL) {
		uv_idle_start(&r->again, on_again);
	} else {
		uv_idle_stop(&r->again);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct bn_rota *r = timer->data;
	uint64_t now;
	bool needed = false;

	bn_enter_loop();
	now = bn_rota_now_ms(r);
	for (struct bn_rota_item *i = r->ring.after; i != &r->ring; i = i->after) {
		needed = r->sweep(i, now) || needed;
	}
	if (!needed) {
		uv_timer_stop(timer);
		r->is_sweeping = false;
	}
}

void bn_rota_init(struct bn_rota *r, uv_loop_t *loop, bn_rota_serve serve, bn_rota_sweep sweep)
{
	*r = (struct bn_rota){ .serve = serve, .sweep = sweep, .handles = HANDLES };
	r->ring.before = &r->ring;
	r->ring.after = &r->ring;
	r->due_end = &r->due;
	/* None of the three can fail in libuv. */
	uv_prepare_init(loop, &r->flush);
	uv_idle_init(loop, &r->again);
	uv_timer_init(loop, &r->timer);
	r->flush.data = r;
	r->again.data = r;
	r->timer.data = r;
	uv_prepare_start(&r->flush, on_flush);
}

/* The last of the handles. */
static void on_closed(uv_handle_t *handle)
{
	struct bn_rota *r = handle->data;

	bn_enter_loop();
	if (--r->handles == 0) {
		r->closed(r->who);
	}
}

void bn_rota_close(struct bn_rota *r, void (*closed)(void *who), void *who)
{
	bn_assert(r->ring.after == &r->ring && r->due == NULL);
	r->closed = closed;
	r->who = who;
	uv_close((uv_handle_t *)&r->flush, on_closed);
	uv_close((uv_handle_t *)&r->again, on_closed);
	uv_close((uv_handle_t *)&r->timer, on_closed);
}

void bn_rota_add(struct bn_rota *r, struct bn_rota_item *item)
{
	item->is_due = false;
	item->after = &r->ring;
	item->before = r->ring.before;
	item->before->after = item;
	item->after->before = item;
}

void bn_rota_remove(struct bn_rota_item *item)
{
	bn_assert(!item->is_due);
	item->before->after = item->after;
	item->after->before = item->before;
}

void bn_rota_soon(struct bn_rota *r, struct bn_rota_item *item)
{
	if (!item->is_due) {
		item->is_due = true;
		item->next_due = NULL;
		*r->due_end = item;
		r->due_end = &item->next_due;
	}
}

void bn_rota_need_sweep(struct bn_rota *r, uint64_t period_ms)
{
	if (!r->is_sweeping) {
		uv_timer_start(&r->timer, on_timer, period_ms, period_ms);
		r->is_sweeping = true;
	}
}

uint64_t bn_rota_now_ms(const struct bn_rota *r)
{
	return uv_now(r->timer.loop) + 1;
}

struct bn_rota_item *bn_rota_first(const struct bn_rota *r)
{
	return r->ring.after != &r->ring ? r->ring.after : NULL;
}

struct bn_rota_item *bn_rota_after(const struct bn_rota *r, const struct bn_rota_item *item)
{
	return item->after != &r->ring ? item->after : NULL;
}
