/*
 * modules.json of a Hugging Face folder: how sentence-transformers is told to make a vector of a
 * text, as far as bnd does that too.
 *
 * It does not look at weights; modules that have some behind the pooling are refused. Only
 * bn-convert uses it.
 */
#ifndef BN_ENGINE_HFPOOLING_H
#define BN_ENGINE_HFPOOLING_H

#include "engine/pooling.h"
#include "proto/error.h"

/*
 * Reads modules.json and the configuration of the pooling it names. *out is NONE where the folder
 * has no modules.json. BN_E_FORMAT; BN_E_NOT_SUPPORTED for a pooling or a module that bnd does not
 * have. Tools.
 */
BN_MUST_USE enum bn_status bn_hfpooling_load(enum bn_pooling *out, int dirfd, struct bn_error *err);

#endif
