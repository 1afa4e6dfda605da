/* client/hub: answers that hubs send, and which files are taken. */
#include "client/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define BLOB   "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

/* A description that lists these files, each "name size". */
static struct bn_hub_repo repo_of(const char *const *files, size_t n)
{
	char text[16384];
	size_t at =
		(size_t)snprintf(text, sizeof(text), "{\"sha\": \"%s\", \"siblings\": [", COMMIT);
	struct bn_hub_repo repo;
	struct bn_error err;

	for (size_t i = 0; i < n; i++) {
		at += (size_t)snprintf(
			text + at, sizeof(text) - at,
			"%s{\"rfilename\": \"%s\", \"size\": %zu, \"blobId\": \"%s\"}",
			i > 0 ? "," : "", files[i], (i + 1) * 10, BLOB);
	}
	at += (size_t)snprintf(text + at, sizeof(text) - at, "]}");
	assert_int_equal(bn_hub_repo_parse(&repo, text, at, &err), BN_OK);
	assert_int_equal(repo.n, n);
	return repo;
}

#define REPO(...)                                     \
	repo_of((const char *const[]){ __VA_ARGS__ }, \
		sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static void answers_are_read(void **state)
{
	static const char text[] = "{\"sha\": \"" COMMIT "\", \"gated\": \"auto\", \"siblings\": ["
				   "{\"rfilename\": \"b\", \"size\": 7, \"blobId\": \"" BLOB "\"},"
				   "{\"rfilename\": \"a\", \"size\": 134, \"blobId\": \"" BLOB "\","
				   " \"lfs\": {\"sha256\": \"" SHA256
				   "\", \"size\": 5000000000, \"pointerSize\": 134}},"
				   "{\"rfilename\": \"c\"}]}";
	struct bn_hub_repo repo;

	(void)state;
	assert_int_equal(bn_hub_repo_parse(&repo, text, sizeof(text) - 1, NULL), BN_OK);
	assert_string_equal(repo.commit, COMMIT);
	assert_int_equal(repo.n, 3);
	assert_string_equal(repo.files[0].path, "a");
	assert_true(repo.files[0].size == 5000000000);
	assert_int_equal(repo.files[0].digest.kind, BN_DIGEST_SHA256);
	assert_string_equal(repo.files[0].digest.hex, SHA256);
	assert_true(repo.files[1].size == 7);
	assert_int_equal(repo.files[1].digest.kind, BN_DIGEST_GIT_BLOB);
	assert_true(repo.files[2].size == BN_HUB_SIZE_UNKNOWN);
	assert_int_equal(repo.files[2].digest.kind, BN_DIGEST_NONE);
	bn_hub_repo_finish(&repo);
}

static void wrong_answers_are_refused_with_the_reason(void **state)
{
#define FILES(f) "{\"sha\": \"" COMMIT "\", \"siblings\": [" f "]}"
	static const struct {
		const char *text, *reason;
	} cases[] = {
		{ "", "no JSON" },
		{ "[]", "no JSON" },
		{ "{\"sha\": 1, \"siblings\": []}", "'sha'" },
		{ "{\"sha\": \"../../../../../../../../../../../../../../\", \"siblings\": []}",
		  "'sha'" },
		{ "{\"sha\": \"" COMMIT "\"}", "'siblings'" },
		{ "{\"sha\": \"" COMMIT "\", \"sha\": \"" COMMIT "\"}", "duplicate" },
		{ FILES("1"), "'rfilename'" },
		{ FILES("{\"rfilename\": 1}"), "'rfilename'" },
		{ FILES("{\"rfilename\": \"../x\"}"), "could leave its folder" },
		{ FILES("{\"rfilename\": \"x\\u0000y\"}"), "no JSON" },
		{ FILES("{\"rfilename\": \"x\", \"size\": -1}"), "size" },
		{ FILES("{\"rfilename\": \"x\", \"size\": 1.5}"), "size" },
		{ FILES("{\"rfilename\": \"x\", \"size\": 9223372036854775807}"), "size" },
		{ FILES("{\"rfilename\": \"x\", \"blobId\": \"x\"}"), "digest" },
		{ FILES("{\"rfilename\": \"x\", \"blobId\": \"" SHA256 "\"}"), "digest" },
		{ FILES("{\"rfilename\": \"x\", \"lfs\": {\"sha256\": \"" BLOB "\"}}"), "digest" },
		{ FILES("{\"rfilename\": \"x\"}, {\"rfilename\": \"x\"}"), "twice" },
	};
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_hub_repo repo;

		assert_int_equal(
			bn_hub_repo_parse(&repo, cases[i].text, strlen(cases[i].text), &err),
			BN_E_FORMAT);
		assert_non_null(strstr(err.text, cases[i].reason));
	}
}

