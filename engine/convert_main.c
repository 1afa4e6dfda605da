/*
 * bn-convert: a Hugging Face model folder, or a GGUF file of another kind, becomes one GGUF file
 * that bnd runs.
 */
#include "engine/checkpoint.h"
#include "engine/convert.h"
#include "engine/convert_out.h"
#include "engine/guide.h"
#include "engine/kv.h"
#include "engine/reencode.h"
#include "kernels/cpu.h"
#include "proto/error.h"
#include "proto/role.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	BAR_WIDTH = 32,
	BAR_PERIOD_MS = 100,
	LINE_PERIOD_MS = 5000,
	MB = 1000000,
	SIGNAL_EXIT = 128
};

static const char help[] =
	"usage: bn-convert SOURCE -o OUT.gguf [options]\n"
	"       bn-convert --info FOLDER\n"
	"\n"
	"Makes one GGUF file that bnd runs, and checks it by reading it back. SOURCE is a model\n"
	"folder as downloaded from Hugging Face (config.json, *.safetensors, tokenizer.json or\n"
	"tokenizer.model), or a GGUF file whose ternary weights are i2_s, tl1, tl2, tq1_0, tq2_0,\n"
	"iq1_bn or iq2_bn; its metadata are carried over as they are.\n"
	"\n"
	"  -o, --output FILE        the file to write\n"
	"      --kernel NAME        layout of the ternary weights: i2_s, tl1 (on ARM) or tl2 (on x86)\n"
	"                           as bitnet.cpp has them, or auto: i2_s, where the model may use\n"
	"                           it, else the other that it may                        [auto]\n"
	"      --embedding TYPE     embedding and output matrix: f16, q8_0 (half the size, answers\n"
	"                           faster), q6_k (smaller still), or keep, for a GGUF file: as\n"
	"                           it is there                   [f16; keep for a GGUF file]\n"
	"      --tl-params HOW      how a tl1 or tl2 SOURCE that does not say it was cut: codegen\n"
	"                           (setup_env.py), presets (setup_env.py -p), BM,BK,bm, or\n"
	"                           ROWSxCOLUMNS=BM,BK,bm; may be given several times\n"
	"      --name NAME          the model's name in the file   [the folder's, or as it is]\n"
	"      --ternarize          round float weights to trits even if config.json does not say\n"
	"                           that the model was trained for it (folders)\n"
	"  -f, --force              replace OUT.gguf if it is there\n"
	"  -q, --quiet              no progress, no notices\n"
	"      --info               say what the folder holds, convert nothing\n"
	"  -h, --help               this text\n"
	"      --version            the version\n"
	"\n"
	"Examples:\n"
	"  bn-convert bitnet-b1.58-2B-4T -o bitnet-2b.gguf\n"
	"  bn-convert Falcon3-7B-Instruct-1.58bit -o falcon3-7b.gguf --embedding q8_0\n"
	"  bn-convert bitnet-2b-iq2_bn.gguf -o bitnet-2b.gguf\n"
	"\n"
	"Exit status: 0 done, 64 wrong usage, 65 the source is damaged or not a model bnd runs,\n"
	"66 it cannot be read, 71 out of memory, 73 the file cannot be made, 70 a fault in here.\n";

struct arguments {
	const char *source, *output;
	struct bn_convert_options convert;
	struct bn_checkpoint_options checkpoint;
	struct bn_tiles_advice tiles;
	bool info, quiet, keep;
};

/* --- progress -------------------------------------------------------------------------------- */

/* Set by signals, so that the temporary file is removed. */
static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

