/* predictor.c - whole images through a Net, one at a time, with plans kept by size.
 *
 * The logits (K x h x w) are upsampled to the image and the best class taken in one pass, row by
 * row: two low-resolution rows are blended into K x w floats, then every class is read along the
 * row. No K x H x W tensor exists unless probabilities are asked for. Ties go to the lower class.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "eval/eval.h"

enum { SIZES_MAX = 4 };
typedef struct SizedPlan {
    int h, w;
    Plan *plan;
    uint64_t used;
} SizedPlan;
struct Predictor {
    Net *net;
    ModelNodes nodes;
    SizedPlan sized[SIZES_MAX];
    uint64_t clock;
};

Err predictor_open(Net *n, const ModelNodes *nodes, Predictor **out) {
    if (net_node(n, nodes->image)->dtype != DT_U8)
        return err_set(
            E(2, 76),
            "%s: built with norm=none, it takes no pictures; give norm=rgb-imagenet or bgr-caffe",
            n->name);
    Predictor *p = xcalloc(1, sizeof *p);
    p->net = n;
    p->nodes = *nodes;
    *out = p;
    return OK;
}

void predictor_close(Predictor *p) {
    if (!p) return;
    for (int i = 0; i < SIZES_MAX; i++)
        if (p->sized[i].plan) plan_close(p->sized[i].plan);
    free(p);
}

/* The plan for h x w; the one used longest ago makes room. */
static Err plan_for(Predictor *p, int h, int w, Plan **out) {
    SizedPlan *old = &p->sized[0];
    for (int i = 0; i < SIZES_MAX; i++) {
        SizedPlan *s = &p->sized[i];
        if (s->plan && s->h == h && s->w == w) return s->used = ++p->clock, *out = s->plan, OK;
        if (s->used < old->used) old = s;
    }
    if (old->plan) plan_close(old->plan);
    *old = (SizedPlan){0};
    Node inputs[] = {p->nodes.image, p->nodes.rects};
    Shape shapes[] = {SHAPE(1, h, w, 3), SHAPE(1, 4)};
    PlanSpec spec = {.outputs = &p->nodes.logits,
                     .n_outputs = 1,
                     .inputs = inputs,
                     .input_shapes = shapes,
                     .n_inputs = 2};
    TRY(plan_make(p->net, &spec, &old->plan));
    old->h = h, old->w = w, old->used = ++p->clock;
    *out = old->plan;
    return OK;
}

/* One output row per call. */
typedef struct Upsample {
    const float *logits; /* K x h x w */
    int k, h, w, out_h, out_w;
    uint8_t *pred; /* H x W */
    float *probs;  /* K x H x W or NULL */
    const int *x0; /* [W] left neighbour; the right one is x0 + (w > 1) at weight wx */
    const float *wx;
} Upsample;

static void softmax_row(const Upsample *u, float *row, int64_t plane) {
    for (int x = 0; x < u->out_w; x++) {
        float top = row[x], sum = 0;
        for (int k = 1; k < u->k; k++) top = fmaxf(top, row[k * plane + x]);
        for (int k = 0; k < u->k; k++) sum += row[k * plane + x] = expf(row[k * plane + x] - top);
        for (int k = 0; k < u->k; k++) row[k * plane + x] /= sum;
    }
}

static void upsample_row(void *arg, int64_t y) {
    const Upsample *u = arg;
    const float fy = u->out_h > 1 ? (float)y * ((float)(u->h - 1) / (float)(u->out_h - 1)) : 0;
    int y0 = (int)fy;
    if (y0 > u->h - 1) y0 = u->h - 1;
    const int y1 = y0 + 1 < u->h ? y0 + 1 : y0;
    const float wy = fy - (float)y0;
    const int64_t plane = (int64_t)u->out_h * u->out_w;
    float *blend = xcalloc((size_t)u->w + 1, sizeof *blend),
          *best = xcalloc((size_t)u->out_w, sizeof *best);
    uint8_t *pred = u->pred + y * u->out_w;
    for (int k = 0; k < u->k; k++) {
        const float *a = u->logits + ((int64_t)k * u->h + y0) * u->w,
                    *b = u->logits + ((int64_t)k * u->h + y1) * u->w;
        for (int x = 0; x < u->w; x++) blend[x] = a[x] + wy * (b[x] - a[x]);
        blend[u->w] = blend[u->w - 1]; /* the neighbour right of the last column, at weight 0 */
        float *probs = u->probs ? u->probs + k * plane + y * u->out_w : NULL;
        for (int x = 0; x < u->out_w; x++) {
            const float *c = blend + u->x0[x], v = c[0] + u->wx[x] * (c[1] - c[0]);
            if (k == 0 || v > best[x]) best[x] = v, pred[x] = (uint8_t)k;
            if (probs) probs[x] = v;
        }
    }
    if (u->probs) softmax_row(u, u->probs + y * u->out_w, plane);
    free(blend), free(best);
}

static void upsample(Upsample *u) {
    int *x0 = xcalloc((size_t)u->out_w, sizeof *x0);
    float *wx = xcalloc((size_t)u->out_w, sizeof *wx);
    const float step = u->out_w > 1 ? (float)(u->w - 1) / (float)(u->out_w - 1) : 0;
    for (int x = 0; x < u->out_w; x++) {
        float fx = (float)x * step;
        x0[x] = (int)fx < u->w - 1 ? (int)fx : u->w - 1;
        wx[x] = fx - (float)x0[x];
    }
    u->x0 = x0, u->wx = wx;
    parallel_for(u->out_h, upsample_row, u);
    free(x0), free(wx);
}

void predictor_classes(const float *logits, Shape s, int h, int w, uint8_t *pred, float *probs) {
    CHECK(s.rank == 4 && s.d[0] == 1 && s.d[1] <= 256);
    Upsample u = {.logits = logits,
                  .k = (int)s.d[1],
                  .h = (int)s.d[2],
                  .w = (int)s.d[3],
                  .out_h = h,
                  .out_w = w,
                  .pred = pred,
                  .probs = probs};
    upsample(&u);
}

Err predictor_run(Predictor *p, const uint8_t *rgb, int h, int w, uint8_t *pred, float *probs) {
    Plan *plan;
    TRY(plan_for(p, h, w, &plan));
    const int32_t rect[4] = {0, 0, w, h};
    plan_bind(plan, p->nodes.image, rgb);
    plan_bind(plan, p->nodes.rects, rect);
    OpRun run = {.training = false};
    plan_run(plan, &run, false);
    predictor_classes(plan_value(plan, p->nodes.logits), plan_shape(plan, p->nodes.logits), h, w,
                      pred, probs);
    return OK;
}
