/*
 * Going down is a chain in which every link calls the next when it is done: requests drain (or are
 * cancelled) -> the server says its last words and closes -> models leave memory -> the lead and
 * the lanes end -> the loop runs dry. At the end uv_loop_close() must return 0 and the ledger must
 * read zero; both are asserted, so a leak of either kind fails every test that stops a daemon.
 */
#include "daemon/daemon.h"

#include "daemon/budget.h"
#include "daemon/cores.h"
#include "daemon/log.h"
#include "daemon/methods.h"
#include "daemon/metrics.h"
#include "daemon/notify.h"
#include "daemon/pulse.h"
#include "daemon/registry.h"
#include "daemon/reload.h"
#include "daemon/requests.h"
#include "daemon/scheduler.h"
#include "daemon/server.h"
#include "engine/machine.h"
#include "kernels/cpu.h"
#include "proto/assert.h"
#include "proto/pack.h"
#include "proto/schema.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef BN_VERSION
#define BN_VERSION "unknown"
#endif

enum {
	FAREWELL_MS = 1000,  /* to write what is queued when the connections are closed */
	HURRY_MS = 2000,     /* from a second signal to the end, come what may          */
	SLOW_END_MS = 10000, /* from the end of the drain to the end                    */
};

struct daemon {
	uv_loop_t loop;
	const struct bn_options *options;
	struct bn_config *config;
	struct bn_auth *auth;
	struct bn_metrics *metrics;
	struct bn_budget *budget;
	struct bn_scheduler *scheduler;
	struct bn_registry *registry;
	struct bn_requests *requests;
	struct bn_methods *methods;
	struct bn_server *server;
	uv_signal_t on_term, on_int, on_hup;
	uv_timer_t deadline;
	struct bn_pulse pulse;
	bool stopping;
};

static struct bn_requests_limits limits_of(const struct bn_config *c)
{
	return (struct bn_requests_limits){
		.queue = (uint32_t)c->limits.queue,
		.queue_per_model = (uint32_t)c->limits.queue_per_model,
		.queue_per_user = (uint32_t)c->limits.queue_per_user,
		.max_batch = (uint32_t)c->workers.max_batch,
	};
}

/* --- going down ----------------------------------------------------------------------------- */

static void last_link(void *who)
{
	struct daemon *d = who;

	bn_enter_loop();
	bn_methods_free(d->methods);
	d->methods = NULL;
	d->registry = NULL;
	bn_scheduler_stop(d->scheduler);
	d->scheduler = NULL;
	uv_close((uv_handle_t *)&d->on_term, NULL);
	uv_close((uv_handle_t *)&d->on_int, NULL);
	uv_close((uv_handle_t *)&d->on_hup, NULL);
	uv_close((uv_handle_t *)&d->deadline, NULL);
	bn_pulse_close(&d->pulse);
}

static void server_stopped(void *who)
{
	struct daemon *d = who;

	bn_enter_loop();
	d->server = NULL;
	bn_registry_close(d->registry, last_link, d);
}

static void requests_gone(void *who)
{
	struct daemon *d = who;

	bn_enter_loop();
	d->requests = NULL;
	bn_server_stop(d->server, FAREWELL_MS, server_stopped, d);
}

static void on_last_resort(uv_timer_t *timer)
{
	(void)timer;
	bn_log(BN_LOG_ERROR, "something does not end; giving up without cleaning up");
	_exit(EX_SOFTWARE);
}

/* Nothing is waited for any longer than it takes to take it back; at most `ms`. */
static void hurry(struct daemon *d, uint64_t ms) BN_ON_LOOP
{
	uv_timer_start(&d->deadline, on_last_resort, ms, 0);
	if (d->requests != NULL) {
		bn_requests_cancel_all(d->requests, BN_E_DRAINING);
	}
}

static void on_drain_timeout(uv_timer_t *timer)
{
	struct daemon *d = timer->data;

	bn_enter_loop();
	bn_log(BN_LOG_WARN,
	       "not all requests ended within shutdown.drain_timeout; cancelling them");
	hurry(d, SLOW_END_MS);
}

