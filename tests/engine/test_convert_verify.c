/* A converted file that was damaged afterwards is found out, tensor by tensor. */
#include "engine/convert_verify.h"

#include "kernels/trits.h"
#include "tests/tiny.h"

#include "engine/file.h"
#include "engine/gguf.h"

#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TENSORS_MAX = 64 };

static char path[] = "/tmp/bnd-verify-XXXXXX";

/* What the file holds, found by reading it. */
static size_t describe(struct bn_verify_tensor *tensors, uint64_t offsets[TENSORS_MAX])
{
	struct bn_gguf *g = NULL;
	struct bn_file file;
	size_t n;

	assert_int_equal(bn_file_open(&file, AT_FDCWD, path, false, NULL), BN_OK);
	assert_int_equal(bn_gguf_open(&g, &file, NULL), BN_OK);
	n = bn_gguf_tensor_count(g);
	assert_true(n <= TENSORS_MAX);
	for (size_t i = 0; i < n; i++) {
		const struct bn_gguf_tensor *t = bn_gguf_tensor_at(g, i);
		struct bn_verify_tensor *v = &tensors[i];
		uint8_t *raw = malloc(t->nbytes), *codes;

		memset(v, 0, sizeof(*v));
		snprintf(v->name, sizeof(v->name), "%.*s", (int)t->name.n, t->name.p);
		v->type = t->type;
		v->cols = (uint32_t)t->dims[0];
		v->rows = (uint32_t)t->dims[1];
		offsets[i] = t->offset;
		assert_int_equal(bn_gguf_read(g, t, 0, raw, t->nbytes, NULL), BN_OK);
		codes = malloc(v->rows * bn_trits_stride(v->cols));
		if (t->type == BN_GGML_I2_S) {
			memcpy(&v->scale, raw + (size_t)v->rows * v->cols / 4, 4);
			assert_true(bn_trits_from_i2s(codes, raw, 0, v->rows, v->cols));
			EVP_Digest(codes, v->rows * bn_trits_stride(v->cols), v->digest, NULL,
				   EVP_sha256(), NULL);
		} else {
			EVP_Digest(raw, t->nbytes, v->digest, NULL, EVP_sha256(), NULL);
		}
		free(codes);
		free(raw);
	}
	bn_gguf_free(g);
	bn_file_close(&file);
	return n;
}

static enum bn_status verify(const struct bn_verify_tensor *tensors, size_t n, struct bn_error *err)
{
	bn_enter_helper();
	return bn_convert_verify(path, tensors, n, NULL, NULL, err);
}

static void flip(uint64_t offset)
{
	const int fd = open(path, O_RDWR);
	unsigned char byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

static void verify_accepts_what_is_there_and_finds_every_flipped_bit(void **state)
{
	static struct bn_verify_tensor tensors[TENSORS_MAX];
	uint64_t offsets[TENSORS_MAX];
	struct bn_error err = { 0 };
	struct bn_tiny tiny;
	size_t n;

	(void)state;
	close(mkstemp(path));
	bn_tiny_default(&tiny);
	assert_int_equal(bn_tiny_write(&tiny, path, &err), BN_OK);
	n = describe(tensors, offsets);
	if (verify(tensors, n, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	for (size_t i = 0; i < n; i++) {
		flip(offsets[i] + 5);
		assert_int_equal(verify(tensors, n, &err), BN_E_INTERNAL);
		assert_non_null(strstr(err.text, tensors[i].name));
		flip(offsets[i] + 5);
		if (tensors[i].type == BN_GGML_I2_S) {
			const uint64_t scale =
				offsets[i] + (uint64_t)tensors[i].rows * tensors[i].cols / 4;

			flip(scale);
			assert_int_equal(verify(tensors, n, &err), BN_E_INTERNAL);
			assert_non_null(strstr(err.text, "another scale"));
			flip(scale);
		}
	}
	assert_int_equal(verify(tensors, n - 1, &err), BN_E_INTERNAL);
	tensors[0].cols *= 2;
	assert_int_equal(verify(tensors, n, &err), BN_E_INTERNAL);
	assert_non_null(strstr(err.text, "another shape"));
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verify_accepts_what_is_there_and_finds_every_flipped_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
