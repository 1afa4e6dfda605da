/*
 * Expands the tables of schema.h into rows. A row knows where its field lies in the struct
 * (offsetof), so one decoder and one encoder serve all methods; the structs and the rows come
 * from the same line and cannot drift apart.
 */
#include "proto/params.h"

#include "proto/assert.h"

#include <inttypes.h>
#include <math.h>

/* Tables are set by hand. clang-format wants its mark alone in a comment. */
/* clang-format off */

/* The shared part must lie at offset 0, or the rows of the group would point elsewhere. */
#define CHECK_GROUP(SYMBOL, word, wire, since, RIGHT, stream, shared, doc)                         \
	_Static_assert(offsetof(struct bn_params_##word, group) == 0, "group lies first");
BN_METHOD_TABLE(CHECK_GROUP)
_Static_assert(sizeof(union bn_params) <= UINT16_MAX, "offsets fit their rows");

/* words_queue, words_priority ... */
#define WORD_STRING(set, SYMBOL, word) word,
#define WORD_LIST(set)                                                                             \
	static const char *const words_##set[] = { BN_WORDS_##set(WORD_STRING) NULL };
BN_WORD_SET_TABLE(WORD_LIST)

/* Which range and words a row of each kind carries. */
#define RANGE_INT(min, max)    .int_min = (min), .int_max = (max)
#define RANGE_NUM(min, max)    .num_min = (min), .num_max = (max)
#define RANGE_STR(min, max)    RANGE_INT(min, max)
#define RANGE_BOOL(min, max)   RANGE_INT(min, max)
#define RANGE_WORD(min, max)   RANGE_INT(min, max)
#define RANGE_TIME(min, max)   RANGE_INT(min, max)
#define RANGE_PROMPT(min, max) RANGE_INT(min, max)
#define RANGE_IDS(min, max)    RANGE_INT(min, max)
#define RANGE_STRS(min, max)   RANGE_INT(min, max)
#define RANGE_TEXTS(min, max)  RANGE_INT(min, max)
#define RANGE_BIAS(min, max)   RANGE_INT(min, max)
#define RANGE_CHAT(min, max)   RANGE_INT(min, max)
#define RANGE_BIN(min, max)    RANGE_INT(min, max)

#define WORDS_INT(name)    NULL
#define WORDS_NUM(name)    NULL
#define WORDS_STR(name)    NULL
#define WORDS_BOOL(name)   NULL
#define WORDS_WORD(name)   words_##name
#define WORDS_TIME(name)   NULL
#define WORDS_PROMPT(name) NULL
#define WORDS_IDS(name)    NULL
#define WORDS_STRS(name)   NULL
#define WORDS_TEXTS(name)  NULL
#define WORDS_BIAS(name)   NULL
#define WORDS_CHAT(name)   NULL
#define WORDS_BIN(name)    NULL

#define NEED_MUST true
#define NEED_MAY  false

#define ROW(T, KIND, field, NEED, min, max, otherwise, sentence)                                   \
	{                                                                                          \
		.name = #field,                                                                    \
		.kind = BN_KIND_##KIND,                                                            \
		.must = NEED_##NEED,                                                               \
		.has = (uint16_t)offsetof(T, has_##field),                                         \
		.at = (uint16_t)offsetof(T, field),                                                \
		RANGE_##KIND(min, max),                                                            \
		.words = WORDS_##KIND(field),                                                      \
		.missing = otherwise,                                                              \
		.doc = sentence,                                                                   \
	},

static const struct bn_field fields_none[] = { { .name = NULL } };
static const struct bn_field fields_generation[] = {
	BN_FIELDS_generation(ROW, struct bn_params_generation) { .name = NULL }
};
static const struct bn_field fields_turn[] = {
	BN_FIELDS_turn(ROW, struct bn_params_turn) { .name = NULL }
};
static const struct bn_field fields_event[] = {
	BN_FIELDS_event(ROW, struct bn_event_head) { .name = NULL }
};

#define METHOD_ROWS(SYMBOL, word, wire, since, RIGHT, stream, shared, doc)                         \
	static const struct bn_field fields_##word[] = {                                           \
		BN_FIELDS_##word(ROW, struct bn_params_##word) { .name = NULL }                    \
	};
BN_METHOD_TABLE(METHOD_ROWS)

#define EVENT_ROWS(SYMBOL, word, doc)                                                              \
	static const struct bn_field fields_event_##word[] = {                                     \
		BN_FIELDS_event_##word(ROW, struct bn_event_##word) { .name = NULL }               \
	};
BN_EVENT_TABLE(EVENT_ROWS)

#define RESULT_ROW(path, type, doc) { path, type, doc },
#define RESULT_ROWS(SYMBOL, word, wire, since, RIGHT, stream, shared, doc)                         \
	static const struct bn_result_field result_##word[] = {                                    \
		BN_RESULT_##word(RESULT_ROW) { NULL, NULL, NULL }                                  \
	};