static void farewell(struct daemon *d) BN_ON_LOOP
{
	struct bn_pack p;

	bn_pack_init(&p);
	bn_pack_array(&p, NULL);
	bn_pack_int(&p, NULL, BN_MESSAGE_NOTIFICATION);
	bn_pack_str(&p, NULL, "server.closing");
	bn_pack_array(&p, NULL);
	bn_pack_map(&p, NULL);
	bn_pack_str(&p, "reason", "shutdown");
	bn_pack_bool(&p, "restart", false);
	bn_pack_end(&p);
	bn_pack_end(&p);
	bn_pack_end(&p);
	bn_server_drain(d->server, p.data, p.used);
	bn_pack_finish(&p);
}

static void stop(struct daemon *d, bool now, const char *why) BN_ON_LOOP
{
	if (d->stopping) {
		bn_log(BN_LOG_INFO, "%s: stopping at once", why);
		hurry(d, HURRY_MS);
		return;
	}
	d->stopping = true;
	bn_pulse_rest(&d->pulse);
	bn_log(BN_LOG_INFO, "%s: %s", why, now ? "stopping" : "letting running requests finish");
	bn_notify_stopping(now ? "stopping" : "letting running requests finish");
	bn_methods_set_ready(d->methods, false, "shutting down");
	farewell(d);
	bn_requests_drain(d->requests);
	if (now) {
		hurry(d, SLOW_END_MS);
	} else {
		uv_timer_start(&d->deadline, on_drain_timeout, d->config->shutdown.drain_timeout_ms,
			       0);
	}
	bn_requests_close(d->requests, requests_gone, d);
}

static void on_signal(uv_signal_t *handle, int number)
{
	bn_enter_loop();
	stop(handle->data, number == SIGINT, number == SIGINT ? "SIGINT" : "SIGTERM");
}

/* --- reloading ------------------------------------------------------------------------------ */

static void apply_budget(struct daemon *d, const struct bn_config *fresh) BN_ON_LOOP
{
	struct bn_error err;

	if (fresh->memory.budget != 0 && fresh->memory.budget != bn_budget_limit(d->budget) &&
	    bn_budget_set_limit(d->budget, fresh->memory.budget, &err) != BN_OK) {
		bn_log(BN_LOG_WARN, "memory.budget stays as it is: %s", err.text);
	}
}

static void on_reload(uv_signal_t *handle, int number)
{
	struct daemon *d = handle->data;
	struct bn_config *fresh = NULL;
	struct bn_auth *auth = NULL;
	struct bn_requests_limits limits;
	struct bn_error err;
	enum bn_status status;

	bn_enter_loop();
	(void)number;
	if (d->stopping) {
		return;
	}
	bn_notify_reloading();
	status = bn_reload_read(&fresh, d->options, true, &err);
	if (status == BN_OK) {
		status = bn_auth_new(&auth, fresh, &err);
	}
	if (status == BN_OK) {
		bn_reload_tell(d->config, fresh);
		status = bn_registry_apply(d->registry, fresh, true, &err);
	}
	if (status != BN_OK) {
		bn_log(BN_LOG_ERROR, "the new configuration is not used, the old one stays: %s",
		       err.text);
		bn_auth_free(auth);
		bn_config_free(fresh);
		bn_notify_ready(bn_pulse_status(&d->pulse));
		return;
	}
	apply_budget(d, fresh);
	bn_log_set_level((enum bn_log_level)fresh->log.level);
	limits = limits_of(fresh);
	limits.max_batch = (uint32_t)d->config->workers.max_batch; /* needs a restart */
	bn_requests_set_limits(d->requests, &limits);
	bn_server_reconfigure(d->server, fresh, auth);
	bn_auth_free(d->auth);
	bn_config_free(d->config);
	d->auth = auth;
	d->config = fresh;
	bn_log(BN_LOG_INFO, "reloaded %s", d->options->config);
	bn_notify_ready(bn_pulse_status(&d->pulse));
}

/* --- coming up ------------------------------------------------------------------------------ */

static void on_step(void *who, const struct bn_step_event *event)
{
	struct daemon *d = who;

	bn_enter_loop();
	bn_requests_on_step(d->requests, event);
}

