/*
 * A load is two jobs with a pause between them: the plan tells the exact bytes, the registry finds
 * room for them, only then is memory taken. What a plan itself holds (directory and tokenizer, a
 * few times the file's header) is small, and is part of what will be reserved.
 *
 * While a job is out its `struct bn_entry_load` belongs to the helper; the loop looks only at the
 * two atomics of `watch`.
 */
#include "daemon/entry.h"

#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct bn_entry_load {
	struct bn_job job;
	struct bn_entry *entry;
	/* In, const while the job is out. */
	const char *path;
	struct bn_model_options options;
	struct bn_forward_config forward;
	/* Out. */
	struct bn_model_plan *plan;
	struct bn_model *model;
	struct bn_tenant *tenant;
	struct bn_load_watch watch;
	enum bn_status status;
	struct bn_error err;
	uint64_t ns;
};

#define STATE_WORD(SYMBOL, word) word,
static const char *const state_words[BN_ENTRY_STATES] = { BN_ENTRY_STATE_TABLE(STATE_WORD) };
#undef STATE_WORD

/* Which state may follow which. */
static const bool may_follow[BN_ENTRY_STATES][BN_ENTRY_STATES] = {
	[BN_ENTRY_COLD] = { [BN_ENTRY_LOADING] = true },
	[BN_ENTRY_LOADING] = { [BN_ENTRY_READY] = true,
			       [BN_ENTRY_FAILED] = true,
			       [BN_ENTRY_COLD] = true },
	[BN_ENTRY_READY] = { [BN_ENTRY_DRAINING] = true },
	[BN_ENTRY_DRAINING] = { [BN_ENTRY_COLD] = true },
	[BN_ENTRY_FAILED] = { [BN_ENTRY_LOADING] = true },
};

static void enter(struct bn_entry *e, enum bn_entry_state state) BN_ON_LOOP
{
	bn_assert(may_follow[e->state][state]);
	e->state = state;
}

const char *bn_entry_state_word(enum bn_entry_state state)
{
	bn_assert((unsigned)state < BN_ENTRY_STATES);
	return state_words[state];
}

/* --- settings ------------------------------------------------------------------------------- */

static void free_config(struct bn_config_model *c)
{
	for (uint32_t i = 0; i < c->aliases.n; i++) {
		free((void *)(uintptr_t)c->aliases.at[i]);
	}
	for (uint32_t i = 0; i < c->kernels.n; i++) {
		free((void *)(uintptr_t)c->kernels.at[i]);
	}
	free((void *)(uintptr_t)c->aliases.at);
	free((void *)(uintptr_t)c->kernels.at);
	free((void *)(uintptr_t)c->name);
	free((void *)(uintptr_t)c->path);
	free((void *)(uintptr_t)c->template);
}

static bool copy_strings(struct bn_config_strings *to, const struct bn_config_strings *from)
{
	const char **at = calloc((size_t)from->n + 1, sizeof(*at));

	to->n = 0;
	to->at = at;
	if (at == NULL) {
		return false;
	}
	for (uint32_t i = 0; i < from->n; i++) {
		at[i] = strdup(from->at[i]);
		if (at[i] == NULL) {
			return false;
		}
		to->n++;
	}
	return true;
}

static enum bn_status copy_config(struct bn_config_model *to, const struct bn_config_model *from,
				  struct bn_error *err)
{
	bool good;

	*to = *from;
	to->name = strdup(from->name);
	to->path = strdup(from->path);
	to->template = strdup(from->template != NULL ? from->template : "auto");
	good = copy_strings(&to->aliases, &from->aliases);
	good = copy_strings(&to->kernels, &from->kernels) && good;
	if (!good || to->name == NULL || to->path == NULL || to->template == NULL) {
		free_config(to);
		return bn_fail(err, BN_E_MEMORY, "no memory for the settings of model '%s'",
			       from->name);
	}
	return BN_OK;
}

static bool same_strings(const struct bn_config_strings *a, const struct bn_config_strings *b)
{
	bool same = a->n == b->n;

	for (uint32_t i = 0; same && i < a->n; i++) {
		same = strcmp(a->at[i], b->at[i]) == 0;
	}
	return same;
}

