/*
 * Two meeting points, one rule.
 *
 * A *gate* is a number that only grows; to wait at it is to spin until it differs from the value
 * last seen, then to sleep in futex_wait, which the kernel refuses if the number has changed since.
 * `task` is the gate where idle lanes wait for work, `phase` the one where lanes wait for each
 * other. (A sense-reversing barrier needs one bit; a whole counter costs the same and can never be
 * mistaken for the phase before last.)
 *
 * No wake can be lost. A sleeper first adds itself to `sleepers`, then calls futex_wait with the
 * old value; an opener first changes the gate, then reads `sleepers`. All four are sequentially
 * consistent, so either the opener sees the sleeper and wakes it, or the sleeper's kernel check
 * sees the new value and does not sleep.
 *
 * Why not pthread_barrier_t: it always sleeps (two context switches of 5 us at each of 240 barriers
 * of a step), and why not spinning alone: 8 lanes on 4 cores lost a factor of 200 in llama.cpp
 * (PR 13079).
 */
#include "engine/team.h"

#include "proto/assert.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	CACHE_LINE = 64,
	STACK_BYTES = 2 * 1024 * 1024,
	SPINS_PER_CLOCK = 32, /* pauses between two looks at the clock: a few hundred ns */
};

struct gate {
	alignas(CACHE_LINE) atomic_uint value;
	atomic_uint sleepers;
};

/* One per lane, on a line of its own: the owner writes it at every barrier. */
struct lane {
	alignas(CACHE_LINE) atomic_uint_least64_t progress;
	pthread_t thread;
	struct bn_team *team;
	uint32_t index;
	uint32_t core;
	bool pinned; /* written before the thread's first task, or by bn_team_join */
};

