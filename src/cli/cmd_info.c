/* cmd_info.c - `retort info`: what is inside a run, a file of tensors, or a network. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/spark.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/live.h"
#include "cli/open_model.h"
#include "io/weights.h"
#include "train/trainer.h"

static const char usage[] =
    "info [RUN | FILE | NAME] [size=HxW] [classes=N] [aux=true] [width=W] [--plan] [mode=train] [batch=N]\n\n"
    "RUN: how a run or a study stands, running or not. FILE: the tensors and notes in a safetensors file. NAME: the layers of a network, their\n"
    "outputs, parameters and multiply-adds. Nothing: the networks there are.\n"
    "--plan: the arena of memory of one image of inference, its peak, and the tensors that make it; with mode=train of a\n"
    "step of training (forward and backward, cross-entropy) on batch=4 images.";
enum { META_SHOWN = 100, NAME_SHOWN = 200, PATH_SHOWN = 4096, PLAN_ROWS = 24, TEXT_WIDTH = 16 };

/* ---- a run directory ------------------------------------------------------------------------------ */
static void print_label(const char *label) {
    cli_print(label, NAME_SHOWN);
    for (size_t n = strlen(label); n < TEXT_WIDTH - 1; n++) putchar(' ');
    putchar(' ');
}

static void print_fact(const char *label, const char *text, size_t max) {
    print_label(label);
    cli_print(text, max);
    putchar('\n');
}

static void print_seconds(const char *label, double s, const char *after) {
    print_label(label);
    printf("%.0fh %02.0fmin %02.0fs%s\n", floor(s / 3600), floor(fmod(s / 60, 60)),
           floor(fmod(s, 60)), after);
}

static void print_state(const Live *l) {
    static const double SILENT_S = 600;
    char *text = l->holder.held
                     ? xprintf("%s, process %d on %s", l->state, l->holder.pid, l->holder.host)
                     : xstrdup(l->state);
    print_fact("state", text, PATH_SHOWN);
    free(text);
    if (!strcmp(l->state, "killed"))
        print_fact(
            "",
            "its process is gone without a word; the same command goes on from the newest checkpoint",
            PATH_SHOWN);
    if (l->holder.held && l->age_s > SILENT_S)
        print_seconds("silent for", l->age_s, ": a long evaluation, or it hangs");
}

static void print_progress(const Live *l) {
    const RunData *r = l->data;
    print_state(l);
    if (isfinite(r->step)) {
        print_label("step");
        printf(isfinite(r->steps) ? "%.0f of %.0f\n" : "%.0f\n", r->step, r->steps);
    }
    if (l->holder.held && isfinite(r->eta_s) && r->eta_s >= 0)
        print_seconds("time left", fmax(0, r->eta_s - fmax(0, l->age_s)), "");
    if (!l->holder.held && strcmp(l->state, "killed") && isfinite(r->exit_code)) {
        print_label("exit code");
        printf("%.0f\n", r->exit_code);
    }
}

/* The loss so far, as a curve of one line. */
static void print_curve(const RunData *r) {
    const Series *loss = run_data_series(r, "loss.total");
    Series thin;
    Str s = {0};
    if (!loss || !sys_utf8()) return;
    series_thin(loss, 2 * SPARK_WIDTH, &thin);
    spark_text(&s, thin.y, thin.n);
    print_label("loss");
    printf("%s %.4g\n", s.s ? s.s : "", loss->y[loss->n - 1]);
    str_free(&s);
    series_free(&thin);
}

static void print_evaluation(const RunData *r) {
    const Series *s = run_data_series(r, "eval.miou");
    if (!isfinite(r->miou)) return;
    print_label("mIoU");
    printf("%.2f %% last", 100 * r->miou);
    if (s) printf(" (step %.0f)", s->x[s->n - 1]);
    printf(", %.2f %% best; pixel accuracy %.2f %%\n", 100 * r->best_miou, 100 * r->pixel_accuracy);
}

static Err print_run(const char *dir, const Live *l) {
    const RunData *r = l->data;
    char *weights = NULL, *newest = checkpoint_newest(dir);
    print_fact("run", dir, PATH_SHOWN);
    print_progress(l);
    print_curve(r);
    for (int i = 0; i < r->n_series; i++) {
        const Series *s = &r->series[i];
        if (str_starts(s->name, "eval.")) continue;
        print_label(s->name);
        if (isnan(s->y[s->n - 1])) printf("none at step %.0f\n", s->x[s->n - 1]);
        else printf("%.6g at step %.0f\n", s->y[s->n - 1], s->x[s->n - 1]);
    }
    print_evaluation(r);
    print_fact("checkpoint", newest ? newest : "none yet", PATH_SHOWN);
    print_fact("weights", run_weights(dir, &weights) ? "none yet" : weights, PATH_SHOWN);
    free(weights), free(newest);
    return OK;
}

