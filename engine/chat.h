/*
 * Chat messages to tokens, by the templates ternary models were trained with, and the choice of
 * the template for a model.
 *
 * It does not run Jinja and does not read templates out of files (it only recognises them): each
 * known template is one const row. And it never lets text become control: literals of the row are
 * looked up as control tokens, text of messages is encoded with control tokens disabled, so
 * "<|eot_id|>" typed by a user is eleven or so ordinary characters (reliability T26). What a
 * template's vocabulary spells as plain text ("<|user|>" in Falcon3) a user can spell too.
 */
#ifndef BN_ENGINE_CHAT_H
#define BN_ENGINE_CHAT_H

#include "engine/cursor.h"
#include "engine/tokenizer.h"
#include "proto/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { BN_CHAT_MAX_MESSAGES = 4096 };

/* A template: one row of a const table, shared by all models that use it. Opaque. */
struct bn_chat_template;

/* One message; borrowed. Valid UTF-8 (broken bytes would become U+FFFD). */
struct bn_chat_message {
	struct bn_str role; /* "system", "user" or "assistant" */
	struct bn_str content;
};

/* What is known of a model when its template is chosen. Everything but `tok` may be absent. */
struct bn_chat_hint {
	const char *override;        /* name from the configuration; NULL or "auto": choose       */
	const char *published;       /* name from engine/guide.h when the file is sure to be one of
					its models; NULL                                          */
	struct bn_str architecture;  /* general.architecture                                      */
	struct bn_str file_template; /* tokenizer.chat_template, Jinja text; only recognised      */
	const struct bn_tokenizer *tok;
};

/*
 * Chooses. Order: the override; what the guide knows of the published model; the family
 * ("bitnet-b1.58", "bitnet-25" and "bitnet" with 128256 tokens use bitnet-2b4t, whatever their file
 * says, for the published file is wrong; with 32002 tokens they are base models); what the file's
 * template is recognised as; none without a file template; for an unknown one chatml if the tokens
 * exist, else plain, and *warning is a static sentence for the log (NULL otherwise). BN_E_CONFIG
 * for an override that does not exist or whose control tokens the vocabulary lacks, with the names
 * that do exist. Any thread.
 */
BN_MUST_USE enum bn_status bn_chat_choose(const struct bn_chat_hint *hint,
					  const struct bn_chat_template **out, const char **warning,
					  struct bn_error *err);

/* "bitnet-2b4t", "llama3", "falcon3", "chatml", "plain" or "none": static. */
const char *bn_chat_name(const struct bn_chat_template *chat);

/* The i-th name a configuration may use, NULL past the end. */
const char *bn_chat_name_at(size_t i);

/* False for "none": the model completes text, bn_chat_encode refuses. */
bool bn_chat_is_usable(const struct bn_chat_template *chat);

/* True for the control tokens that end an answer under this template, those of
 * bn_tokenizer_is_eog included. */
bool bn_chat_is_stop(const struct bn_chat_template *chat, const struct bn_tokenizer *tok,
		     bn_token id);

/* The i-th text that ends an answer where the template's tags are plain text in this vocabulary
 * (to be matched like a user's stop string), NULL past the end; static. */
const char *bn_chat_stop_text(const struct bn_chat_template *chat, const struct bn_tokenizer *tok,
			      size_t i);

struct bn_chat_options {
	bool no_generation_prompt; /* stop after the last message: do not open the answer       */
	size_t max_bytes;          /* of all text together, as bn_encode_options.max_bytes      */
	const atomic_bool *cancel;
};

/*
 * Appends the tokens of messages [n] to *out: bos once if the template has one, each message in
 * its frame, the opening of the answer. `options` NULL means all zero. Errors: BN_E_NOT_SUPPORTED
 * for "none" (advice: completions); BN_E_INVALID for no message, too many, or a role not allowed,
 * naming the field, e.g. "messages[2].role" (fact "param"); those of bn_tokenizer_encode. *out
 * then holds what it held. Any thread; helpers for long texts.
 */
BN_MUST_USE enum bn_status bn_chat_encode(const struct bn_chat_template *chat,
					  const struct bn_tokenizer *tok,
					  const struct bn_chat_message *messages, size_t n,
					  const struct bn_chat_options *options,
					  struct bn_tokens *out, struct bn_error *err);

#endif
