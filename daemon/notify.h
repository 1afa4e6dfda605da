/*
 * What we tell the service manager, and the socket it may hand us, over libsystemd.
 *
 * It does not decide when we are ready or healthy. Built without libsystemd every function does
 * nothing and returns 0, which is also what happens when no manager listens: callers need not
 * know the difference.
 *
 * The bn_notify_... functions that send return > 0 when the manager was told, 0 when there is
 * none, a negative errno when telling failed (worth a log line, never a reason to stop). They
 * do not wait: the manager's socket is a datagram socket.
 */
#ifndef BN_DAEMON_NOTIFY_H
#define BN_DAEMON_NOTIFY_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>

/* Serving: sockets listen, the configuration holds. `status` is one line for people. */
int bn_notify_ready(const char *status) BN_ON_LOOP;

/* Reloading began (with the monotonic time, as notify-reload wants it); end it with ready. */
int bn_notify_reloading(void) BN_ON_LOOP;

/* Shutting down began. */
int bn_notify_stopping(const char *status) BN_ON_LOOP;

/* The line `systemctl status` shows: "2 models, 1.9 of 8.0 GiB, 3 running, 1 queued". */
int bn_notify_status(const char *status) BN_ON_LOOP;

/* Alive. Send only when the loop turns and every busy lane moves. */
int bn_notify_watchdog(void) BN_ON_LOOP;

/* The manager shall wait this much longer for the start or stop in progress. */
int bn_notify_extend(uint64_t more_ms) BN_ON_LOOP;

/* How often the manager wants bn_notify_watchdog at least, already halved; 0 when it does not. */
uint64_t bn_notify_watchdog_ms(void) BN_ON_ANY;

/*
 * The listening socket handed over: *fd >= 3, now ours and close-on-exec, or 0 when there is none
 * (also when LISTEN_PID is not us). Of several sockets the one named "rpc" is taken; BN_E_CONFIG
 * when none or two bear that name, or when the environment is broken. Clears the LISTEN_
 * variables, so call it once, before threads start. bn_server_listen checks what socket it is.
 */
BN_MUST_USE enum bn_status bn_notify_listen_fd(int *fd, struct bn_error *err) BN_ON_ANY;

#endif
