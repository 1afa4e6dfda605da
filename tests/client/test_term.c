/* client/term: sizes, times, tables and foreign text as a person sees them. */
#include "client/term.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void sizes_are_rounded_for_people(void **state)
{
	static const struct {
		int64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 100 * 1024, "100 KiB" },
		{ INT64_C(1179449920), "1.1 GiB" },
		{ INT64_C(1) << 42, "4.0 TiB" },
	};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(bn_term_bytes(text, sizeof(text), cases[i].bytes),
				    cases[i].text);
	}
}

static void times_are_rounded_for_people(void **state)
{
	char text[32];

	(void)state;
	assert_string_equal(bn_term_ms(text, sizeof(text), 45), "45 ms");
	assert_string_equal(bn_term_ms(text, sizeof(text), 3210), "3.2 s");
	assert_string_equal(bn_term_ms(text, sizeof(text), 300000), "5 min");
	assert_string_equal(bn_term_ms(text, sizeof(text), 7200000), "2.0 h");
}

/* Runs `what` on a term that writes to memory and returns what came, owned by the caller. */
static char *captured(void (*what)(struct bn_term *t))
{
	char *text = NULL;
	size_t n = 0;
	struct bn_term t = { .to = open_memstream(&text, &n), .width = 80 };

	assert_non_null(t.to);
	what(&t);
	fclose(t.to);
	return text;
}

static void print_table(struct bn_term *t)
{
	static const char *const heads[] = { "MODEL", ">SIZE" };
	struct bn_table b;

	bn_table_init(&b, 2, heads);
	for (int i = 0; i < 40; i++) {
		assert_true(bn_table_row(&b));
		bn_table_cell(&b, 0, BN_COLOUR_GREEN, i == 0 ? "größe" : "m%d", i);
		bn_table_cell(&b, 1, BN_COLOUR_PLAIN, "%d", i * 100);
	}
	bn_table_print(&b, t);
	bn_table_finish(&b);
}

static void table_columns_line_up_and_count_characters(void **state)
{
	char *text = captured(print_table);
	const char *head = "MODEL  SIZE\ngröße     0\nm1      100\n";

	(void)state;
	assert_memory_equal(text, head, strlen(head));
	free(text);
}

static void print_foreign(struct bn_term *t)
{
	const char evil[] = "a\033[31mb\nc\xc2\x9b"
			    "d\x7f";

	bn_term_write(t, evil, sizeof(evil) - 1, true);
	fputc('|', t->to);
	bn_term_write(t, evil, sizeof(evil) - 1, false);
}

static void control_sequences_never_reach_the_terminal(void **state)
{
	char *text = captured(print_foreign);

	(void)state;
	assert_string_equal(text, "a?[31mb\nc?d?|a?[31mb?c?d?");
	free(text);
}

static void print_progress(struct bn_term *t)
{
	bn_term_progress(t, "model", 0.5, "loading");
	bn_term_progress_end(t);
	t->terminal = true;
	bn_term_progress(t, "model", 0.5, "loading");
	bn_term_progress_end(t);
}

static void progress_is_drawn_on_terminals_only(void **state)
{
	char *text = captured(print_progress);

	(void)state;
	assert_string_equal(text,
			    "\r\033[Kmodel [##############--------------]  50 %  loading\r\033[K");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_rounded_for_people),
		cmocka_unit_test(times_are_rounded_for_people),
		cmocka_unit_test(table_columns_line_up_and_count_characters),
		cmocka_unit_test(control_sequences_never_reach_the_terminal),
		cmocka_unit_test(progress_is_drawn_on_terminals_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
