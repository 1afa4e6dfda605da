/*
 * Two ways of packing. TQ2_0 and IQ2_BN cut a block into four runs and put one code of each into a
 * byte, as I2_S does: four words of bytes become four canonical words. TQ1_0 and IQ1_BN put five
 * trits into a byte as ceil(256 * n / 243), n in base three: a fraction whose digits fall out by
 * multiplication; here a table of the 243 bytes that occur, so that the other 13 are noticed.
 */
#include "engine/groups.h"

#include "kernels/half.h"

#include <endian.h>
#include <math.h>
#include <string.h>

enum {
	TQ_BLOCK = 256,
	TQ1_BYTES = 54,
	TQ2_BYTES = 66,
	IQ_BLOCK = 64,
	IQ1_BYTES = 13,
	IQ2_BYTES = 16,
	ALL_ZERO_WEIGHTS = 0x55,
	FIVE = 243, /* values of five trits */
	NO_TRITS = 0xff,
};

/* ---- scales --------------------------------------------------------------------------------- */

static uint16_t load_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static void store_half(uint8_t *p, float x)
{
	const uint16_t h = bn_float_to_half(x);

	p[0] = (uint8_t)h;
	p[1] = (uint8_t)(h >> 8);
}

static bool all_zero(const uint8_t *codes, size_t n)
{
	unsigned other = 0;

	for (size_t i = 0; i < n; i++) {
		other |= codes[i] ^ ALL_ZERO_WEIGHTS;
	}
	return other == 0;
}

/* One more group of codes [n] has this scale. */
static enum bn_trits_verdict join(struct bn_scale *s, float scale, uint8_t *codes, size_t n)
{
	if (all_zero(codes, n)) {
		return BN_TRITS_GOOD;
	}
	if (scale == 0.0f) {
		/* ik_llama.cpp writes a row of zeros as ones with the scale 0. */
		memset(codes, ALL_ZERO_WEIGHTS, n);
		return BN_TRITS_GOOD;
	}
	if (!isfinite(scale) || scale < 0.0f) {
		s->other = scale;
		return BN_TRITS_NO_SCALE;
	}
	if (s->value == 0.0f) {
		s->value = scale;
	}
	/* Two roundings of one number to eleven bits are at most one place apart. */
	if (fabsf(scale - s->value) > fmaxf(scale, s->value) * 0x1p-10f) {
		s->other = scale;
		return BN_TRITS_TWO_SCALES;
	}
	return BN_TRITS_GOOD;
}

/* ---- four runs in a byte -------------------------------------------------------------------- */

/* Bytes [run] whose bits 2k are element k * run + i, to canonical bytes [run]. False for code 3. */
static bool runs_to_codes(uint8_t *out, const uint8_t *in, unsigned run)
{
	uint64_t bad = 0;

	for (unsigned i = 0; i < run / 8; i++) {
		uint64_t w;

		memcpy(&w, in + (size_t)i * 8, sizeof(w));
		w = le64toh(w);
		bad |= w & w >> 1 & UINT64_C(0x5555555555555555);
		for (unsigned k = 0; k < 4; k++) {
			/* four neighbours, one in each byte, to the lowest of them */
			uint64_t f = w >> (2 * k) & UINT64_C(0x0303030303030303);

			f |= f >> 6;
			f |= f >> 12;
			out[k * (run / 4) + 2 * i] = (uint8_t)f;
			out[k * (run / 4) + 2 * i + 1] = (uint8_t)(f >> 32);
		}
	}
	return bad == 0;
}

static void codes_to_runs(uint8_t *out, const uint8_t *in, unsigned run)
{
	memset(out, 0, run);
	for (unsigned k = 0; k < 4; k++) {
		for (unsigned i = 0; i < run; i++) {
			const unsigned code =
				(unsigned)in[k * (run / 4) + i / 4] >> (2 * (i % 4)) & 3u;

			out[i] |= (uint8_t)(code << (2 * k));
		}
	}
}

/* ---- five trits in a byte ------------------------------------------------------------------- */

/* Codes of the five, the least significant first; NO_TRITS first for bytes nobody writes. */
static void make_digits(uint8_t digits[256][5])
{
	memset(digits, NO_TRITS, 256 * 5);
	for (unsigned n = 0; n < FIVE; n++) {
		uint8_t *d = digits[(256 * n + FIVE - 1) / FIVE];

		for (unsigned i = 0, left = n; i < 5; i++, left /= 3) {
			d[i] = (uint8_t)(left % 3);
		}
	}
}

/* Codes one by one [4 * n] to canonical bytes [n]; NO_TRITS among them spoils the result. */
static bool join_codes(uint8_t *out, const uint8_t *code, size_t n)
{
	unsigned bad = 0;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *c = code + 4 * i;

		bad |= (unsigned)(c[0] | c[1] | c[2] | c[3]);
		out[i] = (uint8_t)(c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6);
	}
	return (bad & 0x80) == 0;
}

