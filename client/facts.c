#include "client/facts.h"

#include "client/json.h"

#include <ctype.h>
#include <string.h>

/* ---- words -------------------------------------------------------------------------------- */

char *bn_facts_count(char text[BN_FACTS_COUNT_BYTES], uint64_t n)
{
	if (n >= 1000000000) {
		snprintf(text, BN_FACTS_COUNT_BYTES, "%.1f B", (double)n / 1e9);
	} else {
		snprintf(text, BN_FACTS_COUNT_BYTES, "%.0f M", (double)n / 1e6);
	}
	return text;
}

char *bn_facts_kernels(char text[BN_FACTS_LIST_BYTES], const struct bn_advice *a,
		       enum bn_guide_processor processor)
{
	enum bn_guide_kernel taken = BN_GUIDE_KERNELS;
	size_t n;

	if (a->kernel != NULL) {
		(void)bn_guide_kernel_of(a->kernel->name, &taken);
		n = (size_t)snprintf(text, BN_FACTS_LIST_BYTES, "%s", a->kernel->name);
	} else {
		n = (size_t)snprintf(text, BN_FACTS_LIST_BYTES, "needs");
	}
	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		const enum bn_guide_kernel family = (enum bn_guide_kernel)f;

		if (a->kernel != NULL ? a->runs[f] && family != taken
				      : bn_guide_allows(a->model, processor, family)) {
			n += (size_t)snprintf(text + n, BN_FACTS_LIST_BYTES - n, "%s %s",
					      a->kernel != NULL ? "," : "",
					      bn_guide_kernel_word(family));
		}
	}
	return text;
}

static bool chats(const struct bn_guide_model *m)
{
	return strcmp(m->template, "none") != 0;
}

const char *bn_facts_kind(const struct bn_guide_model *m)
{
	return m->pooling != NULL ? "embedding" : chats(m) ? "chat" : "text";
}

const char *bn_facts_verb(const struct bn_guide_model *m)
{
	return m->pooling != NULL ? "embed" : chats(m) ? "chat" : "run";
}

const char *bn_facts_licence(const struct bn_guide_model *m)
{
	return m->licence != NULL ? m->licence : "see its card";
}

char *bn_facts_config_name(char text[BN_FACTS_NAME_BYTES], const struct bn_guide_model *m)
{
	size_t i = 0;

	for (; m->name[i] != '\0' && i < BN_FACTS_NAME_BYTES - 1; i++) {
		text[i] = (char)tolower((unsigned char)m->name[i]);
	}
	text[i] = '\0';
	return text;
}

bool bn_facts_fits(const struct bn_advice *a)
{
	return a->fits_context == a->context;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *json_bytes(uint64_t n)
{
	return json_integer((json_int_t)n);
}

json_t *bn_facts_model(const struct bn_advice *a, const struct bn_survey *s)
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
	json_object_set_new(out, "chats", json_boolean(chats(m)));
	json_object_set_new(out, "kind", json_string(bn_facts_kind(m)));
	if (m->pooling != NULL) {
		json_object_set_new(out, "pooling", json_string(m->pooling));
		json_object_set_new(out, "dimensions", json_integer(m->shape.dim));
	}
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
	json_object_set_new(out, "fits", json_boolean(bn_facts_fits(a)));
	json_object_set_new(out, "fits_context", json_integer(a->fits_context));
	list = json_array();
	for (size_t i = 0; bn_survey_name(s, m, i) != NULL; i++) {
		json_array_append_new(list, json_string(bn_survey_name(s, m, i)));
	}
	json_object_set_new(out, "configured", list);
	return out;
}

json_t *bn_facts_survey(const struct bn_survey *s)
{
	json_t *out = json_object();

	json_object_set_new(out, "source", json_string(s->from_daemon ? "daemon" : "machine"));
	json_object_set_new(out, "budget_bytes", json_bytes(s->machine.budget_bytes));
	json_object_set_new(
		out, "processor",
		json_string(bn_guide_processor_word(bn_guide_processor(s->machine.cpu))));
	return out;
}

int bn_facts_print(struct bn_ctl *ctl, json_t *value)
{
	return bn_json_put(ctl->out.to, value) ? BN_EXIT_OK : BN_EXIT_IO;
}
