/*
 * The format: 8 bytes of header length, a JSON object { name: { dtype, shape, data_offsets } }, the
 * data. https://github.com/huggingface/safetensors, "Format". Offsets count from the data's start.
 */
#include "engine/safetensors.h"

#include "engine/cursor.h"
#include "engine/file.h"
#include "engine/json.h"
#include "proto/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

enum { LENGTH_BYTES = 8, HEADER_DEPTH = 8 };

struct shard {
	char *name;
	struct bn_file file; /* fd -1 when only a header is there */
	uint64_t data;       /* where the data begin              */
	uint64_t data_bytes;
};

struct bn_safetensors {
	struct shard *shards;
	uint32_t n_shards;
	struct bn_safetensors_tensor *tensors;
	size_t n_tensors, capacity;
};

/* clang-format off */
static const struct {
	const char *name;
	enum bn_safetensors_type type;
	unsigned bytes;
} dtypes[] = {
	{ "F32", BN_ST_F32, 4 },   { "F16", BN_ST_F16, 2 },   { "BF16", BN_ST_BF16, 2 },
	{ "U8", BN_ST_U8, 1 },     { "F64", BN_ST_OTHER, 8 }, { "I64", BN_ST_OTHER, 8 },
	{ "U64", BN_ST_OTHER, 8 }, { "I32", BN_ST_OTHER, 4 }, { "U32", BN_ST_OTHER, 4 },
	{ "I16", BN_ST_OTHER, 2 }, { "U16", BN_ST_OTHER, 2 }, { "I8", BN_ST_OTHER, 1 },
	{ "BOOL", BN_ST_OTHER, 1 }, { "F8_E4M3", BN_ST_OTHER, 1 }, { "F8_E5M2", BN_ST_OTHER, 1 },
};
/* clang-format on */

size_t bn_safetensors_width(enum bn_safetensors_type type)
{
	switch (type) {
	case BN_ST_F32:
		return 4;
	case BN_ST_F16:
	case BN_ST_BF16:
		return 2;
	case BN_ST_U8:
		return 1;
	case BN_ST_OTHER:
		break;
	}
	return 0;
}

/* --- one tensor ------------------------------------------------------------------------------ */

static enum bn_status read_dtype(struct bn_safetensors_tensor *t, const json_t *entry,
				 unsigned *bytes, struct bn_error *err)
{
	const char *dtype;
	enum bn_status status = bn_json_string(entry, "dtype", &dtype, err);

	if (status != BN_OK) {
		return status;
	}
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		if (strcmp(dtypes[i].name, dtype) == 0) {
			t->dtype = dtypes[i].name;
			t->type = dtypes[i].type;
			*bytes = dtypes[i].bytes;
			return BN_OK;
		}
	}
	return bn_fail(err, BN_E_NOT_SUPPORTED, "dtype '%.32s' is not known", dtype);
}

static enum bn_status read_shape(struct bn_safetensors_tensor *t, const json_t *entry,
				 struct bn_error *err)
{
	const json_t *shape = json_object_get(entry, "shape");
	size_t i;
	json_t *dim;

	if (!json_is_array(shape)) {
		return bn_fail(err, BN_E_FORMAT, "'shape' is not an array");
	}
	if (json_array_size(shape) > BN_SAFETENSORS_MAX_DIMS) {
		return bn_fail(err, BN_E_FORMAT, "'shape' has %zu dimensions; at most %d expected",
			       json_array_size(shape), BN_SAFETENSORS_MAX_DIMS);
	}
	t->elements = 1;
	json_array_foreach(shape, i, dim)
	{
		if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
			return bn_fail(err, BN_E_FORMAT,
				       "dimension %zu of 'shape' is not an integer from 0 on", i);
		}
		t->dims[i] = (uint64_t)json_integer_value(dim);
		if (__builtin_mul_overflow(t->elements, t->dims[i], &t->elements) ||
		    t->elements > INT64_MAX) {
			return bn_fail(err, BN_E_FORMAT, "the product of 'shape' passes 2^63");
		}
	}
	t->n_dims = (uint32_t)i;
	return BN_OK;
}

