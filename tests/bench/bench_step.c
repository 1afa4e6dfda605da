/*
 * bench_step: how fast a model is on this machine, in the numbers people compare: load time, prompt
 * tokens per second, generated tokens per second for one and for several sequences, for each number
 * of lanes.
 *
 *   bench_step [--lanes LIST] [--prefill LIST] [--decode N] [--sequences LIST] [--depth N]
 *              [--chunk N] [--kernel NAME] [--mask LEVELS] [--pin] [--json] MODEL.gguf
 *
 * Prompts are random tokens; sampling is greedy and end tokens are ignored, so the work is fixed.
 * Prefill numbers hold for an empty cache, decode numbers for sequences at `--depth` (default 64)
 * positions. Every figure is one run after a warm-up step; run it again to see the noise.
 */
#include "engine/batch.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "engine/sequence.h"
#include "engine/team.h"
#include "kernels/cpu.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { LIST_MAX = 16, NAMES_MAX = 8 };

struct list {
	uint32_t value[LIST_MAX];
	uint32_t n;
};

struct settings {
	struct list lanes, prefill, sequences;
	uint32_t decode, depth, chunk;
	const char *kernels[2];
	const char *masked[NAMES_MAX];
	uint32_t n_masked;
	bool pin, json;
	const char *path;
};

struct bench {
	const struct settings *set;
	struct bn_model *model;
	struct bn_team *team;
	struct bn_forward *fw;
	struct bn_batch batch;
	uint32_t lanes;
	uint32_t printed; /* results so far, for the commas of JSON */
};

static void usage(FILE *to)
{
	fprintf(to,
		"usage: bench_step [options] MODEL.gguf\n"
		"\n"
		"  --lanes LIST      numbers of lanes to try, e.g. 1,2 (default 1 to all cores)\n"
		"  --prefill LIST    prompt lengths (default 128,512)\n"
		"  --sequences LIST  sequences decoded together (default 1,2,4,8)\n"
		"  --decode N        tokens each of them generates (default 128)\n"
		"  --depth N         prompt before decoding (default 64)\n"
		"  --chunk N         prompt rows in a step (default 512)\n"
		"  --kernel NAME     only this kernel, e.g. i2s.avx2\n"
		"  --mask LEVELS     without these processor features, e.g. avx512\n"
		"  --pin             pin lanes to cores 0, 1, ...\n"
		"  --json            machine-readable\n");
}

static void die(const struct bn_error *err)
{
	fprintf(stderr, "bench_step: %s\n", err->text);
	exit(EX_SOFTWARE);
}

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A measurement: wall time, and processor time of all lanes, which tells on a busy machine how much
 * of the wall time was ours (lanes waiting at barriers spin for a little, and count). */
struct watch {
	double wall, cpu;
};

static struct watch begin(void)
{
	return (struct watch){ seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID) };
}

static struct watch elapsed(struct watch since)
{
	return (struct watch){ seconds(CLOCK_MONOTONIC) - since.wall,
			       seconds(CLOCK_PROCESS_CPUTIME_ID) - since.cpu };
}

static double peak_mib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_maxrss / 1024.0;
}

/* ---- output ---------------------------------------------------------------------------------- */

static void print_model(const struct bench *b, double open_s, struct watch load)
{
	const double load_s = load.wall;
	const struct bn_model_info *i = &b->model->info;
	const double mib = 1024.0 * 1024.0;

	if (b->set->json) {
		printf("{\"model\": \"%s\", \"digest\": \"%s\", \"kernel\": \"%s\", \"vec\": "
		       "\"%s\", "
		       "\"parameters\": %llu, \"file_bytes\": %llu, \"weights_bytes\": %llu, "
		       "\"open_s\": %.3f, \"load_s\": %.3f, \"load_cpu_s\": %.3f, \"results\": [\n",
		       i->name, i->digest, i->kernel, i->vec, (unsigned long long)i->parameters,
		       (unsigned long long)i->file_bytes, (unsigned long long)i->weights_bytes,
		       open_s, load_s, load.cpu);
		return;
	}
	printf("%s (%s, %llu M parameters, embedding %s)\n", i->name, i->architecture,
	       (unsigned long long)(i->parameters / 1000000), i->embed_type);
	printf("kernel %s, %s; floats %s\n", i->kernel, i->kernel_why, i->vec);
	printf("file %.1f MiB, weights %.1f MiB, KV %.1f KiB a position\n",
	       (double)i->file_bytes / mib, (double)i->weights_bytes / mib,
	       (double)i->kv_position_bytes / 1024.0);
	printf("open %.3f s, load %.3f s (%.2f GB/s, %.2f s of processor), peak memory %.1f "
	       "MiB\n\n",
	       open_s, load_s, (double)i->file_bytes / load_s * 1e-9, load.cpu, peak_mib());
	printf("%-8s %5s %9s %6s %10s %8s %12s\n", "what", "lanes", "sequences", "tokens",
	       "seconds", "cpu s", "tokens/s");
}

