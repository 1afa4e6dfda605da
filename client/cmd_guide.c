/*
 * The verbs of the guide: models (every published model, and whether it would run here) and
 * recommend (one of them for a purpose).
 *
 * Both work without a daemon: that is when somebody chooses a model. All arithmetic is the
 * engine's (engine/advice.h).
 */
#include "client/bnctl.h"
#include "client/survey.h"
#include "engine/advice.h"
#include "proto/suggest.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { NAME_BYTES = 96, LIST_BYTES = 160 };

/* ---- words -------------------------------------------------------------------------------- */

/* "2.4 B", "729 M". */
static char *show_count(char text[32], uint64_t n)
{
	if (n >= 1000000000) {
		snprintf(text, 32, "%.1f B", (double)n / 1e9);
	} else {
		snprintf(text, 32, "%.0f M", (double)n / 1e6);
	}
	return text;
}

/* "i2s.vnni, tl2": the kernel `auto` takes, then the other families that would do; or "needs tl2".
 */
static char *show_kernels(char text[LIST_BYTES], const struct bn_advice *a,
			  enum bn_guide_processor processor)
{
	enum bn_guide_kernel taken = BN_GUIDE_KERNELS;
	size_t n;

	if (a->kernel != NULL) {
		(void)bn_guide_kernel_of(a->kernel->name, &taken);
		n = (size_t)snprintf(text, LIST_BYTES, "%s", a->kernel->name);
	} else {
		n = (size_t)snprintf(text, LIST_BYTES, "needs");
	}
	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		const enum bn_guide_kernel family = (enum bn_guide_kernel)f;

		if (a->kernel != NULL ? a->runs[f] && family != taken
				      : bn_guide_allows(a->model, processor, family)) {
			n += (size_t)snprintf(text + n, LIST_BYTES - n, "%s %s",
					      a->kernel != NULL ? "," : "",
					      bn_guide_kernel_word(family));
		}
	}
	return text;
}

static const char *show_licence(const struct bn_guide_model *m)
{
	return m->licence != NULL ? m->licence : "see its card";
}

/* As `bnctl pull` names it in bnd.yaml: the repository's name in lower case. */
static char *config_name(char text[NAME_BYTES], const struct bn_guide_model *m)
{
	size_t i = 0;

	for (; m->name[i] != '\0' && i < NAME_BYTES - 1; i++) {
		text[i] = (char)tolower((unsigned char)m->name[i]);
	}
	text[i] = '\0';
	return text;
}