static enum bn_status read_offsets(struct bn_safetensors_tensor *t, const json_t *entry,
				   unsigned width, uint64_t data_bytes, struct bn_error *err)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
	uint64_t bytes;

	if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
	    !json_is_integer(end)) {
		return bn_fail(err, BN_E_FORMAT, "'data_offsets' is not [begin, end] in integers");
	}

	const json_int_t b = json_integer_value(begin), e = json_integer_value(end);

	if (b < 0 || e < b || (uint64_t)e > data_bytes) {
		return bn_fail(err, BN_E_FORMAT,
			       "'data_offsets' is [%lld, %lld]; the file has %llu bytes of data",
			       (long long)b, (long long)e, (unsigned long long)data_bytes);
	}
	if (__builtin_mul_overflow(t->elements, (uint64_t)width, &bytes) ||
	    bytes != (uint64_t)(e - b)) {
		return bn_fail(err, BN_E_FORMAT,
			       "%llu elements of %s do not take the %llu bytes 'data_offsets' "
			       "gives them",
			       (unsigned long long)t->elements, t->dtype,
			       (unsigned long long)(e - b));
	}
	t->begin = (uint64_t)b;
	t->end = (uint64_t)e;
	return BN_OK;
}

/* Names are printed and compared: no control bytes, and an end. */
static bool is_name(const char *name)
{
	size_t n = 0;

	while (name[n] != '\0') {
		if ((unsigned char)name[n] < 0x20 || name[n] == 0x7f ||
		    ++n > BN_SAFETENSORS_MAX_NAME) {
			return false;
		}
	}
	return n > 0;
}

static enum bn_status add_tensor(struct bn_safetensors *st, uint32_t shard, const char *name,
				 const json_t *entry, struct bn_error *err)
{
	struct bn_safetensors_tensor t = { .shard = shard };
	unsigned width = 0;
	enum bn_status status;
	char *copy;

	if (!is_name(name)) {
		return bn_fail(err, BN_E_FORMAT,
			       "a tensor's name is empty, longer than %d bytes or has control "
			       "characters",
			       BN_SAFETENSORS_MAX_NAME);
	}
	if (!json_is_object(entry)) {
		return bn_fail(err, BN_E_FORMAT, "tensor '%s': the entry is not an object", name);
	}
	status = read_dtype(&t, entry, &width, err);
	if (status == BN_OK) {
		status = read_shape(&t, entry, err);
	}
	if (status == BN_OK) {
		status = read_offsets(&t, entry, width, st->shards[shard].data_bytes, err);
	}
	if (status != BN_OK) {
		return err != NULL ? bn_wrap(err, "tensor '%s'", name) : status;
	}
	if (st->n_tensors == st->capacity) {
		size_t capacity = st->capacity == 0 ? 256 : st->capacity * 2;
		void *p = reallocarray(st->tensors, capacity, sizeof(*st->tensors));

		if (p == NULL) {
			return bn_fail(err, BN_E_MEMORY, "no memory to list tensors");
		}
		st->tensors = p;
		st->capacity = capacity;
	}
	copy = strdup(name);
	if (copy == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to list tensors");
	}
	t.name = copy;
	st->tensors[st->n_tensors++] = t;
	return BN_OK;
}

/* --- one file -------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
	const struct bn_safetensors_tensor *x = a, *y = b;

	if (x->begin != y->begin) {
		return x->begin < y->begin ? -1 : 1;
	}
	return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b)
{
	const struct bn_safetensors_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Tensors [first, n_tensors) are those of the shard. */
static enum bn_status check_tiles(struct bn_safetensors *st, size_t first, uint32_t shard,
				  struct bn_error *err)
{
	uint64_t at = 0;

	if (st->n_tensors > first) {
		qsort(st->tensors + first, st->n_tensors - first, sizeof(*st->tensors), by_place);
	}
	for (size_t i = first; i < st->n_tensors; i++) {
		const struct bn_safetensors_tensor *t = &st->tensors[i];

		if (t->begin != at) {
			return bn_fail(err, BN_E_FORMAT,
				       "tensor '%s' begins at byte %llu of the data, %s byte %llu: "
				       "tensors must follow each other without gap or overlap",
				       t->name, (unsigned long long)t->begin,
				       t->begin < at ? "before" : "after", (unsigned long long)at);
		}
		at = t->end;
	}
	if (at != st->shards[shard].data_bytes) {
		return bn_fail(
			err, BN_E_FORMAT,
			"%llu bytes behind the last tensor belong to none: the file is damaged "
			"or two files in one",
			(unsigned long long)(st->shards[shard].data_bytes - at));
	}
	return BN_OK;
}

static enum bn_status add_entries(struct bn_safetensors *st, uint32_t shard, json_t *header,
				  struct bn_error *err)
{
	const char *name;
	json_t *entry;

