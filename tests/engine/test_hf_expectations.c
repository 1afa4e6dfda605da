/*
 * The answers that transformers' own tests expect of two published models
 * ($BN_TEST_DATA/bitnet-hf), compared with ours where the weights are there:
 *
 *   bn-convert bitnet-b1.58-2B-4T -o $BN_TEST_DATA/bitnet-hf/bitnet-b1.58-2B-4T.gguf
 *   bn-convert Llama3-8B-1.58-100B-tokens -o $BN_TEST_DATA/bitnet-hf/llama3-8b-1.58.gguf
 *   ctest -R hf_expectations
 *
 * Without arguments it tries its own comparison on a synthetic model, whose expectations a double
 * precision implementation computes (reference.h), so that none of it is code that never ran. With
 * `2b4t` or `llama3` it compares that model, or exits 77, which ctest reports as skipped.
 *
 * transformers compares logits at 1e-4, which holds between runs of the same code only: activations
 * are int8, float noise moves some across a rounding step, and thirty layers enlarge it
 * (test_golden.c measured 0.05 on average, 0.24 at most, for equal arithmetic in another order). So
 * logits may be off by what is said at `limits`, and a token may be another where the two are
 * nearer than that.
 */
#include "kernels/cpu.h"
#include "tests/engine/reference.h"
#include "tests/engine/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SKIPPED = 77, IDS_MAX = 256, SLICE = 30, TEXT = 2048 };

struct expectations {
	bn_token ids[IDS_MAX];
	uint32_t n;
	double means[IDS_MAX]; /* [n] over the vocabulary, of what follows each id */
	double slice[SLICE];   /* the first logits behind the first id             */
	char prompt[TEXT];     /* with control tokens spelled out                  */
	char answer[TEXT];
	uint32_t answer_tokens;
};

static const struct {
	double mean, slice_mean, slice_most, gap;
	uint32_t others;
} limits = { .mean = 0.1, .slice_mean = 0.1, .slice_most = 0.5, .gap = 0.5, .others = 2 };

/* --- comparing: each returns how many complaints it printed ----------------------------------- */

static uint32_t complain(const char *what, double got, double want, double limit)
{
	const bool bad = !(fabs(got - want) <= limit);

	print_message("%s: %.4f, expected %.4f%s\n", what, got, want, bad ? ": TOO FAR" : "");
	return bad;
}

static uint32_t compare_logits(struct rig *rig, const struct expectations *e)
{
	const uint32_t vocab = rig->model->vocab;
	float *logits = rig_logits(rig, e->ids, e->n, 64);
	double off = 0.0, most = 0.0;
	uint32_t bad = 0;

	for (uint32_t p = 0; p < e->n; p++) {
		double mean = 0.0;
		char what[32];

		for (uint32_t i = 0; i < vocab; i++) {
			mean += (double)logits[(size_t)p * vocab + i] / vocab;
		}
		snprintf(what, sizeof(what), "mean behind id %u", p);
		bad += complain(what, mean, e->means[p], limits.mean + 0.01 * fabs(e->means[p]));
	}
	for (uint32_t i = 0; i < SLICE; i++) {
		off += fabs((double)logits[i] - e->slice[i]) / SLICE;
		most = fmax(most, fabs((double)logits[i] - e->slice[i]));
	}
	bad += complain("first logits, average distance", off, 0.0, limits.slice_mean);
	bad += complain("first logits, greatest distance", most, 0.0, limits.slice_most);
	free(logits);
	return bad;
}

static void encode(const struct rig *rig, const char *text, struct bn_encode_options options,
		   struct bn_tokens *out)
{
	struct bn_error err;

	if (bn_tokenizer_encode(rig->model->tok, text, strlen(text), &options, out, &err) !=
	    BN_OK) {
		fail_msg("%s", err.text);
	}
}

/* Along ids [n]: is each from `prompt` on our best, or as good as? */
static uint32_t compare_tokens(struct rig *rig, const bn_token *ids, uint32_t prompt, uint32_t n)
{
	const uint32_t vocab = rig->model->vocab;
	float *logits = rig_logits(rig, ids, n, 64);
	uint32_t bad = 0, others = 0;

	for (uint32_t p = prompt; p < n; p++) {
		const float *row = logits + (size_t)(p - 1) * vocab;
		uint32_t best = 0;

		for (uint32_t i = 1; i < vocab; i++) {
			best = row[i] > row[best] ? i : best;
		}
		if (best != ids[p]) {
			char what[64];

			snprintf(what, sizeof(what), "token %u of the answer, %u instead of %u",
				 p - prompt, best, ids[p]);
			bad += complain(what, (double)row[best], (double)row[ids[p]], limits.gap);
			others++;
		}
	}
	free(logits);
	return bad + complain("tokens that are not our best", others, 0.0, limits.others);
}

