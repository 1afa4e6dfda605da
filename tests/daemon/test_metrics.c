#include "daemon/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int make(void **state)
{
	return bn_metrics_new((struct bn_metrics **)state, NULL) != BN_OK;
}

static int drop(void **state)
{
	bn_metrics_free(*state);
	return 0;
}

static char *text_of(const struct bn_metrics *m)
{
	char *text;
	size_t n;

	assert_int_equal(bn_metrics_text(m, &text, &n, NULL), BN_OK);
	assert_int_equal(strlen(text), n);
	return text;
}

static void assert_has(const struct bn_metrics *m, const char *part)
{
	char *text = text_of(m);

	if (strstr(text, part) == NULL) {
		fail_msg("no '%s' in:\n%s", part, text);
	}
	free(text);
}

static void metrics_begin_at_zero(void **state)
{
	assert_has(*state, "# HELP bnd_requests_waiting Requests waiting for a place\n"
			   "# TYPE bnd_requests_waiting gauge\nbnd_requests_waiting 0\n");
	assert_has(*state, "# TYPE bnd_steps_total counter\nbnd_steps_total 0\n");
	assert_has(*state, "bnd_step_seconds_count 0\n");
}

static void metrics_have_the_names_a_load_balancer_looks_for(void **state)
{
	bn_metrics_set(*state, BN_METRIC_REQUESTS_WAITING, NULL, 3);
	bn_metrics_set(*state, BN_METRIC_REQUESTS_RUNNING, NULL, 2);
	bn_metrics_set(*state, BN_METRIC_KV_USAGE, NULL, 0.25);
	assert_has(*state, "\nbnd_requests_waiting 3\n");
	assert_has(*state, "\nbnd_requests_running 2\n");
	assert_has(*state, "\nbnd_kv_cache_usage_ratio 0.25\n");
}

static void metrics_count_with_labels(void **state)
{
	bn_metrics_add(*state, BN_METRIC_EVICTIONS, "memory", 2);
	bn_metrics_add(*state, BN_METRIC_EVICTIONS, "idle", 1);
	bn_metrics_add(*state, BN_METRIC_EVICTIONS, "memory", 1);
	assert_has(*state, "bnd_evictions_total{reason=\"memory\"} 3\n"
			   "bnd_evictions_total{reason=\"idle\"} 1\n");
	assert_true(bn_metrics_get(*state, BN_METRIC_EVICTIONS, "memory") == 3);
	assert_true(bn_metrics_get(*state, BN_METRIC_EVICTIONS, "never") == 0);
}

static void metrics_counters_are_exact_integers(void **state)
{
	bn_metrics_add(*state, BN_METRIC_GENERATION_TOKENS, NULL, UINT64_C(9007199254740992));
	bn_metrics_add(*state, BN_METRIC_GENERATION_TOKENS, NULL, 1);
	assert_has(*state, "\nbnd_generation_tokens_total 9007199254740993\n");
	bn_metrics_set(*state, BN_METRIC_MEMORY_BUDGET, NULL, 6442450944.0);
	assert_has(*state, "\nbnd_memory_budget_bytes 6442450944\n");
}

static void metrics_histogram_buckets_are_cumulative(void **state)
{
	bn_metrics_observe(*state, BN_METRIC_TTFT, NULL, 0.0005);
	bn_metrics_observe(*state, BN_METRIC_TTFT, NULL, 0.001); /* bounds belong to their bucket */
	bn_metrics_observe(*state, BN_METRIC_TTFT, NULL, 0.3);
	bn_metrics_observe(*state, BN_METRIC_TTFT, NULL, 1e6);
	bn_metrics_observe(*state, BN_METRIC_TTFT, NULL, NAN);
	assert_has(*state, "bnd_time_to_first_token_seconds_bucket{le=\"0.001\"} 3\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_bucket{le=\"0.25\"} 3\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_bucket{le=\"0.5\"} 4\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_bucket{le=\"300\"} 4\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_bucket{le=\"+Inf\"} 5\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_count 5\n");
	assert_has(*state, "bnd_time_to_first_token_seconds_sum 1000000.3");
}

static void metrics_histogram_with_a_label_keeps_both(void **state)
{
	bn_metrics_observe(*state, BN_METRIC_QUEUE_WAIT, "batch", 0.002);
	assert_has(*state, "bnd_queue_wait_seconds_bucket{priority=\"batch\",le=\"0.0025\"} 1\n");
	assert_has(*state, "bnd_queue_wait_seconds_sum{priority=\"batch\"} 0.002\n");
}

static void metrics_label_values_cannot_break_the_format(void **state)
{
	bn_metrics_add(*state, BN_METRIC_REJECTED, "a\"b\\c\nd", 1);
	assert_has(*state, "bnd_rejected_total{code=\"a\\\"b\\\\c\\nd\"} 1\n");
}

static void metrics_label_values_are_bounded(void **state)
{
	char label[32];

	for (int i = 0; i < 1000; i++) {
		snprintf(label, sizeof(label), "code-%d", i);
		bn_metrics_add(*state, BN_METRIC_REJECTED, label, 1);
	}
	assert_true(bn_metrics_get(*state, BN_METRIC_REJECTED, "other") ==
		    1000 - (BN_METRICS_LABELS_MAX - 1));
	assert_true(bn_metrics_get(*state, BN_METRIC_REJECTED, "code-0") == 1);
}

/* Every line is a comment or `name{labels} number`; every family is announced once, before use. */
static void metrics_text_is_what_prometheus_reads(void **state)
{
	char *text;
	char *rest = NULL;
	char family[128] = "";
	int families = 0;

	bn_metrics_add(*state, BN_METRIC_CLOSED, "gone", 1);
	bn_metrics_set(*state, BN_METRIC_MEMORY_USED, "kv", 1.5);
	text = text_of(*state);
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *end;

		if (strncmp(line, "# TYPE ", 7) == 0) {
			assert_int_equal(sscanf(line + 7, "%127s", family), 1);
			families++;
		} else if (line[0] != '#') {
			char *space = strrchr(line, ' ');

			assert_non_null(space);
			strtod(space + 1, &end);
			assert_int_equal(*end, '\0');
			assert_int_equal(strncmp(line, family, strlen(family)), 0);
		}
	}
	assert_int_equal(families, BN_METRICS);
	free(text);
}

static void metrics_may_be_absent(void **state)
{
	(void)state;
	bn_metrics_add(NULL, BN_METRIC_STEPS, NULL, 1);
	bn_metrics_set(NULL, BN_METRIC_CONNECTIONS, NULL, 1);
	bn_metrics_observe(NULL, BN_METRIC_LOOP_LAG, NULL, 1);
	bn_metrics_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(metrics_begin_at_zero),
		TEST(metrics_have_the_names_a_load_balancer_looks_for),
		TEST(metrics_count_with_labels),
		TEST(metrics_counters_are_exact_integers),
		TEST(metrics_histogram_buckets_are_cumulative),
		TEST(metrics_histogram_with_a_label_keeps_both),
		TEST(metrics_label_values_cannot_break_the_format),
		TEST(metrics_label_values_are_bounded),
		TEST(metrics_text_is_what_prometheus_reads),
		TEST(metrics_may_be_absent),
	};

	return cmocka_run_group_tests_name("daemon/metrics", tests, NULL, NULL);
}