static void answers_of_many_small_values_are_refused(void **state)
{
	const size_t n = 3000000;
	char *text = malloc(n);
	struct bn_hub_repo repo;
	struct bn_error err;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i + 3 <= n; i += 3) {
		memcpy(text + i, "[],", 3);
	}
	assert_int_equal(bn_hub_repo_parse(&repo, text, n, &err), BN_E_TOO_LARGE);
	free(text);
}

/* Whether exactly these paths, in this order, are chosen. */
static void assert_chosen(const struct bn_hub_choice *c, const char *const *paths, size_t n)
{
	assert_int_equal(c->n, n);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(c->files[i]->path, paths[i]);
	}
}

static void the_i2s_gguf_is_preferred(void **state)
{
	struct bn_hub_repo repo = REPO("README.md", "config.json", "ggml-model-I2_S.gguf",
				       "model-q4.gguf", "model.safetensors", "tokenizer.json");
	struct bn_hub_choice c;

	(void)state;
	assert_int_equal(bn_hub_choose(&c, &repo, "", NULL), BN_OK);
	assert_int_equal(c.kind, BN_HUB_GGUF);
	assert_chosen(&c, (const char *const[]){ "ggml-model-I2_S.gguf" }, 1);
	assert_int_equal(bn_hub_choose(&c, &repo, "model-q4.gguf", NULL), BN_OK);
	assert_chosen(&c, (const char *const[]){ "model-q4.gguf" }, 1);
	bn_hub_repo_finish(&repo);
}

static void a_lone_gguf_is_taken_and_several_are_a_question(void **state)
{
	struct bn_hub_repo one =
		REPO("a.txt", "model.gguf", "x-00001-of-00002.gguf", "x-00002-of-00002.gguf");
	struct bn_hub_repo two = REPO("a.gguf", "b.gguf");
	struct bn_hub_repo three = REPO("a-i2_s.gguf", "b-i2_s.gguf", "c.gguf");
	struct bn_hub_choice c;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_hub_choose(&c, &one, "", NULL), BN_OK);
	assert_int_equal(c.kind, BN_HUB_GGUF);
	assert_chosen(&c, (const char *const[]){ "model.gguf" }, 1);
	assert_int_equal(bn_hub_choose(&c, &one, "x-00001-of-00002.gguf", &err),
			 BN_E_NOT_SUPPORTED);
	assert_int_equal(bn_hub_choose(&c, &one, "gone.gguf", &err), BN_E_NOT_FOUND);
	assert_int_equal(bn_hub_choose(&c, &two, "", NULL), BN_OK);
	assert_int_equal(c.kind, BN_HUB_UNDECIDED);
	assert_chosen(&c, (const char *const[]){ "a.gguf", "b.gguf" }, 2);
	assert_int_equal(bn_hub_choose(&c, &three, "", NULL), BN_OK);
	assert_int_equal(c.kind, BN_HUB_UNDECIDED);
	assert_chosen(&c, (const char *const[]){ "a-i2_s.gguf", "b-i2_s.gguf" }, 2);
	bn_hub_repo_finish(&one);
	bn_hub_repo_finish(&two);
	bn_hub_repo_finish(&three);
}

