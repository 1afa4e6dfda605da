/*
 * Options are parsed by our own small loop and not by getopt_long because they come from the
 * verbs' tables, which also print the help and fill the request; getopt would need a second table.
 * The rules are getopt's: -x V, -xV, --name V, --name=V, options and operands in any order, `--`
 * ends the options.
 */
#include "client/bnctl.h"

#include "client/json.h"
#include "proto/suggest.h"
#include "proto/value.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef BN_VERSION
#define BN_VERSION "unknown"
#endif

static const struct bn_ctl_command *const commands[] = {
	&bn_cmd_run,       &bn_cmd_chat, &bn_cmd_embed,   &bn_cmd_ls,     &bn_cmd_ps,
	&bn_cmd_show,      &bn_cmd_load, &bn_cmd_unload,  &bn_cmd_status, &bn_cmd_models,
	&bn_cmd_recommend, &bn_cmd_pull, &bn_cmd_convert,
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* Known to every verb. */
static const struct bn_ctl_option common[] = {
	{ 0, "socket", BN_CTL_TEXT, "PATH", NULL, false, "Socket of the daemon ($BND_SOCKET)." },
	{ 0, "json", BN_CTL_FLAG, NULL, NULL, false, "Print the result as JSON." },
	{ 'q', "quiet", BN_CTL_FLAG, NULL, NULL, false, "Say nothing but the result and errors." },
	{ 0, "no-color", BN_CTL_FLAG, NULL, NULL, false, "No colours (also NO_COLOR=1)." },
	{ 'h', "help", BN_CTL_FLAG, NULL, NULL, false, "Show this help." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

static volatile sig_atomic_t interrupts;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

void bn_ctl_catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	/* No SA_RESTART: a wait must end so that the request can be cancelled. */
	sigaction(SIGINT, &action, NULL);
}

unsigned bn_ctl_interrupts(void)
{
	return (unsigned)interrupts;
}

void bn_ctl_clear_interrupts(void)
{
	interrupts = 0;
}

void bn_ctl_complain(struct bn_ctl *ctl, const char *format, ...)
{
	va_list args;

	bn_term_progress_end(&ctl->err);
	fflush(ctl->out.to);
	fprintf(ctl->err.to, "%sbnctl:%s ", bn_term_colour(&ctl->err, BN_COLOUR_RED),
		bn_term_colour(&ctl->err, BN_COLOUR_PLAIN));
	va_start(args, format);
	vfprintf(ctl->err.to, format, args);
	va_end(args);
	fputc('\n', ctl->err.to);
}

/* ---- options ------------------------------------------------------------------------------ */

static const struct bn_ctl_option *find_option(const struct bn_ctl_option *table, const char *name,
					       size_t n, char letter)
{
	for (; table != NULL && table->name != NULL; table++) {
		if (letter != 0 ? table->letter == letter
				: strlen(table->name) == n && strncmp(table->name, name, n) == 0) {
			return table;
		}
	}
	return NULL;
}

static const struct bn_ctl_option *lookup(const struct bn_ctl *ctl, const char *name, size_t n,
					  char letter)
{
	const struct bn_ctl_option *o = find_option(ctl->command->options, name, n, letter);

	return o != NULL ? o : find_option(common, name, n, letter);
}

static bool value_fits(const struct bn_ctl_option *o, const char *text)
{
	char *end = NULL;

	errno = 0;
	if (o->kind == BN_CTL_INT) {
		(void)strtoll(text, &end, 10);
	} else if (o->kind == BN_CTL_NUM) {
		(void)strtod(text, &end);
	} else {
		return true;
	}
	return end != text && *end == '\0' && errno == 0;
}

static int give(struct bn_ctl *ctl, const struct bn_ctl_option *o, const char *text)
{
	if (!value_fits(o, text)) {
		bn_ctl_complain(ctl, "--%s: '%s' is not a %s", o->name, text,
				o->kind == BN_CTL_INT ? "whole number" : "number");
		return BN_EXIT_USAGE;
	}
	if (!o->repeat && bn_ctl_option(ctl, o->name) != NULL) {
		bn_ctl_complain(ctl, "--%s is given twice", o->name);
		return BN_EXIT_USAGE;
	}
	if (ctl->n_given == BN_CTL_OPTIONS_MAX) {
		bn_ctl_complain(ctl, "more than %d options", BN_CTL_OPTIONS_MAX);
		return BN_EXIT_USAGE;
	}
	ctl->given[ctl->n_given].option = o;
	ctl->given[ctl->n_given].text = text;
	ctl->n_given++;
	return BN_EXIT_OK;
}

static int unknown_option(struct bn_ctl *ctl, const char *word)
{
	struct bn_suggest near;
	const struct bn_ctl_option *tables[] = { ctl->command->options, common };

	bn_suggest_init(&near, (struct bn_text){ word + 2, strcspn(word + 2, "=") });
	for (size_t t = 0; word[1] == '-' && t < 2; t++) {
		for (const struct bn_ctl_option *o = tables[t]; o != NULL && o->name != NULL; o++) {
			bn_suggest_offer(&near, o->name);
		}
	}
	if (bn_suggest_best(&near) != NULL) {
		bn_ctl_complain(ctl, "unknown option '%s'; did you mean '--%s'?", word,
				bn_suggest_best(&near));
	} else {
		bn_ctl_complain(ctl, "unknown option '%s'; `bnctl help %s` lists them", word,
				ctl->command->name);
	}
	return BN_EXIT_USAGE;
}

/* Takes argv[*i], an option, and its value. */
static int parse_option(struct bn_ctl *ctl, int argc, char **argv, int *i)
{
	const char *word = argv[*i];
	const struct bn_ctl_option *o;
	const char *value = NULL;

	if (word[1] == '-') {
		size_t n = strcspn(word + 2, "=");

		o = lookup(ctl, word + 2, n, 0);
		value = word[2 + n] == '=' ? word + 3 + n : NULL;
	} else {
		o = lookup(ctl, NULL, 0, word[1]);
		value = word[2] != '\0' ? word + 2 : NULL;
	}
	if (o == NULL) {
		return unknown_option(ctl, word);
	}
	if (o->kind == BN_CTL_FLAG) {
		if (value != NULL) {
			bn_ctl_complain(ctl, "--%s takes no value", o->name);
			return BN_EXIT_USAGE;
		}
		return give(ctl, o, "");
	}
	if (value == NULL) {
		if (*i + 1 >= argc) {
			bn_ctl_complain(ctl, "--%s needs a value: --%s %s", o->name, o->name,
					o->value);
			return BN_EXIT_USAGE;
		}
		value = argv[++*i];
	}
	return give(ctl, o, value);
}

const char *bn_ctl_option(const struct bn_ctl *ctl, const char *name)
{
	for (unsigned i = 0; i < ctl->n_given; i++) {
		if (strcmp(ctl->given[i].option->name, name) == 0) {
			return ctl->given[i].text;
		}
	}
	return NULL;
}

static void put(struct bn_client_params *p, const char *key, const struct bn_ctl_option *o,
		const char *text)
{
	switch (o->kind) {
	case BN_CTL_FLAG:
		bn_client_bool(p, key, true);
		break;
	case BN_CTL_TEXT:
		bn_client_str(p, key, text);
		break;
	case BN_CTL_INT:
		bn_client_int(p, key, strtoll(text, NULL, 10));
		break;
	case BN_CTL_NUM:
		bn_client_num(p, key, strtod(text, NULL));
		break;
	}
}

void bn_ctl_params(const struct bn_ctl *ctl, struct bn_client_params *p)
{
	for (unsigned i = 0; i < ctl->n_given; i++) {
		const struct bn_ctl_option *o = ctl->given[i].option;
		bool first = true;

		for (unsigned k = 0; k < i; k++) {
			first = first && ctl->given[k].option != o;
		}
		if (o->param == NULL || !first) {
			continue;
		}
		if (!o->repeat) {
			put(p, o->param, o, ctl->given[i].text);
			continue;
		}
		bn_client_array(p, o->param);
		for (unsigned k = i; k < ctl->n_given; k++) {
			if (ctl->given[k].option == o) {
				put(p, NULL, o, ctl->given[k].text);
			}
		}
		bn_client_end(p);
	}
}

/* ---- help --------------------------------------------------------------------------------- */

static void print_options(const struct bn_term *t, const struct bn_ctl_option *o)
{
	for (; o != NULL && o->name != NULL; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%c%c%c --%s%s%s", o->letter != 0 ? '-' : ' ',
			 o->letter != 0 ? o->letter : ' ', o->letter != 0 ? ',' : ' ', o->name,
			 o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
		fprintf(t->to, "    %-30s %s\n", left, o->doc);
	}
}

static void print_help(const struct bn_term *t)
{
	const char *bold = bn_term_colour(t, BN_COLOUR_BOLD);
	const char *plain = bn_term_colour(t, BN_COLOUR_PLAIN);

	fprintf(t->to,
		"bnctl talks to bnd, the service for language models on this machine.\n\n"
		"%sUsage%s\n    bnctl VERB [OPERANDS] [OPTIONS]\n    bnctl help VERB\n\n%sVerbs%s\n",
		bold, plain, bold, plain);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", commands[i]->name, commands[i]->operands);
		fprintf(t->to, "    %-22s %s\n", left, commands[i]->summary);
	}
	fprintf(t->to, "\n%sOptions of every verb but convert%s\n", bold, plain);
	print_options(t, common);
	fprintf(t->to,
		"\n%sExamples%s\n"
		"    bnctl run storyteller \"Once upon a time\"\n"
		"    bnctl run storyteller --temperature 0 --max-tokens 50 < prompt.txt\n"
		"    bnctl ps --json\n"
		"    bnctl pull microsoft/bitnet-b1.58-2B-4T-gguf\n\n"
		"Exit codes: 0 done, 1 the request failed, 64 wrong usage, 69 no daemon, 75 busy, 77 not\n"
		"allowed, 130 interrupted.\n",
		bold, plain);
}

static void print_command_help(const struct bn_term *t, const struct bn_ctl_command *c)
{
	const char *bold = bn_term_colour(t, BN_COLOUR_BOLD);
	const char *plain = bn_term_colour(t, BN_COLOUR_PLAIN);

	fprintf(t->to, "%s\n\n%sUsage%s\n    bnctl %s %s%s[OPTIONS]\n\n%s\n", c->summary, bold,
		plain, c->name, c->operands, c->operands[0] != '\0' ? " " : "", c->help);
	if (c->alias != NULL) {
		fprintf(t->to, "\nAlso: bnctl %s\n", c->alias);
	}
	if (c->verbatim) {
		return;
	}
	fprintf(t->to, "\n%sOptions%s\n", bold, plain);
	print_options(t, c->options);
	print_options(t, common);
}

/* ---- verbs -------------------------------------------------------------------------------- */

static const struct bn_ctl_command *find_command(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0 ||
		    (commands[i]->alias != NULL && strcmp(commands[i]->alias, name) == 0)) {
			return commands[i];
		}
	}
	return NULL;
}

