/*
 * One value of one field: what each kind of proto/schema.h accepts on the wire, and the lists a
 * decoded field borrows.
 *
 * It does not know names, maps or methods (proto/decode.h does).
 */
#ifndef BN_PROTO_KIND_H
#define BN_PROTO_KIND_H

#include "proto/error.h"
#include "proto/params.h"
#include "proto/value.h"

#include <stdint.h>

/* "expected a string, got an integer". Returns BN_E_INVALID. */
enum bn_status bn_kind_mismatch(const char *expected, struct bn_value v, struct bn_error *err);

/*
 * Decodes v as the field's kind into *out, a zeroed BN_C_<KIND>; any kind but CHAT, which holds
 * maps. BN_E_INVALID says what is wrong and what is allowed, without the field's name. BN_ON_ANY.
 */
enum bn_status bn_kind_decode(void *out, const struct bn_field *field, struct bn_value v,
			      struct bn_error *err) BN_MUST_USE;

/* Copy a decoded (or host) list into caller memory: `out` has room for list->n elements. */
void bn_ids_copy(const struct bn_ids *list, uint32_t *out);
void bn_texts_copy(const struct bn_texts *list, struct bn_text *out);
void bn_biases_copy(const struct bn_biases *list, struct bn_bias *out);

#endif
