/* Sizes and places of tensors against an oracle in 128-bit arithmetic. */
#include "engine/gguf_place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

__extension__ typedef unsigned __int128 wide;

/* Written down a second time, from the format's description. */
struct rule {
	uint32_t type, block, block_bytes, per_row, tail;
	bool flat;
};

static const struct rule rules[] = {
	{ 0, 1, 4, 0, 0, false },     { 1, 1, 2, 0, 0, false },      { 2, 32, 18, 0, 0, false },
	{ 8, 32, 34, 0, 0, false },   { 14, 256, 210, 0, 0, false }, { 24, 1, 1, 0, 0, false },
	{ 27, 1, 8, 0, 0, false },    { 28, 1, 8, 0, 0, false },     { 30, 1, 2, 0, 0, false },
	{ 34, 256, 54, 0, 0, false }, { 35, 256, 66, 0, 0, false },  { 36, 128, 32, 0, 32, true },
	{ 38, 4, 1, 0, 32, true },    { 134, 64, 13, 2, 0, false },  { 135, 64, 16, 4, 0, false },
};

static uint64_t draw(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Any magnitude is as likely as any other; a third are round numbers, where the edges are. */
static uint64_t draw_size(uint64_t *state, unsigned bits)
{
	uint64_t r = draw(state);
	unsigned width = (unsigned)(r >> 8) % (bits + 1);
	uint64_t value = width == 0 ? 0 : draw(state) >> (64 - width);

	switch (r & 15) {
	case 0:
	case 1:
		return value & ~UINT64_C(255);
	case 2:
		return width == 64 ? UINT64_MAX : UINT64_C(1) << width;
	case 3:
		return (width == 64 ? 0 : UINT64_C(1) << width) - 1;
	case 4:
	case 5:
	case 6:
		return 256 * (1 + value % 64);
	default:
		return value;
	}
}

/* Saturates far above any limit. */
static wide times(wide a, uint64_t b)
{
	const wide top = (wide)1 << 100;

	return b != 0 && a > top / b ? top : a * b;
}

/* Whether a lone tensor is right; *nbytes when it is. */
static bool oracle(const struct rule *rule, const struct bn_gguf_tensor *t, uint64_t data,
		   uint32_t alignment, uint64_t *nbytes)
{
	const wide limit = (wide)1 << 63;
	wide rows = 1, n, bytes;

	for (uint32_t i = 0; i < t->n_dims; i++) {
		if (t->dims[i] == 0) {
			return false;
		}
		if (i > 0) {
			rows = times(rows, t->dims[i]);
		}
	}
	n = times(rows, t->dims[0]);
	if (n >= limit || (rule->flat ? n : (wide)t->dims[0]) % rule->block != 0) {
		return false;
	}
	bytes = n / rule->block * rule->block_bytes + rows * rule->per_row + rule->tail;
	if (bytes >= limit || t->offset % alignment != 0 || (wide)t->offset + bytes > data) {
		return false;
	}
	*nbytes = (uint64_t)bytes;
	return true;
}

static void place_agrees_with_128_bit_arithmetic(void **state)
{
	uint64_t seed = 7, good = 0, want = 0;
	const uint64_t cases = 1000000;

	(void)state;
	for (uint64_t i = 0; i < cases; i++) {
		const struct rule *rule = &rules[draw(&seed) % (sizeof(rules) / sizeof(rules[0]))];
		uint32_t alignment = 1u << draw(&seed) % 21;
		struct bn_gguf_tensor t = { .name = { "x", 1 } };
		uint64_t end = draw_size(&seed, 28), start, size;
		struct bn_error err;
		bool right;

		/* Half of the cases are small numbers in large files, which mostly are right. */
		unsigned bits = i % 2 == 0 ? 64 : 12;

		t.type = (enum bn_ggml_type)rule->type;
		t.n_dims = 1 + (uint32_t)(draw(&seed) % 4);
		for (uint32_t k = 0; k < 4; k++) {
			t.dims[k] = k < t.n_dims ? draw_size(&seed, bits) : 1;
		}
		t.offset = draw_size(&seed, bits);
		if (draw(&seed) % 8 != 0) {
			t.offset &= ~(uint64_t)(alignment - 1);
		}
		start = (end + alignment - 1) / alignment * alignment;
		size = start + draw_size(&seed, i % 2 == 0 ? 62 : 50);
		right = oracle(rule, &t, size - start, alignment, &want);
		err.text[0] = '\0';
		if (right) {
			uint64_t offset = t.offset;

			assert_int_equal(bn_gguf_place(&t, 1, end, size, alignment, false, &err),
					 BN_OK);
			assert_true(t.nbytes == want && t.offset == start + offset);
			good++;
		} else {
			assert_int_equal(bn_gguf_place(&t, 1, end, size, alignment, false, &err),
					 BN_E_FORMAT);
			assert_non_null(strstr(err.text, "tensor 'x'"));
		}
	}
	/* Both sides of the fence are well visited. */
	assert_true(good > cases / 10 && good < cases / 2);
}

static void place_finds_every_overlap(void **state)
{
	uint64_t seed = 11, good = 0;
	const uint64_t cases = 100000;

	(void)state;
	for (uint64_t i = 0; i < cases; i++) {
		struct bn_gguf_tensor t[4];
		size_t n = 2 + draw(&seed) % 3;
		bool overlap = false;
		struct bn_error err;

		for (size_t k = 0; k < n; k++) {
			t[k] = (struct bn_gguf_tensor){
				.name = { &"abcd"[k], 1 },
				.type = BN_GGML_I8,
				.n_dims = 1,
				.dims = { 1 + draw(&seed) % 64, 1, 1, 1 },
				.offset = draw(&seed) % 32 * 8,
			};
			for (size_t j = 0; j < k; j++) {
				overlap |= t[k].offset < t[j].offset + t[j].dims[0] &&
					   t[j].offset < t[k].offset + t[k].dims[0];
			}
		}
		if (overlap) {
			assert_int_equal(bn_gguf_place(t, n, 100, 1000, 8, false, &err),
					 BN_E_FORMAT);
			assert_non_null(strstr(err.text, "overlaps tensor '"));
		} else {
			assert_int_equal(bn_gguf_place(t, n, 100, 1000, 8, false, &err), BN_OK);
			good++;
		}
	}
	assert_true(good > cases / 20 && good < cases);
}

static struct bn_gguf_tensor ambiguous(uint32_t type, uint64_t offset)
{
	struct bn_gguf_tensor t = {
		.name = { "w", 1 },
		.n_dims = 2,
		.dims = { 768, 64, 1, 1 },
		.offset = offset,
	};

	t.type = (enum bn_ggml_type)type;
	return t;
}

/* 768 x 64 as TL2: 512 * 64 / 3 * 5 / 8 + 4096 = 10922 in lines of 32, and the scale's line. */
enum { TL2_BYTES = 10944 + 32, MXFP4_BYTES = 768 / 32 * 17 * 64 };

static void place_tells_tl2_from_what_shares_its_number(void **state)
{
	struct bn_gguf_tensor t;
	struct bn_error err;

	(void)state;
	/* By the room: exactly, and with the hidden scale behind. */
	for (uint32_t type = 39; type <= 42; type += 3) {
		t = ambiguous(type, 0);
		assert_int_equal(bn_gguf_place(&t, 1, 0, TL2_BYTES, 32, false, &err), BN_OK);
		assert_int_equal(t.type, BN_GGML_TL2);
		assert_int_equal(t.nbytes, TL2_BYTES);
		t = ambiguous(type, 0);
		assert_int_equal(bn_gguf_place(&t, 1, 0, TL2_BYTES + 32, 32, false, &err), BN_OK);
		assert_int_equal(t.type, BN_GGML_TL2);
		/* By the file's word, whatever the room. */
		t = ambiguous(type, 0);
		assert_int_equal(bn_gguf_place(&t, 1, 0, 1000000, 32, true, &err), BN_OK);
		assert_int_equal(t.type, BN_GGML_TL2);
	}
	t = ambiguous(39, 0);
	assert_int_equal(bn_gguf_place(&t, 1, 0, MXFP4_BYTES, 32, false, &err), BN_OK);
	assert_int_equal(t.type, BN_GGML_MXFP4);
	assert_int_equal(t.nbytes, MXFP4_BYTES);
	t = ambiguous(42, 0);
	assert_int_equal(bn_gguf_place(&t, 1, 0, MXFP4_BYTES, 32, false, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'w': its type number is 42, which bnd does not know");
	/* Neither: too short for MXFP4, no fit for TL2. */
	t = ambiguous(39, 0);
	assert_int_equal(bn_gguf_place(&t, 1, 0, TL2_BYTES + 64, 32, false, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "needs 26112 bytes at offset 0, the data section has"));
}

static void place_names_what_is_wrong(void **state)
{
	struct bn_gguf_tensor t = ambiguous(0, 0);
	struct bn_error err;

	(void)state;
	t.dims[1] = 0;
	assert_int_equal(bn_gguf_place(&t, 1, 0, 1000, 32, false, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'w': dimensions 768 x 0 x 1 x 1, none may be 0");
	t = ambiguous(14, 0);
	t.dims[0] = 100;
	assert_int_equal(bn_gguf_place(&t, 1, 0, 1000, 32, false, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'w': 100 x 64 x 1 x 1 elements do not divide into "
				      "q6_k blocks of 256");
	t = ambiguous(0, 8);
	assert_int_equal(bn_gguf_place(&t, 1, 0, 1000, 32, false, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "tensor 'w': its offset 8 is not a multiple of 32");
	t = ambiguous(0, 0);
	assert_int_equal(bn_gguf_place(&t, 1, 1001, 1001, 32, false, &err), BN_E_FORMAT);
	assert_string_equal(err.text, "the file ends at byte 1001, before the tensor data at 1024");
	/* Without tensors there is no data section that could be missing. */
	assert_int_equal(bn_gguf_place(&t, 0, 1001, 1001, 32, false, &err), BN_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(place_agrees_with_128_bit_arithmetic),
		cmocka_unit_test(place_finds_every_overlap),
		cmocka_unit_test(place_tells_tl2_from_what_shares_its_number),
		cmocka_unit_test(place_names_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
