#include "daemon/admission.h"

#include "daemon/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { PLACES = 16 };

static struct bn_entry ann, bob;

struct stage {
	struct bn_admission a;
	struct bn_place place[PLACES];
	uint32_t n;
};

static void set_up(struct stage *s)
{
	memset(s, 0, sizeof(*s));
	s->a.limits = (struct bn_requests_limits){
		.queue = 8, .queue_per_model = 6, .queue_per_user = 4, .max_batch = 2
	};
}

static enum bn_status enter(struct stage *s, uid_t uid, const struct bn_entry *e, bool no_wait,
			    struct bn_error *err)
{
	struct bn_place *p = &s->place[s->n];
	enum bn_status status;

	*p = (struct bn_place){ .uid = uid, .entry = e, .priority = BN_PRIORITY_NORMAL };
	status = bn_admission_enter(&s->a, p, no_wait, err);
	s->n += status == BN_OK;
	return status;
}

static void enter_many(struct stage *s, int n, uid_t uid, const struct bn_entry *e)
{
	for (int i = 0; i < n; i++) {
		assert_int_equal(enter(s, uid, e, false, NULL), BN_OK);
	}
}

static void admission_bounds_the_queue_of_a_user(void **state)
{
	struct stage s;
	struct bn_error err;

	(void)state;
	set_up(&s);
	enter_many(&s, 4, 1, &ann);
	assert_int_equal(enter(&s, 1, &bob, false, &err), BN_E_QUEUE_FULL);
	assert_non_null(strstr(err.text, "4 of 4"));
	assert_string_equal(err.data[0].key, "retry_after_ms");
	assert_int_equal(err.data[1].number, 4);
	assert_int_equal(err.data[2].number, 4);
	assert_int_equal(enter(&s, 2, &bob, false, &err), BN_OK);
	bn_admission_run(&s.a, &s.place[0]); /* what runs does not wait */
	assert_int_equal(enter(&s, 1, &ann, false, &err), BN_OK);
}

static void admission_bounds_the_queue_of_a_model_and_of_all(void **state)
{
	struct stage s;
	struct bn_error err;

	(void)state;
	set_up(&s);
	enter_many(&s, 3, 1, &ann);
	enter_many(&s, 3, 2, &ann);
	assert_int_equal(enter(&s, 3, &ann, false, &err), BN_E_OVERLOADED);
	assert_non_null(strstr(err.text, "of this model"));
	enter_many(&s, 2, 3, &bob);
	assert_int_equal(enter(&s, 3, &bob, false, &err), BN_E_OVERLOADED);
	assert_non_null(strstr(err.text, "8 of 8"));
	bn_admission_answered(&s.a, &s.place[0]);
	assert_int_equal(enter(&s, 3, &bob, false, &err), BN_OK);
}

static void admission_bounds_the_bytes_that_wait(void **state)
{
	struct stage s;
	struct bn_place big = { .uid = 1, .entry = &ann, .prompt_bytes = 64 << 20 };
	struct bn_place small = { .uid = 2, .entry = &ann, .prompt_bytes = 1 };
	struct bn_error err;

	(void)state;
	set_up(&s);
	assert_int_equal(bn_admission_enter(&s.a, &big, false, &err), BN_OK);
	assert_int_equal(bn_admission_enter(&s.a, &small, false, &err), BN_E_OVERLOADED);
	assert_non_null(strstr(err.text, "64 MiB"));
	bn_admission_run(&s.a, &big);
	assert_int_equal(bn_admission_enter(&s.a, &small, false, &err), BN_OK);
	bn_admission_answered(&s.a, &small);
	assert_int_equal(s.a.queue_bytes, 1); /* held until it is gone */
	bn_admission_leave(&s.a, &small);
	assert_int_equal(s.a.queue_bytes, 0);
}

static void admission_refuses_one_who_will_not_wait_when_all_places_are_taken(void **state)
{
	struct stage s;
	struct bn_error err;

	(void)state;
	set_up(&s);
	enter_many(&s, 3, 1, &ann);
	bn_admission_run(&s.a, &s.place[0]);
	assert_int_equal(enter(&s, 2, &ann, true, &err), BN_OK);
	bn_admission_run(&s.a, &s.place[1]);
	assert_int_equal(enter(&s, 2, &ann, true, &err), BN_E_OVERLOADED);
	assert_non_null(strstr(err.text, "all 2 places"));
	assert_int_equal(enter(&s, 2, &ann, false, &err), BN_OK);
	bn_admission_answered(&s.a, &s.place[1]);
	assert_int_equal(enter(&s, 2, &ann, true, &err), BN_OK);
}

static void admission_counts_by_uid_model_state_and_priority(void **state)
{
	struct stage s;
	struct bn_requests_count c;

	(void)state;
	set_up(&s);
	enter_many(&s, 2, 1, &ann);
	enter_many(&s, 3, 2, &bob);
	s.place[1].priority = BN_PRIORITY_BATCH;
	bn_admission_run(&s.a, &s.place[2]);
	bn_admission_answered(&s.a, &s.place[3]);
	c = bn_admission_count(&s.a);
	assert_int_equal(c.running, 1);
	assert_int_equal(c.waiting, 3);
	assert_int_equal(c.waiting_by_priority[BN_PRIORITY_BATCH], 1);
	assert_int_equal(c.waiting_by_priority[BN_PRIORITY_NORMAL], 2);
	c = bn_admission_count_uid(&s.a, 1);
	assert_int_equal(c.running, 0);
	assert_int_equal(c.waiting, 2);
	c = bn_admission_count_model(&s.a, &bob);
	assert_int_equal(c.running, 1);
	assert_int_equal(c.waiting, 1);
}

static void admission_keeps_the_others_in_order_when_one_leaves(void **state)
{
	struct stage s;

	(void)state;
	set_up(&s);
	enter_many(&s, 3, 1, &ann);
	bn_admission_answered(&s.a, &s.place[1]);
	bn_admission_leave(&s.a, &s.place[1]);
	assert_ptr_equal(s.a.first->after, &s.place[2]);
	assert_ptr_equal(s.a.last->before, &s.place[0]);
	bn_admission_answered(&s.a, &s.place[0]);
	bn_admission_leave(&s.a, &s.place[0]);
	bn_admission_answered(&s.a, &s.place[2]);
	bn_admission_leave(&s.a, &s.place[2]);
	assert_null(s.a.first);
	assert_null(s.a.last);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(admission_bounds_the_queue_of_a_user),
		cmocka_unit_test(admission_bounds_the_queue_of_a_model_and_of_all),
		cmocka_unit_test(admission_bounds_the_bytes_that_wait),
		cmocka_unit_test(admission_refuses_one_who_will_not_wait_when_all_places_are_taken),
		cmocka_unit_test(admission_counts_by_uid_model_state_and_priority),
		cmocka_unit_test(admission_keeps_the_others_in_order_when_one_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
