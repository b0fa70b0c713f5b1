/* export_check.c - see export.h: what the written file gives beside what the network gives, and the
 * ranges that 8 bits need. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/sys.h"
#include "cli/export.h"
#include "train/trainer.h"

static const double EQUAL_MIN = 0.999;   /* of the pixels' classes, in a float32 file */

/* ---- the network itself --------------------------------------------------------------------------- */

/* N x 3 x H x W: the normalised image, or the input where that is given normalised. */
static Node planes_of(const OpenModel *m) {
    for (int id = 1; id < m->net->n_nodes; id++)
        if (m->net->nodes[id].op == &op_normalize) return (Node){id};
    return m->nodes.image;
}
void reference_open(const OpenModel *m, ExportOutput output, Reference *out) {
    *out = (Reference){.m = m, .out = m->nodes.logits};
    if (output == EXPORT_LOGITS) return;
    const char *name = "logits_full";
    out->out = net_find(m->net, name);
    if (!out->out.id)
        out->out = net_add(m->net, &op_resize, name, &(ResizeAttr){.align_corners = true},
                           sizeof(ResizeAttr), (Node[]){m->nodes.logits, planes_of(m)}, 2, NULL, 0);
}
static Err plan_for(Reference *r, int h, int w, const Node *outputs, int n) {
    const ModelNodes *at = &r->m->nodes;
    if (r->plan && r->h == h && r->w == w) return OK;
    if (r->plan) plan_close(r->plan);
    r->plan = NULL;
    const Node inputs[] = {at->image, at->rects};
    const Shape shapes[] = {at->rects.id ? SHAPE(1, h, w, 3) : SHAPE(1, 3, h, w), SHAPE(1, 4)};
    TRY(plan_make(r->m->net,
                  &(PlanSpec){.outputs = outputs,
                              .n_outputs = n,
                              .inputs = inputs,
                              .input_shapes = shapes,
                              .n_inputs = at->rects.id ? 2 : 1},
                  &r->plan));
    r->h = h, r->w = w;
    return OK;
}
static void run_on(Reference *r, const uint8_t *rgb) {
    const int32_t rect[4] = {0, 0, r->w, r->h};
    const int64_t pixels = (int64_t)r->h * r->w;
    if (r->m->nodes.rects.id)
        plan_bind(r->plan, r->m->nodes.image, rgb), plan_bind(r->plan, r->m->nodes.rects, rect);
    else {
        r->image = xrealloc(r->image, (size_t)pixels * 3 * sizeof *r->image);
        for (int64_t c = 0; c < 3; c++)
            for (int64_t i = 0; i < pixels; i++) r->image[c * pixels + i] = rgb[3 * i + c];
        plan_bind(r->plan, r->m->nodes.image, r->image);
    }
    plan_run(r->plan, &(OpRun){0}, false);
}
Err reference_run(Reference *r, const uint8_t *rgb, int h, int w, const float **out, Shape *shape) {
    TRY(plan_for(r, h, w, &r->out, 1));
    run_on(r, rgb);
    *out = plan_value(r->plan, r->out), *shape = plan_shape(r->plan, r->out);
    return OK;
}
void reference_close(Reference *r) {
    if (r->plan) plan_close(r->plan);
    free(r->image);
    *r = (Reference){0};
}

/* ---- samples ---------------------------------------------------------------------------------------- */

Err export_samples(const Config *c, const char *split, Dataset **out) {
    DataOptions o = c->data;
    if (!o.kind)
        o.kind = "scenes", log_info("no data set is named: the samples are drawn pictures");
    return dataset_open(&o, split, out);
}
Err export_sample(Dataset *d, int i, const ExportOptions *o, Sample *out) {
    int32_t rect[4];
    TRY(dataset_read(d, i, out));
    if (!o->h || (out->h == o->h && out->w == o->w)) return OK;
    const int64_t pixels = (int64_t)o->h * o->w;
    Sample cut = {.h = o->h,
                  .w = o->w,
                  .rgb = xcalloc((size_t)pixels, 3),
                  .label = xcalloc((size_t)pixels, 1)};
    int32_t *label = xcalloc((size_t)pixels, sizeof *label);
    Err rc =
        augment_sample(out, &(DataOptions){0}, 1, 0, (uint64_t)i, o->h, o->w, cut.rgb, label, rect);
    for (int64_t k = 0; k < pixels; k++)
        cut.label[k] = label[k] < 0 ? IGNORE_U8 : (uint8_t)label[k];
    free(label);
    sample_free(out);
    return *out = cut, rc;
}

