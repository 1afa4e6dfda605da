#include "engine/batch.h"

#include "proto/assert.h"

#include <stdlib.h>

enum bn_status bn_batch_init(struct bn_batch *batch, uint32_t max_rows, uint32_t max_outputs,
			     struct bn_error *err)
{
	struct bn_row *rows;

	bn_assert(max_rows > 0 && max_outputs > 0);
	rows = calloc(max_rows, sizeof(*rows));
	if (rows == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a batch of %u rows", max_rows);
	}
	*batch = (struct bn_batch){
		.rows = rows,
		.max_rows = max_rows,
		.max_outputs = max_outputs,
	};
	return BN_OK;
}

void bn_batch_finish(struct bn_batch *batch)
{
	free(batch->rows);
	*batch = (struct bn_batch){ 0 };
}

void bn_batch_reset(struct bn_batch *batch, const struct bn_model *model)
{
	batch->model = model;
	batch->n_rows = 0;
	batch->n_outputs = 0;
	batch->n_sequences = 0;
}

uint32_t bn_batch_add(struct bn_batch *batch, struct bn_sequence *seq, uint32_t most)
{
	const uint32_t pending = bn_sequence_pending(seq);
	const uint32_t room = batch->max_rows - batch->n_rows;
	const enum bn_pooling pooling = seq->model->pooling;
	const bool pools = pooling != BN_POOL_NONE;
	uint32_t n = most < pending ? most : pending;

	bn_assert(seq->model == batch->model);
	bn_assert(batch->n_rows == 0 || batch->rows[batch->n_rows - 1].seq != seq);
	if (n > room) {
		n = room;
	}
	if (n > 0 && n == pending && !pools && batch->n_outputs == batch->max_outputs) {
		n--;
	}
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t position = seq->n_past + i;

		batch->rows[batch->n_rows++] = (struct bn_row){
			.seq = seq,
			.token = seq->tokens[position],
			.position = position,
			.output = pools && bn_pooling_wants(pooling, position, seq->n_prompt)
					  ? BN_ROW_POOL
					  : BN_ROW_NONE,
		};
	}
	if (n > 0 && n == pending && !pools) {
		batch->rows[batch->n_rows - 1].output = BN_ROW_SAMPLE;
		batch->n_outputs++;
	}
	batch->n_sequences += n > 0;
	return n;
}

void bn_batch_probe(struct bn_batch *batch, uint32_t first)
{
	bn_assert(batch->model->pooling == BN_POOL_NONE);
	for (uint32_t i = first; i < batch->n_rows; i++) {
		batch->n_outputs += batch->rows[i].output == BN_ROW_NONE;
		batch->rows[i].output = BN_ROW_LOGITS;
	}
	bn_assert(batch->n_outputs <= batch->max_outputs);
}
