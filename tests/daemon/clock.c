#include "tests/daemon/clock.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* For libuv an armed timer is one that is due in years: it keeps the loop alive and never fires. */
#define YEARS_MS UINT64_C(1000000000000)

enum { TIMERS = 16 };

struct armed {
	uv_timer_t *timer; /* NULL: free */
	uv_timer_cb fire;
	uint64_t due, repeat;
};

static struct armed list[TIMERS];
static uint64_t now = 1;

uint64_t __wrap_uv_now(const uv_loop_t *loop);
int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb fire, uint64_t timeout, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb fire, uint64_t timeout, uint64_t repeat);
int __real_uv_timer_stop(uv_timer_t *timer);
int __wrap_uv_timer_stop(uv_timer_t *timer);
void __real_uv_close(uv_handle_t *handle, uv_close_cb closed);
void __wrap_uv_close(uv_handle_t *handle, uv_close_cb closed);

static struct armed *find(const uv_timer_t *timer)
{
	for (size_t i = 0; i < TIMERS; i++) {
		if (list[i].timer == timer) {
			return &list[i];
		}
	}
	return NULL;
}

static void disarm(const uv_timer_t *timer)
{
	struct armed *a = find(timer);

	if (a != NULL) {
		a->timer = NULL;
	}
}

uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
	(void)loop;
	return now;
}

int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb fire, uint64_t timeout, uint64_t repeat)
{
	struct armed *a = find(timer);

	if (a == NULL) {
		a = find(NULL);
	}
	if (a == NULL) {
		fprintf(stderr, "clock.c: more than %d timers\n", TIMERS);
		abort();
	}
	*a = (struct armed){ timer, fire, now + timeout, repeat };
	return __real_uv_timer_start(timer, fire, YEARS_MS, 0);
}

int __wrap_uv_timer_stop(uv_timer_t *timer)
{
	disarm(timer);
	return __real_uv_timer_stop(timer);
}

void __wrap_uv_close(uv_handle_t *handle, uv_close_cb closed)
{
	if (handle->type == UV_TIMER) {
		disarm((uv_timer_t *)handle);
	}
	__real_uv_close(handle, closed);
}

uint64_t clock_now(void)
{
	return now;
}

static void fire_due(void)
{
	for (size_t i = 0; i < TIMERS; i++) {
		uv_timer_t *timer = list[i].timer;

		if (timer == NULL || list[i].due > now) {
			continue;
		}
		if (list[i].repeat > 0) {
			list[i].due = now + list[i].repeat;
		} else {
			list[i].timer = NULL;
			__real_uv_timer_stop(timer);
		}
		list[i].fire(timer);
	}
}

void clock_pass(uv_loop_t *loop, uint64_t ms)
{
	while (ms-- > 0) {
		now++;
		fire_due();
		uv_run(loop, UV_RUN_NOWAIT);
	}
}
