/*
 * How far a long download is: bytes, speed, time left; a bar on a terminal, a line every few
 * seconds elsewhere.
 *
 * It does not read clocks: whoever calls says what time it is.
 */
#ifndef BN_CLIENT_METER_H
#define BN_CLIENT_METER_H

#include "client/term.h"

#include <stdbool.h>
#include <stdint.h>

/* One thread. Only `term` and `quiet` are set by hand; zeroed otherwise, it shows nothing. */
struct bn_meter {
	struct bn_term *term;
	bool quiet;
	bool on;
	uint64_t total_bytes;  /* 0: not known                                           */
	uint64_t before_bytes; /* of what is done already: added to what is shown        */
	uint64_t drawn_ms;
	uint64_t mark_ms, mark_bytes; /* where the speed was measured last */
	double speed;                 /* bytes per second, 0: not yet known */
	bool marked;
};

/* Begins a stretch of work of so many bytes (0: not known), and ends it. */
void bn_meter_start(struct bn_meter *m, uint64_t total_bytes);
void bn_meter_stop(struct bn_meter *m);

/* Shows `bytes` more than before_bytes at time now_ms (any clock that only goes forward), if it is
 * time to and a stretch has begun. A step back, when something starts over, is no speed. */
void bn_meter_show(struct bn_meter *m, const char *label, uint64_t bytes, uint64_t now_ms);

/* "1.2 GiB of 3.4 GiB  12 MiB/s  3 min left": what is known of it. Returns text. */
char *bn_meter_text(const struct bn_meter *m, uint64_t bytes, char *text, size_t size);

#endif
