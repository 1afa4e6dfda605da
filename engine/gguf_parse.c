/*
 * From bytes to a checked directory. Three rules keep this file short of CVEs:
 *
 * - Nothing is allocated or looped over on the word of a count: a count is first compared with its
 *   cap and with the bytes that could still hold that many entries.
 * - Sizes are computed here, in checked arithmetic, and never taken from the file.
 * - Names are looked up in a sorted index, not a hash table: nobody can craft collisions in it, and
 *   duplicates are neighbours.
 */
#include "engine/gguf_parse.h"

#include "engine/gguf_place.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* Smallest encodings: key length, one byte of key, type, one byte of value; name length,
	 * one byte of name, n_dims, one dimension, type, offset. */
	KV_MIN_BYTES = 8 + 1 + 4 + 1,
	TENSOR_MIN_BYTES = 8 + 1 + 4 + 8 + 4 + 8,
	NAME_SHOWN = 80, /* bytes of a foreign name that go into a sentence */

	FILE_TYPE_TL2 = 39, /* general.file_type of BitNet's TL2 files */
};

#define NO_INDEX SIZE_MAX

typedef unsigned long long ull;

struct parser {
	struct bn_gguf *g;
	struct bn_cursor *c;
	struct bn_error *err;
	/* What is being read, for the sentence when something is wrong with it. */
	const char *what;
	size_t index;       /* NO_INDEX: there is only one   */
	struct bn_str name; /* n = 0 while unknown           */
};

static int shown(struct bn_str s)
{
	return (int)(s.n < NAME_SHOWN ? s.n : NAME_SHOWN);
}

/* Puts "tensor 3 'name'" before the sentence in p->err. */
static enum bn_status here(struct parser *p)
{
	if (p->index == NO_INDEX) {
		return bn_wrap(p->err, "%s", p->what);
	}
	if (p->name.n == 0) {
		return bn_wrap(p->err, "%s %zu", p->what, p->index);
	}
	return bn_wrap(p->err, "%s %zu '%.*s'", p->what, p->index, shown(p->name), p->name.p);
}

/* The cursor failed: the system refused to read, the header is too long, or the file too short. */
static enum bn_status ran_out(struct parser *p)
{
	const struct bn_gguf_source *source = p->c->who;

	if (source->status != BN_OK) {
		if (p->err != NULL) {
			*p->err = source->error;
		}
	} else if (p->c->size == BN_GGUF_MAX_HEADER) {
		bn_fail(p->err, BN_E_FORMAT, "the header is longer than %d bytes",
			BN_GGUF_MAX_HEADER);
	} else {
		bn_fail(p->err, BN_E_FORMAT, "the file ends here, at byte %zu", p->c->size);
	}
	here(p);
	return source->status != BN_OK ? source->status : BN_E_FORMAT;
}

static enum bn_status read_string(struct parser *p, const char *part, uint64_t max,
				  struct bn_str *out)
{
	uint64_t n = bn_cursor_u64(p->c);
	const unsigned char *bytes;

	if (p->c->failed) {
		return ran_out(p);
	}
	if (n > max) {
		bn_fail(p->err, BN_E_FORMAT, "%s of %llu bytes, the limit is %llu", part, (ull)n,
			(ull)max);
		here(p);
		return BN_E_FORMAT;
	}
	bytes = bn_cursor_bytes(p->c, (size_t)n);
	if (bytes == NULL) {
		return ran_out(p);
	}
	out->p = (const char *)bytes;
	out->n = (size_t)n;
	return BN_OK;
}

/* Keys and tensor names. */
static enum bn_status read_name(struct parser *p)
{
	struct bn_str name;
	enum bn_status status = read_string(p, "a name", BN_GGUF_MAX_KEY, &name);

	if (status == BN_OK && name.n == 0) {
		bn_fail(p->err, BN_E_FORMAT, "an empty name");
		here(p);
		return BN_E_FORMAT;
	}
	if (status == BN_OK) {
		p->name = name;
	}
	return status;
}

/* --- the fixed header ------------------------------------------------------------------------ */

