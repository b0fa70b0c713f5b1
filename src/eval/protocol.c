/* protocol.c - the numbers that the official tool of a data set prints, under the names it gives them.
 *
 * All are functions of the confusion matrix: each of these tools leaves out pixels whose label is void,
 * and a network that has the classes of the evaluation predicts nothing else.
 *
 * Cityscapes: a category's pixels count as right when any class of the category is predicted. Its iIoU
 * needs instance labels: instances.c.
 * VOC: VOCevalseg takes 1 for the denominator of a class that neither occurs nor is predicted.
 * ADE20K: the tool adds eps to each union, so such a class has IoU 0. */
#include <math.h>
#include <string.h>

#include "eval/eval.h"

static int none_numbers(const Confusion *m, const Scores *s, Number *out) { return 0; }

/* ---- Cityscapes ------------------------------------------------------------------------------ */
static const struct { const char *key, *title; int first, end; } categories[] = {   /* of the 19 train ids */
    {"flat", "category flat", 0, 2},           {"construction", "category construction", 2, 5},
    {"object", "category object", 5, 8},       {"nature", "category nature", 8, 10},
    {"sky", "category sky", 10, 11},           {"human", "category human", 11, 13},
    {"vehicle", "category vehicle", 13, 19},
};
enum { N_CATEGORIES = sizeof categories / sizeof *categories };

static int64_t block(const Confusion *m, int row, int row_end, int column, int column_end) {
    int64_t sum = 0;
    for (int i = row; i < row_end; i++)
        for (int j = column; j < column_end; j++) sum += m->count[(int64_t)i * m->n + j];
    return sum;
}

static int cityscapes_numbers(const Confusion *m, const Scores *s, Number *out) {
    double sum = 0;
    int seen = 0, n = 2;
    for (int i = 0; i < N_CATEGORIES; i++) {
        const int from = categories[i].first, to = categories[i].end;
        const int64_t hit = block(m, from, to, from, to);
        const int64_t either = block(m, from, to, 0, m->n) + block(m, 0, m->n, from, to) - hit;
        const double iou = either ? (double)hit / (double)either : NAN;
        if (either) sum += iou, seen++;
        out[n++] = (Number){categories[i].key, categories[i].title, iou};
    }
    out[0] = (Number){"averageScoreClasses", "IoU, classes", s->miou};
    out[1] = (Number){"averageScoreCategories", "IoU, categories", seen ? sum / seen : NAN};
    return n;
}

/* ---- VOC and ADE20K -------------------------------------------------------------------------- */
static int voc_numbers(const Confusion *m, const Scores *s, Number *out) {
    out[0] = (Number){"average_accuracy", "average accuracy (IoU of all 21 classes)", s->miou_all};
    out[1] = (Number){"overall_accuracy", "pixels labelled correctly", s->pixel_accuracy};
    return 2;
}

static int ade20k_numbers(const Confusion *m, const Scores *s, Number *out) {
    out[0] = (Number){"mean_iou", "mean IoU of all 150 classes", s->miou_all};
    out[1] = (Number){"pixel_accuracy", "pixel accuracy", s->pixel_accuracy};
    out[2] = (Number){"final_score", "final score, the mean of both",
                      (s->miou_all + s->pixel_accuracy) / 2};
    return 3;
}

#define PROTOCOL(name_, classes_, help_) {#name_, help_, classes_, name_##_numbers},
static const ProtocolDef protocols[] = {
#include "eval/protocols.def"
};
#undef PROTOCOL
enum { N_PROTOCOLS = sizeof protocols / sizeof *protocols };
_Static_assert(2 + N_CATEGORIES <= (int)NUMBERS_MAX, "Cityscapes has the most numbers");

const ProtocolDef *protocol_at(int i) { return i < N_PROTOCOLS ? &protocols[i] : NULL; }

const ProtocolDef *protocol_find(const char *name) {
    for (int i = 0; i < N_PROTOCOLS; i++)
        if (!strcmp(protocols[i].name, name)) return &protocols[i];
    return NULL;
}
