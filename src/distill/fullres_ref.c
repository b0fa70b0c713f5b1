/* fullres_ref.c - the oracle of fullres_simd.c: the same passes, pixel by pixel, in double.
 *
 * Nothing here is shared with the fused kernels but the argument structs: coordinates are computed
 * from their definition, classes are summed in double, the k-th smallest is found by sorting. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "distill/fullres_priv.h"

typedef struct { int64_t at[4]; double weight[4]; } Corners;     /* of one full-size pixel on a low grid */

static double source_pos(int i, int n_out, int n_in) {           /* align_corners = true */
    return n_out > 1 ? (double)i * (n_in - 1) / (n_out - 1) : 0.0;
}
static Corners corners_of(const FrMap *m, int y, int x) {
    double sy = source_pos(y, m->H, m->h), sx = source_pos(x, m->W, m->w);
    int r = (int)floor(sy), c = (int)floor(sx);
    int r1 = r + 1 < m->h ? r + 1 : r, c1 = c + 1 < m->w ? c + 1 : c;
    double fy = sy - r, fx = sx - c;
    return (Corners){{(int64_t)r * m->w + c, (int64_t)r * m->w + c1, (int64_t)r1 * m->w + c,
                      (int64_t)r1 * m->w + c1},
                     {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}};
}
static double corner_value(const Corners *o, const float *plane) {
    double v = 0;
    for (int i = 0; i < 4; i++) v += o->weight[i] * (double)plane[o->at[i]];
    return v;
}
/* Probabilities of all classes; returns log(sum of exp) - logit of the label = its cross-entropy. */
static double softmax_at(const FrPass *p, int64_t image, const Corners *o, int label,
                         double *prob) {
    int64_t hw = (int64_t)p->map->h * p->map->w;
    const float *logits = p->logits + image * p->k * hw;
    double max = -INFINITY, sum = 0, own = 0;
    for (int k = 0; k < p->k; k++) {
        prob[k] = corner_value(o, logits + k * hw);
        if (!(prob[k] <= max)) max = prob[k];
        if (k == label) own = prob[k];
    }
    for (int k = 0; k < p->k; k++) sum += prob[k] = exp(prob[k] - max);
    for (int k = 0; k < p->k; k++) prob[k] /= sum;
    return log(sum) + max - own;
}

void fr_ref_prob(const FrPass *p) {
    const FrMap *m = p->map;
    double prob[FR_CLASSES_MAX];
    for (int64_t row = 0; row < (int64_t)p->n * m->H; row++) {
        p->row_count[row] = 0;
        for (int x = 0; x < m->Wp; x++) {
            int label = x < m->W ? p->labels[row * m->W + x] : -1;
            float *q = p->q + row * m->Wp + x;
            *q = INFINITY;
            if (label < 0 || label >= p->k) continue;
            Corners o = corners_of(m, (int)(row % m->H), x);
            softmax_at(p, row / m->H, &o, label, prob);
            *q = (float)prob[label];
            p->row_count[row] += !(*q > p->theta);
        }
    }
}

/* dlogits = a * gradient of sum over pixels of w * CE; acc: N x K x h x w doubles of scratch. */
void fr_ref_grad(const FrPass *p, float *dlogits, double a, double *acc) {
    const FrMap *m = p->map;
    int64_t hw = (int64_t)m->h * m->w, total = (int64_t)p->n * p->k * hw;
    double prob[FR_CLASSES_MAX];
    for (int64_t i = 0; i < total; i++) acc[i] = 0;
    for (int64_t row = 0; row < (int64_t)p->n * m->H; row++) {
        p->row_loss[row] = 0;
        for (int x = 0; x < m->W; x++) {
            double w = (double)p->weight[row * m->Wp + x];
            int label = p->labels[row * m->W + x];
            if (w == 0) continue;
            Corners o = corners_of(m, (int)(row % m->H), x);
            p->row_loss[row] += w * softmax_at(p, row / m->H, &o, label, prob);
            for (int k = 0; k < p->k; k++)
                for (int i = 0; i < 4; i++)
                    acc[(row / m->H * p->k + k) * hw + o.at[i]] +=
                        w * o.weight[i] * (prob[k] - (k == label));
        }
    }
    for (int64_t i = 0; i < total; i++) dlogits[i] = (float)(a * acc[i]);
}

