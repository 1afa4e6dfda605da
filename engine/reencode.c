/*
 * Tensor by tensor in the order of the file's directory: a ternary one is decoded, digested and
 * encoded again, an embedding perhaps requantized row by row, the others copied.
 */
#include "engine/reencode.h"

#include "engine/dequantize.h"
#include "engine/file.h"
#include "engine/gguf.h"
#include "engine/guide.h"
#include "engine/hyper.h"
#include "engine/quantize.h"
#include "kernels/dense.h"
#include "proto/assert.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 * 1024 * 1024, SHOWN = 64 };

/* What becomes of one tensor of the source. */
struct job {
	const struct bn_gguf_tensor *from;
	const struct bn_codec *codec; /* how a ternary one is read, else NULL  */
	bn_dequantize_row *decode;    /* how a row to be requantized is read   */
	struct bn_tiles tiles;        /* and how it is cut there               */
	uint64_t nbytes;              /* as written                            */
};

struct reencoding {
	const struct bn_convert_options *options;
	const struct bn_tiles_advice *advice;
	struct bn_convert_report *report;
	struct bn_error *err;
	struct bn_file file;
	struct bn_gguf *gguf;
	enum bn_ggml_type format;
	uint32_t alignment;
	size_t n;
	struct job *jobs;                 /* [n] */
	struct bn_verify_tensor *tensors; /* [n] */
	EVP_MD_CTX *digest;
	struct bn_gguf_writer *w;
	uint8_t *raw, *codes, *made; /* of the largest tensor or piece   */
	float *row;                  /* of the widest row requantized    */
	uint64_t done_bytes;
};

/* ---- planning ------------------------------------------------------------------------------- */

static enum bn_status name_it(struct reencoding *v, const struct bn_gguf_tensor *t,
			      enum bn_status status)
{
	bn_wrap(v->err, "tensor '%.*s'", (int)(t->name.n < SHOWN ? t->name.n : SHOWN), t->name.p);
	return status;
}

static bool is_named(const struct bn_gguf_tensor *t, const char *name)
{
	return t->name.n == strlen(name) && memcmp(t->name.p, name, t->name.n) == 0;
}

static bn_dequantize_row *row_decoder(enum bn_ggml_type type)
{
	static const struct {
		enum bn_ggml_type ggml;
		enum bn_dense_type dense;
	} types[] = {
		{ BN_GGML_F32, BN_DENSE_F32 },   { BN_GGML_F16, BN_DENSE_F16 },
		{ BN_GGML_BF16, BN_DENSE_BF16 }, { BN_GGML_Q8_0, BN_DENSE_Q8_0 },
		{ BN_GGML_Q6_K, BN_DENSE_Q6_K },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i].ggml == type) {
			return bn_dense_choose(types[i].dense, 0)->decode;
		}
	}
	return bn_dequantize_find(type);
}

/* Embedding and output matrix in the type asked for, others as they are. */
static enum bn_status plan_dense(struct reencoding *v, struct job *job,
				 struct bn_verify_tensor *out)
{
	const struct bn_gguf_tensor *t = job->from;
	const char *type = bn_ggml_name(t->type);

	out->type = t->type;
	if (!is_named(t, "token_embd.weight") && !is_named(t, "output.weight")) {
		return BN_OK;
	}
	job->decode = row_decoder(t->type);
	if (job->decode == NULL) {
		return bn_fail(v->err, BN_E_NOT_SUPPORTED,
			       "it is %s; embeddings of f32, f16, bf16, q8_0, q6_k, q4_0, q4_k and "
			       "iq4_nl can be read",
			       type);
	}
	if (v->options->embedding == BN_GGML_F32) {
		return bn_dequantize_find(t->type) == NULL
			       ? BN_OK
			       : bn_fail(v->err, BN_E_NOT_SUPPORTED,
					 "it is %s, which bnd does not multiply with: --embedding "
					 "q8_0 (or f16, q6_k) converts it",
					 type);
	}
	out->type = bn_quantize_type(v->options->embedding, out->cols);
	if (out->type != v->options->embedding) {
		bn_convert_out_notice(v->report,
				      "rows of %u do not divide into blocks of %s: '%s' is %s",
				      out->cols, bn_ggml_name(v->options->embedding), out->name,
				      bn_ggml_name(out->type));
	}
	return BN_OK;
}

