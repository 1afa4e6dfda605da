/*
 * The guard walk on any bytes in any pieces: whatever it accepts msgpack-c must accept, with the
 * same length; the pieces must not matter; memory stays within what arrived.
 *
 * The first input byte chooses the pieces, the rest is the stream.
 */
#include "tests/fuzz/fuzz.h"

#include "proto/assert.h"
#include "proto/frame.h"

#include "tests/proto/judge.h"

#include <string.h>

/* What a run produced, enough to compare two runs. */
struct outcome {
	enum bn_status status;
	uint32_t msgid;
	size_t messages;
	size_t bytes;
	uint64_t ends; /* a hash of where messages ended */
};

static struct outcome run(const uint8_t *data, size_t size, size_t piece, size_t cap)
{
	struct bn_frame_caps caps = BN_FRAME_CAPS;
	struct outcome r = { 0 };
	struct bn_frame f;

	caps.message_bytes = cap;
	bn_frame_init(&f, caps);
	while (size > 0 && r.status == BN_OK) {
		unsigned char *space;
		size_t n;

		r.status = bn_frame_space(&f, &space, &n, NULL);
		bn_assert(r.status == BN_OK && n > 0);
		n = n < size ? n : size;
		n = n < piece ? n : piece;
		memcpy(space, data, n);
		bn_frame_commit(&f, n);
		data += n;
		size -= n;
		for (;;) {
			struct bn_frame_message m;

			r.status = bn_frame_next(&f, &m, NULL);
			if (r.status != BN_OK || m.bytes == NULL) {
				break;
			}
			bn_assert(m.n <= cap && judge_accepts(m.bytes, m.n));
			r.messages++;
			r.bytes += m.n;
			r.ends = r.ends * 31 + r.bytes;
		}
		bn_assert(r.status != BN_E_MEMORY);
		/* A head of 9 bytes may reach over the cap while its last byte is missing. */
		bn_assert(r.status != BN_OK || bn_frame_pending(&f) <= cap + 8);
		bn_assert(f.capacity <= cap + BN_FRAME_READ_BYTES + 4 * BN_LIMIT_ELEMENTS);
	}
	r.msgid = r.status != BN_OK ? bn_frame_msgid(&f) : 0;
	bn_frame_finish(&f);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece, cap;
	struct outcome whole, pieces;

	if (size == 0) {
		return 0;
	}
	piece = (size_t)(data[0] & 0x7f) + 1;
	cap = data[0] & 0x80 ? 64 : BN_LIMIT_MESSAGE_BYTES;
	whole = run(data + 1, size - 1, SIZE_MAX, cap);
	pieces = run(data + 1, size - 1, piece, cap);
	bn_assert(whole.status == pieces.status && whole.msgid == pieces.msgid);
	bn_assert(whole.messages == pieces.messages && whole.ends == pieces.ends);
	return 0;
}
