/*
 * The set is edge-triggered: the one edge that exists (alive to gone) is what the callback is for,
 * and a peer that is gone but still has output being flushed must not wake the loop for ever.
 */
#include "daemon/hangup.h"

#include "proto/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 64 };

struct bn_hangup {
	uv_poll_t poll;
	int set; /* epoll descriptor */
	void (*closed)(void *who);
	void *who;
};

/*
 * Events are taken one batch of one at a time, because a callback may forget (and free) a watch
 * whose event would otherwise already lie in our array.
 */
static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct bn_hangup *h = poll->data;

	bn_enter_loop();
	(void)events;
	if (status < 0) {
		return;
	}
	for (int i = 0; i < EVENTS_AT_ONCE; i++) {
		struct epoll_event event;
		struct bn_hangup_watch *w;

		if (epoll_wait(h->set, &event, 1, 0) != 1) {
			return;
		}
		w = event.data.ptr;
		bn_hangup_forget(h, w);
		w->gone(w->who);
	}
}

enum bn_status bn_hangup_open(struct bn_hangup **out, uv_loop_t *loop, struct bn_error *err)
{
	struct bn_hangup *h = calloc(1, sizeof(*h));
	int rc;

	if (h == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the hang-up watch");
	}
	h->set = epoll_create1(EPOLL_CLOEXEC);
	if (h->set < 0) {
		free(h);
		return bn_fail(err, BN_E_IO, "epoll_create1: %s", strerror(errno));
	}
	rc = uv_poll_init(loop, &h->poll, h->set);
	if (rc != 0) {
		close(h->set);
		free(h);
		return bn_fail(err, BN_E_IO, "the loop cannot watch an epoll set: %s",
			       uv_strerror(rc));
	}
	h->poll.data = h;
	rc = uv_poll_start(&h->poll, UV_READABLE, on_ready);
	bn_assert(rc == 0);
	*out = h;
	return BN_OK;
}

static void on_closed(uv_handle_t *handle)
{
	struct bn_hangup *h = handle->data;
	void (*closed)(void *who) = h->closed;
	void *who = h->who;

	bn_enter_loop();
	close(h->set);
	free(h);
	if (closed != NULL) {
		closed(who);
	}
}

void bn_hangup_close(struct bn_hangup *h, void (*closed)(void *who), void *who)
{
	h->closed = closed;
	h->who = who;
	uv_close((uv_handle_t *)&h->poll, on_closed);
}

enum bn_status bn_hangup_watch(struct bn_hangup *h, struct bn_hangup_watch *w, int fd,
			       bn_hangup_fn gone, void *who, struct bn_error *err)
{
	/* No EPOLLIN, no EPOLLOUT: EPOLLHUP and EPOLLERR are always reported. */
	struct epoll_event event = { .events = EPOLLET, .data.ptr = w };

	w->gone = gone;
	w->who = who;
	w->fd = -1;
	if (epoll_ctl(h->set, EPOLL_CTL_ADD, fd, &event) != 0) {
		return bn_fail(err, BN_E_IO, "epoll_ctl: %s", strerror(errno));
	}
	w->fd = fd;
	return BN_OK;
}

void bn_hangup_forget(struct bn_hangup *h, struct bn_hangup_watch *w)
{
	if (w->fd >= 0) {
		epoll_ctl(h->set, EPOLL_CTL_DEL, w->fd, NULL);
		w->fd = -1;
	}
}
