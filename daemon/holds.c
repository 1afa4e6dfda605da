/*
 * Two lists: who waits, kept by arrival, and who is decided. Decisions are told later so that a
 * hook may call back without meeting a look that is half done. The order of turns depends on what
 * users have been served so far, so it is made anew for each look, in an array that is kept.
 */
#include "daemon/holds.h"

#include "proto/assert.h"

#include <stdlib.h>

/* What one uid has had; lives while it has a hold. */
struct bn_holder {
	struct bn_holder *next;
	uid_t uid;
	uint32_t holds;
	uint64_t served;  /* grants of memory, from the level of the others when he came */
	uint64_t counter; /* of one sort */
};

/* --- users ---------------------------------------------------------------------------------- */

static struct bn_holder *join_user(struct bn_holds *all, uid_t uid) BN_ON_LOOP
{
	struct bn_holder *u = all->users;
	uint64_t least = u != NULL ? u->served : 0;

	while (u != NULL && u->uid != uid) {
		least = u->served < least ? u->served : least;
		u = u->next;
	}
	if (u == NULL) {
		u = calloc(1, sizeof(*u));
		bn_assert(u != NULL);
		u->uid = uid;
		u->served = least;
		u->next = all->users;
		all->users = u;
	}
	u->holds++;
	return u;
}

/* The hold has nothing any more, and its user one less. */
static void forget(struct bn_holds *all, struct bn_hold *h) BN_ON_LOOP
{
	struct bn_holder *u = h->user;
	struct bn_holder **at = &all->users;

	h->user = NULL;
	h->entry = NULL;
	if (--u->holds > 0) {
		return;
	}
	while (*at != u) {
		at = &(*at)->next;
	}
	*at = u->next;
	free(u);
}

/* --- waiting -------------------------------------------------------------------------------- */

static void wait_in_line(struct bn_holds *all, struct bn_hold *h,
			 enum bn_hold_state state) BN_ON_LOOP
{
	struct bn_hold *before = all->last;

	/* By arrival: one who comes back for memory keeps his place. */
	while (before != NULL && before->arrival > h->arrival) {
		before = before->before;
	}
	h->before = before;
	h->after = before != NULL ? before->after : all->first;
	*(h->before != NULL ? &h->before->after : &all->first) = h;
	*(h->after != NULL ? &h->after->before : &all->last) = h;
	h->state = state;
	h->position = UINT32_MAX;
	h->loaded = -1.0;
	h->entry->waiting++;
	all->n_waiting++;
}

static void stop_waiting(struct bn_holds *all, struct bn_hold *h) BN_ON_LOOP
{
	*(h->before != NULL ? &h->before->after : &all->first) = h->after;
	*(h->after != NULL ? &h->after->before : &all->last) = h->before;
	h->before = NULL;
	h->after = NULL;
	h->entry->waiting--;
	all->n_waiting--;
}

static void decide(struct bn_holds *all, struct bn_hold *h, enum bn_hold_state state) BN_ON_LOOP
{
	stop_waiting(all, h);
	h->state = state;
	h->decided = true;
	h->next = NULL;
	*(all->told_last != NULL ? &all->told_last->next : &all->told_first) = h;
	all->told_last = h;
}

static void undecide(struct bn_holds *all, struct bn_hold *h) BN_ON_LOOP
{
	struct bn_hold *before = NULL;

	for (struct bn_hold *at = all->told_first; at != h; at = at->next) {
		before = at;
	}
	*(before != NULL ? &before->next : &all->told_first) = h->next;
	if (all->told_last == h) {
		all->told_last = before;
	}
	h->decided = false;
}

void bn_holds_finish(struct bn_holds *all)
{
	bn_assert(!bn_holds_has_holds(all));
	free(all->sorted);
}

bool bn_holds_has_holds(const struct bn_holds *all)
{
	return all->users != NULL;
}

void bn_holds_join(struct bn_holds *all, struct bn_hold *h, struct bn_entry *e, uint64_t now_ms)
{
	bn_assert(h->state == BN_HOLD_NONE && !h->decided);
	h->entry = e;
	h->user = join_user(all, h->uid);
	h->since_ms = now_ms;
	h->arrival = ++all->arrivals;
	h->wanted_bytes = 0;
	h->bytes = 0;
	wait_in_line(all, h, BN_HOLD_MODEL);
}

