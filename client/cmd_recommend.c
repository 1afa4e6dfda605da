/*
 * The verb recommend: one model of the guide for a purpose and an amount of memory.
 */
#include "client/bnctl.h"
#include "client/facts.h"
#include "client/survey.h"
#include "engine/advice.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const struct {
	const char *word;
	double bytes;
} units[] = {
	{ "GiB", 1024.0 * 1024 * 1024 },
	{ "MiB", 1024.0 * 1024 },
	{ "KiB", 1024.0 },
	{ "TiB", 1024.0 * 1024 * 1024 * 1024 },
	{ "GB", 1e9 },
	{ "MB", 1e6 },
	{ "kB", 1e3 },
	{ "TB", 1e12 },
	{ "G", 1024.0 * 1024 * 1024 },
	{ "M", 1024.0 * 1024 },
	{ "B", 1 },
};

/* "4GiB", "1.5 GB", "900M". */
static bool parse_size(const char *text, uint64_t *bytes)
{
	char *end;
	const double value = strtod(text, &end);

	if (end == text || !isdigit((unsigned char)text[0]) || !isfinite(value)) {
		return false;
	}
	end += strspn(end, " ");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcasecmp(end, units[i].word) == 0 && value * units[i].bytes < 9e18) {
			*bytes = (uint64_t)(value * units[i].bytes);
			return true;
		}
	}
	return false;
}

static void list_uses(char text[BN_FACTS_LIST_BYTES])
{
	size_t n = 0;

	for (unsigned u = 0; u < BN_ADVICE_USES; u++) {
		n += (size_t)snprintf(text + n, BN_FACTS_LIST_BYTES - n, "%s%s",
				      u == 0                    ? ""
				      : u + 1 == BN_ADVICE_USES ? " or "
								: ", ",
				      bn_advice_use_word((enum bn_advice_use)u));
	}
}

