#include "client/survey.h"

#include "engine/machine.h"
#include "kernels/cpu.h"

#include <string.h>
#include <unistd.h>

enum { LANES_MAX = 256 }; /* more than any machine's team */

static uint32_t bounded(int64_t n, uint32_t most, uint32_t fallback)
{
	return n < 1 || n > (int64_t)most ? fallback : (uint32_t)n;
}

/* ---- this machine ------------------------------------------------------------------------- */

static int look_here(struct bn_ctl *ctl, struct bn_survey *s)
{
	struct bn_machine machine;
	struct bn_error err;
	char bytes[32];

	s->machine = (struct bn_advice_machine){
		.cpu = bn_cpu_features(),
		.rows = BN_ADVICE_BATCH + BN_ADVICE_CHUNK,
		.outputs = BN_ADVICE_BATCH,
		.lanes = bounded(sysconf(_SC_NPROCESSORS_ONLN), LANES_MAX, 1),
	};
	if (bn_machine_look(&machine, "", &err) != BN_OK ||
	    bn_machine_budget(&s->machine.budget_bytes, &machine, BN_ADVICE_HEADROOM, &err) !=
		    BN_OK) {
		/* Too little for any model: say so, and that nothing fits. */
		s->machine.budget_bytes = 0;
		bn_ctl_complain(ctl, "%s", err.text);
	}
	bn_term_bytes(bytes, sizeof(bytes), (int64_t)s->machine.budget_bytes);
	snprintf(s->budget, sizeof(s->budget), "the %s a daemon would take of this machine", bytes);
	return BN_EXIT_OK;
}

/* ---- the daemon --------------------------------------------------------------------------- */

static bool call(struct bn_ctl *ctl, const char *method, const struct bn_client_params *p,
		 struct bn_client_reply *reply)
{
	return bn_client_call(ctl->client, method, p, NULL, reply) == BN_CLIENT_OK;
}

static void take_machine(struct bn_survey *s, struct bn_client_value status)
{
	struct bn_client_text features = bn_client_text(bn_client_get(status, "processor"));
	int64_t budget = bn_client_get_int(bn_client_get(status, "memory.budget_bytes"), 0);
	char text[256], bytes[32];

	snprintf(text, sizeof(text), "%.*s", (int)(features.n < 255 ? features.n : 255),
		 features.at);
	s->machine = (struct bn_advice_machine){
		.cpu = bn_client_type(bn_client_get(status, "processor")) == BN_CLIENT_STR
			       ? bn_cpu_parse(text)
			       : bn_cpu_features(),
		.budget_bytes = budget > 0 ? (uint64_t)budget : 0,
		.rows = bounded(bn_client_get_int(bn_client_get(status, "step.rows"), 0), 65536,
				BN_ADVICE_BATCH + BN_ADVICE_CHUNK),
		.lanes =
			bounded(bn_client_get_int(bn_client_get(status, "lanes"), 0), LANES_MAX, 1),
	};
	s->machine.outputs = bounded(bn_client_get_int(bn_client_get(status, "step.outputs"), 0),
				     s->machine.rows, BN_ADVICE_BATCH);
	snprintf(s->budget, sizeof(s->budget), "the daemon's budget of %s",
		 bn_term_bytes(bytes, sizeof(bytes), budget));
	s->from_daemon = true;
}

static const struct bn_guide_model *by_text(struct bn_client_value v)
{
	struct bn_client_text t = bn_client_text(v);
	char word[BN_SURVEY_NAME_BYTES];
	const struct bn_guide_model *found = NULL;

	if (t.n < sizeof(word)) {
		snprintf(word, sizeof(word), "%.*s", (int)t.n, t.at);
		found = bn_guide_find(word);
	}
	return found != NULL ? found : bn_guide_named((struct bn_str){ t.at, t.n });
}

/* What it is, if it is known yet; what it is called, otherwise. */
static const struct bn_guide_model *by_entry(struct bn_client_value entry)
{
	const struct bn_guide_model *found = by_text(bn_client_get(entry, "known"));
	struct bn_client_iter it = bn_client_iterate(bn_client_get(entry, "aliases"));
	struct bn_client_value alias;

	if (found == NULL) {
		found = by_text(bn_client_get(entry, "model"));
	}
	while (found == NULL && bn_client_next(&it, NULL, &alias)) {
		found = by_text(alias);
	}
	return found;
}

static const struct bn_guide_model *by_path(struct bn_ctl *ctl, const char *name)
{
	struct bn_client_params *p = bn_client_params_new();
	const struct bn_guide_model *found = NULL;
	struct bn_client_reply reply;

	bn_client_str(p, "model", name);
	if (call(ctl, "models.show", p, &reply)) {
		found = by_text(bn_client_get(reply.result, "path"));
	}
	bn_client_params_free(p);
	return found;
}

static void take_models(struct bn_ctl *ctl, struct bn_survey *s)
{
	struct bn_client_reply reply;
	struct bn_client_value entry;
	struct bn_client_iter it;
	size_t kept = 0;

	if (!call(ctl, "models.list", NULL, &reply)) {
		return;
	}
	it = bn_client_iterate(bn_client_get(reply.result, "models"));
	while (s->n_models < BN_SURVEY_MODELS && bn_client_next(&it, NULL, &entry)) {
		struct bn_survey_model *m = &s->models[s->n_models++];
		struct bn_client_text name = bn_client_text(bn_client_get(entry, "model"));

		snprintf(m->name, sizeof(m->name), "%.*s",
			 (int)(name.n < sizeof(m->name) ? name.n : sizeof(m->name) - 1), name.at);
		m->model = by_entry(entry);
	}
	/* The reply is gone once the daemon is asked again. */
	for (size_t i = 0; i < s->n_models; i++) {
		struct bn_survey_model m = s->models[i];

		m.model = m.model != NULL ? m.model : by_path(ctl, m.name);
		if (m.model != NULL) {
			s->models[kept++] = m;
		}
	}
	s->n_models = kept;
}

int bn_survey(struct bn_ctl *ctl, struct bn_survey *out)
{
	struct bn_client_reply reply;
	bool answers;

	memset(out, 0, sizeof(*out));
	if (ctl->socket != NULL) {
		int code = bn_ctl_connect(ctl);

		if (code != BN_EXIT_OK) {
			return code;
		}
		answers = true;
	} else {
		answers = bn_client_open(&ctl->client, NULL) == BN_CLIENT_OK;
	}
	if (!answers || !call(ctl, "server.status", NULL, &reply)) {
		return look_here(ctl, out);
	}
	take_machine(out, reply.result);
	take_models(ctl, out);
	return BN_EXIT_OK;
}

const char *bn_survey_name(const struct bn_survey *s, const struct bn_guide_model *model, size_t i)
{
	for (size_t k = 0; k < s->n_models; k++) {
		if (s->models[k].model == model && i-- == 0) {
			return s->models[k].name;
		}
	}
	return NULL;
}
