/* predictor.c - whole images through a Net, window by window, with plans kept by size.
 *
 * Windows come in the order of their first row. Whenever the next one begins further down, the rows
 * above it are finished and the grids that ended there are dropped: what is held of an image is its
 * pixels, its classes and the grids of the windows that cross one row. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "base/progress.h"
#include "base/sys.h"
#include "eval/windows.h"

enum { SIZES_MAX = 8 };
typedef struct SizedPlan {
    int h, w;
    Plan *plan;
    uint64_t used;
} SizedPlan;
struct Predictor {
    Net *net;
    ModelNodes nodes;
    InferOptions options;
    SizedPlan sized[SIZES_MAX];
    const Plan *host;                /* whose arena all use */
    uint64_t clock;
    bool slid;                       /* some image was too big to be seen whole */
};

Err predictor_open(Net *n, const ModelNodes *nodes, const InferOptions *o, Predictor **out) {
    if (net_node(n, nodes->image)->dtype != DT_U8)
        return err_set(
            E(2, 76),
            "%s: built with norm=none, it takes no pictures; give norm=rgb-imagenet or bgr-caffe",
            n->name);
    Predictor *p = xcalloc(1, sizeof *p);
    p->net = n;
    p->nodes = *nodes;
    p->options = *o;
    *out = p;
    return OK;
}

void predictor_close(Predictor *p) {
    if (!p) return;
    for (int i = 0; i < SIZES_MAX; i++)
        if (p->sized[i].plan) plan_close(p->sized[i].plan);
    free(p);
}

void predictor_lend(Predictor *p, const Plan *host) { p->host = host; }

/* Memory of plans that never run at once: values lie in one arena, the largest; copies of parameters that are alike
 * are kept once, those of the first plan. These two plans stay. */
static void share_arena(Predictor *p, SizedPlan *new) {
    if (p->host && plan_share_arena(new->plan, p->host)) return;
    for (int i = 0; i < SIZES_MAX; i++)
        if (p->sized[i].plan && &p->sized[i] != new) plan_share_arena(p->sized[i].plan, new->plan);
    p->host = new->plan;
}

/* The one used longest ago makes room. */
static SizedPlan *free_slot(Predictor *p) {
    SizedPlan *old = NULL;
    for (int i = 0; i < SIZES_MAX; i++) {
        SizedPlan *s = &p->sized[i];
        if (!s->plan) return s;
        if (s->plan != p->host && i && (!old || s->used < old->used)) old = s;
    }
    plan_close(old->plan);
    *old = (SizedPlan){0};
    return old;
}

/* The plan for h x w. */
static Err plan_for(Predictor *p, int h, int w, Plan **out) {
    for (int i = 0; i < SIZES_MAX; i++) {
        SizedPlan *s = &p->sized[i];
        if (s->plan && s->h == h && s->w == w) return s->used = ++p->clock, *out = s->plan, OK;
    }
    SizedPlan *s = free_slot(p);
    Node inputs[] = {p->nodes.image, p->nodes.rects};
    Shape shapes[] = {SHAPE(1, h, w, 3), SHAPE(1, 4)};
    PlanSpec spec = {.outputs = &p->nodes.logits,
                     .n_outputs = 1,
                     .inputs = inputs,
                     .input_shapes = shapes,
                     .n_inputs = 2,
                     .host = p->host};
    TRY(plan_make(p->net, &spec, &s->plan));
    s->h = h, s->w = w, s->used = ++p->clock;
    share_arena(p, s);
    if (s != p->sized) plan_share_copies(s->plan, p->sized->plan);
    *out = s->plan;
    return OK;
}

void predictor_classes(const float *logits, Shape s, int h, int w, uint8_t *pred, float *probs) {
    CHECK(s.rank == 4 && s.d[0] == 1 && s.d[1] <= 256);
    const View all = {.at = {.h = h, .w = w, .H = h, .W = w, .bottom = h, .right = w},
                      .logits = logits, .gh = (int)s.d[2], .gw = (int)s.d[3]};
    views_rows((Rows){.v = &all, .n = 1, .k = (int)s.d[1], .h = h, .w = w, .to = h,
                      .pred = pred, .probs = probs});
}

char *predictor_text(const Predictor *p) { return infer_text(&p->options, p->slid); }

/* ---- one image ------------------------------------------------------------------------------- */
typedef struct Pass {
    const uint8_t *rgb;
    int h, w, classes;
    uint8_t *pixels;                 /* of one window; NULL: the image itself is the only one */
    View *live;
    int n_live;
} Pass;

