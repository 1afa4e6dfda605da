#include "engine/team.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct bn_team *start(uint32_t lanes, uint32_t spin_us)
{
	const struct bn_team_config c = { .lanes = lanes, .spin_us = spin_us };
	struct bn_team *team = NULL;
	struct bn_error err;

	if (bn_team_start(&team, &c, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return team;
}

/* Plain, not atomic: that all lanes see each other's writes is what a barrier is for, and what the
 * thread sanitizer checks here. */
struct shared {
	struct bn_team *team;
	uint32_t rounds;
	uint64_t count[BN_TEAM_MAX_LANES];
	uint64_t wrong[BN_TEAM_MAX_LANES];
};

static void meet(void *arg, uint32_t lane)
{
	struct shared *s = arg;
	const uint32_t lanes = bn_team_lanes(s->team);

	bn_enter_lane();
	for (uint32_t r = 0; r < s->rounds; r++) {
		s->count[lane]++;
		bn_team_sync(s->team, lane);
		for (uint32_t i = 0; i < lanes; i++) {
			s->wrong[lane] += s->count[i] != s->count[lane];
		}
		bn_team_sync(s->team, lane);
	}
}

static void run_rounds(uint32_t lanes, uint32_t spin_us, uint32_t tasks, uint32_t rounds)
{
	struct shared s = { .rounds = rounds };

	bn_enter_lead();
	s.team = start(lanes, spin_us);
	for (uint32_t t = 0; t < tasks; t++) {
		bn_team_run(s.team, meet, &s);
		for (uint32_t i = 0; i < lanes; i++) {
			assert_int_equal(s.count[i], (uint64_t)(t + 1) * rounds);
			assert_int_equal(s.wrong[i], 0);
		}
	}
	bn_team_stop(s.team);
}

static void barriers_hold_for_few_and_many_lanes(void **state)
{
	(void)state;
	run_rounds(1, 50, 100, 50);
	run_rounds(2, 50, 200, 100);
	run_rounds(2, 0, 100, 50);
	run_rounds(3, 50, 100, 20);
	run_rounds(16, 50, 20, 20);
}

static void more_lanes_than_cores_get_on(void **state)
{
	static const uint32_t cores[64] = { 0 };
	const struct bn_team_config c = { .lanes = 64, .cores = cores, .spin_us = 1000000 };
	struct shared s = { .rounds = 10 };

	(void)state;
	/* All on core 0 and told to spin for a second: spinning would take 64 x 20 s, which is more
	 * than this program is given. */
	assert_int_equal(bn_team_start(&s.team, &c, NULL), BN_OK);
	bn_enter_lead();
	bn_team_run(s.team, meet, &s);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(s.wrong[i], 0);
	}
	bn_team_stop(s.team);
}

static void nothing(void *arg, uint32_t lane)
{
	(void)arg;
	(void)lane;
}

static void a_team_starts_and_stops_a_thousand_times(void **state)
{
	(void)state;
	bn_enter_lead();
	for (int i = 0; i < 1000; i++) {
		struct bn_team *team = start(1 + (uint32_t)i % 4, 20);

		if (i % 3 == 0) {
			bn_team_run(team, nothing, NULL);
		}
		bn_team_stop(team);
	}
	bn_team_stop(NULL);
}

static clockid_t lane_clock[2];

static void note_clock(void *arg, uint32_t lane)
{
	(void)arg;
	pthread_getcpuclockid(pthread_self(), &lane_clock[lane]);
}

/* A lane that sleeps uses none at all, on any machine; one that spins has no such interval. */
static void an_idle_team_uses_no_processor_time(void **state)
{
	const struct timespec nap = { .tv_nsec = 20 * 1000 * 1000 };
	struct bn_team *team = start(2, 50);
	bool slept = false;

	(void)state;
	bn_enter_lead();
	bn_team_run(team, note_clock, NULL);
	for (int i = 0; i < 1000 && !slept; i++) {
		struct timespec a, b;

		assert_int_equal(clock_gettime(lane_clock[1], &a), 0);
		nanosleep(&nap, NULL);
		assert_int_equal(clock_gettime(lane_clock[1], &b), 0);
		slept = a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
	}
	assert_true(slept);
	bn_team_stop(team);
}

static void slices_tile_for_every_size_and_step(void **state)
{
	static const uint32_t steps[] = { 1, 16, 32, 100 };

	(void)state;
	for (uint32_t lanes = 1; lanes <= 7; lanes++) {
		struct bn_team *team = start(lanes, 0);

		bn_enter_lane();
		for (uint32_t n = 0; n < 700; n += 1 + n / 50) {
			for (size_t s = 0; s < 4; s++) {
				uint32_t at = 0, widest = 0, from, to;

				for (uint32_t i = 0; i < lanes; i++) {
					bn_team_slice(team, i, n, steps[s], &from, &to);
					assert_int_equal(from, at);
					assert_true(to >= from && to <= n);
					assert_true(from % steps[s] == 0 || from == n);
					widest = to - from > widest ? to - from : widest;
					at = to;
				}
				assert_int_equal(at, n);
				/* nobody has more than a run above his share */
				assert_true(widest <= n / lanes + 2 * steps[s]);
			}
		}
		bn_team_stop(team);
	}
}

static void slices_of_the_largest_count_do_not_overflow(void **state)
{
	struct bn_team *team = start(3, 0);
	uint32_t from, to;

	(void)state;
	bn_enter_lane();
	bn_team_slice(team, 2, UINT32_MAX, 16, &from, &to);
	assert_int_equal(to, UINT32_MAX);
	assert_true(from > UINT32_MAX / 3 * 2 - 32 && from < UINT32_MAX / 3 * 2 + 32);
	bn_team_stop(team);
}

static struct bn_team *watched;
static bool was_busy;

static void look(void *arg, uint32_t lane)
{
	(void)arg;
	bn_enter_lane();
	if (lane == 0) {
		was_busy = bn_team_is_busy(watched);
	}
	bn_team_sync(watched, lane);
}

static void progress_counts_tasks_and_barriers(void **state)
{
	(void)state;
	bn_enter_lead();
	watched = start(3, 20);
	assert_int_equal(bn_team_progress(watched, 1), 0);
	assert_false(bn_team_is_busy(watched));
	bn_team_run(watched, look, NULL);
	assert_true(was_busy);
	assert_false(bn_team_is_busy(watched));
	for (uint32_t i = 0; i < 3; i++) {
		/* the task, its barrier, and the one at its end */
		assert_int_equal(bn_team_progress(watched, i), 3);
	}
	bn_team_stop(watched);
}

static void a_core_that_is_not_there_is_tolerated(void **state)
{
	static const uint32_t cores[] = { 0, 9999 };
	const struct bn_team_config c = { .lanes = 2, .cores = cores, .spin_us = 20 };
	struct bn_team *team = NULL;

	(void)state;
	bn_enter_lead();
	assert_int_equal(bn_team_start(&team, &c, NULL), BN_OK);
	assert_false(bn_team_is_pinned(team));
	bn_team_join(team);
	assert_false(bn_team_is_pinned(team));
	bn_team_run(team, nothing, NULL);
	bn_team_stop(team);
}

static void lane_counts_out_of_range_are_refused(void **state)
{
	static const uint32_t wrong[] = { 0, BN_TEAM_MAX_LANES + 1, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const struct bn_team_config c = { .lanes = wrong[i] };
		struct bn_team *team = NULL;
		struct bn_error err;

		assert_int_equal(bn_team_start(&team, &c, &err), BN_E_INVALID);
		assert_non_null(strstr(err.text, "1 to 256 lanes"));
		assert_null(team);
	}
}

static sigset_t lane_mask;

static void read_mask(void *arg, uint32_t lane)
{
	(void)arg;
	if (lane == 1) {
		pthread_sigmask(SIG_SETMASK, NULL, &lane_mask);
	}
}

static void lanes_leave_signals_to_others(void **state)
{
	struct bn_team *team = start(2, 20);
	sigset_t mine;

	(void)state;
	bn_enter_lead();
	bn_team_run(team, read_mask, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	assert_true(sigismember(&lane_mask, SIGTERM));
	assert_true(sigismember(&lane_mask, SIGINT));
	assert_false(sigismember(&mine, SIGTERM));
	bn_team_stop(team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(barriers_hold_for_few_and_many_lanes),
		cmocka_unit_test(more_lanes_than_cores_get_on),
		cmocka_unit_test(a_team_starts_and_stops_a_thousand_times),
		cmocka_unit_test(an_idle_team_uses_no_processor_time),
		cmocka_unit_test(slices_tile_for_every_size_and_step),
		cmocka_unit_test(slices_of_the_largest_count_do_not_overflow),
		cmocka_unit_test(progress_counts_tasks_and_barriers),
		cmocka_unit_test(a_core_that_is_not_there_is_tolerated),
		cmocka_unit_test(lane_counts_out_of_range_are_refused),
		cmocka_unit_test(lanes_leave_signals_to_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
