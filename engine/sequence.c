#include "engine/sequence.h"

#include "engine/stops.h"
#include "engine/utf8.h"
#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* Text that may wait between two steps: one stop string held back, what one token adds, and
	 * what the detokenizer gives up at the end. */
	TEXT_BYTES = BN_SEQUENCE_STOP_BYTES + 2 * BN_DETOK_BYTES,
};

/*
 * text [released, ready) may be taken; [ready, used) is held back, being perhaps the beginning of a
 * stop string. Echoed text is never searched for stops.
 */
struct bn_sequence_own {
	struct bn_sampler *sampler;
	struct bn_detok detok;
	struct bn_stops stops;
	struct bn_str stop[BN_SEQUENCE_STOPS_MAX];
	bn_token stop_token[BN_SEQUENCE_STOP_TOKENS_MAX];
	uint32_t n_stop_tokens;
	bool ignore_eos;
	double *pooled; /* [dim] of an embedding, which has no text and no sampler */
	char *text;     /* [capacity] */
	size_t capacity;
	size_t released;
	size_t ready;
	size_t used;
	char stop_text[]; /* what `stop` points into */
};

const char *bn_finish_word(enum bn_finish finish)
{
	switch (finish) {
	case BN_FINISH_NONE:
		return "";
	case BN_FINISH_STOP:
		return "stop";
	case BN_FINISH_LENGTH:
		return "length";
	case BN_FINISH_VECTOR:
		return "vector";
	case BN_FINISH_CANCELLED:
		return "cancelled";
	case BN_FINISH_ERROR:
		return "error";
	}
	return "";
}

/* ---- making -------------------------------------------------------------------------------- */

static enum bn_status refuse(struct bn_error *err, const char *param)
{
	bn_error_string(err, "param", param);
	return BN_E_INVALID;
}

static enum bn_status check_stops(const struct bn_sequence_config *c, struct bn_error *err)
{
	if (c->n_stops > BN_SEQUENCE_STOPS_MAX) {
		bn_fail(err, BN_E_INVALID, "stop holds %u strings, at most %d are allowed",
			c->n_stops, BN_SEQUENCE_STOPS_MAX);
		return refuse(err, "stop");
	}
	for (uint32_t i = 0; i < c->n_stops; i++) {
		const struct bn_str *s = &c->stops[i];

		if (s->n == 0 || s->n > BN_SEQUENCE_STOP_BYTES || !bn_utf8_valid(s->p, s->n)) {
			bn_fail(err, BN_E_INVALID,
				"stop[%u] has %zu bytes; 1 to %d bytes of UTF-8 are allowed", i,
				s->n, BN_SEQUENCE_STOP_BYTES);
			return refuse(err, "stop");
		}
	}
	if (c->n_stop_tokens > BN_SEQUENCE_STOP_TOKENS_MAX) {
		bn_fail(err, BN_E_INVALID, "%u stop tokens, at most %d are allowed",
			c->n_stop_tokens, BN_SEQUENCE_STOP_TOKENS_MAX);
		return refuse(err, "stop");
	}
	return BN_OK;
}

static enum bn_status check(const struct bn_model *model, const struct bn_sequence_config *c,
			    struct bn_error *err)
{
	const uint64_t need = (uint64_t)c->n_prompt + c->max_tokens;

	if (c->embed != (model->pooling != BN_POOL_NONE)) {
		return bn_fail(err, BN_E_NOT_SUPPORTED, "%s",
			       c->embed ? "the model generates text and makes no embeddings"
					: "the model makes embeddings and generates no text");
	}
	if (c->n_prompt == 0) {
		bn_fail(err, BN_E_INVALID, "the prompt has no tokens");
		return refuse(err, "prompt");
	}
	for (uint32_t i = 0; i < c->n_prompt; i++) {
		if (c->prompt[i] >= model->vocab) {
			bn_fail(err, BN_E_INVALID,
				"prompt[%u] is token %u; the model has %u tokens", i, c->prompt[i],
				model->vocab);
			return refuse(err, "prompt");
		}
	}
	bn_assert(!c->embed || c->max_tokens == 0);
	if (c->max_tokens == 0 && !c->embed) {
		bn_fail(err, BN_E_INVALID, "max_tokens must be at least 1");
		return refuse(err, "max_tokens");
	}
	if (need > model->context && c->embed) {
		bn_fail(err, BN_E_CONTEXT, "the text has %u tokens, the context %u", c->n_prompt,
			model->context);
	} else if (need > model->context) {
		bn_fail(err, BN_E_CONTEXT,
			"%u prompt tokens and max_tokens %u need %llu positions, the context has "
			"%u",
			c->n_prompt, c->max_tokens, (unsigned long long)need, model->context);
	}
	if (need > model->context) {
		bn_error_number(err, "limit", model->context);
		bn_error_number(err, "actual", (int64_t)need);
		return BN_E_CONTEXT;
	}
	return check_stops(c, err);
}

