/* Chat templates: exact text, choice, refusal, and that no message can become control. */
#include "engine/chat.h"

#include "engine/guide.h"
#include "tests/engine/texts.h"
#include "tests/engine/vocabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STR(text)              ((struct bn_str){ (text), strlen(text) })
#define MESSAGE(role, content) ((struct bn_chat_message){ STR(role), STR(content) })

/* A vocabulary with every control token our templates use, Falcon3's role tags excepted. */
static struct bn_tokenizer *tiny;
static struct bn_tokenizer *tiny_spm;

static struct bn_tokens encode(const char *template, const struct bn_tokenizer *tok,
			       const struct bn_chat_message *messages, size_t n,
			       const struct bn_chat_options *options)
{
	struct bn_chat_hint hint = { .override = template, .tok = tok };
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_tokens out = { 0 };
	struct bn_error err;

	if (bn_chat_choose(&hint, &chat, &warning, &err) != BN_OK ||
	    bn_chat_encode(chat, tok, messages, n, options, &out, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	assert_string_equal(bn_chat_name(chat), template);
	return out;
}

/* The tokens as text, control tokens shown, behind each other. */
static void assert_rendered(const struct bn_tokenizer *tok, struct bn_tokens t, const char *want)
{
	char got[4096];
	size_t needed;

	assert_int_equal(bn_tokenizer_decode(tok, t.ids, t.n, BN_DETOK_SPECIAL, got,
					     sizeof(got) - 1, &needed, NULL),
			 BN_OK);
	assert_true(needed < sizeof(got));
	got[needed] = '\0';
	assert_string_equal(got, want);
	bn_tokens_finish(&t);
}

static const struct bn_chat_message talk[] = {
	{ { "system", 6 }, { " Be kind. \n", 11 } },
	{ { "user", 4 }, { "Hi", 2 } },
	{ { "assistant", 9 }, { "Hello ", 6 } },
	{ { "user", 4 }, { "\u3000\x1C Bye\n", 9 } },
};

static void chat_renders_each_template_exactly(void **state)
{
	static const struct {
		const char *name, *text;
	} golden[] = {
		{ "bitnet-2b4t", "<|begin_of_text|>System: Be kind.<|eot_id|>User: Hi<|eot_id|>"
				 "Assistant: Hello<|eot_id|>User: Bye<|eot_id|>Assistant: " },
		{ "llama3", "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
			    "kind.<|eot_id|>"
			    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
			    "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
			    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
			    "<|start_header_id|>assistant<|end_header_id|>\n\n" },
		{ "falcon3", "<|begin_of_text|><|system|>\n Be kind. \n\n<|user|>\nHi\n"
			     "<|assistant|>\nHello <|endoftext|>\n<|user|>\n\u3000\x1C Bye\n\n"
			     "<|assistant|>\n" },
		{ "chatml",
		  "<|begin_of_text|><|im_start|>system\n Be kind. \n<|im_end|>\n"
		  "<|im_start|>user\nHi<|im_end|>\n"
		  "<|im_start|>assistant\nHello <|im_end|>\n"
		  "<|im_start|>user\n\u3000\x1C Bye\n<|im_end|>\n<|im_start|>assistant\n" },
		{ "plain", "<|begin_of_text|>System: Be kind.\nUser: Hi\nAssistant: Hello\n"
			   "User: Bye\nAssistant:" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		assert_rendered(tiny, encode(golden[i].name, tiny, talk, 4, NULL), golden[i].text);
	}
}

static void chat_can_leave_the_answer_unopened(void **state)
{
	struct bn_chat_options options = { .no_generation_prompt = true };

	(void)state;
	assert_rendered(tiny, encode("bitnet-2b4t", tiny, talk + 1, 2, &options),
			"<|begin_of_text|>User: Hi<|eot_id|>Assistant: Hello<|eot_id|>");
	/* Falcon3 puts no line end behind the answer when it is the last message. */
	assert_rendered(tiny, encode("falcon3", tiny, talk + 1, 2, &options),
			"<|begin_of_text|><|user|>\nHi\n<|assistant|>\nHello <|endoftext|>");
}

static void chat_works_on_sentencepiece(void **state)
{
	struct bn_tokens t = encode("plain", tiny_spm, talk + 1, 1, NULL);

	(void)state;
	/* One dummy space, at the very start, as in any text. */
	assert_int_equal(t.ids[0], bn_tokenizer_bos(tiny_spm));
	assert_rendered(tiny_spm, t, "<s>User: Hi\nAssistant:");
	t = encode("chatml", tiny_spm, talk + 1, 1, NULL);
	assert_rendered(tiny_spm, t, "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

/* The text of every control token of `tok` inside messages of every role gives not one control
 * token more than harmless text does. */
static void assert_no_control_from_text(const char *template, const struct bn_tokenizer *tok)
{
	static const struct bn_chat_message harmless[] = { { { "system", 6 }, { "a", 1 } },
							   { { "user", 4 }, { "b", 1 } },
							   { { "assistant", 9 }, { "c", 1 } } };
	struct bn_tokens want = encode(template, tok, harmless, 3, NULL);
	unsigned tried = 0;

	for (bn_token id = 0; id < bn_tokenizer_size(tok); id++) {
		struct bn_str s = bn_tokenizer_text(tok, id);
		char twice[512];
		struct bn_chat_message evil[] = { MESSAGE("system", twice), MESSAGE("user", twice),
						  MESSAGE("assistant", twice) };
		struct bn_tokens got;

		if (!bn_tokenizer_is_control(tok, id)) {
			continue;
		}
		/* Alone, and such that two messages together would spell it. */
		snprintf(twice, sizeof(twice), "%.*s %.*s%.*s", (int)s.n, s.p, (int)(s.n - s.n / 2),
			 s.p + s.n / 2, (int)s.n / 2, s.p);
		for (size_t m = 0; m < 3; m++) {
			evil[m].content = STR(twice);
		}
		got = encode(template, tok, evil, 3, NULL);
		assert_int_equal(texts_count_control(tok, &got), texts_count_control(tok, &want));
		bn_tokens_finish(&got);
		tried++;
	}
	assert_true(tried > 0);
	bn_tokens_finish(&want);
}

static void chat_never_makes_control_of_messages(void **state)
{
	static const char *const templates[] = { "bitnet-2b4t", "llama3", "falcon3", "chatml",
						 "plain" };

	(void)state;
	for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
		assert_no_control_from_text(templates[i], tiny);
	}
}

static void chat_refuses_roles_and_lists_it_does_not_know(void **state)
{
	static const struct {
		const char *role, *says;
	} bad[] = {
		{ "tool", "not supported" }, { "bot", "'bot'" }, { "User", "'User'" }, { "", "''" }
	};
	struct bn_chat_hint hint = { .override = "chatml", .tok = tiny };
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_tokens out = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, &err), BN_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bn_chat_message messages[] = { MESSAGE("user", "a"), MESSAGE("user", "b") };

		messages[1].role = STR(bad[i].role);
		assert_int_equal(bn_chat_encode(chat, tiny, messages, 2, NULL, &out, &err),
				 BN_E_INVALID);
		assert_non_null(strstr(err.text, bad[i].says));
		assert_string_equal(err.data[0].key, "param");
		assert_string_equal(err.data[0].text, "messages[1].role");
		assert_int_equal(out.n, 0);
	}
	assert_int_equal(bn_chat_encode(chat, tiny, talk, 0, NULL, &out, &err), BN_E_INVALID);
	assert_string_equal(err.data[0].text, "messages");
	assert_int_equal(
		bn_chat_encode(chat, tiny, talk, BN_CHAT_MAX_MESSAGES + 1, NULL, &out, &err),
		BN_E_INVALID);
	bn_tokens_finish(&out);
}

static void chat_refuses_what_is_too_long_or_cancelled(void **state)
{
	struct bn_chat_hint hint = { .override = "plain", .tok = tiny };
	struct bn_chat_options options = { .max_bytes = 12 };
	atomic_bool cancel = true;
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_tokens out = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, &err), BN_OK);
	assert_int_equal(bn_tokens_push(&out, 5, &err), BN_OK);
	assert_int_equal(bn_chat_encode(chat, tiny, talk, 2, &options, &out, &err), BN_E_TOO_LARGE);
	options = (struct bn_chat_options){ .cancel = &cancel };
	assert_int_equal(bn_chat_encode(chat, tiny, talk, 2, &options, &out, &err), BN_E_CANCELLED);
	assert_int_equal(out.n, 1);
	bn_tokens_finish(&out);
}

