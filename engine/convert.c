/*
 * Each tensor of the plan is read, turned into what the file holds, digested and written before
 * the next one is looked at.
 */
#include "engine/convert.h"

#include "engine/convert_keys.h"
#include "engine/convert_plan.h"
#include "engine/convert_verify.h"
#include "engine/gguf_write.h"
#include "engine/quantize.h"
#include "engine/ternary.h"
#include "kernels/half.h"
#include "kernels/trits.h"
#include "proto/assert.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_BYTES = 4 * 1024 * 1024, /* of a source tensor, at least one row */
};

struct conversion {
	const struct bn_checkpoint *c;
	const struct bn_convert_options *options;
	struct bn_convert_report *report;
	struct bn_gguf_writer *w;
	struct bn_error *err;
	struct bn_convert_plan plan;
	enum bn_ggml_type format; /* of the ternary matrices */
	EVP_MD_CTX *digest;
	uint8_t *piece;  /* bytes of the source, one piece       */
	float *values;   /* the same as floats                   */
	uint8_t *packed; /* a packed tensor                      */
	uint8_t *codes;  /* canonical codes of a tensor          */
	uint8_t *turned; /* the same, rows permuted; or encoded  */
	uint64_t done_bytes;
};

static enum bn_status progress(struct conversion *v, uint64_t done)
{
	return bn_convert_out_progress(v->options, "converting", done, v->plan.total_bytes, v->err);
}

/* --- reading --------------------------------------------------------------------------------- */

static void to_floats(float *dst, const uint8_t *src, enum bn_safetensors_type type, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t half;

		switch (type) {
		case BN_ST_F32:
			memcpy(&dst[i], src + 4 * i, 4);
			break;
		case BN_ST_F16:
			memcpy(&half, src + 2 * i, 2);
			dst[i] = bn_half_to_float(half);
			break;
		default:
			memcpy(&half, src + 2 * i, 2);
			dst[i] = bn_bf16_to_float(half);
			break;
		}
	}
}

/* Rows [row, row + n) of a float tensor to v->values; n rows fit a piece. */
static enum bn_status read_rows(struct conversion *v, const struct bn_safetensors_tensor *t,
				uint32_t cols, uint32_t row, uint32_t n)
{
	const size_t width = bn_safetensors_width(t->type);
	const size_t count = (size_t)n * cols;
	const enum bn_status status = bn_safetensors_read(
		v->c->tensors, t, (uint64_t)row * cols * width, v->piece, count * width, v->err);

	if (status == BN_OK) {
		to_floats(v->values, v->piece, t->type, count);
	}
	return status;
}

static uint32_t rows_of_piece(uint32_t cols)
{
	const uint32_t rows = PIECE_BYTES / 4 / cols;

	return rows > 0 ? rows : 1;
}

/* --- ternary matrices ------------------------------------------------------------------------ */

static enum bn_status unpack(struct conversion *v, const struct bn_convert_job *job,
			     struct bn_verify_tensor *t, const struct bn_safetensors_tensor *source)
{
	uint32_t bad;
	float scale;
	enum bn_status status = bn_safetensors_read(v->c->tensors, source, 0, v->packed,
						    (size_t)t->rows / 4 * t->cols, v->err);

	if (status == BN_OK) {
		status = bn_checkpoint_scale(v->c, job->layer, job->projection, &scale, v->err);
	}
	if (status != BN_OK) {
		return status;
	}
	if (!bn_ternary_unpack(v->codes, v->packed, t->rows, t->cols, &bad)) {
		return bn_fail(v->err, BN_E_FORMAT,
			       "tensor '%s': row %u holds a code 3, which is no trit: the file is "
			       "damaged or packed in another way",
			       job->source, bad);
	}
	t->scale = v->c->divide ? 1.0f / scale : scale;
	v->report->packed++;
	return BN_OK;
}

static enum bn_status look(struct conversion *v, const struct bn_verify_tensor *t,
			   const struct bn_safetensors_tensor *source, struct bn_ternary_survey *s)
{
	const uint32_t piece = rows_of_piece(t->cols);
	enum bn_status status = BN_OK;

	for (uint32_t row = 0; row < t->rows && status == BN_OK; row += piece) {
		const uint32_t n = t->rows - row < piece ? t->rows - row : piece;

		status = read_rows(v, source, t->cols, row, n);
		if (status == BN_OK) {
			bn_ternary_look(s, v->values, (size_t)n * t->cols);
		}
	}
	return status;
}

