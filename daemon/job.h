/*
 * One piece of work for a helper: runs off the loop at low priority and comes back to it.
 *
 * It does not cancel (what can be stopped early polls a flag of its own) and shares nothing: while
 * a job is out, what it points at belongs to the helper alone.
 *
 * Helpers are libuv's pool. Whatever blocks (files, packing, tokenising, unmapping gigabytes)
 * happens there, so that the loop never does.
 */
#ifndef BN_DAEMON_JOB_H
#define BN_DAEMON_JOB_H

#include "proto/role.h"

#include <stdbool.h>
#include <uv.h>

struct bn_job;

typedef void (*bn_job_fn)(struct bn_job *job);

/* Embed one in what the job is about, zeroed; the loop's, and only the functions below touch it. */
struct bn_job {
	uv_work_t work;
	bn_job_fn run;
	bn_job_fn done;
	bool out;
};

/*
 * Has `run(job)` called on a helper and then `done(job)` on the loop, always both. The job must not
 * be out already and must not move until done is called, which may start it again or free it.
 */
void bn_job_start(uv_loop_t *loop, struct bn_job *job, bn_job_fn run, bn_job_fn done) BN_ON_LOOP;

/* Whether it has been started and not come back. */
bool bn_job_is_out(const struct bn_job *job) BN_ON_LOOP;

/* The object a job is embedded in: BN_JOB_OWNER(job, struct load, job). */
#define BN_JOB_OWNER(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
