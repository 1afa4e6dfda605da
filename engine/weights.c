/*
 * Loading looks nothing up and sorts nothing: it walks the items of the binding in file order with
 * one buffer, which is also what lets the digest be the plain SHA-256 of the file.
 *
 * One thread reads, hashes and packs; a second runs ahead of it and has the kernel zero the pages
 * the weights will fill. That is the one part worth a thread: on a virtual machine with huge pages
 * the first touch of 1.2 GB took 3.3 s of a core, everything else together 2 s. Without the second
 * thread (none to be had, or an old kernel) the first touches the pages itself.
 */
#include "engine/weights.h"

#include "kernels/trits.h"
#include "proto/assert.h"

#include <math.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; EINVAL before */
#endif

enum {
	STAGE_BYTES = 1024 * 1024, /* one read; cancel is looked at between two                  */
	AHEAD_BYTES = 32 * 1024 * 1024,
};

/* ---- sizes --------------------------------------------------------------------------------- */

uint64_t bn_weights_bytes(const struct bn_binding *b)
{
	uint64_t bytes = bn_weights_line(b->hyper.layers * sizeof(struct bn_layer));

	/* No overflow: the shapes of hyper.h bound every tensor to 2^44 bytes and their number to
	 * 2^16. */
	for (uint32_t i = 0; i < b->n_items; i++) {
		bytes += bn_weights_line(b->items[i].bytes);
	}
	return bn_arena_need(bytes, 0);
}

/* Of the largest piece of a matrix that is decoded at once: its bytes in the file, and its
 * canonical codes. */
struct pieces {
	size_t raw, codes;
};

static struct pieces largest_pieces(const struct bn_binding *b)
{
	struct pieces most = { 1, 1 };

	for (uint32_t i = 0; i < b->n_items; i++) {
		const struct bn_item *item = &b->items[i];

		if (item->role == BN_ITEM_PROJ) {
			const uint32_t n = bn_codec_rows(item->codec, item->rows);
			const size_t raw = bn_codec_bytes(item->codec, n, item->cols);
			const size_t codes = n * bn_trits_stride(item->cols);

			most.raw = raw > most.raw ? raw : most.raw;
			most.codes = codes > most.codes ? codes : most.codes;
		}
	}
	return most;
}

uint64_t bn_weights_transient_bytes(const struct bn_binding *b)
{
	const struct pieces most = largest_pieces(b);

	return STAGE_BYTES + (uint64_t)most.raw + most.codes;
}

/* ---- the thread that runs ahead ------------------------------------------------------------- */

struct ahead {
	pthread_t thread;
	char *base;
	size_t bytes;
	atomic_bool stop;
	bool running;
};

static void *run_ahead(void *arg)
{
	struct ahead *a = arg;

	for (size_t at = 0; at < a->bytes && !atomic_load(&a->stop); at += AHEAD_BYTES) {
		const size_t left = a->bytes - at;

		if (madvise(a->base + at, left < AHEAD_BYTES ? left : AHEAD_BYTES,
			    MADV_POPULATE_WRITE) != 0) {
			break;
		}
	}
	return NULL;
}

