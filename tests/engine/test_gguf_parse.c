/* The parser against files that lie: one field at a time, one bit at a time, cut anywhere. */
#include "engine/gguf.h"
#include "engine/gguf_parse.h"

#include "tests/engine/raw_gguf.h"
#include "tests/gguf_walk.h"
#include "tests/spent.h"
#include "tests/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* --- a small honest file whose every number can be replaced ---------------------------------- */

enum field {
	NONE,
	VERSION,
	N_TENSORS,
	N_KV,
	KEY_BYTES,
	KV_TYPE,
	ALIGNMENT,
	STRING_BYTES,
	ELEMENT_TYPE,
	ELEMENT_COUNT,
	STRING_COUNT,
	ELEMENT_BYTES,
	BOOL,
	NAME_BYTES,
	N_DIMS,
	DIM_0,
	DIM_1,
	TENSOR_TYPE,
	OFFSET,
	FIELDS,
};

/* Bytes each field takes in the file. */
static const size_t width[FIELDS] = {
	[VERSION] = 4,       [N_TENSORS] = 8,    [N_KV] = 8,          [KEY_BYTES] = 8,
	[KV_TYPE] = 4,       [ALIGNMENT] = 4,    [STRING_BYTES] = 8,  [ELEMENT_TYPE] = 4,
	[ELEMENT_COUNT] = 8, [STRING_COUNT] = 8, [ELEMENT_BYTES] = 8, [BOOL] = 1,
	[NAME_BYTES] = 8,    [N_DIMS] = 4,       [DIM_0] = 8,         [DIM_1] = 8,
	[TENSOR_TYPE] = 4,   [OFFSET] = 8,
};

struct lie {
	enum field field;
	uint64_t value;
};

static void put(struct raw *r, const struct lie *lie, enum field field, uint64_t honest)
{
	raw_number(r, lie->field == field ? lie->value : honest, width[field]);
}

static struct raw build(enum field field, uint64_t value)
{
	const struct lie lie = { field, value };
	const uint64_t eight = 8;
	struct raw r = { 0 };

	raw_bytes(&r, "GGUF", 4);
	put(&r, &lie, VERSION, 3);
	put(&r, &lie, N_TENSORS, 2);
	put(&r, &lie, N_KV, 5);

	put(&r, &lie, KEY_BYTES, strlen("general.alignment"));
	raw_bytes(&r, "general.alignment", strlen("general.alignment"));
	put(&r, &lie, KV_TYPE, BN_GGUF_U32);
	put(&r, &lie, ALIGNMENT, 32);
	raw_key(&r, "text", BN_GGUF_STRING);
	put(&r, &lie, STRING_BYTES, 5);
	raw_bytes(&r, "hello", 5);
	raw_key(&r, "numbers", BN_GGUF_ARRAY);
	put(&r, &lie, ELEMENT_TYPE, BN_GGUF_I32);
	put(&r, &lie, ELEMENT_COUNT, 3);
	raw_number(&r, 1, 4);
	raw_number(&r, 2, 4);
	raw_number(&r, 3, 4);
	raw_key(&r, "words", BN_GGUF_ARRAY);
	raw_number(&r, BN_GGUF_STRING, 4);
	put(&r, &lie, STRING_COUNT, 2);
	raw_string(&r, "ab");
	put(&r, &lie, ELEMENT_BYTES, 2);
	raw_bytes(&r, "cd", 2);
	raw_key(&r, "flag", BN_GGUF_BOOL);
	put(&r, &lie, BOOL, 1);

	put(&r, &lie, NAME_BYTES, 1);
	raw_bytes(&r, "t", 1);
	put(&r, &lie, N_DIMS, 2);
	put(&r, &lie, DIM_0, 128);
	put(&r, &lie, DIM_1, 2);
	put(&r, &lie, TENSOR_TYPE, BN_GGML_I2_S);
	put(&r, &lie, OFFSET, 0);
	raw_tensor(&r, "u", 1, &eight, BN_GGML_F32, 96);
	raw_data(&r, 32, 96 + 32);
	return r;
}

