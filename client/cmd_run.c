/*
 * The verb run: continue one prompt and stream the answer.
 */
#include "client/bnctl.h"
#include "client/generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The daemon refuses larger messages; stop reading before memory is wasted on them. */
enum { PROMPT_MAX_BYTES = 16 << 20 };

/* All of stdin, NUL-terminated and owned by the caller; NULL after a complaint. */
static char *read_stdin(struct bn_ctl *ctl, size_t *n)
{
	size_t room = 65536;
	char *text = malloc(room);

	*n = 0;
	while (text != NULL) {
		size_t got = fread(text + *n, 1, room - *n - 1, stdin);

		*n += got;
		if (got == 0) {
			break;
		}
		if (*n > PROMPT_MAX_BYTES) {
			bn_ctl_complain(ctl, "the prompt on stdin is larger than %d MiB",
					PROMPT_MAX_BYTES >> 20);
			free(text);
			return NULL;
		}
		if (room - *n < 4096) {
			char *more = realloc(text, room * 2);

			if (more == NULL) {
				free(text);
				text = NULL;
				break;
			}
			text = more;
			room *= 2;
		}
	}
	if (text == NULL) {
		bn_ctl_complain(ctl, "no memory for the prompt");
		return NULL;
	}
	if (ferror(stdin)) {
		bn_ctl_complain(ctl, "cannot read the prompt from stdin: %s", strerror(errno));
		free(text);
		return NULL;
	}
	text[*n] = '\0';
	return text;
}

/* The operands after the model joined by spaces, or stdin. */
static char *read_prompt(struct bn_ctl *ctl, size_t *n)
{
	char *text;
	size_t used = 0;

	if (ctl->n_operands == 1 || (ctl->n_operands == 2 && strcmp(ctl->operands[1], "-") == 0)) {
		if (isatty(STDIN_FILENO) && !ctl->quiet) {
			fprintf(ctl->err.to, "Type the prompt, end with Ctrl-D:\n");
		}
		return read_stdin(ctl, n);
	}
	*n = 0;
	for (int i = 1; i < ctl->n_operands; i++) {
		*n += strlen(ctl->operands[i]) + 1;
	}
	text = malloc(*n + 1);
	if (text == NULL) {
		bn_ctl_complain(ctl, "no memory for the prompt");
		return NULL;
	}
	for (int i = 1; i < ctl->n_operands; i++) {
		size_t length = strlen(ctl->operands[i]);

		if (i > 1) {
			text[used++] = ' ';
		}
		memcpy(text + used, ctl->operands[i], length);
		used += length;
	}
	text[used] = '\0';
	*n = used;
	return text;
}

static int run_run(struct bn_ctl *ctl)
{
	struct bn_client_params *p;
	struct bn_generated made;
	size_t n;
	char *prompt = read_prompt(ctl, &n);
	int code;

	if (prompt == NULL) {
		return BN_EXIT_NO_INPUT;
	}
	p = bn_client_params_new();
	bn_client_str(p, "model", ctl->operands[0]);
	bn_client_strn(p, "prompt", prompt, n);
	code = bn_generate(ctl, "completions", p, &made);
	bn_generated_finish(&made);
	bn_client_params_free(p);
	free(prompt);
	return code;
}

static const struct bn_ctl_option run_options[] = {
	BN_GENERATE_OPTIONS,
};

const struct bn_ctl_command bn_cmd_run = {
	.name = "run",
	.alias = "generate",
	.operands = "MODEL [PROMPT]",
	.min_operands = 1,
	.max_operands = -1,
	.summary = "Continue a prompt and stream the answer.",
	.help = "The prompt is the rest of the line, or standard input when there is none (or it is -).\n"
		"Text goes to standard output as it is made, everything else to standard error. Ctrl-C\n"
		"cancels the request: the daemon stops working on it within one step.",
	.options = run_options,
	.run = run_run,
};
