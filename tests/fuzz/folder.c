#include "tests/fuzz/folder.h"

#include "proto/assert.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEPARATOR = 0x1E, FILES_MAX = 8 };

/* The folder of this process; a fuzz target has nowhere else to keep it. */
static char path[64];
static int fd = -1;
static char used[FILES_MAX][64];
static size_t n_used;

static void remove_folder(void)
{
	for (size_t i = 0; i < n_used; i++) {
		(void)unlinkat(fd, used[i], 0);
	}
	(void)rmdir(path);
}

static void make_folder(void)
{
	snprintf(path, sizeof(path), "%s/bnd-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	bn_assert(mkdtemp(path) != NULL);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bn_assert(fd >= 0 && atexit(remove_folder) == 0);
}

static void write_file(const char *name, const uint8_t *bytes, size_t n)
{
	int file;

	if (n == 0) {
		(void)unlinkat(fd, name, 0);
		return;
	}
	file = openat(fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bn_assert(file >= 0 && write(file, bytes, n) == (ssize_t)n && close(file) == 0);
}

int fuzz_folder(const char *const *names, size_t n_names, const uint8_t *data, size_t size)
{
	bn_assert(n_names <= FILES_MAX);
	if (fd < 0) {
		make_folder();
		for (; n_used < n_names; n_used++) {
			snprintf(used[n_used], sizeof(used[0]), "%s", names[n_used]);
		}
	}
	for (size_t i = 0; i < n_names; i++) {
		const uint8_t *end =
			size == 0 || i + 1 == n_names ? NULL : memchr(data, SEPARATOR, size);
		const size_t n = end == NULL ? size : (size_t)(end - data);

		write_file(names[i], data, n);
		data += n + (end != NULL);
		size -= n + (end != NULL);
	}
	return fd;
}
