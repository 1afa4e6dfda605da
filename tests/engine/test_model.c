#include "engine/model.h"

#include "engine/forward.h"
#include "engine/utf8.h"
#include "kernels/cpu.h"
#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static enum bn_status open_with(struct bn_model_plan **plan, const char *path,
				struct bn_model_options options, struct bn_error *err)
{
	bn_enter_helper();
	options.cpu = options.cpu != 0 ? options.cpu : bn_cpu_features();
	*plan = NULL;
	return bn_model_open(plan, path, &options, err);
}

static struct bn_model_plan *plan_of(const char *path)
{
	struct bn_model_plan *plan;
	struct bn_error err;

	if (open_with(&plan, path, (struct bn_model_options){ 0 }, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	return plan;
}

static void a_plan_knows_the_model_before_it_is_loaded(void **state)
{
	struct bn_tiny t;
	struct bn_model_plan *plan;
	const struct bn_model_info *i;
	struct stat st;

	(void)state;
	bn_tiny_default(&t);
	t.name = "a tiny\nmodel \xff\xc3\xa9";

	const char *path = rig_tiny(&t);

	plan = plan_of(path);
	i = bn_model_plan_info(plan);
	stat(path, &st);
	assert_string_equal(i->name, "a tiny?model ?\xc3\xa9");
	assert_string_equal(i->licence, "");
	assert_string_equal(i->architecture, "bitnet-b1.58");
	assert_string_equal(i->activation, "relu2");
	assert_string_equal(i->tokenizer, "bpe");
	assert_string_equal(i->embed_type, "f16");
	assert_string_equal(i->head_type, "f16");
	assert_non_null(strstr(i->kernel, "i2s."));
	assert_non_null(strstr(i->kernel_why, "best that runs here"));
	assert_true(i->tied && i->sub_norms && i->known == NULL);
	assert_int_equal(i->layers, 2);
	assert_int_equal(i->vocab, 512);
	assert_int_equal(i->context, 256);
	assert_int_equal(i->ternary_parameters, 2 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 256 * 128));
	assert_int_equal(i->parameters,
			 i->ternary_parameters + 512 * 128 + 128 + 2 * (3 * 128 + 256));
	assert_int_equal(i->kv_position_bytes, 2 * 2 * 32 * 2 * 2);
	assert_int_equal(i->file_bytes, st.st_size);
	assert_true(i->weights_bytes > i->ternary_parameters / 4 + 512 * 128 * 2);
	assert_string_equal(i->digest, "");
	bn_model_plan_free(plan);
	bn_model_plan_free(NULL);
}

static void a_loaded_model_needs_neither_plan_nor_file(void **state)
{
	struct bn_tiny t;
	struct bn_model_plan *plan;
	struct bn_model *m = NULL;
	struct bn_load_watch watch;

	(void)state;
	memset(&watch, 0, sizeof(watch));
	bn_tiny_default(&t);

	const char *path = rig_tiny(&t);

	bn_enter_helper();
	plan = plan_of(path);

	const struct bn_model_info before = *bn_model_plan_info(plan);

	assert_int_equal(bn_model_load(&m, plan, &watch, NULL), BN_OK);
	assert_int_equal(atomic_load(&watch.done_bytes), before.file_bytes);
	bn_model_plan_free(plan);
	unlink(path);
	assert_int_equal(strlen(m->info.digest), 64);
	assert_int_equal(m->info.weights_bytes, before.weights_bytes);
	assert_int_equal(m->vocab, 512);
	assert_int_equal(bn_tokenizer_size(m->tok), 512);
	assert_int_equal(m->kv.head_dim, 32);
	bn_model_free(m);
	bn_model_free(NULL);
}

static void the_context_may_be_capped_but_not_stretched(void **state)
{
	static const struct {
		uint32_t max, want;
	} cases[] = { { 0, 256 }, { 100, 100 }, { 256, 256 }, { 100000, 256 } };
	struct bn_tiny t;

	(void)state;
	bn_tiny_default(&t);

	const char *path = rig_tiny(&t);

	for (size_t i = 0; i < 4; i++) {
		struct bn_model_plan *plan;

		assert_int_equal(open_with(&plan, path,
					   (struct bn_model_options){ .max_context = cases[i].max },
					   NULL),
				 BN_OK);
		assert_int_equal(bn_model_plan_info(plan)->context, cases[i].want);
		assert_int_equal(bn_model_plan_info(plan)->trained_context, 256);
		bn_model_plan_free(plan);
	}
}

static void options_choose_kernel_and_template(void **state)
{
	static const char *const scalar[] = { "i2s.scalar", NULL };
	static const char *const none[] = { "i2s.none", NULL };
	struct bn_model_plan *plan;
	struct bn_tiny t;
	struct bn_error err;

	(void)state;
	bn_tiny_default(&t);

	const char *path = rig_tiny(&t);

	assert_int_equal(
		open_with(&plan, path, (struct bn_model_options){ .kernels = scalar }, &err),
		BN_OK);
	assert_string_equal(bn_model_plan_info(plan)->kernel, "i2s.scalar");
	assert_non_null(strstr(bn_model_plan_info(plan)->kernel_why, "first of those configured"));
	bn_model_plan_free(plan);
	assert_int_equal(open_with(&plan, path, (struct bn_model_options){ .kernels = none }, &err),
			 BN_E_KERNEL);
	assert_int_equal(
		open_with(&plan, path, (struct bn_model_options){ .chat_template = "plain" }, &err),
		BN_OK);
	assert_string_equal(bn_model_plan_info(plan)->chat_template, "plain");
	bn_model_plan_free(plan);
	assert_int_equal(open_with(&plan, path,
				   (struct bn_model_options){ .chat_template = "jinja9" }, &err),
			 BN_E_CONFIG);
	assert_null(plan);
}

static void a_missing_tokenizer_is_refused_and_an_odd_one_warned_about(void **state)
{
	struct bn_tiny t;
	struct graph g;
	struct bn_model_plan *plan = NULL;
	struct bn_error err;

	/* A skeleton without a tokenizer is refused by name: the vocabulary is part of a model. */
	(void)state;
	graph_init(&g);
	graph_write(&g, rig_path("graph.gguf"));
	assert_int_not_equal(
		open_with(&plan, rig_path("graph.gguf"), (struct bn_model_options){ 0 }, &err),
		BN_OK);
	assert_non_null(strstr(err.text, "tokenizer.ggml.model"));

	bn_tiny_default(&t);
	t.pre = "no-such-pre-type";

	plan = plan_of(rig_tiny(&t));
	assert_true(bn_model_plan_info(plan)->n_warnings >= 1);
	for (uint32_t i = 0; i < bn_model_plan_info(plan)->n_warnings; i++) {
		const char *w = bn_model_plan_info(plan)->warnings[i];

		assert_true(strlen(w) > 10 && bn_utf8_valid(w, strlen(w)));
	}
	bn_model_plan_free(plan);
}

/* A FIFO nobody writes to, or a file without end, would hang here, into the test's time limit. */
static void what_is_no_model_file_is_refused_at_once(void **state)
{
	const char *fifo;
	struct bn_model_plan *plan;
	struct bn_error err;
	FILE *f;

	(void)state;
	assert_int_equal(
		open_with(&plan, "/nonexistent/x.gguf", (struct bn_model_options){ 0 }, &err),
		BN_E_IO);
	assert_int_equal(open_with(&plan, "/", (struct bn_model_options){ 0 }, &err), BN_E_FORMAT);
	assert_int_equal(open_with(&plan, "/dev/zero", (struct bn_model_options){ 0 }, &err),
			 BN_E_FORMAT);
	fifo = rig_path("fifo");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(open_with(&plan, fifo, (struct bn_model_options){ 0 }, &err), BN_E_FORMAT);
	f = fopen(rig_path("empty.gguf"), "w");
	fclose(f);
	assert_int_equal(
		open_with(&plan, rig_path("empty.gguf"), (struct bn_model_options){ 0 }, &err),
		BN_E_FORMAT);
	f = fopen(rig_path("text.gguf"), "w");
	fputs("This is not a model, but it is long enough to look like one.\n", f);
	fclose(f);
	assert_int_equal(
		open_with(&plan, rig_path("text.gguf"), (struct bn_model_options){ 0 }, &err),
		BN_E_FORMAT);
}

/* Every truncation of a model is an error of opening, whichever part of the file it hits. */
static void truncated_files_are_refused(void **state)
{
	struct bn_tiny t;
	struct stat st;
	struct bn_error err;

	(void)state;
	bn_tiny_default(&t);

	char path[256];

	snprintf(path, sizeof(path), "%s", rig_tiny(&t));
	stat(path, &st);
	for (off_t n = st.st_size - 1; n > 0; n -= 1 + st.st_size / 97) {
		struct bn_model_plan *plan = NULL;

		assert_int_equal(truncate(path, n), 0);
		assert_int_equal(open_with(&plan, path, (struct bn_model_options){ 0 }, &err),
				 BN_E_FORMAT);
		assert_null(plan);
	}
}

static bool flip(const char *path, off_t at, int bit)
{
	unsigned char c = 0;
	FILE *f = fopen(path, "r+b");
	bool ok = f != NULL && fseeko(f, at, SEEK_SET) == 0 && fread(&c, 1, 1, f) == 1;

	c ^= (unsigned char)(1 << bit);
	ok = ok && fseeko(f, at, SEEK_SET) == 0 && fwrite(&c, 1, 1, f) == 1;
	if (f != NULL) {
		fclose(f);
	}
	return ok;
}

/* A flipped bit either is an error with a sentence or leaves a model that runs: never a crash. */
static void flipped_bits_never_crash(void **state)
{
	enum { FLIPS = 300 };
	struct bn_tiny t;
	struct stat st;
	uint64_t x = 1;
	unsigned refused = 0;
	char path[256];

	(void)state;
	bn_tiny_default(&t);
	t.vocab = 300;
	snprintf(path, sizeof(path), "%s", rig_tiny(&t));
	stat(path, &st);
	for (unsigned i = 0; i < FLIPS; i++) {
		struct bn_model_plan *plan = NULL;
		struct bn_model *m = NULL;
		struct bn_error err = { .status = BN_OK };
		enum bn_status status;

		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);

		/* half of them into the header, where there is most to say */
		const off_t where =
			(off_t)((x >> 20) % (uint64_t)(i % 2 == 0 ? st.st_size / 20 : st.st_size));
		const int bit = (int)(x >> 60) % 8;

		assert_true(flip(path, where, bit));
		bn_enter_helper();
		status = open_with(&plan, path, (struct bn_model_options){ 0 }, &err);
		if (status == BN_OK) {
			status = bn_model_load(&m, plan, NULL, &err);
		}
		if (status != BN_OK) {
			refused++;
			assert_true(strlen(err.text) > 10);
		}
		bn_model_plan_free(plan);
		bn_model_free(m);
		assert_true(flip(path, where, bit));
	}
	print_message("%u of %d flips were noticed\n", refused, FLIPS);
	assert_true(refused > FLIPS / 10 && refused < FLIPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plan_knows_the_model_before_it_is_loaded),
		cmocka_unit_test(a_loaded_model_needs_neither_plan_nor_file),
		cmocka_unit_test(the_context_may_be_capped_but_not_stretched),
		cmocka_unit_test(options_choose_kernel_and_template),
		cmocka_unit_test(a_missing_tokenizer_is_refused_and_an_odd_one_warned_about),
		cmocka_unit_test(what_is_no_model_file_is_refused_at_once),
		cmocka_unit_test(truncated_files_are_refused),
		cmocka_unit_test(flipped_bits_never_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