static Err look(Predictor *p, Pass *s, const Window *at, bool alone) {
    Plan *plan;
    const bool whole =
        at->h == s->h && at->w == s->w && at->H == s->h && at->W == s->w && !at->mirrored;
    TRY(plan_for(p, at->h, at->w, &plan));
    if (!whole) {
        s->pixels = xrealloc(s->pixels, (size_t)at->h * (size_t)at->w * 3);
        window_pixels(s->pixels, at, s->rgb, s->h, s->w);
    }
    const int32_t rect[4] = {0, 0, at->w, at->h};
    plan_bind(plan, p->nodes.image, whole ? s->rgb : s->pixels);
    plan_bind(plan, p->nodes.rects, rect);
    plan_run(plan, &(OpRun){.training = false}, false);
    if (sys_late()) return sys_poll();
    TRY(plan_check_finite(plan, p->nodes.logits));
    const Shape shape = plan_shape(plan, p->nodes.logits);
    const size_t bytes = (size_t)shape_count(shape) * sizeof(float);
    View v = {.at = *at,
              .logits = plan_value(plan, p->nodes.logits),
              .gh = (int)shape.d[2],
              .gw = (int)shape.d[3]};
    s->classes = (int)shape.d[1];
    if (!alone) v.own = xcalloc(1, bytes), v.logits = memcpy(v.own, v.logits, bytes);
    s->live[s->n_live++] = v;
    return OK;
}

/* Views that end above row `done` are of no more use. */
static void drop_views(Pass *s, int done) {
    int n = 0;
    for (int i = 0; i < s->n_live; i++) {
        if (s->live[i].at.bottom > done) s->live[n++] = s->live[i];
        else free(s->live[i].own);
    }
    s->n_live = n;
}

/* The picture the windows look into: the image, or what it is resized to (caller frees *own). */
static void set_picture(const Resize *to, const uint8_t *rgb, int h, int w, Pass *s,
                        uint8_t **own) {
    s->rgb = rgb, s->h = h, s->w = w;
    if (!to->h || (to->h == h && to->w == w)) return;
    *own = xcalloc((size_t)to->h * (size_t)to->w, 3);
    resize_rgb(*to, rgb, h, w, *own);
    s->rgb = *own, s->h = to->h, s->w = to->w;
}

/* The largest plan comes first: the others then fit into its arena. */
static Err make_largest(Predictor *p, const Window *v, int n) {
    int most = 0;
    Plan *unused;
    for (int i = 1; i < n; i++)
        if ((int64_t)v[i].h * v[i].w > (int64_t)v[most].h * v[most].w) most = i;
    return plan_for(p, v[most].h, v[most].w, &unused);
}

/* Probabilities in blocks of rows, so that a block is small but rows of one class lie together in a file. */
static Err put_rows(Rows r, const ProbSink *sink) {
    enum { BLOCK_BYTES = 1 << 23 };
    const int64_t row = (int64_t)r.k * r.w * (int64_t)sizeof(float), fit = BLOCK_BYTES / row;
    const int end = r.to, most = fit > parallel_threads() ? (int)fit : parallel_threads();
    Err rc = OK;
    r.probs = xcalloc((size_t)(most < end - r.from ? most : end - r.from), (size_t)row);
    for (; r.from < end && !rc; r.from = r.to) {
        r.to = end - r.from < most ? end : r.from + most;
        views_rows(r);
        rc = sink->put(sink->self, r.from, r.to - r.from, r.probs);
    }
    free(r.probs);
    return rc;
}

Err predictor_fill(Predictor *p, const uint8_t *rgb, int h, int w, const Prediction *out) {
    int n, done = 0;
    Window *v = windows_of(&p->options, h, w, &n);
    uint8_t *resized = NULL;
    Pass s = {.live = xcalloc((size_t)n, sizeof *s.live)};
    set_picture(&p->options.resize, rgb, h, w, &s, &resized);
    Err rc = make_largest(p, v, n);
    const bool slide = n > 1 && windows_slide(&p->options, h, w);
    Progress progress = progress_start("windows", n, "one image");       /* the caller's ends the line */
    p->slid |= slide;
    for (int i = 0; i < n && !rc; i++) {
        const int next = i + 1 < n ? v[i + 1].top : h;
        if ((rc = sys_poll()) || (rc = look(p, &s, &v[i], n == 1))) break;
        if (slide) progress_to(&progress, i + 1);
        if (next == done) continue;
        const Rows rows = {.v = s.live, .n = s.n_live, .k = s.classes, .h = h, .w = w,
                           .from = done, .to = next, .average = p->options.average,
                           .pred = out->pred, .confidence = out->confidence};
        if (out->probs.put) rc = put_rows(rows, &out->probs);
        else views_rows(rows);
        drop_views(&s, done = next);
    }
    drop_views(&s, h);
    free(s.live), free(s.pixels), free(v), free(resized);
    return rc;
}

Err predictor_run(Predictor *p, const uint8_t *rgb, int h, int w, uint8_t *pred) {
    return predictor_fill(p, rgb, h, w, &(Prediction){.pred = pred});
}
