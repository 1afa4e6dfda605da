/*
 * Answers about a parsed directory. The header of a file is read into an anonymous mapping that
 * reserves address space for the longest header allowed and is filled from the front as the parser
 * asks: nothing moves, so views into it stay good, and pages never asked for cost nothing.
 */
#include "engine/gguf.h"

#include "engine/gguf_parse.h"
#include "proto/assert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	/* How far to read ahead of the parser: doubling, between these. */
	AHEAD_MIN = 64 * 1024,
	AHEAD_MAX = 4 * 1024 * 1024,
};

/* --- opening --------------------------------------------------------------------------------- */

static bool read_more(struct bn_cursor *c, size_t need)
{
	struct bn_gguf_source *source = c->who;
	size_t ahead = c->have < AHEAD_MIN ? AHEAD_MIN : c->have;
	size_t want = c->have + (ahead < AHEAD_MAX ? ahead : AHEAD_MAX);

	if (want < need) {
		want = need;
	}
	if (want > c->size) {
		want = c->size;
	}
	source->status = bn_file_read(source->file, c->have, source->mapping + c->have,
				      want - c->have, &source->error);
	if (source->status != BN_OK) {
		return false;
	}
	c->have = want;
	return true;
}

static enum bn_status finish_parse(struct bn_gguf **out, struct bn_gguf *g, struct bn_cursor *c,
				   struct bn_error *err)
{
	enum bn_status status = bn_gguf_parse_directory(g, c, err);

	g->header_bytes = c->have;
	if (status != BN_OK) {
		bn_gguf_free(g);
		return status;
	}
	*out = g;
	return BN_OK;
}

enum bn_status bn_gguf_open(struct bn_gguf **out, const struct bn_file *file, struct bn_error *err)
{
	struct bn_gguf_source source = { .file = file };
	struct bn_gguf *g = calloc(1, sizeof(*g));
	struct bn_cursor c;
	size_t size;

	if (g == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a GGUF directory");
	}
	size = file->size < BN_GGUF_MAX_HEADER ? (size_t)file->size : BN_GGUF_MAX_HEADER;
	g->file = file;
	g->size = file->size;
	/* Zero bytes cannot be mapped; the parser will say that the file is empty. */
	g->mapping_bytes = size > 0 ? size : 1;
	g->mapping = mmap(NULL, g->mapping_bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (g->mapping == MAP_FAILED) {
		free(g);
		return bn_fail(err, BN_E_MEMORY, "no address space for a header of %zu bytes",
			       size);
	}
	source.mapping = g->mapping;
	bn_cursor_init(&c, g->mapping, size);
	c.have = 0;
	c.more = read_more;
	c.who = &source;
	return finish_parse(out, g, &c, err);
}

enum bn_status bn_gguf_parse(struct bn_gguf **out, const void *bytes, size_t n, uint64_t size,
			     struct bn_error *err)
{
	struct bn_gguf_source source = { .file = NULL };
	struct bn_gguf *g = calloc(1, sizeof(*g));
	struct bn_cursor c;

