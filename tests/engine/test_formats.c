/*
 * One model in every ternary type of GGUF: all of them load and give the same logits, bit for bit.
 * Scales are powers of two here, which every type holds exactly.
 */
#include "engine/codec.h"
#include "kernels/cpu.h"
#include "tests/engine/graph.h"
#include "tests/engine/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT = 9 };

/* Rows of 512 and 2048: scales sqrt(2 / 512), sqrt(2 / 2048) and half of them. */
static void describe(struct bn_tiny *t, enum bn_ggml_type trits)
{
	bn_tiny_default(t);
	t->dim = 512;
	t->ffn = 2048;
	t->heads = 4;
	t->kv_heads = 2;
	t->trits = trits;
}

static float *logits_of(enum bn_ggml_type trits, uint64_t *transient)
{
	bn_token prompt[PROMPT];
	struct bn_tiny t;
	struct rig r;
	float *logits;

	describe(&t, trits);
	rig_open(&r, rig_tiny(&t), bn_cpu_features(), 2);
	rig_prompt(&r, 1, prompt, PROMPT);
	logits = rig_logits(&r, prompt, PROMPT, PROMPT);
	*transient = r.model->info.load_bytes;
	rig_close(&r);
	return logits;
}

static void all_ternary_types_give_the_same_logits(void **state)
{
	uint64_t transient, of_i2s;
	float *expected = logits_of(BN_GGML_I2_S, &of_i2s);

	(void)state;
	for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
		float *got = logits_of(bn_codec_at(i)->type, &transient);

		if (memcmp(got, expected, sizeof(*got) * PROMPT * 512) != 0) {
			fail_msg("%s gives other logits", bn_ggml_name(bn_codec_at(i)->type));
		}
		/* a whole matrix in memory is announced */
		assert_true(!bn_codec_at(i)->whole || transient > of_i2s + 2048 * 512 / 4);
		free(got);
	}
	free(expected);
}

/* Writes the model, overwrites bytes of its last gate matrix, loads. */
static enum bn_status load_spoiled(enum bn_ggml_type trits, uint64_t at, const void *bytes,
				   size_t n, struct bn_error *err)
{
	char digest[BN_DIGEST_TEXT_BYTES];
	struct bn_weights w;
	struct bn_tiny t;
	struct bound b;
	enum bn_status status;
	const char *path;
	FILE *f;

	describe(&t, trits);
	path = rig_tiny(&t);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);
	at += bn_gguf_tensor(b.gguf, "blk.1.ffn_gate.weight")->offset;
	unbind(&b);
	f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
	assert_int_equal(bind_file(&b, path, NULL, err), BN_OK);
	status = bn_weights_load(&w, b.binding, NULL, digest, err);
	assert_null(w.layers);
	unbind(&b);
	return status;
}

static void damage_and_groups_are_named(void **state)
{
	static const struct {
		enum bn_ggml_type type;
		uint64_t at;
		const char *bytes;
		size_t n;
		enum bn_status status;
		const char *words;
	} cases[] = {
		{ BN_GGML_I2_S, 70000, "\xff", 1, BN_E_FORMAT, "not i2_s" },
		{ BN_GGML_TL1, 70000, "\x99", 1, BN_E_FORMAT, "read as tl1 in tiles of 256 x 128" },
		{ BN_GGML_TL2, 70000, "\xff", 1, BN_E_FORMAT, "read as tl2 in tiles of 256 x 96" },
		{ BN_GGML_TQ1_0, 54 * 700, "\x14", 1, BN_E_FORMAT, "not tq1_0" },
		{ BN_GGML_TQ2_0, 66 * 700 + 8, "\xff", 1, BN_E_FORMAT, "not tq2_0" },
		{ BN_GGML_IQ1_BN, 106 * 700 + 50, "\x14", 1, BN_E_FORMAT, "not iq1_bn" },
		{ BN_GGML_IQ2_BN, 132 * 700 + 50, "\xff", 1, BN_E_FORMAT, "not iq2_bn" },
		{ BN_GGML_TQ1_0, 54 * 700 + 52, "\x00\x3c", 2, BN_E_NOT_SUPPORTED,
		  "different scales (0.0625 and 1)" },
		{ BN_GGML_TQ2_0, 66 * 700 + 64, "\x00\x3c", 2, BN_E_NOT_SUPPORTED,
		  "different scales (0.0625 and 1)" },
		{ BN_GGML_IQ1_BN, 106 * 700, "\x00\x3c", 2, BN_E_NOT_SUPPORTED,
		  "different scales (0.0625 and 1)" },
		{ BN_GGML_IQ2_BN, 132 * 700, "\x00\x00\x80\x3f", 4, BN_E_NOT_SUPPORTED,
		  "different scales (0.0625 and 1)" },
		{ BN_GGML_IQ2_BN, 132 * 700, "\x00\x00\xc0\x7f", 4, BN_E_FORMAT,
		  "its scale is nan" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_error err = { 0 };
		const enum bn_status got =
			load_spoiled(cases[i].type, cases[i].at, cases[i].bytes, cases[i].n, &err);

		if (got != cases[i].status || strstr(err.text, cases[i].words) == NULL ||
		    strstr(err.text, "tensor 'blk.1.ffn_gate.weight'") == NULL) {
			fail_msg("%s %s: %s (no '%s')", bn_ggml_name(cases[i].type),
				 bn_status_word(got), err.text, cases[i].words);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_ternary_types_give_the_same_logits),
		cmocka_unit_test(damage_and_groups_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
