#include "engine/hfvocab.h"

#include "engine/file.h"
#include "engine/hfmerges.h"
#include "engine/hfprogram.h"
#include "engine/json.h"
#include "engine/pretokenize.h"
#include "engine/sentencepiece.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FILE_MAX_BYTES = 64 * 1024 * 1024,
	TEMPLATE_MAX_BYTES = 1024 * 1024,
	PAD_BYTES = 24,
	ADDED_SCORE = -1000, /* of tokens that no merge may make */
};

struct bn_hfvocab_sources {
	json_t *tokenizer; /* tokenizer.json, or NULL        */
	json_t *config;    /* tokenizer_config.json, or NULL */
	json_t *added;     /* added_tokens.json, or NULL     */
	char *model;       /* tokenizer.model, or NULL       */
	size_t model_bytes;
	char *template; /* chat_template.jinja, or NULL   */
	struct bn_hfmerges merges;
	char *pads; /* padding tokens                 */
};

struct builder {
	struct bn_hfvocab *v;
	struct bn_hfvocab_sources *s;
	int dirfd;
	struct bn_error *err;
};

__attribute__((format(printf, 2, 3))) static void notice(struct bn_hfvocab *v, const char *format,
							 ...)
{
	va_list args;

	if (v->n_notices < BN_HFVOCAB_NOTICES) {
		va_start(args, format);
		vsnprintf(v->notices[v->n_notices++], BN_HFVOCAB_NOTICE_BYTES, format, args);
		va_end(args);
	}
}

static bool exists(const struct builder *b, const char *name)
{
	return faccessat(b->dirfd, name, F_OK, 0) == 0;
}

static enum bn_status no_memory(struct builder *b)
{
	return bn_fail(b->err, BN_E_MEMORY, "no memory for the vocabulary");
}

/* --- files ----------------------------------------------------------------------------------- */

static enum bn_status load_json(struct builder *b, const char *name, json_t **out)
{
	return exists(b, name) ? bn_json_load(out, b->dirfd, name, b->err) : BN_OK;
}

/* A whole file, terminated; *out stays NULL when there is none. */
static enum bn_status load_bytes(struct builder *b, const char *name, size_t limit, char **out,
				 size_t *n)
{
	struct bn_file file;
	enum bn_status status;

	if (!exists(b, name)) {
		return BN_OK;
	}
	status = bn_file_open(&file, b->dirfd, name, false, b->err);
	if (status != BN_OK) {
		return status;
	}
	if (file.size > limit) {
		status = bn_fail(b->err, BN_E_TOO_LARGE, "%s has %llu bytes; at most %zu are read",
				 name, (unsigned long long)file.size, limit);
	} else if ((*out = calloc(1, (size_t)file.size + 1)) == NULL) {
		status = no_memory(b);
	} else {
		*n = (size_t)file.size;
		status = bn_file_read(&file, 0, *out, *n, b->err);
	}
	bn_file_close(&file);
	return status;
}

static enum bn_status load_sources(struct builder *b)
{
	struct bn_hfvocab_sources *s = b->s;
	size_t ignored = 0;
	enum bn_status status = load_json(b, "tokenizer.json", &s->tokenizer);

	if (status == BN_OK) {
		status = load_json(b, "tokenizer_config.json", &s->config);
	}
	if (status == BN_OK) {
		status = load_json(b, "added_tokens.json", &s->added);
	}
	if (status == BN_OK) {
		status = load_bytes(b, "tokenizer.model", FILE_MAX_BYTES, &s->model,
				    &s->model_bytes);
	}
	if (status == BN_OK) {
		status = load_bytes(b, "chat_template.jinja", TEMPLATE_MAX_BYTES, &s->template,
				    &ignored);
	}
	return status;
}

/* --- tokens ---------------------------------------------------------------------------------- */

static struct bn_str str(const char *text)
{
	return (struct bn_str){ text, strlen(text) };
}