static enum bn_status judge(struct conversion *v, const struct bn_convert_job *job,
			    const struct bn_ternary_survey *s)
{
	if (s->n_broken > 0) {
		return bn_fail(v->err, BN_E_FORMAT,
			       "tensor '%s': %llu weights are not finite numbers", job->source,
			       (unsigned long long)s->n_broken);
	}
	if (bn_ternary_is_exact(s)) {
		v->report->dequantized++;
		return BN_OK;
	}
	if (!v->c->may_ternarize) {
		return bn_fail(
			v->err, BN_E_NOT_SUPPORTED,
			"tensor '%s' is not ternary (|weights| from %g to %g), and nothing in "
			"config.json says that the model was trained for it; --ternarize "
			"rounds it nevertheless",
			job->source, (double)s->min, (double)s->max);
	}
	v->report->latent++;
	return BN_OK;
}

static enum bn_status ternarize(struct conversion *v, const struct bn_convert_job *job,
				struct bn_verify_tensor *t,
				const struct bn_safetensors_tensor *source)
{
	const uint32_t piece = rows_of_piece(t->cols);
	const size_t stride = bn_trits_stride(t->cols);
	struct bn_ternary_survey s = { 0 };
	float factor;
	enum bn_status status = look(v, t, source, &s);

	if (status == BN_OK) {
		status = judge(v, job, &s);
	}
	if (status != BN_OK) {
		return status;
	}
	bn_ternary_scale(&s, &factor, &t->scale);
	for (uint32_t row = 0; row < t->rows && status == BN_OK; row += piece) {
		const uint32_t n = t->rows - row < piece ? t->rows - row : piece;

		status = read_rows(v, source, t->cols, row, n);
		for (uint32_t i = 0; i < n && status == BN_OK; i++) {
			bn_ternary_round(v->codes + (row + i) * stride,
					 v->values + (size_t)i * t->cols, t->cols, factor);
		}
	}
	return status;
}

static enum bn_status put_trits(struct conversion *v, const struct bn_convert_job *job,
				struct bn_verify_tensor *t,
				const struct bn_safetensors_tensor *source)
{
	const size_t stride = bn_trits_stride(t->cols);
	const bool turn = v->c->arch->rope == BN_ROPE_NORM &&
			  (job->projection == BN_PROJ_Q || job->projection == BN_PROJ_K);
	struct bn_trits trits = { v->codes, stride, t->rows, t->cols };
	enum bn_status status = v->c->form == BN_FORM_PACKED ? unpack(v, job, t, source)
							     : ternarize(v, job, t, source);

	if (status != BN_OK) {
		return status;
	}
	if (turn) {
		for (uint32_t r = 0; r < t->rows; r++) {
			memcpy(v->turned + r * stride,
			       v->codes + bn_ternary_permuted(r, v->c->head_dim) * stride, stride);
		}
		trits.codes = v->turned;
	}
	bn_convert_out_count(v->report, trits.codes, t->rows, t->cols);
	EVP_DigestUpdate(v->digest, trits.codes, t->rows * stride);
	/* The packed bytes are no longer needed: their room holds the tensor of the file. */
	bn_codec_encode(bn_codec_find(t->type), v->packed, &trits, t->scale, &t->tiles);
	bn_gguf_write(v->w, v->packed, job->nbytes);
	return BN_OK;
}

/* --- the others ------------------------------------------------------------------------------ */

