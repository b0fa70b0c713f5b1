/* test_lanes.c - the loops of the CPU backend's own kernels: each instruction set and element type against
 * the plain float32 one, on values that bfloat16 holds exactly, at every kind of block and at ragged ends. */
#include "backend/cpu/lanes.h"
#include "base/rng.h"
#include "test.h"

enum { ROWS = 203, INNER_MAX = 37, N = ROWS * INNER_MAX };
static const int inners[] = {1, 8, 16, 11, 37};

typedef struct Data { float f[N]; uint16_t h[N]; } Data;       /* the same values in both types */
static void fill(Data *d, uint64_t key, bool zero) {
    const Rng r = rng_stream(3, RNG_METHOD, key, 0);
    for (int64_t i = 0; i < N; i++) {
        d->h[i] = zero ? 0 : f32_to_bf16(rng_normal(&r, (uint64_t)i));
        d->f[i] = bf16_to_f32(d->h[i]);
    }
}
static void *at(Data *d, Dtype t) { return t == DT_BF16 ? (void *)d->h : (void *)d->f; }

/* got, in its type, against the float32 values of want: 2^-8 for one rounding, or float32's own. */
static void near(const char *what, CpuLevel level, Dtype t, int inner, Data *got, const Data *want,
                 int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float g = t == DT_BF16 ? bf16_to_f32(got->h[i]) : got->f[i], w = want->f[i];
        float tol = t == DT_BF16 ? 0x1p-8f : 1e-5f;
        if (fabsf(g - w) <= tol * fabsf(w) + 1e-5f) continue;
        FAIL("%s %s %s inner %d: element %lld is %g, not %g", what, cpu_level_name(level),
             dtype_name(t), inner, (long long)i, (double)g, (double)w);
        return;
    }
}
typedef void Check(CpuLevel level, Dtype t, int inner);
static void everywhere(Check *check) {
    for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++)
        for (int t = 0; t < 2; t++)
            for (size_t i = 0; i < sizeof inners / sizeof *inners && test_failures < 5; i++) {
                cpu_force((CpuLevel)level);
                check((CpuLevel)level, t ? DT_BF16 : DT_F32, inners[i]);
            }
}

/* ---- batch norm ------------------------------------------------------------------------------------- */

static Data x, residual, y, dy, out, dres, want, want_res;
static float per_lane[5][INNER_MAX];         /* scale, shift, mean, c1, c2 */
static BnRows rows(Dtype t, int inner, Act act, bool with_residual, double *sums) {
    for (int k = 0; k < 5; k++)
        for (int c = 0; c < inner; c++)
            per_lane[k][c] = 0.25f * (float)(k + 1) + 0.125f * (float)(c % 7);
    return (BnRows){.x = at(&x, t),
                    .residual = with_residual ? at(&residual, t) : NULL,
                    .y = with_residual ? at(&y, t) : NULL,
                    .dy = at(&dy, t),
                    .out = at(&out, t),
                    .dresidual = with_residual ? at(&dres, t) : NULL,
                    .scale = per_lane[0],
                    .shift = per_lane[1],
                    .mean = per_lane[2],
                    .c1 = per_lane[3],
                    .c2 = per_lane[4],
                    .sum = sums,
                    .sum2 = sums + INNER_MAX,
                    .rows = ROWS,
                    .inner = inner,
                    .act = act};
}
static float activated(float v, Act act) {
    return act == ACT_NONE ? v : v < 0 ? 0 : act == ACT_RELU6 && v > 6 ? 6 : v;
}
static float gated(float g, float v, Act act) {
    return act == ACT_NONE || (v > 0 && (act == ACT_RELU || v < 6)) ? g : 0;
}
static void check_norm(CpuLevel level, Dtype t, int inner) {
    fill(&x, 1, false), fill(&residual, 2, false), fill(&y, 3, false), fill(&dy, 4, false);
    for (int act = ACT_NONE; act <= ACT_RELU6; act++)
        for (int with = 0; with < 2; with++) {
            double sums[2 * INNER_MAX], s[INNER_MAX] = {0}, q[INNER_MAX] = {0}, gs[INNER_MAX] = {0},
                                        gq[INNER_MAX] = {0};
            BnRows b = rows(t, inner, (Act)act, with, sums);
            for (int64_t i = 0; i < ROWS * inner; i++) {
                int c = (int)(i % inner);
                float v = x.f[i] * per_lane[0][c] + per_lane[1][c], d = x.f[i] - per_lane[2][c];
                float g = gated(dy.f[i], with ? y.f[i] : v, (Act)act);
                s[c] += (double)d, q[c] += (double)d * d, gs[c] += (double)g,
                    gq[c] += (double)g * d;
                want.f[i] = activated(v + (with ? residual.f[i] : 0), (Act)act), want_res.f[i] = g;
            }
            lanes(t)->bn_sums(&b);
            for (int c = 0; c < inner; c++) {
                EXPECT_NEAR(sums[c], s[c], 1e-3);
                EXPECT_NEAR(sums[INNER_MAX + c], q[c], 1e-2);
            }
            lanes(t)->bn_apply(&b);
            near("bn_apply", level, t, inner, &out, &want, ROWS * inner);
            lanes(t)->bn_backward_sums(&b);
            for (int c = 0; c < inner; c++) {
                EXPECT_NEAR(sums[c], gs[c], 1e-3);
                EXPECT_NEAR(sums[INNER_MAX + c], gq[c], 1e-2);
            }
            if (with) near("g", level, t, inner, &dres, &want_res, ROWS * inner);
            for (int64_t i = 0; i < ROWS * inner; i++) {
                int c = (int)(i % inner);
                want.f[i] = per_lane[0][c] * (want_res.f[i] - per_lane[3][c] -
                                              (x.f[i] - per_lane[2][c]) * per_lane[4][c]);
            }
            lanes(t)->bn_backward(&b);
            near("bn_backward", level, t, inner, &out, &want, ROWS * inner);
        }
}
TEST(batch_norm_loops_equal_plain_arithmetic) { everywhere(check_norm); }

