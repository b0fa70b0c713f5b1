/* lanes_simd.c - compiled once per instruction set (base/cpu.h). Written so that the compiler fills
 * the lanes: the loop over `inner` has a constant count for the blocked layouts. */
#include <float.h>
#include <string.h>

#include "backend/cpu/lanes.h"

#define INLINE static inline __attribute__((always_inline))
/* Call BODY with a constant inner where there is one. */
#define BY_INNER(inner, body) \
    do { if ((inner) == 16) { body(16); } else if ((inner) == 8) { body(8); } else { body(inner); } } while (0)
enum { BLOCK = 64 };       /* rows summed in float before they go to double */

INLINE float act_of(float v, Act act) {
    if (act == ACT_NONE) return v;
    v = v > 0.0f ? v : 0.0f;
    return act == ACT_RELU6 && v > 6.0f ? 6.0f : v;
}
INLINE float gate(float dy, float v, Act act) {      /* v: before or after the activation, both serve */
    if (act == ACT_NONE) return dy;
    if (act == ACT_RELU6) return v > 0.0f && v < 6.0f ? dy : 0.0f;
    return v > 0.0f ? dy : 0.0f;
}

/* ---- batch norm: sums ------------------------------------------------------------------------------ */

INLINE void sums_lanes(const BnRows *b, int inner) {
    for (int c0 = 0; c0 < inner; c0 += 16) {
        int w = inner - c0 < 16 ? inner - c0 : 16;
        double sum[16] = {0}, sum2[16] = {0};
        for (int64_t r0 = 0; r0 < b->rows; r0 += BLOCK) {
            int64_t end = r0 + BLOCK < b->rows ? r0 + BLOCK : b->rows;
            float s[16] = {0}, q[16] = {0};
            for (int64_t r = r0; r < end; r++)
                for (int c = 0; c < w; c++) {
                    float d = b->x[r * inner + c0 + c] - b->mean[c0 + c];
                    s[c] += d, q[c] += d * d;
                }
            for (int c = 0; c < w; c++) sum[c] += s[c], sum2[c] += q[c];
        }
        for (int c = 0; c < w; c++) b->sum[c0 + c] = sum[c], b->sum2[c0 + c] = sum2[c];
    }
}
static void sums_plain(const BnRows *b) {
    double sum = 0, sum2 = 0;
    float m = b->mean[0];
    for (int64_t r0 = 0; r0 < b->rows; r0 += 16 * BLOCK) {
        int64_t end = r0 + 16 * BLOCK < b->rows ? r0 + 16 * BLOCK : b->rows, r = r0;
        float s[16] = {0}, q[16] = {0};
        for (; r + 16 <= end; r += 16)
            for (int c = 0; c < 16; c++) {
                float d = b->x[r + c] - m;
                s[c] += d, q[c] += d * d;
            }
        for (; r < end; r++) s[0] += b->x[r] - m, q[0] += (b->x[r] - m) * (b->x[r] - m);
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
    const float *restrict x = b->x, *restrict scale = b->scale, *restrict shift = b->shift;
    const float *res = b->residual;
    float *out = b->out;
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float v = x[at + c] * scale[c] + shift[c];
            if (residual) v += res[at + c];
            out[at + c] = act_of(v, act);
        }
    }
}
INLINE void apply_one(const BnRows *b, bool residual, Act act) {
    const float *x = b->x, *res = b->residual;
    float *out = b->out, scale = b->scale[0], shift = b->shift[0];
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float v = x[r] * scale + shift;
        if (residual) v += res[r];
        out[r] = act_of(v, act);
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

INLINE void prelu_lanes(const BnRows *b, int inner, bool residual) {
    const float *restrict x = b->x, *restrict scale = b->scale, *restrict shift = b->shift, *restrict slope = b->slope, *res = b->residual;
    for (int64_t r = 0; r < b->rows; r++) {
        const int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float v = x[at + c] * scale[c] + shift[c];
            if (residual) v += res[at + c];
            b->out[at + c] = v < 0.0f ? v * slope[c] : v;
        }
    }
}
INLINE void prelu_one(const BnRows *b, bool residual) {
    const float *x = b->x, *res = b->residual, scale = b->scale[0], shift = b->shift[0], slope = b->slope[0];
    float *out = b->out;
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float v = x[r] * scale + shift;
        if (residual) v += res[r];
        out[r] = v < 0.0f ? v * slope : v;
    }
}
INLINE void prelu_by_inner(const BnRows *b, bool residual) {
    if (b->inner == 1) { prelu_one(b, residual); return; }
#define BODY(n) prelu_lanes(b, n, residual)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(prelu)(const BnRows *b) {
    if (b->residual) prelu_by_inner(b, true);
    else prelu_by_inner(b, false);
}

