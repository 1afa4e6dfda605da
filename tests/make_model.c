/*
 * bn-make-model: writes a synthetic model (tests/tiny.h) from the command line, for benchmarks and
 * load tests at the true dimensions of published models without their weights.
 *
 *   bn-make-model --preset bitnet-2b-4t --out /tmp/2b.gguf
 */
#include "engine/codec.h"
#include "tests/tiny.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static void usage(FILE *to)
{
	fprintf(to, "usage: bn-make-model [--preset NAME] [--OPTION N ...] --out FILE\n"
		    "\n"
		    "Writes a GGUF model with random ternary weights. Without a preset it has 2\n"
		    "layers and a few hundred kilobytes; options change single dimensions.\n"
		    "\n"
		    "  --layers --dim --ffn --heads --kv-heads --vocab --context   numbers\n"
		    "  --arch NAME            general.architecture\n"
		    "  --embedding TYPE       f32, f16, q8_0 or q6_k\n"
		    "  --type TYPE            i2_s, tl1, tl2, tq1_0, tq2_0, iq1_bn or iq2_bn\n"
		    "  --tokenizer gpt2|spm\n"
		    "  --tied 0|1  --sub-norms 0|1\n"
		    "  --vectors qwen3|gemma3 a model that makes vectors; say it first\n"
		    "  --pooling 1|2|3        of one: mean, first, last\n"
		    "  --seed N               another seed, other weights\n"
		    "\n"
		    "presets:");
	for (uint32_t i = 0; bn_tiny_preset_at(i) != NULL; i++) {
		fprintf(to, " %s", bn_tiny_preset_at(i));
	}
	fprintf(to, "\n");
}

/* A number of an option, whole and in range, or a complaint and the end. */
static uint64_t number(const char *option, const char *text, uint64_t max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || text[0] == '-' || value > max) {
		fprintf(stderr, "bn-make-model: --%s %s: must be a number from 0 to %llu\n", option,
			text, (unsigned long long)max);
		exit(EX_USAGE);
	}
	return value;
}

static void apply(struct bn_tiny *t, const char *option, const char *value)
{
	const struct {
		const char *option;
		uint32_t *field;
	} numbers[] = {
		{ "layers", &t->layers },   { "dim", &t->dim },           { "ffn", &t->ffn },
		{ "heads", &t->heads },     { "kv-heads", &t->kv_heads }, { "vocab", &t->vocab },
		{ "context", &t->context },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strcmp(option, numbers[i].option) == 0) {
			*numbers[i].field = (uint32_t)number(option, value, UINT32_MAX);
			return;
		}
	}
	if (strcmp(option, "seed") == 0) {
		t->seed = number(option, value, UINT64_MAX);
	} else if (strcmp(option, "tied") == 0) {
		t->tied = number(option, value, 1) != 0;
	} else if (strcmp(option, "sub-norms") == 0) {
		t->sub_norms = number(option, value, 1) != 0;
	} else if (strcmp(option, "vectors") == 0) {
		bn_tiny_vectors(t, value);
	} else if (strcmp(option, "pooling") == 0) {
		t->vectors.pooling = (uint32_t)number(option, value, 3);
	} else if (strcmp(option, "arch") == 0) {
		t->arch = value;
	} else if (strcmp(option, "tokenizer") == 0 && strcmp(value, "gpt2") == 0) {
		t->tokenizer = BN_TINY_GPT2;
	} else if (strcmp(option, "tokenizer") == 0 && strcmp(value, "spm") == 0) {
		t->tokenizer = BN_TINY_SPM;
	} else if (strcmp(option, "type") == 0) {
		for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
			if (strcmp(value, bn_ggml_name(bn_codec_at(i)->type)) == 0) {
				t->trits = bn_codec_at(i)->type;
				return;
			}
		}
		fprintf(stderr, "bn-make-model: --type %s: holds no trits\n", value);
		exit(EX_USAGE);
	} else if (strcmp(option, "embedding") == 0) {
		static const enum bn_ggml_type types[] = { BN_GGML_F32, BN_GGML_F16, BN_GGML_Q8_0,
							   BN_GGML_Q6_K };

		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			if (strcmp(value, bn_ggml_name(types[i])) == 0) {
				t->embedding = types[i];
				return;
			}
		}
		fprintf(stderr, "bn-make-model: --embedding %s: must be f32, f16, q8_0 or q6_k\n",
			value);
		exit(EX_USAGE);
	} else {
		fprintf(stderr, "bn-make-model: --%s %s: no such value\n", option, value);
		exit(EX_USAGE);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "preset", required_argument, NULL, 0 },
		{ "out", required_argument, NULL, 0 },
		{ "layers", required_argument, NULL, 0 },
		{ "dim", required_argument, NULL, 0 },
		{ "ffn", required_argument, NULL, 0 },
		{ "heads", required_argument, NULL, 0 },
		{ "kv-heads", required_argument, NULL, 0 },
		{ "vocab", required_argument, NULL, 0 },
		{ "context", required_argument, NULL, 0 },
		{ "arch", required_argument, NULL, 0 },
		{ "embedding", required_argument, NULL, 0 },
		{ "type", required_argument, NULL, 0 },
		{ "tokenizer", required_argument, NULL, 0 },
		{ "tied", required_argument, NULL, 0 },
		{ "sub-norms", required_argument, NULL, 0 },
		{ "seed", required_argument, NULL, 0 },
		{ "vectors", required_argument, NULL, 0 },
		{ "pooling", required_argument, NULL, 0 },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *out = NULL;
	struct bn_error err;
	struct bn_tiny t;
	int which, c;

	bn_tiny_default(&t);
	while ((c = getopt_long(argc, argv, "h", options, &which)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return EX_OK;
		}
		if (c != 0) {
			usage(stderr);
			return EX_USAGE;
		}
		if (strcmp(options[which].name, "out") == 0) {
			out = optarg;
		} else if (strcmp(options[which].name, "preset") != 0) {
			apply(&t, options[which].name, optarg);
		} else if (!bn_tiny_preset(&t, optarg)) {
			fprintf(stderr, "bn-make-model: --preset %s: no such preset\n", optarg);
			usage(stderr);
			return EX_USAGE;
		}
	}
	if (out == NULL || optind != argc) {
		usage(stderr);
		return EX_USAGE;
	}
	if (bn_tiny_write(&t, out, &err) != BN_OK) {
		fprintf(stderr, "bn-make-model: %s\n", err.text);
		return EX_CANTCREAT;
	}
	return EX_OK;
}
