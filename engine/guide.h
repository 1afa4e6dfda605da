/*
 * The guide: the published ternary models as rows of facts, and which kernels each may use on which
 * processor.
 *
 * It does not know the graphs (engine/family.h), render chats (engine/chat.h), read files, or say
 * what fits a machine (engine/advice.h). A new model is a new row; a fact nobody published is not
 * in it.
 */
#ifndef BN_ENGINE_GUIDE_H
#define BN_ENGINE_GUIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cursor.h"
#include "engine/shape.h"
#include "kernels/kernel.h"
#include "proto/error.h"

/* Kernels by the part of their name before the dot ("i2s.vnni"): what users choose between. */
enum bn_guide_kernel {
	BN_GUIDE_I2S,
	BN_GUIDE_TL1,
	BN_GUIDE_TL2,
	BN_GUIDE_KERNELS,
};

enum bn_guide_processor {
	BN_GUIDE_X86,
	BN_GUIDE_ARM,
	BN_GUIDE_OTHER, /* may use what both others may */
	BN_GUIDE_PROCESSORS,
};

/* How a repository stores its weights. */
enum bn_guide_form {
	BN_GUIDE_PACKED, /* two-bit codes                        */
	BN_GUIDE_LATENT, /* floats, to be rounded to trits       */
};

enum { BN_GUIDE_WORDS_MAX = 4, BN_GUIDE_STOPS_MAX = 4 };

/* One published repository; lists end with NULL. */
struct bn_guide_model {
	const char *name;     /* as published, without the organisation: "bitnet-b1.58-2B-4T"   */
	const char *repo;     /* "microsoft/bitnet-b1.58-2B-4T"                                 */
	const char *nickname; /* shorter to type: "bitnet-2b"                                   */
	const char *architectures[BN_GUIDE_WORDS_MAX]; /* GGUF words its files have             */
	struct bn_shape shape;
	uint32_t other_vocab; /* rows some of its files have instead of shape.vocab, or 0       */
	uint32_t context;     /* positions it was trained for                                   */
	enum bn_guide_form form;
	const char *tokenizer; /* "llama3", "llama2", "falcon3", "falcon-e", "qwen", "gemma"    */
	const char *template;  /* a name of engine/chat.h; "none": it does not chat             */
	const char *pooling;   /* it makes vectors, so (engine/pooling.h); NULL: it generates   */
	const char *stops[BN_GUIDE_STOPS_MAX]; /* tokens that end an answer, by their text      */
	const char *licence; /* NULL: its card names none                                       */
	const char *note;    /* what else to know, a sentence; or NULL                          */
	bool bos;            /* a prompt begins with the bos token */
	bool poor_chat;      /* has a template, yet was trained to continue text                */
	uint32_t without;    /* kernels bitnet.cpp's table denies it everywhere, by bit         */
};

/* The i-th row, NULL past the end. Any thread. */
const struct bn_guide_model *bn_guide_at(size_t i);

/* The row whose name, repository or nickname is `word`, letter case aside; NULL. */
const struct bn_guide_model *bn_guide_find(const char *word);

/* The row whose name `text` contains, case and punctuation aside; the longest such name, or NULL:
 * for names and paths people gave. */
const struct bn_guide_model *bn_guide_named(struct bn_str text);

/*
 * The row of a model of these dimensions (tied and the norms are not looked at) in files of this
 * architecture; NULL when none was published. Several rows share dimensions (an instruct model, its
 * base, another form of storage): `name`, the file's or folder's own, decides by containing a row's
 * name; where it contains none, the first row is taken and *certain is false. `certain` may be
 * NULL.
 */
const struct bn_guide_model *bn_guide_recognise(const struct bn_shape *dimensions,
						const char *architecture, struct bn_str name,
						bool *certain);

/* ---- kernels ----------------------------------------------------------------------------- */

/* The processor that has these features (kernels/cpu.h); without any, the one we are built for. */
enum bn_guide_processor bn_guide_processor(uint64_t cpu);

/* "x86", "arm", "other": static. */
const char *bn_guide_processor_word(enum bn_guide_processor p);

/* "i2_s", "tl1", "tl2": static. */
const char *bn_guide_kernel_word(enum bn_guide_kernel k);

/* The kernel a user or a struct bn_kernel names: "i2_s", "tl2", "i2s", "tl2.avx2". */
bool bn_guide_kernel_of(const char *word, enum bn_guide_kernel *out);

/* The guide's matrix. `model` NULL: not a published one, which has only the processor's limits. */
bool bn_guide_allows(const struct bn_guide_model *model, enum bn_guide_processor processor,
		     enum bn_guide_kernel kernel);

/* Whether `kernel` may multiply a [rows, cols] matrix of `model` on a processor with features
 * `cpu`: allowed, its instructions there, the shape one it can hold. */
bool bn_guide_runs(const struct bn_guide_model *model, uint64_t cpu, const struct bn_kernel *kernel,
		   uint32_t rows, uint32_t cols);

/* The best kernel of that family which bn_guide_runs for every matrix of the shape; NULL. */
const struct bn_kernel *bn_guide_best(const struct bn_guide_model *model,
				      const struct bn_shape *shape, uint64_t cpu,
				      enum bn_guide_kernel family);

/*
 * The kernel family a file of a model is to be made for: the one `word` names, or for "auto" (or
 * NULL) i2_s, which every processor has, where the model may use it, else that of the best kernel.
 * BN_E_KERNEL for a word that is none, for one the matrix forbids or that this binary or processor
 * lacks: the sentence names the model, what was asked for and the kernels that work here.
 */
BN_MUST_USE enum bn_status bn_guide_choose(const struct bn_guide_model *model,
					   const struct bn_shape *shape, uint64_t cpu,
					   const char *word, enum bn_guide_kernel *out,
					   struct bn_error *err);

/* Writes "i2_s (i2s.vnni, i2s.scalar), tl2 (tl2.avx2)" into text: what bn_guide_runs for every
 * matrix, or what the matrix of the guide calls for but this binary lacks. Returns text. */
char *bn_guide_list(const struct bn_guide_model *model, const struct bn_shape *shape, uint64_t cpu,
		    char *text, size_t size);

#endif
