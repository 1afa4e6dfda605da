/*
 * What the verbs of bnctl share: one table entry per verb, options parsed by table, one way to
 * call the daemon and to report what went wrong.
 *
 * It does not know any verb but by its table entry: a verb is a file cmd_<name>.c that exports one
 * or more `struct bn_ctl_command`, listed in bnctl.c.
 */
#ifndef BN_CLIENT_BNCTL_H
#define BN_CLIENT_BNCTL_H

#include "client/bnclient.h"
#include "client/term.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes: sysexits.h where it has one. */
enum {
	BN_EXIT_OK = 0,
	BN_EXIT_FAILED = 1,       /* the daemon refused or the request failed    */
	BN_EXIT_USAGE = 64,       /* the command line is wrong                   */
	BN_EXIT_NO_INPUT = 66,    /* a file or stdin cannot be read              */
	BN_EXIT_UNAVAILABLE = 69, /* no daemon                                   */
	BN_EXIT_SOFTWARE = 70,    /* no memory, or a fault of ours               */
	BN_EXIT_IO = 74,          /* output cannot be written                    */
	BN_EXIT_RETRY = 75,       /* busy: the same command may work later       */
	BN_EXIT_DENIED = 77,      /* this user may not                           */
	BN_EXIT_INTERRUPTED = 130,
};

enum bn_ctl_kind {
	BN_CTL_FLAG, /* no value          */
	BN_CTL_TEXT, /* any text          */
	BN_CTL_INT,  /* a whole number    */
	BN_CTL_NUM,  /* a number          */
};

/* One option of a verb. With `param` set its value becomes that parameter of the request. */
struct bn_ctl_option {
	char letter; /* 0: long form only */
	const char *name;
	enum bn_ctl_kind kind;
	const char *value; /* the word for it in the help: "N", "TEXT" */
	const char *param; /* wire name, or NULL                       */
	bool repeat;       /* may come more than once; sent as a list  */
	const char *doc;
};

struct bn_ctl;

struct bn_ctl_command {
	const char *name;
	const char *alias;    /* second name (ollama's), or NULL        */
	const char *operands; /* "MODEL [PROMPT]"                       */
	int min_operands;
	int max_operands;                    /* -1: any number                         */
	bool verbatim;                       /* all words are operands, also -x; no options */
	const char *summary;                 /* one line of `bnctl help`               */
	const char *help;                    /* paragraphs of `bnctl help VERB`        */
	const struct bn_ctl_option *options; /* ends with name NULL; or NULL */
	int (*run)(struct bn_ctl *ctl);      /* exit code                */
};

enum { BN_CTL_OPTIONS_MAX = 48 };

/* One run of bnctl. */
struct bn_ctl {
	const struct bn_ctl_command *command;
	const char *socket; /* --socket, or NULL */
	bool json;
	bool quiet;
	struct bn_term out; /* stdout */
	struct bn_term err; /* stderr */
	struct bn_client *client;
	char history_path[512]; /* where chat keeps lines; empty: nowhere */
	int n_operands;
	char **operands;
	unsigned n_given;
	struct {
		const struct bn_ctl_option *option;
		const char *text; /* the value as typed; "" for a flag */
	} given[BN_CTL_OPTIONS_MAX];
};

/* The verbs. */
extern const struct bn_ctl_command bn_cmd_run, bn_cmd_chat, bn_cmd_embed, bn_cmd_ls, bn_cmd_ps,
	bn_cmd_show, bn_cmd_load, bn_cmd_unload, bn_cmd_status, bn_cmd_models, bn_cmd_recommend,
	bn_cmd_pull, bn_cmd_convert;

/* The text of option `name`, or NULL when it was not given. */
const char *bn_ctl_option(const struct bn_ctl *ctl, const char *name);

/* Puts every given option that names a parameter into p. */
void bn_ctl_params(const struct bn_ctl *ctl, struct bn_client_params *p);

/* One line on stderr, "bnctl: ...", wiping a progress line first. */
void bn_ctl_complain(struct bn_ctl *ctl, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Connects if not yet connected; complains and returns an exit code on failure. */
int bn_ctl_connect(struct bn_ctl *ctl);

/*
 * Connects, calls, and complains about what went wrong. Returns an exit code; the reply is valid
 * when that is BN_EXIT_OK. `p` may be NULL and stays the caller's.
 */
int bn_ctl_call(struct bn_ctl *ctl, const char *method, const struct bn_client_params *p,
		const struct bn_client_hooks *hooks, struct bn_client_reply *reply);

/* Says what a failed call means, with the way out. Returns the exit code. */
int bn_ctl_report(struct bn_ctl *ctl, enum bn_client_status status,
		  const struct bn_client_reply *reply);

/* For the reading verbs: call, and print JSON if asked for. *shown tells that nothing is left to
 * print. */
int bn_ctl_query(struct bn_ctl *ctl, const char *method, const struct bn_client_params *p,
		 struct bn_client_reply *reply, bool *shown);

/* SIGINT from now on counts instead of killing; the count so far. */
void bn_ctl_catch_interrupts(void);
unsigned bn_ctl_interrupts(void);
void bn_ctl_clear_interrupts(void);

#endif
