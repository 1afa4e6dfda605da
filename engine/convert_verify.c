#include "engine/convert_verify.h"

#include "engine/file.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "kernels/cpu.h"
#include "kernels/trits.h"
#include "proto/assert.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 * 1024 * 1024 };

struct verifier {
	const struct bn_gguf *gguf;
	EVP_MD_CTX *digest;
	uint8_t *raw;   /* the largest ternary tensor, or a piece of another */
	uint8_t *codes; /* its rows */
	uint64_t done_bytes;
	bn_verify_progress progress;
	void *who;
	struct bn_error *err;
};

static enum bn_status progress(struct verifier *v, uint64_t bytes)
{
	v->done_bytes += bytes;
	return v->progress != NULL ? v->progress(v->who, v->done_bytes) : BN_OK;
}

static enum bn_status differs(struct verifier *v, const char *name, const char *what)
{
	return bn_fail(
		v->err, BN_E_INTERNAL,
		"tensor '%s' was read back with %s: the disk or memory of this machine is at "
		"fault, or bn-convert",
		name, what);
}

static enum bn_status compare(struct verifier *v, const struct bn_verify_tensor *t)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(v->digest, digest, NULL) != 1) {
		return bn_fail(v->err, BN_E_INTERNAL, "SHA-256 failed");
	}
	return memcmp(digest, t->digest, BN_VERIFY_DIGEST_BYTES) == 0
		       ? BN_OK
		       : differs(v, t->name, "other weights");
}

static enum bn_status check_trits(struct verifier *v, const struct bn_verify_tensor *t,
				  const struct bn_gguf_tensor *found)
{
	const struct bn_codec *codec = bn_codec_find(t->type);
	struct bn_scale scale = { 0 };
	const enum bn_status status =
		bn_gguf_read(v->gguf, found, 0, v->raw, (size_t)found->nbytes, v->err);

	if (status != BN_OK) {
		return status;
	}
	if (bn_codec_decode(codec, &scale, v->codes, v->raw, t->rows, t->cols, &t->tiles) !=
	    BN_TRITS_GOOD) {
		return differs(v, t->name, "a code that is no trit");
	}
	bn_assert(codec->tailed); /* what is written */
	if (memcmp(v->raw + found->nbytes - BN_CODEC_TAIL, &t->scale, sizeof(t->scale)) != 0) {
		return differs(v, t->name, "another scale");
	}
	EVP_DigestUpdate(v->digest, v->codes, t->rows * bn_trits_stride(t->cols));

	const enum bn_status same = compare(v, t);

	return same == BN_OK ? progress(v, found->nbytes) : same;
}

static enum bn_status check_bytes(struct verifier *v, const struct bn_verify_tensor *t,
				  const struct bn_gguf_tensor *found)
{
	for (uint64_t at = 0; at < found->nbytes;) {
		const uint64_t left = found->nbytes - at;
		const size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
		enum bn_status status = bn_gguf_read(v->gguf, found, at, v->raw, n, v->err);

		if (status == BN_OK) {
			EVP_DigestUpdate(v->digest, v->raw, n);
			at += n;
			status = progress(v, n);
		}
		if (status != BN_OK) {
			return status;
		}
	}
	return compare(v, t);
}

static enum bn_status check_tensor(struct verifier *v, const struct bn_verify_tensor *t)
{
	const struct bn_gguf_tensor *found = bn_gguf_tensor(v->gguf, t->name);

	if (found == NULL || found->type != t->type || found->dims[0] != t->cols ||
	    found->dims[1] != t->rows) {
		return differs(v, t->name, "another shape or type");
	}
	if (EVP_DigestInit_ex(v->digest, EVP_sha256(), NULL) != 1) {
		return bn_fail(v->err, BN_E_INTERNAL, "libcrypto has no SHA-256");
	}
	return bn_codec_find(t->type) != NULL ? check_trits(v, t, found) : check_bytes(v, t, found);
}

static enum bn_status check_tensors(struct verifier *v, const struct bn_verify_tensor *tensors,
				    size_t n)
{
	size_t raw = PIECE_BYTES, codes = 1;
	enum bn_status status = BN_OK;

	for (size_t i = 0; i < n; i++) {
		const struct bn_codec *codec = bn_codec_find(tensors[i].type);

		if (codec != NULL) {
			const uint32_t rows = tensors[i].rows, cols = tensors[i].cols;
			const size_t bytes = bn_codec_bytes(codec, rows, cols) + BN_CODEC_TAIL;
			const size_t trits = rows * bn_trits_stride(cols);

			raw = bytes > raw ? bytes : raw;
			codes = trits > codes ? trits : codes;
		}
	}
	v->raw = malloc(raw);
	v->codes = malloc(codes);
	v->digest = EVP_MD_CTX_new();
	if (v->raw == NULL || v->codes == NULL || v->digest == NULL) {
		status = bn_fail(v->err, BN_E_MEMORY, "no memory to read the file back");
	} else if (bn_gguf_tensor_count(v->gguf) != n) {
		status =
			bn_fail(v->err, BN_E_INTERNAL, "%zu tensors were written and %zu are there",
				n, bn_gguf_tensor_count(v->gguf));
	}
	for (size_t i = 0; i < n && status == BN_OK; i++) {
		status = check_tensor(v, &tensors[i]);
	}
	free(v->raw);
	free(v->codes);
	EVP_MD_CTX_free(v->digest);
	return status;
}

/* The last word: the loader of the daemon takes it. */
static enum bn_status open_model(const char *path, struct bn_error *err) BN_ON_HELPER
{
	const struct bn_model_options options = { .cpu = bn_cpu_features() };
	struct bn_model_plan *plan = NULL;
	const enum bn_status status = bn_model_open(&plan, path, &options, err);

	bn_model_plan_free(plan);
	return status == BN_OK || err == NULL ? status
					      : bn_wrap(err, "the converted file does not load");
}

enum bn_status bn_convert_verify(const char *path, const struct bn_verify_tensor *tensors, size_t n,
				 bn_verify_progress report, void *who, struct bn_error *err)
{
	struct verifier v = { .progress = report, .who = who, .err = err };
	struct bn_gguf *gguf = NULL;
	struct bn_file file;
	enum bn_status status = bn_file_open(&file, AT_FDCWD, path, true, err);

	if (status != BN_OK) {
		return status;
	}
	status = bn_gguf_open(&gguf, &file, err);
	if (status == BN_OK) {
		v.gguf = gguf;
		status = check_tensors(&v, tensors, n);
	}
	bn_gguf_free(gguf);
	bn_file_close(&file);
	return status == BN_OK ? open_model(path, err) : status;
}
