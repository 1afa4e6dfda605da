/*
 * A call holds its model while a helper works on it; what the helper needs lies in the call.
 */
#include "daemon/token_calls.h"

#include "daemon/job.h"
#include "proto/decode.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECES_MAX = 60000, /* below BN_LIMIT_ELEMENTS, which clients hold us to as well */
	TEXT_FACTOR = 8,    /* first guess of text bytes per token                       */
};

struct token_call {
	struct bn_ticket ticket;
	struct bn_registry *registry;
	uv_loop_t *loop;
	struct bn_hold hold;
	struct bn_job job;
	const struct bn_model *model;
	bool encode, add_special, parse_special, with_pieces;
	char *text; /* in or out */
	size_t n_text;
	struct bn_tokens ids; /* out or in */
	atomic_bool stop;
	enum bn_status status;
	struct bn_error err;
};

static struct token_call *token_of(struct bn_ticket *t)
{
	return BN_JOB_OWNER(t, struct token_call, ticket);
}

static void token_free(struct token_call *t) BN_ON_LOOP
{
	bn_ticket_close(&t->ticket);
	bn_registry_release(t->registry, &t->hold);
	bn_tokens_finish(&t->ids);
	free(t->text);
	free(t);
}

static enum bn_status decode(struct token_call *t) BN_ON_HELPER
{
	size_t room = t->ids.n * TEXT_FACTOR + 64;

	for (;;) {
		size_t need = 0;
		enum bn_status status;

		t->text = malloc(room);
		if (t->text == NULL) {
			return bn_fail(&t->err, BN_E_MEMORY, "no memory for the text");
		}
		status = bn_tokenizer_decode(t->model->tok, t->ids.ids, t->ids.n, 0, t->text, room,
					     &need, &t->err);
		if (status != BN_OK || need <= room) {
			t->n_text = need;
			return status;
		}
		free(t->text);
		t->text = NULL;
		room = need;
	}
}

static void token_run(struct bn_job *job) BN_ON_HELPER
{
	struct token_call *t = BN_JOB_OWNER(job, struct token_call, job);
	struct bn_encode_options options = { .add_special = t->add_special,
					     .parse_special = t->parse_special,
					     .cancel = &t->stop };

	if (t->encode) {
		t->status = bn_tokenizer_encode(t->model->tok, t->text, t->n_text, &options,
						&t->ids, &t->err);
	} else {
		t->status = decode(t);
	}
	if (t->status == BN_OK && t->with_pieces && t->ids.n > PIECES_MAX) {
		t->status = bn_fail(&t->err, BN_E_TOO_LARGE,
				    "%zu pieces do not fit a message (%d do); ask without "
				    "with_pieces",
				    t->ids.n, PIECES_MAX);
	}
}

static void token_done(struct bn_job *job) BN_ON_LOOP
{
	struct token_call *t = BN_JOB_OWNER(job, struct token_call, job);

	if (t->status != BN_OK) {
		bn_ticket_fail(&t->ticket, &t->err);
	} else {
		struct bn_pack *p = bn_ticket_result_begin(&t->ticket);

		if (t->encode) {
			bn_pack_int(p, "n", (int64_t)t->ids.n);
			bn_pack_u32s(p, "tokens", t->ids.ids, t->ids.n);
		} else {
			bn_pack_text(p, "content", (struct bn_text){ t->text, t->n_text });
		}
		if (t->with_pieces) {
			bn_pack_array(p, "pieces");
			for (size_t i = 0; i < t->ids.n; i++) {
				struct bn_str piece =
					bn_tokenizer_piece(t->model->tok, t->ids.ids[i]);

				bn_pack_bin(p, NULL, piece.p, piece.n);
			}
			bn_pack_end(p);
		}
		bn_ticket_result_end(&t->ticket);
	}
	token_free(t);
}

static void token_granted(struct bn_hold *h)
{
	struct token_call *t = BN_JOB_OWNER(h, struct token_call, hold);

	bn_enter_loop();
	t->model = h->entry->model;
	bn_job_start(t->loop, &t->job, token_run, token_done);
}