/* Over the arena, whose one chunk is mapped. */
static void start_ahead(struct ahead *a, const struct bn_arena *arena)
{
	sigset_t all, old;

	a->base = (char *)arena->chunk;
	a->bytes = arena->total;
	if (a->bytes <= AHEAD_BYTES) {
		return;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	a->running = pthread_create(&a->thread, NULL, run_ahead, a) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void stop_ahead(struct ahead *a)
{
	atomic_store(&a->stop, true);
	if (a->running) {
		pthread_join(a->thread, NULL);
	}
}

/* ---- reading ------------------------------------------------------------------------------- */

struct loader {
	const struct bn_binding *b;
	struct bn_weights *w;
	struct bn_load_watch *watch;
	struct bn_error *err;
	EVP_MD_CTX *digest;
	struct ahead ahead;
	uint64_t at;    /* file position: everything before it is read and hashed */
	uint8_t *stage; /* [STAGE_BYTES]     */
	uint8_t *raw;   /* [largest_pieces]  */
	uint8_t *codes; /* [largest_pieces]  */
};

/* The next `bytes` of the file into dst, through the hash. */
static enum bn_status take(struct loader *l, void *dst, uint64_t bytes)
{
	uint8_t *to = dst;

	while (bytes > 0) {
		const size_t n = bytes < STAGE_BYTES ? (size_t)bytes : STAGE_BYTES;
		const enum bn_status status = bn_file_read(l->b->file, l->at, to, n, l->err);

		if (status != BN_OK) {
			return status;
		}
		if (EVP_DigestUpdate(l->digest, to, n) != 1) {
			return bn_fail(l->err, BN_E_INTERNAL, "libcrypto cannot hash");
		}
		l->at += n;
		to += n;
		bytes -= n;
		if (l->watch != NULL) {
			atomic_store_explicit(&l->watch->done_bytes, l->at, memory_order_relaxed);
			if (atomic_load_explicit(&l->watch->cancel, memory_order_relaxed)) {
				return bn_fail(l->err, BN_E_CANCELLED, "loading was cancelled");
			}
		}
	}
	return BN_OK;
}

/* What lies between tensors, for the hash alone. */
static enum bn_status skip_to(struct loader *l, uint64_t offset)
{
	enum bn_status status = BN_OK;

	bn_assert(offset >= l->at); /* gguf.h: tensors do not overlap */
	while (l->at < offset && status == BN_OK) {
		const uint64_t left = offset - l->at;

		status = take(l, l->stage, left < STAGE_BYTES ? left : STAGE_BYTES);
	}
	return status;
}

/* ---- one tensor ---------------------------------------------------------------------------- */

static void *alloc(struct loader *l, uint64_t bytes)
{
	return bn_arena_alloc(&l->w->arena, 1, (size_t)bytes, l->err);
}

static const float **place_of_norm(struct bn_weights *w, const struct bn_item *item)
{
	struct bn_layer *layer = &w->layers[item->layer];

	switch (item->role) {
	case BN_ITEM_ATTN_NORM:
		return &layer->attn_norm;
	case BN_ITEM_FFN_NORM:
		return &layer->ffn_norm;
	case BN_ITEM_IN_NORM:
		return &layer->in_norm[item->proj];
	case BN_ITEM_Q_NORM:
		return &layer->q_norm;
	case BN_ITEM_K_NORM:
		return &layer->k_norm;
	case BN_ITEM_POST_ATTN_NORM:
		return &layer->post_attn_norm;
	case BN_ITEM_POST_FFN_NORM:
		return &layer->post_ffn_norm;
	default:
		bn_assert(item->role == BN_ITEM_OUT_NORM);
		return &w->out_norm;
	}
}

static enum bn_status load_norm(struct loader *l, const struct bn_item *item)
{
	const struct bn_dense *dense = bn_dense_choose(item->type, l->b->cpu);
	const struct bn_str *name = &item->tensor->name;
	float *out = alloc(l, item->bytes);
	enum bn_status status;

	if (out == NULL) {
		return BN_E_MEMORY;
	}
	bn_assert(item->tensor->nbytes <= STAGE_BYTES); /* hyper.h: ffn <= 262144 */
	status = take(l, l->stage, item->tensor->nbytes);
	if (status != BN_OK) {
		return status;
	}
	dense->decode(out, l->stage, item->cols);
	for (uint32_t i = 0; i < item->cols; i++) {
		if (!isfinite(out[i])) {
			return bn_fail(l->err, BN_E_FORMAT,
				       "tensor '%.*s' holds a value that is not finite",
				       (int)(name->n < 64 ? name->n : 64), name->p);
		}
	}
	*place_of_norm(l->w, item) = out;
	return BN_OK;
}

static enum bn_status load_rows(struct loader *l, const struct bn_item *item)
{
	struct bn_table *table = item->role == BN_ITEM_EMBED ? &l->w->embed : &l->w->head;
	void *rows = alloc(l, item->bytes);

	if (rows == NULL) {
		return BN_E_MEMORY;
	}
	*table = (struct bn_table){
		.rows = rows,
		.dense = bn_dense_choose(item->type, l->b->cpu),
		.row_bytes = bn_dense_row_bytes(item->type, item->cols),
		.n_rows = item->rows,
		.cols = item->cols,
	};
	return take(l, rows, item->bytes);
}

static enum bn_status refuse(struct loader *l, const struct bn_item *item,
			     enum bn_trits_verdict verdict, const struct bn_scale *scale)
{
	const struct bn_str *name = &item->tensor->name;
	const enum bn_status status =
		bn_codec_refuse(item->codec, verdict, scale, &item->tiles, l->err);

	bn_wrap(l->err, "tensor '%.*s'", (int)(name->n < 64 ? name->n : 64), name->p);
	return status;
}

/* As many rows at a time as the file's type allows: whole blocks of the file and whole steps of the
 * kernel. */
static enum bn_status load_trits(struct loader *l, const struct bn_item *item)
{
	const struct bn_kernel *kernel = l->b->kernel[item->proj];
	const uint32_t cols = item->cols, piece = bn_codec_rows(item->codec, item->rows);
	uint8_t *packed = alloc(l, item->bytes);
	struct bn_scale scale = { 0 };

	if (packed == NULL) {
		return BN_E_MEMORY;
	}
	bn_assert(piece % kernel->row_step == 0 || piece == item->rows);
	for (uint32_t row = 0; row < item->rows; row += piece) {
		const uint32_t left = item->rows - row;
		const uint32_t n = left < piece ? left : piece;
		const struct bn_trits trits = {
			.codes = l->codes,
			.stride = bn_trits_stride(cols),
			.rows = n,
			.cols = cols,
		};
		const enum bn_status status = take(l, l->raw, bn_codec_bytes(item->codec, n, cols));
		enum bn_trits_verdict verdict;

		if (status != BN_OK) {
			return status;
		}
		verdict = bn_codec_decode(item->codec, &scale, l->codes, l->raw, n, cols,
					  &item->tiles);
		if (verdict != BN_TRITS_GOOD) {
			return refuse(l, item, verdict, &scale);
		}
		kernel->pack(packed + kernel->packed_bytes(row, cols), &trits, 0, n);
	}
	if (!item->codec->tailed) {
		/* Of a matrix of zeros any scale is right. */
		scale.value = scale.value > 0.0f ? scale.value : 1.0f;
	} else {
		scale.value = item->scale;
	}
	l->w->layers[item->layer].proj[item->proj] = (struct bn_matrix){
		.packed = packed,
		.kernel = kernel,
		.rows = item->rows,
		.cols = cols,
		.scale = scale.value,
	};
	return BN_OK;
}

/* ---- all of them --------------------------------------------------------------------------- */

static enum bn_status load_item(struct loader *l, const struct bn_item *item)
{
	const enum bn_status status = skip_to(l, item->tensor->offset);

	if (status != BN_OK) {
		return status;
	}
	switch (item->role) {
	case BN_ITEM_PROJ:
		return load_trits(l, item);
	case BN_ITEM_EMBED:
	case BN_ITEM_HEAD:
		return load_rows(l, item);
	default:
		return load_norm(l, item);
	}
}

static enum bn_status load_items(struct loader *l)
{
	const struct bn_binding *b = l->b;
	enum bn_status status = BN_OK;

	l->w->layers = alloc(l, b->hyper.layers * sizeof(struct bn_layer));
	if (l->w->layers == NULL) {
		return BN_E_MEMORY;
	}
	start_ahead(&l->ahead, &l->w->arena);
	for (uint32_t i = 0; i < b->n_items && status == BN_OK; i++) {
		status = load_item(l, &b->items[i]);
	}
	stop_ahead(&l->ahead);
	if (status == BN_OK) {
		status = skip_to(l, b->file->size);
	}
	if (status == BN_OK) {
		status = bn_file_unchanged(b->file, l->err);
	}
	return status;
}

static enum bn_status finish_digest(struct loader *l, char text[BN_DIGEST_TEXT_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_DigestFinal_ex(l->digest, md, &n) != 1 || n * 2 + 1 != BN_DIGEST_TEXT_BYTES) {
		return bn_fail(l->err, BN_E_INTERNAL, "libcrypto cannot hash");
	}
	for (unsigned i = 0; i < n; i++) {
		snprintf(text + (size_t)i * 2, 3, "%02x", md[i]);
	}
	return BN_OK;
}

enum bn_status bn_weights_load(struct bn_weights *w, const struct bn_binding *b,
			       struct bn_load_watch *watch, char digest[BN_DIGEST_TEXT_BYTES],
			       struct bn_error *err)
{
	const size_t limit = (size_t)bn_weights_bytes(b);
	const struct pieces most = largest_pieces(b);
	struct loader l = { .b = b, .w = w, .watch = watch, .err = err };
	char text[BN_DIGEST_TEXT_BYTES];
	enum bn_status status;

	memset(w, 0, sizeof(*w));
	bn_arena_init(&w->arena, limit, limit);
	l.digest = EVP_MD_CTX_new();
	l.stage = malloc(STAGE_BYTES);
	l.raw = malloc(most.raw);
	l.codes = malloc(most.codes);
	if (l.digest == NULL || l.stage == NULL || l.raw == NULL || l.codes == NULL) {
		status = bn_fail(err, BN_E_MEMORY, "no memory for the buffers of loading");
	} else if (EVP_DigestInit_ex(l.digest, EVP_sha256(), NULL) != 1) {
		status = bn_fail(err, BN_E_INTERNAL, "libcrypto has no SHA-256");
	} else {
		status = load_items(&l);
	}
	if (status == BN_OK) {
		status = finish_digest(&l, text);
	}
	free(l.codes);
	free(l.raw);
	free(l.stage);
	EVP_MD_CTX_free(l.digest);
	if (status != BN_OK) {
		bn_weights_finish(w);
		return status;
	}
	w->tied = b->tied;
	if (w->tied) {
		w->head = w->embed;
	}
	memcpy(digest, text, sizeof(text));
	return BN_OK;
}

void bn_weights_finish(struct bn_weights *w)
{
	bn_arena_finish(&w->arena);
	memset(w, 0, sizeof(*w));
}