static void print_result(struct bench *b, const char *what, uint32_t sequences, uint32_t tokens,
			 struct watch took)
{
	const double rate = tokens / took.wall;

	if (b->set->json) {
		printf("%s{\"what\": \"%s\", \"lanes\": %u, \"sequences\": %u, \"tokens\": %u, "
		       "\"seconds\": %.6f, \"cpu_s\": %.6f, \"tokens_per_s\": %.3f}",
		       b->printed++ > 0 ? ",\n" : "", what, b->lanes, sequences, tokens, took.wall,
		       took.cpu, rate);
	} else {
		printf("%-8s %5u %9u %6u %10.3f %8.2f %12.1f\n", what, b->lanes, sequences, tokens,
		       took.wall, took.cpu, rate);
	}
	fflush(stdout);
}

/* ---- work ------------------------------------------------------------------------------------ */

static struct bn_sequence *new_sequence(const struct bench *b, uint32_t seed, uint32_t n_prompt,
					uint32_t max_tokens)
{
	bn_token *prompt = malloc(n_prompt * sizeof(*prompt));
	struct bn_sequence_config c = {
		.prompt = prompt,
		.n_prompt = n_prompt,
		.max_tokens = max_tokens,
		.ignore_eos = true,
	};
	struct bn_sequence *seq = NULL;
	uint64_t x = seed + 1;
	struct bn_error err;

	for (uint32_t i = 0; prompt != NULL && i < n_prompt; i++) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		prompt[i] = (bn_token)((x >> 33) % b->model->vocab);
	}
	bn_sampler_defaults(&c.sampler);
	c.sampler.temperature = 0.0f;
	if (prompt == NULL || bn_sequence_new(&seq, b->model, &c, &err) != BN_OK) {
		die(&err);
	}
	free(prompt);
	return seq;
}

/* One step over the sequences; returns its rows. */
static uint32_t step(struct bench *b, struct bn_sequence **seqs, uint32_t n) BN_ON_LEAD
{
	bn_batch_reset(&b->batch, b->model);
	for (uint32_t i = 0; i < n; i++) {
		char text[256];

		bn_batch_add(&b->batch, seqs[i], b->set->chunk);
		while (bn_sequence_take(seqs[i], text, sizeof(text)) > 0) {
		}
	}
	bn_forward_step(b->fw, &b->batch, b->team);
	return b->batch.n_rows;
}

static void bench_prefill(struct bench *b, uint32_t tokens) BN_ON_LEAD
{
	struct bn_sequence *seq = new_sequence(b, 1, tokens, 1);
	const struct watch start = begin();

	while (seq->finish == BN_FINISH_NONE) {
		step(b, &seq, 1);
	}
	print_result(b, "prefill", 1, tokens, elapsed(start));
	bn_sequence_free(seq);
}

static void bench_decode(struct bench *b, uint32_t n) BN_ON_LEAD
{
	struct bn_sequence *seqs[256];
	const uint32_t tokens = b->set->decode;
	struct watch start;

	for (uint32_t i = 0; i < n; i++) {
		seqs[i] = new_sequence(b, i, b->set->depth, tokens + 1);
		while (seqs[i]->n_generated == 0) {
			step(b, &seqs[i], 1);
		}
	}
	start = begin();
	for (uint32_t i = 0; i < tokens; i++) {
		step(b, seqs, n);
	}
	print_result(b, "decode", n, tokens * n, elapsed(start));
	for (uint32_t i = 0; i < n; i++) {
		bn_sequence_free(seqs[i]);
	}
}

static void with_lanes(struct bench *b, uint32_t lanes) BN_ON_LEAD
{
	uint32_t cores[BN_TEAM_MAX_LANES];
	const struct bn_team_config team = {
		.lanes = lanes,
		.cores = b->set->pin ? cores : NULL,
		.spin_us = BN_TEAM_SPIN_US,
	};
	const struct bn_forward_config forward = {
		.max_rows = b->set->chunk,
		.max_outputs = b->set->chunk < 256 ? b->set->chunk : 256,
		.lanes = lanes,
	};
	struct bn_error err;

	for (uint32_t i = 0; i < lanes; i++) {
		cores[i] = i;
	}
	b->lanes = lanes;
	if (bn_team_start(&b->team, &team, &err) != BN_OK ||
	    bn_forward_new(&b->fw, b->model, &forward, &err) != BN_OK) {
		die(&err);
	}
	bn_team_join(b->team);
	if (b->set->pin && !bn_team_is_pinned(b->team)) {
		fprintf(stderr, "bench_step: not all lanes could be pinned\n");
	}

	/* First touch of weights, workspace and caches is not what is measured. */
	struct bn_sequence *warm = new_sequence(b, 9, 32, 2);

	while (warm->finish == BN_FINISH_NONE) {
		step(b, &warm, 1);
	}
	bn_sequence_free(warm);
	for (uint32_t i = 0; i < b->set->prefill.n; i++) {
		bench_prefill(b, b->set->prefill.value[i]);
	}
	for (uint32_t i = 0; i < b->set->sequences.n; i++) {
		bench_decode(b, b->set->sequences.value[i]);
	}
	bn_forward_free(b->fw);
	bn_team_stop(b->team);
}

