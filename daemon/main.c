/*
 * bnd: builds the daemon bottom-up, runs its loop, and takes it down top-down.
 *
 * Going down is a chain in which every link calls the next when it is done: requests drain (or are
 * cancelled) -> the server says its last words and closes -> models leave memory -> the lead and
 * the lanes end -> the loop runs dry. At the end uv_loop_close() must return 0 and the ledger must
 * read zero; both are asserted, so a leak of either kind fails every test that stops a daemon.
 */
#include "daemon/budget.h"
#include "daemon/config.h"
#include "daemon/config_print.h"
#include "daemon/cores.h"
#include "daemon/log.h"
#include "daemon/methods.h"
#include "daemon/metrics.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/registry.h"
#include "daemon/request.h"
#include "daemon/scheduler.h"
#include "daemon/server.h"
#include "kernels/cpu.h"
#include "proto/assert.h"
#include "proto/pack.h"
#include "proto/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef BN_VERSION
#define BN_VERSION "unknown"
#endif

enum {
	TICK_MS = 1000,
	STUCK_MS = 10000,    /* lanes that stand still for so long are given up on      */
	FAREWELL_MS = 1000,  /* to write what is queued when the connections are closed */
	HURRY_MS = 2000,     /* from a second signal to the end, come what may          */
	SLOW_END_MS = 10000, /* from the end of the drain to the end                    */
};

struct daemon {
	uv_loop_t loop;
	struct bn_options options;
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
	uv_timer_t tick, deadline;
	bool has_handles;
	bool stopping, stuck;
	uint64_t tick_due_ns;
	uint64_t tick_ms;
	char status[160];
};

/* sysexits for what stops a start. */
static int exit_code(enum bn_status status)
{
	switch (status) {
	case BN_OK:
		return EX_OK;
	case BN_E_INVALID:
		return EX_USAGE;
	case BN_E_IO:
		return EX_NOINPUT;
	case BN_E_CONFLICT:
		return EX_UNAVAILABLE;
	case BN_E_PERMISSION:
		return EX_NOPERM;
	case BN_E_MEMORY:
		return EX_OSERR;
	case BN_E_CONFIG:
		return EX_CONFIG;
	default:
		return EX_SOFTWARE;
	}
}

/* --- configuration -------------------------------------------------------------------------- */

/* The configuration of a machine without one. */
static const char bundled[] = "models:\n- name: storyteller\n  path: \"" BN_BUNDLED_MODEL "\"\n";

/* Reads the configuration; complaints go to stderr (as they are) or into the log. */
static enum bn_status read_config(const struct bn_options *o, bool to_log, struct bn_config **out,
				  struct bn_error *err)
{
	struct bn_yaml_report *report = calloc(1, sizeof(*report));
	enum bn_status status;

	if (report == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to read the configuration");
	}
	if (!o->config_given && access(o->config, F_OK) != 0) {
		/* Nobody has configured anything: the defaults serve, with the bundled model. */
		const char *text = access(BN_BUNDLED_MODEL, R_OK) == 0 ? bundled : "";

		status = bn_config_parse(out, o->config, text, strlen(text), report, err);
	} else {
		status = bn_config_load(out, o->config, report, err);
	}
	if (status == BN_E_CONFIG && to_log) {
		for (uint32_t i = 0; i < report->n; i++) {
			bn_log(BN_LOG_ERROR, "%s:%" PRIu32 ":%" PRIu32 ": %s", o->config,
			       report->at[i].line, report->at[i].column, report->at[i].text);
		}
	} else if (status == BN_E_CONFIG) {
		bn_config_print_report(stderr, o->config, report);
	}
	free(report);
	return status;
}

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
	uv_close((uv_handle_t *)&d->tick, NULL);
	uv_close((uv_handle_t *)&d->deadline, NULL);
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

static void log_changes(const struct bn_config *old, const struct bn_config *fresh)
{
	struct bn_config_diff diff = { 0 };

	if (bn_config_compare(&diff, old, fresh, NULL) != BN_OK) {
		return;
	}
	for (uint32_t i = 0; i < diff.n; i++) {
		bn_log(diff.at[i].when == BN_CONFIG_RESTART ? BN_LOG_WARN : BN_LOG_INFO,
		       "%s (takes effect %s)", diff.at[i].text,
		       bn_config_when_word(diff.at[i].when));
	}
	if (diff.n == 0) {
		bn_log(BN_LOG_INFO, "reloaded: nothing has changed");
	}
	bn_config_diff_free(&diff);
}

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
	status = read_config(&d->options, true, &fresh, &err);
	if (status == BN_OK) {
		status = bn_auth_new(&auth, fresh, &err);
	}
	if (status == BN_OK) {
		log_changes(d->config, fresh);
		status = bn_registry_apply(d->registry, fresh, true, &err);
	}
	if (status != BN_OK) {
		bn_log(BN_LOG_ERROR, "the new configuration is not used, the old one stays: %s",
		       err.text);
		bn_auth_free(auth);
		bn_config_free(fresh);
		bn_notify_ready(d->status);
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
	bn_log(BN_LOG_INFO, "reloaded %s", d->options.config);
	bn_notify_ready(d->status);
}