static void token_failed(struct bn_hold *h, const struct bn_error *err)
{
	struct token_call *t = BN_JOB_OWNER(h, struct token_call, hold);

	bn_enter_loop();
	bn_ticket_fail(&t->ticket, err);
	token_free(t);
}

static void token_gone(struct bn_ticket *ticket)
{
	struct token_call *t = token_of(ticket);

	bn_enter_loop();
	if (bn_job_is_out(&t->job)) {
		atomic_store_explicit(&t->stop, true, memory_order_relaxed);
	} else {
		token_free(t);
	}
}

static void token_cancel(struct bn_ticket *ticket)
{
	struct token_call *t = token_of(ticket);
	struct bn_error err;

	bn_enter_loop();
	if (bn_job_is_out(&t->job)) {
		atomic_store_explicit(&t->stop, true, memory_order_relaxed);
		return;
	}
	bn_fail(&err, BN_E_CANCELLED, "%s", bn_status_sentence(BN_E_CANCELLED));
	bn_ticket_fail(ticket, &err);
	token_free(t);
}

static const struct bn_hold_hooks token_hooks = { token_granted, token_failed, NULL };

/* t is NULL when there was no memory for it. */
static void token_start(struct token_call *t, const struct bn_token_calls *m, struct bn_session *s,
			uint32_t msgid, enum bn_method method, struct bn_text model) BN_ON_LOOP
{
	struct bn_entry *e;
	struct bn_error err;
	enum bn_status status;

	if (t == NULL) {
		bn_fail(&err, BN_E_MEMORY, "no memory for the call");
		bn_desk_fail(s->desk, s->connection, msgid, &err);
		return;
	}
	t->registry = m->registry;
	t->loop = m->loop;
	t->ticket.gone = token_gone;
	t->ticket.cancel = token_cancel;
	status = bn_ticket_open(s, &t->ticket, msgid, method, bn_text_of(""), &err);
	if (status == BN_OK) {
		status = bn_registry_find(m->registry, model, &e, &err);
	}
	if (status != BN_OK) {
		bn_desk_fail(s->desk, s->connection, msgid, &err);
		token_free(t);
		return;
	}
	t->hold.hooks = &token_hooks;
	t->hold.uid = bn_connection_peer(s->connection)->uid;
	bn_registry_hold(m->registry, &t->hold, e);
}

void bn_call_tokenize(const struct bn_token_calls *m, struct bn_session *s, uint32_t msgid,
		      const struct bn_params_tokenize *p)
{
	struct token_call *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->text = malloc(p->content.n + 1);
	}
	if (t == NULL || t->text == NULL) {
		free(t);
		token_start(NULL, m, s, msgid, BN_METHOD_TOKENIZE, p->model);
		return;
	}
	memcpy(t->text, p->content.at, p->content.n);
	t->n_text = p->content.n;
	t->encode = true;
	t->add_special = p->has_add_special && p->add_special;
	t->parse_special = p->has_parse_special && p->parse_special;
	t->with_pieces = p->has_with_pieces && p->with_pieces;
	token_start(t, m, s, msgid, BN_METHOD_TOKENIZE, p->model);
}

void bn_call_detokenize(const struct bn_token_calls *m, struct bn_session *s, uint32_t msgid,
			const struct bn_params_detokenize *p)
{
	struct token_call *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->ids.ids = calloc((size_t)p->tokens.n + 1, sizeof(bn_token));
	}
	if (t == NULL || t->ids.ids == NULL) {
		free(t);
		token_start(NULL, m, s, msgid, BN_METHOD_DETOKENIZE, p->model);
		return;
	}
	bn_ids_copy(&p->tokens, t->ids.ids);
	t->ids.n = p->tokens.n;
	t->ids.capacity = t->ids.n + 1;
	token_start(t, m, s, msgid, BN_METHOD_DETOKENIZE, p->model);
}
