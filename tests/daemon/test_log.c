/* Records go into a pipe and are read back whole. */
#include "daemon/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];

static int open_pipe(void **state)
{
	(void)state;
	return pipe(ends);
}

static int close_pipe(void **state)
{
	(void)state;
	bn_log_start(BN_LOG_INFO, BN_LOG_TIMED, STDERR_FILENO);
	close(ends[0]);
	return close(ends[1]);
}

/* Everything written so far, as a string; the write end stays open. */
static char *written(char *text, size_t size)
{
	ssize_t n;

	assert_int_equal(write(ends[1], "\0", 1), 1);
	n = read(ends[0], text, size);
	assert_true(n > 0 && text[n - 1] == '\0');
	return text;
}

static void log_writes_a_priority_for_the_journal(void **state)
{
	char text[512];

	(void)state;
	bn_log_start(BN_LOG_DEBUG, BN_LOG_JOURNAL, ends[1]);
	bn_log(BN_LOG_ERROR, "a %d", 1);
	bn_log(BN_LOG_WARN, "b");
	bn_log(BN_LOG_INFO, "c");
	bn_log(BN_LOG_DEBUG, "d");
	assert_string_equal(written(text, sizeof(text)), "<3>a 1\n<4>b\n<6>c\n<7>d\n");
}

static void log_writes_a_time_elsewhere(void **state)
{
	char text[512];
	int year, month, day, hour, minute, second, milli, used = 0;

	(void)state;
	bn_log_start(BN_LOG_INFO, BN_LOG_TIMED, ends[1]);
	bn_log(BN_LOG_WARN, "ready");
	written(text, sizeof(text));
	assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ warn  ready%n", &year, &month,
				&day, &hour, &minute, &second, &milli, &used),
			 7);
	assert_true(year >= 2024);
	assert_string_equal(text + used, "\n");
}

static void log_keeps_quiet_below_its_level(void **state)
{
	char text[512];

	(void)state;
	bn_log_start(BN_LOG_WARN, BN_LOG_JOURNAL, ends[1]);
	bn_log(BN_LOG_INFO, "no");
	assert_string_equal(written(text, sizeof(text)), "");
	bn_log_set_level(BN_LOG_INFO);
	assert_int_equal(bn_log_get_level(), BN_LOG_INFO);
	bn_log(BN_LOG_INFO, "yes");
	bn_log(BN_LOG_DEBUG, "no");
	assert_string_equal(written(text, sizeof(text)), "<6>yes\n");
}

static void log_record_is_one_line_of_printable_ascii(void **state)
{
	char text[4096];
	char hostile[300];

	(void)state;
	for (int i = 1; i < 256; i++) {
		hostile[i - 1] = (char)i;
	}
	hostile[255] = '\0';
	bn_log_start(BN_LOG_INFO, BN_LOG_JOURNAL, ends[1]);
	bn_log(BN_LOG_INFO, "name %s end", hostile);
	written(text, sizeof(text));
	for (size_t i = 0; i + 1 < strlen(text); i++) {
		assert_in_range(text[i], 0x20, 0x7e);
	}
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_non_null(strstr(text, "name \\x01\\x02"));
	assert_non_null(strstr(text, "\\x1b"));
	assert_non_null(strstr(text, "\\xff end\n"));
}

static void log_record_is_cut_and_says_so(void **state)
{
	char text[8192];
	char *huge = malloc(100001);

	(void)state;
	memset(huge, '\n', 100000);
	huge[100000] = '\0';
	bn_log_start(BN_LOG_INFO, BN_LOG_JOURNAL, ends[1]);
	bn_log(BN_LOG_INFO, "%s", huge);
	written(text, sizeof(text));
	assert_in_range(strlen(text), BN_LOG_RECORD_BYTES - 8, BN_LOG_RECORD_BYTES);
	assert_string_equal(text + strlen(text) - 8, "\\x0a...\n");
	free(huge);
}

