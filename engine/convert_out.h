/*
 * What every conversion shares, whatever it reads: its options, what it reports, and how a file
 * comes into being: under another name, read back, then renamed.
 *
 * It reads no source. engine/convert.c and engine/reencode.c use it.
 */
#ifndef BN_ENGINE_CONVERT_OUT_H
#define BN_ENGINE_CONVERT_OUT_H

#include "engine/codec.h"
#include "engine/convert_verify.h"
#include "engine/ggml.h"
#include "engine/gguf_write.h"
#include "engine/guide.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BN_CONVERT_NOTICES = 12, BN_CONVERT_NOTICE_BYTES = 200 };

/* What is going on, for a progress bar; called after every few MiB. False stops the work. */
typedef bool (*bn_convert_progress)(void *who, const char *phase, uint64_t done_bytes,
				    uint64_t total_bytes);

/* Zeroed: i2_s, the default embedding, the source's own name, no overwriting. Borrowed during the
 * call. */
struct bn_convert_options {
	const char *kernel; /* "i2_s", "tl1", "tl2" or "auto"; NULL: auto                     */
	enum bn_ggml_type embedding; /* embedding and output: F16, Q8_0 or Q6_K; 0: f16 of a folder,
				      * as it is of a GGUF file */
	const char *name;            /* for general.name; NULL: as the source is called       */
	bool force;                  /* replace an existing file                              */
	uint64_t cpu;                /* features of the processor the file is for; 0: of this one */
	bn_convert_progress progress; /* or NULL */
	void *who;
};

/* What came out. Plain value. */
struct bn_convert_report {
	uint64_t file_bytes;
	uint64_t data_bytes; /* of the tensors, without padding between them */
	uint32_t tensors;
	uint32_t packed, dequantized, latent, recoded; /* ternary matrices by what they were */
	uint64_t trits, zero_trits;
	enum bn_ggml_type embedding; /* as written */
	enum bn_ggml_type format;    /* of the ternary matrices, as written */
	uint32_t n_notices;
	char notices[BN_CONVERT_NOTICES][BN_CONVERT_NOTICE_BYTES];
};

/* Adds a sentence; dropped when there are too many. */
void bn_convert_out_notice(struct bn_convert_report *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The type that a --kernel name writes. BN_E_KERNEL for a name that is none. */
BN_MUST_USE enum bn_status bn_convert_out_format(enum bn_ggml_type *out, const char *kernel,
						 struct bn_error *err);

/*
 * The type to write for options->kernel. BN_E_KERNEL for a name that is none, and for a kernel that
 * the guide's matrix forbids this model (`known`, or NULL) or the processor: a file is made to be
 * used. The sentence names the kernels that work.
 */
BN_MUST_USE enum bn_status bn_convert_out_choose(enum bn_ggml_type *out,
						 const struct bn_guide_model *known,
						 const struct bn_shape *shape,
						 const struct bn_convert_options *options,
						 struct bn_error *err);

/* Reports progress; BN_E_CANCELLED when told to stop. `total` bytes are written in all. */
BN_MUST_USE enum bn_status bn_convert_out_progress(const struct bn_convert_options *options,
						   const char *phase, uint64_t done, uint64_t total,
						   struct bn_error *err);

/* Counts a matrix's codes [rows, bn_trits_stride(cols)] into the report. */
void bn_convert_out_count(struct bn_convert_report *r, const uint8_t *codes, uint32_t rows,
			  uint32_t cols);

/* Puts the key that says how TL1 or TL2 tensors [n] are cut, if there are any. False when there are
 * more shapes than it can hold. */
bool bn_convert_out_put_tiles(struct bn_gguf_writer *w, const struct bn_verify_tensor *tensors,
			      size_t n);

/* Writes everything to the file `part`. */
typedef enum bn_status (*bn_convert_out_write)(void *who, const char *part);

/*
 * Has `write` make the file under a temporary name, compares it with tensors [n] (filled by then),
 * and gives it its name `path`; r->file_bytes is set. data_bytes is what the tensors will take.
 * BN_E_CONFLICT when the file is there and options->force is not set; BN_E_IO without room, before
 * the work; those of `write` and bn_convert_verify. On failure no file is left. Helper.
 */
BN_MUST_USE enum bn_status bn_convert_out_make(const char *path,
					       const struct bn_convert_options *options,
					       struct bn_convert_report *r,
					       bn_convert_out_write write, void *who,
					       const struct bn_verify_tensor *tensors, size_t n,
					       struct bn_error *err) BN_ON_HELPER;

#endif