/* ---- batch norm: backward --------------------------------------------------------------------------- */

/* g of one element: through the activation, told by y when it was kept, else recomputed from x. */
INLINE float g_of(const BnRows *b, int64_t i, int c, bool kept, Act act) {
    if (act == ACT_NONE) return b->dy[i];
    float v = kept ? b->y[i] : b->x[i] * b->scale[c] + b->shift[c];
    return gate(b->dy[i], v, act);
}
INLINE void back_sums_lanes(const BnRows *b, int inner, bool kept, bool store, Act act) {
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
                    if (store) b->dresidual[i] = g;
                    s[c] += g, q[c] += g * (b->x[i] - b->mean[c0 + c]);
                }
            for (int c = 0; c < w; c++) sum[c] += s[c], sum2[c] += q[c];
        }
        for (int c = 0; c < w; c++) b->sum[c0 + c] = sum[c], b->sum2[c0 + c] = sum2[c];
    }
}
INLINE void back_sums_one(const BnRows *b, bool kept, bool store, Act act) {
    double sum = 0, sum2 = 0;
    for (int64_t r0 = 0; r0 < b->rows; r0 += 16 * BLOCK) {
        int64_t end = r0 + 16 * BLOCK < b->rows ? r0 + 16 * BLOCK : b->rows, r = r0;
        float s[16] = {0}, q[16] = {0};
        for (; r < end; r += 16) {
            int w = end - r < 16 ? (int)(end - r) : 16;
            for (int c = 0; c < w; c++) {
                float g = g_of(b, r + c, 0, kept, act);
                if (store) b->dresidual[r + c] = g;
                s[c] += g, q[c] += g * (b->x[r + c] - b->mean[0]);
            }
        }
        for (int c = 0; c < 16; c++) sum += s[c], sum2 += q[c];
    }
    b->sum[0] = sum, b->sum2[0] = sum2;
}
INLINE void back_sums(const BnRows *b, bool kept, bool store, Act act) {
    if (b->inner == 1) { back_sums_one(b, kept, store, act); return; }
#define BODY(n) back_sums_lanes(b, n, kept, store, act)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(bn_backward_sums)(const BnRows *b) {
    bool kept = b->y != NULL, store = b->dresidual != NULL;
    if (b->act == ACT_RELU && kept && store) back_sums(b, true, true, ACT_RELU);
    else if (b->act == ACT_RELU && !kept && !store) back_sums(b, false, false, ACT_RELU);
    else if (b->act == ACT_RELU6 && !kept && !store) back_sums(b, false, false, ACT_RELU6);
    else if (b->act == ACT_NONE && !store) back_sums(b, false, false, ACT_NONE);
    else back_sums(b, kept, store, b->act);
}

