/* confusion.c - one integer confusion matrix, and every score from it.
 *
 * Rows are labels, columns predictions.
 *   IoU_k  = n_kk / (row_k + column_k - n_kk)     a class that neither occurs nor is predicted has none
 *   Dice_k = 2 n_kk / (row_k + column_k)          (NaN) and takes no part in miou and mean_dice
 *   accuracy_k = n_kk / row_k
 * miou_present and mean_accuracy average over the classes that occur in the labels; miou_all over all
 * K, where an absent class counts as 0; weighted_iou is IoU_k weighted by row_k (FCN, Long et al. 2015). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

Confusion *confusion_open(int n) {
    Confusion *m = xcalloc(1, sizeof *m);
    m->n = n;
    m->count = xcalloc((size_t)n * (size_t)n, sizeof *m->count);
    return m;
}

void confusion_close(Confusion *m) {
    if (!m) return;
    free(m->count);
    free(m);
}

void confusion_add(Confusion *m, const uint8_t *label, const uint8_t *pred, int64_t pixels) {
    for (int64_t i = 0; i < pixels; i++)
        if (label[i] < m->n && pred[i] < m->n) m->count[(int64_t)label[i] * m->n + pred[i]]++;
}

void confusion_scores(const Confusion *m, Scores *out) {
    int n = m->n, seen = 0, present = 0;
    int64_t total = 0, right = 0;
    *out = (Scores){.iou = xcalloc((size_t)n, sizeof(double)),
                    .accuracy = xcalloc((size_t)n, sizeof(double)),
                    .dice = xcalloc((size_t)n, sizeof(double)),
                    .pixels = xcalloc((size_t)n, sizeof(int64_t))};
    for (int k = 0; k < n; k++) {
        int64_t row = 0, column = 0, hit = m->count[(int64_t)k * n + k];
        for (int j = 0; j < n; j++)
            row += m->count[(int64_t)k * n + j], column += m->count[(int64_t)j * n + k];
        int64_t either = row + column - hit;
        out->pixels[k] = row;
        out->iou[k] = either ? (double)hit / (double)either : NAN;
        out->accuracy[k] = row ? (double)hit / (double)row : NAN;
        out->dice[k] = either ? 2 * (double)hit / (double)(row + column) : NAN;
        total += row, right += hit;
        if (either) out->miou += out->iou[k], out->mean_dice += out->dice[k], seen++;
        if (row) out->weighted_iou += (double)row * out->iou[k];
        if (row)
            out->miou_present += out->iou[k], out->mean_accuracy += out->accuracy[k], present++;
    }
    out->miou_all = total ? out->miou / n : NAN;
    out->mean_dice = seen ? out->mean_dice / seen : NAN;
    out->weighted_iou = total ? out->weighted_iou / (double)total : NAN;
    out->miou = seen ? out->miou / seen : NAN;
    out->miou_present = present ? out->miou_present / present : NAN;
    out->mean_accuracy = present ? out->mean_accuracy / present : NAN;
    out->pixel_accuracy = total ? (double)right / (double)total : NAN;
}

void scores_free(Scores *s) {
    free(s->iou), free(s->accuracy), free(s->dice), free(s->pixels);
    *s = (Scores){0};
}

static void add_number(Str *s, const char *key, double v) {
    str_addf(s, "\"%s\": ", key);
    str_json_number(s, v);
    str_add(s, ", ");
}

void scores_json_classes(Str *s, const Scores *sc, const Dataset *d) {
    for (int k = 0; k < d->n_classes; k++) {
        str_add(s, k ? ", {\"name\": " : "[{\"name\": ");
        str_json(s, d->class_names[k]);
        str_add(s, ", ");
        add_number(s, "iou", sc->iou[k]);
        add_number(s, "accuracy", sc->accuracy[k]);
        str_addf(s, "\"pixels\": %lld}", (long long)sc->pixels[k]);
    }
    str_add(s, "]");
}
