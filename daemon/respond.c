/*
 * Fields marked with a question mark in the schema are left out when they are not known, never
 * sent as nil or as a number that means "none".
 */
#include "daemon/respond.h"

#include <stdio.h>

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void size(struct bn_pack *p, const char *key, uint64_t n)
{
	bn_pack_int(p, key, n > INT64_MAX ? INT64_MAX : (int64_t)n);
}

static void size_if(struct bn_pack *p, const char *key, uint64_t n)
{
	if (n != 0) {
		size(p, key, n);
	}
}

void bn_respond_memory(struct bn_pack *p, const struct bn_budget *b)
{
	bn_pack_map(p, "memory");
	size(p, "budget_bytes", bn_budget_limit(b));
	size(p, "used_bytes", bn_budget_used(b));
	size(p, "weights_bytes", bn_budget_used_by_kind(b, BN_BUDGET_WEIGHTS));
	size(p, "kv_bytes", bn_budget_used_by_kind(b, BN_BUDGET_KV));
	size(p, "scratch_bytes", bn_budget_used_by_kind(b, BN_BUDGET_SCRATCH));
	bn_pack_end(p);
}

static void keep_alive(struct bn_pack *p, const struct bn_entry *e)
{
	if (e->keep_alive_ms >= 0) {
		bn_pack_int(p, "keep_alive_ms", e->keep_alive_ms);
	}
}

static void model(struct bn_pack *p, struct bn_registry *r, const struct bn_requests *q,
		  const struct bn_entry *e) BN_ON_LOOP
{
	struct bn_requests_count n = bn_requests_count_model(q, e);
	bool held = e->state == BN_ENTRY_READY || e->state == BN_ENTRY_DRAINING ||
		    e->phase == BN_ENTRY_READING;

	bn_pack_map(p, NULL);
	bn_pack_str(p, "model", e->config.name);
	bn_pack_str(p, "state", bn_entry_state_word(e->state));
	if (e->state == BN_ENTRY_READY) {
		bn_pack_str(p, "kernel", e->info.kernel);
	}
	size(p, "weights_bytes", held ? e->weights_bytes : 0);
	size(p, "kv_bytes", e->kv_bytes);
	size(p, "scratch_bytes", held ? e->scratch_bytes : 0);
	bn_pack_int(p, "running", n.running);
	bn_pack_int(p, "queued", n.waiting);
	bn_pack_bool(p, "pinned", e->pinned);
	if (e->state == BN_ENTRY_LOADING) {
		bn_pack_num(p, "progress", bn_entry_progress(e));
	}
	keep_alive(p, e);
	size_if(p, "expires_ms", bn_registry_expires_ms(r, e));
	size_if(p, "loaded_ms", e->state == BN_ENTRY_READY ? e->loaded_ms : 0);
	size_if(p, "last_used_ms", e->used_ms);
	bn_pack_end(p);
}

void bn_respond_ps(struct bn_pack *p, struct bn_registry *r, const struct bn_requests *q)
{
	bn_pack_array(p, "models");
	for (const struct bn_entry *e = bn_registry_first(r); e != NULL; e = e->next) {
		if (e->state == BN_ENTRY_LOADING || e->state == BN_ENTRY_READY ||
		    e->state == BN_ENTRY_DRAINING) {
			model(p, r, q, e);
		}
	}
	bn_pack_end(p);
}

void bn_respond_departures(struct bn_pack *p, const struct bn_registry *r)
{
	const struct bn_departure *d;

	bn_pack_array(p, "evictions");
	for (uint32_t i = 0; (d = bn_registry_departure(r, i)) != NULL; i++) {
		bn_pack_map(p, NULL);
		bn_pack_str(p, "model", d->name);
		bn_pack_str(p, "reason", bn_departure_word(d->reason));
		if (d->by[0] != '\0') {
			bn_pack_str(p, "for", d->by);
		}
		size(p, "freed_bytes", d->bytes);
		size(p, "ts_ms", d->unix_ms);
		bn_pack_end(p);
	}
	bn_pack_end(p);
}

static void aliases(struct bn_pack *p, const struct bn_entry *e)
{
	bn_pack_array(p, "aliases");
	for (uint32_t i = 0; i < e->config.aliases.n; i++) {
		bn_pack_str(p, NULL, e->config.aliases.at[i]);
	}
	bn_pack_end(p);
}

void bn_respond_list(struct bn_pack *p, struct bn_registry *r)
{
	bn_pack_array(p, "models");
	for (const struct bn_entry *e = bn_registry_first(r); e != NULL; e = e->next) {
		if (e->removed) {
			continue;
		}
		bn_pack_map(p, NULL);
		bn_pack_str(p, "model", e->config.name);
		aliases(p, e);
		bn_pack_str(p, "state", bn_entry_state_word(e->state));
		size_if(p, "size_bytes", e->file_bytes);
		size_if(p, "context", e->has_info ? e->info.context : 0);
		if (e->has_info && e->info.known != NULL) {
			bn_pack_str(p, "known", e->info.known);
		}
		bn_pack_bool(p, "pinned", e->pinned);
		if (e->state == BN_ENTRY_FAILED) {
			bn_pack_str(p, "error", e->error.text);
		}
		bn_pack_end(p);
	}
	bn_pack_end(p);
}