static enum bn_status plan_trits(struct reencoding *v, struct job *job,
				 struct bn_verify_tensor *out)
{
	enum bn_status status = bn_tiles_settle(&job->tiles, v->gguf, job->from->type, out->rows,
						out->cols, v->advice, v->err);

	if (status == BN_OK) {
		out->type = v->format;
		status = bn_tiles_choose(&out->tiles, v->format, out->rows, out->cols, v->err);
	}
	return status;
}

static enum bn_status plan_tensor(struct reencoding *v, size_t i)
{
	const struct bn_gguf_tensor *t = bn_gguf_tensor_at(v->gguf, i);
	struct bn_verify_tensor *out = &v->tensors[i];
	struct job *job = &v->jobs[i];
	enum bn_status status;

	if (t->name.n >= BN_VERIFY_NAME_BYTES || memchr(t->name.p, 0, t->name.n) != NULL) {
		return bn_fail(v->err, BN_E_NOT_SUPPORTED,
			       "its name is longer than %d bytes or holds a zero",
			       BN_VERIFY_NAME_BYTES - 1);
	}
	if (t->n_dims > 2 || t->dims[0] > UINT32_MAX || t->dims[1] > UINT32_MAX) {
		return bn_fail(v->err, BN_E_NOT_SUPPORTED, "it is no matrix or is too large");
	}
	memcpy(out->name, t->name.p, t->name.n);
	out->cols = (uint32_t)t->dims[0];
	out->rows = (uint32_t)t->dims[1];
	job->from = t;
	job->codec = bn_codec_find(t->type);
	if (t->type == BN_GGML_IQ2_BN_R4) {
		return bn_fail(v->err, BN_E_NOT_SUPPORTED,
			       "it is iq2_bn_r4, whose rows are interleaved for one kind of "
			       "processor: use the iq2_bn or i2_s file it was made from");
	}
	status = job->codec != NULL ? plan_trits(v, job, out) : plan_dense(v, job, out);
	if (status != BN_OK) {
		return status;
	}
	if (bn_ggml_nbytes(out->type, t->n_dims, t->dims, &job->nbytes) != BN_GGML_FITS) {
		return bn_fail(v->err, BN_E_NOT_SUPPORTED, "its shape does not make a tensor of %s",
			       bn_ggml_name(out->type));
	}
	v->report->data_bytes += job->nbytes;
	return BN_OK;
}

static enum bn_status plan(struct reencoding *v)
{
	bool ternary = false;

	v->n = bn_gguf_tensor_count(v->gguf);
	v->jobs = calloc(v->n + 1, sizeof(*v->jobs));
	v->tensors = calloc(v->n + 1, sizeof(*v->tensors));
	if (v->jobs == NULL || v->tensors == NULL) {
		return bn_fail(v->err, BN_E_MEMORY, "no memory to plan %zu tensors", v->n);
	}
	for (size_t i = 0; i < v->n; i++) {
		const enum bn_status status = plan_tensor(v, i);

		if (status != BN_OK) {
			return name_it(v, bn_gguf_tensor_at(v->gguf, i), status);
		}
		ternary |= v->jobs[i].codec != NULL;
		if (strcmp(v->tensors[i].name, "token_embd.weight") == 0) {
			v->report->embedding = v->tensors[i].type;
		}
	}
	if (!ternary) {
		return bn_fail(
			v->err, BN_E_NOT_SUPPORTED,
			"no tensor of this file is ternary: convert the Hugging Face folder");
	}
	v->report->format = v->format;
	v->report->tensors = (uint32_t)v->n;
	return BN_OK;
}

