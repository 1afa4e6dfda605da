#include "engine/hfpooling.h"

#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ST "sentence_transformers.models."
#define MODULES                                                                \
	"[{\"idx\": 0, \"path\": \"\", \"type\": \"" ST "Transformer\"},"      \
	" {\"idx\": 1, \"path\": \"1_Pooling\", \"type\": \"" ST "Pooling\"}," \
	" {\"idx\": 2, \"path\": \"2_Normalize\", \"type\": \"" ST "Normalize\"}]"

/* Modules and pooling, NULL where there is no such file. */
static enum bn_status load(const char *modules, const char *pooling, enum bn_pooling *out,
			   struct bn_error *err)
{
	struct hf_folder hf;
	enum bn_status status;
	char path[256];
	int fd;

	hf_init(&hf);
	snprintf(path, sizeof(path), "%s/1_Pooling", hf.path);
	mkdir(path, 0700);
	if (modules != NULL) {
		hf_write_file(&hf, "modules.json", modules, strlen(modules));
	}
	if (pooling != NULL) {
		hf_write_file(&hf, "1_Pooling/config.json", pooling, strlen(pooling));
	}
	fd = open(hf.path, O_RDONLY | O_DIRECTORY);
	status = bn_hfpooling_load(out, fd, err);
	close(fd);
	hf_finish(&hf);
	return status;
}

static void both_ways_to_say_it_are_read(void **state)
{
	static const struct {
		const char *text;
		enum bn_pooling pooling;
	} cases[] = {
		{ "{\"pooling_mode_cls_token\": false, \"pooling_mode_lasttoken\": true}",
		  BN_POOL_LAST },
		{ "{\"pooling_mode_mean_tokens\": true, \"include_prompt\": true}", BN_POOL_MEAN },
		{ "{\"pooling_mode_cls_token\": true}", BN_POOL_FIRST },
		{ "{\"pooling_mode\": \"lasttoken\", \"embedding_dimension\": 640}", BN_POOL_LAST },
		{ "{\"pooling_mode\": \"mean\"}", BN_POOL_MEAN },
		{ "{\"pooling_mode\": \"cls\"}", BN_POOL_FIRST },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum bn_pooling pooling;
		struct bn_error err = { 0 };

		hf_expect(load(MODULES, cases[i].text, &pooling, &err), &err, BN_OK, "");
		assert_int_equal(pooling, cases[i].pooling);
	}
}

static void a_folder_without_modules_says_nothing(void **state)
{
	enum bn_pooling pooling = BN_POOL_MEAN;
	struct bn_error err = { 0 };

	(void)state;
	hf_expect(load(NULL, NULL, &pooling, &err), &err, BN_OK, "");
	assert_int_equal(pooling, BN_POOL_NONE);
}

static void what_bnd_would_not_do_is_refused(void **state)
{
	static const char last[] = "{\"pooling_mode_lasttoken\": true}";
	static const struct {
		const char *modules, *pooling;
		enum bn_status status;
		const char *words;
	} cases[] = {
		{ "{}", last, BN_E_FORMAT, "modules.json: the JSON text is not an array" },
		{ "[", last, BN_E_FORMAT, "modules.json: not valid JSON" },
		{ "[]", last, BN_E_FORMAT, "names no pooling" },
		{ "[3]", last, BN_E_NOT_SUPPORTED, "without a type" },
		{ "[{\"type\": \"" ST "Pooling\"}]", last, BN_E_FORMAT, "'path' of the pooling" },
		{ "[{\"type\": \"" ST "Pooling\", \"path\": \"1_Pooling\"},"
		  " {\"type\": \"" ST "Pooling\", \"path\": \"1_Pooling\"}]",
		  last, BN_E_NOT_SUPPORTED, "more than one pooling" },
		{ "[{\"type\": \"" ST "Pooling\", \"path\": \"../x\"}]", last, BN_E_FORMAT,
		  "'path' of the pooling" },
		{ "[{\"type\": \"" ST "Pooling\", \"path\": \"a/b\"}]", last, BN_E_FORMAT,
		  "'path' of the pooling" },
		{ "[{\"type\": \"" ST "Dense\", \"path\": \"2_Dense\"}]", last, BN_E_NOT_SUPPORTED,
		  "models.Dense'" },
		{ MODULES, NULL, BN_E_IO, "1_Pooling/config.json" },
		{ MODULES, "[]", BN_E_FORMAT, "1_Pooling/config.json" },
		{ MODULES, "{}", BN_E_NOT_SUPPORTED, "none of mean, cls and lasttoken" },
		{ MODULES, "{\"pooling_mode\": \"max\"}", BN_E_NOT_SUPPORTED, "none of mean" },
		{ MODULES, "{\"pooling_mode\": \"best\"}", BN_E_NOT_SUPPORTED, "none of mean" },
		{ MODULES, "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}",
		  BN_E_NOT_SUPPORTED, "alone" },
		{ MODULES, "{\"pooling_mode_max_tokens\": true}", BN_E_NOT_SUPPORTED,
		  "1_Pooling/config.json" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum bn_pooling pooling;
		struct bn_error err = { 0 };

		hf_expect(load(cases[i].modules, cases[i].pooling, &pooling, &err), &err,
			  cases[i].status, cases[i].words);
		assert_int_equal(pooling, BN_POOL_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways_to_say_it_are_read),
		cmocka_unit_test(a_folder_without_modules_says_nothing),
		cmocka_unit_test(what_bnd_would_not_do_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