BN_METHOD_TABLE(RESULT_ROWS)

#define METHOD_INFO(SYMBOL, word, wire_name, level, RIGHT, streams, group, sentence)               \
	[BN_METHOD_##SYMBOL] = {                                                                   \
		.name = wire_name,                                                                 \
		.doc = sentence,                                                                   \
		.since = level,                                                                    \
		.right = BN_RIGHT_##RIGHT,                                                         \
		.stream = streams,                                                                 \
		.own = fields_##word,                                                              \
		.shared = fields_##group,                                                          \
		.result = result_##word,                                                           \
	},
static const struct bn_method_info methods[BN_METHOD_COUNT] = { BN_METHOD_TABLE(METHOD_INFO) };

#define EVENT_INFO(SYMBOL, word, sentence)                                                         \
	[BN_EVENT_##SYMBOL] = { .name = #word, .doc = sentence, .fields = fields_event_##word },
static const struct bn_event_info events[BN_EVENT_COUNT] = { BN_EVENT_TABLE(EVENT_INFO) };

#define ALIAS_ROW(accepted, known) { accepted, known },
static const struct bn_alias aliases[] = { BN_ALIAS_TABLE(ALIAS_ROW) { NULL, NULL } };

/* clang-format on */

const struct bn_method_info *bn_method_info(enum bn_method method)
{
	bn_assert((unsigned)method < BN_METHOD_COUNT);
	return &methods[method];
}

const struct bn_event_info *bn_event_info(enum bn_event_kind event)
{
	bn_assert((unsigned)event < BN_EVENT_COUNT);
	return &events[event];
}

const struct bn_field *bn_event_head_fields(void)
{
	return fields_event;
}

const struct bn_field *bn_turn_fields(void)
{
	return fields_turn;
}

const struct bn_alias *bn_aliases(void)
{
	return aliases;
}

enum bn_method bn_method_find(struct bn_text name)
{
	enum bn_method method = 0;

	while (method < BN_METHOD_COUNT && !bn_text_is(name, methods[method].name)) {
		method++;
	}
	return method;
}

const char *bn_kind_name(enum bn_kind kind)
{
	static const char *const names[] = {
		[BN_KIND_STR] = "str",
		[BN_KIND_INT] = "int",
		[BN_KIND_NUM] = "num",
		[BN_KIND_BOOL] = "bool",
		[BN_KIND_WORD] = "word",
		[BN_KIND_TIME] = "seconds | \"10m\" | -1",
		[BN_KIND_PROMPT] = "str | [int] | bin",
		[BN_KIND_IDS] = "[int] | bin",
		[BN_KIND_STRS] = "str | [str]",
		[BN_KIND_TEXTS] = "str | [str]",
		[BN_KIND_BIAS] = "{int: num}",
		[BN_KIND_CHAT] = "[{role, content}]",
		[BN_KIND_BIN] = "bin",
	};

	bn_assert((unsigned)kind < sizeof(names) / sizeof(names[0]));
	return names[kind];
}

enum bn_status bn_field_check_int(const struct bn_field *field, int64_t value, struct bn_error *err)
{
	if (value < field->int_min || value > field->int_max) {
		return bn_fail(err, BN_E_INVALID, "%" PRId64 " is not in %" PRId64 "..%" PRId64,
			       value, field->int_min, field->int_max);
	}
	return BN_OK;
}

enum bn_status bn_field_check_num(const struct bn_field *field, double value, struct bn_error *err)
{
	/* Written so that NaN fails as well. */
	if (!(value >= field->num_min && value <= field->num_max)) {
		return bn_fail(err, BN_E_INVALID, "%g is not in %g..%g", value, field->num_min,
			       field->num_max);
	}
	return BN_OK;
}

enum bn_status bn_field_check_size(const struct bn_field *field, size_t n, const char *unit,
				   struct bn_error *err)
{
	if ((int64_t)n < field->int_min || (int64_t)n > field->int_max) {
		return bn_fail(err, BN_E_INVALID,
			       "%zu %s given, %" PRId64 "..%" PRId64 " are allowed", n, unit,
			       field->int_min, field->int_max);
	}
	return BN_OK;
}
