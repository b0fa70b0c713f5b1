/* fuzz.h - a reader of hostile bytes as one function, for libFuzzer and for tests/test_fuzz.c.
 *
 * tests/fuzz/fuzz_NAME.c defines FUZZ(NAME) { ... }: reads data[0 .. n) and returns what the reader
 * returned. Its line in readers.def makes it a target of `./run fuzz NAME SECONDS`; what is in
 * tests/fuzz/corpus/NAME is replayed by the suite, whole and cut off at every byte. */
#ifndef RETORT_TESTS_FUZZ_H
#define RETORT_TESTS_FUZZ_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tempdir.h"

#ifdef RETORT_FUZZER
#define FUZZ_ENTRY(name)                                                                           \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);                                     \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {                                    \
        log_set_level(LOG_ERROR);                                                                  \
        return fuzz_##name(data, n), 0;                                                            \
    }
#else
#define FUZZ_ENTRY(name)
#endif
#define FUZZ(name)                                                                                 \
    Err fuzz_##name(const uint8_t *data, size_t n);                                                \
    FUZZ_ENTRY(name)                                                                               \
    Err fuzz_##name(const uint8_t *data, size_t n)

/* For readers of files: the bytes as a file of this process; its path is temp_path(name). */
static inline void fuzz_file(const char *name, const void *data, size_t n) {
    FILE *f = fopen(temp_path(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n) perror(name), abort();
    fclose(f);
}
#endif