static void chat_refuses_base_models_with_advice(void **state)
{
	struct bn_chat_hint hint = { .architecture = STR("llama"), .tok = tiny };
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_tokens out = { 0 };
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, &err), BN_OK);
	assert_false(bn_chat_is_usable(chat));
	assert_null(warning);
	assert_int_equal(bn_chat_encode(chat, tiny, talk, 4, NULL, &out, &err), BN_E_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "completions"));
	assert_non_null(strstr(err.text, "an instruct model"));
}

static const char *chosen(const char *override, const char *architecture, const char *template,
			  const struct bn_tokenizer *tok, bool warns)
{
	struct bn_chat_hint hint = {
		.override = override,
		.architecture = STR(architecture),
		.file_template = STR(template),
		.tok = tok,
	};
	const struct bn_chat_template *chat;
	const char *warning;
	struct bn_error err;

	if (bn_chat_choose(&hint, &chat, &warning, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(warning != NULL, warns);
	return bn_chat_name(chat);
}

/* A vocabulary of `n` tokens with the controls of the tiny one. */
static struct bn_tokenizer *sized(uint32_t n, bool with_controls)
{
	struct vocabs v;
	struct bn_tokenizer *tok;

	vocabs_init(&v, BN_TOKENIZER_BPE);
	vocabs_add_gpt2_bytes(&v);
	if (with_controls) {
		vocabs_add(&v, "<|eot_id|>", BN_TOKEN_CONTROL, 0);
	}
	while (v.vocab.n_tokens < n) {
		char name[32];

		snprintf(name, sizeof(name), "token%u", v.vocab.n_tokens);
		vocabs_add(&v, name, BN_TOKEN_NORMAL, 0);
	}
	tok = vocabs_make(&v);
	vocabs_finish(&v);
	return tok;
}

static void chat_chooses_by_override_family_and_file(void **state)
{
	static const char orion[] = "{% for message in messages %}Human: BITNETAssistant: ";
	static const char chatml[] = "{{'<|im_start|>' + message['role'] + '\\n'";
	static const char llama3[] = "{{ '<|start_header_id|>' + message['role'] }}";
	static const char falcon3[] = "{{ '<|user|>\\n' }}{{ '<|assistant|>\\n' + eos_token }}";
	static const char phi3[] = "{{'<|user|>' + '<|end|>' + '<|assistant|>'}}";
	static const char bitnet[] = "{{ message['role'] | capitalize + ': ' }}<|eot_id|>";
	struct bn_tokenizer *bitnet_tok = sized(128256, true);
	struct bn_tokenizer *large_tok = sized(32002, false);

	(void)state;
	/* The published 2B-4T file carries a template of another model. */
	assert_string_equal(chosen(NULL, "bitnet-b1.58", orion, bitnet_tok, false), "bitnet-2b4t");
	assert_string_equal(chosen("auto", "bitnet-25", "", bitnet_tok, false), "bitnet-2b4t");
	assert_string_equal(chosen(NULL, "bitnet", chatml, bitnet_tok, false), "bitnet-2b4t");
	assert_string_equal(chosen("none", "bitnet-b1.58", orion, bitnet_tok, false), "none");
	/* 1bitLLM's base models, whatever their file says. */
	assert_string_equal(chosen(NULL, "bitnet", orion, large_tok, false), "none");

	assert_string_equal(chosen(NULL, "llama", "", tiny, false), "none");
	assert_string_equal(chosen(NULL, "llama", chatml, tiny, false), "chatml");
	assert_string_equal(chosen(NULL, "llama", llama3, tiny, false), "llama3");
	assert_string_equal(chosen(NULL, "llama", falcon3, tiny, false), "falcon3");
	assert_string_equal(chosen(NULL, "bitnet-b1.58", bitnet, tiny, false), "bitnet-2b4t");
	assert_string_equal(chosen("plain", "llama", chatml, tiny, false), "plain");

	assert_string_equal(chosen(NULL, "llama", phi3, tiny, true), "chatml");
	assert_string_equal(chosen(NULL, "llama", orion, large_tok, true), "plain");
	/* Known, but its control tokens are missing. */
	assert_string_equal(chosen(NULL, "llama", llama3, large_tok, true), "plain");
	bn_tokenizer_free(bitnet_tok);
	bn_tokenizer_free(large_tok);
}

/* Override, then the guide, then the architecture, then the file. */
static void chat_prefers_the_guide_to_the_file(void **state)
{
	static const char llama3[] = "{{ '<|start_header_id|>' + message['role'] }}";
	struct bn_tokenizer *plain = sized(300, false);
	struct bn_chat_hint hint = { .published = "chatml",
				     .architecture = STR("llama"),
				     .file_template = STR(llama3),
				     .tok = tiny };
	const struct bn_chat_template *chat;
	const char *warning;

	(void)state;
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, NULL), BN_OK);
	assert_string_equal(bn_chat_name(chat), "chatml");
	assert_null(warning);
	hint.published = "none"; /* a base model whose folder has the template of its sibling */
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, NULL), BN_OK);
	assert_false(bn_chat_is_usable(chat));
	hint.override = "plain";
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, NULL), BN_OK);
	assert_string_equal(bn_chat_name(chat), "plain");
	/* Its tokens are missing: this is not that model's vocabulary. */
	hint = (struct bn_chat_hint){ .published = "chatml",
				      .architecture = STR("llama"),
				      .file_template = STR("Human: "),
				      .tok = plain };
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, NULL), BN_OK);
	assert_string_equal(bn_chat_name(chat), "plain");
	assert_non_null(warning);
	assert_non_null(strstr(warning, "`template`"));
	assert_true(strlen(warning) < 160); /* BN_MODEL_TEXT_BYTES: a longer one would be cut */
	bn_tokenizer_free(plain);
}

