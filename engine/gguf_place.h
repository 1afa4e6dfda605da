/*
 * Where tensors lie: computes their sizes, and checks that each lies aligned inside the data
 * section and on no other. Pure arithmetic over what a file claims.
 *
 * It does not read files.
 */
#ifndef BN_ENGINE_GGUF_PLACE_H
#define BN_ENGINE_GGUF_PLACE_H

#include "engine/gguf_type.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * On entry each tensor [n], n < 2^32, has name, the file's type number, n_dims 1..4, dims (the
 * rest 1) and its offset from the start of the data section. On success type is settled, nbytes
 * computed, and offset counts from the start of the file. The directory ends at byte `end` of a
 * file of `size` bytes, whose data section begins at the next multiple of `alignment` (a power of
 * two). `tl2` says that the file declares itself one of TL2 tensors. BN_E_FORMAT names the first
 * bad tensor in the order of offsets; the array is then in no defined state. BN_E_MEMORY for the
 * index it sorts. Any thread.
 */
BN_MUST_USE enum bn_status bn_gguf_place(struct bn_gguf_tensor *tensors, size_t n, uint64_t end,
					 uint64_t size, uint32_t alignment, bool tl2,
					 struct bn_error *err);

#endif
