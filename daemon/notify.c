/*
 * A thin layer so that no other file knows whether libsystemd is there. sd_notify reads
 * $NOTIFY_SOCKET itself and sd_listen_fds checks $LISTEN_PID: the environment of a service is its
 * manager's channel, which is why this file may do what style forbids the others.
 */
#include "daemon/notify.h"

#ifdef BN_HAVE_SYSTEMD

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

int bn_notify_ready(const char *status)
{
	return sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

int bn_notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
			  (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

int bn_notify_stopping(const char *status)
{
	return sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
}

int bn_notify_status(const char *status)
{
	return sd_notifyf(0, "STATUS=%s", status);
}

int bn_notify_watchdog(void)
{
	return sd_notify(0, "WATCHDOG=1");
}

int bn_notify_extend(uint64_t more_ms)
{
	return sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, more_ms * 1000u);
}

uint64_t bn_notify_watchdog_ms(void)
{
	uint64_t usec = 0;

	if (sd_watchdog_enabled(0, &usec) <= 0) {
		return 0;
	}
	usec /= 2000u;
	return usec > 0 ? usec : 1;
}

enum bn_status bn_notify_listen_fd(int *fd, struct bn_error *err)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);
	int found = 0;
	int matches = 0;

	if (n < 0) {
		return bn_fail(err, BN_E_CONFIG,
			       "the socket handed over by the manager is unusable: %s",
			       strerror(-n));
	}
	for (int i = 0; i < n; i++) {
		if (n == 1 || strcmp(names[i], "rpc") == 0) {
			found = SD_LISTEN_FDS_START + i;
			matches++;
		}
		free(names[i]);
	}
	free(names);
	if (n > 0 && matches != 1) {
		return bn_fail(
			err, BN_E_CONFIG,
			"%d sockets were handed over, %d of them named \"rpc\": name exactly one "
			"so (FileDescriptorName=rpc)",
			n, matches);
	}
	*fd = found;
	return BN_OK;
}

#else

int bn_notify_ready(const char *status)
{
	(void)status;
	return 0;
}

int bn_notify_reloading(void)
{
	return 0;
}

int bn_notify_stopping(const char *status)
{
	(void)status;
	return 0;
}

int bn_notify_status(const char *status)
{
	(void)status;
	return 0;
}

int bn_notify_watchdog(void)
{
	return 0;
}

int bn_notify_extend(uint64_t more_ms)
{
	(void)more_ms;
	return 0;
}

uint64_t bn_notify_watchdog_ms(void)
{
	return 0;
}

enum bn_status bn_notify_listen_fd(int *fd, struct bn_error *err)
{
	(void)err;
	*fd = 0;
	return BN_OK;
}

#endif
