/* cmd_eval.c - `retort eval MODEL`: mIoU and its company from one confusion matrix. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "cli/open_model.h"
#include "train/trainer.h"

static const char usage[] =
    "eval MODEL [data=camvid:DIR] [split=val] [images=N] [json=FILE]\n\n"
    "MODEL is a run directory, a file that a run wrote, a file of weights with\n"
    "model=NAME, or the name of a network with weights=. Whole images, one confusion\n"
    "matrix; data defaults to what the run was trained on.";

/* A percentage, or "-" for a class that does not occur. */
typedef struct {
    char s[16];
} Percent;
static Percent percent(double v) {
    Percent p = {"-"};
    if (isfinite(v)) snprintf(p.s, sizeof p.s, "%.2f", 100 * v);
    return p;
}

static void print_scores(const Confusion *m, const Dataset *d, const char *source) {
    Scores s;
    confusion_scores(m, &s);
    cli_print(source, 4096);
    printf(" on %s/", d->def->name);
    cli_print(d->split, 64);
    printf(", %lld of %d images\n\n   IoU %%    acc %%         pixels  class\n",
           (long long)m->images, d->n);
    for (int i = 0; i < m->n; i++) {
        printf("%8s %8s %14lld  ", percent(s.iou[i]).s, percent(s.accuracy[i]).s,
               (long long)s.pixels[i]);
        cli_print(d->class_names[i], 100);
        putchar('\n');
    }
    printf("\nmIoU %s %%  (of classes present %s %%)  pixel accuracy %s %%  mean accuracy %s %%\n",
           percent(s.miou).s, percent(s.miou_present).s, percent(s.pixel_accuracy).s,
           percent(s.mean_accuracy).s);
    scores_free(&s);
}

static Err eval_on(OpenModel *m, Dataset *d, const char *what) {
    const Config *c = m->config;
    if (d->n_classes != m->options.classes)
        return err_set(E(EXIT_USAGE, 37),
                       "%s has %d classes, data set %s has %d; use the data set it was trained for",
                       what, m->options.classes, d->def->name, d->n_classes);
    Confusion *matrix = confusion_open(d->n_classes);
    d->cache_left = 0; /* each image is read once */
    Err rc = evaluate(m->net, &m->nodes, d, c->images, matrix);
    if (!rc) print_scores(matrix, d, m->source);
    if (!rc && c->json) {
        char *text = scores_json(matrix, d, m->options.model);
        rc = durable_write_all(c->json, text, strlen(text));
        free(text);
    }
    confusion_close(matrix);
    return rc;
}

Err cmd_eval(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("eval", usage, argc, argv, 1, 1, &args));
    if (args.help) return OK;
    OpenModel m = {0};
    Dataset *d = NULL;
    Err rc = open_model("eval", args.word[0], &args, 0, 65, 65, &m);
    if (!rc && !m.config->data.kind)
        rc = err_set(E(EXIT_USAGE, 76),
                     "eval: no data set is named; add data=camvid:DIR or data=scenes");
    if (!rc) rc = dataset_open(&m.config->data, m.config->split ? m.config->split : "val", &d);
    if (!rc) rc = eval_on(&m, d, args.word[0]);
    if (d) dataset_close(d);
    open_model_close(&m);
    cli_args_close(&args);
    return rc;
}
