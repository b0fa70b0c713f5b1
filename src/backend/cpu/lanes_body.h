/* lanes_body.h - the loops of lanes.h over elements of one type. Included by lanes_f32_simd.c and
 * lanes_bf16_simd.c, each compiled once per instruction set (base/cpu.h), after they defined Elem, load,
 * store and LANES (the name of the table). Arithmetic is float32 for both. Written so that the compiler
 * fills the lanes: the loop over `inner` has a constant count for the blocked layouts. */
#include <math.h>

/* Call BODY with a constant inner where there is one. */
#define BY_INNER(inner, body) \
    do { if ((inner) == 16) { body(16); } else if ((inner) == 8) { body(8); } else { body(inner); } } while (0)
enum { BLOCK = 64 };       /* rows summed in float before they go to double */

INLINE float act_of(float v, Act act) {
    if (act == ACT_NONE) return v;
    v = v < 0.0f ? 0.0f : v;                                 /* keeps NaN, as PyTorch does */
    return act == ACT_RELU6 && v > 6.0f ? 6.0f : v;
}
INLINE float gate(float dy, float v, Act act) {      /* v: before or after the activation, both serve */
    if (act == ACT_NONE) return dy;
    if (act == ACT_RELU6) return v > 0.0f && v < 6.0f ? dy : 0.0f;
    return v > 0.0f ? dy : 0.0f;
}

/* ---- batch norm: sums ------------------------------------------------------------------------------ */

INLINE void sums_lanes(const BnRows *b, int inner) {
    const Elem *x = b->x;
    for (int c0 = 0; c0 < inner; c0 += 16) {
        int w = inner - c0 < 16 ? inner - c0 : 16;
        double sum[16] = {0}, sum2[16] = {0};
        for (int64_t r0 = 0; r0 < b->rows; r0 += BLOCK) {
            int64_t end = r0 + BLOCK < b->rows ? r0 + BLOCK : b->rows;
            float s[16] = {0}, q[16] = {0};
            for (int64_t r = r0; r < end; r++)
                for (int c = 0; c < w; c++) {
                    float d = load(x + r * inner + c0 + c) - b->mean[c0 + c];
                    s[c] += d, q[c] += d * d;
                }
            for (int c = 0; c < w; c++) sum[c] += s[c], sum2[c] += q[c];
        }
        for (int c = 0; c < w; c++) b->sum[c0 + c] = sum[c], b->sum2[c0 + c] = sum2[c];
    }
}
static void sums_plain(const BnRows *b) {
    double sum = 0, sum2 = 0;
    const Elem *x = b->x;
    float m = b->mean[0];
    for (int64_t r0 = 0; r0 < b->rows; r0 += 16 * BLOCK) {
        int64_t end = r0 + 16 * BLOCK < b->rows ? r0 + 16 * BLOCK : b->rows, r = r0;
        float s[16] = {0}, q[16] = {0};
        for (; r + 16 <= end; r += 16)
            for (int c = 0; c < 16; c++) {
                float d = load(x + r + c) - m;
                s[c] += d, q[c] += d * d;
            }
        for (; r < end; r++) {
            float d = load(x + r) - m;
            s[0] += d, q[0] += d * d;
        }
        for (int c = 0; c < 16; c++) sum += s[c], sum2 += q[c];
    }
    b->sum[0] = sum, b->sum2[0] = sum2;
}
static void SIMD(bn_sums)(const BnRows *b) {
    if (b->inner == 1) { sums_plain(b); return; }
#define BODY(n) sums_lanes(b, n)
    BY_INNER(b->inner, BODY);
#undef BODY
}

/* ---- batch norm: apply ------------------------------------------------------------------------------ */

INLINE void apply_lanes(const BnRows *b, int inner, bool residual, Act act) {
    const float *restrict scale = b->scale, *restrict shift = b->shift;
    const Elem *x = b->x, *res = b->residual;
    Elem *out = b->out;
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float v = load(x + at + c) * scale[c] + shift[c];
            if (residual) v += load(res + at + c);
            store(out + at + c, act_of(v, act));
        }
    }
}
INLINE void apply_one(const BnRows *b, bool residual, Act act) {
    const Elem *x = b->x, *res = b->residual;
    Elem *out = b->out;
    float scale = b->scale[0], shift = b->shift[0];
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float v = load(x + r) * scale + shift;
        if (residual) v += load(res + r);
        store(out + r, act_of(v, act));
    }
}
INLINE void apply_act(const BnRows *b, bool residual, Act act) {
    if (b->inner == 1) { apply_one(b, residual, act); return; }
#define BODY(n) apply_lanes(b, n, residual, act)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(bn_apply)(const BnRows *b) {
    if (b->residual) {
        if (b->act == ACT_RELU) apply_act(b, true, ACT_RELU);
        else if (b->act == ACT_RELU6) apply_act(b, true, ACT_RELU6);
        else apply_act(b, true, ACT_NONE);
    } else {
        if (b->act == ACT_RELU) apply_act(b, false, ACT_RELU);
        else if (b->act == ACT_RELU6) apply_act(b, false, ACT_RELU6);
        else apply_act(b, false, ACT_NONE);
    }
}

