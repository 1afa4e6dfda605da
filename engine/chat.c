#include "engine/chat.h"

#include "engine/unicode.h"
#include "engine/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A template is a list of parts. Text parts and message contents that meet are encoded together,
 * as one text, because that is how models saw them ("Assistant: " + "Hi" is not the tokens of the
 * one followed by those of the other); control tokens end such a run. Every run is encoded with
 * control tokens disabled, the template's own text included.
 *
 * Exact wordings and where they come from: design paper "models", section 6.
 */

enum part_kind {
	END,
	TEXT,      /* plain text                                                      */
	SEPARATOR, /* plain text, left out behind the last message                    */
	TOKEN,     /* a control token the vocabulary must have                        */
	ROLE,      /* "user"                                                          */
	ROLE_NAME, /* "User"                                                          */
	ROLE_TAG,  /* "<|user|>", a control token where the vocabulary has it, else text */
	CONTENT,
	TRIMMED, /* content without the white space around it, as Python's strip()  */
};

struct part {
	enum part_kind kind;
	const char *text;
};

enum { MAX_PARTS = 8, MAX_STOPS = 3 };

struct bn_chat_template {
	const char *name;
	struct part message[MAX_PARTS];   /* of a system or user message      */
	struct part answer[MAX_PARTS];    /* of an assistant message          */
	struct part opening[MAX_PARTS];   /* what the model continues         */
	bool bos;                         /* begins with bos even where the tokenizer adds none */
	const char *stop_tags[MAX_STOPS]; /* stop tokens, or stop texts where they are no tokens */
	const char *stop_texts[MAX_STOPS];
};

#define BITNET_MESSAGE                                                                           \
	{                                                                                        \
		{ ROLE_NAME, NULL }, { TEXT, ": " }, { TRIMMED, NULL }, { TOKEN, "<|eot_id|>" }, \
	}
#define LLAMA3_MESSAGE                                                                            \
	{                                                                                         \
		{ TOKEN, "<|start_header_id|>" }, { ROLE, NULL }, { TOKEN, "<|end_header_id|>" }, \
			{ TEXT, "\n\n" }, { TRIMMED, NULL }, { TOKEN, "<|eot_id|>" },             \
	}
#define CHATML_MESSAGE                                                                        \
	{                                                                                     \
		{ TOKEN, "<|im_start|>" }, { ROLE, NULL }, { TEXT, "\n" }, { CONTENT, NULL }, \
			{ TOKEN, "<|im_end|>" }, { TEXT, "\n" },                              \
	}
#define PLAIN_MESSAGE                                                                   \
	{                                                                               \
		{ ROLE_NAME, NULL }, { TEXT, ": " }, { TRIMMED, NULL }, { TEXT, "\n" }, \
	}

static const struct bn_chat_template table[] = {
	{
		.name = "bitnet-2b4t",
		.message = BITNET_MESSAGE,
		.answer = BITNET_MESSAGE,
		.opening = { { TEXT, "Assistant: " } },
		.bos = true,
	},
	{
		.name = "llama3",
		.message = LLAMA3_MESSAGE,
		.answer = LLAMA3_MESSAGE,
		.opening = { { TOKEN, "<|start_header_id|>" },
			     { TEXT, "assistant" },
			     { TOKEN, "<|end_header_id|>" },
			     { TEXT, "\n\n" } },
		.bos = true,
	},
	{
		.name = "falcon3",
		.message = { { ROLE_TAG, NULL },
			     { TEXT, "\n" },
			     { CONTENT, NULL },
			     { TEXT, "\n" } },
		.answer = { { ROLE_TAG, NULL },
			    { TEXT, "\n" },
			    { CONTENT, NULL },
			    { TOKEN, "<|endoftext|>" },
			    { SEPARATOR, "\n" } },
		.opening = { { ROLE_TAG, NULL }, { TEXT, "\n" } },
		.stop_tags = { "<|user|>" },
	},
	{
		.name = "chatml",
		.message = CHATML_MESSAGE,
		.answer = CHATML_MESSAGE,
		.opening = { { TOKEN, "<|im_start|>" }, { TEXT, "assistant\n" } },
	},
	{
		.name = "plain",
		.message = PLAIN_MESSAGE,
		.answer = PLAIN_MESSAGE,
		.opening = { { TEXT, "Assistant:" } },
		.stop_texts = { "\nUser:" },
	},
	{
		.name = "none",
	},
};

enum { TEMPLATES = sizeof(table) / sizeof(table[0]) };

static const char *const roles[] = { "system", "user", "assistant" };
static const char *const role_names[] = { "System", "User", "Assistant" };
static const char *const role_tags[] = { "<|system|>", "<|user|>", "<|assistant|>" };

enum { ROLES = 3, ASSISTANT = 2 };

