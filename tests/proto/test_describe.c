#include "proto/describe.h"
#include "proto/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void describe_info_lists_every_method_and_field(void **state)
{
	static const char *const features[] = { "a", "b" };
	struct bn_pack p;
	struct bn_value info, methods, method;
	struct bn_iter it;
	enum bn_method m = 0;

	(void)state;
	bn_pack_init(&p);
	bn_describe_info(&p, "1.2.3", features, 2);
	assert_int_equal(bn_pack_check(&p, NULL), BN_OK);
	info = bn_value_read(p.data, p.used);
	assert_ptr_equal(bn_value_after(&info), p.data + p.used);
	assert_true(bn_text_is(bn_value_text(bn_value_get(info, "version")), "1.2.3"));
	assert_int_equal(bn_value_int(bn_value_find(info, "limits.message_bytes"), 0), 16777216);
	assert_int_equal(bn_value_get(info, "features").n, 2);
	assert_int_equal(bn_value_get(info, "errors").n, BN_STATUS_COUNT - 1);
	methods = bn_value_get(info, "methods");
	assert_int_equal(methods.n, BN_METHOD_COUNT);
	it = bn_iter_begin(methods);
	while (bn_iter_next(&it, NULL, &method)) {
		const struct bn_field *lists[] = { bn_method_info(m)->own,
						   bn_method_info(m)->shared };
		struct bn_value params = bn_value_get(method, "params"), param;
		struct bn_iter fields = bn_iter_begin(params);

		assert_true(bn_text_is(bn_value_text(bn_value_get(method, "name")),
				       bn_method_info(m)->name));
		for (int i = 0; i < 2; i++) {
			for (const struct bn_field *f = lists[i]; f->name != NULL; f++) {
				assert_true(bn_iter_next(&fields, NULL, &param));
				assert_true(bn_text_is(bn_value_text(bn_value_get(param, "name")),
						       f->name));
				assert_int_equal(
					bn_value_bool(bn_value_get(param, "required"), false),
					f->must);
			}
		}
		assert_false(bn_iter_next(&fields, NULL, &param));
		m++;
	}
	bn_pack_finish(&p);
}

static char *print(void (*printer)(FILE *out))
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	printer(out);
	fclose(out);
	return text;
}

static void describe_page_names_everything(void **state)
{
	char *page = print(bn_describe_markdown);
	char *listing = print(bn_describe_listing);

	(void)state;
	for (enum bn_method m = 0; m < BN_METHOD_COUNT; m++) {
		char heading[96];

		snprintf(heading, sizeof(heading), "\n### %s\n", bn_method_info(m)->name);
		assert_non_null(strstr(page, heading));
	}
	assert_non_null(strstr(page, "| `top_p` | num | 0..1 | the model's, else 0.95 |"));
	assert_non_null(strstr(page, "| 507 | `insufficient_memory` |"));
	assert_non_null(strstr(listing, "param completions top_p: num\n"));
	free(page);
	free(listing);
}

/* The next line of *text without its end, or NULL. */
static char *next_line(char **text)
{
	char *line = *text, *end;

	if (line == NULL || *line == '\0') {
		return NULL;
	}
	end = strchr(line, '\n');
	*text = end != NULL ? end + 1 : NULL;
	if (end != NULL) {
		*end = '\0';
	}
	return line;
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = strstr(text, line); at != NULL; at = strstr(at + 1, line)) {
		if ((at == text || at[-1] == '\n') && at[n] == '\n') {
			return true;
		}
	}
	return false;
}

static void describe_listing_keeps_what_was_published(void **state)
{
	const char *source = getenv("BN_SOURCE_DIR");
	char path[4096], recorded[65536];
	char *current = print(bn_describe_listing), *rest, *line;
	size_t n, missing = 0, unrecorded = 0;
	FILE *file;

	(void)state;
	assert_non_null(source);
	snprintf(path, sizeof(path), "%s/tests/proto/schema.recorded", source);
	file = fopen(path, "r");
	assert_non_null(file);
	n = fread(recorded, 1, sizeof(recorded), file);
	fclose(file);
	assert_in_range(n, 1, sizeof(recorded) - 1);
	recorded[n] = '\0';

	rest = strdup(recorded);
	for (char *at = rest; (line = next_line(&at)) != NULL;) {
		if (!has_line(current, line)) {
			print_error("published, and now gone or changed: %s\n", line);
			missing++;
		}
	}
	free(rest);
	rest = strdup(current);
	for (char *at = rest; (line = next_line(&at)) != NULL;) {
		if (!has_line(recorded, line)) {
			print_error("new; record it with the target protocol-page: %s\n", line);
			unrecorded++;
		}
	}
	free(rest);
	free(current);
	assert_int_equal(missing, 0);
	assert_int_equal(unrecorded, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describe_info_lists_every_method_and_field),
		cmocka_unit_test(describe_page_names_everything),
		cmocka_unit_test(describe_listing_keeps_what_was_published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
