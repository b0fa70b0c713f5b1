/* optimizer.c - SGD with momentum and AdamW, one pass over the parameter block.
 *
 * PyTorch's semantics, element by element, in float32 with g the mean gradient of the
 * micro-batches: SGD    g += wd p;  m = mu m + g;  p -= lr (nesterov ? g + mu m : m) AdamW  p -= lr
 * wd p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2; p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 -
 * b2^t) + eps),  t = step + 1 Weight decay acts on all trainable parameters, batch norm's and
 * biases included. Clipping scales g by clip / (norm + 1e-6) when that is below 1, before the
 * decay.
 *
 * The block is cut into chunks by the parameters alone; sums over chunks run in their order, so the
 * bits do not depend on the number of threads. The norm is taken first: a NaN or infinity stops the
 * update. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "train/trainer_priv.h"

enum { CHUNK = 1 << 14 };

static double group_factor(const Config *c, const char *name) {
    double f = 1;
    size_t best = 0; /* the longest prefix decides */
    for (int i = 0; i < c->n_lr_groups; i++) {
        size_t n = strlen(c->lr_groups[i].prefix);
        if (n > best && str_starts(name, c->lr_groups[i].prefix))
            best = n, f = c->lr_groups[i].factor;
    }
    return f;
}

static Err check_groups(const Config *c, const Net *n) {
    for (int i = 0; i < c->n_lr_groups; i++) {
        bool used = false;
        for (int k = 0; k < n->n_params && !used; k++)
            used = n->params[k].trainable && str_starts(n->params[k].name, c->lr_groups[i].prefix);
        if (!used)
            return err_set(E(2, 76),
                           "train.lr_groups: no trainable parameter starts with \"%s\"; see retort "
                           "info for the names",
                           c->lr_groups[i].prefix);
    }
    return OK;
}

static void cut_chunks(Optimizer *o) {
    const Net *n = o->net;
    int cap = 0;
    for (int k = 0; k < n->n_params; k++) {
        const NetParam *p = &n->params[k];
        if (!p->trainable) continue;
        int64_t count = shape_count(p->shape);
        for (int64_t at = 0; at < count; at += CHUNK) {
            GROW(o->chunk, o->n_chunks, cap);
            int64_t len = count - at < CHUNK ? count - at : CHUNK;
            o->chunk[o->n_chunks++] = (OptChunk){p->offset + at, len, group_factor(o->c, p->name)};
        }
    }
    o->sum = xcalloc((size_t)o->n_chunks + 1, sizeof *o->sum);
}

Err optimizer_open(const Config *c, Net *n, Optimizer **out) {
    TRY(check_groups(c, n));
    Optimizer *o = xcalloc(1, sizeof *o);
    *o = (Optimizer){.c = c, .net = n};
    size_t bytes = (size_t)(n->n_trainable + 16) * sizeof(float);
    Err rc = block_alloc((void **)&o->m, bytes, "optimiser state");
    if (!rc && c->optimizer == 1) rc = block_alloc((void **)&o->v, bytes, "optimiser state");
    if (!rc && c->ema > 0)
        rc = block_alloc((void **)&o->ema, (size_t)(n->n_values + 16) * sizeof(float),
                         "averaged weights");
    if (rc) return optimizer_close(o), rc;
    if (o->ema) memcpy(o->ema, n->values, (size_t)n->n_values * sizeof(float));
    cut_chunks(o);
    *out = o;
    return OK;
}

void optimizer_close(Optimizer *o) {
    if (!o) return;
    block_free(o->m), block_free(o->v), block_free(o->ema);
    free(o->chunk), free(o->sum), free(o);
}

typedef struct Update {
    Optimizer *o;
    float scale;
    double lr;
    int64_t t;
} Update;

static void chunk_norm(void *arg, int64_t i) {
    Optimizer *o = arg;
    const OptChunk *k = &o->chunk[i];
    const float *g = o->net->grads + k->offset;
    double s = 0;
    for (int64_t j = 0; j < k->n; j++) s += (double)g[j] * g[j];
    o->sum[i] = s;
}

static void chunk_sgd(void *arg, int64_t i) {
    const Update *u = arg;
    const Config *c = u->o->c;
    const OptChunk *k = &u->o->chunk[i];
    float *p = u->o->net->values + k->offset, *m = u->o->m + k->offset;
    const float *g = u->o->net->grads + k->offset;
    const float lr = (float)(u->lr * k->factor), wd = (float)c->weight_decay,
                mu = (float)c->momentum, scale = u->scale;
    if (c->nesterov)
        for (int64_t j = 0; j < k->n; j++) {
            float d = g[j] * scale + wd * p[j];
            m[j] = mu * m[j] + d;
            p[j] -= lr * (d + mu * m[j]);
        }
    else
        for (int64_t j = 0; j < k->n; j++) {
            float d = g[j] * scale + wd * p[j];
            m[j] = mu * m[j] + d;
            p[j] -= lr * m[j];
        }
}

static void chunk_adamw(void *arg, int64_t i) {
    const Update *u = arg;
    const Config *c = u->o->c;
    const OptChunk *k = &u->o->chunk[i];
    float *p = u->o->net->values + k->offset, *m = u->o->m + k->offset, *v = u->o->v + k->offset;
    const float *g = u->o->net->grads + k->offset;
    const double lr = u->lr * k->factor;
    const float decay = (float)(1 - lr * c->weight_decay), b1 = (float)c->beta1,
                b2 = (float)c->beta2;
    const float a1 = (float)(1 - c->beta1), a2 = (float)(1 - c->beta2), eps = (float)c->adam_eps,
                scale = u->scale;
    const float size = (float)(lr / (1 - pow(c->beta1, (double)u->t)));
    const float root = (float)sqrt(1 - pow(c->beta2, (double)u->t));
    for (int64_t j = 0; j < k->n; j++) {
        float d = g[j] * scale;
        m[j] = b1 * m[j] + a1 * d;
        v[j] = b2 * v[j] + a2 * d * d;
        p[j] = p[j] * decay - size * m[j] / (sqrtf(v[j]) / root + eps);
    }
}

static void chunk_ema(void *arg, int64_t i) {
    Optimizer *o = arg;
    int64_t from = i * CHUNK,
            to = from + CHUNK < o->net->n_values ? from + CHUNK : o->net->n_values;
    const float d = (float)o->c->ema, e = (float)(1 - o->c->ema), *p = o->net->values;
    for (int64_t j = from; j < to; j++) o->ema[j] = d * o->ema[j] + e * p[j];
}

double optimizer_step(Optimizer *o, int64_t step) {
    const Config *c = o->c;
    parallel_for(o->n_chunks, chunk_norm, o);
    double s = 0;
    for (int i = 0; i < o->n_chunks; i++) s += o->sum[i];
    double scale = 1.0 / (double)c->accumulate, norm = sqrt(s) * scale;
    if (!isfinite(norm)) return NAN;
    if (c->clip > 0 && c->clip / (norm + 1e-6) < 1) scale *= c->clip / (norm + 1e-6);
    Update u = {.o = o, .scale = (float)scale, .lr = optimizer_lr(c, step), .t = step + 1};
    parallel_for(o->n_chunks, c->optimizer == 1 ? chunk_adamw : chunk_sgd, &u);
    o->net->version++;
    if (o->ema) parallel_for((o->net->n_values + CHUNK - 1) / CHUNK, chunk_ema, o);
    return norm;
}