static bool same(struct bn_str a, struct bn_str b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

bn_token bn_hfvocab_find(const struct bn_hfvocab *v, const char *text)
{
	const struct bn_str wanted = str(text);

	for (uint32_t i = 0; i < v->n; i++) {
		if (v->types[i] != 0 && same(v->tokens[i], wanted)) {
			return i;
		}
	}
	return BN_TOKEN_NONE;
}

/* Puts a token; one that is there already must be spelled the same, and takes the new type. */
static enum bn_status put(struct builder *b, const char *file, uint64_t id, struct bn_str text,
			  int32_t type)
{
	struct bn_hfvocab *v = b->v;
	const int shown = (int)(text.n < 64 ? text.n : 64);

	if (id >= v->n) {
		return bn_fail(b->err, BN_E_FORMAT,
			       "%s: token '%.*s' has the id %llu; the embedding has %u rows", file,
			       shown, text.p, (unsigned long long)id, v->n);
	}
	if (text.n > BN_TOKENIZER_TOKEN_BYTES) {
		return bn_fail(b->err, BN_E_FORMAT, "%s: token %llu has %zu bytes; at most %d",
			       file, (unsigned long long)id, text.n, BN_TOKENIZER_TOKEN_BYTES);
	}
	if (v->types[id] != 0 && !same(v->tokens[id], text)) {
		return bn_fail(b->err, BN_E_FORMAT, "%s: id %llu is both '%.*s' and '%.*s'", file,
			       (unsigned long long)id,
			       (int)(v->tokens[id].n < 64 ? v->tokens[id].n : 64), v->tokens[id].p,
			       shown, text.p);
	}
	v->n_named += v->types[id] == 0;
	v->tokens[id] = text;
	v->types[id] = type;
	return BN_OK;
}

static enum bn_status take_arrays(struct builder *b, uint32_t rows)
{
	b->v->n = rows;
	b->v->tokens = calloc(rows, sizeof(*b->v->tokens));
	b->v->types = calloc(rows, sizeof(*b->v->types));
	if (b->v->kind == BN_TOKENIZER_SPM) {
		b->v->scores = calloc(rows, sizeof(*b->v->scores));
	}
	return b->v->tokens == NULL || b->v->types == NULL ||
			       (b->v->kind == BN_TOKENIZER_SPM && b->v->scores == NULL)
		       ? no_memory(b)
		       : BN_OK;
}

/* { "id": 7, "content": "<|x|>", "special": true } */
static enum bn_status put_added(struct builder *b, const char *file, uint64_t id,
				const json_t *entry)
{
	const char *content = json_string_value(json_object_get(entry, "content"));
	const bool special = json_is_true(json_object_get(entry, "special"));
	enum bn_status status;
	bool is_new;

	if (content == NULL || content[0] == '\0') {
		return bn_fail(b->err, BN_E_FORMAT, "%s: added token %llu has no content", file,
			       (unsigned long long)id);
	}
	is_new = id < b->v->n && b->v->types[id] == 0;
	/* What SentencePiece itself marks (<s>, <unk>, bytes) keeps its type. */
	if (!is_new && id < b->v->n && b->v->types[id] != BN_TOKEN_NORMAL) {
		return put(b, file, id, str(content), b->v->types[id]);
	}
	status = put(b, file, id, str(content), special ? BN_TOKEN_CONTROL : BN_TOKEN_USER_DEFINED);
	if (status == BN_OK && is_new && b->v->scores != NULL) {
		b->v->scores[id] = ADDED_SCORE;
	}
	return status;
}

static enum bn_status put_added_list(struct builder *b)
{
	const json_t *list = bn_json_get(b->s->tokenizer, "added_tokens");
	enum bn_status status = BN_OK;
	size_t i;
	json_t *entry;

	if (list == NULL) {
		return BN_OK;
	}
	if (!json_is_array(list)) {
		return bn_fail(b->err, BN_E_FORMAT, "tokenizer.json: 'added_tokens' is no array");
	}
	json_array_foreach(list, i, entry)
	{
		uint32_t id;

		status = bn_json_u32(entry, "id", 0, UINT32_MAX, &id, b->err);
		if (status != BN_OK) {
			return b->err == NULL
				       ? status
				       : bn_wrap(b->err, "tokenizer.json: added_tokens[%zu]", i);
		}
		status = put_added(b, "tokenizer.json", id, entry);
		if (status != BN_OK) {
			break;
		}
	}
	return status;
}

/* The older places for the same: { "<pad>": 32000 } and { "32000": { "content": "<pad>" } }. */
static enum bn_status put_added_maps(struct builder *b)
{
	json_t *decoder = bn_json_get(b->s->config, "added_tokens_decoder");
	enum bn_status status = BN_OK;
	const char *key;
	json_t *value;

	json_object_foreach(decoder, key, value)
	{
		char *end;
		const unsigned long long id = strtoull(key, &end, 10);

		if (*key < '0' || *key > '9' || *end != '\0') {
			return bn_fail(b->err, BN_E_FORMAT,
				       "tokenizer_config.json: added_tokens_decoder has the key "
				       "'%.32s', which is no id",
				       key);
		}
		status = put_added(b, "tokenizer_config.json", id, value);
		if (status != BN_OK) {
			return status;
		}
	}
	json_object_foreach(b->s->added, key, value)
	{
		if (!json_is_integer(value) || json_integer_value(value) < 0) {
			return bn_fail(
				b->err, BN_E_FORMAT,
				"added_tokens.json: the id of '%.64s' is no integer from 0 on",
				key);
		}

		const uint64_t id = (uint64_t)json_integer_value(value);
		const bool is_new = id < b->v->n && b->v->types[id] == 0;

		if (is_new || id >= b->v->n) {
			status = put(b, "added_tokens.json", id, str(key), BN_TOKEN_CONTROL);
		} else {
			status = put(b, "added_tokens.json", id, str(key), b->v->types[id]);
		}
		if (status != BN_OK) {
			return status;
		}
		if (is_new && b->v->scores != NULL) {
			b->v->scores[id] = ADDED_SCORE;
		}
	}
	return BN_OK;
}

/* Rows without a token: named as other converters do, so that files compare. */
static enum bn_status put_pads(struct builder *b)
{
	struct bn_hfvocab *v = b->v;
	const uint32_t n = v->n - v->n_named;
	char *at;

	if (n == 0) {
		return BN_OK;
	}
	at = b->s->pads = calloc(n, PAD_BYTES);
	if (at == NULL) {
		return no_memory(b);
	}
	for (uint32_t i = 0; i < v->n; i++) {
		if (v->types[i] == 0) {
			snprintf(at, PAD_BYTES, "[PAD%u]", i);
			v->tokens[i] = str(at);
			v->types[i] = BN_TOKEN_UNUSED;
			if (v->scores != NULL) {
				v->scores[i] = ADDED_SCORE;
			}
			at += PAD_BYTES;
		}
	}
	notice(v, "the embedding has %u rows and the tokenizer %u tokens: the rest is padding",
	       v->n, v->n - n);
	return BN_OK;
}

/* What the vocabulary's size says of the splitter when its parts do not: only published models. */
static const char *splitter_by_size(uint32_t n)
{
	switch (n) {
	case 128256:
		return "llama-bpe";
	case 131072:
	case 131080:
	case 32768:
		return "falcon3";
	default:
		return NULL;
	}
}

static enum bn_status choose_pre(struct builder *b)
{
	b->v->pre = bn_hfprogram_splitter(b->s->tokenizer);
	if (b->v->pre != NULL) {
		return BN_OK;
	}
	b->v->pre = splitter_by_size(b->v->n);
	if (b->v->pre == NULL) {
		return bn_fail(
			b->err, BN_E_NOT_SUPPORTED,
			"tokenizer.json: its pre_tokenizer is none that is known; the splitters "
			"of Llama-3, Falcon3, Falcon-E, Qwen2 and GPT-2 are");
	}
	notice(b->v, "tokenizer.json has an unknown pre_tokenizer; by its %u tokens '%s' is used",
	       b->v->n, b->v->pre);
	return BN_OK;
}

/* GGUF does not say whether texts are composed: the splitter's name stands for that too. */
static void tell_normalizer(struct builder *b)
{
	const char *normalizer = bn_hfprogram_normalizer(b->s->tokenizer);
	const bool asked = normalizer != NULL && strcmp(normalizer, "NFC") == 0;
	const bool done = bn_pretokenizer_find(b->v->pre, strlen(b->v->pre))->nfc;

	if (done && !asked) {
		notice(b->v, "tokenizer.json does not ask for NFC; bnd composes texts for '%s'",
		       b->v->pre);
	}
	if (normalizer != NULL && !(asked && done)) {
		notice(b->v, "tokenizer.json normalizes texts (%.40s); bnd takes them as they are",
		       normalizer);
	}
}

/* --- tokenizer.json: the model --------------------------------------------------------------- */

static enum bn_status put_vocab(struct builder *b, json_t *model)
{
	json_t *vocab = json_object_get(model, "vocab");
	const char *text;
	json_t *id;

	if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
		return bn_fail(b->err, BN_E_FORMAT,
			       "tokenizer.json: 'model.vocab' is no object of tokens");
	}
	json_object_foreach(vocab, text, id)
	{
		enum bn_status status;

		if (!json_is_integer(id) || json_integer_value(id) < 0) {
			return bn_fail(
				b->err, BN_E_FORMAT,
				"tokenizer.json: the id of token '%.64s' is no integer from 0 on",
				text);
		}
		status = put(b, "tokenizer.json", (uint64_t)json_integer_value(id), str(text),
			     BN_TOKEN_NORMAL);
		if (status != BN_OK) {
			return status;
		}
	}
	return BN_OK;
}

