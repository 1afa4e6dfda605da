/*
 * A handler gets parameters that are checked already, and answers before it returns or opens a
 * ticket (daemon/ticket.h) that is answered later. The answers themselves are written by
 * daemon/respond.h, those about one model begin in daemon/model_calls.h and
 * daemon/token_calls.h.
 */
#include "daemon/methods.h"

#include "daemon/embeddings.h"
#include "daemon/model_calls.h"
#include "daemon/respond.h"
#include "daemon/ticket.h"
#include "daemon/token_calls.h"
#include "kernels/cpu.h"
#include "proto/assert.h"
#include "proto/describe.h"
#include "proto/message.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct bn_methods {
	struct bn_methods_config config;
	struct bn_desk desk;
	struct bn_token_calls token_calls;
	struct bn_model_calls model_calls;
	struct bn_connections *connections;
	uint64_t start_ms;
	bool ready;
	const char *reason;
};

/* One call on its way through dispatch; nothing outlives the handler. */
struct ask {
	struct bn_methods *m;
	struct bn_session *session;
	uint32_t msgid;
	bool silent; /* a notification: no answer */
	const struct bn_call *call;
};

typedef void (*handler_fn)(const struct ask *a);

/* --- answers at once ------------------------------------------------------------------------ */

static struct bn_pack *begin(const struct ask *a) BN_ON_LOOP
{
	return bn_desk_result_begin(&a->m->desk, a->msgid);
}

static void end(const struct ask *a) BN_ON_LOOP
{
	bn_desk_result_end(&a->m->desk, a->session->connection, a->msgid);
}

static void fail(const struct ask *a, const struct bn_error *err) BN_ON_LOOP
{
	if (!a->silent) {
		bn_desk_fail(&a->m->desk, a->session->connection, a->msgid, err);
	}
}

static const struct bn_peer *peer_of(const struct ask *a) BN_ON_LOOP
{
	return bn_connection_peer(a->session->connection);
}

static void server_info(const struct ask *a) BN_ON_LOOP
{
	static const char *const features[] = { "stream",    "cancel",           "logprobs",
						"deadlines", "peer_credentials", "embeddings" };
	struct bn_error err;

	bn_pack_reset(&a->m->desk.pack);
	bn_message_result_begin(&a->m->desk.pack, a->msgid);
	bn_describe_info(&a->m->desk.pack, a->m->config.version, features,
			 sizeof(features) / sizeof(features[0]));
	if (bn_message_result_end(&a->m->desk.pack, &err) != BN_OK) {
		fail(a, &err);
		return;
	}
	bn_connection_respond(a->session->connection, a->m->desk.pack.data, a->m->desk.pack.used);
}

static void server_health(const struct ask *a) BN_ON_LOOP
{
	struct bn_pack *p = begin(a);

	bn_pack_bool(p, "live", true);
	bn_pack_bool(p, "ready", a->m->ready);
	if (!a->m->ready && a->m->reason != NULL) {
		bn_pack_str(p, "reason", a->m->reason);
	}
	end(a);
}

static void server_status(const struct ask *a) BN_ON_LOOP
{
	struct bn_methods *m = a->m;
	uid_t uid = peer_of(a)->uid;
	struct bn_requests_count all = bn_requests_count(m->config.requests);
	struct bn_requests_count own = bn_requests_count_uid(m->config.requests, uid);
	struct bn_requests_totals totals = bn_requests_totals(m->config.requests);
	struct bn_pack *p = begin(a);
	char processor[128];

	bn_pack_str(p, "version", m->config.version);
	bn_pack_int(p, "uptime_ms", (int64_t)(uv_now(m->config.loop) - m->start_ms));
	bn_pack_bool(p, "ready", m->ready);
	bn_pack_int(p, "lanes", m->config.lanes);
	bn_pack_str(p, "processor", bn_cpu_describe(m->config.cpu, processor, sizeof(processor)));
	bn_pack_map(p, "step");
	bn_pack_int(p, "rows", m->config.forward.max_rows);
	bn_pack_int(p, "outputs", m->config.forward.max_outputs);
	bn_pack_end(p);
	bn_pack_int(p, "connections", bn_connections_count(m->connections));
	bn_respond_memory(p, m->config.budget);
	bn_pack_map(p, "requests");
	bn_pack_int(p, "running", all.running);
	bn_pack_int(p, "queued", all.waiting);
	bn_pack_int(p, "queued_interactive", all.waiting_by_priority[BN_PRIORITY_INTERACTIVE]);
	bn_pack_int(p, "queued_normal", all.waiting_by_priority[BN_PRIORITY_NORMAL]);
	bn_pack_int(p, "queued_batch", all.waiting_by_priority[BN_PRIORITY_BATCH]);
	bn_pack_end(p);
	bn_pack_map(p, "totals");
	bn_pack_int(p, "requests", (int64_t)totals.requests);
	bn_pack_int(p, "prompt_tokens", (int64_t)totals.prompt_tokens);
	bn_pack_int(p, "completion_tokens", (int64_t)totals.completion_tokens);
	bn_pack_int(p, "cancelled", (int64_t)totals.cancelled);
	bn_pack_int(p, "failed", (int64_t)totals.failed);
	bn_pack_end(p);
	bn_pack_map(p, "own");
	bn_pack_int(p, "connections", bn_connections_count_uid(m->connections, uid));
	bn_pack_int(p, "running", own.running);
	bn_pack_int(p, "queued", own.waiting);
	bn_pack_end(p);
	bn_respond_ps(p, m->config.registry, m->config.requests);
	end(a);
}