static void load(struct bench *b)
{
	const struct settings *s = b->set;
	const struct bn_model_options options = {
		.cpu = bn_cpu_mask(bn_cpu_features(), s->masked, s->n_masked),
		.kernels = s->kernels[0] != NULL ? s->kernels : NULL,
	};
	struct bn_model_plan *plan = NULL;
	struct bn_error err;
	struct watch start = begin();
	double open_s;

	bn_enter_helper();
	if (bn_model_open(&plan, s->path, &options, &err) != BN_OK) {
		die(&err);
	}
	open_s = elapsed(start).wall;
	start = begin();
	if (bn_model_load(&b->model, plan, NULL, &err) != BN_OK) {
		die(&err);
	}
	bn_model_plan_free(plan);
	print_model(b, open_s, elapsed(start));
}

/* ---- command line ---------------------------------------------------------------------------- */

static void read_list(struct list *list, const char *text)
{
	list->n = 0;
	while (*text != '\0') {
		char *end;
		unsigned long value;

		errno = 0;
		value = strtoul(text, &end, 10);
		if (end == text || errno != 0 || value < 1 || value > 65536 ||
		    list->n == LIST_MAX || (*end != '\0' && *end != ',')) {
			fprintf(stderr, "bench_step: '%s': expected numbers from 1, like 1,2,4\n",
				text);
			exit(EX_USAGE);
		}
		list->value[list->n++] = (uint32_t)value;
		text = *end == ',' ? end + 1 : end;
	}
}

static uint32_t read_number(const char *text)
{
	struct list one;

	read_list(&one, text);
	if (one.n != 1) {
		fprintf(stderr, "bench_step: '%s': expected one number\n", text);
		exit(EX_USAGE);
	}
	return one.value[0];
}

static void read_options(struct settings *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "lanes", required_argument, NULL, 'l' },
		{ "prefill", required_argument, NULL, 'p' },
		{ "sequences", required_argument, NULL, 's' },
		{ "decode", required_argument, NULL, 'd' },
		{ "depth", required_argument, NULL, 'D' },
		{ "chunk", required_argument, NULL, 'c' },
		{ "kernel", required_argument, NULL, 'k' },
		{ "mask", required_argument, NULL, 'm' },
		{ "pin", no_argument, NULL, 'P' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'l':
			read_list(&s->lanes, optarg);
			break;
		case 'p':
			read_list(&s->prefill, optarg);
			break;
		case 's':
			read_list(&s->sequences, optarg);
			break;
		case 'd':
			s->decode = read_number(optarg);
			break;
		case 'D':
			s->depth = read_number(optarg);
			break;
		case 'c':
			s->chunk = read_number(optarg);
			break;
		case 'k':
			s->kernels[0] = optarg;
			break;
		case 'm':
			for (char *name = strtok(optarg, ",");
			     name != NULL && s->n_masked < NAMES_MAX; name = strtok(NULL, ",")) {
				s->masked[s->n_masked++] = name;
			}
			break;
		case 'P':
			s->pin = true;
			break;
		case 'j':
			s->json = true;
			break;
		case 'h':
			usage(stdout);
			exit(EX_OK);
		default:
			usage(stderr);
			exit(EX_USAGE);
		}
	}
	if (optind != argc - 1) {
		usage(stderr);
		exit(EX_USAGE);
	}
	s->path = argv[optind];
}

int main(int argc, char **argv)
{
	const long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct settings s = {
		.prefill = { { 128, 512 }, 2 },
		.sequences = { { 1, 2, 4, 8 }, 4 },
		.decode = 128,
		.depth = 64,
		.chunk = 512,
	};
	struct bench b = { .set = &s };
	struct bn_error err;

	for (long i = 1; i <= cores && i <= LIST_MAX; i++) {
		s.lanes.value[s.lanes.n++] = (uint32_t)i;
	}
	read_options(&s, argc, argv);
	load(&b);
	if (bn_batch_init(&b.batch, s.chunk, s.chunk, &err) != BN_OK) {
		die(&err);
	}
	bn_enter_lead();
	for (uint32_t i = 0; i < s.lanes.n; i++) {
		with_lanes(&b, s.lanes.value[i] < BN_TEAM_MAX_LANES ? s.lanes.value[i]
								    : BN_TEAM_MAX_LANES);
	}
	bn_batch_finish(&b.batch);
	bn_enter_helper();
	bn_model_free(b.model);
	if (s.json) {
		printf("\n], \"peak_mib\": %.1f}\n", peak_mib());
	} else {
		printf("\npeak memory %.1f MiB\n", peak_mib());
	}
	return EX_OK;
}
