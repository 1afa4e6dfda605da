/*
 * Two rules of daemon/request.h shape this file. A request's end may be told from inside a walk
 * over all requests, so no other request is ended from there: the others of a failed call are given
 * up one turn of the loop later. And an orphaned request tells nobody any more, so giving up cannot
 * call back into here.
 */
#include "daemon/embeddings.h"

#include "daemon/entry.h"
#include "daemon/job.h"
#include "proto/assert.h"
#include "proto/kind.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WINDOW = 16,        /* texts at a time: several fill a step                           */
	ANSWER_VALUES = 64, /* of an answer beside its vectors                                */
};

struct call;

/* A text that is being computed. */
struct piece {
	struct call *call;
	struct bn_request *request; /* NULL: a free place */
	uint32_t index;
};

struct call {
	struct bn_ticket ticket;
	struct bn_requests *requests;
	uv_loop_t *loop;
	struct bn_job job; /* of giving up later */
	struct piece pieces[WINDOW];
	struct bn_params_completions asked; /* what every request is asked; texts are below */
	char model[BN_LIMIT_MODEL_BYTES];
	uid_t uid;
	bool may_cut, floats;
	bool failed;    /* answered */
	char *texts;    /* one behind the other */
	size_t *ends;   /* [n] of each in texts */
	bool *cut;      /* [n] */
	float *vectors; /* [n, dim], once one is there */
	uint32_t n, dim;
	uint32_t started, out, done;
	uint64_t tokens;
	uint64_t start_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct call *call_of(struct bn_ticket *t)
{
	return (struct call *)(void *)((char *)t - offsetof(struct call, ticket));
}

static struct bn_text text_at(const struct call *c, uint32_t i)
{
	const size_t from = i > 0 ? c->ends[i - 1] : 0;

	return (struct bn_text){ c->texts + from, c->ends[i] - from };
}

/* Nobody waits for it any more; nothing is out. */
static void call_free(struct call *c) BN_ON_LOOP
{
	bn_assert(c->out == 0);
	bn_ticket_close(&c->ticket);
	free(c->texts);
	free(c->ends);
	free(c->cut);
	free(c->vectors);
	free(c);
}

static void give_up(struct call *c) BN_ON_LOOP
{
	for (uint32_t i = 0; i < WINDOW; i++) {
		if (c->pieces[i].request != NULL) {
			bn_request_orphan(c->pieces[i].request);
			c->pieces[i].request = NULL;
			c->out--;
		}
	}
	call_free(c);
}

static void run_nothing(struct bn_job *job) BN_ON_HELPER
{
	(void)job;
}

static void give_up_now(struct bn_job *job) BN_ON_LOOP
{
	give_up(BN_JOB_OWNER(job, struct call, job));
}

/* Answers with the error; the call ends a turn of the loop later. */
static void call_fail(struct call *c, const struct bn_error *err) BN_ON_LOOP
{
	if (c->failed) {
		return;
	}
	c->failed = true;
	bn_ticket_fail(&c->ticket, err);
	bn_ticket_close(&c->ticket);
	bn_job_start(c->loop, &c->job, run_nothing, give_up_now);
}

/* --- the answer ------------------------------------------------------------------------------ */

static void pack_cut(struct bn_pack *p, const struct call *c) BN_ON_LOOP
{
	bn_pack_array(p, "truncated");
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->cut[i]) {
			bn_pack_int(p, NULL, i);
		}
	}
	bn_pack_end(p);
}

static void answer(struct call *c, const struct bn_entry *e) BN_ON_LOOP
{
	struct bn_pack *p = bn_ticket_result_begin(&c->ticket);

	bn_pack_text(p, "id", (struct bn_text){ c->ticket.id, c->ticket.id_bytes });
	bn_pack_str(p, "model", e->config.name);
	bn_pack_str(p, "digest", e->info.digest);
	bn_pack_str(p, "kernel", e->info.kernel);
	bn_pack_int(p, "dim", c->dim);
	bn_pack_array(p, "data");
	for (uint32_t i = 0; i < c->n; i++) {
		const float *v = c->vectors + (size_t)i * c->dim;

		if (c->floats) {
			bn_pack_floats(p, NULL, v, c->dim);
		} else {
			bn_pack_f32s(p, NULL, v, c->dim);
		}
	}
	bn_pack_end(p);
	if (c->may_cut) {
		pack_cut(p, c);
	}
	bn_pack_map(p, "usage");
	bn_pack_int(p, "prompt_tokens", (int64_t)c->tokens);
	bn_pack_end(p);
	bn_pack_map(p, "timings");
	bn_pack_num(p, "total_ms", (double)(now_ns() - c->start_ns) / 1e6);
	bn_pack_end(p);
	bn_ticket_result_end(&c->ticket);
}

