/*
 * Messages a frame lets through, understood every way there is. What is understood must survive
 * being written and read again, byte for byte; what is not must be refused with a sentence.
 */
#include "tests/fuzz/fuzz.h"

#include "proto/assert.h"
#include "proto/frame.h"
#include "proto/message.h"

#include <stdlib.h>
#include <string.h>

static struct bn_message open_again(const struct bn_pack *p)
{
	struct bn_message m;
	enum bn_status status = bn_message_open(&m, p->data, p->used, NULL);

	bn_assert(status == BN_OK);
	return m;
}

static void expect_same(const struct bn_pack *a, const struct bn_pack *b)
{
	bn_assert(a->used == b->used && memcmp(a->data, b->data, a->used) == 0);
}

static void try_call(const struct bn_message *m)
{
	struct bn_pack once, twice;
	struct bn_call call, again;
	struct bn_message copy;
	struct bn_error err;
	enum bn_status status = bn_message_read_call(m, &call, &err);

	if (status != BN_OK) {
		bn_assert(status == err.status && err.text[0] != '\0');
		return;
	}
	bn_pack_init(&once);
	bn_pack_init(&twice);
	status = bn_message_call(&once, m->msgid, &call, &err);
	bn_assert(status == BN_OK);
	copy = open_again(&once);
	status = bn_message_read_call(&copy, &again, &err);
	bn_assert(status == BN_OK && again.method == call.method);
	status = bn_message_call(&twice, m->msgid, &again, &err);
	bn_assert(status == BN_OK);
	expect_same(&once, &twice);
	bn_pack_finish(&once);
	bn_pack_finish(&twice);
}

static void try_event(const struct bn_message *m)
{
	struct bn_pack once, twice;
	struct bn_event event, again;
	struct bn_message copy;
	struct bn_error err;
	enum bn_status status = bn_message_read_event(m, &event, &err);

	if (status != BN_OK) {
		bn_assert(status == err.status && err.text[0] != '\0');
		return;
	}
	bn_pack_init(&once);
	bn_pack_init(&twice);
	status = bn_message_event(&once, &event, &err);
	bn_assert(status == BN_OK);
	copy = open_again(&once);
	status = bn_message_read_event(&copy, &again, &err);
	bn_assert(status == BN_OK);
	status = bn_message_event(&twice, &again, &err);
	bn_assert(status == BN_OK);
	expect_same(&once, &twice);
	bn_pack_finish(&once);
	bn_pack_finish(&twice);
}

static void try_response(const struct bn_message *m)
{
	struct bn_remote_error error;

	if (bn_message_read_error(m, &error)) {
		bn_assert(error.status != BN_OK && error.text.at != NULL);
	}
	bn_value_find(m->result, "usage.prompt_tokens");
	bn_value_text(bn_value_at(m->result, 1));
}

static void try_message(const unsigned char *bytes, size_t n)
{
	struct bn_message m;
	enum bn_status status = bn_message_open(&m, bytes, n, NULL);

	/* A frame has agreed to it. */
	bn_assert(status == BN_OK);
	try_call(&m);
	try_event(&m);
	try_response(&m);
}

/* Bytes no frame has seen: nothing may be read past their end. */
static void try_unchecked(const uint8_t *data, size_t size)
{
	struct bn_message m;

	if (bn_message_open(&m, data, size, NULL) == BN_OK) {
		struct bn_call call;
		struct bn_event event;

		(void)!bn_message_read_call(&m, &call, NULL);
		(void)!bn_message_read_event(&m, &event, NULL);
		try_response(&m);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bn_frame f;
	size_t fed = 0;

	try_unchecked(data, size);
	bn_frame_init(&f, BN_FRAME_CAPS);
	while (fed < size) {
		unsigned char *space;
		struct bn_frame_message m;
		size_t n;

		if (bn_frame_space(&f, &space, &n, NULL) != BN_OK) {
			break;
		}
		n = n < size - fed ? n : size - fed;
		memcpy(space, data + fed, n);
		bn_frame_commit(&f, n);
		fed += n;
		while (bn_frame_next(&f, &m, NULL) == BN_OK && m.bytes != NULL) {
			/* In a block of its own size, so that its end is watched. */
			unsigned char *copy = malloc(m.n);

			bn_assert(copy != NULL);
			memcpy(copy, m.bytes, m.n);
			try_message(copy, m.n);
			free(copy);
		}
	}
	bn_frame_finish(&f);
	return 0;
}
