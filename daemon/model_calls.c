/*
 * Loading holds the model until it is there; a dry run asks a helper for an estimate instead.
 * Unloading asks the registry and looks again every few milliseconds until the model is gone or the
 * caller's patience is.
 */
#include "daemon/model_calls.h"

#include "daemon/job.h"
#include "proto/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	VICTIMS_MAX = 32,
	LOOK_MS = 10,
	UNLOAD_TIMEOUT_MS = 30000,
};

static const struct bn_peer *peer_of(const struct bn_session *s) BN_ON_LOOP
{
	return bn_connection_peer(s->connection);
}

static void no_memory(struct bn_session *s, uint32_t msgid) BN_ON_LOOP
{
	struct bn_error err;

	bn_fail(&err, BN_E_MEMORY, "no memory for the call");
	bn_desk_fail(s->desk, s->connection, msgid, &err);
}

/* --- models.load ---------------------------------------------------------------------------- */

struct load_call {
	struct bn_ticket ticket;
	const struct bn_model_calls *calls;
	struct bn_hold hold;
	struct bn_entry_estimate estimate;
	char model[BN_LIMIT_MODEL_BYTES + 1];
	bool dry_run;
};

static struct load_call *load_of(struct bn_ticket *t)
{
	return (struct load_call *)(void *)((char *)t - offsetof(struct load_call, ticket));
}

static void load_free(struct load_call *l) BN_ON_LOOP
{
	bn_ticket_close(&l->ticket);
	bn_registry_release(l->calls->registry, &l->hold);
	free(l);
}

static void pack_bytes(struct bn_pack *p, const struct bn_model_info *info, uint64_t scratch)
{
	bn_pack_map(p, "bytes");
	bn_pack_int(p, "weights", (int64_t)info->weights_bytes);
	bn_pack_int(p, "kv", (int64_t)(info->kv_position_bytes * info->context));
	bn_pack_int(p, "scratch", (int64_t)scratch);
	bn_pack_end(p);
}

static void load_answer(struct load_call *l, const struct bn_entry *e,
			const struct bn_model_info *info, uint64_t scratch) BN_ON_LOOP
{
	struct bn_pack *p = bn_ticket_result_begin(&l->ticket);

	bn_pack_str(p, "model", e->config.name);
	bn_pack_str(p, "state", bn_entry_state_word(e->state));
	pack_bytes(p, info, scratch);
	if (l->dry_run) {
		struct bn_entry *victims[VICTIMS_MAX];
		bool fits = true;
		uint32_t n = 0;

		if (e->state != BN_ENTRY_READY) {
			n = bn_registry_victims(l->calls->registry, e,
						info->weights_bytes + info->load_bytes + scratch,
						victims, VICTIMS_MAX, &fits);
		}
		bn_pack_array(p, "would_evict");
		for (uint32_t i = 0; i < n && i < VICTIMS_MAX; i++) {
			bn_pack_str(p, NULL, victims[i]->config.name);
		}
		bn_pack_end(p);
		bn_pack_bool(p, "fits", fits);
	}
	if (e->state == BN_ENTRY_READY) {
		bn_pack_str(p, "kernel", e->info.kernel);
		bn_pack_str(p, "self_test", "passed"); /* a kernel that fails it is never bound */
	}
	bn_ticket_result_end(&l->ticket);
}

static void load_granted(struct bn_hold *h)
{
	struct load_call *l =
		(struct load_call *)(void *)((char *)h - offsetof(struct load_call, hold));

	bn_enter_loop();
	load_answer(l, h->entry, &h->entry->info, h->entry->scratch_bytes);
	load_free(l);
}

static void load_failed(struct bn_hold *h, const struct bn_error *err)
{
	struct load_call *l =
		(struct load_call *)(void *)((char *)h - offsetof(struct load_call, hold));

	bn_enter_loop();
	bn_ticket_fail(&l->ticket, err);
	load_free(l);
}