/* Room for all vectors, if the answer will fit a message at all. */
static enum bn_status take_vectors(struct call *c, uint32_t dim, struct bn_error *err)
{
	const uint64_t values = c->floats ? (uint64_t)c->n * (dim + 1) : c->n;
	const uint64_t bytes = (uint64_t)c->n * dim * (c->floats ? 5 : 4);

	if (values + c->n + ANSWER_VALUES > BN_LIMIT_ELEMENTS ||
	    bytes + (uint64_t)c->n * 8 + 4096 > BN_LIMIT_MESSAGE_BYTES) {
		bn_fail(err, BN_E_TOO_LARGE,
			"%" PRIu32 " vectors of %" PRIu32 " numbers do not fit one answer%s", c->n,
			dim,
			c->floats ? ": ask for encoding bin, or for fewer texts at a time"
				  : ": ask for fewer texts at a time");
		bn_error_string(err, "param", c->floats ? "encoding" : "input");
		return BN_E_TOO_LARGE;
	}
	c->dim = dim;
	c->vectors = calloc((size_t)c->n * dim, sizeof(float));
	return c->vectors != NULL ? BN_OK : bn_fail(err, BN_E_MEMORY, "no memory for the vectors");
}

/* --- pieces ---------------------------------------------------------------------------------- */

static void start_some(struct call *c) BN_ON_LOOP;

/* Streams nothing. */
static void on_event(void *who, const struct bn_event *event)
{
	(void)who;
	(void)event;
}

static void keep(struct call *c, uint32_t index, const struct bn_outcome *o) BN_ON_LOOP
{
	struct bn_error err;

	if (c->vectors == NULL && take_vectors(c, o->dim, &err) != BN_OK) {
		call_fail(c, &err);
		return;
	}
	/* Another file under the name, in the middle of a call, would mix two spaces. */
	if (o->dim != c->dim) {
		bn_fail(&err, BN_E_CONFLICT, "the model changed during the call: ask again");
		call_fail(c, &err);
		return;
	}
	memcpy(c->vectors + (size_t)index * c->dim, o->vector, c->dim * sizeof(float));
	c->cut[index] = o->was_cut;
	c->tokens += o->prompt_tokens;
	c->done++;
	if (c->done == c->n) {
		answer(c, o->entry);
		call_free(c);
	} else {
		start_some(c);
	}
}

static void on_done(void *who, const struct bn_outcome *outcome, const struct bn_error *error)
{
	struct piece *piece = who;
	struct call *c = piece->call;

	bn_enter_loop();
	piece->request = NULL;
	c->out--;
	if (c->failed) {
		return;
	}
	if (error == NULL) {
		keep(c, piece->index, outcome);
		return;
	}

	struct bn_error err = *error;

	if (c->n > 1) {
		bn_wrap(&err, "input[%" PRIu32 "]", piece->index);
	}
	call_fail(c, &err);
}

static enum bn_status start(struct call *c, struct piece *piece, struct bn_error *err) BN_ON_LOOP
{
	union bn_params params;
	const struct bn_request_order order = {
		.method = BN_METHOD_EMBEDDINGS,
		.params = &params,
		.may_cut = c->may_cut,
		.uid = c->uid,
		.sink = { on_event, on_done, piece },
	};

	memset(&params, 0, sizeof(params));
	params.completions = c->asked;
	params.completions.has_prompt = true;
	params.completions.prompt = (struct bn_prompt){ .text = text_at(c, c->started) };
	piece->call = c;
	piece->index = c->started;
	return bn_requests_start(c->requests, &order, &piece->request, err);
}

