/*
 * A configuration file made of anything. What parses must print as a file that parses to the same
 * values; what does not must have said why.
 */
#include "tests/fuzz/fuzz.h"

#include "daemon/config.h"
#include "daemon/config_print.h"
#include "proto/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *printed(const struct bn_config *c, size_t *n)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, n);

	bn_assert(out != NULL);
	bn_config_print(out, c);
	bn_assert(fclose(out) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bn_yaml_report report;
	struct bn_error err;
	struct bn_config *first, *second;
	enum bn_status status = bn_config_parse(&first, "/f/bnd.yaml", data, size, &report, &err);

	if (status != BN_OK) {
		bn_assert(status == BN_E_CONFIG && report.n > 0 && err.text[0] != '\0');
		for (uint32_t i = 0; i < report.n; i++) {
			bn_assert(report.at[i].text[0] != '\0');
			bn_assert(strlen(report.at[i].text) < BN_YAML_COMPLAINT_BYTES);
		}
		return 0;
	}
	bn_assert(report.n == 0 && report.dropped == 0);

	size_t n;
	char *text = printed(first, &n);

	/* A large file may print larger than a file may be: everything is then written out. */
	if (n <= BN_YAML_BYTES_MAX) {
		struct bn_config_diff diff;

		bn_assert(bn_config_parse(&second, "/f/bnd.yaml", text, n, &report, &err) == BN_OK);
		bn_assert(bn_config_compare(&diff, first, second, &err) == BN_OK);
		bn_assert(diff.n == 0);
		bn_config_diff_free(&diff);
		bn_config_free(second);
	}
	free(text);
	bn_config_free(first);
	return 0;
}
