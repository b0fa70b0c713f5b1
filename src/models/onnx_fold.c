/* onnx_fold.c - values that follow from the file and the image's size alone.
 *
 * PyTorch writes sizes into the graph as arithmetic (Shape, Gather, Concat, ...); with the size given all of
 * it is constants. Canonical constants are float32 or int64; arithmetic is in double or int64. Moving
 * elements about (Slice, Transpose, Expand, ...) is one walk over strides. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "graph/ops/strides.h"
#include "models/onnx_priv.h"
#include "tensor/convert.h"

static size_t width(const Tensor *t) { return dtype_bytes(t->dtype); }
static int64_t int_at(const Tensor *t, int64_t i) { return ((const int64_t *)t->data)[i]; }
static double number_at(const Tensor *t, int64_t i) {
    return t->dtype == DT_I64 ? (double)int_at(t, i) : (double)((const float *)t->data)[i];
}
static int64_t to_whole(double v) {
    return v >= 9.2e18 ? INT64_MAX : v <= -9.2e18 || isnan(v) ? INT64_MIN : (int64_t)v;
}
static void put(Tensor *t, int64_t i, double v) {
    if (t->dtype == DT_F32) ((float *)t->data)[i] = (float)v;
    else ((int64_t *)t->data)[i] = to_whole(v);
}

const Tensor *onnx_canonical(OnnxBuild *b, const Tensor *t) {
    const bool whole =
        t->dtype == DT_I32 || t->dtype == DT_U8 || t->dtype == DT_I8 || t->dtype == DT_BOOL;
    if (t->dtype == DT_F32 || t->dtype == DT_I64) return t;
    const int64_t n = shape_count(t->shape);
    Tensor *out = arena_alloc(b->arena, sizeof *out);
    *out = (Tensor){t->name, whole ? DT_I64 : DT_F32, t->shape, arena_alloc(b->arena, (size_t)(n + 1) * (whole ? sizeof(int64_t) : sizeof(float)))};
    for (int64_t i = 0; i < n; i++) {
        if (whole) ((int64_t *)out->data)[i] = tensor_int(t, i);
        else ((float *)out->data)[i] = tensor_float(t, i);
    }
    return out;
}

/* ---- arithmetic -------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    bool truth;
    int64_t (*whole)(int64_t, int64_t);
    double (*real)(double, double);
} Arithmetic;
static int64_t wrap(uint64_t v) { return (int64_t)v; }
static int64_t floor_mod(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    return a % b + (a % b && (a ^ b) < 0 ? b : 0);
}
#define PAIR(name, w, r) \
    static int64_t w_##name(int64_t a, int64_t b) { return w; } \
    static double r_##name(double a, double b) { return r; }
PAIR(add, wrap((uint64_t)a + (uint64_t)b), a + b)
PAIR(sub, wrap((uint64_t)a - (uint64_t)b), a - b)
PAIR(mul, wrap((uint64_t)a * (uint64_t)b), a * b)
PAIR(div, b == 0 ? 0 : b == -1 ? wrap(0 - (uint64_t)a) : a / b, a / b)
PAIR(mod, floor_mod(a, b), fmod(a, b))
PAIR(pow, to_whole(pow((double)a, (double)b)), pow(a, b))
PAIR(min, a < b ? a : b, a < b ? a : b)
PAIR(max, a > b ? a : b, a > b ? a : b)
PAIR(equal, a == b, a == b)
PAIR(less, a < b, a < b)
PAIR(greater, a > b, a > b)
PAIR(less_equal, a <= b, a <= b)
PAIR(greater_equal, a >= b, a >= b)
PAIR(and, a && b, a != 0 && b != 0)
PAIR(or, a || b, a != 0 || b != 0)
#undef PAIR
static const Arithmetic ARITHMETIC[] = {
    {"Add", false, w_add, r_add},
    {"Sub", false, w_sub, r_sub},
    {"Mul", false, w_mul, r_mul},
    {"Div", false, w_div, r_div},
    {"Mod", false, w_mod, r_mod},
    {"Pow", false, w_pow, r_pow},
    {"Min", false, w_min, r_min},
    {"Max", false, w_max, r_max},
    {"Equal", true, w_equal, r_equal},
    {"Less", true, w_less, r_less},
    {"Greater", true, w_greater, r_greater},
    {"LessOrEqual", true, w_less_equal, r_less_equal},
    {"GreaterOrEqual", true, w_greater_equal, r_greater_equal},
    {"And", true, w_and, r_and},
    {"Or", true, w_or, r_or},
};
static Err fold_arithmetic(OnnxBuild *b, const Arithmetic *op) {
    const Tensor *x = ob_constant(b, 0), *y = ob_constant(b, 1);
    const bool whole = x->dtype == DT_I64 && y->dtype == DT_I64;
    Shape s;
    Tensor *out;
    if (b->node->n_in != 2 || !shape_broadcast(x->shape, y->shape, &s))
        return ob_refuse(b, "its constants do not broadcast");
    TRY(ob_tensor(b, whole || op->truth ? DT_I64 : DT_F32, s, &out));
    const Strides sx = strides_broadcast(x->shape, s), sy = strides_broadcast(y->shape, s);
    const int64_t n = row_length(s);
    for (int64_t r = 0; r < row_count(s); r++)
        for (int64_t k = 0; k < n; k++) {
            const int64_t ix = strides_row(s, &sx, r) + k * row_step(s, &sx),
                          iy = strides_row(s, &sy, r) + k * row_step(s, &sy);
            if (whole) ((int64_t *)out->data)[r * n + k] = op->whole(int_at(x, ix), int_at(y, iy));
            else put(out, r * n + k, op->real(number_at(x, ix), number_at(y, iy)));
        }
    ob_out_constant(b, 0, out);
    return OK;
}

typedef struct { const char *name; double (*f)(double); } Function;
static double negate(double x) { return -x; }
static double logical_not(double x) { return x == 0; }
static double reciprocal(double x) { return 1 / x; }
static const Function FUNCTIONS[] = {
    {"Neg", negate},      {"Abs", fabs},
    {"Floor", floor},     {"Ceil", ceil},
    {"Round", rint},      {"Sqrt", sqrt},
    {"Exp", exp},         {"Log", log},
    {"Not", logical_not}, {"Reciprocal", reciprocal},
};
static Err fold_function(OnnxBuild *b, double (*f)(double)) {
    const Tensor *x = ob_constant(b, 0);
    Tensor *out;
    TRY(ob_tensor(b, x->dtype, x->shape, &out));
    for (int64_t i = 0, n = shape_count(x->shape); i < n; i++) put(out, i, f(number_at(x, i)));
    ob_out_constant(b, 0, out);
    return OK;
}

/* ---- moving elements ----------------------------------------------------------------------------------- */