/* Parses; an accepted file is walked, a refused one must say why, quickly. */
static enum bn_status parse(const void *bytes, size_t n, uint64_t size, struct bn_error *err)
{
	double began = spent();
	struct bn_gguf *g = NULL;
	enum bn_status status;

	memset(err, 0, sizeof(*err));
	status = bn_gguf_parse(&g, bytes, n, size, err);
	if (status == BN_OK) {
		assert_non_null(g);
		walk_gguf(g, size);
		bn_gguf_free(g);
		return BN_OK;
	}
	assert_null(g);
	assert_int_equal(status, BN_E_FORMAT);
	assert_int_equal(err->status, BN_E_FORMAT);
	assert_true(strlen(err->text) > 10);
	assert_true(spent() - began < 1);
	return status;
}

/* The same over a copy that ends where the bytes end, so that a sanitizer guards its end. */
static enum bn_status parse_exact(const void *bytes, size_t n, struct bn_error *err)
{
	unsigned char *copy = malloc(n > 0 ? n : 1);
	enum bn_status status;

	assert_non_null(copy);
	memcpy(copy, bytes, n);
	status = parse(copy, n, n, err);
	free(copy);
	return status;
}

static void refuses(enum field field, uint64_t value, const char *words)
{
	struct raw r = build(field, value);
	struct bn_error err;

	assert_int_equal(parse_exact(r.p, r.n, &err), BN_E_FORMAT);
	if (strstr(err.text, words) == NULL) {
		fail_msg("'%s' does not say '%s'", err.text, words);
	}
	raw_free(&r);
}

/* --- lies ------------------------------------------------------------------------------------ */

static void gguf_accepts_the_honest_file(void **state)
{
	struct raw r = build(NONE, 0);
	struct bn_error err;

	(void)state;
	assert_int_equal(parse_exact(r.p, r.n, &err), BN_OK);
	raw_free(&r);
}

static bool harmless(enum field field, uint64_t value)
{
	/* Other truths: values that describe the same bytes in another valid way. */
	static const struct lie truths[] = {
		{ VERSION, 2 },
		{ VERSION, 3 },
		{ N_TENSORS, 0 },
		{ N_TENSORS, 1 },
		{ N_TENSORS, 2 },
		{ N_KV, 5 },
		{ KEY_BYTES, 17 },
		{ KV_TYPE, BN_GGUF_U32 },
		{ ALIGNMENT, 1 },
		{ ALIGNMENT, 2 },
		{ ALIGNMENT, 4 },
		{ ALIGNMENT, 8 },
		{ ALIGNMENT, 16 },
		{ ALIGNMENT, 32 },
		{ STRING_BYTES, 5 },
		{ ELEMENT_TYPE, BN_GGUF_U32 },
		{ ELEMENT_TYPE, BN_GGUF_I32 },
		{ ELEMENT_TYPE, BN_GGUF_F32 },
		{ ELEMENT_COUNT, 3 },
		{ STRING_COUNT, 2 },
		{ ELEMENT_BYTES, 2 },
		{ BOOL, 0 },
		{ BOOL, 1 },
		{ NAME_BYTES, 1 },
		{ N_DIMS, 2 },
		{ DIM_0, 64 },
		{ DIM_0, 128 },
		{ DIM_1, 1 },
		{ DIM_1, 2 },
		{ TENSOR_TYPE, BN_GGML_I2_S },
		{ TENSOR_TYPE, BN_GGML_TL1 },
		{ TENSOR_TYPE, BN_GGML_IQ1_BN },
		{ TENSOR_TYPE, BN_GGML_IQ2_BN },
		{ OFFSET, 0 },
	};

	for (size_t i = 0; i < sizeof(truths) / sizeof(truths[0]); i++) {
		if (truths[i].field == field && truths[i].value == value) {
			return true;
		}
	}
	return false;
}