/* Whether the line was full, and there is somebody of ours to wait for. */
static bool may_wait(const struct call *c, enum bn_status status)
{
	return c->out > 0 && (status == BN_E_QUEUE_FULL || status == BN_E_OVERLOADED);
}

static void start_some(struct call *c)
{
	for (uint32_t i = 0; i < WINDOW && c->started < c->n; i++) {
		struct bn_error err;
		enum bn_status status;

		if (c->pieces[i].request != NULL) {
			continue;
		}
		status = start(c, &c->pieces[i], &err);
		if (status == BN_OK) {
			c->started++;
			c->out++;
			continue;
		}
		c->pieces[i].request = NULL;
		if (!may_wait(c, status)) {
			call_fail(c, &err);
		}
		return;
	}
}

/* --- the call -------------------------------------------------------------------------------- */

static void on_gone(struct bn_ticket *t)
{
	bn_enter_loop();
	give_up(call_of(t));
}

static void on_cancel(struct bn_ticket *t)
{
	struct bn_error err;

	bn_enter_loop();
	bn_fail(&err, BN_E_CANCELLED, "%s", bn_status_sentence(BN_E_CANCELLED));
	bn_ticket_fail(t, &err);
	give_up(call_of(t));
}

/* An own copy of the texts, which outlive the message. */
static bool copy_texts(struct call *c, const struct bn_texts *input)
{
	struct bn_text *texts = calloc(input->n, sizeof(*texts));
	size_t bytes = 0, at = 0;

	c->n = input->n;
	c->ends = calloc(c->n, sizeof(*c->ends));
	c->cut = calloc(c->n, sizeof(*c->cut));
	if (texts == NULL || c->ends == NULL || c->cut == NULL) {
		free(texts);
		return false;
	}
	bn_texts_copy(input, texts);
	for (uint32_t i = 0; i < c->n; i++) {
		bytes += texts[i].n; /* all of them came in one message */
	}
	c->texts = malloc(bytes + 1);
	for (uint32_t i = 0; i < c->n && c->texts != NULL; i++) {
		memcpy(c->texts + at, texts[i].at, texts[i].n);
		at += texts[i].n;
		c->ends[i] = at;
	}
	free(texts);
	return c->texts != NULL;
}

static void copy_asked(struct call *c, const struct bn_params_embeddings *p)
{
	struct bn_params_generation *g = &c->asked.group;

	memcpy(c->model, p->model.at, p->model.n);
	g->has_model = true;
	g->model = (struct bn_text){ c->model, p->model.n };
	g->has_queue = p->has_queue;
	g->queue = p->queue;
	g->has_autoload = p->has_autoload;
	g->autoload = p->autoload;
	g->has_keep_alive = p->has_keep_alive;
	g->keep_alive = p->keep_alive;
	g->has_deadline_ms = p->has_deadline_ms;
	g->deadline_ms = p->deadline_ms;
	g->has_priority = p->has_priority;
	g->priority = p->priority;
	c->may_cut = p->has_truncate && p->truncate;
	c->floats = p->has_encoding && p->encoding == BN_ENCODING_FLOAT;
}

void bn_call_embeddings(uv_loop_t *loop, struct bn_requests *requests, struct bn_session *s,
			uint32_t msgid, const struct bn_params_embeddings *p)
{
	struct call *c = calloc(1, sizeof(*c));
	struct bn_error err;
	enum bn_status status;

	if (c == NULL || !copy_texts(c, &p->input)) {
		status = bn_fail(&err, BN_E_MEMORY, "no memory for the call");
	} else {
		c->loop = loop;
		c->requests = requests;
		c->uid = bn_connection_peer(s->connection)->uid;
		c->start_ns = now_ns();
		c->ticket.gone = on_gone;
		c->ticket.cancel = on_cancel;
		copy_asked(c, p);
		status = bn_ticket_open(s, &c->ticket, msgid, BN_METHOD_EMBEDDINGS,
					p->has_id ? p->id : bn_text_of(""), &err);
	}
	if (status != BN_OK) {
		bn_desk_fail(s->desk, s->connection, msgid, &err);
		if (c != NULL) {
			call_free(c);
		}
		return;
	}
	start_some(c);
}
