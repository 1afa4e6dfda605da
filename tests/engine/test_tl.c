/* The byte orders of TL1 and TL2: every legal cut round-trips, and wrong bytes are noticed. */
#include "engine/tl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t next(uint32_t *x)
{
	*x = *x * 1664525u + 1013904223u;
	return *x >> 16;
}

static uint8_t *random_codes(uint32_t rows, uint32_t cols, uint32_t seed)
{
	const size_t stride = bn_trits_stride(cols);
	uint8_t *codes = calloc(rows, stride);

	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t c = 0; c < cols; c++) {
			codes[r * stride + c / 4] |= (uint8_t)(next(&seed) % 3 << (2 * (c % 4)));
		}
	}
	return codes;
}

/* Data [bytes] in a block of exactly that size, so that a sanitizer sees a step too far. */
static void round_trip(bool triples, uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	const size_t n = rows * bn_trits_stride(cols);
	const size_t bytes = triples ? bn_tl_triples_bytes(rows, cols, t) : n;
	uint8_t *codes = random_codes(rows, cols, rows + cols), *data = malloc(bytes);
	uint8_t *back = malloc(n);
	const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };

	memset(data, 0xee, bytes);
	memset(back, 0xff, n);
	if (triples) {
		assert_true(bn_tl_triples_fit(rows, cols, t));
		bn_tl_triples_encode(data, &trits, t);
		assert_true(bn_tl_triples_decode(back, data, rows, cols, t));
	} else {
		assert_true(bn_tl_pairs_fit(rows, cols, t));
		bn_tl_pairs_encode(data, &trits, t);
		assert_true(bn_tl_pairs_decode(back, data, rows, cols, t));
	}
	assert_memory_equal(codes, back, n);
	free(codes);
	free(data);
	free(back);
}

static void every_cut_of_pairs_round_trips(void **state)
{
	static const uint32_t bm[] = { 32, 64, 96, 128, 320 }, bk[] = { 4, 8, 32, 64, 120 };
	unsigned tried = 0;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		for (size_t j = 0; j < 5; j++) {
			for (uint32_t strip = 32; strip <= 64; strip += 32) {
				const struct bn_tiles t = { bm[i], bk[j], strip };

				if (bn_tl_pairs_fit(2 * bm[i], 3 * bk[j], &t)) {
					round_trip(false, 2 * bm[i], 3 * bk[j], &t);
					tried++;
				}
			}
		}
	}
	assert_int_equal(tried, 5 * 4 + 3 * 5);
}

static void every_cut_of_triples_round_trips(void **state)
{
	static const uint32_t bm[] = { 32, 64, 160 }, bk[] = { 24, 96, 120, 192 };
	unsigned tried = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (size_t j = 0; j < 4; j++) {
			for (uint32_t cols = 256; cols <= 640; cols += 8) {
				const struct bn_tiles t = { bm[i], bk[j], 32 };

				if (bn_tl_triples_fit(2 * bm[i], cols, &t)) {
					round_trip(true, 2 * bm[i], cols, &t);
					tried++;
				}
			}
		}
	}
	assert_true(tried > 100);
}

