#include "daemon/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { DEADLINES = 5 };

static struct bn_deadlines all;
static struct bn_deadline deadline[DEADLINES];
static char passed[64];   /* their numbers, in order */
static int clears, again; /* in the hook: clear that one; set oneself so often again */

static void on_passed(struct bn_deadline *d)
{
	size_t n = strlen(passed);

	snprintf(passed + n, sizeof(passed) - n, "%d", (int)(d - deadline));
	if (clears >= 0) {
		bn_deadline_clear(&all, &deadline[clears]);
	}
	if (again > 0) {
		again--;
		bn_deadline_set(&all, d, 1);
	}
}

static void set_up(uv_loop_t *loop)
{
	bn_enter_loop();
	assert_int_equal(uv_loop_init(loop), 0);
	bn_deadlines_init(&all, loop);
	memset(deadline, 0, sizeof(deadline));
	for (int i = 0; i < DEADLINES; i++) {
		deadline[i].passed = on_passed;
	}
	passed[0] = '\0';
	clears = -1;
	again = 0;
}

static void on_closed(void *who)
{
	*(bool *)who = true;
}

static void tear_down(uv_loop_t *loop)
{
	bool closed = false;

	bn_enter_loop();
	bn_deadlines_close(&all, on_closed, &closed);
	assert_false(closed); /* from the loop */
	uv_run(loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_int_equal(uv_loop_close(loop), 0);
}

static void deadlines_pass_in_the_order_of_their_time(void **state)
{
	uv_loop_t loop;

	(void)state;
	set_up(&loop);
	bn_deadline_set(&all, &deadline[0], 30);
	bn_deadline_set(&all, &deadline[1], 10);
	bn_deadline_set(&all, &deadline[2], 20);
	bn_deadline_set(&all, &deadline[3], 10);
	bn_deadline_set(&all, &deadline[4], 40);
	assert_int_equal(deadline[4].ms, 40);
	uv_run(&loop, UV_RUN_DEFAULT); /* ends when none is set any more */
	assert_string_equal(passed, "13204");
	tear_down(&loop);
}

static void deadlines_do_not_pass_early(void **state)
{
	uv_loop_t loop;
	uint64_t start;

	(void)state;
	set_up(&loop);
	start = uv_now(&loop);
	bn_deadline_set(&all, &deadline[0], 25);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(passed, "0");
	assert_true(uv_now(&loop) - start >= 25);
	tear_down(&loop);
}

static void deadlines_that_are_cleared_do_not_pass(void **state)
{
	uv_loop_t loop;

	(void)state;
	set_up(&loop);
	bn_deadline_clear(&all, &deadline[0]); /* was not set */
	for (int i = 0; i < 3; i++) {
		bn_deadline_set(&all, &deadline[i], 1 + (uint32_t)i);
	}
	bn_deadline_clear(&all, &deadline[0]); /* the one the clock is set to */
	bn_deadline_clear(&all, &deadline[2]);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(passed, "1");
	bn_deadline_set(&all, &deadline[0], 3600000);
	bn_deadline_clear(&all, &deadline[0]);
	uv_run(&loop, UV_RUN_DEFAULT); /* not for an hour */
	assert_string_equal(passed, "1");
	tear_down(&loop);
}

static void deadlines_may_be_changed_while_one_passes(void **state)
{
	uv_loop_t loop;

	(void)state;
	set_up(&loop);
	for (int i = 0; i < 3; i++) {
		bn_deadline_set(&all, &deadline[i], 1); /* all in one ring */
	}
	clears = 1;
	again = 2;
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(passed, "0202");
	tear_down(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deadlines_pass_in_the_order_of_their_time),
		cmocka_unit_test(deadlines_do_not_pass_early),
		cmocka_unit_test(deadlines_that_are_cleared_do_not_pass),
		cmocka_unit_test(deadlines_may_be_changed_while_one_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
