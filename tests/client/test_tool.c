/* client/tool: programs beside us and in PATH, their ends and their output. */
#include "client/tool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void programs_are_found_beside_us_and_in_absolute_folders(void **state)
{
	char own[4096], path[4096], script[64], folder[] = "/tmp/bn-tool-XXXXXX", search[256];
	struct bn_error err;
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	FILE *f;

	(void)state;
	assert_true(n > 0);
	own[n] = '\0';
	assert_int_equal(bn_tool_find(path, sizeof(path), strrchr(own, '/') + 1, NULL, NULL),
			 BN_OK);
	assert_string_equal(path, own);
	assert_non_null(mkdtemp(folder));
	snprintf(script, sizeof(script), "%s/bn-tool-here", folder);
	f = fopen(script, "w");
	assert_non_null(f);
	fclose(f);
	snprintf(search, sizeof(search), "::relative:/nowhere:%s:", folder);
	assert_int_equal(bn_tool_find(path, sizeof(path), "bn-tool-here", search, &err),
			 BN_E_NOT_FOUND);
	assert_int_equal(chmod(script, 0755), 0);
	assert_int_equal(bn_tool_find(path, sizeof(path), "bn-tool-here", search, NULL), BN_OK);
	assert_string_equal(path, script);
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(bn_tool_find(path, sizeof(path), "bn-tool-here", ".:", &err),
			 BN_E_NOT_FOUND);
	assert_int_equal(chdir("/"), 0);
	unlink(script);
	rmdir(folder);
}

static int run(const char *script, bool (*stop)(void *who), void *who)
{
	const char *const argv[] = { "sh", "-c", script, NULL };

	return bn_tool_run("/bin/sh", argv, stop, who);
}

static void exit_status_comes_back(void **state)
{
	const char *const argv[] = { "x", NULL };

	(void)state;
	assert_int_equal(run("exit 0", NULL, NULL), 0);
	assert_int_equal(run("exit 42", NULL, NULL), 42);
	assert_int_equal(run("kill -9 $$", NULL, NULL), 137);
	assert_int_equal(bn_tool_run("/nonexistent", argv, NULL, NULL), 127);
}

static void output_goes_to_standard_error(void **state)
{
	int pipes[2];
	const int saved = dup(STDERR_FILENO);
	char text[16] = "";

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	assert_int_equal(run("echo hello", NULL, NULL), 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipes[1]);
	assert_int_equal(read(pipes[0], text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	close(pipes[0]);
}

/* True from the third look on. */
static bool third(void *who)
{
	return ++*(unsigned *)who >= 3;
}

static void stop_ends_it(void **state)
{
	unsigned looks = 0;

	(void)state;
	assert_int_equal(run("exec sleep 60", third, &looks), 143);
	assert_true(looks == 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_are_found_beside_us_and_in_absolute_folders),
		cmocka_unit_test(exit_status_comes_back),
		cmocka_unit_test(output_goes_to_standard_error),
		cmocka_unit_test(stop_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