static void split_codes(uint8_t *code, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < 4 * n; i++) {
		code[i] = (uint8_t)((unsigned)in[i / 4] >> (2 * (i % 4)) & 3u);
	}
}

/* `first` is the most significant digit's code, the next ones `apart` further on. */
static uint8_t digits_to_byte(const uint8_t *first, size_t apart, unsigned n_digits)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 5; i++) {
		n = n * 3 + (i < n_digits ? first[i * apart] : 0);
	}
	return (uint8_t)((256 * n + FIVE - 1) / FIVE);
}

/* ---- TQ1_0 ---------------------------------------------------------------------------------- */

/* Bytes of a block, each five (the last four: four) elements `apart`, most significant first. */
static const struct {
	uint8_t byte, n_bytes, element, apart, n_digits;
} tq1_parts[] = {
	{ 0, 32, 0, 32, 5 },
	{ 32, 16, 160, 16, 5 },
	{ 48, 4, 240, 4, 4 },
};

enum { TQ1_PARTS = sizeof(tq1_parts) / sizeof(tq1_parts[0]), TQ1_SCALE = 52, TQ2_SCALE = 64 };

static bool tq1_block(uint8_t *out, const uint8_t *in, const uint8_t digits[256][5])
{
	uint8_t code[TQ_BLOCK];
	unsigned bad = 0;

	for (unsigned p = 0; p < TQ1_PARTS; p++) {
		for (unsigned b = 0; b < tq1_parts[p].n_bytes; b++) {
			const uint8_t *d = digits[in[tq1_parts[p].byte + b]];

			/* A digit left over is zero. */
			bad |= tq1_parts[p].n_digits == 4 ? d[0] : 0;
			for (unsigned i = 0; i < tq1_parts[p].n_digits; i++) {
				code[tq1_parts[p].element + i * tq1_parts[p].apart + b] = d[4 - i];
			}
		}
	}
	return join_codes(out, code, TQ_BLOCK / 4) && bad == 0;
}

enum bn_trits_verdict bn_groups_decode_tq1_0(struct bn_scale *scale, uint8_t *codes,
					     const uint8_t *data, uint32_t n, uint32_t cols)
{
	const size_t blocks = (size_t)n * (cols / TQ_BLOCK);
	enum bn_trits_verdict verdict = BN_TRITS_GOOD;
	uint8_t digits[256][5];

	make_digits(digits);
	for (size_t i = 0; i < blocks && verdict == BN_TRITS_GOOD; i++) {
		uint8_t *out = codes + i * (TQ_BLOCK / 4);

		verdict = tq1_block(out, data, (const uint8_t(*)[5])digits)
				  ? join(scale, bn_half_to_float(load_u16(data + TQ1_SCALE)), out,
					 TQ_BLOCK / 4)
				  : BN_TRITS_NOT;
		data += TQ1_BYTES;
	}
	return verdict;
}

void bn_groups_encode_tq1_0(uint8_t *data, const struct bn_trits *src, float scale)
{
	for (uint32_t r = 0; r < src->rows; r++) {
		for (uint32_t c = 0; c < src->cols; c += TQ_BLOCK) {
			const uint8_t *in = src->codes + r * src->stride + c / 4;
			uint8_t code[TQ_BLOCK];

			split_codes(code, in, TQ_BLOCK / 4);
			for (unsigned p = 0; p < TQ1_PARTS; p++) {
				for (unsigned b = 0; b < tq1_parts[p].n_bytes; b++) {
					data[tq1_parts[p].byte + b] = digits_to_byte(
						code + tq1_parts[p].element + b, tq1_parts[p].apart,
						tq1_parts[p].n_digits);
				}
			}
			store_half(data + TQ1_SCALE, all_zero(in, TQ_BLOCK / 4) ? 0.0f : scale);
			data += TQ1_BYTES;
		}
	}
}

/* ---- TQ2_0 ---------------------------------------------------------------------------------- */

enum bn_trits_verdict bn_groups_decode_tq2_0(struct bn_scale *scale, uint8_t *codes,
					     const uint8_t *data, uint32_t n, uint32_t cols)
{
	const size_t blocks = (size_t)n * (cols / TQ_BLOCK);
	enum bn_trits_verdict verdict = BN_TRITS_GOOD;

	for (size_t i = 0; i < blocks && verdict == BN_TRITS_GOOD; i++) {
		uint8_t *out = codes + i * (TQ_BLOCK / 4);

		verdict = runs_to_codes(out, data, 32) && runs_to_codes(out + 32, data + 32, 32)
				  ? join(scale, bn_half_to_float(load_u16(data + TQ2_SCALE)), out,
					 TQ_BLOCK / 4)
				  : BN_TRITS_NOT;
		data += TQ2_BYTES;
	}
	return verdict;
}