	bn_assert(size >= n);
	if (g == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a GGUF directory");
	}
	g->memory = bytes;
	g->memory_bytes = n;
	g->size = size;
	bn_cursor_init(&c, bytes, n < BN_GGUF_MAX_HEADER ? n : BN_GGUF_MAX_HEADER);
	c.who = &source;
	return finish_parse(out, g, &c, err);
}

void bn_gguf_free(struct bn_gguf *g)
{
	if (g == NULL) {
		return;
	}
	if (g->mapping != NULL) {
		munmap(g->mapping, g->mapping_bytes);
	}
	free(g->kv);
	free(g->kv_by_name);
	free(g->tensors);
	free(g->tensors_by_name);
	free(g);
}

size_t bn_gguf_bytes(const struct bn_gguf *g)
{
	return sizeof(*g) + (g->mapping != NULL ? g->header_bytes : 0) +
	       g->n_kv * (sizeof(*g->kv) + sizeof(*g->kv_by_name)) +
	       g->n_tensors * (sizeof(*g->tensors) + sizeof(*g->tensors_by_name));
}

uint32_t bn_gguf_version(const struct bn_gguf *g)
{
	return g->version;
}

/* --- metadata -------------------------------------------------------------------------------- */

static enum bn_status need(const struct bn_gguf *g, const char *key, const struct bn_gguf_kv **kv,
			   struct bn_error *err)
{
	*kv = bn_gguf_find(g, key);
	if (*kv == NULL) {
		return bn_fail(err, BN_E_FORMAT, "metadata key '%s' is missing", key);
	}
	return BN_OK;
}

static enum bn_status wrong_type(const char *key, const struct bn_gguf_kv *kv, const char *want,
				 struct bn_error *err)
{
	if (kv->type == BN_GGUF_ARRAY) {
		return bn_fail(err, BN_E_FORMAT, "metadata key '%s' is an array of %s, must be %s",
			       key, bn_gguf_type_name(kv->element), want);
	}
	return bn_fail(err, BN_E_FORMAT, "metadata key '%s' is of type %s, must be %s", key,
		       bn_gguf_type_name(kv->type), want);
}

/* Little-endian integer of any type; U64 beyond INT64_MAX saturates. False for other types. */
static bool integer(uint32_t type, const unsigned char *data, int64_t *out)
{
	struct bn_cursor c;
	uint64_t big;

	bn_cursor_init(&c, data, bn_gguf_scalar_bytes(type));
	switch (type) {
	case BN_GGUF_U8:
		*out = bn_cursor_u8(&c);
		return true;
	case BN_GGUF_I8:
		/* The sign is meant. NOLINTNEXTLINE(bugprone-signed-char-misuse,cert-str34-c) */
		*out = (int8_t)bn_cursor_u8(&c);
		return true;
	case BN_GGUF_U16:
		*out = bn_cursor_u16(&c);
		return true;
	case BN_GGUF_I16:
		*out = (int16_t)bn_cursor_u16(&c);
		return true;
	case BN_GGUF_U32:
		*out = bn_cursor_u32(&c);
		return true;
	case BN_GGUF_I32:
		*out = (int32_t)bn_cursor_u32(&c);
		return true;
	case BN_GGUF_I64:
		*out = (int64_t)bn_cursor_u64(&c);
		return true;
	case BN_GGUF_U64:
		big = bn_cursor_u64(&c);
		*out = big > INT64_MAX ? INT64_MAX : (int64_t)big;
		return true;
	default:
		return false;
	}
}

bool bn_gguf_has(const struct bn_gguf *g, const char *key)
{
	return bn_gguf_find(g, key) != NULL;
}

enum bn_status bn_gguf_u32(const struct bn_gguf *g, const char *key, uint32_t min, uint32_t max,
			   uint32_t *out, struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = need(g, key, &kv, err);
	int64_t value;

	if (status != BN_OK) {
		return status;
	}
	if (!integer(kv->type, kv->data, &value)) {
		return wrong_type(key, kv, "an integer", err);
	}
	if (value < (int64_t)min || value > (int64_t)max) {
		return bn_fail(err, BN_E_FORMAT, "metadata key '%s' is %lld, must be %u to %u", key,
			       (long long)value, min, max);
	}
	*out = (uint32_t)value;
	return BN_OK;
}

enum bn_status bn_gguf_f32(const struct bn_gguf *g, const char *key, float min, float max,
			   float *out, struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = need(g, key, &kv, err);
	struct bn_cursor c;
	double value;

	if (status != BN_OK) {
		return status;
	}
	if (kv->type != BN_GGUF_F32 && kv->type != BN_GGUF_F64) {
		return wrong_type(key, kv, "f32", err);
	}
	bn_cursor_init(&c, kv->data, bn_gguf_scalar_bytes(kv->type));
	value = kv->type == BN_GGUF_F32 ? (double)bn_cursor_f32(&c) : bn_cursor_f64(&c);
	/* Written so that NaN is outside too. */
	if (!(value >= (double)min && value <= (double)max)) {
		return bn_fail(err, BN_E_FORMAT, "metadata key '%s' is %g, must be %g to %g", key,
			       value, (double)min, (double)max);
	}
	*out = (float)value;
	return BN_OK;
}

enum bn_status bn_gguf_bool(const struct bn_gguf *g, const char *key, bool *out,
			    struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = need(g, key, &kv, err);

	if (status != BN_OK) {
		return status;
	}
	if (kv->type != BN_GGUF_BOOL) {
		return wrong_type(key, kv, "bool", err);
	}
	*out = kv->data[0] != 0;
	return BN_OK;
}

enum bn_status bn_gguf_str(const struct bn_gguf *g, const char *key, struct bn_str *out,
			   struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = need(g, key, &kv, err);

	if (status != BN_OK) {
		return status;
	}
	if (kv->type != BN_GGUF_STRING) {
		return wrong_type(key, kv, "a string", err);
	}
	out->p = (const char *)kv->data;
	out->n = (size_t)kv->count;
	return BN_OK;
}

bool bn_gguf_is(const struct bn_gguf *g, const char *key, const char *text)
{
	const struct bn_gguf_kv *kv = bn_gguf_find(g, key);

	return kv != NULL && kv->type == BN_GGUF_STRING && kv->count == strlen(text) &&
	       memcmp(kv->data, text, (size_t)kv->count) == 0;
}

/* --- arrays ---------------------------------------------------------------------------------- */

static bool is_integer(uint32_t type)
{
	int64_t unused;
	static const unsigned char zeros[8];

	return integer(type, zeros, &unused);
}

static enum bn_status array(const struct bn_gguf *g, const char *key, size_t count,
			    const struct bn_gguf_kv **kv, struct bn_error *err)
{
	enum bn_status status = need(g, key, kv, err);

	if (status != BN_OK) {
		return status;
	}
	if ((*kv)->type != BN_GGUF_ARRAY) {
		return wrong_type(key, *kv, "an array", err);
	}
	if (count != 0 && (*kv)->count != count) {
		return bn_fail(err, BN_E_FORMAT,
			       "metadata key '%s' has %llu elements, must have "
			       "%zu",
			       key, (unsigned long long)(*kv)->count, count);
	}
	return BN_OK;
}

static void view(struct bn_gguf_array *out, const struct bn_gguf_kv *kv)
{
	out->type = (enum bn_gguf_type)kv->element;
	out->count = (size_t)kv->count;
	out->data = kv->data;
	out->at = 0;
	out->left = out->count;
}

enum bn_status bn_gguf_strs(const struct bn_gguf *g, const char *key, size_t count,
			    struct bn_gguf_array *out, struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = array(g, key, count, &kv, err);

	if (status != BN_OK) {
		return status;
	}
	if (kv->element != BN_GGUF_STRING) {
		return wrong_type(key, kv, "an array of strings", err);
	}
	view(out, kv);
	return BN_OK;
}

enum bn_status bn_gguf_ints(const struct bn_gguf *g, const char *key, size_t count,
			    struct bn_gguf_array *out, struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = array(g, key, count, &kv, err);

	if (status != BN_OK) {
		return status;
	}
	if (!is_integer(kv->element)) {
		return wrong_type(key, kv, "an array of integers", err);
	}
	view(out, kv);
	return BN_OK;
}

enum bn_status bn_gguf_f32s(const struct bn_gguf *g, const char *key, size_t count,
			    struct bn_gguf_array *out, struct bn_error *err)
{
	const struct bn_gguf_kv *kv;
	enum bn_status status = array(g, key, count, &kv, err);

