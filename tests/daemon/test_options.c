#include "daemon/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PARSE(o, err, ...) parse((o), (err), (const char *[]){ "bnd", __VA_ARGS__, NULL })

static enum bn_status parse(struct bn_options *o, struct bn_error *err, const char **words)
{
	char *argv[16];
	int argc = 0;

	/* Not written to: bn_options_parse does not let getopt reorder. */
	for (; words[argc] != NULL; argc++) {
		argv[argc] = (char *)(uintptr_t)words[argc];
	}
	argv[argc] = NULL;
	return bn_options_parse(o, argc, argv, err);
}

static void options_serve_is_the_default(void **state)
{
	struct bn_options o;
	struct bn_error err;

	(void)state;
	assert_int_equal(PARSE(&o, &err, "--config", "a.yaml"), BN_OK);
	assert_int_equal(o.mode, BN_OPTIONS_SERVE);
	assert_string_equal(o.config, "a.yaml");
	assert_true(o.config_given);
	assert_null(o.socket);
	assert_false(o.debuggable);
	assert_int_equal(
		PARSE(&o, &err, "-c", "b", "--socket", "s", "--debuggable", "--foreground"), BN_OK);
	assert_string_equal(o.socket, "s");
	assert_true(o.debuggable);
}

static void options_checks_a_file_named_in_any_way(void **state)
{
	static const char *const ways[][3] = { { "-t", "x", NULL },
					       { "--check-config", "x", NULL },
					       { "--check-config=x", NULL, NULL } };
	struct bn_options o;
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const char *words[] = { "bnd", ways[i][0], ways[i][1], NULL };

		assert_int_equal(parse(&o, &err, words), BN_OK);
		assert_int_equal(o.mode, BN_OPTIONS_CHECK);
		assert_string_equal(o.config, "x");
	}
	assert_int_equal(PARSE(&o, &err, "-c", "y", "-t"), BN_OK);
	assert_int_equal(o.mode, BN_OPTIONS_CHECK);
	assert_string_equal(o.config, "y");
}

static void options_says_what_is_wrong_and_where_help_is(void **state)
{
	struct bn_options o;
	struct bn_error err;

	(void)state;
	assert_int_equal(PARSE(&o, &err, "--nonsense"), BN_E_INVALID);
	assert_non_null(strstr(err.text, "--nonsense"));
	assert_non_null(strstr(err.text, "--help"));
	assert_int_equal(PARSE(&o, &err, "word"), BN_E_INVALID);
	assert_non_null(strstr(err.text, "word"));
	assert_int_equal(PARSE(&o, &err, "--config"), BN_E_INVALID);
	assert_int_equal(PARSE(&o, &err, "--config", ""), BN_E_INVALID);
	assert_int_equal(PARSE(&o, &err, "--json"), BN_E_INVALID);
	assert_int_equal(PARSE(&o, &err, "--version", "--json"), BN_OK);
	assert_true(o.json);
}

static void options_find_the_files_of_the_system_or_of_a_user(void **state)
{
	struct bn_options o;
	struct bn_error err;
	char path[128], tiny[8];

	(void)state;
	setenv("XDG_CONFIG_HOME", "/cfg", 1);
	setenv("XDG_RUNTIME_DIR", "/rt", 1);
	assert_int_equal(PARSE(&o, &err, "--print-config"), BN_OK);
	assert_false(o.config_given);
	assert_int_equal(bn_options_socket(path, sizeof(path), &err), BN_OK);
	if (geteuid() == 0) {
		assert_string_equal(o.config, BN_CONFIG_FOLDER "/bnd.yaml");
		assert_string_equal(path, "/run/bnd/bnd.sock");
	} else {
		assert_string_equal(o.config, "/cfg/bnd/bnd.yaml");
		assert_string_equal(path, "/rt/bnd/bnd.sock");
		unsetenv("XDG_RUNTIME_DIR");
		assert_int_equal(bn_options_socket(path, sizeof(path), &err), BN_E_CONFIG);
		assert_non_null(strstr(err.text, "--socket"));
		setenv("XDG_RUNTIME_DIR", "/rt", 1);
	}
	assert_int_equal(bn_options_socket(tiny, sizeof(tiny), &err), BN_E_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_serve_is_the_default),
		cmocka_unit_test(options_checks_a_file_named_in_any_way),
		cmocka_unit_test(options_says_what_is_wrong_and_where_help_is),
		cmocka_unit_test(options_find_the_files_of_the_system_or_of_a_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
