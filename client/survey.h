/*
 * Where models would run: the daemon if one answers, with its budget, processor, steps and
 * configured models; else this machine as a daemon would take it.
 *
 * It decides nothing about models (engine/advice.h) and prints nothing but complaints.
 */
#ifndef BN_CLIENT_SURVEY_H
#define BN_CLIENT_SURVEY_H

#include "client/bnctl.h"
#include "engine/advice.h"

#include <stdbool.h>
#include <stddef.h>

enum { BN_SURVEY_NAME_BYTES = 136, BN_SURVEY_MODELS = 256 };

/* A configured model that is one of the guide's. */
struct bn_survey_model {
	char name[BN_SURVEY_NAME_BYTES]; /* in bnd.yaml */
	const struct bn_guide_model *model;
};

struct bn_survey {
	struct bn_advice_machine machine;
	bool from_daemon;
	char budget[96]; /* "the daemon's budget of 6.0 GiB", for a sentence */
	size_t n_models;
	struct bn_survey_model models[BN_SURVEY_MODELS];
};

/* Fills *out. A daemon that does not answer is an error only where --socket names it. Returns an
 * exit code, after a complaint. */
int bn_survey(struct bn_ctl *ctl, struct bn_survey *out);

/* The i-th name under which a model of the guide is configured, NULL past the last. */
const char *bn_survey_name(const struct bn_survey *s, const struct bn_guide_model *model, size_t i);

#endif
