/* A sequence without a transformer: the test plays the model and says with one-hot logits which
 * token comes next, so every cut of text into tokens can be tried. */
#include "engine/sequence.h"

#include "engine/utf8.h"
#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V_MAX = 4096 };

static struct rig rig; /* SPM: <0x00>.. are tokens 3..258, so any byte can be spoken */
static struct bn_candidate scratch[V_MAX];

static bn_token byte_token(unsigned char c)
{
	return 3u + c;
}

/* The model says `token`. */
static void say(struct bn_sequence *seq, bn_token token)
{
	static float logits[V_MAX];

	memset(logits, 0, sizeof(logits));
	logits[token] = 100.0f;
	bn_sequence_fed(seq, bn_sequence_pending(seq), 1000, 3000);
	bn_sequence_accept(seq, logits, scratch, 5000);
}

/* What can be taken now, in pieces of at most `piece` bytes, each checked; appended to out. */
static void take(struct bn_sequence *seq, size_t piece, char *out)
{
	char text[256];
	size_t n;

	while ((n = bn_sequence_take(seq, text, piece)) > 0) {
		assert_true(n <= piece);
		assert_true(bn_utf8_valid(text, n));
		strncat(out, text, n);
	}
}

/* Says bytes one token each until finished; returns how many were said. */
static size_t say_bytes(struct bn_sequence *seq, const char *text, size_t n, char *out)
{
	size_t i = 0;

	while (i < n && seq->finish == BN_FINISH_NONE) {
		say(seq, byte_token((unsigned char)text[i++]));
		take(seq, 200, out);
	}
	return i;
}

static const bn_token prompt[] = { 1, 300, 301 };

static struct bn_sequence_config config(uint32_t max_tokens)
{
	return rig_config(prompt, 3, max_tokens);
}

static void characters_wait_until_they_are_whole(void **state)
{
	/* e acute, euro sign, a clef outside the BMP: 2, 3 and 4 bytes, one token each byte */
	static const char text[] = "a\xc3\xa9 \xe2\x82\xac \xf0\x9d\x84\x9e!";
	struct bn_sequence_config c = config(100);
	struct bn_sequence *seq = rig_sequence(&rig, &c);
	char out[256] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		say(seq, byte_token((unsigned char)text[i]));
		take(seq, 200, out);
		assert_true(bn_utf8_valid(out, strlen(out)));
		assert_memory_equal(out, text, strlen(out));
		assert_true(strlen(out) + 3 > i); /* and no longer than that */
	}
	assert_string_equal(out, text);
	bn_sequence_free(seq);
}

static void a_character_broken_by_the_end_is_replaced(void **state)
{
	struct bn_sequence_config c = config(3);
	struct bn_sequence *seq = rig_sequence(&rig, &c);
	char out[256] = "";

	(void)state;
	assert_int_equal(say_bytes(seq, "x\xe2\x82", 3, out), 3);
	assert_int_equal(seq->finish, BN_FINISH_LENGTH);
	assert_string_equal(out, "x\xef\xbf\xbd");
	assert_int_equal(seq->n_generated, 3);
	bn_sequence_free(seq);
}

