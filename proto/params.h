/*
 * Parameters as C: the field tables of proto/schema.h turned into structs, and into rows that the
 * decoder, the encoder, the documentation and the tests walk.
 *
 * It does not touch bytes (proto/decode.h, proto/encode.h) and knows no defaults: those are the
 * model's or the configuration's, so every field says whether it was given.
 */
#ifndef BN_PROTO_PARAMS_H
#define BN_PROTO_PARAMS_H

#include "proto/error.h"
#include "proto/schema.h"
#include "proto/time.h"
#include "proto/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bn_kind {
	BN_KIND_STR,
	BN_KIND_INT,
	BN_KIND_NUM,
	BN_KIND_BOOL,
	BN_KIND_WORD,
	BN_KIND_TIME,
	BN_KIND_PROMPT,
	BN_KIND_IDS,
	BN_KIND_STRS,
	BN_KIND_TEXTS,
	BN_KIND_BIAS,
	BN_KIND_CHAT,
	BN_KIND_BIN,
};

/* BN_QUEUE_WAIT, BN_PRIORITY_BATCH, BN_ROLE_USER ...: the values of WORD fields. */
#define BN_WORD_ENUM(set, SYMBOL, word) BN_##SYMBOL,
enum bn_queue { BN_WORDS_queue(BN_WORD_ENUM) };
enum bn_priority { BN_WORDS_priority(BN_WORD_ENUM) };
enum bn_cache { BN_WORDS_cache(BN_WORD_ENUM) };
enum bn_chat_role { BN_WORDS_role(BN_WORD_ENUM) };
enum bn_encoding { BN_WORDS_encoding(BN_WORD_ENUM) };
#undef BN_WORD_ENUM

/*
 * The lists below have two sides. A decoder leaves `host` NULL and `wire` pointing into the
 * message; read them with the bn_..._copy functions. An encoder's caller sets `host` and `n`.
 */

/* Token ids, 0..INT32_MAX each. */
struct bn_ids {
	uint32_t n;
	const uint32_t *host;
	struct bn_value wire;
};

/* Either text, or (is_ids) tokens. */
struct bn_prompt {
	bool is_ids;
	struct bn_text text;
	struct bn_ids ids;
};

/* Strings, few enough to lie here. */
struct bn_strings {
	uint32_t n;
	struct bn_text at[BN_LIMIT_STOPS];
};

/* Texts, each of any length. */
struct bn_texts {
	uint32_t n;
	const struct bn_text *host;
	struct bn_value wire; /* a str or an array of them */
};

struct bn_bias {
	uint32_t token;
	float bias; /* -100..100 */
};

struct bn_biases {
	uint32_t n;
	const struct bn_bias *host;
	struct bn_value wire;
};

struct bn_params_turn;

struct bn_chat {
	uint32_t n;
	const struct bn_params_turn *host;
	struct bn_value wire;
};

/* What a field of each kind is in C. */
#define BN_C_STR    struct bn_text
#define BN_C_INT    int64_t
#define BN_C_NUM    double
#define BN_C_BOOL   bool
#define BN_C_WORD   uint32_t
#define BN_C_TIME   int64_t
#define BN_C_PROMPT struct bn_prompt
#define BN_C_IDS    struct bn_ids
#define BN_C_STRS   struct bn_strings
#define BN_C_TEXTS  struct bn_texts
#define BN_C_BIAS   struct bn_biases
#define BN_C_CHAT   struct bn_chat
#define BN_C_BIN    struct bn_bytes

#define BN_MEMBER(T, KIND, name, NEED, min, max, missing, doc) \
	bool has_##name;                                       \
	BN_C_##KIND name;

/* One message of a chat: has_role, role (enum bn_chat_role), has_content, content. */
struct bn_params_turn {
	BN_FIELDS_turn(BN_MEMBER, )
};

/* What both ways to generate share; always at offset 0 of their structs. */
struct bn_params_generation {
	BN_FIELDS_generation(BN_MEMBER, )
};

/* ISO C has no empty structs; methods without a group or fields carry a byte. */
struct bn_params_none {
	unsigned char unused;
};

/*
 * struct bn_params_<method>: `group` (the shared fields, or nothing), then for each own field
 * `has_<name>` and `<name>`. Text and lists are borrowed from the message. Example:
 *     if (p->group.has_top_p) { s.top_p = p->group.top_p; }
 */
#define BN_PARAMS_STRUCT(SYMBOL, word, wire, since, RIGHT, stream, shared, doc) \
	struct bn_params_##word {                                               \
		struct bn_params_##shared group;                                \
		BN_FIELDS_##word(BN_MEMBER, )                                   \
	};
