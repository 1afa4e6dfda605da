/*
 * The verbs about models: ls, ps, show, load, unload.
 */
#include "client/bnctl.h"
#include "client/json.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const struct bn_ctl_option no_options[] = {
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t number(struct bn_client_value map, const char *path)
{
	return bn_client_get_int(bn_client_get(map, path), -1);
}

static enum bn_colour state_colour(struct bn_client_text state)
{
	if (state.n == 5 && memcmp(state.at, "ready", 5) == 0) {
		return BN_COLOUR_GREEN;
	} else if (state.n == 6 && memcmp(state.at, "failed", 6) == 0) {
		return BN_COLOUR_RED;
	} else if (state.n == 4 && memcmp(state.at, "cold", 4) == 0) {
		return BN_COLOUR_DIM;
	}
	return BN_COLOUR_YELLOW;
}

static void cell_text(struct bn_table *b, unsigned column, enum bn_colour colour,
		      struct bn_client_value v)
{
	struct bn_client_text t = bn_client_text(v);

	bn_table_cell(b, column, colour, "%.*s", (int)t.n, t.at);
}

static void cell_bytes(struct bn_table *b, unsigned column, int64_t bytes)
{
	char text[32];

	bn_table_cell(b, column, BN_COLOUR_PLAIN, "%s",
		      bytes < 0 ? "-" : bn_term_bytes(text, sizeof(text), bytes));
}

/* ---- ls ----------------------------------------------------------------------------------- */

static int run_ls(struct bn_ctl *ctl)
{
	static const char *const heads[] = { "MODEL", "STATE", ">FILE", ">CONTEXT", "" };
	struct bn_client_reply reply;
	struct bn_client_value model;
	struct bn_client_iter it;
	struct bn_table table;
	bool shown;
	int code = bn_ctl_query(ctl, "models.list", NULL, &reply, &shown);

	if (shown) {
		return code;
	}
	bn_table_init(&table, 5, heads);
	it = bn_client_iterate(bn_client_get(reply.result, "models"));
	while (bn_client_next(&it, NULL, &model) && bn_table_row(&table)) {
		struct bn_client_value state = bn_client_get(model, "state");
		int64_t context = number(model, "context");

		cell_text(&table, 0, BN_COLOUR_PLAIN, bn_client_get(model, "model"));
		cell_text(&table, 1, state_colour(bn_client_text(state)), state);
		cell_bytes(&table, 2, number(model, "size_bytes"));
		if (context > 0) {
			bn_table_cell(&table, 3, BN_COLOUR_PLAIN, "%" PRId64, context);
		} else {
			bn_table_cell(&table, 3, BN_COLOUR_PLAIN, "-");
		}
		if (bn_client_type(bn_client_get(model, "error")) == BN_CLIENT_STR) {
			cell_text(&table, 4, BN_COLOUR_RED, bn_client_get(model, "error"));
		} else if (bn_client_get_bool(bn_client_get(model, "pinned"), false)) {
			bn_table_cell(&table, 4, BN_COLOUR_CYAN, "pinned");
		}
	}
	if (table.n_rows == 0) {
		bn_ctl_complain(ctl,
				"no models are configured; add one to bnd.yaml under `models:`");
	} else {
		bn_table_print(&table, &ctl->out);
	}
	bn_table_finish(&table);
	return BN_EXIT_OK;
}

const struct bn_ctl_command bn_cmd_ls = {
	.name = "ls",
	.alias = "list",
	.operands = "",
	.summary = "List the configured models and their states.",
	.help = "Shows every model of the configuration: cold (on disk), loading, ready (in memory),\n"
		"draining (about to leave) or failed, with the size of its file and its context.",
	.options = no_options,
	.run = run_ls,
};

/* ---- ps ----------------------------------------------------------------------------------- */