static size_t stop_text_bytes(const struct bn_sequence_config *c)
{
	size_t n = 0;

	for (uint32_t i = 0; i < c->n_stops && i < BN_SEQUENCE_STOPS_MAX; i++) {
		n += c->stops[i].n;
	}
	return n;
}

/* Bytes of the prompt's text; tokens that do not exist have none. */
static size_t echo_bytes(const struct bn_model *model, const struct bn_sequence_config *c)
{
	size_t n = 0;

	for (uint32_t i = 0; c->echo && i < c->n_prompt; i++) {
		n += 3 * bn_tokenizer_piece(model->tok, c->prompt[i]).n;
	}
	return n;
}

uint64_t bn_sequence_bytes(const struct bn_model *model, const struct bn_sequence_config *c)
{
	uint32_t capacity;
	uint64_t kv;

	if (__builtin_add_overflow(c->n_prompt, c->max_tokens, &capacity)) {
		return UINT64_MAX;
	}
	kv = bn_kv_bytes(&model->kv, capacity);
	if (kv > UINT64_MAX / 2) {
		return UINT64_MAX;
	}
	if (c->embed) {
		return kv + sizeof(struct bn_sequence) + sizeof(struct bn_sequence_own) +
		       (uint64_t)capacity * sizeof(bn_token) +
		       model->hyper.dim * (sizeof(double) + sizeof(float));
	}
	return kv + sizeof(struct bn_sequence) + sizeof(struct bn_sequence_own) +
	       stop_text_bytes(c) + echo_bytes(model, c) + TEXT_BYTES +
	       (uint64_t)capacity * sizeof(bn_token) + bn_sampler_bytes(&c->sampler, capacity);
}

static void copy_stops(struct bn_sequence_own *own, const struct bn_sequence_config *c)
{
	char *to = own->stop_text;

	for (uint32_t i = 0; i < c->n_stops; i++) {
		memcpy(to, c->stops[i].p, c->stops[i].n);
		own->stop[i] = (struct bn_str){ to, c->stops[i].n };
		to += c->stops[i].n;
	}
	bn_stops_init(&own->stops, own->stop, c->n_stops);
	own->n_stop_tokens = c->n_stop_tokens;
	if (c->n_stop_tokens > 0) {
		memcpy(own->stop_token, c->stop_tokens, c->n_stop_tokens * sizeof(bn_token));
	}
	own->ignore_eos = c->ignore_eos;
}

/*
 * The prompt's text when it is wanted, which is when the answer's first token is not the first of
 * the text. Without echo the answer still continues the prompt: its first space is a real one.
 */
static void start_text(struct bn_sequence *seq, bool echo)
{
	struct bn_sequence_own *own = seq->own;

	bn_detok_init(&own->detok, seq->model->tok, echo ? 0 : BN_DETOK_CONTINUES);
	for (uint32_t i = 0; echo && i < seq->n_prompt; i++) {
		char piece[BN_DETOK_BYTES];
		const size_t n = bn_detok_push(&own->detok, seq->tokens[i], piece);

		bn_assert(own->used + n <= own->capacity);
		memcpy(own->text + own->used, piece, n);
		own->used += n;
	}
	own->ready = own->used;
}

/* What an embedding has; on failure what was made stays for bn_sequence_free. */
static enum bn_status build_embedding(struct bn_sequence *seq, const struct bn_sequence_config *c,
				      struct bn_error *err)
{
	const uint32_t dim = seq->model->hyper.dim;

	seq->own = calloc(1, sizeof(*seq->own));
	seq->tokens = calloc(seq->capacity, sizeof(bn_token));
	seq->vector = calloc(dim, sizeof(float));
	if (seq->own != NULL) {
		seq->own->pooled = calloc(dim, sizeof(double));
	}
	if (seq->own == NULL || seq->tokens == NULL || seq->vector == NULL ||
	    seq->own->pooled == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for an embedding of %u tokens",
			       seq->capacity);
	}
	memcpy(seq->tokens, c->prompt, c->n_prompt * sizeof(bn_token));
	return bn_kv_init(&seq->kv, &seq->model->kv, seq->capacity, err);
}

