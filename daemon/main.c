/*
 * bnd: reads the command line, makes the process fit for service, and runs the daemon.
 */
#include "daemon/config_print.h"
#include "daemon/daemon.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/reload.h"
#include "proto/schema.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef BN_VERSION
#define BN_VERSION "unknown"
#endif

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

static void raise_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* Takes config and auth. */
static int serve(const struct bn_options *o, struct bn_config *config, struct bn_auth *auth)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct bn_error err;
	enum bn_status status;
	int inherited = 0;

	bn_enter_loop();
	bn_log_start((enum bn_log_level)config->log.level, bn_log_style_of(stream, STDERR_FILENO),
		     STDERR_FILENO);
	if (!o->debuggable) {
		(void)prctl(PR_SET_DUMPABLE, 0);
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	raise_descriptors();
	status = bn_notify_listen_fd(&inherited, &err);
	if (status == BN_OK && config->n_access > 0) {
		status = bn_auth_check_identity("/proc/self/uid_map", &err);
	}
	if (status != BN_OK) {
		bn_log(BN_LOG_ERROR, "%s", err.text);
		bn_auth_free(auth);
		bn_config_free(config);
		return exit_code(status);
	}
	status = bn_daemon_run(o, config, auth, inherited, &err);
	if (status == BN_OK) {
		bn_log(BN_LOG_INFO, "bnd ended");
	}
	return exit_code(status);
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

/* Tells whether the configuration holds; it has been read when we come here. */
static void print_check(const struct bn_options *o)
{
	printf(access(o->config, F_OK) == 0
		       ? "%s: all is well\n"
		       : "%s is not there; the defaults serve the bundled model\n",
	       o->config);
}

int main(int argc, char **argv)
{
	struct bn_options o = { 0 };
	struct bn_config *config = NULL;
	struct bn_auth *auth = NULL;
	struct bn_error err;
	enum bn_status status = bn_options_parse(&o, argc, argv, &err);

	if (status != BN_OK) {
		fprintf(stderr, "bnd: %s\n", err.text);
		return EX_USAGE;
	}
	if (o.mode == BN_OPTIONS_HELP) {
		bn_options_help(stdout);
		return EX_OK;
	}
	if (o.mode == BN_OPTIONS_VERSION) {
		print_version(o.json);
		return EX_OK;
	}
	status = bn_reload_read(&config, &o, false, &err);
	if (status == BN_OK) {
		status = bn_auth_new(&auth, config, &err);
	}
	if (status == BN_OK && o.mode == BN_OPTIONS_SERVE) {
		return serve(&o, config, auth);
	}
	if (status != BN_OK) {
		fprintf(stderr, "bnd: %s\n", err.text);
	} else if (o.mode == BN_OPTIONS_CHECK) {
		print_check(&o);
	} else {
		bn_config_print(stdout, config);
	}
	bn_auth_free(auth);
	bn_config_free(config);
	return exit_code(status);
}
