#include "daemon/budget.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static struct bn_budget *new_budget(uint64_t limit)
{
	struct bn_budget *b;

	assert_int_equal(bn_budget_new(&b, limit, NULL), BN_OK);
	return b;
}

static void budget_counts_by_kind_and_holder(void **state)
{
	struct bn_budget *b = new_budget(100 * MIB);
	struct bn_budget_holder h;

	(void)state;
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "big", 50 * MIB, NULL), BN_OK);
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "small", 10 * MIB, NULL), BN_OK);
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, "small", 5 * MIB, NULL), BN_OK);
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, "small", 0, NULL), BN_OK);
	assert_int_equal(bn_budget_used(b), 65 * MIB);
	assert_int_equal(bn_budget_used_by_kind(b, BN_BUDGET_WEIGHTS), 60 * MIB);
	assert_true(bn_budget_holder(b, 0, &h));
	assert_string_equal(h.name, "big");
	assert_true(bn_budget_holder(b, 1, &h));
	assert_string_equal(h.name, "small");
	assert_int_equal(h.bytes[BN_BUDGET_KV], 5 * MIB);
	assert_int_equal(h.total, 15 * MIB);
	assert_false(bn_budget_holder(b, 2, &h));
	bn_budget_release(b, BN_BUDGET_WEIGHTS, "big", 50 * MIB);
	assert_true(bn_budget_holder(b, 0, &h));
	assert_string_equal(h.name, "small");
	bn_budget_release(b, BN_BUDGET_WEIGHTS, "small", 10 * MIB);
	bn_budget_release(b, BN_BUDGET_KV, "small", 5 * MIB);
	assert_int_equal(bn_budget_used(b), 0);
	assert_int_equal(bn_budget_peak(b), 65 * MIB);
	bn_budget_free(b);
	bn_budget_free(NULL);
}

static const struct bn_error_data *fact(const struct bn_error *err, const char *key)
{
	for (uint32_t i = 0; i < err->n_data; i++) {
		if (strcmp(err->data[i].key, key) == 0) {
			return &err->data[i];
		}
	}
	fail_msg("no fact %s", key);
	return NULL;
}

static void budget_refusal_names_need_budget_and_holders(void **state)
{
	struct bn_budget *b = new_budget(100 * MIB);
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "bitnet", 60 * MIB, &err), BN_OK);
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, "bitnet", 20 * MIB, &err), BN_OK);
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "falcon", 30 * MIB, &err),
			 BN_E_MEMORY);
	assert_string_equal(err.text,
			    "falcon needs 30.0 MiB, 20.0 MiB of the budget of 100 MiB are "
			    "free, held by bitnet (weights 60.0 MiB, kv 20.0 MiB)");
	assert_int_equal(fact(&err, "need_bytes")->number, 30 * MIB);
	assert_int_equal(fact(&err, "budget_bytes")->number, 100 * MIB);
	assert_int_equal(fact(&err, "free_bytes")->number, 20 * MIB);
	assert_string_equal(fact(&err, "held_by")->text, "bitnet");
	assert_int_equal(bn_budget_used(b), 80 * MIB);
	assert_false(bn_budget_fits(b, 30 * MIB));
	assert_true(bn_budget_could_fit(b, 30 * MIB));
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "huge", 101 * MIB, &err),
			 BN_E_MEMORY);
	assert_non_null(strstr(err.text, "more than the whole memory budget of 100 MiB"));
	assert_non_null(strstr(err.text, "memory.budget"));
	assert_false(bn_budget_could_fit(b, 101 * MIB));
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "absurd", UINT64_MAX, &err),
			 BN_E_MEMORY);
	bn_budget_release(b, BN_BUDGET_WEIGHTS, "bitnet", 60 * MIB);
	bn_budget_release(b, BN_BUDGET_KV, "bitnet", 20 * MIB);
	bn_budget_free(b);
}

static void budget_survives_many_and_long_names(void **state)
{
	struct bn_budget *b = new_budget(1000);
	struct bn_error err;
	char name[300];

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		memset(name, 'm', sizeof(name));
		snprintf(name, sizeof(name), "%u-", i);
		name[strlen(name)] = 'm';
		name[sizeof(name) - 1] = '\0';
		assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, name, 2, &err), BN_OK);
	}
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, name, 1, &err), BN_E_MEMORY);
	assert_true(strlen(err.text) < BN_ERROR_TEXT_BYTES);
	for (unsigned i = 0; i < 500; i++) {
		memset(name, 'm', sizeof(name));
		snprintf(name, sizeof(name), "%u-", i);
		name[strlen(name)] = 'm';
		name[sizeof(name) - 1] = '\0';
		bn_budget_release(b, BN_BUDGET_KV, name, 2);
	}
	bn_budget_free(b);
}

