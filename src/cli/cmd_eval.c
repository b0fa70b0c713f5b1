/* cmd_eval.c - `retort eval MODEL`: mIoU and its company from one confusion matrix. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sys.h"
#include "cli/eval_page.h"
#include "cli/open_model.h"
#include "train/trainer.h"

static const char usage[] =
    "eval MODEL [data=camvid:DIR] [split=val] [images=N] [json=FILE] [csv=FILE] [html=FILE]\n\n"
    "MODEL is a run directory, a file that a run wrote, a file of weights with\n"
    "model=NAME, or the name of a network with weights=; data defaults to what the run\n"
    "was trained on. All scores come from one confusion matrix over whole images;\n"
    "metrics=[boundary, calibration] adds boundary IoU and F1 and the calibration error.\n"
    "eval.mode=slide, eval.scales=[0.75, 1, 1.25] and eval.mirror=true look at images in\n"
    "other ways. protocol=cityscapes, voc or ade20k adds what the official tool prints.";

static Err write_text(const char *path, char *text) {
    Err rc = durable_write_all(path, text, strlen(text));
    free(text);
    return rc;
}

static Err write_files(const EvalResult *r, const Config *c, Predictor *p, Dataset *d) {
    if (c->json) TRY(write_text(c->json, result_json(r)));
    if (c->eval_out.csv) TRY(write_text(c->eval_out.csv, result_csv(r)));
    return c->eval_out.html ? eval_page(c->eval_out.html, r, p, d) : OK;
}

/* What is to be written can be: said before hours of evaluation, not after. */
static Err check_files(const Config *c) {
    const char *const files[] = {c->json, c->eval_out.csv, c->eval_out.html};
    Err rc = OK;
    for (int i = 0; i < 3 && !rc; i++) {
        if (!files[i]) continue;
        char *dir = xstrdup(files[i]), *slash = strrchr(dir, '/');
        if (slash) slash[slash == dir] = 0;
        if (sys_is_dir(files[i]))
            rc = err_set(E(EXIT_OUTPUT, 9), "%s: is a folder; name a file in it", files[i]);
        else if (slash && !sys_exists(dir))
            rc = err_set(E(EXIT_OUTPUT, 9),
                         "%s: its folder does not exist; make it, or name another", files[i]);
        else rc = sys_probe_writable(slash ? dir : ".");
        free(dir);
    }
    return rc;
}

/* The convention asked for, or that of the data set, or none. */
static Err protocol_of(const Config *c, const Dataset *d, const ProtocolDef **out) {
    const ProtocolDef *p = c->eval_out.protocol;
    if (!p) p = protocol_find(d->def->name);
    if (!c->eval_out.protocol && p && p->classes != d->n_classes) p = NULL;     /* classes of the user's own */
    *out = p ? p : protocol_find("none");
    if (!(*out)->classes || (*out)->classes == d->n_classes) return OK;
    return err_set(E(EXIT_USAGE, 37),
                   "protocol=%s is made for %d classes, data set %s has %d; give protocol=none",
                   (*out)->name, (*out)->classes, d->def->name, d->n_classes);
}

/* As many classes need not be the same ones. */
static void compare_names(const OpenModel *m, const Dataset *d, const char *what) {
    if (m->n_class_names != d->n_classes) return;
    for (int k = 0; k < d->n_classes; k++) {
        if (!strcmp(m->class_names[k], d->class_names[k])) continue;
        log_warn(
            "class %d is \"%s\" to %s and \"%s\" to data set %s: are these the same classes in the same order?",
            k, m->class_names[k], what, d->class_names[k], d->def->name);
        return;
    }
}

static Err eval_on(OpenModel *m, Dataset *d, const char *what) {
    const Config *c = m->config;
    Predictor *p = NULL;
    Evaluation e;
    EvalResult r = {.model = m->options.model, .source = m->source, .d = d, .e = &e};
    if (d->n_classes != m->options.classes)
        return err_set(E(EXIT_USAGE, 37),
                       "%s has %d classes, data set %s has %d; use the data set it was trained for",
                       what, m->options.classes, d->def->name, d->n_classes);
    TRY(protocol_of(c, d, &r.protocol));
    TRY(check_files(c));
    compare_names(m, d, what);
    TRY(predictor_open(m->net, &m->nodes, &c->infer, &p));
    d->cache_left = 0; /* each image is read once */
    evaluation_open(&e, d->n_classes, c->images > 0 && c->images < d->n ? c->images : d->n,
                    c->eval_out.metric, c->eval_out.n_metrics);
    Err rc = evaluate_with(p, d, c->images, &e);
    if (!rc) {
        r.mode = predictor_text(p);
        result_make(&r, c->eval_out.worst, (uint64_t)c->seed);
        eval_print(&r);
        rc = write_files(&r, c, p, d);
        result_free(&r);
    }
    evaluation_close(&e);
    predictor_close(p);
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
