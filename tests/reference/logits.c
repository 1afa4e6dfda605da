/*
 * bn-logits FILE.gguf OUT N ID...: continues a prompt of ids greedily by N tokens and writes what
 * the engine computed, for tests/reference/check.py to compare with another implementation.
 *
 * OUT, little endian: u32 rows, u32 vocab, u32 id[rows] (prompt, then the N tokens drawn), f32
 * logits[rows][vocab]: row i is what follows ids 0..i. Then the memory of all rows but the last:
 * u32 layers, kv heads, head_dim, rows, 1 where rotated pairs are neighbours; f16 [layers][kv
 * heads][K, V] [rows][head_dim]. Prints how long loading took.
 */
#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IDS_MAX = 256, LANES = 2, CHUNK = 16 };

static void put(FILE *f, const void *bytes, size_t n)
{
	if (fwrite(bytes, 1, n, f) != n) {
		perror("bn-logits");
		exit(1);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Greedy tokens behind ids [n]; the sequence is the caller's to free. */
static struct bn_sequence *draw(struct rig *rig, bn_token *ids, uint32_t n, uint32_t more)
{
	struct bn_sequence_config config = rig_config(ids, n, more);
	struct bn_sequence *seq;

	config.ignore_eos = true;
	seq = rig_sequence(rig, &config);
	rig_run(rig, &seq, 1, CHUNK, NULL, 0);
	if (seq->n_tokens != n + more) {
		fprintf(stderr, "bn-logits: %u tokens came instead of %u\n", seq->n_tokens - n,
			more);
		exit(1);
	}
	memcpy(ids + n, seq->tokens + n, more * sizeof(*ids));
	return seq;
}

static void put_memory(FILE *out, const struct rig *rig, const struct bn_sequence *seq)
{
	const struct bn_hyper *h = &rig->model->hyper;
	const uint32_t head[] = { h->layers, h->kv_heads, h->head_dim, seq->n_past,
				  h->rope == BN_ROPE_NORM };
	const size_t bytes = (size_t)seq->n_past * h->head_dim * sizeof(uint16_t);

	put(out, head, sizeof(head));
	for (uint32_t l = 0; l < h->layers; l++) {
		for (uint32_t i = 0; i < h->kv_heads; i++) {
			put(out, bn_kv_k(&seq->kv, l, i, 0), bytes);
			put(out, bn_kv_v(&seq->kv, l, i, 0), bytes);
		}
	}
}

int main(int argc, char **argv)
{
	static bn_token ids[IDS_MAX];
	struct bn_sequence *seq;
	struct rig rig;
	uint32_t n = 0, more, head[2];
	float *logits;
	double start;
	FILE *out;

	if (argc < 5 || argc - 4 + atoi(argv[3]) > IDS_MAX) {
		fprintf(stderr, "usage: bn-logits FILE.gguf OUT N ID...\n");
		return 64;
	}
	more = (uint32_t)atoi(argv[3]);
	for (int i = 4; i < argc; i++) {
		ids[n++] = (bn_token)strtoul(argv[i], NULL, 10);
	}
	start = now();
	rig_open(&rig, argv[1], bn_cpu_features(), LANES);
	printf("loaded in %.3f s\n", now() - start);
	seq = draw(&rig, ids, n, more);
	n += more;
	logits = rig_logits(&rig, ids, n, CHUNK);
	out = fopen(argv[2], "wb");
	if (out == NULL) {
		perror(argv[2]);
		return 1;
	}
	head[0] = n;
	head[1] = rig.model->vocab;
	put(out, head, sizeof(head));
	put(out, ids, n * sizeof(*ids));
	put(out, logits, (size_t)n * head[1] * sizeof(*logits));
	put_memory(out, &rig, seq);
	free(logits);
	bn_sequence_free(seq);
	rig_close(&rig);
	return fclose(out) == 0 ? 0 : 1;
}
