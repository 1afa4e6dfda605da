/*
 * What the daemon does every second whatever else goes on: it measures how late the loop is and
 * what the ledger says, looks whether the lanes still move, tells the service manager how things
 * are, and feeds its watchdog.
 *
 * It does not start or end anything but its timer.
 */
#ifndef BN_DAEMON_PULSE_H
#define BN_DAEMON_PULSE_H

#include "daemon/budget.h"
#include "daemon/methods.h"
#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "daemon/requests.h"
#include "daemon/scheduler.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Embed it; do not move it. The parts are borrowed and must live until bn_pulse_rest. */
struct bn_pulse {
	struct bn_metrics *metrics;
	struct bn_budget *budget;
	struct bn_scheduler *scheduler;
	struct bn_registry *registry;
	struct bn_requests *requests;
	struct bn_methods *methods;
	/* The rest is its own. */
	uv_timer_t timer;
	uint64_t period_ms;
	uint64_t due_ns;
	bool resting;
	bool stuck;
	char status[160];
};

/* Makes its timer; nothing beats yet. Undo with bn_pulse_close. */
void bn_pulse_init(struct bn_pulse *p, uv_loop_t *loop) BN_ON_LOOP;

/* Begins, once the parts are filled in. */
void bn_pulse_start(struct bn_pulse *p) BN_ON_LOOP;

/* From now on only the loop, the ledger and the watchdog: requests and models are going away. */
void bn_pulse_rest(struct bn_pulse *p) BN_ON_LOOP;

/* Closes the timer: p may be freed when the loop has run dry. */
void bn_pulse_close(struct bn_pulse *p) BN_ON_LOOP;

/* "2 models, 1.1 GiB of 6.0 GiB, 1 running, 0 queued": for the service manager; p's. */
const char *bn_pulse_status(struct bn_pulse *p) BN_ON_LOOP;

#endif
