#include "daemon/pulse.h"

#include "daemon/log.h"
#include "daemon/notify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	PERIOD_MS = 1000,
	STUCK_MS = 10000, /* lanes that stand still for so long are given up on */
};

void bn_pulse_init(struct bn_pulse *p, uv_loop_t *loop)
{
	uint64_t watchdog = bn_notify_watchdog_ms();

	*p = (struct bn_pulse){ .period_ms = watchdog != 0 && watchdog < PERIOD_MS ? watchdog
										   : PERIOD_MS };
	uv_timer_init(loop, &p->timer);
	p->timer.data = p;
}

/* Lanes that stand still while a step is in progress: their requests are answered, and the watchdog
 * is no longer fed, so that the service manager sees it too. */
static void look_after_lanes(struct bn_pulse *p) BN_ON_LOOP
{
	bool stuck = bn_scheduler_stuck_ns(p->scheduler) >= STUCK_MS * UINT64_C(1000000);

	if (stuck && !p->stuck) {
		bn_log(BN_LOG_ERROR,
		       "the workers have not moved for %d s; giving up on what they compute",
		       STUCK_MS / 1000);
		bn_requests_abandon(p->requests);
		bn_methods_set_ready(p->methods, false, "the workers do not move");
	} else if (!stuck && p->stuck) {
		bn_log(BN_LOG_WARN, "the workers move again");
		bn_methods_set_ready(p->methods, true, NULL);
	}
	p->stuck = stuck;
}

static void measure(struct bn_pulse *p) BN_ON_LOOP
{
	uint64_t now = uv_hrtime();

	if (p->due_ns != 0) {
		bn_metrics_observe(p->metrics, BN_METRIC_LOOP_LAG, NULL,
				   now > p->due_ns ? (double)(now - p->due_ns) / 1e9 : 0.0);
	}
	p->due_ns = now + p->period_ms * 1000000;
	bn_metrics_set(p->metrics, BN_METRIC_MEMORY_BUDGET, NULL,
		       (double)bn_budget_limit(p->budget));
	for (int k = 0; k < BN_BUDGET_KINDS; k++) {
		bn_metrics_set(p->metrics, BN_METRIC_MEMORY_USED,
			       bn_budget_kind_word((enum bn_budget_kind)k),
			       (double)bn_budget_used_by_kind(p->budget, (enum bn_budget_kind)k));
	}
}

const char *bn_pulse_status(struct bn_pulse *p)
{
	struct bn_requests_count n = bn_requests_count(p->requests);
	char used[32], limit[32];

	snprintf(p->status, sizeof(p->status),
		 "%" PRIu32 " models, %s of %s, %" PRIu32 " running, %" PRIu32 " queued",
		 bn_registry_ready(p->registry),
		 bn_budget_show(used, sizeof(used), bn_budget_used(p->budget)),
		 bn_budget_show(limit, sizeof(limit), bn_budget_limit(p->budget)), n.running,
		 n.waiting);
	return p->status;
}

static void tell_status(struct bn_pulse *p) BN_ON_LOOP
{
	char before[sizeof(p->status)];

	memcpy(before, p->status, sizeof(before));
	if (strcmp(before, bn_pulse_status(p)) != 0) {
		bn_notify_status(p->status);
	}
}

static void on_beat(uv_timer_t *timer)
{
	struct bn_pulse *p = timer->data;

	bn_enter_loop();
	measure(p);
	if (!p->resting) {
		look_after_lanes(p);
		tell_status(p);
	}
	if (!p->stuck) {
		bn_notify_watchdog();
	}
}

void bn_pulse_start(struct bn_pulse *p)
{
	uv_timer_start(&p->timer, on_beat, 0, p->period_ms);
}

void bn_pulse_rest(struct bn_pulse *p)
{
	p->resting = true;
}

void bn_pulse_close(struct bn_pulse *p)
{
	uv_close((uv_handle_t *)&p->timer, NULL);
}