static int unknown_verb(struct bn_ctl *ctl, const char *word)
{
	struct bn_suggest near;

	bn_suggest_init(&near, bn_text_of(word));
	for (size_t i = 0; i < N_COMMANDS; i++) {
		bn_suggest_offer(&near, commands[i]->name);
		if (commands[i]->alias != NULL) {
			bn_suggest_offer(&near, commands[i]->alias);
		}
	}
	if (bn_suggest_best(&near) != NULL) {
		bn_ctl_complain(ctl, "unknown verb '%s'; did you mean '%s'?", word,
				bn_suggest_best(&near));
	} else {
		bn_ctl_complain(ctl, "unknown verb '%s'; `bnctl help` lists them", word);
	}
	return BN_EXIT_USAGE;
}

int bn_ctl_connect(struct bn_ctl *ctl)
{
	enum bn_client_status status;

	if (ctl->client != NULL) {
		return BN_EXIT_OK;
	}
	status = bn_client_open(&ctl->client, ctl->socket);
	return status == BN_CLIENT_OK ? BN_EXIT_OK : bn_ctl_report(ctl, status, NULL);
}

/* True of a request that no waiting and no unloading would make fit. */
static bool never_fits(const struct bn_client_reply *reply)
{
	return reply->code == 507 &&
	       bn_client_get_int(bn_client_get(reply->data, "need_bytes"), 0) >
		       bn_client_get_int(bn_client_get(reply->data, "budget_bytes"), INT64_MAX);
}

