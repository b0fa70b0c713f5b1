/* cmd_predict.c - `retort predict MODEL IMAGE... out=DIR`: label maps, overlays, probabilities.
 *
 * Nothing is written before all names are known to differ. An image that cannot be used is told and
 * passed over, the others are predicted, and the exit code is that of the first failure; a folder that
 * cannot be written to ends it at once. Of an image this holds 4 bytes a pixel (RGB, class), the
 * grids of one row of windows, and one encoded PNG at a time; probabilities go to their file row by row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/inputs.h"
#include "cli/open_model.h"
#include "data/classes.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "report/report.h"

static const char usage[] =
    "predict MODEL IMAGE... out=DIR [write=[label, overlay, ids, probs]] [--legend]\n\n"
    "An IMAGE is a PNG or JPEG file, a folder (all of them below it; sub-folders are\n"
    "kept), or a pattern in quotes, 'photos/*/front_*.jpg'. For each, into DIR:\n"
    "  NAME.label.png           class numbers 0, 1, ..., with a palette\n"
    "  NAME.overlay.png         the image with its classes' colours; --legend: with a legend\n"
    "  NAME.ids.png             the label ids of the data set, grey: what its server takes\n"
    "  NAME.probs.safetensors   probabilities, classes x H x W\n"
    "Images of more than 4194304 pixels go through in windows (eval.mode, eval.window).\n"
    "An image that cannot be read is told and passed over; the exit code says so.\n"
    "MODEL is a run directory, a file that a run wrote, a file of weights with\n"
    "model=NAME, or the name of a network with weights=.";

typedef struct {
    Predictor *predictor;
    const Config *config;
    const char *const *names;        /* of classes; NULL: not known */
    uint8_t palette[256][3], ids[256];
    int classes;
} Context;

/* ---- outputs --------------------------------------------------------------------------------- */
typedef struct {
    const Context *c;
    Image *im;                       /* write_overlay, the last one, draws into it */
    uint8_t *pred;
    StPieces *probs;                 /* not yet finished; NULL: none */
} Predicted;

static Err write_label(const char *path, Predicted *p) {
    return image_write_png_palette(path, p->pred, p->im->h, p->im->w, p->c->palette, p->c->classes);
}

static Err write_ids(const char *path, Predicted *p) {
    const int64_t pixels = (int64_t)p->im->h * p->im->w;
    uint8_t *ids = xcalloc((size_t)pixels, 1);
    for (int64_t i = 0; i < pixels; i++) ids[i] = p->c->ids[p->pred[i]];
    Err rc = image_write_png_grey(path, ids, p->im->h, p->im->w);
    free(ids);
    return rc;
}

/* The planes of the classes lie behind each other in the file: rows of each go to their place. */
static Err put_probs(void *self, int y, int n, const float *probs) {
    const Predicted *p = self;
    const size_t w = (size_t)p->im->w, block = (size_t)n * w;
    Err rc = OK;
    for (size_t k = 0; k < (size_t)p->c->classes && !rc; k++)
        rc = st_put(p->probs, (k * (size_t)p->im->h + (size_t)y) * w * sizeof *probs,
                    probs + k * block, block * sizeof *probs);
    return rc;
}
static Err open_probs(const char *base, Predicted *p) {
    if (!(p->c->config->predict.write & PREDICT_PROBS)) return OK;
    char *path = xprintf("%s.probs.safetensors", base);
    Err rc = st_create(path, "probs", DT_F32, SHAPE(p->c->classes, p->im->h, p->im->w), &p->probs);
    free(path);
    return rc;
}
static Err write_probs(const char *path, Predicted *p) {
    StPieces *f = p->probs;
    p->probs = NULL;
    return st_finish(f);
}

static Err write_overlay(const char *path, Predicted *p) {
    Image *im = p->im, with = {0};
    uint8_t *row = xcalloc((size_t)im->w, 3);
    bool seen[256] = {false};
    for (int64_t y = 0; y < im->h; y++) {
        const uint8_t *pred = p->pred + y * im->w;
        uint8_t *px = im->px + 3 * y * im->w;
        for (int x = 0; x < im->w; x++) seen[pred[x]] = true;
        overlay_labels(row, pred, im->w, p->c->palette, p->c->classes);
        overlay_blend(px, px, row, 0.5, im->w);
    }
    free(row);
    if (!p->c->config->predict.legend) return image_write_png_rgb(path, im->px, im->h, im->w);
    overlay_legend(im->px, im->h, im->w, p->c->names, p->c->palette, seen, p->c->classes, &with.px,
                   &with.h, &with.w);
    Err rc = image_write_png_rgb(path, with.px, with.h, with.w);
    free(with.px);
    return rc;
}

/* In the order of the bits PREDICT_LABEL ... */
static const struct {
    const char *suffix;
    Err (*write)(const char *path, Predicted *p);
} outputs[] = {{"label.png", write_label},
               {"ids.png", write_ids},
               {"probs.safetensors", write_probs},
               {"overlay.png", write_overlay}};
