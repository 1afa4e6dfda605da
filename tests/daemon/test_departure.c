#include "daemon/departure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MODELS = 4, BUDGET = 1000, EACH = 200 };

/* Four models of 200 bytes, in memory as far as the ledger knows, in a budget of 1000. */
struct stage {
	uv_loop_t loop;
	struct bn_budget *budget;
	struct bn_catalog catalog;
	struct bn_departures d;
	struct bn_entry *ann, *bob, *cid, *dan;
};

static void on_changed(void *who, struct bn_entry *e)
{
	(void)who;
	assert_int_equal(e->state, BN_ENTRY_COLD);
}

static struct bn_entry *load(struct bn_entry *e, uint64_t used)
{
	assert_int_equal(bn_budget_reserve(e->context.budget, BN_BUDGET_WEIGHTS, e->config.name,
					   EACH - 50, NULL),
			 BN_OK);
	assert_int_equal(
		bn_budget_reserve(e->context.budget, BN_BUDGET_SCRATCH, e->config.name, 50, NULL),
		BN_OK);
	e->weights_bytes = EACH - 50;
	e->scratch_bytes = 50;
	e->state = BN_ENTRY_READY;
	e->used_order = used;
	return e;
}

static struct stage *open_stage(void)
{
	static const char *const names[MODELS] = { "ann", "bob", "cid", "dan" };
	struct stage *s = calloc(1, sizeof(*s));
	struct bn_config_model models[MODELS];
	struct bn_config config = { .models = models, .n_models = MODELS };
	struct bn_entry_context context;

	memset(models, 0, sizeof(models));
	for (int i = 0; i < MODELS; i++) {
		models[i].name = names[i];
		models[i].path = "/nowhere/a.gguf";
	}
	bn_enter_loop();
	assert_int_equal(uv_loop_init(&s->loop), 0);
	assert_int_equal(bn_budget_new(&s->budget, BUDGET, NULL), BN_OK);
	context = (struct bn_entry_context){ .loop = &s->loop,
					     .budget = s->budget,
					     .changed = on_changed };
	assert_int_equal(bn_catalog_apply(&s->catalog, &context, &config, NULL), BN_OK);
	s->d.catalog = &s->catalog;
	s->d.budget = s->budget;
	/* Used in the order bob, dan, ann, cid. */
	s->ann = load(s->catalog.first, 3);
	s->bob = load(s->ann->next, 1);
	s->cid = load(s->bob->next, 4);
	s->dan = load(s->cid->next, 2);
	return s;
}

static void close_stage(struct stage *s)
{
	uv_run(&s->loop, UV_RUN_DEFAULT);
	bn_enter_loop();
	for (struct bn_entry *e = s->catalog.first; e != NULL; e = e->next) {
		e->live = 0;
		e->waiting = 0;
		if (e->state == BN_ENTRY_READY) {
			bn_entry_drop(e);
		}
	}
	uv_run(&s->loop, UV_RUN_DEFAULT);
	while (s->catalog.first != NULL) {
		bn_catalog_drop(&s->catalog, s->catalog.first);
	}
	assert_int_equal(uv_loop_close(&s->loop), 0);
	bn_budget_free(s->budget); /* asserts that it reads zero */
	free(s);
}

/* The names of those who would leave for `bytes` of e, and whether that is enough. */
static void expect_victims(struct stage *s, const struct bn_entry *e, uint64_t bytes,
			   const char *names, bool enough)
{
	struct bn_entry *out[MODELS];
	bool fits;
	uint32_t n = bn_departure_victims(&s->d, e, bytes, out, MODELS, &fits);
	char text[64] = "";

	for (uint32_t i = 0; i < n; i++) {
		strcat(text, out[i]->config.name);
		strcat(text, " ");
	}
	assert_string_equal(text, names);
	assert_int_equal(fits, enough);
}

static void departure_takes_the_one_used_longest_ago_first(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	expect_victims(s, NULL, 200, "", true);
	expect_victims(s, NULL, 201, "bob ", true);
	expect_victims(s, NULL, 600, "bob dan ", true);
	expect_victims(s, NULL, 1000, "bob dan ann cid ", true);
	expect_victims(s, NULL, 1001, "bob dan ann cid ", false);
	close_stage(s);
}

