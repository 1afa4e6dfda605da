/*
 * The verb convert: becomes bn-convert, which is a program of its own because it links the engine.
 */
#include "client/bnctl.h"
#include "client/tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run_convert(struct bn_ctl *ctl)
{
	char path[4096];
	struct bn_error err;

	if (bn_tool_find(path, sizeof(path), "bn-convert", getenv("PATH"), &err) != BN_OK) {
		bn_ctl_complain(ctl, "%s", err.text);
		return BN_EXIT_UNAVAILABLE;
	}
	/* The verb before the operands makes room for the program's name. */
	ctl->operands[-1] = path;
	fflush(NULL);
	execv(path, ctl->operands - 1);
	bn_ctl_complain(ctl, "%s: %s", path, strerror(errno));
	return BN_EXIT_UNAVAILABLE;
}

const struct bn_ctl_command bn_cmd_convert = {
	.name = "convert",
	.operands = "SOURCE -o FILE",
	.max_operands = -1,
	.verbatim = true,
	.summary = "Turn a Hugging Face folder or GGUF file into a file for bnd.",
	.help = "Runs bn-convert with these words and ends as it does; `bnctl convert --help` shows\n"
		"what it takes.",
	.run = run_convert,
};