void bn_groups_encode_tq2_0(uint8_t *data, const struct bn_trits *src, float scale)
{
	for (uint32_t r = 0; r < src->rows; r++) {
		for (uint32_t c = 0; c < src->cols; c += TQ_BLOCK) {
			const uint8_t *in = src->codes + r * src->stride + c / 4;

			codes_to_runs(data, in, 32);
			codes_to_runs(data + 32, in + 32, 32);
			store_half(data + TQ2_SCALE, all_zero(in, TQ_BLOCK / 4) ? 0.0f : scale);
			data += TQ2_BYTES;
		}
	}
}

/* ---- IQ1_BN --------------------------------------------------------------------------------- */

/* Four runs of sixteen: three bytes hold fifteen of them, least significant first, and the last
 * byte the sixteenth of each run. */
static bool iq1_block(uint8_t *out, const uint8_t *in, const uint8_t digits[256][5])
{
	const uint8_t *last = digits[in[12]];
	uint8_t code[IQ_BLOCK];

	for (unsigned b = 0; b < 12; b++) {
		memcpy(code + b / 3 * 16 + b % 3 * 5, digits[in[b]], 5);
	}
	for (unsigned k = 0; k < 4; k++) {
		code[16 * k + 15] = last[k];
	}
	return join_codes(out, code, IQ_BLOCK / 4) && last[4] == 0;
}

enum bn_trits_verdict bn_groups_decode_iq1_bn(struct bn_scale *scale, uint8_t *codes,
					      const uint8_t *data, uint32_t n, uint32_t cols)
{
	enum bn_trits_verdict verdict = BN_TRITS_GOOD;
	uint8_t digits[256][5];

	make_digits(digits);
	for (uint32_t r = 0; r < n && verdict == BN_TRITS_GOOD; r++) {
		const float row_scale = bn_half_to_float(load_u16(data));
		bool good = true;

		data += 2;
		for (uint32_t c = 0; c < cols; c += IQ_BLOCK) {
			good &= iq1_block(codes + c / 4, data, (const uint8_t(*)[5])digits);
			data += IQ1_BYTES;
		}
		verdict = good ? join(scale, row_scale, codes, cols / 4) : BN_TRITS_NOT;
		codes += cols / 4;
	}
	return verdict;
}

void bn_groups_encode_iq1_bn(uint8_t *data, const struct bn_trits *src, float scale)
{
	for (uint32_t r = 0; r < src->rows; r++) {
		const uint8_t *row = src->codes + r * src->stride;

		store_half(data, all_zero(row, src->cols / 4) ? 0.0f : scale);
		data += 2;
		for (uint32_t c = 0; c < src->cols; c += IQ_BLOCK) {
			uint8_t code[IQ_BLOCK], turned[5];

			split_codes(code, row + c / 4, IQ_BLOCK / 4);
			for (unsigned b = 0; b < 13; b++) {
				for (unsigned i = 0; i < 5; i++) {
					/* most significant first, for digits_to_byte */
					turned[4 - i] = b < 12  ? code[b / 3 * 16 + b % 3 * 5 + i]
							: i < 4 ? code[16 * i + 15]
								: 0;
				}
				data[b] = digits_to_byte(turned, 1, 5);
			}
			data += IQ1_BYTES;
		}
	}
}

/* ---- IQ2_BN --------------------------------------------------------------------------------- */

enum bn_trits_verdict bn_groups_decode_iq2_bn(struct bn_scale *scale, uint8_t *codes,
					      const uint8_t *data, uint32_t n, uint32_t cols)
{
	enum bn_trits_verdict verdict = BN_TRITS_GOOD;

	for (uint32_t r = 0; r < n && verdict == BN_TRITS_GOOD; r++) {
		float row_scale;
		bool good = true;

		memcpy(&row_scale, data, sizeof(row_scale));
		data += sizeof(row_scale);
		for (uint32_t c = 0; c < cols; c += IQ_BLOCK) {
			good &= runs_to_codes(codes + c / 4, data, IQ2_BYTES);
			data += IQ2_BYTES;
		}
		verdict = good ? join(scale, row_scale, codes, cols / 4) : BN_TRITS_NOT;
		codes += cols / 4;
	}
	return verdict;
}

void bn_groups_encode_iq2_bn(uint8_t *data, const struct bn_trits *src, float scale)
{
	for (uint32_t r = 0; r < src->rows; r++) {
		const uint8_t *row = src->codes + r * src->stride;
		const float row_scale = all_zero(row, src->cols / 4) ? 0.0f : scale;

		memcpy(data, &row_scale, sizeof(row_scale));
		data += sizeof(row_scale);
		for (uint32_t c = 0; c < src->cols; c += IQ_BLOCK) {
			codes_to_runs(data, row + c / 4, IQ2_BYTES);
			data += IQ2_BYTES;
		}
	}
}