static uint32_t compare_answer(struct rig *rig, const struct expectations *e)
{
	struct bn_tokens ids = { 0 };
	uint32_t prompt, bad;

	encode(rig, e->prompt,
	       (struct bn_encode_options){ .add_special = true, .parse_special = true }, &ids);
	prompt = (uint32_t)ids.n;
	encode(rig, e->answer, (struct bn_encode_options){ .continues = true }, &ids);
	bad = complain("tokens of the answer", (double)(ids.n - prompt), e->answer_tokens, 0.0);
	bad += compare_tokens(rig, ids.ids, prompt, (uint32_t)ids.n);
	bn_tokens_finish(&ids);
	return bad;
}

/* --- the file --------------------------------------------------------------------------------- */

static void find(char path[1024], const char *name)
{
	const char *root = getenv("BN_TEST_DATA");

	snprintf(path, 1024, "%s/bitnet-hf/%s", root != NULL ? root : "", name);
	if (access(path, R_OK) != 0) {
		print_message("skipped: no %s\n", path);
		exit(SKIPPED);
	}
}

static char *read_file(void)
{
	char path[1024];
	size_t bytes;

	find(path, "expectations.json");
	return rig_slurp(path, &bytes);
}

static void read_logits_case(const char *json, struct expectations *e)
{
	double ids[IDS_MAX];

	e->n = rig_numbers(json, "input_ids", ids, IDS_MAX);
	for (uint32_t i = 0; i < e->n; i++) {
		e->ids[i] = (bn_token)ids[i];
	}
	assert_int_equal(
		rig_numbers(json, "expected_mean_over_vocab_per_position", e->means, IDS_MAX),
		e->n);
	assert_int_equal(rig_numbers(json, "expected_slice_logits_0_0_0_30", e->slice, SLICE),
			 SLICE);
}

static uint32_t max_new_tokens(const char *json)
{
	static const char key[] = "\"max_new_tokens\":";
	const char *at = strstr(json, key);

	assert_non_null(at);
	return (uint32_t)strtoul(at + sizeof(key) - 1, NULL, 10);
}

/* "User: ...?Assistant: As an AI ...": the end of turn was left out of it, and belongs back. */
static void read_chat_case(const char *json, struct expectations *e)
{
	static const char role[] = "Assistant: ";
	char text[TEXT];
	char *answer;

	rig_string(json, "expected_text_skip_special", text);
	answer = strstr(text, role);
	assert_non_null(answer);
	snprintf(e->prompt, TEXT, "<|begin_of_text|>%.*s<|eot_id|>%s", (int)(answer - text), text,
		 role);
	snprintf(e->answer, TEXT, "%s", answer + sizeof(role) - 1);
	e->answer_tokens = max_new_tokens(strstr(json, "\"generation\""));
}

static void read_completion_case(const char *json, struct expectations *e)
{
	const char *at = strstr(json, "\"quantized_generation\"");
	char text[TEXT];

	rig_string(at, "prompt", e->prompt);
	rig_string(at, "expected_text", text);
	assert_memory_equal(text, e->prompt, strlen(e->prompt));
	snprintf(e->answer, TEXT, "%s", text + strlen(e->prompt));
	e->answer_tokens = max_new_tokens(at);
}

/* --- the real models -------------------------------------------------------------------------- */

static uint32_t run_2b4t(void)
{
	static struct expectations e;
	char path[1024];
	char *json = read_file();
	struct rig rig;
	uint32_t bad;

	find(path, "bitnet-b1.58-2B-4T.gguf");
	read_logits_case(json, &e);
	read_chat_case(json, &e);
	rig_open(&rig, path, bn_cpu_features(), 2);
	bad = compare_logits(&rig, &e) + compare_answer(&rig, &e);
	rig_close(&rig);
	free(json);
	return bad;
}

static uint32_t run_llama3(void)
{
	static struct expectations e;
	char path[1024];
	char *json = read_file();
	struct rig rig;
	uint32_t bad;

	find(path, "llama3-8b-1.58.gguf");
	read_completion_case(json, &e);
	rig_open(&rig, path, bn_cpu_features(), 2);
	bad = compare_answer(&rig, &e);
	rig_close(&rig);
	free(json);
	return bad;
}

/* --- the comparison itself, on a synthetic model ---------------------------------------------- */

static struct rig tiny;
static struct expectations sound;

