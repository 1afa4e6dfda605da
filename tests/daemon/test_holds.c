#include "daemon/holds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOLDS = 8 };

/* Holds, two models they know no more of than their counts, and what the holds heard. */
struct stage {
	struct bn_holds holds;
	struct bn_entry ann, bob;
	struct bn_hold hold[HOLDS];
	char heard[512]; /* "+0 -1 @2:0 ": granted, failed, place */
	int again;       /* granted holds that ask for memory at once */
};

static struct stage *stage; /* hooks have nothing but the hold */

static void hear(char what, const struct bn_hold *h)
{
	size_t n = strlen(stage->heard);

	snprintf(stage->heard + n, sizeof(stage->heard) - n, "%c%d ", what, (int)(h - stage->hold));
}

static void on_granted(struct bn_hold *h)
{
	hear('+', h);
	if (stage->again > 0) {
		stage->again--;
		bn_holds_wait_memory(&stage->holds, h, 10);
	}
}

static void on_failed(struct bn_hold *h, const struct bn_error *err)
{
	assert_int_equal(err->status, BN_E_OVERLOADED);
	assert_null(h->entry);
	hear('-', h);
}

static void on_waiting(struct bn_hold *h, uint32_t position, double loaded)
{
	size_t n;

	assert_true(loaded < 0.0);
	hear('@', h);
	n = strlen(stage->heard) - 1;
	snprintf(stage->heard + n, sizeof(stage->heard) - n, ":%u ", position);
}

static const struct bn_hold_hooks hooks = { on_granted, on_failed, on_waiting };

static int set_up(void **state)
{
	stage = calloc(1, sizeof(*stage));
	for (int i = 0; i < HOLDS; i++) {
		stage->hold[i].hooks = &hooks;
		stage->hold[i].uid = 1;
	}
	*state = stage;
	return stage == NULL;
}

static int tear_down(void **state)
{
	for (int i = 0; i < HOLDS; i++) {
		if (stage->hold[i].entry != NULL) {
			bn_holds_leave(&stage->holds, &stage->hold[i]);
		}
	}
	assert_int_equal(stage->ann.waiting + stage->ann.live, 0);
	assert_int_equal(stage->bob.waiting + stage->bob.live, 0);
	assert_false(bn_holds_has_holds(&stage->holds));
	bn_holds_finish(&stage->holds);
	free(*state);
	return 0;
}

/* Hold i, of user `uid`, wants ann. */
static void join(int i, uid_t uid)
{
	stage->hold[i].uid = uid;
	bn_holds_join(&stage->holds, &stage->hold[i], &stage->ann, 7);
}

/* Hold i has been granted its model, been told, and waits for memory. */
static void want_memory(int i, uid_t uid)
{
	join(i, uid);
	bn_holds_grant(&stage->holds, &stage->hold[i]);
	bn_holds_tell(&stage->holds);
	bn_holds_wait_memory(&stage->holds, &stage->hold[i], 10);
}

static bool is_bobs(const void *who, const struct bn_hold *h)
{
	return who != NULL && h->entry == who;
}

/* The order of turns as digits; those who want `first` are put first. */
static const char *turns(const struct bn_entry *first)
{
	static char text[HOLDS + 1];

	bn_holds_sort(&stage->holds, is_bobs, first);
	for (size_t i = 0; i < stage->holds.n_sorted; i++) {
		text[i] = (char)('0' + (stage->holds.sorted[i] - stage->hold));
	}
	text[stage->holds.n_sorted] = '\0';
	return text;
}

static void expect_heard(const char *what)
{
	assert_string_equal(stage->heard, what);
	stage->heard[0] = '\0';
}

static void holds_is_by_arrival_for_one_user(void **state)
{
	(void)state;
	assert_string_equal(turns(NULL), "");
	join(2, 1);
	join(0, 1);
	join(1, 1);
	assert_string_equal(turns(NULL), "201");
	assert_int_equal(stage->ann.waiting, 3);
	assert_int_equal(stage->holds.n_waiting, 3);
	bn_holds_leave(&stage->holds, &stage->hold[0]);
	assert_string_equal(turns(NULL), "21");
	assert_int_equal(stage->hold[2].since_ms, 7);
}

static void holds_goes_round_the_users(void **state)
{
	(void)state;
	join(0, 1);
	join(1, 1);
	join(2, 1);
	join(3, 2);
	join(4, 2);
	join(5, 3);
	assert_string_equal(turns(NULL), "035142");
}

static void holds_counts_memory_only_and_lets_nobody_save_up(void **state)
{
	(void)state;
	/* A model costs nothing: user 1 has had one more, and is still first. */
	join(0, 1);
	bn_holds_grant(&stage->holds, &stage->hold[0]);
	join(1, 1);
	join(2, 2);
	assert_string_equal(turns(NULL), "12");
	/* Memory does. */
	bn_holds_leave(&stage->holds, &stage->hold[0]);
	want_memory(3, 1);
	bn_holds_grant(&stage->holds, &stage->hold[3]);
	assert_string_equal(turns(NULL), "21");
	/* Who comes now begins at the level of the one served least, not at nothing. */
	bn_holds_leave(&stage->holds, &stage->hold[2]);
	want_memory(4, 3);
	assert_string_equal(turns(NULL), "14");
}