static void chat_refuses_overrides_that_cannot_work(void **state)
{
	struct bn_tokenizer *poor = sized(300, false);
	struct bn_chat_hint hint = { .override = "vicuna", .tok = poor };
	const struct bn_chat_template *chat = NULL;
	const char *warning;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, &err), BN_E_CONFIG);
	for (size_t i = 0; bn_chat_name_at(i) != NULL; i++) {
		assert_non_null(strstr(err.text, bn_chat_name_at(i)));
	}
	assert_non_null(strstr(err.text, "vicuna"));
	hint.override = "chatml";
	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, &err), BN_E_CONFIG);
	assert_non_null(strstr(err.text, "<|im_start|>"));
	assert_null(chat);
	bn_tokenizer_free(poor);
}

static const struct bn_chat_template *template_of(const char *name, const struct bn_tokenizer *tok)
{
	struct bn_chat_hint hint = { .override = name, .tok = tok };
	const struct bn_chat_template *chat = NULL;
	const char *warning;

	assert_int_equal(bn_chat_choose(&hint, &chat, &warning, NULL), BN_OK);
	return chat;
}

static void chat_stops_at_tokens_or_at_text(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tagged;
	bn_token user;
	const struct bn_chat_template *falcon3 = template_of("falcon3", tiny);

	(void)state;
	/* Role tags are plain text here: the tag is a stop string. */
	assert_string_equal(bn_chat_stop_text(falcon3, tiny, 0), "<|user|>");
	assert_null(bn_chat_stop_text(falcon3, tiny, 1));
	assert_true(bn_chat_is_stop(falcon3, tiny, bn_tokenizer_find(tiny, "<|endoftext|>", 13)));
	assert_false(bn_chat_is_stop(falcon3, tiny, 'a'));

	/* And control tokens here. */
	vocabs_tiny_bpe(&v);
	user = vocabs_add(&v, "<|user|>", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<|assistant|>", BN_TOKEN_CONTROL, 0);
	tagged = vocabs_make(&v);
	assert_null(bn_chat_stop_text(falcon3, tagged, 0));
	assert_true(bn_chat_is_stop(falcon3, tagged, user));
	assert_false(bn_chat_is_stop(template_of("chatml", tagged), tagged, user));
	{
		struct bn_tokens t = encode("falcon3", tagged, talk + 1, 1, NULL);

		assert_int_equal(texts_count_control(tagged, &t), 3); /* bos, user, assistant */
		assert_int_equal(t.ids[1], user);
		assert_rendered(tagged, t, "<|begin_of_text|><|user|>\nHi\n<|assistant|>\n");
	}
	bn_tokenizer_free(tagged);
	vocabs_finish(&v);

	assert_string_equal(bn_chat_stop_text(template_of("plain", tiny), tiny, 0), "\nUser:");
	assert_null(bn_chat_stop_text(template_of("plain", tiny), tiny, 1));
	assert_null(bn_chat_stop_text(template_of("bitnet-2b4t", tiny), tiny, 0));
	assert_true(bn_chat_is_stop(template_of("bitnet-2b4t", tiny), tiny,
				    bn_tokenizer_find(tiny, "<|eot_id|>", 10)));
	assert_null(bn_chat_stop_text(template_of("none", tiny), tiny, SIZE_MAX));
}

/* transformers' test prompt for BitNet-b1.58-2B-4T, whose second bos is an artefact. */
static void chat_gives_the_ids_of_transformers_for_bitnet(void **state)
{
	static const bn_token want[] = { 128000, 1502,   25,    2650, 527, 499,
					 30,     128009, 72803, 25,   220 };
	struct bn_chat_message message = MESSAGE("user", "How are you?");
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;

	(void)state;
	vocabs_llama3(&v);
	tok = vocabs_make(&v);
	t = encode("bitnet-2b4t", tok, &message, 1, NULL);
	assert_int_equal(t.n, sizeof(want) / sizeof(want[0]));
	assert_memory_equal(t.ids, want, sizeof(want));
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

/* The 256 of Llama-3 and those of the two other lines of models, all in one vocabulary. */
static void chat_never_makes_control_of_real_vocabularies(void **state)
{
	static const char *const templates[] = { "bitnet-2b4t", "llama3", "falcon3", "chatml",
						 "plain" };
	static const char *const more[] = { "<|im_start|>", "<|im_end|>", "<|endoftext|>",
					    "<|system|>",   "<|user|>",   "<|assistant|>",
					    "<|pad|>",      ">>TITLE<<",  "<tool_call>" };
	struct vocabs v;
	struct bn_tokenizer *tok;

	(void)state;
	vocabs_llama3(&v);
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		vocabs_add(&v, more[i], BN_TOKEN_CONTROL, 0);
	}
	tok = vocabs_make(&v);
	for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
		assert_no_control_from_text(templates[i], tok);
	}
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
	/* SentencePiece with role tags that are tokens, as Phi-3 has them. */
	tok = vocabs_gguf("tokenizers/ggml-vocab-phi-3.gguf");
	assert_no_control_from_text("falcon3", tok);
	assert_no_control_from_text("plain", tok);
	bn_tokenizer_free(tok);
}

