#include "daemon/rota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ITEMS = 3 };

struct item {
	struct bn_rota_item turn; /* first */
	struct stage *stage;
	uint32_t served, swept;
	uint32_t needs_sweeps;         /* so many more */
	struct bn_rota_item *wakes_up; /* made due when this one is served */
};

struct stage {
	uv_loop_t loop;
	struct bn_rota rota;
	struct item item[ITEMS];
	struct item *order[16];
	uint32_t n;
	bool closed;
};

static void serve(struct bn_rota_item *turn)
{
	struct item *i = (struct item *)turn;

	i->served++;
	assert_true(i->stage->n < 16);
	i->stage->order[i->stage->n++] = i;
	if (i->wakes_up != NULL) {
		bn_enter_loop();
		bn_rota_soon(&i->stage->rota, i->wakes_up);
		i->wakes_up = NULL;
	}
}

static bool sweep(struct bn_rota_item *turn, uint64_t now_ms)
{
	struct item *i = (struct item *)turn;

	assert_true(now_ms > 0);
	i->swept++;
	i->needs_sweeps -= i->needs_sweeps > 0;
	return i->needs_sweeps > 0;
}

static void on_closed(void *who)
{
	((struct stage *)who)->closed = true;
}

static struct stage *open_stage(void)
{
	struct stage *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	bn_enter_loop();
	assert_int_equal(uv_loop_init(&s->loop), 0);
	bn_rota_init(&s->rota, &s->loop, serve, sweep);
	assert_null(bn_rota_first(&s->rota));
	for (int k = 0; k < ITEMS; k++) {
		s->item[k].stage = s;
		bn_rota_add(&s->rota, &s->item[k].turn);
	}
	return s;
}

static void close_stage(struct stage *s)
{
	bn_enter_loop();
	for (int k = 0; k < ITEMS; k++) {
		bn_rota_remove(&s->item[k].turn);
	}
	bn_rota_close(&s->rota, on_closed, s);
	assert_false(s->closed); /* from the loop only */
	uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_true(s->closed);
	assert_int_equal(uv_loop_close(&s->loop), 0);
	free(s);
}

static void rota_serves_each_once_in_the_order_they_became_due(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	bn_rota_soon(&s->rota, &s->item[2].turn);
	bn_rota_soon(&s->rota, &s->item[0].turn);
	bn_rota_soon(&s->rota, &s->item[2].turn);
	assert_int_equal(s->n, 0); /* never inside the call */
	uv_run(&s->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->n, 2);
	assert_ptr_equal(s->order[0], &s->item[2]);
	assert_ptr_equal(s->order[1], &s->item[0]);
	uv_run(&s->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->n, 2);
	close_stage(s);
}

static void rota_does_not_sleep_while_somebody_is_due(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	s->item[0].wakes_up = &s->item[1].turn;
	s->item[1].wakes_up = &s->item[1].turn; /* itself, once more */
	bn_rota_soon(&s->rota, &s->item[0].turn);
	uv_run(&s->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->n, 1); /* the next pass, not this one */
	/* Would hang if the loop slept: nothing else can wake it. */
	uv_run(&s->loop, UV_RUN_ONCE);
	uv_run(&s->loop, UV_RUN_ONCE);
	assert_int_equal(s->item[1].served, 2);
	assert_int_equal(s->n, 3);
	assert_false(uv_is_active((uv_handle_t *)&s->rota.again));
	close_stage(s);
}

static void rota_sweeps_as_long_as_one_needs_it(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	s->item[1].needs_sweeps = 3;
	bn_rota_need_sweep(&s->rota, 1);
	bn_rota_need_sweep(&s->rota, 100000); /* goes on already */
	while (s->item[1].swept < 3) {
		uv_run(&s->loop, UV_RUN_ONCE);
	}
	assert_int_equal(s->item[0].swept, 3); /* all of them, even behind one that needs it */
	assert_int_equal(s->item[2].swept, 3);
	assert_false(uv_is_active((uv_handle_t *)&s->rota.timer));
	s->item[2].needs_sweeps = 1;
	bn_rota_need_sweep(&s->rota, 1);
	while (s->item[1].swept < 4) {
		uv_run(&s->loop, UV_RUN_ONCE);
	}
	close_stage(s);
}

static void rota_lists_its_items(void **state)
{
	struct stage *s = open_stage();
	struct bn_rota_item *i;

	(void)state;
	i = bn_rota_first(&s->rota);
	for (int k = 0; k < ITEMS; k++) {
		assert_ptr_equal(i, &s->item[k].turn);
		i = bn_rota_after(&s->rota, i);
	}
	assert_null(i);
	bn_rota_remove(&s->item[1].turn);
	assert_ptr_equal(bn_rota_after(&s->rota, &s->item[0].turn), &s->item[2].turn);
	bn_rota_add(&s->rota, &s->item[1].turn);
	assert_ptr_equal(bn_rota_after(&s->rota, &s->item[2].turn), &s->item[1].turn);
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rota_serves_each_once_in_the_order_they_became_due),
		cmocka_unit_test(rota_does_not_sleep_while_somebody_is_due),
		cmocka_unit_test(rota_sweeps_as_long_as_one_needs_it),
		cmocka_unit_test(rota_lists_its_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