/* Everything but the checks; on failure what was made stays for bn_sequence_free. */
static enum bn_status build(struct bn_sequence *seq, const struct bn_sequence_config *c,
			    struct bn_error *err)
{
	const struct bn_model *model = seq->model;
	const size_t stop_bytes = stop_text_bytes(c);
	struct bn_sequence_own *own = calloc(1, sizeof(*own) + stop_bytes);
	enum bn_status status;

	seq->own = own;
	seq->tokens = calloc(seq->capacity, sizeof(bn_token));
	if (own != NULL) {
		own->capacity = echo_bytes(model, c) + TEXT_BYTES;
		own->text = malloc(own->capacity);
	}
	if (own == NULL || seq->tokens == NULL || own->text == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a sequence of %u tokens",
			       seq->capacity);
	}
	status = bn_sampler_new(&own->sampler, &c->sampler, model->vocab, seq->capacity, err);
	if (status == BN_OK) {
		status = bn_kv_init(&seq->kv, &model->kv, seq->capacity, err);
	}
	if (status != BN_OK) {
		return status;
	}
	memcpy(seq->tokens, c->prompt, c->n_prompt * sizeof(bn_token));
	for (uint32_t i = 0; i < c->n_prompt; i++) {
		bn_sampler_note(own->sampler, c->prompt[i]);
	}
	copy_stops(own, c);
	start_text(seq, c->echo);
	return BN_OK;
}

enum bn_status bn_sequence_new(struct bn_sequence **out, const struct bn_model *model,
			       const struct bn_sequence_config *config, struct bn_error *err)
{
	enum bn_status status = check(model, config, err);
	struct bn_sequence *seq;

	if (status != BN_OK) {
		return status;
	}
	seq = calloc(1, sizeof(*seq));
	if (seq == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a sequence");
	}
	seq->id = config->id;
	seq->model = model;
	seq->n_prompt = config->n_prompt;
	seq->n_tokens = config->n_prompt;
	seq->capacity = config->n_prompt + config->max_tokens;
	seq->stop_index = -1;
	status = config->embed ? build_embedding(seq, config, err) : build(seq, config, err);
	if (status != BN_OK) {
		bn_sequence_free(seq);
		return status;
	}
	*out = seq;
	return BN_OK;
}

void bn_sequence_free(struct bn_sequence *seq)
{
	if (seq == NULL) {
		return;
	}
	if (seq->own != NULL) {
		bn_sampler_free(seq->own->sampler);
		free(seq->own->text);
		free(seq->own->pooled);
		free(seq->own);
	}
	bn_kv_finish(&seq->kv);
	free(seq->tokens);
	free(seq->vector);
	free(seq);
}

/* ---- text ---------------------------------------------------------------------------------- */

/* Lets everything up to the first stop string out; a match ends the sequence. */
static void search_stops(struct bn_sequence *seq)
{
	struct bn_sequence_own *own = seq->own;
	size_t safe;
	const int32_t stop =
		bn_stops_scan(&own->stops, own->text + own->ready, own->used - own->ready, &safe);

	own->ready += safe;
	if (stop >= 0) {
		own->used = own->ready;
		seq->stop_index = stop;
		seq->finish = BN_FINISH_STOP;
	}
}

/* The text a token makes certain, or with `flush` the broken rest. */
static void add_text(struct bn_sequence *seq, bn_token token, bool flush)
{
	struct bn_sequence_own *own = seq->own;

	if (own->released > 0) {
		memmove(own->text, own->text + own->released, own->used - own->released);
		own->ready -= own->released;
		own->used -= own->released;
		own->released = 0;
	}
	bn_assert(own->capacity - own->used >= BN_DETOK_BYTES); /* text was taken */
	own->used += flush ? bn_detok_flush(&own->detok, own->text + own->used)
			   : bn_detok_push(&own->detok, token, own->text + own->used);
	search_stops(seq);
}

/* Nothing more comes: what was held back is text after all. */
static void end_text(struct bn_sequence *seq)
{
	if (seq->stop_index < 0 && seq->own->text != NULL) {
		add_text(seq, 0, true);
		seq->own->ready = seq->own->used;
	}
}

