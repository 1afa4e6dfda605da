/*
 * Durations as TIME fields have them, and as the configuration may: "90s", "1h30m", "-1".
 *
 * It does not know seconds given as numbers; who reads those knows their unit.
 */
#ifndef BN_PROTO_TIME_H
#define BN_PROTO_TIME_H

#include "proto/value.h"

#include <stdbool.h>
#include <stdint.h>

/* "For ever" where a duration in milliseconds is expected. */
enum { BN_TIME_FOREVER = -1 };

/*
 * Reads whole numbers with the units h, m, s, ms; "0"; "-1" or any negative duration for ever.
 * *ms becomes milliseconds or BN_TIME_FOREVER. False when it is none or overflows. BN_ON_ANY.
 */
bool bn_time_parse(struct bn_text text, int64_t *ms);

#endif