/* out[index] = src[base + index . strides] */
static void move(Tensor *out, const Tensor *src, const Strides *s, int64_t base) {
    const size_t w = width(src);
    const int64_t n = row_length(out->shape), step = row_step(out->shape, s);
    for (int64_t r = 0; r < row_count(out->shape); r++) {
        const int64_t at = base + strides_row(out->shape, s, r);
        for (int64_t k = 0; k < n; k++)
            memcpy((char *)out->data + (size_t)(r * n + k) * w,
                   (const char *)src->data + (size_t)(at + k * step) * w, w);
    }
}
static Err emit_moved(OnnxBuild *b, const Tensor *src, Shape shape, const Strides *s,
                      int64_t base) {
    Tensor *out;
    TRY(ob_tensor(b, src->dtype, shape, &out));
    move(out, src, s, base);
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_slice(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    OnnxSlice c;
    TRY(onnx_slice(b, x->shape, &c));
    Strides s = strides_of(x->shape);
    int64_t base = 0;
    for (int i = 0; i < x->shape.rank; i++) base += c.start[i] * s.v[i], s.v[i] *= c.step[i];
    return emit_moved(b, x, c.shape, &s, base);
}
static Err fold_transpose(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    const Strides own = strides_of(x->shape);
    const int rank = x->shape.rank;
    int perm[RANK_MAX];
    Shape to = {.rank = rank};
    Strides s = {{0}};
    TRY(onnx_perm(b, rank, perm));
    for (int i = 0; i < rank; i++) to.d[i] = x->shape.d[perm[i]], s.v[i] = own.v[perm[i]];
    return emit_moved(b, x, to, &s, 0);
}
static Err fold_expand(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    Shape want = {0}, to;
    int n;
    TRY(ob_ints(b, 1, want.d, RANK_MAX, &n));
    want.rank = n < 0 ? 0 : n;
    if (!shape_broadcast(x->shape, want, &to))
        return ob_refuse(b, "%s does not broadcast to %s", shape_text(x->shape).s,
                         shape_text(want).s);
    const Strides s = strides_broadcast(x->shape, to);
    return emit_moved(b, x, to, &s, 0);
}
static Err fold_gather(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0), *index = ob_constant(b, 1);
    int axis;
    if (!index) return ob_refuse(b, "its indices are missing");
    TRY(ob_axis(b, ob_int(b->node, "axis", 0), x->shape.rank, &axis));
    Shape to = {.rank = x->shape.rank - 1 + index->shape.rank};
    if (to.rank > RANK_MAX || index->dtype != DT_I64)
        return ob_refuse(b, "indices of shape %s", shape_text(index->shape).s);
    int64_t outer = 1, inner = 1, n = shape_count(index->shape), d = x->shape.d[axis];
    for (int i = 0; i < axis; i++) to.d[i] = x->shape.d[i], outer *= x->shape.d[i];
    for (int i = 0; i < index->shape.rank; i++) to.d[axis + i] = index->shape.d[i];
    for (int i = axis + 1; i < x->shape.rank; i++)
        to.d[i - 1 + index->shape.rank] = x->shape.d[i], inner *= x->shape.d[i];
    Tensor *out;
    TRY(ob_tensor(b, x->dtype, to, &out));
    const size_t run = (size_t)inner * width(x);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < n; k++) {
            const int64_t at = int_at(index, k) < 0 ? int_at(index, k) + d : int_at(index, k);
            if (at < 0 || at >= d)
                return ob_refuse(b, "index %" PRId64 " of a dimension of %" PRId64,
                                 int_at(index, k), d);
            memcpy((char *)out->data + (size_t)(o * n + k) * run,
                   (const char *)x->data + (size_t)(o * d + at) * run, run);
        }
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_concat(OnnxBuild *b) {
    const Tensor *first = ob_constant(b, 0);
    int axis;
    TRY(ob_axis(b, ob_int(b->node, "axis", 0), first->shape.rank, &axis));
    Shape to = first->shape;
    to.d[axis] = 0;
    for (int i = 0; i < b->node->n_in; i++) {
        const Tensor *x = ob_constant(b, i);
        if (!x) return ob_refuse(b, "input %d is left out", i);
        Shape same = x->shape;
        if (same.rank == to.rank) to.d[axis] += same.d[axis], same.d[axis] = first->shape.d[axis];
        if (!shape_equal(same, first->shape) || x->dtype != first->dtype)
            return ob_refuse(b, "its constants do not join");
    }
    Tensor *out;
    TRY(ob_tensor(b, first->dtype, to, &out));
    size_t at = 0;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; i++) outer *= to.d[i];
    for (int i = axis + 1; i < to.rank; i++) inner *= to.d[i];
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < b->node->n_in; i++) {
            const Tensor *x = ob_constant(b, i);
            const size_t run = (size_t)(x->shape.d[axis] * inner) * width(x);
            memcpy((char *)out->data + at, (const char *)x->data + (size_t)o * run, run);
            at += run;
        }
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_reshape(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    Tensor *out = arena_alloc(b->arena, sizeof *out);
    *out = *x;
    TRY(onnx_reshaped(b, x->shape, &out->shape));
    ob_out_constant(b, 0, out);
    return OK;
}