_Static_assert(sizeof outputs / sizeof *outputs == PREDICT_OUTPUTS, "one bit, one writer");

static Err write_outputs(const char *base, Predicted *p) {
    Err rc = OK;
    for (int i = 0; i < PREDICT_OUTPUTS && !rc; i++) {
        if (!(p->c->config->predict.write & 1u << i)) continue;
        char *path = xprintf("%s.%s", base, outputs[i].suffix);
        rc = outputs[i].write(path, p);
        free(path);
    }
    return rc;
}

/* ---- images ---------------------------------------------------------------------------------- */
static Err predict_one(const Context *c, const Input *job) {
    Image im;
    TRY(image_read_rgb(job->path, &im));
    if (im.turned)
        log_warn("%s: asks for a rotation (EXIF); its pixels are taken as stored", job->path);
    Predicted p = {c, &im, xcalloc((size_t)im.h, (size_t)im.w), NULL};
    char *base = path_join(c->config->out, job->stem), *dir = xstrdup(base);
    *strrchr(dir, '/') = 0;
    Err rc = sys_mkdirs(dir);
    if (!rc) rc = open_probs(base, &p);
    const ProbSink sink = {p.probs ? put_probs : NULL, &p};
    if (!rc)
        rc = predictor_fill(c->predictor, im.px, im.h, im.w,
                            &(Prediction){.pred = p.pred, .probs = sink});
    if (!rc) rc = write_outputs(base, &p);
    st_abort(p.probs);
    free(base), free(dir), free(p.pred), free(im.px);
    return rc && rc >= 1000 && err_exit_code(rc) != EXIT_OUTPUT ? err_wrap(rc, "%s", job->path)
                                                                : rc;
}

/* The others can still be predicted: the file is at fault, or it is too large. */
static bool is_of_one_image(Err rc) {
    return err_exit_code(rc) == EXIT_DATA || err_exit_code(rc) == EXIT_LIMIT;
}

static Err predict_jobs(const Context *c, const Inputs *jobs) {
    Progress progress = progress_start("images", jobs->n, "predicting");
    Err first = OK;
    int failed = 0, i = 0;
    char *text = NULL;
    for (; i < jobs->n; i++) {
        const int signal = sys_signal_pending();
        Err rc = signal
                     ? err_set(128 + signal, "predict: stopped by signal %d after %d of %d images",
                               signal, i, jobs->n)
                     : predict_one(c, &jobs->v[i]);
        if (rc && (!is_of_one_image(rc) || jobs->n == 1))
            return progress_end(&progress), free(text), rc;
        if (rc && !failed++) first = rc, text = xstrdup(err_text());
        if (rc) log_warn("passed over: %s", err_text());
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    log_info("wrote %d image%s to %s", i - failed, i - failed == 1 ? "" : "s", c->config->out);
    if (failed)
        first = err_set(first, "%d of %d images could not be predicted; the first: %s", failed,
                        jobs->n, text);
    free(text);
    return first;
}

/* The ids that label files of the data set have for each class: the lowest, where there are several. */
static void label_ids(const Dataset *d, uint8_t ids[256]) {
    for (int k = 0; k < 256; k++) ids[k] = (uint8_t)k;
    if (!d || d->def->read != classes_read_sample) return;
    const Classes *c = d->impl;
    for (int id = 255; id >= 0; id--)
        if (c->map[id] < d->n_classes) ids[c->map[id]] = (uint8_t)id;
}

static Err predict_all(const OpenModel *m, const CliArgs *args) {
    Inputs jobs = {0};
    Context c = {.config = m->config, .classes = m->options.classes};
    Dataset *d = open_some_split(&m->config->data);
    if (m->n_class_names == c.classes) c.names = m->class_names;
    if (d && d->n_classes == c.classes) c.names = d->class_names;
    Err rc = OK;
    for (int i = 1; i < args->n_word && !rc; i++) rc = inputs_add(&jobs, args->word[i]);
    if (!rc) rc = inputs_check(&jobs);
    if (!rc) rc = sys_mkdirs(c.config->out);
    if (!rc) rc = sys_probe_writable(c.config->out);
    if (!rc) rc = predictor_open(m->net, &m->nodes, &m->config->infer, &c.predictor);
    if (!rc) {
        open_palette(d, c.palette);
        label_ids(d, c.ids);
        rc = predict_jobs(&c, &jobs);
    }
    predictor_close(c.predictor);
    dataset_close(d);
    inputs_close(&jobs);
    return rc;
}

Err cmd_predict(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("predict", usage, argc, argv, 2, -1, &args));
    if (args.help) return OK;
    OpenModel m = {0};
    /* The run's own `out` is the run directory; predictions go elsewhere. */
    Err rc = cli_given(&args, "out")
                 ? OK
                 : err_set(E(EXIT_USAGE, 76), "predict: nowhere to write to; add out=DIR");
    if (!rc) rc = open_model("predict", args.word[0], &args, 0, 65, 65, &m);
    if (!rc) rc = predict_all(&m, &args);
    open_model_close(&m);
    cli_args_close(&args);
    return rc;
}
