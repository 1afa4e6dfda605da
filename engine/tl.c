/*
 * Index nibbles. A pair (w0, w1) is 3 * w0 + w1 + 4, that is 3 * c0 + c1 of the codes. A triple is
 * |9 * w0 + 3 * w1 + w2| and its sign apart. One byte is two indices, the left one in the high
 * nibble: four columns of TL1, hence one canonical byte, or six of TL2. All orders are therefore
 * walks over whole bytes, and reading and writing are the same walk.
 */
#include "engine/tl.h"

#include <string.h>

enum {
	NO_TRITS = 0xff, /* no canonical byte: it would be four codes 3 */
	PAIRS = 9,
	TRIPLES = 14,   /* values of |v| */
	ZERO_V = 13,    /* of 9 * c0 + 3 * c1 + c2, where v is 0 */
	STRIP = 32,     /* rows of a strip of TL2 */
	SIX = 6,        /* columns of an index byte of TL2 */
	SIGNED = 24,    /* columns whose signs lie together: eight triples */
	REST_COLS = 32, /* of a tile of the columns that no triples hold */
	REST_MAX = 256, /* so many the size formula has room for         */
};

/* ---- bytes of pairs ------------------------------------------------------------------------- */

/* Index byte to canonical byte; NO_TRITS for what is none. */
static void pairs_to_codes(uint8_t map[256])
{
	for (unsigned b = 0; b < 256; b++) {
		const unsigned left = b >> 4, right = b & 15;

		map[b] = left < PAIRS && right < PAIRS ? (uint8_t)(left / 3 | left % 3 << 2 |
								   right / 3 << 4 | right % 3 << 6)
						       : NO_TRITS;
	}
}

/* Canonical byte to index byte. */
static void codes_to_pairs(uint8_t map[256])
{
	for (unsigned b = 0; b < 256; b++) {
		const unsigned left = 3 * (b & 3) + (b >> 2 & 3);
		const unsigned right = 3 * (b >> 4 & 3) + (b >> 6);

		map[b] = (uint8_t)(left << 4 | right);
	}
}

/* A matrix of canonical bytes and where its next byte lies in the file. */
struct walk {
	const uint8_t *map;
	const uint8_t *src;
	uint8_t *dst;
	bool decode;
	size_t stride;
	size_t at; /* in the file */
	bool good;
};

static inline void step(struct walk *w, size_t row, size_t byte)
{
	const size_t place = row * w->stride + byte;
	const uint8_t value = w->map[w->src[w->decode ? w->at : place]];

	w->dst[w->decode ? place : w->at] = value;
	w->good &= value != NO_TRITS;
	w->at++;
}

/* The strip's rows for columns [4 * byte, 4 * byte + 256 / strip): sixteen rows side by side. */
static void walk_block(struct walk *w, const struct bn_tiles *t, size_t row, size_t byte)
{
	for (uint32_t r16 = 0; r16 < t->strip; r16 += 16) {
		for (uint32_t q = 0; q < 256 / t->strip / 4; q++) {
			for (uint32_t r = 0; r < 16; r++) {
				step(w, row + r16 + r, byte + q);
			}
		}
	}
}

static bool walk_pairs(struct walk *w, uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	const uint32_t by = 256 / t->strip;

	for (uint32_t m = 0; m < rows; m += t->bm_rows) {
		for (uint32_t k = 0; k < cols; k += t->bk_cols) {
			for (uint32_t s = 0; s < t->bm_rows; s += t->strip) {
				for (uint32_t c = 0; c < t->bk_cols; c += by) {
					walk_block(w, t, (size_t)m + s, ((size_t)k + c) / 4);
				}
			}
		}
	}
	return w->good;
}

bool bn_tl_pairs_fit(uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	return (t->strip == 32 || t->strip == 64) && rows > 0 && cols > 0 && t->bm_rows > 0 &&
	       t->bk_cols > 0 && rows % t->bm_rows == 0 && t->bm_rows % t->strip == 0 &&
	       cols % t->bk_cols == 0 && t->bk_cols % (256 / t->strip) == 0;
}

bool bn_tl_pairs_decode(uint8_t *codes, const uint8_t *data, uint32_t rows, uint32_t cols,
			const struct bn_tiles *t)
{
	uint8_t map[256];
	struct walk w = { map, data, codes, true, bn_trits_stride(cols), 0, true };

	pairs_to_codes(map);
	return walk_pairs(&w, rows, cols, t);
}

