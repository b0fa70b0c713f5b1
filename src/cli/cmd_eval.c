/* cmd_eval.c - `retort eval MODEL data=camvid:DIR`: mIoU and its company from one confusion matrix. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/open_model.h"
#include "train/trainer.h"

static void print_percent(double v) {
    if (isfinite(v)) printf("%8.2f", 100 * v);
    else printf("%8s", "-");
}

static void print_scores(const Confusion *m, const Dataset *d, const char *source) {
    Scores s;
    confusion_scores(m, &s);
    Str name = {0};
    str_escape_terminal(&name, source);
    printf("%s on %s/%s, %lld images\n\n%-20s %8s %8s %14s\n", name.s, d->def->name, d->split, (long long)m->images, "class", "IoU %",
           "acc %", "pixels");
    for (int i = 0; i < m->n; i++) {
        printf("%-20s ", d->class_names[i]);
        print_percent(s.iou[i]);
        putchar(' ');
        print_percent(s.accuracy[i]);
        printf(" %14lld\n", (long long)s.pixels[i]);
    }
    printf("\nmIoU %.4f  mIoU of present classes %.4f  pixel accuracy %.4f  mean accuracy %.4f\n", s.miou, s.miou_present,
           s.pixel_accuracy, s.mean_accuracy);
    str_free(&name);
    scores_free(&s);
}

static Err eval_on(OpenModel *m, Dataset *d, const char *what) {
    const Config *c = m->config;
    if (d->n_classes != m->options.classes)
        return err_set(E(EXIT_USAGE, 37), "%s has %d classes, data set %s has %d; use the data set it was trained for", what,
                       m->options.classes, d->def->name, d->n_classes);
    Confusion *matrix = confusion_open(d->n_classes);
    Err rc = evaluate(m->net, &m->nodes, d, c->eval_images, matrix);
    if (!rc) print_scores(matrix, d, m->source);
    if (!rc && c->json && *c->json) {
        char *text = scores_json(matrix, d, m->options.model);
        rc = durable_write_all(c->json, text, strlen(text));
        free(text);
    }
    confusion_close(matrix);
    return rc;
}

Err cmd_eval(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("eval", "eval MODEL [data=KIND:DIR] [split=val] [json=FILE] [images=N]", argc, argv, 1, 1, &args));
    if (args.help) return OK;
    OpenModel m = {0};
    Dataset *d = NULL;
    Err rc = open_model("eval", args.word[0], &args, 0, 65, 65, &m);
    if (!rc && (!m.config->data.kind || !*m.config->data.kind))
        rc = err_set(E(EXIT_USAGE, 76), "eval: no data set is named; add data=camvid:DIR or data=scenes");
    if (!rc) rc = dataset_open(&m.config->data, m.config->split && *m.config->split ? m.config->split : "val", &d);
    if (!rc) rc = eval_on(&m, d, args.word[0]);
    if (d) dataset_close(d);
    open_model_close(&m);
    cli_args_close(&args);
    return rc;
}