INLINE float dx_of(const BnRows *b, int64_t i, int c, Act act) {
    float g = b->dresidual ? b->dresidual[i] : g_of(b, i, c, b->y != NULL, act);
    return b->scale[c] * (g - b->c1[c] - (b->x[i] - b->mean[c]) * b->c2[c]);
}
INLINE void back_lanes(const BnRows *restrict b, int inner, bool from_residual, Act act) {
    const float *g_src = from_residual ? b->dresidual : b->dy, *x = b->x, *scale = b->scale, *shift = b->shift;
    const float *mean = b->mean, *c1 = b->c1, *c2 = b->c2;
    float *out = b->out;
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float g = g_src[at + c];
            if (!from_residual) g = gate(g, x[at + c] * scale[c] + shift[c], act);
            out[at + c] = scale[c] * (g - c1[c] - (x[at + c] - mean[c]) * c2[c]);
        }
    }
}
static void back_general(const BnRows *b) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int c = 0; c < b->inner; c++) b->out[r * b->inner + c] = dx_of(b, r * b->inner + c, c, b->act);
}
INLINE void back_one(const BnRows *b, bool from_residual, Act act) {
    const float *g_src = from_residual ? b->dresidual : b->dy, *x = b->x;
    float scale = b->scale[0], shift = b->shift[0], mean = b->mean[0], c1 = b->c1[0], c2 = b->c2[0], *out = b->out;
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float g = g_src[r];
        if (!from_residual) g = gate(g, x[r] * scale + shift, act);
        out[r] = scale * (g - c1 - (x[r] - mean) * c2);
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

static void SIMD(add)(float *dst, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}
static void SIMD(act)(float *dst, const float *x, int64_t n, Act act) {
    if (act == ACT_RELU6) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dst[i] = act_of(x[i], ACT_RELU6);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dst[i] = act_of(x[i], ACT_RELU);
    }
}
static void SIMD(act_backward)(float *dx, const float *dy, const float *y, int64_t n, Act act) {
    if (act == ACT_RELU6) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = gate(dy[i], y[i], ACT_RELU6);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = gate(dy[i], y[i], ACT_RELU);
    }
}
static void SIMD(mul)(float *dst, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] * b[i];
}
static void SIMD(mix)(float *dst, const float *a, const float *b, float wa, float wb, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = wa * a[i] + wb * b[i];
}
static void SIMD(axpy)(float *dst, const float *x, float w, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] += w * x[i];
}

/* ---- means over windows ------------------------------------------------------------------------------- */

INLINE void window_lanes(const WindowRow *w, int inner) {
    for (int64_t x = 0; x < w->out_w; x++) {
        const int64_t a = x * w->stride - w->pad, x0 = a < 0 ? 0 : a, x1 = a + w->kw < w->in_w ? a + w->kw : w->in_w;
        float *dst = w->dst + x * inner;
        for (int c = 0; c < inner; c++) dst[c] = 0;
        for (int64_t y = w->y0; y < w->y1; y++)
            for (int64_t i = x0; i < x1; i++) {
                const float *src = w->src + (y * w->in_w + i) * inner;
#pragma omp simd
                for (int c = 0; c < inner; c++) dst[c] += src[c];
            }
#pragma omp simd
        for (int c = 0; c < inner; c++) dst[c] *= w->scale[x];
    }
}
static void SIMD(window_sums)(const WindowRow *w) {
    if (w->inner == 1) { window_lanes(w, 1); return; }
#define BODY(n) window_lanes(w, n)
    BY_INNER(w->inner, BODY);
#undef BODY
}

/* ---- max pooling: ties go to the first position, as in PyTorch ---------------------------------------- */

