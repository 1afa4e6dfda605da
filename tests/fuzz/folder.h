/*
 * A model folder made of one fuzzer input, for targets whose reader opens files by name: the
 * input's parts, separated by the byte 0x1E, become the files.
 *
 * It does not know what the files mean. One folder per process, in memory where the system has such
 * a place, removed at exit.
 */
#ifndef BN_TESTS_FUZZ_FOLDER_H
#define BN_TESTS_FUZZ_FOLDER_H

#include <stddef.h>
#include <stdint.h>

/* Writes names [n_names]: the last takes all that is left of the input; an empty part, or one that
 * is not there, is no file. Returns the open folder, which is not the caller's to close. */
int fuzz_folder(const char *const *names, size_t n_names, const uint8_t *data, size_t size);

#endif
