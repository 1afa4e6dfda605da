/*
 * A main for fuzz targets where there is no libFuzzer: feeds every file below the folders (or
 * files) named on the command line to the target once. A folder without a single file is a
 * failure, or a mistyped path would pass for a clean run.
 *
 * Each input lies in a block of exactly its size, so that the address sanitizer sees the first
 * byte read past its end.
 */
#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* nftw hands no context to its callback; a program this small may keep its counter here. */
static unsigned long n_files;

static int replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size > 0 ? size : 1);

	if (file == NULL || data == NULL || fread(data, 1, size, file) != size) {
		perror(path);
		free(data);
		if (file != NULL) {
			fclose(file);
		}
		return 1;
	}
	fclose(file);
	if (size == 0) {
		free(data);
		data = NULL;
	}
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	n_files++;
	return 0;
}

static int visit(const char *path, const struct stat *about, int kind, struct FTW *where)
{
	(void)where;
	if (kind == FTW_F && S_ISREG(about->st_mode)) {
		return replay_file(path, (size_t)about->st_size);
	}
	if (kind == FTW_NS || kind == FTW_DNR) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s CORPUS...\n", argv[0]);
		return 64;
	}
	for (int i = 1; i < argc; i++) {
		unsigned long before = n_files;

		if (nftw(argv[i], visit, 16, FTW_PHYS) != 0) {
			fprintf(stderr, "%s: cannot be replayed\n", argv[i]);
			return 1;
		}
		if (n_files == before) {
			fprintf(stderr, "%s: no files\n", argv[i]);
			return 1;
		}
	}
	printf("%lu files replayed\n", n_files);
	return 0;
}
