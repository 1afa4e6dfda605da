#include "engine/kv.h"

#include "proto/assert.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

enum {
	BLOCK_ALIGN = 64,  /* a matrix starts a cache line */
	PAGE_BYTES = 4096, /* what the kernel rounds to; larger pages only round further */
};

static uint64_t element_bytes(enum bn_kv_type type)
{
	bn_assert(type == BN_KV_F16);
	return sizeof(uint16_t);
}

uint64_t bn_kv_position_bytes(const struct bn_kv_shape *shape)
{
	/* Three 32-bit dimensions, each far below 2^20 by hyper.h: no overflow. */
	return (uint64_t)shape->layers * shape->heads * shape->head_dim * 2 *
	       element_bytes(shape->type);
}

/* One K or V matrix; false on overflow. */
static bool block_bytes(const struct bn_kv_shape *shape, uint32_t capacity, uint64_t *bytes)
{
	uint64_t n;

	if (__builtin_mul_overflow((uint64_t)shape->head_dim * element_bytes(shape->type),
				   (uint64_t)capacity, &n) ||
	    __builtin_add_overflow(n, (uint64_t)BLOCK_ALIGN - 1, &n)) {
		return false;
	}
	*bytes = n & ~((uint64_t)BLOCK_ALIGN - 1);
	return true;
}

uint64_t bn_kv_bytes(const struct bn_kv_shape *shape, uint32_t capacity)
{
	uint64_t n;

	if (!block_bytes(shape, capacity, &n) ||
	    __builtin_mul_overflow(n, (uint64_t)shape->layers * shape->heads * 2, &n) ||
	    __builtin_add_overflow(n, (uint64_t)PAGE_BYTES - 1, &n)) {
		return UINT64_MAX;
	}
	return n & ~((uint64_t)PAGE_BYTES - 1);
}

enum bn_status bn_kv_init(struct bn_kv *kv, const struct bn_kv_shape *shape, uint32_t capacity,
			  struct bn_error *err)
{
	const uint64_t bytes = bn_kv_bytes(shape, capacity);
	uint64_t block = 0;
	void *p = MAP_FAILED;

	bn_assert(capacity > 0);
	errno = ENOMEM;
	if (bytes <= SIZE_MAX && bytes != UINT64_MAX && block_bytes(shape, capacity, &block)) {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	if (p == MAP_FAILED) {
		const enum bn_status status =
			bn_fail(err, BN_E_MEMORY, "cannot reserve KV memory for %u positions: %s",
				capacity, strerror(errno));

		bn_error_number(err, "need_bytes", bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes);
		return status;
	}
	/* A refusal would only mean an older kernel; the promise about dumps is the service's
	 * LimitCORE=0, this is the second fence. */
	(void)madvise(p, bytes, MADV_DONTDUMP);
	*kv = (struct bn_kv){
		.base = p,
		.bytes = bytes,
		.capacity = capacity,
		.heads = shape->heads,
		.head_dim = shape->head_dim,
		.block_bytes = block,
	};
	return BN_OK;
}

void bn_kv_finish(struct bn_kv *kv)
{
	if (kv->base != NULL) {
		munmap(kv->base, kv->bytes);
		*kv = (struct bn_kv){ 0 };
	}
}
