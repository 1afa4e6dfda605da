/*
 * The verb models: every published model, and whether it would run here. It works without a daemon:
 * that is when somebody chooses a model.
 */
#include "client/bnctl.h"
#include "client/facts.h"
#include "client/survey.h"
#include "engine/advice.h"
#include "proto/suggest.h"

#include <inttypes.h>
#include <string.h>

enum column {
	NAME,
	KIND,
	PARAMETERS,
	MEMORY,
	FITS,
	KERNELS,
	CONTEXT,
	CONFIGURED,
	LICENCE,
	COLUMNS
};

/* What a terminal is too narrow for goes first where `needs` is widest; a pipe gets all. */
static const struct {
	const char *head;
	unsigned needs; /* columns of the terminal */
} columns[COLUMNS] = {
	[NAME] = { "MODEL", 0 },          [KIND] = { "FOR", 124 },
	[PARAMETERS] = { ">PARAMS", 60 }, [MEMORY] = { ">MEMORY", 0 },
	[FITS] = { "FITS", 0 },           [KERNELS] = { "KERNELS", 80 },
	[CONTEXT] = { ">CONTEXT", 90 },   [CONFIGURED] = { "HERE AS", 140 },
	[LICENCE] = { "LICENCE", 110 },
};

static void fill_cell(struct bn_table *table, unsigned at, enum column column,
		      const struct bn_advice *a, const struct bn_survey *s)
{
	const char *name = bn_survey_name(s, a->model, 0);
	char text[BN_FACTS_LIST_BYTES];

	switch (column) {
	case NAME:
		bn_table_cell(table, at, name != NULL ? BN_COLOUR_BOLD : BN_COLOUR_PLAIN, "%s",
			      a->model->name);
		break;
	case KIND:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s", bn_facts_kind(a->model));
		break;
	case PARAMETERS:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s",
			      bn_facts_count(text, bn_shape_file(&a->model->shape).parameters));
		break;
	case MEMORY:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s",
			      a->kernel == NULL
				      ? "-"
				      : bn_term_bytes(text, sizeof(text), (int64_t)a->total_bytes));
		break;
	case FITS:
		if (bn_facts_fits(a)) {
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
			      bn_facts_kernels(text, a, bn_guide_processor(s->machine.cpu)));
		break;
	case CONTEXT:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%" PRIu32, a->context);
		break;
	case CONFIGURED:
		bn_table_cell(table, at, BN_COLOUR_CYAN, "%s", name != NULL ? name : "-");
		break;
	case LICENCE:
		bn_table_cell(table, at, BN_COLOUR_PLAIN, "%s", bn_facts_licence(a->model));
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

static void print_answers(struct bn_ctl *ctl, const struct bn_guide_model *m)
{
	char text[256] = "";
	size_t n = 0;

	fact(ctl, "chat template",
	     strcmp(m->template, "none") == 0 ? "none: it continues text" : m->template);
	for (size_t i = 0; m->stops[i] != NULL; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? ", " : "",
				      m->stops[i]);
	}
	fact(ctl, "stops at", text);
}

static void print_vectors(struct bn_ctl *ctl, const struct bn_guide_model *m)
{
	char text[64];

	snprintf(text, sizeof(text), "%" PRIu32 " numbers, pooled: %s", m->shape.dim, m->pooling);
	fact(ctl, "vectors", text);
}

static void print_model(struct bn_ctl *ctl, const struct bn_advice *a, const struct bn_survey *s)
{
	const struct bn_guide_model *m = a->model;
	const struct bn_shape_file file = bn_shape_file(&m->shape);
	char text[256], one[32], two[32], three[32], four[32];

	fact(ctl, "model", m->name);
	fact(ctl, "for", bn_facts_kind(m));
	fact(ctl, "repository", m->repo);
	fact(ctl, "licence", m->licence != NULL ? m->licence : "not named; see its card");
	snprintf(text, sizeof(text), "%s, of them %s ternary; %" PRIu32 " layers of %" PRIu32,
		 bn_facts_count(one, file.parameters), bn_facts_count(two, file.ternary),
		 m->shape.layers, m->shape.dim);
	fact(ctl, "parameters", text);
	snprintf(text, sizeof(text), "%" PRIu32 " tokens", a->context);
	fact(ctl, "context", text);
	fact(ctl, "tokenizer", m->tokenizer);
	if (m->pooling != NULL) {
		print_vectors(ctl, m);
	} else {
		print_answers(ctl, m);
	}
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
	if (bn_facts_fits(a)) {
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
		json_t *out = bn_facts_survey(&survey), *list = json_array();

		for (size_t i = 0; (m = bn_guide_at(i)) != NULL; i++) {
			if (only == NULL || m == only) {
				bn_advice_of(m, &survey.machine, &a);
				json_array_append_new(list, bn_facts_model(&a, &survey));
			}
		}
		json_object_set_new(out, "models", list);
		return bn_facts_print(ctl, out);
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