static enum bn_status put_rows(struct conversion *v, const struct bn_convert_job *job,
			       const struct bn_verify_tensor *t,
			       const struct bn_safetensors_tensor *source)
{
	const uint32_t piece = rows_of_piece(t->cols);
	const size_t row_bytes = bn_quantize_row_bytes(t->type, t->cols);

	for (uint32_t row = 0; row < t->rows; row += piece) {
		const uint32_t n = t->rows - row < piece ? t->rows - row : piece;
		enum bn_status status = read_rows(v, source, t->cols, row, n);

		if (status != BN_OK) {
			return status;
		}
		for (size_t i = 0; i < (size_t)n * t->cols && job->less_one; i++) {
			v->values[i] += 1.0f;
		}
		for (uint32_t i = 0; i < n; i++) {
			if (!bn_quantize_row(t->type, v->turned + i * row_bytes,
					     v->values + (size_t)i * t->cols, t->cols)) {
				return bn_fail(
					v->err, BN_E_FORMAT,
					"tensor '%s': row %u has a value that is not finite or "
					"too large for %s",
					job->source, row + i, bn_ggml_name(t->type));
			}
		}
		EVP_DigestUpdate(v->digest, v->turned, n * row_bytes);
		bn_gguf_write(v->w, v->turned, n * row_bytes);
		status = progress(v, v->done_bytes + (uint64_t)(row + n) * row_bytes);
		if (status != BN_OK) {
			return status;
		}
	}
	return BN_OK;
}

static enum bn_status put_tensor(struct conversion *v, size_t i)
{
	struct bn_verify_tensor *t = &v->plan.tensors[i];
	const struct bn_convert_job *job = &v->plan.jobs[i];
	const struct bn_safetensors_tensor *source =
		bn_safetensors_find(v->c->tensors, job->source);
	enum bn_status status;

	if (EVP_DigestInit_ex(v->digest, EVP_sha256(), NULL) != 1) {
		return bn_fail(v->err, BN_E_INTERNAL, "libcrypto has no SHA-256");
	}
	status = bn_codec_find(t->type) != NULL ? put_trits(v, job, t, source)
						: put_rows(v, job, t, source);
	if (status == BN_OK && EVP_DigestFinal_ex(v->digest, t->digest, NULL) != 1) {
		status = bn_fail(v->err, BN_E_INTERNAL, "SHA-256 failed");
	}
	v->done_bytes += job->nbytes;
	return status == BN_OK ? progress(v, v->done_bytes) : status;
}

/* --- all of it ------------------------------------------------------------------------------- */

static enum bn_status take_buffers(struct conversion *v)
{
	size_t ternary = 1, packed = 1, row = 1, piece;

	for (size_t i = 0; i < v->plan.n; i++) {
		const struct bn_verify_tensor *t = &v->plan.tensors[i];
		const size_t stride = bn_trits_stride(t->cols);

		row = t->cols > row ? t->cols : row;
		if (bn_codec_find(t->type) != NULL) {
			ternary = t->rows * stride > ternary ? t->rows * stride : ternary;
			packed = v->plan.jobs[i].nbytes > packed ? v->plan.jobs[i].nbytes : packed;
		}
	}
	piece = row * 4 > PIECE_BYTES ? row * 4 : PIECE_BYTES;
	v->piece = malloc(piece);
	v->values = malloc(piece);
	v->packed = malloc(packed > ternary ? packed : ternary);
	v->codes = malloc(ternary);
	v->turned = malloc(ternary > piece ? ternary : piece);
	v->digest = EVP_MD_CTX_new();
	return v->piece == NULL || v->values == NULL || v->packed == NULL || v->codes == NULL ||
			       v->turned == NULL || v->digest == NULL
		       ? bn_fail(v->err, BN_E_MEMORY, "no memory for the buffers of converting")
		       : BN_OK;
}

static void free_buffers(struct conversion *v)
{
	free(v->piece);
	free(v->values);
	free(v->packed);
	free(v->codes);
	free(v->turned);
	EVP_MD_CTX_free(v->digest);
}

static enum bn_status write_all(void *who, const char *part)
{
	struct conversion *v = who;
	const char *name = v->options->name != NULL ? v->options->name : v->c->name;
	enum bn_status status = bn_gguf_writer_new(&v->w, part, 32, v->err);

	if (status != BN_OK) {
		return status;
	}
	bn_convert_keys(v->w, v->c, name, bn_codec_find(v->format)->file_type);
	(void)bn_convert_out_put_tiles(v->w, v->plan.tensors, v->plan.n); /* seven shapes at most */
	for (size_t i = 0; i < v->plan.n; i++) {
		const uint64_t dims[2] = { v->plan.tensors[i].cols, v->plan.tensors[i].rows };

		bn_gguf_put_tensor(v->w, v->plan.tensors[i].name, v->plan.tensors[i].type,
				   v->plan.jobs[i].n_dims, dims);
	}
	for (size_t i = 0; i < v->plan.n && status == BN_OK && bn_gguf_writer_ok(v->w); i++) {
		status = put_tensor(v, i);
	}
	if (status == BN_OK) {
		status = bn_safetensors_unchanged(v->c->tensors, v->err);
	}
	if (status == BN_OK) {
		status = bn_gguf_commit(v->w, v->err);
	}
	bn_gguf_writer_free(v->w);
	return status;
}