/* Files people really try to load; a good guess saves them an hour. */
static const char *guess(const unsigned char *magic)
{
	static const struct {
		unsigned char magic[4];
		const char *is;
	} known[] = {
		{ { 'F', 'U', 'G', 'G' }, "a big-endian GGUF file, bnd reads little-endian ones" },
		{ { 'l', 'm', 'g', 'g' }, "a GGML file of 2023, convert it to GGUF" },
		{ { 't', 'j', 'g', 'g' }, "a GGJT file of 2023, convert it to GGUF" },
		{ { 'f', 'm', 'g', 'g' }, "a GGMF file of 2023, convert it to GGUF" },
		{ { 0x1f, 0x8b, 8, 8 }, "a gzip file, unpack it" },
		{ { 'P', 'K', 3, 4 }, "a ZIP archive or PyTorch checkpoint, convert it to GGUF" },
		{ { 'v', 'e', 'r', 's' }, "a Git LFS pointer, fetch the real file" },
		{ { '<', '!', 'D', 'O' }, "a web page, the download went wrong" },
		{ { '<', '!', 'd', 'o' }, "a web page, the download went wrong" },
		{ { '<', 'h', 't', 'm' }, "a web page, the download went wrong" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (memcmp(magic, known[i].magic, 4) == 0) {
			return known[i].is;
		}
	}
	return NULL;
}

static enum bn_status check_magic(struct parser *p)
{
	const unsigned char *magic;
	const char *is;

	if (p->g->size == 0) {
		return bn_fail(p->err, BN_E_FORMAT, "the file is empty");
	}
	magic = bn_cursor_bytes(p->c, 4);
	if (magic == NULL) {
		return ran_out(p);
	}
	if (memcmp(magic, "GGUF", 4) == 0) {
		return BN_OK;
	}
	is = guess(magic);
	if (is != NULL) {
		return bn_fail(p->err, BN_E_FORMAT, "not a GGUF file but %s", is);
	}
	return bn_fail(p->err, BN_E_FORMAT,
		       "not a GGUF file: it begins with %02x %02x %02x %02x instead of 'GGUF'",
		       magic[0], magic[1], magic[2], magic[3]);
}

static enum bn_status check_version(struct parser *p)
{
	uint32_t version = bn_cursor_u32(p->c);

	if (p->c->failed) {
		return ran_out(p);
	}
	if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3)) {
		return bn_fail(p->err, BN_E_FORMAT,
			       "a big-endian GGUF file, bnd reads little-endian ones");
	}
	if (version != 2 && version != 3) {
		return bn_fail(p->err, BN_E_FORMAT, "GGUF version %u, bnd reads versions 2 and 3",
			       version);
	}
	p->g->version = version;
	return BN_OK;
}

/* Against the cap and against what the rest of the file can hold. */
static enum bn_status check_count(struct parser *p, const char *what, uint64_t count, uint64_t max,
				  uint64_t min_bytes)
{
	uint64_t left = p->g->size - p->c->at;

	if (count > max) {
		return bn_fail(p->err, BN_E_FORMAT, "%llu %s, the limit is %llu", (ull)count, what,
			       (ull)max);
	}
	if (count > left / min_bytes) {
		return bn_fail(p->err, BN_E_FORMAT, "%llu %s, but only %llu bytes follow",
			       (ull)count, what, (ull)left);
	}
	return BN_OK;
}

static enum bn_status read_fixed(struct parser *p)
{
	uint64_t n_tensors, n_kv;
	enum bn_status status;

	p->what = "in the first 24 bytes";
	p->index = NO_INDEX;
	status = check_magic(p);
	if (status != BN_OK) {
		return status;
	}
	status = check_version(p);
	if (status != BN_OK) {
		return status;
	}
	n_tensors = bn_cursor_u64(p->c);
	n_kv = bn_cursor_u64(p->c);
	if (p->c->failed) {
		return ran_out(p);
	}
	status = check_count(p, "metadata pairs", n_kv, BN_GGUF_MAX_KV, KV_MIN_BYTES);
	if (status == BN_OK) {
		status =
			check_count(p, "tensors", n_tensors, BN_GGUF_MAX_TENSORS, TENSOR_MIN_BYTES);
	}
	if (status != BN_OK) {
		return status;
	}
	p->g->n_kv = (size_t)n_kv;
	p->g->n_tensors = (size_t)n_tensors;
	return BN_OK;
}

/* --- metadata -------------------------------------------------------------------------------- */

static enum bn_status check_bools(struct parser *p, const unsigned char *data, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (data[i] > 1) {
			bn_fail(p->err, BN_E_FORMAT, "a bool of value %u", data[i]);
			here(p);
			return BN_E_FORMAT;
		}
	}
	return BN_OK;
}

static enum bn_status read_array(struct parser *p, struct bn_gguf_kv *kv)
{
	uint32_t element = bn_cursor_u32(p->c);
	uint64_t count = bn_cursor_u64(p->c);
	size_t each = bn_gguf_scalar_bytes(element);
	enum bn_status status = BN_OK;

