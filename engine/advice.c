#include "engine/advice.h"

#include "engine/arena.h"
#include "engine/kv.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "engine/workspace.h"
#include "kernels/dense.h"

#include <string.h>

/* ---- bytes ----------------------------------------------------------------------------------- */

/* As binding.c chooses, its self-test aside. */
static const struct bn_kernel *best_kernel(const struct bn_guide_model *m, uint64_t cpu,
					   enum bn_projection p)
{
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);
	uint32_t rows, cols;

	bn_shape_projection(&m->shape, p, &rows, &cols);
	for (size_t i = 0; i < n; i++) {
		if (bn_guide_runs(m, cpu, all[i], rows, cols)) {
			return all[i];
		}
	}
	return NULL;
}

static uint64_t weights_bytes(const struct bn_shape *s,
			      const struct bn_kernel *const kernels[BN_PROJ_COUNT])
{
	uint64_t bytes = bn_weights_line(s->layers * sizeof(struct bn_layer));
	struct bn_shape_part part;

	for (uint32_t i = 0; bn_shape_part(s, i, &part); i++) {
		uint64_t one = 0;

		switch (part.kind) {
		case BN_SHAPE_NORM:
			one = (uint64_t)part.cols * sizeof(float);
			break;
		case BN_SHAPE_TABLE:
			one = (uint64_t)bn_dense_row_bytes(BN_DENSE_F16, part.cols) * part.rows;
			break;
		case BN_SHAPE_MATRIX:
			one = kernels[part.projection]->packed_bytes(part.rows, part.cols);
			break;
		}
		bytes += bn_weights_line(one) * part.count;
	}
	return bn_arena_need(bytes, 0);
}

static uint64_t scratch_bytes(const struct bn_guide_model *m,
			      const struct bn_kernel *const kernels[BN_PROJ_COUNT],
			      const struct bn_advice_machine *machine)
{
	const struct bn_shape *s = &m->shape;
	struct bn_model_info info = {
		.dim = s->dim,
		.ffn = s->ffn,
		.heads = s->heads,
		.kv_heads = s->kv_heads,
		.head_dim = s->head_dim,
		.vocab = s->vocab,
		.input_norms = s->input_norms,
		.post_norms = s->post_norms,
		.pooling = m->pooling,
	};

	memcpy(info.kernels, kernels, sizeof(info.kernels));
	return bn_workspace_bytes(&info, machine->rows, machine->outputs, machine->lanes);
}

/* The longest context, in steps of BN_ADVICE_STEP or the model's own, that fits `room`. */
static uint32_t longest(const struct bn_kv_shape *kv, uint32_t context, uint64_t room)
{
	uint32_t n = context;

	while (n > 0 && bn_kv_bytes(kv, n) > room) {
		n = (n - 1) / BN_ADVICE_STEP * BN_ADVICE_STEP;
	}
	return n;
}

void bn_advice_of(const struct bn_guide_model *model, const struct bn_advice_machine *machine,
		  struct bn_advice *out)
{
	const struct bn_shape *s = &model->shape;
	const struct bn_kv_shape kv = { s->layers, s->kv_heads, s->head_dim, BN_KV_F16 };
	const struct bn_kernel *kernels[BN_PROJ_COUNT];
	struct bn_advice a = {
		.model = model,
		.context = model->context,
		.position_bytes = bn_kv_position_bytes(&kv),
		.kv_bytes = bn_kv_bytes(&kv, model->context),
	};
	bool runs = true;

	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		a.runs[f] = bn_guide_best(model, s, machine->cpu, (enum bn_guide_kernel)f) != NULL;
	}
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		kernels[p] = best_kernel(model, machine->cpu, (enum bn_projection)p);
		runs = runs && kernels[p] != NULL;
	}
	if (runs) {
		a.kernel = kernels[BN_PROJ_GATE];
		a.weights_bytes = weights_bytes(s, kernels);
		a.scratch_bytes = scratch_bytes(model, kernels, machine);
		a.vocabulary_bytes = (uint64_t)s->vocab * BN_ADVICE_VOCABULARY;
		a.fixed_bytes = a.weights_bytes + a.vocabulary_bytes + a.scratch_bytes;
		a.total_bytes = a.fixed_bytes + a.kv_bytes;
		a.fits_context =
			a.fixed_bytes < machine->budget_bytes
				? longest(&kv, a.context, machine->budget_bytes - a.fixed_bytes)
				: 0;
	}
	*out = a;
}

/* ---- purposes -------------------------------------------------------------------------------- */

/* First what the guide names for the use, then what serves it next best in less memory. */
static const struct {
	const char *word, *reason;
	const char *names[6];
} uses[BN_ADVICE_USES] = {
	[BN_ADVICE_TESTING] = { "testing", "the smallest, for quick tests", { "bitnet-large" } },
	[BN_ADVICE_GENERAL] = { "general",
				"the general-purpose model",
				{ "bitnet-2b", "falcon-e-3b", "falcon-e-1b", "bitnet-large" } },
	[BN_ADVICE_EDGE] = { "edge", "made for small devices", { "falcon-e-1b", "bitnet-large" } },
	[BN_ADVICE_QUALITY] = { "quality",
				"better answers for more memory",
				{ "falcon3-7b", "bitnet-2b", "falcon-e-3b", "falcon-e-1b",
				  "bitnet-large" } },
	[BN_ADVICE_MAXIMUM] = { "maximum",
				"the best answers of all",
				{ "falcon3-10b", "falcon3-7b", "bitnet-2b", "falcon-e-3b",
				  "falcon-e-1b", "bitnet-large" } },
	[BN_ADVICE_EMBEDDING] = { "embedding",
				  "the better of the models that make vectors",
				  { "embedding-0.6b", "embedding-270m" } },
};

const char *bn_advice_use_word(enum bn_advice_use use)
{
	return uses[use].word;
}

const char *bn_advice_use_reason(enum bn_advice_use use)
{
	return uses[use].reason;
}

bool bn_advice_use_of(const char *word, enum bn_advice_use *out)
{
	for (unsigned u = 0; u < BN_ADVICE_USES; u++) {
		if (strcmp(uses[u].word, word) == 0) {
			*out = (enum bn_advice_use)u;
			return true;
		}
	}
	return false;
}

bool bn_advice_recommend(enum bn_advice_use use, const struct bn_advice_machine *machine,
			 struct bn_advice_answer *out)
{
	const size_t most = sizeof(uses[use].names) / sizeof(uses[use].names[0]);
	struct bn_advice_answer answer = { 0 };

	for (size_t i = 0; i < most && uses[use].names[i] != NULL; i++) {
		struct bn_advice a;
		uint32_t least;

		bn_advice_of(bn_guide_find(uses[use].names[i]), machine, &a);
		answer.wanted = i == 0 ? a : answer.wanted;
		answer.chosen = a;
		answer.context = a.fits_context;
		least = a.context < BN_ADVICE_LEAST ? a.context : BN_ADVICE_LEAST;
		if (a.fits_context >= least) {
			*out = answer;
			return true;
		}
	}
	*out = answer;
	return false;
}
