/*
 * What the guide's models would take on a machine: kernel, bytes, how much context fits; and which
 * of them to choose for a purpose.
 *
 * It opens no files and asks no machine: whoever calls brings processor and budget. The bytes are
 * those the engine will reserve, from the functions it reserves by; only for the tables of the
 * vocabulary, whose size its file tells, there is an allowance.
 */
#ifndef BN_ENGINE_ADVICE_H
#define BN_ENGINE_ADVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/guide.h"

/* What a daemon keeps free that is configured as it comes (memory.headroom), and its steps; tests
 * compare. */
#define BN_ADVICE_HEADROOM (UINT64_C(1) << 30)

enum {
	BN_ADVICE_BATCH = 32,       /* workers.max_batch                                       */
	BN_ADVICE_CHUNK = 512,      /* workers.prefill_chunk                                   */
	BN_ADVICE_VOCABULARY = 128, /* bytes for each token; Llama-3's takes 93, Llama-2's 31  */
	BN_ADVICE_STEP = 256,       /* contexts are advised in multiples of this               */
	BN_ADVICE_LEAST = 2048,     /* positions below which a model is not recommended        */
};

/* Where it is to run. Plain value. */
struct bn_advice_machine {
	uint64_t cpu; /* features that may be used */
	uint64_t budget_bytes;
	uint32_t rows;    /* most rows of a step                 */
	uint32_t outputs; /* of them, most that give a token     */
	uint32_t lanes;
};

/* One model there. Plain value; pointers are to const tables. */
struct bn_advice {
	const struct bn_guide_model *model;
	const struct bn_kernel *kernel; /* auto's where most weights are; NULL: none runs */
	bool runs[BN_GUIDE_KERNELS];    /* the families that can multiply all of it       */
	uint64_t weights_bytes;         /* for that kernel, F16 embedding; 0 without one  */
	uint64_t vocabulary_bytes;      /* allowed for its tables                         */
	uint64_t scratch_bytes;         /* for steps                                      */
	uint64_t position_bytes;        /* of context, for each token                     */
	uint64_t kv_bytes;              /* one request of the whole context               */
	uint64_t fixed_bytes;           /* weights, vocabulary and scratch                */
	uint64_t total_bytes;           /* all that and that request                      */
	uint32_t context;               /* what it was trained for                        */
	uint32_t fits_context;          /* the longest that fits the budget; 0: none      */
};

/* Any thread. */
void bn_advice_of(const struct bn_guide_model *model, const struct bn_advice_machine *machine,
		  struct bn_advice *out);

enum bn_advice_use {
	BN_ADVICE_TESTING,
	BN_ADVICE_GENERAL,
	BN_ADVICE_EDGE,
	BN_ADVICE_QUALITY,
	BN_ADVICE_MAXIMUM,
	BN_ADVICE_EMBEDDING, /* the one use of models that make vectors */
	BN_ADVICE_USES,
};

/* "testing", "general", "edge", "quality", "maximum", "embedding": static. */
const char *bn_advice_use_word(enum bn_advice_use use);
bool bn_advice_use_of(const char *word, enum bn_advice_use *out);

/* Why the guide names a model for a use: half a sentence, static. */
const char *bn_advice_use_reason(enum bn_advice_use use);

/* An answer. `wanted` is what the guide names for the use; `chosen` that, or the best for the use
 * that fits instead. False when nothing fits: `chosen` is then the smallest that was looked at. */
struct bn_advice_answer {
	struct bn_advice wanted;
	struct bn_advice chosen;
	uint32_t context; /* to be configured; the model's own when all of it fits */
};
bool bn_advice_recommend(enum bn_advice_use use, const struct bn_advice_machine *machine,
			 struct bn_advice_answer *out);

#endif
