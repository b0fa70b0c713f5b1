/* fuzz_pickle.c - the pickle machine. */
#include "fuzz.h"
#include "io/pickle.h"

FUZZ(pickle) {
    Pickle p;
    Arena *a = arena_open();
    Err rc = pickle_run(&(PkStream){.data = data, .bytes = n, .file = "fuzz.pkl"}, a, &p);
    arena_close(a);
    return rc;
}
