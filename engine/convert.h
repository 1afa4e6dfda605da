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
#include "engine/convert_out.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdint.h>

/*
 * Converts to the file `path`. Errors: BN_E_KERNEL for a kernel that is unknown, cannot hold
 * the model's matrices, or is not for it on this processor (engine/guide.h); BN_E_CONFLICT when the
 * file is there and `force` is not set; BN_E_NOT_SUPPORTED for floats that are neither ternary nor
 * said to be latent; BN_E_FORMAT for codes 3, values that are not finite, files that change
 * meanwhile; BN_E_IO (no room is known before the work); BN_E_CANCELLED; BN_E_INTERNAL when reading
 * back gives other weights; those of bn_model_open on the result. On failure no file is left.
 * Helper.
 */
BN_MUST_USE enum bn_status bn_convert(const struct bn_checkpoint *c, const char *path,
				      const struct bn_convert_options *options,
				      struct bn_convert_report *report,
				      struct bn_error *err) BN_ON_HELPER;

/* Bytes of tensor data bn_convert will write for these options, exactly, and in how many tensors,
 * be it allowed to or not; 0 when there is no memory to tell or the options cannot be. Any thread.
 */
uint64_t bn_convert_data_bytes(const struct bn_checkpoint *c,
			       const struct bn_convert_options *options, uint32_t *tensors);

#endif