/* Whatever of bos and ends the guide's rows say, a tokenizer with those tokens does. */
static void chat_stops_where_the_guide_says(void **state)
{
	(void)state;
	for (size_t i = 0; bn_guide_at(i) != NULL; i++) {
		const struct bn_guide_model *m = bn_guide_at(i);
		struct vocabs v;
		struct bn_tokenizer *tok;

		vocabs_init(&v, BN_TOKENIZER_BPE);
		vocabs_add_gpt2_bytes(&v);
		for (size_t k = 0; m->stops[k] != NULL; k++) {
			const bn_token id = vocabs_add(&v, m->stops[k], BN_TOKEN_CONTROL, 0);

			if (strcmp(m->stops[k], "</s>") == 0) {
				v.vocab.eos = id; /* known by its key, not by its text */
			}
		}
		tok = vocabs_make(&v);
		for (size_t k = 0; m->stops[k] != NULL; k++) {
			assert_true(bn_tokenizer_is_eog(
				tok, bn_tokenizer_find(tok, m->stops[k], strlen(m->stops[k]))));
		}
		bn_tokenizer_free(tok);
		vocabs_finish(&v);
	}
}

static int load(void **state)
{
	struct vocabs v;

	(void)state;
	vocabs_tiny_bpe(&v);
	tiny = vocabs_make(&v);
	vocabs_finish(&v);
	vocabs_tiny_spm(&v);
	vocabs_add(&v, "<|im_start|>", BN_TOKEN_CONTROL, 0);
	vocabs_add(&v, "<|im_end|>", BN_TOKEN_CONTROL, 0);
	tiny_spm = vocabs_make(&v);
	vocabs_finish(&v);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	bn_tokenizer_free(tiny);
	bn_tokenizer_free(tiny_spm);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chat_renders_each_template_exactly),
		cmocka_unit_test(chat_can_leave_the_answer_unopened),
		cmocka_unit_test(chat_works_on_sentencepiece),
		cmocka_unit_test(chat_never_makes_control_of_messages),
		cmocka_unit_test(chat_refuses_roles_and_lists_it_does_not_know),
		cmocka_unit_test(chat_refuses_what_is_too_long_or_cancelled),
		cmocka_unit_test(chat_refuses_base_models_with_advice),
		cmocka_unit_test(chat_chooses_by_override_family_and_file),
		cmocka_unit_test(chat_prefers_the_guide_to_the_file),
		cmocka_unit_test(chat_refuses_overrides_that_cannot_work),
		cmocka_unit_test(chat_stops_at_tokens_or_at_text),
		cmocka_unit_test(chat_stops_where_the_guide_says),
	};
	const struct CMUnitTest real[] = {
		cmocka_unit_test(chat_gives_the_ids_of_transformers_for_bitnet),
		cmocka_unit_test(chat_never_makes_control_of_real_vocabularies),
	};
	int failed = cmocka_run_group_tests(tests, load, unload);

	return failed != 0 ? failed : cmocka_run_group_tests(real, NULL, NULL);
}
