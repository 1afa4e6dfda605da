/*
 * A clock that stands still until the test lets time pass. What the daemon asks of libuv's clock
 * and timers is answered here, so a test of a timeout takes no time, says to the millisecond when
 * something happens, and says the same on a machine that is slow or busy.
 *
 * It does not answer for what waits elsewhere: sockets, threads, condition variables. The program
 * is linked with --wrap of the four functions in clock.c (the target bn_daemon_clock says so).
 */
#ifndef BN_TESTS_DAEMON_CLOCK_H
#define BN_TESTS_DAEMON_CLOCK_H

#include <stdint.h>
#include <uv.h>

/* Milliseconds that have passed. */
uint64_t clock_now(void);

/* Lets `ms` pass, one after the other; each time the timers that are due fire, and the loop turns
 * once without waiting. */
void clock_pass(uv_loop_t *loop, uint64_t ms);

#endif
