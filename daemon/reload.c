#include "daemon/reload.h"

#include "daemon/config_print.h"
#include "daemon/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The configuration of a machine without one. */
static const char bundled[] = "models:\n- name: storyteller\n  path: \"" BN_BUNDLED_MODEL "\"\n";

enum bn_status bn_reload_read(struct bn_config **out, const struct bn_options *o, bool to_log,
			      struct bn_error *err)
{
	struct bn_yaml_report *report = calloc(1, sizeof(*report));
	enum bn_status status;

	if (report == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to read the configuration");
	}
	if (!o->config_given && access(o->config, F_OK) != 0) {
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
	if (status == BN_E_CONFIG && report->n > 0) {
		/* Each has been told; the first need not be told again. */
		bn_fail(err, status, "%s: %" PRIu32 " mistake%s", o->config, report->n,
			report->n == 1 ? "" : "s");
	}
	free(report);
	return status;
}

void bn_reload_tell(const struct bn_config *old, const struct bn_config *fresh)
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
