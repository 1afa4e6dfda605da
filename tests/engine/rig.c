#include "tests/engine/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void must(enum bn_status status, const struct bn_error *err)
{
	if (status != BN_OK) {
		fprintf(stderr, "rig: %s\n", err->text);
		abort();
	}
}

const char *rig_path(const char *name)
{
	static char path[256];

	if (folder[0] == '\0') {
		strcpy(folder, "/tmp/bnd-test-XXXXXX");
		if (mkdtemp(folder) == NULL) {
			abort();
		}
		atexit(rig_cleanup);
	}
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

void rig_cleanup(void)
{
	char command[128];

	if (folder[0] != '\0') {
		snprintf(command, sizeof(command), "rm -r %s", folder);
		if (system(command) != 0) {
			fprintf(stderr, "rig: cannot remove %s\n", folder);
		}
		folder[0] = '\0';
	}
}

const char *rig_tiny(const struct bn_tiny *tiny)
{
	struct bn_error err;
	const char *path = rig_path("tiny.gguf");

	must(bn_tiny_write(tiny, path, &err), &err);
	return path;
}

void rig_open(struct rig *r, const char *path, uint64_t cpu, uint32_t lanes)
{
	rig_open_with(r, path, cpu, NULL, lanes);
}

void rig_open_with(struct rig *r, const char *path, uint64_t cpu, const char *const *kernels,
		   uint32_t lanes)
{
	const struct bn_model_options options = { .cpu = cpu, .kernels = kernels };
	struct bn_model_plan *plan = NULL;
	struct bn_error err;

	bn_enter_helper();
	memset(r, 0, sizeof(*r));
	must(bn_model_open(&plan, path, &options, &err), &err);
	must(bn_model_load(&r->model, plan, NULL, &err), &err);
	bn_model_plan_free(plan);
	must(bn_batch_init(&r->batch, RIG_ROWS, RIG_ROWS, &err), &err);
	rig_lanes(r, lanes);
}

void rig_lanes(struct rig *r, uint32_t lanes)
{
	const struct bn_team_config team = { .lanes = lanes, .spin_us = 20 };
	const struct bn_forward_config forward = {
		.max_rows = RIG_ROWS,
		.max_outputs = RIG_ROWS,
		.lanes = lanes,
	};
	struct bn_error err;

	bn_team_stop(r->team);
	bn_forward_free(r->fw);
	must(bn_team_start(&r->team, &team, &err), &err);
	must(bn_forward_new(&r->fw, r->model, &forward, &err), &err);
}

void rig_close(struct rig *r)
{
	bn_enter_helper();
	bn_team_stop(r->team);
	bn_forward_free(r->fw);
	bn_batch_finish(&r->batch);
	bn_model_free(r->model);
	memset(r, 0, sizeof(*r));
}

struct bn_sequence_config rig_config(const bn_token *prompt, uint32_t n_prompt, uint32_t max_tokens)
{
	struct bn_sequence_config config = {
		.prompt = prompt,
		.n_prompt = n_prompt,
		.max_tokens = max_tokens,
	};

	bn_sampler_defaults(&config.sampler);
	config.sampler.temperature = 0.0f;
	return config;
}

struct bn_sequence *rig_sequence(struct rig *r, const struct bn_sequence_config *config)
{
	struct bn_sequence *seq = NULL;
	struct bn_error err;

	must(bn_sequence_new(&seq, r->model, config, &err), &err);
	return seq;
}

void rig_step(struct rig *r, struct bn_sequence **seqs, uint32_t n, uint32_t chunk)
{
	bn_enter_lead();
	bn_batch_reset(&r->batch, r->model);
	for (uint32_t i = 0; i < n; i++) {
		bn_batch_add(&r->batch, seqs[i], chunk);
	}
	bn_forward_step(r->fw, &r->batch, r->team);
}

void rig_run(struct rig *r, struct bn_sequence **seqs, uint32_t n, uint32_t chunk, char **texts,
	     size_t capacity)
{
	bool running;

	for (uint32_t i = 0; i < n && texts != NULL; i++) {
		texts[i][0] = '\0';
	}
	do {
		running = false;
		rig_step(r, seqs, n, chunk);
		for (uint32_t i = 0; i < n; i++) {
			char piece[201];
			size_t got;

			while ((got = bn_sequence_take(seqs[i], piece, 200)) > 0) {
				piece[got] = '\0';
				if (texts != NULL) {
					const size_t used = strlen(texts[i]);

					snprintf(texts[i] + used, capacity - used, "%s", piece);
				}
			}
			running |= seqs[i]->finish == BN_FINISH_NONE;
		}
	} while (running);
}

float *rig_logits(struct rig *r, const bn_token *prompt, uint32_t n_prompt, uint32_t chunk)
{
	const struct bn_sequence_config config = rig_config(prompt, n_prompt, 1);
	struct bn_sequence *seq = rig_sequence(r, &config);
	const size_t vocab = r->model->vocab;
	float *all = malloc(n_prompt * vocab * sizeof(float));

	bn_enter_lead();
	while (seq->n_past < n_prompt) {
		const uint32_t first = seq->n_past;

		bn_batch_reset(&r->batch, r->model);
		bn_batch_add(&r->batch, seq, chunk);
		bn_batch_probe(&r->batch, 0);
		bn_forward_step(r->fw, &r->batch, r->team);
		for (uint32_t i = 0; i < r->batch.n_rows; i++) {
			memcpy(all + (first + i) * vocab, bn_forward_logits(r->fw, i),
			       vocab * sizeof(float));
		}
	}
	bn_sequence_free(seq);
	return all;
}

void rig_prompt(const struct rig *r, uint64_t seed, bn_token *prompt, uint32_t n)
{
	uint64_t x = seed * 2 + 1;

	for (uint32_t i = 0; i < n;) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);

		const bn_token token = (bn_token)((x >> 33) % r->model->vocab);

		if (!bn_tokenizer_is_control(r->model->tok, token)) {
			prompt[i++] = token;
		}
	}
}

char *rig_slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *text;

	if (f == NULL) {
		return NULL;
	}
	fseek(f, 0, SEEK_END);
	*n = (size_t)ftell(f);
	rewind(f);
	text = malloc(*n + 1);
	if (text == NULL || fread(text, 1, *n, f) != *n) {
		abort();
	}
	text[*n] = '\0';
	fclose(f);
	return text;
}

/* Behind `"key":` and white space. */
static const char *value_of(const char *text, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(text, quoted);
	if (at == NULL) {
		fprintf(stderr, "rig: no key %s\n", key);
		abort();
	}
	at += strlen(quoted);
	return at + strspn(at, " \n\t");
}

uint32_t rig_numbers(const char *text, const char *key, double *out, uint32_t most)
{
	const char *at = value_of(text, key) + 1;
	uint32_t n = 0;

	for (;;) {
		char *end;
		const double value = strtod(at, &end);

		if (end == at || n == most) {
			return n;
		}
		out[n++] = value;
		at = end + strspn(end, ", \n\t");
	}
}

void rig_string(const char *text, const char *key, char *out)
{
	for (const char *at = value_of(text, key) + 1; *at != '"'; at++) {
		if (*at == '\\') {
			at++;
			*out++ = *at == 'n' ? '\n' : *at;
		} else {
			*out++ = *at;
		}
	}
	*out = '\0';
}
