#include "engine/json.h"

#include "engine/file.h"

#include <stdlib.h>
#include <string.h>

/*
 * What jansson 2.14 takes on a 64-bit machine, malloc's rounding included: an object with its first
 * buckets, an array with its first slots, a string or key with its node, a number. Rounded up.
 */
enum {
	OBJECT_BYTES = 320,
	ARRAY_BYTES = 144,
	STRING_BYTES = 96,
	NUMBER_BYTES = 48,
	MEMBER_BYTES = 16,
};

/* Length of the string whose opening quote is at text[at], quotes included; n - at if it never
 * ends. */
static size_t string_length(const char *text, size_t n, size_t at)
{
	size_t i = at + 1;

	while (i < n && text[i] != '"') {
		i += text[i] == '\\' && i + 1 < n ? 2 : 1;
	}
	return (i < n ? i + 1 : n) - at;
}

static bool is_number(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* The walk: depth and cost of a text, whether it is JSON or not. */
static enum bn_status walk(const char *text, size_t n, unsigned max_depth, struct bn_error *err)
{
	const uint64_t limit = (uint64_t)n * BN_JSON_COST + BN_JSON_FREE_BYTES;
	uint64_t cost = 0;
	unsigned depth = 0;

	for (size_t i = 0; i < n;) {
		const char c = text[i];
		size_t used = 1;

		if (c == '{' || c == '[') {
			cost += c == '{' ? OBJECT_BYTES : ARRAY_BYTES;
			if (++depth > max_depth) {
				return bn_fail(err, BN_E_FORMAT,
					       "JSON nested deeper than %u levels at byte %zu",
					       max_depth, i);
			}
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == '"') {
			used = string_length(text, n, i);
			cost += STRING_BYTES + used;
		} else if (c == ',') {
			cost += MEMBER_BYTES;
		} else if (is_number(c)) {
			while (i + used < n && is_number(text[i + used])) {
				used++;
			}
			cost += NUMBER_BYTES;
		}
		if (cost > limit) {
			return bn_fail(err, BN_E_TOO_LARGE,
				       "JSON of %zu bytes would take over %llu MiB of memory: it "
				       "has too many small values",
				       n, (unsigned long long)(limit >> 20));
		}
		i += used;
	}
	return BN_OK;
}

static enum bn_status parse(json_t **out, const char *text, size_t n, unsigned max_depth, bool list,
			    struct bn_error *err)
{
	json_error_t why;
	json_t *root;
	enum bn_status status = walk(text, n, max_depth, err);

	if (status != BN_OK) {
		return status;
	}
	root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
	if (root == NULL) {
		return bn_fail(err, BN_E_FORMAT, "not valid JSON: line %d, column %d: %s", why.line,
			       why.column, why.text);
	}
	if (list ? !json_is_array(root) : !json_is_object(root)) {
		json_decref(root);
		return bn_fail(err, BN_E_FORMAT, "the JSON text is not %s",
			       list ? "an array '[...]'" : "an object '{...}'");
	}
	*out = root;
	return BN_OK;
}

enum bn_status bn_json_parse(json_t **out, const char *text, size_t n, unsigned max_depth,
			     struct bn_error *err)
{
	return parse(out, text, n, max_depth, false, err);
}

static enum bn_status load(json_t **out, const struct bn_file *file, bool list,
			   struct bn_error *err)
{
	enum bn_status status;
	char *text;

	if (file->size > BN_JSON_MAX_BYTES) {
		return bn_fail(err, BN_E_TOO_LARGE,
			       "the file has %llu bytes; at most %d are read as JSON",
			       (unsigned long long)file->size, BN_JSON_MAX_BYTES);
	}
	text = malloc((size_t)file->size + 1);
	if (text == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for %llu bytes of JSON",
			       (unsigned long long)file->size);
	}
	status = bn_file_read(file, 0, text, (size_t)file->size, err);
	if (status == BN_OK) {
		status = parse(out, text, (size_t)file->size, BN_JSON_MAX_DEPTH, list, err);
	}
	free(text);
	return status;
}

static enum bn_status load_at(json_t **out, int dirfd, const char *name, bool list,
			      struct bn_error *err)
{
	struct bn_file file;
	enum bn_status status = bn_file_open(&file, dirfd, name, false, err);

	if (status == BN_OK) {
		status = load(out, &file, list, err);
		bn_file_close(&file);
	}
	return status == BN_OK || err == NULL ? status : bn_wrap(err, "%s", name);
}

enum bn_status bn_json_load(json_t **out, int dirfd, const char *name, struct bn_error *err)
{
	return load_at(out, dirfd, name, false, err);
}

enum bn_status bn_json_load_list(json_t **out, int dirfd, const char *name, struct bn_error *err)
{
	return load_at(out, dirfd, name, true, err);
}

json_t *bn_json_get(const json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

static const char *type_name(const json_t *value)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
		[JSON_INTEGER] = "a number", [JSON_REAL] = "a number",  [JSON_TRUE] = "true",
		[JSON_FALSE] = "false",      [JSON_NULL] = "null",
	};

	return value == NULL ? "absent" : names[json_typeof(value)];
}

static enum bn_status refuse_type(const json_t *object, const char *key, const char *wanted,
				  struct bn_error *err)
{
	return bn_fail(err, BN_E_FORMAT, "'%s' is %s; it must be %s", key,
		       type_name(json_object_get(object, key)), wanted);
}

enum bn_status bn_json_u32(const json_t *object, const char *key, uint32_t min, uint32_t max,
			   uint32_t *out, struct bn_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value)) {
		return refuse_type(object, key, "an integer", err);
	}
	if (json_integer_value(value) < (json_int_t)min ||
	    json_integer_value(value) > (json_int_t)max) {
		return bn_fail(err, BN_E_FORMAT, "'%s' is %lld; it must be between %u and %u", key,
			       (long long)json_integer_value(value), min, max);
	}
	*out = (uint32_t)json_integer_value(value);
	return BN_OK;
}

enum bn_status bn_json_real(const json_t *object, const char *key, double min, double max,
			    double *out, struct bn_error *err)
{
	const json_t *value = json_object_get(object, key);
	const double x = json_number_value(value);

	if (!json_is_number(value)) {
		return refuse_type(object, key, "a number", err);
	}
	if (!(x >= min && x <= max)) {
		return bn_fail(err, BN_E_FORMAT, "'%s' is %g; it must be between %g and %g", key, x,
			       min, max);
	}
	*out = x;
	return BN_OK;
}

enum bn_status bn_json_bool(const json_t *object, const char *key, bool *out, struct bn_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_boolean(value)) {
		return refuse_type(object, key, "true or false", err);
	}
	*out = json_is_true(value);
	return BN_OK;
}

enum bn_status bn_json_string(const json_t *object, const char *key, const char **out,
			      struct bn_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_string(value)) {
		return refuse_type(object, key, "a string", err);
	}
	*out = json_string_value(value);
	return BN_OK;
}
