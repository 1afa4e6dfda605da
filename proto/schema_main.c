/* bn-schema-doc: prints docs/protocol.md, or with --listing tests/proto/schema.recorded. */
#include "proto/describe.h"

#include <string.h>

int main(int argc, char **argv)
{
	if (argc == 1) {
		bn_describe_markdown(stdout);
	} else if (argc == 2 && strcmp(argv[1], "--listing") == 0) {
		bn_describe_listing(stdout);
	} else {
		fprintf(stderr, "usage: %s [--listing]\n", argv[0]);
		return 64;
	}
	return fflush(stdout) == 0 ? 0 : 74;
}