static bool is_byte_token(struct bn_str t)
{
	static const char hex[] = "0123456789ABCDEF";

	return t.n == 6 && memcmp(t.p, "<0x", 3) == 0 && t.p[5] == '>' &&
	       memchr(hex, t.p[3], 16) != NULL && memchr(hex, t.p[4], 16) != NULL;
}

static void type_spm_tokens(struct builder *b, const json_t *model)
{
	const char *unk = json_string_value(json_object_get(model, "unk_token"));

	for (uint32_t i = 0; i < b->v->n; i++) {
		if (b->v->types[i] == BN_TOKEN_NORMAL && is_byte_token(b->v->tokens[i])) {
			b->v->types[i] = BN_TOKEN_BYTE;
		} else if (b->v->types[i] != 0 && unk != NULL && same(b->v->tokens[i], str(unk))) {
			b->v->types[i] = BN_TOKEN_UNKNOWN;
			b->v->unk = i;
		}
	}
}

/* Scores for SentencePiece, which has no merges in GGUF; merges for byte-level BPE. */
static enum bn_status use_merges(struct builder *b, const json_t *model)
{
	if (b->v->kind == BN_TOKENIZER_SPM) {
		b->v->add_space_prefix = bn_hfprogram_prepends_space(b->s->tokenizer);
		return bn_hfmerges_scores(&b->s->merges, json_object_get(model, "vocab"),
					  b->v->scores, b->v->n, b->err);
	}
	b->v->merges = b->s->merges.list;
	b->v->n_merges = b->s->merges.n;
	return BN_OK;
}