BN_METHOD_TABLE(BN_PARAMS_STRUCT)
#undef BN_PARAMS_STRUCT

/* struct bn_event_<event>: the fields of one kind of `stream` notification. */
#define BN_EVENT_STRUCT(SYMBOL, word, doc)          \
	struct bn_event_##word {                    \
		BN_FIELDS_event_##word(BN_MEMBER, ) \
	};
BN_EVENT_TABLE(BN_EVENT_STRUCT)
#undef BN_EVENT_STRUCT

/* The fields every event begins with. */
struct bn_event_head {
	BN_FIELDS_event(BN_MEMBER, )
};
#undef BN_MEMBER

#define BN_METHOD_ENUM(SYMBOL, word, wire, since, RIGHT, stream, shared, doc) BN_METHOD_##SYMBOL,
enum bn_method { BN_METHOD_TABLE(BN_METHOD_ENUM) BN_METHOD_COUNT };
#undef BN_METHOD_ENUM

#define BN_PARAMS_UNION(SYMBOL, word, wire, since, RIGHT, stream, shared, doc) \
	struct bn_params_##word word;
/* The parameters of any method; the member is the method's word. */
union bn_params {
	BN_METHOD_TABLE(BN_PARAMS_UNION)
};
#undef BN_PARAMS_UNION

#define BN_EVENT_ENUM(SYMBOL, word, doc) BN_EVENT_##SYMBOL,
enum bn_event_kind { BN_EVENT_TABLE(BN_EVENT_ENUM) BN_EVENT_COUNT };
#undef BN_EVENT_ENUM

#define BN_EVENT_UNION(SYMBOL, word, doc) struct bn_event_##word word;
union bn_event_body {
	BN_EVENT_TABLE(BN_EVENT_UNION)
};
#undef BN_EVENT_UNION

enum bn_right {
	BN_RIGHT_USER,
	BN_RIGHT_ADMIN,
};

/* One row of a field table. Tables end with a row whose name is NULL. */
struct bn_field {
	const char *name;
	enum bn_kind kind;
	bool must;
	uint16_t has;    /* offset of has_<name> in its struct */
	uint16_t at;     /* offset of <name> */
	int64_t int_min; /* INT: value; TIME: seconds; lists: count; STR, BIN: bytes */
	int64_t int_max;
	double num_min; /* NUM */
	double num_max;
	const char *const *words; /* WORD: NULL-terminated; else NULL */
	const char *missing;      /* what happens without it, for people */
	const char *doc;
};

/* One row of a result description. Tables end with a row whose path is NULL. */
struct bn_result_field {
	const char *path;
	const char *type;
	const char *doc;
};

/* Everything about a method. */
struct bn_method_info {
	const char *name;
	const char *doc;
	uint32_t since;
	enum bn_right right;
	bool stream;
	const struct bn_field *own;
	const struct bn_field *shared; /* the group's; their offsets count from 0 as well */
	const struct bn_result_field *result;
};

struct bn_event_info {
	const char *name;
	const char *doc;
	const struct bn_field *fields;
};

/* Another accepted name of a field. Tables end with a row of NULLs. */
struct bn_alias {
	const char *accepted;
	const char *known;
};

/* Descriptions; static, never NULL. `method` and `event` must be in range. BN_ON_ANY. */
const struct bn_method_info *bn_method_info(enum bn_method method);
const struct bn_event_info *bn_event_info(enum bn_event_kind event);
const struct bn_field *bn_event_head_fields(void);
const struct bn_field *bn_turn_fields(void); /* of struct bn_params_turn */
const struct bn_alias *bn_aliases(void);

/* The method of that name; BN_METHOD_COUNT when there is none. */
enum bn_method bn_method_find(struct bn_text name);

/* "INT": what documents call a kind: "int", "num", "str | [int] | bin". */
const char *bn_kind_name(enum bn_kind kind);

/*
 * What decoder and encoder both ask of a value; the sentence says what is wrong and what is
 * allowed, not the field's name. BN_E_INVALID.
 */
enum bn_status bn_field_check_int(const struct bn_field *field, int64_t value,
				  struct bn_error *err) BN_MUST_USE;
enum bn_status bn_field_check_num(const struct bn_field *field, double value,
				  struct bn_error *err) BN_MUST_USE;
enum bn_status bn_field_check_size(const struct bn_field *field, size_t n, const char *unit,
				   struct bn_error *err) BN_MUST_USE;

#endif
