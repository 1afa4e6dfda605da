/*
 * Sizes, durations and whole numbers as people write them in a file.
 *
 * It does not know ranges; the settings that use it do.
 */
#ifndef BN_DAEMON_UNITS_H
#define BN_DAEMON_UNITS_H

#include "proto/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { BN_UNITS_FOREVER = -1 };

/* A whole number, all of the text, no plus sign, no spaces. False otherwise. All BN_ON_ANY. */
bool bn_units_parse_whole(const char *text, int64_t *value);

/*
 * A size: "512MiB", "1.5 GiB", "10GB" (10^10), "4096". Units in any case; a fraction needs one.
 * False if it is none or does not fit an int64_t.
 */
bool bn_units_parse_size(const char *text, uint64_t *bytes);

/*
 * A duration as on the wire ("90s", "1h30m", "250ms", "0", "-1" for ever), but a bare number other
 * than 0 and -1 is refused: of which unit would it be?
 */
bool bn_units_parse_duration(const char *text, int64_t *ms);

/* The largest unit that leaves a whole number: "6GiB", "1000"; "10m", "1500ms", "0". */
void bn_units_print_size(FILE *out, uint64_t bytes);
void bn_units_print_duration(FILE *out, uint64_t ms);

#endif
