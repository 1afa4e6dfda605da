/*
 * The verb status: the daemon at a glance.
 */
#include "client/bnctl.h"

#include <inttypes.h>

static int64_t number(struct bn_client_value map, const char *path)
{
	return bn_client_get_int(bn_client_get(map, path), 0);
}

static void print_bar(struct bn_ctl *ctl, int64_t used, int64_t of)
{
	enum { BAR = 30 };
	int filled = of > 0 ? (int)((double)used / (double)of * BAR + 0.5) : 0;

	fputs("[", ctl->out.to);
	fputs(bn_term_colour(&ctl->out, BN_COLOUR_GREEN), ctl->out.to);
	for (int i = 0; i < BAR; i++) {
		fputc(i < filled ? '#' : '-', ctl->out.to);
	}
	fprintf(ctl->out.to, "%s]", bn_term_colour(&ctl->out, BN_COLOUR_PLAIN));
}

static int run_status(struct bn_ctl *ctl)
{
	struct bn_client_reply reply;
	struct bn_client_text version;
	char used[32], budget[32], up[32];
	struct bn_client_value r;
	bool shown;
	int code = bn_ctl_query(ctl, "server.status", NULL, &reply, &shown);

	if (shown) {
		return code;
	}
	r = reply.result;
	version = bn_client_text(bn_client_get(r, "version"));
	printf("bnd %.*s at %s, %s, up %s, %" PRId64 " lanes, %" PRId64 " connections\n",
	       (int)version.n, version.at, bn_client_path(ctl->client),
	       bn_client_get_bool(bn_client_get(r, "ready"), false) ? "ready" : "not taking work",
	       bn_term_ms(up, sizeof(up), number(r, "uptime_ms")), number(r, "lanes"),
	       number(r, "connections"));
	fputs("memory    ", stdout);
	print_bar(ctl, number(r, "memory.used_bytes"), number(r, "memory.budget_bytes"));
	printf(" %s of %s\n", bn_term_bytes(used, sizeof(used), number(r, "memory.used_bytes")),
	       bn_term_bytes(budget, sizeof(budget), number(r, "memory.budget_bytes")));
	printf("requests  %" PRId64 " running, %" PRId64 " waiting (yours: %" PRId64 " and %" PRId64
	       ")\n",
	       number(r, "requests.running"), number(r, "requests.queued"),
	       number(r, "own.running"), number(r, "own.queued"));
	printf("so far    %" PRId64 " requests, %" PRId64 " prompt tokens, %" PRId64
	       " generated, %" PRId64 " cancelled, %" PRId64 " failed\n",
	       number(r, "totals.requests"), number(r, "totals.prompt_tokens"),
	       number(r, "totals.completion_tokens"), number(r, "totals.cancelled"),
	       number(r, "totals.failed"));
	printf("models    %" PRIu32 " in memory; `bnctl ps` shows them\n",
	       bn_client_count(bn_client_get(r, "models")));
	return code;
}

static const struct bn_ctl_option no_options[] = {
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_status = {
	.name = "status",
	.operands = "",
	.summary = "Show the daemon at a glance: memory, requests, totals.",
	.help = "Counts of other users are shown to admins only.",
	.options = no_options,
	.run = run_status,
};
