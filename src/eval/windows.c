/* windows.c - see windows.h.
 *
 * Scaled images are never stored: a window's pixel reads two by two of the image's,
 *   source = (pixel + 0.5) * n / n_scaled - 0.5, clamped at the borders,
 * OpenCV's INTER_LINEAR, as in training. The way back is one interpolation: the image's pixel is placed
 * in the scaled image by the inverse of that, and from there on the grid, whose corners lie on the
 * window's corner pixels (align_corners). With one window at scale 1 this is the plain enlargement of
 * logits with aligned corners. */
#include "eval/windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- where to look --------------------------------------------------------------------------- */
static int at_most(int v, int limit) { return v < limit ? v : limit; }

/* The image's first pixel whose centre lies at or behind edge y of the scaled image. */
static int covered_from(int y, int n, int scaled) {
    return (int)ceil((double)y * n / scaled - 0.5);
}

/* Starts of the windows along one side; the last one ends with the side. Returns their number. */
static int starts(int side, int window, int stride, int *out) {
    int n = 0;
    for (int at = 0;; at += stride) {
        const int start = at_most(at, side - window);
        if (out) out[n] = start;
        n++;
        if (start + window >= side) return n;
    }
}

typedef struct List { Window *v; int n, cap; } List;

static bool in_parts(const InferOptions *o, int H, int W) {
    return o->mode == INFER_SLIDE || (o->mode == INFER_AUTO && (int64_t)H * W > WHOLE_MAX_PX);
}

static void add_scale(List *l, const InferOptions *o, double scale, int h, int w) {
    const Resize to = o->resize;
    const double sy = to.h ? scale * to.h / h : scale, sx = to.h ? scale * to.w / w : scale;
    const int H = (int)fmax(1, lround(h * sy)), W = (int)fmax(1, lround(w * sx));
    const bool slide = in_parts(o, H, W);
    const int wh = slide ? at_most(o->window_h ? o->window_h : WINDOW_PX, H) : H;
    const int ww = slide ? at_most(o->window_w ? o->window_w : WINDOW_PX, W) : W;
    const int sh = at_most(o->stride_h ? o->stride_h : (2 * wh + 2) / 3, wh);
    const int sw = at_most(o->stride_w ? o->stride_w : (2 * ww + 2) / 3, ww);
    const int rows = starts(H, wh, sh, NULL), columns = starts(W, ww, sw, NULL);
    int *y = xcalloc((size_t)rows, sizeof *y), *x = xcalloc((size_t)columns, sizeof *x);
    starts(H, wh, sh, y), starts(W, ww, sw, x);
    for (int i = 0; i < rows * columns * (1 + o->mirror); i++) {
        const int r = i / (1 + o->mirror) / columns, c = i / (1 + o->mirror) % columns;
        GROW(l->v, l->n, l->cap);
        l->v[l->n++] = (Window){
            .y = y[r], .x = x[c], .h = wh, .w = ww, .H = H, .W = W,
            .mirrored = o->mirror && i % 2,
            .top = covered_from(y[r], h, H), .bottom = covered_from(y[r] + wh, h, H),
            .left = covered_from(x[c], w, W), .right = covered_from(x[c] + ww, w, W),
            .ramp_y = o->blend == BLEND_RAMP ? (int)lround((wh - sh) / sy) : 0,
            .ramp_x = o->blend == BLEND_RAMP ? (int)lround((ww - sw) / sx) : 0};
    }
    free(y), free(x);
}

static int by_top(const void *a, const void *b) {
    const Window *x = a, *y = b;
    if (x->top != y->top) return x->top - y->top;
    if (x->H != y->H) return x->H - y->H;
    return x->left != y->left ? x->left - y->left : x->mirrored - y->mirrored;
}

bool windows_slide(const InferOptions *o, int h, int w) {
    double most = o->n_scales ? 0 : 1;
    if (o->resize.h) h = o->resize.h, w = o->resize.w;
    for (int i = 0; i < o->n_scales; i++) most = fmax(most, o->scale[i]);
    return in_parts(o, (int)lround(h * most), (int)lround(w * most));
}

