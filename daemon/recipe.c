/*
 * The built-in sampling defaults are those of llama-server, so that a user who comes from there
 * sees what he is used to. A prompt's text never becomes a control token, neither here (plain
 * completions encode with control tokens disabled; who wants them sends token ids) nor in a chat
 * (engine/chat.h).
 */
#include "daemon/recipe.h"

#include "proto/assert.h"
#include "proto/decode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* An own copy of bytes that came with a message. */
struct text {
	char *at;
	size_t n;
};

struct turn {
	enum bn_chat_role role;
	struct text content;
};

struct bn_recipe {
	enum bn_method method;
	struct bn_params_generation given; /* its texts and lists are not to be used */
	bool echo;
	bool may_cut, was_cut;
	bool prompt_is_ids;
	struct text prompt;
	struct turn *turns; /* [n_turns] */
	uint32_t n_turns;
	struct text stops[BN_LIMIT_STOPS];
	uint32_t n_stops;
	bn_token *stop_tokens; /* [n_stop_tokens] */
	uint32_t n_stop_tokens;
	struct bn_logit_bias *biases; /* [n_biases] */
	uint32_t n_biases;
	int64_t seed;
	size_t text_bytes;
	/* What preparing made. */
	struct bn_tokens ids; /* of a prompt given as ids: from the start */
	struct bn_str stop_texts[BN_SEQUENCE_STOPS_MAX];
	struct bn_sequence_config config;
	uint64_t need;
};

static const char *const role_words[] = {
#define ROLE_WORD(set, SYMBOL, word) [BN_##SYMBOL] = word,
	BN_WORDS_role(ROLE_WORD)
#undef ROLE_WORD
};

/* --- copying -------------------------------------------------------------------------------- */

static enum bn_status no_memory(struct bn_error *err)
{
	return bn_fail(err, BN_E_MEMORY, "no memory for the request");
}

static bool copy_text(struct text *to, struct bn_text from)
{
	to->at = malloc(from.n + 1);
	if (to->at == NULL) {
		return false;
	}
	memcpy(to->at, from.at, from.n);
	to->at[from.n] = '\0';
	to->n = from.n;
	return true;
}

static enum bn_status copy_prompt(struct bn_recipe *r, const struct bn_params_completions *p,
				  struct bn_error *err)
{
	r->echo = p->has_echo && p->echo;
	r->prompt_is_ids = p->prompt.is_ids;
	if (r->prompt_is_ids) {
		r->ids.ids = calloc((size_t)p->prompt.ids.n + 1, sizeof(bn_token));
		if (r->ids.ids == NULL) {
			return no_memory(err);
		}
		bn_ids_copy(&p->prompt.ids, r->ids.ids);
		r->ids.n = p->prompt.ids.n;
		r->ids.capacity = r->ids.n + 1;
		r->text_bytes = r->ids.n * sizeof(bn_token);
		return BN_OK;
	}
	r->text_bytes = p->prompt.text.n;
	return copy_text(&r->prompt, p->prompt.text) ? BN_OK : no_memory(err);
}

static enum bn_status copy_turns(struct bn_recipe *r, const struct bn_params_chat_completions *p,
				 struct bn_error *err)
{
	struct bn_params_turn *turns = calloc((size_t)p->messages.n + 1, sizeof(*turns));
	enum bn_status status = BN_OK;

	r->turns = calloc((size_t)p->messages.n + 1, sizeof(*r->turns));
	if (turns == NULL || r->turns == NULL) {
		free(turns);
		return no_memory(err);
	}
	bn_chat_copy(&p->messages, turns);
	for (uint32_t i = 0; i < p->messages.n && status == BN_OK; i++) {
		struct turn *t = &r->turns[r->n_turns++];

		t->role = (enum bn_chat_role)turns[i].role;
		r->text_bytes += turns[i].content.n;
		status = copy_text(&t->content, turns[i].content) ? BN_OK : no_memory(err);
	}
	free(turns);
	return status;
}

