/*
 * Which tensors of a file make the model: every tensor its graph calls for, found, measured and
 * checked, and the kernel that will multiply it.
 *
 * It reads no weights but the scales (engine/weights.h loads) and computes nothing.
 */
#ifndef BN_ENGINE_BINDING_H
#define BN_ENGINE_BINDING_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/codec.h"
#include "engine/gguf.h"
#include "engine/hyper.h"
#include "engine/shape.h"
#include "kernels/dense.h"
#include "kernels/kernel.h"
#include "proto/error.h"

/* What a tensor is to the graph. */
enum bn_role_in_graph {
	BN_ITEM_ATTN_NORM,
	BN_ITEM_FFN_NORM,
	BN_ITEM_IN_NORM, /* in front of a projection: `proj` */
	BN_ITEM_Q_NORM,
	BN_ITEM_K_NORM,
	BN_ITEM_POST_ATTN_NORM,
	BN_ITEM_POST_FFN_NORM,
	BN_ITEM_OUT_NORM,
	BN_ITEM_EMBED,
	BN_ITEM_HEAD,
	BN_ITEM_PROJ, /* which one: `proj` */
};

struct bn_item {
	const struct bn_gguf_tensor *tensor;
	enum bn_role_in_graph role;
	enum bn_projection proj;
	uint32_t layer;
	uint32_t rows;
	uint32_t cols;
	const struct bn_codec *codec; /* of BN_ITEM_PROJ: how the file holds it     */
	struct bn_tiles tiles;        /* of BN_ITEM_PROJ in TL1 or TL2              */
	float scale; /* of BN_ITEM_PROJ with one scale: finite, above zero; else found when loading
		      */
	enum bn_dense_type type; /* of the others: one that kernels/dense.h reads */
	uint64_t bytes;          /* once loaded                                   */
};

/* Plain facts, never changed after bn_binding_new. */
struct bn_binding {
	const struct bn_gguf *gguf;
	const struct bn_file *file;
	struct bn_hyper hyper;
	uint64_t cpu;
	const struct bn_kernel *kernel[BN_PROJ_COUNT];
	/* Which optional norms the graph has, by the rules of engine/family.h. */
	bool sub_norms, input_norms, head_norms, post_norms;
	bool tied;              /* the head is the embedding                        */
	const char *embed_type; /* GGML type names, static                          */
	const char *head_type;
	uint64_t parameters; /* elements of all tensors                             */
	uint64_t trits;      /* of them ternary                                     */
	uint32_t n_items;
	struct bn_item items[]; /* [n_items] in file order */
};

/*
 * Looks up every tensor that `hyper` calls for, checks shapes and types, reads and checks the
 * ternary scales of types that have one, and chooses kernels: the first of `only` (NULL-terminated,
 * or NULL: all we have,
 * best first) that the guide allows this model (engine/guide.h), runs on `cpu`, fits the shape and
 * passes its self-test. An entry is a kernel's name ("i2s.vnni"), a family ("tl2", "i2_s": the best
 * of it) or "auto"; others are passed over, for a list may serve several machines. Directory and
 * file are borrowed until bn_binding_free. Errors name the tensor: BN_E_FORMAT for one that is
 * missing or misshapen, or a scale that is not a finite number above zero; BN_E_NOT_SUPPORTED for
 * one that makes it another graph (biases, experts, more norms), or is TL1 or TL2 of unknown tiles;
 * BN_E_KERNEL for a type that is not in engine/codec.h, or when no allowed kernel runs here.
 * Helper.
 */
BN_MUST_USE enum bn_status bn_binding_new(struct bn_binding **out, const struct bn_gguf *gguf,
					  const struct bn_file *file, const struct bn_hyper *hyper,
					  uint64_t cpu, const char *const *only,
					  struct bn_error *err);

/* NULL is fine. */
void bn_binding_free(struct bn_binding *b);

#endif