/* One line of the terminal without its end; false at its end. */
static bool ask(struct bn_ctl *ctl, const char *question, char *line, int size)
{
	fprintf(ctl->err.to, "%s ", question);
	fflush(ctl->err.to);
	if (fgets(line, size, stdin) == NULL) {
		fputc('\n', ctl->err.to);
		return false;
	}
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static void use_given(struct bn_survey *s, uint64_t bytes)
{
	char text[32];

	s->machine.budget_bytes = bytes;
	snprintf(s->budget, sizeof(s->budget), "the %s given",
		 bn_term_bytes(text, sizeof(text), (int64_t)bytes));
}

/* Until an answer is one; an empty line takes what is offered. False at the end of input. */
static bool ask_ram(struct bn_ctl *ctl, struct bn_survey *s)
{
	char question[160], line[64];
	uint64_t bytes;

	snprintf(question, sizeof(question), "Memory, as 4GiB [%s]:", s->budget);
	while (ask(ctl, question, line, sizeof(line))) {
		if (line[0] == '\0') {
			return true;
		}
		if (parse_size(line, &bytes)) {
			use_given(s, bytes);
			return true;
		}
		fprintf(ctl->err.to, "'%s' is no size; write 4GiB or 900MiB.\n", line);
	}
	return false;
}

static bool ask_use(struct bn_ctl *ctl, enum bn_advice_use *use)
{
	char uses[BN_FACTS_LIST_BYTES], question[BN_FACTS_LIST_BYTES + 32], line[64];

	list_uses(uses);
	snprintf(question, sizeof(question), "Use: %s [general]:", uses);
	while (ask(ctl, question, line, sizeof(line))) {
		if (line[0] == '\0') {
			*use = BN_ADVICE_GENERAL;
			return true;
		}
		if (bn_advice_use_of(line, use)) {
			return true;
		}
		fprintf(ctl->err.to, "'%s' is none of them.\n", line);
	}
	return false;
}

/* From the options, and on a terminal from the user. Returns an exit code. */
static int settle(struct bn_ctl *ctl, struct bn_survey *s, enum bn_advice_use *use)
{
	const char *ram = bn_ctl_option(ctl, "ram"), *word = bn_ctl_option(ctl, "use");
	const bool person = isatty(STDIN_FILENO) == 1 && ctl->err.terminal;
	char uses[BN_FACTS_LIST_BYTES];
	uint64_t bytes;

	list_uses(uses);
	if (word != NULL && !bn_advice_use_of(word, use)) {
		bn_ctl_complain(ctl, "--use: '%s' is none of %s", word, uses);
		return BN_EXIT_USAGE;
	}
	if (ram != NULL && !parse_size(ram, &bytes)) {
		bn_ctl_complain(ctl, "--ram: '%s' is no size; write 4GiB or 900MiB", ram);
		return BN_EXIT_USAGE;
	}
	if (word == NULL && !person) {
		bn_ctl_complain(ctl,
				"what for? give --use (%s), and --ram SIZE for another amount of "
				"memory than %s",
				uses, s->budget);
		return BN_EXIT_USAGE;
	}
	if (ram != NULL) {
		use_given(s, bytes);
	} else if (word == NULL && !ask_ram(ctl, s)) {
		return BN_EXIT_INTERRUPTED;
	}
	return word != NULL || ask_use(ctl, use) ? BN_EXIT_OK : BN_EXIT_INTERRUPTED;
}

/* Bytes that a model needs to be recommended at all. */
static uint64_t least_bytes(const struct bn_advice *a)
{
	const uint32_t context = a->context < BN_ADVICE_LEAST ? a->context : BN_ADVICE_LEAST;

	return a->fixed_bytes + (uint64_t)context * a->position_bytes;
}

static void print_misfit(struct bn_ctl *ctl, enum bn_advice_use use, const struct bn_advice *a,
			 const struct bn_survey *s)
{
	char need[32];

	if (a->kernel == NULL) {
		fprintf(ctl->out.to, "%s, %s, has no kernel on this processor.\n", a->model->name,
			bn_advice_use_reason(use));
		return;
	}
	fprintf(ctl->out.to,
		"%s, %s, does not fit:\nwith %d tokens of context it needs %s, more than %s.\n",
		a->model->name, bn_advice_use_reason(use),
		a->context < BN_ADVICE_LEAST ? (int)a->context : BN_ADVICE_LEAST,
		bn_term_bytes(need, sizeof(need), (int64_t)least_bytes(a)), s->budget);
}

static void print_answer(struct bn_ctl *ctl, enum bn_advice_use use,
			 const struct bn_advice_answer *answer, const struct bn_survey *s)
{
	const struct bn_advice *a = &answer->chosen;
	const struct bn_guide_model *m = a->model;
	const char *configured = bn_survey_name(s, m, 0);
	const char *verb = bn_facts_verb(m);
	char name[BN_FACTS_NAME_BYTES], one[32], two[32], three[32], four[32];

	if (m != answer->wanted.model) {
		print_misfit(ctl, use, &answer->wanted, s);
		fprintf(ctl->out.to, "\nThis does: %s%s%s\n",
			bn_term_colour(&ctl->out, BN_COLOUR_BOLD), m->name,
			bn_term_colour(&ctl->out, BN_COLOUR_PLAIN));
	} else {
		fprintf(ctl->out.to, "%s%s%s: %s\n", bn_term_colour(&ctl->out, BN_COLOUR_BOLD),
			m->name, bn_term_colour(&ctl->out, BN_COLOUR_PLAIN),
			bn_advice_use_reason(use));
	}
	fprintf(ctl->out.to,
		"It takes %s of %s:\nweights and vocabulary %s, working space %s, %" PRIu32
		" tokens of context %s.\nKernel: %s\nLicence: %s\n",
		bn_term_bytes(one, sizeof(one),
			      (int64_t)(a->fixed_bytes + answer->context * a->position_bytes)),
		s->budget,
		bn_term_bytes(two, sizeof(two), (int64_t)(a->weights_bytes + a->vocabulary_bytes)),
		bn_term_bytes(three, sizeof(three), (int64_t)a->scratch_bytes), answer->context,
		bn_term_bytes(four, sizeof(four), (int64_t)(answer->context * a->position_bytes)),
		a->kernel->name, bn_facts_licence(m));
	if (m->note != NULL) {
		fprintf(ctl->out.to, "Note: %s\n", m->note);
	}
	bn_facts_config_name(name, m);
	if (configured == NULL) {
		fprintf(ctl->out.to, "\n    bnctl pull %s\n\n", m->repo);
		fputs("It prints these lines for bnd.yaml with the path:\n\n", ctl->out.to);
		fprintf(ctl->out.to, "    models:\n    - name: %s\n      path: ...\n", name);
		if (answer->context < a->context) {
			fprintf(ctl->out.to, "      context: %" PRIu32 "    # to be added\n",
				answer->context);
		}
	} else {
		fprintf(ctl->out.to, "\nIt is configured already, as %s.\n", configured);
	}
	fprintf(ctl->out.to, "\n    bnctl %s %s%s\n", verb, configured != NULL ? configured : name,
		strcmp(verb, "chat") == 0 ? "" : " \"Once upon a time\"");
}

static json_t *answer_to_json(enum bn_advice_use use, const struct bn_advice_answer *answer,
			      bool found, const struct bn_survey *s)
{
	json_t *out = bn_facts_survey(s), *commands = json_array();
	char text[BN_FACTS_NAME_BYTES + 32], name[BN_FACTS_NAME_BYTES];
	const struct bn_guide_model *m = answer->chosen.model;
	const char *configured = bn_survey_name(s, m, 0);

	json_object_set_new(out, "use", json_string(bn_advice_use_word(use)));
	json_object_set_new(out, "wanted", json_string(answer->wanted.model->name));
	json_object_set_new(out, "reason", json_string(bn_advice_use_reason(use)));
	json_object_set_new(out, "found", json_boolean(found));
	if (!found) {
		json_object_set_new(out, "least_bytes",
				    json_integer((json_int_t)least_bytes(&answer->chosen)));
		json_decref(commands);
		return out;
	}
	if (configured == NULL) {
		snprintf(text, sizeof(text), "bnctl pull %s", m->repo);
		json_array_append_new(commands, json_string(text));
	}
	snprintf(text, sizeof(text), "bnctl %s %s", bn_facts_verb(m),
		 configured != NULL ? configured : bn_facts_config_name(name, m));
	json_array_append_new(commands, json_string(text));
	json_object_set_new(out, "context", json_integer(answer->context));
	json_object_set_new(out, "commands", commands);
	json_object_set_new(out, "model", bn_facts_model(&answer->chosen, s));
	return out;
}

static int run_recommend(struct bn_ctl *ctl)
{
	static struct bn_survey survey; /* large for a stack */
	enum bn_advice_use use = BN_ADVICE_GENERAL;
	struct bn_advice_answer answer;
	char need[32];
	bool found;
	int code = bn_survey(ctl, &survey);

	code = code == BN_EXIT_OK ? settle(ctl, &survey, &use) : code;
	if (code != BN_EXIT_OK) {
		return code;
	}
	found = bn_advice_recommend(use, &survey.machine, &answer);
	if (ctl->json) {
		code = bn_facts_print(ctl, answer_to_json(use, &answer, found, &survey));
		return code != BN_EXIT_OK || found ? code : BN_EXIT_FAILED;
	}
	if (found) {
		print_answer(ctl, use, &answer, &survey);
		return BN_EXIT_OK;
	}
	bn_ctl_complain(ctl, "nothing for %s fits %s: the smallest, %s, needs %s",
			bn_advice_use_word(use), survey.budget, answer.chosen.model->name,
			bn_term_bytes(need, sizeof(need), (int64_t)least_bytes(&answer.chosen)));
	return BN_EXIT_FAILED;
}

static const struct bn_ctl_option recommend_options[] = {
	{ 0, "ram", BN_CTL_TEXT, "SIZE", NULL, false,
	  "Memory it may take, as 4GiB; else the daemon's budget." },
	{ 'u', "use", BN_CTL_TEXT, "USE", NULL, false,
	  "testing, general, edge, quality, maximum or embedding." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_recommend = {
	.name = "recommend",
	.operands = "",
	.summary = "Recommend one model for a purpose and this memory.",
	.help = "Asks on a terminal for what --ram and --use do not say. Without --ram it measures against\n"
		"the daemon's budget, or what a daemon would take of this machine's memory now.\n\n"
		"Where the model for the use does not fit, it says what fits instead, and with how much\n"
		"context. Exit code 1 when nothing does.",
	.options = recommend_options,
	.run = run_recommend,
};
