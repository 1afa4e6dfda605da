#include "engine/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static char root[64];

static void put(const char *path, const char *text)
{
	char name[256];
	FILE *file;

	snprintf(name, sizeof(name), "%s%s", root, path);
	for (char *slash = strchr(name + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(name, 0700);
		*slash = '/';
	}
	file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int make_root(void **state)
{
	(void)state;
	strcpy(root, "/tmp/bn-test-machine-XXXXXX");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static struct bn_machine look(void)
{
	struct bn_machine machine;

	assert_int_equal(bn_machine_look(&machine, root, NULL), BN_OK);
	return machine;
}

static void machine_without_groups_has_no_limit(void **state)
{
	struct bn_machine machine;

	(void)state;
	put("/proc/meminfo",
	    "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB\n");
	machine = look();
	assert_int_equal(machine.total_bytes, UINT64_C(16000000) * 1024);
	assert_int_equal(machine.available_bytes, UINT64_C(8000000) * 1024);
	assert_int_equal(machine.cgroup_bytes, UINT64_MAX);
}

static void machine_limit_is_the_tightest_on_the_way_up_in_version_2(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/system.slice/bnd.service\n");
	put("/sys/fs/cgroup/system.slice/bnd.service/memory.max", "max\n");
	assert_int_equal(look().cgroup_bytes, UINT64_MAX);
	put("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
	assert_int_equal(look().cgroup_bytes, 1073741824);
	put("/sys/fs/cgroup/system.slice/bnd.service/memory.max", "536870912\n");
	assert_int_equal(look().cgroup_bytes, 536870912);
	put("/sys/fs/cgroup/memory.max", "1048576\n");
	assert_int_equal(look().cgroup_bytes, 1048576);
}

static void machine_limit_is_read_in_version_1_too(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/a\n0::/a\n");
	put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(look().cgroup_bytes, UINT64_MAX);
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "67108864\n");
	assert_int_equal(look().cgroup_bytes, 67108864);
}

static void machine_inside_a_container_sees_its_root_group(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/\n");
	put("/sys/fs/cgroup/memory.max", "2147483648\n");
	assert_int_equal(look().cgroup_bytes, 2147483648);
}

static void machine_broken_files_limit_nothing(void **state)
{
	(void)state;
	put("/proc/meminfo", "nonsense");
	put("/proc/self/cgroup", "garbage\n:\n0:\n0::relative\n0::/../../x\n\n");
	assert_int_equal(look().cgroup_bytes, UINT64_MAX);
	assert_true(look().total_bytes > 0); /* from sysinfo */
}

static void machine_budget_leaves_headroom_and_heeds_the_group(void **state)
{
	struct bn_machine machine = { 16384 * MIB, 8192 * MIB, UINT64_MAX };
	uint64_t budget;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_machine_budget(&budget, &machine, 1024 * MIB, &err), BN_OK);
	assert_int_equal(budget, 7168 * MIB);
	machine.cgroup_bytes = 1000 * MIB;
	assert_int_equal(bn_machine_budget(&budget, &machine, 1024 * MIB, &err), BN_OK);
	assert_int_equal(budget, 900 * MIB);
	assert_int_equal(bn_machine_budget(&budget, &machine, 9000 * MIB, &err), BN_E_MEMORY);
	assert_non_null(strstr(err.text, "8192 MiB available"));
	assert_non_null(strstr(err.text, "limit 1000 MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(machine_without_groups_has_no_limit, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(
			machine_limit_is_the_tightest_on_the_way_up_in_version_2, make_root,
			remove_root),
		cmocka_unit_test_setup_teardown(machine_limit_is_read_in_version_1_too, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(machine_inside_a_container_sees_its_root_group,
						make_root, remove_root),
		cmocka_unit_test_setup_teardown(machine_broken_files_limit_nothing, make_root,
						remove_root),
		cmocka_unit_test(machine_budget_leaves_headroom_and_heeds_the_group),
	};

	return cmocka_run_group_tests_name("engine/machine", tests, NULL, NULL);
}