static void load_waiting(struct bn_hold *h, uint32_t position, double loaded)
{
	struct load_call *l =
		(struct load_call *)(void *)((char *)h - offsetof(struct load_call, hold));
	struct bn_event e = { .kind = BN_EVENT_STATUS };

	bn_enter_loop();
	(void)position;
	if (loaded < 0.0) {
		return;
	}
	e.body.status.has_state = true;
	e.body.status.state = bn_text_of("loading");
	e.body.status.has_model = true;
	e.body.status.model = bn_text_of(h->entry->config.name);
	e.body.status.has_progress = true;
	e.body.status.progress = loaded;
	bn_ticket_event(&l->ticket, &e);
}

static const struct bn_hold_hooks load_hooks = { load_granted, load_failed, load_waiting };

static void load_estimated(struct bn_entry_estimate *x)
{
	struct load_call *l =
		(struct load_call *)(void *)((char *)x - offsetof(struct load_call, estimate));
	struct bn_entry *e;
	struct bn_error err = x->err;
	enum bn_status status = x->status;

	bn_enter_loop();
	if (l->ticket.session == NULL) {
		free(l); /* nobody waits any more; the registry may be gone as well */
		return;
	}
	if (status != BN_OK) {
		bn_wrap(&err, "model '%s'", l->model);
	} else {
		status = bn_registry_find(l->calls->registry, bn_text_of(l->model), &e, &err);
	}
	if (status != BN_OK) {
		bn_ticket_fail(&l->ticket, &err);
		load_free(l);
		return;
	}
	if (!l->dry_run) {
		bn_registry_warm(l->calls->registry, e);
	}
	load_answer(l, e, &x->info, x->scratch_bytes);
	load_free(l);
}

static void load_gone(struct bn_ticket *ticket)
{
	struct load_call *l = load_of(ticket);

	bn_enter_loop();
	if (!bn_job_is_out(&l->estimate.job)) {
		load_free(l);
	}
}

static void load_cancel(struct bn_ticket *ticket)
{
	struct load_call *l = load_of(ticket);
	struct bn_error err;

	bn_enter_loop();
	if (bn_job_is_out(&l->estimate.job)) {
		return; /* takes milliseconds, and its answer is as good */
	}
	bn_fail(&err, BN_E_CANCELLED, "%s", bn_status_sentence(BN_E_CANCELLED));
	bn_ticket_fail(ticket, &err);
	load_free(l);
}

void bn_call_load(const struct bn_model_calls *m, struct bn_session *s, uint32_t msgid,
		  const struct bn_params_models_load *p)
{
	struct load_call *l = calloc(1, sizeof(*l));
	struct bn_entry *e;
	struct bn_error err;
	enum bn_status status;

	if (l == NULL) {
		no_memory(s, msgid);
		return;
	}
	l->calls = m;
	l->ticket.gone = load_gone;
	l->ticket.cancel = load_cancel;
	l->dry_run = p->has_dry_run && p->dry_run;
	status = bn_ticket_open(s, &l->ticket, msgid, BN_METHOD_MODELS_LOAD,
				p->has_id ? p->id : bn_text_of(""), &err);
	if (status == BN_OK) {
		status = bn_registry_find(m->registry, p->model, &e, &err);
	}
	if (status != BN_OK) {
		bn_desk_fail(s->desk, s->connection, msgid, &err);
		load_free(l);
		return;
	}
	strncpy(l->model, e->config.name, sizeof(l->model) - 1);
	if (!l->dry_run && p->has_pin) {
		bn_registry_pin(m->registry, e, p->pin);
	}
	if (!l->dry_run && p->has_keep_alive) {
		bn_registry_keep_alive(m->registry, e, p->keep_alive);
	}
	if (l->dry_run || (p->has_wait && !p->wait)) {
		bn_entry_estimate(e, &l->estimate, load_estimated);
		return;
	}
	l->hold.hooks = &load_hooks;
	l->hold.uid = peer_of(s)->uid;
	bn_registry_hold(m->registry, &l->hold, e);
}

/* --- models.unload -------------------------------------------------------------------------- */

struct unload_call {
	struct bn_ticket ticket;
	const struct bn_model_calls *calls;
	uv_timer_t clock;
	char model[BN_LIMIT_MODEL_BYTES + 1];
	uint64_t until_ms; /* loop time */
	uint64_t bytes;
};

static void unload_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void unload_end(struct unload_call *u) BN_ON_LOOP
{
	bn_ticket_close(&u->ticket);
	uv_close((uv_handle_t *)&u->clock, unload_closed);
}

