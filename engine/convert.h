/*
 * A Hugging Face checkpoint becomes one GGUF file: streamed, in bounded memory, read back and
 * compared before it gets its name.
 *
 * It does not decide what may be converted (engine/checkpoint.h does) and prints nothing; whoever
 * calls shows progress and notices. Only bn-convert uses it.
 *
 * Memory: one ternary matrix as packed bytes, as codes and as written (a few times its weights /
 * 4), or a few MiB of rows of the others, beside the tokenizer: some 200 MiB for the largest known
 * model.
 */
#ifndef BN_ENGINE_CONVERT_H
#define BN_ENGINE_CONVERT_H

#include "engine/checkpoint.h"
#include "engine/ggml.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>

enum { BN_CONVERT_NOTICES = 12, BN_CONVERT_NOTICE_BYTES = 200 };

/* What is going on, for a progress bar; called after every few MiB. False stops the work. */
typedef bool (*bn_convert_progress)(void *who, const char *phase, uint64_t done_bytes,
				    uint64_t total_bytes);

/* Zeroed: i2_s, f16, the checkpoint's own name, no overwriting. Borrowed during the call. */
struct bn_convert_options {
	const char *kernel;           /* "i2_s" or "auto"; NULL: auto                          */
	enum bn_ggml_type embedding;  /* F16 (also for 0), Q8_0 or Q6_K: embedding and output  */
	const char *name;             /* for general.name; NULL: as the checkpoint is called   */
	bool force;                   /* replace an existing file                              */
	bn_convert_progress progress; /* or NULL */
	void *who;
};

/* What came out. Plain value. */
struct bn_convert_report {
	uint64_t file_bytes;
	uint64_t data_bytes; /* of the tensors, without padding between them */
	uint32_t tensors;
	uint32_t packed, dequantized, latent; /* ternary matrices by what they were */
	uint64_t trits, zero_trits;
	enum bn_ggml_type embedding; /* as written */
	uint32_t n_notices;
	char notices[BN_CONVERT_NOTICES][BN_CONVERT_NOTICE_BYTES];
};

/*
 * Converts to the file `path`. Errors: BN_E_KERNEL for a kernel that is unknown, not written yet,
 * or not for this model on this processor (engine/guide.h); BN_E_CONFLICT when the file is there
 * and `force` is not set; BN_E_NOT_SUPPORTED for floats that are neither ternary nor said to be
 * latent; BN_E_FORMAT for codes 3, values that are not finite, files that change meanwhile; BN_E_IO
 * (no room is known before the work); BN_E_CANCELLED; BN_E_INTERNAL when reading back gives other
 * weights; those of bn_model_open on the result. On failure no file is left. Helper.
 */
BN_MUST_USE enum bn_status bn_convert(const struct bn_checkpoint *c, const char *path,
				      const struct bn_convert_options *options,
				      struct bn_convert_report *report,
				      struct bn_error *err) BN_ON_HELPER;

/* Bytes of tensor data bn_convert will write for these options, exactly, and in how many tensors; 0
 * when there is no memory to tell. Any thread. */
uint64_t bn_convert_data_bytes(const struct bn_checkpoint *c,
			       const struct bn_convert_options *options, uint32_t *tensors);

#endif
