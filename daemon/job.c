/*
 * Niceness is a property of a thread on Linux, so a helper lowers its own at each job; that costs
 * one system call and needs no hook into libuv's pool. Where it is refused nothing is lost but
 * smoothness.
 */
#include "daemon/job.h"

#include "proto/assert.h"

#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HELPER_NICE = 10 };

static void on_helper(uv_work_t *work)
{
	struct bn_job *job = work->data;

	bn_enter_helper();
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), HELPER_NICE);
	job->run(job);
}

static void on_done(uv_work_t *work, int status)
{
	struct bn_job *job = work->data;

	bn_enter_loop();
	bn_assert(status == 0); /* nobody calls uv_cancel */
	job->out = false;
	job->done(job);
}

void bn_job_start(uv_loop_t *loop, struct bn_job *job, bn_job_fn run, bn_job_fn done)
{
	bn_assert(!job->out);
	job->run = run;
	job->done = done;
	job->out = true;
	job->work.data = job;
	bn_assert(uv_queue_work(loop, &job->work, on_helper, on_done) == 0);
}

bool bn_job_is_out(const struct bn_job *job)
{
	return job->out;
}
