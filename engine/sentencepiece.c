/*
 * sentencepiece_model.proto: ModelProto { 1 pieces*, 2 trainer_spec, 3 normalizer_spec },
 * SentencePiece { 1 piece, 2 score, 3 type }, TrainerSpec { 3 model_type, 40..43 unk, bos, eos, pad
 * }, NormalizerSpec { 2 precompiled_charsmap, 3 add_dummy_prefix }.
 */
#include "engine/sentencepiece.h"

#include "engine/lexicon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { MODEL_BPE = 2, MODEL_UNIGRAM = 1 };

/* One field: its number, wire type and value. */
struct field {
	uint64_t number;
	unsigned wire;
	uint64_t value; /* varint, or the bits of a fixed one */
	struct bn_str bytes;
};

static uint64_t read_varint(struct bn_cursor *c)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		const uint8_t byte = bn_cursor_u8(c);

		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0) {
			return value;
		}
	}
	c->failed = true;
	return 0;
}

/* False at the end and after a failure, which the cursor keeps. */
static bool next_field(struct bn_cursor *c, struct field *f)
{
	uint64_t tag, n;

	if (c->failed || bn_cursor_left(c) == 0) {
		return false;
	}
	tag = read_varint(c);
	*f = (struct field){ .number = tag >> 3, .wire = (unsigned)(tag & 7) };
	switch (f->wire) {
	case WIRE_VARINT:
		f->value = read_varint(c);
		break;
	case WIRE_64:
		f->value = bn_cursor_u64(c);
		break;
	case WIRE_32:
		f->value = bn_cursor_u32(c);
		break;
	case WIRE_BYTES:
		n = read_varint(c);
		if (n > bn_cursor_left(c)) {
			c->failed = true;
			break;
		}
		f->bytes.n = (size_t)n;
		f->bytes.p = (const char *)bn_cursor_bytes(c, f->bytes.n);
		break;
	default:
		c->failed = true;
		break;
	}
	return !c->failed && f->number != 0;
}

static bool read_piece(struct bn_piece *piece, struct bn_str bytes)
{
	struct bn_cursor c;
	struct field f;
	uint32_t bits;

	*piece = (struct bn_piece){ .text = { "", 0 }, .type = BN_TOKEN_NORMAL };
	bn_cursor_init(&c, bytes.p, bytes.n);
	while (next_field(&c, &f)) {
		if (f.number == 1 && f.wire == WIRE_BYTES) {
			piece->text = f.bytes;
		} else if (f.number == 2 && f.wire == WIRE_32) {
			bits = (uint32_t)f.value;
			memcpy(&piece->score, &bits, sizeof(bits));
		} else if (f.number == 3 && f.wire == WIRE_VARINT) {
			piece->type = f.value <= BN_TOKEN_BYTE ? (int32_t)f.value : 0;
		}
	}
	return !c.failed && bn_cursor_left(&c) == 0 && piece->text.n > 0 &&
	       piece->text.n <= BN_TOKENIZER_TOKEN_BYTES && piece->type >= BN_TOKEN_NORMAL &&
	       isfinite(piece->score);
}

static enum bn_status read_trainer(struct bn_sentencepiece *sp, struct bn_str bytes,
				   struct bn_error *err)
{
	int32_t *const ids[] = { &sp->unk, &sp->bos, &sp->eos, &sp->pad };
	int64_t given[] = { 0, 1, 2, -1 }; /* the defaults of the format */
	uint64_t model = MODEL_UNIGRAM;    /* the default of the format */
	struct bn_cursor c;
	struct field f;

	bn_cursor_init(&c, bytes.p, bytes.n);
	while (next_field(&c, &f)) {
		if (f.wire == WIRE_VARINT && f.number == 3) {
			model = f.value;
		} else if (f.wire == WIRE_VARINT && f.number >= 40 && f.number <= 43) {
			given[f.number - 40] = f.value < sp->n ? (int64_t)f.value : -1;
		}
	}
	if (c.failed || bn_cursor_left(&c) > 0) {
		return bn_fail(err, BN_E_FORMAT, "the trainer specification is damaged");
	}
	for (unsigned i = 0; i < 4; i++) {
		*ids[i] = given[i] < (int64_t)sp->n ? (int32_t)given[i] : -1;
	}
	if (model != MODEL_BPE) {
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "a SentencePiece model of type %llu; only BPE (2) is supported",
			       (unsigned long long)model);
	}
	return BN_OK;
}

