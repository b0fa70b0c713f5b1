/* confusion.c - one integer confusion matrix, and every score from it.
 *
 * Rows are labels, columns predictions. IoU_k = n_kk / (row_k + column_k - n_kk); a class that
 * neither occurs nor is predicted has none (NaN) and takes no part in miou. miou_present averages
 * over the classes that occur in the labels, mean_accuracy likewise over n_kk / row_k. */
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

void confusion_add(Confusion *m, const int32_t *label, const uint8_t *pred, int64_t pixels) {
    for (int64_t i = 0; i < pixels; i++)
        if (label[i] >= 0 && label[i] < m->n && pred[i] < m->n)
            m->count[(int64_t)label[i] * m->n + pred[i]]++;
}

void confusion_scores(const Confusion *m, Scores *out) {
    int n = m->n, seen = 0, present = 0;
    int64_t total = 0, right = 0;
    *out = (Scores){.iou = xcalloc((size_t)n, sizeof(double)),
                    .accuracy = xcalloc((size_t)n, sizeof(double)),
                    .pixels = xcalloc((size_t)n, sizeof(int64_t))};
    for (int k = 0; k < n; k++) {
        int64_t row = 0, column = 0, hit = m->count[(int64_t)k * n + k];
        for (int j = 0; j < n; j++)
            row += m->count[(int64_t)k * n + j], column += m->count[(int64_t)j * n + k];
        int64_t either = row + column - hit;
        out->pixels[k] = row;
        out->iou[k] = either ? (double)hit / (double)either : NAN;
        out->accuracy[k] = row ? (double)hit / (double)row : NAN;
        total += row, right += hit;
        if (either) out->miou += out->iou[k], seen++;
        if (row)
            out->miou_present += out->iou[k], out->mean_accuracy += out->accuracy[k], present++;
    }
    out->miou = seen ? out->miou / seen : NAN;
    out->miou_present = present ? out->miou_present / present : NAN;
    out->mean_accuracy = present ? out->mean_accuracy / present : NAN;
    out->pixel_accuracy = total ? (double)right / (double)total : NAN;
}

void scores_free(Scores *s) {
    free(s->iou), free(s->accuracy), free(s->pixels);
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

char *scores_json(const Confusion *m, const Dataset *d, const char *model) {
    Str s = {0};
    Scores sc;
    confusion_scores(m, &sc);
    str_add(&s, "{\"model\": "), str_json(&s, model);
    str_add(&s, ", \"data\": "), str_json(&s, d->def->name);
    str_add(&s, ", \"split\": "), str_json(&s, d->split);
    str_addf(&s, ", \"images\": %lld, ", (long long)m->images);
    add_number(&s, "miou", sc.miou);
    add_number(&s, "miou_present", sc.miou_present);
    add_number(&s, "pixel_accuracy", sc.pixel_accuracy);
    add_number(&s, "mean_accuracy", sc.mean_accuracy);
    str_add(&s, "\"classes\": ");
    scores_json_classes(&s, &sc, d);
    str_add(&s, ", \"confusion\": [");
    for (int k = 0; k < m->n; k++) {
        str_add(&s, k ? ", [" : "[");
        for (int j = 0; j < m->n; j++)
            str_addf(&s, "%s%lld", j ? ", " : "", (long long)m->count[(int64_t)k * m->n + j]);
        str_add(&s, "]");
    }
    str_add(&s, "], \"mode\": \"whole\", \"protocol\": \"whole images, batch 1, logits upsampled "
                "bilinearly "
                "with align_corners\", \"version\": \"" RETORT_VERSION "\"}");
    scores_free(&sc);
    return s.s;
}