static enum bn_status copy_lists(struct bn_recipe *r, const struct bn_params_generation *p,
				 struct bn_error *err)
{
	for (uint32_t i = 0; p->has_stop && i < p->stop.n; i++) {
		if (!copy_text(&r->stops[r->n_stops++], p->stop.at[i])) {
			return no_memory(err);
		}
	}
	if (p->has_stop_token_ids && p->stop_token_ids.n > 0) {
		r->stop_tokens = calloc(p->stop_token_ids.n, sizeof(bn_token));
		if (r->stop_tokens == NULL) {
			return no_memory(err);
		}
		bn_ids_copy(&p->stop_token_ids, r->stop_tokens);
		r->n_stop_tokens = p->stop_token_ids.n;
	}
	if (p->has_logit_bias && p->logit_bias.n > 0) {
		struct bn_bias *biases = calloc(p->logit_bias.n, sizeof(*biases));

		r->biases = calloc(p->logit_bias.n, sizeof(*r->biases));
		if (biases == NULL || r->biases == NULL) {
			free(biases);
			return no_memory(err);
		}
		bn_biases_copy(&p->logit_bias, biases);
		for (uint32_t i = 0; i < p->logit_bias.n; i++) {
			r->biases[i].token = biases[i].token;
			r->biases[i].bias = biases[i].bias;
		}
		r->n_biases = p->logit_bias.n;
		free(biases);
	}
	return BN_OK;
}

static int64_t random_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
		struct timespec t; /* before the pool is filled, early in boot */

		clock_gettime(CLOCK_MONOTONIC, &t);
		seed = (uint64_t)t.tv_nsec * UINT64_C(0x9e3779b97f4a7c15);
	}
	return (int64_t)(seed >> 1);
}

enum bn_status bn_recipe_new(struct bn_recipe **out, enum bn_method method,
			     const union bn_params *params, struct bn_error *err)
{
	struct bn_recipe *r = calloc(1, sizeof(*r));
	const struct bn_params_generation *given;
	enum bn_status status;

	bn_assert(method == BN_METHOD_COMPLETIONS || method == BN_METHOD_CHAT_COMPLETIONS ||
		  method == BN_METHOD_EMBEDDINGS);
	if (r == NULL) {
		return no_memory(err);
	}
	r->method = method;
	if (method != BN_METHOD_CHAT_COMPLETIONS) {
		given = &params->completions.group;
		status = copy_prompt(r, &params->completions, err);
	} else {
		given = &params->chat_completions.group;
		status = copy_turns(r, &params->chat_completions, err);
	}
	r->given = *given;
	if (status == BN_OK && r->echo && given->has_logprobs) {
		status = bn_fail(err, BN_E_NOT_SUPPORTED,
				 "echo cannot be combined with logprobs: log-probabilities of "
				 "prompt tokens are not computed");
		bn_error_string(err, "param", "echo");
	}
	if (status == BN_OK) {
		status = copy_lists(r, given, err);
	}
	if (status != BN_OK) {
		bn_recipe_free(r);
		return status;
	}
	r->seed = given->has_seed && given->seed >= 0 ? given->seed : random_seed();
	*out = r;
	return BN_OK;
}

void bn_recipe_allow_cut(struct bn_recipe *r)
{
	bn_assert(r->method == BN_METHOD_EMBEDDINGS);
	r->may_cut = true;
}

bool bn_recipe_was_cut(const struct bn_recipe *r)
{
	return r->was_cut;
}

void bn_recipe_settle(struct bn_recipe *r)
{
	free(r->prompt.at);
	r->prompt = (struct text){ 0 };
	for (uint32_t i = 0; i < r->n_turns; i++) {
		free(r->turns[i].content.at);
	}
	free(r->turns);
	r->turns = NULL;
	r->n_turns = 0;
	bn_tokens_finish(&r->ids);
	r->config.prompt = NULL;
	r->config.n_prompt = 0;
	r->text_bytes = 0;
}

void bn_recipe_free(struct bn_recipe *r)
{
	if (r == NULL) {
		return;
	}
	free(r->prompt.at);
	for (uint32_t i = 0; i < r->n_turns; i++) {
		free(r->turns[i].content.at);
	}
	free(r->turns);
	for (uint32_t i = 0; i < r->n_stops; i++) {
		free(r->stops[i].at);
	}
	free(r->stop_tokens);
	free(r->biases);
	bn_tokens_finish(&r->ids);
	free(r);
}