/* ---- batch norm: backward --------------------------------------------------------------------------- */

/* g of one element: through the activation, told by y when it was kept, else recomputed from x. */
INLINE float g_of(const BnRows *b, int64_t i, int c, bool kept, Act act) {
    const Elem *x = b->x, *y = b->y, *dy = b->dy;
    if (act == ACT_NONE) return load(dy + i);
    float v = kept ? load(y + i) : load(x + i) * b->scale[c] + b->shift[c];
    return gate(load(dy + i), v, act);
}
INLINE void back_sums_lanes(const BnRows *b, int inner, bool kept, bool keep, Act act) {
    const Elem *x = b->x;
    Elem *dresidual = b->dresidual;
    for (int c0 = 0; c0 < inner; c0 += 16) {
        int w = inner - c0 < 16 ? inner - c0 : 16;
        double sum[16] = {0}, sum2[16] = {0};
        for (int64_t r0 = 0; r0 < b->rows; r0 += BLOCK) {
            int64_t end = r0 + BLOCK < b->rows ? r0 + BLOCK : b->rows;
            float s[16] = {0}, q[16] = {0};
            for (int64_t r = r0; r < end; r++)
#pragma omp simd
                for (int c = 0; c < w; c++) {
                    int64_t i = r * inner + c0 + c;
                    float g = g_of(b, i, c0 + c, kept, act);
                    if (keep) store(dresidual + i, g);
                    s[c] += g, q[c] += g * (load(x + i) - b->mean[c0 + c]);
                }
            for (int c = 0; c < w; c++) sum[c] += s[c], sum2[c] += q[c];
        }
        for (int c = 0; c < w; c++) b->sum[c0 + c] = sum[c], b->sum2[c0 + c] = sum2[c];
    }
}
INLINE void back_sums_one(const BnRows *b, bool kept, bool keep, Act act) {
    double sum = 0, sum2 = 0;
    const Elem *x = b->x;
    Elem *dresidual = b->dresidual;
    for (int64_t r0 = 0; r0 < b->rows; r0 += 16 * BLOCK) {
        int64_t end = r0 + 16 * BLOCK < b->rows ? r0 + 16 * BLOCK : b->rows, r = r0;
        float s[16] = {0}, q[16] = {0};
        for (; r < end; r += 16) {
            int w = end - r < 16 ? (int)(end - r) : 16;
            for (int c = 0; c < w; c++) {
                float g = g_of(b, r + c, 0, kept, act);
                if (keep) store(dresidual + r + c, g);
                s[c] += g, q[c] += g * (load(x + r + c) - b->mean[0]);
            }
        }
        for (int c = 0; c < 16; c++) sum += s[c], sum2 += q[c];
    }
    b->sum[0] = sum, b->sum2[0] = sum2;
}
INLINE void back_sums(const BnRows *b, bool kept, bool keep, Act act) {
    if (b->inner == 1) { back_sums_one(b, kept, keep, act); return; }
#define BODY(n) back_sums_lanes(b, n, kept, keep, act)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(bn_backward_sums)(const BnRows *b) {
    bool kept = b->y != NULL, keep = b->dresidual != NULL;
    if (b->act == ACT_RELU && kept && keep) back_sums(b, true, true, ACT_RELU);
    else if (b->act == ACT_RELU && !kept && !keep) back_sums(b, false, false, ACT_RELU);
    else if (b->act == ACT_RELU6 && !kept && !keep) back_sums(b, false, false, ACT_RELU6);
    else if (b->act == ACT_NONE && !keep) back_sums(b, false, false, ACT_NONE);
    else back_sums(b, kept, keep, b->act);
}

