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
	assert_int_equal(bn_budget_reserve(b, BN_BUDGET_WEIGHTS, "huge", 101 * MIB, &err),
			 BN_E_MEMORY);
	assert_non_null(strstr(err.text, "more than the whole memory budget of 100 MiB"));
	assert_non_null(strstr(err.text, "memory.budget"));
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
		assert_true(bn_budget_used(b) <= 10000);
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
	};

	return cmocka_run_group_tests_name("daemon/budget", tests, NULL, NULL);
}
