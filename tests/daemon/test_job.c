#include "daemon/job.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

#include <cmocka.h>

struct sum {
	struct bn_job job;
	uv_loop_t *loop;
	pthread_t ran_on;
	int value, again, done;
};

static void run(struct bn_job *job)
{
	struct sum *s = BN_JOB_OWNER(job, struct sum, job);

	s->ran_on = pthread_self();
	s->value++;
}

static void done(struct bn_job *job)
{
	struct sum *s = BN_JOB_OWNER(job, struct sum, job);

	bn_enter_loop();
	assert_false(bn_job_is_out(job));
	s->done++;
	if (s->again-- > 0) {
		bn_job_start(s->loop, job, run, done);
	}
}

static void job_runs_off_the_loop_and_comes_back(void **state)
{
	uv_loop_t loop;
	struct sum s = { .loop = &loop, .again = 2 };

	(void)state;
	bn_enter_loop();
	assert_int_equal(uv_loop_init(&loop), 0);
	bn_job_start(&loop, &s.job, run, done);
	assert_true(bn_job_is_out(&s.job));
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(s.value, 3);
	assert_int_equal(s.done, 3);
	assert_false(pthread_equal(s.ran_on, pthread_self()));
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void job_leaves_the_priority_of_the_loop_alone(void **state)
{
	uv_loop_t loop;
	struct sum s = { .loop = &loop };
	int before = getpriority(PRIO_PROCESS, 0);

	(void)state;
	bn_enter_loop();
	assert_int_equal(uv_loop_init(&loop), 0);
	bn_job_start(&loop, &s.job, run, done);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(job_runs_off_the_loop_and_comes_back),
		cmocka_unit_test(job_leaves_the_priority_of_the_loop_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
