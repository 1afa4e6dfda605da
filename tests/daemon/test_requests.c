#include "daemon/requests.h"

#include "tests/daemon/asks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void request_queues_are_bounded_by_user_and_model_and_in_all(void **state)
{
	struct asks *s = asks_open(1);
	union bn_params a = asks_params("ann", "hello", 3);
	union bn_params b = asks_params("bob", "hello", 3);
	struct ask *ask;
	struct bn_error err;

	(void)state;
	for (int i = 0; i < 20; i++) {
		asks_start(s, &a);
	}
	assert_int_equal(asks_start_as(s, &a, 1, &ask, &err), BN_E_QUEUE_FULL);
	assert_non_null(strstr(err.text, "20 of 20"));
	for (int i = 0; i < 10; i++) {
		assert_int_equal(asks_start_as(s, &a, 2, &ask, &err), BN_OK);
	}
	assert_int_equal(asks_start_as(s, &a, 3, &ask, &err),
			 BN_E_OVERLOADED); /* 30 of the model */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(asks_start_as(s, &b, 3, &ask, &err), BN_OK);
	}
	assert_int_equal(asks_start_as(s, &b, 4, &ask, &err), BN_E_OVERLOADED); /* 40 in all */
	bn_enter_loop();
	assert_int_equal(bn_requests_count(s->rig.requests).waiting, 40);
	assert_int_equal(bn_requests_count_uid(s->rig.requests, 2).waiting, 10);
	for (uint32_t i = 0; i < s->n; i++) {
		if (i != 20 && i != 31 && i != 42) { /* the three that were refused */
			asks_until_done(s, &s->ask[i]);
			assert_false(s->ask[i].failed);
		}
	}
	asks_settle(s);
	asks_close(s);
}

static void requests_refuse_newcomers_when_draining(void **state)
{
	struct asks *s = asks_open(2);
	union bn_params p = asks_params("ann", "hello", 30);
	struct ask *a = asks_start(s, &p);

	(void)state;
	bn_enter_loop();
	bn_requests_drain(s->rig.requests);
	asks_expect(s, &p, BN_E_DRAINING, "");
	asks_until_done(s, a);
	assert_false(a->failed);
	asks_close(s);
}

static void requests_of_one_model_can_be_cancelled(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 3000);
	union bn_params q = asks_params("bob", "hello", 30);
	struct ask *a = asks_start(s, &p);
	struct ask *b = asks_start(s, &q);

	(void)state;
	rig_for(&s->rig, 30);
	bn_enter_loop();
	bn_requests_cancel_model(s->rig.requests, rig_entry(&s->rig, "ann"), BN_E_CANCELLED);
	asks_until_done(s, a);
	asks_until_done(s, b);
	assert_true(a->failed && !b->failed);
	asks_close(s);
}

static void requests_that_hang_are_answered_without_the_lead(void **state)
{
	struct asks *s = asks_open(4);
	union bn_params p = asks_params("ann", "hello", 3000);
	struct ask *a;

	(void)state;
	p.completions.group.has_stream = true;
	p.completions.group.stream = true;
	a = asks_start(s, &p);
	rig_until(&s->rig, ask_has_text, a);
	bn_enter_loop();
	bn_requests_abandon(s->rig.requests);
	assert_int_equal(a->done, 1); /* at once */
	assert_int_equal(a->err.status, BN_E_INTERNAL);
	asks_settle(s); /* and what it held comes back when the lead does */
	asks_close(s);
}

/* Random starts, cancels, orphans and pauses: every sink is told once, and nothing is left. */
static void requests_survive_a_random_walk(void **state)
{
	unsigned seed = 4242;

	(void)state;
	for (int round = 0; round < 4; round++) {
		struct asks *s = asks_open(3);
		bool orphan[ASKS_MAX] = { false };

		for (int step = 0; step < 300; step++) {
			uint32_t i = s->n > 0 ? (uint32_t)rand_r(&seed) % s->n : 0;
			struct ask *a = &s->ask[i];
			int what = rand_r(&seed) % 10;

			bn_enter_loop();
			if (what < 3 && s->n < ASKS_MAX) {
				union bn_params p =
					asks_params(rand_r(&seed) % 2 ? "ann" : "bob",
						    "once upon a time", 1 + rand_r(&seed) % 400);
				struct bn_error err;

				p.completions.group.has_stream = true;
				p.completions.group.stream = rand_r(&seed) % 2 == 0;
				p.completions.group.has_deadline_ms = rand_r(&seed) % 4 == 0;
				p.completions.group.deadline_ms = 1 + rand_r(&seed) % 40;
				if (asks_start_as(s, &p, (uid_t)(rand_r(&seed) % 3), &a, &err) !=
				    BN_OK) {
					s->n--;
					memset(&s->ask[s->n], 0, sizeof(s->ask[0]));
				}
			} else if (a->request != NULL && !orphan[i]) {
				if (what == 3) {
					bn_request_cancel(a->request, BN_E_CANCELLED);
				} else if (what == 4) {
					orphan[i] = true;
					bn_request_orphan(a->request);
				} else if (what < 8) {
					bn_request_pause(a->request, what == 5);
				}
			}
			rig_for(&s->rig, (uint32_t)rand_r(&seed) % 3);
		}
		for (uint32_t i = 0; i < s->n; i++) {
			if (s->ask[i].request != NULL && !orphan[i]) {
				bn_enter_loop();
				bn_request_pause(s->ask[i].request, false);
			}
		}
		rig_until(&s->rig, asks_are_settled, s);
		for (uint32_t i = 0; i < s->n; i++) {
			if (!orphan[i]) {
				asks_until_done(s, &s->ask[i]);
			}
			assert_int_equal(s->ask[i].done, orphan[i] ? 0 : 1);
		}
		asks_settle(s);
		asks_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_queues_are_bounded_by_user_and_model_and_in_all),
		cmocka_unit_test(requests_refuse_newcomers_when_draining),
		cmocka_unit_test(requests_of_one_model_can_be_cancelled),
		cmocka_unit_test(requests_that_hang_are_answered_without_the_lead),
		cmocka_unit_test(requests_survive_a_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