	if (json_object_size(header) > BN_SAFETENSORS_MAX_TENSORS) {
		return bn_fail(err, BN_E_TOO_LARGE, "%zu tensors; at most %d expected",
			       json_object_size(header), BN_SAFETENSORS_MAX_TENSORS);
	}
	json_object_foreach(header, name, entry)
	{
		enum bn_status status = BN_OK;

		if (strcmp(name, "__metadata__") != 0) {
			status = add_tensor(st, shard, name, entry, err);
		} else if (!json_is_object(entry)) {
			status = bn_fail(err, BN_E_FORMAT, "'__metadata__' is not an object");
		}
		if (status != BN_OK) {
			return status;
		}
	}
	return BN_OK;
}

static enum bn_status header_length(const unsigned char *first, uint64_t size, uint64_t *out,
				    struct bn_error *err)
{
	struct bn_cursor c;

	bn_cursor_init(&c, first, LENGTH_BYTES);
	*out = bn_cursor_u64(&c);
	if (*out < 2 || *out > BN_SAFETENSORS_MAX_HEADER || *out > size - LENGTH_BYTES) {
		return bn_fail(
			err, BN_E_FORMAT,
			"the header claims %llu bytes; it may have 2 to %d, and the file has "
			"%llu: not a safetensors file, or cut short",
			(unsigned long long)*out, BN_SAFETENSORS_MAX_HEADER,
			(unsigned long long)size);
	}
	return BN_OK;
}

static enum bn_status read_header(struct bn_safetensors *st, uint32_t shard, const char *text,
				  size_t n, struct bn_error *err)
{
	const size_t first = st->n_tensors;
	json_t *header = NULL;
	enum bn_status status;

	if (text[0] != '{') {
		return bn_fail(err, BN_E_FORMAT, "the header does not begin with '{'");
	}
	status = bn_json_parse(&header, text, n, HEADER_DEPTH, err);
	if (status == BN_OK) {
		status = add_entries(st, shard, header, err);
	}
	json_decref(header);
	return status == BN_OK ? check_tiles(st, first, shard, err) : status;
}

static enum bn_status read_shard(struct bn_safetensors *st, uint32_t i, struct bn_error *err)
{
	struct shard *s = &st->shards[i];
	unsigned char first[LENGTH_BYTES];
	uint64_t n = 0;
	char *text;
	enum bn_status status = bn_file_read(&s->file, 0, first, sizeof(first), err);

	if (status == BN_OK) {
		status = header_length(first, s->file.size, &n, err);
	}
	if (status != BN_OK) {
		return status;
	}
	s->data = LENGTH_BYTES + n;
	s->data_bytes = s->file.size - s->data;
	text = malloc((size_t)n);
	if (text == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a header of %llu bytes",
			       (unsigned long long)n);
	}
	status = bn_file_read(&s->file, LENGTH_BYTES, text, (size_t)n, err);
	if (status == BN_OK) {
		status = read_header(st, i, text, (size_t)n, err);
	}
	free(text);
	return status;
}

static enum bn_status add_shard(struct bn_safetensors *st, int dirfd, const char *name,
				struct bn_error *err)
{
	struct shard *s = &st->shards[st->n_shards];
	enum bn_status status;

	s->file.fd = -1;
	s->name = strdup(name);
	if (s->name == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to list shards");
	}
	st->n_shards++;
	status = bn_file_open(&s->file, dirfd, name, false, err);
	if (status != BN_OK) {
		s->file.fd = -1;
	} else {
		status = read_shard(st, st->n_shards - 1, err);
	}
	return status == BN_OK || err == NULL ? status : bn_wrap(err, "%s", name);
}

/* --- the index ------------------------------------------------------------------------------- */

/* Only a file of the same folder: an index could name any file of the machine. */
static bool is_basename(const char *name)
{
	const size_t n = strlen(name);
	static const char end[] = ".safetensors";

	return n > sizeof(end) - 1 && n <= NAME_MAX && name[0] != '.' &&
	       strchr(name, '/') == NULL && strcmp(name + n - (sizeof(end) - 1), end) == 0;
}

static uint32_t shard_of(const struct bn_safetensors *st, const char *name)
{
	uint32_t i = 0;

	while (i < st->n_shards && strcmp(st->shards[i].name, name) != 0) {
		i++;
	}
	return i;
}

static enum bn_status open_shards(struct bn_safetensors *st, int dirfd, json_t *map,
				  struct bn_error *err)
{
	const char *tensor;
	json_t *file;