static void cuts_that_do_not_divide_are_refused(void **state)
{
	static const struct {
		bool triples;
		uint32_t rows, cols;
		struct bn_tiles t;
	} bad[] = {
		{ false, 128, 128, { 0, 64, 32 } },  { false, 128, 128, { 64, 0, 32 } },
		{ false, 128, 128, { 64, 64, 0 } },  { false, 128, 128, { 64, 64, 16 } },
		{ false, 128, 128, { 96, 64, 32 } }, { false, 128, 128, { 64, 96, 32 } },
		{ false, 128, 128, { 32, 64, 64 } }, { false, 128, 132, { 64, 132, 32 } },
		{ false, 0, 128, { 64, 64, 32 } },   { true, 64, 288, { 64, 96, 64 } },
		{ true, 64, 288, { 48, 96, 32 } },   { true, 64, 288, { 64, 32, 32 } },
		{ true, 64, 288, { 64, 0, 32 } },    { true, 64, 288, { 0, 96, 32 } },
		{ true, 64, 192, { 64, 96, 32 } },   { true, 64, 296, { 64, 96, 32 } },
		{ true, 96, 288, { 64, 96, 32 } },   { true, 64, 288, { 64, 312, 32 } },
		{ true, 64, 1080, { 64, 792, 32 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(bad[i].triples ? bn_tl_triples_fit(bad[i].rows, bad[i].cols, &bad[i].t)
					    : bn_tl_pairs_fit(bad[i].rows, bad[i].cols, &bad[i].t));
	}
}

static void indices_that_are_no_trits_are_noticed(void **state)
{
	enum { ROWS = 64, COLS = 320 };
	const struct bn_tiles t = { 64, 64, 32 }, three = { 64, 96, 32 };
	const size_t signs = ROWS * 288 / 6, pairs = signs + ROWS * 288 / 24;
	uint8_t *codes = malloc(ROWS * COLS / 4), *data = calloc(1, ROWS * COLS / 4);

	(void)state;
	memset(data, 0x44, ROWS * COLS / 4);
	assert_true(bn_tl_pairs_decode(codes, data, ROWS, COLS, &t));
	data[777] = 0x49;
	assert_false(bn_tl_pairs_decode(codes, data, ROWS, COLS, &t));
	data[777] = 0x94;
	assert_false(bn_tl_pairs_decode(codes, data, ROWS, COLS, &t));

	/* All triples zero, which no sign goes with. */
	memset(data, 0, pairs);
	memset(data + pairs, 0x44, ROWS * 32 / 4);
	assert_int_equal(bn_tl_triples_bytes(ROWS, COLS, &three), pairs + ROWS * 32 / 4);
	assert_true(bn_tl_triples_decode(codes, data, ROWS, COLS, &three));
	data[signs + 100] = 0x10;
	assert_false(bn_tl_triples_decode(codes, data, ROWS, COLS, &three));
	data[signs + 100] = 0;
	data[1000] = 0x0e;
	assert_false(bn_tl_triples_decode(codes, data, ROWS, COLS, &three));
	data[1000] = 0xd0;
	assert_true(bn_tl_triples_decode(codes, data, ROWS, COLS, &three));
	data[pairs + 5] = 0x90;
	assert_false(bn_tl_triples_decode(codes, data, ROWS, COLS, &three));
	free(codes);
	free(data);
}

static void another_cut_is_noticed_only_by_its_remainder(void **state)
{
	enum { ROWS = 128, COLS = 480 };
	const struct bn_tiles pairs[2] = { { 64, 32, 32 }, { 128, 32, 64 } };
	const struct bn_tiles triples[3] = { { 64, 96, 32 }, { 128, 96, 32 }, { 64, 192, 32 } };
	uint8_t *codes = random_codes(ROWS, COLS, 5), *back = malloc(ROWS * COLS / 4);
	uint8_t *data = malloc(ROWS * COLS / 4);
	const struct bn_trits trits = { codes, COLS / 4, ROWS, COLS };

	(void)state;
	bn_tl_pairs_encode(data, &trits, &pairs[0]);
	assert_true(bn_tl_pairs_decode(back, data, ROWS, COLS, &pairs[1]));
	assert_true(memcmp(codes, back, ROWS * COLS / 4) != 0);
	bn_tl_triples_encode(data, &trits, &triples[0]);
	assert_true(bn_tl_triples_decode(back, data, ROWS, COLS, &triples[1]));
	assert_true(memcmp(codes, back, ROWS * COLS / 4) != 0);
	assert_false(bn_tl_triples_decode(back, data, ROWS, COLS, &triples[2]));
	free(codes);
	free(back);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cut_of_pairs_round_trips),
		cmocka_unit_test(every_cut_of_triples_round_trips),
		cmocka_unit_test(cuts_that_do_not_divide_are_refused),
		cmocka_unit_test(indices_that_are_no_trits_are_noticed),
		cmocka_unit_test(another_cut_is_noticed_only_by_its_remainder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