/* ---- ranges --------------------------------------------------------------------------------------------- */

static void widen(ExportRange *r, const float *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (v[i] < r->lo) r->lo = v[i];
        if (v[i] > r->hi) r->hi = v[i];
    }
}
Err export_calibrate(const OpenModel *m, const ExportOptions *o, Dataset *d, int n,
                     ExportRange **out) {
    const Net *net = m->net;
    bool *mark = xcalloc((size_t)net->n_nodes, sizeof *mark);
    Node *nodes = xcalloc((size_t)net->n_nodes, sizeof *nodes);
    ExportRange *range = xcalloc((size_t)net->n_nodes, sizeof *range);
    Reference r = {.m = m};
    Err rc = OK;
    int n_nodes = 0;
    export_quantised(net, &m->nodes, mark);
    for (int id = 1; id < net->n_nodes; id++)
        if (mark[id]) nodes[n_nodes++] = (Node){id};
    Progress progress = progress_start("images", n < d->n ? n : d->n, "taking ranges");
    for (int i = 0; i < n && i < d->n && !rc; i++) {
        Sample s = {0};
        if (!(rc = export_sample(d, i, o, &s))) rc = plan_for(&r, s.h, s.w, nodes, n_nodes);
        if (!rc) run_on(&r, s.rgb);
        for (int k = 0; k < n_nodes && !rc; k++)
            widen(&range[nodes[k].id], plan_value(r.plan, nodes[k]),
                  shape_count(plan_shape(r.plan, nodes[k])));
        sample_free(&s);
        if (!rc) progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    export_share_ranges(net, range);
    reference_close(&r);
    free(mark), free(nodes);
    if (rc) return free(range), rc;
    return *out = range, OK;
}

/* ---- the comparison --------------------------------------------------------------------------------------- */

typedef struct Tally {
    double difference, largest;      /* max |file - network|, max |network|, of the logits */
    int64_t equal, pixels;
    Confusion *file, *network;       /* NULL: the samples have no labels of these classes */
} Tally;

/* The classes that the file's output says, at h x w. */
static Err classes_of(const Tensor *t, int h, int w, uint8_t *pred) {
    const int64_t pixels = (int64_t)h * w;
    if (t->dtype == DT_F32 && t->shape.rank == 4 && t->shape.d[0] == 1 && t->shape.d[1] <= 256)
        predictor_classes(t->data, t->shape, h, w, pred, NULL);
    else if (t->dtype == DT_I64 && shape_count(t->shape) == pixels)
        for (int64_t i = 0; i < pixels; i++) pred[i] = (uint8_t)((const int64_t *)t->data)[i];
    else
        return err_set(E(EXIT_MODEL, 60), "the output is %s %s for an image of %dx%d",
                       dtype_name(t->dtype), shape_text(t->shape).s, h, w);
    return OK;
}
static void add_confusion(Confusion *c, const Sample *s, const uint8_t *pred) {
    confusion_add(c, s->label, pred, (int64_t)s->h * s->w), c->images++;
}
static Err compare_one(ExportRunner *file, Reference *network, const Sample *s, Tally *t) {
    const int64_t pixels = (int64_t)s->h * s->w;
    const float *want;
    Shape shape;
    Tensor got;
    TRY(reference_run(network, s->rgb, s->h, s->w, &want, &shape));
    TRY(export_runner_run(file, s->rgb, s->h, s->w, &got));
    if (got.dtype == DT_F32 && !shape_equal(got.shape, shape))
        return err_set(E(EXIT_MODEL, 60), "the output is %s, the network's is %s",
                       shape_text(got.shape).s, shape_text(shape).s);
    for (int64_t i = 0, n = got.dtype == DT_F32 ? shape_count(shape) : 0; i < n; i++) {
        t->difference =
            fmax(t->difference, fabs((double)((const float *)got.data)[i] - (double)want[i]));
        t->largest = fmax(t->largest, fabs((double)want[i]));
    }
    uint8_t *a = xcalloc((size_t)pixels, 1), *b = xcalloc((size_t)pixels, 1);
    predictor_classes(want, shape, s->h, s->w, a, NULL);
    Err rc = classes_of(&got, s->h, s->w, b);
    for (int64_t i = 0; i < pixels && !rc; i++) t->equal += a[i] == b[i];
    t->pixels += pixels;
    if (!rc && t->file) add_confusion(t->network, s, a), add_confusion(t->file, s, b);
    free(a), free(b);
    return rc;
}

static void print_drop(const Tally *t, const Dataset *d) {
    Scores was, is;
    confusion_scores(t->network, &was), confusion_scores(t->file, &is);
    printf("  IoU %%   8 bits     loss  class\n");
    for (int k = 0; k < d->n_classes; k++) {
        if (isnan(was.iou[k]) || isnan(is.iou[k])) continue;
        printf("%7.2f %8.2f %8.2f  ", 100 * was.iou[k], 100 * is.iou[k],
               100 * (was.iou[k] - is.iou[k]));
        cli_print(d->class_names[k], 100);
        putchar('\n');
    }
    printf("%7.2f %8.2f %8.2f  mIoU\n", 100 * was.miou, 100 * is.miou, 100 * (was.miou - is.miou));
    scores_free(&was), scores_free(&is);
}
static Err compare_all(ExportRunner *file, Reference *network, const ExportOptions *o, Dataset *d,
                       int64_t n, Tally *t) {
    Progress progress = progress_start("images", n, "comparing");
    for (int64_t i = 0; i < n; i++) {
        Sample s = {0};
        Err rc = export_sample(d, (int)i, o, &s);
        if (!rc) rc = compare_one(file, network, &s, t);
        sample_free(&s);
        const int signal = sys_signal_pending();
        if (rc || signal)
            return rc ? rc : err_set(128 + signal, "export: stopped by signal %d", signal);
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    return OK;
}
Err export_check(const OpenModel *m, const ExportOptions *o, const char *path, Dataset *d,
                 int64_t max) {
    ExportRunner *file;
    Reference network;
    Tally t = {0};
    const int64_t n = max > 0 && max < d->n ? max : d->n;
    const bool labels = m->config->data.kind && d->n_classes == m->options.classes && o->range;
    TRY(export_runner_open(path, o, m->config->export.python, &file));
    if (labels) t.file = confusion_open(d->n_classes), t.network = confusion_open(d->n_classes);
    reference_open(m, o->output, &network);
    Err rc = compare_all(file, &network, o, d, n, &t);
    if (rc) rc = err_wrap(rc, "%s", path);
    else {
        printf("by %s, on %lld images of %s/%s: ", export_runner_name(file), (long long)n,
               d->def->name, d->split);
        if (t.largest > 0)
            printf("largest difference %.3g (%.2g of the largest logit), ", t.difference,
                   t.difference / t.largest);
        const double share = (double)t.equal / (double)t.pixels;
        printf("%.4f %% of pixels equal\n", 100 * share);
        if (labels) print_drop(&t, d);
        if (!o->range && share < EQUAL_MIN)
            rc = err_set(
                E(EXIT_NUMERIC, 0),
                "%s: only %.4f %% of pixels have the network's class; please report this network",
                path, 100 * share);
    }
    if (labels) confusion_close(t.file), confusion_close(t.network);
    reference_close(&network);
    export_runner_close(file);
    return rc;
}
