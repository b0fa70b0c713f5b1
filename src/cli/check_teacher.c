/* check_teacher.c - the part of the check that measures the teacher on the validation split, image by image
 * in a random order until time is over, with the interval that so many images allow. */
#include "cli/check_priv.h"

#include <math.h>
#include <stdlib.h>

#include "base/progress.h"
#include "base/rng.h"

enum { IMAGES_MIN = 8 };             /* of fewer ones, where there are more, no interval can be trusted */

static Err judge(Check *k, const Confusion *all, const int64_t *counts) {
    const double floor = k->c->check.floor;
    Scores s;
    double ci[2];
    confusion_scores(all, &s);
    scores_interval(counts, (int)all->images, all->n, (uint64_t)k->c->seed, ci);
    check_say(
        k, "the teacher's mIoU on %s: %.2f %% (95 %% interval %.2f to %.2f) by %lld of %d images",
        k->c->eval_split, 100 * s.miou, 100 * ci[0], 100 * ci[1], (long long)all->images,
        k->split[VAL]->n);
    scores_free(&s);
    if (!(ci[1] < floor) || (all->images < IMAGES_MIN && all->images < k->split[VAL]->n)) return OK;
    return check_problem(
        k, err_set(E(EXIT_MODEL, 0),
                   "the teacher's mIoU is at most %.2f %%, below check.floor=%g: check "
                   "teacher.weights, teacher.norm and the order of teacher.classes, or lower "
                   "check.floor",
                   100 * ci[1], floor));
}

/* One image into the matrix and its own counts. A sample that cannot be read was told before. */
static Err teach_one(Predictor *p, Dataset *d, int i, Confusion *all, int64_t *counts) {
    Sample s = {0};
    if (d->def->read(d, i, &s)) return OK;
    const int64_t pixels = (int64_t)s.h * s.w;
    uint8_t *pred = xcalloc((size_t)pixels, 1);
    Confusion *one = confusion_open(all->n);
    Err rc = predictor_run(p, s.rgb, s.h, s.w, pred);
    if (!rc) {
        confusion_add(one, s.label, pred, pixels);
        confusion_counts(one, counts + all->images++ * 3 * all->n);
        for (int64_t j = 0; j < (int64_t)all->n * all->n; j++) all->count[j] += one->count[j];
    }
    confusion_close(one);
    free(pred);
    sample_free(&s);
    return rc;
}

/* A check before a training is not to cost more than a twentieth of it. 0: no limit. */
static double time_allowed(const Check *k) {
    const double left = check_time_until(k, 1), small = fmax(1, k->expected_s / 20);
    const bool known = !isnan(k->expected_s);
    return k->into_log && known && left > 0 && small < left ? small : left;
}

static Err measure(Check *k, Predictor *p, Confusion *all, int64_t *counts) {
    Dataset *d = k->split[VAL];
    uint32_t *order = xcalloc((size_t)d->n, sizeof *order);
    const Rng r = rng_stream((uint64_t)k->c->seed, RNG_SHUFFLE, 0, 1); /* of a stream that no epoch uses */
    rng_permutation(&r, order, (uint32_t)d->n);
    const double allowed = time_allowed(k);
    Progress progress = progress_start("images", d->n, "teacher on %s", d->split);
    if (allowed > 0) progress.until = progress.start + allowed;
    Err rc = OK;
    int i = 0;
    while (i < d->n && !rc && (!i || allowed <= 0 || sys_now() < progress.until)) {
        rc = sys_poll();
        if (!rc) rc = teach_one(p, d, (int)order[i], all, counts);
        if (!rc) progress_to(&progress, ++i);
    }
    progress_end(&progress);
    free(order);
    if (rc == LATE) rc = OK;
    if (i < d->n)
        check_unreached(k, "%d of %d images of %s by the teacher", d->n - i, d->n, d->split);
    return rc;
}

Err check_teacher(Check *k) {
    OpenModel *m = &k->teacher;
    Predictor *p;
    if (!m->net || !k->split[VAL]) return OK;
    check_deadline(k, 1);
    Err rc = predictor_open(m->net, &m->nodes, &k->c->infer, &p);
    if (rc) return check_problem(k, rc);
    Confusion *all = confusion_open(k->split[VAL]->n_classes);
    int64_t *counts = xcalloc((size_t)k->split[VAL]->n * 3 * (size_t)all->n, sizeof *counts);
    rc = measure(k, p, all, counts);
    if (!rc && all->images) rc = judge(k, all, counts);
    free(counts);
    confusion_close(all);
    predictor_close(p);
    return check_problem(k, rc);
}
