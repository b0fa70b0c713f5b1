/* tensor.c - element types, shapes, layouts and named plain tensors. */
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- element types --------------------------------------------------------------------------- */
static const struct { const char *name; size_t bytes; } dtypes[] = {
    [DT_F32] = {"float32", 4}, [DT_BF16] = {"bfloat16", 2}, [DT_F16] = {"float16", 2},
    [DT_F64] = {"float64", 8}, [DT_I32] = {"int32", 4},     [DT_I64] = {"int64", 8},
    [DT_U8] = {"uint8", 1},    [DT_I8] = {"int8", 1},       [DT_BOOL] = {"bool", 1},
};
_Static_assert(sizeof dtypes / sizeof *dtypes == DT_COUNT, "one row per element type");

size_t dtype_bytes(Dtype t) { return dtypes[t].bytes; }
const char *dtype_name(Dtype t) { return dtypes[t].name; }

float bf16_to_f32(uint16_t v) {
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
uint16_t f32_to_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (v != v) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* ---- shapes ---------------------------------------------------------------------------------- */
Shape shape_of(const int64_t *d, int rank) {
    CHECK(rank >= 0 && rank <= RANK_MAX);
    Shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.d[i] = d[i];
    return s;
}

/* Elements, or false on overflow or a negative side. A zero side makes zero, whatever the others are. */
static bool count_checked(Shape s, int64_t *out) {
    int64_t n = 1;
    bool overflow = false, zero = false;
    for (int i = 0; i < s.rank; i++) {
        if (s.d[i] < 0) return false;
        zero |= s.d[i] == 0;
        overflow |= __builtin_mul_overflow(n, s.d[i], &n);
    }
    *out = zero ? 0 : n;
    return zero || !overflow;
}

int64_t shape_count(Shape s) {
    int64_t n = 0;
    CHECK(count_checked(s, &n));
    return n;
}

bool shape_equal(Shape a, Shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.d[i] != b.d[i]) return false;
    return true;
}

bool shape_bytes(Shape s, Dtype t, size_t *out) {
    int64_t n;
    return count_checked(s, &n) && !__builtin_mul_overflow((size_t)n, dtype_bytes(t), out) &&
           *out <= PTRDIFF_MAX;
}

ShapeText shape_text(Shape s) {
    ShapeText t = {"scalar"};
    size_t n = 0;
    for (int i = 0; i < s.rank && n < sizeof t.s; i++)
        n += (size_t)snprintf(t.s + n, sizeof t.s - n, "%s%" PRId64, i ? "x" : "", s.d[i]);
    return t;
}

/* ---- layouts --------------------------------------------------------------------------------- */
LayoutDims layout_dims(Layout l, Shape s) {
    if (s.rank != 4) return (LayoutDims){1, 1, shape_count(s), 1};
    int64_t c = s.d[1], inner = l == LAYOUT_C8     ? 8
                                : l == LAYOUT_C16  ? 16
                                : l == LAYOUT_LAST ? c
                                                   : 1;
    int64_t outer = inner ? (c + inner - 1) / inner : 0;
    return (LayoutDims){s.d[0], outer, s.d[2] * s.d[3], inner};
}

size_t layout_bytes(Layout l, Shape s, Dtype t) {
    LayoutDims d = layout_dims(l, s);
    int64_t n = shape_count(SHAPE(d.n, d.outer, d.spatial, d.inner));
    return (size_t)n * dtype_bytes(t);
}

void layout_copy_f32(float *dst, Layout to, const float *src, Layout from, Shape s) {
    LayoutDims a = layout_dims(from, s), b = layout_dims(to, s);
    int64_t c_dst = b.outer * b.inner, c = s.rank == 4 ? s.d[1] : 1;
    for (int64_t n = 0; n < b.n; n++)
        for (int64_t k = 0; k < c_dst; k++)
            for (int64_t p = 0; p < b.spatial; p++) {
                int64_t at = ((n * b.outer + k / b.inner) * b.spatial + p) * b.inner + k % b.inner;
                dst[at] =
                    k < c
                        ? src[((n * a.outer + k / a.inner) * a.spatial + p) * a.inner + k % a.inner]
                        : 0.0f;
            }
}

/* ---- named tensors --------------------------------------------------------------------------- */
TensorList *tensor_list_open(void) {
    TensorList *l = xcalloc(1, sizeof *l);
    l->arena = arena_open();
    return l;
}

void tensor_list_close(TensorList *l) {
    if (!l) return;
    arena_close(l->arena);
    free(l->v);
    free(l);
}

Tensor *tensor_find(const TensorList *l, const char *name) {
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, name)) return &l->v[i];
    return NULL;
}

Tensor *tensor_add(TensorList *l, const char *name, Dtype t, Shape s) {
    size_t bytes = 0;
    CHECK(shape_bytes(s, t, &bytes));
    GROW(l->v, l->n, l->cap);
    l->v[l->n] = (Tensor){arena_strdup(l->arena, name), t, s, arena_alloc(l->arena, bytes)};
    return &l->v[l->n++];
}