	if (p->c->failed) {
		return ran_out(p);
	}
	if (element == BN_GGUF_ARRAY || element >= BN_GGUF_TYPE_COUNT) {
		bn_fail(p->err, BN_E_FORMAT, "an array of %s (type %u), which bnd does not read",
			bn_gguf_type_name(element), element);
		here(p);
		return BN_E_FORMAT;
	}
	status = check_count(p, "array elements", count, BN_GGUF_MAX_ELEMENTS,
			     element == BN_GGUF_STRING ? 8 : each);
	if (status != BN_OK) {
		here(p);
		return status;
	}
	kv->element = element;
	kv->count = count;
	if (element != BN_GGUF_STRING) {
		kv->data = bn_cursor_bytes(p->c, (size_t)count * each);
		if (kv->data == NULL) {
			return ran_out(p);
		}
		return element == BN_GGUF_BOOL ? check_bools(p, kv->data, count) : BN_OK;
	}
	/* The base never moves, so the first string's place can be taken before it is read. */
	kv->data = p->c->base + p->c->at;
	for (uint64_t i = 0; i < count && status == BN_OK; i++) {
		struct bn_str unused;

		status = read_string(p, "an array element", BN_GGUF_MAX_STRING, &unused);
	}
	return status;
}

static enum bn_status read_kv(struct parser *p, struct bn_gguf_kv *kv)
{
	enum bn_status status = read_name(p);
	struct bn_str text;

	if (status != BN_OK) {
		return status;
	}
	kv->key = p->name;
	kv->type = bn_cursor_u32(p->c);
	if (p->c->failed) {
		return ran_out(p);
	}
	kv->count = 1;
	if (kv->type == BN_GGUF_ARRAY) {
		return read_array(p, kv);
	}
	if (kv->type == BN_GGUF_STRING) {
		status = read_string(p, "a string", BN_GGUF_MAX_STRING, &text);
		if (status == BN_OK) {
			kv->data = (const unsigned char *)text.p;
			kv->count = text.n;
		}
		return status;
	}
	if (bn_gguf_scalar_bytes(kv->type) == 0) {
		bn_fail(p->err, BN_E_FORMAT, "a value of unknown type %u", kv->type);
		here(p);
		return BN_E_FORMAT;
	}
	kv->data = bn_cursor_bytes(p->c, bn_gguf_scalar_bytes(kv->type));
	if (kv->data == NULL) {
		return ran_out(p);
	}
	return kv->type == BN_GGUF_BOOL ? check_bools(p, kv->data, 1) : BN_OK;
}

static int kv_order(const void *a, const void *b, void *arg)
{
	const struct bn_gguf_kv *kv = arg;

	return bn_gguf_name_order(kv[*(const uint32_t *)a].key, kv[*(const uint32_t *)b].key);
}

static int tensor_name_order(const void *a, const void *b, void *arg)
{
	const struct bn_gguf_tensor *t = arg;

	return bn_gguf_name_order(t[*(const uint32_t *)a].name, t[*(const uint32_t *)b].name);
}

/* A permutation of n indices in the given order; NULL when memory is short. */
static uint32_t *sorted(size_t n, void *array, int (*order)(const void *, const void *, void *))
{
	uint32_t *index = calloc(n, sizeof(*index));

	if (index != NULL) {
		for (size_t i = 0; i < n; i++) {
			index[i] = (uint32_t)i;
		}
		qsort_r(index, n, sizeof(*index), order, array);
	}
	return index;
}

static enum bn_status no_memory(struct parser *p, size_t n, const char *what)
{
	return bn_fail(p->err, BN_E_MEMORY, "no memory to list %zu %s", n, what);
}

static enum bn_status read_metadata(struct parser *p)
{
	struct bn_gguf *g = p->g;

	if (g->n_kv == 0) {
		return BN_OK;
	}
	g->kv = calloc(g->n_kv, sizeof(*g->kv));
	if (g->kv == NULL) {
		return no_memory(p, g->n_kv, "metadata pairs");
	}
	p->what = "metadata pair";
	for (size_t i = 0; i < g->n_kv; i++) {
		enum bn_status status;

		p->index = i;
		p->name.n = 0;
		status = read_kv(p, &g->kv[i]);
		if (status != BN_OK) {
			return status;
		}
	}
	g->kv_by_name = sorted(g->n_kv, g->kv, kv_order);
	if (g->kv_by_name == NULL) {
		return no_memory(p, g->n_kv, "metadata pairs");
	}
	for (size_t i = 1; i < g->n_kv; i++) {
		struct bn_str key = g->kv[g->kv_by_name[i]].key;

		if (bn_gguf_name_order(g->kv[g->kv_by_name[i - 1]].key, key) == 0) {
			return bn_fail(p->err, BN_E_FORMAT, "metadata key '%.*s' occurs twice",
				       shown(key), key.p);
		}
	}
	return BN_OK;
}

static bool u32_is(const struct bn_gguf *g, const char *key, uint32_t value)
{
	const struct bn_gguf_kv *kv = bn_gguf_find(g, key);
	struct bn_cursor c;

	if (kv == NULL || kv->type != BN_GGUF_U32) {
		return false;
	}
	bn_cursor_init(&c, kv->data, sizeof(uint32_t));
	return bn_cursor_u32(&c) == value;
}

