/*
 * The verb chat: a conversation with line editing and history.
 *
 * The conversation lives here and is sent whole with every turn; the daemon keeps none. Lines
 * starting with a slash are for us, everything else is for the model.
 */
#include "client/bnctl.h"
#include "client/generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef BN_HAVE_EDIT
#include <editline/readline.h>
#endif

struct turn {
	const char *role; /* static */
	char *text;       /* owned  */
};

struct chat {
	struct bn_ctl *ctl;
	struct turn *turns; /* owned */
	size_t n;
	size_t room;
	bool editing; /* stdin is a terminal */
};

static bool add_turn(struct chat *c, const char *role, const char *text)
{
	char *copy = strdup(text);

	if (c->n == c->room) {
		size_t room = c->room == 0 ? 16 : c->room * 2;
		struct turn *turns = realloc(c->turns, room * sizeof(*turns));

		if (turns == NULL) {
			free(copy);
			return false;
		}
		c->turns = turns;
		c->room = room;
	}
	if (copy == NULL) {
		return false;
	}
	c->turns[c->n].role = role;
	c->turns[c->n].text = copy;
	c->n++;
	return true;
}

/* Forgets the turns from `from` on. */
static void drop_turns(struct chat *c, size_t from)
{
	while (c->n > from) {
		free(c->turns[--c->n].text);
	}
}

/* One line without its newline, owned by the caller; NULL at the end of input. */
static char *read_line(struct chat *c, const char *prompt)
{
	size_t room = 0;
	char *line = NULL;
	ssize_t n;

#ifdef BN_HAVE_EDIT
	if (c->editing) {
		return readline(prompt);
	}
#endif
	if (c->editing) {
		fputs(prompt, stdout);
		fflush(stdout);
	}
	n = getline(&line, &room, stdin);
	if (n < 0) {
		free(line);
		return NULL;
	}
	if (n > 0 && line[n - 1] == '\n') {
		line[n - 1] = '\0';
	}
	return line;
}

static char *join(char *a, const char *b)
{
	size_t n = strlen(a);
	char *both = realloc(a, n + strlen(b) + 2);

	if (both == NULL) {
		free(a);
		return NULL;
	}
	both[n] = '\n';
	memcpy(both + n + 1, b, strlen(b) + 1);
	return both;
}

/* A message: a line, or several when lines end in a backslash or stand between """ marks. */
static char *read_message(struct chat *c)
{
	char *text = read_line(c, "> ");
	bool quoted = text != NULL && strncmp(text, "\"\"\"", 3) == 0;

	if (quoted) {
		memmove(text, text + 3, strlen(text + 3) + 1);
	}
	while (text != NULL) {
		size_t n = strlen(text);
		char *more;

		if (quoted && n >= 3 && strcmp(text + n - 3, "\"\"\"") == 0) {
			text[n - 3] = '\0';
			break;
		} else if (!quoted && n > 0 && text[n - 1] == '\\') {
			text[n - 1] = '\0';
		} else if (!quoted) {
			break;
		}
		more = read_line(c, ". ");
		if (more == NULL) {
			break;
		}
		text = join(text, more);
		free(more);
	}
#ifdef BN_HAVE_EDIT
	if (text != NULL && text[0] != '\0' && c->editing) {
		add_history(text);
	}
#endif
	return text;
}

/* Sends the conversation and appends the answer. */
static int take_turn(struct chat *c)
{
	struct bn_client_params *p = bn_client_params_new();
	struct bn_generated made;
	int code;

	bn_client_str(p, "model", c->ctl->operands[0]);
	bn_client_array(p, "messages");
	for (size_t i = 0; i < c->n; i++) {
		bn_client_map(p, NULL);
		bn_client_str(p, "role", c->turns[i].role);
		bn_client_str(p, "content", c->turns[i].text);
		bn_client_end(p);
	}
	bn_client_end(p);
	code = bn_generate(c->ctl, "chat.completions", p, &made);
	bn_client_params_free(p);
	/* What was said before Ctrl-C stays part of the conversation, or the question goes too. */
	if ((code == BN_EXIT_OK || made.cancelled) && made.n > 0) {
		if (!add_turn(c, "assistant", made.text)) {
			code = BN_EXIT_SOFTWARE;
		}
	} else if (code != BN_EXIT_OK) {
		drop_turns(c, c->n - 1);
	}
	bn_generated_finish(&made);
	return code;
}

static void set_system(struct chat *c, const char *text)
{
	drop_turns(c, 0);
	if (text[0] != '\0' && !add_turn(c, "system", text)) {
		bn_ctl_complain(c->ctl, "no memory");
	}
}