static void info(struct bn_pack *p, const struct bn_entry *e)
{
	const struct bn_model_info *i = &e->info;

	if (i->digest[0] != '\0') {
		bn_pack_str(p, "digest", i->digest);
	}
	if (i->known != NULL) {
		bn_pack_str(p, "known", i->known);
	}
	if (i->licence[0] != '\0') {
		bn_pack_str(p, "licence", i->licence);
	}
	bn_pack_str(p, "architecture", i->architecture);
	size(p, "parameters", i->parameters);
	bn_pack_int(p, "context", i->context);
	bn_pack_int(p, "layers", i->layers);
	bn_pack_int(p, "dim", i->dim);
	bn_pack_int(p, "heads", i->heads);
	bn_pack_int(p, "kv_heads", i->kv_heads);
	bn_pack_int(p, "vocabulary", i->vocab);
	if (i->pooling != NULL) {
		bn_pack_str(p, "pooling", i->pooling);
	} else {
		bn_pack_str(p, "template", i->chat_template);
	}
	bn_pack_str(p, "kernel", i->kernel);
	bn_pack_str(p, "kernel_reason", i->kernel_why);
	if (i->n_warnings > 0) {
		bn_pack_array(p, "warnings");
		for (uint32_t k = 0; k < i->n_warnings; k++) {
			bn_pack_str(p, NULL, i->warnings[k]);
		}
		bn_pack_end(p);
	}
	bn_pack_map(p, "bytes");
	size(p, "weights", e->weights_bytes);
	size(p, "kv_per_token", i->kv_position_bytes);
	size(p, "scratch", e->scratch_bytes);
	bn_pack_end(p);
}

static void sampling(struct bn_pack *p, const struct bn_config_sampling *s)
{
	bn_pack_map(p, "sampling");
#define NUMBER(field)                             \
	if (s->has_##field) {                     \
		bn_pack_num(p, #field, s->field); \
	}
#define WHOLE(field)                              \
	if (s->has_##field) {                     \
		bn_pack_int(p, #field, s->field); \
	}
	NUMBER(temperature)
	WHOLE(top_k)
	NUMBER(top_p)
	NUMBER(min_p)
	NUMBER(typical_p)
	NUMBER(repeat_penalty)
	WHOLE(repeat_last_n)
	NUMBER(presence_penalty)
	NUMBER(frequency_penalty)
#undef NUMBER
#undef WHOLE
	bn_pack_end(p);
}

void bn_respond_show(struct bn_pack *p, const struct bn_entry *e)
{
	bn_pack_str(p, "model", e->config.name);
	aliases(p, e);
	bn_pack_str(p, "state", bn_entry_state_word(e->state));
	if (e->state == BN_ENTRY_FAILED) {
		bn_pack_str(p, "error", e->error.text);
	}
	bn_pack_str(p, "path", e->config.path);
	size_if(p, "size_bytes", e->file_bytes);
	if (e->has_info) {
		info(p, e);
	}
	bn_pack_bool(p, "pinned", e->pinned);
	keep_alive(p, e);
	sampling(p, &e->config.sampling);
}

void bn_respond_outcome(struct bn_pack *p, enum bn_method method, const struct bn_outcome *o,
			bool streamed)
{
	size_t tops = (size_t)o->n_tokens * o->n_top;

	bn_pack_str(p, "model", o->entry->config.name);
	bn_pack_str(p, "digest", o->entry->info.digest);
	bn_pack_str(p, "kernel", o->entry->info.kernel);
	if (method == BN_METHOD_CHAT_COMPLETIONS) {
		bn_pack_map(p, "message");
		bn_pack_str(p, "role", "assistant");
		if (!streamed) {
			bn_pack_text(p, "content", o->text);
		}
		bn_pack_end(p);
	} else if (!streamed) {
		bn_pack_text(p, "text", o->text);
	}
	if (o->has_logprobs) {
		bn_pack_u32s(p, "tokens", o->tokens, o->n_tokens);
		bn_pack_f32s(p, "logprobs", o->logprobs, o->n_tokens);
		if (tops > 0) {
			bn_pack_u32s(p, "top_tokens", o->top_tokens, tops);
			bn_pack_f32s(p, "top_logprobs", o->top_logprobs, tops);
		}
	}
	bn_pack_str(p, "finish_reason", o->finish_reason);
	bn_pack_int(p, "seed", o->seed);
	bn_pack_map(p, "usage");
	bn_pack_int(p, "prompt_tokens", o->prompt_tokens);
	bn_pack_int(p, "completion_tokens", o->completion_tokens);
	bn_pack_int(p, "cached_tokens", o->cached_tokens);
	bn_pack_end(p);
	bn_pack_map(p, "timings");
	bn_pack_num(p, "queue_ms", ms(o->queue_ns));
	bn_pack_num(p, "load_ms", ms(o->load_ns));
	bn_pack_num(p, "prefill_ms", ms(o->prefill_ns));
	bn_pack_num(p, "decode_ms", ms(o->decode_ns));
	bn_pack_num(p, "tok_per_s",
		    o->decode_ns == 0 ? 0.0
				      : (double)o->completion_tokens * 1e9 / (double)o->decode_ns);
	bn_pack_end(p);
}