static long max_rss_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static void gguf_refuses_every_lie_in_every_field_with_little_memory(void **state)
{
	static const uint64_t extremes[] = {
		BN_GGUF_MAX_KV - 1,
		BN_GGUF_MAX_KV,
		BN_GGUF_MAX_KV + 1,
		BN_GGUF_MAX_ALIGNMENT,
		BN_GGUF_MAX_ALIGNMENT * 2,
		BN_GGUF_MAX_STRING,
		BN_GGUF_MAX_STRING + 1,
		BN_GGUF_MAX_HEADER,
		INT32_MAX,
		UINT64_C(1) << 31,
		UINT32_MAX,
		UINT64_C(1) << 32,
		(UINT64_C(1) << 32) + 128,
		UINT64_C(1) << 61,
		UINT64_C(1) << 62,
		INT64_MAX,
		UINT64_C(1) << 63,
		(UINT64_C(1) << 63) + 128,
		UINT64_MAX - 31,
		UINT64_MAX - 7,
		UINT64_MAX,
	};
	long before = max_rss_kib();

	(void)state;
	for (enum field field = VERSION; field < FIELDS; field++) {
		for (uint64_t i = 0; i < 300 + sizeof(extremes) / sizeof(extremes[0]); i++) {
			uint64_t value = i < 300 ? i : extremes[i - 300];
			struct raw r;
			struct bn_error err;
			bool accepted;

			if (width[field] < 8 && value >> (8 * width[field]) != 0) {
				continue;
			}
			r = build(field, value);
			accepted = parse_exact(r.p, r.n, &err) == BN_OK;
			if (accepted != harmless(field, value)) {
				fail_msg("field %d = %llu: %s", (int)field,
					 (unsigned long long)value, accepted ? "ok" : err.text);
			}
			raw_free(&r);
		}
	}
	assert_true(max_rss_kib() - before < 16 * 1024);
}

static void gguf_names_the_field_the_value_and_the_limit(void **state)
{
	(void)state;
	refuses(VERSION, 1, "GGUF version 1, bnd reads versions 2 and 3");
	refuses(VERSION, 0x03000000, "big-endian");
	refuses(VERSION, 0x02000000, "big-endian");
	refuses(VERSION, 4, "GGUF version 4");
	refuses(N_KV, 65537, "65537 metadata pairs, the limit is 65536");
	refuses(N_KV, 65536, "65536 metadata pairs, but only");
	refuses(N_TENSORS, 65537, "65537 tensors, the limit is 65536");
	refuses(N_TENSORS, 100, "100 tensors, but only");
	refuses(KEY_BYTES, 0, "metadata pair 0: an empty name");
	refuses(KEY_BYTES, 65537, "metadata pair 0: a name of 65537 bytes, the limit is 65536");
	refuses(KEY_BYTES, 65536, "metadata pair 0: the file ends here, at byte");
	refuses(KV_TYPE, 13, "metadata pair 0 'general.alignment': a value of unknown type 13");
	refuses(KV_TYPE, BN_GGUF_I32, "general.alignment is of type i32, must be u32");
	refuses(ALIGNMENT, 0, "general.alignment is 0, must be a power of two from 1 to 1048576");
	refuses(ALIGNMENT, 24, "general.alignment is 24, must be a power of two");
	refuses(ALIGNMENT, 1u << 21, "general.alignment is 2097152, must be");
	refuses(ALIGNMENT, 1u << 20, "before the tensor data at 1048576");
	refuses(STRING_BYTES, (16 << 20) + 1,
		"metadata pair 1 'text': a string of 16777217 bytes, "
		"the limit is 16777216");
	refuses(STRING_BYTES, 16 << 20, "metadata pair 1 'text': the file ends here");
	refuses(ELEMENT_TYPE, BN_GGUF_ARRAY, "metadata pair 2 'numbers': an array of array");
	refuses(ELEMENT_TYPE, 99, "metadata pair 2 'numbers': an array of ? (type 99)");
	refuses(ELEMENT_COUNT, (16 << 20) + 1,
		"metadata pair 2 'numbers': 16777217 array elements, the limit is 16777216");
	refuses(ELEMENT_COUNT, 1000, "metadata pair 2 'numbers': 1000 array elements, but only");
	refuses(STRING_COUNT, 1000, "metadata pair 3 'words': 1000 array elements, but only");
	refuses(ELEMENT_BYTES, UINT64_MAX,
		"metadata pair 3 'words': an array element of "
		"18446744073709551615 bytes, the limit is 16777216");
	refuses(BOOL, 2, "metadata pair 4 'flag': a bool of value 2");
	refuses(NAME_BYTES, 65537, "tensor 0: a name of 65537 bytes");
	refuses(N_DIMS, 0, "tensor 0 't': 0 dimensions, must be 1 to 4");
	refuses(N_DIMS, 5, "tensor 0 't': 5 dimensions, must be 1 to 4");
	refuses(DIM_0, 0, "tensor 't': dimensions 0 x 2 x 1 x 1, none may be 0");
	refuses(DIM_0, 100, "do not divide into i2_s blocks of 128");
	refuses(DIM_0, UINT64_C(1) << 63, "elements are more than a file can hold");
	refuses(DIM_1, 3, "tensor 'u': overlaps tensor 't'");
	refuses(DIM_1, 400, "tensor 't': needs 12832 bytes at offset 0, the data section has 128");
	refuses(TENSOR_TYPE, 99, "tensor 't': its type number is 99, which bnd does not know");
	refuses(OFFSET, 8, "tensor 't': its offset 8 is not a multiple of 32");
	refuses(OFFSET, 128, "tensor 't': needs 96 bytes at offset 128, the data section has 128");
	refuses(OFFSET, UINT64_MAX - 31, "the data section has 128");
}

