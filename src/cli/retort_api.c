/* retort_api.c - include/retort.h over the layers below: nothing but translation.
 *
 * Exported names have default visibility by their declarations; everything else stays hidden, so the
 * shared library offers exactly what the header says. */
#include "retort.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "train/trainer.h"

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

/* The student of a run directory with its best weights, for the classes of d. The caller closes the net. */
static Err best_student(const Config *c, const Dataset *d, Net **net, ModelNodes *nodes) {
    ModelOptions o = c->student;
    o.classes = d->n_classes;
    o.dropout_off = o.frozen = true;
    int h = c->data.crop_h ? c->data.crop_h : 360, w = c->data.crop_w ? c->data.crop_w : 360;
    TRY(model_open(&o, h, w, net, nodes));           /* the nominal size: evaluation plans per image */
    char *path = NULL;
    Err rc = run_weights(c->out, &path);
    if (!rc) rc = model_load_weights(*net, path, 0, 0);
    free(path);
    if (rc) net_close(*net), *net = NULL;
    return rc;
}

int retort_evaluate(Retort *r, const char *split, RetortScores *out) {
    memset(out, 0, sizeof *out);
    Dataset *d = NULL;
    Net *net = NULL;
    ModelNodes nodes;
    Confusion *m = NULL;
    Err rc = dataset_open(&r->config->data, split, &d);
    if (rc || (rc = best_student(r->config, d, &net, &nodes))) goto done;
    m = confusion_open(d->n_classes);
    if ((rc = evaluate(net, &nodes, d, 0, m))) goto done;
    Scores s;
    confusion_scores(m, &s);
    *out = (RetortScores){m->images, s.miou, s.miou_present, s.pixel_accuracy, s.mean_accuracy};
    scores_free(&s);
done:
    if (m) confusion_close(m);
    if (net) net_close(net);
    if (d) dataset_close(d);
    return rc;
}