static bool fits(const struct bn_advice *a)
{
	return a->fits_context == a->context;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *json_bytes(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *model_to_json(const struct bn_advice *a, const struct bn_survey *s)
{
	const struct bn_guide_model *m = a->model;
	const struct bn_shape_file file = bn_shape_file(&m->shape);
	json_t *out = json_object(), *list = json_array(), *bytes = json_object();

	json_object_set_new(out, "name", json_string(m->name));
	json_object_set_new(out, "repo", json_string(m->repo));
	json_object_set_new(out, "nickname", json_string(m->nickname));
	json_object_set_new(out, "parameters", json_bytes(file.parameters));
	json_object_set_new(out, "ternary_parameters", json_bytes(file.ternary));
	json_object_set_new(out, "context", json_integer(a->context));
	json_object_set_new(out, "chats", json_boolean(strcmp(m->template, "none") != 0));
	json_object_set_new(out, "template", json_string(m->template));
	json_object_set_new(out, "tokenizer", json_string(m->tokenizer));
	for (size_t i = 0; m->stops[i] != NULL; i++) {
		json_array_append_new(list, json_string(m->stops[i]));
	}
	json_object_set_new(out, "stops", list);
	if (m->licence != NULL) {
		json_object_set_new(out, "licence", json_string(m->licence));
	}
	if (m->note != NULL) {
		json_object_set_new(out, "note", json_string(m->note));
	}
	list = json_array();
	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		if (a->runs[f]) {
			json_array_append_new(
				list, json_string(bn_guide_kernel_word((enum bn_guide_kernel)f)));
		}
	}
	json_object_set_new(out, "kernels", list);
	json_object_set_new(bytes, "i2_s_file", json_bytes(file.bytes));
	if (a->kernel != NULL) {
		json_object_set_new(out, "kernel", json_string(a->kernel->name));
		json_object_set_new(bytes, "weights", json_bytes(a->weights_bytes));
		json_object_set_new(bytes, "vocabulary", json_bytes(a->vocabulary_bytes));
		json_object_set_new(bytes, "scratch", json_bytes(a->scratch_bytes));
		json_object_set_new(bytes, "total", json_bytes(a->total_bytes));
	}
	json_object_set_new(bytes, "kv", json_bytes(a->kv_bytes));
	json_object_set_new(bytes, "kv_per_token", json_bytes(a->position_bytes));
	json_object_set_new(out, "bytes", bytes);
	json_object_set_new(out, "fits", json_boolean(fits(a)));
	json_object_set_new(out, "fits_context", json_integer(a->fits_context));
	list = json_array();
	for (size_t i = 0; bn_survey_name(s, m, i) != NULL; i++) {
		json_array_append_new(list, json_string(bn_survey_name(s, m, i)));
	}
	json_object_set_new(out, "configured", list);
	return out;
}

static json_t *survey_to_json(const struct bn_survey *s)
{
	json_t *out = json_object();

	json_object_set_new(out, "source", json_string(s->from_daemon ? "daemon" : "machine"));
	json_object_set_new(out, "budget_bytes", json_bytes(s->machine.budget_bytes));
	json_object_set_new(
		out, "processor",
		json_string(bn_guide_processor_word(bn_guide_processor(s->machine.cpu))));
	return out;
}

static int print_json(struct bn_ctl *ctl, json_t *value)
{
	const bool ok = json_dumpf(value, ctl->out.to, JSON_INDENT(2)) == 0 &&
			fputc('\n', ctl->out.to) != EOF;

	json_decref(value);
	return ok ? BN_EXIT_OK : BN_EXIT_IO;
}

/* ---- models ------------------------------------------------------------------------------- */

enum column { NAME, PARAMETERS, MEMORY, FITS, KERNELS, CONTEXT, CONFIGURED, LICENCE, COLUMNS };

/* What a terminal is too narrow for goes first where `needs` is widest; a pipe gets all. */
static const struct {
	const char *head;
	unsigned needs; /* columns of the terminal */
} columns[COLUMNS] = {
	[NAME] = { "MODEL", 0 },           [PARAMETERS] = { ">PARAMS", 60 },
	[MEMORY] = { ">MEMORY", 0 },       [FITS] = { "FITS", 0 },
	[KERNELS] = { "KERNELS", 80 },     [CONTEXT] = { ">CONTEXT", 90 },
	[CONFIGURED] = { "HERE AS", 130 }, [LICENCE] = { "LICENCE", 110 },
};

static void fill_cell(struct bn_table *table, unsigned at, enum column column,
		      const struct bn_advice *a, const struct bn_survey *s)
{
	const char *name = bn_survey_name(s, a->model, 0);
	char text[LIST_BYTES];

	switch (column) {
	case NAME:
		bn_table_cell(table, at, name != NULL ? BN_COLOUR_BOLD : BN_COLOUR_PLAIN, "%s",
			      a->model->name);
		break;
	case PARAMETERS:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s",
			      show_count(text, bn_shape_file(&a->model->shape).parameters));
		break;
	case MEMORY:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s",
			      a->kernel == NULL
				      ? "-"
				      : bn_term_bytes(text, sizeof(text), (int64_t)a->total_bytes));
		break;
	case FITS:
		if (fits(a)) {
			bn_table_cell(table, at, BN_COLOUR_GREEN, "yes");
		} else if (a->fits_context > 0) {
			bn_table_cell(table, at, BN_COLOUR_YELLOW, "%" PRIu32 " tokens",
				      a->fits_context);
		} else {
			bn_table_cell(table, at, BN_COLOUR_RED, "no");
		}
		break;
	case KERNELS:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s",
			      show_kernels(text, a, bn_guide_processor(s->machine.cpu)));
		break;
	case CONTEXT:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%" PRIu32, a->context);
		break;
	case CONFIGURED:
		bn_table_cell(table, at, BN_COLOUR_CYAN, "%s", name != NULL ? name : "-");
		break;
	case LICENCE:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s", show_licence(a->model));
		break;
	case COLUMNS:
		break;
	}
}

static void print_table(struct bn_ctl *ctl, const struct bn_survey *s)
{
	const unsigned width = ctl->out.terminal ? ctl->out.width : UINT32_MAX;
	enum column shown[COLUMNS];
	const char *heads[COLUMNS];
	const struct bn_guide_model *m;
	struct bn_table table;
	unsigned n = 0;

	for (unsigned c = 0; c < COLUMNS; c++) {
		/* A column that would be empty says nothing. */
		if (width >= columns[c].needs && (c != CONFIGURED || s->n_models > 0)) {
			heads[n] = columns[c].head;
			shown[n++] = (enum column)c;
		}
	}
	bn_table_init(&table, n, heads);
	for (size_t i = 0; (m = bn_guide_at(i)) != NULL && bn_table_row(&table); i++) {
		struct bn_advice a;

		bn_advice_of(m, &s->machine, &a);
		for (unsigned c = 0; c < n; c++) {
			fill_cell(&table, c, shown[c], &a, s);
		}
	}
	bn_table_print(&table, &ctl->out);
	bn_table_finish(&table);
	if (!ctl->quiet) {
		fprintf(ctl->out.to,
			"\nMEMORY: weights, working space, a request of full context.\n"
			"FITS: against %s.\n"
			"`bnctl models MODEL` tells more, `bnctl recommend` chooses.\n",
			s->budget);
	}
}