bool bn_entry_is_same(const struct bn_entry *e, const struct bn_config_model *config)
{
	const char *template = config->template != NULL ? config->template : "auto";

	return strcmp(e->config.path, config->path) == 0 && e->config.context == config->context &&
	       strcmp(e->config.template, template) == 0 &&
	       same_strings(&e->config.kernels, &config->kernels);
}

/* Once, and at each plan: `models.list` tells the size of files nobody has loaded. */
static uint64_t look_at_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? (uint64_t)st.st_size
									     : 0;
}

enum bn_status bn_entry_new(struct bn_entry **out, const struct bn_entry_context *context,
			    const struct bn_config_model *config, struct bn_error *err)
{
	struct bn_entry *e = calloc(1, sizeof(*e));
	enum bn_status status;

	if (e == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for model '%s'", config->name);
	}
	status = copy_config(&e->config, config, err);
	if (status != BN_OK) {
		free(e);
		return status;
	}
	e->context = *context;
	e->state = BN_ENTRY_COLD;
	e->keep_alive_ms = config->keep_alive_ms;
	e->pinned = config->pin;
	e->file_bytes = look_at_file(config->path);
	*out = e;
	return BN_OK;
}

void bn_entry_free(struct bn_entry *e)
{
	if (e == NULL) {
		return;
	}
	bn_assert(e->state == BN_ENTRY_COLD || e->state == BN_ENTRY_FAILED);
	bn_assert(e->live == 0 && e->waiting == 0 && e->load == NULL && e->kv_bytes == 0);
	free_config(&e->config);
	free(e);
}

static void swap_fixed(struct bn_config_model *a, struct bn_config_model *b)
{
	struct bn_config_model old = *a;

	a->name = b->name;
	a->path = b->path;
	a->template = b->template;
	a->kernels = b->kernels;
	b->name = old.name;
	b->path = old.path;
	b->template = old.template;
	b->kernels = old.kernels;
}

enum bn_status bn_entry_adjust(struct bn_entry *e, const struct bn_config_model *config,
			       struct bn_error *err)
{
	struct bn_config_model fresh;
	enum bn_status status = copy_config(&fresh, config, err);

	if (status != BN_OK) {
		return status;
	}
	/* A pin or a keep_alive somebody set by hand stays until the file says something new. */
	if (config->pin != e->config.pin) {
		e->pinned = config->pin;
	}
	if (config->keep_alive_ms != e->config.keep_alive_ms) {
		e->keep_alive_ms = config->keep_alive_ms;
	}
	/* A helper may be reading by what says where and how: those are the same, and stay. */
	bn_assert(bn_entry_is_same(e, config));
	swap_fixed(&fresh, &e->config);
	free_config(&e->config);
	e->config = fresh;
	return BN_OK;
}

/* --- the ledger ----------------------------------------------------------------------------- */

uint64_t bn_entry_resident(const struct bn_entry *e)
{
	return e->weights_bytes + e->scratch_bytes;
}

uint64_t bn_entry_need(const struct bn_entry *e)
{
	return bn_entry_resident(e) + e->load_bytes;
}

static void release(struct bn_entry *e, uint64_t weights, uint64_t scratch) BN_ON_LOOP
{
	bn_budget_release(e->context.budget, BN_BUDGET_WEIGHTS, e->config.name, weights);
	bn_budget_release(e->context.budget, BN_BUDGET_SCRATCH, e->config.name, scratch);
}

static enum bn_status reserve(struct bn_entry *e, struct bn_error *err) BN_ON_LOOP
{
	enum bn_status status;

	if (!bn_budget_fits(e->context.budget, bn_entry_need(e))) {
		return bn_budget_refuse(e->context.budget, e->config.name, bn_entry_need(e), err);
	}
	status = bn_budget_reserve(e->context.budget, BN_BUDGET_WEIGHTS, e->config.name,
				   e->weights_bytes, err);
	if (status != BN_OK) {
		return status;
	}
	status = bn_budget_reserve(e->context.budget, BN_BUDGET_SCRATCH, e->config.name,
				   e->scratch_bytes + e->load_bytes, err);
	if (status != BN_OK) {
		bn_budget_release(e->context.budget, BN_BUDGET_WEIGHTS, e->config.name,
				  e->weights_bytes);
	}
	return status;
}

