/*
 * What tests of the engine need around a model: load a file, a team, a workspace and a batch in one
 * call, and run sequences to their end with any chunk of the prompt.
 *
 * It does not schedule fairly or account for memory. Failures end the test at once.
 */
#ifndef BN_TESTS_ENGINE_RIG_H
#define BN_TESTS_ENGINE_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/batch.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "engine/sequence.h"
#include "engine/team.h"
#include "tests/tiny.h"

enum { RIG_ROWS = 512 };

struct rig {
	struct bn_model *model;
	struct bn_team *team;
	struct bn_forward *fw;
	struct bn_batch batch;
};

/* A path in the test's own temporary folder, static until the next call; the folder and what is in
 * it is removed by rig_cleanup. */
const char *rig_path(const char *name);
void rig_cleanup(void);

/* Writes a synthetic model there. */
const char *rig_tiny(const struct bn_tiny *tiny);

/* Loads `path` with the features `cpu` and makes everything for `lanes`; RIG_ROWS rows, all of
 * which may have an output. */
void rig_open(struct rig *r, const char *path, uint64_t cpu, uint32_t lanes);
/* The same with these kernels only (NULL-terminated, or NULL: the best). */
void rig_open_with(struct rig *r, const char *path, uint64_t cpu, const char *const *kernels,
		   uint32_t lanes);
void rig_close(struct rig *r);

/* Another team for the same model. */
void rig_lanes(struct rig *r, uint32_t lanes);

/* The defaults of a config: this prompt, temperature 0, no stops. */
struct bn_sequence_config rig_config(const bn_token *prompt, uint32_t n_prompt,
				     uint32_t max_tokens);

/* bn_sequence_new that must succeed. */
struct bn_sequence *rig_sequence(struct rig *r, const struct bn_sequence_config *config);

/* One step over those of seqs [n] that are not finished, at most `chunk` rows of each. */
void rig_step(struct rig *r, struct bn_sequence **seqs, uint32_t n, uint32_t chunk);

/* Steps until all are finished, their text appended to texts[i] [capacity] if texts is not NULL. */
void rig_run(struct rig *r, struct bn_sequence **seqs, uint32_t n, uint32_t chunk, char **texts,
	     size_t capacity);

/* Logits of every token of the prompt, [n_prompt, vocab], for the caller to free. */
float *rig_logits(struct rig *r, const bn_token *prompt, uint32_t n_prompt, uint32_t chunk);

/* Tokens that are no control tokens, from a fixed generator, for prompts. */
void rig_prompt(const struct rig *r, uint64_t seed, bn_token *prompt, uint32_t n);

/* A whole file with a NUL behind it, for the caller to free; NULL when it cannot be opened. */
char *rig_slurp(const char *path, size_t *n);

/* From JSON as our golden files have it, behind the first `"key":` in text: the numbers of an array
 * (returns how many), and a string with its escapes undone. Aborts when there is no such key. */
uint32_t rig_numbers(const char *text, const char *key, double *out, uint32_t most);
void rig_string(const char *text, const char *key, char *out);

#endif
