/* evaluate.c - a Net over the whole images of a data set, into one confusion matrix. Ranks share
 * the images out; their counts are whole numbers, so the sum is the same however they do. */
#include <stdlib.h>

#include "base/progress.h"
#include "base/sys.h"
#include "dist/comm.h"
#include "eval/eval.h"

static Err evaluate_one(Predictor *p, Dataset *d, int i, Confusion *out) {
    Sample s = {0};
    TRY(dataset_read(d, i, &s));
    int64_t pixels = (int64_t)s.h * s.w;
    uint8_t *pred = xcalloc((size_t)pixels, 1);
    int32_t *label = xcalloc((size_t)pixels, sizeof *label);
    for (int64_t j = 0; j < pixels; j++) label[j] = s.label[j] == IGNORE_U8 ? -1 : s.label[j];
    Err rc = predictor_run(p, s.rgb, s.h, s.w, pred, NULL);
    if (!rc) confusion_add(out, label, pred, pixels), out->images++;
    free(pred), free(label);
    sample_free(&s);
    return rc;
}

Err evaluate(Net *n, const ModelNodes *nodes, Dataset *d, int64_t max_images, Confusion *out) {
    Predictor *p;
    Comm comm = comm_self();
    TRY(predictor_open(n, nodes, &p));
    int64_t images = max_images > 0 && max_images < d->n ? max_images : d->n;
    Progress progress = progress_start("images", images, "evaluating %s", d->split);
    Err rc = OK;
    for (int64_t i = comm.rank; i < images && !rc; i += comm.ranks) {
        int sig = sys_signal_pending();
        rc = sig ? err_set(128 + sig, "evaluation stopped by signal %d", sig)
                 : evaluate_one(p, d, (int)i, out);
        if (!rc) progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    predictor_close(p);
    if (!rc) rc = comm_sum_i64(&comm, out->count, out->n * out->n);
    return rc ? rc : comm_sum_i64(&comm, &out->images, 1);
}