/* ---- elementwise ------------------------------------------------------------------------------------- */

static void check_elementwise(CpuLevel level, Dtype t, int inner) {
    const int64_t n = ROWS * inner;
    static uint8_t mask[N];
    fill(&x, 5, false), fill(&dy, 6, false);
    for (int64_t i = 0; i < n; i++) mask[i] = i % 3 != 0;
    for (int64_t i = 0; i < n; i++) want.f[i] = x.f[i] + dy.f[i];
    lanes(t)->add(at(&out, t), at(&x, t), at(&dy, t), n),
        near("add", level, t, inner, &out, &want, n);
    for (int64_t i = 0; i < n; i++) want.f[i] = mask[i] ? x.f[i] * 1.25f : 0;
    lanes(t)->drop(at(&out, t), at(&x, t), mask, 1.25f, n),
        near("drop", level, t, inner, &out, &want, n);
    for (int act = ACT_RELU; act <= ACT_RELU6; act++) {
        for (int64_t i = 0; i < n; i++)
            want.f[i] = activated(x.f[i], (Act)act),
            want_res.f[i] = gated(dy.f[i], x.f[i], (Act)act);
        lanes(t)->act(at(&out, t), at(&x, t), n, (Act)act),
            near("act", level, t, inner, &out, &want, n);
        lanes(t)->act_backward(at(&out, t), at(&dy, t), at(&x, t), n, (Act)act),
            near("act_backward", level, t, inner, &out, &want_res, n);
    }
}
TEST(elementwise_loops_equal_plain_arithmetic) { everywhere(check_elementwise); }

/* ---- max pooling, forward and backward ------------------------------------------------------------------ */

static void check_pool(CpuLevel level, Dtype t, int inner) {
    static const int kinds[][3] = {{3, 2, 1}, {2, 2, 0}, {3, 1, 1}, {2, 3, 0}};        /* k, stride, pad */
    enum { H = 11, W = 13 };
    static uint8_t arg[N];
    static Data dx, pooled;
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        int k = kinds[kind][0], stride = kinds[kind][1], pad = kinds[kind][2];
        PoolRow p = {.src = at(&x, t),
                     .dst = at(&pooled, t),
                     .arg = arg,
                     .in_h = H,
                     .in_w = W,
                     .out_h = (H + 2 * pad - k) / stride + 1,
                     .out_w = (W + 2 * pad - k) / stride + 1,
                     .k = k,
                     .stride = stride,
                     .pad = pad,
                     .inner = inner};
        fill(&x, 7, false), fill(&dy, 8, false), fill(&want_res, 0, true);
        for (int64_t o = 0; o < p.out_h * p.out_w * inner; o++) {
            int64_t oy = o / inner / p.out_w, ox = o / inner % p.out_w, c = o % inner, best = -1;
            for (int ky = 0; ky < k; ky++)
                for (int kx = 0; kx < k; kx++) {
                    int64_t iy = oy * stride + ky - pad, ix = ox * stride + kx - pad,
                            i = (iy * W + ix) * inner + c;
                    if (iy >= 0 && iy < H && ix >= 0 && ix < W && (best < 0 || x.f[i] > x.f[best]))
                        best = i;
                }
            want.f[o] = x.f[best], want_res.f[best] += dy.f[o];
        }
        lanes(t)->max_pool(&p);
        near("max_pool", level, t, inner, &pooled, &want, p.out_h * p.out_w * inner);
        p.src = at(&dy, t), p.dst = at(&dx, t);
        lanes(t)->max_pool_backward(&p);
        near("max_pool_backward", level, t, inner, &dx, &want_res, H * W * inner);
    }
}
TEST(max_pool_loops_equal_plain_arithmetic) { everywhere(check_pool); }

