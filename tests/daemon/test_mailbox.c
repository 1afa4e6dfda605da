#include "daemon/mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

struct note {
	uint32_t who;
	uint32_t number;
	char text[40];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void mailbox_keeps_the_order_and_the_content(void **state)
{
	struct bn_mailbox *m;
	struct note notes[3] = { { 1, 10, "one" }, { 1, 11, "two" }, { 1, 12, "three" } };
	const void *items;

	(void)state;
	assert_int_equal(bn_mailbox_new(&m, sizeof(notes[0]), 1, NULL, NULL, NULL), BN_OK);
	assert_int_equal(bn_mailbox_take(m, &items), 0);
	bn_mailbox_post(m, &notes[0], 1);
	bn_mailbox_post(m, &notes[1], 2);
	bn_mailbox_post(m, NULL, 0);
	assert_int_equal(bn_mailbox_take(m, &items), 3);
	assert_memory_equal(items, notes, sizeof(notes));
	assert_int_equal(bn_mailbox_take(m, &items), 0);
	bn_mailbox_free(m);
	bn_mailbox_free(NULL);
}

static void mailbox_gives_out_stays_whole_until_the_next_take(void **state)
{
	struct bn_mailbox *m;
	uint64_t first = 1;
	const void *items;

	(void)state;
	assert_int_equal(bn_mailbox_new(&m, sizeof(first), 1, NULL, NULL, NULL), BN_OK);
	bn_mailbox_post(m, &first, 1);
	assert_int_equal(bn_mailbox_take(m, &items), 1);
	for (uint64_t i = 0; i < 10000; i++) {
		bn_mailbox_post(m, &i, 1); /* grows the other array many times */
	}
	assert_int_equal(*(const uint64_t *)items, 1);
	assert_int_equal(bn_mailbox_take(m, &items), 10000);
	for (uint64_t i = 0; i < 10000; i++) {
		assert_int_equal(((const uint64_t *)items)[i], i);
	}
	bn_mailbox_free(m);
}

static void count_wake(void *who)
{
	++*(int *)who;
}

static void mailbox_wakes_once_for_a_box_that_was_empty(void **state)
{
	struct bn_mailbox *m;
	const void *items;
	int wakes = 0;
	int items3[3] = { 0 };

	(void)state;
	assert_int_equal(bn_mailbox_new(&m, sizeof(int), 4, count_wake, &wakes, NULL), BN_OK);
	bn_mailbox_post(m, items3, 3);
	assert_int_equal(wakes, 1);
	bn_mailbox_post(m, items3, 1);
	assert_int_equal(wakes, 1);
	bn_mailbox_take(m, &items);
	bn_mailbox_post(m, items3, 1);
	assert_int_equal(wakes, 2);
	bn_mailbox_free(m);
}

static void mailbox_wait_ends_at_its_time(void **state)
{
	struct bn_mailbox *m;
	uint64_t start = now_ns();
	int item = 1;

	(void)state;
	assert_int_equal(bn_mailbox_new(&m, sizeof(int), 4, NULL, NULL, NULL), BN_OK);
	assert_false(bn_mailbox_wait(m, 0));
	assert_false(bn_mailbox_wait(m, 30000000));
	assert_true(now_ns() - start >= 30000000);
	bn_mailbox_post(m, &item, 1);
	assert_true(bn_mailbox_wait(m, UINT64_MAX)); /* does not wait at all */
	bn_mailbox_free(m);
}

enum { PRODUCERS = 4, EACH = 50000 };

static void *produce(void *arg)
{
	struct bn_mailbox *m = ((void **)arg)[0];
	uint32_t who = *(uint32_t *)((void **)arg)[1];
	struct note batch[3];

	for (uint32_t i = 0; i < EACH;) {
		uint32_t n = i % 3 + 1 < EACH - i ? i % 3 + 1 : EACH - i;

		for (uint32_t k = 0; k < n; k++, i++) {
			memset(&batch[k], 0, sizeof(batch[k]));
			batch[k].who = who;
			batch[k].number = i;
		}
		bn_mailbox_post(m, batch, n);
	}
	return NULL;
}

struct check {
	struct bn_mailbox *box;
	uint32_t next[PRODUCERS];
	uint32_t total;
	uv_async_t async;
};

static void take_all(struct check *c)
{
	const void *items;
	size_t n = bn_mailbox_take(c->box, &items);

	for (size_t i = 0; i < n; i++) {
		const struct note *note = (const struct note *)items + i;

		assert_true(note->who < PRODUCERS);
		assert_int_equal(note->number, c->next[note->who]);
		c->next[note->who]++;
		c->total++;
	}
}

static void start(struct check *c, pthread_t threads[PRODUCERS], uint32_t names[PRODUCERS],
		  void *args[PRODUCERS][2])
{
	for (uint32_t t = 0; t < PRODUCERS; t++) {
		names[t] = t;
		args[t][0] = c->box;
		args[t][1] = &names[t];
		assert_int_equal(pthread_create(&threads[t], NULL, produce, args[t]), 0);
	}
}

/* If a wake were ever lost, the consumer would sleep with everything in the box. */
static void mailbox_loses_nothing_between_threads_when_sleeping(void **state)
{
	struct check c = { 0 };
	pthread_t threads[PRODUCERS];
	uint32_t names[PRODUCERS];
	void *args[PRODUCERS][2];

	(void)state;
	assert_int_equal(bn_mailbox_new(&c.box, sizeof(struct note), 2, NULL, NULL, NULL), BN_OK);
	start(&c, threads, names, args);
	while (c.total < PRODUCERS * EACH) {
		assert_true(bn_mailbox_wait(c.box, UINT64_C(20000000000)));
		take_all(&c);
	}
	for (uint32_t t = 0; t < PRODUCERS; t++) {
		pthread_join(threads[t], NULL);
		assert_int_equal(c.next[t], EACH);
	}
	bn_mailbox_free(c.box);
}

static void wake_loop(void *who)
{
	uv_async_send(who);
}

static void on_async(uv_async_t *async)
{
	struct check *c = async->data;

	take_all(c);
	if (c->total == PRODUCERS * EACH) {
		uv_close((uv_handle_t *)async, NULL);
	}
}

static void mailbox_loses_nothing_between_threads_and_a_loop(void **state)
{
	struct check c = { 0 };
	pthread_t threads[PRODUCERS];
	uint32_t names[PRODUCERS];
	void *args[PRODUCERS][2];
	uv_loop_t loop;

	(void)state;
	uv_loop_init(&loop);
	uv_async_init(&loop, &c.async, on_async);
	c.async.data = &c;
	assert_int_equal(bn_mailbox_new(&c.box, sizeof(struct note), 2, wake_loop, &c.async, NULL),
			 BN_OK);
	start(&c, threads, names, args);
	uv_run(&loop, UV_RUN_DEFAULT); /* a lost wake would hang here, into the test's time limit */
	assert_int_equal(c.total, PRODUCERS * EACH);
	for (uint32_t t = 0; t < PRODUCERS; t++) {
		pthread_join(threads[t], NULL);
	}
	assert_int_equal(uv_loop_close(&loop), 0);
	bn_mailbox_free(c.box);
}

/* Ping-pong: every single message needs a wake of its own. */
static void *answer(void *arg)
{
	struct bn_mailbox **boxes = arg;

	for (int done = 0; done < 20000; done++) {
		const void *items;

		assert_true(bn_mailbox_wait(boxes[0], UINT64_C(20000000000)));
		assert_int_equal(bn_mailbox_take(boxes[0], &items), 1);
		bn_mailbox_post(boxes[1], items, 1);
	}
	return NULL;
}

static void mailbox_ping_pong_never_sleeps_through(void **state)
{
	struct bn_mailbox *boxes[2];
	pthread_t thread;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(bn_mailbox_new(&boxes[i], sizeof(int), 1, NULL, NULL, NULL),
				 BN_OK);
	}
	pthread_create(&thread, NULL, answer, boxes);
	for (int i = 0; i < 20000; i++) {
		const void *items;

		bn_mailbox_post(boxes[0], &i, 1);
		assert_true(bn_mailbox_wait(boxes[1], UINT64_C(20000000000)));
		assert_int_equal(bn_mailbox_take(boxes[1], &items), 1);
		assert_int_equal(*(const int *)items, i);
	}
	pthread_join(thread, NULL);
	bn_mailbox_free(boxes[0]);
	bn_mailbox_free(boxes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mailbox_keeps_the_order_and_the_content),
		cmocka_unit_test(mailbox_gives_out_stays_whole_until_the_next_take),
		cmocka_unit_test(mailbox_wakes_once_for_a_box_that_was_empty),
		cmocka_unit_test(mailbox_wait_ends_at_its_time),
		cmocka_unit_test(mailbox_loses_nothing_between_threads_when_sleeping),
		cmocka_unit_test(mailbox_loses_nothing_between_threads_and_a_loop),
		cmocka_unit_test(mailbox_ping_pong_never_sleeps_through),
	};

	return cmocka_run_group_tests_name("daemon/mailbox", tests, NULL, NULL);
}
