#include "daemon/lineup.h"

#include "proto/assert.h"

#include <stdlib.h>

enum {
	ALONE_TARGETS = 4,   /* times the target while nobody decodes                        */
	PROMPT_ROWS_MIN = 4, /* progress even when decoding alone takes the whole target    */
	PROBE_ROWS = 16,     /* first piece of a prompt when nothing is known of its cost   */
	LEARN_ROWS = 8,      /* smaller pieces say little about the cost of a row           */
	COST_PROMPT = 1,     /* of a token, for shares between clients (VTC, OSDI'24)       */
	COST_TOKEN = 2,
	ACCOUNTS_KEPT = 256, /* idle ones are remembered up to so many */
};

struct bn_account {
	struct bn_fair_party party;
	struct bn_account *next;
	uid_t uid;
	uint32_t works;
};

enum bn_status bn_lineup_init(struct bn_lineup *l, const struct bn_lineup_config *config,
			      struct bn_error *err)
{
	size_t most = (size_t)config->max_batch + config->prefill_chunk;
	enum bn_status status;

	bn_assert(config->max_batch > 0 && config->prefill_chunk > 0);
	*l = (struct bn_lineup){ .config = *config };
	bn_fair_init(&l->tenants);
	bn_fair_init(&l->clients);
	l->step = most <= UINT32_MAX ? calloc(most, sizeof(struct bn_work *)) : NULL;
	if (l->step == NULL) {
		*l = (struct bn_lineup){ 0 };
		return bn_fail(err, BN_E_MEMORY, "no memory for steps of %zu rows", most);
	}
	status = bn_batch_init(&l->batch, (uint32_t)most, config->max_batch, err);
	if (status != BN_OK) {
		free(l->step);
		*l = (struct bn_lineup){ 0 };
	}
	return status;
}

void bn_lineup_finish(struct bn_lineup *l)
{
	bn_assert(l->all == NULL);
	while (l->accounts != NULL) {
		struct bn_account *next = l->accounts->next;

		free(l->accounts);
		l->accounts = next;
	}
	bn_batch_finish(&l->batch);
	free(l->step);
	*l = (struct bn_lineup){ 0 };
}

/* --- lists ---------------------------------------------------------------------------------- */

static void append(struct bn_work_list *list, struct bn_work *w)
{
	w->before = list->last;
	w->after = NULL;
	if (list->last != NULL) {
		list->last->after = w;
	} else {
		list->first = w;
	}
	list->last = w;
}

static void detach(struct bn_work_list *list, struct bn_work *w)
{
	if (w->before != NULL) {
		w->before->after = w->after;
	} else {
		list->first = w->after;
	}
	if (w->after != NULL) {
		w->after->before = w->before;
	} else {
		list->last = w->before;
	}
	w->before = NULL;
	w->after = NULL;
}

/* --- who is here ---------------------------------------------------------------------------- */

static struct bn_account *find_account(struct bn_lineup *l, uid_t uid) BN_ON_LEAD
{
	struct bn_account **idle = NULL;
	struct bn_account *a;

	for (struct bn_account **at = &l->accounts; *at != NULL; at = &(*at)->next) {
		if ((*at)->uid == uid) {
			return *at;
		}
		if ((*at)->works == 0) {
			idle = at;
		}
	}
	if (l->n_accounts >= ACCOUNTS_KEPT && idle != NULL) {
		/* The one not seen for longest, for new ones go in front. */
		a = *idle;
		*idle = a->next;
		*a = (struct bn_account){ 0 };
	} else {
		a = calloc(1, sizeof(*a));
		bn_assert(a != NULL);
		l->n_accounts++;
	}
	a->uid = uid;
	a->next = l->accounts;
	l->accounts = a;
	return a;
}

/* Whether a step of this model would hold a row. Keeps the tenant's place in the ring. */
static void settle(struct bn_lineup *l, struct bn_tenant *t) BN_ON_LEAD
{
	bool work = t->n_active > 0;

	for (struct bn_work *w = t->waiting.first; w != NULL && !work; w = w->after) {
		work = !w->paused;
	}
	if (work) {
		bn_fair_wake(&l->tenants, &t->party, t->weight);
	} else {
		bn_fair_sleep(&l->tenants, &t->party);
	}
}

void bn_lineup_enter(struct bn_lineup *l, struct bn_work *w)
{
	w->begun = false;
	w->paused = w->start_paused;
	w->fed = 0;
	w->above = NULL;
	w->below = l->all;
	if (l->all != NULL) {
		l->all->above = w;
	}
	l->all = w;
	w->account = find_account(l, w->uid);
	w->account->works++;
	bn_fair_wake(&l->clients, &w->account->party, 1);
	append(&w->tenant->waiting, w);
	w->tenant->weight = w->weight;
	settle(l, w->tenant);
}

void bn_lineup_leave(struct bn_lineup *l, struct bn_work *w)
{
	struct bn_tenant *t = w->tenant;

	if (w->begun && !w->paused) {
		t->n_active--;
	}
	detach(w->begun ? &t->begun : &t->waiting, w);
	if (w->above != NULL) {
		w->above->below = w->below;
	} else {
		l->all = w->below;
	}
	if (w->below != NULL) {
		w->below->above = w->above;
	}
	if (--w->account->works == 0) {
		bn_fair_sleep(&l->clients, &w->account->party);
	}
	settle(l, t);
}

struct bn_work *bn_lineup_find(const struct bn_lineup *l, uint64_t id)
{
	struct bn_work *w = l->all;

	while (w != NULL && w->id != id) {
		w = w->below;
	}
	return w;
}