/* --- loading -------------------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void free_load(struct bn_entry *e) BN_ON_LOOP
{
	struct bn_entry_load *l = e->load;

	e->load = NULL;
	bn_model_plan_free(l->plan);
	free(l);
}

static void fail(struct bn_entry *e, const struct bn_error *error) BN_ON_LOOP
{
	/* *error may lie in the load. */
	e->error = *error;
	free_load(e);
	bn_wrap(&e->error, "model '%s'", e->config.name);
	enter(e, BN_ENTRY_FAILED);
}

/* The end of either job that did not bring what it should. */
static void end_badly(struct bn_entry *e) BN_ON_LOOP
{
	if (e->cancelled) {
		free_load(e);
		enter(e, BN_ENTRY_COLD);
	} else {
		fail(e, &e->load->err);
	}
	e->context.changed(e->context.who, e);
}

static void run_plan(struct bn_job *job) BN_ON_HELPER
{
	struct bn_entry_load *l = BN_JOB_OWNER(job, struct bn_entry_load, job);

	l->status = bn_model_open(&l->plan, l->path, &l->options, &l->err);
}

static void plan_done(struct bn_job *job) BN_ON_LOOP
{
	struct bn_entry_load *l = BN_JOB_OWNER(job, struct bn_entry_load, job);
	struct bn_entry *e = l->entry;
	uint64_t scratch;

	if (l->status == BN_OK) {
		e->info = *bn_model_plan_info(l->plan);
		e->has_info = true;
		e->file_bytes = e->info.file_bytes;
		scratch = bn_forward_bytes(&e->info, &l->forward);
		if (scratch > UINT64_MAX / 4 || e->info.weights_bytes > UINT64_MAX / 4 ||
		    e->info.load_bytes > UINT64_MAX / 4) {
			l->status = bn_fail(&l->err, BN_E_TOO_LARGE, "its size overflows");
		} else {
			e->weights_bytes = e->info.weights_bytes;
			e->scratch_bytes = scratch;
			e->load_bytes = e->info.load_bytes;
		}
	}
	if (l->status != BN_OK || e->cancelled) {
		end_badly(e);
		return;
	}
	e->phase = BN_ENTRY_ROOM;
	e->context.changed(e->context.who, e);
}

/* `kernels` is NULL-terminated, as copy_strings makes it. */
static struct bn_model_options options_of(const struct bn_entry *e, const char *template,
					  const char *const *kernels)
{
	return (struct bn_model_options){
		.cpu = e->context.cpu,
		.kernels = e->config.kernels.n > 0 ? kernels : NULL,
		.chat_template = template,
		.max_context =
			e->config.context < UINT32_MAX ? (uint32_t)e->config.context : UINT32_MAX,
	};
}

void bn_entry_plan(struct bn_entry *e)
{
	struct bn_entry_load *l = calloc(1, sizeof(*l));

	bn_assert(l != NULL);
	enter(e, BN_ENTRY_LOADING);
	e->phase = BN_ENTRY_PLANNING;
	e->cancelled = false;
	e->load = l;
	l->entry = e;
	l->path = e->config.path;
	l->forward = e->context.forward;
	l->options = options_of(e, e->config.template, e->config.kernels.at);
	bn_job_start(e->context.loop, &l->job, run_plan, plan_done);
}

static void run_estimate(struct bn_job *job) BN_ON_HELPER
{
	struct bn_entry_estimate *x = BN_JOB_OWNER(job, struct bn_entry_estimate, job);
	struct bn_model_plan *plan = NULL;

	x->status = bn_model_open(&plan, x->path, &x->options, &x->err);
	if (x->status == BN_OK) {
		x->info = *bn_model_plan_info(plan);
		x->scratch_bytes = bn_forward_bytes(&x->info, &x->forward);
	}
	bn_model_plan_free(plan);
}

static void estimate_done(struct bn_job *job) BN_ON_LOOP
{
	struct bn_entry_estimate *x = BN_JOB_OWNER(job, struct bn_entry_estimate, job);

	for (uint32_t i = 0; i < x->kernel_names.n; i++) {
		free((void *)(uintptr_t)x->kernel_names.at[i]);
	}
	free((void *)(uintptr_t)x->kernel_names.at);
	free(x->path);
	free(x->template);
	x->done(x);
}

void bn_entry_estimate(const struct bn_entry *e, struct bn_entry_estimate *x,
		       void (*done)(struct bn_entry_estimate *x))
{
	x->done = done;
	x->path = strdup(e->config.path);
	x->template = strdup(e->config.template);
	bn_assert(x->path != NULL && x->template != NULL);
	bn_assert(copy_strings(&x->kernel_names, &e->config.kernels));
	x->forward = e->context.forward;
	x->options = options_of(e, x->template, x->kernel_names.at);
	bn_job_start(e->context.loop, &x->job, run_estimate, estimate_done);
}