static void fact(struct bn_ctl *ctl, const char *name, const char *text)
{
	fprintf(ctl->out.to, "%s%-16s%s %s\n", bn_term_colour(&ctl->out, BN_COLOUR_DIM), name,
		bn_term_colour(&ctl->out, BN_COLOUR_PLAIN), text);
}

static void print_model(struct bn_ctl *ctl, const struct bn_advice *a, const struct bn_survey *s)
{
	const struct bn_guide_model *m = a->model;
	const struct bn_shape_file file = bn_shape_file(&m->shape);
	char text[256], one[32], two[32], three[32], four[32];
	size_t n = 0;

	fact(ctl, "model", m->name);
	fact(ctl, "repository", m->repo);
	fact(ctl, "licence", m->licence != NULL ? m->licence : "not named; see its card");
	snprintf(text, sizeof(text), "%s, of them %s ternary; %" PRIu32 " layers of %" PRIu32,
		 show_count(one, file.parameters), show_count(two, file.ternary), m->shape.layers,
		 m->shape.dim);
	fact(ctl, "parameters", text);
	snprintf(text, sizeof(text), "%" PRIu32 " tokens", a->context);
	fact(ctl, "context", text);
	fact(ctl, "tokenizer", m->tokenizer);
	fact(ctl, "chat template",
	     strcmp(m->template, "none") == 0 ? "none: it continues text" : m->template);
	text[0] = '\0';
	for (size_t i = 0; m->stops[i] != NULL; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? ", " : "",
				      m->stops[i]);
	}
	fact(ctl, "stops at", text);
	fact(ctl, "kernels here", bn_guide_list(m, &m->shape, s->machine.cpu, text, sizeof(text)));
	if (a->kernel != NULL) {
		fact(ctl, "auto takes", a->kernel->name);
		snprintf(text, sizeof(text),
			 "%s: weights and vocabulary %s, working space %s, context %s",
			 bn_term_bytes(one, sizeof(one), (int64_t)a->total_bytes),
			 bn_term_bytes(two, sizeof(two),
				       (int64_t)(a->weights_bytes + a->vocabulary_bytes)),
			 bn_term_bytes(three, sizeof(three), (int64_t)a->scratch_bytes),
			 bn_term_bytes(four, sizeof(four), (int64_t)a->kv_bytes));
		fact(ctl, "memory", text);
	}
	if (fits(a)) {
		snprintf(text, sizeof(text), "yes, %s", s->budget);
	} else if (a->fits_context > 0) {
		snprintf(text, sizeof(text), "with a context of %" PRIu32 " tokens, %s",
			 a->fits_context, s->budget);
	} else {
		snprintf(text, sizeof(text), "no%s%s", a->kernel != NULL ? ", " : ": no kernel",
			 a->kernel != NULL ? s->budget : "");
	}
	fact(ctl, "fits", text);
	if (m->note != NULL) {
		fact(ctl, "note", m->note);
	}
	for (size_t i = 0; bn_survey_name(s, m, i) != NULL; i++) {
		fact(ctl, "configured as", bn_survey_name(s, m, i));
	}
}

/* The row somebody means; NULL after a complaint. */
static const struct bn_guide_model *find_model(struct bn_ctl *ctl, const char *word)
{
	const struct bn_guide_model *m = bn_guide_find(word);
	struct bn_suggest near;

	if (m != NULL) {
		return m;
	}
	bn_suggest_init(&near, bn_text_of(word));
	for (size_t i = 0; (m = bn_guide_at(i)) != NULL; i++) {
		bn_suggest_offer(&near, m->nickname);
		bn_suggest_offer(&near, m->name);
		bn_suggest_offer(&near, m->repo);
	}
	if (bn_suggest_best(&near) != NULL) {
		bn_ctl_complain(ctl, "the guide has no model '%s'; did you mean '%s'?", word,
				bn_suggest_best(&near));
	} else {
		bn_ctl_complain(ctl,
				"the guide has no model '%s'; `bnctl models` lists them, "
				"`bnctl ls` those of the daemon",
				word);
	}
	return NULL;
}