/* What a user can do about an error of the daemon, or NULL when the sentence says it all. */
static const char *way_out(const struct bn_client_reply *reply)
{
	switch (reply->code) {
	case 403:
		return "ask the admin for the right in bnd.yaml (access), or use an own daemon";
	case 404:
		return "`bnctl ls` shows the models there are";
	case 429:
	case 503:
		return "try again in a moment";
	case 507:
		return never_fits(reply) ? NULL
					 : "`bnctl ps` shows who holds the memory; `bnctl unload` "
					   "frees it";
	default:
		return NULL;
	}
}

static int exit_code(const struct bn_client_reply *reply)
{
	switch (reply->code) {
	case 403:
		return BN_EXIT_DENIED;
	case 400:
	case -32602:
		return BN_EXIT_USAGE;
	case 429:
	case 503:
		return BN_EXIT_RETRY;
	case 507:
		return never_fits(reply) ? BN_EXIT_FAILED : BN_EXIT_RETRY;
	default:
		return BN_EXIT_FAILED;
	}
}

static int report_refused(struct bn_ctl *ctl, const struct bn_client_reply *reply)
{
	struct bn_client_iter it = bn_client_iterate(bn_client_get(reply->data, "suggestions"));
	struct bn_client_value v;
	const char *advice = way_out(reply);

	bn_ctl_complain(ctl, "%.*s", (int)reply->message.n, reply->message.at);
	while (bn_client_next(&it, NULL, &v)) {
		struct bn_client_text t = bn_client_text(v);

		bn_ctl_complain(ctl, "did you mean '%.*s'?", (int)t.n, t.at);
	}
	if (advice != NULL && !ctl->quiet) {
		bn_ctl_complain(ctl, "%s", advice);
	}
	return exit_code(reply);
}