static void a_checkpoint_is_what_bn_convert_reads(void **state)
{
	struct bn_hub_repo repo =
		REPO(".gitattributes", "README.md", "added_tokens.json", "chat_template.jinja",
		     "config.json", "consolidated.safetensors", "generation_config.json",
		     "merges.txt", "model.safetensors", "modeling_x.py", "original/tokenizer.json",
		     "pytorch_model.bin", "special_tokens_map.json", "tokenizer.json",
		     "tokenizer.model", "tokenizer_config.json", "training_args.bin");
	struct bn_hub_choice c;

	(void)state;
	assert_int_equal(bn_hub_choose(&c, &repo, "", NULL), BN_OK);
	assert_int_equal(c.kind, BN_HUB_CHECKPOINT);
	assert_null(c.index);
	assert_chosen(&c,
		      (const char *const[]){ "README.md", "added_tokens.json",
					     "chat_template.jinja", "config.json",
					     "generation_config.json", "special_tokens_map.json",
					     "tokenizer.json", "tokenizer.model",
					     "tokenizer_config.json", "model.safetensors" },
		      10);
	bn_hub_repo_finish(&repo);
}

static void shards_come_from_the_index_alone(void **state)
{
	struct bn_hub_repo repo =
		REPO("config.json", "model-00001-of-00002.safetensors",
		     "model-00002-of-00002.safetensors", "model.safetensors",
		     "model.safetensors.index.json", "sub/x.safetensors", "tokenizer.json");
	static const char good[] = "{\"weight_map\": {\"b\": \"model-00002-of-00002.safetensors\","
				   "\"a\": \"model-00001-of-00002.safetensors\","
				   "\"c\": \"model-00002-of-00002.safetensors\"}}";
	static const char *const wrong[] = {
		"",
		"{}",
		"{\"weight_map\": []}",
		"{\"weight_map\": {}}",
		"{\"weight_map\": {\"a\": 1}}",
		"{\"weight_map\": {\"a\": \"config.json\"}}",
		"{\"weight_map\": {\"a\": \"../x.safetensors\"}}",
		"{\"weight_map\": {\"a\": \"gone.safetensors\"}}",
		"{\"weight_map\": {\"a\": \"sub/x.safetensors\"}}",
	};
	struct bn_hub_choice c;
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_hub_choose(&c, &repo, "", NULL), BN_OK);
	assert_string_equal(c.index->path, "model.safetensors.index.json");
	assert_int_equal(c.n, 3);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(bn_hub_add_shards(&c, &repo, wrong[i], strlen(wrong[i]), &err),
				 BN_E_FORMAT);
		assert_int_equal(c.n, 3);
	}
	assert_int_equal(bn_hub_add_shards(&c, &repo, good, sizeof(good) - 1, NULL), BN_OK);
	assert_int_equal(c.n, 5);
	assert_string_equal(c.files[3]->path, "model-00002-of-00002.safetensors");
	assert_string_equal(c.files[4]->path, "model-00001-of-00002.safetensors");
	bn_hub_repo_finish(&repo);
}

static void what_cannot_become_a_model_is_refused(void **state)
{
	struct bn_hub_repo none = REPO("README.md", "pytorch_model.bin");
	struct bn_hub_repo bare = REPO("model.safetensors", "tokenizer.json");
	struct bn_hub_repo mute = REPO("config.json", "model.safetensors");
	struct bn_hub_repo *const repos[] = { &none, &bare, &mute };
	struct bn_hub_choice c;
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(bn_hub_choose(&c, repos[i], "", &err), BN_E_NOT_SUPPORTED);
		bn_hub_repo_finish(repos[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_read),
		cmocka_unit_test(wrong_answers_are_refused_with_the_reason),
		cmocka_unit_test(answers_of_many_small_values_are_refused),
		cmocka_unit_test(the_i2s_gguf_is_preferred),
		cmocka_unit_test(a_lone_gguf_is_taken_and_several_are_a_question),
		cmocka_unit_test(a_checkpoint_is_what_bn_convert_reads),
		cmocka_unit_test(shards_come_from_the_index_alone),
		cmocka_unit_test(what_cannot_become_a_model_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
