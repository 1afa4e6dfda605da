/*
 * What tests of proto/frame.h stand on: bytes written down in hex, sent to a frame in pieces of any
 * size, and a record of the messages that came out. Each of those is put before msgpack-c as well
 * (tests/proto/judge.h): what our walk lets through, the library of every other client must read.
 *
 * It does not say what must come out.
 */
#ifndef BN_TESTS_PROTO_FEED_H
#define BN_TESTS_PROTO_FEED_H

#include "proto/error.h"
#include "proto/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FEED_MESSAGES = 64 };

struct feed_bytes {
	unsigned char *at;
	size_t n, room;
};

struct feed {
	struct bn_frame frame;
	struct feed_bytes in, out;  /* what is to be sent; the messages that came, end to end */
	size_t ends[FEED_MESSAGES]; /* where each ends in `out` */
	size_t n;                   /* messages */
	size_t most_capacity;       /* of the frame, so far */
	struct bn_error err;        /* of the last refusal */
};

/* Pairs. */
void feed_open(struct feed *f, struct bn_frame_caps caps);
void feed_close(struct feed *f);

/* Appends to `in`: n bytes; "94 00 cd-12-34", where what is no hex digit separates; a first byte
 * and the lowest n bytes of a number, big-endian. */
void feed_put(struct feed *f, const void *at, size_t n);
void feed_hex(struct feed *f, const char *hex);
void feed_be(struct feed *f, unsigned char first, uint32_t value, int n);

/* Appends [0, 1, "a", with its parameters left open. */
void feed_call(struct feed *f);

/* Appends a call with one parameter: a map of n pairs of key and nil. The keys are integers or
 * "k<number>", the number of the i-th is i * step % n: all n of them if step is prime to n, else
 * some twice. */
void feed_map(struct feed *f, uint32_t n, uint32_t step, bool strings);

/* Takes what messages there are; BN_OK, or the refusal. */
enum bn_status feed_drain(struct feed *f);

/* Sends bytes in pieces of `piece` and drains after each; stops at the first refusal. */
enum bn_status feed_send(struct feed *f, const void *bytes, size_t n, size_t piece);

/* Sends all of `in`. */
enum bn_status feed_all(struct feed *f, size_t piece);

#endif