/* ---- making ------------------------------------------------------------------------------------------- */

static Err fold_constant(OnnxBuild *b) {
    const OnnxNode *n = b->node;
    const OnnxAttr *a = n->n_attr ? &n->attr[0] : NULL;
    if (!a || n->n_attr != 1) return ob_refuse(b, "holds no value that is read");
    if (a->kind == ONNX_TENSOR) return ob_out_constant(b, 0, onnx_canonical(b, a->tensor)), OK;
    const bool one = a->kind == ONNX_INT || a->kind == ONNX_FLOAT,
               whole = a->kind == ONNX_INT || a->kind == ONNX_INTS;
    if (!one && a->kind != ONNX_INTS && a->kind != ONNX_FLOATS)
        return ob_refuse(b, "%s is not read", a->name);
    Tensor *t;
    TRY(ob_tensor(b, whole ? DT_I64 : DT_F32, one ? (Shape){0} : SHAPE(a->n), &t));
    const void *from = a->kind == ONNX_INT     ? (const void *)&a->i
                       : a->kind == ONNX_FLOAT ? (const void *)&a->f
                       : whole                 ? (const void *)a->ints
                                               : (const void *)a->floats;
    if (shape_count(t->shape)) memcpy(t->data, from, (size_t)shape_count(t->shape) * width(t));
    ob_out_constant(b, 0, t);
    return OK;
}
static Err fold_constant_of_shape(OnnxBuild *b) {
    const OnnxAttr *a = onnx_attr(b->node, "value");
    const Tensor *value = a && a->kind == ONNX_TENSOR ? onnx_canonical(b, a->tensor) : NULL;
    Shape s;
    Tensor *out;
    TRY(ob_ints(b, 0, s.d, RANK_MAX, &s.rank));
    if (s.rank < 0 || (value && shape_count(value->shape) != 1))
        return ob_refuse(b, "its value or shape is missing");
    TRY(ob_tensor(b, value ? value->dtype : DT_F32, s, &out));
    for (int64_t i = 0, n = shape_count(s); value && i < n; i++)
        memcpy((char *)out->data + (size_t)i * width(out), value->data, width(out));
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_range(OnnxBuild *b) {
    const Tensor *a = ob_constant(b, 0), *e = ob_constant(b, 1), *d = ob_constant(b, 2);
    if (!a || !e || !d || shape_count(a->shape) != 1 || shape_count(e->shape) != 1 ||
        shape_count(d->shape) != 1 || number_at(d, 0) == 0)
        return ob_refuse(b, "wants start, limit and step");
    const double n = ceil((number_at(e, 0) - number_at(a, 0)) / number_at(d, 0));
    Tensor *out;
    TRY(ob_tensor(b, a->dtype, SHAPE(n > 0 ? n < 1e9 ? (int64_t)n : 1000000000 : 0), &out));
    for (int64_t i = 0; i < out->shape.d[0]; i++)
        put(out, i, number_at(a, 0) + (double)i * number_at(d, 0));
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_cast(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    const int64_t to = ob_int(b->node, "to", 1);         /* 1, 10, 11, 16: the float types; 9: bool */
    const bool real = to == 1 || to == 10 || to == 11 || to == 16;
    Tensor *out;
    TRY(ob_tensor(b, real ? DT_F32 : DT_I64, x->shape, &out));
    for (int64_t i = 0, n = shape_count(x->shape); i < n; i++) {
        if (to == 9) put(out, i, number_at(x, i) != 0);
        else if (x->dtype == DT_I64 && !real) ((int64_t *)out->data)[i] = int_at(x, i);
        else put(out, i, number_at(x, i));
    }
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_where(OnnxBuild *b) {
    const Tensor *c = ob_constant(b, 0), *x = ob_constant(b, 1), *y = ob_constant(b, 2);
    Shape s;
    Tensor *out;
    if (!c || !x || !y || x->dtype != y->dtype || !shape_broadcast(x->shape, y->shape, &s) ||
        !shape_broadcast(s, c->shape, &s))
        return ob_refuse(b, "its constants do not broadcast");
    TRY(ob_tensor(b, x->dtype, s, &out));
    const Strides sc = strides_broadcast(c->shape, s), sx = strides_broadcast(x->shape, s),
                  sy = strides_broadcast(y->shape, s);
    const int64_t n = row_length(s);
    for (int64_t r = 0; r < row_count(s); r++)
        for (int64_t k = 0; k < n; k++) {
            const bool yes = number_at(c, strides_row(s, &sc, r) + k * row_step(s, &sc)) != 0;
            const Tensor *from = yes ? x : y;
            const Strides *t = yes ? &sx : &sy;
            memcpy((char *)out->data + (size_t)(r * n + k) * width(out),
                   (const char *)from->data +
                       (size_t)(strides_row(s, t, r) + k * row_step(s, t)) * width(out),
                   width(out));
        }
    ob_out_constant(b, 0, out);
    return OK;
}
/* ReduceProd, ReduceSum, ReduceMax, ReduceMin over everything, as sizes are reduced. */
static Err fold_reduce(OnnxBuild *b) {
    const Tensor *x = ob_constant(b, 0);
    const char kind = b->node->op[6];
    const int64_t n = shape_count(x->shape);
    Tensor *out;
    if (x->shape.rank > 1 || n < 1)
        return ob_refuse(b, "of a constant of shape %s is not folded", shape_text(x->shape).s);
    TRY(ob_tensor(b, x->dtype,
                  ob_int(b->node, "keepdims", 1) && x->shape.rank ? SHAPE(1) : (Shape){0}, &out));
    double v = number_at(x, 0);
    for (int64_t i = 1; i < n; i++) {
        const double e = number_at(x, i);
        v = kind == 'P'             ? v * e
            : kind == 'S'           ? v + e
            : b->node->op[7] == 'a' ? fmax(v, e)
                                    : fmin(v, e);
    }
    put(out, 0, v);
    ob_out_constant(b, 0, out);
    return OK;
}
static Err fold_same(OnnxBuild *b) { return ob_out_constant(b, 0, ob_constant(b, 0)), OK; }

/* ---- the table ------------------------------------------------------------------------------------------- */

static const struct { const char *name; Err (*fold)(OnnxBuild *);
} FOLDS[] = {
    {"Constant", fold_constant},
    {"ConstantOfShape", fold_constant_of_shape},
    {"Range", fold_range},
    {"Cast", fold_cast},
    {"Gather", fold_gather},
    {"Slice", fold_slice},
    {"Concat", fold_concat},
    {"Transpose", fold_transpose},
    {"Expand", fold_expand},
    {"Reshape", fold_reshape},
    {"Flatten", fold_reshape},
    {"Squeeze", fold_reshape},
    {"Unsqueeze", fold_reshape},
    {"Where", fold_where},
    {"Identity", fold_same},
    {"Dropout", fold_same},
    {"ReduceProd", fold_reduce},
    {"ReduceSum", fold_reduce},
    {"ReduceMax", fold_reduce},
    {"ReduceMin", fold_reduce},
    {"DequantizeLinear", onnx_fold_dequantize},
};
#define COUNT(table) ((int)(sizeof table / sizeof *table))

Err onnx_fold(OnnxBuild *b, const OnnxNode *n, bool *done) {
    *done = false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !ob_constant(b, i)) return OK;
    const bool one = ob_given(b, 0), two = one && ob_given(b, 1);
    *done = true;
    for (int i = 0; i < COUNT(ARITHMETIC); i++)
        if (two && !strcmp(ARITHMETIC[i].name, n->op)) return fold_arithmetic(b, &ARITHMETIC[i]);
    for (int i = 0; i < COUNT(FUNCTIONS); i++)
        if (one && !strcmp(FUNCTIONS[i].name, n->op)) return fold_function(b, FUNCTIONS[i].f);
    const bool sources = !strcmp(n->op, "Constant");
    for (int i = 0; i < COUNT(FOLDS); i++)
        if ((one || sources) && !strcmp(FOLDS[i].name, n->op)) return FOLDS[i].fold(b);
    *done = false;
    return OK;
}

/* ---- shapes that nodes share with constants -------------------------------------------------------------- */

Err onnx_perm(OnnxBuild *b, int rank, int perm[RANK_MAX]) {
    const OnnxAttr *given = onnx_attr(b->node, "perm");
    unsigned seen = 0;
    if (given && (given->kind != ONNX_INTS || given->n != rank))
        return ob_refuse(b, "perm does not fit its input");
    for (int i = 0; i < rank; i++) {
        TRY(ob_axis(b, given ? given->ints[i] : rank - 1 - i, rank, &perm[i]));
        if (seen >> perm[i] & 1) return ob_refuse(b, "perm is no permutation");
        seen |= 1u << perm[i];
    }
    return OK;
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

Err onnx_slice(OnnxBuild *b, Shape s, OnnxSlice *out) {
    int64_t start[RANK_MAX], end[RANK_MAX], axis[RANK_MAX], step[RANK_MAX];
    int n, ends, axes, steps;
    TRY(ob_ints(b, 1, start, RANK_MAX, &n));
    TRY(ob_ints(b, 2, end, RANK_MAX, &ends));
    TRY(ob_ints(b, 3, axis, RANK_MAX, &axes));
    TRY(ob_ints(b, 4, step, RANK_MAX, &steps));
    if (n < 0 || ends != n || (axes >= 0 && axes != n) || (steps >= 0 && steps != n) || n > s.rank)
        return ob_refuse(b, "starts, ends, axes and steps do not agree");
    *out = (OnnxSlice){.shape = s};
    for (int i = 0; i < s.rank; i++) out->step[i] = 1;
    for (int i = 0; i < n; i++) {
        int d;
        TRY(ob_axis(b, axes < 0 ? i : axis[i], s.rank, &d));
        const int64_t size = s.d[d], by = steps < 0 ? 1 : step[i];
        if (by == 0 || by < -INT32_MAX || by > INT32_MAX) return ob_refuse(b, "step %" PRId64, by);
        const int64_t from =
            clamp(start[i] < 0 ? start[i] + size : start[i], 0, by < 0 ? size - 1 : size);
        const bool all = end[i] == INT32_MAX || end[i] == INT64_MAX;         /* backward too, as by ONNX Runtime */
        const int64_t to =
            by < 0 && all ? -1
                          : clamp(end[i] < 0 ? end[i] + size : end[i], by < 0 ? -1 : 0, size);
        const int64_t room = by > 0 ? to - from : from - to, stride = by > 0 ? by : -by;
        out->start[d] = from, out->step[d] = by;
        out->shape.d[d] = room > 0 ? (room + stride - 1) / stride : 0;
    }
    return OK;
}

static Err reshape_target(OnnxBuild *b, Shape from, Shape *to) {
    TRY(ob_ints(b, 1, to->d, RANK_MAX, &to->rank));
    if (to->rank < 0) return ob_refuse(b, "has no target shape");
    const bool zero_is_zero = ob_int(b->node, "allowzero", 0) != 0;
    int free = -1;
    int64_t rest = 1;
    if (b->fixed_batch && from.rank && to->rank && from.d[0] == b->batch && to->d[0] == 1)
        to->d[0] = b->batch;
    for (int i = 0; i < to->rank; i++) {
        if (to->d[i] == 0 && !zero_is_zero && i < from.rank) to->d[i] = from.d[i];
        if (to->d[i] == -1 && free < 0) free = i;
        else if (to->d[i] < 0 || __builtin_mul_overflow(rest, to->d[i], &rest))
            return ob_refuse(b, "target shape holds %" PRId64, to->d[i]);
    }
    const int64_t count = shape_count(from);
    if (free >= 0) to->d[free] = rest ? count / rest : 0, rest *= to->d[free];
    if (rest != count)
        return ob_refuse(b, "%s does not fit into %s", shape_text(from).s, shape_text(*to).s);
    return ob_apart(b, !to->rank || to->d[0] != b->batch);
}
static Err squeezed(OnnxBuild *b, Shape from, Shape *to) {
    int64_t axis[RANK_MAX];
    int n, d;
    unsigned drop = 0;
    TRY(ob_axes(b, 1, axis, &n));
    for (int i = 0; i < n; i++) {
        TRY(ob_axis(b, axis[i], from.rank, &d));
        if (from.d[d] != 1)
            return ob_refuse(b, "dimension %d of %s is not 1", d, shape_text(from).s);
        drop |= 1u << d;
    }
    for (int i = 0; i < from.rank; i++)
        if (!(drop >> i & 1) && !(n < 0 && from.d[i] == 1)) to->d[to->rank++] = from.d[i];
    return OK;
}
static Err unsqueezed(OnnxBuild *b, Shape from, Shape *to) {
    int64_t axis[RANK_MAX];
    int n, d, next = 0;
    unsigned add = 0;
    TRY(ob_axes(b, 1, axis, &n));
    if (n < 0 || from.rank + n > RANK_MAX) return ob_refuse(b, "gives more than 6 dimensions");
    to->rank = from.rank + n;
    for (int i = 0; i < n; i++) {
        TRY(ob_axis(b, axis[i], to->rank, &d));
        if (add >> d & 1) return ob_refuse(b, "names an axis twice");
        add |= 1u << d;
    }
    for (int i = 0; i < to->rank; i++) to->d[i] = add >> i & 1 ? 1 : from.d[next++];
    return ob_apart(b, add & 1);
}
static Err flattened(OnnxBuild *b, Shape from, Shape *to) {
    int64_t axis = ob_int(b->node, "axis", 1);
    if (axis < 0) axis += from.rank;
    if (axis < 0 || axis > from.rank)
        return ob_refuse(b, "axis %" PRId64 " of %d dimensions", axis, from.rank);
    *to = SHAPE(1, 1);
    for (int i = 0; i < from.rank; i++) to->d[i >= axis] *= from.d[i];
    return ob_apart(b, axis == 0);
}
Err onnx_reshaped(OnnxBuild *b, Shape from, Shape *to) {
    *to = (Shape){0};
    switch (b->node->op[0]) {
    case 'R': return reshape_target(b, from, to);
    case 'F': return flattened(b, from, to);
    case 'S': return squeezed(b, from, to);
    default: return unsqueezed(b, from, to);
    }
}