/* ---- a study -------------------------------------------------------------------------------------- */
/* The run that somebody is at, of the runs that study.json names. They are looked for below dir, wherever it was started. */
static void print_run_now(const char *dir, const json_t *study) {
    size_t i, k;
    const json_t *arm, *run;
    json_array_foreach(json_object_get(study, "arms"), i, arm)
        json_array_foreach(json_object_get(arm, "runs"), k, run) {
        const char *name = json_string_value(json_object_get(arm, "name")),
                   *base = path_base(json_string_value(run) ? json_string_value(run) : "");
        char *path = !name                     ? xstrdup(dir)
                     : strcmp(name, "teacher") ? xprintf("%s/%s/%s", dir, name, base)
                                               : xprintf("%s/teacher", dir);
        Live l;
        if (sys_is_dir(path) && !live_open(path, &l)) {
            if (l.holder.held) print_fact("run now", path, PATH_SHOWN), print_progress(&l);
            live_close(&l);
            }
            free(path);
        }
}

static void print_failed(const json_t *study) {
    size_t i, k;
    const json_t *arm, *why;
    json_array_foreach(json_object_get(study, "arms"), i, arm)
        json_array_foreach(json_object_get(arm, "failed"), k, why) {
        const char *run = json_string_value(json_array_get(json_object_get(arm, "runs"), k));
        if (!json_is_string(why)) continue;
        char *text = xprintf("%s: %s", run ? run : "?", json_string_value(why));
        print_fact("failed", text, PATH_SHOWN);
        free(text);
    }
}

static Err info_study(const char *dir, const char *path) {
    LockHolder h;
    Bytes b;
    TRY(lock_look(dir, &h));
    TRY(sys_read_file(path, (size_t)1 << 28, EXIT_OUTPUT, &b));
    json_t *o = json_loadb((const char *)b.data, b.bytes, 0, NULL);
    const char *verdict = json_string_value(json_object_get(o, "verdict"));
    const bool complete = json_is_true(json_object_get(o, "complete"));
    char *text = h.held ? xprintf("running, process %d on %s", h.pid, h.host)
                        : xstrdup(complete ? "done" : "not running; the same command goes on");
    print_fact("study", dir, PATH_SHOWN);
    print_fact("state", text, PATH_SHOWN);
    print_label("runs");
    printf("%lld of %lld\n", (long long)json_integer_value(json_object_get(o, "runs_done")),
           (long long)json_integer_value(json_object_get(o, "runs")));
    print_fact("verdict", verdict ? verdict : "none", PATH_SHOWN);
    print_failed(o);
    if (h.held) print_run_now(dir, o);
    json_decref(o);
    free(text), free(b.data);
    return OK;
}

static Err info_run(const char *dir) {
    Live l;
    TRY(live_open(dir, &l));
    Err rc =
        *l.data->config
            ? print_run(dir, &l)
            : err_set(
                  E(EXIT_USAGE, 76),
                  "%s: holds no config.yaml, so it is no run directory; name a run, a file or a network",
                  dir);
    live_close(&l);
    return rc;
}

static Err info_dir(const char *dir) {
    char *study = path_join(dir, "study.json");
    Err rc = sys_exists(study) ? info_study(dir, study) : info_run(dir);
    free(study);
    return rc;
}

/* ---- a file of tensors ---------------------------------------------------------------------------- */
static Err info_file(const char *path) {
    SafeFile f;
    TRY(weights_read(path, &f));
    int64_t elements = 0;
    size_t bytes = 0;
    for (int i = 0; i < f.tensors->n; i++) {
        const Tensor *t = &f.tensors->v[i];
        cli_print(t->name, 200);
        printf("\t%s\t%s\n", dtype_name(t->dtype), shape_text(t->shape).s);
        elements += shape_count(t->shape);
        bytes += (size_t)shape_count(t->shape) * dtype_bytes(t->dtype);
    }
    for (int i = 0; i < f.n_meta; i++) {
        printf("# ");
        cli_print(f.meta[i].key, META_SHOWN);
        printf(": ");
        cli_print(f.meta[i].value, META_SHOWN);
        putchar('\n');
    }
    printf("# %d tensors, %" PRId64 " elements, %.1f MB\n", f.tensors->n, elements,
           (double)bytes / 1e6);
    st_close(&f);
    return OK;
}

/* ---- a network ------------------------------------------------------------------------------------ */
static int64_t params_of(const Net *n, const NetNode *x) {
    int64_t sum = 0;
    for (int i = 0; i < x->n_param; i++)
        if (n->params[x->param[i]].trainable) sum += shape_count(n->params[x->param[i]].shape);
    return sum;
}

/* Multiply-adds of a convolution for one image, padding taps counted; 0 for other ops. */
static double macs_of(const Net *n, const NetNode *x) {
    if (strcmp(x->op->name, "conv2d")) return 0;
    Shape weight = n->params[x->param[0]].shape;         /* O x I/groups x kh x kw */
    return (double)shape_count(x->shape) / (double)x->shape.d[0] *
           (double)(weight.d[1] * weight.d[2] * weight.d[3]);
}