static int run_models(struct bn_ctl *ctl)
{
	static struct bn_survey survey; /* large for a stack */
	const struct bn_guide_model *only = NULL, *m;
	struct bn_advice a;
	int code;

	if (ctl->n_operands > 0) {
		only = find_model(ctl, ctl->operands[0]);
		if (only == NULL) {
			return BN_EXIT_FAILED;
		}
	}
	code = bn_survey(ctl, &survey);
	if (code != BN_EXIT_OK) {
		return code;
	}
	if (ctl->json) {
		json_t *out = survey_to_json(&survey), *list = json_array();

		for (size_t i = 0; (m = bn_guide_at(i)) != NULL; i++) {
			if (only == NULL || m == only) {
				bn_advice_of(m, &survey.machine, &a);
				json_array_append_new(list, model_to_json(&a, &survey));
			}
		}
		json_object_set_new(out, "models", list);
		return print_json(ctl, out);
	}
	if (only != NULL) {
		bn_advice_of(only, &survey.machine, &a);
		print_model(ctl, &a, &survey);
	} else {
		print_table(ctl, &survey);
	}
	return BN_EXIT_OK;
}

static const struct bn_ctl_option no_options[] = {
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_models = {
	.name = "models",
	.alias = "guide",
	.operands = "[MODEL]",
	.max_operands = 1,
	.summary = "Show every published model, and whether it fits here.",
	.help = "Works without a daemon. With one, FITS measures against its budget, else against what a\n"
		"daemon would take of this machine's memory now; \"2304 tokens\" means: with a context of\n"
		"that many. KERNELS begins with the one `auto` takes. MEMORY is what the daemon will\n"
		"reserve, with an allowance for the tables of the vocabulary. A narrow terminal shows\n"
		"fewer columns, a pipe all.\n\n"
		"`bnctl ls` lists the models that are configured.",
	.options = no_options,
	.run = run_models,
};

/* ---- recommend ---------------------------------------------------------------------------- */

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

static void list_uses(char text[LIST_BYTES])
{
	size_t n = 0;

	for (unsigned u = 0; u < BN_ADVICE_USES; u++) {
		n += (size_t)snprintf(text + n, LIST_BYTES - n, "%s%s",
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
	char uses[LIST_BYTES], question[LIST_BYTES + 32], line[64];

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
	char uses[LIST_BYTES];
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
	const bool chats = strcmp(m->template, "none") != 0;
	char name[NAME_BYTES], one[32], two[32], three[32], four[32];

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
		a->kernel->name, show_licence(m));
	if (m->note != NULL) {
		fprintf(ctl->out.to, "Note: %s\n", m->note);
	}
	config_name(name, m);
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
	fprintf(ctl->out.to, "\n    bnctl %s %s%s\n", chats ? "chat" : "run",
		configured != NULL ? configured : name, chats ? "" : " \"Once upon a time\"");
}

static json_t *answer_to_json(enum bn_advice_use use, const struct bn_advice_answer *answer,
			      bool found, const struct bn_survey *s)
{
	json_t *out = survey_to_json(s), *commands = json_array();
	char text[NAME_BYTES + 32], name[NAME_BYTES];
	const struct bn_guide_model *m = answer->chosen.model;
	const char *configured = bn_survey_name(s, m, 0);

	json_object_set_new(out, "use", json_string(bn_advice_use_word(use)));
	json_object_set_new(out, "wanted", json_string(answer->wanted.model->name));
	json_object_set_new(out, "reason", json_string(bn_advice_use_reason(use)));
	json_object_set_new(out, "found", json_boolean(found));
	if (!found) {
		json_object_set_new(out, "least_bytes", json_bytes(least_bytes(&answer->chosen)));
		json_decref(commands);
		return out;
	}
	if (configured == NULL) {
		snprintf(text, sizeof(text), "bnctl pull %s", m->repo);
		json_array_append_new(commands, json_string(text));
	}
	snprintf(text, sizeof(text), "bnctl %s %s",
		 strcmp(m->template, "none") != 0 ? "chat" : "run",
		 configured != NULL ? configured : config_name(name, m));
	json_array_append_new(commands, json_string(text));
	json_object_set_new(out, "context", json_integer(answer->context));
	json_object_set_new(out, "commands", commands);
	json_object_set_new(out, "model", model_to_json(&answer->chosen, s));
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
		code = print_json(ctl, answer_to_json(use, &answer, found, &survey));
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
	  "testing, general, edge, quality or maximum." },
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
