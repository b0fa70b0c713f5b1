/* fullres_simd.c - the fused kernels of the full-resolution losses, compiled once per instruction set.
 *
 * Pixels are in the lanes, classes in the inner loop. For a work item (image, interval between low
 * rows r and r + 1) and a tile of columns the two low rows are interpolated horizontally once per
 * class (lo and diff = hi - lo); each of the ~8 full rows in between then costs one multiply-add per
 * logit. Softmax: max, exp and sum, log; the gradient is collected at full width for the two low
 * rows (weights 1 - fy and fy) and reduced horizontally once per tile. A vector of pixels whose weights
 * are all 0 (void, easy) is skipped, a tile of such vectors is not even interpolated. Each item writes
 * its own rows, which are summed afterwards in a fixed order: the result does not depend on threads.
 *
 * Tried and left: bounding the maximum by the interpolated maxima of the low rows saves the first
 * pass, but underflows between two confident pixels of different classes. */
#include <string.h>
#include "distill/fullres_priv.h"
#include "distill/vec.h"

typedef struct Tile {
    int    x0, n;                        /* columns x0 .. x0 + n - 1; both multiples of FR_LANES */
    float *lo, *diff;                    /* K x n */
    float *glo, *ghi;                    /* K x n */
    float *z;                            /* K x VL */
    bool   ready;                        /* lo and diff are filled, the gradients zeroed */
} Tile;

/* Tile width: K x n floats stay near the first-level cache. */
static int tile_width(int k, int Wp) {
    int most = 12288 / k / FR_LANES * FR_LANES;
    most = most < FR_LANES ? FR_LANES : most > 256 ? 256 : most;
    int count = (Wp + most - 1) / most, n = (Wp + count - 1) / count;
    return (n + FR_LANES - 1) / FR_LANES * FR_LANES;
}
static inline vi load_labels(const int32_t *row, int x, int W) {
    return x + VL <= W ? vi_load(row + x) : vi_load_part(row + x, W - x > 0 ? W - x : 0, -1);
}

/* out[x] = a[col[x]] + fx[x] * d[col[x]] for n columns from x0; a and d begin at column c0. */
static inline void spread(const FrMap *m, int x0, int n, int c0, const float *a, const float *d,
                          float *out) {
    const int32_t *col = m->col + x0;
    const float *fx = m->fx + x0;
    if (m->w > m->W)                     /* shrinking: VL pixels may span more than VL columns */
        for (int x = 0; x < n; x++) out[x] = a[col[x] - c0] + fx[x] * d[col[x] - c0];
    else
        for (int x = 0; x < n; x += VL) {
            vi i = vi_sub(vi_load(col + x), vi_set(col[x]));
            int c = col[x] - c0;
            v_store(out + x, v_lookup(a + c, i) + v_load(fx + x) * v_lookup(d + c, i));
        }
}
/* Low rows top and bottom of one class -> lo and diff of one tile. */
static void expand_class(const FrMap *m, const float *top, const float *bottom, int x0, int n,
                         float *lo, float *diff) {
    int c0 = m->col[x0], cols = m->col[x0 + n - 1] - c0 + 1;
    float a[cols + 1 + VL], e[cols + 1 + VL], da[cols + VL], de[cols + VL];
    int have = m->w - c0 < cols + 1 ? m->w - c0 : cols + 1;
    for (int i = 0; i < have; i++) a[i] = top[c0 + i], e[i] = bottom[c0 + i] - top[c0 + i];
    for (int i = have; i < cols + 1 + VL; i++) a[i] = a[have - 1], e[i] = e[have - 1];
    for (int i = 0; i < cols + VL; i++) da[i] = a[i + 1] - a[i], de[i] = e[i + 1] - e[i];
    spread(m, x0, n, c0, a, da, lo);
    spread(m, x0, n, c0, e, de, diff);
}
static void tile_fill(const FrPass *p, Tile *t, int64_t image, int r) {
    const FrMap *m = p->map;
    int64_t hw = (int64_t)m->h * m->w;
    const float *top = p->logits + image * p->k * hw + (int64_t)r * m->w;
    const float *bottom = m->h > 1 ? top + m->w : top;
    for (int k = 0; k < p->k; k++)
        expand_class(m, top + k * hw, bottom + k * hw, t->x0, t->n, t->lo + (size_t)k * t->n,
                     t->diff + (size_t)k * t->n);
    if (t->glo) {
        memset(t->glo, 0, sizeof(float) * (size_t)p->k * t->n);
        memset(t->ghi, 0, sizeof(float) * (size_t)p->k * t->n);
    }
    t->ready = true;
}

/* z = exp(logit - max) of VL pixels, but 0 for the label's own class; returns their sum. *zy: logit - max
 * of the label's class. Apart, because a confident pixel's loss and gradient are about the others' sum, which
 * would drown in the whole. Lanes without a label: some number. */
