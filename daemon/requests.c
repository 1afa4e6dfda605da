#include "daemon/requests.h"

#include "proto/assert.h"

#include <stdlib.h>

struct bn_requests {
	struct bn_request_context context;
	bool draining, closing;
	void (*closed)(void *who);
	void *closed_who;
};

static void on_deadlines_closed(void *who)
{
	struct bn_requests *q = who;

	q->closed(q->closed_who);
	free(q);
}

static void close_if_empty(void *who)
{
	struct bn_requests *q = who;

	bn_enter_loop();
	if (q->closing && q->context.admission.first == NULL) {
		bn_deadlines_close(&q->context.deadlines, on_deadlines_closed, q);
	}
}

enum bn_status bn_requests_new(struct bn_requests **out, const struct bn_requests_config *config,
			       struct bn_error *err)
{
	struct bn_requests *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for requests");
	}
	q->context = (struct bn_request_context){
		.loop = config->loop,
		.registry = config->registry,
		.scheduler = config->scheduler,
		.metrics = config->metrics,
		.gone = close_if_empty,
		.who = q,
		.admission = { .limits = config->limits, .metrics = config->metrics },
	};
	bn_deadlines_init(&q->context.deadlines, config->loop);
	*out = q;
	return BN_OK;
}

enum bn_status bn_requests_start(struct bn_requests *q, const struct bn_request_order *order,
				 struct bn_request **out, struct bn_error *err)
{
	if (q->draining) {
		return bn_fail(err, BN_E_DRAINING, "%s", bn_status_sentence(BN_E_DRAINING));
	}
	return bn_request_start(&q->context, order, out, err);
}

void bn_requests_on_step(struct bn_requests *q, const struct bn_step_event *event)
{
	if (event->kind == BN_STEP_STEP) {
		bn_metrics_add(q->context.metrics, BN_METRIC_STEPS, NULL, 1);
		bn_metrics_observe(q->context.metrics, BN_METRIC_STEP_SECONDS, NULL,
				   (double)event->ns / 1e9);
	} else {
		bn_request_on_step(event);
	}
}

void bn_requests_set_limits(struct bn_requests *q, const struct bn_requests_limits *limits)
{
	q->context.admission.limits = *limits;
}

void bn_requests_drain(struct bn_requests *q)
{
	q->draining = true;
}

/* Of model `e`, or all. */
static void cancel(struct bn_requests *q, const struct bn_entry *e,
		   enum bn_status reason) BN_ON_LOOP
{
	struct bn_place *after;

	for (struct bn_place *p = q->context.admission.first; p != NULL; p = after) {
		after = p->after;
		if (e == NULL || p->entry == e) {
			bn_request_cancel(bn_request_of(p), reason);
		}
	}
}

void bn_requests_cancel_all(struct bn_requests *q, enum bn_status reason)
{
	cancel(q, NULL, reason);
}

void bn_requests_cancel_model(struct bn_requests *q, const struct bn_entry *e,
			      enum bn_status reason)
{
	cancel(q, e, reason);
}

void bn_requests_abandon(struct bn_requests *q)
{
	struct bn_error err;

	bn_fail(&err, BN_E_INTERNAL, "the workers do not move; the request was given up");
	for (struct bn_place *p = q->context.admission.first; p != NULL; p = p->after) {
		bn_request_abandon(bn_request_of(p), &err);
	}
}

void bn_requests_close(struct bn_requests *q, void (*closed)(void *who), void *who)
{
	bn_assert(!q->closing);
	q->draining = true;
	q->closing = true;
	q->closed = closed;
	q->closed_who = who;
	close_if_empty(q);
}

struct bn_requests_count bn_requests_count(const struct bn_requests *q)
{
	return bn_admission_count(&q->context.admission);
}

struct bn_requests_count bn_requests_count_uid(const struct bn_requests *q, uid_t uid)
{
	return bn_admission_count_uid(&q->context.admission, uid);
}

struct bn_requests_count bn_requests_count_model(const struct bn_requests *q,
						 const struct bn_entry *e)
{
	return bn_admission_count_model(&q->context.admission, e);
}

struct bn_requests_totals bn_requests_totals(const struct bn_requests *q)
{
	return q->context.totals;
}
