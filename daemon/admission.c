/*
 * Counts are made by walking: the limits bound the walk to some hundred places, and what is not
 * kept cannot drift.
 */
#include "daemon/admission.h"

#include "proto/assert.h"

#include <inttypes.h>

enum { QUEUE_BYTES_MAX = 64 << 20 }; /* prompts that wait, all together */

static struct bn_requests_count count(const struct bn_admission *a, const uid_t *uid,
				      const struct bn_entry *e) BN_ON_LOOP
{
	struct bn_requests_count c = { 0 };

	for (const struct bn_place *p = a->first; p != NULL; p = p->after) {
		if ((uid != NULL && p->uid != *uid) || (e != NULL && p->entry != e)) {
			continue;
		}
		if (p->state == BN_PLACE_RUNS) {
			c.running++;
		} else if (p->state == BN_PLACE_WAITS) {
			c.waiting++;
			c.waiting_by_priority[p->priority]++;
		}
	}
	return c;
}

struct bn_requests_count bn_admission_count(const struct bn_admission *a)
{
	return count(a, NULL, NULL);
}

struct bn_requests_count bn_admission_count_uid(const struct bn_admission *a, uid_t uid)
{
	return count(a, &uid, NULL);
}

struct bn_requests_count bn_admission_count_model(const struct bn_admission *a,
						  const struct bn_entry *e)
{
	return count(a, NULL, e);
}

static void gauge(const struct bn_admission *a) BN_ON_LOOP
{
	struct bn_requests_count c = count(a, NULL, NULL);

	bn_metrics_set(a->metrics, BN_METRIC_REQUESTS_RUNNING, NULL, c.running);
	bn_metrics_set(a->metrics, BN_METRIC_REQUESTS_WAITING, NULL, c.waiting);
}

/* --- refusals ------------------------------------------------------------------------------- */

static enum bn_status full(struct bn_error *err, enum bn_status status, const char *what,
			   uint32_t n, uint32_t limit)
{
	bn_fail(err, status, "%s: %" PRIu32 " of %" PRIu32 " waiting", what, n, limit);
	bn_error_number(err, "retry_after_ms", 1000);
	bn_error_number(err, "queue_depth", n);
	bn_error_number(err, "limit", limit);
	return status;
}

static enum bn_status check(const struct bn_admission *a, const struct bn_place *p, bool no_wait,
			    struct bn_error *err) BN_ON_LOOP
{
	const struct bn_requests_limits *l = &a->limits;
	struct bn_requests_count all = bn_admission_count(a);
	uint32_t mine = bn_admission_count_uid(a, p->uid).waiting;
	uint32_t here = bn_admission_count_model(a, p->entry).waiting;

	if (mine >= l->queue_per_user) {
		return full(err, BN_E_QUEUE_FULL, "client queue full", mine, l->queue_per_user);
	}
	if (here >= l->queue_per_model) {
		return full(err, BN_E_OVERLOADED, "the queue of this model is full", here,
			    l->queue_per_model);
	}
	if (all.waiting >= l->queue) {
		return full(err, BN_E_OVERLOADED, "the queue is full", all.waiting, l->queue);
	}
	if (a->queue_bytes + p->prompt_bytes > QUEUE_BYTES_MAX) {
		bn_fail(err, BN_E_OVERLOADED,
			"the prompts that wait fill their %d MiB; try again later",
			QUEUE_BYTES_MAX >> 20);
		bn_error_number(err, "retry_after_ms", 1000);
		return BN_E_OVERLOADED;
	}
	if (no_wait && all.running >= l->max_batch) {
		bn_fail(err, BN_E_OVERLOADED,
			"all %" PRIu32 " places are taken, and the request said queue: \"fail\"",
			l->max_batch);
		bn_error_number(err, "retry_after_ms", 1000);
		return BN_E_OVERLOADED;
	}
	return BN_OK;
}

/* --- coming and going ----------------------------------------------------------------------- */

enum bn_status bn_admission_enter(struct bn_admission *a, struct bn_place *p, bool no_wait,
				  struct bn_error *err)
{
	enum bn_status status = check(a, p, no_wait, err);

	if (status != BN_OK) {
		return status;
	}
	p->state = BN_PLACE_WAITS;
	p->before = a->last;
	p->after = NULL;
	*(a->last != NULL ? &a->last->after : &a->first) = p;
	a->last = p;
	a->queue_bytes += p->prompt_bytes;
	gauge(a);
	return BN_OK;
}

void bn_admission_run(struct bn_admission *a, struct bn_place *p)
{
	bn_assert(p->state == BN_PLACE_WAITS);
	p->state = BN_PLACE_RUNS;
	a->queue_bytes -= p->prompt_bytes;
	p->prompt_bytes = 0;
	gauge(a);
}

void bn_admission_answered(struct bn_admission *a, struct bn_place *p)
{
	p->state = BN_PLACE_ANSWERED;
	gauge(a);
}

void bn_admission_leave(struct bn_admission *a, struct bn_place *p)
{
	bn_assert(p->state == BN_PLACE_ANSWERED);
	*(p->before != NULL ? &p->before->after : &a->first) = p->after;
	*(p->after != NULL ? &p->after->before : &a->last) = p->before;
	a->queue_bytes -= p->prompt_bytes;
}
