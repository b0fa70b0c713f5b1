/* comm_self.c - the job of one rank: every sum is already complete. */
#include "dist/comm.h"

Comm comm_self(void) {
    return (Comm){.rank = 0, .ranks = 1};
}

Err comm_sum_i64(Comm *c, int64_t *v, int n) {
    CHECK(c->ranks == 1 && v && n >= 0);
    return OK;
}