void bn_holds_wait_memory(struct bn_holds *all, struct bn_hold *h, uint64_t bytes)
{
	bn_assert(h->state == BN_HOLD_GRANTED && !h->decided && h->bytes == 0 && bytes > 0);
	h->entry->live--;
	h->wanted_bytes = bytes;
	wait_in_line(all, h, BN_HOLD_MEMORY);
}

void bn_holds_leave(struct bn_holds *all, struct bn_hold *h)
{
	if (h->state == BN_HOLD_GRANTED) {
		h->entry->live--;
	}
	if (h->decided) {
		undecide(all, h);
	} else if (h->state != BN_HOLD_GRANTED) {
		stop_waiting(all, h);
	}
	h->state = BN_HOLD_NONE;
	forget(all, h);
}

/* --- whose turn it is ----------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const struct bn_hold *x = *(struct bn_hold *const *)a;
	const struct bn_hold *y = *(struct bn_hold *const *)b;

	if (x->promoted != y->promoted) {
		return x->promoted ? -1 : 1;
	}
	if (!x->promoted && x->rank != y->rank) {
		return x->rank < y->rank ? -1 : 1;
	}
	return x->arrival < y->arrival ? -1 : 1;
}

void bn_holds_sort(struct bn_holds *all,
		   bool (*puts_first)(const void *who, const struct bn_hold *h), const void *who)
{
	if (all->n_waiting > all->sorted_room) {
		size_t room = (size_t)all->n_waiting * 2;

		free(all->sorted);
		all->sorted = calloc(room, sizeof(struct bn_hold *));
		bn_assert(all->sorted != NULL);
		all->sorted_room = room;
	}
	for (struct bn_holder *u = all->users; u != NULL; u = u->next) {
		u->counter = u->served;
	}
	all->n_sorted = 0;
	for (struct bn_hold *h = all->first; h != NULL; h = h->after) {
		h->rank = h->user->counter++;
		h->promoted = puts_first(who, h);
		all->sorted[all->n_sorted++] = h;
	}
	if (all->n_sorted > 1) {
		qsort(all->sorted, all->n_sorted, sizeof(struct bn_hold *), compare);
	}
}

/* --- deciding and telling ------------------------------------------------------------------- */

void bn_holds_grant(struct bn_holds *all, struct bn_hold *h)
{
	h->user->served += h->state == BN_HOLD_MEMORY;
	decide(all, h, BN_HOLD_GRANTED);
	h->entry->live++;
}

void bn_holds_refuse(struct bn_holds *all, struct bn_hold *h, const struct bn_error *err)
{
	decide(all, h, BN_HOLD_NONE);
	h->error = *err;
}

void bn_holds_refuse_all(struct bn_holds *all, const struct bn_entry *e, const struct bn_error *err)
{
	struct bn_hold *next;

	for (struct bn_hold *h = all->first; h != NULL; h = next) {
		next = h->after;
		if (h->entry == e) {
			bn_holds_refuse(all, h, err);
		}
	}
}

void bn_holds_tell_places(struct bn_holds *all)
{
	uint32_t position = 0;

	for (size_t i = 0; i < all->n_sorted; i++) {
		struct bn_hold *h = all->sorted[i];
		double loaded = -1.0;

		if (h->decided) {
			continue;
		}
		if (h->entry->state == BN_ENTRY_LOADING) {
			loaded = bn_entry_progress(h->entry);
		}
		if ((h->position != position || h->loaded < loaded || h->loaded > loaded) &&
		    h->hooks->waiting != NULL) {
			h->hooks->waiting(h, position, loaded);
		}
		h->position = position++;
		h->loaded = loaded;
	}
}

void bn_holds_tell(struct bn_holds *all)
{
	while (all->told_first != NULL) {
		struct bn_hold *h = all->told_first;

		undecide(all, h);
		if (h->state == BN_HOLD_NONE) {
			struct bn_error err = h->error; /* the hook may free the hold */

			forget(all, h);
			h->hooks->failed(h, &err);
		} else {
			h->hooks->granted(h);
		}
	}
}
