/* instances.c - Cityscapes' iIoU (Cordts et al. 2016, sec. 3.2), as cityscapesscripts computes it:
 *     iIoU = iTP / (iTP + FP + iFN)
 * for the classes that have instances, and for the two categories all of whose classes do. Pixels of an
 * instance count by avg / size, the mean size of its class (in the training set) over its own; false
 * positives count once, where the label is of the evaluation. An instance is a number above 1000 of
 * the instance file, its label id the thousands. Weights are summed in units of 2^-20. */
#include <math.h>
#include <stdlib.h>

#include "eval/eval.h"

enum { FIRST = 11, HUMAN_END = 13, END = 19, CLASSES = END - FIRST, CATEGORIES = 2, IDS = 1 << 16 };
enum { HIT, MISSED, FALSE_POSITIVE, PER_ROW };
static const double UNIT = 1 << 20;

/* Train ids 11 to 18. */
static const struct { int label; double avg_pixels; } table[CLASSES] = {
    {24, 3462.4756337644},  {25, 3930.4788056518},  {26, 12794.0202738185}, {27, 27855.1264367816},
    {28, 35732.1511111111}, {31, 67583.7075812274}, {32, 6298.7200839748},  {33, 4672.3249222261},
};

static int instances_sums(int classes) { return PER_ROW * (CLASSES + CATEGORIES); }
static int category_of(int k) { return k < FIRST || k >= END ? -1 : k >= HUMAN_END; }

static int class_of_instance(int id) {
    for (int i = 0; id > 1000 && i < CLASSES; i++)
        if (table[i].label == id / 1000) return FIRST + i;
    return -1;
}

static void add_false(int64_t *sum, int label, int pred) {
    const int category = category_of(pred);
    if (category < 0 || label == pred) return;
    sum[PER_ROW * (pred - FIRST) + FALSE_POSITIVE]++;
    if (category_of(label) != category) sum[PER_ROW * (CLASSES + category) + FALSE_POSITIVE]++;
}

static void add_weighted(int64_t *row, int64_t hit, int64_t size, double avg) {
    const double weight = avg / (double)size;
    row[HIT] += llround((double)hit * weight * UNIT);
    row[MISSED] += llround((double)(size - hit) * weight * UNIT);
}

static void instances_add(int64_t *sum, int classes, const EvalImage *im) {
    int64_t *count = xcalloc(3 * IDS, sizeof *count), *size = count, *hit = count + IDS,
            *near = count + 2 * IDS;
    for (int64_t i = 0, n = (int64_t)im->h * im->w; i < n; i++) {
        const int k = class_of_instance(im->instance[i]), pred = im->pred[i];
        if (im->label[i] < classes) add_false(sum, im->label[i], pred);
        if (k < 0) continue;
        size[im->instance[i]]++, hit[im->instance[i]] += pred == k;
        near[im->instance[i]] += category_of(pred) == category_of(k);
    }
    for (int id = 0; id < IDS; id++) {
        if (!size[id]) continue;
        const int k = class_of_instance(id) - FIRST, category = category_of(k + FIRST);
        add_weighted(sum + PER_ROW * k, hit[id], size[id], table[k].avg_pixels);
        add_weighted(sum + PER_ROW * (CLASSES + category), near[id], size[id], table[k].avg_pixels);
    }
    free(count);
}

/* NaN where nothing of the kind is there. */
static double score(const int64_t *row) {
    const double hit = (double)row[HIT] / UNIT,
                 all = hit + (double)row[MISSED] / UNIT + (double)row[FALSE_POSITIVE];
    return all > 0 ? hit / all : NAN;
}

static int instances_scores(const int64_t *sum, int classes, ClassScore *out) {
    double *of = xcalloc((size_t)classes, sizeof *of), category[CATEGORIES];
    for (int k = 0; k < classes; k++)
        of[k] = category_of(k) < 0 ? NAN : score(sum + PER_ROW * (k - FIRST));
    for (int i = 0; i < CATEGORIES; i++) category[i] = score(sum + PER_ROW * (CLASSES + i));
    out[0] = (ClassScore){"iiou", "iIoU", score_mean(of, classes), of};
    out[1] =
        (ClassScore){"iiou_categories", "iIoU, categories", score_mean(category, CATEGORIES), NULL};
    return 2;
}

const MetricDef metric_instances = {
    .name = "instances",
    .help = "iIoU of Cityscapes, by its instance files",
    .instances = true,
    .sums = instances_sums,
    .add = instances_add,
    .scores = instances_scores,
};