static enum bn_status build_json(struct builder *b, uint32_t rows)
{
	json_t *model = json_object_get(b->s->tokenizer, "model");
	enum bn_status status = bn_hfprogram_kind(b->s->tokenizer, &b->v->kind, b->err);

	if (status == BN_OK) {
		status = take_arrays(b, rows);
	}
	if (status == BN_OK) {
		status = put_vocab(b, model);
	}
	if (status == BN_OK) {
		status = bn_hfmerges_read(&b->s->merges, model, b->err);
	}
	if (status == BN_OK) {
		status = use_merges(b, model);
	}
	if (status == BN_OK) {
		status = put_added_list(b);
	}
	if (status != BN_OK) {
		return status;
	}
	if (b->v->kind == BN_TOKENIZER_SPM) {
		type_spm_tokens(b, model);
		b->v->pre = "default";
		return BN_OK;
	}
	status = choose_pre(b);
	if (status == BN_OK) {
		tell_normalizer(b);
	}
	return status;
}

static enum bn_status build_spm(struct builder *b, const struct bn_sentencepiece *sp, uint32_t rows)
{
	enum bn_status status;

	b->v->kind = BN_TOKENIZER_SPM;
	b->v->pre = "default";
	b->v->add_space_prefix = sp->add_dummy_prefix;
	status = take_arrays(b, rows);
	for (uint32_t i = 0; i < sp->n && status == BN_OK; i++) {
		status = put(b, "tokenizer.model", i, sp->pieces[i].text, sp->pieces[i].type);
		if (status == BN_OK) {
			b->v->scores[i] = sp->pieces[i].score;
		}
	}
	if (status == BN_OK) {
		b->v->unk = sp->unk >= 0 ? (bn_token)sp->unk : BN_TOKEN_NONE;
		b->v->bos = sp->bos >= 0 ? (bn_token)sp->bos : BN_TOKEN_NONE;
		b->v->eos = sp->eos >= 0 ? (bn_token)sp->eos : BN_TOKEN_NONE;
		b->v->pad = sp->pad >= 0 ? (bn_token)sp->pad : BN_TOKEN_NONE;
		status = put_added_list(b);
	}
	if (status == BN_OK && sp->normalizes) {
		notice(b->v, "tokenizer.model normalizes texts; bnd takes them as they are");
	}
	return status;
}