static void departure_spares_the_busy_the_pinned_and_the_one_it_is_for(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	s->bob->live = 1;
	expect_victims(s, NULL, 201, "dan ", true);
	s->dan->pinned = true;
	expect_victims(s, NULL, 201, "ann ", true);
	expect_victims(s, s->ann, 201, "cid ", true);
	expect_victims(s, s->ann, 401, "cid ", false);
	close_stage(s);
}

static void departure_spares_those_waited_for_unless_told_otherwise(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	s->bob->waiting = 1;
	s->ann->waiting = 2;
	expect_victims(s, NULL, 600, "dan cid ", true);
	expect_victims(s, NULL, 601, "dan cid ", false);
	assert_false(bn_departure_make_room(&s->d, NULL, 601, false));
	assert_int_equal(s->dan->state, BN_ENTRY_READY); /* nobody leaves for nothing */
	/* After the others: bob was used before both, and is the third. */
	assert_true(bn_departure_make_room(&s->d, NULL, 800, true));
	assert_int_equal(s->dan->state, BN_ENTRY_DRAINING);
	assert_int_equal(s->cid->state, BN_ENTRY_DRAINING);
	assert_int_equal(s->bob->state, BN_ENTRY_DRAINING);
	assert_int_equal(s->ann->state, BN_ENTRY_READY);
	close_stage(s);
}

static void departure_counts_what_is_on_its_way_out(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	assert_true(bn_departure_make_room(&s->d, s->cid, 400, false));
	assert_true(bn_departure_make_room(&s->d, s->cid, 400, false));
	assert_int_equal(s->bob->state, BN_ENTRY_DRAINING);
	assert_int_equal(s->dan->state, BN_ENTRY_READY);
	expect_victims(s, s->cid, 400, "", true);
	expect_victims(s, s->cid, 401, "dan ", true);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_int_equal(s->bob->state, BN_ENTRY_COLD);
	assert_int_equal(bn_budget_used(s->budget), BUDGET - 2 * EACH);
	close_stage(s);
}

static void departure_knows_what_can_never_fit(void **state)
{
	struct stage *s = open_stage();

	(void)state;
	s->ann->live = 1; /* busy models end one day */
	assert_true(bn_departure_is_possible(&s->d, s->bob, BUDGET));
	assert_false(bn_departure_is_possible(&s->d, s->bob, BUDGET + 1));
	s->ann->pinned = true;
	assert_true(bn_departure_is_possible(&s->d, s->bob, BUDGET - EACH));
	assert_false(bn_departure_is_possible(&s->d, s->bob, BUDGET - EACH + 1));
	assert_true(bn_departure_is_possible(&s->d, s->ann, BUDGET)); /* its own pin is no bar */
	close_stage(s);
}

static void departure_remembers_the_last_ones_and_for_whom(void **state)
{
	struct stage *s = open_stage();
	const struct bn_departure *last;

	(void)state;
	assert_null(bn_departure_at(&s->d, 0));
	bn_departure_send(&s->d, s->ann, BN_DEPARTURE_IDLE, NULL);
	bn_departure_send(&s->d, s->bob, BN_DEPARTURE_MEMORY, s->cid);
	last = bn_departure_at(&s->d, 0);
	assert_string_equal(last->name, "bob");
	assert_string_equal(last->by, "cid");
	assert_int_equal(last->bytes, EACH);
	assert_string_equal(bn_departure_word(last->reason), "memory");
	assert_string_equal(bn_departure_at(&s->d, 1)->name, "ann");
	assert_string_equal(bn_departure_at(&s->d, 1)->by, "");
	assert_null(bn_departure_at(&s->d, 2));
	for (uint32_t i = 0; i < BN_DEPARTURE_KEPT; i++) {
		uv_run(&s->loop, UV_RUN_DEFAULT);
		bn_enter_loop();
		bn_departure_send(&s->d, load(s->bob, 1), BN_DEPARTURE_UNLOAD, NULL);
	}
	assert_string_equal(bn_departure_at(&s->d, BN_DEPARTURE_KEPT - 1)->name, "bob");
	assert_null(bn_departure_at(&s->d, BN_DEPARTURE_KEPT));
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(departure_takes_the_one_used_longest_ago_first),
		cmocka_unit_test(departure_spares_the_busy_the_pinned_and_the_one_it_is_for),
		cmocka_unit_test(departure_spares_those_waited_for_unless_told_otherwise),
		cmocka_unit_test(departure_counts_what_is_on_its_way_out),
		cmocka_unit_test(departure_knows_what_can_never_fit),
		cmocka_unit_test(departure_remembers_the_last_ones_and_for_whom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
