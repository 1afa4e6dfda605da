#include "tests/daemon/asks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void on_event(void *who, const struct bn_event *e)
{
	struct ask *a = who;

	assert_int_equal(a->done, 0);
	a->events++;
	switch (e->kind) {
	case BN_EVENT_QUEUED:
		a->queued++;
		break;
	case BN_EVENT_STATUS:
		a->loading++;
		break;
	case BN_EVENT_PROGRESS:
		a->progress++;
		break;
	default:
		a->deltas++;
		a->tokens += (uint32_t)e->body.delta.n;
		assert_true(a->n_text + e->body.delta.text.n < TEXT_MAX);
		memcpy(a->text + a->n_text, e->body.delta.text.at, e->body.delta.text.n);
		a->n_text += e->body.delta.text.n;
		break;
	}
}

static void on_done(void *who, const struct bn_outcome *o, const struct bn_error *err)
{
	struct ask *a = who;

	assert_int_equal(a->done++, 0);
	a->request = NULL;
	if (err != NULL) {
		assert_null(o);
		a->failed = true;
		a->err = *err;
		return;
	}
	if (a->deltas == 0) {
		assert_true(o->text.n < TEXT_MAX);
		memcpy(a->text, o->text.at, o->text.n);
		a->n_text = o->text.n;
	}
	a->completion = o->completion_tokens;
	a->seed = o->seed;
	a->reason = o->finish_reason;
	a->load_ns = o->load_ns;
	a->queue_ns = o->queue_ns;
}

struct asks *asks_open(uint32_t max_batch)
{
	struct asks *s = calloc(1, sizeof(*s));
	struct bn_requests_limits limits = {
		.queue = 40, .queue_per_model = 30, .queue_per_user = 20, .max_batch = max_batch
	};

	rig_up(&s->rig);
	rig_scheduler(&s->rig, 1, max_batch, 32, NULL, NULL);
	rig_model(&s->rig, "ann", 1, 8192);
	rig_model(&s->rig, "bob", 2, 8192);
	rig_registry(&s->rig, UINT64_C(256) << 20, 100, 100);
	rig_requests(&s->rig, &limits);
	return s;
}

void asks_close(struct asks *s)
{
	rig_down(&s->rig);
	free(s);
}

union bn_params asks_params(const char *model, const char *prompt, int64_t max_tokens)
{
	union bn_params p = { 0 };

	p.completions.group.has_model = true;
	p.completions.group.model = bn_text_of(model);
	p.completions.has_prompt = true;
	p.completions.prompt.text = bn_text_of(prompt);
	p.completions.group.has_max_tokens = max_tokens > 0;
	p.completions.group.max_tokens = max_tokens;
	p.completions.group.has_ignore_eos = true;
	p.completions.group.ignore_eos = true;
	p.completions.group.has_seed = true;
	p.completions.group.seed = 5;
	return p;
}

enum bn_status asks_start_as(struct asks *s, const union bn_params *p, uid_t uid, struct ask **out,
			     struct bn_error *err)
{
	struct ask *a = &s->ask[s->n++];
	struct bn_request_order o = { .method = BN_METHOD_COMPLETIONS,
				      .params = p,
				      .uid = uid,
				      .sink = { on_event, on_done, a } };
	enum bn_status status;

	assert_true(s->n <= ASKS_MAX);
	bn_enter_loop();
	status = bn_requests_start(s->rig.requests, &o, &a->request, err);
	assert_int_equal(a->done, 0); /* never from inside */
	*out = a;
	return status;
}

struct ask *asks_start(struct asks *s, const union bn_params *p)
{
	struct ask *a;
	struct bn_error err;

	if (asks_start_as(s, p, 1, &a, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return a;
}

bool ask_is_done(void *who)
{
	return ((struct ask *)who)->done > 0;
}

bool ask_has_text(void *who)
{
	return ((struct ask *)who)->deltas > 1;
}

void asks_until_done(struct asks *s, struct ask *a)
{
	rig_until(&s->rig, ask_is_done, a);
}

struct ask *asks_finish_one(struct asks *s, const union bn_params *p)
{
	struct ask *a = asks_start(s, p);

	asks_until_done(s, a);
	if (a->failed) {
		fail_msg("%s", a->err.text);
	}
	return a;
}

bool asks_are_settled(void *who)
{
	struct asks *s = who;

	bn_enter_loop();
	return bn_budget_used_by_kind(s->rig.budget, BN_BUDGET_KV) == 0 &&
	       bn_registry_waiting(s->rig.registry) == 0 &&
	       bn_requests_count(s->rig.requests).running == 0 &&
	       bn_requests_count(s->rig.requests).waiting == 0;
}

void asks_settle(struct asks *s)
{
	rig_until(&s->rig, asks_are_settled, s);
}

void asks_expect(struct asks *s, const union bn_params *p, enum bn_status status, const char *words)
{
	struct ask *a;
	struct bn_error err;
	enum bn_status got = asks_start_as(s, p, 1, &a, &err);

	if (got == BN_OK) {
		asks_until_done(s, a);
		assert_true(a->failed);
		err = a->err;
		got = err.status;
	}
	assert_int_equal(got, status);
	if (strstr(err.text, words) == NULL) {
		fail_msg("'%s' is not in '%s'", words, err.text);
	}
}
