/* augment.c - random scale, crop, mirror, rotation and padding in one pass from the decoded image into
 * the batch; then colours, blur and cut-outs (augment_colour.c) where the image lies.
 *
 * The scaled image is never stored: output pixel (x, y) of the crop reads its two by two source
 * pixels, through tables made once per column (a mirrored table mirrors the crop) and once per row.
 *   source = (output + 0.5) * n_source / n_scaled - 0.5, clamped at the borders,
 * which is OpenCV's INTER_LINEAR with its 11-bit weights, rounded once at the end. Labels take the
 * pixel that holds the output's centre (INTER_NEAREST_EXACT; INTER_NEAREST would shift them by half
 * a pixel against the image). Where the scaled image is smaller than the crop it lies at the top
 * left before mirroring; the rest is 0 with label -1, and rect says which part is image. A rotation turns
 * the crop about its centre, by the same rules in 2^-16 pixels; what it turns in from outside of the image
 * repeats the border, with label -1.
 *
 * Draws of sample s are elements of its stream, numbered below. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "data/augment_priv.h"
#include "data/resample.h"

static const Resampler resamplers[CPU_LEVELS] = {
    [CPU_PLAIN] = {resample_row_plain, resample_blend_plain, resample_labels_plain},
    [CPU_AVX2] = {resample_row_avx2, resample_blend_avx2, resample_labels_avx2},
    [CPU_AVX512] = {resample_row_avx512, resample_blend_avx512, resample_labels_avx512},
};

/* One direction of the geometry: `count` outputs, the first one `first` in the scaled image. */
typedef struct {
    int n_src, n_scaled, first, count, at;
    bool flip;
} Axis;

/* Fills tap[a.count]. */
static void axis_taps(Axis a, Tap *tap) {
    double step = (double)a.n_src / a.n_scaled;
    for (int k = 0; k < a.count; k++) {
        int scaled = a.first + (a.flip ? a.count - 1 - k : k);
        double centre = (scaled + 0.5) * step, f = centre - 0.5;
        if (f < 0) f = 0;
        if (f > a.n_src - 1) f = a.n_src - 1;
        int lo = (int)f, nearest = (int)centre;
        tap[k].lo = lo;
        tap[k].hi = lo + 1 < a.n_src ? lo + 1 : lo;
        tap[k].weight = (int32_t)lrint((f - lo) * TAP_ONE);
        tap[k].nearest = nearest < a.n_src ? nearest : a.n_src - 1;
    }
}

static double draw_scale(const Rng *r, const DataOptions *o) {
    double lo = o->scale_min, hi = o->scale_max;
    if (lo <= 0 || hi <= 0) return 1.0;
    if (o->scale_step <= 0) return lo + (hi - lo) * (double)rng_uniform(r, DRAW_SCALE);
    uint32_t choices = hi > lo ? (uint32_t)((hi - lo) / o->scale_step + 1e-6) + 1 : 1;
    return lo + o->scale_step * rng_below(r, DRAW_SCALE, choices);
}

/* Place n_out outputs over a side of n_src pixels scaled by `scale`. */
static Axis axis_place(const Rng *r, uint64_t draw, int n_src, double scale, int n_out, bool flip) {
    int n_scaled = (int)lrint(n_src * scale);
    if (n_scaled < 1) n_scaled = 1;
    Axis a = {.n_src = n_src, .n_scaled = n_scaled, .flip = flip};
    if (n_scaled > n_out) a.first = (int)rng_below(r, draw, (uint32_t)(n_scaled - n_out + 1));
    a.count = n_scaled < n_out ? n_scaled : n_out;
    a.at = flip ? n_out - a.count : 0;
    return a;
}

/* Largest share of one class among the labelled pixels of a crop, by every fourth pixel of every
 * fourth row; 1 where none is labelled. */