	json_object_foreach(map, tensor, file)
	{
		const char *name = json_string_value(file);
		enum bn_status status;

		if (name == NULL || !is_basename(name)) {
			return bn_fail(err, BN_E_FORMAT,
				       "%s: '%.64s' is said to be in '%.64s'; a shard is a file of "
				       "the same folder named *.safetensors",
				       index_name, tensor, name != NULL ? name : "(no string)");
		}
		if (shard_of(st, name) < st->n_shards) {
			continue;
		}
		if (st->n_shards == BN_SAFETENSORS_MAX_SHARDS) {
			return bn_fail(err, BN_E_TOO_LARGE, "%s names more than %d files",
				       index_name, BN_SAFETENSORS_MAX_SHARDS);
		}
		status = add_shard(st, dirfd, name, err);
		if (status != BN_OK) {
			return status;
		}
	}
	return BN_OK;
}

/* Every tensor of the index is in its shard, and no shard has one the index does not know. */
static enum bn_status check_index(const struct bn_safetensors *st, const json_t *map,
				  struct bn_error *err)
{
	const char *name;
	json_t *file;

	for (size_t i = 0; i < st->n_tensors; i++) {
		const struct bn_safetensors_tensor *t = &st->tensors[i];
		const char *said = json_string_value(json_object_get(map, t->name));

		if (said == NULL || strcmp(said, st->shards[t->shard].name) != 0) {
			return bn_fail(err, BN_E_FORMAT,
				       "tensor '%s' is in '%s', but %s says '%.64s'", t->name,
				       st->shards[t->shard].name, index_name,
				       said != NULL ? said : "nothing of it");
		}
	}
	json_object_foreach((json_t *)(uintptr_t)map, name, file)
	{
		if (bn_safetensors_find(st, name) == NULL) {
			return bn_fail(err, BN_E_FORMAT, "tensor '%.128s' is missing from '%s'",
				       name, json_string_value(file));
		}
	}
	return BN_OK;
}

static enum bn_status sort_names(struct bn_safetensors *st, struct bn_error *err)
{
	if (st->n_tensors == 0) {
		return bn_fail(err, BN_E_FORMAT, "there is no tensor in the model files");
	}
	qsort(st->tensors, st->n_tensors, sizeof(*st->tensors), by_name);
	for (size_t i = 1; i < st->n_tensors; i++) {
		if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0) {
			return bn_fail(err, BN_E_FORMAT,
				       "tensor '%s' is there twice, in '%s' and "
				       "in '%s'",
				       st->tensors[i].name,
				       st->shards[st->tensors[i - 1].shard].name,
				       st->shards[st->tensors[i].shard].name);
		}
	}
	return BN_OK;
}

static enum bn_status open_index(struct bn_safetensors *st, int dirfd, struct bn_error *err)
{
	json_t *index = NULL, *map;
	enum bn_status status = bn_json_load(&index, dirfd, index_name, err);

	if (status != BN_OK) {
		return status;
	}
	map = json_object_get(index, "weight_map");
	if (!json_is_object(map)) {
		status = bn_fail(err, BN_E_FORMAT, "%s: 'weight_map' is not an object", index_name);
	} else {
		status = open_shards(st, dirfd, map, err);
	}
	if (status == BN_OK) {
		status = sort_names(st, err);
	}
	if (status == BN_OK) {
		status = check_index(st, map, err);
	}
	json_decref(index);
	return status;
}

static enum bn_status refuse_folder(int dirfd, struct bn_error *err)
{
	const bool pickled = faccessat(dirfd, "pytorch_model.bin", F_OK, 0) == 0 ||
			     faccessat(dirfd, "pytorch_model.bin.index.json", F_OK, 0) == 0;

	return bn_fail(err, BN_E_IO,
		       pickled ? "the folder has its weights as pytorch_model.bin, which is a "
				 "program (pickle): take the repository's safetensors files"
			       : "the folder has neither model.safetensors nor "
				 "model.safetensors.index.json");
}

static struct bn_safetensors *new_set(uint32_t shards)
{
	struct bn_safetensors *st = calloc(1, sizeof(*st));

	if (st != NULL) {
		st->shards = calloc(shards, sizeof(*st->shards));
	}
	if (st == NULL || st->shards == NULL) {
		free(st);
		return NULL;
	}
	return st;
}

enum bn_status bn_safetensors_open(struct bn_safetensors **out, int dirfd, struct bn_error *err)
{
	struct bn_safetensors *st = new_set(BN_SAFETENSORS_MAX_SHARDS);
	enum bn_status status;