size_t bn_recipe_bytes(const struct bn_recipe *r)
{
	return r->text_bytes;
}

/* --- preparing ------------------------------------------------------------------------------ */

/* The longest context this request may have. */
static uint32_t context_of(const struct bn_recipe *r, const struct bn_model *model)
{
	if (r->given.has_num_ctx && r->given.num_ctx < (int64_t)model->context) {
		return (uint32_t)r->given.num_ctx;
	}
	return model->context;
}

static size_t most_bytes(uint32_t context)
{
	size_t most = (size_t)context * BN_RECIPE_BYTES_PER_TOKEN;

	return most > BN_RECIPE_BYTES_LEAST ? most : BN_RECIPE_BYTES_LEAST;
}

static enum bn_status tokenise(struct bn_recipe *r, const struct bn_model *model, uint32_t context,
			       const atomic_bool *cancel, struct bn_error *err)
{
	struct bn_encode_options encode = { .add_special = true,
					    .max_bytes = most_bytes(context),
					    .cancel = cancel };
	struct bn_chat_options chat = { .max_bytes = most_bytes(context), .cancel = cancel };
	struct bn_chat_message *messages;
	enum bn_status status;

	if (r->prompt_is_ids) {
		return BN_OK;
	}
	bn_tokens_finish(&r->ids);
	if (r->method == BN_METHOD_COMPLETIONS) {
		return bn_tokenizer_encode(model->tok, r->prompt.at, r->prompt.n, &encode, &r->ids,
					   err);
	}
	messages = calloc((size_t)r->n_turns + 1, sizeof(*messages));
	if (messages == NULL) {
		return no_memory(err);
	}
	for (uint32_t i = 0; i < r->n_turns; i++) {
		const char *role = role_words[r->turns[i].role];

		messages[i].role = (struct bn_str){ role, strlen(role) };
		messages[i].content =
			(struct bn_str){ r->turns[i].content.at, r->turns[i].content.n };
	}
	status = bn_chat_encode(model->chat, model->tok, messages, r->n_turns, &chat, &r->ids, err);
	free(messages);
	return status;
}

static enum bn_status too_long(const struct bn_recipe *r, uint32_t context, uint64_t max_tokens,
			       struct bn_error *err)
{
	uint64_t prompt = r->ids.n;
	const char *whose = r->given.has_num_ctx && context == (uint64_t)r->given.num_ctx
				    ? "num_ctx of the request"
				    : "context of the model";

	if (prompt >= context) {
		bn_fail(err, BN_E_CONTEXT,
			"the prompt has %" PRIu64 " tokens, the %s is %" PRIu32
			": shorten the prompt to %" PRIu32 " tokens or fewer",
			prompt, whose, context, context - 1);
		max_tokens = r->given.has_max_tokens ? (uint64_t)r->given.max_tokens : 1;
	} else {
		bn_fail(err, BN_E_CONTEXT,
			"the prompt has %" PRIu64 " tokens and max_tokens is %" PRIu64
			", the %s is %" PRIu32 ": ask for at most %" PRIu64 " tokens",
			prompt, max_tokens, whose, context, context - prompt);
	}
	bn_error_number(err, "limit", context);
	bn_error_number(err, "actual", (int64_t)(prompt + max_tokens));
	bn_error_number(err, "prompt_tokens", (int64_t)prompt);
	bn_error_number(err, "max_tokens", (int64_t)max_tokens);
	return BN_E_CONTEXT;
}