static double largest_share(const Sample *in, Axis ax, Axis ay) {
    enum { EVERY = 4 };
    const double sx = (double)ax.n_src / ax.n_scaled, sy = (double)ay.n_src / ay.n_scaled;
    int count[256] = {0}, all = 0, most = 0;
    for (int y = 0; y < ay.count; y += EVERY) {
        const uint8_t *row = in->label + (size_t)((ay.first + y + 0.5) * sy) * (size_t)in->w;
        for (int x = 0; x < ax.count; x += EVERY) count[row[(int)((ax.first + x + 0.5) * sx)]]++;
    }
    for (int k = 0; k < IGNORE_U8; k++) {
        all += count[k];
        if (count[k] > most) most = count[k];
    }
    return all ? (double)most / all : 1;
}

/* A crop of which one class takes more than its share is drawn anew, CROPS_TRIED times at most. */
static void place(const Augment *a, const Rng *r, const Sample *in, double scale, bool flip,
                  Axis *ax, Axis *ay) {
    const double share = a->o->crop_share;
    for (uint64_t k = 0; k < CROPS_TRIED; k++) {
        *ay = axis_place(r, k ? DRAW_AGAIN + 2 * k : DRAW_Y, in->h, scale, a->h, false);
        *ax = axis_place(r, k ? DRAW_AGAIN + 2 * k + 1 : DRAW_X, in->w, scale, a->w, flip);
        const bool all = ax->n_scaled <= a->w && ay->n_scaled <= a->h;
        if (share <= 0 || share >= 1 || all || largest_share(in, *ax, *ay) <= share) return;
    }
}

static void pad_outside(int h, int w, const int32_t rect[4], uint8_t *image, int32_t *label) {
    int left = rect[0], right = w - rect[0] - rect[2];
    for (int y = 0; y < h; y++) {
        uint8_t *px = image + (size_t)y * (size_t)w * 3;
        int32_t *id = label + (size_t)y * (size_t)w;
        bool inside = y >= rect[1] && y < rect[1] + rect[3];
        int head = inside ? left : w, tail = inside ? right : 0;
        memset(px, 0, (size_t)head * 3);
        memset(px + (size_t)(w - tail) * 3, 0, (size_t)tail * 3);
        memset(id, 0xff, (size_t)head * sizeof *id); /* -1 */
        memset(id + (w - tail), 0xff, (size_t)tail * sizeof *id);
    }
}

/* Source rows interpolated along x; the two last used stay, since neighbouring outputs share them.
 */
typedef struct {
    int32_t *row[2];
    int y[2];
} RowCache;
static const int32_t *cached_row(RowCache *c, const Resampler *f, const Sample *in, int y,
                                 const Tap *tx, int n) {
    int slot = y & 1;
    if (c->y[slot] != y) {
        f->row(c->row[slot], in->rgb + (size_t)y * (size_t)in->w * 3, tx, n);
        c->y[slot] = y;
    }
    return c->row[slot];
}

/* Write the part inside the rectangle; image and label point to the whole slot, a->w wide. */
static void resample(Augment *a, const Sample *in, Axis ax, Axis ay, uint8_t *image,
                     int32_t *label) {
    const Resampler *f = &resamplers[cpu_level()];
    const size_t n_values = (size_t)ax.count * 3;
    Tap *tx = a->taps, *ty = a->taps + a->w;
    axis_taps(ax, tx);
    axis_taps(ay, ty);
    bool copies = ax.n_src == ax.n_scaled && ay.n_src == ay.n_scaled && !ax.flip;
    RowCache cache = {{a->rows, a->rows + n_values}, {-1, -1}};
    for (int k = 0; k < ay.count; k++) {
        size_t at = (size_t)k * (size_t)a->w + (size_t)ax.at;
        f->labels(label + at, in->label + (size_t)ty[k].nearest * (size_t)in->w, tx, ax.count);
        if (copies) {
            memcpy(image + at * 3,
                   in->rgb + ((size_t)ty[k].lo * (size_t)in->w + (size_t)ax.first) * 3, n_values);
            continue;
        }
        const int32_t *upper = cached_row(&cache, f, in, ty[k].lo, tx, ax.count);
        const int32_t *lower =
            ty[k].weight ? cached_row(&cache, f, in, ty[k].hi, tx, ax.count) : upper;
        f->blend(image + at * 3, upper, lower, ty[k].weight, (int)n_values);
    }
}

