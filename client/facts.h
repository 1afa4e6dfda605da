/*
 * What bnctl says of a model of the guide: words for tables, and the JSON of `--json`.
 *
 * It computes nothing (engine/advice.h) and asks nobody (client/survey.h).
 */
#ifndef BN_CLIENT_FACTS_H
#define BN_CLIENT_FACTS_H

#include "client/bnctl.h"
#include "client/survey.h"
#include "engine/advice.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { BN_FACTS_COUNT_BYTES = 32, BN_FACTS_NAME_BYTES = 96, BN_FACTS_LIST_BYTES = 160 };

/* "2.4 B", "729 M". Returns text, as the two below do. */
char *bn_facts_count(char text[BN_FACTS_COUNT_BYTES], uint64_t n);

/* "i2s.vnni, tl2": the kernel `auto` takes, then the other families that would do; or "needs
 * tl2". */
char *bn_facts_kernels(char text[BN_FACTS_LIST_BYTES], const struct bn_advice *a,
		       enum bn_guide_processor processor);

/* As `bnctl pull` names it in bnd.yaml: the repository's name in lower case. */
char *bn_facts_config_name(char text[BN_FACTS_NAME_BYTES], const struct bn_guide_model *m);

/* What it is for: "chat", "text" (a base model), "embedding". Static. */
const char *bn_facts_kind(const struct bn_guide_model *m);

/* The verb of bnctl that uses it: "chat", "run", "embed". Static. */
const char *bn_facts_verb(const struct bn_guide_model *m);

/* Or "see its card". */
const char *bn_facts_licence(const struct bn_guide_model *m);

/* With all of its context. */
bool bn_facts_fits(const struct bn_advice *a);

/* One model; where it was measured. New references. Keys are only ever added. */
json_t *bn_facts_model(const struct bn_advice *a, const struct bn_survey *s);
json_t *bn_facts_survey(const struct bn_survey *s);

/* Prints and frees. Returns an exit code. */
int bn_facts_print(struct bn_ctl *ctl, json_t *value);

#endif