Window *windows_of(const InferOptions *o, int h, int w, int *n) {
    List l = {0};
    for (int i = 0; i < o->n_scales; i++) add_scale(&l, o, o->scale[i], h, w);
    if (!o->n_scales) add_scale(&l, o, 1, h, w);
    qsort(l.v, (size_t)l.n, sizeof *l.v, by_top);
    *n = l.n;
    return l.v;
}

/* ---- what the network gets ------------------------------------------------------------------- */
typedef struct Tap { int lo, hi; float weight; } Tap;    /* lo * (1 - weight) + hi * weight */

static Tap tap_of(int at, int n, int scaled) {
    double f = (at + 0.5) * n / scaled - 0.5;
    f = fmin(fmax(f, 0), n - 1);
    const int lo = (int)f;
    return (Tap){lo, at_most(lo + 1, n - 1), (float)(f - lo)};
}

static void scaled_row(uint8_t *dst, const Window *v, const Tap *column, const uint8_t *a,
                       const uint8_t *b, float weight) {
    for (int x = 0; x < v->w; x++) {
        const Tap t = column[v->mirrored ? v->w - 1 - x : x];
        for (int c = 0; c < 3; c++) {
            const float p = (float)a[3 * t.lo + c], q = (float)b[3 * t.lo + c];
            const float top = p + t.weight * ((float)a[3 * t.hi + c] - p);
            const float low = q + t.weight * ((float)b[3 * t.hi + c] - q);
            dst[3 * x + c] = (uint8_t)(top + weight * (low - top) + 0.5f);
        }
    }
}

void window_pixels(uint8_t *dst, const Window *v, const uint8_t *rgb, int h, int w) {
    const size_t row = (size_t)w * 3;
    Tap *column = xcalloc((size_t)v->w, sizeof *column);
    for (int x = 0; x < v->w; x++) column[x] = tap_of(v->x + x, w, v->W);
    for (int y = 0; y < v->h; y++) {
        const Tap t = tap_of(v->y + y, h, v->H);
        const uint8_t *a = rgb + (size_t)t.lo * row, *b = rgb + (size_t)t.hi * row;
        uint8_t *out = dst + (size_t)y * (size_t)v->w * 3;
        if (v->W == w && v->H == h && !v->mirrored)
            memcpy(out, a + (size_t)v->x * 3, (size_t)v->w * 3);
        else scaled_row(out, v, column, a, b, t.weight);
    }
    free(column);
}

/* ---- text ------------------------------------------------------------------------------------ */
char *infer_text(const InferOptions *o, bool slid) {
    Str s = {0};
    const int h = o->window_h ? o->window_h : WINDOW_PX, w = o->window_w ? o->window_w : WINDOW_PX;
    if (o->mode != INFER_SLIDE) str_add(&s, "whole");
    if (slid && o->mode == INFER_AUTO)
        str_addf(&s, ", images of more than %d pixels in ", WHOLE_MAX_PX);
    if (slid) str_add(&s, "windows");
    if (slid)
        str_addf(&s, " of %dx%d every %dx%d, %s where they overlap", h, w,
                 o->stride_h ? o->stride_h : (2 * h + 2) / 3,
                 o->stride_w ? o->stride_w : (2 * w + 2) / 3,
                 o->blend == BLEND_RAMP ? "blended" : "averaged");
    if (o->resize.h) str_addf(&s, "; resized to %dx%d", o->resize.h, o->resize.w);
    for (int i = 0; i < o->n_scales; i++) str_addf(&s, i ? ", %g" : "; scales %g", o->scale[i]);
    if (o->mirror) str_add(&s, "; mirrored too");
    if (o->mirror || o->n_scales > 1 || slid)
        str_addf(&s, "; %s averaged", o->average == AVERAGE_LOGITS ? "logits" : "probabilities");
    return s.s;
}
