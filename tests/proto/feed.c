#include "tests/proto/feed.h"

#include "tests/proto/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void feed_open(struct feed *f, struct bn_frame_caps caps)
{
	*f = (struct feed){ 0 };
	bn_frame_init(&f->frame, caps);
}

void feed_close(struct feed *f)
{
	bn_frame_finish(&f->frame);
	free(f->in.at);
	free(f->out.at);
}

static void append(struct feed_bytes *b, const void *at, size_t n)
{
	if (b->n + n > b->room) {
		b->room = 2 * (b->n + n);
		b->at = realloc(b->at, b->room);
		assert_non_null(b->at);
	}
	memcpy(b->at + b->n, at, n);
	b->n += n;
}

void feed_put(struct feed *f, const void *at, size_t n)
{
	append(&f->in, at, n);
}

void feed_hex(struct feed *f, const char *hex)
{
	unsigned value;
	int step;

	while (*hex != '\0') {
		if (*hex == ' ' || *hex == '-') {
			hex++;
			continue;
		}
		assert_int_equal(sscanf(hex, "%2x%n", &value, &step), 1);
		feed_put(f, &(unsigned char){ (unsigned char)value }, 1);
		hex += step;
	}
}

void feed_be(struct feed *f, unsigned char first, uint32_t value, int n)
{
	feed_put(f, &first, 1);
	while (n-- > 0) {
		feed_put(f, &(unsigned char){ (unsigned char)(value >> (8 * n)) }, 1);
	}
}

void feed_call(struct feed *f)
{
	feed_hex(f, "94 00 01 a1 61");
}

void feed_map(struct feed *f, uint32_t n, uint32_t step, bool strings)
{
	feed_hex(f, "94 00 01 a1 61 91");
	feed_be(f, 0xdf, n, 4);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t number = (uint32_t)((uint64_t)i * step % n);

		if (strings) {
			char key[16];
			int length = snprintf(key, sizeof(key), "k%u", number);

			feed_be(f, 0xd9, (uint32_t)length, 1);
			feed_put(f, key, (size_t)length);
		} else {
			feed_be(f, 0xce, number, 4);
		}
		feed_put(f, "\xc0", 1);
	}
}

enum bn_status feed_drain(struct feed *f)
{
	for (;;) {
		struct bn_frame_message m;
		enum bn_status status = bn_frame_next(&f->frame, &m, &f->err);

		if (f->frame.capacity > f->most_capacity) {
			f->most_capacity = f->frame.capacity;
		}
		if (status != BN_OK || m.bytes == NULL) {
			return status;
		}
		assert_true(judge_accepts(m.bytes, m.n));
		append(&f->out, m.bytes, m.n);
		assert_true(f->n < FEED_MESSAGES);
		f->ends[f->n++] = f->out.n;
	}
}

enum bn_status feed_send(struct feed *f, const void *bytes, size_t n, size_t piece)
{
	const unsigned char *at = bytes;
	enum bn_status status = BN_OK;

	while (n > 0 && status == BN_OK) {
		unsigned char *space;
		size_t room, step;

		status = bn_frame_space(&f->frame, &space, &room, &f->err);
		if (status != BN_OK) {
			return status;
		}
		step = piece < room ? piece : room;
		step = step < n ? step : n;
		memcpy(space, at, step);
		bn_frame_commit(&f->frame, step);
		at += step;
		n -= step;
		status = feed_drain(f);
	}
	return status;
}

enum bn_status feed_all(struct feed *f, size_t piece)
{
	return feed_send(f, f->in.at, f->in.n, piece);
}
