#include "engine/convert_out.h"

#include "engine/tiles.h"
#include "kernels/cpu.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { HEADER_ROOM = 64 * 1024 * 1024 };

void bn_convert_out_notice(struct bn_convert_report *r, const char *format, ...)
{
	va_list args;

	if (r->n_notices < BN_CONVERT_NOTICES) {
		va_start(args, format);
		vsnprintf(r->notices[r->n_notices++], BN_CONVERT_NOTICE_BYTES, format, args);
		va_end(args);
	}
}

enum bn_status bn_convert_out_format(enum bn_ggml_type *out, const char *kernel,
				     struct bn_error *err)
{
	static const enum bn_ggml_type written[] = { BN_GGML_I2_S, BN_GGML_TL1, BN_GGML_TL2 };

	if (kernel == NULL || strcmp(kernel, "auto") == 0) {
		/* Every kernel of bnd packs its own layout from it, on every processor. */
		*out = BN_GGML_I2_S;
		return BN_OK;
	}
	for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
		if (strcmp(kernel, bn_ggml_name(written[i])) == 0) {
			*out = written[i];
			return BN_OK;
		}
	}
	return bn_fail(err, BN_E_KERNEL, "there is no kernel '%.32s'; use i2_s, tl1, tl2 or auto",
		       kernel);
}

enum bn_status bn_convert_out_choose(enum bn_ggml_type *out, const struct bn_guide_model *known,
				     const struct bn_shape *shape,
				     const struct bn_convert_options *options, struct bn_error *err)
{
	const uint64_t cpu = options->cpu != 0 ? options->cpu : bn_cpu_features();
	enum bn_guide_kernel family;
	const enum bn_status status =
		bn_guide_choose(known, shape, cpu, options->kernel, &family, err);

	return status == BN_OK ? bn_convert_out_format(out, bn_guide_kernel_word(family), err)
			       : status;
}

enum bn_status bn_convert_out_progress(const struct bn_convert_options *options, const char *phase,
				       uint64_t done, uint64_t total, struct bn_error *err)
{
	if (options->progress == NULL || options->progress(options->who, phase, done, total)) {
		return BN_OK;
	}
	return bn_fail(err, BN_E_CANCELLED, "stopped; nothing is left of the unfinished file");
}

/* Codes 1 are zero weights. Unused places of a row's last byte hold them too and are not counted.
 */
void bn_convert_out_count(struct bn_convert_report *r, const uint8_t *codes, uint32_t rows,
			  uint32_t cols)
{
	const size_t stride = bn_trits_stride(cols), n = rows * stride;
	uint64_t zeros = 0;

	for (size_t i = 0; i < n; i++) {
		const unsigned odd = codes[i] & 0x55u & ~(unsigned)(codes[i] >> 1);

		zeros += (unsigned)__builtin_popcount(odd);
	}
	r->zero_trits += zeros - (uint64_t)rows * (stride * 4 - cols);
	r->trits += (uint64_t)rows * cols;
}

bool bn_convert_out_put_tiles(struct bn_gguf_writer *w, const struct bn_verify_tensor *tensors,
			      size_t n)
{
	struct bn_tiles_list list = { 0 };
	const char *key = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct bn_verify_tensor *t = &tensors[i];

		if (t->tiles.strip == 0) {
			continue;
		}
		key = bn_tiles_key(t->type);
		if (!bn_tiles_note(&list, t->rows, t->cols, &t->tiles)) {
			return false;
		}
	}
	if (key != NULL) {
		bn_gguf_put_i32s(w, key, list.fields, list.n);
	}
	return true;
}

static enum bn_status check_room(const char *path, uint64_t bytes, struct bn_error *err)
{
	char *copy = strdup(path);
	const char *folder;
	struct statvfs fs;
	uint64_t room;

	if (copy == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a path");
	}
	folder = dirname(copy);
	if (access(folder, W_OK | X_OK) != 0 || statvfs(folder, &fs) != 0) {
		const enum bn_status status = bn_fail(
			err, BN_E_IO, "cannot create a file in the folder '%s': %m", folder);

		free(copy);
		return status;
	}
	free(copy);
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room < bytes + HEADER_ROOM) {
		return bn_fail(err, BN_E_IO,
			       "the file takes about %llu MB and its file system has %llu MB free",
			       (unsigned long long)((bytes + HEADER_ROOM) / 1000000),
			       (unsigned long long)(room / 1000000));
	}
	return BN_OK;
}

/* Under its name only when it is known to be right; never over a file that was not to be replaced.
 */
static enum bn_status put_in_place(const struct bn_convert_options *options,
				   struct bn_convert_report *r, const char *part, const char *path,
				   struct bn_error *err)
{
	struct stat st;

	if (stat(part, &st) == 0) {
		r->file_bytes = (uint64_t)st.st_size;
	}
	if (options->force ? rename(part, path) != 0 : link(part, path) != 0) {
		if (!options->force && errno != EEXIST && access(path, F_OK) != 0 &&
		    rename(part, path) == 0) {
			return BN_OK; /* a file system without links */
		}
		return bn_fail(err, errno == EEXIST ? BN_E_CONFLICT : BN_E_IO,
			       "cannot put '%s' in place: %s", path, strerror(errno));
	}
	return BN_OK;
}

struct verifying {
	const struct bn_convert_options *options;
	uint64_t total;
	struct bn_error *err;
};

static enum bn_status report_verified(void *who, uint64_t done_bytes)
{
	const struct verifying *v = who;

	return bn_convert_out_progress(v->options, "verifying", done_bytes, v->total, v->err);
}

enum bn_status bn_convert_out_make(const char *path, const struct bn_convert_options *options,
				   struct bn_convert_report *r, bn_convert_out_write write,
				   void *who, const struct bn_verify_tensor *tensors, size_t n,
				   struct bn_error *err)
{
	struct verifying v = { options, r->data_bytes, err };
	enum bn_status status;
	struct stat st;
	char *part;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		return bn_fail(err, BN_E_CONFLICT, "'%s' is a folder: give the name of a file",
			       path);
	}
	if (!options->force && access(path, F_OK) == 0) {
		return bn_fail(err, BN_E_CONFLICT, "'%s' is there already; --force replaces it",
			       path);
	}
	status = check_room(path, r->data_bytes, err);
	if (status != BN_OK) {
		return status;
	}
	if (asprintf(&part, "%s.%d.part", path, (int)getpid()) < 0) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a path");
	}
	status = write(who, part);
	if (status == BN_OK) {
		status = bn_convert_verify(part, tensors, n, report_verified, &v, err);
	}
	if (status == BN_OK) {
		status = put_in_place(options, r, part, path, err);
	}
	unlink(part);
	free(part);
	return status;
}