static inline vf softmax_px(const Tile *t, int x, int K, vf fy, vi y, vf *zy) {
    const float *lo = t->lo + x, *diff = t->diff + x;
    vf max = v_set(-INFINITY), own = v_load(lo) + fy * v_load(diff), sum = v_set(0);
    for (int k = 0; k < K; k++, lo += t->n, diff += t->n) {
        vf z = v_load(lo) + fy * v_load(diff);
        vm is_own = vi_eq(y, vi_set(k));
        v_store(t->z + k * VL, v_sel(is_own, v_set(-INFINITY), z));
        max = v_max(max, z);
        own = v_sel(is_own, z, own);
    }
    for (int k = 0; k < K; k++) {
        vf e = v_exp(v_load(t->z + k * VL) - max);
        v_store(t->z + k * VL, e);
        sum = sum + e;
    }
    *zy = own - max;
    return sum;
}

/* ---- probabilities of the labels' classes ------------------------------------------------------- */
static void prob_row(const FrPass *p, Tile *t, int64_t image, int r, int y) {
    const FrMap *m = p->map;
    int64_t row = image * m->H + y;
    vf fy = v_set((float)fr_frac(m, y, r)), inf = v_set(INFINITY), theta = v_set(p->theta);
    int count = 0;
    for (int x = 0; x < t->n && t->x0 + x < m->Wp; x += VL) {
        vi label = load_labels(p->labels + row * m->W, t->x0 + x, m->W);
        vm valid = vi_below(label, vi_set(p->k));
        vf q = inf, zy;
        if (vm_any(valid)) {
            if (!t->ready) tile_fill(p, t, image, r);
            vf others = softmax_px(t, x, p->k, fy, label, &zy), own = v_exp(zy);
            q = v_sel(valid, own / (others + own), inf);
        }
        v_store(p->q + row * m->Wp + t->x0 + x, q);
        count += vm_count(vm_and(valid, v_not_above(q, theta)));
    }
    p->row_count[row] += count;
}
void SIMD(fr_prob_item)(const FrPass *p, int64_t item) {
    const FrMap *m = p->map;
    int64_t image = item / m->intervals;
    int r = (int)(item % m->intervals), y0, y1, n = tile_width(p->k, m->Wp);
    fr_rows(m, r, &y0, &y1);
    if (y0 >= y1) return;
    float lo[(size_t)p->k * n], diff[(size_t)p->k * n], z[p->k * VL];
    for (int y = y0; y < y1; y++) p->row_count[image * m->H + y] = 0;
    for (int x0 = 0; x0 < m->Wp; x0 += n) {
        int width = m->Wp - x0 < n ? m->Wp - x0 : n;
        Tile t = {.x0 = x0, .n = width, .lo = lo, .diff = diff, .z = z};
        for (int y = y0; y < y1; y++) prob_row(p, &t, image, r, y);
    }
}

