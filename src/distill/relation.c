/* relation.c - see relation.h. */
#include "distill/relation.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

enum { CHUNKS_MAX = 16 };                        /* of an image */
static const double LENGTH_MIN = 1e-12;

/* ---- panels --------------------------------------------------------------------------------------- */

void panels_open(Panels *p, int images, int C, int64_t P, char **at) {
    *p = (Panels){.images = images, .C = C, .P = P, .rows = (C + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS};
    p->per_image = (int)((P + PANEL - 1) / PANEL);
    p->x = (float *)*at;
    *at += (size_t)(images * p->per_image) * panel_floats(p) * sizeof(float);
    p->size = (double *)*at;
    *at += ((size_t)images * (size_t)P * sizeof(double) + 63) / 64 * 64;
}

typedef struct Fill {
    const Panels *p;
    const float *map, *mask, *d;
    float *dmap;
    double coef;
} Fill;
static void fill_item(void *arg, int64_t i) {
    const Fill *f = arg;
    const Panels *p = f->p;
    const int64_t image = i / p->per_image, first = i % p->per_image * PANEL;
    const int n = panel_count(p, (int)i);
    const float *map = f->map + image * p->C * p->P + first,
                *mask = f->mask ? f->mask + image * p->P + first : NULL;
    float *x = panel_at(p, (int)i);
    double sum[PANEL] = {0};
    memset(x, 0, panel_floats(p) * sizeof *x);
    for (int c = 0; c < p->C; c++)
        for (int j = 0; j < n; j++) sum[j] += (double)map[c * p->P + j] * (double)map[c * p->P + j];
    float scale[PANEL];
    for (int j = 0; j < n; j++) {
        const double size = isnan(sum[j]) ? NAN : fmax(sqrt(sum[j]), LENGTH_MIN);
        p->size[image * p->P + first + j] = size;
        scale[j] = mask && mask[j] == 0 ? 0 : (float)(1 / size);
    }
    for (int c = 0; c < p->C; c++)
        for (int j = 0; j < n; j++)
            x[c * PANEL + j] = scale[j] == 0 ? 0 : map[c * p->P + j] * scale[j];
}
void panels_fill(const Panels *p, const float *map, const float *mask) {
    parallel_for(p->images * p->per_image, fill_item, &(Fill){.p = p, .map = map, .mask = mask});
}
static void gradient_item(void *arg, int64_t i) {
    const Fill *f = arg;
    const Panels *p = f->p;
    const int64_t image = i / p->per_image, first = i % p->per_image * PANEL;
    const int n = panel_count(p, (int)i);
    const float *x = panel_at(p, (int)i), *d = f->d + (size_t)i * panel_floats(p),
                *mask = f->mask ? f->mask + image * p->P + first : NULL;
    double along[PANEL] = {0};
    for (int c = 0; c < p->C; c++)
        for (int j = 0; j < n; j++) along[j] += (double)x[c * PANEL + j] * (double)d[c * PANEL + j];
    for (int c = 0; c < p->C; c++)
        for (int j = 0; j < n; j++) {
            const double g = (double)d[c * PANEL + j] - (double)x[c * PANEL + j] * along[j];
            const bool in = !mask || mask[j] != 0;
            const double size = p->size[image * p->P + first + j];       /* a vector of zeros has no direction to turn */
            f->dmap[(image * p->C + c) * p->P + first + j] =
                in && size != LENGTH_MIN ? (float)(f->coef * g / size) : 0;
        }
}
void panels_gradient(const Panels *p, const float *d, const float *mask, double coef, float *dmap) {
    parallel_for(p->images * p->per_image, gradient_item,
                 &(Fill){.p = p, .mask = mask, .d = d, .dmap = dmap, .coef = coef});
}

/* ---- the sweep ------------------------------------------------------------------------------------- */

static int chunk_panels(const Panels *p) { return (p->per_image + CHUNKS_MAX - 1) / CHUNKS_MAX; }
static int chunks_per_image(const Panels *p) {
    return (p->per_image + chunk_panels(p) - 1) / chunk_panels(p);
}
int sweep_chunks(const Panels *p) { return p->images * chunks_per_image(p); }
int sweep_chunk_of(const Panels *p, int panel) {
    return panel / p->per_image * chunks_per_image(p) + panel % p->per_image / chunk_panels(p);
}
size_t sweep_part_floats(const Panels *p) { return (size_t)sweep_chunks(p) * panel_floats(p); }

typedef struct Row { const Sweep *w; int I, first; } Row;    /* first: chunk of I */
static void similarities(const Panels *p, int I, int J, float *out) {
    gemm()->panel(PANEL, p->rows, panel_at(p, I), 1, PANEL, panel_at(p, J), out, false);
}
static void chunk_item(void *arg, int64_t i) {
    const Row *r = arg;
    const Sweep *w = r->w;
    const Panels *p = w->s;
    const int chunk = r->first + (int)i, image = chunk / chunks_per_image(p),
              begin = image * p->per_image;
    int J = begin + chunk % chunks_per_image(p) * chunk_panels(p), end = J + chunk_panels(p);
    if (end > begin + p->per_image) end = begin + p->per_image;
    float s[PANEL * PANEL] __attribute__((aligned(64))),
        t[PANEL * PANEL] __attribute__((aligned(64)));
    float *part = w->part ? w->part + (size_t)chunk * panel_floats(p) : NULL;
    if (part) memset(part, 0, panel_floats(p) * sizeof *part);
    for (J = J < r->I ? r->I : J; J < end; J++) {
        similarities(p, r->I, J, s);
        similarities(w->t, r->I, J, t);
        w->tile(w->arg, r->I, J, chunk, s, t);
        if (!part) continue;
        if (J != r->I)
            gemm()->panel(p->rows, PANEL, panel_at(p, r->I), PANEL, 1, s,
                          w->dx + (size_t)J * panel_floats(p), true);
        gemm()->transpose(t, s);
        gemm()->panel(p->rows, PANEL, panel_at(p, J), PANEL, 1, t, part, true);
    }
}
static void add_parts(void *arg, int64_t c) {                /* PANEL_ROWS rows of the gradient of I */
    const Row *r = arg;
    const Sweep *w = r->w;
    const size_t size = panel_floats(w->s), from = (size_t)c * PANEL_ROWS * PANEL;
    float *dx = w->dx + (size_t)r->I * size + from;
    for (int chunk = r->first; chunk <= sweep_chunk_of(w->s, w->to - 1); chunk++)
        for (int k = 0; k < PANEL_ROWS * PANEL; k++)
            dx[k] += w->part[(size_t)chunk * size + from + (size_t)k];
}
void sweep_run(const Sweep *w) {
    for (int I = w->from; I < w->to; I++) {
        Row r = {w, I, sweep_chunk_of(w->s, I)};
        parallel_for(sweep_chunk_of(w->s, w->to - 1) - r.first + 1, chunk_item, &r);
        if (w->part) parallel_for(w->s->rows / PANEL_ROWS, add_parts, &r);
        if (w->row_done) w->row_done(w->arg, I);
    }
}