/*
 * tokenizer.model wins where it is a SentencePiece model and tokenizer.json is not byte-level (some
 * repositories of byte-level models keep Llama's tiktoken file under that name).
 */
static enum bn_status build(struct builder *b, uint32_t rows)
{
	const json_t *t = b->s->tokenizer;
	struct bn_sentencepiece sp = { 0 };
	enum bn_status status;

	if (b->s->model == NULL || bn_hfprogram_is_byte_level(t)) {
		return t != NULL ? build_json(b, rows)
				 : bn_fail(b->err, BN_E_IO,
					   "the folder has neither tokenizer.json nor "
					   "tokenizer.model");
	}
	status = bn_sentencepiece_parse(&sp, b->s->model, b->s->model_bytes, b->err);
	if (status != BN_OK) {
		return b->err == NULL ? status : bn_wrap(b->err, "tokenizer.model");
	}
	status = build_spm(b, &sp, rows);
	bn_sentencepiece_finish(&sp);
	return status;
}

/* --- tokenizer_config.json ------------------------------------------------------------------- */

/* "bos_token": "<s>" or { "content": "<s>" }. */
static void find_special(struct builder *b, const char *key, bn_token *out)
{
	const json_t *value = bn_json_get(b->s->config, key);
	const char *text = json_string_value(
		json_is_object(value) ? json_object_get(value, "content") : value);

	if (text != NULL) {
		const bn_token id = bn_hfvocab_find(b->v, text);

		if (id == BN_TOKEN_NONE) {
			notice(b->v, "tokenizer_config.json: %s '%.40s' is no token", key, text);
		} else {
			*out = id;
		}
	}
}

/* True when the program says which tokens go around a text. */
static bool read_program_specials(struct builder *b)
{
	const char *first, *last;

	if (!bn_hfprogram_specials(b->s->tokenizer, &first, &last)) {
		return false;
	}
	b->v->add_bos = first != NULL;
	b->v->add_eos = last != NULL;
	if (first != NULL && b->v->bos == BN_TOKEN_NONE) {
		b->v->bos = bn_hfvocab_find(b->v, first);
	}
	if (last != NULL && bn_hfvocab_find(b->v, last) != BN_TOKEN_NONE) {
		b->v->eos = bn_hfvocab_find(b->v, last);
	}
	return true;
}