INLINE void pool_at(const PoolRow *p, int64_t oy, int64_t ox, int inner) {
    float *dst = p->dst + (oy * p->out_w + ox) * inner;
    uint8_t *arg = p->arg + (oy * p->out_w + ox) * inner;
    for (int c = 0; c < inner; c++) dst[c] = -FLT_MAX, arg[c] = 0;
    for (int ky = 0; ky < p->k; ky++)
        for (int kx = 0; kx < p->k; kx++) {
            int64_t y = oy * p->stride + ky - p->pad, x = ox * p->stride + kx - p->pad;
            if (y < 0 || y >= p->in_h || x < 0 || x >= p->in_w) continue;
            const float *src = p->src + (y * p->in_w + x) * inner;
            uint8_t at = (uint8_t)(ky * p->k + kx);
            for (int c = 0; c < inner; c++) {
                bool more = src[c] > dst[c];
                dst[c] = more ? src[c] : dst[c];
                arg[c] = more ? at : arg[c];
            }
        }
}
INLINE void pool_plane(const PoolRow *p, int inner) {
    for (int64_t oy = 0; oy < p->out_h; oy++)
        for (int64_t ox = 0; ox < p->out_w; ox++) pool_at(p, oy, ox, inner);
}
static void SIMD(max_pool)(const PoolRow *p) {
#define BODY(n) pool_plane(p, n)
    BY_INNER(p->inner, BODY);
#undef BODY
}
INLINE void unpool_plane(const PoolRow *p, int inner) {
    memset(p->dst, 0, (size_t)(p->in_h * p->in_w * inner) * sizeof(float));
    for (int64_t oy = 0; oy < p->out_h; oy++)
        for (int64_t ox = 0; ox < p->out_w; ox++) {
            const float *dy = p->src + (oy * p->out_w + ox) * inner;
            const uint8_t *arg = p->arg + (oy * p->out_w + ox) * inner;
            for (int ky = 0; ky < p->k; ky++)
                for (int kx = 0; kx < p->k; kx++) {
                    int64_t y = oy * p->stride + ky - p->pad, x = ox * p->stride + kx - p->pad;
                    if (y < 0 || y >= p->in_h || x < 0 || x >= p->in_w) continue;
                    float *dx = p->dst + (y * p->in_w + x) * inner;
                    uint8_t at = (uint8_t)(ky * p->k + kx);
                    for (int c = 0; c < inner; c++) dx[c] += arg[c] == at ? dy[c] : 0.0f;
                }
        }
}
static void SIMD(max_pool_backward)(const PoolRow *p) {
#define BODY(n) unpool_plane(p, n)
    BY_INNER(p->inner, BODY);
#undef BODY
}

/* ---- resize -------------------------------------------------------------------------------------------- */

INLINE void stretch_lanes(float *dst, const float *row, const FloatTap *t, int64_t out, int inner) {
    for (int64_t x = 0; x < out; x++, t++, dst += inner) {
        const float *a = row + (int64_t)t->at[0] * inner, *b = row + (int64_t)t->at[1] * inner;
        const float wa = t->w[0], wb = t->w[1];          /* of one tap: w[1] is 0 and at[1] 0 */
#pragma omp simd
        for (int c = 0; c < inner; c++) dst[c] = wa * a[c] + wb * b[c];
        for (int k = 2; k < t->n; k++)
            for (int c = 0; c < inner; c++) dst[c] += t->w[k] * row[(int64_t)t->at[k] * inner + c];
    }
}
static void SIMD(stretch)(float *dst, const float *row, const FloatTap *t, int64_t out, int inner) {
#define BODY(n) stretch_lanes(dst, row, t, out, n)
    if (inner == 1) { BODY(1); return; }
    BY_INNER(inner, BODY);
#undef BODY
}
INLINE void stretch_lanes_back(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner) {
    for (int64_t x = 0; x < out; x++, t++, dy += inner)
        for (int k = 0; k < t->n; k++)
            for (int c = 0; c < inner; c++) drow[(int64_t)t->at[k] * inner + c] += t->w[k] * dy[c];
}
static void SIMD(stretch_backward)(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner) {
#define BODY(n) stretch_lanes_back(drow, dy, t, out, n)
    if (inner == 1) { BODY(1); return; }
    BY_INNER(inner, BODY);
#undef BODY
}

const LaneKernels SIMD(lanes) = {
    SIMD(bn_sums), SIMD(bn_apply), SIMD(bn_backward_sums), SIMD(bn_backward), SIMD(prelu), SIMD(window_sums), SIMD(add), SIMD(act), SIMD(act_backward),
    SIMD(mul), SIMD(max_pool), SIMD(max_pool_backward), SIMD(mix), SIMD(axpy),
    SIMD(stretch), SIMD(stretch_backward),
};