/* What the double precision implementation says of a prompt. */
static int make_expectations(void **state)
{
	struct bn_tiny shape;
	const char *path;
	double *logits;
	uint32_t vocab;

	(void)state;
	bn_tiny_default(&shape);
	path = rig_tiny(&shape);
	rig_open(&tiny, path, bn_cpu_features(), 2);
	sound.n = 12;
	rig_prompt(&tiny, 1, sound.ids, sound.n);
	logits = reference_logits(path, sound.ids, sound.n, &vocab);
	for (uint32_t p = 0; p < sound.n; p++) {
		for (uint32_t i = 0; i < vocab; i++) {
			sound.means[p] += logits[(size_t)p * vocab + i] / vocab;
		}
	}
	for (uint32_t i = 0; i < SLICE; i++) {
		sound.slice[i] = logits[i];
	}
	free(logits);
	return 0;
}

static int free_expectations(void **state)
{
	(void)state;
	rig_close(&tiny);
	return 0;
}

static void expectations_that_are_met_pass(void **state)
{
	(void)state;
	assert_int_equal(compare_logits(&tiny, &sound), 0);
}

static void expectations_that_are_not_met_fail(void **state)
{
	struct expectations e = sound;

	(void)state;
	e.means[7] += 0.2;
	assert_int_equal(compare_logits(&tiny, &e), 1);
	e = sound;
	e.slice[29] += 0.6;
	assert_int_equal(compare_logits(&tiny, &e), 1);
	e = sound;
	for (uint32_t i = 0; i < SLICE; i++) {
		e.slice[i] += 0.2;
	}
	assert_int_equal(compare_logits(&tiny, &e), 1);
}

/* The answer a prompt really gets, and words that it does not get. */
static void answers_are_compared_token_by_token(void **state)
{
	enum { MORE = 20 };
	struct bn_sequence_config config = rig_config(sound.ids, sound.n, MORE);
	struct expectations e = { .prompt = "User: a<|eot_id|>Assistant: ", .answer_tokens = 24 };
	struct bn_sequence *seq;
	bn_token ids[IDS_MAX];

	(void)state;
	config.ignore_eos = true;
	seq = rig_sequence(&tiny, &config);
	rig_run(&tiny, &seq, 1, RIG_ROWS, NULL, 0);
	assert_int_equal(seq->n_tokens, sound.n + MORE);
	memcpy(ids, seq->tokens, seq->n_tokens * sizeof(*ids));
	bn_sequence_free(seq);
	assert_int_equal(compare_tokens(&tiny, ids, sound.n, sound.n + MORE), 0);
	ids[sound.n + MORE - 1] = (ids[sound.n + MORE - 1] + 1) % tiny.model->vocab;
	assert_int_equal(compare_tokens(&tiny, ids, sound.n, sound.n + MORE), 1);

	strcpy(e.answer, "the quick brown fox jumps");
	assert_true(compare_answer(&tiny, &e) > 3);
}

/* The file is read as it is: ids, numbers and texts are where the readers look. */
static void expectations_of_the_file_are_read(void **state)
{
	static struct expectations e;
	const char *root = getenv("BN_TEST_DATA");
	char path[1024];
	size_t bytes;
	char *json;

	(void)state;
	snprintf(path, sizeof(path), "%s/bitnet-hf/expectations.json", root != NULL ? root : "");
	json = rig_slurp(path, &bytes);
	if (json == NULL) {
		print_message("skipped: no %s\n", path);
		skip();
	}
	read_logits_case(json, &e);
	assert_int_equal(e.n, 12);
	assert_int_equal(e.ids[11], 220);
	assert_true(e.means[8] < -12.0 && e.slice[11] > 10.0);
	read_chat_case(json, &e);
	assert_string_equal(e.prompt, "<|begin_of_text|>User: What is your favourite food?"
				      "<|eot_id|>Assistant: ");
	assert_memory_equal(e.answer, "As an AI, I", 11);
	assert_int_equal(e.answer_tokens, 20);
	read_completion_case(json, &e);
	assert_string_equal(e.answer, " What are we going to do for fun this weekend?");
	assert_int_equal(e.answer_tokens, 11);
	free(json);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expectations_that_are_met_pass),
		cmocka_unit_test(expectations_that_are_not_met_fail),
		cmocka_unit_test(answers_are_compared_token_by_token),
		cmocka_unit_test(expectations_of_the_file_are_read),
	};

	if (argc > 1) {
		const uint32_t bad = strcmp(argv[1], "2b4t") == 0 ? run_2b4t() : run_llama3();

		print_message("%u complaints\n", bad);
		return bad > 0;
	}
	return cmocka_run_group_tests(tests, make_expectations, free_expectations);
}