/* A line that starts with a slash. Returns false to leave. */
static bool obey(struct chat *c, const char *line)
{
	if (strcmp(line, "/exit") == 0 || strcmp(line, "/bye") == 0 || strcmp(line, "/quit") == 0) {
		return false;
	} else if (strcmp(line, "/clear") == 0) {
		drop_turns(c, c->n > 0 && strcmp(c->turns[0].role, "system") == 0 ? 1 : 0);
		fputs("The conversation starts anew.\n", c->ctl->err.to);
	} else if (strncmp(line, "/system", 7) == 0 && (line[7] == ' ' || line[7] == '\0')) {
		set_system(c, line[7] == ' ' ? line + 8 : "");
		fputs("The system prompt is set and the conversation starts anew.\n",
		      c->ctl->err.to);
	} else {
		fputs("/clear         forget the conversation\n"
		      "/system TEXT   set the system prompt and start anew\n"
		      "/exit          leave (also Ctrl-D)\n"
		      "\\ at the end of a line continues it; \"\"\" opens and closes several lines.\n"
		      "Ctrl-C stops an answer.\n",
		      c->ctl->err.to);
	}
	return true;
}

static int converse(struct chat *c)
{
	int code = BN_EXIT_OK;

	for (;;) {
		char *text;

		bn_ctl_clear_interrupts();
		text = read_message(c);
		if (text == NULL && bn_ctl_interrupts() > 0 && c->editing) {
			/* Ctrl-C at the prompt drops the line; twice in a row would be Ctrl-D's
			 * job. */
			fputc('\n', c->ctl->err.to);
			continue;
		}
		if (text == NULL) {
			return code;
		}
		if (text[0] == '/') {
			bool stay = obey(c, text);

			free(text);
			if (!stay) {
				return code;
			}
			continue;
		}
		if (text[0] != '\0' && add_turn(c, "user", text)) {
			code = take_turn(c);
		}
		free(text);
		/* On a terminal the user may go on after an error; a script should not. */
		if (code == BN_EXIT_UNAVAILABLE || (code != BN_EXIT_OK && !c->editing)) {
			return code;
		}
	}
}

/* Writes what was typed, readable by its owner alone. Failing is no error: it is a convenience. */
static void save_history(const struct bn_ctl *ctl)
{
#ifdef BN_HAVE_EDIT
	char folder[sizeof(ctl->history_path)];
	mode_t old = umask(0077);

	memcpy(folder, ctl->history_path, sizeof(folder));
	for (char *p = folder; *p != '\0'; p++) {
		if (*p == '/' && p != folder) {
			*p = '\0';
			(void)mkdir(folder, 0700);
			*p = '/';
		}
	}
	stifle_history(1000);
	(void)write_history(ctl->history_path);
	umask(old);
#else
	(void)ctl;
#endif
}

static int run_chat(struct bn_ctl *ctl)
{
	struct chat c = { .ctl = ctl, .editing = isatty(STDIN_FILENO) == 1 };
	const char *system = bn_ctl_option(ctl, "system");
	struct bn_client_params *p;
	struct bn_client_reply reply;
	int code;

	/* A wrong name or a dead daemon should show before the first question is typed. */
	p = bn_client_params_new();
	bn_client_str(p, "model", ctl->operands[0]);
	code = bn_ctl_call(ctl, "models.show", p, NULL, &reply);
	bn_client_params_free(p);
	if (code != BN_EXIT_OK) {
		return code;
	}
	if (system != NULL) {
		set_system(&c, system);
	}
	if (c.editing && !ctl->quiet) {
		fprintf(ctl->err.to, "Talking to %s. /help shows what else there is.\n",
			ctl->operands[0]);
	}
	bn_ctl_catch_interrupts();
#ifdef BN_HAVE_EDIT
	using_history();
	if (c.editing && ctl->history_path[0] != '\0') {
		(void)read_history(ctl->history_path);
	}
#endif
	code = converse(&c);
	if (c.editing && bn_ctl_option(ctl, "no-history") == NULL) {
		save_history(ctl);
	}
	if (c.editing) {
		fputc('\n', ctl->err.to);
	}
	drop_turns(&c, 0);
	free(c.turns);
	return code == BN_EXIT_INTERRUPTED ? BN_EXIT_OK : code;
}

static const struct bn_ctl_option chat_options[] = {
	{ 0, "system", BN_CTL_TEXT, "TEXT", NULL, false, "System prompt of the conversation." },
	{ 0, "no-history", BN_CTL_FLAG, NULL, NULL, false, "Do not keep what was typed." },
	BN_GENERATE_OPTIONS,
};

const struct bn_ctl_command bn_cmd_chat = {
	.name = "chat",
	.operands = "MODEL",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Talk with a model, turn by turn.",
	.help = "Lines are edited and remembered in $XDG_STATE_HOME/bnd/history. /help inside lists the\n"
		"commands. Without a terminal each line of standard input is one turn.",
	.options = chat_options,
	.run = run_chat,
};
