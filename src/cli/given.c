/* given.c - see given.h. */
#include "cli/given.h"

Err given_map(const SafeFile *in, const char *path, const char *name, bool needed,
              const Tensor **out) {
    const Tensor *x = *out = tensor_find(in->tensors, name);
    if (!x && !needed) return OK;
    if (!x)
        return err_set(E(EXIT_MODEL, 51), "%s: needs a tensor `%s`, float32, B x C x H x W", path,
                       name);
    if (x->dtype == DT_F32 && x->shape.rank == 4 && shape_count(x->shape) > 0) return OK;
    return err_set(E(EXIT_MODEL, 51), "%s: %s is %s %s; it must be float32, B x C x H x W", path,
                   name, dtype_name(x->dtype), shape_text(x->shape).s);
}

static bool fits(const Tensor *y, int64_t n, int64_t h, int64_t w) {
    const int64_t *d = y->shape.d;
    return y->dtype == DT_I32 && y->shape.rank == 3 && shape_count(y->shape) > 0 && d[0] == n &&
           (!h || d[1] == h) && (!w || d[2] == w);
}

Err given_labels(const SafeFile *in, const char *path, int64_t n, int64_t h, int64_t w,
                 int64_t classes, const Tensor **out) {
    const Tensor *y = *out = tensor_find(in->tensors, "labels");
    if (!y)
        return err_set(E(EXIT_MODEL, 51),
                       "%s: needs a tensor `labels`, int32, B x H x W, -1 = ignore", path);
    if (!fits(y, n, h, w))
        return err_set(E(EXIT_MODEL, 51),
                       "%s: labels is %s %s; it must be int32, B x H x W for a batch of %lld", path,
                       dtype_name(y->dtype), shape_text(y->shape).s, (long long)n);
    const int32_t *v = y->data;
    for (int64_t i = 0, count = shape_count(y->shape); i < count; i++)
        if (v[i] < -1 || v[i] >= classes)
            return err_set(E(EXIT_DATA, 34),
                           "%s: label %d at element %lld is outside 0..%lld and is not -1", path,
                           v[i], (long long)i, (long long)classes - 1);
    return OK;
}
