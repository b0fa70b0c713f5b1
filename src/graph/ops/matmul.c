/* matmul.c - dst[..., M, N] = a[..., M, K] b[..., K, N]; either may be stored transposed; the leading
 * dimensions broadcast as numpy does. Sums run in double in the reference. The fast forward walks b row
 * by row in float, four rows of dst at a time. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Shape leading(Shape s) {
    s.rank -= 2;
    return s;
}
static Err matmul_infer(const OpSite *s, Shape *dst) {
    const MatmulAttr *t = s->attr;
    const Shape a = s->src[0], b = s->src[1];
    CHECK(s->n_src == 2);
    if (a.rank < 2 || b.rank < 2 || a.d[a.rank - 1 - t->trans_a] != b.d[b.rank - 2 + t->trans_b] ||
        !shape_broadcast(leading(a), leading(b), dst))
        return err_set(E(EXIT_MODEL, 0), "matmul: shapes %s and %s do not multiply",
                       shape_text(a).s, shape_text(b).s);
    dst->rank += 2;
    dst->d[dst->rank - 2] = a.d[a.rank - 2 + t->trans_a],
                       dst->d[dst->rank - 1] = b.d[b.rank - 1 - t->trans_b];
    return OK;
}

/* One matrix of the batch: where its parts lie and how they are walked. */
typedef struct {
    const OpCall *c;
    int64_t M, N, K, am, ak, bk, bn;                     /* steps of a along M and K, of b along K and N */
    Shape   batch;
    Strides a, b;
} Job;
static Job job_of(const OpCall *c) {
    const MatmulAttr *t = c->attr;
    const Shape a = c->src_shape[0], b = c->src_shape[1], s = c->shape;
    Job j = {.c = c,
             .M = s.d[s.rank - 2],
             .N = s.d[s.rank - 1],
             .K = a.d[a.rank - 1 - t->trans_a],
             .batch = leading(s)};
    j.am = t->trans_a ? 1 : j.K, j.ak = t->trans_a ? j.M : 1;
    j.bk = t->trans_b ? 1 : j.N, j.bn = t->trans_b ? j.K : 1;
    j.a = strides_broadcast(leading(a), j.batch), j.b = strides_broadcast(leading(b), j.batch);
    for (int i = 0; i < j.batch.rank; i++) j.a.v[i] *= j.M * j.K, j.b.v[i] *= j.K * j.N;
    return j;
}
static int64_t offset(const Job *j, const Strides *s, int64_t matrix) {
    int64_t at = 0;
    for (int k = j->batch.rank - 1; k >= 0; k--)
        at += matrix % j->batch.d[k] * s->v[k], matrix /= j->batch.d[k];
    return at;
}
static int64_t matrices(const Job *j) { return shape_count(j->batch); }

static void forward_row(void *arg, int64_t i) {
    const Job *j = arg;
    const float *a = (const float *)j->c->src[0] + offset(j, &j->a, i / j->M) + i % j->M * j->am;
    const float *b = (const float *)j->c->src[1] + offset(j, &j->b, i / j->M);
    for (int64_t n = 0; n < j->N; n++) {
        double sum = 0;
        for (int64_t k = 0; k < j->K; k++) sum += (double)a[k * j->ak] * b[k * j->bk + n * j->bn];
        j->c->dst[i * j->N + n] = (float)sum;
    }
}
static void matmul_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(matrices(&j) * j.M, forward_row, &j);
}

/* da[m][k] += sum over n of d[m][n] b[k][n]; matrices that share an a add in batch order. */
static void da_row(void *arg, int64_t m) {
    const Job *j = arg;
    for (int64_t x = 0; x < matrices(j); x++) {
        const float *d = j->c->ddst + (x * j->M + m) * j->N,
                    *b = (const float *)j->c->src[1] + offset(j, &j->b, x);
        float *da = j->c->dsrc[0] + offset(j, &j->a, x) + m * j->am;
        for (int64_t k = 0; k < j->K; k++) {
            double sum = 0;
            for (int64_t n = 0; n < j->N; n++) sum += (double)d[n] * b[k * j->bk + n * j->bn];
            da[k * j->ak] += (float)sum;
        }
    }
}
/* db[k][n] += sum over m of a[m][k] d[m][n] */
static void db_row(void *arg, int64_t k) {
    const Job *j = arg;
    for (int64_t x = 0; x < matrices(j); x++) {
        const float *d = j->c->ddst + x * j->M * j->N,
                    *a = (const float *)j->c->src[0] + offset(j, &j->a, x) + k * j->ak;
        float *db = j->c->dsrc[1] + offset(j, &j->b, x) + k * j->bk;
        for (int64_t n = 0; n < j->N; n++) {
            double sum = 0;
            for (int64_t m = 0; m < j->M; m++) sum += (double)a[m * j->am] * d[m * j->N + n];
            db[n * j->bn] += (float)sum;
        }
    }
}
static void matmul_backward(const OpCall *c) {
    Job j = job_of(c);
    if (c->dsrc[0]) parallel_for(j.M, da_row, &j);
    if (c->dsrc[1]) parallel_for(j.K, db_row, &j);
}

const OpDef op_matmul = {.name = "matmul",
                         .keep = KEEP_SRC0 | KEEP_SRC1,
                         .infer = matmul_infer,
                         .forward = matmul_forward,
                         .backward = matmul_backward};