/* The same, turned by an angle (radians) about the centre of the rectangle. */
static void rotate(const Augment *a, const Sample *in, Axis ax, Axis ay, double angle,
                   uint8_t *image, int32_t *label) {
    const PixelLoops *f = pixel_loops();
    const double one = 1 << PLACE_BITS, c = cos(angle), s = sin(angle), side = ax.flip ? -1 : 1,
                 sx = (double)ax.n_src / ax.n_scaled, sy = (double)ay.n_src / ay.n_scaled,
                 cx = ax.first + (ax.count - 1) / 2.0, cy = ay.first + (ay.count - 1) / 2.0;
    PlaceRow row = {.dx = llrint(side * c * sx * one),
                    .dy = llrint(side * s * sy * one),
                    .h = in->h,
                    .w = in->w};
    for (int k = 0; k < ay.count; k++) {
        const double u = -side * (ax.count - 1) / 2.0, v = ay.first + k - cy;
        const size_t at = (size_t)k * (size_t)a->w + (size_t)ax.at;
        row.x = llrint(((cx + c * u - s * v + 0.5) * sx - 0.5) * one);
        row.y = llrint(((cy + s * u + c * v + 0.5) * sy - 0.5) * one);
        f->places(image + at * 3, label + at, in->rgb, in->label, &row, ax.count);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------- */
Augment *augment_open(const DataOptions *o, int h, int w) {
    Augment *a = xcalloc(1, sizeof *a);
    *a = (Augment){.o = o, .h = h, .w = w};
    a->taps = xcalloc((size_t)(h + w), sizeof *a->taps);
    a->rows = xcalloc((size_t)w * 6, sizeof *a->rows);
    a->copy = xcalloc((size_t)w + 2, 3);
    if (o->blur <= 0) return a;
    a->padded = xcalloc((size_t)(w + 2 * BLUR_REACH_MAX), 3 * sizeof *a->padded);
    a->across = xcalloc((size_t)w, 3 * sizeof *a->across);
    a->blurred = xcalloc((size_t)h * (size_t)w, 3 * sizeof *a->blurred);
    return a;
}

void augment_close(Augment *a) {
    if (!a) return;
    free(a->taps), free(a->rows), free(a->copy), free(a->padded), free(a->blurred), free(a->across);
    free(a);
}

Err augment_run(Augment *a, const Sample *in, uint64_t seed, uint64_t epoch, uint64_t sample,
                uint8_t *image, int32_t *label, int32_t rect[4]) {
    const DataOptions *o = a->o;
    const Rng r = rng_stream(seed, RNG_AUGMENT, epoch, sample);
    const double scale = draw_scale(&r, o),
                 angle = o->rotate * M_PI / 180 * (2 * (double)rng_uniform(&r, DRAW_ANGLE) - 1);
    const bool flip = (double)rng_uniform(&r, DRAW_MIRROR) < o->mirror;
    Axis ax, ay;
    if (in->h * scale > 65535 || in->w * scale > 65535)
        return err_set(E(EXIT_LIMIT, 77),
                       "image of %dx%d pixels scaled by %g is over 65535 a side; lower data.scale",
                       in->w, in->h, scale);
    place(a, &r, in, scale, flip, &ax, &ay);
    rect[0] = ax.at, rect[1] = ay.at, rect[2] = ax.count, rect[3] = ay.count;
    pad_outside(a->h, a->w, rect, image, label);
    if (angle != 0) rotate(a, in, ax, ay, angle, image, label);
    else resample(a, in, ax, ay, image, label);
    augment_colours(a, &r, rect, image, label);
    return OK;
}

Err augment_sample(const Sample *in, const DataOptions *o, uint64_t seed, uint64_t epoch,
                   uint64_t sample, int h, int w, uint8_t *image, int32_t *label, int32_t rect[4]) {
    Augment *a = augment_open(o, h, w);
    Err rc = augment_run(a, in, seed, epoch, sample, image, label, rect);
    augment_close(a);
    return rc;
}
