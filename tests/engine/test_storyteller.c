/*
 * The model that comes with bnd, against the greedy continuations that models/reference.py computed
 * from the same file. The trainer chose prompts where no choice is narrow (`margin`, in logits), so
 * every token must agree. Skipped where the model is not built yet.
 */
#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SKIPPED = 77, IDS_MAX = 512, TEXT_MAX = 8192 };

static char model_path[512];
static char *json;

static uint32_t ids_of(const char *text, const char *key, bn_token *ids)
{
	static double values[IDS_MAX];
	const uint32_t n = rig_numbers(text, key, values, IDS_MAX);

	for (uint32_t i = 0; i < n; i++) {
		ids[i] = (bn_token)values[i];
	}
	return n;
}

static void one_case(struct rig *rig, const char *text)
{
	const struct bn_encode_options with_bos = { .add_special = true };
	static char prompt[TEXT_MAX], want[TEXT_MAX], got[TEXT_MAX];
	bn_token prompt_ids[IDS_MAX], greedy_ids[IDS_MAX];
	const uint32_t n_prompt = ids_of(text, "prompt_ids", prompt_ids);
	const uint32_t n_greedy = ids_of(text, "greedy_ids", greedy_ids);
	struct bn_sequence_config c = rig_config(prompt_ids, n_prompt, n_greedy);
	struct bn_sequence *seq = rig_sequence(rig, &c);
	struct bn_tokens tokens = { 0 };
	char *out = got;
	uint32_t same = 0;

	rig_string(text, "prompt", prompt);
	rig_string(text, "text", want);
	assert_int_equal(bn_tokenizer_encode(rig->model->tok, prompt, strlen(prompt), &with_bos,
					     &tokens, NULL),
			 BN_OK);
	assert_int_equal(tokens.n, n_prompt);
	assert_memory_equal(tokens.ids, prompt_ids, n_prompt * sizeof(bn_token));
	rig_run(rig, &seq, 1, 5, &out, TEXT_MAX);
	while (same < n_greedy && seq->tokens[n_prompt + same] == greedy_ids[same]) {
		same++;
	}
	print_message("%u of %u tokens: %s\n", same, n_greedy, prompt);
	assert_int_equal(same, n_greedy);
	assert_string_equal(got, want);
	bn_tokens_finish(&tokens);
	bn_sequence_free(seq);
}

static void greedy_stories_are_those_of_the_reference(void **state)
{
	struct rig rig;
	unsigned cases = 0;

	(void)state;
	rig_open(&rig, model_path, bn_cpu_features(), 2);
	for (const char *at = strstr(json, "\"prompt\":"); at != NULL;
	     at = strstr(at + 1, "\"prompt\":")) {
		one_case(&rig, at);
		cases++;
	}
	assert_true(cases >= 3);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greedy_stories_are_those_of_the_reference),
	};
	const char *root = getenv("BN_SOURCE_DIR");
	char path[512];
	size_t n;
	FILE *f;
	int rc;

	snprintf(model_path, sizeof(model_path), "%s/models/storyteller.gguf",
		 root != NULL ? root : ".");
	snprintf(path, sizeof(path), "%s/tests/golden/storyteller.json", root != NULL ? root : ".");
	json = rig_slurp(path, &n);
	f = fopen(model_path, "rb");
	if (json == NULL || f == NULL) {
		fprintf(stderr, "skipped: %s or %s is absent\n", model_path, path);
		return SKIPPED;
	}
	fclose(f);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(json);
	return rc;
}