static void unload_answer(struct unload_call *u, enum bn_entry_state state,
			  uint64_t bytes) BN_ON_LOOP
{
	struct bn_pack *p = bn_ticket_result_begin(&u->ticket);

	bn_pack_str(p, "model", u->model);
	bn_pack_str(p, "state", bn_entry_state_word(state));
	bn_pack_int(p, "freed_bytes", (int64_t)bytes);
	bn_ticket_result_end(&u->ticket);
}

static void unload_look(uv_timer_t *clock)
{
	struct unload_call *u = clock->data;
	struct bn_entry *e;
	struct bn_error err;

	bn_enter_loop();
	if (bn_registry_find(u->calls->registry, bn_text_of(u->model), &e, &err) != BN_OK) {
		bn_ticket_fail(&u->ticket, &err); /* left the configuration meanwhile */
		unload_end(u);
	} else if (e->state != BN_ENTRY_READY && e->state != BN_ENTRY_DRAINING) {
		unload_answer(u, e->state, u->bytes);
		unload_end(u);
	} else if (e->state == BN_ENTRY_READY && uv_now(u->calls->loop) >= u->until_ms) {
		bn_registry_keep(u->calls->registry, e);
		bn_fail(&err, BN_E_CONFLICT,
			"model '%s' is still used by %" PRIu32
			" requests; wait, or say force: true",
			u->model, e->live);
		bn_error_number(&err, "running", e->live);
		bn_ticket_fail(&u->ticket, &err);
		unload_end(u);
	}
}

/* The client is gone, but what it asked for holds: the model leaves with its last user. */
static void unload_gone(struct bn_ticket *ticket)
{
	bn_enter_loop();
	unload_end((struct unload_call *)(void *)((char *)ticket -
						  offsetof(struct unload_call, ticket)));
}

static enum bn_status may_unload(const struct bn_entry *e, bool force, struct bn_error *err)
{
	if (e->pinned && !force) {
		return bn_fail(err, BN_E_CONFLICT,
			       "model '%s' is pinned; unpin it (models.load with pin: false) or "
			       "say force: true",
			       e->config.name);
	}
	if (e->state == BN_ENTRY_LOADING && !force) {
		return bn_fail(err, BN_E_CONFLICT,
			       "model '%s' is being loaded; wait, or say force: true",
			       e->config.name);
	}
	return BN_OK;
}

void bn_call_unload(const struct bn_model_calls *m, struct bn_session *s, uint32_t msgid,
		    const struct bn_params_models_unload *p)
{
	struct unload_call *u = calloc(1, sizeof(*u));
	bool force = p->has_force && p->force;
	struct bn_entry *e;
	struct bn_error err;
	enum bn_status status;

	if (u == NULL) {
		no_memory(s, msgid);
		return;
	}
	u->calls = m;
	u->ticket.gone = unload_gone;
	uv_timer_init(m->loop, &u->clock);
	u->clock.data = u;
	status =
		bn_ticket_open(s, &u->ticket, msgid, BN_METHOD_MODELS_UNLOAD, bn_text_of(""), &err);
	if (status == BN_OK) {
		status = bn_registry_find(m->registry, p->model, &e, &err);
	}
	if (status == BN_OK) {
		status = may_unload(e, force, &err);
	}
	if (status != BN_OK) {
		bn_desk_fail(s->desk, s->connection, msgid, &err);
		unload_end(u);
		return;
	}
	strncpy(u->model, e->config.name, sizeof(u->model) - 1);
	u->bytes = e->state == BN_ENTRY_READY ? bn_entry_resident(e) : 0;
	if (e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED) {
		unload_answer(u, e->state, 0);
		unload_end(u);
		return;
	}
	if (force) {
		bn_requests_cancel_model(m->requests, e, BN_E_CANCELLED);
	}
	bn_registry_unload(m->registry, e);
	u->until_ms =
		uv_now(m->loop) + (p->has_timeout_ms ? (uint64_t)p->timeout_ms : UNLOAD_TIMEOUT_MS);
	uv_timer_start(&u->clock, unload_look, 0, LOOK_MS);
}