static void print_nodes(const Net *n) {
    double macs = 0;
    printf("%-52s %-18s %-18s %10s %12s\n", "layer", "op", "output", "params", "MMAC");
    for (int i = 1; i < n->n_nodes; i++) {
        const NetNode *x = &n->nodes[i];
        printf("%-52s %-18s %-18s %10" PRId64 " %12.2f\n", x->name, x->op->name,
               shape_text(x->shape).s, params_of(n, x), macs_of(n, x) / 1e6);
        macs += macs_of(n, x);
    }
    printf("\n%s: %d layers, %d tensors, %" PRId64
           " trainable parameters, %.3f G multiply-adds per image\n",
           n->name, n->n_nodes - 1, n->n_params, net_count_params(n), macs / 1e9);
}

static double megabytes(size_t floats) { return (double)(floats * sizeof(float)) / 1e6; }

static Err print_inference_plan(const OpenModel *m, int batch, int h, int w) {
    Node inputs[] = {m->nodes.image, m->nodes.rects};
    Shape shapes[] = {SHAPE(batch, h, w, 3), SHAPE(batch, 4)};
    bool raw = net_node(m->net, m->nodes.image)->dtype != DT_U8;
    if (raw) shapes[0] = SHAPE(batch, 3, h, w);
    Plan *p;
    TRY(plan_make(m->net,
                  &(PlanSpec){.outputs = &m->nodes.logits,
                              .n_outputs = 1,
                              .inputs = inputs,
                              .input_shapes = shapes,
                              .n_inputs = raw ? 1 : 2},
                  &p));
    printf("%s, inference on %d x %dx%d; parameters %.1f MB\n", m->net->name, batch, h, w,
           megabytes((size_t)m->net->n_values));
    plan_print(p, PLAN_ROWS);
    plan_close(p);
    return OK;
}

/* The step that `retort train` makes, without a teacher. */
static Err print_training_plan(const OpenModel *m, int batch, int h, int w) {
    Config c = *m->config;
    Job *j;
    c.student = m->options;
    c.student_weights = "none";
    TRY(job_open(&c, batch, h, w, NULL, NULL, &j));
    const Net *n = job_student(j);
    printf(
        "%s, a training step on %d x %dx%d; parameters %.1f MB, their gradients %.1f MB, optimiser %.1f MB\n",
        n->name, batch, h, w, megabytes((size_t)n->n_values), megabytes((size_t)n->n_trainable),
        (c.optimizer ? 2 : 1) * megabytes((size_t)n->n_trainable));
    plan_print(job_student_plan(j), PLAN_ROWS);
    job_close(j);
    return OK;
}

static Err print_plan(const OpenModel *m, bool batch_given, int h, int w) {
    const Config *c = m->config;
    bool training = !strcmp(c->mode, "train");
    int batch = batch_given || training ? (int)c->batch : 1;
    return training ? print_training_plan(m, batch, h, w) : print_inference_plan(m, batch, h, w);
}

static Err info_network(const char *name, const CliArgs *args) {
    int h = 360, w = 360;
    Config *c;
    OpenModel m;
    TRY(config_read("info", NULL, args->opt, args->n_opt, &c));
    Err rc = cli_size(c->size, &h, &w);
    if (!rc) rc = cli_choice("mode", c->mode, "eval", "train");
    if (!rc && !c->plan && (cli_given(args, "mode") || cli_given(args, "batch")))
        rc = err_set(E(EXIT_USAGE, 76), "info: mode and batch say what to plan; add --plan");
    config_close(c);
    if (rc) return rc;
    TRY(open_model("info", name, args, OPEN_NO_WEIGHTS, h, w, &m));
    if (m.config->plan) rc = print_plan(&m, cli_given(args, "batch"), h, w);
    else print_nodes(m.net);
    open_model_close(&m);
    return rc;
}

static void list_parts(const char *what, const char *(*part)(int i, const char **title)) {
    const char *name, *title;
    for (int i = 0; (name = part(i, &title)); i++)
        printf("  %-10s %-20s %s\n", i ? "" : what, name, title);
}
static void list_networks(void) {
    printf("networks are named HEAD_BACKBONE (retort info deeplabv3_resnet18 shows the layers):\n");
    list_parts("heads", model_head);
    list_parts("backbones", model_backbone);
}

Err cmd_info(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("info", usage, argc, argv, 0, 1, &args));
    if (args.help) return OK;
    Err rc = OK;
    const char *what = args.n_word ? args.word[0] : NULL;
    const bool name = what && (model_find(what) || model_is_onnx(what) || !sys_exists(what));
    if (args.n_opt && !name)
        rc = err_set(E(EXIT_USAGE, 76), "info: %s is for a network by NAME; leave it out",
                     args.opt[0]);
    else if (!what) list_networks();
    else if (name) rc = info_network(what, &args);
    else rc = sys_is_dir(what) ? info_dir(what) : info_file(what);
    cli_args_close(&args);
    return rc;
}
