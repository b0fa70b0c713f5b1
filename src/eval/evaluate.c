/* evaluate.c - a Net over the whole images of a data set, into whole numbers: one confusion matrix, and
 * the sums of the metrics asked for. Of each image only its counts by class are kept. Ranks share the
 * images out; whole numbers make the sum the same however they do. */
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "base/sys.h"
#include "dist/comm.h"
#include "eval/eval.h"
#include "io/image.h"

void evaluation_open(Evaluation *e, int classes, int64_t images, const MetricDef *const *metrics,
                     int n) {
    *e = (Evaluation){.confusion = confusion_open(classes), .n_metrics = n};
    if (images) e->counts = xcalloc((size_t)images * 3 * (size_t)classes, sizeof *e->counts);
    for (int i = 0; i < n; i++) {
        e->metric[i] = metrics[i];
        e->sum[i] = xcalloc((size_t)metrics[i]->sums(classes), sizeof(int64_t));
    }
}

void evaluation_close(Evaluation *e) {
    confusion_close(e->confusion);
    free(e->counts);
    for (int i = 0; i < e->n_metrics; i++) free(e->sum[i]);
    *e = (Evaluation){0};
}

static void add_image(Evaluation *e, int64_t index, const EvalImage *im) {
    const int n = e->confusion->n;
    Confusion *one = confusion_open(n);
    confusion_add(one, im->label, im->pred, (int64_t)im->h * im->w);
    for (int64_t i = 0; i < (int64_t)n * n; i++) e->confusion->count[i] += one->count[i];
    if (e->counts) confusion_counts(one, e->counts + index * 3 * n);
    confusion_close(one);
    for (int i = 0; i < e->n_metrics; i++) e->metric[i]->add(e->sum[i], n, im);
    e->confusion->images++;
}

enum { INSTANCE_CLASSES = 19 };              /* the train ids that instances.c knows by number */

/* Cityscapes keeps instances beside labels: ..._gtFine_instanceIds.png. */
static Err read_instances(const Dataset *d, int64_t index, const Sample *s, uint16_t **out) {
    static const char labels[] = "_labelIds.png";
    const char *path = d->label_paths ? d->label_paths[index] : "";
    Image im;
    if (!str_ends(path, labels) || d->n_classes != INSTANCE_CLASSES)
        return err_set(
            E(EXIT_USAGE, 76),
            "metrics: instances are known of Cityscapes' own label files alone, with its 19 classes; leave them out");
    char *file = xprintf("%.*s_instanceIds.png", (int)(strlen(path) - strlen(labels)), path);
    Err rc = image_read_numbers(file, &im);
    if (!rc && (im.h != s->h || im.w != s->w))
        rc = err_set(E(EXIT_DATA, 33), "%s: %dx%d, the image has %dx%d; they must agree", file,
                     im.h, im.w, s->h, s->w),
        free(im.px);
    free(file);
    if (rc) return rc;
    const size_t pixels = (size_t)im.h * (size_t)im.w;
    *out = xcalloc(pixels, sizeof **out);
    for (size_t i = 0; i < pixels; i++)
        (*out)[i] = im.channels == 2 ? (uint16_t)(im.px[2 * i] << 8 | im.px[2 * i + 1]) : im.px[i];
    free(im.px);
    return OK;
}

static Err evaluate_one(Predictor *p, Dataset *d, int64_t index, Evaluation *e) {
    Sample s = {0};
    bool confidence = false, instances = false;
    uint16_t *instance = NULL;
    TRY(dataset_read(d, (int)index, &s));
    const size_t pixels = (size_t)s.h * (size_t)s.w;
    for (int i = 0; i < e->n_metrics; i++)
        confidence |= e->metric[i]->confidence, instances |= e->metric[i]->instances;
    Prediction out = {.pred = xcalloc(pixels, 1)};
    if (confidence) out.confidence = xcalloc(pixels, sizeof(float));
    Err rc = instances ? read_instances(d, index, &s, &instance) : OK;
    if (!rc) rc = predictor_fill(p, s.rgb, s.h, s.w, &out);
    if (!rc)
        add_image(e, index, &(EvalImage){s.h, s.w, s.label, out.pred, out.confidence, instance});
    free(out.pred), free(out.confidence), free(instance);
    sample_free(&s);
    return rc;
}

static Err sum_ranks(Comm *comm, Evaluation *e, int64_t images) {
    const int n = e->confusion->n;
    TRY(comm_sum_i64(comm, e->confusion->count, n * n));
    TRY(comm_sum_i64(comm, &e->confusion->images, 1));
    if (e->counts) TRY(comm_sum_i64(comm, e->counts, (int)images * 3 * n));
    for (int i = 0; i < e->n_metrics; i++)
        TRY(comm_sum_i64(comm, e->sum[i], e->metric[i]->sums(n)));
    return OK;
}

Err evaluate_with(Predictor *p, Dataset *d, int64_t max_images, Evaluation *e) {
    Comm comm = comm_self();
    const int64_t images = max_images > 0 && max_images < d->n ? max_images : d->n;
    Progress progress = progress_start("images", images, "evaluating %s", d->split);
    Err rc = OK;
    for (int64_t i = comm.rank; i < images && !rc; i += comm.ranks) {
        const int sig = sys_signal_pending();
        rc = sig ? err_set(128 + sig, "evaluation stopped by signal %d", sig)
                 : evaluate_one(p, d, i, e);
        if (!rc) progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    return rc ? rc : sum_ranks(&comm, e, images);
}

/* ---- the worst images ------------------------------------------------------------------------ */
typedef struct Ranked { double miou; int index; } Ranked;

static int lowest_first(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->miou != y->miou) return x->miou < y->miou ? -1 : 1;
    return x->index - y->index;
}

int evaluation_worst(const Evaluation *e, int max, int *index) {
    const int n = e->confusion->n, images = (int)e->confusion->images;
    Ranked *r = xcalloc((size_t)images + 1, sizeof *r);
    int ranked = 0;
    for (int i = 0; i < images; i++) {
        const double miou = counts_miou(e->counts + (int64_t)i * 3 * n, n);
        if (miou == miou) r[ranked++] = (Ranked){miou, i};   /* an image of void alone has none */
    }
    qsort(r, (size_t)ranked, sizeof *r, lowest_first);
    if (ranked > max) ranked = max;
    for (int i = 0; i < ranked; i++) index[i] = r[i].index;
    free(r);
    return ranked;
}