static enum bn_status make_budget(struct daemon *d, struct bn_error *err)
{
	struct bn_machine machine;
	uint64_t limit = d->config->memory.budget;
	enum bn_status status = BN_OK;

	if (limit == 0) {
		status = bn_machine_look(&machine, "", err);
		if (status == BN_OK) {
			status = bn_machine_budget(&limit, &machine, d->config->memory.headroom,
						   err);
		}
	}
	return status == BN_OK ? bn_budget_new(&d->budget, limit, err) : status;
}

static enum bn_status make_workers(struct daemon *d, uint64_t *cpu, struct bn_error *err) BN_ON_LOOP
{
	const struct bn_config *c = d->config;
	struct bn_scheduler_config sc = { .step_target_ns = c->workers.step_target_ms * 1000000,
					  .max_batch = (uint32_t)c->workers.max_batch,
					  .prefill_chunk = (uint32_t)c->workers.prefill_chunk,
					  .on_event = on_step,
					  .who = d };
	struct bn_cores cores;
	char features[128];
	enum bn_status status = bn_cores_choose(&cores, &c->workers.cores, "/sys", err);

	if (status != BN_OK) {
		return status;
	}
	*cpu = bn_cpu_mask(bn_cpu_features(), c->workers.mask_features.at,
			   c->workers.mask_features.n);
	sc.lanes = cores.n;
	sc.cores = cores.at;
	status = bn_scheduler_start(&d->scheduler, &d->loop, &sc, err);
	if (status == BN_OK) {
		bn_log(BN_LOG_INFO, "%" PRIu32 " workers, processor: %s", cores.n,
		       bn_cpu_describe(*cpu, features, sizeof(features)));
	}
	return status;
}

static enum bn_status make_services(struct daemon *d, struct bn_error *err) BN_ON_LOOP
{
	struct bn_registry_config rc = { .loop = &d->loop,
					 .budget = d->budget,
					 .metrics = d->metrics,
					 .patience_ms = BN_REGISTRY_PATIENCE_MS,
					 .residency_ms = BN_REGISTRY_RESIDENCY_MS };
	struct bn_requests_config qc = { .loop = &d->loop,
					 .metrics = d->metrics,
					 .limits = limits_of(d->config) };
	struct bn_methods_config mc = {
		.loop = &d->loop, .budget = d->budget, .metrics = d->metrics, .version = BN_VERSION
	};
	struct bn_connection_hooks hooks;
	enum bn_status status = make_workers(d, &rc.cpu, err);

	if (status == BN_OK) {
		rc.forward = bn_scheduler_forward_config(d->scheduler);
		status = bn_registry_new(&d->registry, &rc, err);
	}
	if (status == BN_OK) {
		qc.registry = d->registry;
		qc.scheduler = d->scheduler;
		status = bn_requests_new(&d->requests, &qc, err);
	}
	if (status == BN_OK) {
		mc.registry = d->registry;
		mc.requests = d->requests;
		mc.lanes = bn_scheduler_lanes(d->scheduler);
		mc.cpu = rc.cpu;
		mc.forward = rc.forward;
		status = bn_methods_new(&d->methods, &mc, err);
	}
	if (status == BN_OK) {
		hooks = bn_methods_hooks(d->methods);
		status = bn_server_new(&d->server, &d->loop, d->config, d->auth, &hooks, d->metrics,
				       err);
	}
	if (status == BN_OK) {
		bn_methods_set_connections(d->methods, bn_server_connections(d->server));
		status = bn_registry_apply(d->registry, d->config, false, err);
	}
	return status;
}

/* A user's folder below XDG_RUNTIME_DIR is ours to make; others belong to whoever set us up. */
static void make_folder(const char *path)
{
	char folder[PATH_MAX];
	char *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash != NULL && slash != folder) {
		*slash = '\0';
		(void)mkdir(folder, 0750); /* what is wrong is told when the socket is made */
	}
}

static enum bn_status open_door(struct daemon *d, int inherited, struct bn_error *err) BN_ON_LOOP
{
	const struct bn_config *c = d->config;
	const char *path = d->options->socket != NULL ? d->options->socket : c->socket.path;
	char usual[PATH_MAX];
	enum bn_status status;

