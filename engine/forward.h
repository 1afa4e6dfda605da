/*
 * The transformer: one step of a model over the rows of a batch, all lanes together.
 *
 * It does not choose rows, keep sequences or time slices; it is called with a batch and comes back
 * with every sequence in it moved on.
 *
 * Every row gets the same bits whatever the batch, the chunk of the prompt or the number of lanes:
 * products are sums of integers, and floats are summed within one row by one lane in an order that
 * depends on absolute positions only (kernels/vec.h). Tests compare with memcmp.
 */
#ifndef BN_ENGINE_FORWARD_H
#define BN_ENGINE_FORWARD_H

#include <stdint.h>

#include "engine/batch.h"
#include "engine/model.h"
#include "engine/team.h"
#include "proto/error.h"
#include "proto/role.h"

enum { BN_FORWARD_MAX_ROWS = 65536 };

/* The largest step a workspace is made for. */
struct bn_forward_config {
	uint32_t max_rows;    /* 1..BN_FORWARD_MAX_ROWS                 */
	uint32_t max_outputs; /* 1..max_rows, rows that give logits     */
	uint32_t lanes;       /* of the team it will run on, at most    */
};

/* Opaque: the workspace of one model. Used by one step at a time. */
struct bn_forward;

/* What bn_forward_new will take, exactly: the ledger's "scratch". From a plan's info as well as
 * from a model's. */
uint64_t bn_forward_bytes(const struct bn_model_info *info,
			  const struct bn_forward_config *config) BN_ON_ANY;

/* Takes all memory any step will need. The model is borrowed. BN_E_MEMORY. Undo with
 * bn_forward_free. */
BN_MUST_USE enum bn_status bn_forward_new(struct bn_forward **out, const struct bn_model *model,
					  const struct bn_forward_config *config,
					  struct bn_error *err) BN_ON_ANY;

/* NULL is fine. */
void bn_forward_free(struct bn_forward *fw) BN_ON_ANY;

/*
 * Runs one step: writes K and V of every row, moves every sequence's n_past on, and has each
 * sequence whose last token was fed accept its next one (bn_sequence_accept), or, where the model
 * makes vectors, take the states it pools (bn_sequence_pool). The batch must be of
 * this model and within the configuration, not empty; the team must have no more lanes than
 * configured. Numbers that are not finite end only the sequence they belong to. Allocates nothing,
 * cannot fail. Returns the nanoseconds it took.
 */
uint64_t bn_forward_step(struct bn_forward *fw, struct bn_batch *batch,
			 struct bn_team *team) BN_ON_LEAD;

/* After a step: the logits [model->vocab] of row `row`, which has an output; until the next step.
 * Not of a model that makes vectors. */
const float *bn_forward_logits(const struct bn_forward *fw, uint32_t row) BN_ON_ANY;

#endif