/* ---- value and gradient ------------------------------------------------------------------------- */
static void grad_row(const FrPass *p, Tile *t, int64_t image, int r, int y) {
    const FrMap *m = p->map;
    int64_t row = image * m->H + y;
    float f = (float)fr_frac(m, y, r);
    vf fy = v_set(f), fy1 = v_set(1.0f - f), loss = v_set(0), zero = v_set(0), zy;
    for (int x = 0; x < t->n; x += VL) {
        vf w = v_load(p->weight + row * m->Wp + t->x0 + x);
        if (!vm_any(v_nonzero(w))) continue;
        if (!t->ready) tile_fill(p, t, image, r);
        vi label = load_labels(p->labels + row * m->W, t->x0 + x, m->W);
        vf others = softmax_px(t, x, p->k, fy, label, &zy), own = v_exp(zy);
        vf scale = w / (others + own), down = zero - others * scale;     /* p - 1 of the label's class */
        loss = loss + w * (v_log_sum(own, others) - zy);
        float *glo = t->glo + x, *ghi = t->ghi + x;
        for (int k = 0; k < p->k; k++, glo += t->n, ghi += t->n) {
            vf g = v_sel(vi_eq(label, vi_set(k)), down, v_load(t->z + k * VL) * scale);
            v_store(glo, v_load(glo) + fy1 * g);
            v_store(ghi, v_load(ghi) + fy * g);
        }
    }
    p->row_loss[row] += (double)v_sum(loss);
}
/* Adjoint of the horizontal interpolation, lower and upper low row at once: adds to lo_out, hi_out (K x w). */
static void tile_reduce(const FrPass *p, const Tile *t, float *lo_out, float *hi_out) {
    const FrMap *m = p->map;
    int x1 = t->x0 + t->n < m->W ? t->x0 + t->n : m->W;
    if (x1 <= t->x0) return;
    int first = m->col[t->x0], last = m->col[x1 - 1];
    for (int k = 0; k < p->k; k++) {
        const float *glo = t->glo + (size_t)k * t->n - t->x0,
                    *ghi = t->ghi + (size_t)k * t->n - t->x0;
        float *lo = lo_out + (size_t)k * m->w, *hi = hi_out + (size_t)k * m->w;
        for (int c = first; c <= last; c++) {
            int a = m->start[c] > t->x0 ? m->start[c] : t->x0,
                b = m->start[c + 1] < x1 ? m->start[c + 1] : x1;
            float l = 0, lf = 0, u = 0, uf = 0;
            for (int x = a; x < b; x++) {
                float f = m->fx[x];
                l += glo[x], lf += f * glo[x], u += ghi[x], uf += f * ghi[x];
            }
            lo[c] += l - lf, hi[c] += u - uf;
            if (c + 1 < m->w) lo[c + 1] += lf, hi[c + 1] += uf;
        }
    }
}
void SIMD(fr_grad_item)(const FrPass *p, int64_t item) {
    const FrMap *m = p->map;
    int64_t image = item / m->intervals;
    int r = (int)(item % m->intervals), y0, y1, n = tile_width(p->k, m->Wp);
    size_t low = (size_t)p->k * m->w;
    float *out = p->partial + (size_t)item * 2 * low;
    memset(out, 0, sizeof(float) * 2 * low);
    fr_rows(m, r, &y0, &y1);
    if (y0 >= y1) return;
    size_t area = (size_t)p->k * n;
    float lo[area], diff[area], glo[area], ghi[area], z[p->k * VL];
    for (int y = y0; y < y1; y++) p->row_loss[image * m->H + y] = 0;
    for (int x0 = 0; x0 < m->Wp; x0 += n) {
        int width = m->Wp - x0 < n ? m->Wp - x0 : n;
        Tile t = {.x0 = x0, .n = width, .lo = lo, .diff = diff, .glo = glo, .ghi = ghi, .z = z};
        for (int y = y0; y < y1; y++) grad_row(p, &t, image, r, y);
        if (t.ready) tile_reduce(p, &t, out, out + low);
    }
}

/* ---- masks and weights -------------------------------------------------------------------------- */
/* Void and padding have q = +inf on both sides: not hard, and no rule keeps "neither". */
static inline unsigned keep_px(unsigned rule, float q, float theta, float qt, float theta_t) {
    unsigned hard = !(q > theta), hard_t = !(qt > theta_t);
    return (rule >> (2 * hard + hard_t)) & 1u;
}
void SIMD(fr_mask_row)(const FrWeights *w, int64_t row) {
    const float *q = w->q + row * w->Wp, *qt = w->qt + row * w->Wp, theta = w->theta[row / w->H],
                theta_t = w->theta_t[row / w->H];
    const int32_t *labels = w->labels + row * w->W;
    int n = 0;
    double sum = 0;
    for (int x = 0; x < w->W; x++) n += (int)keep_px(w->rule, q[x], theta, qt[x], theta_t);
    for (int x = 0; w->class_weight && n && x < w->W; x++)
        if (keep_px(w->rule, q[x], theta, qt[x], theta_t))
            sum += (double)w->class_weight[labels[x]];
    w->kept[row] = n, w->sum[row] = w->class_weight ? sum : n;
}
static void tfe_row(const FrWeights *w, int64_t row, float *out) {
    const FrMap *m = w->map;
    int64_t image = row / w->H, y = row % w->H;
    int r = m->h < 2 || m->H < 2 ? 0 : (int)(y * (m->h - 1) / (m->H - 1));
    if (r > m->intervals - 1) r = m->intervals - 1;
    float fy = (float)fr_frac(m, (int)y, r);
    const float *top = w->easy + (image * m->h + r) * m->w, *bottom = m->h > 1 ? top + m->w : top;
    float a[m->w + 1 + VL], d[m->w + VL];
    for (int i = 0; i < m->w; i++) a[i] = top[i] + fy * (bottom[i] - top[i]);
    for (int i = m->w; i < m->w + 1 + VL; i++) a[i] = a[m->w - 1];
    for (int i = 0; i < m->w + VL; i++) d[i] = a[i + 1] - a[i];
    spread(m, 0, w->Wp, 0, a, d, out);
}
void SIMD(fr_weight_row)(const FrWeights *w, int64_t row) {
    float base[w->Wp];
    const int32_t *labels = w->labels + row * w->W;
    if (w->easy) tfe_row(w, row, base);
    for (int x = 0; w->easy && x < w->W; x++)
        base[x] = (uint32_t)labels[x] < (uint32_t)w->k ? w->tfe * base[x] : 0.0f;
    for (int x = 0; !w->easy && x < w->W; x++)
        base[x] = (uint32_t)labels[x] < (uint32_t)w->k ? w->plain : 0.0f;
    for (int x = 0; w->plain != 0 && w->class_weight && x < w->W; x++)
        if (base[x] != 0) base[x] *= w->class_weight[labels[x]];
    for (int x = w->W; x < w->Wp; x++) base[x] = 0;
    float *q = w->q + row * w->Wp;
    const float *qt = w->qt ? w->qt + row * w->Wp : NULL;
    if (!qt) { memcpy(q, base, sizeof base); return; }
    const float theta = w->theta[row / w->H], theta_t = w->theta_t[row / w->H], tse = w->tse;
    for (int x = 0; x < w->W; x++) {                 /* a NaN on either side must reach the loss */
        float keep = (float)(int)keep_px(w->rule, q[x], theta, qt[x], theta_t);
        float nan = q[x] == q[x] && qt[x] == qt[x] ? 0.0f : NAN;
        q[x] = tse * keep + nan;
    }
    for (int x = 0; w->class_weight && x < w->W; x++)
        if (q[x] != 0) q[x] *= w->class_weight[labels[x]];
    for (int x = 0; x < w->W; x++) q[x] += base[x];
    for (int x = w->W; x < w->Wp; x++) q[x] = 0;
}

