/* Text to tokens and back: options, limits, broken bytes, and texts made to be expensive. */
#include "engine/tokenizer.h"

#include "engine/utf8.h"
#include "tests/engine/texts.h"
#include "tests/engine/vocabs.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void tokenizer_gives_random_text_back(void **state)
{
	const struct texts *x = *state;

	texts_random_round_trips(x->bpe);
	texts_random_round_trips(x->spm);
}

static void tokenizer_adds_bos_and_eos_only_when_asked(void **state)
{
	struct vocabs v;
	struct bn_tokenizer *tok;
	struct bn_tokens t;

	(void)state;
	vocabs_tiny_bpe(&v);
	v.vocab.add_eos = true;
	tok = vocabs_make(&v);
	t = texts_encode_with(tok, "", 0, (struct bn_encode_options){ .add_special = true });
	assert_int_equal(t.n, 2);
	assert_int_equal(t.ids[0], bn_tokenizer_bos(tok));
	assert_int_equal(t.ids[1], bn_tokenizer_eos(tok));
	bn_tokens_finish(&t);
	t = texts_encode_with(tok, NULL, 0, (struct bn_encode_options){ 0 });
	assert_int_equal(t.n, 0);
	bn_tokens_finish(&t);
	bn_tokenizer_free(tok);
	vocabs_finish(&v);
}

static void tokenizer_refuses_text_that_is_too_long(void **state)
{
	const struct texts *x = *state;
	struct bn_encode_options options = { .max_bytes = 10 };
	struct bn_tokens t = { 0 };
	struct bn_error err;

	assert_int_equal(bn_tokens_push(&t, 7, NULL), BN_OK);
	assert_int_equal(bn_tokenizer_encode(x->bpe, "12345678901", 11, &options, &t, &err),
			 BN_E_TOO_LARGE);
	assert_int_equal(t.n, 1); /* what was there before */
	assert_string_equal(err.data[0].key, "limit");
	assert_int_equal(err.data[0].number, 10);
	assert_int_equal(err.data[1].number, 11);
	assert_int_equal(bn_tokenizer_encode(x->bpe, "1234567890", 10, &options, &t, &err), BN_OK);
	assert_int_equal(t.n, 9); /* 123 is a token */
	bn_tokens_finish(&t);
}

static void tokenizer_stops_when_cancelled(void **state)
{
	const struct texts *x = *state;
	atomic_bool cancel = true;
	struct bn_encode_options options = { .cancel = &cancel, .add_special = true };
	struct bn_tokens t = { 0 };
	struct bn_error err;

	assert_int_equal(bn_tokenizer_encode(x->bpe, "text", 4, &options, &t, &err),
			 BN_E_CANCELLED);
	assert_int_equal(t.n, 0);
	atomic_store(&cancel, false);
	assert_int_equal(bn_tokenizer_encode(x->bpe, "text", 4, &options, &t, &err), BN_OK);
	assert_int_equal(t.n, 5); /* bos and four bytes */
	bn_tokens_finish(&t);
}

static void tokenizer_replaces_broken_utf8(void **state)
{
	const struct texts *x = *state;
	struct bn_tokens got =
		texts_encode_with(x->bpe, "a\xFF\xE2\x82z", 5, (struct bn_encode_options){ 0 });
	struct bn_tokens want = texts_encode(x->bpe, "a\uFFFD\uFFFDz");

	texts_assert_ids("broken", got, want.ids, want.n);
	bn_tokens_finish(&want);
}

