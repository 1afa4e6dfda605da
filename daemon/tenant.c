/*
 * Why the workspace belongs to the model and not to the scheduler: its size follows from the
 * model's dimensions, so it must be in the ledger before the load and leave with the model.
 */
#include "daemon/tenant.h"

#include "proto/assert.h"

#include <stdlib.h>

enum bn_status bn_tenant_new(struct bn_tenant **out, const struct bn_model *model,
			     const struct bn_forward_config *forward, struct bn_error *err)
{
	struct bn_tenant *t = calloc(1, sizeof(*t));
	enum bn_status status;

	if (t == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a workspace");
	}
	t->model = model;
	status = bn_forward_new(&t->forward, model, forward, err);
	if (status != BN_OK) {
		free(t);
		return status;
	}
	*out = t;
	return BN_OK;
}

void bn_tenant_free(struct bn_tenant *t)
{
	if (t == NULL) {
		return;
	}
	bn_assert(t->begun.first == NULL && t->waiting.first == NULL && !t->party.active);
	bn_forward_free(t->forward);
	free(t);
}
