/*
 * A reload takes entries out of the list one by one, in the order of the new file; what is left
 * over is what the file no longer has.
 */
#include "daemon/catalog.h"

#include "proto/suggest.h"

#include <string.h>

static bool has_name(const struct bn_entry *e, struct bn_text name)
{
	bool found = bn_text_is(name, e->config.name);

	for (uint32_t i = 0; i < e->config.aliases.n && !found; i++) {
		found = bn_text_is(name, e->config.aliases.at[i]);
	}
	return found;
}

enum bn_status bn_catalog_find(const struct bn_catalog *r, struct bn_text name,
			       struct bn_entry **out, struct bn_error *err)
{
	struct bn_suggest suggest;
	const char *best;
	int shown = name.n > 64 ? 64 : (int)name.n;
	uint32_t n = 0;

	bn_suggest_init(&suggest, name);
	for (struct bn_entry *e = r->first; e != NULL; e = e->next) {
		if (e->removed) {
			continue;
		}
		if (has_name(e, name)) {
			*out = e;
			return BN_OK;
		}
		n++;
		bn_suggest_offer(&suggest, e->config.name);
		for (uint32_t i = 0; i < e->config.aliases.n; i++) {
			bn_suggest_offer(&suggest, e->config.aliases.at[i]);
		}
	}
	best = bn_suggest_best(&suggest);
	if (n == 0) {
		return bn_fail(err, BN_E_NOT_FOUND,
			       "no model '%.*s': the configuration has no models", shown, name.at);
	}
	if (best == NULL) {
		return bn_fail(err, BN_E_NOT_FOUND,
			       "no model '%.*s'; models.list tells which there are", shown,
			       name.at);
	}
	bn_fail(err, BN_E_NOT_FOUND, "no model '%.*s'; did you mean '%s'?", shown, name.at, best);
	bn_error_string(err, "suggestions", best);
	return BN_E_NOT_FOUND;
}

/* --- a new configuration -------------------------------------------------------------------- */

/* The configured entry of that name, off the list; NULL when there is none. */
static struct bn_entry *take_named(struct bn_catalog *r, const char *name) BN_ON_LOOP
{
	for (struct bn_entry **at = &r->first; *at != NULL; at = &(*at)->next) {
		struct bn_entry *e = *at;

		if (!e->removed && strcmp(e->config.name, name) == 0) {
			*at = e->next;
			e->next = NULL;
			return e;
		}
	}
	return NULL;
}

static void remove_entry(struct bn_entry *e)
{
	e->removed = true;
	e->wanted = false;
	e->pinned = false;
}

/* The entry of `m`, kept or new, off the list; one that is loaded differently goes back to it. */
static enum bn_status entry_for(struct bn_catalog *r, const struct bn_entry_context *context,
				const struct bn_config_model *m, struct bn_entry **out,
				struct bn_error *err) BN_ON_LOOP
{
	struct bn_entry *e = take_named(r, m->name);

	if (e != NULL && bn_entry_is_same(e, m)) {
		*out = e;
		return bn_entry_adjust(e, m, err);
	}
	if (e != NULL) {
		remove_entry(e);
		e->next = r->first;
		r->first = e;
	}
	return bn_entry_new(out, context, m, err);
}

enum bn_status bn_catalog_apply(struct bn_catalog *r, const struct bn_entry_context *context,
				const struct bn_config *config, struct bn_error *err)
{
	struct bn_entry *kept = NULL;
	struct bn_entry **last = &kept;
	enum bn_status status = BN_OK;

	for (uint32_t i = 0; i < config->n_models && status == BN_OK; i++) {
		struct bn_entry *e = NULL;

		status = entry_for(r, context, &config->models[i], &e, err);
		if (e != NULL) {
			*last = e;
			last = &e->next;
		}
	}
	for (struct bn_entry *e = r->first; e != NULL && status == BN_OK; e = e->next) {
		remove_entry(e);
	}
	*last = r->first;
	r->first = kept;
	return status;
}

void bn_catalog_drop(struct bn_catalog *r, struct bn_entry *e)
{
	struct bn_entry **at = &r->first;

	while (*at != e) {
		at = &(*at)->next;
	}
	*at = e->next;
	bn_entry_free(e);
}