	if (status != BN_OK) {
		return status;
	}
	if (kv->element != BN_GGUF_F32) {
		return wrong_type(key, kv, "an array of f32", err);
	}
	view(out, kv);
	return BN_OK;
}

bool bn_gguf_next_str(struct bn_gguf_array *a, struct bn_str *out)
{
	struct bn_cursor c;

	if (a->left == 0) {
		return false;
	}
	/* The parser has walked these strings: the length is there and is true. */
	bn_cursor_init(&c, a->data + a->at, 8);
	out->n = (size_t)bn_cursor_u64(&c);
	out->p = (const char *)a->data + a->at + 8;
	a->at += 8 + out->n;
	a->left--;
	return true;
}

int64_t bn_gguf_int_at(const struct bn_gguf_array *a, size_t i)
{
	int64_t value = 0;
	bool is_one;

	bn_assert(i < a->count);
	is_one = integer(a->type, a->data + i * bn_gguf_scalar_bytes(a->type), &value);
	bn_assert(is_one);
	return value;
}

float bn_gguf_f32_at(const struct bn_gguf_array *a, size_t i)
{
	struct bn_cursor c;

	bn_assert(i < a->count && a->type == BN_GGUF_F32);
	bn_cursor_init(&c, a->data + i * sizeof(float), sizeof(float));
	return bn_cursor_f32(&c);
}

size_t bn_gguf_kv_count(const struct bn_gguf *g)
{
	return g->n_kv;
}

struct bn_str bn_gguf_kv_key(const struct bn_gguf *g, size_t i)
{
	bn_assert(i < g->n_kv);
	return g->kv[i].key;
}

enum bn_gguf_type bn_gguf_kv_type(const struct bn_gguf *g, size_t i)
{
	bn_assert(i < g->n_kv);
	return (enum bn_gguf_type)g->kv[i].type;
}

struct bn_str bn_gguf_kv_value(const struct bn_gguf *g, size_t i)
{
	const struct bn_gguf_kv *kv = &g->kv[i];
	const char *first = (const char *)kv->data;
	struct bn_gguf_array a;
	struct bn_str s;

