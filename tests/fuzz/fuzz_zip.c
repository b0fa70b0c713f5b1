/* fuzz_zip.c - a zip archive and all that is in it. */
#include "fuzz.h"
#include "io/zip.h"

FUZZ(zip) {
    IoZip *z;
    const IoBytes src = {"fuzz.zip", data, n};
    static const uint8_t nothing;
    Err rc = io_zip_open(n ? &src : &(IoBytes){"fuzz.zip", &nothing, 0}, &z);
    if (rc) return rc;
    for (int i = 0; i < io_zip_count(z) && !rc; i++) {
        void *dst = malloc((size_t)io_zip_bytes(z, i) + 1);
        rc = io_zip_read(z, i, dst);
        free(dst);
    }
    io_zip_close(z);
    return rc;
}
