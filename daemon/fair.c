/*
 * A ring and a linear scan: parties are models (a handful) or users of one machine (tens), and the
 * scan happens once per step of tens of milliseconds. A heap would be more code than the scan
 * costs in a year.
 *
 * vtime counts whole units of cost / weight and the remainder is carried in `rest`, so shares are
 * exact over any time; 2^64 ns are 584 years. The remainder is kept in units of the present
 * weight and dropped when the weight changes.
 */
#include "daemon/fair.h"

#include "proto/assert.h"

void bn_fair_init(struct bn_fair *f)
{
	*f = (struct bn_fair){ 0 };
	f->head.before = &f->head;
	f->head.after = &f->head;
}

static void unlink_party(struct bn_fair_party *p)
{
	p->before->after = p->after;
	p->after->before = p->before;
	p->before = NULL;
	p->after = NULL;
}

/* At the tail: among equals the one that waited longest stands first. */
static void link_party(struct bn_fair *f, struct bn_fair_party *p)
{
	p->before = f->head.before;
	p->after = &f->head;
	p->before->after = p;
	p->after->before = p;
}

struct bn_fair_party *bn_fair_pick(const struct bn_fair *f)
{
	struct bn_fair_party *best = NULL;

	for (struct bn_fair_party *p = f->head.after; p != &f->head; p = p->after) {
		if (best == NULL || p->vtime < best->vtime) {
			best = p;
		}
	}
	return best;
}

struct bn_fair_party *bn_fair_pick_after(const struct bn_fair *f, const struct bn_fair_party *than)
{
	struct bn_fair_party *best = NULL;
	bool passed = false; /* equals that stand behind `than` in the ring come after it */

	for (struct bn_fair_party *p = f->head.after; p != &f->head; p = p->after) {
		bool later = p->vtime > than->vtime || (p->vtime == than->vtime && passed);

		if (p == than) {
			passed = true;
			continue;
		}
		if (later && (best == NULL || p->vtime < best->vtime)) {
			best = p;
		}
	}
	return best;
}

void bn_fair_wake(struct bn_fair *f, struct bn_fair_party *p, uint32_t weight)
{
	bn_assert(weight >= 1 && weight <= BN_FAIR_WEIGHT_MAX);
	if (p->weight != weight) {
		p->weight = weight;
		p->rest = 0;
	}
	if (p->active) {
		return;
	}
	const struct bn_fair_party *least = bn_fair_pick(f);
	uint64_t start = least != NULL ? least->vtime : f->clock;

	if (p->vtime < start) {
		p->vtime = start;
		p->rest = 0;
	}
	p->active = true;
	link_party(f, p);
}

void bn_fair_sleep(struct bn_fair *f, struct bn_fair_party *p)
{
	if (!p->active) {
		return;
	}
	/* The last one out leaves the time at which the next one in will start. */
	const struct bn_fair_party *least = bn_fair_pick(f);

	if (least->vtime > f->clock) {
		f->clock = least->vtime;
	}
	p->active = false;
	unlink_party(p);
}

void bn_fair_charge(struct bn_fair *f, struct bn_fair_party *p, uint64_t cost)
{
	uint64_t sum;

	bn_assert(p->weight > 0);
	sum = cost + p->rest;
	p->vtime += sum / p->weight;
	p->rest = (uint32_t)(sum % p->weight);
	if (p->active) {
		unlink_party(p);
		link_party(f, p);
	}
}
