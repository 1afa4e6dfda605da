/*
 * What one generation is to be: the parameters of a call, copied out of its message, and what
 * they become for a model: prompt tokens, limits, a sampler, stops, and the bytes it will need.
 *
 * It does not wait, count or talk: daemon/request.h does. Defaults are resolved here and nowhere
 * else: what the request says, else what the configuration says for the model, else what is
 * written in recipe.c.
 */
#ifndef BN_DAEMON_RECIPE_H
#define BN_DAEMON_RECIPE_H

#include "daemon/config.h"
#include "engine/model.h"
#include "engine/sequence.h"
#include "proto/error.h"
#include "proto/params.h"
#include "proto/role.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opaque; the loop's, but while it is being prepared the helper's. */
struct bn_recipe;

/* What the configuration says for a model; a copy that needs nothing to stay alive. */
struct bn_recipe_defaults {
	struct bn_config_sampling sampling;
	uint64_t max_tokens;
};

/*
 * Copies everything from the parameters of BN_METHOD_COMPLETIONS or BN_METHOD_CHAT_COMPLETIONS, or
 * for BN_METHOD_EMBEDDINGS one text from params->completions.prompt (a call of many texts is many
 * recipes), and draws a seed where none is given. BN_E_INVALID for what the schema cannot say, with
 * fact "param"; BN_E_NOT_SUPPORTED; BN_E_MEMORY. Undo with bn_recipe_free.
 */
BN_MUST_USE enum bn_status bn_recipe_new(struct bn_recipe **out, enum bn_method method,
					 const union bn_params *params,
					 struct bn_error *err) BN_ON_LOOP;

/* NULL is fine. */
void bn_recipe_free(struct bn_recipe *r) BN_ON_ANY;

/* Bytes of prompt that are held until it ends: what a queue of them is measured by. */
size_t bn_recipe_bytes(const struct bn_recipe *r) BN_ON_ANY;

/* Of an embedding: a text longer than the context is cut at its end instead of refused. To be said
 * before preparing. */
void bn_recipe_allow_cut(struct bn_recipe *r) BN_ON_LOOP;

/* After preparing: whether that happened. */
bool bn_recipe_was_cut(const struct bn_recipe *r) BN_ON_ANY;

/* How often the texts may be as long, in bytes, as the context is in tokens, before anything is
 * tokenised. */
enum { BN_RECIPE_BYTES_PER_TOKEN = 32, BN_RECIPE_BYTES_LEAST = 65536 };

/*
 * Makes the prompt's tokens for `model` and settles limits and sampler; may be called again for
 * another model. Polls `cancel`. Afterwards bn_recipe_config() and bn_recipe_need() hold.
 *
 *   BN_E_NOT_SUPPORTED  text is wanted of a model that makes vectors, or the other way round
 *   BN_E_CONTEXT    prompt and answer do not fit: facts prompt_tokens, max_tokens, limit, actual
 *   BN_E_TOO_LARGE  more text than any prompt of that context could be
 *   BN_E_INVALID    a token out of range, an empty prompt: fact "param"
 *   and those of bn_chat_encode and bn_tokenizer_encode
 */
BN_MUST_USE enum bn_status bn_recipe_prepare(struct bn_recipe *r, const struct bn_model *model,
					     const struct bn_recipe_defaults *defaults,
					     const atomic_bool *cancel,
					     struct bn_error *err) BN_ON_HELPER;

/* What bn_sequence_new wants; points into the recipe. `id` is the caller's to set. */
const struct bn_sequence_config *bn_recipe_config(const struct bn_recipe *r) BN_ON_ANY;

/* bn_sequence_bytes of it: what to reserve. */
uint64_t bn_recipe_need(const struct bn_recipe *r) BN_ON_ANY;

/* The seed in use, 0..INT64_MAX. */
int64_t bn_recipe_seed(const struct bn_recipe *r) BN_ON_ANY;

/* Gives back what only preparing needs: the texts. It cannot be prepared again then. */
void bn_recipe_settle(struct bn_recipe *r) BN_ON_LOOP;

#endif
