/* views.c - rows of an image out of the grids that cover it. See windows.h.
 *
 * A row takes K x W floats and a second lot where several views meet. Ties go to the lower class. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "eval/windows.h"

/* Place of an image's pixel on one side of a view's grid. */
typedef struct Place { int lo, hi; float weight; } Place;

/* Of Rows: column[n]: where each view has the image's columns. probabilities: views are turned into them before
 * they are summed. parts: what the rows are cut into, with scratch each. */
typedef struct Scratch {
    float *one, *sum, *total, *best, *blend;     /* K x W, K x W, W, W, the widest grid's width; sum, total: of several views */
} Scratch;

/* at: pixel of the image (n of them, `scaled` in the scaled image); window: its start and length
 * there; grid: cells. */
static Place place_of(int at, int n, int scaled, int start, int length, int grid) {
    float f;
    if (n == scaled) f = (float)(at - start);
    else f = (float)((at + 0.5) * scaled / n - 0.5 - start);
    f = fminf(fmaxf(f, 0), (float)(length - 1));
    f *= length > 1 ? (float)(grid - 1) / (float)(length - 1) : 0;
    int lo = (int)f;
    if (lo > grid - 1) lo = grid - 1;
    return (Place){lo, lo + 1 < grid ? lo + 1 : lo, f - (float)lo};
}

/* How much a view counts at pixel `at` of a side of n: less towards edges that are not the image's. */
static float edge_weight(int at, int from, int to, int ramp, int n) {
    float weight = 1;
    if (ramp > 0 && from > 0) weight = fminf(weight, ((float)(at - from) + 0.5f) / (float)ramp);
    if (ramp > 0 && to < n) weight = fminf(weight, ((float)(to - at) - 0.5f) / (float)ramp);
    return weight;
}

/* dst[k * w + x] for the columns of view v: its logits at row y; overwritten. */
static void logits_row(const Rows *r, const View *v, int y, const Place *column, float *blend,
                       float *dst) {
    const Window *at = &v->at;
    const Place row = place_of(y, r->h, at->H, at->y, at->h, v->gh);
    for (int k = 0; k < r->k; k++) {
        const float *a = v->logits + ((int64_t)k * v->gh + row.lo) * v->gw;
        const float *b = v->logits + ((int64_t)k * v->gh + row.hi) * v->gw;
        float *out = dst + (int64_t)k * r->w;
        for (int x = 0; x < v->gw; x++) blend[x] = a[x] + row.weight * (b[x] - a[x]);
        for (int x = at->left; x < at->right; x++) {
            const Place c = column[x];
            out[x] = blend[c.lo] + c.weight * (blend[c.hi] - blend[c.lo]);
        }
    }
}

/* v[k * w + x], columns [from, to): to probabilities, in place. */
static void softmax(float *v, int k, int w, int from, int to) {
    for (int x = from; x < to; x++) {
        float top = v[x], sum = 0;
        for (int i = 1; i < k; i++) top = fmaxf(top, v[(int64_t)i * w + x]);
        for (int i = 0; i < k; i++)
            sum += v[(int64_t)i * w + x] = expf(v[(int64_t)i * w + x] - top);
        for (int i = 0; i < k; i++) v[(int64_t)i * w + x] /= sum;
    }
}

static Place *columns_of(const Rows *r, const View *v) {
    Place *p = xcalloc((size_t)r->w, sizeof *p);
    for (int x = v->at.left; x < v->at.right; x++) {
        p[x] = place_of(x, r->w, v->at.W, v->at.x, v->at.w, v->gw);
        if (!v->at.mirrored) continue;
        const Place q = p[x];        /* the cell as far from the other end */
        p[x] = (Place){v->gw - 1 - q.lo, v->gw - 1 - q.hi, q.weight};
    }
    return p;
}