int bn_ctl_report(struct bn_ctl *ctl, enum bn_client_status status,
		  const struct bn_client_reply *reply)
{
	const char *text = ctl->client != NULL ? bn_client_error(ctl->client) : "no memory";

	switch (status) {
	case BN_CLIENT_OK:
		return BN_EXIT_OK;
	case BN_CLIENT_REFUSED:
		return report_refused(ctl, reply);
	case BN_CLIENT_UNREACHABLE:
		bn_ctl_complain(ctl, "%s", text);
		if (ctl->client == NULL || bn_client_path(ctl->client)[0] == '\0') {
			return BN_EXIT_UNAVAILABLE;
		}
		if (access(bn_client_path(ctl->client), W_OK) != 0 && errno == EACCES) {
			bn_ctl_complain(ctl,
					"you may not use it: `sudo usermod -aG bnd USER` and a new "
					"login let you, or start your own with `bnd &`");
			return BN_EXIT_DENIED;
		}
		bn_ctl_complain(ctl, "is bnd running? `systemctl status bnd`, or start your own "
				     "with `bnd &`; --socket names another socket");
		return BN_EXIT_UNAVAILABLE;
	case BN_CLIENT_DISCONNECTED:
		bn_ctl_complain(ctl, "%s", text);
		return BN_EXIT_UNAVAILABLE;
	case BN_CLIENT_GIVEN_UP:
		return BN_EXIT_INTERRUPTED;
	case BN_CLIENT_PROTOCOL:
	case BN_CLIENT_NO_MEMORY:
		break;
	}
	bn_ctl_complain(ctl, "%s", text);
	return BN_EXIT_SOFTWARE;
}

int bn_ctl_call(struct bn_ctl *ctl, const char *method, const struct bn_client_params *p,
		const struct bn_client_hooks *hooks, struct bn_client_reply *reply)
{
	int code = bn_ctl_connect(ctl);

	if (code != BN_EXIT_OK) {
		return code;
	}
	return bn_ctl_report(ctl, bn_client_call(ctl->client, method, p, hooks, reply), reply);
}

int bn_ctl_query(struct bn_ctl *ctl, const char *method, const struct bn_client_params *p,
		 struct bn_client_reply *reply, bool *shown)
{
	int code = bn_ctl_call(ctl, method, p, NULL, reply);

	*shown = code != BN_EXIT_OK;
	if (code == BN_EXIT_OK && ctl->json) {
		*shown = true;
		code = bn_json_print(ctl->out.to, reply->result, false) ? code : BN_EXIT_IO;
	}
	return code;
}

/* ---- main --------------------------------------------------------------------------------- */

