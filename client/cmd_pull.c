/*
 * The verb pull: a model from the Hugging Face hub. Here are its words and variables; the work is
 * client/pull.c.
 */
#include "client/bnctl.h"
#include "client/hub_name.h"
#include "client/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef BN_HAVE_CURL

enum { STALL_S = 30, STALL_MAX_S = 3600, RETRIES = 5, RETRIES_MAX = 100 };

/* A whole number among the options, within its bounds. */
static bool number(struct bn_ctl *ctl, const char *name, unsigned min, unsigned max,
		   unsigned *value)
{
	const char *text = bn_ctl_option(ctl, name);
	const long long n = text != NULL ? strtoll(text, NULL, 10) : *value;

	if (n < (long long)min || n > (long long)max) {
		bn_ctl_complain(ctl, "--%s: %s is not between %u and %u", name, text, min, max);
		return false;
	}
	*value = (unsigned)n;
	return true;
}

/* One of bn-convert's words: it would say no itself, but after gigabytes have come. */
static bool word(struct bn_ctl *ctl, const char *name, const char *const *words, const char **value)
{
	char list[64] = "";

	*value = bn_ctl_option(ctl, name);
	if (*value == NULL) {
		return true;
	}
	for (size_t i = 0; words[i] != NULL; i++) {
		const size_t n = strlen(list);

		if (strcmp(*value, words[i]) == 0) {
			return true;
		}
		snprintf(list + n, sizeof(list) - n, "%s%s",
			 i == 0                 ? ""
			 : words[i + 1] != NULL ? ", "
						: " or ",
			 words[i]);
	}
	bn_ctl_complain(ctl, "--%s: '%s' is none of %s", name, *value, list);
	return false;
}

static const char *or_else(const char *text, const char *other)
{
	return text != NULL && text[0] != '\0' ? text : other;
}

static int run_pull(struct bn_ctl *ctl)
{
	static const char *const kernels[] = { "i2_s", "tl1", "tl2", "auto", NULL };
	static const char *const embeddings[] = { "f16", "q8_0", "q6_k", "keep", NULL };
	struct bn_pull_options o = {
		.to = bn_ctl_option(ctl, "to"),
		.keep_source = bn_ctl_option(ctl, "keep-source") != NULL,
		.force = bn_ctl_option(ctl, "force") != NULL,
		.stall_s = STALL_S,
		.retries = RETRIES,
		.endpoint = or_else(getenv("HF_ENDPOINT"), "https://huggingface.co"),
		.token = getenv("HF_TOKEN"),
		.search_path = getenv("PATH"),
		.xdg_data_home = getenv("XDG_DATA_HOME"),
		.home = getenv("HOME"),
		.is_root = geteuid() == 0,
	};
	struct bn_error err;

	if (!number(ctl, "stall", 1, STALL_MAX_S, &o.stall_s) ||
	    !number(ctl, "retries", 0, RETRIES_MAX, &o.retries) ||
	    !word(ctl, "kernel", kernels, &o.kernel) ||
	    !word(ctl, "embedding", embeddings, &o.embedding)) {
		return BN_EXIT_USAGE;
	}
	if (bn_hub_name_parse(&o.name, ctl->operands[0], bn_ctl_option(ctl, "revision"),
			      bn_ctl_option(ctl, "file"), &err) != BN_OK) {
		bn_ctl_complain(ctl, "%s", err.text);
		return BN_EXIT_USAGE;
	}
	return bn_pull(ctl, &o);
}

#else

static int run_pull(struct bn_ctl *ctl)
{
	bn_ctl_complain(ctl, "this bnctl was built without libcurl and cannot download: install "
			     "libcurl's headers (Debian: libcurl4-openssl-dev) and build again, or "
			     "fetch the files with another program and use `bnctl convert`");
	return BN_EXIT_UNAVAILABLE;
}

#endif

static const struct bn_ctl_option pull_options[] = {
	{ 0, "revision", BN_CTL_TEXT, "REV", NULL, false,
	  "Branch, tag or commit; main otherwise." },
	{ 0, "file", BN_CTL_TEXT, "FILE", NULL, false, "The GGUF file, where there are several." },
	{ 0, "to", BN_CTL_TEXT, "FOLDER", NULL, false, "Where to put it; see above." },
	{ 0, "kernel", BN_CTL_TEXT, "NAME", NULL, false, "Layout to convert to, for bn-convert." },
	{ 0, "embedding", BN_CTL_TEXT, "TYPE", NULL, false, "Type of the embedding, the same." },
	{ 0, "keep-source", BN_CTL_FLAG, NULL, NULL, false, "Keep what was converted." },
	{ 'f', "force", BN_CTL_FLAG, NULL, NULL, false, "Replace files of the same name." },
	{ 0, "stall", BN_CTL_INT, "SECONDS", NULL, false,
	  "Give up a connection below 1 KiB/s after these; 30." },
	{ 0, "retries", BN_CTL_INT, "N", NULL, false,
	  "Tries in a row that bring nothing before giving up; 5." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_pull = {
	.name = "pull",
	.operands = "REPO",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Download a model from the Hugging Face hub.",
	.help = "REPO is org/name, org/name@revision, org/name:file.gguf or org/name@revision:file.gguf.\n\n"
		"Takes the I2_S GGUF of the repository, or its safetensors, which are then converted.\n"
		"Every file is checked against the hub's digest. Whatever interrupts it, the same\n"
		"command goes on where it stopped. Prints the lines that bnd.yaml needs.\n\n"
		"Files go to --to, else to /var/lib/bnd/models for root, else to\n"
		"$XDG_DATA_HOME/bnd/models (~/.local/share/bnd/models), below org/name/commit.\n\n"
		"HF_ENDPOINT names another hub than https://huggingface.co. HF_TOKEN is for gated and\n"
		"private repositories; it is sent to that hub alone.",
	.options = pull_options,
	.run = run_pull,
};