INLINE float dx_of(const BnRows *b, int64_t i, int c, Act act) {
    const Elem *x = b->x, *dresidual = b->dresidual;
    float g = dresidual ? load(dresidual + i) : g_of(b, i, c, b->y != NULL, act);
    return b->scale[c] * (g - b->c1[c] - (load(x + i) - b->mean[c]) * b->c2[c]);
}
INLINE void back_lanes(const BnRows *restrict b, int inner, bool from_residual, Act act) {
    const Elem *g_src = from_residual ? b->dresidual : b->dy, *x = b->x;
    const float *scale = b->scale, *shift = b->shift, *mean = b->mean, *c1 = b->c1, *c2 = b->c2;
    Elem *out = b->out;
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float g = load(g_src + at + c), v = load(x + at + c);
            if (!from_residual) g = gate(g, v * scale[c] + shift[c], act);
            store(out + at + c, scale[c] * (g - c1[c] - (v - mean[c]) * c2[c]));
        }
    }
}
static void back_general(const BnRows *b) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int c = 0; c < b->inner; c++) store((Elem *)b->out + r * b->inner + c, dx_of(b, r * b->inner + c, c, b->act));
}
INLINE void back_one(const BnRows *b, bool from_residual, Act act) {
    const Elem *g_src = from_residual ? b->dresidual : b->dy, *x = b->x;
    const float scale = b->scale[0], shift = b->shift[0], mean = b->mean[0], c1 = b->c1[0], c2 = b->c2[0];
    Elem *out = b->out;
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float g = load(g_src + r), v = load(x + r);
        if (!from_residual) g = gate(g, v * scale + shift, act);
        store(out + r, scale * (g - c1 - (v - mean) * c2));
    }
}
INLINE void back(const BnRows *b, bool from_residual, Act act) {
    if (b->inner == 1) { back_one(b, from_residual, act); return; }
#define BODY(n) back_lanes(b, n, from_residual, act)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(bn_backward)(const BnRows *b) {
    if (b->dresidual) back(b, true, ACT_NONE);
    else if (b->y) back_general(b);
    else if (b->act == ACT_RELU) back(b, false, ACT_RELU);
    else if (b->act == ACT_RELU6) back(b, false, ACT_RELU6);
    else back(b, false, ACT_NONE);
}

/* ---- elementwise ------------------------------------------------------------------------------------ */

static void SIMD(add)(void *dst, const void *a, const void *b, int64_t n) {
    Elem *to = dst;
    const Elem *x = a, *y = b;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) store(to + i, load(x + i) + load(y + i));
}
INLINE void act_loop(Elem *dst, const Elem *x, int64_t n, Act act) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) store(dst + i, act_of(load(x + i), act));
}
static void SIMD(act)(void *dst, const void *x, int64_t n, Act act) {
    if (act == ACT_RELU6) act_loop(dst, x, n, ACT_RELU6);
    else act_loop(dst, x, n, ACT_RELU);
}
INLINE void act_backward_loop(Elem *dx, const Elem *dy, const Elem *y, int64_t n, Act act) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) store(dx + i, gate(load(dy + i), load(y + i), act));
}
static void SIMD(act_backward)(void *dx, const void *dy, const void *y, int64_t n, Act act) {
    if (act == ACT_RELU6) act_backward_loop(dx, dy, y, n, ACT_RELU6);
    else act_backward_loop(dx, dy, y, n, ACT_RELU);
}
static void SIMD(drop)(void *dst, const void *x, const uint8_t *mask, float scale, int64_t n) {
    Elem *to = dst;
    const Elem *from = x;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) store(to + i, mask[i] ? load(from + i) * scale : 0.0f);
}

/* ---- max pooling: ties go to the first position, NaN is larger than any number, as in PyTorch ------------ */

/* Lanes c0 .. c0 + w - 1 of one output: w is the constant 16 but at the end of channels last. */
INLINE void pool_lanes(const PoolRow *p, int64_t oy, int64_t ox, int inner, int c0, int w) {
    int64_t to = (oy * p->out_w + ox) * inner + c0;
    int64_t y0 = oy * p->stride - p->pad, x0 = ox * p->stride - p->pad;
    const int ky0 = y0 < 0 ? (int)-y0 : 0, kx0 = x0 < 0 ? (int)-x0 : 0;
    float best[16];
    int32_t arg[16];
    for (int c = 0; c < 16; c++) best[c] = -INFINITY, arg[c] = ky0 * p->k + kx0;
    for (int ky = ky0; ky < p->k && y0 + ky < p->in_h; ky++)
        for (int kx = kx0; kx < p->k && x0 + kx < p->in_w; kx++) {
            const Elem *src = (const Elem *)p->src + ((y0 + ky) * p->in_w + x0 + kx) * inner + c0;
            int32_t at = ky * p->k + kx;
#pragma omp simd
            for (int c = 0; c < w; c++) {
                float v = load(src + c);
                const bool more = v > best[c] || v != v;
                arg[c] = more ? at : arg[c];
                best[c] = more ? v : best[c];
            }
        }
#pragma omp simd
    for (int c = 0; c < w; c++) store((Elem *)p->dst + to + c, best[c]);
#pragma omp simd
    for (int c = 0; c < w; c++) p->arg[to + c] = (uint8_t)arg[c];
}
#define EACH_LANES(inner, fn, ...) \
    do { \
        int c0_ = 0; \
        for (; c0_ + 16 <= (inner); c0_ += 16) fn(__VA_ARGS__, c0_, 16); \
        if ((inner) == 8) fn(__VA_ARGS__, 0, 8); \
        else if (c0_ < (inner)) fn(__VA_ARGS__, c0_, (inner) - c0_); \
    } while (0)