static int check_operands(struct bn_ctl *ctl)
{
	const struct bn_ctl_command *c = ctl->command;

	if (ctl->n_operands < c->min_operands) {
		bn_ctl_complain(ctl, "usage: bnctl %s %s", c->name, c->operands);
		return BN_EXIT_USAGE;
	}
	if (c->max_operands >= 0 && ctl->n_operands > c->max_operands) {
		bn_ctl_complain(ctl, "'%s' is one word too many; usage: bnctl %s%s%s",
				ctl->operands[c->max_operands], c->name,
				c->operands[0] != '\0' ? " " : "", c->operands);
		return BN_EXIT_USAGE;
	}
	return BN_EXIT_OK;
}

/* Sorts argv into options and operands; operands move to the front of argv. */
static int parse(struct bn_ctl *ctl, int argc, char **argv)
{
	bool options = !ctl->command->verbatim;
	int code = BN_EXIT_OK;

	ctl->operands = argv;
	for (int i = 0; i < argc && code == BN_EXIT_OK; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
			code = parse_option(ctl, argc, argv, &i);
		} else {
			argv[ctl->n_operands++] = argv[i];
		}
	}
	ctl->socket = bn_ctl_option(ctl, "socket");
	ctl->json = bn_ctl_option(ctl, "json") != NULL;
	ctl->quiet = bn_ctl_option(ctl, "quiet") != NULL;
	if (bn_ctl_option(ctl, "no-color") != NULL) {
		ctl->out.colour = ctl->err.colour = false;
	}
	return code;
}

static int help(struct bn_ctl *ctl, const char *verb)
{
	const struct bn_ctl_command *c = verb != NULL ? find_command(verb) : NULL;

	if (verb != NULL && c == NULL) {
		return unknown_verb(ctl, verb);
	}
	if (c != NULL) {
		print_command_help(&ctl->out, c);
	} else {
		print_help(&ctl->out);
	}
	return BN_EXIT_OK;
}

static int run(struct bn_ctl *ctl, int argc, char **argv)
{
	int code;

	if (argc < 2) {
		print_help(&ctl->err);
		return BN_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
		puts("bnctl " BN_VERSION);
		return BN_EXIT_OK;
	}
	if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "-h") == 0) {
		return help(ctl, argc > 2 ? argv[2] : NULL);
	}
	ctl->command = argv[1][0] == '-' ? NULL : find_command(argv[1]);
	if (ctl->command == NULL) {
		if (argv[1][0] == '-') {
			bn_ctl_complain(ctl, "the verb comes first: bnctl VERB [OPTIONS]");
			return BN_EXIT_USAGE;
		}
		return unknown_verb(ctl, argv[1]);
	}
	code = parse(ctl, argc - 2, argv + 2);
	if (code == BN_EXIT_OK && bn_ctl_option(ctl, "help") != NULL) {
		return help(ctl, ctl->command->name);
	}
	if (code == BN_EXIT_OK) {
		code = check_operands(ctl);
	}
	return code == BN_EXIT_OK ? ctl->command->run(ctl) : code;
}

/* $XDG_STATE_HOME/bnd/history; empty when there is no home. */
static void find_history(struct bn_ctl *ctl)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	size_t size = sizeof(ctl->history_path);
	int n = 0;

	if (state != NULL && state[0] == '/') {
		n = snprintf(ctl->history_path, size, "%s/bnd/history", state);
	} else if (home != NULL && home[0] == '/') {
		n = snprintf(ctl->history_path, size, "%s/.local/state/bnd/history", home);
	}
	if (n < 0 || (size_t)n >= size) {
		ctl->history_path[0] = '\0';
	}
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	bool plain = (no_color != NULL && no_color[0] != '\0') ||
		     (term != NULL && strcmp(term, "dumb") == 0);
	struct bn_ctl ctl = { .command = NULL };
	int code;

	/* A reader like `head` that leaves ends us quietly; the socket uses MSG_NOSIGNAL. */
	setlocale(LC_CTYPE, "");
	find_history(&ctl);
	bn_term_init(&ctl.out, stdout, plain);
	bn_term_init(&ctl.err, stderr, plain);
	code = run(&ctl, argc, argv);
	bn_term_progress_end(&ctl.err);
	bn_client_close(ctl.client);
	if (fflush(stdout) != 0 && code == BN_EXIT_OK) {
		bn_ctl_complain(&ctl, "cannot write to standard output: %s", strerror(errno));
		code = BN_EXIT_IO;
	}
	return code;
}