/* A thousand holders come and go at random: never over the limit, zero at the end. */
static void budget_never_passes_its_limit(void **state)
{
	enum { HOLDERS = 20 };
	struct bn_budget *b = new_budget(10000);
	uint64_t held[HOLDERS] = { 0 };
	uint64_t sum = 0;

	(void)state;
	srand(3);
	for (int i = 0; i < 100000; i++) {
		int h = rand() % HOLDERS;
		uint64_t bytes = (uint64_t)(rand() % 2000);
		char name[16];

		snprintf(name, sizeof(name), "h%d", h);
		if (rand() % 2 == 0) {
			bool fits = sum + bytes <= 10000;

			assert_int_equal(bn_budget_reserve(b, BN_BUDGET_KV, name, bytes, NULL),
					 fits ? BN_OK : BN_E_MEMORY);
			held[h] += fits ? bytes : 0;
			sum += fits ? bytes : 0;
		} else {
			bn_budget_release(b, BN_BUDGET_KV, name, held[h]);
			sum -= held[h];
			held[h] = 0;
		}
		assert_int_equal(bn_budget_used(b), sum);
		assert_true(bn_budget_peak(b) <= 10000);
	}
	for (int h = 0; h < HOLDERS; h++) {
		char name[16];

		snprintf(name, sizeof(name), "h%d", h);
		bn_budget_release(b, BN_BUDGET_KV, name, held[h]);
	}
	bn_budget_free(b);
}

/* Runs fn in a child and says whether it died of abort(). */
static bool aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fclose(stderr);
		signal(SIGABRT, SIG_DFL);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void release_too_much(void)
{
	struct bn_budget *b = NULL;

	if (bn_budget_new(&b, 100, NULL) == BN_OK &&
	    bn_budget_reserve(b, BN_BUDGET_KV, "x", 10, NULL) == BN_OK) {
		bn_budget_release(b, BN_BUDGET_KV, "x", 11);
	}
}

static void free_with_holders(void)
{
	struct bn_budget *b = NULL;

	if (bn_budget_new(&b, 100, NULL) == BN_OK &&
	    bn_budget_reserve(b, BN_BUDGET_KV, "x", 10, NULL) == BN_OK) {
		bn_budget_free(b);
	}
}

static void budget_asserts_that_the_ledger_balances(void **state)
{
	(void)state;
	assert_true(aborts(release_too_much));
	assert_true(aborts(free_with_holders));
}

static void budget_limit_changes_only_above_what_is_used(void **state)
{
	struct bn_budget *b = new_budget(100);
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_SCRATCH, "lanes", 50, NULL), BN_OK);
	assert_int_equal(bn_budget_set_limit(b, 49, &err), BN_E_CONFLICT);
	assert_non_null(strstr(err.text, "50 bytes are in use"));
	assert_int_equal(bn_budget_limit(b), 100);
	assert_int_equal(bn_budget_set_limit(b, 50, &err), BN_OK);
	assert_false(bn_budget_fits(b, 1));
	bn_budget_release(b, BN_BUDGET_SCRATCH, "lanes", 50);
	bn_budget_free(b);
}

static void budget_shows_bytes_as_people_say_them(void **state)
{
	char text[32];

	(void)state;
	assert_string_equal(bn_budget_show(text, sizeof(text), 0), "0 bytes");
	assert_string_equal(bn_budget_show(text, sizeof(text), 1023), "1023 bytes");
	assert_string_equal(bn_budget_show(text, sizeof(text), 1536), "1.5 KiB");
	assert_string_equal(bn_budget_show(text, sizeof(text), UINT64_C(6) << 30), "6.0 GiB");
	assert_string_equal(bn_budget_show(text, sizeof(text), UINT64_MAX), "16.0 EiB");
	assert_string_equal(bn_budget_kind_word(BN_BUDGET_KV), "kv");
}

/* --- the machine --------------------------------------------------------------------------- */

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
	strcpy(root, "/tmp/bn-test-budget-XXXXXX");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static struct bn_budget_machine look(void)
{
	struct bn_budget_machine machine;

	assert_int_equal(bn_budget_look(&machine, root, NULL), BN_OK);
	return machine;
}

static void machine_without_groups_has_no_limit(void **state)
{
	struct bn_budget_machine machine;

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

static void budget_auto_leaves_headroom_and_heeds_the_group(void **state)
{
	struct bn_budget_machine machine = { 16384 * MIB, 8192 * MIB, UINT64_MAX };
	uint64_t budget;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_budget_auto(&budget, &machine, 1024 * MIB, &err), BN_OK);
	assert_int_equal(budget, 7168 * MIB);
	machine.cgroup_bytes = 1000 * MIB;
	assert_int_equal(bn_budget_auto(&budget, &machine, 1024 * MIB, &err), BN_OK);
	assert_int_equal(budget, 900 * MIB);
	assert_int_equal(bn_budget_auto(&budget, &machine, 9000 * MIB, &err), BN_E_MEMORY);
	assert_non_null(strstr(err.text, "8.0 GiB available"));
	assert_non_null(strstr(err.text, "limit 1000 MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(budget_counts_by_kind_and_holder),
		cmocka_unit_test(budget_refusal_names_need_budget_and_holders),
		cmocka_unit_test(budget_survives_many_and_long_names),
		cmocka_unit_test(budget_never_passes_its_limit),
		cmocka_unit_test(budget_asserts_that_the_ledger_balances),
		cmocka_unit_test(budget_limit_changes_only_above_what_is_used),
		cmocka_unit_test(budget_shows_bytes_as_people_say_them),
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
		cmocka_unit_test(budget_auto_leaves_headroom_and_heeds_the_group),
	};

	return cmocka_run_group_tests_name("daemon/budget", tests, NULL, NULL);
}