INLINE void pool_at(const PoolRow *p, int64_t oy, int64_t ox, int inner) { EACH_LANES(inner, pool_lanes, p, oy, ox, inner); }
INLINE void pool_plane(const PoolRow *p, int inner) {
    for (int64_t oy = 0; oy < p->out_h; oy++)
        for (int64_t ox = 0; ox < p->out_w; ox++) pool_at(p, oy, ox, inner);
}
static void SIMD(max_pool)(const PoolRow *p) {
#define BODY(n) pool_plane(p, n)
    BY_INNER(p->inner, BODY);
#undef BODY
}

/* dx of one pixel: the sum over the windows it lies in (oy0, ox0: the first), of those it was the largest of. */
INLINE void unpool_lanes(const PoolRow *p, int64_t y, int64_t x, int64_t oy0, int64_t ox0, int inner, int c0, int w) {
    float sum[16] = {0};
    for (int64_t oy = oy0; oy < p->out_h && oy * p->stride <= y + p->pad; oy++)
        for (int64_t ox = ox0; ox < p->out_w && ox * p->stride <= x + p->pad; ox++) {
            int64_t from = (oy * p->out_w + ox) * inner + c0;
            const Elem *dy = (const Elem *)p->src + from;
            const uint8_t *arg = p->arg + from;
            int32_t at = (int32_t)((y + p->pad - oy * p->stride) * p->k + x + p->pad - ox * p->stride);
#pragma omp simd
            for (int c = 0; c < w; c++) {
                float v = load(dy + c);
                sum[c] += (int32_t)arg[c] == at ? v : 0.0f;
            }
        }
#pragma omp simd
    for (int c = 0; c < w; c++) store((Elem *)p->dst + (y * p->in_w + x) * inner + c0 + c, sum[c]);
}
INLINE void unpool_plane(const PoolRow *p, int inner) {
    int64_t oy = 0;
    for (int64_t y = 0; y < p->in_h; y++) {
        while (oy * p->stride + p->k - 1 < y + p->pad) oy++;
        int64_t ox = 0;
        for (int64_t x = 0; x < p->in_w; x++) {
            while (ox * p->stride + p->k - 1 < x + p->pad) ox++;
            EACH_LANES(inner, unpool_lanes, p, y, x, oy, ox, inner);
        }
    }
}
static void SIMD(max_pool_backward)(const PoolRow *p) {
#define BODY(n) unpool_plane(p, n)
    BY_INNER(p->inner, BODY);
#undef BODY
}

/* ---- depthwise convolution ----------------------------------------------------------------------------- */