static bool kept(const FrWeights *w, int64_t row, int x) {
    int64_t at = row * w->Wp + x;
    const int64_t n = row / w->H;
    int hard = !(w->q[at] > w->theta[n]), hard_t = !(w->qt[at] > w->theta_t[n]);
    return w->rule >> (2 * hard + hard_t) & 1;
}
static double weight_at(const FrWeights *w, int64_t row, int x) {
    int label = w->labels[row * w->W + x];
    if (label < 0 || label >= w->k) return 0;
    double c = w->class_weight ? (double)w->class_weight[label] : 1.0, v = (double)w->plain * c;
    if (w->easy) {
        Corners o = corners_of(w->map, (int)(row % w->H), x);
        v += (double)w->tfe * corner_value(&o, w->easy + row / w->H * w->map->h * w->map->w);
    }
    if (!w->qt) return v;
    int64_t at = row * w->Wp + x;
    if (isnan(w->q[at]) || isnan(w->qt[at])) return NAN;       /* must reach the loss */
    if (kept(w, row, x)) v += (double)w->tse * c;
    return v;
}
/* Overwrites the student's probability maps with weights, as weight_row does. */
void fr_ref_weights(const FrWeights *w) {
    for (int64_t row = 0; row < (int64_t)w->n * w->H; row++)
        for (int x = 0; x < w->Wp; x++)
            w->q[row * w->Wp + x] = x < w->W ? (float)weight_at(w, row, x) : 0.0f;
}

static double kl_softmax(const FrKl *a, const float *z, int64_t i, double *prob) {   /* returns log-sum-exp */
    double max = -INFINITY, sum = 0;
    for (int k = 0; k < a->k; k++) {
        prob[k] = (double)z[k * a->pixels + i] * (double)a->scale;
        if (!(prob[k] <= max)) max = prob[k];
    }
    for (int k = 0; k < a->k; k++) sum += exp(prob[k] - max);
    for (int k = 0; k < a->k; k++) prob[k] = exp(prob[k] - max) / sum;
    return max + log(sum);
}
void fr_ref_kl(const FrKl *a) {
    double pp[FR_CLASSES_MAX], pq[FR_CLASSES_MAX];
    int64_t chunks = kl_chunks(a->pixels);
    for (int64_t i = 0; a->sum && i < a->n * chunks; i++) a->sum[i] = 0;
    for (int64_t at = 0; at < a->n * a->pixels; at++) {
        int64_t image = at / a->pixels, i = at % a->pixels, base = image * a->k * a->pixels;
        double weight = a->weight ? (double)a->weight[at] : 1.0;
        double lp = kl_softmax(a, a->p + base, i, pp), lq = kl_softmax(a, a->q + base, i, pq),
               kl = lq - lp;
        for (int k = 0; k < a->k; k++) {
            int64_t e = base + k * a->pixels + i;
            kl += pp[k] * (double)a->scale * ((double)a->p[e] - (double)a->q[e]);
            if (a->dq) a->dq[e] = (float)((double)a->coef * weight * (pq[k] - pp[k]));
        }
        if (a->value) a->value[at] = (float)kl;
        if (a->sum) a->sum[image * chunks + i / KL_CHUNK] += weight * kl;
    }
}

static int by_value(const void *a, const void *b) {              /* NaN last, as its bits sort */
    uint32_t x, y;
    memcpy(&x, a, 4), memcpy(&y, b, 4);
    return (x > y) - (x < y);
}
/* k-th smallest (k >= 1) of n non-negative values; sorted: n floats of scratch. */
float fr_ref_kth(const float *q, float *sorted, int64_t n, int64_t k) {
    memcpy(sorted, q, sizeof(float) * (size_t)n);
    qsort(sorted, (size_t)n, sizeof(float), by_value);
    return sorted[k - 1];
}
