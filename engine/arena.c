/*
 * A list of mappings, newest first. The chunk's own header sits in its first cache line, so an
 * arena needs no memory but what it maps and counts.
 *
 * Pages are mapped without MAP_NORESERVE: where the machine does not overcommit, "no memory" is
 * then an error of mmap, which we can tell, and not a kill at first touch, which we cannot.
 */
#include "engine/arena.h"

#include "proto/assert.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

struct bn_arena_chunk {
	struct bn_arena_chunk *older;
	size_t bytes;
};

_Static_assert(sizeof(struct bn_arena_chunk) <= BN_ARENA_ALIGN, "header fits its cache line");

/* Rounds up to a power of two; false when that overflows. */
static bool round_up(size_t n, size_t to, size_t *out)
{
	if (__builtin_add_overflow(n, to - 1, out)) {
		return false;
	}
	*out &= ~(to - 1);
	return true;
}

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/*
 * Maps `bytes` (whole pages); large ones on a huge-page boundary, since a huge page can only back
 * an aligned range. The kernel chooses page boundaries, so we map more and cut both ends off.
 */
static void *map_chunk(size_t bytes)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t slack = bytes >= BN_ARENA_HUGE ? BN_ARENA_HUGE : 0;
	size_t lead, padded;
	char *p;

	if (__builtin_add_overflow(bytes, slack, &padded)) {
		return NULL;
	}
	p = mmap(NULL, padded, prot, flags, -1, 0);
	if (p == MAP_FAILED) {
		return NULL;
	}
	if (slack == 0) {
		return p;
	}
	lead = (BN_ARENA_HUGE - (uintptr_t)p % BN_ARENA_HUGE) % BN_ARENA_HUGE;
	if (lead > 0) {
		munmap(p, lead);
	}
	if (slack > lead) {
		munmap(p + lead + bytes, slack - lead);
	}
	/* A hint: on failure (no THP in this kernel) small pages serve as well. */
	(void)madvise(p + lead, bytes, MADV_HUGEPAGE);
	return p + lead;
}

static void refuse(const struct bn_arena *a, size_t need, struct bn_error *err)
{
	bn_fail(err, BN_E_MEMORY, "need %zu bytes, the arena's limit is %zu and %zu are in use",
		need, a->limit_bytes, a->total);
	bn_error_number(err, "need_bytes", need > INT64_MAX ? INT64_MAX : (int64_t)need);
	bn_error_number(err, "limit_bytes",
			a->limit_bytes > INT64_MAX ? INT64_MAX : (int64_t)a->limit_bytes);
}

/* Adds a chunk with room for `bytes`. */
static bool grow(struct bn_arena *a, size_t bytes, struct bn_error *err)
{
	size_t need, want;
	struct bn_arena_chunk *chunk;

	if (__builtin_add_overflow(bytes, (size_t)BN_ARENA_ALIGN, &need) ||
	    !round_up(need, page_bytes(), &need) || need > a->limit_bytes - a->total) {
		refuse(a, bytes, err);
		return false;
	}
	want = a->chunk_bytes;
	if (want > a->limit_bytes - a->total) {
		want = a->limit_bytes - a->total;
	}
	if (want < need) {
		want = need;
	}
	chunk = map_chunk(want);
	if (chunk == NULL) {
		bn_fail(err, BN_E_MEMORY, "the system has no %zu bytes of memory for us", want);
		bn_error_number(err, "need_bytes", (int64_t)want);
		return false;
	}
	chunk->older = a->chunk;
	chunk->bytes = want;
	a->chunk = chunk;
	a->used = BN_ARENA_ALIGN;
	a->total += want;
	return true;
}

void bn_arena_init(struct bn_arena *a, size_t chunk_bytes, size_t limit_bytes)
{
	bn_assert(chunk_bytes >= 4096);
	a->chunk = NULL;
	a->used = 0;
	a->total = 0;
	if (!round_up(chunk_bytes, page_bytes(), &a->chunk_bytes)) {
		a->chunk_bytes = SIZE_MAX & ~(page_bytes() - 1);
	}
	if (!round_up(limit_bytes, page_bytes(), &a->limit_bytes)) {
		a->limit_bytes = SIZE_MAX & ~(page_bytes() - 1);
	}
}

void *bn_arena_alloc(struct bn_arena *a, size_t count, size_t size, struct bn_error *err)
{
	size_t bytes;
	char *p;

	if (__builtin_mul_overflow(count, size, &bytes) ||
	    !round_up(bytes, BN_ARENA_ALIGN, &bytes)) {
		bn_fail(err, BN_E_MEMORY, "%zu objects of %zu bytes do not fit an address space",
			count, size);
		return NULL;
	}
	if (a->chunk == NULL || bytes > a->chunk->bytes - a->used) {
		if (!grow(a, bytes, err)) {
			return NULL;
		}
	}
	p = (char *)a->chunk + a->used;
	a->used += bytes;
	return p;
}

size_t bn_arena_need(size_t bytes, size_t n)
{
	size_t losses;

	/* Each allocation loses at most ALIGN - 1; the header takes one line of the chunk. */
	if (__builtin_mul_overflow(n, (size_t)BN_ARENA_ALIGN - 1, &losses) ||
	    __builtin_add_overflow(losses, (size_t)BN_ARENA_ALIGN, &losses) ||
	    __builtin_add_overflow(losses, bytes, &losses) ||
	    !round_up(losses, page_bytes(), &losses)) {
		return SIZE_MAX;
	}
	return losses;
}

size_t bn_arena_bytes(const struct bn_arena *a)
{
	return a->total;
}

void bn_arena_finish(struct bn_arena *a)
{
	if (a == NULL) {
		return;
	}
	while (a->chunk != NULL) {
		struct bn_arena_chunk *older = a->chunk->older;

		munmap(a->chunk, a->chunk->bytes);
		a->chunk = older;
	}
	a->used = 0;
	a->total = 0;
}