#define BY_SIDE(b, body) \
    do { if ((b)->side == 5) { BY_INNER((b)->lanes, body##5); } else { BY_INNER((b)->lanes, body##3); } } while (0)

/* One row of dx between two columns; `inside`: every tap of every pixel lies in dy. */
INLINE void dw_row(const DwBlock *b, int64_t y, int64_t x0, int64_t x1, int side, int lanes, bool inside) {
    const Elem *dy = b->dy;
    for (int64_t x = x0; x < x1; x++) {
        float sum[DW_LANES] = {0};
        for (int ky = 0; ky < side; ky++) {
            int64_t oy = y + b->pad_y - ky * b->dilation;
            if (oy < 0 || oy >= b->out_h) continue;
            for (int kx = 0; kx < side; kx++) {
                int64_t ox = x + b->pad_x - kx * b->dilation;
                if (!inside && (ox < 0 || ox >= b->out_w)) continue;
                const Elem *g = dy + (oy * b->out_w + ox) * b->pixel;
                const float *w = b->w[side * ky + kx];
#pragma omp simd
                for (int c = 0; c < lanes; c++) sum[c] += w[c] * load(g + c);
            }
        }
        Elem *dx = (Elem *)b->dx + (y * b->in_w + x) * b->pixel;
#pragma omp simd
        for (int c = 0; c < lanes; c++) store(dx + c, act_of(sum[c] + b->bias[c], b->act));
    }
}
INLINE void dw_data_lanes(const DwBlock *b, int side, int lanes) {
    int64_t from = (side - 1) * b->dilation - b->pad_x, to = b->out_w - b->pad_x;      /* all columns of taps are there */
    if (from < 0) from = 0;
    if (to > b->in_w) to = b->in_w;
    if (to < from) from = to = 0;
    for (int64_t y = 0; y < b->in_h; y++) {
        dw_row(b, y, 0, from, side, lanes, false);
        dw_row(b, y, from, to, side, lanes, true);
        dw_row(b, y, to, b->in_w, side, lanes, false);
    }
}
static void SIMD(dw_data)(const DwBlock *b) {
#define BODY3(n) dw_data_lanes(b, 3, n)
#define BODY5(n) dw_data_lanes(b, 5, n)
    BY_SIDE(b, BODY);
#undef BODY3
#undef BODY5
}

/* sum[0 .. taps) += products of dy and of `taps` columns of x, between two columns of dy. */
INLINE void dw_products(const DwBlock *b, const Elem *dy, const Elem *x, int64_t x0, int64_t x1, int taps, int lanes,
                        float (*sum)[DW_LANES]) {
    const int64_t apart = b->dilation * b->pixel;
    for (int64_t ox = x0; ox < x1; ox++) {
        const Elem *g = dy + ox * b->pixel, *v = x + ox * b->stride * b->pixel;
        for (int k = 0; k < taps; k++)
#pragma omp simd
            for (int c = 0; c < lanes; c++) sum[k][c] += load(g + c) * load(v + k * apart + c);
    }
}
/* The columns of dy for which a tap `right` of them lies in x. */
INLINE int64_t dw_first(const DwBlock *b, int64_t right) { return right < 0 ? (b->stride - 1 - right) / b->stride : 0; }
INLINE int64_t dw_end(const DwBlock *b, int64_t right) {
    int64_t n = (b->in_w - right + b->stride - 1) / b->stride;
    return b->in_w <= right ? 0 : n < b->out_w ? n : b->out_w;
}
/* A row's products are summed in float, rows in double. Columns that all taps reach come first, the rest tap by tap. */
INLINE void dw_weights_lanes(const DwBlock *b, int side, int lanes) {
    const int64_t left = -b->pad_x, last = left + (side - 1) * b->dilation;
    int64_t from = dw_first(b, left), to = dw_end(b, last);
    if (to < from) from = to = 0;
    for (int ky = 0; ky < side; ky++) {
        double total[5][DW_LANES] = {{0}};
        for (int64_t oy = 0; oy < b->out_h; oy++) {
            const int64_t iy = oy * b->stride + ky * b->dilation - b->pad_y;
            if (iy < 0 || iy >= b->in_h) continue;
            const Elem *dy = (const Elem *)b->dy + oy * b->out_w * b->pixel;
            const Elem *x = (const Elem *)b->x + (iy * b->in_w + left) * b->pixel;
            float sum[5][DW_LANES] = {{0}};
            dw_products(b, dy, x, from, to, side, lanes, sum);
            for (int kx = 0; kx < side; kx++) {
                const int64_t right = left + kx * b->dilation, first = dw_first(b, right), end = dw_end(b, right);
                const Elem *column = x + kx * b->dilation * b->pixel;
                if (from < to) {
                    dw_products(b, dy, column, first, from, 1, lanes, sum + kx);
                    dw_products(b, dy, column, to, end, 1, lanes, sum + kx);
                } else dw_products(b, dy, column, first, end, 1, lanes, sum + kx);
            }
            for (int kx = 0; kx < side; kx++)
                for (int c = 0; c < lanes; c++) total[kx][c] += sum[kx][c];
        }
        for (int kx = 0; kx < side; kx++)
            for (int c = 0; c < DW_LANES; c++) b->sums[(ky * side + kx) * DW_LANES + c] = total[kx][c];
    }
}
static void SIMD(dw_weights)(const DwBlock *b) {
#define BODY3(n) dw_weights_lanes(b, 3, n)
#define BODY5(n) dw_weights_lanes(b, 5, n)
    BY_SIDE(b, BODY);
#undef BODY3
#undef BODY5
}

const LaneKernels SIMD(LANES) = {
    SIMD(bn_sums), SIMD(bn_apply), SIMD(bn_backward_sums), SIMD(bn_backward), SIMD(add), SIMD(act), SIMD(act_backward),
    SIMD(drop), SIMD(max_pool), SIMD(max_pool_backward), SIMD(dw_data), SIMD(dw_weights),
};