static enum bn_status read_special(struct builder *b)
{
	const bool spm = b->v->kind == BN_TOKENIZER_SPM;
	enum bn_status status = BN_OK;
	bool flag;

	find_special(b, "bos_token", &b->v->bos);
	find_special(b, "eos_token", &b->v->eos);
	find_special(b, "unk_token", &b->v->unk);
	find_special(b, "pad_token", &b->v->pad);
	/* Without any word on it: SentencePiece models begin with bos, and Llama-3's. */
	b->v->add_bos = spm || (b->v->bos != BN_TOKEN_NONE &&
				same(b->v->tokens[b->v->bos], str("<|begin_of_text|>")));
	if (read_program_specials(b)) {
		return BN_OK;
	}
	if (bn_json_get(b->s->config, "add_bos_token") != NULL) {
		status = bn_json_bool(b->s->config, "add_bos_token", &b->v->add_bos, b->err);
	}
	if (status == BN_OK && bn_json_get(b->s->config, "add_eos_token") != NULL) {
		status = bn_json_bool(b->s->config, "add_eos_token", &flag, b->err);
		b->v->add_eos = status == BN_OK && flag;
	}
	return status == BN_OK || b->err == NULL ? status
						 : bn_wrap(b->err, "tokenizer_config.json");
}

/* A string, or a list of named ones of which "default" is meant. */
static void read_template(struct builder *b)
{
	const json_t *value = bn_json_get(b->s->config, "chat_template");
	size_t i;
	json_t *entry;

	b->v->chat_template = b->s->template != NULL ? b->s->template : json_string_value(value);
	if (!json_is_array(value) || b->v->chat_template != NULL) {
		return;
	}
	json_array_foreach(value, i, entry)
	{
		const char *name = json_string_value(json_object_get(entry, "name"));
		const char *text = json_string_value(json_object_get(entry, "template"));

		if (text != NULL && (b->v->chat_template == NULL ||
				     (name != NULL && strcmp(name, "default") == 0))) {
			b->v->chat_template = text;
		}
	}
}

enum bn_status bn_hfvocab_load(struct bn_hfvocab *out, int dirfd, uint32_t rows,
			       struct bn_error *err)
{
	struct bn_hfvocab v = {
		.bos = BN_TOKEN_NONE,
		.eos = BN_TOKEN_NONE,
		.unk = BN_TOKEN_NONE,
		.pad = BN_TOKEN_NONE,
	};
	struct builder b = { .v = &v, .dirfd = dirfd, .err = err };
	enum bn_status status;

	b.s = v.sources = calloc(1, sizeof(*v.sources));
	if (b.s == NULL) {
		return no_memory(&b);
	}
	status = load_sources(&b);
	if (status == BN_OK) {
		status = build(&b, rows);
	}
	if (status == BN_OK) {
		status = put_added_maps(&b);
	}
	if (status == BN_OK) {
		status = read_special(&b);
	}
	if (status == BN_OK) {
		status = put_pads(&b);
	}
	if (status != BN_OK) {
		bn_hfvocab_finish(&v);
		return status;
	}
	read_template(&b);
	*out = v;
	return BN_OK;
}

void bn_hfvocab_finish(struct bn_hfvocab *v)
{
	struct bn_hfvocab_sources *s = v->sources;

	free(v->tokens);
	free(v->types);
	free(v->scores);
	if (s != NULL) {
		json_decref(s->tokenizer);
		json_decref(s->config);
		json_decref(s->added);
		free(s->model);
		free(s->template);
		bn_hfmerges_finish(&s->merges);
		free(s->pads);
		free(s);
	}
	memset(v, 0, sizeof(*v));
}