	bn_assert(i < g->n_kv);
	if (kv->type == BN_GGUF_STRING) {
		return (struct bn_str){ first - 8, 8 + (size_t)kv->count };
	}
	if (kv->type != BN_GGUF_ARRAY) {
		return (struct bn_str){ first, bn_gguf_scalar_bytes(kv->type) };
	}
	/* Type and count of the elements lie before them. */
	if (kv->element != BN_GGUF_STRING) {
		return (struct bn_str){ first - 12, 12 + (size_t)kv->count * bn_gguf_scalar_bytes(
										     kv->element) };
	}
	view(&a, kv);
	while (bn_gguf_next_str(&a, &s)) {
	}
	return (struct bn_str){ first - 12, 12 + a.at };
}

/* --- tensors --------------------------------------------------------------------------------- */

size_t bn_gguf_tensor_count(const struct bn_gguf *g)
{
	return g->n_tensors;
}

const struct bn_gguf_tensor *bn_gguf_tensor_at(const struct bn_gguf *g, size_t i)
{
	bn_assert(i < g->n_tensors);
	return &g->tensors[i];
}

const struct bn_gguf_tensor *bn_gguf_tensor(const struct bn_gguf *g, const char *name)
{
	struct bn_str want = { name, strlen(name) };
	size_t low = 0, high = g->n_tensors;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct bn_gguf_tensor *t = &g->tensors[g->tensors_by_name[middle]];
		int order = bn_gguf_name_order(want, t->name);

		if (order == 0) {
			return t;
		}
		if (order < 0) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return NULL;
}

enum bn_status bn_gguf_read(const struct bn_gguf *g, const struct bn_gguf_tensor *t, uint64_t from,
			    void *dst, size_t bytes, struct bn_error *err)
{
	const int name_shown = (int)(t->name.n < 80 ? t->name.n : 80);
	enum bn_status status;
	uint64_t at;

	if (from > t->nbytes || bytes > t->nbytes - from) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%.*s' has %llu bytes, %zu were wanted from byte %llu",
			       name_shown, t->name.p, (unsigned long long)t->nbytes, bytes,
			       (unsigned long long)from);
	}
	at = t->offset + from; /* both lie inside the file */
	if (g->file != NULL) {
		status = bn_file_read(g->file, at, dst, bytes, err);
		if (status != BN_OK) {
			bn_wrap(err, "tensor '%.*s'", name_shown, t->name.p);
		}
		return status;
	}
	if (at > g->memory_bytes || bytes > g->memory_bytes - at) {
		return bn_fail(err, BN_E_FORMAT, "tensor '%.*s' is not among the %zu bytes at hand",
			       name_shown, t->name.p, g->memory_bytes);
	}
	memcpy(dst, g->memory + at, bytes);
	return BN_OK;
}
