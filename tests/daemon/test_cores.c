#include "daemon/cores.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* What we may use really; tests that need more than one skip themselves on smaller machines. */
static uint32_t ours(uint32_t at[], uint32_t room)
{
	cpu_set_t mask;
	uint32_t n = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
	for (uint32_t c = 0; c < CPU_SETSIZE && n < room; c++) {
		if (CPU_ISSET(c, &mask)) {
			at[n++] = c;
		}
	}
	return n;
}

/* A folder that says that cores `a` and `b` are one. */
static void make_sys(char *folder, uint32_t a, uint32_t b)
{
	static const char *const parts[] = { "devices", "system", "cpu" };
	char path[512];
	size_t n;

	strcpy(folder, "/tmp/bn-test-XXXXXX");
	assert_non_null(mkdtemp(folder));
	n = (size_t)snprintf(path, sizeof(path), "%s", folder);
	for (size_t i = 0; i < 3; i++) {
		n += (size_t)snprintf(path + n, sizeof(path) - n, "/%s", parts[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	for (int k = 0; k < 2; k++) {
		char file[600];
		FILE *f;

		snprintf(file, sizeof(file), "%s/cpu%u", path, k == 0 ? a : b);
		assert_int_equal(mkdir(file, 0700), 0);
		strcat(file, "/topology");
		assert_int_equal(mkdir(file, 0700), 0);
		strcat(file, "/thread_siblings_list");
		f = fopen(file, "w");
		assert_non_null(f);
		fprintf(f, "%u,%u\n", a, b);
		fclose(f);
	}
}

static void cores_auto_takes_every_core_we_may_use(void **state)
{
	struct bn_config_cores want = { 0 };
	struct bn_cores cores;
	uint32_t at[BN_CORES_MAX];
	uint32_t n = ours(at, BN_CORES_MAX);

	(void)state;
	assert_int_equal(bn_cores_choose(&cores, &want, "/nonexistent", NULL), BN_OK);
	assert_int_equal(cores.n, n);
	assert_memory_equal(cores.at, at, n * sizeof(at[0]));
}

static void cores_auto_takes_one_thread_of_a_core_and_count_may_take_more(void **state)
{
	struct bn_config_cores want = { 0 };
	struct bn_cores cores;
	uint32_t at[BN_CORES_MAX];
	uint32_t n = ours(at, BN_CORES_MAX);
	char folder[64], command[128];

	(void)state;
	if (n < 2) {
		skip();
	}
	make_sys(folder, at[0], at[1]);
	assert_int_equal(bn_cores_choose(&cores, &want, folder, NULL), BN_OK);
	assert_int_equal(cores.n, n - 1);
	assert_int_equal(cores.at[0], at[0]);
	want.count = n;
	assert_int_equal(bn_cores_choose(&cores, &want, folder, NULL), BN_OK);
	assert_int_equal(cores.n, n);
	assert_int_equal(cores.at[n - 1], at[1]); /* the second thread comes last */
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	assert_int_equal(system(command), 0);
}

static void cores_lists_are_taken_as_they_are(void **state)
{
	struct bn_config_cores want = { 0 };
	struct bn_cores cores;
	uint32_t at[BN_CORES_MAX];
	uint32_t n = ours(at, BN_CORES_MAX);
	uint32_t last = at[n - 1];

	(void)state;
	want.list = (struct bn_config_numbers){ 1, &last };
	assert_int_equal(bn_cores_choose(&cores, &want, "/sys", NULL), BN_OK);
	assert_int_equal(cores.n, 1);
	assert_int_equal(cores.at[0], last);
}

static void cores_refuses_what_is_not_there(void **state)
{
	static const uint32_t far[] = { 5000 };
	struct bn_config_cores want = { .list = { 1, far } };
	struct bn_cores cores = { .n = 77 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_cores_choose(&cores, &want, "/sys", &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "5000"));
	want = (struct bn_config_cores){ .count = 100000 };
	assert_int_equal(bn_cores_choose(&cores, &want, "/sys", &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "100000"));
	assert_int_equal(cores.n, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cores_auto_takes_every_core_we_may_use),
		cmocka_unit_test(cores_auto_takes_one_thread_of_a_core_and_count_may_take_more),
		cmocka_unit_test(cores_lists_are_taken_as_they_are),
		cmocka_unit_test(cores_refuses_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
