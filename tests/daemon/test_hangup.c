#include "daemon/hangup.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static uv_loop_t loop;
static struct bn_hangup *hangup;
static int gone_count;
static void *gone_who;

static void note_gone(void *who)
{
	gone_count++;
	gone_who = who;
}

static int open_all(void **state)
{
	(void)state;
	gone_count = 0;
	return uv_loop_init(&loop) != 0 || bn_hangup_open(&hangup, &loop, NULL) != BN_OK;
}

static void set_flag(void *who)
{
	*(bool *)who = true;
}

static int close_all(void **state)
{
	bool closed = false;

	(void)state;
	bn_hangup_close(hangup, set_flag, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	return !closed || uv_loop_close(&loop) != 0;
}

static void turn(void)
{
	for (int i = 0; i < 3; i++) {
		uv_run(&loop, UV_RUN_NOWAIT);
	}
}

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
}

static void hangup_tells_when_a_peer_closes(void **state)
{
	struct bn_hangup_watch w;
	int pair[2];

	(void)state;
	make_pair(pair);
	assert_int_equal(bn_hangup_watch(hangup, &w, pair[0], note_gone, &w, NULL), BN_OK);
	turn();
	assert_int_equal(gone_count, 0);
	close(pair[1]);
	turn();
	assert_int_equal(gone_count, 1);
	assert_ptr_equal(gone_who, &w);
	assert_int_equal(w.fd, -1);
	turn();
	assert_int_equal(gone_count, 1);
	close(pair[0]);
}

static void hangup_tells_even_of_peers_gone_before_the_watch(void **state)
{
	struct bn_hangup_watch w;
	int pair[2];

	(void)state;
	make_pair(pair);
	close(pair[1]);
	assert_int_equal(bn_hangup_watch(hangup, &w, pair[0], note_gone, &w, NULL), BN_OK);
	turn();
	assert_int_equal(gone_count, 1);
	close(pair[0]);
}

static void hangup_ignores_data_and_half_closed_peers(void **state)
{
	struct bn_hangup_watch w;
	struct pollfd backend;
	int pair[2];

	(void)state;
	make_pair(pair);
	assert_int_equal(bn_hangup_watch(hangup, &w, pair[0], note_gone, &w, NULL), BN_OK);
	assert_int_equal(write(pair[1], "unread", 6), 6);
	(void)!send(pair[1], "!", 1, MSG_OOB); /* where the kernel knows it */
	assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
	turn();
	assert_int_equal(gone_count, 0);
	/* And the loop would sleep: nothing it polls is ready. */
	backend = (struct pollfd){ .fd = uv_backend_fd(&loop), .events = POLLIN };
	assert_int_not_equal(uv_backend_timeout(&loop), 0);
	assert_int_equal(poll(&backend, 1, 0), 0);
	close(pair[1]);
	turn();
	assert_int_equal(gone_count, 1);
	close(pair[0]);
}

static void hangup_forgotten_peers_are_silent(void **state)
{
	struct bn_hangup_watch w;
	int pair[2];

	(void)state;
	make_pair(pair);
	assert_int_equal(bn_hangup_watch(hangup, &w, pair[0], note_gone, &w, NULL), BN_OK);
	close(pair[1]);
	bn_hangup_forget(hangup, &w);
	bn_hangup_forget(hangup, &w);
	turn();
	assert_int_equal(gone_count, 0);
	close(pair[0]);
}

/* Two die at once and the callback of the first to be told forgets (as a free would) the other. */
static struct bn_hangup_watch couple[2];

static void forget_the_other(void *who)
{
	gone_count++;
	bn_hangup_forget(hangup, &couple[who == &couple[0]]);
	memset(&couple[who == &couple[0]], 0xdb, sizeof(couple[0]));
}

static void hangup_callback_may_forget_another(void **state)
{
	int a[2], b[2];

	(void)state;
	make_pair(a);
	make_pair(b);
	assert_int_equal(
		bn_hangup_watch(hangup, &couple[0], a[0], forget_the_other, &couple[0], NULL),
		BN_OK);
	assert_int_equal(
		bn_hangup_watch(hangup, &couple[1], b[0], forget_the_other, &couple[1], NULL),
		BN_OK);
	close(a[1]);
	close(b[1]);
	turn();
	assert_int_equal(gone_count, 1);
	close(a[0]);
	close(b[0]);
}

static void hangup_of_hundreds_at_once_misses_nobody(void **state)
{
	enum { N = 300 };
	static struct bn_hangup_watch w[N];
	static int pair[N][2];

	(void)state;
	for (int i = 0; i < N; i++) {
		make_pair(pair[i]);
		assert_int_equal(bn_hangup_watch(hangup, &w[i], pair[i][0], note_gone, &w[i], NULL),
				 BN_OK);
	}
	for (int i = 0; i < N; i++) {
		close(pair[i][1]);
	}
	for (int i = 0; i < 20; i++) {
		turn();
	}
	assert_int_equal(gone_count, N);
	for (int i = 0; i < N; i++) {
		close(pair[i][0]);
	}
}

static void hangup_refuses_what_cannot_be_watched(void **state)
{
	struct bn_hangup_watch w;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_hangup_watch(hangup, &w, 9999, note_gone, &w, &err), BN_E_IO);
	assert_int_equal(w.fd, -1);
	bn_hangup_forget(hangup, &w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hangup_tells_when_a_peer_closes),
		TEST(hangup_tells_even_of_peers_gone_before_the_watch),
		TEST(hangup_ignores_data_and_half_closed_peers),
		TEST(hangup_forgotten_peers_are_silent),
		TEST(hangup_callback_may_forget_another),
		TEST(hangup_of_hundreds_at_once_misses_nobody),
		TEST(hangup_refuses_what_cannot_be_watched),
	};

	return cmocka_run_group_tests_name("daemon/hangup", tests, NULL, NULL);
}
