/* class_weights.c - see class_weights.h.
 *
 * From the data, over the training labels, void left out:
 *   median       median over classes of f / f_c, f_c = pixels of c / pixels of the images that show c (Eigen and Fergus,
 *                ICCV 2015); 1 for a class that never occurs
 *   inverse-log  1 / ln(1.02 + p_c), p_c = pixels of c / all (ENet, Paszke et al., arXiv 1606.02147) */
#include "distill/class_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"

enum { FILE_BYTES_MAX = 1 << 16 };

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void from_median(const ClassPixels *p, int64_t classes, float *out) {
    double *f = xcalloc((size_t)(2 * classes), sizeof *f), *sorted = f + classes;
    int n = 0;
    for (int64_t c = 0; c < classes; c++)
        if (p->own[c] > 0) sorted[n++] = f[c] = (double)p->own[c] / (double)p->shown[c];
    if (n) qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    const double median = n ? (sorted[n / 2] + sorted[(n - 1) / 2]) / 2 : 1;
    for (int64_t c = 0; c < classes; c++) out[c] = f[c] > 0 ? (float)(median / f[c]) : 1;
    free(f);
}
static void from_inverse_log(const ClassPixels *p, int64_t classes, float *out) {
    double all = 0;
    for (int64_t c = 0; c < classes; c++) all += (double)p->own[c];
    for (int64_t c = 0; c < classes; c++)
        out[c] = (float)(1 / log(1.02 + (all > 0 ? (double)p->own[c] / all : 0)));
}
static void from_data(Net *n, const KdSite *s, const char *where, const char *kind, int64_t classes,
                      float *out) {
    ClassPixels p = {.own = arena_alloc(n->arena, (size_t)classes * sizeof(int64_t)),
                     .shown = arena_alloc(n->arena, (size_t)classes * sizeof(int64_t))};
    if (!s->count_pixels) {
        net_fail(n, E(2, 0),
                 "%s.class_weights: %s needs a data set, which there is none of; give numbers",
                 where, kind);
        return;
    }
    Err rc = s->count_pixels(s, &p);
    if (rc) net_fail(n, rc, "%s", err_text());
    else if (!strcmp(kind, "median")) from_median(&p, classes, out);
    else from_inverse_log(&p, classes, out);
}
static void from_text(Net *n, const char *where, const char *text, int64_t classes, float *out) {
    char *copy = xstrdup(text), *rest = copy;
    int64_t count = 0;
    for (char *item; (item = strtok_r(rest, " ,[]\t\r\n", &rest)); count++) {
        double v;
        if (!parse_f64(item, &v) || !(v >= 0) || !isfinite(v)) {
            net_fail(n, E(2, 0),
                     "%s.class_weights: \"%s\" is not a weight; give one number >= 0 per class",
                     where, item);
            break;
        }
        if (count < classes) out[count] = (float)v;
    }
    free(copy);
    if (!n->err && count != classes)
        net_fail(n, E(2, 0), "%s.class_weights: %lld numbers for %lld classes; give one per class",
                 where, (long long)count, (long long)classes);
}
static void from_file(Net *n, const char *where, const char *path, int64_t classes, float *out) {
    Bytes b;
    if (sys_read_file(path, FILE_BYTES_MAX, EXIT_USAGE, &b)) {
        net_fail(
            n, E(2, 0),
            "%s.class_weights: %s; give one number per class, median, inverse-log, none, or a file",
            where, err_text());
        return;
    }
    char *text = xprintf("%.*s", (int)b.bytes, (const char *)b.data);
    from_text(n, where, text, classes, out);
    free(text), free(b.data);
}

/* "[1, 2]", "1, 2", "1 2"; "2.txt" and "../w" are files. */
static bool is_numbers(const char *text) {
    return *text == '[' || strchr(text, ',') || !text[strspn(text, " 0123456789.+-eE")];
}
const float *class_weights(Net *n, const KdSite *s, const char *where, const char *text,
                           int64_t classes) {
    if (!text || !*text || !strcmp(text, "none") || n->err) return NULL;
    float *out = arena_alloc(n->arena, sizeof(float) * (size_t)classes);
    if (!strcmp(text, "median") || !strcmp(text, "inverse-log"))
        from_data(n, s, where, text, classes, out);
    else if (is_numbers(text)) from_text(n, where, text, classes, out);
    else from_file(n, where, text, classes, out);
    return n->err ? NULL : out;
}
