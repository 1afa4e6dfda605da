/*
 * The one function a fuzz target defines, as libFuzzer wants it: takes bytes, returns 0, and
 * aborts when a promise is broken. It does not say how targets are built; see CMakeLists.txt.
 */
#ifndef BN_TESTS_FUZZ_FUZZ_H
#define BN_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