struct bar {
	bool terminal;
	bool quiet;
	uint64_t last_ms;
	bool drawn;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A bar that redraws itself on a terminal, a line now and then elsewhere. */
static bool draw(void *who, const char *phase, uint64_t done, uint64_t total)
{
	struct bar *bar = who;
	const uint64_t now = now_ms();
	const unsigned percent = total > 0 ? (unsigned)(done * 100 / total) : 100;
	const unsigned filled = percent * BAR_WIDTH / 100;
	char cells[BAR_WIDTH + 1];

	if (interrupted != 0 || bar->quiet ||
	    now - bar->last_ms < (bar->terminal ? BAR_PERIOD_MS : LINE_PERIOD_MS)) {
		return interrupted == 0;
	}
	bar->last_ms = now;
	bar->drawn = true;
	if (!bar->terminal) {
		fprintf(stderr, "%s %u%%\n", phase, percent);
		return true;
	}
	for (unsigned i = 0; i < BAR_WIDTH; i++) {
		cells[i] = i < filled ? '#' : '.';
	}
	cells[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%-10s [%s] %3u%%  %llu of %llu MB ", phase, cells, percent,
		(unsigned long long)(done / MB), (unsigned long long)(total / MB));
	fflush(stderr);
	return true;
}

static void clear(struct bar *bar)
{
	if (bar->terminal && bar->drawn) {
		fprintf(stderr, "\r\033[K");
		fflush(stderr);
	}
}

/* --- answers --------------------------------------------------------------------------------- */

static int exit_status(enum bn_status status)
{
	switch (status) {
	case BN_OK:
		return EX_OK;
	case BN_E_IO:
		return EX_NOINPUT;
	case BN_E_CONFLICT:
		return EX_CANTCREAT;
	case BN_E_MEMORY:
		return EX_OSERR;
	case BN_E_INTERNAL:
		return EX_SOFTWARE;
	case BN_E_KERNEL:
		return EX_USAGE;
	default:
		return EX_DATAERR;
	}
}

static int complain(const char *what, enum bn_status status, const struct bn_error *err)
{
	fprintf(stderr, "bn-convert: %s: %s\n", what, err->text);
	return exit_status(status);
}

static void tell_end_tokens(const struct bn_checkpoint *c)
{
	printf("ends with     ");
	for (uint32_t i = 0; i < c->n_eos; i++) {
		const struct bn_str text = c->vocab.tokens[c->eos[i]];

		printf("%s%u %.*s", i > 0 ? ", " : "", c->eos[i], (int)text.n, text.p);
	}
	puts(c->n_eos == 0 ? "no token is named" : "");
}

static void tell_weights(const struct bn_checkpoint *c)
{
	if (c->form == BN_FORM_PACKED) {
		printf("weights       packed ternary, %s by the scale (median %.4g)\n",
		       c->divide ? "divided" : "multiplied", (double)c->scale_median);
	} else {
		printf("weights       floating point%s\n",
		       c->may_ternarize ? ", to be rounded to trits"
					: ", ternary only if they are exactly so");
	}
}

/* What it will need: the weights once, and the cache of a whole context. */
static void tell_memory(const struct bn_checkpoint *c, const struct arguments *a)
{
	const struct bn_kv_shape kv = { c->layers, c->kv_heads, c->head_dim, BN_KV_F16 };
	const uint64_t position = bn_kv_position_bytes(&kv);
	uint32_t tensors;
	const uint64_t data = bn_convert_data_bytes(c, &a->convert, &tensors);

	printf("tensor data   %llu bytes in %u tensors, once converted\n", (unsigned long long)data,
	       tensors);
	printf("memory        about %llu MB for the weights, %llu kB for each token of context\n",
	       (unsigned long long)(data / MB), (unsigned long long)(position / 1000));
}

static void tell(const struct bn_checkpoint *c, const struct arguments *a)
{
	const struct bn_shape shape = bn_checkpoint_dimensions(c);
	char kernels[256];

	printf("name          %s\n", c->name);
	printf("dimensions    those of %s\n",
	       c->known != NULL ? c->known->name : "no model known by name");
	printf("architecture  %s, %s, %s\n", c->arch->name,
	       bn_family_activation_name(c->activation),
	       c->arch->input_norms == BN_ALWAYS ? "with input norms"
	       : c->sub_norms                    ? "with sub-norms"
						 : "without sub-norms");
	printf("size          %u layers, hidden %u, feed-forward %u, %u heads on %u of %u\n",
	       c->layers, c->dim, c->ffn, c->heads, c->kv_heads, c->head_dim);
	printf("vocabulary    %u tokens, %s (%s)%s\n", c->n_vocab,
	       c->vocab.kind == BN_TOKENIZER_SPM ? "SentencePiece" : "byte-level BPE", c->vocab.pre,
	       c->tied ? ", shared with the output" : "");
	tell_end_tokens(c);
	if (c->arch->embeds) {
		printf("vectors       %u numbers, pooled: %s\n", c->dim,
		       bn_pooling_name(c->pooling));
	} else {
		printf("chat          %s\n", c->vocab.chat_template != NULL
						     ? "has a template"
						     : "no template: completes text");
	}
	printf("context       %u tokens, rope base %.10g\n", c->context, c->rope_base);
	if (c->window > 0) {
		printf("window        %u tokens in all layers but every %uth, rope base %.10g\n",
		       c->window, c->window_period, c->window_rope_base);
	}
	tell_weights(c);
	tell_memory(c, a);
	printf("kernels       %s\n",
	       bn_guide_list(c->known, &shape, bn_cpu_features(), kernels, sizeof(kernels)));
	printf("licence       %s\n", c->licence[0] != '\0' ? c->licence : "not said in the folder");
	for (uint32_t i = 0; i < c->vocab.n_notices; i++) {
		printf("note          %s\n", c->vocab.notices[i]);
	}
}

static void tell_result(const struct arguments *a, const struct bn_convert_report *r,
			double seconds)
{
	for (uint32_t i = 0; i < r->n_notices; i++) {
		fprintf(stderr, "note: %s\n", r->notices[i]);
	}
	fprintf(stderr, "%s: %llu MB in %.1f s; %u ternary matrices as %s", a->output,
		(unsigned long long)(r->file_bytes / MB), seconds,
		r->packed + r->dequantized + r->latent + r->recoded, bn_ggml_name(r->format));
	if (r->recoded == 0) {
		fprintf(stderr, " (%u packed, %u dequantized, %u rounded)", r->packed,
			r->dequantized, r->latent);
	}
	fprintf(stderr, ", %.1f%% zeros; embedding %s; read back and equal\n",
		r->trits > 0 ? 100.0 * (double)r->zero_trits / (double)r->trits : 0.0,
		bn_ggml_name(r->embedding));
}

/* From a folder, or from a file when c is NULL. */
static int convert(const struct bn_checkpoint *c, struct arguments *a)
{
	struct bar bar = { .terminal = isatty(STDERR_FILENO) != 0,
			   .quiet = a->quiet,
			   .last_ms = now_ms() };
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	const uint64_t start = now_ms();
	struct bn_convert_report r = { 0 };
	struct bn_error err;
	enum bn_status status;

	bn_enter_helper();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	a->convert.progress = draw;
	a->convert.who = &bar;
	status = c != NULL ? bn_convert(c, a->output, &a->convert, &r, &err)
			   : bn_reencode(a->source, a->output, &a->convert, &a->tiles, &r, &err);
	clear(&bar);
	if (status != BN_OK) {
		/* A source that can be read leaves the file that is being made. */
		const bool making = c != NULL || ((status == BN_E_IO || status == BN_E_CONFLICT) &&
						  access(a->source, R_OK) == 0);
		const int code = complain(making ? a->output : a->source, status, &err);

		if (status == BN_E_CANCELLED) {
			return SIGNAL_EXIT + (int)interrupted;
		}
		return status == BN_E_IO && making ? EX_CANTCREAT : code;
	}
	if (!a->quiet) {
		tell_result(a, &r, (double)(now_ms() - start) / 1000.0);
	}
	return EX_OK;
}

static int usage(const char *sentence, const char *word)
{
	fprintf(stderr, "bn-convert: %s%s%s%s; see bn-convert --help\n", sentence,
		word != NULL ? " '" : "", word != NULL ? word : "", word != NULL ? "'" : "");
	return EX_USAGE;
}

static int run_folder(struct arguments *a)
{
	struct bn_checkpoint c = { 0 };
	struct bn_error err;
	enum bn_status status;
	int code = EX_OK;

	if (a->keep) {
		return usage("--embedding keep is for GGUF files, not for the folder", a->source);
	}
	status = bn_checkpoint_open(&c, a->source, &a->checkpoint, &err);
	if (status != BN_OK) {
		return complain(a->source, status, &err);
	}
	if (a->info) {
		tell(&c, a);
	} else {
		code = convert(&c, a);
	}
	bn_checkpoint_finish(&c);
	return code;
}

static bool ends_with(const char *text, const char *end)
{
	const size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static int run(struct arguments *a)
{
	struct stat st;

	if (stat(a->source, &st) != 0) {
		fprintf(stderr, "bn-convert: %s: %s\n", a->source, strerror(errno));
		return EX_NOINPUT;
	}
	if (!S_ISREG(st.st_mode)) {
		return run_folder(a);
	}
	if (ends_with(a->source, ".safetensors") || ends_with(a->source, ".json")) {
		return usage("a model is its whole folder; give that, not one file of it:",
			     a->source);
	}
	if (a->info || a->checkpoint.assume_latent) {
		return usage("--info and --ternarize are for folders, not for the file", a->source);
	}
	return convert(NULL, a);
}

/* --- arguments ------------------------------------------------------------------------------- */

static bool parse_embedding(const char *text, enum bn_ggml_type *out)
{
	static const enum bn_ggml_type types[] = { BN_GGML_F16, BN_GGML_Q8_0, BN_GGML_Q6_K };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(bn_ggml_name(types[i]), text) == 0) {
			*out = types[i];
			return true;
		}
	}
	return false;
}

