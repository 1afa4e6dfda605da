#include "client/record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_MAX_BYTES = 8192, FILE_MODE = 0644, NAME_BYTES = 300 };

bool bn_record_same(const struct bn_record *a, const struct bn_record *b)
{
	return strcmp(a->repo, b->repo) == 0 && strcmp(a->commit, b->commit) == 0 &&
	       strcmp(a->source, b->source) == 0 && a->converted == b->converted &&
	       strcmp(a->kernel, b->kernel) == 0 && strcmp(a->embedding, b->embedding) == 0;
}

static bool take(const json_t *root, const char *key, char to[BN_RECORD_TEXT_BYTES])
{
	const char *text = json_string_value(json_object_get(root, key));

	if (text == NULL || strlen(text) >= BN_RECORD_TEXT_BYTES) {
		return false;
	}
	snprintf(to, BN_RECORD_TEXT_BYTES, "%s", text);
	return true;
}

static bool parse(struct bn_record *r, const json_t *root)
{
	const char *hex = json_string_value(json_object_get(root, "sha256"));
	const json_t *size = json_object_get(root, "size");
	const json_t *converted = json_object_get(root, "converted");

	if (hex == NULL || !bn_digest_parse(&r->digest, hex) ||
	    r->digest.kind != BN_DIGEST_SHA256 || !json_is_integer(size) ||
	    json_integer_value(size) < 0 || !json_is_boolean(converted)) {
		return false;
	}
	r->size = (uint64_t)json_integer_value(size);
	r->converted = json_is_true(converted);
	return take(root, "repo", r->repo) && take(root, "commit", r->commit) &&
	       take(root, "source", r->source) && take(root, "kernel", r->kernel) &&
	       take(root, "embedding", r->embedding);
}

bool bn_record_read(struct bn_record *out, int dirfd, const char *name)
{
	struct bn_record r = { .size = 0 };
	char file[NAME_BYTES], text[RECORD_MAX_BYTES];
	json_t *root = NULL;
	ssize_t n = -1;
	bool ok;
	int fd;

	snprintf(file, sizeof(file), "%s.pull.json", name);
	fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text));
		close(fd);
	}
	if (n > 0) {
		root = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	}
	ok = root != NULL && parse(&r, root);
	json_decref(root);
	if (ok) {
		*out = r;
	}
	return ok;
}

enum bn_status bn_record_write(const struct bn_record *r, int dirfd, const char *name,
			       struct bn_error *err)
{
	char file[NAME_BYTES], fresh[NAME_BYTES];
	json_t *root = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:I, s:s}", "repo", r->repo,
				 "commit", r->commit, "source", r->source, "converted",
				 (int)r->converted, "kernel", r->kernel, "embedding", r->embedding,
				 "size", (json_int_t)r->size, "sha256", r->digest.hex);
	bool ok = root != NULL;
	int fd;

	snprintf(file, sizeof(file), "%s.pull.json", name);
	snprintf(fresh, sizeof(fresh), "%s.pull.json.new", name);
	fd = openat(dirfd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	ok = ok && fd >= 0 && json_dumpfd(root, fd, JSON_INDENT(2)) == 0 && fsync(fd) == 0;
	json_decref(root);
	if (fd >= 0) {
		close(fd);
	}
	if (!ok || renameat(dirfd, fresh, dirfd, file) != 0) {
		return bn_fail(err, BN_E_IO, "%s cannot be written: %s", file, strerror(errno));
	}
	return BN_OK;
}

void bn_record_model_name(char to[BN_RECORD_NAME_MAX + 1], const char *repo)
{
	const char *slash = strrchr(repo, '/');
	const char *from = slash != NULL ? slash + 1 : repo;
	size_t n = 0;

	for (; *from != '\0' && n < BN_RECORD_NAME_MAX; from++) {
		const char c = (char)(*from >= 'A' && *from <= 'Z' ? *from + ('a' - 'A') : *from);

		to[n++] =
			(char)(strchr("abcdefghijklmnopqrstuvwxyz0123456789._-", c) != NULL ? c
											    : '-');
	}
	to[n] = '\0';
	if (n > 5 && strcmp(to + n - 5, "-gguf") == 0) {
		to[n - 5] = '\0';
	}
}

/* In double quotes unless it is plain in every YAML context. */
static void print_text(FILE *to, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789/._-+";

	if (strspn(text, plain) == strlen(text) && text[0] == '/') {
		fputs(text, to);
		return;
	}
	fputc('"', to);
	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f) {
			fprintf(to, "\\x%02x", c);
		} else if (c == '"' || c == '\\') {
			fprintf(to, "\\%c", c);
		} else {
			fputc(c, to);
		}
	}
	fputc('"', to);
}

void bn_record_print_yaml(FILE *to, const char *model, const char *path)
{
	fprintf(to, "models:\n- name: %s\n  path: ", model);
	print_text(to, path);
	fputc('\n', to);
}