static void models_list(const struct ask *a) BN_ON_LOOP
{
	bn_respond_list(begin(a), a->m->config.registry);
	end(a);
}

static void models_ps(const struct ask *a) BN_ON_LOOP
{
	struct bn_pack *p = begin(a);

	bn_respond_ps(p, a->m->config.registry, a->m->config.requests);
	bn_respond_memory(p, a->m->config.budget);
	bn_respond_departures(p, a->m->config.registry);
	end(a);
}

static void models_show(const struct ask *a) BN_ON_LOOP
{
	struct bn_entry *e;
	struct bn_error err;

	if (bn_registry_find(a->m->config.registry, a->call->params.models_show.model, &e, &err) !=
	    BN_OK) {
		fail(a, &err);
		return;
	}
	bn_respond_show(begin(a), e);
	end(a);
}

/* --- generations ---------------------------------------------------------------------------- */

struct generation {
	struct bn_ticket ticket;
	struct bn_request *request;
	bool stream;
};

static struct generation *generation_of(struct bn_ticket *t)
{
	return (struct generation *)(void *)((char *)t - offsetof(struct generation, ticket));
}

static void on_event(void *who, const struct bn_event *event)
{
	struct generation *g = who;
	struct bn_event copy = *event;

	bn_enter_loop();
	bn_ticket_event(&g->ticket, &copy);
}

static void on_done(void *who, const struct bn_outcome *outcome, const struct bn_error *error)
{
	struct generation *g = who;

	bn_enter_loop();
	if (error != NULL) {
		bn_ticket_fail(&g->ticket, error);
	} else {
		struct bn_pack *p = bn_ticket_result_begin(&g->ticket);

		bn_pack_text(p, "id", (struct bn_text){ g->ticket.id, g->ticket.id_bytes });
		bn_respond_outcome(p, g->ticket.method, outcome, g->stream);
		bn_ticket_result_end(&g->ticket);
	}
	bn_ticket_close(&g->ticket);
	free(g);
}

static void generation_gone(struct bn_ticket *t)
{
	struct generation *g = generation_of(t);

	bn_enter_loop();
	bn_request_orphan(g->request);
	free(g);
}

static void generation_cancel(struct bn_ticket *t)
{
	bn_enter_loop();
	bn_request_cancel(generation_of(t)->request, BN_E_CANCELLED);
}

static void generation_pause(struct bn_ticket *t, bool pause)
{
	bn_enter_loop();
	bn_request_pause(generation_of(t)->request, pause);
}