/* --- choosing --------------------------------------------------------------------------------- */

static const struct bn_chat_template *find(const char *name)
{
	for (size_t i = 0; i < TEMPLATES; i++) {
		if (strcmp(table[i].name, name) == 0) {
			return &table[i];
		}
	}
	return NULL;
}

const char *bn_chat_name(const struct bn_chat_template *chat)
{
	return chat->name;
}

const char *bn_chat_name_at(size_t i)
{
	return i < TEMPLATES ? table[i].name : NULL;
}

bool bn_chat_is_usable(const struct bn_chat_template *chat)
{
	return chat->message[0].kind != END;
}

/* A control token by its spelling; BN_TOKEN_NONE when there is none, or it is ordinary text. */
static bn_token control(const struct bn_tokenizer *tok, const char *spelling)
{
	bn_token id = bn_tokenizer_find(tok, spelling, strlen(spelling));

	return bn_tokenizer_is_control(tok, id) ? id : BN_TOKEN_NONE;
}

/* The first control token the template needs and the vocabulary lacks, or NULL. */
static const char *missing(const struct bn_chat_template *chat, const struct bn_tokenizer *tok)
{
	const struct part *const lists[] = { chat->message, chat->answer, chat->opening };

	for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
		for (const struct part *p = lists[l]; p < lists[l] + MAX_PARTS; p++) {
			if (p->kind == TOKEN && control(tok, p->text) == BN_TOKEN_NONE) {
				return p->text;
			}
		}
	}
	return NULL;
}