static void holds_puts_first_whom_it_is_told_to(void **state)
{
	(void)state;
	join(0, 1);
	join(1, 1);
	stage->hold[2].uid = 1;
	bn_holds_join(&stage->holds, &stage->hold[2], &stage->bob, 7);
	join(3, 2);
	stage->hold[4].uid = 2;
	bn_holds_join(&stage->holds, &stage->hold[4], &stage->bob, 7);
	assert_string_equal(turns(&stage->bob), "24031");
	assert_true(stage->hold[4].promoted);
	assert_false(stage->hold[0].promoted);
	assert_string_equal(turns(NULL), "03142"); /* and not for ever */
}

static void holds_keeps_the_place_of_one_who_comes_back_for_memory(void **state)
{
	(void)state;
	join(0, 1);
	bn_holds_grant(&stage->holds, &stage->hold[0]);
	bn_holds_tell(&stage->holds);
	assert_int_equal(stage->ann.live, 1);
	join(1, 1);
	bn_holds_wait_memory(&stage->holds, &stage->hold[0], 10);
	assert_int_equal(stage->ann.live, 0);
	assert_int_equal(stage->ann.waiting, 2);
	assert_string_equal(turns(NULL), "01");
}

static void holds_tells_what_was_decided_later_and_once(void **state)
{
	struct bn_error err;

	(void)state;
	bn_fail(&err, BN_E_OVERLOADED, "no");
	for (int i = 0; i < 4; i++) {
		join(i, 1);
	}
	bn_holds_grant(&stage->holds, &stage->hold[2]);
	bn_holds_refuse(&stage->holds, &stage->hold[0], &err);
	bn_holds_grant(&stage->holds, &stage->hold[1]);
	assert_true(stage->hold[0].decided && stage->hold[1].decided);
	expect_heard("");
	bn_holds_leave(&stage->holds, &stage->hold[1]); /* hears nothing more */
	assert_int_equal(stage->ann.live, 1);
	bn_holds_tell(&stage->holds);
	expect_heard("+2 -0 ");
	bn_holds_tell(&stage->holds);
	expect_heard("");
	assert_string_equal(turns(NULL), "3");
}

static void holds_refuses_all_who_wait_for_one_model(void **state)
{
	struct bn_error err;

	(void)state;
	bn_fail(&err, BN_E_OVERLOADED, "no");
	join(0, 1);
	bn_holds_join(&stage->holds, &stage->hold[1], &stage->bob, 7);
	join(2, 2);
	bn_holds_refuse_all(&stage->holds, &stage->ann, &err);
	bn_holds_tell(&stage->holds);
	expect_heard("-0 -2 ");
	assert_int_equal(stage->ann.waiting, 0);
	assert_int_equal(stage->bob.waiting, 1);
	join(0, 1); /* a refused hold is as new */
	assert_int_equal(stage->ann.waiting, 1);
}

static void holds_lets_hooks_wait_again(void **state)
{
	(void)state;
	join(0, 1);
	join(1, 1);
	bn_holds_grant(&stage->holds, &stage->hold[0]);
	bn_holds_grant(&stage->holds, &stage->hold[1]);
	stage->again = 1;
	bn_holds_tell(&stage->holds);
	expect_heard("+0 +1 ");
	assert_int_equal(stage->hold[0].state, BN_HOLD_MEMORY);
	assert_int_equal(stage->hold[1].state, BN_HOLD_GRANTED);
	assert_int_equal(stage->ann.waiting, 1);
	assert_int_equal(stage->ann.live, 1);
}

static void holds_tells_places_when_they_change(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		join(i, 1);
	}
	turns(NULL);
	bn_holds_tell_places(&stage->holds);
	expect_heard("@0:0 @1:1 @2:2 ");
	turns(NULL);
	bn_holds_tell_places(&stage->holds);
	expect_heard("");
	turns(NULL);
	bn_holds_grant(&stage->holds, &stage->hold[0]); /* decided since: not counted */
	bn_holds_tell_places(&stage->holds);
	expect_heard("@1:0 @2:1 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(holds_is_by_arrival_for_one_user, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(holds_goes_round_the_users, set_up, tear_down),
		cmocka_unit_test_setup_teardown(holds_counts_memory_only_and_lets_nobody_save_up,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(holds_puts_first_whom_it_is_told_to, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			holds_keeps_the_place_of_one_who_comes_back_for_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(holds_tells_what_was_decided_later_and_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(holds_refuses_all_who_wait_for_one_model, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(holds_lets_hooks_wait_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(holds_tells_places_when_they_change, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