void bn_lineup_pause(struct bn_lineup *l, struct bn_work *w, bool pause)
{
	if (w->paused == pause) {
		return;
	}
	w->paused = pause;
	if (w->begun && pause) {
		w->tenant->n_active--;
	} else if (w->begun) {
		w->tenant->n_active++;
	}
	settle(l, w->tenant);
}

struct bn_tenant *bn_lineup_next(const struct bn_lineup *l)
{
	struct bn_fair_party *p = bn_fair_pick(&l->tenants);

	return p != NULL ? BN_FAIR_OWNER(p, struct bn_tenant, party) : NULL;
}

/* --- a step --------------------------------------------------------------------------------- */

/* How many prompt rows the next step may hold beside those that decode. */
static uint32_t prompt_rows(const struct bn_lineup *l, const struct bn_tenant *t) BN_ON_LEAD
{
	uint64_t target = l->config.step_target_ns;
	uint64_t rows = PROBE_ROWS;

	if (l->n_decoding == 0) {
		target *= ALONE_TARGETS;
	}
	if (t->row_ns != 0) {
		uint64_t taken = l->n_decoding > 0 ? t->decode_ns : 0;

		rows = taken < target ? (target - taken) / t->row_ns : 0;
		if (rows < PROMPT_ROWS_MIN) {
			rows = PROMPT_ROWS_MIN;
		}
	}
	return rows < l->config.prefill_chunk ? (uint32_t)rows : l->config.prefill_chunk;
}

/* Adds rows of a work to the step; how many. */
static uint32_t add(struct bn_lineup *l, struct bn_work *w, uint32_t most) BN_ON_LEAD
{
	w->fed = bn_batch_add(&l->batch, w->seq, most);
	if (w->fed > 0) {
		l->step[l->n_step++] = w;
	}
	return w->fed;
}

/* The first waiting work of the client who was served least. */
static struct bn_work *next_waiting(struct bn_lineup *l, struct bn_tenant *t) BN_ON_LEAD
{
	for (struct bn_fair_party *p = bn_fair_pick(&l->clients); p != NULL;
	     p = bn_fair_pick_after(&l->clients, p)) {
		struct bn_account *a = BN_FAIR_OWNER(p, struct bn_account, party);

		for (struct bn_work *w = t->waiting.first; w != NULL; w = w->after) {
			if (w->account == a && !w->paused) {
				return w;
			}
		}
	}
	return NULL;
}

static void begin(struct bn_lineup *l, struct bn_work *w) BN_ON_LEAD
{
	struct bn_tenant *t = w->tenant;

	detach(&t->waiting, w);
	append(&t->begun, w);
	w->begun = true;
	t->n_active++;
	l->n_begun++;
}

void bn_lineup_compose(struct bn_lineup *l, struct bn_tenant *t)
{
	uint32_t left;

	bn_batch_reset(&l->batch, t->model);
	l->n_step = 0;
	l->n_begun = 0;
	l->n_decoding = 0;
	for (struct bn_work *w = t->begun.first; w != NULL; w = w->after) {
		if (!w->paused && !bn_sequence_is_prefill(w->seq) &&
		    l->n_decoding < l->config.max_batch) {
			l->n_decoding += add(l, w, 1);
		}
	}
	left = prompt_rows(l, t);
	for (struct bn_work *w = t->begun.first; w != NULL && left > 0; w = w->after) {
		if (!w->paused && bn_sequence_is_prefill(w->seq)) {
			left -= add(l, w, left);
		}
	}
	while (left > 0 && t->n_active < l->config.max_batch) {
		struct bn_work *w = next_waiting(l, t);

		if (w == NULL) {
			break;
		}
		begin(l, w);
		left -= add(l, w, left);
		bn_assert(w->fed > 0); /* fewer than max_batch are active: there is an output */
	}
	bn_assert(l->batch.n_rows > 0); /* settle() said there is work */
}

static uint64_t mix(uint64_t old, uint64_t fresh)
{
	return old == 0 ? fresh : old - old / 4 + fresh / 4;
}

/* What the step says about the cost of the next one. */
static void learn(const struct bn_lineup *l, struct bn_tenant *t, uint64_t ns) BN_ON_LEAD
{
	uint32_t rows = l->batch.n_rows;
	uint32_t prompt = rows - l->n_decoding;

	if (prompt == 0) {
		t->decode_ns = mix(t->decode_ns, ns);
	} else if (prompt >= LEARN_ROWS || t->row_ns == 0) {
		uint64_t rest = l->n_decoding > 0 ? t->decode_ns : 0;
		uint64_t least = ns / rows; /* the decoding rows cost no less than prompt rows */
		uint64_t each = rest < ns ? (ns - rest) / prompt : 0;

		t->row_ns = mix(t->row_ns, each > least / 2 ? each : least / 2 + 1);
	}
}

void bn_lineup_charge(struct bn_lineup *l, struct bn_tenant *t, uint64_t ns)
{
	bool crowded = t->n_active > l->config.max_batch;

	learn(l, t, ns);
	bn_fair_charge(&l->tenants, &t->party, ns);
	for (uint32_t i = 0; i < l->n_step; i++) {
		struct bn_work *w = l->step[i];
		bool generated = w->seq->n_past > w->seq->n_prompt;

		bn_fair_charge(&l->clients, &w->account->party,
			       generated ? COST_TOKEN : (uint64_t)w->fed * COST_PROMPT);
		if (crowded) {
			detach(&t->begun, w);
			append(&t->begun, w);
		}
	}
}