static enum bn_status read_alignment(struct parser *p)
{
	struct bn_gguf *g = p->g;
	const struct bn_gguf_kv *kv = bn_gguf_find(g, "general.alignment");
	struct bn_cursor value;

	g->alignment = BN_GGUF_DEFAULT_ALIGNMENT;
	if (kv == NULL) {
		return BN_OK;
	}
	if (kv->type != BN_GGUF_U32) {
		return bn_fail(p->err, BN_E_FORMAT, "general.alignment is of type %s, must be u32",
			       bn_gguf_type_name(kv->type));
	}
	bn_cursor_init(&value, kv->data, sizeof(uint32_t));
	g->alignment = bn_cursor_u32(&value);
	if (g->alignment < 1 || g->alignment > BN_GGUF_MAX_ALIGNMENT ||
	    (g->alignment & (g->alignment - 1)) != 0) {
		return bn_fail(p->err, BN_E_FORMAT,
			       "general.alignment is %u, must be a power of two from 1 to %d",
			       g->alignment, BN_GGUF_MAX_ALIGNMENT);
	}
	return BN_OK;
}

/* --- tensors --------------------------------------------------------------------------------- */

static enum bn_status read_tensor(struct parser *p, struct bn_gguf_tensor *t)
{
	enum bn_status status = read_name(p);

	if (status != BN_OK) {
		return status;
	}
	t->name = p->name;
	t->n_dims = bn_cursor_u32(p->c);
	if (p->c->failed) {
		return ran_out(p);
	}
	if (t->n_dims < 1 || t->n_dims > BN_GGML_MAX_DIMS) {
		bn_fail(p->err, BN_E_FORMAT, "%u dimensions, must be 1 to %d", t->n_dims,
			BN_GGML_MAX_DIMS);
		here(p);
		return BN_E_FORMAT;
	}
	for (uint32_t i = 0; i < BN_GGML_MAX_DIMS; i++) {
		t->dims[i] = i < t->n_dims ? bn_cursor_u64(p->c) : 1;
	}
	t->type = (enum bn_ggml_type)bn_cursor_u32(p->c);
	t->offset = bn_cursor_u64(p->c);
	return p->c->failed ? ran_out(p) : BN_OK;
}

static enum bn_status read_tensors(struct parser *p)
{
	struct bn_gguf *g = p->g;
	enum bn_status status;

	if (g->n_tensors == 0) {
		return BN_OK;
	}
	g->tensors = calloc(g->n_tensors, sizeof(*g->tensors));
	if (g->tensors == NULL) {
		return no_memory(p, g->n_tensors, "tensors");
	}
	p->what = "tensor";
	for (size_t i = 0; i < g->n_tensors; i++) {
		p->index = i;
		p->name.n = 0;
		status = read_tensor(p, &g->tensors[i]);
		if (status != BN_OK) {
			return status;
		}
	}
	g->tensors_by_name = sorted(g->n_tensors, g->tensors, tensor_name_order);
	if (g->tensors_by_name == NULL) {
		return no_memory(p, g->n_tensors, "tensors");
	}
	for (size_t i = 1; i < g->n_tensors; i++) {
		struct bn_str name = g->tensors[g->tensors_by_name[i]].name;

		if (bn_gguf_name_order(g->tensors[g->tensors_by_name[i - 1]].name, name) == 0) {
			return bn_fail(p->err, BN_E_FORMAT, "tensor '%.*s' occurs twice",
				       shown(name), name.p);
		}
	}
	return bn_gguf_place(g->tensors, g->n_tensors, p->c->at, g->size, g->alignment,
			     u32_is(g, "general.file_type", FILE_TYPE_TL2), p->err);
}

const struct bn_gguf_kv *bn_gguf_find(const struct bn_gguf *g, const char *key)
{
	struct bn_str want = { key, strlen(key) };
	size_t low = 0, high = g->n_kv;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct bn_gguf_kv *kv = &g->kv[g->kv_by_name[middle]];
		int order = bn_gguf_name_order(want, kv->key);

		if (order == 0) {
			return kv;
		}
		if (order < 0) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return NULL;
}

enum bn_status bn_gguf_parse_directory(struct bn_gguf *g, struct bn_cursor *c, struct bn_error *err)
{
	struct parser p = { .g = g, .c = c, .err = err };
	enum bn_status status = read_fixed(&p);

	if (status == BN_OK) {
		status = read_metadata(&p);
	}
	if (status == BN_OK) {
		status = read_alignment(&p);
	}
	if (status == BN_OK) {
		status = read_tensors(&p);
	}
	return status;
}
