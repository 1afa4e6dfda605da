/*
 * The key/value memory of one sequence: a contiguous reservation of address space in which
 * attention finds each layer's and head's positions as one [positions, head_dim] matrix.
 *
 * It does not page, share or evict: the page table already exists (architecture, "KV without
 * paging"). Address space is taken at once, pages arrive when they are written, and the ledger is
 * charged for all of it, so that a running sequence never lacks memory.
 *
 * The pages are kept out of core dumps, and leave with the sequence: nobody else ever sees them,
 * for the kernel zeroes what it hands out again.
 */
#ifndef BN_ENGINE_KV_H
#define BN_ENGINE_KV_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/role.h"

enum bn_kv_type {
	BN_KV_F16,
	BN_KV_TYPE_COUNT,
};

/* What one position costs follows from it. */
struct bn_kv_shape {
	uint32_t layers;
	uint32_t heads; /* KV heads, not query heads */
	uint32_t head_dim;
	enum bn_kv_type type;
};

/*
 * Owned by its sequence; read by lanes during a step, each writing only positions of its own rows.
 * Layout: for each layer, for each head: K [capacity, head_dim], then V [capacity, head_dim].
 */
struct bn_kv {
	uint8_t *base;
	uint64_t bytes;    /* mapped: what is charged                       */
	uint32_t capacity; /* positions                                     */
	uint32_t heads;
	uint32_t head_dim;
	uint64_t block_bytes; /* one K or V matrix, a multiple of 64 bytes     */
};

/* Bytes one position takes: what capacity planning multiplies. */
uint64_t bn_kv_position_bytes(const struct bn_kv_shape *shape) BN_ON_ANY;

/* Exactly what bn_kv_init will map and what must be charged; UINT64_MAX on overflow. */
uint64_t bn_kv_bytes(const struct bn_kv_shape *shape, uint32_t capacity) BN_ON_ANY;

/*
 * Reserves `capacity` >= 1 positions, all reading as zero. Takes microseconds, touches no page.
 * BN_E_MEMORY (fact need_bytes) when the size overflows or the kernel has no address space; *kv is
 * then untouched. Undo with bn_kv_finish.
 */
BN_MUST_USE enum bn_status bn_kv_init(struct bn_kv *kv, const struct bn_kv_shape *shape,
				      uint32_t capacity, struct bn_error *err) BN_ON_ANY;

/* Unmaps; a zeroed or finished one is fine. Costs a few ms per touched gigabyte: for a helper. */
void bn_kv_finish(struct bn_kv *kv) BN_ON_ANY;

/* K (or V) of a layer and head from `position` on: [capacity - position, head_dim] f16. */
static inline uint16_t *bn_kv_k(const struct bn_kv *kv, uint32_t layer, uint32_t head,
				uint32_t position)
{
	const uint64_t block = ((uint64_t)layer * kv->heads + head) * 2;

	return (uint16_t *)(void *)(kv->base + block * kv->block_bytes) +
	       (size_t)position * kv->head_dim;
}

static inline uint16_t *bn_kv_v(const struct bn_kv *kv, uint32_t layer, uint32_t head,
				uint32_t position)
{
	const uint64_t block = ((uint64_t)layer * kv->heads + head) * 2 + 1;

	return (uint16_t *)(void *)(kv->base + block * kv->block_bytes) +
	       (size_t)position * kv->head_dim;
}

#endif
