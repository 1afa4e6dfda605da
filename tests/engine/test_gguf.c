/* Questions to a directory, files on disk, and every GGUF file of the test data. */
#include "engine/gguf.h"

#include "tests/engine/raw_gguf.h"
#include "tests/gguf_walk.h"
#include "tests/spent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <time.h>
#include <unistd.h>

static struct bn_gguf *parse(const struct raw *r)
{
	struct bn_gguf *g = NULL;
	struct bn_error err;

	if (bn_gguf_parse(&g, r->p, r->n, r->n, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return g;
}

static const uint32_t types[] = { BN_GGUF_U8,  BN_GGUF_I8,  BN_GGUF_U16, BN_GGUF_I16,
				  BN_GGUF_U32, BN_GGUF_I32, BN_GGUF_F32, BN_GGUF_BOOL,
				  BN_GGUF_U64, BN_GGUF_I64, BN_GGUF_F64, BN_GGUF_STRING };
enum { TYPES = sizeof(types) / sizeof(types[0]) };

static size_t bytes_of(uint32_t type)
{
	return bn_gguf_scalar_bytes(type);
}

static bool is_integer(uint32_t type)
{
	return bytes_of(type) > 0 && type != BN_GGUF_F32 && type != BN_GGUF_F64 &&
	       type != BN_GGUF_BOOL;
}

/* One pair of every type, named after it: the value is 1, or a string of one byte. */
static struct raw every_scalar(void)
{
	struct raw r = { 0 };

	raw_begin(&r, 3, 0, TYPES);
	for (size_t i = 0; i < TYPES; i++) {
		raw_key(&r, bn_gguf_type_name(types[i]), types[i]);
		if (types[i] == BN_GGUF_F32) {
			raw_number(&r, 0x3f800000, 4);
		} else if (types[i] == BN_GGUF_F64) {
			raw_number(&r, UINT64_C(0x3ff0000000000000), 8);
		} else if (types[i] == BN_GGUF_STRING) {
			raw_string(&r, "1");
		} else {
			raw_number(&r, 1, bytes_of(types[i]));
		}
	}
	return r;
}

static void gguf_getters_take_their_types_and_no_other(void **state)
{
	struct raw r = every_scalar();
	struct bn_gguf *g = parse(&r);
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_gguf_kv_count(g), TYPES);
	for (size_t i = 0; i < TYPES; i++) {
		const char *key = bn_gguf_type_name(types[i]);
		struct bn_gguf_array a;
		uint32_t u = 0;
		float f = 0.0f;
		bool b = false, string = types[i] == BN_GGUF_STRING;
		struct bn_str s = { NULL, 0 };

		assert_int_equal(bn_gguf_kv_type(g, i), types[i]);
		assert_memory_equal(bn_gguf_kv_key(g, i).p, key, strlen(key));
		assert_true(bn_gguf_has(g, key));
		assert_int_equal(bn_gguf_u32(g, key, 0, 9, &u, &err) == BN_OK,
				 is_integer(types[i]));
		assert_int_equal(u, is_integer(types[i]));
		assert_int_equal(bn_gguf_f32(g, key, 0, 9, &f, &err) == BN_OK,
				 types[i] == BN_GGUF_F32 || types[i] == BN_GGUF_F64);
		assert_int_equal(bn_gguf_bool(g, key, &b, &err) == BN_OK, types[i] == BN_GGUF_BOOL);
		assert_int_equal(bn_gguf_str(g, key, &s, &err) == BN_OK, string);
		assert_int_equal(s.n, string);
		assert_int_equal(bn_gguf_is(g, key, "1"), string);
		assert_false(bn_gguf_is(g, key, "2"));
		assert_false(bn_gguf_is(g, key, "11"));
		assert_int_equal(bn_gguf_strs(g, key, 0, &a, &err), BN_E_FORMAT);
		assert_non_null(strstr(err.text, "must be an array"));
	}
	bn_gguf_free(g);
	raw_free(&r);
}

static void gguf_arrays_take_their_types_and_no_other(void **state)
{
	struct raw r = { 0 };
	struct bn_gguf *g;
	struct bn_error err;

	(void)state;
	raw_begin(&r, 3, 0, TYPES);
	for (size_t i = 0; i < TYPES; i++) {
		raw_key(&r, bn_gguf_type_name(types[i]), BN_GGUF_ARRAY);
		raw_number(&r, types[i], 4);
		raw_number(&r, 2, 8);
		if (types[i] == BN_GGUF_STRING) {
			raw_string(&r, "one");
			raw_string(&r, "");
		} else {
			raw_bytes(&r, NULL, 2 * bytes_of(types[i]));
		}
	}
	g = parse(&r);
	for (size_t i = 0; i < TYPES; i++) {
		const char *key = bn_gguf_type_name(types[i]);
		struct bn_gguf_array a;
		uint32_t u;

		assert_int_equal(bn_gguf_strs(g, key, 0, &a, &err) == BN_OK,
				 types[i] == BN_GGUF_STRING);
		assert_int_equal(bn_gguf_ints(g, key, 0, &a, &err) == BN_OK, is_integer(types[i]));
		assert_int_equal(bn_gguf_f32s(g, key, 0, &a, &err) == BN_OK,
				 types[i] == BN_GGUF_F32);
		assert_int_equal(bn_gguf_strs(g, key, 3, &a, &err), BN_E_FORMAT);
		assert_non_null(strstr(err.text, "has 2 elements, must have 3"));
		assert_int_equal(bn_gguf_u32(g, key, 0, 9, &u, &err), BN_E_FORMAT);
		assert_non_null(strstr(err.text, "is an array of "));
	}
	bn_gguf_free(g);
	raw_free(&r);
}

static void gguf_numbers_are_held_to_their_ranges(void **state)
{
	struct raw r = { 0 };
	struct bn_error err;
	struct bn_gguf *g;
	uint32_t u = 77;
	float f = 77.0f;

	(void)state;
	raw_begin(&r, 2, 0, 6);
	raw_u32(&r, "u32", UINT32_MAX);
	raw_key(&r, "i8", BN_GGUF_I8);
	raw_number(&r, 0xff, 1);
	raw_key(&r, "u64", BN_GGUF_U64);
	raw_number(&r, UINT64_MAX, 8);
	raw_key(&r, "i64", BN_GGUF_I64);
	raw_number(&r, UINT64_C(1) << 32, 8);
	raw_key(&r, "nan", BN_GGUF_F32);
	raw_number(&r, 0x7fc00000, 4);
	raw_key(&r, "f64", BN_GGUF_F64);
	raw_number(&r, UINT64_C(0x7fefffffffffffff), 8);
	g = parse(&r);
	assert_int_equal(bn_gguf_version(g), 2);
	assert_int_equal(bn_gguf_u32(g, "u32", 0, UINT32_MAX - 1, &u, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "metadata key 'u32' is 4294967295, must be 0 to 4294967294");
	assert_int_equal(bn_gguf_u32(g, "i8", 0, UINT32_MAX, &u, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "metadata key 'i8' is -1, must be 0 to 4294967295");
	assert_int_equal(bn_gguf_u32(g, "u64", 0, UINT32_MAX, &u, &err), BN_E_FORMAT);
	assert_int_equal(bn_gguf_u32(g, "i64", 0, UINT32_MAX, &u, &err), BN_E_FORMAT);
	assert_int_equal(bn_gguf_u32(g, "absent", 0, 1, &u, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "metadata key 'absent' is missing");
	assert_int_equal(u, 77);
	assert_int_equal(bn_gguf_u32(g, "u32", UINT32_MAX, UINT32_MAX, &u, &err), BN_OK);
	assert_int_equal(u, UINT32_MAX);
	assert_int_equal(bn_gguf_f32(g, "nan", -INFINITY, INFINITY, &f, &err), BN_E_FORMAT);
	assert_int_equal(bn_gguf_f32(g, "f64", 0.0f, 3e38f, &f, &err), BN_E_FORMAT);
	assert_true(f == 77.0f);
	bn_gguf_free(g);
	raw_free(&r);
}

static void gguf_array_elements_are_what_the_file_says(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t bits;
		int64_t value;
	} cases[] = {
		{ BN_GGUF_U8, 0xff, 255 },
		{ BN_GGUF_I8, 0x80, -128 },
		{ BN_GGUF_U16, 0xffff, 65535 },
		{ BN_GGUF_I16, 0x8000, -32768 },
		{ BN_GGUF_U32, 0xffffffff, UINT32_MAX },
		{ BN_GGUF_I32, 0x80000000, INT32_MIN },
		{ BN_GGUF_I64, UINT64_C(1) << 63, INT64_MIN },
		{ BN_GGUF_U64, UINT64_MAX, INT64_MAX },
		{ BN_GGUF_U64, 5, 5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw r = { 0 };
		struct bn_gguf_array a;
		struct bn_gguf *g;

		raw_begin(&r, 3, 0, 1);
		raw_key(&r, "odd", BN_GGUF_ARRAY); /* so that elements are not aligned */
		raw_number(&r, cases[i].type, 4);
		raw_number(&r, 2, 8);
		raw_number(&r, 1, bytes_of(cases[i].type));
		raw_number(&r, cases[i].bits, bytes_of(cases[i].type));
		g = parse(&r);
		assert_int_equal(bn_gguf_ints(g, "odd", 2, &a, NULL), BN_OK);
		assert_int_equal(bn_gguf_int_at(&a, 0), 1);
		assert_true(bn_gguf_int_at(&a, 1) == cases[i].value);
		bn_gguf_free(g);
		raw_free(&r);
	}
}

static void gguf_strings_come_in_order_and_copies_read_on_their_own(void **state)
{
	static const char *const words[] = { "alpha", "", "\xff\xfe", "omega" };
	struct raw r = { 0 };
	struct bn_gguf_array a, copy;
	struct bn_gguf *g;
	struct bn_str s;

	(void)state;
	raw_begin(&r, 3, 0, 1);
	raw_key(&r, "words", BN_GGUF_ARRAY);
	raw_number(&r, BN_GGUF_STRING, 4);
	raw_number(&r, 4, 8);
	for (size_t i = 0; i < 4; i++) {
		raw_string(&r, words[i]);
	}
	g = parse(&r);
	assert_int_equal(bn_gguf_strs(g, "words", 4, &a, NULL), BN_OK);
	assert_true(bn_gguf_next_str(&a, &s));
	copy = a;
	for (size_t i = 1; i < 4; i++) {
		assert_true(bn_gguf_next_str(&a, &s));
		assert_int_equal(s.n, strlen(words[i]));
		assert_memory_equal(s.p, words[i], s.n);
	}
	assert_false(bn_gguf_next_str(&a, &s));
	assert_false(bn_gguf_next_str(&a, &s));
	assert_true(bn_gguf_next_str(&copy, &s));
	assert_int_equal(s.n, 0);
	bn_gguf_free(g);
	raw_free(&r);
}

static void gguf_reads_tensor_bytes_and_not_one_more(void **state)
{
	const uint64_t dims[1] = { 16 };
	struct raw r = { 0 };
	const struct bn_gguf_tensor *t;
	struct bn_gguf *g;
	struct bn_error err;
	unsigned char got[16];

	(void)state;
	raw_begin(&r, 3, 2, 0);
	raw_tensor(&r, "a", 1, dims, BN_GGML_I8, 0);
	raw_tensor(&r, "b", 1, dims, BN_GGML_I8, 32);
	raw_data(&r, 32, 48);
	r.p[r.n - 16] = 1;
	r.p[r.n - 1] = 9;
	g = parse(&r);
	t = bn_gguf_tensor(g, "b");
	assert_non_null(t);
	assert_null(bn_gguf_tensor(g, "c"));
	assert_null(bn_gguf_tensor(g, ""));
	assert_int_equal(bn_gguf_tensor_count(g), 2);
	assert_int_equal(t->dims[0], 16);
	assert_int_equal(t->dims[1], 1);
	assert_int_equal(bn_gguf_read(g, t, 0, got, 16, &err), BN_OK);
	assert_int_equal(got[0], 1);
	assert_int_equal(got[15], 9);
	assert_int_equal(bn_gguf_read(g, t, 15, got, 1, &err), BN_OK);
	assert_int_equal(got[0], 9);
	assert_int_equal(bn_gguf_read(g, t, 16, got, 0, &err), BN_OK);
	assert_int_equal(bn_gguf_read(g, t, 15, got, 2, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'b' has 16 bytes, 2 were wanted from byte 15");
	assert_int_equal(bn_gguf_read(g, t, UINT64_MAX, got, 1, &err), BN_E_FORMAT);
	assert_int_equal(bn_gguf_read(g, t, 1, got, SIZE_MAX, &err), BN_E_FORMAT);
	bn_gguf_free(g);

	/* A directory over the header alone knows the tensor but not its bytes. */
	assert_int_equal(bn_gguf_parse(&g, r.p, r.n - 16, r.n, &err), BN_OK);
	t = bn_gguf_tensor(g, "b");
	assert_int_equal(bn_gguf_read(g, t, 0, got, 16, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "tensor 'b' is not among the"));
	bn_gguf_free(g);
	bn_gguf_free(NULL);
	raw_free(&r);
}

/* --- on disk --------------------------------------------------------------------------------- */

static void save(const char *path, const void *bytes, size_t n)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static enum bn_status open_path(const char *path, struct bn_file *f, struct bn_gguf **g,
				struct bn_error *err)
{
	enum bn_status status = bn_file_open(f, AT_FDCWD, path, false, err);

	if (status == BN_OK) {
		status = bn_gguf_open(g, f, err);
		if (status != BN_OK) {
			bn_file_close(f);
		}
	}
	return status;
}

static void gguf_reads_a_file_as_it_reads_memory(void **state)
{
	char path[] = "/tmp/bn-test-gguf-XXXXXX";
	int fd = mkstemp(path);
	const uint64_t dims[1] = { 100000 };
	struct raw r = { 0 };
	struct bn_gguf *g, *m;
	struct bn_gguf_array a;
	struct bn_error err;
	struct bn_file f;
	struct bn_str s;
	unsigned char byte;
	size_t i = 0;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	/* A header of a few megabytes, so that it is read in several pieces. */
	raw_begin(&r, 3, 1, 2);
	raw_key(&r, "words", BN_GGUF_ARRAY);
	raw_number(&r, BN_GGUF_STRING, 4);
	raw_number(&r, 100000, 8);
	for (i = 0; i < 100000; i++) {
		char word[48];

		snprintf(word, sizeof(word), "a word that is long, number %zu", i);
		raw_string(&r, word);
	}
	raw_u32(&r, "after", 5);
	raw_tensor(&r, "t", 1, dims, BN_GGML_I8, 0);
	raw_data(&r, 32, 100000);
	r.p[r.n - 1] = 7;
	save(path, r.p, r.n);
	assert_int_equal(open_path(path, &f, &g, &err), BN_OK);
	m = parse(&r);
	assert_int_equal(walk_gguf(g, r.n) - bn_gguf_bytes(g),
			 walk_gguf(m, r.n) - bn_gguf_bytes(m));
	/* The header is held once; the data is not. */
	assert_true(bn_gguf_bytes(g) < r.n + 4 * 1024 * 1024);
	assert_int_equal(bn_gguf_strs(g, "words", 100000, &a, &err), BN_OK);
	for (i = 0; bn_gguf_next_str(&a, &s); i++) {
		assert_int_equal(atoi(s.p + strlen("a word that is long, number ")), i);
	}
	assert_int_equal(bn_gguf_read(g, bn_gguf_tensor(g, "t"), 99999, &byte, 1, &err), BN_OK);
	assert_int_equal(byte, 7);
	/* Somebody cuts the file off while we are using it. */
	assert_int_equal(truncate(path, (off_t)r.n - 10), 0);
	assert_int_equal(bn_gguf_read(g, bn_gguf_tensor(g, "t"), 99999, &byte, 1, &err),
			 BN_E_FORMAT);
	assert_non_null(strstr(err.text, "tensor 't': the file was cut to"));
	bn_gguf_free(g);
	bn_gguf_free(m);
	bn_file_close(&f);
	raw_free(&r);
	unlink(path);
}

static void gguf_file_cut_while_its_header_is_read_is_an_ordinary_error(void **state)
{
	char path[] = "/tmp/bn-test-gguf-XXXXXX";
	int fd = mkstemp(path);
	struct raw r = every_scalar();
	struct bn_gguf *g;
	struct bn_error err;
	struct bn_file f;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	save(path, r.p, r.n);
	assert_int_equal(bn_file_open(&f, AT_FDCWD, path, false, &err), BN_OK);
	assert_int_equal(truncate(path, (off_t)r.n / 2), 0);
	assert_int_equal(bn_gguf_open(&g, &f, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "was cut to"));
	bn_file_close(&f);
	raw_free(&r);
	unlink(path);
}

static void gguf_refuses_a_header_longer_than_the_limit(void **state)
{
	char path[] = "/tmp/bn-test-gguf-XXXXXX";
	int fd = mkstemp(path);
	struct raw r = { 0 };
	struct bn_gguf *g;
	struct bn_error err;
	struct bn_file f;
	off_t at;

	(void)state;
	assert_true(fd >= 0);
	/* Seventeen strings of the full size make 272 MiB; the file is sparse. */
	raw_begin(&r, 3, 0, 17);
	assert_int_equal(pwrite(fd, r.p, r.n, 0), r.n);
	at = (off_t)r.n;
	for (int i = 0; i < 17; i++) {
		struct raw kv = { 0 };
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		raw_key(&kv, key, BN_GGUF_STRING);
		raw_number(&kv, BN_GGUF_MAX_STRING, 8);
		assert_int_equal(pwrite(fd, kv.p, kv.n, at), kv.n);
		at += (off_t)kv.n + BN_GGUF_MAX_STRING;
		raw_free(&kv);
	}
	assert_int_equal(ftruncate(fd, at), 0);
	close(fd);
	assert_int_equal(open_path(path, &f, &g, &err), BN_E_FORMAT);
	assert_string_equal(err.text,
			    "metadata pair 15 'k15': the header is longer than 268435456 bytes");
	raw_free(&r);
	unlink(path);
}

static void gguf_says_that_an_empty_file_is_empty(void **state)
{
	char path[] = "/tmp/bn-test-gguf-XXXXXX";
	int fd = mkstemp(path);
	struct bn_gguf *g;
	struct bn_error err;
	struct bn_file f;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_path(path, &f, &g, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "the file is empty");
	unlink(path);
}

/* --- files others made ----------------------------------------------------------------------- */

/* nftw hands no context to its callback. */
static size_t accepted, refused;

static int visit(const char *path, const struct stat *about, int kind, struct FTW *where)
{
	double began = spent();
	struct bn_gguf *g;
	struct bn_error err;
	struct bn_file f;
	enum bn_status status;

	(void)where;
	if (kind != FTW_F) {
		return 0;
	}
	status = open_path(path, &f, &g, &err);
	assert_true(spent() - began < 5);
	if (status == BN_OK) {
		walk_gguf(g, (uint64_t)about->st_size);
		bn_gguf_free(g);
		bn_file_close(&f);
		accepted++;
	} else {
		assert_int_equal(status, BN_E_FORMAT);
		assert_true(strlen(err.text) > 10);
		refused++;
	}
	return 0;
}

/* The path of something in the test data, or NULL. */
static const char *data_path(char *path, size_t size, const char *below)
{
	const char *data = getenv("BN_TEST_DATA");

	if (data == NULL) {
		return NULL;
	}
	snprintf(path, size, "%s/%s", data, below);
	return access(path, R_OK) == 0 ? path : NULL;
}

static void gguf_accepts_or_names_every_file_of_the_conformance_data(void **state)
{
	static const char *const folders[] = { "conformance/gguf-fuzz",
					       "conformance/gguf-fixtures" };
	char path[4096];

	(void)state;
	accepted = refused = 0;
	for (size_t i = 0; i < 2; i++) {
		if (data_path(path, sizeof(path), folders[i]) == NULL) {
			print_message("BN_TEST_DATA has no %s\n", folders[i]);
			skip();
		}
		assert_int_equal(nftw(path, visit, 16, FTW_PHYS), 0);
	}
	print_message("%zu accepted, %zu refused\n", accepted, refused);
	assert_true(accepted >= 20);
	assert_true(refused >= 300);
}

static void gguf_reads_a_published_vocabulary(void **state)
{
	struct bn_gguf_array tokens, scores, kinds;
	struct bn_gguf *g;
	struct bn_error err;
	struct bn_file f;
	struct bn_str s;
	char path[4096];

	(void)state;
	if (data_path(path, sizeof(path), "tokenizers/ggml-vocab-llama-spm.gguf") == NULL) {
		skip();
	}
	assert_int_equal(open_path(path, &f, &g, &err), BN_OK);
	assert_true(bn_gguf_is(g, "tokenizer.ggml.model", "llama"));
	assert_int_equal(bn_gguf_strs(g, "tokenizer.ggml.tokens", 32000, &tokens, &err), BN_OK);
	assert_int_equal(bn_gguf_f32s(g, "tokenizer.ggml.scores", 32000, &scores, &err), BN_OK);
	assert_int_equal(bn_gguf_ints(g, "tokenizer.ggml.token_type", 32000, &kinds, &err), BN_OK);
	assert_true(bn_gguf_next_str(&tokens, &s));
	assert_int_equal(s.n, 5);
	assert_memory_equal(s.p, "<unk>", 5);
	assert_int_equal(bn_gguf_int_at(&kinds, 3), 6);
	assert_true(bn_gguf_f32_at(&scores, 31999) < -1000.0f);
	bn_gguf_free(g);
	bn_file_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gguf_getters_take_their_types_and_no_other),
		cmocka_unit_test(gguf_arrays_take_their_types_and_no_other),
		cmocka_unit_test(gguf_numbers_are_held_to_their_ranges),
		cmocka_unit_test(gguf_array_elements_are_what_the_file_says),
		cmocka_unit_test(gguf_strings_come_in_order_and_copies_read_on_their_own),
		cmocka_unit_test(gguf_reads_tensor_bytes_and_not_one_more),
		cmocka_unit_test(gguf_reads_a_file_as_it_reads_memory),
		cmocka_unit_test(gguf_file_cut_while_its_header_is_read_is_an_ordinary_error),
		cmocka_unit_test(gguf_refuses_a_header_longer_than_the_limit),
		cmocka_unit_test(gguf_says_that_an_empty_file_is_empty),
		cmocka_unit_test(gguf_accepts_or_names_every_file_of_the_conformance_data),
		cmocka_unit_test(gguf_reads_a_published_vocabulary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