static enum bn_status set_limits(struct bn_recipe *r, const struct bn_model *model,
				 uint32_t context, uint64_t usual_tokens, struct bn_error *err)
{
	struct bn_sequence_config *c = &r->config;
	uint64_t left, max_tokens;

	if (r->ids.n == 0) {
		bn_fail(err, BN_E_INVALID, "the prompt has no tokens");
		bn_error_string(err, "param", "prompt");
		return BN_E_INVALID;
	}
	for (size_t i = 0; r->prompt_is_ids && i < r->ids.n; i++) {
		if (r->ids.ids[i] >= model->vocab) {
			bn_fail(err, BN_E_INVALID,
				"prompt[%zu] is token %" PRIu32
				", the model has tokens 0..%" PRIu32,
				i, r->ids.ids[i], model->vocab - 1);
			bn_error_string(err, "param", "prompt");
			return BN_E_INVALID;
		}
	}
	if (r->ids.n >= context) {
		return too_long(r, context, 0, err);
	}
	left = context - r->ids.n;
	max_tokens = usual_tokens < left ? usual_tokens : left;
	if (r->given.has_max_tokens) {
		max_tokens = (uint64_t)r->given.max_tokens;
		if (max_tokens > left) {
			return too_long(r, context, max_tokens, err);
		}
	}
	c->prompt = r->ids.ids;
	c->n_prompt = (uint32_t)r->ids.n;
	c->max_tokens = (uint32_t)max_tokens;
	return BN_OK;
}