static void stop_strings_are_found_across_tokens_and_never_emitted(void **state)
{
	static const struct bn_str stops[] = { { "</s>", 4 },
					       { "\n\nUser", 6 },
					       { "\xc3\xa9t", 3 } };
	static const struct {
		const char *said;
		const char *out;
		int32_t stop;
	} cases[] = {
		{ "Hello</s>world", "Hello", 0 },
		{ "</s>", "", 0 },
		{ "a\n\nUser: b", "a", 1 },
		{ "a\n\nUs\n\nUser", "a\n\nUs", 1 },
		{ "caf\xc3\xa9 et\xc3\xa9t", "caf\xc3\xa9 et", 2 },
		{ "a < b </ c </s", "a < b </ c </s", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const size_t n = strlen(cases[i].said);
		struct bn_sequence_config c = config((uint32_t)n);
		struct bn_sequence *seq;
		char out[256] = "";

		c.stops = stops;
		c.n_stops = 3;
		seq = rig_sequence(&rig, &c);
		say_bytes(seq, cases[i].said, n, out);
		assert_string_equal(out, cases[i].out);
		assert_int_equal(seq->stop_index, cases[i].stop);
		assert_int_equal(seq->finish,
				 cases[i].stop >= 0 ? BN_FINISH_STOP : BN_FINISH_LENGTH);
		bn_sequence_free(seq);
	}
}

static void text_that_may_become_a_stop_is_held_back_and_given_when_it_does_not(void **state)
{
	static const struct bn_str stop = { "STOP", 4 };
	struct bn_sequence_config c = config(20);
	struct bn_sequence *seq;
	char out[256] = "";

	(void)state;
	c.stops = &stop;
	c.n_stops = 1;
	seq = rig_sequence(&rig, &c);
	say_bytes(seq, "abSTO", 5, out);
	assert_string_equal(out, "ab");
	say_bytes(seq, "x", 1, out);
	assert_string_equal(out, "abSTOx");
	say_bytes(seq, "ST", 2, out);
	assert_string_equal(out, "abSTOx");
	/* the holder ends it: what was held back was text after all */
	bn_sequence_finish(seq, BN_FINISH_CANCELLED, BN_E_CANCELLED);
	take(seq, 200, out);
	assert_string_equal(out, "abSTOxST");
	assert_int_equal(seq->finish, BN_FINISH_CANCELLED);
	assert_int_equal(seq->status, BN_E_CANCELLED);
	assert_int_equal(bn_sequence_pending(seq), 0);
	bn_sequence_finish(seq, BN_FINISH_ERROR, BN_E_DEADLINE); /* the first reason stays */
	assert_int_equal(seq->status, BN_E_CANCELLED);
	bn_sequence_free(seq);
}

static void end_tokens_end_it_without_text(void **state)
{
	const bn_token eos = bn_tokenizer_eos(rig.model->tok);
	struct bn_sequence_config c = config(10);
	struct bn_sequence *seq = rig_sequence(&rig, &c);
	char out[64] = "";

	(void)state;
	say_bytes(seq, "hi", 2, out);
	say(seq, eos);
	take(seq, 200, out);
	assert_string_equal(out, "hi");
	assert_int_equal(seq->finish, BN_FINISH_STOP);
	assert_int_equal(seq->stop_index, -1);
	assert_int_equal(seq->n_generated, 3);
	assert_int_equal(seq->last.token, eos);
	assert_string_equal(bn_finish_word(seq->finish), "stop");
	bn_sequence_free(seq);
}

static void ignore_eos_goes_on(void **state)
{
	const bn_token eos = bn_tokenizer_eos(rig.model->tok), own = byte_token('!');
	struct bn_sequence_config c = config(10);
	struct bn_sequence *seq;
	char out[64] = "";

	(void)state;
	c.ignore_eos = true;
	c.stop_tokens = &own;
	c.n_stop_tokens = 1;
	seq = rig_sequence(&rig, &c);
	say_bytes(seq, "a", 1, out);
	say(seq, eos);
	assert_int_equal(seq->finish, BN_FINISH_NONE);
	/* the caller's own stop tokens are another matter */
	say_bytes(seq, "b!c", 3, out);
	assert_string_equal(out, "ab");
	assert_int_equal(seq->finish, BN_FINISH_STOP);
	bn_sequence_free(seq);
}

static void echo_begins_with_the_prompt_and_is_not_searched_for_stops(void **state)
{
	static const struct bn_str stop = { "cd", 2 };
	bn_token ids[600];
	struct bn_sequence_config c;
	struct bn_sequence *seq;
	static char out[4096];

	(void)state;
	ids[0] = 1;
	for (size_t i = 1; i < 200; i++) {
		ids[i] = byte_token((unsigned char)"abcd\xc3\xa9"[i % 6]);
	}
	c = rig_config(ids, 200, 10);
	c.echo = true;
	c.stops = &stop;
	c.n_stops = 1;
	out[0] = '\0';
	seq = rig_sequence(&rig, &c);
	take(seq, 4, out);
	assert_true(strlen(out) > 190 && strstr(out, "abcd\xc3\xa9"
						     "ab") != NULL);

	const size_t length = strlen(out);

	say_bytes(seq, "xcd", 3, out);
	assert_string_equal(out + length, "x");
	assert_int_equal(seq->finish, BN_FINISH_STOP);
	bn_sequence_free(seq);
}

static void an_answer_keeps_the_space_before_its_first_word(void **state)
{
	struct bn_tokens t = { 0 };
	struct bn_sequence_config c = config(10);
	struct bn_sequence *seq = rig_sequence(&rig, &c);
	char out[64] = "";
	bn_token word = BN_TOKEN_NONE;

	(void)state;
	/* the first token whose text is a space and letters */
	for (bn_token i = 259; i < rig.model->vocab && word == BN_TOKEN_NONE; i++) {
		const struct bn_str piece = bn_tokenizer_piece(rig.model->tok, i);

		if (piece.n > 1 && piece.p[0] == ' ') {
			word = i;
		}
	}
	assert_true(word != BN_TOKEN_NONE);
	say(seq, word);
	take(seq, 200, out);
	assert_int_equal(out[0], ' ');
	bn_sequence_free(seq);
	bn_tokens_finish(&t);
}

static void pieces_respect_any_capacity_and_never_split_a_character(void **state)
{
	for (size_t piece = 4; piece < 12; piece++) {
		struct bn_sequence_config c = config(200);
		struct bn_sequence *seq;
		bn_token ids[100];
		char out[1024] = "", want[1024] = "";

		(void)state;
		for (size_t i = 0; i < 100; i++) {
			ids[i] = byte_token((unsigned char)"x\xf0\x9d\x84\x9e"[i % 5]);
		}
		for (size_t i = 0; i < 20; i++) {
			strcat(want, "x\xf0\x9d\x84\x9e");
		}
		c.prompt = ids;
		c.n_prompt = 100;
		c.max_tokens = 5;
		c.echo = true;
		seq = rig_sequence(&rig, &c);
		take(seq, piece, out);
		assert_string_equal(out, want);
		bn_sequence_free(seq);
	}
}

static void counters_and_times_follow_the_steps(void **state)
{
	struct bn_sequence_config c = config(3);
	struct bn_sequence *seq = rig_sequence(&rig, &c);
	char out[64] = "";

	(void)state;
	assert_int_equal(bn_sequence_pending(seq), 3);
	assert_true(bn_sequence_is_prefill(seq));
	bn_sequence_fed(seq, 2, 100, 150);
	assert_int_equal(bn_sequence_pending(seq), 1);
	assert_true(bn_sequence_is_prefill(seq));
	assert_int_equal(seq->first_step_ns, 100);
	assert_int_equal(seq->prefill_ns, 50);
	say(seq, byte_token('a'));
	assert_true(seq->has_new);
	assert_int_equal(seq->prefill_ns, 50 + 2000);
	assert_int_equal(seq->first_token_ns, 5000);
	assert_false(bn_sequence_is_prefill(seq));
	assert_int_equal(bn_sequence_pending(seq), 1);
	take(seq, 200, out);
	say(seq, byte_token('b'));
	assert_int_equal(seq->decode_ns, 2000);
	take(seq, 200, out);
	say(seq, byte_token('c'));
	assert_int_equal(seq->finish, BN_FINISH_LENGTH);
	assert_int_equal(seq->n_generated, 3);
	assert_int_equal(seq->n_tokens, 6);
	bn_sequence_free(seq);
}

static void faults_in_the_numbers_end_it_with_the_text_so_far(void **state)
{
	static const struct bn_str stop = { "abc", 3 };
	struct bn_sequence_config c = config(10);
	static float logits[V_MAX];
	struct bn_sequence *seq;
	char out[64] = "";

	(void)state;
	c.stops = &stop;
	c.n_stops = 1;
	seq = rig_sequence(&rig, &c);
	say_bytes(seq, "ab", 2, out);
	assert_string_equal(out, "");
	logits[5] = NAN;
	bn_sequence_fed(seq, 1, 1, 2);
	bn_sequence_accept(seq, logits, scratch, 3);
	take(seq, 200, out);
	assert_int_equal(seq->finish, BN_FINISH_ERROR);
	assert_int_equal(seq->status, BN_E_NUMERIC);
	assert_int_equal(seq->error.status, BN_E_NUMERIC);
	assert_string_equal(out, "ab");
	assert_int_equal(seq->n_generated, 2);
	bn_sequence_free(seq);
}

static void refuses(const struct bn_sequence_config *c, enum bn_status status, const char *words)
{
	struct bn_sequence *seq = NULL;
	struct bn_error err;

	assert_int_equal(bn_sequence_new(&seq, rig.model, c, &err), status);
	assert_non_null(strstr(err.text, words));
	assert_null(seq);
}

static void wrong_configurations_name_their_parameter(void **state)
{
	const bn_token wrong[] = { 1, rig.model->vocab };
	struct bn_str stops[17];
	static char long_stop[300];
	struct bn_sequence_config c;

	(void)state;
	memset(long_stop, 'x', sizeof(long_stop));
	for (size_t i = 0; i < 17; i++) {
		stops[i] = (struct bn_str){ "x", 1 };
	}
	c = config(1);
	c.n_prompt = 0;
	refuses(&c, BN_E_INVALID, "no tokens");
	c = config(0);
	refuses(&c, BN_E_INVALID, "max_tokens");
	c = config(254);
	refuses(&c, BN_E_CONTEXT, "need 257 positions, the context has 256");
	c = config(UINT32_MAX);
	refuses(&c, BN_E_CONTEXT, "4294967295");
	c = rig_config(wrong, 2, 1);
	refuses(&c, BN_E_INVALID, "prompt[1] is token");
	c = config(1);
	c.stops = stops;
	c.n_stops = 17;
	refuses(&c, BN_E_INVALID, "at most 16");
	c.n_stops = 2;
	stops[1].n = 0;
	refuses(&c, BN_E_INVALID, "stop[1] has 0 bytes");
	stops[1] = (struct bn_str){ long_stop, 257 };
	refuses(&c, BN_E_INVALID, "stop[1] has 257 bytes");
	stops[1] = (struct bn_str){ "\xff", 1 };
	refuses(&c, BN_E_INVALID, "UTF-8");
	c = config(1);
	c.n_stop_tokens = 65;
	refuses(&c, BN_E_INVALID, "65 stop tokens");
	c = config(1);
	c.sampler.top_p = 2.0f;
	refuses(&c, BN_E_INVALID, "top_p");
	c = config(253);

	struct bn_sequence *seq = rig_sequence(&rig, &c); /* exactly the context */

	bn_sequence_free(seq);
	bn_sequence_free(NULL);
}

static void announced_bytes_cover_kv_and_text(void **state)
{
	struct bn_sequence_config c = config(100);
	const uint64_t base = bn_sequence_bytes(rig.model, &c);
	struct bn_sequence *seq = rig_sequence(&rig, &c);

	(void)state;
	assert_true(base >= seq->kv.bytes + 103 * sizeof(bn_token));
	assert_true(base < seq->kv.bytes + 65536);
	c.max_tokens = 101;
	assert_true(bn_sequence_bytes(rig.model, &c) >= base);
	c.echo = true;
	assert_true(bn_sequence_bytes(rig.model, &c) > base);
	c.max_tokens = UINT32_MAX;
	assert_int_equal(bn_sequence_bytes(rig.model, &c), UINT64_MAX);
	bn_sequence_free(seq);
}

static void log_probabilities_come_with_the_token(void **state)
{
	struct bn_sequence_config c = config(2);
	struct bn_sequence *seq;

	(void)state;
	c.sampler.n_top = 3;
	seq = rig_sequence(&rig, &c);
	say(seq, byte_token('q'));
	assert_int_equal(seq->last.n_top, 3);
	assert_int_equal(seq->last.top[0].token, byte_token('q'));
	assert_true(fabsf(seq->last.logprob) < 1e-6f);
	bn_sequence_free(seq);
}

static int open_model(void **state)
{
	struct bn_tiny t;

	(void)state;
	bn_tiny_default(&t);
	t.arch = "bitnet";
	t.tokenizer = BN_TINY_SPM;
	rig_open(&rig, rig_tiny(&t), bn_cpu_features(), 1);
	assert_true(rig.model->vocab <= V_MAX);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(characters_wait_until_they_are_whole),
		cmocka_unit_test(a_character_broken_by_the_end_is_replaced),
		cmocka_unit_test(stop_strings_are_found_across_tokens_and_never_emitted),
		cmocka_unit_test(
			text_that_may_become_a_stop_is_held_back_and_given_when_it_does_not),
		cmocka_unit_test(end_tokens_end_it_without_text),
		cmocka_unit_test(ignore_eos_goes_on),
		cmocka_unit_test(echo_begins_with_the_prompt_and_is_not_searched_for_stops),
		cmocka_unit_test(an_answer_keeps_the_space_before_its_first_word),
		cmocka_unit_test(pieces_respect_any_capacity_and_never_split_a_character),
		cmocka_unit_test(counters_and_times_follow_the_steps),
		cmocka_unit_test(faults_in_the_numbers_end_it_with_the_text_so_far),
		cmocka_unit_test(wrong_configurations_name_their_parameter),
		cmocka_unit_test(announced_bytes_cover_kv_and_text),
		cmocka_unit_test(log_probabilities_come_with_the_token),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
