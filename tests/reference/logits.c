/*
 * bn-logits FILE.gguf OUT N ID...: continues a prompt of ids greedily by N tokens and writes what
 * the engine computed, for tests/reference/check.py to compare with another implementation.
 *
 * OUT, little endian: u32 rows, u32 vocab, u32 id[rows] (prompt, then the N tokens drawn), f32
 * logits[rows][vocab]: row i is what follows ids 0..i.
 */
#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 256, LANES = 2, CHUNK = 16 };

static void put(FILE *f, const void *bytes, size_t n)
{
	if (fwrite(bytes, 1, n, f) != n) {
		perror("bn-logits");
		exit(1);
	}
}

/* Greedy tokens behind ids [n]. */
static void draw(struct rig *rig, bn_token *ids, uint32_t n, uint32_t more)
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
	bn_sequence_free(seq);
}

int main(int argc, char **argv)
{
	static bn_token ids[IDS_MAX];
	struct rig rig;
	uint32_t n = 0, more, head[2];
	float *logits;
	FILE *out;

	if (argc < 5 || argc - 4 + atoi(argv[3]) > IDS_MAX) {
		fprintf(stderr, "usage: bn-logits FILE.gguf OUT N ID...\n");
		return 64;
	}
	more = (uint32_t)atoi(argv[3]);
	for (int i = 4; i < argc; i++) {
		ids[n++] = (bn_token)strtoul(argv[i], NULL, 10);
	}
	rig_open(&rig, argv[1], bn_cpu_features(), LANES);
	draw(&rig, ids, n, more);
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
	free(logits);
	rig_close(&rig);
	return fclose(out) == 0 ? 0 : 1;
}
