/* fuzz_safetensors.c - safetensors, of others and of our own with digests. */
#include "fuzz.h"
#include "io/safetensors.h"

FUZZ(safetensors) {
    SafeFile f;
    Err rc = st_parse(data, n, "fuzz.safetensors", EXIT_MODEL, &f);
    if (!rc) st_close(&f);
    return rc;
}
