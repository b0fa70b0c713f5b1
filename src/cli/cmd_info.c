/* cmd_info.c - `retort info`: what is inside a run, a file of tensors, or a network. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/open_model.h"
#include "io/safetensors.h"
#include "report/report.h"

enum { META_SHOWN = 100 };

/* Text from outside, safe for a terminal; at most `max` bytes of it. */
static void print_safe(const char *text, size_t max) {
    Str s = {0};
    size_t n = strlen(text);
    char *cut = xstrdup(text);
    if (n > max) cut[max] = 0;
    str_escape_terminal(&s, cut);
    printf("%s%s", s.s ? s.s : "", n > max ? " ..." : "");
    str_free(&s);
    free(cut);
}

/* ---- a run directory ------------------------------------------------------------------------------ */
static void print_eta(double s) {
    if (isfinite(s) && s >= 0) printf("eta        %dh %02dmin %02ds\n", (int)(s / 3600), (int)fmod(s / 60, 60), (int)fmod(s, 60));
}

static Err info_run(const char *dir) {
    RunData *r;
    TRY(run_data_open(dir, &r));
    printf("run        ");
    print_safe(dir, 4096);
    printf("\nstate      ");
    print_safe(r->state, 40);
    putchar('\n');
    if (isfinite(r->step)) printf("step       %.0f", r->step);
    if (isfinite(r->step) && isfinite(r->steps)) printf(" of %.0f", r->steps);
    if (isfinite(r->step)) putchar('\n');
    if (isfinite(r->exit_code)) printf("exit code  %.0f\n", r->exit_code);
    print_eta(r->eta_s);
    for (int i = 0; i < r->n_series; i++) {
        const Series *s = &r->series[i];
        if (str_starts(s->name, "eval.")) continue;
        print_safe(s->name, 60);
        printf("%*s%.6g at step %.0f\n", (int)strlen(s->name) < 18 ? 18 - (int)strlen(s->name) : 1, " ", s->y[s->n - 1], s->x[s->n - 1]);
    }
    if (isfinite(r->miou)) printf("mIoU       %.4f last, %.4f best; pixel accuracy %.4f\n", r->miou, r->best_miou, r->pixel_accuracy);
    char *weights = run_weights_file(dir);
    printf("weights    ");
    print_safe(weights ? weights : "none yet", 4096);
    putchar('\n');
    free(weights);
    run_data_close(r);
    return OK;
}

/* ---- a file of tensors ---------------------------------------------------------------------------- */
static Err info_file(const char *path) {
    SafeFile f;
    TRY(st_read(path, EXIT_MODEL, &f));
    int64_t elements = 0;
    size_t bytes = 0;
    for (int i = 0; i < f.tensors->n; i++) {
        const Tensor *t = &f.tensors->v[i];
        print_safe(t->name, 200);
        printf("\t%s\t%s\n", dtype_name(t->dtype), shape_text(t->shape).s);
        elements += shape_count(t->shape);
        bytes += (size_t)shape_count(t->shape) * dtype_bytes(t->dtype);
    }
    for (int i = 0; i < f.n_meta; i++) {
        printf("# ");
        print_safe(f.meta[i].key, META_SHOWN);
        printf(": ");
        print_safe(f.meta[i].value, META_SHOWN);
        putchar('\n');
    }
    printf("# %d tensors, %" PRId64 " elements, %.1f MB\n", f.tensors->n, elements, (double)bytes / 1e6);
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
    return (double)shape_count(x->shape) / (double)x->shape.d[0] * (double)(weight.d[1] * weight.d[2] * weight.d[3]);
}

static void print_nodes(const Net *n) {
    double macs = 0;
    printf("%-52s %-18s %-18s %10s %12s\n", "layer", "op", "output", "params", "MMAC");
    for (int i = 1; i < n->n_nodes; i++) {
        const NetNode *x = &n->nodes[i];
        printf("%-52s %-18s %-18s %10" PRId64 " %12.2f\n", x->name, x->op->name, shape_text(x->shape).s, params_of(n, x), macs_of(n, x) / 1e6);
        macs += macs_of(n, x);
    }
    printf("\n%s: %d layers, %d tensors, %" PRId64 " trainable parameters, %.3f G multiply-adds per image\n", n->name, n->n_nodes - 1,
           n->n_params, net_count_params(n), macs / 1e9);
}

static Err print_plan(const OpenModel *m) {
    Node out[1] = {m->nodes.logits};
    Plan *p;
    TRY(plan_make(m->net, &(PlanSpec){.outputs = out, .n_outputs = 1}, &p));
    plan_print(p, 24);
    plan_close(p);
    return OK;
}

static Err info_network(const char *name, const CliArgs *args) {
    Config *c;
    int h = 360, w = 360;
    TRY(config_read("info", NULL, args->opt, args->n_opt, &c));
    Err rc = cli_size(c->size, &h, &w);
    bool plan = c->plan;
    config_close(c);
    if (rc) return rc;
    OpenModel m;
    TRY(open_model("info", name, args, OPEN_NO_WEIGHTS, h, w, &m));
    if (plan) rc = print_plan(&m);
    else print_nodes(m.net);
    open_model_close(&m);
    return rc;
}

static void list_networks(void) {
    const char *names[64];
    int n = model_names(names, 64);
    printf("networks (retort info NAME shows the layers):\n");
    for (int i = 0; i < n; i++) printf("  %-28s %s\n", names[i], model_find(names[i])->help);
}

Err cmd_info(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("info", "info [RUN | FILE | NAME] [size=HxW] [classes=N] [aux=true] [width=W] [--plan]", argc, argv, 0, 1, &args));
    if (args.help) return OK;
    Err rc = OK;
    const char *what = args.n_word ? args.word[0] : NULL;
    if (!what) list_networks();
    else if (sys_is_dir(what)) rc = info_run(what);
    else if (sys_exists(what)) rc = info_file(what);
    else rc = info_network(what, &args);
    cli_args_close(&args);
    return rc;
}