static void generate(const struct ask *a) BN_ON_LOOP
{
	const struct bn_params_generation *p = a->call->method == BN_METHOD_COMPLETIONS
						       ? &a->call->params.completions.group
						       : &a->call->params.chat_completions.group;
	struct generation *g = calloc(1, sizeof(*g));
	struct bn_request_order order;
	struct bn_error err;
	enum bn_status status;

	if (g == NULL) {
		bn_fail(&err, BN_E_MEMORY, "no memory for the request");
		fail(a, &err);
		return;
	}
	g->ticket.gone = generation_gone;
	g->ticket.cancel = generation_cancel;
	g->ticket.pause = generation_pause;
	g->stream = p->has_stream && p->stream;
	status = bn_ticket_open(a->session, &g->ticket, a->msgid, a->call->method,
				p->has_id ? p->id : bn_text_of(""), &err);
	if (status == BN_OK) {
		order = (struct bn_request_order){
			.method = a->call->method,
			.params = &a->call->params,
			.uid = peer_of(a)->uid,
			.paused = bn_connection_is_paused(a->session->connection),
			.sink = { on_event, on_done, g },
		};
		status = bn_requests_start(a->m->config.requests, &order, &g->request, &err);
	}
	if (status != BN_OK) {
		bn_ticket_close(&g->ticket);
		free(g);
		fail(a, &err);
	}
}

/* --- cancel --------------------------------------------------------------------------------- */

/* An id that was cancelled; tickets may be gone before the answer is written. */
struct gone {
	char id[BN_LIMIT_ID_BYTES];
	uint32_t n;
};

struct search {
	struct bn_text id;
	struct bn_ticket *found;
};

static void search_connection(struct bn_connection *c, void *who)
{
	struct search *s = who;
	struct bn_session *session;

	bn_enter_loop();
	session = bn_connection_data(c);
	if (session != NULL && s->found == NULL) {
		s->found = bn_session_find(session, s->id);
	}
}

static void cancel_one(struct bn_ticket *t, struct gone *list, uint32_t *n) BN_ON_LOOP
{
	if (t->cancel != NULL) {
		memcpy(list[*n].id, t->id, t->id_bytes);
		list[*n].n = t->id_bytes;
		(*n)++;
		t->cancel(t);
	}
}

static void cancel(const struct ask *a) BN_ON_LOOP
{
	const struct bn_params_cancel *c = &a->call->params.cancel;
	bool all = c->has_all && c->all;
	struct bn_ticket *after;
	struct gone *list;
	struct bn_error err;
	uint32_t n = 0, room = 1;
	struct bn_pack *p;

	if (c->has_id == all) {
		bn_fail(&err, BN_E_INVALID, "say either id or all: true");
		bn_error_string(&err, "param", "id");
		fail(a, &err);
		return;
	}
	for (struct bn_ticket *t = a->session->first; t != NULL; t = t->after) {
		room++;
	}
	list = calloc(room, sizeof(*list));
	if (list == NULL) {
		bn_fail(&err, BN_E_MEMORY, "no memory for the answer");
		fail(a, &err);
		return;
	}
	if (all) {
		for (struct bn_ticket *t = a->session->first; t != NULL; t = after) {
			after = t->after;
			cancel_one(t, list, &n);
		}
	} else {
		struct search s = { c->id, bn_session_find(a->session, c->id) };

		if (s.found == NULL && (peer_of(a)->rights & BN_MAY_ADMIN) != 0) {
			bn_connections_each(a->m->connections, search_connection, &s);
		}
		if (s.found != NULL) {
			cancel_one(s.found, list, &n);
		}
	}
	if (!a->silent) {
		p = begin(a);
		bn_pack_array(p, "cancelled");
		for (uint32_t i = 0; i < n; i++) {
			bn_pack_text(p, NULL, (struct bn_text){ list[i].id, list[i].n });
		}
		bn_pack_end(p);
		end(a);
	}
	free(list);
}

/* --- calls that wait for a model ------------------------------------------------------------ */

static void embeddings(const struct ask *a) BN_ON_LOOP
{
	bn_call_embeddings(a->m->config.loop, a->m->config.requests, a->session, a->msgid,
			   &a->call->params.embeddings);
}

static void tokenize(const struct ask *a) BN_ON_LOOP
{
	bn_call_tokenize(&a->m->token_calls, a->session, a->msgid, &a->call->params.tokenize);
}

static void detokenize(const struct ask *a) BN_ON_LOOP
{
	bn_call_detokenize(&a->m->token_calls, a->session, a->msgid, &a->call->params.detokenize);
}

static void models_load(const struct ask *a) BN_ON_LOOP
{
	bn_call_load(&a->m->model_calls, a->session, a->msgid, &a->call->params.models_load);
}

static void models_unload(const struct ask *a) BN_ON_LOOP
{
	bn_call_unload(&a->m->model_calls, a->session, a->msgid, &a->call->params.models_unload);
}