size_t bn_sequence_take(struct bn_sequence *seq, char *out, size_t capacity)
{
	struct bn_sequence_own *own = seq->own;
	size_t n = own->ready - own->released;

	bn_assert(capacity >= 4);
	if (n == 0) {
		return 0;
	}
	if (n > capacity) {
		n = capacity;
		/* Back to the beginning of a character. */
		while ((own->text[own->released + n] & 0xc0) == 0x80) {
			n--;
		}
	}
	memcpy(out, own->text + own->released, n);
	own->released += n;
	return n;
}

/* ---- steps --------------------------------------------------------------------------------- */

uint32_t bn_sequence_pending(const struct bn_sequence *seq)
{
	return seq->finish == BN_FINISH_NONE ? seq->n_tokens - seq->n_past : 0;
}

bool bn_sequence_is_prefill(const struct bn_sequence *seq)
{
	return seq->n_past < seq->n_prompt;
}

void bn_sequence_fed(struct bn_sequence *seq, uint32_t rows, uint64_t start_ns, uint64_t end_ns)
{
	uint64_t *spent = bn_sequence_is_prefill(seq) ? &seq->prefill_ns : &seq->decode_ns;

	bn_assert(rows <= seq->n_tokens - seq->n_past);
	if (seq->first_step_ns == 0) {
		seq->first_step_ns = start_ns;
	}
	*spent += end_ns - start_ns;
	seq->n_past += rows;
	seq->has_new = false;
}

static bool is_end(const struct bn_sequence *seq, bn_token token)
{
	const struct bn_sequence_own *own = seq->own;

	for (uint32_t i = 0; i < own->n_stop_tokens; i++) {
		if (own->stop_token[i] == token) {
			return true;
		}
	}
	return !own->ignore_eos && (bn_tokenizer_is_eog(seq->model->tok, token) ||
				    bn_chat_is_stop(seq->model->chat, seq->model->tok, token));
}

void bn_sequence_accept(struct bn_sequence *seq, const float *logits, struct bn_candidate *scratch,
			uint64_t now_ns)
{
	struct bn_sequence_own *own = seq->own;
	enum bn_status status;

	bn_assert(seq->finish == BN_FINISH_NONE && seq->n_past == seq->n_tokens);
	status = bn_sampler_draw(own->sampler, logits, scratch, &seq->last, &seq->error);
	if (status != BN_OK) {
		end_text(seq);
		seq->finish = BN_FINISH_ERROR;
		seq->status = status;
		return;
	}
	seq->tokens[seq->n_tokens++] = seq->last.token;
	seq->n_generated++;
	seq->has_new = true;
	seq->last_token_ns = now_ns;
	if (seq->first_token_ns == 0) {
		seq->first_token_ns = now_ns;
	}
	bn_sampler_note(own->sampler, seq->last.token);
	if (is_end(seq, seq->last.token)) {
		seq->finish = BN_FINISH_STOP;
		end_text(seq);
		return;
	}
	add_text(seq, seq->last.token, false);
	if (seq->finish == BN_FINISH_NONE && seq->n_tokens == seq->capacity) {
		/* The end may complete a stop string (of what broken bytes became): that is a
		 * stop then. */
		end_text(seq);
		if (seq->finish == BN_FINISH_NONE) {
			seq->finish = BN_FINISH_LENGTH;
		}
	}
}

void bn_sequence_pool(struct bn_sequence *seq, const float *state)
{
	bn_assert(seq->finish == BN_FINISH_NONE && seq->vector != NULL);
	bn_pooling_add(seq->own->pooled, state, seq->model->hyper.dim);
}

void bn_sequence_pooled(struct bn_sequence *seq)
{
	bn_assert(seq->finish == BN_FINISH_NONE && seq->n_past == seq->n_prompt);
	if (bn_pooling_finish(seq->vector, seq->own->pooled, seq->model->hyper.dim)) {
		seq->finish = BN_FINISH_VECTOR;
		return;
	}
	seq->finish = BN_FINISH_ERROR;
	seq->status = bn_fail(&seq->error, BN_E_NUMERIC,
			      "the model gave the text states that have no direction");
}

void bn_sequence_finish(struct bn_sequence *seq, enum bn_finish finish, enum bn_status status)
{
	bn_assert(finish == BN_FINISH_CANCELLED || finish == BN_FINISH_ERROR);
	if (seq->finish != BN_FINISH_NONE) {
		return;
	}
	end_text(seq);
	seq->finish = finish;
	seq->status = status;
	bn_fail(&seq->error, status, "%s", bn_status_sentence(status));
}