static enum bn_status take_buffers(struct reencoding *v)
{
	size_t raw = PIECE_BYTES, codes = 1, made = PIECE_BYTES, row = 1;

	for (size_t i = 0; i < v->n; i++) {
		const struct bn_verify_tensor *t = &v->tensors[i];
		const struct job *job = &v->jobs[i];

		if (job->codec != NULL) {
			const size_t n = t->rows * bn_trits_stride(t->cols);

			raw = job->from->nbytes > raw ? job->from->nbytes : raw;
			made = job->nbytes > made ? job->nbytes : made;
			codes = n > codes ? n : codes;
		} else if (t->type != job->from->type) {
			const size_t wide = (size_t)t->cols * sizeof(float);

			row = wide > row ? wide : row;
			raw = wide > raw ? wide : raw;
			made = wide > made ? wide : made;
		}
	}
	v->raw = malloc(raw);
	v->codes = malloc(codes);
	v->made = malloc(made);
	v->row = malloc(row);
	v->digest = EVP_MD_CTX_new();
	return v->raw == NULL || v->codes == NULL || v->made == NULL || v->row == NULL ||
			       v->digest == NULL
		       ? bn_fail(v->err, BN_E_MEMORY, "no memory for the buffers of converting")
		       : BN_OK;
}

/* ---- metadata ------------------------------------------------------------------------------- */

static bool is_key(struct bn_str key, const char *name)
{
	return key.n == strlen(name) && memcmp(key.p, name, key.n) == 0;
}

/* As they are, in their order, but for what the new types change. */
static void put_keys(struct reencoding *v)
{
	const uint32_t file_type = bn_codec_find(v->format)->file_type;
	const char *name = v->options->name;
	bool typed = false, named = name == NULL;

	for (size_t i = 0; i < bn_gguf_kv_count(v->gguf); i++) {
		const struct bn_str key = bn_gguf_kv_key(v->gguf, i);

		if (is_key(key, "general.file_type")) {
			bn_gguf_put_u32(v->w, "general.file_type", file_type);
			typed = true;
		} else if (is_key(key, "general.name") && !named) {
			bn_gguf_put_str(v->w, "general.name", name);
			named = true;
		} else if (is_key(key, bn_tiles_key(BN_GGML_TL1)) ||
			   is_key(key, bn_tiles_key(BN_GGML_TL2)) ||
			   (is_key(key, "general.alignment") &&
			    v->alignment != BN_GGUF_DEFAULT_ALIGNMENT)) {
			continue; /* ours to write */
		} else {
			bn_gguf_put_value(v->w, key, bn_gguf_kv_type(v->gguf, i),
					  bn_gguf_kv_value(v->gguf, i));
		}
	}
	if (!typed) {
		bn_gguf_put_u32(v->w, "general.file_type", file_type);
	}
	if (!named) {
		bn_gguf_put_str(v->w, "general.name", name);
	}
}

/* ---- tensors -------------------------------------------------------------------------------- */

static enum bn_status progress(struct reencoding *v, uint64_t bytes)
{
	v->done_bytes += bytes;
	return bn_convert_out_progress(v->options, "converting", v->done_bytes,
				       v->report->data_bytes, v->err);
}

static enum bn_status put_trits(struct reencoding *v, const struct job *job,
				struct bn_verify_tensor *t)
{
	const struct bn_trits trits = { v->codes, bn_trits_stride(t->cols), t->rows, t->cols };
	struct bn_scale scale = { 0 };
	enum bn_trits_verdict verdict;
	enum bn_status status =
		bn_gguf_read(v->gguf, job->from, 0, v->raw, (size_t)job->from->nbytes, v->err);

