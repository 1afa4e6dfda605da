/*
 * bn-vector FILE.gguf OUT TEXT: the tokens of a text and the vector the engine makes of it, for
 * tests/reference/check_vectors.py to compare with another implementation.
 *
 * OUT, little endian: u32 n, u32 dim, u32 id[n], f32 vector[dim].
 */
#include "kernels/cpu.h"
#include "tests/engine/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 2, CHUNK = 3 };

int main(int argc, char **argv)
{
	const struct bn_encode_options options = { .add_special = true };
	struct bn_sequence_config config = { .embed = true };
	struct bn_tokens ids = { 0 };
	struct bn_sequence *seq;
	struct bn_error err;
	struct rig rig;
	uint32_t head[2];
	FILE *out;

	if (argc != 4) {
		fprintf(stderr, "usage: bn-vector FILE.gguf OUT TEXT\n");
		return 64;
	}
	rig_open(&rig, argv[1], bn_cpu_features(), LANES);
	if (bn_tokenizer_encode(rig.model->tok, argv[3], strlen(argv[3]), &options, &ids, &err) !=
	    BN_OK) {
		fprintf(stderr, "bn-vector: %s\n", err.text);
		return 1;
	}
	config.prompt = ids.ids;
	config.n_prompt = (uint32_t)ids.n;
	seq = rig_sequence(&rig, &config);
	rig_run(&rig, &seq, 1, CHUNK, NULL, 0);
	out = fopen(argv[2], "wb");
	if (out == NULL || seq->finish != BN_FINISH_VECTOR) {
		fprintf(stderr, "bn-vector: no vector, or nowhere to write it\n");
		return 1;
	}
	head[0] = (uint32_t)ids.n;
	head[1] = rig.model->hyper.dim;
	if (fwrite(head, sizeof(head), 1, out) != 1 ||
	    fwrite(ids.ids, sizeof(*ids.ids), ids.n, out) != ids.n ||
	    fwrite(seq->vector, sizeof(float), head[1], out) != head[1]) {
		perror("bn-vector");
		return 1;
	}
	bn_sequence_free(seq);
	bn_tokens_finish(&ids);
	rig_close(&rig);
	return fclose(out) == 0 ? 0 : 1;
}
