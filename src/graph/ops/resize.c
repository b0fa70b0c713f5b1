/* resize.c - both sides to another size. Output i lies at p of the source, with s = in / out or a given step:
 *
 *   half pixels    p = (i + 1/2) s - 1/2      aligned corners  p = i (in - 1) / (out - 1), 0 where out is 1
 *   asymmetric     p = i s                    half_or_zero     half pixels, but 0 where out is 1
 *
 *   linear   two neighbours, p held inside     nearest  one, p rounded down, up, or at the half down or up
 *   cubic    four, weights by the cubic convolution with a (PyTorch: -0.75); outside: the edge again
 *
 * Positions are in double; PyTorch's are in float32, which differs by about 1e-7 of the side. Those of nearest are
 * in float32 and divided by the scale, as ONNX Runtime has them: there the last bit decides which pixel it is, and
 * what is within 1e-6 of a half is one. */
#include "graph/ops/op_util.h"
#include "graph/ops/taps.h"

static Err resize_infer(const OpSite *s, Shape *dst) {
    const ResizeAttr *a = s->attr;
    TRY(want_rank4(s, "resize"));
    const bool like = s->n_src > 1;
    if (like && s->src[1].rank < 2)
        return err_set(E(EXIT_MODEL, 0), "resize: target of shape %s has no sides",
                       shape_text(s->src[1]).s);
    const int64_t *side = like ? &s->src[1].d[s->src[1].rank - 2] : (int64_t[]){a->out_h, a->out_w};
    if (side[0] < 1 || side[1] < 1)
        return err_set(E(EXIT_MODEL, 0), "resize: output %" PRId64 "x%" PRId64, side[0], side[1]);
    *dst = SHAPE(s->src[0].d[0], s->src[0].d[1], side[0], side[1]);
    return OK;
}

/* ---- positions and weights --------------------------------------------------------------------- */

static double position(const ResizeAttr *a, int which, int64_t i, int64_t in, int64_t out) {
    const double step = a->step[which] > 0 ? a->step[which] : (double)in / (double)out;
    if (a->align_corners) return out > 1 ? (double)i * (double)(in - 1) / (double)(out - 1) : 0;
    if (a->at == RESIZE_ASYMMETRIC) return (double)i * step;
    if (a->at == RESIZE_HALF_OR_ZERO && out == 1) return 0;
    return ((double)i + 0.5) * step - 0.5;
}
static double position_f32(const ResizeAttr *a, int which, int64_t i, int64_t in, int64_t out) {
    const float x = (float)i, step = (float)(1 / a->step[which]),
                scale = a->step[which] > 0 ? step : (float)out / (float)in;
    if (a->align_corners) return out > 1 ? x * (float)(in - 1) / (float)(out - 1) : 0;
    if (a->at == RESIZE_ASYMMETRIC) return x / scale;
    if (a->at == RESIZE_HALF_OR_ZERO && out == 1) return 0;
    return (x + 0.5f) / scale - 0.5f;
}
static int64_t inside(int64_t i, int64_t in) { return i < 0 ? 0 : i > in - 1 ? in - 1 : i; }
static double rounded(ResizeRound r, double p) {
    const double half = 0.5 + 1e-6;
    switch (r) {
    case ROUND_FLOOR: return floor(p);
    case ROUND_CEIL: return ceil(p);
    case ROUND_HALF_UP: return floor(p + half);
    default: return ceil(p - half);
    }
}
/* Weight of a neighbour at distance d of the cubic convolution. */
static double cubic(double d, double a) {
    d = fabs(d);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}
Tap resize_tap(const ResizeAttr *a, int which, int64_t i, int64_t in, int64_t out) {
    const double p = position(a, which, i, in, out), held = fmin(fmax(p, 0), (double)(in - 1));
    Tap t = {.n = 1, .w = {1}};
    if (a->mode == RESIZE_NEAREST) {
        t.at[0] =
            inside((int64_t)rounded(a->round, position_f32(a, which, i, in, out)), in);
    } else if (a->mode == RESIZE_LINEAR) {
        const int64_t lo = (int64_t)held;
        t = (Tap){2, {lo, inside(lo + 1, in)}, {1 - (held - (double)lo), held - (double)lo}};
    } else {
        const int64_t lo = (int64_t)floor(p);
        for (t.n = 0; t.n < 4; t.n++) {
            t.at[t.n] = inside(lo - 1 + t.n, in);
            t.w[t.n] = cubic(p - (double)(lo - 1 + t.n), a->cubic_a != 0 ? a->cubic_a : -0.75);
        }
    }
    return t;
}

/* ---- planes: forward reads src, backward spreads ddst onto dsrc with the same weights ------------ */

typedef struct { int64_t H, W, OH, OW; const ResizeAttr *a; } Sides;
static Sides sides(const OpCall *c) {
    return (Sides){c->src_shape[0].d[2], c->src_shape[0].d[3], c->shape.d[2], c->shape.d[3],
                   c->attr};
}
static void resize_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const Sides s = sides(c);
    const float *src = (const float *)c->src[0] + nc * s.H * s.W;
    for (int64_t y = 0; y < s.OH; y++) {
        const Tap v = resize_tap(s.a, 0, y, s.H, s.OH);
        float *out = c->dst + (nc * s.OH + y) * s.OW;
        for (int64_t x = 0; x < s.OW; x++) {
            const Tap h = resize_tap(s.a, 1, x, s.W, s.OW);
            double sum = 0;
            for (int i = 0; i < v.n; i++)
                for (int k = 0; k < h.n; k++) sum += v.w[i] * h.w[k] * src[v.at[i] * s.W + h.at[k]];
            out[x] = (float)sum;
        }
    }
}
static void resize_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const Sides s = sides(c);
    float *dsrc = c->dsrc[0] + nc * s.H * s.W;
    for (int64_t y = 0; y < s.OH; y++) {
        const Tap v = resize_tap(s.a, 0, y, s.H, s.OH);
        const float *d = c->ddst + (nc * s.OH + y) * s.OW;
        for (int64_t x = 0; x < s.OW; x++) {
            const Tap h = resize_tap(s.a, 1, x, s.W, s.OW);
            for (int i = 0; i < v.n; i++)
                for (int k = 0; k < h.n; k++)
                    dsrc[v.at[i] * s.W + h.at[k]] += (float)(d[x] * v.w[i] * h.w[k]);
        }
    }
}
static void resize_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], resize_plane, (void *)c);
}
static void resize_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], resize_dplane, (void *)c);
}

const OpDef op_resize = {.name = "resize", .shape_only = 1u << 1, .infer = resize_infer,
                         .forward = resize_forward, .backward = resize_backward};
