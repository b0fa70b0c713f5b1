/* unary.c - dst = f(x) element by element, one row per function: f and its derivative in double.
 *
 *   affine        a x + b                       clip        min(max(x, a), b)
 *   leaky_relu    x < 0 ? a x : x               elu         x < 0 ? a (e^x - 1) : x
 *   selu          b * elu(x; a)                 sigmoid     1 / (1 + e^-x)
 *   hard_sigmoid  min(max(a x + b, 0), 1)       hard_swish  x * hard_sigmoid(x; 1/6, 1/2)
 *   silu          x * sigmoid(a x)              gelu        x Phi(x); gelu_tanh: its approximation
 *   pow           x^a
 * The fast forward is the same in float, over pieces that a core's cache holds. */
#include "graph/ops/op_util.h"

enum { PIECE = 1 << 14 };
typedef struct { double a, b; } Par;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double normal_cdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
static double normal_pdf(double x) { return 0.3989422804014327 * exp(-0.5 * x * x); }
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double tanh_inner(double x) { return 0.7978845608028654 * (x + 0.044715 * x * x * x); }
static double held(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }             /* fmin and fmax would lose NaN */
static float held_float(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static double elu(double x, double a) { return x < 0 ? a * expm1(x) : x; }
static double delu(double x, double a) { return x < 0 ? a * exp(x) : 1; }

#define F(name, value, slope)                                   \
    static double f_##name(double x, Par p) { (void)p; return value; } \
    static double d_##name(double x, Par p) { (void)p, (void)x; return slope; }
F(affine, p.a * x + p.b, p.a)
F(clip, x < p.a ? p.a : x > p.b ? p.b : x, x >= p.a && x <= p.b)
F(leaky_relu, x < 0 ? p.a * x : x, x < 0 ? p.a : 1)
F(elu, elu(x, p.a), delu(x, p.a))
F(selu, p.b * elu(x, p.a), p.b * delu(x, p.a))
F(sigmoid, sigmoid(x), sigmoid(x) * (1 - sigmoid(x)))
F(hard_sigmoid, held(p.a * x + p.b), p.a * x + p.b > 0 && p.a * x + p.b < 1 ? p.a : 0)
F(hard_swish, x * held(x / 6 + 0.5), x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5)
F(silu, x * sigmoid(p.a * x), sigmoid(p.a * x) * (1 + p.a * x * (1 - sigmoid(p.a * x))))
F(tanh, tanh(x), 1 - tanh(x) * tanh(x))
F(erf, erf(x), 1.1283791670955126 * exp(-x * x))
F(gelu, x * normal_cdf(x), normal_cdf(x) + x * normal_pdf(x))
F(gelu_tanh, 0.5 * x * (1 + tanh(tanh_inner(x))),
  0.5 * (1 + tanh(tanh_inner(x))) + 0.5 * x * (1 - tanh(tanh_inner(x)) * tanh(tanh_inner(x))) *
                                        0.7978845608028654 * (1 + 0.134145 * x * x))
F(softplus, softplus(x), sigmoid(x))
F(mish, x *tanh(softplus(x)),
  tanh(softplus(x)) + x * (1 - tanh(softplus(x)) * tanh(softplus(x))) * sigmoid(x))
F(exp, exp(x), exp(x))
F(log, log(x), 1 / x)
F(sqrt, sqrt(x), 0.5 / sqrt(x))
F(pow, pow(x, p.a), p.a * pow(x, p.a - 1))
F(reciprocal, 1 / x, -1 / (x * x))
F(abs, fabs(x), x < 0 ? -1 : x > 0 ? 1 : 0)
#undef F

typedef struct { double (*f)(double, Par), (*d)(double, Par); } Function;
static const Function FUNCTIONS[] = {
#define ROW(kind, name) [UNARY_##kind] = {f_##name, d_##name}
    ROW(AFFINE, affine),
    ROW(CLIP, clip),
    ROW(LEAKY_RELU, leaky_relu),
    ROW(ELU, elu),
    ROW(SELU, selu),
    ROW(SIGMOID, sigmoid),
    ROW(HARD_SIGMOID, hard_sigmoid),
    ROW(HARD_SWISH, hard_swish),
    ROW(SILU, silu),
    ROW(TANH, tanh),
    ROW(ERF, erf),
    ROW(GELU, gelu),
    ROW(GELU_TANH, gelu_tanh),
    ROW(SOFTPLUS, softplus),
    ROW(MISH, mish),
    ROW(EXP, exp),
    ROW(LOG, log),
    ROW(SQRT, sqrt),
    ROW(POW, pow),
    ROW(RECIPROCAL, reciprocal),
    ROW(ABS, abs),
#undef ROW
};
_Static_assert(sizeof FUNCTIONS / sizeof *FUNCTIONS == UNARY_KINDS, "one row per kind");

/* ---- the loops --------------------------------------------------------------------------------------- */

static void each_piece(const OpCall *c, void (*fn)(void *, int64_t)) {
    parallel_for((shape_count(c->shape) + PIECE - 1) / PIECE, fn, (void *)c);
}
static int64_t piece(const OpCall *c, int64_t i, int64_t *begin) {
    const int64_t n = shape_count(c->shape);
    *begin = i * PIECE;
    return n - *begin < PIECE ? n : *begin + PIECE;
}
static void forward_piece(void *arg, int64_t i) {
    const OpCall *c = arg;
    const UnaryAttr *a = c->attr;
    const float *x = c->src[0];
    int64_t at, end = piece(c, i, &at);
    for (; at < end; at++) c->dst[at] = (float)FUNCTIONS[a->kind].f(x[at], (Par){a->a, a->b});
}
static void backward_piece(void *arg, int64_t i) {
    const OpCall *c = arg;
    const UnaryAttr *a = c->attr;
    const float *x = c->src[0];
    int64_t at, end = piece(c, i, &at);
    for (; at < end; at++)
        c->dsrc[0][at] += (float)(c->ddst[at] * FUNCTIONS[a->kind].d(x[at], (Par){a->a, a->b}));
}
static void unary_forward(const OpCall *c) { each_piece(c, forward_piece); }
static void unary_backward(const OpCall *c) {
    if (c->dsrc[0]) each_piece(c, backward_piece);
}

/* The kinds that occur on big maps, in float. */
static void fast_piece(void *arg, int64_t i) {
    const OpCall *c = arg;
    const UnaryAttr u = *(const UnaryAttr *)c->attr;
    int64_t at, end = piece(c, i, &at);
    const float *restrict x = (const float *)c->src[0] + at, a = u.a, b = u.b;
    float *restrict y = c->dst + at;
    const int64_t n = end - at;
#define EACH(value) for (int64_t k = 0; k < n; k++) y[k] = value; break
    switch (u.kind) {
    case UNARY_AFFINE: EACH(a * x[k] + b);
    case UNARY_CLIP: EACH(x[k] < a ? a : x[k] > b ? b : x[k]);
    case UNARY_LEAKY_RELU: EACH(x[k] < 0 ? a * x[k] : x[k]);
    case UNARY_SIGMOID: EACH(1 / (1 + expf(-x[k])));
    case UNARY_HARD_SIGMOID: EACH(held_float(a * x[k] + b));
    case UNARY_HARD_SWISH: EACH(x[k] * held_float(x[k] / 6 + 0.5f));
    case UNARY_SILU: EACH(x[k] / (1 + expf(-a * x[k])));
    case UNARY_TANH: EACH(tanhf(x[k]));
    case UNARY_ERF: EACH(erff(x[k]));
    case UNARY_GELU: EACH(0.5f * x[k] * erfcf(-x[k] * (float)M_SQRT1_2));
    case UNARY_EXP: EACH(expf(x[k]));
    case UNARY_SQRT: EACH(sqrtf(x[k]));
    default: forward_piece(arg, i);
    }
#undef EACH
}
static void unary_fast(const OpCall *c) { each_piece(c, fast_piece); }

const OpDef op_unary = {.name = "unary",
                        .keep = KEEP_SRC0,
                        .infer = infer_same,
                        .forward = unary_forward,
                        .backward = unary_backward,
                        .fast_forward = unary_fast};
