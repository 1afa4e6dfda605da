/*
 * libcrypto's EVP interface, because it picks the processor's SHA instructions: a file of ten
 * gigabytes is read at the speed of the disk.
 */
#include "client/digest.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20, SHA256_DIGITS = 64, SHA1_DIGITS = 40 };

bool bn_digest_parse(struct bn_digest *out, const char *hex)
{
	const size_t n = strlen(hex);

	if ((n != SHA256_DIGITS && n != SHA1_DIGITS) ||
	    strspn(hex, "0123456789abcdefABCDEF") != n) {
		return false;
	}
	out->kind = n == SHA256_DIGITS ? BN_DIGEST_SHA256 : BN_DIGEST_GIT_BLOB;
	for (size_t i = 0; i <= n; i++) {
		out->hex[i] =
			(char)(hex[i] >= 'A' && hex[i] <= 'F' ? hex[i] + ('a' - 'A') : hex[i]);
	}
	return true;
}

bool bn_digest_equal(const struct bn_digest *a, const struct bn_digest *b)
{
	return a->kind != BN_DIGEST_NONE && a->kind == b->kind && strcmp(a->hex, b->hex) == 0;
}

static bool begin(EVP_MD_CTX *md, enum bn_digest_kind kind, uint64_t size)
{
	char head[32];
	int n;

	if (kind == BN_DIGEST_SHA256) {
		return EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
	}
	n = snprintf(head, sizeof(head), "blob %" PRIu64, size);
	return EVP_DigestInit_ex(md, EVP_sha1(), NULL) == 1 &&
	       EVP_DigestUpdate(md, head, (size_t)n + 1) == 1;
}

static enum bn_status take(EVP_MD_CTX *md, int fd, uint64_t size, unsigned char *block,
			   bn_digest_progress progress, void *who, struct bn_error *err)
{
	uint64_t done = 0;

	while (done < size) {
		const uint64_t left = size - done;
		const ssize_t n =
			pread(fd, block, left < BLOCK_BYTES ? left : BLOCK_BYTES, (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0) {
			return bn_fail(err, BN_E_IO, "cannot be read at byte %" PRIu64 ": %s", done,
				       strerror(errno));
		} else if (n == 0) {
			return bn_fail(err, BN_E_IO,
				       "ends at byte %" PRIu64 " of %" PRIu64
				       ": somebody else shortened it",
				       done, size);
		}
		if (EVP_DigestUpdate(md, block, (size_t)n) != 1) {
			return bn_fail(err, BN_E_INTERNAL, "libcrypto failed");
		}
		done += (uint64_t)n;
		if (progress != NULL && !progress(who, done)) {
			return bn_fail(err, BN_E_CANCELLED, "stopped");
		}
	}
	return BN_OK;
}

static enum bn_status finish(EVP_MD_CTX *md, enum bn_digest_kind kind, struct bn_digest *out,
			     struct bn_error *err)
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_DigestFinal_ex(md, raw, &n) != 1 || n * 2 >= sizeof(out->hex)) {
		return bn_fail(err, BN_E_INTERNAL, "libcrypto failed");
	}
	out->kind = kind;
	for (size_t i = 0; i < n; i++) {
		snprintf(out->hex + i * 2, 3, "%02x", raw[i]);
	}
	return BN_OK;
}

enum bn_status bn_digest_file(struct bn_digest *out, enum bn_digest_kind kind, int fd,
			      bn_digest_progress progress, void *who, struct bn_error *err)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char *block = malloc(BLOCK_BYTES);
	struct stat about;
	enum bn_status status = BN_OK;

	if (md == NULL || block == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory to check a file");
	} else if (fstat(fd, &about) != 0) {
		status = bn_fail(err, BN_E_IO, "cannot be read: %s", strerror(errno));
	} else if (!begin(md, kind, (uint64_t)about.st_size)) {
		status = bn_fail(err, BN_E_INTERNAL, "libcrypto has no such digest");
	} else {
		status = take(md, fd, (uint64_t)about.st_size, block, progress, who, err);
	}
	if (status == BN_OK) {
		status = finish(md, kind, out, err);
	}
	free(block);
	EVP_MD_CTX_free(md);
	return status;
}
