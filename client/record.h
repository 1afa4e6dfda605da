/*
 * What a pull made: the file for bnd, where it came from, and the lines that bnd.yaml needs for it.
 *
 * It is kept beside the file as `<file>.pull.json`, so that the next pull of the same sees that
 * nothing is left to do. It does not check the file.
 */
#ifndef BN_CLIENT_RECORD_H
#define BN_CLIENT_RECORD_H

#include "client/digest.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
	BN_RECORD_TEXT_BYTES = 256,
	BN_RECORD_NAME_MAX = 64, /* the longest name bnd.yaml takes for a model */
};

/* Plain value. */
struct bn_record {
	char repo[BN_RECORD_TEXT_BYTES];
	char commit[BN_RECORD_TEXT_BYTES];
	char source[BN_RECORD_TEXT_BYTES]; /* the GGUF file of the repository; "": a checkpoint */
	bool converted;
	char kernel[BN_RECORD_TEXT_BYTES]; /* as asked for; "": not */
	char embedding[BN_RECORD_TEXT_BYTES];
	uint64_t size;
	struct bn_digest digest; /* SHA-256 of the file */
};

/* Whether both say the same origin and the same wishes; size and digest are not looked at. */
bool bn_record_same(const struct bn_record *a, const struct bn_record *b);

/* Reads or writes the record of file `name` in dirfd. Reading is false when there is none that can
 * be believed. Writing: BN_E_IO. */
bool bn_record_read(struct bn_record *out, int dirfd, const char *name);
BN_MUST_USE enum bn_status bn_record_write(const struct bn_record *record, int dirfd,
					   const char *name, struct bn_error *err);

/* A name for bnd.yaml from that of a repository: the part after the slash in lower case. */
void bn_record_model_name(char to[BN_RECORD_NAME_MAX + 1], const char *repo);

/* Prints an entry of bnd.yaml's `models`. */
void bn_record_print_yaml(FILE *to, const char *model, const char *path);

#endif