/* --- dispatch ------------------------------------------------------------------------------- */

/* Rights finer than the schema's `user` and `admin`: sets of enum bn_may. */
static const struct {
	handler_fn handle;
	uint32_t needs;
} table[BN_METHOD_COUNT] = {
	[BN_METHOD_SERVER_INFO] = { server_info, 0 },
	[BN_METHOD_SERVER_HEALTH] = { server_health, 0 },
	[BN_METHOD_SERVER_STATUS] = { server_status, BN_MAY_STATUS },
	[BN_METHOD_COMPLETIONS] = { generate, BN_MAY_GENERATE },
	[BN_METHOD_CHAT_COMPLETIONS] = { generate, BN_MAY_GENERATE },
	[BN_METHOD_EMBEDDINGS] = { embeddings, BN_MAY_GENERATE },
	[BN_METHOD_TOKENIZE] = { tokenize, BN_MAY_GENERATE },
	[BN_METHOD_DETOKENIZE] = { detokenize, BN_MAY_GENERATE },
	[BN_METHOD_CANCEL] = { cancel, 0 },
	[BN_METHOD_MODELS_LIST] = { models_list, BN_MAY_STATUS },
	[BN_METHOD_MODELS_PS] = { models_ps, BN_MAY_STATUS },
	[BN_METHOD_MODELS_SHOW] = { models_show, BN_MAY_STATUS },
	[BN_METHOD_MODELS_LOAD] = { models_load, BN_MAY_LOAD },
	[BN_METHOD_MODELS_UNLOAD] = { models_unload, BN_MAY_LOAD },
};

static void on_message(struct bn_connection *c, const struct bn_message *message, void *who)
{
	struct bn_methods *m = who;
	struct bn_call call;
	struct ask a = { .m = m,
			 .msgid = message->msgid,
			 .silent = message->kind == BN_MESSAGE_NOTIFICATION,
			 .call = &call };
	struct bn_error err;

	bn_enter_loop();
	a.session = bn_session_of(&m->desk, c);
	if (a.session == NULL) {
		bn_connection_close(c, BN_CLOSE_MEMORY);
		return;
	}
	if (bn_message_read_call(message, &call, &err) != BN_OK) {
		fail(&a, &err);
		return;
	}
	if (a.silent && call.method != BN_METHOD_CANCEL) {
		return; /* nobody could be told; clients send greetings we do not know */
	}
	bn_assert(table[call.method].handle != NULL);
	if (bn_auth_check(bn_connection_peer(c), table[call.method].needs, &err) != BN_OK) {
		fail(&a, &err);
		return;
	}
	table[call.method].handle(&a);
}

static void on_pause(struct bn_connection *c, bool pause, void *who)
{
	(void)who;
	bn_enter_loop();
	bn_session_pause(c, pause);
}

static void on_closed(struct bn_connection *c, enum bn_close reason, void *who)
{
	(void)reason;
	(void)who;
	bn_enter_loop();
	bn_session_close(c);
}

/* --- life ----------------------------------------------------------------------------------- */

enum bn_status bn_methods_new(struct bn_methods **out, const struct bn_methods_config *config,
			      struct bn_error *err)
{
	struct bn_methods *m = calloc(1, sizeof(*m));

	if (m == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for methods");
	}
	m->config = *config;
	m->desk.metrics = config->metrics;
	bn_pack_init(&m->desk.pack);
	m->token_calls = (struct bn_token_calls){ config->loop, config->registry };
	m->model_calls.loop = config->loop;
	m->model_calls.registry = config->registry;
	m->model_calls.requests = config->requests;
	m->start_ms = uv_now(config->loop);
	m->reason = "starting";
	*out = m;
	return BN_OK;
}

void bn_methods_free(struct bn_methods *m)
{
	if (m != NULL) {
		bn_pack_finish(&m->desk.pack);
		free(m);
	}
}

struct bn_connection_hooks bn_methods_hooks(struct bn_methods *m)
{
	return (struct bn_connection_hooks){ on_message, on_pause, on_closed, m };
}

void bn_methods_set_connections(struct bn_methods *m, struct bn_connections *g)
{
	m->connections = g;
}

void bn_methods_set_ready(struct bn_methods *m, bool ready, const char *reason)
{
	m->ready = ready;
	m->reason = reason;
}