	if (status != BN_OK) {
		return status;
	}
	verdict = bn_codec_decode(job->codec, &scale, v->codes, v->raw, t->rows, t->cols,
				  &job->tiles);
	if (verdict != BN_TRITS_GOOD) {
		return name_it(v, job->from,
			       bn_codec_refuse(job->codec, verdict, &scale, &job->tiles, v->err));
	}
	if (job->codec->tailed) {
		memcpy(&scale.value, v->raw + job->from->nbytes - BN_CODEC_TAIL,
		       sizeof(scale.value));
		status = bn_codec_check_scale(scale.value, v->err);
		if (status != BN_OK) {
			return name_it(v, job->from, status);
		}
	}
	/* Of a matrix of zeros any scale is right. */
	t->scale = scale.value > 0.0f ? scale.value : 1.0f;
	bn_convert_out_count(v->report, v->codes, t->rows, t->cols);
	EVP_DigestUpdate(v->digest, v->codes, t->rows * trits.stride);
	bn_codec_encode(bn_codec_find(t->type), v->made, &trits, t->scale, &t->tiles);
	bn_gguf_write(v->w, v->made, (size_t)job->nbytes);
	v->report->recoded++;
	return progress(v, job->nbytes);
}

static enum bn_status copy_bytes(struct reencoding *v, const struct job *job)
{
	enum bn_status status = BN_OK;

	for (uint64_t at = 0; at < job->nbytes && status == BN_OK;) {
		const uint64_t left = job->nbytes - at;
		const size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;

		status = bn_gguf_read(v->gguf, job->from, at, v->raw, n, v->err);
		if (status == BN_OK) {
			EVP_DigestUpdate(v->digest, v->raw, n);
			bn_gguf_write(v->w, v->raw, n);
			at += n;
			status = progress(v, n);
		}
	}
	return status;
}

/* Rows of floats through another type, a piece of the file at a time. */
static enum bn_status requantize(struct reencoding *v, const struct job *job,
				 const struct bn_verify_tensor *t)
{
	const size_t to = bn_quantize_row_bytes(t->type, t->cols);
	const size_t from = (size_t)(job->from->nbytes / t->rows);
	enum bn_status status = BN_OK;
	uint32_t piece, n;

	bn_assert(to > 0); /* bn_quantize_type */
	piece = (uint32_t)(PIECE_BYTES / (from > to ? from : to));
	piece = piece > 0 ? piece : 1;
	/* By n, not by piece: there may be 2^32 - 1 rows. */
	for (uint32_t row = 0; row < t->rows && status == BN_OK; row += n) {
		n = t->rows - row < piece ? t->rows - row : piece;
		status = bn_gguf_read(v->gguf, job->from, (uint64_t)row * from, v->raw, n * from,
				      v->err);
		for (uint32_t i = 0; i < n && status == BN_OK; i++) {
			job->decode(v->row, v->raw + i * from, t->cols);
			if (!bn_quantize_row(t->type, v->made + i * to, v->row, t->cols)) {
				status = bn_fail(v->err, BN_E_FORMAT,
						 "tensor '%s': row %u has a value that is not "
						 "finite or too large for %s",
						 t->name, row + i, bn_ggml_name(t->type));
			}
		}
		if (status == BN_OK) {
			EVP_DigestUpdate(v->digest, v->made, n * to);
			bn_gguf_write(v->w, v->made, n * to);
			status = progress(v, n * to);
		}
	}
	return status;
}

static enum bn_status put_tensor(struct reencoding *v, size_t i)
{
	struct bn_verify_tensor *t = &v->tensors[i];
	const struct job *job = &v->jobs[i];
	enum bn_status status;

	if (EVP_DigestInit_ex(v->digest, EVP_sha256(), NULL) != 1) {
		return bn_fail(v->err, BN_E_INTERNAL, "libcrypto has no SHA-256");
	}
	status = job->codec != NULL           ? put_trits(v, job, t)
		 : t->type != job->from->type ? requantize(v, job, t)
					      : copy_bytes(v, job);
	if (status == BN_OK && EVP_DigestFinal_ex(v->digest, t->digest, NULL) != 1) {
		status = bn_fail(v->err, BN_E_INTERNAL, "SHA-256 failed");
	}
	return status;
}