/* What the request says, else the configuration, else the word here. */
#define CHOOSE(type, field, builtin) \
	((type)(g->has_##field ? g->field : d->has_##field ? d->field : (builtin)))

static void set_sampler(struct bn_recipe *r, const struct bn_config_sampling *d)
{
	const struct bn_params_generation *g = &r->given;
	struct bn_sampler_params *s = &r->config.sampler;

	bn_sampler_defaults(s);
	s->temperature = CHOOSE(float, temperature, 0.8);
	s->top_k = CHOOSE(uint32_t, top_k, 40);
	s->top_p = CHOOSE(float, top_p, 0.95);
	s->min_p = CHOOSE(float, min_p, 0.05);
	s->typical_p = CHOOSE(float, typical_p, 1.0);
	s->repeat_penalty = CHOOSE(float, repeat_penalty, 1.0);
	s->repeat_last_n = CHOOSE(int32_t, repeat_last_n, 64);
	s->presence_penalty = CHOOSE(float, presence_penalty, 0.0);
	s->frequency_penalty = CHOOSE(float, frequency_penalty, 0.0);
	s->seed = (uint64_t)r->seed;
	s->bias = r->biases;
	s->n_bias = r->n_biases;
	s->logprobs = g->has_logprobs;
	s->n_top = g->has_logprobs ? (uint32_t)g->logprobs : 0;
}
#undef CHOOSE

/* The request's, then those a template needs where its tags are plain text. */
static enum bn_status set_stops(struct bn_recipe *r, const struct bn_model *model,
				struct bn_error *err)
{
	struct bn_sequence_config *c = &r->config;
	const char *text = NULL;

	c->n_stops = 0;
	for (uint32_t i = 0; i < r->n_stops; i++) {
		r->stop_texts[c->n_stops++] = (struct bn_str){ r->stops[i].at, r->stops[i].n };
	}
	for (size_t i = 0; r->method == BN_METHOD_CHAT_COMPLETIONS; i++) {
		text = bn_chat_stop_text(model->chat, model->tok, i);
		if (text == NULL) {
			break;
		}
		if (c->n_stops == BN_SEQUENCE_STOPS_MAX) {
			bn_fail(err, BN_E_INVALID,
				"stop: this model's chat template needs stop texts of its own, "
				"give at most %zu",
				BN_SEQUENCE_STOPS_MAX - i - 1);
			bn_error_string(err, "param", "stop");
			return BN_E_INVALID;
		}
		r->stop_texts[c->n_stops++] = (struct bn_str){ text, strlen(text) };
	}
	c->stops = r->stop_texts;
	c->stop_tokens = r->stop_tokens;
	c->n_stop_tokens = r->n_stop_tokens;
	c->ignore_eos = r->given.has_ignore_eos && r->given.ignore_eos;
	c->echo = r->echo;
	return BN_OK;
}

/* --- embeddings ----------------------------------------------------------------------------- */

/* The text as far as it may be tokenized, between characters. */
static size_t cut_text(struct bn_recipe *r, size_t most)
{
	size_t n = r->prompt.n;

	if (!r->may_cut || n <= most) {
		return n;
	}
	n = most;
	while (n > 0 && ((unsigned char)r->prompt.at[n] & 0xC0) == 0x80) {
		n--;
	}
	r->was_cut = true;
	return n;
}

/* At most `context` tokens, of which the last stays what is put behind every text. */
static enum bn_status cut_tokens(struct bn_recipe *r, const struct bn_model *model,
				 struct bn_error *err)
{
	const bool ends = bn_tokenizer_adds_eos(model->tok);

	if (r->ids.n <= model->context) {
		return BN_OK;
	}
	if (!r->may_cut) {
		bn_fail(err, BN_E_CONTEXT,
			"the text has %zu tokens, the context of the model is %" PRIu32
			": shorten it, or say truncate: true",
			r->ids.n, model->context);
		bn_error_number(err, "limit", model->context);
		bn_error_number(err, "actual", (int64_t)r->ids.n);
		bn_error_string(err, "param", "input");
		return BN_E_CONTEXT;
	}
	r->ids.n = model->context;
	if (ends) {
		r->ids.ids[r->ids.n - 1] = bn_tokenizer_eos(model->tok);
	}
	r->was_cut = true;
	return BN_OK;
}

static enum bn_status prepare_embedding(struct bn_recipe *r, const struct bn_model *model,
					const atomic_bool *cancel, struct bn_error *err)
{
	const size_t most = most_bytes(model->context);
	const struct bn_encode_options encode = { .add_special = true,
						  .max_bytes = most,
						  .cancel = cancel };
	enum bn_status status;

	r->was_cut = false;
	bn_tokens_finish(&r->ids);
	status = bn_tokenizer_encode(model->tok, r->prompt.at, cut_text(r, most), &encode, &r->ids,
				     err);
	if (status == BN_OK && r->ids.n == 0) {
		bn_fail(err, BN_E_INVALID, "the text has no tokens");
		bn_error_string(err, "param", "input");
		return BN_E_INVALID;
	}
	if (status == BN_OK) {
		status = cut_tokens(r, model, err);
	}
	if (status != BN_OK) {
		return status;
	}
	r->config = (struct bn_sequence_config){
		.prompt = r->ids.ids,
		.n_prompt = (uint32_t)r->ids.n,
		.embed = true,
	};
	r->need = bn_sequence_bytes(model, &r->config);
	return BN_OK;
}

/* --- both ----------------------------------------------------------------------------------- */

static enum bn_status check_kind(const struct bn_recipe *r, const struct bn_model *model,
				 struct bn_error *err)
{
	const bool embeds = model->pooling != BN_POOL_NONE;

	if (embeds == (r->method == BN_METHOD_EMBEDDINGS)) {
		return BN_OK;
	}
	return bn_fail(
		err, BN_E_NOT_SUPPORTED, "%s",
		embeds ? "the model makes embeddings and generates no text: use embeddings "
			 "(bnctl embed), or name another model"
		       : "the model generates text and makes no embeddings: use completions "
			 "(bnctl run) or chat.completions (bnctl chat), or name another model");
}

enum bn_status bn_recipe_prepare(struct bn_recipe *r, const struct bn_model *model,
				 const struct bn_recipe_defaults *defaults,
				 const atomic_bool *cancel, struct bn_error *err)
{
	uint32_t context = context_of(r, model);
	enum bn_status status = check_kind(r, model, err);

	if (status == BN_OK && r->method == BN_METHOD_EMBEDDINGS) {
		return prepare_embedding(r, model, cancel, err);
	}
	if (status == BN_OK) {
		status = tokenise(r, model, context, cancel, err);
	}
	if (status == BN_OK) {
		status = set_limits(r, model, context, defaults->max_tokens, err);
	}
	if (status == BN_OK) {
		status = set_stops(r, model, err);
	}
	if (status != BN_OK) {
		return status;
	}
	set_sampler(r, &defaults->sampling);
	r->need = bn_sequence_bytes(model, &r->config);
	if (r->need == UINT64_MAX) {
		return bn_fail(err, BN_E_TOO_LARGE, "the request's memory overflows");
	}
	return BN_OK;
}

const struct bn_sequence_config *bn_recipe_config(const struct bn_recipe *r)
{
	return &r->config;
}

uint64_t bn_recipe_need(const struct bn_recipe *r)
{
	return r->need;
}

int64_t bn_recipe_seed(const struct bn_recipe *r)
{
	return r->seed;
}