static void log_escapes_a_field_without_doubt_and_within_its_room(void **state)
{
	struct bn_log_field field;
	char long_name[1000];

	(void)state;
	assert_string_equal(bn_log_escape(&field, "a\\b\x80\0c", 6), "a\\\\b\\x80\\x00c");
	assert_string_equal(BN_LOG_BYTES("tail", 2), "ta");
	memset(long_name, 'x', sizeof(long_name));
	bn_log_escape(&field, long_name, BN_LOG_FIELD_BYTES);
	assert_int_equal(strlen(field.text), BN_LOG_FIELD_BYTES);
	assert_null(strchr(field.text, '.'));
	bn_log_escape(&field, long_name, sizeof(long_name));
	assert_in_range(strlen(field.text), BN_LOG_FIELD_BYTES - 3, BN_LOG_FIELD_BYTES);
	assert_string_equal(field.text + strlen(field.text) - 4, "x...");
	memset(long_name, 1, sizeof(long_name));
	bn_log_escape(&field, long_name, sizeof(long_name));
	assert_string_equal(field.text + strlen(field.text) - 7, "\\x01...");
}

static void log_limit_holds_back_and_counts(void **state)
{
	struct bn_log_limit limit = { .interval_ns = UINT64_MAX / 2, .burst = 2 };
	char text[1024];

	(void)state;
	bn_log_start(BN_LOG_INFO, BN_LOG_JOURNAL, ends[1]);
	for (int i = 0; i < 100; i++) {
		bn_log_limited(&limit, BN_LOG_WARN, "full");
	}
	assert_string_equal(written(text, sizeof(text)), "<4>full\n<4>full\n");
	limit.interval_ns = 0; /* it is over */
	bn_log_limited(&limit, BN_LOG_WARN, "full");
	assert_string_equal(written(text, sizeof(text)),
			    "<4>(98 records like the next were held back)\n<4>full\n");
}

static void log_knows_the_journal_by_its_stream(void **state)
{
	struct stat about;
	char stream[64];

	(void)state;
	assert_int_equal(fstat(ends[1], &about), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)about.st_dev,
		 (uintmax_t)about.st_ino);
	assert_int_equal(bn_log_style_of(stream, ends[1]), BN_LOG_JOURNAL);
	assert_int_equal(bn_log_style_of("1:2", ends[1]), BN_LOG_TIMED);
	assert_int_equal(bn_log_style_of(NULL, ends[1]), BN_LOG_TIMED);
	assert_int_equal(bn_log_style_of(stream, -1), BN_LOG_TIMED);
}

static void log_keeps_errno_and_survives_a_closed_stderr(void **state)
{
	(void)state;
	bn_log_start(BN_LOG_INFO, BN_LOG_TIMED, 9999);
	errno = ENOSPC;
	bn_log(BN_LOG_ERROR, "nobody hears this");
	assert_int_equal(errno, ENOSPC);
}

static void *shout(void *who)
{
	for (int i = 0; i < 200; i++) {
		bn_log(BN_LOG_INFO, "%s%s%s%s", (char *)who, (char *)who, (char *)who, (char *)who);
	}
	return NULL;
}

static void log_records_of_threads_do_not_mix(void **state)
{
	static char names[4][65];
	pthread_t threads[4];
	char line[1024];
	FILE *in;
	int lines = 0;

	(void)state;
	bn_log_start(BN_LOG_INFO, BN_LOG_JOURNAL, ends[1]);
	for (int t = 0; t < 4; t++) {
		memset(names[t], 'a' + t, 64);
		pthread_create(&threads[t], NULL, shout, names[t]);
	}
	in = fdopen(dup(ends[0]), "r");
	while (lines < 800) {
		assert_non_null(fgets(line, sizeof(line), in));
		assert_int_equal(strlen(line), 3 + 256 + 1);
		for (int i = 4; i < 3 + 256; i++) {
			assert_int_equal(line[i], line[3]);
		}
		lines++;
	}
	fclose(in);
	for (int t = 0; t < 4; t++) {
		pthread_join(threads[t], NULL);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pipe, close_pipe)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(log_writes_a_priority_for_the_journal),
		TEST(log_writes_a_time_elsewhere),
		TEST(log_keeps_quiet_below_its_level),
		TEST(log_record_is_one_line_of_printable_ascii),
		TEST(log_record_is_cut_and_says_so),
		TEST(log_escapes_a_field_without_doubt_and_within_its_room),
		TEST(log_limit_holds_back_and_counts),
		TEST(log_knows_the_journal_by_its_stream),
		TEST(log_keeps_errno_and_survives_a_closed_stderr),
		TEST(log_records_of_threads_do_not_mix),
	};

	return cmocka_run_group_tests_name("daemon/log", tests, NULL, NULL);
}
