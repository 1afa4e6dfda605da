#include "tests/proto/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void call_start(struct call *m)
{
	msgpack_sbuffer_init(&m->buffer);
	msgpack_packer_init(&m->pk, &m->buffer, msgpack_sbuffer_write);
}

void call_str(struct call *m, const char *word)
{
	msgpack_pack_str_with_body(&m->pk, word, strlen(word));
}

void call_end(struct call *m)
{
	msgpack_sbuffer_destroy(&m->buffer);
}

enum bn_status call_decode(struct call *m, enum bn_method method)
{
	m->err.text[0] = '\0';
	return bn_params_decode(&m->params, method, bn_value_read(m->buffer.data, m->buffer.size),
				&m->err);
}

void call_refused(struct call *m, enum bn_method method, const char *sentence)
{
	assert_int_equal(call_decode(m, method), BN_E_INVALID);
	assert_string_equal(m->err.text, sentence);
	call_end(m);
}

void call_good(struct call *m, const struct bn_field *f)
{
	switch (f->kind) {
	case BN_KIND_STR:
	case BN_KIND_PROMPT:
	case BN_KIND_STRS:
	case BN_KIND_TEXTS:
		call_str(m, "abc");
		break;
	case BN_KIND_INT:
		msgpack_pack_int64(&m->pk, f->int_min);
		break;
	case BN_KIND_NUM:
		msgpack_pack_double(&m->pk, f->num_min);
		break;
	case BN_KIND_BOOL:
		msgpack_pack_true(&m->pk);
		break;
	case BN_KIND_WORD:
		call_str(m, f->words[0]);
		break;
	case BN_KIND_TIME:
		msgpack_pack_int(&m->pk, 60);
		break;
	case BN_KIND_IDS:
		msgpack_pack_array(&m->pk, 1);
		msgpack_pack_int(&m->pk, 5);
		break;
	case BN_KIND_BIAS:
		msgpack_pack_map(&m->pk, 1);
		msgpack_pack_int(&m->pk, 5);
		msgpack_pack_int(&m->pk, -100);
		break;
	case BN_KIND_CHAT:
		msgpack_pack_array(&m->pk, 1);
		msgpack_pack_map(&m->pk, 2);
		call_str(m, "role");
		call_str(m, "user");
		call_str(m, "content");
		call_str(m, "hi");
		break;
	case BN_KIND_BIN:
		msgpack_pack_bin_with_body(&m->pk, "abc", 3);
		break;
	}
}

const struct bn_field *call_fields(const struct bn_method_info *info, int which)
{
	return which == 0 ? info->own : info->shared;
}

void call_begin(struct call *m, enum bn_method method, const char *without, const char *extra)
{
	const struct bn_method_info *info = bn_method_info(method);
	uint32_t n = extra != NULL;

	call_start(m);
	for (int pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			msgpack_pack_map(&m->pk, n);
		}
		for (int which = 0; which < 2; which++) {
			const struct bn_field *f = call_fields(info, which);

			for (; f->name != NULL; f++) {
				if (!f->must ||
				    (without != NULL && strcmp(f->name, without) == 0)) {
					continue;
				}
				n += pass == 0;
				if (pass == 1) {
					call_str(m, f->name);
					call_good(m, f);
				}
			}
		}
	}
	if (extra != NULL) {
		call_str(m, extra);
	}
}
