/*
 * What tests of proto/decode.h stand on: the parameters of a call, packed by msgpack-c, whose
 * required fields are there unless a test wants otherwise.
 *
 * It packs what it is told to, right or wrong.
 */
#ifndef BN_TESTS_PROTO_CALL_H
#define BN_TESTS_PROTO_CALL_H

#include "proto/decode.h"

#include <msgpack.h>

struct call {
	msgpack_sbuffer buffer;
	msgpack_packer pk;
	union bn_params params; /* of the last decoding; borrows from the buffer */
	struct bn_error err;
};

/* An empty buffer. call_end frees it. */
void call_start(struct call *m);
void call_end(struct call *m);

/* The same with a map begun: everything required except `without`, then the key `extra`, whose
 * value the caller packs. Either may be NULL. */
void call_begin(struct call *m, enum bn_method method, const char *without, const char *extra);

/* Packs a string; a value every row of that kind accepts. */
void call_str(struct call *m, const char *word);
void call_good(struct call *m, const struct bn_field *f);

/* The fields of a method end with one without a name: its own (which 0), those it shares (1). */
const struct bn_field *call_fields(const struct bn_method_info *info, int which);

/* Decodes into m->params and m->err. */
enum bn_status call_decode(struct call *m, enum bn_method method);

/* The parameters are refused with BN_E_INVALID and this sentence. Ends the call; m->err stays. */
void call_refused(struct call *m, enum bn_method method, const char *sentence);

#endif