/* sum[k * w + x] and total[x] += the view's values and weights of row y. */
static void add_view(const Rows *r, int j, int y, const Scratch *s) {
    const View *v = &r->v[j];
    const Window *at = &v->at;
    const float wy = edge_weight(y, at->top, at->bottom, at->ramp_y, r->h);
    logits_row(r, v, y, r->column[j], s->blend, s->one);
    if (r->probabilities) softmax(s->one, r->k, r->w, at->left, at->right);
    for (int x = at->left; x < at->right; x++) {
        const float weight = wy * edge_weight(x, at->left, at->right, at->ramp_x, r->w);
        s->total[x] += weight;
        for (int k = 0; k < r->k; k++)
            s->sum[(int64_t)k * r->w + x] += weight * s->one[(int64_t)k * r->w + x];
    }
}

/* v: K x W of row y, probabilities or logits. */
static void finish_row(const Rows *r, float *v, float *best, int y) {
    const int64_t at = (int64_t)y * r->w, above = (int64_t)(y - r->from) * r->w,
                  plane = (int64_t)(r->to - r->from) * r->w;
    uint8_t *pred = r->pred + at;
    for (int k = 0; k < r->k; k++)
        for (int x = 0; x < r->w; x++) {
            const float value = v[(int64_t)k * r->w + x];
            if (k == 0 || value > best[x]) best[x] = value, pred[x] = (uint8_t)k;
        }
    if (!r->probs && !r->confidence) return;
    if (!r->probabilities) softmax(v, r->k, r->w, 0, r->w);
    for (int x = 0; x < r->w && r->confidence; x++)
        r->confidence[at + x] = v[(int64_t)pred[x] * r->w + x];
    for (int k = 0; k < r->k && r->probs; k++)
        memcpy(r->probs + k * plane + above, v + (int64_t)k * r->w, (size_t)r->w * sizeof *v);
}

static void one_row(const Rows *r, const Scratch *s, int y) {
    if (r->n == 1) {
        logits_row(r, r->v, y, r->column[0], s->blend, s->one);
        finish_row(r, s->one, s->best, y);
        return;
    }
    memset(s->sum, 0, (size_t)r->k * (size_t)r->w * sizeof *s->sum);
    memset(s->total, 0, (size_t)r->w * sizeof *s->total);
    for (int j = 0; j < r->n; j++)
        if (y >= r->v[j].at.top && y < r->v[j].at.bottom) add_view(r, j, y, s);
    for (int k = 0; k < r->k; k++)
        for (int x = 0; x < r->w; x++) s->sum[(int64_t)k * r->w + x] /= s->total[x];
    finish_row(r, s->sum, s->best, y);
}

static void some_rows(void *arg, int64_t i) {
    const Rows *r = arg;
    const size_t w = (size_t)r->w, values = (size_t)r->k * w, several = r->n > 1;
    int grid = 0;
    for (int j = 0; j < r->n; j++)
        if (r->v[j].gw > grid) grid = r->v[j].gw;
    float *all = xcalloc(values + w + (size_t)grid + several * (values + w), sizeof *all);
    Scratch s = {.one = all, .best = all + values, .blend = all + values + w};
    s.sum = s.blend + grid, s.total = s.sum + several * values;
    const int64_t rows = r->to - r->from;
    for (int64_t y = rows * i / r->parts; y < rows * (i + 1) / r->parts; y++)
        one_row(r, &s, r->from + (int)y);
    free(all);
}

void views_rows(Rows r) {
    r.probabilities = r.n > 1 && r.average == AVERAGE_PROBABILITIES;
    r.column = xcalloc((size_t)r.n, sizeof *r.column);       /* the same for all rows */
    for (int j = 0; j < r.n; j++) r.column[j] = columns_of(&r, &r.v[j]);
    r.parts = parallel_threads();
    parallel_for(r.parts, some_rows, &r);
    for (int j = 0; j < r.n; j++) free(r.column[j]);
    free(r.column);
}