static enum bn_status write_all(void *who, const char *part)
{
	struct reencoding *v = who;
	enum bn_status status = bn_gguf_writer_new(&v->w, part, v->alignment, v->err);

	if (status != BN_OK) {
		return status;
	}
	put_keys(v);
	if (!bn_convert_out_put_tiles(v->w, v->tensors, v->n)) {
		status = bn_fail(v->err, BN_E_NOT_SUPPORTED,
				 "ternary matrices of more than %d shapes", BN_TILES_SHAPES);
	}
	for (size_t i = 0; i < v->n; i++) {
		bn_gguf_put_tensor(v->w, v->tensors[i].name, v->tensors[i].type,
				   v->jobs[i].from->n_dims, v->jobs[i].from->dims);
	}
	for (size_t i = 0; i < v->n && status == BN_OK && bn_gguf_writer_ok(v->w); i++) {
		status = put_tensor(v, i);
	}
	if (status == BN_OK) {
		status = bn_file_unchanged(&v->file, v->err);
	}
	if (status == BN_OK) {
		status = bn_gguf_commit(v->w, v->err);
	}
	bn_gguf_writer_free(v->w);
	return status;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* The matrix of the guide, by the dimensions and the name that the file has. */
static enum bn_status choose_format(struct reencoding *v, const struct bn_hyper *hyper)
{
	const struct bn_shape shape = bn_hyper_shape(hyper);
	struct bn_str name = { NULL, 0 };

	if (bn_gguf_has(v->gguf, "general.name") &&
	    bn_gguf_str(v->gguf, "general.name", &name, NULL) != BN_OK) {
		name = (struct bn_str){ NULL, 0 };
	}
	return bn_convert_out_choose(&v->format,
				     bn_guide_recognise(&shape, hyper->arch->name, name, NULL),
				     &shape, v->options, v->err);
}

static enum bn_status open_source(struct reencoding *v)
{
	struct bn_hyper hyper;
	/* An architecture that bnd does not run is known before the work. */
	enum bn_status status = bn_gguf_open(&v->gguf, &v->file, v->err);

	if (status == BN_OK) {
		status = bn_hyper_read(&hyper, v->gguf, v->err);
	}
	if (status == BN_OK) {
		status = choose_format(v, &hyper);
	}
	v->alignment = BN_GGUF_DEFAULT_ALIGNMENT;
	if (status == BN_OK && bn_gguf_has(v->gguf, "general.alignment")) {
		status = bn_gguf_u32(v->gguf, "general.alignment", 1, BN_GGUF_MAX_ALIGNMENT,
				     &v->alignment, v->err);
	}
	return status;
}

static void finish(struct reencoding *v)
{
	free(v->jobs);
	free(v->tensors);
	free(v->raw);
	free(v->codes);
	free(v->made);
	free(v->row);
	EVP_MD_CTX_free(v->digest);
	bn_gguf_free(v->gguf);
	bn_file_close(&v->file);
}

enum bn_status bn_reencode(const char *source, const char *path,
			   const struct bn_convert_options *options,
			   const struct bn_tiles_advice *advice, struct bn_convert_report *report,
			   struct bn_error *err)
{
	struct bn_convert_report r = { 0 };
	struct reencoding v = { .options = options, .advice = advice, .report = &r, .err = err };
	enum bn_status status = bn_file_open(&v.file, AT_FDCWD, source, false, err);

	if (status != BN_OK) {
		return status;
	}
	status = open_source(&v);
	if (status == BN_OK) {
		status = plan(&v);
	}
	if (status == BN_OK) {
		status = take_buffers(&v);
	}
	if (status == BN_OK) {
		status = bn_convert_out_make(path, options, &r, write_all, &v, v.tensors, v.n, err);
	}
	finish(&v);
	if (status == BN_OK) {
		*report = r;
	}
	return status;
}