	if (inherited <= 0 && path[0] == '\0') {
		status = bn_options_socket(usual, sizeof(usual), err);
		if (status != BN_OK) {
			return status;
		}
		path = usual;
		make_folder(path);
	}
	status = bn_server_listen(d->server, inherited, path, c->socket.group,
				  (uint32_t)c->socket.mode, err);
	if (status == BN_OK) {
		char limit[32];

		bn_log(BN_LOG_INFO, "bnd %s serves on %s: models: %" PRIu32 ", budget %s",
		       BN_VERSION, inherited > 0 ? "an inherited socket" : path, c->n_models,
		       bn_budget_show(limit, sizeof(limit), bn_budget_limit(d->budget)));
	}
	return status;
}

static void make_handles(struct daemon *d) BN_ON_LOOP
{
	uv_signal_init(&d->loop, &d->on_term);
	uv_signal_init(&d->loop, &d->on_int);
	uv_signal_init(&d->loop, &d->on_hup);
	uv_timer_init(&d->loop, &d->deadline);
	d->on_term.data = d;
	d->on_int.data = d;
	d->on_hup.data = d;
	d->deadline.data = d;
	bn_pulse_init(&d->pulse, &d->loop);
}

static void start_handles(struct daemon *d) BN_ON_LOOP
{
	uv_signal_start(&d->on_term, on_signal, SIGTERM);
	uv_signal_start(&d->on_int, on_signal, SIGINT);
	uv_signal_start(&d->on_hup, on_reload, SIGHUP);
	d->pulse.metrics = d->metrics;
	d->pulse.budget = d->budget;
	d->pulse.scheduler = d->scheduler;
	d->pulse.registry = d->registry;
	d->pulse.requests = d->requests;
	d->pulse.methods = d->methods;
	bn_pulse_start(&d->pulse);
}

/* Whatever a failed start has built. */
static void undo_start(struct daemon *d) BN_ON_LOOP
{
	d->stopping = true;
	if (d->server != NULL) {
		bn_requests_close(d->requests, requests_gone, d);
	} else if (d->requests != NULL) {
		/* No server: the chain without its middle. */
		bn_requests_close(d->requests, server_stopped, d);
		d->requests = NULL;
	} else if (d->registry != NULL) {
		bn_registry_close(d->registry, last_link, d);
	} else {
		last_link(d);
	}
}

static enum bn_status serve(struct daemon *d, int inherited, struct bn_error *err) BN_ON_LOOP
{
	enum bn_status status;

	bn_assert(uv_loop_init(&d->loop) == 0);
	make_handles(d);
	status = make_services(d, err);
	if (status == BN_OK) {
		status = open_door(d, inherited, err);
	}
	if (status == BN_OK) {
		start_handles(d);
		bn_methods_set_ready(d->methods, true, NULL);
		bn_notify_ready(bn_pulse_status(&d->pulse));
		/* Nothing fails any more: what is to be in memory from the start may come. */
		for (struct bn_entry *e = bn_registry_first(d->registry); e != NULL; e = e->next) {
			if (e->config.preload) {
				bn_registry_warm(d->registry, e);
			}
		}
	} else {
		undo_start(d);
	}
	uv_run(&d->loop, UV_RUN_DEFAULT);
	bn_assert(uv_loop_close(&d->loop) == 0);
	return status;
}

enum bn_status bn_daemon_run(const struct bn_options *options, struct bn_config *config,
			     struct bn_auth *auth, int inherited, struct bn_error *err)
{
	struct daemon d = { .options = options, .config = config, .auth = auth };
	enum bn_status status = make_budget(&d, err);

	if (status == BN_OK) {
		status = bn_metrics_new(&d.metrics, err);
	}
	if (status == BN_OK) {
		status = serve(&d, inherited, err);
	}
	if (status != BN_OK) {
		bn_log(BN_LOG_ERROR, "%s", err->text);
	}
	bn_metrics_free(d.metrics);
	if (d.budget != NULL) {
		bn_assert(bn_budget_used(d.budget) == 0);
	}
	bn_budget_free(d.budget);
	bn_auth_free(d.auth);
	bn_config_free(d.config);
	return status;
}