static void run_read(struct bn_job *job) BN_ON_HELPER
{
	struct bn_entry_load *l = BN_JOB_OWNER(job, struct bn_entry_load, job);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	l->status = bn_model_load(&l->model, l->plan, &l->watch, &l->err);
	if (l->status == BN_OK) {
		l->status = bn_tenant_new(&l->tenant, l->model, &l->forward, &l->err);
		if (l->status != BN_OK) {
			bn_model_free(l->model);
		}
	}
	l->ns = clock_ns(CLOCK_MONOTONIC) - start;
}

static void read_done(struct bn_job *job) BN_ON_LOOP
{
	struct bn_entry_load *l = BN_JOB_OWNER(job, struct bn_entry_load, job);
	struct bn_entry *e = l->entry;

	if (l->status != BN_OK) {
		release(e, e->weights_bytes, e->scratch_bytes + e->load_bytes);
		end_badly(e);
		return;
	}
	release(e, 0, e->load_bytes);
	e->load_bytes = 0;
	e->model = l->model;
	e->tenant = l->tenant;
	e->info = l->model->info;
	e->load_ns = l->ns;
	e->loaded_ms = clock_ns(CLOCK_REALTIME) / 1000000;
	free_load(e);
	e->cancelled = false;
	enter(e, BN_ENTRY_READY);
	e->context.changed(e->context.who, e);
}

enum bn_status bn_entry_read(struct bn_entry *e, struct bn_error *err)
{
	enum bn_status status;

	bn_assert(e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM);
	status = reserve(e, err);
	if (status == BN_OK) {
		e->phase = BN_ENTRY_READING;
		bn_job_start(e->context.loop, &e->load->job, run_read, read_done);
	}
	return status;
}

void bn_entry_cancel(struct bn_entry *e)
{
	bn_assert(e->state == BN_ENTRY_LOADING);
	e->cancelled = true;
	if (e->phase == BN_ENTRY_ROOM) {
		free_load(e);
		enter(e, BN_ENTRY_COLD);
	} else {
		atomic_store_explicit(&e->load->watch.cancel, true, memory_order_relaxed);
	}
}

void bn_entry_give_up(struct bn_entry *e, const struct bn_error *error)
{
	bn_assert(e->state == BN_ENTRY_LOADING && e->phase == BN_ENTRY_ROOM);
	free_load(e);
	e->error = *error;
	enter(e, BN_ENTRY_FAILED);
}

double bn_entry_progress(const struct bn_entry *e)
{
	uint64_t read;

	if (e->load == NULL || e->phase != BN_ENTRY_READING || e->info.file_bytes == 0) {
		return 0.0;
	}
	read = atomic_load_explicit(&e->load->watch.done_bytes, memory_order_relaxed);
	return read >= e->info.file_bytes ? 1.0 : (double)read / (double)e->info.file_bytes;
}

/* --- leaving -------------------------------------------------------------------------------- */

static void run_drop(struct bn_job *job) BN_ON_HELPER
{
	struct bn_entry_load *l = BN_JOB_OWNER(job, struct bn_entry_load, job);

	bn_tenant_free(l->tenant);
	bn_model_free(l->model);
}

static void drop_done(struct bn_job *job) BN_ON_LOOP
{
	struct bn_entry *e = BN_JOB_OWNER(job, struct bn_entry_load, job)->entry;

	free_load(e);
	release(e, e->weights_bytes, e->scratch_bytes);
	enter(e, BN_ENTRY_COLD);
	e->context.changed(e->context.who, e);
}

void bn_entry_drop(struct bn_entry *e)
{
	struct bn_entry_load *l = calloc(1, sizeof(*l));

	bn_assert(l != NULL && e->live == 0 && e->kv_bytes == 0);
	enter(e, BN_ENTRY_DRAINING);
	e->load = l;
	l->entry = e;
	l->tenant = e->tenant;
	l->model = (struct bn_model *)(uintptr_t)e->model;
	e->tenant = NULL;
	e->model = NULL;
	bn_job_start(e->context.loop, &l->job, run_drop, drop_done);
}