static bool is(struct bn_str s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static bool contains(struct bn_str s, const char *text)
{
	return s.n > 0 && memmem(s.p, s.n, text, strlen(text)) != NULL;
}

/* The row a Jinja template looks like, or NULL. */
static const struct bn_chat_template *recognise(struct bn_str jinja)
{
	if (contains(jinja, "capitalize") && contains(jinja, "<|eot_id|>")) {
		return find("bitnet-2b4t");
	}
	if (contains(jinja, "<|im_start|>")) {
		return find("chatml");
	}
	if (contains(jinja, "<|start_header_id|>")) {
		return find("llama3");
	}
	/* Phi-3 uses the same tags, but closes each message with <|end|>. */
	if (contains(jinja, "<|user|>") && contains(jinja, "<|assistant|>") &&
	    !contains(jinja, "<|end|>")) {
		return find("falcon3");
	}
	return NULL;
}

static enum bn_status choose_override(const struct bn_chat_hint *hint,
				      const struct bn_chat_template **out, struct bn_error *err)
{
	const struct bn_chat_template *chat = find(hint->override);
	const char *lacking;

	if (chat == NULL) {
		char names[128] = "auto";

		for (size_t i = 0; i < TEMPLATES; i++) {
			size_t n = strlen(names);

			snprintf(names + n, sizeof(names) - n, ", %s", table[i].name);
		}
		return bn_fail(err, BN_E_CONFIG, "chat template '%s' is not known; known are %s",
			       hint->override, names);
	}
	lacking = missing(chat, hint->tok);
	if (lacking != NULL) {
		return bn_fail(err, BN_E_CONFIG,
			       "chat template '%s' needs the control token '%s', which this "
			       "model's vocabulary lacks; choose another or 'auto'",
			       chat->name, lacking);
	}
	*out = chat;
	return BN_OK;
}

enum bn_status bn_chat_choose(const struct bn_chat_hint *hint, const struct bn_chat_template **out,
			      const char **warning, struct bn_error *err)
{
	uint32_t n_tokens = bn_tokenizer_size(hint->tok);
	const struct bn_chat_template *chat = NULL;

	*warning = NULL;
	if (hint->override != NULL && strcmp(hint->override, "auto") != 0) {
		return choose_override(hint, out, err);
	}

	if (hint->published != NULL && missing(find(hint->published), hint->tok) == NULL) {
		chat = find(hint->published);
	} else if (is(hint->architecture, "bitnet-b1.58") || is(hint->architecture, "bitnet-25") ||
		   is(hint->architecture, "bitnet")) {
		if (n_tokens == 128256) {
			chat = find("bitnet-2b4t");
		} else if (n_tokens == 32002) {
			chat = find("none");
		}
	}
	if (chat == NULL && hint->file_template.n == 0) {
		chat = find("none");
	}
	if (chat == NULL) {
		chat = recognise(hint->file_template);
	}
	if (chat != NULL && missing(chat, hint->tok) == NULL) {
		*out = chat;
		return BN_OK;
	}

	chat = find("chatml");
	*warning = "the file's chat template is not known; ChatML is used, because its control "
		   "tokens exist; `template` in bnd.yaml overrides this";
	if (missing(chat, hint->tok) != NULL) {
		chat = find("plain");
		*warning = "the file's chat template is not known; plain User: and Assistant: "
			   "lines are used, answers may be worse; `template` in bnd.yaml "
			   "overrides this";
	}
	*out = chat;
	return BN_OK;
}

/* --- stopping --------------------------------------------------------------------------------- */

bool bn_chat_is_stop(const struct bn_chat_template *chat, const struct bn_tokenizer *tok,
		     bn_token id)
{
	if (bn_tokenizer_is_eog(tok, id)) {
		return true;
	}
	if (!bn_tokenizer_is_control(tok, id)) {
		return false;
	}
	for (size_t i = 0; i < MAX_STOPS && chat->stop_tags[i] != NULL; i++) {
		if (is(bn_tokenizer_text(tok, id), chat->stop_tags[i])) {
			return true;
		}
	}
	return false;
}

const char *bn_chat_stop_text(const struct bn_chat_template *chat, const struct bn_tokenizer *tok,
			      size_t i)
{
	for (size_t k = 0; k < MAX_STOPS && chat->stop_tags[k] != NULL; k++) {
		if (control(tok, chat->stop_tags[k]) == BN_TOKEN_NONE && i-- == 0) {
			return chat->stop_tags[k];
		}
	}
	return i < MAX_STOPS ? chat->stop_texts[i] : NULL;
}

/* --- encoding --------------------------------------------------------------------------------- */

/* One bn_chat_encode call. */
struct writer {
	const struct bn_tokenizer *tok;
	struct bn_encode_options options; /* `continues` is true once a token is out */
	struct bn_tokens *out;
	struct bn_error *err;
	char *run; /* text not yet encoded */
	size_t n;
	size_t capacity;
};

static enum bn_status add_text(struct writer *w, const char *text, size_t n)
{
	size_t need = w->n + n;

	if (n == 0) {
		return BN_OK;
	}
	if (need > w->capacity) {
		size_t capacity = need < 1024 ? 1024 : need + need / 2;
		char *run = realloc(w->run, capacity);

		if (run == NULL) {
			return bn_fail(w->err, BN_E_MEMORY, "no memory for a chat of %zu bytes",
				       need);
		}
		w->run = run;
		w->capacity = capacity;
	}
	memcpy(w->run + w->n, text, n);
	w->n = need;
	return BN_OK;
}

static enum bn_status flush(struct writer *w)
{
	enum bn_status status = BN_OK;

	if (w->n > 0) {
		status = bn_tokenizer_encode(w->tok, w->run, w->n, &w->options, w->out, w->err);
		w->n = 0;
		w->options.continues = true;
	}
	return status;
}

static enum bn_status add_token(struct writer *w, bn_token id)
{
	enum bn_status status = flush(w);

	w->options.continues = true;
	return status != BN_OK ? status : bn_tokens_push(w->out, id, w->err);
}

/* White space of Python's str.strip(), which Jinja's trim is. */
static bool is_python_space(uint32_t cp)
{
	enum bn_class class = bn_unicode_class(cp);

	return class == BN_CLASS_SPACE || class == BN_CLASS_NEWLINE || (cp >= 0x1C && cp <= 0x1F);
}

static struct bn_str trim(struct bn_str s)
{
	while (s.n > 0) {
		uint32_t cp;
		size_t n = bn_utf8_decode(s.p, s.n, &cp);

		if (!is_python_space(cp)) {
			break;
		}
		s.p += n;
		s.n -= n;
	}
	while (s.n > 0) {
		size_t n = 1;
		uint32_t cp;

		while (n < 4 && n < s.n && ((unsigned char)s.p[s.n - n] & 0xC0) == 0x80) {
			n++;
		}
		if (bn_utf8_decode(s.p + s.n - n, n, &cp) != n || !is_python_space(cp)) {
			break;
		}
		s.n -= n;
	}
	return s;
}

static enum bn_status add_tag(struct writer *w, const char *tag)
{
	bn_token id = control(w->tok, tag);

	return id != BN_TOKEN_NONE ? add_token(w, id) : add_text(w, tag, strlen(tag));
}

static enum bn_status add_part(struct writer *w, const struct part *part, size_t role,
			       struct bn_str content, bool last)
{
	switch (part->kind) {
	case END:
		break;
	case SEPARATOR:
		if (last) {
			break;
		}
		return add_text(w, part->text, strlen(part->text));
	case TEXT:
		return add_text(w, part->text, strlen(part->text));
	case TOKEN:
		return add_token(w, control(w->tok, part->text)); /* it exists: bn_chat_choose */
	case ROLE:
		return add_text(w, roles[role], strlen(roles[role]));
	case ROLE_NAME:
		return add_text(w, role_names[role], strlen(role_names[role]));
	case ROLE_TAG:
		return add_tag(w, role_tags[role]);
	case TRIMMED:
		content = trim(content);
		return add_text(w, content.p, content.n);
	case CONTENT:
		return add_text(w, content.p, content.n);
	}
	return BN_OK;
}

static enum bn_status add_parts(struct writer *w, const struct part *parts, size_t role,
				struct bn_str content, bool last)
{
	enum bn_status status = BN_OK;

	for (size_t i = 0; i < MAX_PARTS && parts[i].kind != END && status == BN_OK; i++) {
		status = add_part(w, &parts[i], role, content, last);
	}
	return status;
}

/* Index into `roles`, or ROLES. */
static size_t role_of(struct bn_str role)
{
	size_t i = 0;

	while (i < ROLES && !is(role, roles[i])) {
		i++;
	}
	return i;
}

static enum bn_status refuse_role(size_t i, struct bn_str role, struct bn_error *err)
{
	char field[48];
	enum bn_status status;

	snprintf(field, sizeof(field), "messages[%zu].role", i);
	if (is(role, "tool") || is(role, "function") || is(role, "developer")) {
		status = bn_fail(err, BN_E_INVALID,
				 "%s: messages of role '%.*s' are not supported yet; send their "
				 "text as 'user' or 'system'",
				 field, (int)role.n, role.p);
	} else {
		status = bn_fail(err, BN_E_INVALID,
				 "%s is '%.*s'; it must be 'system', 'user' or 'assistant'", field,
				 (int)(role.n < 32 ? role.n : 32), role.n > 0 ? role.p : "");
	}
	bn_error_string(err, "param", field);
	return status;
}

/* Everything that can be refused before work begins. */
static enum bn_status check(const struct bn_chat_template *chat,
			    const struct bn_chat_message *messages, size_t n, size_t limit,
			    struct bn_error *err)
{
	size_t total = 0;

	if (!bn_chat_is_usable(chat)) {
		return bn_fail(
			err, BN_E_NOT_SUPPORTED,
			"this is a base model, it has no chat template and continues text; use "
			"completions (bnctl run), an instruct model (bnctl models lists them), or "
			"set `template` of the model in bnd.yaml");
	}
	if (n == 0 || n > BN_CHAT_MAX_MESSAGES) {
		enum bn_status status =
			bn_fail(err, BN_E_INVALID, "messages has %zu entries; 1 to %d are allowed",
				n, BN_CHAT_MAX_MESSAGES);

		bn_error_string(err, "param", "messages");
		return status;
	}
	for (size_t i = 0; i < n; i++) {
		if (role_of(messages[i].role) == ROLES) {
			return refuse_role(i, messages[i].role, err);
		}
		if (messages[i].content.n > limit - total) {
			enum bn_status status =
				bn_fail(err, BN_E_TOO_LARGE,
					"the messages are longer than the %zu bytes that may be "
					"tokenized",
					limit);

			bn_error_number(err, "limit", (int64_t)limit);
			return status;
		}
		total += messages[i].content.n;
	}
	return BN_OK;
}

enum bn_status bn_chat_encode(const struct bn_chat_template *chat, const struct bn_tokenizer *tok,
			      const struct bn_chat_message *messages, size_t n,
			      const struct bn_chat_options *options, struct bn_tokens *out,
			      struct bn_error *err)
{
	static const struct bn_chat_options none = { 0 };
	struct writer w = { .tok = tok, .out = out, .err = err };
	size_t n_before = out->n;
	/* Half of what the tokenizer takes, so that frames never make a text too long. */
	size_t limit = BN_TOKENIZER_TEXT_BYTES / 2;
	enum bn_status status;

	if (options == NULL) {
		options = &none;
	}
	if (options->max_bytes > 0 && options->max_bytes < limit) {
		limit = options->max_bytes;
	}
	status = check(chat, messages, n, limit, err);
	if (status != BN_OK) {
		return status;
	}

	w.options.cancel = options->cancel;
	if ((chat->bos || bn_tokenizer_adds_bos(tok)) && bn_tokenizer_bos(tok) != BN_TOKEN_NONE) {
		status = bn_tokens_push(out, bn_tokenizer_bos(tok), err);
	}
	for (size_t i = 0; i < n && status == BN_OK; i++) {
		size_t role = role_of(messages[i].role);

		status = add_parts(&w, role == ASSISTANT ? chat->answer : chat->message, role,
				   messages[i].content, i + 1 == n);
	}
	if (status == BN_OK && !options->no_generation_prompt) {
		status = add_parts(&w, chat->opening, ASSISTANT, (struct bn_str){ "", 0 }, true);
	}
	if (status == BN_OK) {
		status = flush(&w);
	}
	free(w.run);
	if (status != BN_OK) {
		out->n = n_before;
	}
	return status;
}