struct bn_team {
	struct gate task;
	struct gate phase;
	alignas(CACHE_LINE) atomic_uint arrived; /* lanes at the current barrier */
	alignas(CACHE_LINE) bn_lane_fn fn;       /* NULL: the lanes are to end   */
	void *arg;
	uint64_t spin_ns;
	uint32_t lanes;
	bool want_pin;
	atomic_bool busy;
	struct lane lane[]; /* [lanes] */
};

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void futex(atomic_uint *word, int operation, unsigned value)
{
	/* Spurious returns, signals and "the value has changed" all mean: look again. */
	(void)syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Returns when the gate's value is no longer `seen`. */
static void gate_wait(struct gate *g, unsigned seen, uint64_t spin_ns)
{
	if (spin_ns > 0) {
		const uint64_t until = now_ns() + spin_ns;

		do {
			for (int i = 0; i < SPINS_PER_CLOCK; i++) {
				if (atomic_load_explicit(&g->value, memory_order_acquire) != seen) {
					return;
				}
				pause_cpu();
			}
		} while (now_ns() < until);
	}
	atomic_fetch_add(&g->sleepers, 1);
	while (atomic_load(&g->value) == seen) {
		futex(&g->value, FUTEX_WAIT, seen);
	}
	atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(struct gate *g)
{
	atomic_fetch_add(&g->value, 1);
	if (atomic_load(&g->sleepers) > 0) {
		futex(&g->value, FUTEX_WAKE, INT_MAX);
	}
}

static void made_progress(struct lane *lane)
{
	/* Only the owner writes, so a load and a store do. */
	const uint64_t n = atomic_load_explicit(&lane->progress, memory_order_relaxed);

	atomic_store_explicit(&lane->progress, n + 1, memory_order_relaxed);
}

static bool pin(pthread_t thread, uint32_t core)
{
	cpu_set_t set;

	if (core >= CPU_SETSIZE) {
		return false;
	}
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	return pthread_setaffinity_np(thread, sizeof(set), &set) == 0;
}

/* Cores the lanes will have to themselves: those given, each counted once, or those we may use. */
static uint32_t distinct_cores(const struct bn_team_config *config)
{
	cpu_set_t set;

	if (config->cores != NULL) {
		CPU_ZERO(&set);
		for (uint32_t i = 0; i < config->lanes; i++) {
			if (config->cores[i] < CPU_SETSIZE) {
				CPU_SET(config->cores[i], &set);
			}
		}
	} else if (sched_getaffinity(0, sizeof(set), &set) != 0) {
		return 1;
	}
	return (uint32_t)CPU_COUNT(&set);
}

void bn_team_sync(struct bn_team *team, uint32_t lane)
{
	made_progress(&team->lane[lane]);
	if (team->lanes == 1) {
		return;
	}

	/* No lane can open this phase before I have arrived, so what I read is the current one. */
	const unsigned seen = atomic_load_explicit(&team->phase.value, memory_order_relaxed);

	if (atomic_fetch_add(&team->arrived, 1) + 1 == team->lanes) {
		atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
		gate_open(&team->phase);
	} else {
		gate_wait(&team->phase, seen, team->spin_ns);
	}
}

static void *lane_main(void *arg)
{
	struct lane *me = arg;
	struct bn_team *team = me->team;
	unsigned seen = 0;

	bn_enter_lane();
	for (;;) {
		gate_wait(&team->task, seen, team->spin_ns);
		seen++;
		if (team->fn == NULL) {
			return NULL;
		}
		made_progress(me);
		team->fn(team->arg, me->index);
		bn_team_sync(team, me->index);
	}
}

void bn_team_run(struct bn_team *team, bn_lane_fn fn, void *arg)
{
	bn_assert(fn != NULL);
	bn_enter_lane();
	atomic_store_explicit(&team->busy, true, memory_order_relaxed);
	made_progress(&team->lane[0]);
	team->fn = fn;
	team->arg = arg;
	if (team->lanes > 1) {
		gate_open(&team->task);
	}
	fn(arg, 0);
	bn_team_sync(team, 0);
	atomic_store_explicit(&team->busy, false, memory_order_relaxed);
}

void bn_team_slice(const struct bn_team *team, uint32_t lane, uint32_t n, uint32_t step,
		   uint32_t *from, uint32_t *to)
{
	const uint64_t runs = ((uint64_t)n + step - 1) / step;
	const uint64_t first = runs * lane / team->lanes * step;
	const uint64_t last = runs * (lane + 1) / team->lanes * step;

	*from = first < n ? (uint32_t)first : n;
	*to = last < n ? (uint32_t)last : n;
}

bool bn_team_join(struct bn_team *team)
{
	if (team->want_pin) {
		team->lane[0].pinned = pin(pthread_self(), team->lane[0].core);
	}
	return team->lane[0].pinned;
}

uint32_t bn_team_lanes(const struct bn_team *team)
{
	return team->lanes;
}

bool bn_team_is_pinned(const struct bn_team *team)
{
	for (uint32_t i = 0; i < team->lanes; i++) {
		if (!team->lane[i].pinned) {
			return false;
		}
	}
	return true;
}

uint64_t bn_team_progress(const struct bn_team *team, uint32_t lane)
{
	return atomic_load_explicit(&team->lane[lane].progress, memory_order_relaxed);
}

bool bn_team_is_busy(const struct bn_team *team)
{
	return atomic_load_explicit(&team->busy, memory_order_relaxed);
}

/* Makes the thread of lane i; 0 or an errno. */
static int start_lane(struct bn_team *team, uint32_t i, const pthread_attr_t *attr)
{
	struct lane *lane = &team->lane[i];
	char name[16];
	const int e = pthread_create(&lane->thread, attr, lane_main, lane);

	if (e != 0) {
		return e;
	}
	if (team->want_pin) {
		lane->pinned = pin(lane->thread, lane->core);
	}
	snprintf(name, sizeof(name), "bnd-lane-%u", i);
	pthread_setname_np(lane->thread, name);
	return 0;
}

enum bn_status bn_team_start(struct bn_team **out, const struct bn_team_config *config,
			     struct bn_error *err)
{
	const uint32_t n = config->lanes;
	pthread_attr_t attr;
	sigset_t all, old;
	uint32_t started = 1;
	int e = 0;

	if (n < 1 || n > BN_TEAM_MAX_LANES) {
		return bn_fail(err, BN_E_INVALID, "a team needs 1 to %d lanes, not %u",
			       BN_TEAM_MAX_LANES, n);
	}

	const size_t bytes = sizeof(struct bn_team) + n * sizeof(struct lane);
	struct bn_team *team = aligned_alloc(alignof(struct bn_team), bytes);

	if (team == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a team of %u lanes", n);
	}
	memset(team, 0, bytes);
	team->lanes = n;
	team->want_pin = config->cores != NULL;
	/* With more lanes than cores the one we spin for may be waiting for our core. */
	team->spin_ns = n > distinct_cores(config) ? 0 : (uint64_t)config->spin_us * 1000;
	for (uint32_t i = 0; i < n; i++) {
		team->lane[i].team = team;
		team->lane[i].index = i;
		team->lane[i].core = team->want_pin ? config->cores[i] : 0;
	}

	/* Signals are the loop's. The mask is inherited, so there is no moment without it. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (started < n && e == 0) {
		e = start_lane(team, started, &attr);
		started += e == 0;
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);

	if (e != 0) {
		team->lanes = started; /* those that exist can be stopped */
		bn_team_stop(team);
		return bn_fail(err, e == EAGAIN || e == ENOMEM ? BN_E_MEMORY : BN_E_INTERNAL,
			       "cannot start lane %u of %u: %s", started, n, strerror(e));
	}
	*out = team;
	return BN_OK;
}

void bn_team_stop(struct bn_team *team)
{
	if (team == NULL) {
		return;
	}
	bn_assert(!bn_team_is_busy(team));
	team->fn = NULL;
	gate_open(&team->task);
	for (uint32_t i = 1; i < team->lanes; i++) {
		pthread_join(team->lane[i].thread, NULL);
	}
	free(team);
}