void bn_tl_pairs_encode(uint8_t *data, const struct bn_trits *src, const struct bn_tiles *t)
{
	uint8_t map[256];
	struct walk w = { map, src->codes, data, false, src->stride, 0, true };

	codes_to_pairs(map);
	(void)walk_pairs(&w, src->rows, src->cols, t);
}

/* ---- triples -------------------------------------------------------------------------------- */

/* Where the three parts of the data begin and how the matrix is cut. */
struct cut {
	uint32_t rows, three; /* columns held as triples; the rest as pairs */
	uint32_t rest;
	const struct bn_tiles *t;
	size_t signs, pairs, end;
};

static struct cut cut_matrix(uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	struct cut c = { .rows = rows, .t = t };

	c.rest = cols % t->bk_cols;
	c.three = cols - c.rest;
	c.signs = (size_t)rows * (c.three / SIX);
	c.pairs = c.signs + (size_t)rows * (c.three / SIGNED);
	c.end = c.pairs + (size_t)rows * (c.rest / 4);
	return c;
}

bool bn_tl_triples_fit(uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	return t->strip == STRIP && rows > 0 && cols >= 256 && t->bm_rows > 0 && t->bk_cols > 0 &&
	       t->bk_cols <= cols && rows % t->bm_rows == 0 && t->bm_rows % STRIP == 0 &&
	       t->bk_cols % SIGNED == 0 && cols % t->bk_cols % REST_COLS == 0 &&
	       cols % t->bk_cols <= REST_MAX;
}

size_t bn_tl_triples_bytes(uint32_t rows, uint32_t cols, const struct bn_tiles *t)
{
	return cut_matrix(rows, cols, t).end;
}

/* Byte p of 32 is row strip_row(p) of a strip: the middle eights are exchanged, for the product
 * unpacks within halves of a register. */
static uint32_t strip_row(uint32_t p)
{
	static const uint8_t eights[4] = { 0, 16, 8, 24 };

	return eights[p / 8] + p % 8;
}

static unsigned load_u16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

/* Six bits of three codes for each index and sign; NO_TRITS for what is none. */
static void triples_to_codes(uint8_t map[2][16])
{
	memset(map, NO_TRITS, 32);
	for (unsigned index = 0; index < TRIPLES; index++) {
		for (unsigned sign = 0; sign < 2; sign++) {
			const unsigned u = sign ? ZERO_V - index : ZERO_V + index;

			if (sign == 0 || index > 0) {
				map[sign][index] = (uint8_t)(u / 9 | u / 3 % 3 << 2 | u % 3 << 4);
			}
		}
	}
}

/* 24 columns of one row: index bytes at every 32nd, signs of the row in `word`, from bit `first`
 * on every second downwards. */
static bool read_run(uint8_t out[SIX], const uint8_t map[2][16], const uint8_t *index,
		     unsigned word, unsigned first)
{
	uint64_t bits = 0;
	unsigned bad = 0;

	for (unsigned t = 0; t < 8; t++) {
		const unsigned nibble = index[t / 2 * STRIP] >> (t % 2 ? 0 : 4) & 15;
		const uint8_t six = map[word >> (first - 2 * t) & 1][nibble];

		bad |= six;
		bits |= (uint64_t)(six & 63) << (6 * t);
	}
	for (unsigned i = 0; i < SIX; i++) {
		out[i] = (uint8_t)(bits >> (8 * i));
	}
	return (bad & 0xc0) == 0;
}

static void write_run(uint8_t *index, uint8_t *sign, const uint8_t in[SIX], unsigned first)
{
	uint64_t bits = 0;
	unsigned word = load_u16(sign);

	for (unsigned i = 0; i < SIX; i++) {
		bits |= (uint64_t)in[i] << (8 * i);
	}
	for (unsigned t = 0; t < 8; t++) {
		const unsigned six = (unsigned)(bits >> (6 * t)) & 63;
		const unsigned u = 9 * (six & 3) + 3 * (six >> 2 & 3) + (six >> 4);
		const unsigned value = u < ZERO_V ? ZERO_V - u : u - ZERO_V;

		index[t / 2 * STRIP] |= (uint8_t)(value << (t % 2 ? 0 : 4));
		word |= (unsigned)(u < ZERO_V) << (first - 2 * t);
	}
	sign[0] = (uint8_t)word;
	sign[1] = (uint8_t)(word >> 8);
}