/* ---- depthwise convolution -------------------------------------------------------------------------------- */

typedef struct { int side, stride, dilation, pad_y, pad_x; } Depthwise;
static void check_one_depthwise(CpuLevel level, Dtype t, int inner, Depthwise a) {
    enum { H = 11, W = 13 };
    float w[DW_TAPS_MAX][DW_LANES] = {{0}}, bias[DW_LANES] = {0};
    double sums[DW_TAPS_MAX * DW_LANES], expected[DW_TAPS_MAX][DW_LANES] = {{0}};
    const int n = inner < DW_LANES ? inner : DW_LANES,       /* the first lanes of wider pixels */
        taps = a.side * a.side, reach = (a.side - 1) * a.dilation;
    const int64_t oh = (H + 2 * a.pad_y - reach - 1) / a.stride + 1,
                  ow = (W + 2 * a.pad_x - reach - 1) / a.stride + 1;
    if (oh * ow * inner > N) return;
    fill(&x, 9, false), fill(&dy, 10, false), fill(&want, 0, true), fill(&out, 0, true);
    for (int k = 0; k < taps; k++)
        for (int c = 0; c < n; c++) w[k][c] = 0.125f * (float)((k * 5 + c * 3) % 17 - 8);
    for (int64_t o = 0; o < oh * ow; o++)
        for (int k = 0; k < taps; k++)
            for (int c = 0; c < n; c++) {
                int64_t iy = o / ow * a.stride + k / a.side * a.dilation - a.pad_y,
                        ix = o % ow * a.stride + k % a.side * a.dilation - a.pad_x,
                        i = (iy * W + ix) * inner + c;
                if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
                want.f[i] += w[k][c] * dy.f[o * inner + c];
                expected[k][c] += (double)dy.f[o * inner + c] * x.f[i];
            }
    DwBlock b = {.x = at(&x, t), .dy = at(&dy, t), .dx = at(&out, t), .w = w, .bias = bias,
                 .sums = sums, .pixel = inner, .in_h = H, .in_w = W, .out_h = oh, .out_w = ow,
                 .lanes = n, .side = a.side, .stride = a.stride, .dilation = a.dilation,
                 .pad_y = a.pad_y, .pad_x = a.pad_x};
    lanes(t)->dw_weights(&b);
    for (int k = 0; k < taps; k++)
        for (int c = 0; c < n; c++) EXPECT_NEAR(sums[k * DW_LANES + c], expected[k][c], 1e-4);
    if (a.stride > 1) return;
    lanes(t)->dw_data(&b);
    near("dw_data", level, t, inner, &out, &want, H * W * inner);
    for (int c = 0; c < n; c++) bias[c] = 0.25f * (float)(c % 5 - 2);
    for (int64_t i = 0; i < H * W * inner; i++)
        if (i % inner < n) want.f[i] = fminf(fmaxf(want.f[i] + bias[i % inner], 0), 6);
    b.act = ACT_RELU6;
    lanes(t)->dw_data(&b);
    near("dw_data with bias and relu6", level, t, inner, &out, &want, H * W * inner);
}
static void check_depthwise(CpuLevel level, Dtype t, int inner) {
    static const Depthwise some[] = {
        {3, 1, 1, 1, 1}, {3, 1, 2, 2, 2}, {3, 1, 4, 4, 4},  {3, 1, 3, 0, 0}, {3, 1, 2, 5, 1}, {3, 1, 12, 12, 12},
        {5, 1, 1, 2, 2}, {5, 1, 2, 4, 4}, {5, 1, 4, 8, 8},  {5, 1, 2, 0, 0}, {5, 1, 1, 0, 3}, {5, 1, 6, 12, 12},
        {3, 2, 1, 1, 1}, {3, 2, 1, 0, 1}, {5, 2, 1, 2, 1},  {5, 2, 2, 4, 4}, {5, 3, 1, 1, 0}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        check_one_depthwise(level, t, inner, some[i]);
}
TEST(depthwise_loops_equal_plain_arithmetic) { everywhere(check_depthwise); }

TEST_MAIN(T(batch_norm_loops_equal_plain_arithmetic), T(elementwise_loops_equal_plain_arithmetic),
          T(max_pool_loops_equal_plain_arithmetic), T(depthwise_loops_equal_plain_arithmetic))
