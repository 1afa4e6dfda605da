/*
 * Processor time this process has used, in seconds: for tests that hostile input is not dear. A
 * busy machine does not fail them, and the bound is so far from the honest cost that a slow one, or
 * a sanitizer, does not either.
 */
#ifndef BN_TESTS_SPENT_H
#define BN_TESTS_SPENT_H

#include <time.h>

static inline double spent(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