static void detok_gives_whole_characters_only(void **state)
{
	const struct texts *x = *state;
	static const char text[] = "£ 👩‍💻 café 镇";
	struct bn_tokens t = texts_encode(x->bpe, text);
	struct bn_detok d;
	char all[256];
	size_t n = 0;

	bn_detok_init(&d, x->bpe, 0);
	for (size_t i = 0; i < t.n; i++) {
		char part[BN_DETOK_BYTES];
		size_t bytes = bn_detok_push(&d, t.ids[i], part);

		assert_true(bn_utf8_valid(part, bytes));
		memcpy(all + n, part, bytes);
		n += bytes;
	}
	assert_int_equal(bn_detok_flush(&d, all + n), 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(all, text, n);
	bn_tokens_finish(&t);
}

static void detok_replaces_what_never_becomes_a_character(void **state)
{
	const struct texts *x = *state;
	struct bn_detok d;
	char out[BN_DETOK_BYTES];

	bn_detok_init(&d, x->spm, BN_DETOK_CONTINUES);
	assert_int_equal(bn_detok_push(&d, 3 + 0xE2, out), 0);
	assert_int_equal(bn_detok_push(&d, 3 + 0x82, out), 0);
	assert_int_equal(bn_detok_push(&d, 3 + 'x', out), 4);
	assert_memory_equal(out, "\uFFFDx", 4);
	assert_int_equal(bn_detok_push(&d, 3 + 0xF0, out), 0);
	assert_int_equal(bn_detok_flush(&d, out), 3);
	assert_memory_equal(out, "\uFFFD", 3);
	assert_int_equal(bn_detok_flush(&d, out), 0);
	assert_int_equal(bn_detok_push(&d, UINT32_MAX, out), 0);
}

static void detok_strips_the_dummy_space_at_the_start_only(void **state)
{
	const struct texts *x = *state;
	struct bn_tokens t = texts_encode_with(x->spm, "once once", 9,
					       (struct bn_encode_options){ .add_special = true });
	char out[64];
	size_t n;

	assert_int_equal(bn_tokenizer_decode(x->spm, t.ids, t.n, 0, out, sizeof(out), &n, NULL),
			 BN_OK);
	assert_int_equal(n, 9);
	assert_memory_equal(out, "once once", 9);
	assert_int_equal(bn_tokenizer_decode(x->spm, t.ids, t.n, BN_DETOK_CONTINUES, out,
					     sizeof(out), &n, NULL),
			 BN_OK);
	assert_int_equal(n, 10);
	assert_memory_equal(out, " once once", 10);
	assert_int_equal(bn_tokenizer_decode(x->spm, t.ids, t.n, BN_DETOK_SPECIAL, out, sizeof(out),
					     &n, NULL),
			 BN_OK);
	assert_int_equal(n, 12);
	assert_memory_equal(out, "<s>once once", 12);
	bn_tokens_finish(&t);
}

static void tokenizer_decode_tells_what_it_needs(void **state)
{
	const struct texts *x = *state;
	struct bn_tokens t = texts_encode(x->bpe, "hello world, how are you");
	char out[64] = "untouched";
	struct bn_error err;
	size_t needed = 0;

	assert_int_equal(bn_tokenizer_decode(x->bpe, t.ids, t.n, 0, out, 0, &needed, NULL), BN_OK);
	assert_int_equal(needed, 24);
	assert_string_equal(out, "untouched");
	assert_int_equal(bn_tokenizer_decode(x->bpe, t.ids, t.n, 0, out, 24, &needed, NULL), BN_OK);
	assert_memory_equal(out, "hello world, how are you", 24);
	t.ids[2] = 99999;
	assert_int_equal(bn_tokenizer_decode(x->bpe, t.ids, t.n, 0, out, 24, &needed, &err),
			 BN_E_INVALID);
	assert_non_null(strstr(err.text, "99999"));
	assert_non_null(strstr(err.text, "index 2"));
	bn_tokens_finish(&t);
}

static void tokenizer_takes_hostile_text_in_reasonable_time(void **state)
{
	const struct texts *x = *state;

	texts_take_hostile(x->bpe);
	texts_take_hostile(x->spm);
}

static void *encode_hostile(void *who)
{
	const struct texts *x = who;

	for (size_t h = 0; texts_hostile_at(h) != NULL; h++) {
		size_t n;
		char *text = texts_repeat(texts_hostile_at(h), 64 * 1024, &n);

		texts_round_trip(x->bpe, text, n);
		texts_round_trip(x->spm, text, n);
		free(text);
	}
	return NULL;
}

/* Helpers have whatever stack the thread pool gives them; recursion would need megabytes. */
static void tokenizer_needs_little_stack(void **state)
{
	pthread_attr_t attr;
	pthread_t thread;
	size_t stack = 64 * 1024;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	stack *= 8; /* sanitizers put red zones around every local */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	stack *= 8;
#endif
#endif
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
	assert_int_equal(pthread_create(&thread, &attr, encode_hostile, *state), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
}

/* Pieces longer than the cap are cut between characters, and cost no memory beyond it. */
static void tokenizer_cuts_endless_words_between_characters(void **state)
{
	const struct texts *x = *state;
	size_t n;
	char *text = texts_repeat("镇", 3 * BN_TOKENIZER_PIECE_BYTES, &n);

	texts_round_trip(x->bpe, text, n);
	texts_round_trip(x->spm, text, n);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokenizer_gives_random_text_back),
		cmocka_unit_test(tokenizer_adds_bos_and_eos_only_when_asked),
		cmocka_unit_test(tokenizer_refuses_text_that_is_too_long),
		cmocka_unit_test(tokenizer_stops_when_cancelled),
		cmocka_unit_test(tokenizer_replaces_broken_utf8),
		cmocka_unit_test(detok_gives_whole_characters_only),
		cmocka_unit_test(detok_replaces_what_never_becomes_a_character),
		cmocka_unit_test(detok_strips_the_dummy_space_at_the_start_only),
		cmocka_unit_test(tokenizer_decode_tells_what_it_needs),
		cmocka_unit_test(tokenizer_takes_hostile_text_in_reasonable_time),
		cmocka_unit_test(tokenizer_needs_little_stack),
		cmocka_unit_test(tokenizer_cuts_endless_words_between_characters),
	};

	return cmocka_run_group_tests_name("engine/tokenizer", tests, texts_small, texts_drop);
}
