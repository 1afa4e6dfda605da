/*
 * Root is the system service; everybody else has a daemon of his own in his own folders. A service
 * that runs as a user of its own gives --config and gets its socket from systemd or that file.
 */
#include "daemon/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OPT_CHECK = 256,
	OPT_PRINT,
	OPT_SOCKET,
	OPT_VERSION,
	OPT_JSON,
	OPT_DEBUGGABLE,
	OPT_FOREGROUND
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check-config", optional_argument, NULL, OPT_CHECK },
	{ "print-config", no_argument, NULL, OPT_PRINT },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "debuggable", no_argument, NULL, OPT_DEBUGGABLE },
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

void bn_options_help(FILE *to)
{
	fputs("bnd - serves ternary language models to the users of this machine\n"
	      "\n"
	      "usage: bnd [--config FILE]              serve until SIGTERM\n"
	      "       bnd --check-config [FILE]        say what is wrong with a configuration\n"
	      "       bnd --print-config               print the settings in effect\n"
	      "\n"
	      "  -c, --config FILE     settings; without it $XDG_CONFIG_HOME/bnd/bnd.yaml,\n"
	      "                        and for root " BN_CONFIG_FOLDER "/bnd.yaml\n"
	      "      --socket PATH     where clients connect, whatever the configuration says\n"
	      "  -t, --check-config [FILE]\n"
	      "                        check and exit: 0 if all is well, else 78 and each mistake\n"
	      "                        as file:line:column\n"
	      "      --print-config    the settings with all defaults filled in, as YAML\n"
	      "      --debuggable      allow debuggers and core dumps, which would show prompts\n"
	      "      --foreground      accepted for habit: bnd never goes to the background\n"
	      "      --version [--json]\n"
	      "  -h, --help\n"
	      "\n"
	      "SIGTERM lets running requests finish (shutdown.drain_timeout), a second one does\n"
	      "not; SIGINT stops at once; SIGHUP reads the configuration again.\n"
	      "\n"
	      "Talk to it with bnctl: bnctl run MODEL \"Once upon a time\"\n",
	      to);
}

static bool join(char *out, size_t size, const char *folder, const char *rest)
{
	int n = snprintf(out, size, "%s/%s", folder, rest);

	return n > 0 && (size_t)n < size;
}

static bool default_config(char *out, size_t size)
{
	const char *folder = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");

	if (geteuid() == 0) {
		return join(out, size, BN_CONFIG_FOLDER, "bnd.yaml");
	}
	if (folder != NULL && folder[0] == '/') {
		return join(out, size, folder, "bnd/bnd.yaml");
	}
	if (home != NULL && home[0] == '/') {
		return join(out, size, home, ".config/bnd/bnd.yaml");
	}
	return join(out, size, BN_CONFIG_FOLDER, "bnd.yaml");
}

enum bn_status bn_options_socket(char *path, size_t size, struct bn_error *err)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0) {
		folder = "/run";
	}
	if (folder == NULL || folder[0] != '/') {
		return bn_fail(err, BN_E_CONFIG,
			       "where shall the socket lie? XDG_RUNTIME_DIR is not set: give "
			       "--socket PATH, or socket.path in the configuration");
	}
	if (!join(path, size, folder, "bnd/bnd.sock")) {
		return bn_fail(err, BN_E_CONFIG, "the path of the socket is too long");
	}
	return BN_OK;
}

static enum bn_status set_config(struct bn_options *o, const char *path, struct bn_error *err)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(o->config)) {
		return bn_fail(err, BN_E_INVALID, "--config: the path is empty or too long");
	}
	memcpy(o->config, path, n + 1);
	o->config_given = true;
	return BN_OK;
}

enum bn_status bn_options_parse(struct bn_options *out, int argc, char **argv, struct bn_error *err)
{
	struct bn_options o = { .mode = BN_OPTIONS_SERVE };
	enum bn_status status = BN_OK;
	int c;

	opterr = 0;
	optind = 1;
	while (status == BN_OK &&
	       (c = getopt_long(argc, argv, "+:c:th", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			status = set_config(&o, optarg, err);
			break;
		case 't':
		case OPT_CHECK:
			o.mode = BN_OPTIONS_CHECK;
			if (optarg == NULL && optind < argc && argv[optind][0] != '-') {
				optarg = argv[optind++];
			}
			if (optarg != NULL) {
				status = set_config(&o, optarg, err);
			}
			break;
		case OPT_PRINT:
			o.mode = BN_OPTIONS_PRINT;
			break;
		case OPT_SOCKET:
			o.socket = optarg;
			break;
		case OPT_VERSION:
			o.mode = BN_OPTIONS_VERSION;
			break;
		case OPT_JSON:
			o.json = true;
			break;
		case OPT_DEBUGGABLE:
			o.debuggable = true;
			break;
		case OPT_FOREGROUND:
			break;
		case 'h':
			o.mode = BN_OPTIONS_HELP;
			break;
		case ':':
			return bn_fail(err, BN_E_INVALID, "%s needs a value; see bnd --help",
				       argv[optind - 1]);
		default:
			return bn_fail(err, BN_E_INVALID, "unknown option %s; see bnd --help",
				       argv[optind - 1]);
		}
	}
	if (status == BN_OK && optind < argc) {
		status = bn_fail(err, BN_E_INVALID,
				 "'%s' is no option, and bnd takes no other words; see bnd --help",
				 argv[optind]);
	}
	if (status == BN_OK && o.json && o.mode != BN_OPTIONS_VERSION) {
		status = bn_fail(err, BN_E_INVALID, "--json goes with --version only");
	}
	if (status == BN_OK && !o.config_given && !default_config(o.config, sizeof(o.config))) {
		status = bn_fail(err, BN_E_INVALID, "the path of the configuration is too long");
	}
	if (status == BN_OK) {
		*out = o;
	}
	return status;
}