/* --- the tick ------------------------------------------------------------------------------- */

/* Lanes that stand still while a step is in progress: their requests are answered, and the watchdog
 * is no longer fed, so that the service manager sees it too. */
static void look_after_lanes(struct daemon *d) BN_ON_LOOP
{
	bool stuck = bn_scheduler_stuck_ns(d->scheduler) >= STUCK_MS * UINT64_C(1000000);

	if (stuck && !d->stuck) {
		bn_log(BN_LOG_ERROR,
		       "the workers have not moved for %d s; giving up on what they "
		       "compute",
		       STUCK_MS / 1000);
		bn_requests_abandon(d->requests);
		bn_methods_set_ready(d->methods, false, "the workers do not move");
	} else if (!stuck && d->stuck) {
		bn_log(BN_LOG_WARN, "the workers move again");
		bn_methods_set_ready(d->methods, true, NULL);
	}
	d->stuck = stuck;
}

static void say_status(struct daemon *d) BN_ON_LOOP
{
	struct bn_requests_count n = bn_requests_count(d->requests);
	char used[32], limit[32], status[sizeof(d->status)];

	snprintf(status, sizeof(status),
		 "%" PRIu32 " models, %s of %s, %" PRIu32 " running, %" PRIu32 " queued",
		 bn_registry_ready(d->registry),
		 bn_budget_show(used, sizeof(used), bn_budget_used(d->budget)),
		 bn_budget_show(limit, sizeof(limit), bn_budget_limit(d->budget)), n.running,
		 n.waiting);
	if (strcmp(status, d->status) != 0) {
		memcpy(d->status, status, sizeof(status));
		bn_notify_status(status);
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct daemon *d = timer->data;
	uint64_t now = uv_hrtime();

	bn_enter_loop();
	if (d->tick_due_ns != 0) {
		bn_metrics_observe(d->metrics, BN_METRIC_LOOP_LAG, NULL,
				   now > d->tick_due_ns ? (double)(now - d->tick_due_ns) / 1e9
							: 0.0);
	}
	d->tick_due_ns = now + d->tick_ms * 1000000;
	bn_metrics_set(d->metrics, BN_METRIC_MEMORY_BUDGET, NULL,
		       (double)bn_budget_limit(d->budget));
	for (int k = 0; k < BN_BUDGET_KINDS; k++) {
		bn_metrics_set(d->metrics, BN_METRIC_MEMORY_USED,
			       bn_budget_kind_word((enum bn_budget_kind)k),
			       (double)bn_budget_used_by_kind(d->budget, (enum bn_budget_kind)k));
	}
	if (d->requests != NULL && !d->stopping) {
		look_after_lanes(d);
		say_status(d);
	}
	if (!d->stuck) {
		bn_notify_watchdog();
	}
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
	struct bn_budget_machine machine;
	uint64_t limit = d->config->memory.budget;
	enum bn_status status = BN_OK;

	if (limit == 0) {
		status = bn_budget_look(&machine, "", err);
		if (status == BN_OK) {
			status = bn_budget_auto(&limit, &machine, d->config->memory.headroom, err);
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
	const char *path = d->options.socket != NULL ? d->options.socket : c->socket.path;
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
	uint64_t watchdog = bn_notify_watchdog_ms();

	d->tick_ms = watchdog != 0 && watchdog < TICK_MS ? watchdog : TICK_MS;
	uv_signal_init(&d->loop, &d->on_term);
	uv_signal_init(&d->loop, &d->on_int);
	uv_signal_init(&d->loop, &d->on_hup);
	uv_timer_init(&d->loop, &d->tick);
	uv_timer_init(&d->loop, &d->deadline);
	d->on_term.data = d;
	d->on_int.data = d;
	d->on_hup.data = d;
	d->tick.data = d;
	d->deadline.data = d;
	d->has_handles = true;
}

static void start_handles(struct daemon *d) BN_ON_LOOP
{
	uv_signal_start(&d->on_term, on_signal, SIGTERM);
	uv_signal_start(&d->on_int, on_signal, SIGINT);
	uv_signal_start(&d->on_hup, on_reload, SIGHUP);
	uv_timer_start(&d->tick, on_tick, 0, d->tick_ms);
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

static int serve(struct daemon *d, int inherited) BN_ON_LOOP
{
	struct bn_error err;
	enum bn_status status;

	bn_assert(uv_loop_init(&d->loop) == 0);
	make_handles(d);
	status = make_services(d, &err);
	if (status == BN_OK) {
		status = open_door(d, inherited, &err);
	}
	if (status == BN_OK) {
		start_handles(d);
		bn_methods_set_ready(d->methods, true, NULL);
		say_status(d);
		bn_notify_ready(d->status);
		/* Nothing fails any more: what is to be in memory from the start may come. */
		for (struct bn_entry *e = bn_registry_first(d->registry); e != NULL; e = e->next) {
			if (e->config.preload) {
				bn_registry_warm(d->registry, e);
			}
		}
	} else {
		bn_log(BN_LOG_ERROR, "%s", err.text);
		undo_start(d);
	}
	uv_run(&d->loop, UV_RUN_DEFAULT);
	bn_assert(uv_loop_close(&d->loop) == 0);
	return exit_code(status);
}

static void raise_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int run(struct daemon *d)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct bn_error err;
	enum bn_status status;
	int inherited = 0;
	int code;

	bn_enter_loop();
	bn_log_start((enum bn_log_level)d->config->log.level,
		     bn_log_style_of(stream, STDERR_FILENO), STDERR_FILENO);
	if (!d->options.debuggable) {
		(void)prctl(PR_SET_DUMPABLE, 0);
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	raise_descriptors();
	status = bn_notify_listen_fd(&inherited, &err);
	if (status == BN_OK && d->config->n_access > 0) {
		status = bn_auth_check_identity("/proc/self/uid_map", &err);
	}
	if (status == BN_OK) {
		status = make_budget(d, &err);
	}
	if (status == BN_OK) {
		status = bn_metrics_new(&d->metrics, &err);
	}
	if (status != BN_OK) {
		bn_log(BN_LOG_ERROR, "%s", err.text);
		code = exit_code(status);
	} else {
		code = serve(d, inherited);
	}
	bn_metrics_free(d->metrics);
	if (d->budget != NULL) {
		bn_assert(bn_budget_used(d->budget) == 0);
	}
	bn_budget_free(d->budget);
	if (code == EX_OK) {
		bn_log(BN_LOG_INFO, "bnd ended");
	}
	return code;
}

static void print_version(bool json)
{
	if (json) {
		printf("{\"name\":\"bnd\",\"version\":\"%s\",\"api_level\":%d,\"api_compatible\":%d}\n",
		       BN_VERSION, BN_API_LEVEL, BN_API_COMPATIBLE);
	} else {
		printf("bnd %s\n", BN_VERSION);
	}
}

int main(int argc, char **argv)
{
	struct daemon d = { 0 };
	struct bn_error err;
	enum bn_status status = bn_options_parse(&d.options, argc, argv, &err);
	int code;

	if (status != BN_OK) {
		fprintf(stderr, "bnd: %s\n", err.text);
		return EX_USAGE;
	}
	if (d.options.mode == BN_OPTIONS_HELP) {
		bn_options_help(stdout);
		return EX_OK;
	}
	if (d.options.mode == BN_OPTIONS_VERSION) {
		print_version(d.options.json);
		return EX_OK;
	}
	status = read_config(&d.options, false, &d.config, &err);
	if (status == BN_OK) {
		status = bn_auth_new(&d.auth, d.config, &err);
	}
	if (status != BN_OK) {
		fprintf(stderr, "bnd: %s\n", err.text);
		code = exit_code(status);
	} else if (d.options.mode == BN_OPTIONS_CHECK) {
		printf(access(d.options.config, F_OK) == 0
			       ? "%s: all is well\n"
			       : "%s is not there; the defaults serve the bundled model\n",
		       d.options.config);
		code = EX_OK;
	} else if (d.options.mode == BN_OPTIONS_PRINT) {
		bn_config_print(stdout, d.config);
		code = EX_OK;
	} else {
		code = run(&d);
	}
	bn_auth_free(d.auth);
	bn_config_free(d.config);
	return code;
}
