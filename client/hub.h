/*
 * What a repository of the Hugging Face hub holds, and which of its files make a model for bnd.
 *
 * It does not fetch anything: texts go in, names and choices come out. Every text may be hostile;
 * a path that comes out can be used below a folder as it is.
 */
#ifndef BN_CLIENT_HUB_H
#define BN_CLIENT_HUB_H

#include "client/digest.h"
#include "client/hub_name.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_HUB_CHOICE_MAX = 512,
	BN_HUB_ANSWER_MAX = 8 << 20, /* longest text that is parsed */
};

#define BN_HUB_SIZE_UNKNOWN UINT64_MAX

struct bn_hub_file {
	char *path;              /* relative, safe: see bn_hub_path_is_safe */
	uint64_t size;           /* or BN_HUB_SIZE_UNKNOWN                  */
	struct bn_digest digest; /* of the content; NONE where not stated   */
};

/* A repository at one commit. Const after parse. */
struct bn_hub_repo {
	char commit[BN_HUB_COMMIT_MAX + 1]; /* hex */
	size_t n;
	struct bn_hub_file *files; /* owned; sorted by path, no path twice */
};

enum bn_hub_kind {
	BN_HUB_GGUF,       /* one file that bnd reads                                            */
	BN_HUB_CHECKPOINT, /* a folder for bn-convert                                            */
	BN_HUB_UNDECIDED,  /* several GGUF files, none more likely than the others: ask the user */
};

/* Files borrowed from the repository. Plain value. */
struct bn_hub_choice {
	enum bn_hub_kind kind;
	const struct bn_hub_file *index; /* lists the shards: bn_hub_add_shards; NULL: one file */
	size_t n;
	const struct bn_hub_file *files[BN_HUB_CHOICE_MAX]; /* the index among them */
};

/* Reads the hub's description of a revision. BN_E_FORMAT naming the field, BN_E_TOO_LARGE,
 * BN_E_MEMORY. On success *out is finished with bn_hub_repo_finish. */
BN_MUST_USE enum bn_status bn_hub_repo_parse(struct bn_hub_repo *out, const char *json, size_t n,
					     struct bn_error *err);
void bn_hub_repo_finish(struct bn_hub_repo *repo);

/*
 * Chooses. `file` "" or the one GGUF file that is wanted. In this order: the only I2_S GGUF; a
 * checkpoint in safetensors; the only GGUF; else BN_HUB_UNDECIDED with the GGUF files.
 * BN_E_NOT_FOUND when `file` is not there; BN_E_NOT_SUPPORTED when nothing can become a model:
 * pickles are never read.
 */
BN_MUST_USE enum bn_status bn_hub_choose(struct bn_hub_choice *out, const struct bn_hub_repo *repo,
					 const char *file, struct bn_error *err);

/* Adds the shards that the text of choice->index names. BN_E_FORMAT when it names what the
 * repository does not have. */
BN_MUST_USE enum bn_status bn_hub_add_shards(struct bn_hub_choice *choice,
					     const struct bn_hub_repo *repo, const char *json,
					     size_t n, struct bn_error *err);

#endif