/* What one strip of one tile is: 32 rows from `row`, columns [col, col + BK). */
struct strip {
	size_t row, col;
	size_t index, sign; /* in the data */
};

static struct strip strip_at(const struct cut *c, size_t n)
{
	const size_t strips = c->t->bm_rows / STRIP, across = c->three / c->t->bk_cols;
	const size_t tile = n / strips;

	return (struct strip){
		.row = tile / across * c->t->bm_rows + n % strips * STRIP,
		.col = tile % across * c->t->bk_cols,
		.index = n * (c->t->bk_cols / SIX) * STRIP,
		.sign = c->signs + n * (c->t->bk_cols / SIGNED) * STRIP,
	};
}

static size_t strips_of(const struct cut *c)
{
	return (size_t)(c->rows / STRIP) * (c->three / c->t->bk_cols);
}

static bool read_strip(uint8_t *codes, size_t stride, const uint8_t *data, const struct cut *c,
		       const struct strip *s, const uint8_t map[2][16])
{
	bool good = true;

	for (uint32_t g = 0; g < c->t->bk_cols / SIGNED; g++) {
		for (uint32_t p = 0; p < STRIP; p++) {
			const uint32_t r = strip_row(p);
			uint8_t *out = codes + (s->row + r) * stride + (s->col + g * SIGNED) / 4;
			const uint8_t *sign = data + s->sign + (size_t)g * STRIP + r % 16 * 2;

			good &= read_run(out, map, data + s->index + (size_t)g * 4 * STRIP + p,
					 load_u16(sign), 15 - r / 16);
		}
	}
	return good;
}

static void write_strip(uint8_t *data, const struct bn_trits *src, const struct cut *c,
			const struct strip *s)
{
	for (uint32_t g = 0; g < c->t->bk_cols / SIGNED; g++) {
		for (uint32_t p = 0; p < STRIP; p++) {
			const uint32_t r = strip_row(p);

			write_run(data + s->index + (size_t)g * 4 * STRIP + p,
				  data + s->sign + (size_t)g * STRIP + r % 16 * 2,
				  src->codes + (s->row + r) * src->stride +
					  (s->col + g * SIGNED) / 4,
				  15 - r / 16);
		}
	}
}

/* The columns behind the triples, as pairs in tiles of 32 columns. */
static bool walk_rest(struct walk *w, const struct cut *c)
{
	for (uint32_t m = 0; m < c->rows; m += c->t->bm_rows) {
		for (uint32_t k = 0; k < c->rest; k += REST_COLS) {
			for (uint32_t s = 0; s < c->t->bm_rows; s += STRIP) {
				for (uint32_t col = 0; col < REST_COLS / 4 * STRIP; col++) {
					step(w, (size_t)m + s + strip_row(col % STRIP),
					     ((size_t)c->three + k) / 4 + col / STRIP);
				}
			}
		}
	}
	return w->good;
}

bool bn_tl_triples_decode(uint8_t *codes, const uint8_t *data, uint32_t rows, uint32_t cols,
			  const struct bn_tiles *t)
{
	const struct cut c = cut_matrix(rows, cols, t);
	uint8_t map[256], triples[2][16];
	struct walk w = { map, data, codes, true, bn_trits_stride(cols), c.pairs, true };
	bool good = true;

	triples_to_codes(triples);
	for (size_t n = 0; n < strips_of(&c); n++) {
		const struct strip s = strip_at(&c, n);

		good &= read_strip(codes, w.stride, data, &c, &s, (const uint8_t(*)[16])triples);
	}
	pairs_to_codes(map);
	return walk_rest(&w, &c) && good;
}

void bn_tl_triples_encode(uint8_t *data, const struct bn_trits *src, const struct bn_tiles *t)
{
	const struct cut c = cut_matrix(src->rows, src->cols, t);
	uint8_t map[256];
	struct walk w = { map, src->codes, data, false, src->stride, c.pairs, true };

	memset(data, 0, c.pairs);
	for (size_t n = 0; n < strips_of(&c); n++) {
		const struct strip s = strip_at(&c, n);

		write_strip(data, src, &c, &s);
	}
	codes_to_pairs(map);
	(void)walk_rest(&w, &c);
}