static void print_evictions(struct bn_ctl *ctl, struct bn_client_value list)
{
	struct bn_client_iter it = bn_client_iterate(list);
	struct bn_client_value e;

	if (bn_client_count(list) == 0) {
		return;
	}
	fprintf(ctl->out.to, "\n%sLeft memory%s\n", bn_term_colour(&ctl->out, BN_COLOUR_BOLD),
		bn_term_colour(&ctl->out, BN_COLOUR_PLAIN));
	while (bn_client_next(&it, NULL, &e)) {
		struct bn_client_text model = bn_client_text(bn_client_get(e, "model"));
		struct bn_client_text reason = bn_client_text(bn_client_get(e, "reason"));
		struct bn_client_text whom = bn_client_text(bn_client_get(e, "for"));
		char bytes[32], ago[32];
		int64_t age = now_ms() - number(e, "ts_ms");

		fprintf(ctl->out.to, "  %.*s  %s ago, %.*s%s%.*s, freed %s\n", (int)model.n,
			model.at, bn_term_ms(ago, sizeof(ago), age < 0 ? 0 : age), (int)reason.n,
			reason.at, whom.n > 0 ? " for " : "", (int)whom.n, whom.at,
			bn_term_bytes(bytes, sizeof(bytes), number(e, "freed_bytes")));
	}
}

static void print_memory(struct bn_ctl *ctl, struct bn_client_value result)
{
	char used[32], budget[32], weights[32], kv[32], scratch[32];

	fprintf(ctl->out.to,
		"\nMemory: %s of %s reserved (weights %s, context %s, working space %s)\n",
		bn_term_bytes(used, sizeof(used), number(result, "memory.used_bytes")),
		bn_term_bytes(budget, sizeof(budget), number(result, "memory.budget_bytes")),
		bn_term_bytes(weights, sizeof(weights), number(result, "memory.weights_bytes")),
		bn_term_bytes(kv, sizeof(kv), number(result, "memory.kv_bytes")),
		bn_term_bytes(scratch, sizeof(scratch), number(result, "memory.scratch_bytes")));
}

static void ps_row(struct bn_table *table, struct bn_client_value model)
{
	struct bn_client_value state = bn_client_get(model, "state");
	int64_t expires = number(model, "expires_ms");
	int64_t total = number(model, "weights_bytes") + number(model, "kv_bytes") +
			number(model, "scratch_bytes");
	char text[32];

	cell_text(table, 0, BN_COLOUR_PLAIN, bn_client_get(model, "model"));
	if (bn_client_type(bn_client_get(model, "progress")) == BN_CLIENT_NONE) {
		cell_text(table, 1, state_colour(bn_client_text(state)), state);
	} else {
		struct bn_client_text t = bn_client_text(state);
		double done = bn_client_get_num(bn_client_get(model, "progress"), 0);

		bn_table_cell(table, 1, BN_COLOUR_YELLOW, "%.*s %.0f %%", (int)t.n, t.at,
			      done * 100);
	}
	cell_text(table, 2, BN_COLOUR_PLAIN, bn_client_get(model, "kernel"));
	cell_bytes(table, 3, total);
	bn_table_cell(table, 4, BN_COLOUR_PLAIN, "%" PRId64, number(model, "running"));
	bn_table_cell(table, 5, BN_COLOUR_PLAIN, "%" PRId64, number(model, "queued"));
	if (bn_client_get_bool(bn_client_get(model, "pinned"), false)) {
		bn_table_cell(table, 6, BN_COLOUR_CYAN, "pinned");
	} else if (expires >= 0) {
		int64_t left = expires - now_ms();

		bn_table_cell(table, 6, BN_COLOUR_PLAIN, "in %s",
			      bn_term_ms(text, sizeof(text), left < 0 ? 0 : left));
	} else {
		bn_table_cell(table, 6, BN_COLOUR_PLAIN,
			      number(model, "running") > 0 ? "busy" : "never");
	}
}

static int run_ps(struct bn_ctl *ctl)
{
	static const char *const heads[] = { "MODEL",    "STATE",   "KERNEL", ">MEMORY",
					     ">RUNNING", ">QUEUED", "UNLOADS" };
	struct bn_client_reply reply;
	struct bn_client_value model;
	struct bn_client_iter it;
	struct bn_table table;
	bool shown;
	int code = bn_ctl_query(ctl, "models.ps", NULL, &reply, &shown);

	if (shown) {
		return code;
	}
	bn_table_init(&table, 7, heads);
	it = bn_client_iterate(bn_client_get(reply.result, "models"));
	while (bn_client_next(&it, NULL, &model) && bn_table_row(&table)) {
		ps_row(&table, model);
	}
	if (table.n_rows == 0) {
		fputs("No model is in memory.\n", ctl->out.to);
	} else {
		bn_table_print(&table, &ctl->out);
	}
	bn_table_finish(&table);
	print_memory(ctl, reply.result);
	print_evictions(ctl, bn_client_get(reply.result, "evictions"));
	return BN_EXIT_OK;
}

