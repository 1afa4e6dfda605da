#include "daemon/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { MODELS = 4 };

/* A catalog and the configuration it is to follow; nothing is loaded, so there need be no files. */
struct stage {
	struct bn_catalog catalog;
	struct bn_entry_context context;
	struct bn_config config;
	struct bn_config_model models[MODELS];
};

static struct bn_config_model model(const char *name)
{
	return (struct bn_config_model){ .name = name, .path = "/nowhere/a.gguf", .weight = 1 };
}

static void set_up(struct stage *s, uint32_t n)
{
	static const char *const names[] = { "ann", "bob", "cid", "dan" };

	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < MODELS; i++) {
		s->models[i] = model(names[i]);
	}
	s->config.models = s->models;
	s->config.n_models = n;
	assert_int_equal(bn_catalog_apply(&s->catalog, &s->context, &s->config, NULL), BN_OK);
}

static void tear_down(struct stage *s)
{
	while (s->catalog.first != NULL) {
		bn_catalog_drop(&s->catalog, s->catalog.first);
	}
}

static void apply(struct stage *s)
{
	assert_int_equal(bn_catalog_apply(&s->catalog, &s->context, &s->config, NULL), BN_OK);
}

/* The names in order; a removed one with a minus before it. */
static void expect_names(const struct stage *s, const char *names)
{
	char text[128] = "";

	for (const struct bn_entry *e = s->catalog.first; e != NULL; e = e->next) {
		strcat(text, e->removed ? " -" : " ");
		strcat(text, e->config.name);
	}
	assert_string_equal(text, names);
}

static struct bn_entry *find(struct stage *s, const char *name)
{
	struct bn_entry *e = NULL;

	return bn_catalog_find(&s->catalog, bn_text_of(name), &e, NULL) == BN_OK ? e : NULL;
}

static void catalog_finds_by_name_and_alias_and_suggests(void **state)
{
	static const char *const aliases[] = { "annie", "first" };
	struct stage s;
	struct bn_entry *e;
	struct bn_error err;

	(void)state;
	set_up(&s, 3);
	s.models[0].aliases = (struct bn_config_strings){ 2, aliases };
	apply(&s);
	assert_ptr_equal(find(&s, "first"), find(&s, "ann"));
	assert_ptr_not_equal(find(&s, "bob"), find(&s, "ann"));
	assert_int_equal(bn_catalog_find(&s.catalog, bn_text_of("anie"), &e, &err), BN_E_NOT_FOUND);
	assert_non_null(strstr(err.text, "annie"));
	assert_string_equal(err.data[0].text, "annie");
	assert_int_equal(bn_catalog_find(&s.catalog, bn_text_of("zzzzzzzz"), &e, &err),
			 BN_E_NOT_FOUND);
	assert_non_null(strstr(err.text, "models.list"));
	tear_down(&s);
}

static void catalog_says_when_there_are_no_models(void **state)
{
	struct stage s;
	struct bn_entry *e;
	struct bn_error err;

	(void)state;
	set_up(&s, 0);
	assert_int_equal(bn_catalog_find(&s.catalog, bn_text_of("ann"), &e, &err), BN_E_NOT_FOUND);
	assert_non_null(strstr(err.text, "has no models"));
	tear_down(&s);
}

static void catalog_follows_the_order_of_the_file(void **state)
{
	struct stage s;
	struct bn_entry *ann;

	(void)state;
	set_up(&s, 3);
	expect_names(&s, " ann bob cid");
	ann = find(&s, "ann");
	s.models[0] = model("cid");
	s.models[1] = model("dan");
	s.models[2] = model("ann");
	apply(&s);
	expect_names(&s, " cid dan ann -bob");
	assert_ptr_equal(find(&s, "ann"), ann);
	assert_null(find(&s, "bob"));
	tear_down(&s);
}

static void catalog_takes_over_settings_that_need_no_load(void **state)
{
	struct stage s;
	struct bn_entry *ann;

	(void)state;
	set_up(&s, 1);
	ann = find(&s, "ann");
	ann->pinned = true; /* by hand: stays until the file says something new */
	s.models[0].keep_alive_ms = 12345;
	s.models[0].weight = 7;
	apply(&s);
	assert_ptr_equal(find(&s, "ann"), ann);
	assert_int_equal(ann->keep_alive_ms, 12345);
	assert_int_equal(ann->config.weight, 7);
	assert_true(ann->pinned);
	tear_down(&s);
}

static void catalog_replaces_what_is_loaded_differently_now(void **state)
{
	struct stage s;
	struct bn_entry *old;

	(void)state;
	set_up(&s, 2);
	old = find(&s, "ann");
	old->pinned = true;
	old->wanted = true;
	s.models[0].path = "/nowhere/b.gguf";
	apply(&s);
	expect_names(&s, " ann bob -ann");
	assert_ptr_not_equal(find(&s, "ann"), old);
	assert_string_equal(find(&s, "ann")->config.path, "/nowhere/b.gguf");
	assert_string_equal(old->config.path, "/nowhere/a.gguf");
	assert_false(old->pinned || old->wanted);
	/* The old file again: the one on its way out stays on it. */
	s.models[0].path = "/nowhere/a.gguf";
	apply(&s);
	expect_names(&s, " ann bob -ann -ann");
	assert_true(old->removed);
	tear_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(catalog_finds_by_name_and_alias_and_suggests),
		cmocka_unit_test(catalog_says_when_there_are_no_models),
		cmocka_unit_test(catalog_follows_the_order_of_the_file),
		cmocka_unit_test(catalog_takes_over_settings_that_need_no_load),
		cmocka_unit_test(catalog_replaces_what_is_loaded_differently_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
