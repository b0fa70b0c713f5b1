/* retort_api.c - include/retort.h over the layers below: nothing but translation.
 *
 * Exported names have default visibility by their declarations; everything else stays hidden, so the
 * shared library offers exactly what the header says. */
#include "retort.h"

#include <stdlib.h>
#include <string.h>

#include "cli/open_model.h"
#include "train/trainer.h"

enum { NOMINAL = 65 };                          /* side of the image a network is opened for; evaluation plans per image */
struct Retort { Config *config; };

const char *retort_version(void) { return RETORT_VERSION; }
const char *retort_error(void) { return err_text(); }

int retort_open(const char *config, const char *const *set, int n_set, Retort **out) {
    *out = NULL;
    char **args = xcalloc((size_t)n_set + 1, sizeof *args);
    for (int i = 0; i < n_set; i++) args[i] = xstrdup(set[i]);
    Config *c = NULL;
    Err rc = config_read("train", config, args, n_set, &c);
    for (int i = 0; i < n_set; i++) free(args[i]);
    free(args);
    if (rc) return rc;
    *out = xcalloc(1, sizeof **out);
    (*out)->config = c;
    return OK;
}

void retort_close(Retort *r) {
    if (!r) return;
    config_close(r->config);
    free(r);
}

int retort_train(Retort *r) { return train_run(r->config); }

int retort_evaluate(Retort *r, const char *split, RetortScores *out) {
    CliArgs none = {0};
    OpenModel m = {0};
    Dataset *d = NULL;
    Confusion *matrix = NULL;
    Predictor *p = NULL;
    Scores s;
    memset(out, 0, sizeof *out);
    Err rc = r->config->out ? OK : err_set(E(EXIT_USAGE, 76), "out is not set; give out=DIR");
    if (!rc) rc = dataset_open(&r->config->data, split, &d);
    if (rc || (rc = open_model("eval", r->config->out, &none, 0, NOMINAL, NOMINAL, &m))) goto done;
    matrix = confusion_open(m.options.classes);
    if (d->n_classes != m.options.classes)
        rc = err_set(E(EXIT_USAGE, 37), "%s has %d classes, split %s has %d", r->config->out,
                     m.options.classes, split, d->n_classes);
    if (!rc) rc = predictor_open(m.net, &m.nodes, &r->config->infer, &p);
    if (rc || (rc = evaluate_with(p, d, 0, &(Evaluation){.confusion = matrix}))) goto done;
    confusion_scores(matrix, &s);
    *out = (RetortScores){matrix->images, s.miou, s.miou_present, s.pixel_accuracy, s.mean_accuracy};
    scores_free(&s);
done:
    predictor_close(p);
    confusion_close(matrix);
    open_model_close(&m);
    dataset_close(d);
    return rc;
}