const struct bn_ctl_command bn_cmd_ps = {
	.name = "ps",
	.operands = "",
	.summary = "Show the models in memory, the budget, and who was evicted and why.",
	.help = "MEMORY counts weights, working space and the context of running requests. UNLOADS says\n"
		"when an idle model will leave; models also leave earlier when another needs the room.",
	.options = no_options,
	.run = run_ps,
};

/* ---- show --------------------------------------------------------------------------------- */

/* NOLINTNEXTLINE(misc-no-recursion): one level of nested maps */
static void print_facts(struct bn_ctl *ctl, struct bn_client_value map, const char *prefix)
{
	struct bn_client_iter it = bn_client_iterate(map);
	struct bn_client_value key, v;

	while (bn_client_next(&it, &key, &v)) {
		struct bn_client_text k = bn_client_text(key);
		struct bn_client_text t = bn_client_text(v);
		char name[80], bytes[32];

		snprintf(name, sizeof(name), "%s%.*s", prefix, (int)k.n, k.at);
		if (bn_client_type(v) == BN_CLIENT_MAP) {
			snprintf(name, sizeof(name), "%.*s ", (int)k.n, k.at);
			print_facts(ctl, v, name);
			continue;
		}
		for (char *p = name; *p != '\0'; p++) {
			*p = *p == '_' ? ' ' : *p;
		}
		fprintf(ctl->out.to, "%s%-20s%s ", bn_term_colour(&ctl->out, BN_COLOUR_DIM), name,
			bn_term_colour(&ctl->out, BN_COLOUR_PLAIN));
		if (bn_client_type(v) == BN_CLIENT_INT && strstr(name, "bytes") != NULL) {
			fprintf(ctl->out.to, "%s\n",
				bn_term_bytes(bytes, sizeof(bytes), bn_client_get_int(v, 0)));
		} else if (bn_client_type(v) == BN_CLIENT_STR) {
			bn_term_write(&ctl->out, t.at, t.n, false);
			fputc('\n', ctl->out.to);
		} else {
			bn_json_print(ctl->out.to, v, true);
		}
	}
}

static int run_show(struct bn_ctl *ctl)
{
	struct bn_client_params *p = bn_client_params_new();
	struct bn_client_reply reply;
	bool shown;
	int code;

	bn_client_str(p, "model", ctl->operands[0]);
	code = bn_ctl_query(ctl, "models.show", p, &reply, &shown);
	if (!shown) {
		print_facts(ctl, reply.result, "");
	}
	bn_client_params_free(p);
	return code;
}

const struct bn_ctl_command bn_cmd_show = {
	.name = "show",
	.operands = "MODEL",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Tell everything about one model.",
	.help = "File, digest, architecture, dimensions, context, chat template, kernel and why that one,\n"
		"and the memory it takes.",
	.options = no_options,
	.run = run_show,
};

/* ---- load --------------------------------------------------------------------------------- */

static void on_load_event(void *who, const char *name, struct bn_client_value params)
{
	struct bn_ctl *ctl = who;
	struct bn_client_text state = bn_client_text(bn_client_get(params, "state"));
	struct bn_client_value progress = bn_client_get(params, "progress");
	char text[40];

	(void)name;
	if (state.n == 0 || ctl->quiet) {
		return;
	}
	snprintf(text, sizeof(text), "%.*s", (int)state.n, state.at);
	bn_term_progress(&ctl->err, ctl->operands[0], bn_client_get_num(progress, -1), text);
}

static bool not_interrupted(void *who)
{
	(void)who;
	return bn_ctl_interrupts() == 0;
}

