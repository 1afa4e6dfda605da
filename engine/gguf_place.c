#include "engine/gguf_place.h"

#include <stdlib.h>

enum {
	/* Type 39 is TL2 in BitNet files of 2024 and 2025 and MXFP4 to everybody else; 42 is TL2
	 * in those of 2026 and Q2_0 upstream. */
	TYPE_TL2_OLD = 39,
	TYPE_TL2_NEW = 42,
	TYPE_NONE = 0xffff,
	NAME_SHOWN = 80,
};

typedef unsigned long long ull;

struct layout {
	uint64_t data; /* bytes of the data section */
	uint32_t alignment;
	bool tl2;
	struct bn_error *err;
};

static int shown(struct bn_str s)
{
	return (int)(s.n < NAME_SHOWN ? s.n : NAME_SHOWN);
}

/* Puts the tensor's name before the sentence in l->err. */
static enum bn_status wrong(struct layout *l, const struct bn_gguf_tensor *t)
{
	bn_wrap(l->err, "tensor '%.*s'", shown(t->name), t->name.p);
	return BN_E_FORMAT;
}

/*
 * An ambiguous type number is TL2 when the file says so, or when the room up to the next tensor is
 * what TL2 needs: padded to the alignment, perhaps with one more unit where BitNet's writer hides
 * a scale. (MXFP4 needs more than twice as much, so the two cannot be mistaken.)
 */
static bool is_tl2(const struct layout *l, const struct bn_gguf_tensor *t, uint64_t room)
{
	uint64_t nbytes;

	if (l->tl2) {
		return true;
	}
	if (bn_ggml_nbytes(BN_GGML_TL2, t->n_dims, t->dims, &nbytes) != BN_GGML_FITS ||
	    nbytes > room) {
		return false;
	}
	nbytes += -nbytes & (l->alignment - 1);
	return nbytes == room || nbytes + l->alignment == room;
}

/* Settles the type, computes nbytes. `room` is the distance to the next tensor or the end. */
static enum bn_status measure(struct layout *l, struct bn_gguf_tensor *t, uint64_t room)
{
	const uint64_t *d = t->dims;
	uint32_t type = t->type;

	if (type == TYPE_TL2_OLD || type == TYPE_TL2_NEW) {
		if (is_tl2(l, t, room)) {
			type = BN_GGML_TL2;
		} else if (type == TYPE_TL2_NEW) {
			type = TYPE_NONE;
		}
	}
	switch (bn_ggml_nbytes(type, t->n_dims, d, &t->nbytes)) {
	case BN_GGML_FITS:
		t->type = (enum bn_ggml_type)type;
		return BN_OK;
	case BN_GGML_UNKNOWN:
		bn_fail(l->err, BN_E_FORMAT, "its type number is %u, which bnd does not know",
			(uint32_t)t->type);
		break;
	case BN_GGML_RAGGED:
		bn_fail(l->err, BN_E_FORMAT,
			"%llu x %llu x %llu x %llu elements do not divide into %s blocks of %u",
			(ull)d[0], (ull)d[1], (ull)d[2], (ull)d[3], bn_ggml_name(type),
			bn_ggml_block(type));
		break;
	case BN_GGML_OVERFLOWS:
		bn_fail(l->err, BN_E_FORMAT,
			"%llu x %llu x %llu x %llu elements are more than a file can hold",
			(ull)d[0], (ull)d[1], (ull)d[2], (ull)d[3]);
		break;
	case BN_GGML_EMPTY:
		bn_fail(l->err, BN_E_FORMAT, "dimensions %llu x %llu x %llu x %llu, none may be 0",
			(ull)d[0], (ull)d[1], (ull)d[2], (ull)d[3]);
		break;
	}
	return wrong(l, t);
}

/* `before` is the neighbour below in the file, or NULL. */
static enum bn_status place(struct layout *l, struct bn_gguf_tensor *t,
			    const struct bn_gguf_tensor *before, uint64_t next)
{
	enum bn_status status;

	if (t->offset % l->alignment != 0) {
		bn_fail(l->err, BN_E_FORMAT, "its offset %llu is not a multiple of %u",
			(ull)t->offset, l->alignment);
		return wrong(l, t);
	}
	status = measure(l, t, next > t->offset ? next - t->offset : 0);
	if (status != BN_OK) {
		return status;
	}
	if (t->offset > l->data || t->nbytes > l->data - t->offset) {
		bn_fail(l->err, BN_E_FORMAT,
			"needs %llu bytes at offset %llu, the data section has %llu",
			(ull)t->nbytes, (ull)t->offset, (ull)l->data);
		return wrong(l, t);
	}
	if (before != NULL && t->offset - before->offset < before->nbytes) {
		bn_fail(l->err, BN_E_FORMAT, "overlaps tensor '%.*s'", shown(before->name),
			before->name.p);
		return wrong(l, t);
	}
	return BN_OK;
}

static int offset_order(const void *a, const void *b, void *arg)
{
	const struct bn_gguf_tensor *t = arg;
	uint64_t x = t[*(const uint32_t *)a].offset, y = t[*(const uint32_t *)b].offset;

	return (x > y) - (x < y);
}

/* Walks in the order of offsets, where tensors that overlap are neighbours. */
static enum bn_status place_all(struct layout *l, struct bn_gguf_tensor *tensors, size_t n,
				const uint32_t *by_offset)
{
	const struct bn_gguf_tensor *before = NULL;

	for (size_t i = 0; i < n; i++) {
		struct bn_gguf_tensor *t = &tensors[by_offset[i]];
		uint64_t next = i + 1 < n ? tensors[by_offset[i + 1]].offset : l->data;
		enum bn_status status = place(l, t, before, next);

		if (status != BN_OK) {
			return status;
		}
		before = t;
	}
	return BN_OK;
}

enum bn_status bn_gguf_place(struct bn_gguf_tensor *tensors, size_t n, uint64_t end, uint64_t size,
			     uint32_t alignment, bool tl2, struct bn_error *err)
{
	struct layout l = { .alignment = alignment, .tl2 = tl2, .err = err };
	uint64_t start = end + (-end & (alignment - 1));
	enum bn_status status;
	uint32_t *by_offset;

	if (n == 0) {
		return BN_OK;
	}
	if (start > size) {
		return bn_fail(err, BN_E_FORMAT,
			       "the file ends at byte %llu, before the tensor data at %llu",
			       (ull)size, (ull)start);
	}
	l.data = size - start;
	by_offset = calloc(n, sizeof(*by_offset));
	if (by_offset == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to sort %zu tensors", n);
	}
	for (size_t i = 0; i < n; i++) {
		by_offset[i] = (uint32_t)i;
	}
	qsort_r(by_offset, n, sizeof(*by_offset), offset_order, tensors);
	status = place_all(&l, tensors, n, by_offset);
	free(by_offset);
	for (size_t i = 0; i < n && status == BN_OK; i++) {
		tensors[i].offset += start;
	}
	return status;
}