	if (st == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to open model files");
	}
	/* The order of the transformers library: the single file wins. */
	if (faccessat(dirfd, single_name, F_OK, 0) == 0) {
		status = add_shard(st, dirfd, single_name, err);
		if (status == BN_OK) {
			status = sort_names(st, err);
		}
	} else if (faccessat(dirfd, index_name, F_OK, 0) == 0) {
		status = open_index(st, dirfd, err);
	} else {
		status = refuse_folder(dirfd, err);
	}
	if (status != BN_OK) {
		bn_safetensors_free(st);
		return status;
	}
	*out = st;
	return BN_OK;
}

enum bn_status bn_safetensors_parse(struct bn_safetensors **out, const void *bytes, size_t n,
				    uint64_t size, struct bn_error *err)
{
	struct bn_safetensors *st;
	uint64_t header = 0;
	enum bn_status status;

	bn_assert(size >= n);
	if (n < LENGTH_BYTES) {
		return bn_fail(err, BN_E_FORMAT, "a file of %zu bytes is no safetensors file", n);
	}
	status = header_length(bytes, size, &header, err);
	if (status == BN_OK && header > n - LENGTH_BYTES) {
		status = bn_fail(err, BN_E_FORMAT, "the header of %llu bytes is not all there",
				 (unsigned long long)header);
	}
	if (status != BN_OK) {
		return status;
	}
	st = new_set(1);
	if (st == NULL || (st->shards[0].name = strdup("header")) == NULL) {
		bn_safetensors_free(st);
		return bn_fail(err, BN_E_MEMORY, "no memory to read a header");
	}
	st->n_shards = 1;
	st->shards[0].file.fd = -1;
	st->shards[0].data = LENGTH_BYTES + header;
	st->shards[0].data_bytes = size - st->shards[0].data;
	status = read_header(st, 0, (const char *)bytes + LENGTH_BYTES, (size_t)header, err);
	if (status == BN_OK) {
		status = sort_names(st, err);
	}
	if (status != BN_OK) {
		bn_safetensors_free(st);
		return status;
	}
	*out = st;
	return BN_OK;
}

void bn_safetensors_free(struct bn_safetensors *st)
{
	if (st == NULL) {
		return;
	}
	for (uint32_t i = 0; i < st->n_shards; i++) {
		bn_file_close(&st->shards[i].file);
		free(st->shards[i].name);
	}
	for (size_t i = 0; i < st->n_tensors; i++) {
		free((char *)(uintptr_t)st->tensors[i].name);
	}
	free(st->tensors);
	free(st->shards);
	free(st);
}

/* --- asking ---------------------------------------------------------------------------------- */

size_t bn_safetensors_count(const struct bn_safetensors *st)
{
	return st->n_tensors;
}

const struct bn_safetensors_tensor *bn_safetensors_at(const struct bn_safetensors *st, size_t i)
{
	bn_assert(i < st->n_tensors);
	return &st->tensors[i];
}

const struct bn_safetensors_tensor *bn_safetensors_find(const struct bn_safetensors *st,
							const char *name)
{
	const struct bn_safetensors_tensor key = { .name = name };

	return bsearch(&key, st->tensors, st->n_tensors, sizeof(*st->tensors), by_name);
}

enum bn_status bn_safetensors_read(const struct bn_safetensors *st,
				   const struct bn_safetensors_tensor *t, uint64_t from, void *dst,
				   size_t bytes, struct bn_error *err)
{
	const struct shard *s = &st->shards[t->shard];
	enum bn_status status;

	if (from > t->end - t->begin || bytes > t->end - t->begin - from) {
		return bn_fail(err, BN_E_FORMAT,
			       "tensor '%s': %zu bytes at %llu are not all its own", t->name, bytes,
			       (unsigned long long)from);
	}
	if (s->file.fd < 0) {
		return bn_fail(err, BN_E_IO, "tensor '%s': its file is not open", t->name);
	}
	status = bn_file_read(&s->file, s->data + t->begin + from, dst, bytes, err);
	return status == BN_OK || err == NULL ? status
					      : bn_wrap(err, "%s, tensor '%s'", s->name, t->name);
}

enum bn_status bn_safetensors_unchanged(const struct bn_safetensors *st, struct bn_error *err)
{
	enum bn_status status = BN_OK;

	for (uint32_t i = 0; i < st->n_shards && status == BN_OK; i++) {
		status = bn_file_unchanged(&st->shards[i].file, err);
		if (status != BN_OK && err != NULL) {
			bn_wrap(err, "%s", st->shards[i].name);
		}
	}
	return status;
}