static void print_load(struct bn_ctl *ctl, struct bn_client_value r)
{
	struct bn_client_iter it = bn_client_iterate(bn_client_get(r, "would_evict"));
	struct bn_client_text state = bn_client_text(bn_client_get(r, "state"));
	struct bn_client_value v;
	char weights[32], scratch[32], kv[32];

	bn_term_bytes(weights, sizeof(weights), number(r, "bytes.weights"));
	bn_term_bytes(scratch, sizeof(scratch), number(r, "bytes.scratch"));
	bn_term_bytes(kv, sizeof(kv), number(r, "bytes.kv"));
	if (bn_ctl_option(ctl, "dry-run") == NULL) {
		struct bn_client_text kernel = bn_client_text(bn_client_get(r, "kernel"));

		printf("%s is %.*s: weights %s, working space %s%s%.*s\n", ctl->operands[0],
		       (int)state.n, state.at, weights, scratch, kernel.n > 0 ? ", kernel " : "",
		       (int)kernel.n, kernel.at);
		return;
	}
	printf("%s would take %s for weights and %s of working space; a request of full context takes "
	       "%s more.\n",
	       ctl->operands[0], weights, scratch, kv);
	printf("It %s now.\n", bn_client_get_bool(bn_client_get(r, "fits"), false)
				       ? "can be loaded"
				       : "cannot be loaded");
	while (bn_client_next(&it, NULL, &v)) {
		struct bn_client_text t = bn_client_text(v);

		printf("%.*s would have to leave.\n", (int)t.n, t.at);
	}
}

static int run_load(struct bn_ctl *ctl)
{
	struct bn_client_params *p = bn_client_params_new();
	struct bn_client_hooks hooks = { .size = sizeof(hooks),
					 .who = ctl,
					 .event = on_load_event,
					 .keep_waiting = not_interrupted };
	struct bn_client_reply reply;
	int code;

	bn_client_str(p, "model", ctl->operands[0]);
	bn_ctl_params(ctl, p);
	if (bn_ctl_option(ctl, "no-wait") != NULL) {
		bn_client_bool(p, "wait", false);
	}
	bn_ctl_catch_interrupts();
	code = bn_ctl_call(ctl, "models.load", p, &hooks, &reply);
	bn_client_params_free(p);
	bn_term_progress_end(&ctl->err);
	if (code == BN_EXIT_OK && ctl->json) {
		return bn_json_print(ctl->out.to, reply.result, false) ? BN_EXIT_OK : BN_EXIT_IO;
	}
	if (code == BN_EXIT_OK) {
		print_load(ctl, reply.result);
	}
	return code;
}

static const struct bn_ctl_option load_options[] = {
	{ 'n', "dry-run", BN_CTL_FLAG, NULL, "dry_run", false,
	  "Only say what it would take and who would leave." },
	{ 0, "keep-alive", BN_CTL_TEXT, "TIME", "keep_alive", false,
	  "How long it stays when idle: 10m, 0s, -1 for ever." },
	{ 0, "pin", BN_CTL_FLAG, NULL, "pin", false, "Never evict it to make room." },
	{ 0, "no-wait", BN_CTL_FLAG, NULL, NULL, false,
	  "Return at once instead of when it is ready." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_load = {
	.name = "load",
	.operands = "MODEL",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Load a model into memory, or say what that would take.",
	.help = "Shows a progress bar on a terminal. Ctrl-C stops waiting; the load goes on if others wait\n"
		"for it too.",
	.options = load_options,
	.run = run_load,
};

/* ---- unload ------------------------------------------------------------------------------- */

static int run_unload(struct bn_ctl *ctl)
{
	struct bn_client_params *p = bn_client_params_new();
	struct bn_client_reply reply;
	char bytes[32];
	bool shown;
	int code;

	bn_client_str(p, "model", ctl->operands[0]);
	bn_ctl_params(ctl, p);
	code = bn_ctl_query(ctl, "models.unload", p, &reply, &shown);
	if (!shown) {
		printf("%s left memory, freed %s\n", ctl->operands[0],
		       bn_term_bytes(bytes, sizeof(bytes), number(reply.result, "freed_bytes")));
	}
	bn_client_params_free(p);
	return code;
}

static const struct bn_ctl_option unload_options[] = {
	{ 'f', "force", BN_CTL_FLAG, NULL, "force", false,
	  "Cancel its running requests, and unload it even if pinned." },
	{ 0, "timeout-ms", BN_CTL_INT, "MS", "timeout_ms", false,
	  "How long to wait for running requests (30000)." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_unload = {
	.name = "unload",
	.alias = "stop",
	.operands = "MODEL",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Take a model out of memory.",
	.help = "Waits for its running requests to end, unless --force cancels them.",
	.options = unload_options,
	.run = run_unload,
};