/* ---- KL between two maps of logits -------------------------------------------------------------- */
/* e = scale * z of K classes of VL pixels less the logarithm of the sum of their exponentials. */
static inline void kl_log_softmax(const float *z, int64_t stride, int K, int n, float scale,
                                  float *e) {
    vf max = v_set(-INFINITY), s = v_set(scale), tops = v_set(0), rest = v_set(0), one = v_set(1);
    for (int k = 0; k < K; k++) {
        vf a = s * (n == VL ? v_load(z + k * stride) : v_load_part(z + k * stride, n));
        v_store(e + k * VL, a);
        max = v_max(max, a);
    }
    for (int k = 0; k < K; k++) {        /* the largest, each 1, apart from the rest */
        vf a = v_load(e + k * VL), x = v_exp(a - max);
        vm top = v_not_above(max, a);
        tops = tops + v_sel(top, one, v_set(0)), rest = rest + v_sel(top, x - one, x);
    }
    vf log_sum = v_log_sum(tops, rest);
    for (int k = 0; k < K; k++) v_store(e + k * VL, v_load(e + k * VL) - max - log_sum);
}
/* With r = log(q / p) the divergence is the sum of p (e^r - 1 - r), since p and q both sum to 1: no term is
 * negative, so nothing cancels where p and q are close. */
static vf kl_px(const FrKl *a, const float *p, const float *q, float *dq, int n, vf weight,
                float *lp, float *lq) {
    vf kl = v_set(0), coef = v_set(a->coef) * weight, near = v_set(0.34f);
    kl_log_softmax(p, a->pixels, a->k, n, a->scale, lp);
    kl_log_softmax(q, a->pixels, a->k, n, a->scale, lq);
    for (int k = 0; k < a->k; k++) {
        vf ap = v_load(lp + k * VL), aq = v_load(lq + k * VL), r = aq - ap, pp = v_exp(ap),
           pq = v_exp(aq);
        vm close = vm_and(v_not_above(r, near), v_not_above(v_set(0) - near, r));
        vf more = pp * v_exp_rest(v_sel(close, r, v_set(0)));            /* p (e^r - 1 - r), r close to 0 */
        kl = kl + v_sel(close, more, pq - pp - pp * r);
        if (!dq) continue;
        vf g = coef * v_sel(close, more + pp * r, pq - pp);
        if (n == VL) v_store(dq + k * a->pixels, g);
        else v_store_part(dq + k * a->pixels, g, n);
    }
    return kl;
}
void SIMD(fr_kl_item)(const FrKl *a, int64_t item) {
    int64_t chunks = kl_chunks(a->pixels), image = item / chunks, first = item % chunks * KL_CHUNK;
    int64_t end = first + KL_CHUNK < a->pixels ? first + KL_CHUNK : a->pixels;
    int64_t base = image * a->k * a->pixels;
    float zp[a->k * VL], zq[a->k * VL];
    double sum = 0;
    for (int64_t i = first; i < end; i += VL) {
        int n = end - i < VL ? (int)(end - i) : VL;
        int64_t at = image * a->pixels + i;
        vf weight = a->weight ? v_load_part(a->weight + at, n) : v_set(1);
        vf kl = kl_px(a, a->p + base + i, a->q + base + i, a->dq ? a->dq + base + i : NULL, n,
                      weight, zp, zq);
        if (a->value) v_store_part(a->value + at, kl, n);
        float lane[VL];
        v_store(lane, weight * kl);
        for (int j = 0; j < n; j++) sum += (double)lane[j];
    }
    if (a->sum) a->sum[item] = sum;
}
