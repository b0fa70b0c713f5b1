/* cmd_predict.c - `retort predict MODEL IMAGE... out=DIR`: label map, colour overlay,
 * probabilities.
 *
 * An IMAGE may be a folder: every PNG and JPEG below it is taken, and its sub-folders are kept;
 * what an earlier call wrote there is passed over. Nothing is written before all names are known to
 * differ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/open_model.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "report/report.h"
#include "train/trainer.h"

static const char usage[] =
    "predict MODEL IMAGE... out=DIR [--probs]\n\n"
    "Writes DIR/NAME.label.png (class numbers, with a palette) and\n"
    "DIR/NAME.overlay.png for every image, and with --probs\n"
    "DIR/NAME.probs.safetensors (classes x H x W). An IMAGE may be a folder: all PNG\n"
    "and JPEG files below it are taken.\n"
    "MODEL is a run directory, a file that a run wrote, a file of weights with\n"
    "model=NAME, or the name of a network with weights=.";
enum { FOLDER_DEPTH_MAX = 16 };

typedef struct {
    char *path, *stem;
} Job1; /* stem: path below out, without suffix */
typedef struct {
    Job1 *v;
    int n, cap;
} Jobs;

static void jobs_add(Jobs *j, const char *path, const char *below) {
    char *stem = path_stem(path), *name = cli_output_name(stem);
    GROW(j->v, j->n, j->cap);
    j->v[j->n++] = (Job1){xstrdup(path), *below ? path_join(below, name) : xstrdup(name)};
    free(stem);
    free(name);
}

static bool is_image_name(const char *name) {
    static const char *const ends[] = {".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG"};
    for (int i = 0; i < 6; i++)
        if (str_ends(name, ends[i]))
            return !str_ends(name, ".label.png") && !str_ends(name, ".overlay.png");
    return false;
}

static Err jobs_add_folder(Jobs *j, const char *dir, const char *below, int depth) {
    char **names;
    int n;
    Err rc = OK;
    if (depth > FOLDER_DEPTH_MAX)
        return err_set(E(EXIT_DATA, 45), "%s: more than %d folders deep; is it a loop of links?",
                       dir, FOLDER_DEPTH_MAX);
    TRY(sys_list(dir, EXIT_DATA, &names, &n));
    for (int i = 0; i < n && !rc; i++) {
        char *path = path_join(dir, names[i]),
             *sub = *below ? path_join(below, names[i]) : xstrdup(names[i]);
        if (sys_is_dir(path)) rc = jobs_add_folder(j, path, sub, depth + 1);
        else if (is_image_name(names[i])) jobs_add(j, path, below);
        free(path);
        free(sub);
    }
    sys_free_names(names, n);
    return rc;
}

static void jobs_close(Jobs *j) {
    for (int i = 0; i < j->n; i++) free(j->v[i].path), free(j->v[i].stem);
    free(j->v);
}

static int compare_stems(const void *a, const void *b) {
    return strcmp((*(Job1 *const *)a)->stem, (*(Job1 *const *)b)->stem);
}

/* Two images that would write the same files are refused before any work. */
static Err jobs_check_unique(const Jobs *j) {
    if (!j->n)
        return err_set(E(EXIT_DATA, 30),
                       "predict: no image was found; name PNG or JPEG files, or folders of them");
    Job1 **sorted = xcalloc((size_t)j->n, sizeof *sorted);
    for (int i = 0; i < j->n; i++) sorted[i] = &j->v[i];
    qsort(sorted, (size_t)j->n, sizeof *sorted, compare_stems);
    Err rc = OK;
    for (int i = 1; i < j->n && !rc; i++)
        if (!compare_stems(&sorted[i - 1], &sorted[i]))
            rc = err_set(E(EXIT_DATA, 32),
                         "%s and %s would write the same files; predict them into two folders",
                         sorted[i - 1]->path, sorted[i]->path);
    free(sorted);
    return rc;
}

typedef struct {
    Predictor *predictor;
    const uint8_t (*palette)[3];
    const char *out;
    int classes;
    bool probs;
} Context;

static Err write_outputs(const Context *c, const char *base, const Image *im, const uint8_t *pred,
                         float *probs) {
    int64_t pixels = (int64_t)im->h * im->w;
    char *label = xprintf("%s.label.png", base), *overlay = xprintf("%s.overlay.png", base),
         *tensors = xprintf("%s.probs.safetensors", base);
    uint8_t *rgb = xcalloc((size_t)pixels, 3);
    overlay_labels(rgb, pred, pixels, c->palette, c->classes);
    overlay_blend(rgb, im->px, rgb, 0.5, pixels);
    Err rc = image_write_png_palette(label, pred, im->h, im->w, c->palette, c->classes);
    if (!rc) rc = image_write_png_rgb(overlay, rgb, im->h, im->w);
    if (!rc && probs)
        rc = st_write(tensors, &(Tensor){"probs", DT_F32, SHAPE(c->classes, im->h, im->w), probs},
                      1, NULL, 0);
    free(rgb);
    free(label);
    free(overlay);
    free(tensors);
    return rc;
}

static Err predict_one(const Context *c, const Job1 *job) {
    Image im;
    void *probs = NULL;
    TRY(image_read_rgb(job->path, &im));
    if (im.turned)
        log_warn("%s: asks for a rotation (EXIF); its pixels are taken as stored", job->path);
    size_t pixels = (size_t)im.h * (size_t)im.w;
    uint8_t *pred = xcalloc(pixels, 1);
    char *base = path_join(c->out, job->stem), *dir = xstrdup(base);
    *strrchr(dir, '/') = 0;
    Err rc = c->probs
                 ? block_alloc(&probs, pixels * (size_t)c->classes * sizeof(float), "probabilities")
                 : OK;
    if (!rc) rc = predictor_run(c->predictor, im.px, im.h, im.w, pred, probs);
    if (!rc) rc = sys_mkdirs(dir);
    if (!rc) rc = write_outputs(c, base, &im, pred, probs);
    free(base);
    free(dir);
    free(pred);
    block_free(probs);
    free(im.px);
    return rc;
}

static Err predict_all(const OpenModel *m, const CliArgs *args) {
    Jobs jobs = {0};
    uint8_t palette[256][3];
    Context c = {.palette = palette,
                 .out = m->config->out,
                 .classes = m->options.classes,
                 .probs = m->config->probs};
    Err rc = OK;
    for (int i = 1; i < args->n_word && !rc; i++) {
        if (sys_is_dir(args->word[i])) rc = jobs_add_folder(&jobs, args->word[i], "", 0);
        else jobs_add(&jobs, args->word[i], "");
    }
    if (!rc) rc = jobs_check_unique(&jobs);
    if (!rc) rc = sys_mkdirs(c.out);
    if (!rc) rc = sys_probe_writable(c.out);
    if (!rc) rc = predictor_open(m->net, &m->nodes, &c.predictor);
    if (!rc) open_palette(&m->config->data, palette);
    Progress progress = progress_start("images", jobs.n, "predicting");
    for (int i = 0; i < jobs.n && !rc; i++) {
        if (!(rc = predict_one(&c, &jobs.v[i]))) progress_to(&progress, i + 1);
        int signal = sys_signal_pending();
        if (signal && !rc)
            rc = err_set(128 + signal, "predict: stopped by signal %d after %d of %d images",
                         signal, i + 1, jobs.n);
    }
    progress_end(&progress);
    if (!rc)
        log_info("wrote label map and overlay of %d image%s to %s", jobs.n, jobs.n == 1 ? "" : "s",
                 c.out);
    predictor_close(c.predictor);
    jobs_close(&jobs);
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