enum { KERNEL = 256, EMBEDDING, TL_PARAMS, NAME, TERNARIZE, INFO, VERSION };

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "kernel", required_argument, NULL, KERNEL },
		{ "embedding", required_argument, NULL, EMBEDDING },
		{ "tl-params", required_argument, NULL, TL_PARAMS },
		{ "name", required_argument, NULL, NAME },
		{ "ternarize", no_argument, NULL, TERNARIZE },
		{ "force", no_argument, NULL, 'f' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "info", no_argument, NULL, INFO },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, VERSION },
		{ NULL, 0, NULL, 0 },
	};
	enum bn_ggml_type format;
	struct bn_error err;
	int c;

	while ((c = getopt_long(argc, argv, "o:fqh", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			a->output = optarg;
			break;
		case KERNEL:
			a->convert.kernel = optarg;
			if (bn_convert_out_format(&format, optarg, &err) != BN_OK) {
				fprintf(stderr, "bn-convert: --kernel: %s\n", err.text);
				return EX_USAGE;
			}
			break;
		case EMBEDDING:
			a->keep = strcmp(optarg, "keep") == 0;
			a->convert.embedding = BN_GGML_F32;
			if (!a->keep && !parse_embedding(optarg, &a->convert.embedding)) {
				return usage("--embedding takes f16, q8_0, q6_k or keep, not",
					     optarg);
			}
			break;
		case TL_PARAMS:
			if (bn_tiles_advise(&a->tiles, optarg, &err) != BN_OK) {
				fprintf(stderr, "bn-convert: --tl-params: %s\n", err.text);
				return EX_USAGE;
			}
			break;
		case NAME:
			a->convert.name = optarg;
			break;
		case TERNARIZE:
			a->checkpoint.assume_latent = true;
			break;
		case 'f':
			a->convert.force = true;
			break;
		case 'q':
			a->quiet = true;
			break;
		case INFO:
			a->info = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EX_OK;
		case VERSION:
			puts("bn-convert " BN_VERSION);
			return EX_OK;
		default:
			return usage("that is not an option", NULL);
		}
	}
	if (optind + 1 != argc) {
		return usage("one model folder or GGUF file is needed", NULL);
	}
	a->source = argv[optind];
	if (a->output == NULL && !a->info) {
		return usage("-o OUT.gguf is needed: where to write", NULL);
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	const int code = parse(argc, argv, &a);

	return code >= 0 ? code : run(&a);
}
