/* fuzz_pth.c - PyTorch's files, of both formats. */
#include "fuzz.h"
#include "io/weights.h"

FUZZ(pth) {
    static const uint8_t nothing;
    SafeFile f;
    Err rc = pth_read(&(IoBytes){"fuzz.pth", n ? data : &nothing, n}, &f);
    if (!rc) {
        weights_unwrap(&f);
        st_close(&f);
    }
    return rc;
}