static void gguf_guesses_what_a_foreign_file_is(void **state)
{
	static const struct {
		const char *bytes, *words;
	} files[] = {
		{ "FUGG\3\0\0\0", "big-endian" },
		{ "lmgg\1\0\0\0", "GGML file of 2023" },
		{ "tjgg\1\0\0\0", "GGJT file of 2023" },
		{ "PK\3\4....", "ZIP archive or PyTorch checkpoint" },
		{ "\x1f\x8b\x08\x08....", "gzip" },
		{ "version https://git-lfs.github.com/spec/v1", "Git LFS pointer" },
		{ "<!DOCTYPE html>", "web page" },
		{ "hello, world", "it begins with 68 65 6c 6c instead of 'GGUF'" },
	};
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		assert_int_equal(parse(files[i].bytes, 8, 8, &err), BN_E_FORMAT);
		assert_non_null(strstr(err.text, files[i].words));
	}
	assert_int_equal(parse("", 0, 0, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "the file is empty");
}

static void gguf_refuses_names_that_occur_twice(void **state)
{
	const uint64_t dims[1] = { 8 };
	struct raw r = { 0 };
	struct bn_error err;

	(void)state;
	raw_begin(&r, 3, 0, 3);
	raw_u32(&r, "same.key", 1);
	raw_u32(&r, "other.key", 2);
	raw_u32(&r, "same.key", 1);
	assert_int_equal(parse(r.p, r.n, r.n, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "metadata key 'same.key' occurs twice");
	raw_free(&r);

	raw_begin(&r, 3, 3, 0);
	raw_tensor(&r, "a", 1, dims, 0, 0);
	raw_tensor(&r, "b", 1, dims, 0, 32);
	raw_tensor(&r, "a", 1, dims, 0, 64);
	raw_data(&r, 32, 96);
	assert_int_equal(parse(r.p, r.n, r.n, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'a' occurs twice");
	raw_free(&r);
}

/* --- limits, kept and passed by one, with all their bytes there ------------------------------ */

static void gguf_accepts_as_many_names_as_the_limit(void **state)
{
	(void)state;
	for (uint64_t n = BN_GGUF_MAX_KV; n <= BN_GGUF_MAX_KV + 1; n++) {
		struct raw kv = { 0 }, tensors = { 0 };
		const uint64_t dims[1] = { 8 };
		struct bn_error err;
		char name[24];

		raw_begin(&kv, 3, 0, n);
		raw_begin(&tensors, 3, n, 0);
		for (uint64_t i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "name-%llu", (unsigned long long)i * 7919);
			raw_u32(&kv, name, 1);
			raw_tensor(&tensors, name, 1, dims, 0, i * 32);
		}
		raw_data(&tensors, 32, n * 32);
		assert_int_equal(parse(kv.p, kv.n, kv.n, &err) == BN_OK, n == BN_GGUF_MAX_KV);
		assert_int_equal(parse(tensors.p, tensors.n, tensors.n, &err) == BN_OK,
				 n == BN_GGUF_MAX_TENSORS);
		raw_free(&kv);
		raw_free(&tensors);
	}
}

static void gguf_accepts_keys_strings_and_arrays_as_long_as_the_limit(void **state)
{
	(void)state;
	for (size_t over = 0; over <= 1; over++) {
		struct raw r = { 0 };
		struct bn_error err;

		raw_begin(&r, 3, 0, 1);
		raw_number(&r, BN_GGUF_MAX_KEY + over, 8);
		raw_bytes(&r, NULL, BN_GGUF_MAX_KEY + over);
		raw_number(&r, BN_GGUF_U8, 4);
		raw_number(&r, 1, 1);
		assert_int_equal(parse(r.p, r.n, r.n, &err) != BN_OK, over);
		raw_free(&r);

		raw_begin(&r, 3, 0, 1);
		raw_key(&r, "key", BN_GGUF_STRING);
		raw_number(&r, BN_GGUF_MAX_STRING + over, 8);
		raw_bytes(&r, NULL, BN_GGUF_MAX_STRING + over);
		assert_int_equal(parse(r.p, r.n, r.n, &err) != BN_OK, over);
		raw_free(&r);

		raw_begin(&r, 3, 0, 1);
		raw_key(&r, "key", BN_GGUF_ARRAY);
		raw_number(&r, BN_GGUF_I8, 4);
		raw_number(&r, BN_GGUF_MAX_ELEMENTS + over, 8);
		raw_bytes(&r, NULL, BN_GGUF_MAX_ELEMENTS + over);
		assert_int_equal(parse(r.p, r.n, r.n, &err) != BN_OK, over);
		raw_free(&r);
	}
}

static void gguf_sorts_names_that_differ_only_at_their_ends(void **state)
{
	/* A hash table could be flooded and a list would be quadratic: 4,000 names of 4 KiB. */
	enum { NAMES = 4000, BYTES = 4096 };
	struct raw r = { 0 };
	struct bn_error err;
	double began;

	(void)state;
	raw_begin(&r, 3, 0, NAMES);
	for (uint32_t i = 0; i < NAMES; i++) {
		raw_number(&r, BYTES, 8);
		raw_bytes(&r, NULL, BYTES - 4);
		raw_number(&r, i * 2654435761u, 4);
		raw_number(&r, BN_GGUF_U8, 4);
		raw_number(&r, 1, 1);
	}
	began = spent();
	assert_int_equal(parse(r.p, r.n, r.n, &err), BN_OK);
	assert_true(spent() - began < 5);
	raw_free(&r);
}

/* --- damage ---------------------------------------------------------------------------------- */

static void gguf_cut_anywhere_is_a_named_error(void **state)
{
	struct raw r = build(NONE, 0);
	struct bn_error err;

	(void)state;
	for (size_t n = 0; n < r.n; n++) {
		assert_int_equal(parse_exact(r.p, n, &err), BN_E_FORMAT);
	}
	raw_free(&r);
}

static void gguf_with_any_bit_flipped_is_accepted_or_named(void **state)
{
	struct raw r = build(NONE, 0);
	struct bn_error err;
	size_t accepted = 0;

	(void)state;
	for (size_t bit = 0; bit < 8 * r.n; bit++) {
		r.p[bit / 8] ^= (unsigned char)(1 << bit % 8);
		accepted += parse_exact(r.p, r.n, &err) == BN_OK;
		r.p[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	/* Flips in names, values and data do no harm here; those in lengths and counts do. */
	assert_true(accepted > 8 * 128 && accepted < 8 * r.n - 8 * 100);
	raw_free(&r);
}

/* A real header with a vocabulary: its bytes, and where its tensor data begins. */
static unsigned char *tiny_model(size_t *n, size_t *data_at)
{
	char path[] = "/tmp/bn-test-parse-XXXXXX";
	int fd = mkstemp(path);
	struct bn_tiny t;
	struct bn_error err;
	struct bn_gguf *g;
	unsigned char *bytes;
	struct bn_file f;

	assert_true(fd >= 0);
	close(fd);
	bn_tiny_default(&t);
	t.layers = 1;
	t.vocab = 300;
	assert_int_equal(bn_tiny_write(&t, path, &err), BN_OK);
	assert_int_equal(bn_file_open(&f, AT_FDCWD, path, false, &err), BN_OK);
	*n = (size_t)f.size;
	bytes = malloc(*n);
	assert_non_null(bytes);
	assert_int_equal(bn_file_read(&f, 0, bytes, *n, &err), BN_OK);
	bn_file_close(&f);
	unlink(path);
	assert_int_equal(bn_gguf_parse(&g, bytes, *n, *n, &err), BN_OK);
	*data_at = (size_t)bn_gguf_tensor_at(g, 0)->offset;
	bn_gguf_free(g);
	return bytes;
}

static void gguf_model_cut_at_every_byte_of_its_header_is_a_named_error(void **state)
{
	size_t n, data_at;
	unsigned char *bytes = tiny_model(&n, &data_at);
	struct bn_error err;
	uint64_t seed = 5;

	(void)state;
	for (size_t k = 0; k <= data_at; k++) {
		assert_int_equal(parse(bytes, k, k, &err), BN_E_FORMAT);
	}
	/* And at points of its data, which the parser judges without reading it. */
	for (size_t k = 0; k < 1000; k++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		assert_int_equal(
			parse(bytes, data_at, data_at + (seed >> 20) % (n - data_at - 64), &err),
			BN_E_FORMAT);
	}
	assert_int_equal(parse(bytes, n, n, &err), BN_OK);
	free(bytes);
}

static void gguf_model_with_damaged_bytes_is_accepted_or_named(void **state)
{
	size_t n, data_at;
	unsigned char *bytes = tiny_model(&n, &data_at);
	struct bn_error err;
	uint64_t seed = 9;

	(void)state;
	for (size_t i = 0; i < 20000; i++) {
		size_t at;
		unsigned char was;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		/* Half of them in the last part, where the tensors are listed. */
		at = (seed >> 33) % (i % 2 == 0 ? data_at : 2000);
		at = i % 2 == 0 ? at : data_at - 1 - at;
		was = bytes[at];
		bytes[at] = (unsigned char)(i % 3 == 0 ? seed >> 24
						       : was ^ UINT64_C(1) << (seed >> 20) % 8);
		parse(bytes, n, n, &err);
		bytes[at] = was;
	}
	free(bytes);
}

static void gguf_type_tables_agree(void **state)
{
	(void)state;
	assert_string_equal(bn_gguf_type_name(BN_GGUF_F64), "f64");
	assert_string_equal(bn_gguf_type_name(BN_GGUF_TYPE_COUNT), "?");
	assert_int_equal(bn_gguf_scalar_bytes(BN_GGUF_F64), 8);
	assert_int_equal(bn_gguf_scalar_bytes(BN_GGUF_STRING), 0);
	assert_int_equal(bn_gguf_scalar_bytes(BN_GGUF_TYPE_COUNT), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gguf_accepts_the_honest_file),
		cmocka_unit_test(gguf_refuses_every_lie_in_every_field_with_little_memory),
		cmocka_unit_test(gguf_names_the_field_the_value_and_the_limit),
		cmocka_unit_test(gguf_guesses_what_a_foreign_file_is),
		cmocka_unit_test(gguf_refuses_names_that_occur_twice),
		cmocka_unit_test(gguf_accepts_as_many_names_as_the_limit),
		cmocka_unit_test(gguf_accepts_keys_strings_and_arrays_as_long_as_the_limit),
		cmocka_unit_test(gguf_sorts_names_that_differ_only_at_their_ends),
		cmocka_unit_test(gguf_cut_anywhere_is_a_named_error),
		cmocka_unit_test(gguf_with_any_bit_flipped_is_accepted_or_named),
		cmocka_unit_test(gguf_model_cut_at_every_byte_of_its_header_is_a_named_error),
		cmocka_unit_test(gguf_model_with_damaged_bytes_is_accepted_or_named),
		cmocka_unit_test(gguf_type_tables_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
