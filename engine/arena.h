/*
 * Arenas: bump memory over anonymous mappings that knows how many bytes it holds, so that a
 * lifetime (process, model, request) is charged to the budget and dropped as one thing.
 *
 * It does not free single objects, does not grow past its limit and does not talk to the budget:
 * the caller reserves `limit_bytes` there first, then allocates, and releases after
 * bn_arena_finish.
 */
#ifndef BN_ENGINE_ARENA_H
#define BN_ENGINE_ARENA_H

#include "proto/error.h"

#include <stddef.h>

enum {
	BN_ARENA_ALIGN = 64,             /* every allocation starts a cache line      */
	BN_ARENA_HUGE = 2 * 1024 * 1024, /* chunks of this size or more ask for THP   */
};

/* Plain value owned by whoever embeds it; not to be copied while in use. One thread at a time. */
struct bn_arena {
	struct bn_arena_chunk *chunk; /* newest first; the one we carve from */
	size_t used;                  /* bytes carved from `chunk`           */
	size_t total;                 /* bytes mapped, all chunks            */
	size_t chunk_bytes;
	size_t limit_bytes;
};

/*
 * Prepares an arena that maps memory `chunk_bytes` at a time, `limit_bytes` in all (both rounded
 * up to pages). Equal values make one fixed reservation: a model's weights. Nothing is mapped
 * yet, so this cannot fail. chunk_bytes >= 4096. Any thread.
 */
void bn_arena_init(struct bn_arena *a, size_t chunk_bytes, size_t limit_bytes);

/*
 * Returns `count * size` zeroed bytes at a BN_ARENA_ALIGN boundary, valid until bn_arena_finish;
 * zero bytes give a valid pointer too. A request larger than a chunk gets a chunk of its own.
 * NULL with *err filled when the product overflows or the limit would be passed (BN_E_MEMORY,
 * facts need_bytes and limit_bytes) or the kernel refuses (BN_E_MEMORY); the arena is then as
 * before. Any thread.
 */
void *bn_arena_alloc(struct bn_arena *a, size_t count, size_t size, struct bn_error *err);

/*
 * The `limit_bytes` that is enough for `n` allocations of `bytes` in all, whatever their order,
 * from a one-chunk arena: adds the alignment losses and the chunk header. SIZE_MAX on overflow.
 */
size_t bn_arena_need(size_t bytes, size_t n);

/* Bytes mapped: what the ledger is charged. Pages never touched are counted as well. */
size_t bn_arena_bytes(const struct bn_arena *a);

/*
 * Unmaps everything; a zeroed or finished arena is fine. Unmapping gigabytes takes tens of
 * milliseconds: the loop hands a model's arena to a helper for this. Any thread.
 */
void bn_arena_finish(struct bn_arena *a);

#endif