static void tell_plan(struct conversion *v)
{
	const struct bn_checkpoint *c = v->c;
	const enum bn_ggml_type type = v->plan.tensors[0].type;

	v->report->embedding = type;
	v->report->format = v->format;
	v->report->data_bytes = v->plan.total_bytes;
	v->report->tensors = (uint32_t)v->plan.n;
	if (v->options->embedding == BN_GGML_Q6_K && type != BN_GGML_Q6_K) {
		bn_convert_out_notice(
			v->report,
			"rows of %u do not divide into the 256 of q6_k: the embedding is %s",
			c->dim, bn_ggml_name(type));
	} else if (v->options->embedding == BN_GGML_Q8_0 && type != BN_GGML_Q8_0) {
		bn_convert_out_notice(
			v->report,
			"rows of %u do not divide into the 32 of q8_0: the embedding is %s", c->dim,
			bn_ggml_name(type));
	}
	if (v->format == BN_GGML_I2_S && (c->ffn % 128 != 0 || c->dim % 128 != 0)) {
		bn_convert_out_notice(
			v->report, "rows of this model end inside i2_s blocks: bnd runs the file, "
				   "bitnet.cpp's own i2_s kernels do not");
	}
	for (uint32_t i = 0; i < c->vocab.n_notices; i++) {
		bn_convert_out_notice(v->report, "%s", c->vocab.notices[i]);
	}
	if (c->notice[0] != '\0') {
		bn_convert_out_notice(v->report, "%s", c->notice);
	}
	if (c->n_eos == 0 && !c->arch->embeds) {
		bn_convert_out_notice(
			v->report,
			"no end-of-text token is named: only lengths will stop the model");
	} else if (c->n_eos > 3) {
		bn_convert_out_notice(
			v->report, "%u end tokens are named; GGUF holds the first three", c->n_eos);
	}
}

enum bn_status bn_convert(const struct bn_checkpoint *c, const char *path,
			  const struct bn_convert_options *options,
			  struct bn_convert_report *report, struct bn_error *err)
{
	struct bn_convert_report r = { 0 };
	struct conversion v = { .c = c, .options = options, .report = &r, .err = err };
	const struct bn_shape shape = bn_checkpoint_dimensions(c);
	enum bn_status status = bn_convert_out_choose(&v.format, c->known, &shape, options, err);

	if (status == BN_OK) {
		status = bn_convert_plan(&v.plan, c, options->embedding, v.format, err);
	}
	if (status == BN_OK) {
		tell_plan(&v);
		status = take_buffers(&v);
	}
	if (status == BN_OK) {
		status = bn_convert_out_make(path, options, &r, write_all, &v, v.plan.tensors,
					     v.plan.n, err);
	}
	free_buffers(&v);
	bn_convert_plan_finish(&v.plan);
	if (status == BN_OK) {
		*report = r;
	}
	return status;
}

uint64_t bn_convert_data_bytes(const struct bn_checkpoint *c,
			       const struct bn_convert_options *options, uint32_t *tensors)
{
	const struct bn_shape shape = bn_checkpoint_dimensions(c);
	struct bn_convert_plan plan = { 0 };
	enum bn_ggml_type format;
	enum bn_status status = bn_convert_out_choose(&format, c->known, &shape, options, NULL);
	uint64_t bytes;

	if (status != BN_OK) {
		/* What is asked for is measured even where the guide forbids to make it. */
		status = bn_convert_out_format(&format, options->kernel, NULL);
	}
	if (status == BN_OK) {
		status = bn_convert_plan(&plan, c, options->embedding, format, NULL);
	}
	bytes = status == BN_OK ? plan.total_bytes : 0;
	*tensors = (uint32_t)plan.n;
	bn_convert_plan_finish(&plan);
	return bytes;
}