static bool read_normalizer(struct bn_sentencepiece *sp, struct bn_str bytes)
{
	struct bn_cursor c;
	struct field f;

	bn_cursor_init(&c, bytes.p, bytes.n);
	while (next_field(&c, &f)) {
		if (f.number == 2 && f.wire == WIRE_BYTES) {
			sp->normalizes = f.bytes.n > 0;
		} else if (f.number == 3 && f.wire == WIRE_VARINT) {
			sp->add_dummy_prefix = f.value != 0;
		}
	}
	return !c.failed && bn_cursor_left(&c) == 0;
}

/* First walk: how many pieces, and where the two specifications lie. */
static enum bn_status survey(const void *bytes, size_t n, uint32_t *count, struct bn_str *trainer,
			     struct bn_str *normalizer, struct bn_error *err)
{
	struct bn_cursor c;
	struct field f;

	*count = 0;
	bn_cursor_init(&c, bytes, n);
	while (next_field(&c, &f)) {
		if (f.wire != WIRE_BYTES) {
			continue;
		}
		*count += f.number == 1;
		if (f.number == 2) {
			*trainer = f.bytes;
		} else if (f.number == 3) {
			*normalizer = f.bytes;
		}
		if (*count > BN_TOKENIZER_MAX_TOKENS) {
			break;
		}
	}
	if (c.failed || bn_cursor_left(&c) > 0 || *count == 0 || trainer->p == NULL) {
		return bn_fail(err, BN_E_FORMAT,
			       "not a SentencePiece model: damaged at byte %zu, or one of another "
			       "kind",
			       c.at);
	}
	return BN_OK;
}

static enum bn_status read_pieces(struct bn_sentencepiece *sp, const void *bytes, size_t n,
				  uint32_t count, struct bn_error *err)
{
	struct bn_cursor c;
	struct field f;

	sp->pieces = calloc(count, sizeof(*sp->pieces));
	if (sp->pieces == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for %u pieces", count);
	}
	bn_cursor_init(&c, bytes, n);
	while (sp->n < count && next_field(&c, &f)) {
		if (f.wire != WIRE_BYTES || f.number != 1) {
			continue;
		}
		if (!read_piece(&sp->pieces[sp->n], f.bytes)) {
			return bn_fail(
				err, BN_E_FORMAT,
				"piece %u is damaged: text of 1 to %d bytes, a finite score and "
				"a type of 1 to 6 expected",
				sp->n, BN_TOKENIZER_TOKEN_BYTES);
		}
		sp->n++;
	}
	return BN_OK;
}

enum bn_status bn_sentencepiece_parse(struct bn_sentencepiece *out, const void *bytes, size_t n,
				      struct bn_error *err)
{
	struct bn_sentencepiece sp = { .add_dummy_prefix = true };
	struct bn_str trainer = { NULL, 0 }, normalizer = { NULL, 0 };
	uint32_t count;
	enum bn_status status = survey(bytes, n, &count, &trainer, &normalizer, err);

	if (status == BN_OK) {
		status = read_pieces(&sp, bytes, n, count, err);
	}
	if (status == BN_OK) {
		status = read_trainer(&sp, trainer, err);
	}
	if (status == BN_OK && !read_normalizer(&sp, normalizer)) {
		status = bn_fail(err, BN_E_FORMAT, "the normalizer specification is damaged");
	}
	if (status != BN_OK) {
		bn_sentencepiece_finish(&sp);
		return status;
	}
	*out = sp;
	return BN_OK;
}

void bn_sentencepiece_finish(struct bn_sentencepiece *sp)
{
	free(sp->pieces);
	memset(sp, 0, sizeof(*sp));
}
