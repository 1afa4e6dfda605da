/*
 * A GGUF model file in any ternary type becomes one in another: I2_S, TL1 or TL2, the embedding as
 * it is or in a smaller type, everything else byte for byte.
 *
 * It does not repair metadata (the loader does where it knows better) and makes no trits of latent
 * weights. Only bn-convert uses it.
 *
 * Memory: the largest ternary matrix as read, as codes and as written, beside the file's directory.
 */
#ifndef BN_ENGINE_REENCODE_H
#define BN_ENGINE_REENCODE_H

#include "engine/convert_out.h"
#include "engine/tiles.h"
#include "proto/error.h"
#include "proto/role.h"

/*
 * Writes `path` from the file `source`. `advice` (may be NULL) says how a TL source is cut.
 * Metadata are carried over but for general.file_type, general.name where options give one, and our
 * own keys of tiles. Errors: those of bn_gguf_open, bn_hyper_read, bn_tiles_settle,
 * bn_tiles_choose, bn_codec_refuse and bn_convert_out_make; BN_E_NOT_SUPPORTED for a projection
 * that is not ternary, or an embedding that cannot be decoded. On failure no file is left. Helper.
 */
BN_MUST_USE enum bn_status bn_reencode(const char *source, const char *path,
				       const struct bn_convert_options *options,
				       const struct bn_tiles_advice *advice,
				       struct bn_convert_report *report,
				       struct bn_error *err) BN_ON_HELPER;

#endif
